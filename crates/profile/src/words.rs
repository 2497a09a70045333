//! What things are called where people read, in the page and in the terminal.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::fault::{Kind, Phase};
use crate::label::{self, duration, percent};
use crate::name;
use crate::profile::{Band, Measure, Process, Profile, Region};

/// Characters of a source's name.
const NAME: usize = 40;

/// The kinds that occur.
pub(crate) fn kinds(profile: &Profile) -> impl Iterator<Item = Kind> {
    Kind::ALL
        .into_iter()
        .filter(|kind| profile.kinds[*kind as usize].faults > 0)
}

/// Its name beside others, where a phase is called kernel, too.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Kernel => "kernel's own",
        handled => handled.name(),
    }
}

/// Of which faults a handler is not told.
pub(crate) const KERNEL_SAYS: &str = "resolved by the kernel and seen by a probe only, as is the first store to a page of zeros that was loaded before";

/// What happens in a phase.
pub(crate) fn phase_says(phase: Phase) -> &'static str {
    match phase {
        Phase::Kernel => "from the faulting instruction until the handler has read the fault",
        Phase::Queue => "waiting in the handler behind other faults",
        Phase::Resolve => "asking the page tree what the page is",
        Phase::Install => "the system call that puts the page in place",
        Phase::Wake => "from when the page is in place until the thread runs again",
    }
}

/// Which time is shown.
pub(crate) fn measure_says(measure: Measure) -> &'static str {
    match measure {
        Measure::Handled => "from when the handler has read the fault until the page is in place",
        Measure::Total => "from the faulting instruction until the thread runs again",
    }
}

/// "1 fault", "2 faults", "3 processes".
pub(crate) fn counted(count: u64, what: &str) -> String {
    let number = label::count(count);
    match count {
        1 => format!("{number} {what}"),
        _ if what.ends_with('s') => format!("{number} {what}es"),
        _ => format!("{number} {what}s"),
    }
}

/// What the slowest hundredth waits for, if that is something else.
pub(crate) fn slow_ones(profile: &Profile) -> String {
    let slow = |band: &&Band| band.from >= 0.99;
    let sum = |phase: usize| {
        let bands = profile.all.bands.iter().filter(slow);
        bands
            .map(|band| band.phases[phase] * band.faults as f64)
            .sum::<f64>()
    };
    let sums = Phase::ALL.map(|phase| sum(phase as usize));
    let all: f64 = sums.iter().sum();
    if all == 0.0 {
        return String::new();
    }
    let (slow, usual) = (
        largest(sums.map(|ns| ns / all)),
        largest(profile.all.shares()),
    );
    match (slow, usual) {
        (Some((phase, share)), Some((most, _))) if phase != most => format!(
            "In the slowest hundredth it is {}, {}: {}.",
            phase.name(),
            percent(share),
            phase_says(phase),
        ),
        _ => String::new(),
    }
}

/// The phase with the largest share, if there is one.
pub(crate) fn largest(shares: [f64; 5]) -> Option<(Phase, f64)> {
    let phases = Phase::ALL.into_iter().zip(shares);
    let largest = phases.max_by(|left, right| left.1.total_cmp(&right.1));
    largest.filter(|(_, share)| *share > 0.0)
}

/// Where faults come from, as people think of it: regions of one name together, since a process's children and clones have many alike.
pub(crate) struct Source {
    /// The name; of a region that is alone, also whose it is.
    pub(crate) name: String,
    /// How many regions these are that have faults.
    pub(crate) regions: usize,
    /// Their faults.
    pub(crate) faults: u64,
}

/// All sources, by faults, most first.
pub(crate) fn sources(profile: &Profile) -> Vec<Source> {
    let mut by_name: HashMap<&str, (usize, u64)> = HashMap::new();
    let mut sources = Vec::new();
    let with_faults = || profile.regions.iter().filter(|region| region.faults > 0);
    // What has no name is nobody's like.
    let named = |region: &&Region| region.koid.is_some() && !region.name.is_empty();
    for region in with_faults().filter(named) {
        let (regions, faults) = by_name.entry(&region.name).or_default();
        *regions += 1;
        *faults = faults.saturating_add(region.faults);
    }
    for region in with_faults() {
        let (name, regions, faults) = match named(&region) {
            // The first of them stands for all.
            true => match by_name.remove(region.name.as_str()) {
                None => continue,
                Some((1, faults)) => (name::region(profile, region, NAME), 1, faults),
                Some((regions, faults)) => (name::cut(&region.name, NAME), regions, faults),
            },
            false => (name::region(profile, region, NAME), 1, region.faults),
        };
        sources.push(Source {
            name,
            regions,
            faults,
        });
    }
    sources.sort_by_key(|source| Reverse(source.faults));
    sources
}

/// How many pages handlers installed, if they had anything to do.
pub(crate) fn installed(profile: &Profile) -> String {
    match profile.answers.is_empty() {
        true => String::new(),
        false => format!(" {} installed.", counted(profile.pages_installed, "page")),
    }
}

/// What recording has cost, as far as it was said.
pub(crate) fn cost(profile: &Profile) -> String {
    let ends = profile.processes.iter().filter_map(|process| process.end);
    let (recorded, ns) = ends.fold((0_u64, 0_u64), |(recorded, ns), end| {
        (
            recorded.saturating_add(end.recorded),
            ns.saturating_add(end.cost_ns),
        )
    });
    if recorded == 0 {
        return String::new();
    }
    let each = duration(ns as f64 / recorded as f64);
    let handled = match profile.all.handled.mean() {
        0.0 => String::new(),
        mean => format!(", beside {} for the fault itself", duration(mean)),
    };
    format!("Recording took the handler {each} a fault{handled}; these times are without it.")
}

/// What a reader must know before believing the rest.
pub(crate) fn doubts(profile: &Profile) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(why) = &profile.cut {
        doubts.push(format!(
            "The recording was read in part: {}",
            name::cut(why, 300)
        ));
    }
    let sum = |of: fn(&Process) -> u64| {
        profile
            .processes
            .iter()
            .map(of)
            .fold(0, u64::saturating_add)
    };
    let lost = sum(|process| process.end.map_or(0, |end| end.lost));
    if lost > 0 {
        let of = lost.saturating_add(profile.all.faults);
        let share = percent(lost as f64 / of as f64);
        doubts.push(format!("The records of {} were lost, {share} of all: counts are too low by that, and times may be.", counted(lost, "fault")));
    }
    let unmatched = sum(|process| process.unmatched_probes);
    if unmatched > 0 {
        doubts.push(format!(
            "{} of probes have no record: they are left out.",
            counted(unmatched, "fault")
        ));
    }
    let silent = profile
        .processes
        .iter()
        .filter(|process| process.end.is_none())
        .count();
    if silent > 0 {
        let who = counted(silent as u64, "process");
        doubts.push(format!("{who} did not end as usual (killed, or by _exit): the last milliseconds are not there, nor is what was lost."));
    }
    let native = profile
        .processes
        .iter()
        .filter(|process| !process.traced)
        .count();
    if native > 0 {
        let who = counted(native as u64, "process");
        doubts.push(format!(
            "In {who} faults cannot be traced: only probes see them. `cowspace doctor` says why."
        ));
    }
    doubts
}
