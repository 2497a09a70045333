//! What is said around the charts: where it was recorded, what is missing, what words mean.

use maud::{Markup, html};

use super::{counted, measure_says, name, phase_says};
use crate::fault::Phase;
use crate::profile::Profile;
use crate::svg::label::{count, duration, percent};

/// Machines, how long, what recording has cost.
pub(super) fn where_and_when(profile: &Profile) -> Markup {
    let long = profile.last_fault_ns.saturating_sub(profile.first_fault_ns);
    html! {
        @for machine in profile.machines.iter().take(8) {
            p class="soft" {
                "Linux " (name::shown(&machine.kernel)) ", " (name::shown(&machine.machine)) ", " (counted(u64::from(machine.cpus), "CPU")) ", pages of "
                (count(machine.page_size)) " bytes, cowspace " (name::shown(&machine.cowspace))
            }
        }
        p class="soft" {
            (counted(profile.all.faults, "fault")) " in " (duration(long as f64)) "; " (count(profile.pages_installed)) " pages installed. "
            (cost(profile))
        }
    }
}

/// What recording has cost, as far as it was said.
fn cost(profile: &Profile) -> String {
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
    let each = ns as f64 / recorded as f64;
    let handled = profile.all.handled.mean();
    let share = match handled > 0.0 {
        true => format!(", {} of what it does for one", percent(each / handled)),
        false => String::new(),
    };
    format!(
        "Recording took the handler {} a fault{share}.",
        duration(each)
    )
}

/// What a reader must know before believing the rest.
pub(super) fn doubts(profile: &Profile) -> Markup {
    let mut doubts = Vec::new();
    if let Some(why) = &profile.cut {
        doubts.push(format!(
            "The recording was read in part: {}",
            name::cut(why, 300)
        ));
    }
    let sum = |of: fn(&crate::profile::Process) -> u64| {
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
        let who = counted(silent as u64, "process").replace("processs", "processes");
        doubts.push(format!("{who} did not end as usual (killed, or by _exit): the last milliseconds are not there, nor is what was lost."));
    }
    let native = profile
        .processes
        .iter()
        .filter(|process| !process.traced)
        .count();
    if native > 0 {
        let who = counted(native as u64, "process").replace("processs", "processes");
        doubts.push(format!(
            "In {who} faults cannot be traced: only probes see them. `cowspace doctor` says why."
        ));
    }
    html! {
        @if !doubts.is_empty() {
            ul class="notes" aria-label="What is missing" { @for doubt in doubts { li { (doubt) } } }
        }
    }
}

/// What the page's words mean.
pub(super) fn words(profile: &Profile) -> Markup {
    html! {
        p {
            "Times are " (measure_says(profile.measure)) ". Phases of a fault: "
            @for phase in Phase::ALL { b { (phase.name()) } ", " (phase_says(phase)) @if phase == Phase::Wake { "." } @else { "; " } }
        }
        p {
            "Kinds: " b { "missing" } ", neither the page table nor the file had the page; " b { "minor" } ", the file had it, the page table not; "
            b { "write-protect" } ", a write to a page that is mapped for reading; " b { "kernel's own" } ", resolved by the kernel, seen by a probe."
        }
    }
}
