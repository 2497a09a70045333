//! What can go wrong, each with what to do about it.

use std::io;
use std::process::ExitStatus;

use cowspace::Status;

/// Why a launcher was not started or a child not spawned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The launcher would be forked from a process with several threads.
    #[error(
        "this process has {0} threads already: start the launcher first thing in main, before anything starts a thread"
    )]
    Threads(usize),
    /// The launcher would be forked from a process whose engine runs: nothing of it would work in the children.
    #[error(
        "this process has used VMOs already: start the launcher first thing in main, before anything uses the engine"
    )]
    EngineRuns,
    /// No address range could be reserved for the engine.
    #[error(
        "cannot reserve the address range for mappings ({0}): raise the limit on address space (`ulimit -v`)"
    )]
    Reserve(Status),
    /// The launcher was started without an entry of this name.
    #[error("there is no entry named {0:?}: spawn one of those given to Launcher::start")]
    NoSuchEntry(String),
    /// Two handles for the child have the same name.
    #[error("two VMOs for the child are named {0:?}: give each a name of its own")]
    DuplicateName(String),
    /// The launcher could not start a process.
    #[error(
        "the launcher cannot start a process ({0}): look at the limits on processes and memory"
    )]
    Launch(String),
    /// The launcher has ended, killed by somebody.
    #[error("the launcher process is gone: without it this process cannot spawn children any more")]
    LauncherGone,
    /// A mapping or VMO cannot be cloned.
    #[error(
        "cannot clone {what} ({status}): close or unmap it before spawning, or map it with CANNOT_CREATE_VMO_CHILD"
    )]
    Capture {
        /// The mapping (by its range) or the VMO (by its name).
        what: String,
        /// The engine's answer.
        status: Status,
    },
    /// The list of mappings changed each time that they were to be cloned.
    #[error(
        "other threads map and unmap memory without a pause: have them hold still while a child is spawned"
    )]
    MapsChange,
    /// The engine could not be asked.
    #[error("the engine cannot {what} ({status})")]
    Engine {
        /// What it was to do.
        what: &'static str,
        /// Its answer.
        status: Status,
    },
    /// The child could not build its address space.
    #[error("the child could not build its address space: {0}")]
    Build(String),
    /// The child ended before its entry could run.
    #[error("the child ended before it was ready ({0})")]
    Ended(ExitStatus),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: an I/O error with what was being done.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
