//! RFC-0013, sentence by sentence: `docs/rfc-0013.md` names the test for each.

#![forbid(unsafe_code)]

mod content;
mod errors;
mod flag;
mod result;
mod which_mapping;

use cowspace::{Status, Vmar, Vmo, VmoChildOptions};
use cowspace_tests::page;
use cowspace_tests::zircon::Region;

/// Both kinds of clone that the call knows.
const KINDS: [VmoChildOptions; 2] = [
    VmoChildOptions::SNAPSHOT,
    VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE,
];

/// Clones pages of a region through a VMAR.
fn clone_through(vmar: &Vmar, region: &Region, at: usize, pages: usize) -> Result<Vmo, Status> {
    vmar.create_vmo_child(VmoChildOptions::SNAPSHOT, region.at(at), pages * page())
}

/// Clones pages of a region through its own VMAR.
fn clone(region: &Region, at: usize, pages: usize) -> Result<Vmo, Status> {
    clone_through(&region.vmar, region, at, pages)
}
