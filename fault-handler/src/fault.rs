//! A fault, who resolves it, and how it ends.

use host_memory::uffd::FaultKind;
use serde::{Deserialize, Serialize};

use crate::install::Installer;

/// A page fault that a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Address of the page's first byte.
    pub page: usize,
    /// What is missing.
    pub kind: FaultKind,
    /// Whether the access was a write.
    pub write: bool,
    /// The thread that waits, where the kernel says so.
    pub tid: Option<i32>,
}

/// Decides what a faulting page is.
pub trait Resolver: Send + Sync + 'static {
    /// Called on the handler thread for each fault; calls exactly one method of `install` and returns what that returned.
    ///
    /// The implementor holds whatever lock keeps the page's source alive while it calls. It must not allocate, touch memory that the handler serves, nor wait for a
    /// lock whose holder may wait for the handler (as the caller of `mremap` on registered memory does).
    ///
    /// A fault may come again: several threads may wait for one page, and a fault whose installation could not be finished is resolved anew. So the answer must be
    /// right for the state of things *now*, the fault's kind notwithstanding; a page that is there by now does no harm.
    ///
    /// A panic ends the process.
    fn resolve(&self, fault: &Fault, install: Installer<'_>) -> Outcome;
}

/// What came of a resolver's call. Only [`Installer`]'s methods make one, and each [`Installer`] makes one: so returning it proves that the fault was answered.
#[derive(Debug)]
#[must_use]
pub struct Outcome(pub(crate) Next);

impl Outcome {
    /// Whether the page was installed by this call (and not, say, found to be there, or put off).
    pub fn installed(&self) -> bool {
        matches!(self.0, Next::Ended(kind) if kind.installed())
    }
}

/// Where a fault goes from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has ended.
    Ended(OutcomeKind),
    /// The address space is changing: resolve anew when the events have been read.
    Later,
    /// It could not be installed for this reason. That may pass: resolve anew a few times, then poison.
    Failed(&'static str),
}

/// What a resolver says a page is, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// Nobody has it: zeros.
    Zero,
    /// The memory's own: its file's page, or one that the mapping shows already.
    Own,
    /// A page of a layer.
    Layer {
        /// How many hidden nodes above the memory it was found: 0 in its own layers.
        depth: u32,
    },
}

/// How a fault ended. Each fault is counted under exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutcomeKind {
    /// A page was made of bytes that were copied.
    Copied,
    /// A page of zeros was mapped.
    Zeroed,
    /// The file's own page was mapped.
    Continued,
    /// Write protection was lifted.
    Unprotected,
    /// The page was there already: another thread's fault, or somebody filling ahead, was first.
    Exists,
    /// Left waiting: whoever parked the range wakes it later, and the thread faults anew.
    Parked,
    /// Woken without a page: the thread tries again, and may fault anew.
    Retried,
    /// The range or the process is gone. Whoever waited was woken, and meets what is there now.
    Gone,
    /// Whoever touches the page gets SIGBUS.
    Poisoned,
}

impl OutcomeKind {
    /// All kinds.
    pub const ALL: [OutcomeKind; 9] = [
        OutcomeKind::Copied,
        OutcomeKind::Zeroed,
        OutcomeKind::Continued,
        OutcomeKind::Unprotected,
        OutcomeKind::Exists,
        OutcomeKind::Parked,
        OutcomeKind::Retried,
        OutcomeKind::Gone,
        OutcomeKind::Poisoned,
    ];

    /// Whether the fault was resolved by the handler itself. Only those are timed.
    pub fn installed(self) -> bool {
        matches!(
            self,
            OutcomeKind::Copied
                | OutcomeKind::Zeroed
                | OutcomeKind::Continued
                | OutcomeKind::Unprotected
        )
    }
}
