//! `zx_handle_*`.

use cowspace::{Handle, HandleBased, Rights, Status, Unowned};
use zerocopy::IntoBytes;

use crate::user::{Buffer, Out};

/// Handles are read from the caller's array so many at a time.
const MANY: usize = 256;

pub(crate) fn close(handle: u32) -> Result<(), Status> {
    Handle::close_raw(handle)
}

/// `INVALID_ARGS` if the array cannot be read: what came before in it is closed.
pub(crate) fn close_many(handles: Buffer, count: usize) -> Result<(), Status> {
    let mut result = Ok(());
    let mut some = [0u32; MANY];
    for first in (0..count).step_by(MANY) {
        let some = &mut some[..MANY.min(count - first)];
        handles.read(first.wrapping_mul(size_of::<u32>()), some.as_mut_bytes())?;
        result = Handle::close_many(some).and(result);
    }
    result
}

pub(crate) fn duplicate(handle: u32, rights: u32, out: Out<u32>) -> Result<(), Status> {
    let rights = Rights::from_bits_retain(rights);
    out.give(Unowned::<Handle>::from_raw_handle(handle).duplicate_handle(rights)?)
}

pub(crate) fn replace(handle: u32, rights: u32, out: Out<u32>) -> Result<(), Status> {
    let rights = Rights::from_bits_retain(rights);
    out.give(Handle::from_raw(handle).replace_handle(rights)?)
}
