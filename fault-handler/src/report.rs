//! Telling of trouble, from a thread of its own.
//!
//! The handler must not log: the program's `tracing` subscriber takes locks (that of stderr, say), and a thread that holds one of them may be waiting for the handler.
//! So it drops what there is to say into a bounded queue, and `cowspace-log` says it.
//!
//! That thread waits for the queue's bell and not on the channel: to wake one who waits there takes a lock, and the waker's identity, for which the standard library may call `malloc`.

use std::io;
use std::panic::catch_unwind;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use host_memory::thread::BareThread;
use host_memory::uffd::FaultKind;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A page that was poisoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) page: usize,
    pub(crate) kind: FaultKind,
    pub(crate) reason: &'static str,
    pub(crate) errno: Option<Errno>,
}

/// The handler's end of the queue.
pub(crate) struct Reporter {
    /// Taken when it is dropped.
    queue: Option<Sender<Trouble>>,
    bell: Arc<EventFd>,
    dropped: u64,
}

/// The other end.
struct Troubles {
    queue: Receiver<Trouble>,
    bell: Arc<EventFd>,
}

impl Reporter {
    /// Starts the thread. It ends when the reporter is dropped and everything was said.
    pub(crate) fn spawn() -> io::Result<(Reporter, BareThread)> {
        let (reporter, troubles) = Reporter::new(64)?;
        let thread = BareThread::spawn(c"cowspace-log", move || tell(troubles))?;
        Ok((reporter, thread))
    }

    /// A reporter, and where its reports arrive.
    fn new(capacity: usize) -> io::Result<(Reporter, Troubles)> {
        let (sender, receiver) = bounded(capacity);
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let reporter = Reporter {
            queue: Some(sender),
            bell: bell.clone(),
            dropped: 0,
        };
        let troubles = Troubles {
            queue: receiver,
            bell,
        };
        Ok((reporter, troubles))
    }

    /// Queues a report; drops and counts it if the queue is full.
    pub(crate) fn report(&mut self, trouble: Trouble) {
        let sent = self.queue.as_ref().map(|queue| queue.try_send(trouble));
        if sent.is_none_or(|sent| sent.is_err()) {
            self.dropped += 1;
        }
        self.ring();
    }

    fn ring(&self) {
        // Waits only after 2^64 - 2 rings that nobody heard.
        let _ = self.bell.write(1);
    }

    /// How many were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.queue = None;
        self.ring();
    }
}

impl Iterator for Troubles {
    type Item = Trouble;

    /// Waits for the next. `None` when the reporter is gone.
    fn next(&mut self) -> Option<Trouble> {
        loop {
            match self.queue.try_recv() {
                Ok(trouble) => return Some(trouble),
                Err(TryRecvError::Disconnected) => return None,
                // An error is a signal's: look again.
                Err(TryRecvError::Empty) => drop(self.bell.read()),
            }
        }
    }
}

/// Says everything until the queue ends. The program's subscriber may panic, having no memory to write with for one; what comes later is to be said all the same.
fn tell(troubles: Troubles) {
    // What the standard library keeps for a thread is made now: there may be no memory when there is something to say.
    drop(std::thread::current());
    for trouble in troubles {
        let _ = catch_unwind(|| say(trouble));
    }
}

fn say(trouble: Trouble) {
    tracing::error!(
        page = format_args!("{:#x}", trouble.page),
        kind = ?trouble.kind,
        errno = trouble.errno.map(Errno::desc),
        "page poisoned, its threads get SIGBUS: {}",
        trouble.reason
    );
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let trouble = |page| Trouble {
            page,
            kind: FaultKind::Minor,
            reason: "",
            errno: None,
        };
        let (mut reporter, troubles) = Reporter::new(1).unwrap();
        reporter.report(trouble(1));
        reporter.report(trouble(2));
        assert_eq!(reporter.dropped(), 1);
        drop(reporter);
        assert_eq!(Vec::from_iter(troubles), [trouble(1)]);
    }

    #[test]
    fn a_subscriber_that_panics_is_asked_again() {
        let (mut reporter, troubles) = Reporter::new(2).unwrap();
        for page in [1, 2] {
            reporter.report(Trouble {
                page,
                kind: FaultKind::Minor,
                reason: "",
                errno: None,
            });
        }
        drop(reporter);
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || -> io::Sink {
                counter.fetch_add(1, Ordering::Relaxed);
                panic!("nowhere to write to")
            })
            .finish();
        tracing::subscriber::with_default(subscriber, || tell(troubles));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
