//! `/proc/self/task`, read without allocating.

use std::ffi::CStr;
use std::io::{self, Write};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::folder::Folder;

/// So much of a thread's `stat` is read: all up to the flags.
const STAT: usize = 192;
/// The kernel's mark of io_uring's workers and of its thread that polls for submissions (linux/sched.h; not in its interface, but the same since they are threads of the process, 5.12).
const PF_IO_WORKER: u32 = 0x10;

/// A directory that has a folder for each thread, named by its id.
#[derive(Debug)]
pub(super) struct Tasks {
    dir: Folder,
}

/// What a thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It runs, or would if it had a CPU.
    Runnable,
    Waiting,
    /// It is gone, or what is left of it waits to be collected (the first thread of a process does while others live).
    Dead,
}

impl Tasks {
    /// Of this process.
    pub(super) fn open() -> io::Result<Tasks> {
        Tasks::open_at(c"/proc/self/task")
    }

    fn open_at(path: &CStr) -> io::Result<Tasks> {
        Ok(Tasks {
            dir: Folder::open(path)?,
        })
    }

    /// Calls `f` with the id of each thread, until it fails. Threads that come or go meanwhile may be left out.
    pub(super) fn each<E: From<io::Error>>(
        &self,
        f: impl FnMut(i32) -> Result<(), E>,
    ) -> Result<(), E> {
        self.dir.each_number(f)
    }

    /// What the thread is at. Where that cannot be read: waiting.
    pub(super) fn state(&self, tid: i32) -> State {
        let mut stat = [0; STAT];
        match self.stat(tid, &mut stat) {
            Err(Errno::ENOENT | Errno::ESRCH) => State::Dead,
            Err(_) => State::Waiting,
            Ok(fields) => match fields.first() {
                Some(b'Z' | b'X' | b'x') => State::Dead,
                Some(b'R') => State::Runnable,
                _ => State::Waiting,
            },
        }
    }

    /// Whether the thread is one of the kernel's own for an io_uring: it runs no code of the program, and takes no signal. `false` where that cannot be read.
    pub(super) fn is_io_worker(&self, tid: i32) -> bool {
        let mut stat = [0; STAT];
        // "state ppid pgrp session tty_nr tpgid flags ..."
        self.stat(tid, &mut stat)
            .ok()
            .and_then(|fields| fields.split(|byte| *byte == b' ').nth(6))
            .and_then(|flags| std::str::from_utf8(flags).ok()?.parse::<u32>().ok())
            .is_some_and(|flags| flags & PF_IO_WORKER != 0)
    }

    /// What proc_pid_stat(5) tells of a thread, from its state on.
    fn stat<'a>(&self, tid: i32, stat: &'a mut [u8; STAT]) -> nix::Result<&'a [u8]> {
        let mut path = [0; 32];
        // A thread id has at most 10 digits, so it fits, with a zero byte left.
        write!(&mut path[..31], "{tid}/stat").map_err(|_| Errno::EINVAL)?;
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?;
        let file = openat(
            &self.dir,
            path,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let len = nix::unistd::read(&file, stat)?;
        let stat = &stat[..len];
        // "tid (name) state ...", and the name may have anything in it.
        let name_end = stat.iter().rposition(|byte| *byte == b')');
        Ok(name_end
            .and_then(|end| stat.get(end + 2..))
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use nix::sys::wait::waitpid;
    use nix::unistd::{ForkResult, Pid, fork, gettid};

    use super::*;

    /// More than one buffer full.
    #[test]
    fn every_thread_is_found() {
        const THREADS: usize = 500;
        let (born, leave) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        std::thread::scope(|scope| {
            let (born, leave) = (&born, &leave);
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(move || {
                        let tid = gettid().as_raw();
                        born.wait();
                        leave.wait();
                        tid
                    })
                })
                .collect();
            born.wait();
            let tasks = Tasks::open().unwrap();
            let read = || {
                let mut found = Vec::new();
                tasks
                    .each(|tid| {
                        found.push(tid);
                        Ok::<_, io::Error>(())
                    })
                    .unwrap();
                found
            };
            let found = [read(), read()];
            leave.wait();
            for tid in threads.into_iter().map(|thread| thread.join().unwrap()) {
                assert!(
                    found.iter().all(|found| found.contains(&tid)),
                    "{tid} in {found:?}"
                );
            }
        });
    }

    #[test]
    fn the_dead_are_known_as_such() {
        // Processes look as threads do.
        let proc = Tasks::open_at(c"/proc").unwrap();
        assert_ne!(proc.state(Pid::this().as_raw()), State::Dead);
        // SAFETY: the child ends at once.
        let child = match unsafe { fork() }.unwrap() {
            // SAFETY: as above.
            ForkResult::Child => unsafe { libc::_exit(0) },
            ForkResult::Parent { child } => child,
        };
        while proc.state(child.as_raw()) != State::Dead {
            std::thread::yield_now();
        }
        waitpid(child, None).unwrap();
        assert_eq!(
            proc.state(child.as_raw()),
            State::Dead,
            "collected, it is not there at all"
        );
    }
}
