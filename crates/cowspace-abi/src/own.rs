//! The handles that a program has from the start: to its process, its threads, its root VMAR.
//!
//! Each function gives the same value at each call; it is this library's to close. 0 where the engine does not start.

use std::cell::Cell;
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

/// The one value. Two threads that are first at the same time both make a handle, and one of them is closed again: nobody waits for another one, whose engine may
/// be calling back here.
fn once(cell: &OnceLock<Handle>, make: impl FnOnce() -> Result<Handle, Status>) -> u32 {
    if let Some(handle) = cell.get() {
        return handle.raw_handle();
    }
    match make() {
        Ok(handle) => cell.get_or_init(|| handle).raw_handle(),
        Err(_) => 0,
    }
}

/// The calling thread's handle; closed when it ends.
struct Own(Cell<u32>);

impl Drop for Own {
    fn drop(&mut self) {
        drop(Handle::from_raw(self.0.replace(0)));
    }
}

thread_local! {
    static THREAD: Own = const { Own(Cell::new(0)) };
}

/// 0 also at the very end of a thread, when its handle is closed already.
pub(crate) fn thread_self() -> u32 {
    // The first use of a thread-local that is dropped allocates by the program's malloc, so nothing is locked here.
    let get = |own: &Own| {
        if own.0.get() == 0 {
            own.0
                .set(Thread::self_handle().map_or(0, |thread| Handle::from(thread).into_raw()));
        }
        own.0.get()
    };
    THREAD.try_with(get).unwrap_or(0)
}
