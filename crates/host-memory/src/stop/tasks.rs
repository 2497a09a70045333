//! `/proc/self/task`, read without allocating.

use std::ffi::CStr;
use std::io::{self, Write};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::folder::Folder;

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
        let mut path = [0; 32];
        let mut stat = [0; 128];
        // A thread id has at most 10 digits, so it fits, with a zero byte left.
        if write!(&mut path[..31], "{tid}/stat").is_err() {
            return State::Waiting;
        }
        let Ok(path) = CStr::from_bytes_until_nul(&path) else {
            return State::Waiting;
        };
        let read = openat(
            &self.dir,
            path,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .and_then(|file| nix::unistd::read(&file, &mut stat));
        match read {
            Err(Errno::ENOENT | Errno::ESRCH) => State::Dead,
            Err(_) => State::Waiting,
            Ok(len) => {
                // "tid (name) state ...", and the name may have anything in it (proc_pid_stat(5)).
                let stat = &stat[..len];
                let state = stat
                    .iter()
                    .rposition(|byte| *byte == b')')
                    .and_then(|end| stat.get(end + 2));
                match state {
                    Some(b'Z' | b'X' | b'x') => State::Dead,
                    Some(b'R') => State::Runnable,
                    _ => State::Waiting,
                }
            }
        }
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
