//! What is said around the charts: where it was recorded, what is missing, what words mean.

use std::time::{Duration, UNIX_EPOCH};

use maud::{Markup, html};

use crate::fault::Phase;
use crate::label::{count, duration};
use crate::name;
use crate::profile::Profile;
use crate::words::{self, KERNEL_SAYS, cost, counted, installed, measure_says, phase_says};

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
            @if let Some(ns) = profile.start_unix_ns {
                @let when = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(ns)).to_string();
                "Recorded " time datetime=(when) { (when.replace('T', " ").replace('Z', " UTC")) } ". "
            }
            (counted(profile.all.faults, "fault"))
            @if long > 0 { " in " (duration(long as f64)) }
            "." (installed(profile)) " "
            (cost(profile))
        }
    }
}

/// What a reader must know before believing the rest.
pub(super) fn doubts(profile: &Profile) -> Markup {
    let doubts = words::doubts(profile);
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
            b { "write-protect" } ", a write to a page that is mapped for reading; " b { "kernel's own" } ", " (KERNEL_SAYS) "."
        }
    }
}
