//! Spawning: from a request to a running child.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use cowspace::{Policy, Vmo};

use crate::capture::capture;
use crate::child::{Child, Status};
use crate::error::Error;
use crate::launcher::Launcher;
use crate::message::{receive_value, send_value};
use crate::protocol::{Blueprint, Report, SHORT, STREAMS};
use crate::stdio::{Direction, Stdio};

/// A child to be spawned, put together as a [`std::process::Command`] is.
#[derive(Clone, Debug)]
pub struct Spawn<'a> {
    entry: String,
    arguments: Vec<u8>,
    vmos: Vec<(String, &'a Vmo)>,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    policy: Policy,
    can_spawn: bool,
}

impl<'a> Spawn<'a> {
    /// A child that runs this [`Entry`](crate::Entry), without arguments or handles, with this process's standard streams and the native policy.
    pub fn new(entry: impl Into<String>) -> Self {
        Self {
            entry: entry.into(),
            arguments: Vec::new(),
            vmos: Vec::new(),
            stdin: Stdio::Inherit,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            policy: Policy::Native,
            can_spawn: false,
        }
    }

    /// Bytes for the child's [`Context::args`](crate::Context::args).
    #[must_use]
    pub fn args(mut self, arguments: impl Into<Vec<u8>>) -> Self {
        self.arguments = arguments.into();
        self
    }

    /// Gives the child, under this name, a handle to a clone of a VMO. Where the VMO is mapped in this process, the same clone is mapped in the child. The handle needs
    /// the rights `DUPLICATE` and `READ`.
    #[must_use]
    pub fn vmo(mut self, name: impl Into<String>, vmo: &'a Vmo) -> Self {
        self.vmos.push((name.into(), vmo));
        self
    }

    /// The child's standard input.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.stdin = stdin;
        self
    }

    /// The child's standard output.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.stdout = stdout;
        self
    }

    /// The child's standard error.
    #[must_use]
    pub fn stderr(mut self, stderr: Stdio) -> Self {
        self.stderr = stderr;
        self
    }

    /// How faults of the child's mappings are resolved: by the kernel alone (native, as at first), or seen and timed by the child's engine (traced).
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether the child gets a launcher of its own ([`Context::launcher`](crate::Context::launcher)), so that it can be a zygote in turn.
    #[must_use]
    pub fn can_spawn(mut self, can_spawn: bool) -> Self {
        self.can_spawn = can_spawn;
        self
    }
}

/// A process that gives clones of its address space to children.
///
/// Everything that is mapped from VMOs is cloned: other memory of this process (its stack, the global allocator's heap) children have as it was when the launcher was
/// started.
#[derive(Clone, Debug)]
pub struct Zygote {
    launcher: Launcher,
}

impl Zygote {
    /// Spawns children through this launcher.
    pub fn new(launcher: Launcher) -> Self {
        Self { launcher }
    }

    /// The launcher.
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// Clones this address space into a new process and runs an entry there. Returns when the child has all its memory.
    ///
    /// # Errors
    ///
    /// [`Error`] says for each what to do. After an error there is no child, or it is about to end.
    pub fn spawn(&self, spawn: &Spawn<'_>) -> Result<Child, Error> {
        let entry = self
            .launcher
            .entry(&spawn.entry)
            .ok_or_else(|| Error::NoSuchEntry(spawn.entry.clone()))?;
        for (place, (name, _)) in spawn.vmos.iter().enumerate() {
            if spawn.vmos[..place].iter().any(|(other, _)| other == name) {
                return Err(Error::DuplicateName(name.clone()));
            }
        }
        let spawned = self.spawn_entry(entry, spawn);
        // Not while the child starts: it wants the processor itself. Whether there can be another one is found out when one is wanted.
        let _ = self.launcher.fill_pool();
        spawned
    }

    fn spawn_entry(&self, entry: u32, spawn: &Spawn<'_>) -> Result<Child, Error> {
        // The child comes into being while this process clones its memory.
        let blank = self.launcher.blank()?;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let open = |stdio: Stdio, direction, inherited| {
            stdio
                .open(direction, inherited)
                .map_err(Error::io("open a standard stream for the child"))
        };
        let stdin = open(spawn.stdin, Direction::ToChild, stdin.as_fd())?;
        let stdout = open(spawn.stdout, Direction::FromChild, stdout.as_fd())?;
        let stderr = open(spawn.stderr, Direction::FromChild, stderr.as_fd())?;
        let capture = capture(&spawn.vmos)?;
        let blueprint = Blueprint {
            entry,
            arguments: spawn.arguments.clone(),
            policy: spawn.policy.into(),
            can_spawn: spawn.can_spawn,
            vmos: capture.image.records().to_vec(),
            mappings: capture.mappings,
            handles: capture.handles,
            left_out: capture.left_out,
        };
        let streams: [BorrowedFd<'_>; STREAMS] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let mut give = streams.to_vec();
        give.extend(capture.image.layers());
        send_image(&blank.control, &blueprint, &give)?;
        let ready = receive_value(&blank.control, SHORT);
        drop((capture.image, capture.clones));
        let status = Status::In(blank.status);
        let (pid, process) = match ready {
            Ok(Some((Report::Ready(pid), mut pidfd))) => match (u32::try_from(pid), pidfd.pop()) {
                (Ok(pid), Some(pidfd)) => (pid, pidfd),
                _ => return Err(Error::Launch("it names no process".to_owned())),
            },
            Ok(Some((Report::NotLaunched(reason), _))) => return Err(Error::Launch(reason)),
            Ok(Some((Report::Failed(reason), _))) => return Err(Error::Build(reason)),
            Ok(None) => return Err(self.how_it_ended(status)),
            Err(error) => return Err(Error::io("hear from the child")(error)),
        };
        tracing::debug!(pid, mappings = blueprint.mappings.len(), "spawned");
        Ok(Child {
            stdin: stdin.ours.map(ChildStdin::from),
            stdout: stdout.ours.map(ChildStdout::from),
            stderr: stderr.ours.map(ChildStderr::from),
            pid,
            process,
            status,
            left_out: blueprint.left_out,
            _launcher: self.launcher.clone(),
        })
    }

    /// Why a child has closed its control socket without a word.
    fn how_it_ended(&self, mut status: Status) -> Error {
        match status.read() {
            Ok(status) => Error::Ended(status),
            Err(unknown) if unknown.kind() != io::ErrorKind::NotFound => {
                Error::io("wait for the child")(unknown)
            }
            // There was no child, or nobody who could tell of its end.
            Err(_) if self.launcher.is_gone() => Error::LauncherGone,
            Err(_) => Error::Launch(
                "it may have no more descriptors, or the child has ended while SIGCHLD is ignored"
                    .to_owned(),
            ),
        }
    }
}

fn send_image(
    control: &OwnedFd,
    blueprint: &Blueprint,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Error> {
    match send_value(control.as_fd(), blueprint, descriptors) {
        // The child has ended. How, is said when it is waited for.
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::io("send the child its image")),
    }
}
