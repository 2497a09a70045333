//! One script, from its turn until its child is gone, on a thread of its own.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Server;
use crate::js::answer::{Answer, End};
use crate::js::running::Running;
use crate::js::script::Script;
use crate::js::zygote::Zygote;

/// The most that a script may tell, in bytes.
const OUTPUT: usize = 16 << 20;

/// Ends the child when it is dropped, if there is one or as soon as there is: whoever wanted its answer has hung up.
pub(super) struct Wanted(Arc<Mutex<Wish>>);

/// The child's end of it.
pub(super) struct Wisher(Arc<Mutex<Wish>>);

enum Wish {
    Open,
    /// The child, by a pidfd.
    For(OwnedFd),
    Gone,
}

pub(super) fn wanted() -> (Wanted, Wisher) {
    let wish = Arc::new(Mutex::new(Wish::Open));
    (Wanted(Arc::clone(&wish)), Wisher(wish))
}

impl Wanted {
    /// The answer is there: the child ends by itself.
    pub(super) fn answered(self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Wish::Gone;
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut wish = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Wish::For(child) = &*wish {
            // It may have ended; then nothing happens.
            let _ = pidfd_send_signal(child, Signal::KILL);
        }
        *wish = Wish::Gone;
    }
}

impl Wisher {
    /// Says which child it is about. False if nobody wants it any more.
    fn is_wanted(&self, child: OwnedFd) -> bool {
        let mut wish = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *wish {
            Wish::Gone => false,
            _ => {
                *wish = Wish::For(child);
                true
            }
        }
    }
}

/// Runs the script, replies, and makes ready for the next one. It is its turn until then.
pub(super) fn run(
    server: &Server,
    script: &Script,
    wisher: &Wisher,
    reply: oneshot::Sender<Result<Answer>>,
    turn: OwnedSemaphorePermit,
) {
    match begin(server, script, wisher) {
        Ok(Some(running)) => {
            if let Err(error) = finish(server, running, reply) {
                crate::report_error(&error);
            }
        }
        Ok(None) => (),
        Err(error) => {
            let _ = reply.send(Err(error));
        }
    }
    // If there can be no spare child now, the next request will say why.
    let _ = server.zygote.spawning(Zygote::refill);
    drop(turn);
}

/// `None` if it is not wanted any more.
fn begin(server: &Server, script: &Script, wisher: &Wisher) -> Result<Option<Running>> {
    let mut running = server
        .zygote
        .spawning(|zygote| Running::start(zygote, script))?;
    let pidfd = running.child().as_fd().try_clone_to_owned()?;
    if !wisher.is_wanted(pidfd) {
        running.kill()?;
        running.end()?;
        return Ok(None);
    }
    Ok(Some(running))
}

fn finish(
    server: &Server,
    mut running: Running,
    reply: oneshot::Sender<Result<Answer>>,
) -> Result<()> {
    let pid = running.child().id();
    server.stats.child_runs(pid);
    let mut answer = Answer::nothing();
    let end = running.follow(|part, text| {
        answer.add(part, &text);
        match answer.len() > OUTPUT {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    let end = end.unwrap_or_else(|error| End::Crash(format!("{error:#}")));
    let is_well = end.is_well();
    answer.end = end;
    let _ = reply.send(Ok(answer));
    if is_well && let Ok(pid) = i32::try_from(pid) {
        server.zygote.spawning(|zygote| zygote.learn(pid));
    }
    let ended = running.end();
    server.stats.child_ends(pid);
    ended
}
