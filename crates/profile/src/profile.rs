//! The model: all that is shown of a recording.

use fault_recording::{Answer, End, OutcomeKind, Policy};
use serde::Serialize;

use crate::fault::Kind;
use crate::json;
use crate::latency::{Latencies, Summary};

/// What a recording says.
///
/// All times are nanoseconds, moments are counted from [`start_ns`](Profile::start_ns) on. Tables that could be long ([`regions`](Profile::regions), [`threads`](Profile::threads), [`answers`](Profile::answers), [`cpus`](Profile::cpus))
/// are whole: whoever shows them takes as many rows as there is room for. The sum of any of their `faults` is the number of all faults.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Where it was recorded: one, unless recordings of several machines were put together.
    pub machines: Vec<Machine>,
    /// Who has recorded, in the order in which they began.
    pub processes: Vec<Process>,
    /// Why not all of the file could be read, if so.
    pub cut: Option<String>,
    /// The moment 0 of the profile in nanoseconds of `CLOCK_MONOTONIC`: the first process's start, or the first fault.
    pub start_ns: u64,
    /// The same in nanoseconds since 1970, where it is known.
    pub start_unix_ns: Option<u64>,
    /// When the last process ended, or the last fault.
    pub end_ns: u64,
    /// When the first fault began.
    pub first_fault_ns: u64,
    /// When the last fault began.
    pub last_fault_ns: u64,
    /// Which time the percentiles of groups (regions, threads, time bins ...) and bands are of: the total where it is known of most faults.
    pub measure: Measure,
    /// All faults together.
    pub all: Distribution,
    /// The faults of each kind, in the order of [`Kind::ALL`]; a kind without faults has its row, too.
    #[serde(serialize_with = "json::by_kind")]
    pub kinds: [Distribution; 4],
    /// What recording itself added to each fault, to find its CPU: in no other time here, except that it lets faults behind it wait in the queue.
    pub recording: Summary,
    /// Pages that the handler installed.
    pub pages_installed: u64,
    /// Different pages that faulted.
    pub pages_touched: u64,
    /// Faults that followed on from their thread's fault before: ahead of it, no farther than pages were installed then.
    pub sequential: u64,
    /// What the pages were, and how deep in the tree: sorted by answer and depth. Faults of the kernel's are not in it; those that came to no answer are.
    pub answers: Vec<AnswerRow>,
    /// Where they were: by faults, most first.
    pub regions: Vec<Region>,
    /// Whose they were: by faults, most first.
    pub threads: Vec<Thread>,
    /// On which CPUs threads faulted, by number; unknown ones are the last row.
    pub cpus: Vec<Cpu>,
    /// Whether the handler ran on the faulting thread's CPU. In the order same, other, unknown.
    #[serde(serialize_with = "json::by_place")]
    pub placements: [Placement; 3],
    /// Touches of pages that were timed by probes; none if there were no probes.
    pub touches: Option<Touches>,
    /// Faults over time, from the first to the last in parts of equal length. Empty without faults.
    pub bins: Vec<TimeBin>,
    /// Faults over time and addresses.
    pub heat: HeatMap,
}

/// A machine, as far as times depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The architecture.
    pub machine: String,
    /// CPUs that the processes might run on.
    pub cpus: u32,
    /// Bytes of a page.
    pub page_size: u64,
    /// The version of cowspace.
    pub cowspace: String,
}

/// Who has recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its command line.
    pub command: Vec<String>,
    /// Whether faults could be traced there.
    pub traced: bool,
    /// When it began to record.
    pub start_ns: u64,
    /// How it ended; none if it did not say so: the last milliseconds are not there.
    #[serde(serialize_with = "json::end")]
    pub end: Option<End>,
    /// Its faults.
    pub faults: u64,
    /// Probes for which no record was found though faults there are traced, in a process that lost records: they are no faults here.
    pub unmatched_probes: u64,
}

