//! One fault: of which kind, and where its time went.

use fault_recording::{FaultKind, FaultRecord, OutcomeKind, Probe};
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

/// A page fault: what a handler recorded of it, what a probe saw, or both.
///
/// ```text
///   probe   before_ns                                                             after_ns
///             ├───────────┬───────┬─────────────┬─────────┬─────────┬────────────────┤
///               kernel      queue   (recording)   resolve   install   wake
///   record              read_ns
/// ```
///
/// What recording itself adds to a fault is no phase, and in no time that is told: it would not be there otherwise.
///
/// A touch of a page may fault several times: the page is mapped first and its protection lifted then, say. Its probe gives the first of these faults a beginning, and the last one an end.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    /// The process: an index in the recording's.
    pub process: usize,
    /// The region: an index in [`Faults::regions`](crate::Faults::regions).
    pub region: usize,
    /// Whether it follows on from the fault of its thread before: ahead of it, no farther than pages were installed then.
    pub sequential: bool,
    /// What the handler recorded. None: the kernel resolved it by itself.
    pub record: Option<&'a FaultRecord>,
    /// The touch of the page, if it was timed and the fault is its first, its last or its only one.
    pub probe: Option<&'a Probe>,
    /// Which of its touch's faults it is.
    pub role: Role,
}

/// Which of its touch's faults one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The only one, as far as is known.
    #[default]
    Only,
    /// The first of several.
    First,
    /// Neither the first nor the last one.
    Middle,
    /// The last of several.
    Last,
}

impl Fault<'_> {
    /// What it was.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.record
            .map_or(Kind::Kernel, |record| record.kind.into())
    }

    /// Address of the page's first byte.
    #[must_use]
    pub fn page(&self) -> usize {
        let page = self.record.map(|record| record.page);
        page.or(self.probe.map(|probe| probe.page)).unwrap_or(0)
    }

    /// Whether the access was a write.
    #[must_use]
    pub fn write(&self) -> bool {
        let write = self.record.map(|record| record.write);
        write
            .or(self.probe.map(|probe| probe.write))
            .unwrap_or(false)
    }

    /// The thread, where it is known.
    #[must_use]
    pub fn tid(&self) -> Option<i32> {
        let tid = self.record.and_then(|record| record.tid);
        tid.or(self.probe.map(|probe| probe.tid))
    }

    /// When it began, as far as is known: nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn begin_ns(&self) -> u64 {
        self.before_ns()
            .or(self.record.map(|record| record.read_ns))
            .unwrap_or(0)
    }

    /// When it ended, as far as is known: nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        self.after_ns()
            .or(self.record.map(handled_until))
            .unwrap_or(0)
    }

    /// When the faulting instruction ran.
    fn before_ns(&self) -> Option<u64> {
        let probe = self.probe?;
        matches!(self.role, Role::Only | Role::First).then_some(probe.before_ns)
    }

    /// When the thread ran again.
    fn after_ns(&self) -> Option<u64> {
        let probe = self.probe?;
        matches!(self.role, Role::Only | Role::Last).then_some(probe.after_ns)
    }

    /// Whether it was answered with a page, which may have been there already. Only such a fault's time says anything.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.record.is_none_or(|record| {
            record.outcome.installed() || record.outcome == OutcomeKind::Exists
        })
    }

    /// Nanoseconds that the handler took from reading it to its end, if it was answered.
    #[must_use]
    pub fn handled(&self) -> Option<u64> {
        self.record.filter(|_| self.answered())?;
        Some(sum(self.handler_phases()))
    }

    /// Nanoseconds from the faulting instruction until the thread ran again, if it was answered and the only fault of a touch that was timed.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        let (before, after) = (self.before_ns()?, self.after_ns()?);
        if !self.answered() {
            return None;
        }
        match self.record {
            Some(_) => Some(sum(self.phases())),
            None => Some(after.saturating_sub(before)),
        }
    }

    /// Nanoseconds of each phase that is known, as the thread waited for them: together with [`recording`](Fault::recording) they are [`end_ns`](Fault::end_ns) − [`begin_ns`](Fault::begin_ns).
    /// (The ioctl wakes the thread before it returns to the handler: if the thread runs so early, what is left of the installation is no part of its wait.) The kernel's own faults have none.
    #[must_use]
    pub fn phases(&self) -> Phases {
        self.parts().1
    }

    /// Nanoseconds that the thread waited for what recording added, between the phases queue and resolve.
    #[must_use]
    pub fn recording(&self) -> u64 {
        self.parts().0
    }

    /// Nanoseconds of each phase that the handler knows, whenever the thread ran: together they are [`handled`](Fault::handled).
    #[must_use]
    pub fn handler_phases(&self) -> Phases {
        let alone = Fault {
            probe: None,
            ..*self
        };
        alone.phases()
    }

    /// What recording added, and the phases.
    fn parts(&self) -> (u64, Phases) {
        let Some(record) = self.record else {
            return (0, [None; 5]);
        };
        let end = self.after_ns().unwrap_or(u64::MAX);
        let mut now = record.read_ns;
        let mut until_end = |ns: u64| {
            let before = now;
            now = now.saturating_add(ns).min(end).max(before);
            now - before
        };
        let queue = until_end(record.queue_ns);
        let recording = until_end(record.recording_ns);
        let phases = [
            self.before_ns()
                .map(|before| record.read_ns.saturating_sub(before)),
            Some(queue),
            Some(until_end(record.resolve_ns)),
            Some(until_end(record.install_ns)),
            self.after_ns().map(|after| after.saturating_sub(now)),
        ];
        (recording, phases)
    }
}

/// All that is known of them. They lie between two moments, so this cannot be too much.
fn sum(phases: Phases) -> u64 {
    phases.into_iter().flatten().sum()
}

/// When the handler was done with it.
fn handled_until(record: &FaultRecord) -> u64 {
    let parts = [
        record.queue_ns,
        record.recording_ns,
        record.resolve_ns,
        record.install_ns,
    ];
    parts
        .into_iter()
        .fold(record.read_ns, |now, ns| now.saturating_add(ns))
}
