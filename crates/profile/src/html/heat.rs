//! Where and when: faults over addresses and time.

use maud::{Markup, html};

use super::{Figure, figure, time};
use crate::label::{bytes, count, duration};
use crate::name;
use crate::profile::{HeatRow, Process, Profile};
use crate::svg::{self, Room, Said, Unit};
use crate::words::counted;

/// Columns at most: the model's are put together. More would be a megabyte of cells.
const COLUMNS: usize = 60;

/// Colours, from few faults to many.
const COLOURS: usize = 6;

const CLASSES: [&str; COLOURS] = [
    "heat heat0",
    "heat heat1",
    "heat heat2",
    "heat heat3",
    "heat heat4",
    "heat heat5",
];

/// Units that the whole map is high, about, and a row at least and at most.
const HEIGHT: f64 = 260.0;
const ROW: (f64, f64) = (4.0, 26.0);

/// Units that a line of text is high.
const TEXT: f64 = 15.0;

/// Units for a region's name beside the map, and in each cell's tooltip: there may be thousands.
const NAME: f64 = 114.0;

/// The map.
pub(super) fn map(profile: &Profile) -> Markup {
    let cells = Cells::new(profile);
    let says = match profile.heat.rows.len() {
        0 => "No faults.",
        _ => {
            "Each row is a part of the addresses that faulted, region above region. The colour of a cell is how many faults there were then."
        }
    };
    let colours = Colours::new(cells.most);
    let parts = Figure {
        id: "heat",
        title: "Where and when",
        says,
        legend: super::legend(false, colours.names()),
    };
    let chart = (cells.most > 0).then(|| draw(profile, &cells, &colours, says));
    figure(parts, chart)
}

/// The model's cells, in so few columns that all can be drawn.
struct Cells {
    /// How many of the model's columns are one.
    fold: usize,
    /// By row.
    rows: Vec<Vec<u64>>,
    most: u64,
}

impl Cells {
    fn new(profile: &Profile) -> Cells {
        let heat = &profile.heat;
        let fold = heat.columns.div_ceil(COLUMNS).max(1);
        let row = |row| heat.row(row).chunks(fold).map(|cells| cells.iter().sum());
        let rows: Vec<Vec<u64>> = (0..heat.rows.len()).map(|at| row(at).collect()).collect();
        let most = rows.iter().flatten().copied().max().unwrap_or(0);
        Cells { fold, rows, most }
    }
}

/// Which counts have which colour: the bounds grow by the same factor.
struct Colours {
    /// The least count of each colour; those of the same bound are one.
    from: Vec<u64>,
    most: u64,
}

impl Colours {
    fn new(most: u64) -> Colours {
        // A little less: powers are not exact, and whole ones must not be rounded up.
        let bound = |step: usize| {
            let bound = (most.max(1) as f64).powf(step as f64 / COLOURS as f64);
            (bound - 1e-6).ceil()
        };
        let mut from: Vec<u64> = (0..COLOURS).map(|step| bound(step) as u64).collect();
        from.dedup();
        Colours { from, most }
    }

    fn class(&self, count: u64) -> &'static str {
        let above = self.from.iter().rposition(|from| *from <= count);
        self.class_of(above.unwrap_or(0))
    }

    /// The colours are spread, if there are less bounds than colours.
    fn class_of(&self, bound: usize) -> &'static str {
        CLASSES[bound + (COLOURS - self.from.len())]
    }

    fn names(&self) -> Vec<(&'static str, String)> {
        let ends = self
            .from
            .iter()
            .skip(1)
            .map(|next| next - 1)
            .chain([self.most]);
        let range = |from: u64, to: u64| match from == to {
            true => count(from),
            false => format!("{}–{}", count(from), count(to)),
        };
        let names = self.from.iter().zip(ends).enumerate();
        names
            .map(|(bound, (from, to))| (self.class_of(bound), range(*from, to)))
            .collect()
    }
}

fn draw(profile: &Profile, cells: &Cells, colours: &Colours, says: &str) -> Markup {
    let rows = &profile.heat.rows;
    let high = (HEIGHT / rows.len() as f64).clamp(ROW.0, ROW.1);
    let room = Room {
        left: NAME + 8.0,
        top: 6.0,
        right: svg::WIDTH - 20.0,
        bottom: 6.0 + high * rows.len() as f64,
    };
    let x = time::time_axis(profile, room);
    let of_processes = spans(rows, room, high, |row| {
        Some(profile.regions.get(row.region?)?.process)
    });
    let whose = Whose::new(&of_processes, profile);
    let marks = html! {
        @for (place, (row, counts)) in rows.iter().zip(&cells.rows).enumerate() {
            @let sides = (room.top + place as f64 * high, room.top + (place + 1) as f64 * high);
            @let name = short_name(profile, row, Whose::BesideName);
            @let place = match row.region {
                Some(_) => format!("{name} + {}", bytes(row.offset)),
                None => name,
            };
            @for (column, faults) in counts.iter().enumerate().filter(|(_, faults)| **faults > 0) {
                @let first = column * cells.fold;
                @let last = (first + cells.fold).min(profile.bins.len()).saturating_sub(1);
                @if let (Some(first), Some(last)) = (profile.bins.get(first), profile.bins.get(last)) {
                    @let (from, to) = (time::span(profile, first).0, time::span(profile, last).1);
                    @let says = format!("{place}, {} – {}: {}", duration(from), duration(to), counted(*faults, "fault"));
                    (svg::bar(colours.class(*faults), (x.scale.at(from), x.scale.at(to)), sides, &says))
                }
            }
        }
    };
    let around = html! {
        (svg::x_axis(&x, room))
        (regions(profile, room, high, whose))
        (processes(profile, &of_processes, room, whose))
    };
    let said = Said {
        id: "heat-chart",
        title: "Faults over addresses and time",
        desc: says,
    };
    svg::chart(&said, room, around, marks)
}

