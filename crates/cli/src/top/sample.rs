//! What a process has told of itself at one moment, as this view needs it.

use std::time::Duration;

use cowspace::inspect::Memory;
use fault_handler::Distribution;

/// Kinds of faults, in the order in which they are shown: a name, and what it means.
pub(crate) const KINDS: [(&str, &str); 3] = [
    ("missing", "no page yet"),
    ("minor", "in the file, not mapped"),
    ("write-protect", "first write"),
];

/// How faults end, in the order in which they are shown.
pub(crate) const OUTCOMES: [&str; 9] = [
    "copied",
    "zeroed",
    "continued",
    "unprotected",
    "exists",
    "parked",
    "retried",
    "gone",
    "poisoned",
];

/// Who is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The process.
    pub(crate) pid: u32,
    /// Its command line.
    pub(crate) command: String,
}

/// What it has told. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// When, since any fixed moment.
    pub(crate) at: Duration,
    /// How long the process has been running, if that could be found out.
    pub(crate) uptime: Option<Duration>,
    /// Bytes of a page.
    pub(crate) page_size: u64,
    /// Whether the fault handler runs. If not, no fault is counted.
    pub(crate) traced: bool,
    /// Faults, by [`KINDS`].
    pub(crate) faults: [u64; 3],
    /// Faults, by [`OUTCOMES`].
    pub(crate) outcomes: [u64; 9],
    /// How long they took in the handler, by [`KINDS`].
    pub(crate) handled: [Distribution; 3],
    /// The phases of that, for all kinds.
    pub(crate) phases: Vec<(&'static str, Distribution)>,
    /// What it has in memory.
    pub(crate) memory: Memory,
    /// The mappings with the most in memory, those first.
    pub(crate) mappings: Vec<Mapping>,
    /// How long ago they were looked at.
    pub(crate) mappings_age: Duration,
}

impl Sample {
    /// Faults of all kinds.
    pub(crate) fn all_faults(&self) -> u64 {
        self.faults
            .iter()
            .fold(0, |sum, faults| sum.saturating_add(*faults))
    }
}

/// A mapping of a VMO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Address of its first byte.
    pub(crate) start: u64,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// The VMO's name; may be empty.
    pub(crate) name: String,
    /// Bytes in pages of its own.
    pub(crate) private: u64,
    /// Bytes in pages of files.
    pub(crate) shared: u64,
    /// Whether its faults go through the handler.
    pub(crate) traced: bool,
}
