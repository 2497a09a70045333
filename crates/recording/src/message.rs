//! What processes write.

use fault_handler::FaultRecord;
use serde::{Deserialize, Serialize};

/// One message of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first of a process.
    Start(Start),
    /// Faults that have ended since the last message of this kind, in the order in which they ended.
    Faults(Vec<FaultRecord>),
    /// What is mapped from here on, as far as no message of this kind before has it: the first one has all, further ones what is new. One of no bytes only says
    /// that its VMO has another name.
    Mappings(Vec<Mapping>),
    /// Names of threads that were not named before.
    Threads(Vec<(i32, String)>),
    /// What threads measured themselves that know when they touch a page.
    Probes(Vec<Probe>),
    /// The last of a process.
    End(End),
}

/// Who records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The version of cowspace.
    pub cowspace: String,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's architecture.
    pub machine: String,
    /// CPUs that the process may run on.
    pub cpus: u32,
    /// Bytes of a page.
    pub page_size: u64,
    /// The process.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its command line.
    pub command: Vec<String>,
    /// When that was: nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The same moment in nanoseconds since 1970.
    pub unix_ns: u64,
    /// Whether faults can be traced at all in this process. If not, only probes are to be expected.
    pub traced: bool,
}

/// A mapping of a VMO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Address of its first byte.
    pub start: usize,
    /// Its length in bytes.
    pub len: usize,
    /// The VMO's name; may be empty. A reader gives all mappings of a VMO the last one.
    pub name: String,
    /// The VMO's koid.
    pub koid: u64,
    /// Where in the VMO the mapping begins, in bytes.
    pub vmo_offset: u64,
    /// Who resolves its faults.
    pub policy: Policy,
}

/// Who resolves a mapping's faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Policy {
    /// The fault handler: they are recorded.
    Traced,
    /// The kernel: only probes see them.
    Native,
}

/// A touch of a page that its thread timed itself. The handler's record of the fault, if there is one, lies between the two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The thread.
    pub tid: i32,
    /// Address of the page's first byte.
    pub page: usize,
    /// Whether it wrote.
    pub write: bool,
    /// Before the access: nanoseconds of `CLOCK_MONOTONIC`.
    pub before_ns: u64,
    /// After it.
    pub after_ns: u64,
    /// How many faults the kernel counted for the thread meanwhile (`ru_minflt` of getrusage(2)): those that a handler resolved, and those of the kernel's own.
    pub faults: u32,
}

/// How a process's recording ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When that was: nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Faults that were recorded.
    pub recorded: u64,
    /// Faults whose records were lost, since nobody took them in time.
    pub lost: u64,
    /// What recording has cost the handler in all, in nanoseconds.
    pub cost_ns: u64,
}
