//! Counting and timing faults.
//!
//! The handler alone owns a [`Meter`] and takes no lock to write it. Who wants to know sends an empty one, and the handler copies into it between two batches.

use hdrhistogram::Histogram;
use host_memory::uffd::FaultKind;

use crate::fault::OutcomeKind;

/// Bounds of the histograms: 1 ns to 60 s with two digits (an error below 1 %). Longer counts as 60 s.
const LONGEST_NS: u64 = 60_000_000_000;
const DIGITS: u8 = 2;

/// How many faults ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`OutcomeKind::Copied`]
    pub copied: u64,
    /// [`OutcomeKind::Zeroed`]
    pub zeroed: u64,
    /// [`OutcomeKind::Continued`]
    pub continued: u64,
    /// [`OutcomeKind::Unprotected`]
    pub unprotected: u64,
    /// [`OutcomeKind::Exists`]
    pub exists: u64,
    /// [`OutcomeKind::Parked`]
    pub parked: u64,
    /// [`OutcomeKind::Retried`]
    pub retried: u64,
    /// [`OutcomeKind::Gone`]
    pub gone: u64,
    /// [`OutcomeKind::Poisoned`]
    pub poisoned: u64,
}

impl Counts {
    /// All faults.
    pub fn total(&self) -> u64 {
        OutcomeKind::ALL.into_iter().map(|kind| self.of(kind)).sum()
    }

    /// Those that ended as `kind`.
    pub fn of(&self, kind: OutcomeKind) -> u64 {
        // The one list of fields is in `slot`; a copy spares a second.
        *{ *self }.slot(kind)
    }

    fn slot(&mut self, kind: OutcomeKind) -> &mut u64 {
        match kind {
            OutcomeKind::Copied => &mut self.copied,
            OutcomeKind::Zeroed => &mut self.zeroed,
            OutcomeKind::Continued => &mut self.continued,
            OutcomeKind::Unprotected => &mut self.unprotected,
            OutcomeKind::Exists => &mut self.exists,
            OutcomeKind::Parked => &mut self.parked,
            OutcomeKind::Retried => &mut self.retried,
            OutcomeKind::Gone => &mut self.gone,
            OutcomeKind::Poisoned => &mut self.poisoned,
        }
    }
}

/// A distribution of times, in nanoseconds; two digits are exact. All 0 where nothing was timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many were timed.
    pub count: u64,
    /// Mean.
    pub mean_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        Latency {
            count: histogram.len(),
            mean_ns: histogram.mean() as u64,
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}

/// What is known of one kind of faults. Only faults that the handler installed itself are timed ([`OutcomeKind::installed`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// How they ended.
    pub counts: Counts,
    /// From reading the fault to the resolver's answer.
    pub resolve: Latency,
    /// From the answer to the end of the ioctl, which wakes the thread as well, but not where somebody records ([`FaultRecord::install_ns`](crate::FaultRecord::install_ns)).
    pub install: Latency,
    /// Both together.
    pub total: Latency,
}

/// A handler's statistics since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Faults of every kind.
    pub all: KindStats,
    /// [`FaultKind::Missing`]
    pub missing: KindStats,
    /// [`FaultKind::Minor`]
    pub minor: KindStats,
    /// [`FaultKind::WriteProtect`]
    pub write_protect: KindStats,
    /// How often a fault was put off to be resolved anew; not an end, so one fault may count several times.
    pub put_off: u64,
    /// Records that were sent to a recorder.
    pub recorded: u64,
    /// Records that found the recorder's channel full.
    pub records_dropped: u64,
    /// What recording has cost the handler, in nanoseconds: to find the CPU of the thread, and to make and send the record, after the fault was installed. (Not in it: a reading of the clock for
    /// each fault or two, some 30 ns.)
    pub record_cost_ns: u64,
    /// Reports of poisoned pages that found the log's queue full.
    pub reports_dropped: u64,
}

/// The histograms of one kind of faults.
struct KindMeter {
    counts: Counts,
    resolve: Histogram<u64>,
    install: Histogram<u64>,
    total: Histogram<u64>,
}

