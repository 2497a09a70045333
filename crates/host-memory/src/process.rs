//! `fork()` for programs of one thread, and copies of any program that only wait.
//!
//! A forked copy has one thread: the one that called. Whatever another thread held at that moment (the allocator's lock, a half-changed table) stays held
//! or half-changed in the copy for ever, so POSIX allows such a copy nothing but async-signal-safe functions until it calls `exec`. A process of one thread
//! has no other thread to lose. [`fork`] therefore counts the threads first and refuses when there are several: what is left is safe to call, and the copy may go on
//! with any code.
//!
//! [`StillCopy`] is for every other process: its copy runs no code of the program, so nothing can go wrong in it. It is there to be looked at from outside.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::folder::Folder;

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
    timed_fork().map(|forked| forked.process)
}

/// A [`timed_fork`], as each of the two processes sees it.
#[derive(Clone, Copy, Debug)]
pub struct Forked {
    /// Which process this is.
    pub process: Fork,
    /// Just before the system call.
    pub called: Instant,
    /// Just after it, in this process: in the copy its first instruction.
    pub returned: Instant,
}

/// As [`fork`], with the time that the system call itself took: [`fork`] also looks whether there are other threads.
///
/// # Errors
///
/// As [`fork`].
pub fn timed_fork() -> io::Result<Forked> {
    if !is_single_threaded() {
        let threads = thread_count()?;
        if threads != 1 {
            return Err(io::Error::other(format!(
                "fork: this process has {threads} threads, and a copy would have only one of them"
            )));
        }
    }
    let called = Instant::now();
    // SAFETY:
    // 1. This process has exactly one thread, the calling one: that was asked of the kernel above, and only a thread of this process could start another
    //    one in between; this one is here. (A signal handler must not: pthread_create is not async-signal-safe.)
    // 2. So no other thread can hold a lock, or have left a data structure half-changed, in the copy: all code may go on in it, not only the
    //    async-signal-safe functions.
    // 3. Private memory is copied whole, shared memory is only ever reached through types that allow for other processes' writes; no reference of this
    //    process becomes invalid on either side.
    let pid = unsafe { libc::fork() };
    let returned = Instant::now();
    let process = match pid {
        -1 => return Err(io::Error::last_os_error()),
        0 => Fork::Child,
        pid => Fork::Parent(pid),
    };
    Ok(Forked {
        process,
        called,
        returned,
    })
}

/// Prints one line on the standard error stream and ends the process (abort(3)).
///
/// Takes no lock and allocates nothing: the thread that holds a lock may be stopped, or wait for the caller. A line of more than 511 bytes is cut off.
pub fn abort(line: fmt::Arguments<'_>) -> ! {
    let mut buffer = [0_u8; 512];
    let mut rest = &mut buffer[..];
    let _ = rest.write_fmt(line);
    let free = rest.len().max(1);
    let len = buffer.len() - free;
    buffer[len] = b'\n';
    // Past `Stderr`'s lock, to the descriptor itself. If even that fails there is nobody to tell.
    let _ = nix::unistd::write(io::stderr(), &buffer[..=len]);
    std::process::abort();
}

/// Has the C library call `f` at `exit(3)`, on the thread that exits, while the others run (atexit(3)). For ever: it cannot be taken back. A forked copy calls it as well.
///
/// # Errors
///
/// `ENOMEM`: no memory for the list. (glibc has room for 32 such functions, and then calls `malloc`.)
pub fn at_exit(f: extern "C" fn()) -> io::Result<()> {
    // SAFETY: functions live for ever, and it takes and returns nothing. A panic in it aborts (extern "C").
    match unsafe { libc::atexit(f) } {
        0 => Ok(()),
        _ => Err(Errno::ENOMEM.into()),
    }
}

/// Whether the kernel says at once that this process has no other thread: it refuses to unshare what threads share if there are several, and if not has nothing to do (unshare(2)).
/// Where it does not say (a container may forbid the call) `false`: then they must be counted, which costs as much as forking a small process.
pub(crate) fn is_single_threaded() -> bool {
    unshare(CloneFlags::CLONE_THREAD).is_ok()
}

/// How many threads this process has now, as `/proc/self/task` lists them.
///
/// # Errors
///
/// Those of reading that folder, for example where `/proc` is not mounted.
pub fn thread_count() -> io::Result<usize> {
    let mut threads = 0;
    Folder::open(c"/proc/self/task")?.each_number(|_| {
        threads += 1;
        Ok::<_, io::Error>(())
    })?;
    Ok(threads)
}

