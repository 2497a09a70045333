//! The histogram, drawn.

use std::io::{self, Write};

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::widgets::Widget;
use ratatui_widgets::barchart::{Bar, BarChart};

use super::{WIDTH, share};
use crate::label::{count, duration};
use crate::profile::Profile;

/// Bars at most, if they can be so few.
const BARS: usize = 18;

/// Where bars of a decade may begin: each row is tried if that above makes too many.
const STEPS: [&[u64]; 3] = [&[10, 15, 20, 30, 50, 70], &[10, 20, 50], &[10]];

/// Writes a histogram of all times, of bars that are about equally wide on a logarithmic axis.
pub(super) fn write(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    let times = profile.all.latencies(profile.measure);
    if times.is_empty() {
        return Ok(());
    }
    let steps = times.histogram().iter_recorded();
    // What is above the longest that the histogram has is the longest.
    let recorded: Vec<(u64, u64)> = steps
        .map(|step| {
            let ns = step.value_iterated_to().clamp(times.least(), times.most());
            (ns, step.count_at_value())
        })
        .collect();
    let all = STEPS.map(|steps| with_tail(buckets(&recorded, &edges(steps))));
    let [.., last] = &all;
    let buckets = all.iter().find(|bars| bars.len() <= BARS).unwrap_or(last);

    let most = buckets.iter().map(|bucket| bucket.2).max().unwrap_or(1);
    let widest = |text: fn(&(u64, u64, u64)) -> String| {
        let widths = buckets.iter().map(|bucket| text(bucket).chars().count());
        widths.max().unwrap_or(0)
    };
    let (from, of) = (
        widest(|bucket| duration(bucket.0 as f64)),
        widest(|bucket| count(bucket.2)),
    );
    let labels: Vec<String> = buckets
        .iter()
        .map(|bucket| {
            format!(
                "{:>from$}  {:>of$}  {:>6}",
                duration(bucket.0 as f64),
                count(bucket.2),
                share(bucket.2, times.count()),
            )
        })
        .collect();
    // Bars consist of whole cells. What there is, is to be seen, however few they are.
    let room = u64::from(WIDTH).saturating_sub(labels[0].chars().count() as u64 + 2);
    let cell = most.div_ceil(room.max(1));
    let bars = buckets.iter().zip(labels).map(|(bucket, label)| {
        let shown = match bucket.2 {
            0 => 0,
            some => some.max(cell),
        };
        Bar::new(shown).label(label).text_value("")
    });
    let bars: Vec<Bar<'_>> = bars.collect();
    let area = Rect::new(0, 0, WIDTH - 1, bars.len() as u16);
    let mut buffer = Buffer::empty(area);
    BarChart::horizontal(bars)
        .bar_width(1)
        .bar_gap(0)
        .max(most)
        .render(area, &mut buffer);
    let tail = match buckets.last() {
        Some((_, u64::MAX, _)) => "; the last bar has all that took longer",
        _ => "",
    };
    writeln!(to, "\nHow many took how long, from ... on{tail}")?;
    for y in 0..area.height {
        let cells = (0..area.width).filter_map(|x| buffer.cell((x, y)));
        let line: String = cells.map(|cell| cell.symbol()).collect();
        writeln!(to, " {}", line.trim_end())?;
    }
    Ok(())
}

/// All beginnings of bars, in ascending order, from 0 on.
fn edges(steps: &[u64]) -> Vec<u64> {
    let decades = (0..=18).map(|power| 10_u64.pow(power));
    let edges = decades.flat_map(|decade| {
        steps
            .iter()
            .map(move |step| step.saturating_mul(decade) / 10)
    });
    let mut edges: Vec<u64> = [0].into_iter().chain(edges).collect();
    edges.dedup();
    edges
}

/// From the first to the last bar that has something: where it begins, where it ends, how many there are.
fn buckets(recorded: &[(u64, u64)], edges: &[u64]) -> Vec<(u64, u64, u64)> {
    let place = |ns: u64| edges.partition_point(|edge| *edge <= ns) - 1;
    let (Some(first), Some(last)) = (recorded.first(), recorded.last()) else {
        return Vec::new();
    };
    let first = place(first.0);
    let places = first..=place(last.0);
    let mut buckets: Vec<(u64, u64, u64)> = places
        .map(|at| (edges[at], edges.get(at + 1).copied().unwrap_or(u64::MAX), 0))
        .collect();
    for (ns, count) in recorded {
        buckets[place(*ns) - first].2 += count;
    }
    buckets
}

/// Puts the slowest thousandth into one bar: a single fault that took very long would make all others few and wide. Its end is `u64::MAX`.
fn with_tail(mut buckets: Vec<(u64, u64, u64)>) -> Vec<(u64, u64, u64)> {
    let all: u64 = buckets.iter().map(|bucket| bucket.2).sum();
    let mut behind = 0;
    let tail = buckets.iter().rposition(|bucket| {
        behind += bucket.2;
        behind > all / 1000
    });
    let first = tail.map_or(0, |last| last + 1);
    if buckets.len() > first + 1 {
        let count = buckets
            .drain(first + 1..)
            .map(|bucket| bucket.2)
            .sum::<u64>();
        buckets[first].1 = u64::MAX;
        buckets[first].2 += count;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_begin_at_round_times() {
        let edges = edges(STEPS[0]);
        assert_eq!(edges[..10], [0, 1, 2, 3, 5, 7, 10, 15, 20, 30]);
        let buckets = buckets(&[(3, 1), (9, 2), (10, 4), (14, 8), (u64::MAX, 16)], &edges);
        let counts: Vec<u64> = buckets.iter().map(|bucket| bucket.2).collect();
        assert_eq!(counts[..5], [1, 0, 2, 12, 0]);
        assert_eq!(counts.last(), Some(&16));
        assert_eq!(buckets[0].0, 3);
    }

    #[test]
    fn the_slowest_thousandth_is_one_bar() {
        let bars = vec![(1, 2, 4_000), (2, 3, 2), (3, 5, 0), (5, 7, 1), (7, 10, 1)];
        assert_eq!(with_tail(bars.clone()), [(1, 2, 4_000), (2, u64::MAX, 4)]);
        // Of fewer faults each one counts.
        let few: Vec<_> = bars.into_iter().skip(1).collect();
        assert_eq!(with_tail(few.clone()), few);
        assert_eq!(with_tail(Vec::new()), []);
    }
}