impl KindMeter {
    fn new() -> KindMeter {
        let histogram = || {
            let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)
                .expect("these bounds are within what hdrhistogram takes");
            // Writes to all of it, so that its memory is there: see `empty_ring` in serve.rs.
            histogram.clear();
            histogram
        };
        KindMeter {
            counts: Counts::default(),
            resolve: histogram(),
            install: histogram(),
            total: histogram(),
        }
    }

    fn add(&mut self, outcome: OutcomeKind, resolve_ns: u64, install_ns: u64) {
        *self.counts.slot(outcome) += 1;
        if outcome.installed() {
            self.resolve.saturating_record(resolve_ns);
            self.install.saturating_record(install_ns);
            self.total.saturating_record(resolve_ns + install_ns);
        }
    }

    /// Adds what another has. Without allocation: all histograms have the same bounds.
    fn merge(&mut self, other: &KindMeter) {
        for kind in OutcomeKind::ALL {
            *self.counts.slot(kind) += other.counts.of(kind);
        }
        for (to, from) in [
            (&mut self.resolve, &other.resolve),
            (&mut self.install, &other.install),
            (&mut self.total, &other.total),
        ] {
            to.add(from)
                .expect("histograms of equal bounds hold each other's values");
        }
    }

    /// Without allocation, as [`KindMeter::merge`].
    fn copy_from(&mut self, other: &KindMeter) {
        self.counts = other.counts;
        for (to, from) in [
            (&mut self.resolve, &other.resolve),
            (&mut self.install, &other.install),
            (&mut self.total, &other.total),
        ] {
            to.set_to(from)
                .expect("histograms of equal bounds hold each other's values");
        }
    }

    fn stats(&self) -> KindStats {
        KindStats {
            counts: self.counts,
            resolve: Latency::of(&self.resolve),
            install: Latency::of(&self.install),
            total: Latency::of(&self.total),
        }
    }
}

/// What the handler writes into. Of fixed size: about 260 KiB.
pub(crate) struct Meter {
    kinds: [KindMeter; 3],
    pub(crate) put_off: u64,
    pub(crate) recorded: u64,
    pub(crate) records_dropped: u64,
    pub(crate) record_cost_ns: u64,
    pub(crate) reports_dropped: u64,
}

impl Meter {
    pub(crate) fn new() -> Box<Meter> {
        Box::new(Meter {
            kinds: [KindMeter::new(), KindMeter::new(), KindMeter::new()],
            put_off: 0,
            recorded: 0,
            records_dropped: 0,
            record_cost_ns: 0,
            reports_dropped: 0,
        })
    }

    /// Counts a fault that has ended.
    pub(crate) fn add(
        &mut self,
        kind: FaultKind,
        outcome: OutcomeKind,
        resolve_ns: u64,
        install_ns: u64,
    ) {
        self.kinds[index(kind)].add(outcome, resolve_ns, install_ns);
    }

    /// Makes this one equal to `other`, without allocation.
    pub(crate) fn copy_from(&mut self, other: &Meter) {
        for (to, from) in self.kinds.iter_mut().zip(&other.kinds) {
            to.copy_from(from);
        }
        self.put_off = other.put_off;
        self.recorded = other.recorded;
        self.records_dropped = other.records_dropped;
        self.record_cost_ns = other.record_cost_ns;
        self.reports_dropped = other.reports_dropped;
    }

    /// All faults are added up here and not one by one, since that time is the faulting thread's.
    pub(crate) fn stats(mut self: Box<Meter>) -> Stats {
        let [missing, minor, write_protect] = self.kinds.each_ref().map(KindMeter::stats);
        let [all, others @ ..] = &mut self.kinds;
        for other in others {
            all.merge(other);
        }
        Stats {
            all: all.stats(),
            missing,
            minor,
            write_protect,
            put_off: self.put_off,
            recorded: self.recorded,
            records_dropped: self.records_dropped,
            record_cost_ns: self.record_cost_ns,
            reports_dropped: self.reports_dropped,
        }
    }
}

fn index(kind: FaultKind) -> usize {
    match kind {
        FaultKind::Missing => 0,
        FaultKind::Minor => 1,
        FaultKind::WriteProtect => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_counted_once_and_the_installed_are_timed() {
        let mut meter = Meter::new();
        for kind in OutcomeKind::ALL {
            meter.add(FaultKind::Minor, kind, 3_000, 5_000);
        }
        let mut copy = Meter::new();
        copy.copy_from(&meter);
        let stats = copy.stats();
        assert_eq!(stats.minor, stats.all);
        assert_eq!(stats.missing, KindStats::default());
        assert_eq!(stats.all.counts.total(), OutcomeKind::ALL.len() as u64);
        for kind in OutcomeKind::ALL {
            assert_eq!(stats.all.counts.of(kind), 1);
        }
        let installed = OutcomeKind::ALL
            .into_iter()
            .filter(|kind| kind.installed())
            .count() as u64;
        assert_eq!(stats.all.total.count, installed);
        assert!(
            (7_900..=8_100).contains(&stats.all.total.p50_ns),
            "{stats:?}"
        );
    }

    #[test]
    fn a_time_beyond_the_bounds_is_kept_as_the_longest() {
        let mut meter = Meter::new();
        let hour = 3_600_000_000_000;
        meter.add(FaultKind::Missing, OutcomeKind::Copied, hour, 0);
        let total = meter.stats().missing.total;
        assert_eq!(total.count, 1);
        assert!(total.max_ns >= LONGEST_NS);
    }
}
