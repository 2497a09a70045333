//! How slow: the histogram, and the curve of percentiles.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{Figure, figure, kind_class, kind_legend, stacked};
use crate::label::{count, duration, percentile, short};
use crate::latency::{Bucket, Latencies};
use crate::profile::Profile;
use crate::svg::{self, Axis, Room, Said, Scale, Unit};
use crate::words::{counted, kind_name, kinds, measure_says};

/// Bars of the histogram, at most: what more would be are lines.
const BARS: u32 = 96;

/// Points of a curve: more are not seen.
const POINTS: u32 = 120;

/// Percentiles that have a point one can ask.
const POINTED: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// Bars of all kinds at one place, with its edges.
struct Place {
    from_ns: f64,
    to_ns: f64,
    counts: [u64; 4],
}

/// How many faults took how long, by kind.
pub(super) fn histogram(profile: &Profile) -> Markup {
    let times = profile.all.latencies(profile.measure);
    let summary = times.summary();
    let says = match times.is_empty() {
        true => "No fault was answered with a page.".to_owned(),
        false => format!(
            "Time of a fault, {}. Half of them take {} or less, 99 % {} or less.",
            measure_says(profile.measure),
            duration(summary.p50 as f64),
            duration(summary.p99 as f64)
        ),
    };
    let parts = Figure {
        id: "histogram",
        title: "How long faults take",
        says: &says,
        legend: kind_legend(profile, false),
    };
    let chart = (!times.is_empty()).then(|| draw_histogram(profile, times, &says));
    figure(parts, chart)
}

fn draw_histogram(profile: &Profile, times: &Latencies, says: &str) -> Markup {
    let octaves = times.most().max(1).ilog2() - times.least().max(1).ilog2() + 1;
    let steps = (BARS / octaves).clamp(1, 8);
    let places = places(profile, steps);
    let room = Room::of(190.0);
    let most = places.iter().map(|place| place.counts.iter().sum::<u64>());
    let x = Axis {
        scale: Scale::log(
            places.first().map_or(1.0, |place| place.from_ns),
            places.last().map_or(1.0, |place| place.to_ns),
            room.across(),
        ),
        name: "time of a fault (logarithmic)",
        ticks: 5,
        label: duration,
    };
    let y = Axis {
        scale: Scale::linear(most.max().unwrap_or(0) as f64, room.up()),
        name: "faults",
        ticks: 4,
        label: short,
    };
    let marks = html! {
        @for place in &places {
            @let sides = (x.scale.at(place.from_ns), x.scale.at(place.to_ns));
            @let range = format!("{} – {}", duration(place.from_ns), duration(place.to_ns));
            @for (kind, from, to) in stacked(place.counts.map(|count| count as f64)) {
                @let ends = (y.scale.at(from), y.scale.at(to));
                @let says = format!("{range}: {} {}", count(place.counts[kind as usize]), kind_name(kind));
                (svg::bar(kind_class(kind), sides, ends, &says))
            }
        }
        (percentile_lines(times, &x, room))
    };
    let around = html! {
        (svg::y_axis(&y, room))
        (svg::x_axis(&x, room))
    };
    let said = Said {
        id: "histogram-chart",
        title: "Histogram of the times of faults, by kind",
        desc: says,
    };
    svg::chart(&said, room, around, marks)
}

/// Lines at the median and the 99th percentile.
fn percentile_lines(times: &Latencies, x: &Axis, room: Room) -> Markup {
    let lines = [0.5, 0.99].map(|share| {
        let at = x.scale.at(times.quantile(share) as f64);
        (at, percentile(share))
    });
    html! {
        g class="percentiles" {
            @for (at, _) in &lines {
                path class="edge" d=(format!("M{} {}V{}", Unit(*at), Unit(room.top), Unit(room.bottom))) {}
            }
            (svg::in_a_row(lines, room.top - 6.0))
        }
    }
}

/// The bars, by place: those of all kinds have the same edges, since those lie at powers of two and the same parts of them.
fn places(profile: &Profile, steps: u32) -> Vec<Place> {
    let mut places: BTreeMap<i64, Place> = BTreeMap::new();
    for kind in kinds(profile) {
        let times = profile.kinds[kind as usize].latencies(profile.measure);
        for Bucket {
            from_ns,
            to_ns,
            count,
        } in times.buckets(steps)
        {
            if count > 0 {
                let key = (from_ns.log2() * f64::from(steps)).round() as i64;
                let place = places.entry(key).or_insert(Place {
                    from_ns,
                    to_ns,
                    counts: [0; 4],
                });
                place.counts[kind as usize] += count;
            }
        }
    }
    places.into_values().collect()
}

/// Which share of the faults takes how long at most, by kind.
pub(super) fn percentiles(profile: &Profile) -> Markup {
    let times = profile.all.latencies(profile.measure);
    let says = match times.is_empty() {
        true => "No fault was answered with a page.",
        false => {
            "Each further nine on the axis is a tenth of the faults before it: the slow ones are on the right. Points have their numbers."
        }
    };
    let parts = Figure {
        id: "percentiles",
        title: "How slow the slow ones are",
        says,
        legend: kind_legend(profile, true),
    };
    let chart = (!times.is_empty()).then(|| draw_percentiles(profile, times, says));
    figure(parts, chart)
}

fn draw_percentiles(profile: &Profile, times: &Latencies, says: &str) -> Markup {
    let room = Room::of(190.0);
    let x = Axis {
        scale: Scale::nines(times.count(), room.across()),
        name: "percentile",
        ticks: 9,
        label: |share| percentile(share)[1..].to_owned(),
    };
    let y = Axis {
        scale: Scale::log(times.least() as f64, times.most() as f64, room.up()),
        name: "time of a fault",
        ticks: 6,
        label: duration,
    };
    let with_times = || {
        kinds(profile)
            .map(|kind| {
                (
                    kind,
                    profile.kinds[kind as usize].latencies(profile.measure),
                )
            })
            .filter(|(_, times)| !times.is_empty())
    };
    let marks = html! {
        @for (kind, times) in with_times() {
            @let own = Scale::nines(times.count(), (0.0, 1.0));
            // Equal steps on the axis, to the end of this kind's.
            @let shares = (0..=POINTS).map(|step| 1.0 - (1.0 - own.to()).powf(f64::from(step) / f64::from(POINTS)));
            @let at = |share: f64| (x.scale.at(share), y.scale.at(times.quantile(share) as f64));
            (svg::line(kind_class(kind), shares.map(at), &format!("{}: {}", kind_name(kind), counted(times.count(), "fault"))))
            @for share in POINTED.into_iter().filter(|share| *share <= own.to()) {
                (svg::point(kind_class(kind), at(share), &format!("{} {}: {}", kind_name(kind), percentile(share), duration(times.quantile(share) as f64))))
            }
        }
    };
    let around = html! {
        (svg::y_axis(&y, room))
        (svg::x_axis(&x, room))
    };
    let said = Said {
        id: "percentiles-chart",
        title: "Percentiles of the times of faults, by kind",
        desc: says,
    };
    svg::chart(&said, room, around, marks)
}
