//! Which file each part of a private mapping is mapped from.
//!
//! A memory in its private home is mapped `MAP_PRIVATE` over sealed layers. What it sees may lie in many layers, but every mapping of another
//! layer costs a VMA, and a process has some 65,000. So one layer, the one that holds most, is mapped over everything it reaches; only long runs of
//! something else become segments of their own, and those are bounded in number. Every other page is an *exception*: the mapping shows the wrong
//! layer there until the right bytes are copied in, by the fault handler (traced) or ahead (native).
//!
//! ```text
//!   tree says    | A A A A A A | B | A A | zero ............ | C C C C C C C |
//!   segments     | A             A   A A | anonymous         | C             |
//!   exceptions                 | B |
//! ```

use std::ops::Range;

use page_tree::{LayerId, Place, Run};

use crate::hash::HashMap;

/// Runs from this many pages on are worth a VMA of their own: making one costs about as much as copying ten pages.
const LONG_RUN: u64 = 16;
/// At most so many long runs get one.
const MAX_LONG_RUNS: usize = 128;

/// A part of a private mapping that one file (or nothing: zeros) is mapped in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    /// Pages of the memory.
    pub(crate) pages: Range<u64>,
    /// Where the first of them is mapped from, the rest follow; `Zero` is anonymous memory.
    pub(crate) place: Place,
}

impl Segment {
    /// Where `page` is mapped from.
    fn at(&self, page: u64) -> Place {
        advance(self.place, page - self.pages.start)
    }
}

/// The segments of one private mapping: sorted, without gaps, from page 0 to the end of the memory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Plan {
    segments: Vec<Segment>,
}

impl Plan {
    /// All of one layer at its own offsets.
    pub(crate) fn single(layer: LayerId, pages: u64) -> Plan {
        Plan {
            segments: vec![Segment {
                pages: 0..pages,
                place: Place::In(layer, 0),
            }],
        }
    }

    /// The segments for a memory whose pages lie where `runs` (sorted, without gaps) say; `layer_pages` is each layer's length.
    pub(crate) fn choose(runs: &[Run], layer_pages: impl Fn(LayerId) -> u64) -> Plan {
        let end = runs.last().map_or(0, |run| run.pages.end);
        let base = base_segments(runs, end, &layer_pages);
        let mut long: Vec<&Run> = runs
            .iter()
            .filter(|run| run.pages.end - run.pages.start >= LONG_RUN && !shown_by(&base, run))
            .collect();
        long.sort_by_key(|run| std::cmp::Reverse(run.pages.end - run.pages.start));
        long.truncate(MAX_LONG_RUNS);
        long.sort_by_key(|run| run.pages.start);

        let mut plan = Plan::default();
        let mut at = 0;
        for run in long {
            plan.push_part(&base, at..run.pages.start);
            plan.push(Segment {
                pages: run.pages.clone(),
                place: run.place,
            });
            at = run.pages.end;
        }
        plan.push_part(&base, at..end);
        plan
    }

    /// The segments, by rising page.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What the mapping shows at `page` as long as the process has no private page there.
    pub(crate) fn shows(&self, page: u64) -> Place {
        let after = self
            .segments
            .partition_point(|segment| segment.pages.start <= page);
        match after.checked_sub(1).map(|i| &self.segments[i]) {
            Some(segment) if segment.pages.contains(&page) => segment.at(page),
            _ => Place::Zero,
        }
    }

    /// Calls `f` for each part of `run` in which the mapping shows something else than the run's place.
    pub(crate) fn exceptions(&self, run: &Run, mut f: impl FnMut(Run)) {
        for segment in &self.segments {
            let pages =
                segment.pages.start.max(run.pages.start)..segment.pages.end.min(run.pages.end);
            if pages.is_empty() {
                continue;
            }
            let place = advance(run.place, pages.start - run.pages.start);
            if segment.at(pages.start) != place {
                f(Run { pages, place });
            }
        }
    }

    fn push_part(&mut self, base: &[Segment], pages: Range<u64>) {
        for segment in base {
            let part = segment.pages.start.max(pages.start)..segment.pages.end.min(pages.end);
            if !part.is_empty() {
                self.push(Segment {
                    place: segment.at(part.start),
                    pages: part,
                });
            }
        }
    }

    fn push(&mut self, segment: Segment) {
        match self.segments.last_mut() {
            Some(last)
                if last.pages.end == segment.pages.start
                    && last.at(segment.pages.start) == segment.place =>
            {
                last.pages.end = segment.pages.end;
            }
            _ => self.segments.push(segment),
        }
    }
}

/// The place `by` pages further on.
pub(crate) fn advance(place: Place, by: u64) -> Place {
    match place {
        Place::Zero => Place::Zero,
        Place::In(layer, page) => Place::In(layer, page + by),
    }
}

