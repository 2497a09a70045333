//! Threads with nothing of the standard library about them.
//!
//! A thread of [`std::thread`] registers destructors as it begins and as it meets thread-local values of that kind, for which the C library calls the process's `malloc`,
//! and it may wait for the loader's lock. A thread that others wait for may do neither: the program's `malloc` may be the one that waits. So this
//! is `pthread_create(3)` and no more. The *caller* of [`BareThread::spawn`] still pays for one `calloc` (glibc's, for the new thread's table of thread-local storage).

use std::ffi::CStr;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;

use nix::libc::{self, c_void};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Bytes of stack, as of a thread of the standard library.
const STACK: usize = 2 << 20;

/// A thread that runs until its body returns. Dropping this lets go of it.
#[derive(Debug)]
pub struct BareThread {
    handle: libc::pthread_t,
}

type Body = Box<dyn FnOnce() + Send>;

impl BareThread {
    /// Starts a thread that runs `body`, under a name of at most 15 bytes, with the signal mask of the caller. A panic that leaves `body` ends the process.
    ///
    /// The body should ask the standard library for nothing that belongs to a thread, [`std::thread::current`] for one.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: no room for another thread.
    pub fn spawn(
        name: &'static CStr,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<BareThread> {
        let body: Body = Box::new(move || {
            // Too long a name is refused, and the thread has its creator's.
            // SAFETY: names the calling thread; the text lives for ever.
            unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr()) };
            body();
        });
        let body = Box::into_raw(Box::new(body));
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: initializes what it is given.
        check(unsafe { libc::pthread_attr_init(attributes) }).inspect_err(|_| take_back(body))?;
        // SAFETY: they are initialized. A size that the system does not like is refused, and the thread gets the default.
        unsafe { libc::pthread_attr_setstacksize(attributes, STACK) };
        let mut handle = MaybeUninit::uninit();
        // SAFETY: 1. The attributes are initialized. 2. `begin` takes what it is given: a box of a body that may go to another thread, and owns it from then on.
        // 3. The handle is written if the call succeeds.
        let error =
            unsafe { libc::pthread_create(handle.as_mut_ptr(), attributes, begin, body.cast()) };
        // SAFETY: they are initialized, and not used any more.
        unsafe { libc::pthread_attr_destroy(attributes) };
        check(error).inspect_err(|_| take_back(body))?;
        // SAFETY: the call has succeeded.
        let handle = unsafe { handle.assume_init() };
        Ok(BareThread { handle })
    }

    /// Waits for its end.
    pub fn join(self) {
        let thread = ManuallyDrop::new(self);
        // SAFETY: the handle is of a thread that was neither joined nor detached: only this and `drop` do so, each at the end of its owner.
        unsafe { libc::pthread_join(thread.handle, ptr::null_mut()) };
    }
}

impl Drop for BareThread {
    fn drop(&mut self) {
        // SAFETY: as in `join`.
        unsafe { libc::pthread_detach(self.handle) };
    }
}

/// The standard signals: the program's own, which are the business of its own threads. (Not the real-time ones, with one of which threads are stopped.)
#[must_use]
pub fn standard_signals() -> SigSet {
    SigSet::from_iter(Signal::iterator())
}

/// Runs `f` with these signals blocked as well in the calling thread; a thread starts with its creator's mask.
///
/// # Errors
///
/// Those of `f`.
pub fn with_blocked<T>(signals: SigSet, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let result = f();
    before.thread_set_mask()?;
    result
}

extern "C" fn begin(body: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` made it of a `Box<Body>` and gave it away.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    body();
    ptr::null_mut()
}

/// Frees the body of a thread that did not start.
fn take_back(body: *mut Body) {
    // SAFETY: `spawn` made it of a box, and no thread has it.
    drop(unsafe { Box::from_raw(body) });
}

fn check(error: libc::c_int) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_body_runs_on_a_thread_of_that_name() {
        let (tell, told) = mpsc::channel();
        let thread = BareThread::spawn(c"bare-test", move || {
            let tid = nix::unistd::gettid();
            let name = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm"));
            tell.send((tid, name.unwrap())).unwrap();
        })
        .unwrap();
        thread.join();
        let (tid, name) = told.recv().unwrap();
        assert_ne!(tid, nix::unistd::gettid());
        assert_eq!(name, "bare-test\n");
    }

    #[test]
    fn what_the_body_owns_is_dropped_with_it() {
        let owned = std::sync::Arc::new(());
        let theirs = owned.clone();
        BareThread::spawn(c"bare-test", move || drop(theirs))
            .unwrap()
            .join();
        assert_eq!(std::sync::Arc::strong_count(&owned), 1);
    }
}
