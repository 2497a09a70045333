//! The handles that a program has from the start: to its process, its threads, its root VMAR.
//!
//! Each function gives the same value at each call; it is this library's to close. 0 where the engine does not start.

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use cowspace::{Handle, Process, Status, Thread, Vmar};

pub(crate) fn vmar_root_self() -> u32 {
    static ROOT: OnceLock<Handle> = OnceLock::new();
    once(&ROOT, || Vmar::try_root_self().map(Handle::from))
}

pub(crate) fn process_self() -> u32 {
    static PROCESS: OnceLock<Handle> = OnceLock::new();
    once(&PROCESS, || Process::self_handle().map(Handle::from))
}

/// The one value. Two threads that are first at the same time both make a handle, and one of them is closed again:
/// nobody waits for another one, whose engine may be calling back here.
fn once(cell: &OnceLock<Handle>, make: impl FnOnce() -> Result<Handle, Status>) -> u32 {
    if let Some(handle) = cell.get() {
        return handle.raw_handle();
    }
    match make() {
        Ok(handle) => cell.get_or_init(|| handle).raw_handle(),
        Err(_) => 0,
    }
}

/// Where each thread keeps its own handle, which is closed when the thread ends. To keep something under one of the first
/// such keys (glibc: 32) takes no memory, as a thread-local value of Rust's that has something to drop does.
pub(crate) fn thread_key() -> Option<libc::pthread_key_t> {
    static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: writes the key. What is kept under it is a number, and `close` takes any.
        let error = unsafe { libc::pthread_key_create(&raw mut key, Some(close)) };
        (error == 0).then_some(key)
    })
}

/// As its thread ends.
unsafe extern "C" fn close(handle: *mut c_void) {
    drop(Handle::from_raw(handle.addr() as u32));
}

pub(crate) fn thread_self() -> u32 {
    let Some(key) = thread_key() else {
        return 0;
    };
    // SAFETY: the key was made, and is never deleted.
    let kept = unsafe { libc::pthread_getspecific(key) }.addr() as u32;
    if kept != 0 {
        return kept;
    }
    let Ok(handle) = Thread::self_handle().map(Handle::from) else {
        return 0;
    };
    let number = ptr::without_provenance(handle.raw_handle() as usize);
    // SAFETY: as above; it is a number, and no memory.
    if unsafe { libc::pthread_setspecific(key, number) } != 0 {
        return 0;
    }
    handle.into_raw()
}
