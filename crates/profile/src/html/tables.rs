//! The tables.

use std::iter;

use fault_recording::Policy;
use maud::{Markup, html};

use super::{kind_class, stacked};
use crate::label::{bytes, count, duration, percent};
use crate::latency::Summary;
use crate::name;
use crate::profile::{How, Profile, Region};
use crate::svg::{Unit, WIDTH};
use crate::words::{kind_name, kinds};

/// Rows that a table shows at most.
const ROWS: usize = 40;

/// Address ranges that are told of a region.
const RANGES: usize = 4;

/// All tables that have rows.
pub(super) fn all(profile: &Profile) -> Markup {
    html! {
        (kinds_table(profile))
        (regions(profile))
        (threads(profile))
        (answers(profile))
        (places(profile))
        (touches(profile))
        (processes(profile))
    }
}

/// A table: its rows are cells, of which the first names the row.
fn table(
    id: &str,
    caption: &str,
    wide: bool,
    heads: &[&str],
    rows: Vec<Vec<Markup>>,
    more: Option<String>,
) -> Markup {
    html! {
        @if !rows.is_empty() {
            div class=(if wide { "table wide" } else { "table" }) id=(id) {
                // What is too wide for the screen scrolls by itself, also by keys.
                div class="scroll" tabindex="0" role="region" aria-label=(caption) {
                    table {
                        caption { (caption) }
                        thead { tr { @for head in heads { th scope="col" { (head) } } } }
                        tbody {
                            @for row in rows {
                                tr {
                                    @for (column, cell) in row.into_iter().enumerate() {
                                        @if column == 0 { th scope="row" class="name" { (cell) } } @else { td { (cell) } }
                                    }
                                }
                            }
                        }
                    }
                }
                @if let Some(more) = more { p class="soft" { (more) } }
            }
        }
    }
}

fn text(text: impl AsRef<str>) -> Markup {
    html! { (text.as_ref()) }
}

fn time(summary: &Summary, ns: u64) -> Markup {
    text(match summary.count {
        0 => "–".to_owned(),
        _ => duration(ns as f64),
    })
}

/// What is left out of a table.
fn more(rows: usize, faults: impl Iterator<Item = u64>) -> Option<String> {
    let left = rows.checked_sub(ROWS).filter(|left| *left > 0)?;
    let faults = faults.skip(ROWS).fold(0, u64::saturating_add);
    Some(format!(
        "And {} more with {} faults.",
        count(left as u64),
        count(faults)
    ))
}

/// The first rows of a table that is sorted by faults, as far as they have some, and what is said of the others.
fn with_faults<T>(rows: &[T], faults: fn(&T) -> u64) -> (&[T], Option<String>) {
    let all = rows.iter().take_while(|row| faults(row) > 0).count();
    match rows.len() - all {
        none if none > 0 && all <= ROWS => (
            &rows[..all],
            Some(format!("And {} without faults.", count(none as u64))),
        ),
        _ => (
            &rows[..all.min(ROWS)],
            more(all, rows[..all].iter().map(faults)),
        ),
    }
}

/// How many of all, as a bar of kinds.
fn mix(profile: &Profile, kinds: [u64; 4]) -> Markup {
    let most = profile.regions.iter().map(|region| region.faults);
    let most = most
        .chain(profile.threads.iter().map(|thread| thread.faults))
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let units = |faults: u64| faults as f64 / most * WIDTH;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} 10")) preserveAspectRatio="none" aria-hidden="true" {
            @for (kind, from, to) in stacked(kinds.map(units)) {
                rect class=(kind_class(kind)) x=(Unit(from)) width=(Unit(to - from)) height="10" {
                    title { (count(kinds[kind as usize])) " " (kind_name(kind)) }
                }
            }
        }
    }
}

fn kinds_table(profile: &Profile) -> Markup {
    let row = |name: &str, of: &crate::profile::Distribution| {
        let times = of.latencies(profile.measure).summary();
        vec![
            text(name),
            text(count(of.faults)),
            text(percent(of.writes as f64 / of.faults.max(1) as f64)),
            time(&times, times.p50),
            time(&times, times.p90),
            time(&times, times.p99),
            time(&times, times.p999),
            time(&times, times.max),
        ]
    };
    let of_kinds = kinds(profile).map(|kind| row(kind_name(kind), &profile.kinds[kind as usize]));
    let all = (profile.all.faults > 0).then(|| row("all", &profile.all));
    let heads = [
        "kind", "faults", "writes", "p50", "p90", "p99", "p99.9", "slowest",
    ];
    table(
        "kinds",
        "Times by kind of fault",
        true,
        &heads,
        of_kinds.chain(all).collect(),
        None,
    )
}

fn regions(profile: &Profile) -> Markup {
    let (rows, more) = with_faults(&profile.regions, |region| region.faults);
    let rows = rows.iter().map(|region| {
        vec![
            region_cell(profile, region),
            text(count(region.faults)),
            mix(profile, region.kinds),
            text(percent(
                region.faults as f64 / profile.all.faults.max(1) as f64,
            )),
            time(&region.latency, region.latency.p50),
            time(&region.latency, region.latency.p99),
            text(count(region.pages_touched)),
            text(bytes(region.bytes)),
            text(percent(
                region.sequential as f64 / region.faults.max(1) as f64,
            )),
            text(match region.policy {
                Some(Policy::Traced) => "traced",
                Some(Policy::Native) => "native",
                None => "–",
            }),
        ]
    });
    let heads = [
        "region",
        "faults",
        "by kind",
        "share",
        "p50",
        "p99",
        "pages",
        "size",
        "in sequence",
        "policy",
    ];
    table(
        "regions",
        "Regions, by faults",
        true,
        &heads,
        rows.collect(),
        more,
    )
}

