//! A child at its script, for whoever waits for it, but not for ever.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use zygote::Child;

use super::answer::{End, Event, Part};
use super::script::Script;
use super::zygote::Zygote;
use crate::children::receive;

/// How much longer than it may a script can run before its process is killed: the engine cannot interrupt all that a script does (the sorting of an array, say).
const GRACE: Duration = Duration::from_secs(1);

/// A child whose script runs.
pub(super) struct Running {
    child: Child,
    events: Patient<ChildStdout>,
}

impl Running {
    pub(super) fn start(zygote: &Zygote, script: &Script) -> Result<Running> {
        let mut child = zygote.run(script)?;
        let stdout = child.stdout.take().context("no pipe from the child")?;
        let until = script
            .time
            .and_then(|time| Instant::now().checked_add(time)?.checked_add(GRACE));
        Ok(Running {
            child,
            events: Patient { stdout, until },
        })
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    /// Waits for the script's end; what it tells before that is given to `take`, which may stop it.
    pub(super) fn follow(
        &mut self,
        mut take: impl FnMut(Part, String) -> ControlFlow<()>,
    ) -> Result<End> {
        loop {
            let stopped = match receive(&mut self.events) {
                Ok(Some(Event::Text(part, text))) => match take(part, text) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => End::TooMuchOutput,
                },
                Ok(Some(Event::Ready)) => continue,
                Ok(Some(Event::End(end))) => return Ok(end),
                Ok(None) => return Ok(End::Crash(self.child.wait()?.to_string())),
                Err(error) if is_late(&error) => End::Timeout,
                Err(error) => End::Crash(format!("what it told cannot be read: {error:#}")),
            };
            self.child.kill()?;
            return Ok(stopped);
        }
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }

    /// Waits until the process is gone.
    pub(super) fn end(mut self) -> Result<()> {
        // It has nothing more to do, whatever it may be at.
        self.child.wait()?;
        Ok(())
    }
}

fn is_late(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// A pipe that is read from until a certain time, whatever comes.
struct Patient<R> {
    stdout: R,
    until: Option<Instant>,
}

impl<R: Read + AsFd> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut pipe = [PollFd::new(&self.stdout, PollFlags::IN)];
            match retry_on_intr(|| poll(&mut pipe, Some(&left))) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) if Instant::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => (),
                Err(Errno::AGAIN) => (),
                Err(error) => return Err(error.into()),
            }
        }
        self.stdout.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn patience_ends_with_and_without_anything_to_read() {
        let (stdout, mut pipe) = io::pipe().unwrap();
        let mut patient = Patient {
            stdout,
            until: None,
        };
        pipe.write_all(b"abc").unwrap();
        assert_eq!(patient.read(&mut [0; 2]).unwrap(), 2);
        patient.until = Some(Instant::now());
        let late = |patient: &mut Patient<_>| patient.read(&mut [0; 2]).unwrap_err().kind();
        assert_eq!(late(&mut patient), io::ErrorKind::TimedOut);
        patient.until = Some(Instant::now() + Duration::from_secs(3600));
        assert_eq!(patient.read(&mut [0; 2]).unwrap(), 1);
        patient.until = Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(late(&mut patient), io::ErrorKind::TimedOut);
    }
}
