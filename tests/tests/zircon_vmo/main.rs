//! VMOs without relatives, and handles, against Zircon's rules: order of checks, rights, ranges, sizes, range operations, what object info says.

#![forbid(unsafe_code)]

mod content;
mod discardable;
mod handles;
mod large;
mod looking;
mod making;
mod operations;
mod stream_size;
mod transfer;

use std::collections::HashSet;

use cowspace::{
    CachePolicy, Handle, HandleBased, Koid, Name, ObjectType, Policy, Rights, Status, Vmar,
    VmarFlags, Vmo, VmoChildOptions, VmoInfoFlags, VmoOp, VmoOptions,
};
use cowspace_tests::zircon::{
    POLICIES, Region, as_vmar, as_vmo, bytes, can_read, can_write, closed_handle, firsts, get,
    numbered, put, refused, rights_of, with_rights,
};
use cowspace_tests::{RW, memory, page};

fn resizable(pages: usize) -> Vmo {
    Vmo::create_with_opts(VmoOptions::RESIZABLE, bytes(pages)).expect("a VMO can be made")
}

fn populated(vmo: &Vmo) -> u64 {
    vmo.info().expect("a VMO has info").populated_bytes
}

/// 2^64 less so many pages.
fn below_2_64(pages: u64) -> u64 {
    0u64.wrapping_sub(pages * page() as u64)
}

const COMMIT: VmoOp = VmoOp::COMMIT;
const DECOMMIT: VmoOp = VmoOp::DECOMMIT;
const ZERO: VmoOp = VmoOp::ZERO;
