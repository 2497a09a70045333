//! When: faults a second, and their times, over time.

use maud::{Markup, html};

use super::{Figure, figure, kind_class, kind_legend, legend, stacked};
use crate::fault::Kind;
use crate::label::{count, duration, short};
use crate::latency::Summary;
use crate::profile::{Profile, TimeBin};
use crate::svg::{self, Axis, Room, Said, Scale};
use crate::words::{kind_name, kinds};

/// Why there are no curves over time.
const AT_ONCE: &str = "All faults came at once.";

/// How many faults there were in each second.
pub(super) fn rates(profile: &Profile) -> Markup {
    let rate = |bin: &TimeBin| kinds(profile).map(|kind| bin.rate(kind)).sum::<f64>();
    let most = profile.bins.iter().map(rate).fold(0.0, f64::max);
    let says = match profile.bins.as_slice() {
        [] => "No faults.".to_owned(),
        [_] => AT_ONCE.to_owned(),
        [bin, ..] => format!(
            "Faults a second, by kind: up to {} in {}.",
            short(most),
            duration(bin.len_ns as f64)
        ),
    };
    let parts = Figure {
        id: "rates",
        title: "When faults happen",
        says: &says,
        legend: kind_legend(profile, false),
    };
    let draw = || {
        let room = Room::of(150.0);
        let x = time_axis(profile, room);
        let y = Axis {
            scale: Scale::linear(most, room.up()),
            name: "faults a second",
            ticks: 4,
            label: short,
        };
        let marks = html! {
            @for bin in &profile.bins {
                @let (from, to) = span(profile, bin);
                @let sides = (x.scale.at(from), x.scale.at(to));
                @for (kind, below, above) in stacked(Kind::ALL.map(|kind| bin.rate(kind))) {
                    @let ends = (y.scale.at(below), y.scale.at(above));
                    @let says = format!("{} – {}: {} {}, {} a second", duration(from), duration(to), count(bin.kinds[kind as usize]), kind_name(kind), short(above - below));
                    (svg::bar(kind_class(kind), sides, ends, &says))
                }
            }
        };
        let around = html! {
            (svg::y_axis(&y, room))
            (svg::x_axis(&x, room))
        };
        let said = Said {
            id: "rates-chart",
            title: "Faults a second over time, by kind",
            desc: &says,
        };
        svg::chart(&said, room, around, marks)
    };
    let chart = (profile.bins.len() > 1).then(draw);
    figure(parts, chart)
}

/// How slow they were then.
pub(super) fn latencies(profile: &Profile) -> Markup {
    let timed = || profile.bins.iter().filter(|bin| bin.latency.count > 0);
    let says = match profile.bins.len() {
        0 => "No faults.",
        1 => AT_ONCE,
        _ => "The median and the 99th percentile of the faults in each part of the time.",
    };
    let parts = Figure {
        id: "latencies",
        title: "How slow they are then",
        says,
        legend: legend(true, [("median", "p50"), ("slow", "p99")]),
    };
    let draw = || {
        let room = Room::of(150.0);
        let x = time_axis(profile, room);
        let least = timed().map(|bin| bin.latency.p50).min().unwrap_or(0);
        let most = timed().map(|bin| bin.latency.p99).max().unwrap_or(0);
        let y = Axis {
            scale: Scale::log(least as f64, most as f64, room.up()),
            name: "time of a fault",
            ticks: 4,
            label: duration,
        };
        let marks = html! {
            @for (class, name, of) in CURVES {
                @for run in profile.bins.chunk_by(|left, right| left.latency.count > 0 && right.latency.count > 0) {
                    @let at = |bin: &TimeBin| {
                        let (from, to) = span(profile, bin);
                        (x.scale.at((from + to) / 2.0), y.scale.at(of(&bin.latency) as f64))
                    };
                    @match run {
                        // One alone is no line.
                        [bin] if bin.latency.count > 0 => (svg::point(class, at(bin), &format!("{name}: {}", duration(of(&bin.latency) as f64)))),
                        [_] | [] => {},
                        several => (svg::line(class, several.iter().map(at), name)),
                    }
                }
            }
        };
        let around = html! {
            (svg::y_axis(&y, room))
            (svg::x_axis(&x, room))
        };
        let said = Said {
            id: "latencies-chart",
            title: "Median and 99th percentile of the times of faults over time",
            desc: says,
        };
        svg::chart(&said, room, around, marks)
    };
    let chart = (profile.bins.len() > 1 && timed().next().is_some()).then(draw);
    figure(parts, chart)
}

type Curve = (&'static str, &'static str, fn(&Summary) -> u64);

/// Class, name, and which time.
const CURVES: [Curve; 2] = [
    ("slow", "p99", |latency| latency.p99),
    ("median", "p50", |latency| latency.p50),
];

/// The axis of time, from the first fault on.
pub(super) fn time_axis(profile: &Profile, room: Room) -> Axis {
    let end = profile.bins.last().map_or(0.0, |bin| span(profile, bin).1);
    Axis {
        scale: Scale::linear(end, room.across()),
        name: "time since the first fault",
        ticks: ((room.right - room.left) / 70.0).round() as usize,
        label: duration,
    }
}

/// When a part of the time begins and ends, in nanoseconds since the first part began.
pub(super) fn span(profile: &Profile, bin: &TimeBin) -> (f64, f64) {
    let start = profile.bins.first().map_or(0, |first| first.from_ns);
    let from = bin.from_ns.saturating_sub(start) as f64;
    (from, from + bin.len_ns as f64)
}
