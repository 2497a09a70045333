//! The page map of one node: disjoint runs of pages, each with the place of its content.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::layers::{LayerCounts, LayerId, Layers};

/// Where the content of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nowhere: the page is zero.
    Zero,
    /// In a layer, at this page of it.
    In(LayerId, u64),
}

impl Place {
    /// The place `pages` further on in the same run.
    #[must_use]
    pub fn plus(self, pages: u64) -> Place {
        match self {
            Place::Zero => Place::Zero,
            Place::In(layer, page) => Place::In(layer, page + pages),
        }
    }
}

/// Consecutive pages of a VMO that are at consecutive pages of one layer, or are all zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The pages, in the coordinates of the VMO asked.
    pub pages: Range<u64>,
    /// The place of the first page; the others follow it.
    pub place: Place,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    len: u64,
    place: Place,
}

/// Which pages of a node have a run, and where each has its content. [`Place::Zero`] is the zero marker: the page is zero
/// whatever an ancestor has there.
///
/// Runs are disjoint and not empty, and no run continues the one before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunMap {
    /// First page -> run.
    pieces: BTreeMap<u64, Piece>,
    /// How many pages of each layer the runs refer to.
    layers: LayerCounts,
}

/// The answer of [`RunMap::at`].
pub(crate) struct Span {
    /// The place of the page asked for; `None`: the page has no run.
    pub(crate) place: Option<Place>,
    /// For how many pages from that page on the same answer holds; at least 1.
    pub(crate) len: u64,
}

impl RunMap {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The number of runs.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The counts of the layers referred to.
    pub(crate) fn layers(&self) -> &LayerCounts {
        &self.layers
    }

    /// What `page` has, and how far that goes (for a gap after the last run: to the end of all pages).
    pub(crate) fn at(&self, page: u64) -> Span {
        if let Some((&start, piece)) = self.pieces.range(..=page).next_back()
            && page - start < piece.len
        {
            let skip = page - start;
            return Span {
                place: Some(piece.place.plus(skip)),
                len: piece.len - skip,
            };
        }
        let next = self
            .pieces
            .range(page..)
            .next()
            .map_or(u64::MAX, |(&start, _)| start);
        Span {
            place: None,
            len: next - page,
        }
    }

