//! One fault's record, for whoever asks for each of them.

use host_memory::uffd::FaultKind;
use serde::{Deserialize, Serialize};

use crate::fault::{Answer, OutcomeKind};

/// A fault that has ended. See [`FaultHandler::record`](crate::FaultHandler::record).
///
/// ```text
///  the thread faults      read_ns                                                             the thread goes on
///  ├─────────────────────────┼──────────┼──────────────┼────────────┼────────────┼─────────────────┤
///    the kernel, until the     queue_ns   recording_ns   resolve_ns   install_ns   the kernel, until the thread
///    handler has read it                                                           runs: known to the thread alone
/// ```
///
/// Times are of [`monotonic_ns`](crate::monotonic_ns).
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
    /// The CPU on which the thread faulted, where that could be told: where it ran last when the fault had been read, before it was woken.
    pub cpu: Option<u32>,
    /// The CPU on which the handler ran at the end.
    pub handler_cpu: Option<u32>,
    /// What the resolver said the page is, if it did.
    pub answer: Option<Answer>,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// How many pages were installed for it: the faulting one, those behind it that were served as well, and of a window of the file's own pages also those before it. As the kernel counts
    /// them, so pages that it did not get to do not count; but where write protection was lifted, which it does not count, all pages that this was asked for. 0 if the fault was not installed.
    pub pages: u32,
    /// How often the resolver was asked: more than once if the fault was put off.
    pub attempts: u32,
    /// From reading the fault to the beginning of its (last) attempt, in nanoseconds: other faults of the batch came first, or it was put off.
    pub queue_ns: u64,
    /// From there to the beginning of its resolution, in nanoseconds: what recording itself adds to the fault, to find `cpu`. In the first attempt alone; where there were more it is in
    /// `queue_ns`.
    pub recording_ns: u64,
    /// From there to the resolver's (last) answer, in nanoseconds.
    pub resolve_ns: u64,
    /// From the answer to the end of the ioctl, in nanoseconds: of one that installs and does not wake, where somebody records. (The thread is woken by a second: it often runs on the handler's
    /// CPU, and then before that comes back.)
    pub install_ns: u64,
}
