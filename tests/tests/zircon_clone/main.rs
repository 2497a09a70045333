//! Children of VMOs against Zircon's rules: order of checks, rights, what the new object is, the window of a clone, slices and references.
//! What each shows and is charged with through writes, zeroing, resizing and closing stands in `zircon_clone_orders.rs`.

#![forbid(unsafe_code)]

mod errors;
mod mappings;
mod object;
mod views;
mod window;

use cowspace::{
    Handle, HandleBased, Koid, Name, Rights, Status, Vmar, VmarFlags, Vmo, VmoChildOptions,
    VmoInfo, VmoInfoFlags, VmoOp, VmoOptions,
};
use cowspace_tests::zircon::{
    POLICIES, Region, as_vmo, bytes, can_read, closed_handle, firsts, get, numbered, put, refused,
    rights_of, with_rights,
};
use cowspace_tests::{RW, memory, page};

const SNAPSHOT: VmoChildOptions = VmoChildOptions::SNAPSHOT;
const SLICE: VmoChildOptions = VmoChildOptions::SLICE;
const REFERENCE: VmoChildOptions = VmoChildOptions::REFERENCE;
const RESIZABLE: VmoChildOptions = VmoChildOptions::RESIZABLE;
const NO_WRITE: VmoChildOptions = VmoChildOptions::NO_WRITE;
const CLONES: [VmoChildOptions; 3] = [
    SNAPSHOT,
    VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE,
    VmoChildOptions::SNAPSHOT_MODIFIED,
];

fn resizable(pages: usize) -> Vmo {
    let vmo = Vmo::create_with_opts(VmoOptions::RESIZABLE, bytes(pages)).expect("a VMO");
    (0..pages).for_each(|at| put(&vmo, at, at as u8 + 1));
    vmo
}

#[track_caller]
fn child(parent: &Vmo, options: VmoChildOptions, first: usize, pages: usize) -> Vmo {
    parent
        .create_child(options, bytes(first), bytes(pages))
        .expect("such a child can be made")
}

#[track_caller]
fn snapshot(parent: &Vmo, first: usize, pages: usize) -> Vmo {
    child(parent, SNAPSHOT, first, pages)
}

#[track_caller]
fn slice(parent: &Vmo, first: usize, pages: usize) -> Vmo {
    child(parent, SLICE, first, pages)
}

#[track_caller]
fn reference(parent: &Vmo) -> Vmo {
    child(parent, REFERENCE, 0, 0)
}

#[track_caller]
fn info(vmo: &Vmo) -> VmoInfo {
    vmo.info().expect("a VMO has info")
}

/// 2^64 less so many pages.
fn below_2_64(pages: u64) -> u64 {
    0u64.wrapping_sub(pages * page() as u64)
}