    /// The runs within `pages`, cut to it, in order.
    pub(crate) fn within(&self, pages: Range<u64>) -> impl Iterator<Item = Run> + '_ {
        let mut page = pages.start;
        std::iter::from_fn(move || {
            while page < pages.end {
                let span = self.at(page);
                let start = page;
                let end = pages.end.min(start.saturating_add(span.len));
                page = end;
                if let Some(place) = span.place {
                    return Some(Run {
                        pages: start..end,
                        place,
                    });
                }
            }
            None
        })
    }

    /// The maximal ranges within `pages` that have no run, in order.
    pub(crate) fn gaps(&self, pages: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut page = pages.start;
        std::iter::from_fn(move || {
            while page < pages.end {
                let span = self.at(page);
                let start = page;
                let end = pages.end.min(start.saturating_add(span.len));
                page = end;
                if span.place.is_none() {
                    return Some(start..end);
                }
            }
            None
        })
    }

    /// Every run, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.pieces.iter().map(|(&start, piece)| Run {
            pages: start..start + piece.len,
            place: piece.place,
        })
    }

    /// Gives `pages` the content at `place`, whatever they had.
    pub(crate) fn set(&mut self, pages: Range<u64>, place: Place, layers: &mut Layers) {
        if pages.is_empty() {
            return;
        }
        self.remove(pages.clone(), layers);
        if let Place::In(layer, _) = place {
            let len = pages.end - pages.start;
            layers.acquire(layer, len);
            self.layers.add(layer, len);
        }
        self.join(pages, place);
    }

    /// Takes the runs out of `pages`.
    pub(crate) fn remove(&mut self, pages: Range<u64>, layers: &mut Layers) {
        if pages.is_empty() {
            return;
        }
        self.split(pages.start);
        self.split(pages.end);
        while let Some((&start, _)) = self.pieces.range(pages.clone()).next() {
            let piece = self.pieces.remove(&start).expect("just found");
            if let Place::In(layer, _) = piece.place {
                self.layers.take(layer, piece.len);
                layers.release(layer, piece.len);
            }
        }
    }

    /// Takes out every zero marker.
    pub(crate) fn remove_markers(&mut self) {
        self.pieces.retain(|_, piece| piece.place != Place::Zero);
    }

    /// Moves the runs of `upper` in, each `shift` pages down (to lower numbers). They must fall into gaps.
    ///
    /// The smaller map goes into the larger one if there is no shift, so that a long-lived map is not moved by each of many merges.
    pub(crate) fn absorb(&mut self, mut upper: RunMap, shift: u64) {
        if shift == 0 && upper.pieces.len() > self.pieces.len() {
            std::mem::swap(self, &mut upper);
        }
        self.layers.add_all(&upper.layers);
        for (start, piece) in upper.pieces {
            let start = start - shift;
            self.join(start..start + piece.len, piece.place);
        }
    }

    /// Inserts a run in a gap, as one with its neighbours where they continue one another.
    fn join(&mut self, pages: Range<u64>, place: Place) {
        let mut len = pages.end - pages.start;
        if let Some(next) = self.pieces.get(&pages.end)
            && next.place == place.plus(len)
        {
            len += next.len;
            self.pieces.remove(&pages.end);
        }
        if let Some((&start, before)) = self.pieces.range_mut(..pages.start).next_back()
            && start + before.len == pages.start
            && before.place.plus(before.len) == place
        {
            before.len += len;
            return;
        }
        self.pieces.insert(pages.start, Piece { len, place });
    }

    /// Makes `page` the beginning of a run if it lies within one.
    fn split(&mut self, page: u64) {
        if let Some((&start, piece)) = self.pieces.range_mut(..page).next_back()
            && page - start < piece.len
        {
            let skip = page - start;
            let rest = Piece {
                len: piece.len - skip,
                place: piece.place.plus(skip),
            };
            piece.len = skip;
            self.pieces.insert(page, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LayerId = LayerId(1);
    const B: LayerId = LayerId(2);

    fn runs(map: &RunMap) -> Vec<(Range<u64>, Place)> {
        map.iter().map(|run| (run.pages, run.place)).collect()
    }

    #[test]
    fn runs_that_continue_one_another_are_one() {
        let (mut map, mut layers) = (RunMap::default(), Layers::default());
        map.set(4..6, Place::In(A, 4), &mut layers);
        map.set(0..2, Place::In(A, 0), &mut layers);
        map.set(2..4, Place::In(A, 2), &mut layers);
        assert_eq!(runs(&map), [(0..6, Place::In(A, 0))]);
        map.set(6..8, Place::In(A, 7), &mut layers);
        map.set(8..9, Place::Zero, &mut layers);
        map.set(9..10, Place::Zero, &mut layers);
        assert_eq!(
            runs(&map),
            [
                (0..6, Place::In(A, 0)),
                (6..8, Place::In(A, 7)),
                (8..10, Place::Zero)
            ]
        );
    }

    #[test]
    fn setting_the_middle_leaves_both_ends() {
        let (mut map, mut layers) = (RunMap::default(), Layers::default());
        map.set(0..10, Place::In(A, 100), &mut layers);
        map.set(3..5, Place::In(B, 0), &mut layers);
        assert_eq!(
            runs(&map),
            [
                (0..3, Place::In(A, 100)),
                (3..5, Place::In(B, 0)),
                (5..10, Place::In(A, 105))
            ]
        );
        assert_eq!((layers.counts.pages(A), layers.counts.pages(B)), (8, 2));
        map.remove(0..10, &mut layers);
        assert!(map.is_empty());
        assert!(layers.dead.iter().eq(&[A, B]));
    }

    #[test]
    fn ranges_and_gaps_are_cut_to_what_was_asked() {
        let (mut map, mut layers) = (RunMap::default(), Layers::default());
        map.set(2..6, Place::In(A, 2), &mut layers);
        map.set(8..9, Place::Zero, &mut layers);
        let within: Vec<_> = map
            .within(4..20)
            .map(|run| (run.pages, run.place))
            .collect();
        assert_eq!(within, [(4..6, Place::In(A, 4)), (8..9, Place::Zero)]);
        assert!(map.gaps(0..10).eq([0..2, 6..8, 9..10]));
        assert!(map.gaps(3..5).next().is_none());
        assert_eq!(map.at(9).len, u64::MAX - 9);
    }

    #[test]
    fn absorbing_shifts_down_and_joins() {
        for own in [1, 3] {
            let (mut lower, mut upper, mut layers) =
                (RunMap::default(), RunMap::default(), Layers::default());
            for page in 0..own {
                lower.set(page * 2..page * 2 + 1, Place::In(A, page * 2), &mut layers);
            }
            upper.set(11..12, Place::In(A, 1), &mut layers);
            upper.set(13..14, Place::In(B, 0), &mut layers);
            lower.absorb(upper, 10);
            assert_eq!(lower.at(0).len, if own == 1 { 2 } else { 3 });
            assert_eq!(lower.at(3).place, Some(Place::In(B, 0)));
            assert_eq!(lower.layers().pages(A), own + 1);
        }
    }
}
