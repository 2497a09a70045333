//! Telling a forked copy of the process apart.
//!
//! A copy made by `fork(2)` has our memory and descriptors but not our threads: no handler serves its faults, and `/proc/self/mem` opened before is still the
//! first process's. So the engine must know. A page with `MADV_WIPEONFORK` (Linux 4.14) is zeros in a copy, whoever forked and however, and costs a load to ask; a process
//! number would cost a system call.

use std::io;
use std::num::NonZeroUsize;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::page::page_size;

/// A byte that is 1 in the process that called [`mark_process`] last, and 0 in its copies. Null before the first call. Never unmapped.
static MARK: AtomicPtr<AtomicU8> = AtomicPtr::new(ptr::null_mut());
/// Whether [`mark_process`] was called, here or in a process that this one is a copy of: only then the byte says anything.
static MARKED: AtomicBool = AtomicBool::new(false);

/// Allocates now what [`mark_process`] needs, for this process and its copies, and marks none of them.
pub fn prepare_mark() -> io::Result<()> {
    if MARK.load(Acquire).is_null() {
        publish(new_mark()?);
    }
    Ok(())
}

/// Makes this process the one that [`in_forked_copy`] knows. Called again in a copy, it makes the copy one of its own right. Allocates one page the first time.
pub fn mark_process() -> io::Result<()> {
    prepare_mark()?;
    // SAFETY: what MARK holds is a byte of a page of its own that is never unmapped, and used as an atomic alone.
    unsafe { &*MARK.load(Acquire) }.store(1, Relaxed);
    // After the byte: whoever sees this finds it set.
    MARKED.store(true, Release);
    Ok(())
}

/// Whether this process is a copy of one that called [`mark_process`], and has not called it itself. Async-signal-safe.
#[must_use]
pub fn in_forked_copy() -> bool {
    if !MARKED.load(Acquire) {
        return false;
    }
    // SAFETY: as in `mark_process`, which has put it there before it set MARKED.
    unsafe { &*MARK.load(Acquire) }.load(Relaxed) == 0
}

/// Has the C library call `prepare` before each `fork(3)` of this process, and `parent` or `child` after it (`pthread_atfork(3)`). For ever: they cannot be taken back.
///
/// In the child of a process with several threads only what is async-signal-safe may be done. A `fork` by the bare system call does not call them. `ENOMEM`: no memory for the list.
pub fn at_fork(
    prepare: extern "C" fn(),
    parent: extern "C" fn(),
    child: extern "C" fn(),
) -> io::Result<()> {
    // SAFETY: functions live for ever, and take and return nothing. A panic in one aborts (extern "C").
    let error = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// A new page, wiped in copies.
fn new_mark() -> io::Result<*mut AtomicU8> {
    let len = NonZeroUsize::new(page_size()).ok_or(Errno::EINVAL)?;
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses an address that is nobody's.
    let page = unsafe { mmap_anonymous(None, len, prot, MapFlags::MAP_PRIVATE) }?;
    // SAFETY: the page is ours alone, and still zeros.
    if let Err(errno) = unsafe { madvise(page, len.get(), MmapAdvise::MADV_WIPEONFORK) } {
        // SAFETY: the page is ours alone, and nobody uses it any more.
        let _ = unsafe { munmap(page, len.get()) };
        return Err(errno.into());
    }
    Ok(page.as_ptr().cast())
}

/// Makes `mark` the process's, unless another thread was faster.
fn publish(mark: *mut AtomicU8) {
    let lost = MARK
        .compare_exchange(ptr::null_mut(), mark, AcqRel, Acquire)
        .is_err();
    if lost && let Some(page) = ptr::NonNull::new(mark.cast()) {
        // SAFETY: the page is ours alone: it was not published.
        let _ = unsafe { munmap(page, page_size()) };
    }
}
