//! Telling of trouble, from a thread of its own.
//!
//! The handler must not log: the program's `tracing` subscriber takes locks (that of stderr, say), and a thread that holds one of them may be waiting for the handler.
//! So it drops what there is to say into a bounded queue, and `cowspace-log` says it.

use std::io;
use std::panic::catch_unwind;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use host_memory::uffd::FaultKind;
use nix::errno::Errno;

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
    queue: Sender<Trouble>,
    dropped: u64,
}

impl Reporter {
    /// Starts the thread. It ends when the reporter is dropped and everything was said.
    pub(crate) fn spawn() -> io::Result<(Reporter, thread::JoinHandle<()>)> {
        let (reporter, troubles) = Reporter::new(64);
        let thread = thread::Builder::new()
            .name("cowspace-log".into())
            .spawn(move || tell(troubles))?;
        Ok((reporter, thread))
    }

    /// A reporter, and where its reports arrive.
    pub(crate) fn new(capacity: usize) -> (Reporter, Receiver<Trouble>) {
        let (queue, troubles) = bounded(capacity);
        (Reporter { queue, dropped: 0 }, troubles)
    }

    /// Queues a report; drops and counts it if the queue is full.
    pub(crate) fn report(&mut self, trouble: Trouble) {
        if self.queue.try_send(trouble).is_err() {
            self.dropped += 1;
        }
    }

    /// How many were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Says everything until the queue ends. The program's subscriber may panic, having no memory to write with for one; what comes later is to be said all the same.
fn tell(troubles: Receiver<Trouble>) {
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
    use std::sync::Arc;
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
        let (mut reporter, troubles) = Reporter::new(1);
        reporter.report(trouble(1));
        reporter.report(trouble(2));
        assert_eq!(reporter.dropped(), 1);
        drop(reporter);
        assert_eq!(Vec::from_iter(troubles), [trouble(1)]);
    }

    #[test]
    fn a_subscriber_that_panics_is_asked_again() {
        let (mut reporter, troubles) = Reporter::new(2);
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