/// The name of a row's region, as far as it fits, and whose it is, if that is written beside.
fn short_name(profile: &Profile, row: &HeatRow, whose: Whose) -> String {
    let Some(region) = row.region.and_then(|region| profile.regions.get(region)) else {
        return "all others".to_owned();
    };
    let process = match whose {
        Whose::BesideName => name::whose(profile, region.process),
        Whose::Apart => String::new(),
    };
    svg::fit(&name::region_name(region), NAME - svg::width(&process)) + &process
}

/// Where the number of a region's process is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Once for all regions of a process, along its rows.
    Apart,
    /// With each region's name: the rows of a process are too few.
    BesideName,
}

impl Whose {
    fn new(processes: &[Span], profile: &Profile) -> Whose {
        let fits = |(row, top, bottom): &Span| {
            let number =
                process(profile, row).map_or(String::new(), |process| process.pid.to_string());
            svg::width(&number) < bottom - top
        };
        match processes.iter().all(fits) {
            true => Whose::Apart,
            false => Whose::BesideName,
        }
    }
}

/// Whose region a row is.
fn process<'a>(profile: &'a Profile, row: &HeatRow) -> Option<&'a Process> {
    let region = profile.regions.get(row.region?)?;
    profile.processes.get(region.process)
}

/// Rows that belong together, from where to where they lie.
type Span<'a> = (&'a HeatRow, f64, f64);

fn spans<'a, K: PartialEq>(
    rows: &'a [HeatRow],
    room: Room,
    high: f64,
    key: impl Fn(&HeatRow) -> K,
) -> Vec<Span<'a>> {
    let mut bottom = room.top;
    let runs = rows.chunk_by(|left, right| key(left) == key(right));
    let span = |run: &'a [HeatRow]| {
        let top = bottom;
        bottom += run.len() as f64 * high;
        (&run[0], top, bottom)
    };
    runs.map(span).collect()
}

/// The regions' names on the left, as far as there is room, and lines between them.
fn regions(profile: &Profile, room: Room, high: f64, whose: Whose) -> Markup {
    let spans = spans(&profile.heat.rows, room, high, |row| row.region);
    let mut free = 0.0;
    let fits = |(_, top, bottom): &&Span| {
        let middle = (top + bottom) / 2.0;
        let fits = middle - TEXT / 2.0 >= free;
        if fits {
            free = middle + TEXT / 2.0;
        }
        fits
    };
    html! {
        g class="axis y" {
            path class="line" d=(format!("M{} {}V{}", Unit(room.left), Unit(room.top), Unit(room.bottom))) {}
            @for (_, _, bottom) in &spans {
                path class="edge" d=(format!("M{} {}H{}", Unit(room.left - 6.0), Unit(*bottom), Unit(room.right))) {}
            }
            @for (row, top, bottom) in spans.iter().filter(fits) {
                text x=(Unit(room.left - 7.0)) y=(Unit((top + bottom) / 2.0 + 4.0)) {
                    (short_name(profile, row, whose))
                    @if let Some(region) = row.region.and_then(|region| profile.regions.get(region)) {
                        title { (name::region(profile, region, name::LONGEST)) }
                    }
                }
            }
        }
    }
}

/// Where there are several processes, lines between them, and their numbers on the right along their rows, if those are to be apart.
fn processes(profile: &Profile, spans: &[Span], room: Room, whose: Whose) -> Markup {
    let numbered = spans.iter().filter_map(|(row, top, bottom)| {
        let pid = process(profile, row)?.pid;
        let texts = [format!("process {pid}"), pid.to_string()];
        let fits = |text: &String| svg::width(text) < bottom - top;
        Some((texts.into_iter().find(fits)?, (top + bottom) / 2.0))
    });
    let at = room.right + 14.0;
    html! {
        @if profile.processes.len() > 1 {
            g class="axis" {
                @for (_, _, bottom) in spans {
                    path class="line" d=(format!("M{} {}H{}", Unit(room.left), Unit(*bottom), Unit(room.right + 16.0))) {}
                }
                @if whose == Whose::Apart {
                    @for (text, middle) in numbered {
                        text transform=(format!("translate({} {}) rotate(-90)", Unit(at), Unit(middle))) { (text) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_the_colour_that_the_legend_says() {
        for most in [1, 2, 3, 5, 6, 7, 100, 12_345, u64::from(u32::MAX)] {
            let colours = Colours::new(most);
            assert_eq!(colours.from[0], 1, "{most}");
            assert!(
                colours.from.is_sorted_by(|left, right| left < right),
                "{most}: {:?}",
                colours.from
            );
            assert_eq!(colours.class(1), colours.names()[0].0);
            assert_eq!(colours.class(most), CLASSES[COLOURS - 1]);
        }
        let names: Vec<_> = Colours::new(64).names();
        let texts: Vec<_> = names.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["1", "2–3", "4–7", "8–15", "16–31", "32–64"]);
        assert_eq!(Colours::new(64).class(15), "heat heat3");
    }
}
