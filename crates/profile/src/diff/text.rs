//! The comparison as text.

use std::io::{self, Write};

use super::{Change, Diff, Verdict};
use crate::fault::Kind;
use crate::label::{count, duration, percent, short};
use crate::name;
use crate::text::{Rows, paragraph};
use crate::words::{kind_name, measure_says};

/// Regions that are shown at most.
const REGIONS: usize = 8;

/// Writes it.
pub(super) fn write(diff: &Diff, to: &mut impl Write) -> io::Result<()> {
    let [a, b] = &diff.commands;
    let [a, b] = [a, b].map(|command| name::cut(command, 77));
    writeln!(to, "A: {a}\nB: {b}\n")?;
    paragraph(to, &[&conclusion(diff)])?;
    for note in &diff.notes {
        paragraph(to, &["!", note])?;
    }
    kinds(diff, to)?;
    phases(diff, to)?;
    regions(diff, to)?;
    writeln!(to)?;
    paragraph(
        to,
        &[
            "Slower or faster is what differs by more than 5 % and cannot be chance among faults of such a number.",
            "Two runs of one program may differ, too: repeat them.",
        ],
    )
}

/// What has changed, in a sentence.
fn conclusion(diff: &Diff) -> String {
    let mut changes = Vec::new();
    let mut unknown = true;
    for kind in &diff.kinds {
        for (name, change) in [("p50", kind.p50), ("p90", kind.p90), ("p99", kind.p99)] {
            unknown &= change.verdict == Verdict::Unknown;
            if let (Verdict::Slower | Verdict::Faster, Some(ratio)) = (change.verdict, change.ratio)
            {
                let (kind, verdict) = (kind_said(kind.kind), verdict(change.verdict));
                changes.push(format!("{kind} {name} {verdict} (×{ratio:.2})"));
            }
        }
    }
    match changes.is_empty() {
        true if unknown => "There are too few faults to compare their times.".to_owned(),
        true => "No change of times.".to_owned(),
        false => format!("From A to B: {}.", changes.join(", ")),
    }
}

/// A kind's name where people read.
fn kind_said(name: &'static str) -> &'static str {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    kind.map_or(name, kind_name)
}

fn verdict(of: Verdict) -> &'static str {
    match of {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::Same => "",
        Verdict::Unknown => "too few",
    }
}

/// Both, their ratio and what it means.
fn change(of: &Change) -> [String; 4] {
    let [a, b] = of
        .ns
        .map(|ns| ns.map_or("-".to_owned(), |ns| duration(ns as f64)));
    let verdict = match of.ratio {
        Some(_) => verdict(of.verdict),
        None => "",
    };
    [a, b, times(of.ratio), verdict.to_owned()]
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("×{ratio:.2}"))
}

fn ratio(pair: [u64; 2]) -> Option<f64> {
    (pair[0] > 0).then(|| pair[1] as f64 / pair[0] as f64)
}

fn kinds(diff: &Diff, to: &mut impl Write) -> io::Result<()> {
    let mut rows = Rows::new(["kind", "", "A", "B", "B/A", ""]);
    for kind in &diff.kinds {
        let [a, b] = kind.faults.map(count);
        let first = [
            kind_said(kind.kind).to_owned(),
            "faults".to_owned(),
            a,
            b,
            times(ratio(kind.faults)),
        ];
        rows.row(first.into_iter().chain([String::new()]));
        for (name, of) in [("p50", &kind.p50), ("p90", &kind.p90), ("p99", &kind.p99)] {
            if of.ns.iter().any(Option::is_some) {
                let cells = [String::new(), name.to_owned()];
                rows.row(cells.into_iter().chain(change(of)));
            }
        }
    }
    let [a, b] = diff.all.rates;
    let shown = |rate: Option<f64>| rate.map_or("-".to_owned(), short);
    let by = a.zip(b).filter(|(a, _)| *a > 0.0).map(|(a, b)| b / a);
    let cells = [
        String::new(),
        "faults/s".to_owned(),
        shown(a),
        shown(b),
        times(by),
        String::new(),
    ];
    rows.row(cells);
    let title = format!("Latency: {}", measure_says(diff.measure));
    rows.write(&title, 0, to)
}

fn phases(diff: &Diff, to: &mut impl Write) -> io::Result<()> {
    if diff.phases.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(["phase", "share A", "share B", "p50 A", "p50 B", "B/A", ""]);
    for phase in &diff.phases {
        let [a, b] = phase.shares.map(percent);
        let cells = [phase.phase.to_owned(), a, b];
        rows.row(cells.into_iter().chain(change(&phase.p50)));
    }
    rows.write("Where the time goes, of what both know", 0, to)
}

fn regions(diff: &Diff, to: &mut impl Write) -> io::Result<()> {
    if diff.regions.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new([
        "region", "faults A", "faults B", "B/A", "pages A", "pages B",
    ]);
    for region in diff.regions.iter().take(REGIONS) {
        let shown = match region.name.as_deref() {
            None => "not mapped any more".to_owned(),
            Some("") => "without a name".to_owned(),
            Some(text) => name::cut(text, 26),
        };
        let [a, b] = region.faults.map(count);
        let [pages_a, pages_b] = region.pages_touched.map(count);
        rows.row([shown, a, b, times(ratio(region.faults)), pages_a, pages_b]);
    }
    let more = diff.regions.len().saturating_sub(REGIONS);
    rows.write("Regions by name", more, to)
}
