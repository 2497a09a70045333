//! Makes the model of the faults.

use std::collections::BTreeMap;

use fault_recording::{Answer, Ended, OutcomeKind, Recording};

use crate::fault::{Fault, Kind, Phases, Role};
use crate::faults::Faults;
use crate::latency::{Latencies, Summary};
use crate::profile::{
    AnswerRow, Band, Cpu, Distribution, HeatMap, Machine, Measure, Placement, Process, Profile,
    Region, Thread, TimeBin, Touches,
};

/// Time bins at most.
const BINS: u64 = 120;

/// Where bands of percentiles begin and end.
const BANDS: [f64; 6] = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0];

impl Profile {
    /// What this recording says.
    #[must_use]
    pub fn new(recording: &Recording) -> Profile {
        Profile::of(&Faults::new(recording))
    }

    /// The same, if its faults were gathered already.
    #[must_use]
    pub fn of(faults: &Faults<'_>) -> Profile {
        let recording = faults.recording();
        let starts = || recording.processes.iter().map(|process| &process.start);
        let first = faults.iter().next().map(|fault| fault.begin_ns());
        let last = faults.iter().last().map(|fault| fault.begin_ns());
        let start_ns = starts().map(|start| start.at_ns).chain(first).min();
        let start_ns = start_ns.unwrap_or(0);
        let ends = recording.processes.iter().map(|process| match process.end {
            Ended::Said(end) => end.at_ns,
            Ended::Unsaid => process.start.at_ns,
        });
        let last_end = faults.iter().map(|fault| fault.end_ns()).max();
        let end_ns = ends.chain(last_end).max().unwrap_or(0);
        let since = |ns: u64| ns.saturating_sub(start_ns);

        let measure = measure(faults);
        let kinds = kinds(faults, measure);
        let mut all = Distribution::default();
        kinds.iter().for_each(|kind| all.add(kind));
        all.bands = bands(faults, measure, all.latencies(measure), None);
        let (regions, places) = regions(faults, measure);
        let bins = bins(faults, measure, start_ns);
        Profile {
            machines: machines(recording),
            processes: processes(faults, start_ns),
            cut: recording.cut.clone(),
            start_ns,
            start_unix_ns: starts().next().map(|start| {
                let since = start.at_ns.saturating_sub(start_ns);
                start.unix_ns.saturating_sub(since)
            }),
            end_ns: since(end_ns),
            first_fault_ns: first.map_or(0, since),
            last_fault_ns: last.map_or(0, since),
            measure,
            recording: recording_of(faults),
            pages_installed: faults
                .iter()
                .filter_map(|fault| fault.record)
                .map(|record| u64::from(record.pages))
                .sum(),
            pages_touched: regions.iter().map(|region| region.pages_touched).sum(),
            sequential: regions.iter().map(|region| region.sequential).sum(),
            answers: answers(faults, measure),
            threads: threads(faults, measure),
            cpus: cpus(faults, measure),
            placements: placements(faults, measure),
            touches: touches(faults),
            heat: HeatMap::new(faults, &regions, &places, &bins, start_ns),
            regions,
            bins,
            all,
            kinds,
        }
    }
}

impl Fault<'_> {
    /// Its time by this measure, if it is known.
    pub(crate) fn time(&self, measure: Measure) -> Option<u64> {
        match measure {
            Measure::Handled => self.handled(),
            Measure::Total => self.total(),
        }
    }

    /// The phases of which its time by this measure consists.
    fn phases_of(&self, measure: Measure) -> Phases {
        match measure {
            Measure::Handled => self.handler_phases(),
            Measure::Total => self.phases(),
        }
    }
}

/// The total, if it is known of most faults that were answered.
fn measure(faults: &Faults<'_>) -> Measure {
    let answered = faults.iter().filter(Fault::answered).count();
    let known = faults
        .iter()
        .filter(|fault| fault.total().is_some())
        .count();
    if known > 0 && known * 2 >= answered {
        Measure::Total
    } else {
        Measure::Handled
    }
}

fn recording_of(faults: &Faults<'_>) -> Summary {
    let mut group = Group::default();
    let records = faults.iter().filter_map(|fault| fault.record);
    group
        .times
        .extend(records.map(|record| record.recording_ns));
    group.summary()
}

