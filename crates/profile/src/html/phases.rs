//! Which part: the phases of faults, by kind, and of fast and slow ones.

use maud::{Markup, html};

use super::{Figure, figure, legend, phase_class};
use crate::fault::Phase;
use crate::label::{duration, percent, percentile};
use crate::latency::Latencies;
use crate::profile::{Band, Profile};
use crate::svg::{self, Axis, Room, Said, Scale, Unit};
use crate::words::{counted, kind_name, kinds, phase_says};

/// Units of a row, and of its bar.
const ROW: f64 = 34.0;
const BAR: f64 = 22.0;

/// A bar of phases.
struct Row {
    name: String,
    faults: u64,
    /// The mean of each phase, in the order of [`Phase::ALL`].
    phases: [f64; 5],
}

impl Row {
    fn sum(&self) -> f64 {
        self.phases.iter().sum()
    }

    /// The phases that took time, each with where it begins.
    fn parts(&self) -> impl Iterator<Item = (Phase, f64, f64)> {
        let mut from = 0.0;
        Phase::ALL
            .into_iter()
            .zip(self.phases)
            .filter_map(move |(phase, ns)| {
                let start = from;
                from += ns;
                (ns > 0.0).then_some((phase, start, ns))
            })
    }
}

/// What the mean fault of each kind consists of.
pub(super) fn by_kind(profile: &Profile) -> Markup {
    let row = |name: &str, phases: &[Latencies; 5]| Row {
        name: name.to_owned(),
        faults: phases.iter().map(Latencies::count).max().unwrap_or(0),
        phases: phases.each_ref().map(Latencies::mean),
    };
    let all = [row("all", &profile.all.phases)];
    let of_kinds =
        kinds(profile).map(|kind| row(kind_name(kind), &profile.kinds[kind as usize].phases));
    let rows = all
        .into_iter()
        .chain(of_kinds)
        .filter(|row| row.sum() > 0.0)
        .collect();
    let says = "The phases of a fault one after the other, as the mean of each kind. On the right the mean of all.";
    stacked(
        "phases",
        "Which part takes the time",
        says,
        rows,
        Length::Time,
    )
}

/// What faults between two percentiles consist of.
pub(super) fn by_band(profile: &Profile) -> Markup {
    let row = |band: &Band| Row {
        name: match (band.from > 0.0, band.to < 1.0) {
            (false, _) => format!("up to {}", percentile(band.to)),
            (true, true) => format!("{}–{}", percentile(band.from), &percentile(band.to)[1..]),
            (true, false) => format!("above {}", percentile(band.from)),
        },
        faults: band.faults,
        phases: band.phases,
    };
    let rows: Vec<Row> = profile
        .all
        .bands
        .iter()
        .map(row)
        .filter(|row| row.sum() > 0.0)
        .collect();
    let says = "The shares of the phases in faults between two percentiles: what grows downwards is what makes slow ones slow.";
    stacked(
        "bands",
        "What makes slow faults slow",
        says,
        rows,
        Length::Share,
    )
}

/// What the length of a bar is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Time,
    Share,
}

fn stacked(id: &str, title: &str, says: &str, rows: Vec<Row>, length: Length) -> Markup {
    let known = |phase: &Phase| rows.iter().any(|row| row.phases[*phase as usize] > 0.0);
    let phases = Phase::ALL.into_iter().filter(known);
    let nothing = "Of faults that the kernel resolves by itself no phases are known.";
    let parts = Figure {
        id,
        title,
        says: if rows.is_empty() { nothing } else { says },
        legend: legend(
            false,
            phases.map(|phase| (phase_class(phase), phase.name())),
        ),
    };
    let chart = (!rows.is_empty()).then(|| draw(id, title, says, &rows, length));
    figure(parts, chart)
}

fn draw(id: &str, title: &str, says: &str, rows: &[Row], length: Length) -> Markup {
    let room = Room {
        left: 98.0,
        top: 6.0,
        right: svg::WIDTH - 66.0,
        bottom: 6.0 + ROW * rows.len() as f64,
    };
    let longest = rows.iter().map(Row::sum).fold(0.0, f64::max);
    let x = match length {
        Length::Time => Axis {
            scale: Scale::linear(longest, room.across()),
            name: "mean time",
            ticks: 3,
            label: duration,
        },
        Length::Share => Axis {
            scale: Scale::linear(1.0, room.across()),
            name: "share of the time",
            ticks: 4,
            label: percent,
        },
    };
    let around = html! {
        (svg::x_axis(&x, room))
        g class="axis y rows" {
            @for (place, row) in rows.iter().enumerate() {
                @let middle = room.top + (place as f64 + 0.5) * ROW + 4.0;
                text x=(Unit(room.left - 8.0)) y=(Unit(middle)) { (row.name) }
                text class="at-start" x=(Unit(room.right + 6.0)) y=(Unit(middle)) { (duration(row.sum())) }
            }
        }
    };
    let marks = html! {
        @for (place, row) in rows.iter().enumerate() {
            @let top = room.top + place as f64 * ROW + (ROW - BAR) / 2.0;
            @let unit = match length { Length::Time => 1.0, Length::Share => row.sum() };
            @for (phase, from, ns) in row.parts() {
                @let sides = (x.scale.at(from / unit), x.scale.at((from + ns) / unit));
                @let says = format!("{}, {}: {} {}, {} ({})", row.name, counted(row.faults, "fault"), phase.name(), duration(ns), percent(ns / row.sum()), phase_says(phase));
                (svg::bar(phase_class(phase), sides, (top, top + BAR), &says))
            }
        }
    };
    let said = Said {
        id: &format!("{id}-chart"),
        title,
        desc: says,
    };
    svg::chart(&said, room, around, marks)
}
