//! `zx_vmar_*`.

use cowspace::{HandleBased, Status, Unowned, Vmar, VmarFlags, VmarOp, Vmo, VmoChildOptions};

use crate::at_load::before_mapping;
use crate::user::{Buffer, Out};

fn vmar(raw: u32) -> Unowned<Vmar> {
    Unowned::from_raw_handle(raw)
}

pub(crate) fn allocate(
    parent: u32,
    options: u32,
    offset: usize,
    size: usize,
    child: Out<u32>,
    address: Out<usize>,
) -> Result<(), Status> {
    let options = VmarFlags::from_bits_retain(options);
    let (region, base) = vmar(parent).allocate(offset, size, options)?;
    // The region outlives its handle: what nobody is told of is destroyed.
    let handle = region.raw_handle();
    let told = address.write(base).and_then(|()| child.write(handle));
    if told.is_err() {
        region.destroy()?;
    } else {
        region.into_handle().into_raw();
    }
    told
}

pub(crate) fn map(
    handle: u32,
    options: u32,
    vmar_offset: usize,
    vmo: u32,
    vmo_offset: u64,
    len: usize,
    address: Out<usize>,
) -> Result<(), Status> {
    before_mapping();
    let options = VmarFlags::from_bits_retain(options);
    let region = vmar(handle);
    let vmo = Unowned::<Vmo>::from_raw_handle(vmo);
    let base = region.map(vmar_offset, &vmo, vmo_offset, len, options)?;
    // What nobody is told of is unmapped.
    address
        .write(base)
        .or_else(|status| region.unmap(base, len).and(Err(status)))
}

pub(crate) fn unmap(handle: u32, address: usize, len: usize) -> Result<(), Status> {
    vmar(handle).unmap(address, len)
}

pub(crate) fn protect(handle: u32, options: u32, address: usize, len: usize) -> Result<(), Status> {
    vmar(handle).protect(address, len, VmarFlags::from_bits_retain(options))
}

pub(crate) fn destroy(handle: u32) -> Result<(), Status> {
    vmar(handle).destroy()
}

/// No operation has a buffer: the engine only hears whether there is one.
pub(crate) fn op_range(
    handle: u32,
    op: u32,
    address: usize,
    size: usize,
    buffer: Buffer,
    buffer_size: usize,
) -> Result<(), Status> {
    let op = VmarOp::from_raw(op);
    vmar(handle).op_range_with_buffer(op, address, size, buffer.address(), buffer_size)
}

pub(crate) fn create_vmo_child(
    handle: u32,
    options: u32,
    address: usize,
    size: usize,
    out: Out<u32>,
) -> Result<(), Status> {
    let options = VmoChildOptions::from_bits_retain(options);
    out.give(vmar(handle).create_vmo_child(options, address, size)?)
}
