//! The three questions that one has, answered: how slow, which part, where from.

use maud::{Markup, html};

use crate::fault::Phase;
use crate::label::{duration, percent};
use crate::profile::{Measure, Profile};
use crate::words::{counted, kind_name, kinds, measure_says, phase_says, slow_ones, sources};

/// The answers, or that there is nothing to answer.
pub(super) fn answers(profile: &Profile) -> Markup {
    html! {
        @if profile.all.faults == 0 {
            p { "No page fault was recorded." }
        } @else {
            div class="answers" {
                (how_slow(profile))
                (which_part(profile))
                (where_from(profile))
            }
        }
    }
}

fn how_slow(profile: &Profile) -> Markup {
    let times = profile.all.latencies(profile.measure);
    let summary = times.summary();
    let by_kind: Vec<String> = kinds(profile)
        .filter_map(|kind| {
            let times = profile.kinds[kind as usize].latencies(profile.measure);
            (!times.is_empty()).then(|| {
                format!(
                    "{} {}",
                    kind_name(kind),
                    duration(times.quantile(0.5) as f64)
                )
            })
        })
        .collect();
    html! {
        div {
            h2 { "How slow is a fault here?" }
            @if times.is_empty() {
                p class="big" { "unknown" }
                p { (counted(profile.all.faults, "fault")) ", none of which was answered with a page." }
            } @else {
                p class="big" { (duration(summary.p50 as f64)) }
                p {
                    "is the median of " (counted(times.count(), "fault")) ", " (measure_says(profile.measure)) ". "
                    // Of fewer there is no such percentile.
                    @if times.count() >= 100 { "One in a hundred takes more than " (duration(summary.p99 as f64)) ". " }
                    "The slowest took " (duration(summary.max as f64)) "."
                }
                @if by_kind.len() > 1 { p class="soft" { "Medians: " (by_kind.join(" · ")) } }
            }
        }
    }
}

fn which_part(profile: &Profile) -> Markup {
    let shares = profile.all.shares();
    let mut phases: Vec<(Phase, f64)> = Phase::ALL.into_iter().zip(shares).collect();
    phases.retain(|(_, share)| *share > 0.0);
    phases.sort_by(|left, right| right.1.total_cmp(&left.1));
    html! {
        div {
            h2 { "Which part of it?" }
            @if let Some(((phase, share), others)) = phases.split_first() {
                p class="big" { (phase.name()) " " (percent(*share)) }
                p { "of the time: " (phase_says(*phase)) ". " (slow_ones(profile)) }
                @if !others.is_empty() {
                    p class="soft" {
                        "The rest: " (others.iter().map(|(phase, share)| format!("{} {}", phase.name(), percent(*share))).collect::<Vec<_>>().join(" · "))
                    }
                }
                @if profile.measure == Measure::Handled {
                    p class="soft" { "What the kernel takes before and after is known only in runs with probes." }
                }
            } @else {
                p class="big" { "the kernel's" }
                p { "The kernel resolved these faults by itself: of their parts nothing is known." }
            }
        }
    }
}

fn where_from(profile: &Profile) -> Markup {
    let all = profile.all.faults.max(1) as f64;
    let sources = sources(profile);
    let regions: usize = sources.iter().map(|source| source.regions).sum();
    let threads = profile.threads.len() as u64;
    html! {
        div {
            h2 { "Where do they come from?" }
            @if let Some(source) = sources.first() {
                p class="big" { span class="name" { (source.name) } }
                p {
                    "has " (percent(source.faults as f64 / all)) " of the faults"
                    @if source.regions > 1 { ", in " (counted(source.regions as u64, "region")) " of that name" }
                    @if regions > source.regions { ", of " (counted(regions as u64, "region")) " in all" }
                    ". " (counted(profile.pages_touched, "page")) " faulted, in " (counted(threads, "thread")) "."
                }
                @if sources.len() > 1 {
                    p class="soft" {
                        "Then: " (sources[1..].iter().take(3).map(|source| format!("{} {}", source.name, percent(source.faults as f64 / all))).collect::<Vec<_>>().join(" · "))
                    }
                }
                p class="soft" {
                    (percent(profile.all.writes as f64 / all)) " are writes; " (percent(profile.sequential as f64 / all)) " go on where the thread's fault before ended."
                }
            }
        }
    }
}
