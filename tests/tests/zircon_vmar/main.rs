//! VMARs and mappings against Zircon's rules: order of checks, placement, unmap, protect, destroy, and the maps.

#![forbid(unsafe_code)]

mod changing;
mod handles;
mod looking;
mod mapping;
mod op_range;
mod placement;
mod scale;

use cowspace::{
    Handle, HandleBased, MapsDetails, ObjectType, Policy, Rights, Status, Vmar, VmarFlags, Vmo,
    VmoChildOptions, VmoOptions,
};
use cowspace_tests::zircon::{
    ALL, POLICIES, Region, as_vmar, as_vmo, bytes, can_read, can_write, closed_handle, firsts, get,
    numbered, put, refused, rights_of, with_rights,
};
use cowspace_tests::{RW, bytes_at, memory, page};

const NONE: VmarFlags = VmarFlags::empty();
const READ: VmarFlags = VmarFlags::PERM_READ;
const WRITE: VmarFlags = VmarFlags::PERM_WRITE;
const EXECUTE: VmarFlags = VmarFlags::PERM_EXECUTE;
const SPECIFIC: VmarFlags = VmarFlags::SPECIFIC;
const OVERWRITE: VmarFlags = VmarFlags::SPECIFIC_OVERWRITE;
const LIMIT: VmarFlags = VmarFlags::OFFSET_IS_UPPER_LIMIT;

/// All rights that a VMAR's handle can have.
const ALL_RIGHTS: Rights = Rights::VMAR_DEFAULT
    .union(Rights::READ)
    .union(Rights::WRITE)
    .union(Rights::EXECUTE);

fn alignment(log: u32) -> VmarFlags {
    VmarFlags::from_bits_retain(log << 24)
}