/// The layer (at one shift) that most pages lie in, mapped wherever it reaches; anonymous memory elsewhere.
fn base_segments(runs: &[Run], end: u64, layer_pages: &impl Fn(LayerId) -> u64) -> Vec<Segment> {
    let mut pages_at: HashMap<(LayerId, i128), u64> = HashMap::default();
    for run in runs {
        if let Place::In(layer, page) = run.place {
            let shift = i128::from(page) - i128::from(run.pages.start);
            *pages_at.entry((layer, shift)).or_default() += run.pages.end - run.pages.start;
        }
    }
    // The layer's number breaks ties, so that the same memory always gets the same plan.
    let Some((&(layer, shift), _)) = pages_at.iter().max_by_key(|&(&key, &pages)| (pages, key))
    else {
        return vec![Segment {
            pages: 0..end,
            place: Place::Zero,
        }];
    };
    let clamp = |page: i128| page.clamp(0, i128::from(end)) as u64;
    let reach = clamp(-shift)..clamp(i128::from(layer_pages(layer)) - shift);
    let mut base = Vec::new();
    let mut add = |pages: Range<u64>, place: Place| {
        if !pages.is_empty() {
            base.push(Segment { pages, place });
        }
    };
    add(0..reach.start, Place::Zero);
    add(
        reach.clone(),
        Place::In(layer, (i128::from(reach.start) + shift) as u64),
    );
    add(reach.end.max(reach.start)..end, Place::Zero);
    base
}

fn shown_by(base: &[Segment], run: &Run) -> bool {
    base.iter().any(|segment| {
        segment.pages.start <= run.pages.start
            && run.pages.end <= segment.pages.end
            && segment.at(run.pages.start) == run.place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LayerId = LayerId(1);
    const B: LayerId = LayerId(2);

    fn run(pages: Range<u64>, place: Place) -> Run {
        Run { pages, place }
    }

    fn exceptions(plan: &Plan, runs: &[Run]) -> Vec<Run> {
        let mut found = Vec::new();
        runs.iter()
            .for_each(|run| plan.exceptions(run, |e| found.push(e)));
        found
    }

    #[test]
    fn one_layer_is_one_segment() {
        let runs = [run(0..100, Place::In(A, 0))];
        let plan = Plan::choose(&runs, |_| 100);
        assert_eq!(plan, Plan::single(A, 100));
        assert!(exceptions(&plan, &runs).is_empty());
    }

    #[test]
    fn short_runs_are_exceptions_and_long_ones_segments() {
        let runs = [
            run(0..50, Place::In(A, 0)),
            run(50..51, Place::In(B, 50)),
            run(51..60, Place::In(A, 51)),
            run(60..80, Place::In(B, 60)),
            run(80..100, Place::In(A, 80)),
        ];
        let plan = Plan::choose(&runs, |_| 100);
        assert_eq!(plan.segments().len(), 3);
        assert_eq!(exceptions(&plan, &runs), [run(50..51, Place::In(B, 50))]);
        assert_eq!(plan.shows(50), Place::In(A, 50));
        for (page, layer) in [(0, A), (59, A), (60, B), (70, B), (79, B), (80, A), (99, A)] {
            assert_eq!(plan.shows(page), Place::In(layer, page));
        }
    }

    #[test]
    fn a_layer_is_not_mapped_where_it_does_not_reach() {
        // A clone whose page 0 is the layer's page 90, of a layer of 100 pages.
        let runs = [run(0..10, Place::In(A, 90)), run(10..40, Place::Zero)];
        let plan = Plan::choose(&runs, |_| 100);
        assert_eq!(
            plan.segments(),
            [
                Segment {
                    pages: 0..10,
                    place: Place::In(A, 90)
                },
                Segment {
                    pages: 10..40,
                    place: Place::Zero
                }
            ]
        );
        // A layer that begins in the middle of the memory.
        let runs = [run(0..20, Place::Zero), run(20..40, Place::In(B, 0))];
        let plan = Plan::choose(&runs, |_| 20);
        assert_eq!(plan.shows(0), Place::Zero);
        assert_eq!(plan.shows(39), Place::In(B, 19));
    }

    #[test]
    fn the_number_of_segments_is_bounded() {
        let runs: Vec<Run> = (0..1000)
            .map(|i| {
                run(
                    i * 20..(i + 1) * 20,
                    if i % 2 == 0 {
                        Place::In(A, i * 20)
                    } else {
                        Place::In(B, i * 20)
                    },
                )
            })
            .collect();
        let plan = Plan::choose(&runs, |_| 20_000);
        assert!(plan.segments().len() <= 2 * MAX_LONG_RUNS + 1);
        let seen: u64 = plan
            .segments()
            .iter()
            .map(|s| s.pages.end - s.pages.start)
            .sum();
        assert_eq!(seen, 20_000);
    }

    #[test]
    fn nothing_at_all_is_no_segment() {
        assert!(Plan::choose(&[], |_| 0).segments().is_empty());
    }
}
