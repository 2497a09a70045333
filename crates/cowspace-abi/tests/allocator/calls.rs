//! The C functions, as a program in C calls them.

use std::ops::Range;
use std::ptr;

const CHILD_SNAPSHOT: u32 = 1;
const PERM_READ_WRITE: u32 = 3;
pub(crate) const INFO_PROCESS_VMOS: u32 = 3 << 28 | 14;
pub(crate) const INFO_VMAR_MAPS: u32 = 36;

unsafe extern "C" {
    safe fn zx_vmar_root_self() -> u32;
    safe fn zx_process_self() -> u32;
    fn zx_vmo_create(size: u64, options: u32, out: *mut u32) -> i32;
    safe fn zx_handle_close(handle: u32) -> i32;
    fn zx_vmar_map(
        vmar: u32,
        options: u32,
        vmar_offset: usize,
        vmo: u32,
        vmo_offset: u64,
        len: usize,
        mapped: *mut usize,
    ) -> i32;
    fn zx_vmar_unmap(vmar: u32, addr: usize, len: usize) -> i32;
    fn zx_vmar_create_vmo_child(
        vmar: u32,
        options: u32,
        addr: usize,
        len: usize,
        out: *mut u32,
    ) -> i32;
    fn zx_object_get_info(
        handle: u32,
        topic: u32,
        buffer: *mut u8,
        buffer_size: usize,
        actual: *mut usize,
        avail: *mut usize,
    ) -> i32;
}

fn ok(status: i32) -> Result<(), i32> {
    if status == 0 { Ok(()) } else { Err(status) }
}

/// New memory, readable and writable, which nothing but its mapping keeps.
pub(crate) fn map_new(len: usize) -> Result<Range<usize>, i32> {
    let mut vmo = 0;
    // SAFETY: writes the handle.
    ok(unsafe { zx_vmo_create(len as u64, 0, &raw mut vmo) })?;
    map_and_close(vmo, len)
}

/// A clone of what is mapped there, mapped elsewhere.
pub(crate) fn clone_of(memory: &Range<usize>) -> Result<Range<usize>, i32> {
    let mut clone = 0;
    let root = zx_vmar_root_self();
    let out = &raw mut clone;
    // SAFETY: writes the handle; the mapping keeps its bytes.
    ok(unsafe { zx_vmar_create_vmo_child(root, CHILD_SNAPSHOT, memory.start, memory.len(), out) })?;
    map_and_close(clone, memory.len())
}

fn map_and_close(vmo: u32, len: usize) -> Result<Range<usize>, i32> {
    let mut at = 0;
    let root = zx_vmar_root_self();
    // SAFETY: writes the address; the kernel chooses it, so that it is nobody else's.
    let mapped = ok(unsafe { zx_vmar_map(root, PERM_READ_WRITE, 0, vmo, 0, len, &raw mut at) });
    assert_eq!(zx_handle_close(vmo), 0);
    mapped.map(|()| at..at + len)
}

/// # Safety
///
/// Nobody uses the memory any more.
pub(crate) unsafe fn unmap(memory: &Range<usize>) {
    // SAFETY: the caller's.
    let status = unsafe { zx_vmar_unmap(zx_vmar_root_self(), memory.start, memory.len()) };
    assert_eq!(status, 0);
}

/// How many records there are of what the process has.
pub(crate) fn count(topic: u32) -> usize {
    let handle = match topic {
        INFO_VMAR_MAPS => zx_vmar_root_self(),
        _ => zx_process_self(),
    };
    let (none, mut avail) = (ptr::null_mut(), 0);
    // SAFETY: writes the number, and nothing else.
    let status =
        unsafe { zx_object_get_info(handle, topic, none, 0, ptr::null_mut(), &raw mut avail) };
    assert_eq!(status, 0);
    avail
}
