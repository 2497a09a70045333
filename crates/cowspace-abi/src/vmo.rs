//! `zx_vmo_*`.

use cowspace::{
    Handle, HandleBased, MapsDetails, Status, TransferDataOptions, Unowned, VmarFlags, Vmo,
    VmoChildOptions, VmoOp, VmoOptions, process_layout,
};
use host_memory::page::page_size;
use zerocopy::IntoBytes;

use crate::records;
use crate::user::{Buffer, Fault, Out};

fn vmo(raw: u32) -> Unowned<Vmo> {
    Unowned::from_raw_handle(raw)
}

pub(crate) fn create(size: u64, options: u32, out: Out<u32>) -> Result<(), Status> {
    out.give(Vmo::create_with_opts(
        VmoOptions::from_bits_retain(options),
        size,
    )?)
}

pub(crate) fn read(handle: u32, buffer: Buffer, offset: u64, size: usize) -> Result<(), Status> {
    let mut done = 0;
    vmo(handle).read_with(offset, size as u64, |bytes| {
        buffer
            .put(done, bytes)
            .map_err(|fault| cause(fault, VmarFlags::PERM_WRITE))?;
        done += bytes.len();
        Ok(())
    })
}

pub(crate) fn write(handle: u32, buffer: Buffer, offset: u64, size: usize) -> Result<(), Status> {
    let mut done = 0;
    vmo(handle).write_with(offset, size as u64, |bytes| {
        buffer
            .get(done, bytes)
            .map_err(|fault| cause(fault, VmarFlags::PERM_READ))?;
        done += bytes.len();
        Ok(())
    })
}

/// Why the buffer of a read or write could not be touched: `NOT_FOUND` where nothing is mapped, `ACCESS_DENIED` where it may not be touched in this way, `OUT_OF_RANGE` behind the end
/// of a VMO.
fn cause(fault: Fault, needs: VmarFlags) -> Status {
    let records = process_layout().unwrap_or_default();
    let here = |base: usize, size: usize| fault.0.wrapping_sub(base) < size;
    // The innermost that the address lies in.
    match records
        .iter()
        .rfind(|record| here(record.base, record.size))
    {
        Some(record) => match record.details {
            MapsDetails::Mapping(mapping) if mapping.mmu_flags.contains(needs) => {
                Status::OUT_OF_RANGE
            }
            MapsDetails::Mapping(_) => Status::ACCESS_DENIED,
            // A VMAR with nothing there.
            _ => Status::NOT_FOUND,
        },
        None => outside(fault.0),
    }
}

/// As [`cause`], for memory that is not the engine's.
fn outside(address: usize) -> Status {
    let page = address / page_size() * page_size();
    let mut present = 0;
    // SAFETY: writes one byte, for the one page, and looks at no memory.
    let error = unsafe {
        libc::mincore(
            std::ptr::without_provenance_mut(page),
            page_size(),
            &mut present,
        )
    };
    if error == 0 {
        Status::ACCESS_DENIED
    } else {
        Status::NOT_FOUND
    }
}

pub(crate) fn get_size(handle: u32, size: Out<u64>) -> Result<(), Status> {
    size.write(vmo(handle).get_size()?)
}

pub(crate) fn set_size(handle: u32, size: u64) -> Result<(), Status> {
    vmo(handle).set_size(size)
}

pub(crate) fn get_stream_size(handle: u32, size: Out<u64>) -> Result<(), Status> {
    size.write(vmo(handle).get_stream_size()?)
}

pub(crate) fn set_stream_size(handle: u32, size: u64) -> Result<(), Status> {
    vmo(handle).set_stream_size(size)
}

pub(crate) fn create_child(
    handle: u32,
    options: u32,
    offset: u64,
    size: u64,
    out: Out<u32>,
) -> Result<(), Status> {
    let options = VmoChildOptions::from_bits_retain(options);
    out.give(vmo(handle).create_child(options, offset, size)?)
}

pub(crate) fn op_range(
    handle: u32,
    op: u32,
    offset: u64,
    size: u64,
    buffer: Buffer,
    buffer_size: usize,
) -> Result<(), Status> {
    let (vmo, op) = (vmo(handle), VmoOp::from_raw(op));
    let has_room = !buffer.is_null() && buffer_size >= size_of::<records::LockState>();
    if op != VmoOp::LOCK || !has_room {
        // A LOCK without room for its answer is refused there, at its place in the order of checks.
        return vmo.op_range(op, offset, size);
    }
    let state = records::LockState::from(vmo.lock(offset, size)?);
    buffer.write(0, state.as_bytes()).or_else(|status| {
        // No lock remains that nobody was told of.
        vmo.op_range(VmoOp::UNLOCK, offset, size).and(Err(status))
    })
}

pub(crate) fn transfer_data(
    handle: u32,
    options: u32,
    offset: u64,
    length: u64,
    src: u32,
    src_offset: u64,
) -> Result<(), Status> {
    let options = TransferDataOptions::from_bits_retain(options);
    vmo(handle).transfer_data(options, offset, length, &vmo(src), src_offset)
}

pub(crate) fn set_cache_policy(handle: u32, policy: u32) -> Result<(), Status> {
    vmo(handle).set_cache_policy(policy)
}

/// No handle is a resource here, so any other than none is refused.
pub(crate) fn replace_as_executable(handle: u32, vmex: u32, out: Out<u32>) -> Result<(), Status> {
    // Ours from here on: it is consumed in any case.
    let vmo = Vmo::from(Handle::from_raw(handle));
    if vmex != 0 {
        vmo.basic_info()?;
        Unowned::<Handle>::from_raw_handle(vmex).basic_info()?;
        return Err(Status::WRONG_TYPE);
    }
    out.give(vmo.replace_as_executable()?)
}

/// There is no contiguous memory to be had. `bti` cannot be a handle of one.
pub(crate) fn create_contiguous(
    _bti: u32,
    size: usize,
    alignment_log2: u32,
    _out: Out<u32>,
) -> Result<(), Status> {
    let alignment = match alignment_log2 {
        0 => page_size().ilog2(),
        log => log,
    };
    if size == 0 || !(page_size().ilog2()..usize::BITS).contains(&alignment) {
        return Err(Status::INVALID_ARGS);
    }
    Err(Status::NOT_SUPPORTED)
}

/// There are no physical addresses to be had.
pub(crate) fn create_physical(
    _resource: u32,
    _address: usize,
    _size: usize,
    _out: Out<u32>,
) -> Result<(), Status> {
    Err(Status::NOT_SUPPORTED)
}
