//! One fault's record, for whoever asks for each of them.

use host_memory::uffd::FaultKind;

use crate::fault::OutcomeKind;

/// A fault that has ended. See [`FaultHandler::record`](crate::FaultHandler::record).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// When the handler had read the fault: nanoseconds since the handler started.
    pub at_ns: u64,
    /// Address of the page's first byte.
    pub page: usize,
    /// What was missing.
    pub kind: FaultKind,
    /// Whether the access was a write.
    pub write: bool,
    /// The thread that waited, where the kernel says so.
    pub tid: Option<i32>,
    /// The CPU on which the handler ran at the end.
    pub handler_cpu: Option<usize>,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// From reading the fault to the resolver's answer, in nanoseconds; with the time of earlier attempts, if it was resolved anew.
    pub resolve_ns: u64,
    /// From the answer to the end of the ioctl, in nanoseconds.
    pub install_ns: u64,
}
