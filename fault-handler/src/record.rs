//! One fault's record, for whoever asks for each of them.

use host_memory::uffd::FaultKind;
use serde::{Deserialize, Serialize};

use crate::fault::{Answer, OutcomeKind};

/// A fault that has ended. See [`FaultHandler::record`](crate::FaultHandler::record).
///
/// ```text
///  the thread faults      read_ns                                            the thread goes on
///  ├─────────────────────────┼──────────┼────────────┼─────────────┼─────────────────┤
///    the kernel, until the     queue_ns   resolve_ns   install_ns    the kernel, until the thread
///    handler has read it                                             runs: known to the thread alone
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// When the handler had read the fault: nanoseconds of `CLOCK_MONOTONIC`, which all processes share.
    pub read_ns: u64,
    /// Address of the page's first byte.
    pub page: usize,
    /// What was missing.
    pub kind: FaultKind,
    /// Whether the access was a write.
    pub write: bool,
    /// The thread that waited, where the kernel says so.
    pub tid: Option<i32>,
    /// The CPU on which the thread faulted, where that could be told.
    pub cpu: Option<u32>,
    /// The CPU on which the handler ran at the end.
    pub handler_cpu: Option<u32>,
    /// What the resolver said the page is, if it did.
    pub answer: Option<Answer>,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// How many pages were installed for it, the faulting one first: 0 if it was not installed.
    pub pages: u32,
    /// How often it was resolved: more than once if it was put off.
    pub attempts: u32,
    /// From reading the fault to the beginning of its (last) resolution, in nanoseconds: other faults of the batch came first, or it was put off.
    pub queue_ns: u64,
    /// From there to the resolver's answer, in nanoseconds.
    pub resolve_ns: u64,
    /// From the answer to the end of the ioctl, in nanoseconds.
    pub install_ns: u64,
}
