//! The zygote's side of its launcher.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host_memory::process::{Fork, fork, thread_count};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::context::Context;
use crate::error::Error;
use crate::launcher_process;
use crate::message;
use crate::protocol::{LAUNCH, Request};

/// A function that a child can be spawned to run.
///
/// Every child is forked from the same image, so the function lies at the same address in each and only its place in the list has to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What [`Spawn::new`](crate::Spawn::new) names it by. Where two are named alike, the first is meant.
    pub name: &'static str,
    /// What runs in the child; what it returns is the child's exit code.
    pub run: fn(Context) -> i32,
}

/// A small process that starts children for this one.
///
/// It was forked before this process had threads, mappings or much memory, so what it forks in turn is *blank* and cheap to make. It ends when the last clone of this
/// value is gone and no [`Child`](crate::Child) is left to wait for, or when this process ends in whatever way. Children go on.
#[derive(Clone, Debug)]
pub struct Launcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: OwnedFd,
    /// A pidfd of the launcher process.
    process: OwnedFd,
    entries: Vec<Entry>,
    pool: Mutex<Pool>,
    /// The process that forked the launcher.
    owner: u32,
}

/// Blank children that wait for their turn.
#[derive(Debug, Default)]
struct Pool {
    size: usize,
    /// Those that were asked for first, and so are ready first, in front.
    waiting: VecDeque<Blank>,
    /// The process that they wait for.
    owner: u32,
}

/// A child that was asked for: it waits at its control socket, or will once it is forked. If this is dropped it ends.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) control: OwnedFd,
    /// Where the launcher writes the wait status.
    pub(crate) status: OwnedFd,
}

impl Launcher {
    /// Reserves the engine's address range and forks the launcher.
    ///
    /// To be called first thing in `main`: what the process has at this moment (environment, working directory, descriptors, signal handlers), each child will have.
    ///
    /// # Errors
    ///
    /// - [`Error::Threads`] if the process has more than one thread
    /// - [`Error::EngineRuns`] if the engine was used before
    /// - [`Error::Reserve`] if there is no room for the address range
    /// - [`Error::Io`] if there is no process or descriptor to be had
    pub fn start(entries: &[Entry]) -> Result<Self, Error> {
        let threads = thread_count().map_err(Error::io("count this process's threads"))?;
        if threads != 1 {
            return Err(Error::Threads(threads));
        }
        if cowspace::is_running() {
            return Err(Error::EngineRuns);
        }
        cowspace::reserve_address_space().map_err(Error::Reserve)?;
        match Self::fork(entries).map_err(Error::io("fork the launcher"))? {
            Forked::Zygote(launcher) => Ok(launcher),
            Forked::Launcher(socket) => launcher_process::run(socket, entries.to_vec()),
        }
    }

    /// Forks the launcher and returns in both processes: the caller drops all that is not the launcher's, and then lets it run.
    pub(crate) fn fork(entries: &[Entry]) -> io::Result<Forked> {
        let (ours, theirs) = message::pair()?;
        // What is buffered now would be written once by each process.
        io::stdout().flush()?;
        match fork()? {
            Fork::Child => Ok(Forked::Launcher(theirs)),
            Fork::Parent(pid) => {
                let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
                let process = pidfd_open(pid, PidfdFlags::empty())?;
                Ok(Forked::Zygote(Self(Arc::new(Shared {
                    socket: ours,
                    process,
                    entries: entries.to_vec(),
                    pool: Mutex::default(),
                    owner: std::process::id(),
                }))))
            }
        }
    }

    /// Has `blanks` blank children wait for their turn, from now on: a spawn then need not wait for a fork. 0, as at first, keeps none. Each costs a process of little memory, and two descriptors here.
    ///
    /// A spawn asks for another one in place of the one that it has taken, and of any that was killed.
    ///
    /// # Errors
    ///
    /// [`Error::LauncherGone`] if the launcher was killed; [`Error::Io`] if there are no more descriptors to be had.
    pub fn pool(&self, blanks: u32) -> Result<(), Error> {
        if self.is_gone() {
            return Err(Error::LauncherGone);
        }
        self.pool_lock().size = blanks as usize;
        self.fill_pool()
    }

    /// Asks for as many blank children as are missing, or lets go of those that are too many.
    pub(crate) fn fill_pool(&self) -> Result<(), Error> {
        let mut pool = self.pool_lock();
        let size = pool.size;
        pool.waiting.retain(Blank::waits);
        pool.waiting.truncate(size);
        while pool.waiting.len() < size {
            pool.waiting.push_back(self.launch(Request::Spare)?);
        }
        Ok(())
    }

    /// The pool. A forked copy of this process begins with an empty one: two processes that tell one child what to become would each take the other's for its own.
    fn pool_lock(&self) -> MutexGuard<'_, Pool> {
        let mut pool = self.0.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if pool.owner != process {
            pool.waiting.clear();
            pool.owner = process;
        }
        pool
    }

    /// A blank child of the pool, or else a new one.
    pub(crate) fn blank(&self) -> Result<Blank, Error> {
        let mut pool = self.pool_lock();
        while let Some(blank) = pool.waiting.pop_front() {
            if blank.waits() {
                return Ok(blank);
            }
        }
        drop(pool);
        self.launch(Request::Now)
    }

    /// Asks for a new blank child, and does not wait for it.
    fn launch(&self, request: Request) -> Result<Blank, Error> {
        let (control, childs_control) =
            message::pair().map_err(Error::io("make a socket for the child"))?;
        let (status, launchers_status) = pipe_with(PipeFlags::CLOEXEC)
            .map_err(|error| Error::io("make a pipe for the child's status")(error.into()))?;
        let give: [_; LAUNCH] = [childs_control.as_fd(), launchers_status.as_fd()];
        match message::send_value(self.0.socket.as_fd(), &request, &give) {
            Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Err(Error::LauncherGone),
            Err(error) => Err(Error::io("send the launcher a request")(error)),
            Ok(()) => Ok(Blank { control, status }),
        }
    }

    /// Whether the launcher process has ended.
    pub(crate) fn is_gone(&self) -> bool {
        happened(&self.0.process)
    }

    /// The entry's place in the list.
    pub(crate) fn entry(&self, name: &str) -> Option<u32> {
        let place = self.0.entries.iter().position(|entry| entry.name == name)?;
        u32::try_from(place).ok()
    }
}

impl Blank {
    /// Whether it is alive, or still to be forked: one that is not has closed its socket, or the launcher has said there why it could not be forked.
    fn waits(&self) -> bool {
        !happened(&self.control)
    }
}

/// Whether a descriptor can be read, or its other end is closed.
fn happened(descriptor: &OwnedFd) -> bool {
    let mut descriptor = [PollFd::new(descriptor, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    retry_on_intr(|| poll(&mut descriptor, Some(&at_once))).is_ok_and(|ready| ready > 0)
}

/// Which process [`Launcher::fork`] has returned in.
pub(crate) enum Forked {
    Zygote(Launcher),
    /// The new launcher, with its end of the socket.
    Launcher(OwnedFd),
}

impl Drop for Shared {
    /// Lets the launcher end, and reaps it.
    fn drop(&mut self) {
        // A forked copy of this process has the same socket, and must not shut it for all.
        if self.owner == std::process::id() {
            // Whatever fails here means that the launcher is gone already.
            let _ = shutdown(&self.socket, Shutdown::Both);
            let _ = retry_on_intr(|| {
                waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED)
            });
        }
    }
}
