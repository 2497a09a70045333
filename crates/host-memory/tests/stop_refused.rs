//! What hinders stopping. One test: signals and their handlers belong to the whole process.

mod util;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};
use std::thread;

use host_memory::stop::{StopError, stop_other_threads};
use nix::libc::c_int;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::unistd::gettid;
use util::{SetOnDrop, wait_above, wait_until};

static PROGRAMS: AtomicU64 = AtomicU64::new(0);

extern "C" fn of_the_program(_signal: c_int) {
    PROGRAMS.fetch_add(1, SeqCst);
}

fn handle(signal: c_int) {
    let handler = of_the_program as extern "C" fn(c_int) as libc::sighandler_t;
    // SAFETY: the handler is async-signal-safe, and of the type that signal(2) wants.
    assert_ne!(unsafe { libc::signal(signal, handler) }, libc::SIG_ERR);
}

fn raise(signal: c_int) {
    // SAFETY: the signal has a handler.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

fn block_all() -> SigSet {
    let mut old = SigSet::empty();
    // All, as programs do, and not only those that this crate's types know: the real-time signals are in a full set.
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: fills the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: it was filled.
    let all = unsafe { SigSet::from_sigset_t_unchecked(all.assume_init()) };
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut old)).unwrap();
    old
}

#[test]
fn signals_in_use_are_left_alone_and_threads_that_block_are_reported() {
    // The program uses the first choice itself, and after the first stop takes the second.
    let first = libc::SIGRTMAX() - 2;
    handle(first);
    drop(stop_other_threads(&[]).unwrap());
    handle(first - 1);
    drop(stop_other_threads(&[]).unwrap());
    raise(first);
    raise(first - 1);
    assert_eq!(
        PROGRAMS.load(SeqCst),
        2,
        "the program's handlers are as they were"
    );

    let (blocker, ready) = (AtomicI32::new(0), AtomicBool::new(false));
    let (unblock, end, count) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicU64::new(0),
    );
    thread::scope(|scope| {
        let _end = (SetOnDrop(&unblock), SetOnDrop(&end));
        scope.spawn(|| {
            let old = block_all();
            blocker.store(gettid().as_raw(), SeqCst);
            wait_until(|| unblock.load(SeqCst));
            pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&old), None).unwrap();
            ready.store(true, SeqCst);
            wait_until(|| end.load(SeqCst));
        });
        scope.spawn(|| {
            while !end.load(SeqCst) {
                count.fetch_add(1, SeqCst);
            }
        });
        wait_above(&count, 0);
        wait_until(|| blocker.load(SeqCst) != 0);

        let error = stop_other_threads(&[]).unwrap_err();
        assert!(
            matches!(error, StopError::Unresponsive(tid) if tid == blocker.load(SeqCst)),
            "{error:?}"
        );
        wait_above(&count, count.load(SeqCst));

        // Spared, it does not hinder.
        drop(stop_other_threads(&[blocker.load(SeqCst)]).unwrap());

        // The late signal finds no round, and the thread goes on; the next round stops it as any other.
        unblock.store(true, SeqCst);
        wait_until(|| ready.load(SeqCst));
        drop(stop_other_threads(&[]).unwrap());
        wait_above(&count, count.load(SeqCst));
    });
}
