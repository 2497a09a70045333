//! `fork()` for programs of one thread.
//!
//! A forked copy has one thread: the one that called. Whatever another thread held at that moment (the allocator's lock, a half-changed table) stays held
//! or half-changed in the copy for ever, so POSIX allows such a copy nothing but async-signal-safe functions until it calls `exec`. A process of one thread
//! has no other thread to lose. [`fork`] therefore counts the threads first and refuses when there are several: what is left is safe to call, and the copy may go on
//! with any code.

use std::fs;
use std::io;

/// Which of the two processes a [`fork`] has returned in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The process that called; the copy has this process id.
    Parent(i32),
    /// The copy.
    Child,
}

/// Makes a copy of this process, which must have one thread only (fork(2)).
///
/// The copy has its own memory, and shares open files with the original: it holds a descriptor of each one, those marked close-on-exec too, and values that own a
/// descriptor exist in both processes. Each side drops what the other is to have. The copy should end by [`std::process::exit`] and
/// not return into code that believes to run once. What a standard stream has buffered exists twice afterwards: flush first.
///
/// # Errors
///
/// - [`io::ErrorKind::Other`] with a text, if the process has more than one thread. A thread that was joined a moment ago can still be
///   counted: the kernel wakes the joining thread before it takes the dead one off the list.
/// - `EAGAIN` or `ENOMEM` from the kernel, if there is no room for another process.
pub fn fork() -> io::Result<Fork> {
    let threads = thread_count()?;
    if threads != 1 {
        return Err(io::Error::other(format!(
            "fork: this process has {threads} threads, and a copy would have only one of them"
        )));
    }
    // SAFETY:
    // 1. This process has exactly one thread, the calling one: that was read from the kernel above, and only a thread of this process could start another
    //    one in between; this one is here. (A signal handler must not: pthread_create is not async-signal-safe.)
    // 2. So no other thread can hold a lock, or have left a data structure half-changed, in the copy: all code may go on in it, not only the
    //    async-signal-safe functions.
    // 3. Private memory is copied whole, shared memory is only ever reached through types that allow for other processes' writes; no reference of this
    //    process becomes invalid on either side.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// How many threads this process has now, as `/proc/self/task` lists them.
///
/// # Errors
///
/// Those of reading that folder, for example where `/proc` is not mounted.
pub fn thread_count() -> io::Result<usize> {
    let mut threads = 0;
    for task in fs::read_dir("/proc/self/task")? {
        task?;
        threads += 1;
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test harness itself is a second thread, so this process must be refused, and without a copy having been made.
    #[test]
    fn a_process_of_several_threads_is_refused() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(thread_count().unwrap() >= 2);
        let refused = fork().unwrap_err();
        assert!(refused.to_string().contains("threads"), "{refused}");
        drop(stop);
        assert!(other.join().unwrap().is_err());
    }
}
