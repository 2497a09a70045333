//! One fault: of which kind, and where its time went.

use fault_recording::FaultKind;
use serde::Serialize;

/// What a fault was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Neither the page table nor the file had the page.
    Missing,
    /// The file had the page, the page table not.
    Minor,
    /// A write to a write-protected page.
    WriteProtect,
    /// The kernel resolved it by itself: only a probe has seen it.
    Kernel,
}

impl Kind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [Kind; 4] = [Kind::Missing, Kind::Minor, Kind::WriteProtect, Kind::Kernel];

    /// Its name, as it is shown and written everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Minor => "minor",
            Kind::WriteProtect => "write-protect",
            Kind::Kernel => "kernel",
        }
    }
}

impl From<FaultKind> for Kind {
    fn from(kind: FaultKind) -> Kind {
        match kind {
            FaultKind::Missing => Kind::Missing,
            FaultKind::Minor => Kind::Minor,
            FaultKind::WriteProtect => Kind::WriteProtect,
        }
    }
}

/// A part of a fault's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// From the faulting instruction until a handler had read the fault. Known from a probe only.
    Kernel,
    /// Until its resolution began: other faults came first, or it was put off.
    Queue,
    /// Until it was known what the page is.
    Resolve,
    /// Until the page was installed.
    Install,
    /// Until the thread ran again. Known from a probe only.
    Wake,
}

impl Phase {
    /// All of them, in the order in which they follow each other.
    pub const ALL: [Phase; 5] = [
        Phase::Kernel,
        Phase::Queue,
        Phase::Resolve,
        Phase::Install,
        Phase::Wake,
    ];

    /// Its name, as it is shown and written everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Kernel => "kernel",
            Phase::Queue => "queue",
            Phase::Resolve => "resolve",
            Phase::Install => "install",
            Phase::Wake => "wake",
        }
    }
}

/// Nanoseconds of each phase, in the order of [`Phase::ALL`], where they are known.
pub type Phases = [Option<u64>; 5];