/// Which of two times of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// What the handler took from reading it on.
    Handled,
    /// From the faulting instruction until the thread ran again.
    Total,
}

/// Some faults, and their times.
///
/// Times are of faults that were answered with a page (also one that was there already). Those that were parked, retried, gone or poisoned are counted only.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Distribution {
    /// How many there were.
    pub faults: u64,
    /// How many of them were writes.
    pub writes: u64,
    /// How many of them were resolved more than once.
    pub put_off: u64,
    /// How they ended, in the order of [`OutcomeKind::ALL`], those that occur. The kernel's own faults have none.
    #[serde(serialize_with = "json::outcomes")]
    pub outcomes: Vec<(OutcomeKind, u64)>,
    /// What the handler took for them, from reading them on.
    pub handled: Latencies,
    /// From the faulting instruction until the thread ran again, where it is known.
    pub total: Latencies,
    /// Each phase, in the order of [`Phase::ALL`](crate::Phase::ALL), of those faults whose time by [`Profile::measure`] is known: for each of them the phases add up to it (the kernel's own faults have none).
    #[serde(serialize_with = "json::by_phase")]
    pub phases: [Latencies; 5],
    /// Where the time goes in the fast and in the slow ones: by [`Profile::measure`]. Empty bands are left out.
    pub bands: Vec<Band>,
}

impl Distribution {
    /// The times by this measure.
    #[must_use]
    pub fn latencies(&self, measure: Measure) -> &Latencies {
        match measure {
            Measure::Handled => &self.handled,
            Measure::Total => &self.total,
        }
    }

    /// The share of each phase in the time of all of them together, in the order of [`Phase::ALL`](crate::Phase::ALL); 0 where nothing is known.
    #[must_use]
    pub fn shares(&self) -> [f64; 5] {
        let sum: f64 = self.phases.iter().map(|phase| phase.sum() as f64).sum();
        let share = |phase: &Latencies| match phase.sum() {
            0 => 0.0,
            ns => ns as f64 / sum,
        };
        self.phases.each_ref().map(share)
    }
}

/// Faults between two percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Band {
    /// The share of faults that are faster than those of the band: 0.9 for the band from p90 on.
    pub from: f64,
    /// And where the band ends.
    pub to: f64,
    /// How many faults are in it.
    pub faults: u64,
    /// The mean of each phase, in the order of [`Phase::ALL`](crate::Phase::ALL); of those that are not known, 0.
    #[serde(serialize_with = "json::by_phase")]
    pub phases: [f64; 5],
}

/// Faults whose page was answered in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AnswerRow {
    /// What the resolver said, if it did.
    #[serde(serialize_with = "json::answer")]
    pub answer: Option<Answer>,
    /// How many there were.
    pub faults: u64,
    /// Their resolve phase.
    pub resolve: Summary,
    /// Their times by [`Profile::measure`].
    pub latency: Summary,
}

/// Names of answers, as they are shown and written everywhere.
pub trait How {
    /// `zero`, `own`, `layer`, or `none`.
    fn name(&self) -> &'static str;
    /// How many hidden nodes above the memory a layer's page was found.
    fn depth(&self) -> Option<u32>;
}

impl How for Option<Answer> {
    fn name(&self) -> &'static str {
        match self {
            None => "none",
            Some(Answer::Zero) => "zero",
            Some(Answer::Own) => "own",
            Some(Answer::Layer { .. }) => "layer",
        }
    }

    fn depth(&self) -> Option<u32> {
        match self {
            Some(Answer::Layer { depth }) => Some(*depth),
            _ => None,
        }
    }
}

