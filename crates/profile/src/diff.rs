//! Two profiles, compared.
//!
//! A percentile of a few thousand times is itself not certain. Which rank it has among them is known up to a few standard deviations of a binomial distribution, so the times at the ends of that range of
//! ranks bound it, whatever the distribution of times is. It has changed if the two ranges have nothing in common and the percentiles differ by more than 5 %. This says that the two
//! *recordings* differ; faults of one run are no independent samples, and two runs of one program may well differ by as much: only more runs tell.

mod text;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::fault::{Kind, Phase};
use crate::latency::Latencies;
use crate::profile::{Machine, Measure, Profile};

/// Standard deviations of a percentile's rank that are taken for possible.
const DEVIATIONS: f64 = 3.0;

/// Ratios within 1 ± this are the same.
const NOISE: f64 = 0.05;

/// What has changed from profile A to profile B. Pairs are in that order.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// What ran.
    pub commands: [String; 2],
    /// Why the two cannot be compared like for like: a sentence each.
    pub notes: Vec<String>,
    /// Which time is compared: the total if both have it.
    pub measure: Measure,
    /// Faults, and faults a second between the first and the last one.
    pub all: Counts,
    /// By kind, of kinds that occur in one of them; the last row is of all together, and named `all`.
    pub kinds: Vec<KindDiff>,
    /// Phases that are known in both.
    pub phases: Vec<PhaseDiff>,
    /// Regions by name, of all processes together: by faults, most first.
    pub regions: Vec<RegionDiff>,
}

/// How many faults there were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Counts {
    /// Faults.
    pub faults: [u64; 2],
    /// Faults a second; none where there is no time between the first and the last.
    pub rates: [Option<f64>; 2],
}

/// The faults of a kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindDiff {
    /// Its name.
    pub kind: &'static str,
    /// How many there were.
    pub faults: [u64; 2],
    /// The median.
    pub p50: Change,
    /// What one of ten exceeds.
    pub p90: Change,
    /// What one of a hundred exceeds.
    pub p99: Change,
}

/// A phase of all faults.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseDiff {
    /// Its name.
    pub phase: &'static str,
    /// Its share of the time that those phases take which both know.
    pub shares: [f64; 2],
    /// The median.
    pub p50: Change,
    /// What one of a hundred exceeds.
    pub p99: Change,
}

/// Regions of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionDiff {
    /// The name; none of what was not mapped any more.
    pub name: Option<String>,
    /// Faults there.
    pub faults: [u64; 2],
    /// Different pages that faulted.
    pub pages_touched: [u64; 2],
}

/// A time that may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Nanoseconds; none where there is nothing to measure.
    pub ns: [Option<u64>; 2],
    /// B's divided by A's.
    pub ratio: Option<f64>,
    /// Whether that says anything.
    pub verdict: Verdict,
}

/// Whether a time has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is shorter in B.
    Faster,
    /// It is longer in B.
    Slower,
    /// By no more than noise.
    Same,
    /// There are too few faults to say.
    Unknown,
}

impl Diff {
    /// Compares profile A with profile B.
    #[must_use]
    pub fn new(a: &Profile, b: &Profile) -> Diff {
        let sides = [a, b];
        let measure = match a.measure == b.measure {
            true => a.measure,
            false => Measure::Handled,
        };
        let mut kinds: Vec<KindDiff> = Vec::new();
        for kind in Kind::ALL {
            let of = sides.map(|side| &side.kinds[kind as usize]);
            if of.iter().any(|of| of.faults > 0) {
                let times = of.map(|of| of.latencies(measure));
                kinds.push(KindDiff::new(kind.name(), of.map(|of| of.faults), times));
            }
        }
        let times = sides.map(|side| side.all.latencies(measure));
        kinds.push(KindDiff::new(
            "all",
            sides.map(|side| side.all.faults),
            times,
        ));
        Diff {
            commands: sides.map(crate::name::command),
            notes: notes(sides),
            measure,
            all: Counts {
                faults: sides.map(|side| side.all.faults),
                rates: sides.map(rate),
            },
            kinds,
            phases: phases(sides),
            regions: regions(sides),
        }
    }

    /// Writes it as one JSON document on one line, under its fields' names. Times are nanoseconds.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write_json(&self, to: impl Write) -> io::Result<()> {
        let mut to = BufWriter::new(to);
        serde_json::to_writer(&mut to, self)?;
        writeln!(to)?;
        to.flush()
    }

    /// Writes it as text for a terminal of 80 columns.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write_text(&self, to: impl Write) -> io::Result<()> {
        let mut to = BufWriter::new(to);
        text::write(self, &mut to)?;
        to.flush()
    }
}

