//! The side of those who ask.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use procfs::process::Process;

use super::place;
use super::records::{Inspection, Live};
use super::wire::{self, Answer, Question};

/// A process that says nothing for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a process that can be inspected.
#[derive(Debug)]
pub struct Client {
    pid: u32,
    stream: UnixStream,
}

/// Why a process could not be asked. Each is one line to be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of that number.
    #[error("there is no process {0}")]
    NoSuchProcess(u32),
    /// It has no socket.
    #[error(
        "process {0} does not use cowspace, or was not asked to be inspected: start it with COWSPACE_INSPECT=1"
    )]
    NotListening(u32),
    /// It is another user's.
    #[error("process {pid} belongs to user {user}: only that user and root can inspect it")]
    OtherUser {
        /// The process.
        pid: u32,
        /// Whose it is.
        user: u32,
    },
    /// What is there is not the process's.
    #[error("{0} is not the socket of that process: remove it")]
    Foreign(String),
    /// It speaks another version of the protocol.
    #[error(
        "process {pid} uses another version of cowspace (protocol {theirs}, not {ours}): inspect it with the command of that version"
    )]
    OtherVersion {
        /// The process.
        pid: u32,
        /// Its protocol's version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// It has ended, or does not listen any more.
    #[error("process {0} has ended")]
    Ended(u32),
    /// It did not answer for 10 seconds.
    #[error("process {0} does not answer: it may be stopped")]
    Silent(u32),
    /// It could not say.
    #[error("process {pid} cannot be inspected: {why}")]
    Failed {
        /// The process.
        pid: u32,
        /// What it said.
        why: String,
    },
    /// The system's answer.
    #[error("process {pid} cannot be asked: {error}")]
    Io {
        /// The process.
        pid: u32,
        /// The answer.
        error: io::Error,
    },
}

/// Connects to a process that has called [`listen`](super::listen) or runs with `COWSPACE_INSPECT=1`.
///
/// # Errors
///
/// See [`Error`].
pub fn connect(pid: u32) -> Result<Client, Error> {
    let owner = owner(pid)?;
    let us = Uid::effective();
    if !us.is_root() && us != owner {
        return Err(other_user(pid, owner));
    }
    for path in place::candidates(pid, owner) {
        if let Some(client) = connect_at(pid, owner, &path)? {
            return Ok(client);
        }
    }
    Err(Error::NotListening(pid))
}

/// `None`: nobody listens there.
fn connect_at(pid: u32, owner: Uid, path: &Path) -> Result<Option<Client>, Error> {
    let io = |error| Error::Io { pid, error };
    let foreign = || Error::Foreign(path.to_string_lossy().into_owned());
    let folder = path.parent().unwrap_or(path);
    let dialed = place::dial(path);
    if place::is_stale(&dialed) {
        // Of another user's folder root does not know what it will be in a moment.
        if place::is_only_for(folder, Uid::effective()).is_ok_and(|ours| ours) {
            place::remove_stale(path);
        }
        return Ok(None);
    }
    let stream = match dialed {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            // The runtime folder of whoever has called su(1), say: nobody of that user can listen in it.
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidFilename => return Ok(None),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => return Ok(None),
            _ => return Err(io(error)),
        },
    };
    let peer = getsockopt(&stream, PeerCredentials).map_err(|errno| io(errno.into()))?;
    let is_theirs = u32::try_from(peer.pid()) == Ok(pid) && peer.uid() == owner.as_raw();
    if !is_theirs || !place::is_only_for(folder, owner).map_err(io)? {
        return Err(foreign());
    }
    let patience = Some(PATIENCE);
    let set = stream.set_read_timeout(patience);
    set.and_then(|()| stream.set_write_timeout(patience))
        .map_err(io)?;
    let mut client = Client { pid, stream };
    let mut greeting = [0; wire::GREETING_LEN];
    match client.stream.read_exact(&mut greeting) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(other_user(pid, owner));
        }
        Err(error) => return Err(client.error(error)),
    }
    match wire::version(&greeting) {
        Some(wire::VERSION) => Ok(Some(client)),
        Some(theirs) => Err(Error::OtherVersion {
            pid,
            theirs,
            ours: wire::VERSION,
        }),
        None => Err(foreign()),
    }
}

/// The user that a process runs as.
fn owner(pid: u32) -> Result<Uid, Error> {
    if !place::exists(pid) {
        // It may have left its socket behind.
        let left = place::candidates(pid, Uid::effective());
        left.iter().for_each(|path| place::remove_stale(path));
        return Err(Error::NoSuchProcess(pid));
    }
    let status = i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok()?.status().ok());
    let status = status.ok_or(Error::NoSuchProcess(pid))?;
    Ok(Uid::from_raw(status.euid))
}

fn other_user(pid: u32, owner: Uid) -> Error {
    Error::OtherUser {
        pid,
        user: owner.as_raw(),
    }
}

impl Client {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Figures for whoever looks once a second.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`], [`Error::Silent`] and others; then connect anew.
    pub fn live(&mut self) -> Result<Live, Error> {
        match self.ask(Question::Live)? {
            Answer::Live(live) => Ok(*live),
            answer => Err(self.unexpected(answer)),
        }
    }

    /// All that there is to see.
    ///
    /// # Errors
    ///
    /// As [`Client::live`].
    pub fn inspect(&mut self) -> Result<Inspection, Error> {
        match self.ask(Question::Inspect)? {
            Answer::Inspect(inspection) if inspection.is_sound() => Ok(*inspection),
            Answer::Inspect(_) => Err(self.error(io::Error::new(
                io::ErrorKind::InvalidData,
                "its answer makes no sense",
            ))),
            answer => Err(self.unexpected(answer)),
        }
    }

    fn ask(&mut self, question: Question) -> Result<Answer, Error> {
        let question = wire::frame(&question, wire::LONGEST_QUESTION)
            .ok_or_else(|| self.error(io::ErrorKind::InvalidData.into()))?;
        self.exchange(&question).map_err(|error| self.error(error))
    }

    fn exchange(&mut self, question: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(question)?;
        let mut header = [0; wire::HEADER_LEN];
        self.stream.read_exact(&mut header)?;
        let len = wire::len(header);
        if len > wire::LONGEST_ANSWER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its answer is too long",
            ));
        }
        // Not all at once: that so much will come is only said.
        let mut answer = Vec::new();
        let read = (&mut self.stream)
            .take(len as u64)
            .read_to_end(&mut answer)?;
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let unreadable =
            |_| io::Error::new(io::ErrorKind::InvalidData, "its answer cannot be read");
        postcard::from_bytes(&answer).map_err(unreadable)
    }

    fn unexpected(&self, answer: Answer) -> Error {
        let why = match answer {
            Answer::Failed(why) => why,
            _ => "it answers another question".into(),
        };
        Error::Failed { pid: self.pid, why }
    }

    fn error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Error::Ended(self.pid),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Silent(self.pid),
            _ => Error::Io {
                pid: self.pid,
                error,
            },
        }
    }
}
