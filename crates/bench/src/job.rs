//! What a worker process is told to be.

use cowspace::Policy;
use serde::{Deserialize, Serialize};

use crate::{chain, fault, memory, parent, snapshot, spawn, threads};

/// Who competes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Contender {
    /// cowspace, the kernel resolving faults alone.
    Native,
    /// cowspace, its fault handler resolving them.
    Traced,
    /// `fork()` of private anonymous memory.
    Fork,
    /// `fork()` of a private mapping of a memory file.
    ForkFile,
    /// A child that was forked ahead, and maps a memory file.
    BareBlank,
    /// Copying all bytes.
    Memcpy,
    /// A new process that makes the memory for itself.
    PosixSpawn,
    /// A loop over userfaultfd and nothing else.
    BareUffd,
    /// The same, but it reads the page from the file, which it has mapped nowhere.
    BareUffdRead,
    /// Several of the first, one for each CPU.
    BareUffdPerCpu,
}

impl Contender {
    /// The rival's name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Native | Contender::Traced => "cowspace",
            Contender::Fork => "fork",
            Contender::ForkFile => "fork_file",
            Contender::BareBlank => "bare_blank",
            Contender::Memcpy => "memcpy",
            Contender::PosixSpawn => "posix_spawn",
            Contender::BareUffd => "bare_uffd",
            Contender::BareUffdRead => "bare_uffd_read",
            Contender::BareUffdPerCpu => "bare_uffd_per_cpu",
        }
    }

    /// The policy of cowspace's mappings.
    pub(crate) fn policy(self) -> Option<Policy> {
        match self {
            Contender::Native => Some(Policy::Native),
            Contender::Traced => Some(Policy::Traced),
            _ => None,
        }
    }
}

/// Where faulting threads and the handler run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Placement {
    /// Wherever the scheduler, and cowspace's own rule, put them.
    Anywhere,
    /// All on one CPU, the one of this place in the list of those there are (which begins anew behind its end).
    SameCpu(usize),
    /// The handler on one CPU, all others on another.
    OtherCpu,
}

/// What is done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Touch and give back so many bytes.
    Warm(usize),
    Fault(fault::Task),
    Threads(threads::Task),
    Snapshot(snapshot::Task),
    Spawn(spawn::Task),
    Memory(memory::Task),
    Parent(parent::Task),
    Chain(chain::Task),
}

/// One contender at one task.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) contender: Contender,
    pub(crate) placement: Placement,
    pub(crate) task: Task,
}

impl Job {
    /// A contender that nobody places.
    pub(crate) fn new(contender: Contender, task: Task) -> Job {
        Job {
            contender,
            placement: Placement::Anywhere,
            task,
        }
    }

    /// The same, placed.
    pub(crate) fn at(self, placement: Placement) -> Job {
        Job { placement, ..self }
    }
}