fn machines(recording: &Recording) -> Vec<Machine> {
    let mut machines: Vec<Machine> = Vec::new();
    for process in &recording.processes {
        let start = &process.start;
        let machine = Machine {
            kernel: start.kernel.clone(),
            machine: start.machine.clone(),
            cpus: start.cpus,
            page_size: start.page_size,
            cowspace: start.cowspace.clone(),
        };
        if !machines.contains(&machine) {
            machines.push(machine);
        }
    }
    machines
}

fn processes(faults: &Faults<'_>, start_ns: u64) -> Vec<Process> {
    let mut counts = vec![0; faults.recording().processes.len()];
    faults.iter().for_each(|fault| counts[fault.process] += 1);
    let processes = faults.recording().processes.iter().zip(counts);
    processes
        .zip(faults.unmatched())
        .map(|((process, faults), unmatched)| Process {
            pid: process.start.pid,
            parent: process.start.parent,
            command: process.start.command.clone(),
            traced: process.start.traced,
            start_ns: process.start.at_ns.saturating_sub(start_ns),
            end: match process.end {
                Ended::Said(end) => Some(end),
                Ended::Unsaid => None,
            },
            faults,
            unmatched_probes: *unmatched,
        })
        .collect()
}

impl Distribution {
    /// Adds other faults. Their bands are left out.
    fn add(&mut self, other: &Distribution) {
        self.faults += other.faults;
        self.writes += other.writes;
        self.put_off += other.put_off;
        for (outcome, count) in &other.outcomes {
            self.ended(*outcome, *count);
        }
        self.handled.add(&other.handled);
        self.total.add(&other.total);
        for (phase, other) in self.phases.iter_mut().zip(&other.phases) {
            phase.add(other);
        }
    }

    fn ended(&mut self, outcome: OutcomeKind, faults: u64) {
        let place = |kind: OutcomeKind| OutcomeKind::ALL.iter().position(|of| *of == kind);
        match self
            .outcomes
            .binary_search_by_key(&place(outcome), |(kind, _)| place(*kind))
        {
            Ok(at) => self.outcomes[at].1 += faults,
            Err(at) => self.outcomes.insert(at, (outcome, faults)),
        }
    }
}

fn kinds(faults: &Faults<'_>, measure: Measure) -> [Distribution; 4] {
    let mut kinds: [Distribution; 4] = Default::default();
    for fault in faults.iter() {
        let kind = &mut kinds[fault.kind() as usize];
        kind.faults += 1;
        kind.writes += u64::from(fault.write());
        if let Some(record) = fault.record {
            kind.put_off += u64::from(record.attempts > 1);
            kind.ended(record.outcome, 1);
        }
        if let Some(ns) = fault.handled() {
            kind.handled.record(ns);
        }
        if let Some(ns) = fault.total() {
            kind.total.record(ns);
        }
        if fault.time(measure).is_some() {
            let phases = kind.phases.iter_mut().zip(fault.phases_of(measure));
            for (phase, ns) in phases {
                ns.into_iter().for_each(|ns| phase.record(ns));
            }
        }
    }
    for kind in Kind::ALL {
        let of = &mut kinds[kind as usize];
        of.bands = bands(faults, measure, of.latencies(measure), Some(kind));
    }
    kinds
}

/// The phases of faults of one kind, or of all, by how slow they were.
fn bands(
    faults: &Faults<'_>,
    measure: Measure,
    times: &Latencies,
    kind: Option<Kind>,
) -> Vec<Band> {
    if times.is_empty() {
        return Vec::new();
    }
    let bounds = BANDS.map(|share| times.quantile(share));
    let mut sums = [(0, [0_u128; 5]); BANDS.len() - 1];
    for fault in faults.iter() {
        let Some(ns) = fault.time(measure) else {
            continue;
        };
        if kind.is_some_and(|kind| kind != fault.kind()) {
            continue;
        }
        let band = bounds[1..].partition_point(|bound| *bound < ns);
        let (count, phases) = &mut sums[band.min(BANDS.len() - 2)];
        *count += 1;
        for (sum, ns) in phases.iter_mut().zip(fault.phases_of(measure)) {
            *sum += u128::from(ns.unwrap_or(0));
        }
    }
    let bands = BANDS.windows(2).zip(sums);
    bands
        .filter(|(_, (count, _))| *count > 0)
        .map(|(ends, (count, phases))| Band {
            from: ends[0],
            to: ends[1],
            faults: count,
            phases: phases.map(|sum| sum as f64 / count as f64),
        })
        .collect()
}

