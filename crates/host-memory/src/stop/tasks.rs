//! `/proc/self/task`, read without allocating: `readdir(3)` and what wraps it do allocate.

use std::ffi::CStr;
use std::io::{self, Write};
use std::mem::offset_of;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek};

/// A directory that has a folder for each thread, named by its id.
#[derive(Debug)]
pub(super) struct Tasks {
    dir: OwnedFd,
}

/// As much as the kernel hands out at once: some three hundred threads.
#[repr(align(8))]
struct Buffer([u8; 8 << 10]);

const NAME: usize = offset_of!(libc::dirent64, d_name);
const LENGTH: usize = offset_of!(libc::dirent64, d_reclen);

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
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Tasks {
            dir: open(path, flags, Mode::empty())?,
        })
    }

    /// Calls `f` with the id of each thread, until it fails. Threads that come or go meanwhile may be left out.
    pub(super) fn each<E: From<io::Error>>(
        &self,
        mut f: impl FnMut(i32) -> Result<(), E>,
    ) -> Result<(), E> {
        lseek(&self.dir, 0, Whence::SeekSet).map_err(io::Error::from)?;
        let mut buffer = Buffer([0; _]);
        loop {
            let filled = getdents(&self.dir, &mut buffer)?;
            if filled == 0 {
                return Ok(());
            }
            let mut rest = buffer.0.get(..filled).unwrap_or_default();
            while let Some((name, next)) = first_entry(rest) {
                // "." and ".." are no numbers.
                if let Some(tid) = name.to_str().ok().and_then(|name| name.parse().ok()) {
                    f(tid)?;
                }
                rest = next;
            }
        }
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

/// `getdents64(2)`: how many bytes of the buffer hold entries.
fn getdents(dir: &OwnedFd, buffer: &mut Buffer) -> io::Result<usize> {
    let (start, len) = (buffer.0.as_mut_ptr(), buffer.0.len());
    // SAFETY: the kernel writes at most `len` bytes into the buffer, which has as many and is ours alone; any bytes are a value of it.
    let filled = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), start, len) };
    Ok(usize::try_from(Errno::result(filled)?).unwrap_or(0))
}

/// The name of the first of some `struct linux_dirent64` (which the C library calls `dirent64`), and what follows it.
fn first_entry(entries: &[u8]) -> Option<(&CStr, &[u8])> {
    let length = entries.get(LENGTH..LENGTH + 2)?;
    let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
    let (entry, next) = entries.split_at_checked(length)?;
    let name = CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()?;
    Some((name, next))
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