/// The region's name, and where it is for whoever points at it.
fn region_cell(profile: &Profile, region: &Region) -> Markup {
    let places = region.ranges.iter().take(RANGES);
    let places: Vec<String> = places
        .map(|(start, len)| format!("{start:#x} + {}", bytes(*len as u64)))
        .collect();
    html! { span title=(places.join(", ")) { (name::region(profile, region, name::LONGEST)) } }
}

fn threads(profile: &Profile) -> Markup {
    let (rows, more) = with_faults(&profile.threads, |thread| thread.faults);
    let rows = rows.iter().map(|thread| {
        vec![
            text(name::thread(profile, thread)),
            text(count(thread.faults)),
            mix(profile, thread.kinds),
            time(&thread.latency, thread.latency.p50),
            time(&thread.latency, thread.latency.p99),
        ]
    });
    let heads = ["thread", "faults", "by kind", "p50", "p99"];
    table(
        "threads",
        "Threads, by faults",
        false,
        &heads,
        rows.collect(),
        more,
    )
}

fn answers(profile: &Profile) -> Markup {
    let rows = profile.answers.iter().take(ROWS).map(|row| {
        let name = match row.answer.depth() {
            Some(depth) => format!("{}, {depth} up", row.answer.name()),
            None => row.answer.name().to_owned(),
        };
        vec![
            text(name),
            text(count(row.faults)),
            time(&row.resolve, row.resolve.p50),
            time(&row.latency, row.latency.p50),
            time(&row.latency, row.latency.p99),
        ]
    });
    let heads = ["page", "faults", "resolve p50", "p50", "p99"];
    let more = more(
        profile.answers.len(),
        profile.answers.iter().map(|row| row.faults),
    );
    table(
        "answers",
        "What the tree answered, and how many nodes up",
        false,
        &heads,
        rows.collect(),
        more,
    )
}

/// CPUs, and whether the handler ran on the same.
fn places(profile: &Profile) -> Markup {
    let names = ["same CPU as the handler", "another CPU", "CPU not known"];
    let placed = names
        .iter()
        .zip(&profile.placements)
        .filter(|(_, place)| place.faults > 0);
    let placed = placed.map(|(name, place)| {
        let none = text("–");
        vec![
            text(name),
            text(count(place.faults)),
            none,
            time(&place.latency, place.latency.p50),
            time(&place.latency, place.latency.p99),
        ]
    });
    let cpus = profile.cpus.iter().take(ROWS).filter_map(|cpu| {
        let number = cpu.cpu?;
        Some(vec![
            text(format!("CPU {number}")),
            text(count(cpu.faults)),
            text(count(cpu.handled_here)),
            time(&cpu.latency, cpu.latency.p50),
            time(&cpu.latency, cpu.latency.p99),
        ])
    });
    let heads = ["thread ran on", "faults", "handled there", "p50", "p99"];
    let more = more(
        profile.cpus.len(),
        profile.cpus.iter().map(|cpu| cpu.faults),
    );
    table(
        "cpus",
        "CPUs",
        false,
        &heads,
        placed.chain(cpus).collect(),
        more,
    )
}

fn touches(profile: &Profile) -> Markup {
    let Some(touches) = &profile.touches else {
        return html! {};
    };
    let row = |name: &str, summary: &Summary| {
        let times = [summary.p50, summary.p99, summary.max].map(|ns| time(summary, ns));
        iter::once(text(name))
            .chain([text(count(summary.count))])
            .chain(times)
            .collect()
    };
    let rows = [
        ("no fault", &touches.without_fault),
        ("faulted", &touches.faulted),
        ("of these, several times", &touches.several_faults),
    ];
    let rows = rows
        .iter()
        .map(|(name, summary)| row(name, summary))
        .collect();
    let heads = ["touch of a page", "touches", "p50", "p99", "slowest"];
    table(
        "touches",
        "What the threads measured themselves",
        false,
        &heads,
        rows,
        None,
    )
}

fn processes(profile: &Profile) -> Markup {
    let rows = profile.processes.iter().take(ROWS).map(|process| {
        let end = process.end;
        vec![
            html! { (name::command_of(process)) },
            text(process.pid.to_string()),
            text(process.parent.to_string()),
            text(if process.traced { "yes" } else { "no" }),
            text(count(process.faults)),
            text(end.map_or("not said".to_owned(), |end| count(end.lost))),
            text(end.map_or("not said".to_owned(), |end| duration(end.cost_ns as f64))),
        ]
    });
    let heads = [
        "process",
        "pid",
        "parent",
        "traced",
        "faults",
        "lost",
        "recording took",
    ];
    let more = more(
        profile.processes.len(),
        profile.processes.iter().map(|process| process.faults),
    );
    table("processes", "Processes", true, &heads, rows.collect(), more)
}