/// One VMO in one process, wherever it was mapped there; or all that was not mapped any more when the table of mappings was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// The process: an index in [`Profile::processes`].
    pub process: usize,
    /// The VMO's name; may be empty.
    pub name: String,
    /// The VMO's koid. None: what was mapped there is not known.
    pub koid: Option<u64>,
    /// Who resolves faults there, as was said last.
    #[serde(serialize_with = "json::policy")]
    pub policy: Option<Policy>,
    /// The addresses, in ascending order: start and length in bytes. Of an unknown region, the pages that faulted.
    #[serde(serialize_with = "json::ranges")]
    pub ranges: Vec<(usize, usize)>,
    /// Their length together.
    pub bytes: u64,
    /// Faults there.
    pub faults: u64,
    /// The same by kind, in the order of [`Kind::ALL`].
    #[serde(serialize_with = "json::by_kind")]
    pub kinds: [u64; 4],
    /// How many followed on from their thread's fault before.
    pub sequential: u64,
    /// Different pages that faulted.
    pub pages_touched: u64,
    /// Times by [`Profile::measure`].
    pub latency: Summary,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// The process: an index in [`Profile::processes`].
    pub process: usize,
    /// Its number. None: the kernel did not say whose faults these are.
    pub tid: Option<i32>,
    /// Its name; may be empty.
    pub name: String,
    /// Its faults.
    pub faults: u64,
    /// The same by kind, in the order of [`Kind::ALL`].
    #[serde(serialize_with = "json::by_kind")]
    pub kinds: [u64; 4],
    /// Times by [`Profile::measure`].
    pub latency: Summary,
}

/// A CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Its number, where that is known.
    pub cpu: Option<u32>,
    /// Faults of threads on it.
    pub faults: u64,
    /// Faults that a handler resolved on it.
    pub handled_here: u64,
    /// Times by [`Profile::measure`] of faults of threads on it.
    pub latency: Summary,
}

/// Faults by where the handler ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// How many there were.
    pub faults: u64,
    /// Times by [`Profile::measure`].
    pub latency: Summary,
}

/// Touches of pages, timed by the threads that made them: from before the access until after it, with what recording added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Touches {
    /// How many there were.
    pub count: u64,
    /// How long those took that did not fault: what measuring itself takes is in it, and in all other totals.
    pub without_fault: Summary,
    /// How long those took that faulted, however often.
    pub faulted: Summary,
    /// How long those took for which the handler has several records: say, first the page was mapped, and then its protection lifted. Of the time between these the probe says nothing,
    /// so none of them has a total.
    pub several_faults: Summary,
}

/// A part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimeBin {
    /// When it begins.
    pub from_ns: u64,
    /// How long it is; 1 at least.
    pub len_ns: u64,
    /// Faults that began then, by kind, in the order of [`Kind::ALL`].
    #[serde(serialize_with = "json::by_kind")]
    pub kinds: [u64; 4],
    /// Times by [`Profile::measure`].
    pub latency: Summary,
}

impl TimeBin {
    /// Its faults.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.kinds.iter().sum()
    }

    /// Faults of this kind a second.
    #[must_use]
    pub fn rate(&self, kind: Kind) -> f64 {
        self.kinds[kind as usize] as f64 * 1e9 / self.len_ns as f64
    }
}

/// Faults over time (columns, which are those of [`Profile::bins`]) and addresses (rows).
///
/// The addresses of regions that have faults follow each other without gaps. Each region has rows of its own, at least one, more if it is larger; if there are too many regions the last row is of all the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeatMap {
    /// By process, region and address.
    pub rows: Vec<HeatRow>,
    /// How many columns there are.
    pub columns: usize,
    /// Faults, row by row.
    pub cells: Vec<u64>,
}

/// A row of the heat map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeatRow {
    /// The region: an index in [`Profile::regions`]. None: all that have no row of their own.
    pub region: Option<usize>,
    /// Where in the region's addresses (without gaps) it begins, in bytes.
    pub offset: u64,
    /// How many bytes it stands for.
    pub bytes: u64,
}

impl HeatMap {
    /// The faults of a row over time.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u64] {
        &self.cells[row * self.columns..][..self.columns]
    }
}
