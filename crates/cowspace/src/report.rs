//! Why a call failed, told to the log when the call is over.
//!
//! LOCKS: a log may write to something whose lock another thread holds while it waits for the fault handler (a `println!` of bytes that lie in a VMO), and the handler may want the family that we have
//! locked, or the region may be parked. So with a lock held a reason is only noted, and each public call tells what was noted when all of its locks are released.
//!
//! Where nobody listens (no `tracing` subscriber wants errors, as in the C library) nothing is noted: a text costs memory, the system's names of errors come from a
//! catalogue that is loaded by `malloc`, and the list of a thread is made at its first use.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};

use host_memory::stack;
use tracing::Level;

use crate::engine::{Engine, serves};
use crate::status::Status;

thread_local! {
    /// Empty between calls. Never dropped: a destructor would be registered, for which the C library calls `malloc`.
    static REASONS: ManuallyDrop<Cell<Vec<String>>> = const { ManuallyDrop::new(Cell::new(Vec::new())) };
}

/// Whether anything was ever noted: else nobody looks at the list.
static NOTED: AtomicBool = AtomicBool::new(false);

/// A public call: runs `f` with the engine, and tells the log what it noted.
pub(crate) fn call<T>(f: impl FnOnce(&'static Engine) -> Result<T, Status>) -> Result<T, Status> {
    let result = Engine::get().and_then(|engine| check_stack().and_then(|()| f(engine)));
    if NOTED.load(Ordering::Relaxed) {
        for reason in REASONS.with(|reasons| reasons.take()) {
            tracing::error!("{reason}");
        }
    }
    result
}

/// `BAD_STATE` if the thread runs on memory that the engine serves: a coroutine's stack from an allocator that lives on VMOs, a stack given to `pthread_attr_setstack`.
///
/// LOCKS: such a thread may fault whenever it touches its stack. The handler would want the family that the thread has locked, or the region may be one that the thread itself
/// has parked for a snapshot: it would wait for itself.
fn check_stack() -> Result<(), Status> {
    if (serves(stack::here()) || serves(stack::thread_block())) && is_traced() {
        note(|| "the thread's stack lies in a VMO: it cannot call the engine".into());
        return Err(Status::BAD_STATE);
    }
    Ok(())
}

/// Whether the engine can be called, and is there, for what ends with a handle.
pub(crate) fn running() -> Option<&'static Engine> {
    Engine::running().filter(|_| check_stack().is_ok())
}

/// Whether a page fault may wait for the handler.
fn is_traced() -> bool {
    Engine::running().is_some_and(|engine| engine.started_tracer().is_some())
}

/// Notes a reason, if anybody wants to know. Allocates then: not while the world is stopped.
pub(crate) fn note(reason: impl FnOnce() -> String) {
    if tracing::enabled!(Level::ERROR) {
        let reason = reason();
        NOTED.store(true, Ordering::Relaxed);
        REASONS.with(|reasons| {
            let mut noted = reasons.take();
            noted.push(reason);
            reasons.set(noted);
        });
    }
}

/// The status for a call that the kernel could not carry out; the reason is noted.
pub(crate) fn no_memory<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Status {
    move |error| {
        note(|| format!("{what}: {error}"));
        Status::NO_MEMORY
    }
}