impl KindDiff {
    fn new(kind: &'static str, faults: [u64; 2], times: [&Latencies; 2]) -> KindDiff {
        KindDiff {
            kind,
            faults,
            p50: Change::new(times, 0.5),
            p90: Change::new(times, 0.9),
            p99: Change::new(times, 0.99),
        }
    }
}

impl Change {
    /// Of a percentile of these times.
    fn new(times: [&Latencies; 2], share: f64) -> Change {
        let ns = times.map(|times| (!times.is_empty()).then(|| times.quantile(share)));
        let ratio = match ns {
            [Some(a), Some(b)] if a > 0 => Some(b as f64 / a as f64),
            _ => None,
        };
        let verdict = match (times.map(|times| possible(times, share)), ratio) {
            ([Some(a), Some(b)], Some(ratio)) => {
                if ratio > 1.0 + NOISE && b.0 > a.1 {
                    Verdict::Slower
                } else if ratio < 1.0 - NOISE && b.1 < a.0 {
                    Verdict::Faster
                } else {
                    Verdict::Same
                }
            }
            _ => Verdict::Unknown,
        };
        Change { ns, ratio, verdict }
    }
}

/// Between which times a percentile certainly lies, if there are enough times to say.
fn possible(times: &Latencies, share: f64) -> Option<(u64, u64)> {
    let count = times.count() as f64;
    let rank = count * share;
    let more_or_less = DEVIATIONS * (rank * (1.0 - share)).sqrt();
    let (low, high) = (rank - more_or_less, rank + more_or_less);
    (low >= 1.0 && high <= count)
        .then(|| (times.quantile(low / count), times.quantile(high / count)))
}

fn rate(profile: &Profile) -> Option<f64> {
    let span = profile.last_fault_ns.saturating_sub(profile.first_fault_ns);
    (span > 0).then(|| profile.all.faults as f64 * 1e9 / span as f64)
}

fn notes(sides: [&Profile; 2]) -> Vec<String> {
    let [a, b] = sides;
    let mut notes = Vec::new();
    if a.measure != b.measure {
        notes.push(
            "Only one of them knows what threads waited: what the handlers took is compared."
                .to_owned(),
        );
    }
    type Of = fn(&Machine) -> String;
    let differ = |of: Of| {
        let [a, b] = sides.map(|side| side.machines.first().map(of));
        a.zip(b).filter(|(a, b)| a != b)
    };
    let things: [(&str, Of); 5] = [
        ("the page size", |machine| {
            crate::label::bytes(machine.page_size)
        }),
        ("the architecture", |machine| machine.machine.clone()),
        ("the number of CPUs", |machine| machine.cpus.to_string()),
        ("the kernel", |machine| machine.kernel.clone()),
        ("cowspace", |machine| machine.cowspace.clone()),
    ];
    for (what, of) in things {
        if let Some((a, b)) = differ(of) {
            let [a, b] = [a, b].map(|text| crate::name::cut(&text, 40));
            notes.push(format!("Not the same: {what} ({a}, {b})."));
        }
    }
    for (name, side) in ["A", "B"].into_iter().zip(sides) {
        for doubt in crate::words::doubts(side) {
            notes.push(format!("{name}: {doubt}"));
        }
    }
    notes
}

fn phases(sides: [&Profile; 2]) -> Vec<PhaseDiff> {
    let times = |phase: Phase| sides.map(|side| &side.all.phases[phase as usize]);
    let known = |phase: &Phase| times(*phase).iter().all(|times| !times.is_empty());
    let phases: Vec<Phase> = Phase::ALL.into_iter().filter(known).collect();
    // One of them may know more phases: shares of all of these are not comparable.
    let shares = sides.map(|side| {
        let shares = side.all.shares();
        let all: f64 = phases.iter().map(|phase| shares[*phase as usize]).sum();
        shares.map(|share| if all > 0.0 { share / all } else { 0.0 })
    });
    let diffs = phases.into_iter().map(|phase| PhaseDiff {
        phase: phase.name(),
        shares: shares.map(|shares| shares[phase as usize]),
        p50: Change::new(times(phase), 0.5),
        p99: Change::new(times(phase), 0.99),
    });
    diffs.collect()
}

fn regions(sides: [&Profile; 2]) -> Vec<RegionDiff> {
    let mut rows: BTreeMap<Option<&str>, RegionDiff> = BTreeMap::new();
    for (at, side) in sides.into_iter().enumerate() {
        for region in side.regions.iter().filter(|region| region.faults > 0) {
            let name = region.koid.map(|_| region.name.as_str());
            let row = rows.entry(name).or_insert_with(|| RegionDiff {
                name: name.map(str::to_owned),
                faults: [0; 2],
                pages_touched: [0; 2],
            });
            row.faults[at] += region.faults;
            row.pages_touched[at] += region.pages_touched;
        }
    }
    let mut rows: Vec<RegionDiff> = rows.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.faults.iter().sum::<u64>()));
    rows
}