/// A copy of this process, of any number of threads, that only waits: what `fork()` made of the process's memory can be seen in it. It ends when this is dropped, and
/// when this process does.
///
/// The functions that the program registered by `pthread_atfork(3)` run as with any `fork()`.
#[derive(Debug)]
pub struct StillCopy {
    pid: Pid,
    memory: File,
}

impl StillCopy {
    /// Makes the copy, and waits until it is out of `fork()`.
    ///
    /// # Errors
    ///
    /// `EAGAIN`, `ENOMEM`, `EMFILE`: no room for another process or for descriptors. `EACCES`: `/proc` does not let this process look at its children.
    pub fn make() -> io::Result<StillCopy> {
        let (mut reader, writer) = io::pipe()?;
        let ready = writer.as_raw_fd();
        // SAFETY:
        // 1. Other threads may hold any lock at this moment, or have left anything half-changed, so the copy may only do what is async-signal-safe: it calls
        //    `wait_in_copy`, which does nothing else and never returns. No destructor and no other code of the program runs there.
        // 2. Handlers of `pthread_atfork` are the business of who registered them.
        // 3. As in `fork`, nothing of this process becomes invalid.
        let pid = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => wait_in_copy(ready),
            pid => Pid::from_raw(pid),
        };
        drop(writer);
        let opened = reader.read_exact(&mut [0]).and_then(|()| {
            let path = format!("/proc/{pid}/mem");
            OpenOptions::new().read(true).write(true).open(path)
        });
        match opened {
            Ok(memory) => Ok(StillCopy { pid, memory }),
            Err(error) => {
                end(pid);
                Err(error)
            }
        }
    }

    /// The copy's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Reads the copy's memory at an address, as a load in it would, and whatever the protection says (`EIO` where nothing is).
    pub fn read(&self, addr: usize, buf: &mut [u8]) -> io::Result<()> {
        self.memory.read_exact_at(buf, addr as u64)
    }

    /// Writes the copy's memory at an address, as a store in it would. In memory that it shares with others they see that too.
    pub fn write(&self, addr: usize, buf: &[u8]) -> io::Result<()> {
        self.memory.write_all_at(buf, addr as u64)
    }
}

impl Drop for StillCopy {
    fn drop(&mut self) {
        end(self.pid);
    }
}

/// Ends a child and collects it. An error means that it is gone.
fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    while waitpid(pid, None) == Err(Errno::EINTR) {}
}

/// What a [`StillCopy`] does: says that it is there and waits for its end.
fn wait_in_copy(ready: libc::c_int) -> ! {
    // SAFETY: takes integers; the kernel ends this process with its parent.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: write(2) is async-signal-safe; the byte is a constant. If the reader is gone the signal ends this process.
    unsafe { libc::write(ready, [1_u8].as_ptr().cast(), 1) };
    loop {
        // SAFETY: pause(2) is async-signal-safe and takes nothing.
        unsafe { libc::pause() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_still_copy_has_the_memory_of_its_moment() {
        let word = std::sync::atomic::AtomicU64::new(1);
        let addr = word.as_ptr().addr();
        let copy = StillCopy::make().unwrap();
        word.store(2, std::sync::atomic::Ordering::SeqCst);
        let mut bytes = [0; 8];
        copy.read(addr, &mut bytes).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 1);
        copy.write(addr, &3u64.to_ne_bytes()).unwrap();
        copy.read(addr, &mut bytes).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 3);
        assert_eq!(word.load(std::sync::atomic::Ordering::SeqCst), 2);

        let process = format!("/proc/{}", copy.pid());
        drop(copy);
        assert!(!std::fs::exists(process).unwrap(), "the copy is collected");
    }

    /// What can be tested of it here: the test harness has threads. `zygote` forks with it.
    #[test]
    fn a_timed_fork_is_refused_as_a_fork_is() {
        assert!(timed_fork().unwrap_err().to_string().contains("threads"));
    }

    /// The test harness itself is a second thread, so this process must be refused, and without a copy having been made.
    #[test]
    fn a_process_of_several_threads_is_refused() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(thread_count().unwrap() >= 2);
        assert!(!is_single_threaded());
        let refused = fork().unwrap_err();
        assert!(refused.to_string().contains("threads"), "{refused}");
        drop(stop);
        assert!(other.join().unwrap().is_err());
    }
}
