//! Why a call failed, told to the log when the call is over.
//!
//! LOCKS: a log may write to something whose lock another thread holds while it waits for the fault handler (a `println!` of bytes that lie in a VMO), and the handler may want the family that we have
//! locked, or the region may be parked. So with a lock held a reason is only noted, and each public call tells what was noted when all of its locks are released.

use std::cell::RefCell;

use crate::engine::Engine;
use crate::status::Status;

thread_local! {
    static REASONS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A public call: runs `f` with the engine, and tells the log what it noted.
pub(crate) fn call<T>(f: impl FnOnce(&'static Engine) -> Result<T, Status>) -> Result<T, Status> {
    let result = Engine::get().and_then(f);
    for reason in REASONS.take() {
        tracing::error!("{reason}");
    }
    result
}

/// Notes a reason. Allocates: not while the world is stopped.
pub(crate) fn note(reason: String) {
    REASONS.with_borrow_mut(|reasons| reasons.push(reason));
}

/// The status for a call that the kernel could not carry out; the reason is noted.
pub(crate) fn no_memory<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Status {
    move |error| {
        note(format!("{what}: {error}"));
        Status::NO_MEMORY
    }
}
