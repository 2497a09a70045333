//! The standard streams of a child.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};

/// What a standard stream of a child is connected to, as [`std::process::Stdio`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdio {
    /// What this process has at the time of the spawn.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// A pipe, whose other end is in the [`Child`](crate::Child).
    Piped,
}

/// Which way a stream flows.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    ToChild,
    FromChild,
}

/// A stream made ready to be given away.
pub(crate) struct Stream<'a> {
    child: End<'a>,
    /// This process's end of a pipe.
    pub(crate) ours: Option<OwnedFd>,
}

enum End<'a> {
    Inherited(BorrowedFd<'a>),
    Made(OwnedFd),
}

impl Stdio {
    /// Makes the stream; `inherited` is this process's own.
    pub(crate) fn open(
        self,
        direction: Direction,
        inherited: BorrowedFd<'_>,
    ) -> io::Result<Stream<'_>> {
        let (child, ours) = match self {
            Self::Inherit => (End::Inherited(inherited), None),
            Self::Null => {
                let null = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/null")?;
                (End::Made(null.into()), None)
            }
            Self::Piped => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                match direction {
                    Direction::ToChild => (End::Made(read), Some(write)),
                    Direction::FromChild => (End::Made(write), Some(read)),
                }
            }
        };
        Ok(Stream { child, ours })
    }
}

impl AsFd for Stream<'_> {
    /// The child's end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.child {
            End::Inherited(fd) => *fd,
            End::Made(fd) => fd.as_fd(),
        }
    }
}