/// Faults that have something in common.
#[derive(Default)]
pub(crate) struct Group {
    faults: u64,
    kinds: [u64; 4],
    sequential: u64,
    times: Vec<u64>,
}

impl Group {
    fn summary(&mut self) -> Summary {
        self.times.sort_unstable();
        Summary::of_sorted(&self.times)
    }
}

/// The faults by a key, each with a time where it has one.
fn grouped<K: Ord>(
    faults: &Faults<'_>,
    key: impl Fn(&Fault<'_>) -> K,
    time: impl Fn(&Fault<'_>) -> Option<u64>,
) -> BTreeMap<K, Group> {
    let mut groups: BTreeMap<K, Group> = BTreeMap::new();
    for fault in faults.iter() {
        let group = groups.entry(key(&fault)).or_default();
        group.faults += 1;
        group.kinds[fault.kind() as usize] += 1;
        group.sequential += u64::from(fault.sequential);
        group.times.extend(time(&fault));
    }
    groups
}

/// Most faults first; and for each of the faults' regions which of these it is.
fn regions(faults: &Faults<'_>, measure: Measure) -> (Vec<Region>, Vec<usize>) {
    let mut groups = grouped(faults, |fault| fault.region, |fault| fault.time(measure));
    let mut pages: Vec<Vec<usize>> = vec![Vec::new(); faults.regions().len()];
    faults
        .iter()
        .for_each(|fault| pages[fault.region].push(fault.page()));
    let mut regions: Vec<(usize, Region)> = Vec::new();
    for (index, (place, mut pages)) in faults.regions().iter().zip(pages).enumerate() {
        let mut group = groups.remove(&index).unwrap_or_default();
        pages.sort_unstable();
        pages.dedup();
        let ranges: Vec<(usize, usize)> = place
            .ranges
            .iter()
            .map(|range| (range.start, range.len()))
            .collect();
        let region = Region {
            process: place.process,
            name: place
                .mapping
                .map(|mapping| mapping.name.clone())
                .unwrap_or_default(),
            koid: place.mapping.map(|mapping| mapping.koid),
            policy: place.mapping.map(|mapping| mapping.policy),
            bytes: ranges.iter().map(|(_, len)| *len as u64).sum(),
            ranges,
            faults: group.faults,
            kinds: group.kinds,
            sequential: group.sequential,
            pages_touched: pages.len() as u64,
            latency: group.summary(),
        };
        regions.push((index, region));
    }
    regions.sort_by_key(|(_, region)| std::cmp::Reverse(region.faults));
    let mut places = vec![0; regions.len()];
    for (rank, (index, _)) in regions.iter().enumerate() {
        places[*index] = rank;
    }
    let regions = regions.into_iter().map(|(_, region)| region).collect();
    (regions, places)
}

fn threads(faults: &Faults<'_>, measure: Measure) -> Vec<Thread> {
    let names = faults.threads();
    let groups = grouped(
        faults,
        |fault| (fault.process, fault.tid()),
        |fault| fault.time(measure),
    );
    let mut threads: Vec<Thread> = groups
        .into_iter()
        .map(|((process, tid), mut group)| Thread {
            process,
            tid,
            name: tid
                .and_then(|tid| names[process].get(&tid))
                .map(|name| (*name).to_owned())
                .unwrap_or_default(),
            faults: group.faults,
            kinds: group.kinds,
            latency: group.summary(),
        })
        .collect();
    threads.sort_by_key(|thread| std::cmp::Reverse(thread.faults));
    threads
}

fn cpus(faults: &Faults<'_>, measure: Measure) -> Vec<Cpu> {
    let cpu = |fault: &Fault<'_>| fault.record.and_then(|record| record.cpu);
    let handler = |fault: &Fault<'_>| fault.record.and_then(|record| record.handler_cpu);
    let mut handled = grouped(faults, handler, |_| None);
    // Those of the kernel's own have none.
    let mut faulted = grouped(faults, cpu, |fault| fault.time(measure));
    for cpu in handled.keys().flatten() {
        faulted.entry(Some(*cpu)).or_default();
    }
    let mut cpus: Vec<Cpu> = faulted
        .into_iter()
        .map(|(cpu, mut group)| Cpu {
            cpu,
            faults: group.faults,
            handled_here: cpu
                .and_then(|_| handled.remove(&cpu))
                .map_or(0, |group| group.faults),
            latency: group.summary(),
        })
        .collect();
    cpus.sort_by_key(|cpu| cpu.cpu.map_or(u64::MAX, u64::from));
    cpus
}

fn placements(faults: &Faults<'_>, measure: Measure) -> [Placement; 3] {
    let place = |fault: &Fault<'_>| {
        let cpus = fault
            .record
            .and_then(|record| record.cpu.zip(record.handler_cpu));
        cpus.map_or(2, |(cpu, handler)| usize::from(cpu != handler))
    };
    let mut placements = [Placement::default(); 3];
    for (place, mut group) in grouped(faults, place, |fault| fault.time(measure)) {
        placements[place] = Placement {
            faults: group.faults,
            latency: group.summary(),
        };
    }
    placements
}

fn answers(faults: &Faults<'_>, measure: Measure) -> Vec<AnswerRow> {
    // The kernel's own are the first group, which is left out.
    let key = |fault: &Fault<'_>| {
        let answer = fault.record?.answer;
        Some(match answer {
            Some(Answer::Zero) => (0, 0),
            Some(Answer::Own) => (1, 0),
            Some(Answer::Layer { depth }) => (2, depth),
            None => (3, 0),
        })
    };
    let resolve = grouped(faults, key, |fault| {
        let record = fault.record.filter(|_| fault.answered())?;
        Some(record.resolve_ns)
    });
    let latency = grouped(faults, key, |fault| fault.time(measure));
    let rows = resolve.into_iter().zip(latency.into_values());
    rows.filter_map(|((key, mut resolve), mut latency)| {
        let answer = match key? {
            (0, _) => Some(Answer::Zero),
            (1, _) => Some(Answer::Own),
            (2, depth) => Some(Answer::Layer { depth }),
            _ => None,
        };
        Some(AnswerRow {
            answer,
            faults: resolve.faults,
            resolve: resolve.summary(),
            latency: latency.summary(),
        })
    })
    .collect()
}

