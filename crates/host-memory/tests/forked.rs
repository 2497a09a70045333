//! What forked copies know of themselves. One test: the mark and the hooks belong to the whole process.

mod util;

use std::sync::atomic::{AtomicI32, Ordering};

use host_memory::forked::{at_fork, in_forked_copy, mark_process};
use util::in_fork;

static CALLS: AtomicI32 = AtomicI32::new(0);

extern "C" fn prepare() {
    CALLS.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn parent() {
    CALLS.fetch_add(10, Ordering::SeqCst);
}

extern "C" fn child() {
    // Seen by the hook already.
    CALLS.fetch_add(if in_forked_copy() { 50 } else { 100 }, Ordering::SeqCst);
}

#[test]
fn a_copy_is_told_apart_and_the_hooks_run() {
    assert!(!in_forked_copy());
    assert_eq!(
        in_fork(|| i32::from(in_forked_copy())),
        0,
        "nothing is known before the mark is made"
    );

    mark_process().unwrap();
    mark_process().unwrap();
    assert!(!in_forked_copy());
    assert_eq!(in_fork(|| i32::from(in_forked_copy())), 1);
    assert!(!in_forked_copy(), "the first process is as it was");

    // A copy that marks itself is the first of its own copies.
    let code = in_fork(|| {
        let marked = mark_process().is_ok();
        let first = !in_forked_copy();
        let second = in_fork_quietly(in_forked_copy);
        i32::from(marked) + 2 * i32::from(first) + 4 * i32::from(second)
    });
    assert_eq!(code, 7);

    at_fork(prepare, parent, child).unwrap();
    assert_eq!(in_fork(|| CALLS.load(Ordering::SeqCst)), 51);
    assert_eq!(CALLS.load(Ordering::SeqCst), 11);
}

/// As `in_fork`, without anything that allocates when it goes wrong.
fn in_fork_quietly(child: fn() -> bool) -> bool {
    // SAFETY: the child does one load and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = i32::from(child());
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: the status is ours.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    waited == pid && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1
}
