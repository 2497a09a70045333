//! The fault handler's threads, where the program's `malloc` takes its memory from VMOs.
//!
//! To make a thread the C library calls `malloc` (glibc: `calloc`, for the thread's table of thread-local storage). So a call that is made inside such a `malloc` must not make one. Nor may
//! the handler's table lie in memory that it serves: it would wait for itself. Hence the threads are made ahead, asleep, outside of any call; until they
//! are there mappings are native, the one that the table lies in among them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fault_handler::SleepingThreads;

use crate::lock::Mutex;
use crate::recording::{self, When};

/// No call makes a thread.
static ONLY_AHEAD: AtomicBool = AtomicBool::new(false);
/// Taken when they have something to serve.
static ASLEEP: Mutex<Option<SleepingThreads>> = Mutex::new(None);
/// The handler thread, asleep or not: the process's id and, in the lower half, the thread's; 0 if there is none yet.
static HANDLER: AtomicU64 = AtomicU64::new(0);

/// From now on no call makes a thread: mappings are native until [`start_threads_ahead`] has made the fault handler's. For a program whose `malloc` takes
/// its memory from VMOs.
pub fn make_threads_only_ahead() {
    ONLY_AHEAD.store(true, Ordering::Release);
}

/// Makes the fault handler's threads now, asleep until the first traced mapping, and the one that records faults if the environment asks for that; and has `fork()` ask the engine. Calls `malloc`, but with no lock of the engine's, so that `malloc` may call the
/// engine. To be called once, when no other thread makes or clones mappings: as the program or library is loaded.
///
/// # Errors
///
/// Those of making threads and descriptors, `ENOMEM` from `pthread_atfork`.
pub fn start_threads_ahead() -> io::Result<()> {
    crate::fork::watch()?;
    recording::begin_by_environment(When::Loading);
    let threads = SleepingThreads::start()?;
    know(&threads);
    *ASLEEP.lock() = Some(threads);
    Ok(())
}

/// Whether no call may make a thread.
pub(crate) fn only() -> bool {
    ONLY_AHEAD.load(Ordering::Acquire)
}

/// Whether a handler can be had now without making a thread where that is not allowed.
pub(crate) fn can_be_had() -> bool {
    !only()
        || ASLEEP
            .lock()
            .as_ref()
            .is_some_and(|threads| !threads.is_forked())
}

/// The threads that were made ahead, or new ones.
pub(crate) fn take() -> io::Result<SleepingThreads> {
    let asleep = ASLEEP.lock().take();
    let threads = match asleep.filter(|threads| !threads.is_forked()) {
        Some(threads) => threads,
        None => SleepingThreads::start()?,
    };
    // Before the engine shows the tracer: who stops all threads in between must leave it out, too.
    know(&threads);
    Ok(threads)
}

fn know(threads: &SleepingThreads) {
    let this = u64::from(std::process::id()) << 32 | u64::from(threads.tid().unsigned_abs());
    HANDLER.store(this, Ordering::Release);
}

/// The id of the handler thread if it was made. In a forked copy the number may be another thread's.
pub(crate) fn handler() -> Option<i32> {
    let handler = HANDLER.load(Ordering::Acquire);
    let ours = handler >> 32 == u64::from(std::process::id());
    i32::try_from(handler & u64::from(u32::MAX))
        .ok()
        .filter(|&tid| ours && tid != 0)
}
