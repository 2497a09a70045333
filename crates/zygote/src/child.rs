//! A child as its zygote sees it.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Signal, pidfd_send_signal};

use crate::launcher::Launcher;
use crate::report::LeftOut;

/// A running or ended child, as [`std::process::Child`].
///
/// Dropping it neither ends the child nor waits for it; the launcher reaps it all the same, so there are no zombies.
pub struct Child {
    /// The pipe to the child's standard input, if it was asked for.
    pub stdin: Option<ChildStdin>,
    /// The pipe from its standard output, if it was asked for.
    pub stdout: Option<ChildStdout>,
    /// The pipe from its standard error, if it was asked for.
    pub stderr: Option<ChildStderr>,
    pub(crate) pid: u32,
    pub(crate) process: OwnedFd,
    pub(crate) status: Status,
    pub(crate) left_out: Vec<LeftOut>,
    /// It waits for the child on our behalf, so it must not end before.
    pub(crate) _launcher: Launcher,
}

/// How the child has ended, as far as it is known.
pub(crate) enum Status {
    /// The launcher will write it into this pipe.
    In(OwnedFd),
    Known(ExitStatus),
}

impl Status {
    /// Waits until it is known.
    pub(crate) fn read(&mut self) -> io::Result<ExitStatus> {
        let pipe = match self {
            Self::Known(status) => return Ok(*status),
            Self::In(pipe) => pipe,
        };
        let mut raw = [0; size_of::<i32>()];
        // The launcher writes all of it at once, and pipes do not divide so little (pipe(7)).
        if retry_on_intr(|| rustix::io::read(&*pipe, &mut raw))? != raw.len() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "nobody knows how the child ended: the launcher is gone, or SIGCHLD is ignored",
            ));
        }
        let status = ExitStatus::from_raw(i32::from_ne_bytes(raw));
        *self = Self::Known(status);
        Ok(status)
    }
}

impl Child {
    /// The process id. It may mean another process once the child has ended; [`kill`](Self::kill) is not misled by that.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// What of this process's address space the child has not got.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Sends the child `SIGKILL`. Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the child has changed its user.
    pub fn kill(&mut self) -> io::Result<()> {
        match pidfd_send_signal(&self.process, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes the child's standard input, waits for its end and says how it ended. A second call says the same.
    ///
    /// # Errors
    ///
    /// `NotFound` if nobody knows: the launcher was killed, or this program ignores `SIGCHLD`.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.status.read()
    }

    /// How the child ended, or `None` if it runs.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if let Status::In(pipe) = &self.status {
            let mut ready = [PollFd::new(pipe, PollFlags::IN)];
            let at_once = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            if retry_on_intr(|| poll(&mut ready, Some(&at_once)))? == 0 {
                return Ok(None);
            }
        }
        self.status.read().map(Some)
    }

    /// Closes the child's standard input, reads its piped output and errors to their ends, and waits for the child's.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and those of reading.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = match (self.stdout.take(), self.stderr.take()) {
            (Some(stdout), Some(stderr)) => thread::scope(|scope| {
                // Read both at once: a child blocked on a full pipe would never close the other.
                let stderr =
                    thread::Builder::new().spawn_scoped(scope, move || read_all(Some(stderr)))?;
                let stdout = read_all(Some(stdout));
                let stderr = stderr
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                io::Result::Ok((stdout?, stderr?))
            })?,
            (stdout, stderr) => (read_all(stdout)?, read_all(stderr)?),
        };
        let status = self.wait()?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

fn read_all(stream: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut all)?;
    }
    Ok(all)
}

impl AsFd for Child {
    /// A pidfd of the child (pidfd_open(2)): readable once it has ended.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.pid)
            .finish_non_exhaustive()
    }
}