fn touches(faults: &Faults<'_>) -> Option<Touches> {
    let mut quiet = Group::default();
    let mut faulted = Group::default();
    let mut several = Group::default();
    let processes = faults.recording().processes.iter();
    for probe in processes.flat_map(|process| &process.probes) {
        let ns = probe.after_ns.saturating_sub(probe.before_ns);
        let times = if probe.faults == 0 {
            &mut quiet.times
        } else {
            &mut faulted.times
        };
        times.push(ns);
    }
    let last = faults.iter().filter(|fault| fault.role == Role::Last);
    for probe in last.filter_map(|fault| fault.probe) {
        let ns = probe.after_ns.saturating_sub(probe.before_ns);
        several.times.push(ns);
    }
    let count = quiet.times.len() + faulted.times.len();
    (count > 0).then(|| Touches {
        count: count as u64,
        without_fault: quiet.summary(),
        faulted: faulted.summary(),
        several_faults: several.summary(),
    })
}

fn bins(faults: &Faults<'_>, measure: Measure, start_ns: u64) -> Vec<TimeBin> {
    let mut begins = faults.iter().map(|fault| fault.begin_ns());
    let Some(first) = begins.next() else {
        return Vec::new();
    };
    let span = begins.last().unwrap_or(first) - first;
    let len_ns = span / BINS + 1;
    let mut groups = grouped(
        faults,
        |fault| (fault.begin_ns() - first) / len_ns,
        |fault| fault.time(measure),
    );
    (0..=span / len_ns)
        .map(|bin| {
            let mut group = groups.remove(&bin).unwrap_or_default();
            TimeBin {
                from_ns: first - start_ns + bin * len_ns,
                len_ns,
                kinds: group.kinds,
                latency: group.summary(),
            }
        })
        .collect()
}
