//! What a clone has to reach to be worth it, and whether it did.

use serde::Serialize;

use super::How;
use super::round::{Before, Tally, Together};
use crate::report::{Percentiles, duration, size};

/// A bar, and how one way has done.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) bar: Bar,
    pub(super) how: How,
    pub(super) measured: f64,
    pub(super) limit: f64,
    pub(super) met: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bar {
    /// Request to result, median, at most 1.2 times what the script takes in a process that has run it before, plus 2 ms. In milliseconds.
    NearInProcess,
    /// Request to result, median, at least 20 times sooner than cold: cold's by this way's.
    SoonerThanCold,
    /// Request to result, median, no more than fork's. In milliseconds.
    NoSlowerThanFork,
    /// All children that live at the same time, and the zygote, at most 1.5 times the zygote alone plus what the children changed. In bytes.
    Memory,
}

impl Bar {
    pub(super) const ALL: [Bar; 4] = [
        Bar::NearInProcess,
        Bar::SoonerThanCold,
        Bar::NoSlowerThanFork,
        Bar::Memory,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Bar::NearInProcess => "at most 1.2 x in-process + 2 ms",
            Bar::SoonerThanCold => "at least 20 x sooner than cold",
            Bar::NoSlowerThanFork => "no slower than fork",
            Bar::Memory => {
                "all children and the zygote: at most 1.5 x the zygote alone + what they changed"
            }
        }
    }

    /// A measurement in the bar's unit.
    pub(super) fn show(self, measured: f64) -> String {
        match self {
            Bar::NearInProcess | Bar::NoSlowerThanFork => duration(measured * 1e6),
            Bar::SoonerThanCold => format!("{measured:.1} x"),
            Bar::Memory => size(measured as u64),
        }
    }

    /// How a way does; `None` without the row to compare it with.
    fn judge(self, tally: &Tally, rows: &[(How, Tally)], zygote: Before) -> Option<(f64, f64)> {
        let median = |tally: &Tally| Percentiles::of(tally.request_ns.clone()).p50 as f64 / 1e6;
        let other = |how| {
            let row = rows.iter().find(|(other, _)| *other == how);
            row.map(|(_, tally)| median(tally))
        };
        match self {
            Bar::NearInProcess => Some((median(tally), 1.2 * other(How::InProcess)? + 2.0)),
            Bar::SoonerThanCold => Some((other(How::Cold)? / median(tally), 20.0)),
            Bar::NoSlowerThanFork => Some((median(tally), other(How::Fork)?)),
            Bar::Memory => {
                let sums = tally
                    .together
                    .iter()
                    .map(|together| memory(together, zygote));
                // The worst turn.
                sums.max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)))
            }
        }
    }
}

/// What all have, and what they may have. PSS alone would not tell: what nobody has mapped just now is in nobody's.
fn memory(together: &Together, zygote: Before) -> (f64, f64) {
    let shared = together.pss.saturating_sub(together.private);
    let all = together.private + together.zygote_private + shared.max(zygote.frozen);
    let limit = 1.5 * zygote.alone as f64 + together.private as f64;
    (all as f64, limit)
}

/// Judges cowspace's rows.
pub(super) fn verdicts(rows: &[(How, Tally)], zygote: Before) -> Vec<Verdict> {
    let own = rows.iter().filter(|(how, _)| how.is_cowspace());
    let of_row = |(how, tally): &(How, Tally)| {
        Bar::ALL.map(|bar| {
            let (measured, limit) = bar.judge(tally, rows, zygote)?;
            let met = match bar {
                Bar::SoonerThanCold => measured >= limit,
                _ => measured <= limit,
            };
            Some(Verdict {
                bar,
                how: *how,
                measured,
                limit,
                met,
            })
        })
    };
    own.flat_map(of_row).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(ms: u64, together: Together) -> Tally {
        Tally {
            request_ns: vec![ms * 1_000_000],
            together: vec![together],
            ..Tally::default()
        }
    }

    #[test]
    fn bars_are_met_up_to_their_limits() {
        let together = |pss| Together {
            children: 2,
            pss,
            private: 30,
            zygote_private: 10,
        };
        let zygote = Before {
            alone: 100,
            frozen: 70,
        };
        let rows = |ms, pss| {
            vec![
                (How::CowspaceNative, tally(ms, together(pss))),
                (How::Fork, tally(8, together(0))),
                (How::Cold, tally(160, together(0))),
                (How::InProcess, tally(5, together(0))),
            ]
        };
        let met = |ms, pss| {
            verdicts(&rows(ms, pss), zygote)
                .iter()
                .map(|verdict| verdict.met)
                .collect::<Vec<_>>()
        };
        assert_eq!(met(8, 170), [true; 4]);
        assert_eq!(met(9, 171), [false; 4]);
        // Without a row to compare with there is no verdict.
        let mut rows = rows(8, 170);
        rows.retain(|(how, _)| !matches!(how, How::Fork | How::InProcess));
        let bars: Vec<Bar> = verdicts(&rows, zygote)
            .iter()
            .map(|verdict| verdict.bar)
            .collect();
        assert_eq!(bars, [Bar::SoonerThanCold, Bar::Memory]);
    }
}
