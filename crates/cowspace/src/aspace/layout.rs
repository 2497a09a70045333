//! The children of one VMAR by address, and the gaps between them by size.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::Child;

/// Which parts of a range are taken, by whom.
///
/// Invariants: children are not empty, lie in the range and do not overlap; `gaps` holds exactly the largest
/// ranges between them, as length and start. All bounds are multiples of the page size.
pub(super) struct Layout {
    range: Range<usize>,
    page: usize,
    /// By start.
    taken: BTreeMap<usize, Taken>,
    /// By length first: the smallest gap in which something fits is found without looking at the others.
    gaps: BTreeSet<(usize, usize)>,
}

struct Taken {
    end: usize,
    child: Child,
}

impl Layout {
    /// An empty range. Must consist of whole pages.
    pub(super) fn new(range: Range<usize>, page: usize) -> Layout {
        Layout {
            page,
            taken: BTreeMap::new(),
            gaps: BTreeSet::from([(range.len(), range.start)]),
            range,
        }
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Takes a range that must be free.
    pub(super) fn insert(&mut self, range: Range<usize>, child: Child) {
        let gap = self.gap_around(&range);
        debug_assert!(gap.start <= range.start && range.end <= gap.end);
        self.gaps.remove(&(gap.len(), gap.start));
        self.add_gap(gap.start..range.start);
        self.add_gap(range.end..gap.end);
        let end = range.end;
        self.taken.insert(range.start, Taken { end, child });
    }

    /// Frees the range of the child that starts at an address.
    pub(super) fn remove(&mut self, start: usize) {
        if let Some(taken) = self.taken.remove(&start) {
            let gap = self.gap_around(&(start..taken.end));
            self.gaps.remove(&(start - gap.start, gap.start));
            self.gaps.remove(&(gap.end - taken.end, taken.end));
            self.add_gap(gap);
        }
    }

    /// The child that has an address.
    pub(super) fn at(&self, addr: usize) -> Option<Child> {
        let (_, taken) = self.taken.range(..=addr).next_back()?;
        (addr < taken.end).then_some(taken.child)
    }

    /// The child that ends at an address.
    pub(super) fn ending_at(&self, end: usize) -> Option<Child> {
        let (_, taken) = self.taken.range(..end).next_back()?;
        (taken.end == end).then_some(taken.child)
    }

    /// The children that have a part of a range, and their own ranges, by rising address.
    pub(super) fn overlapping(
        &self,
        range: &Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, Child)> + use<'_> {
        let before = self.taken.range(..=range.start).next_back();
        let first = match before {
            Some((&start, taken)) if taken.end > range.start => start,
            _ => range.start,
        };
        let children = self.taken.range(first..range.end.max(first));
        children.map(|(&start, taken)| (start..taken.end, taken.child))
    }

    /// The start of a free range of `size` bytes that is a multiple of `align` (a power of two) and ends at or
    /// below `limit`. Takes the smallest gap that will do and its lowest place, so that large gaps stay. `None`
    /// only if there is none.
    pub(super) fn find_gap(&self, size: usize, align: usize, limit: usize) -> Option<usize> {
        let align = align.max(self.page);
        // From this length on a gap has an aligned place wherever it begins, so the first one will do; that
        // keeps the search short. Smaller ones are tried only if there is none.
        let surely = size.checked_add(align - self.page);
        let large = surely.map(|surely| self.gaps.range((surely, 0)..));
        let small = self
            .gaps
            .range((size, 0)..(surely.unwrap_or(usize::MAX), 0));
        large
            .into_iter()
            .flatten()
            .chain(small)
            .find_map(|&(len, start)| {
                let place = start.checked_next_multiple_of(align)?;
                let end = place.checked_add(size)?;
                (end <= limit.min(start + len)).then_some(place)
            })
    }

    /// From the end of the last child before the range to the start of the first one behind it.
    fn gap_around(&self, range: &Range<usize>) -> Range<usize> {
        let before = self.taken.range(..range.start).next_back();
        let behind = self.taken.range(range.start..).next();
        before.map_or(self.range.start, |(_, taken)| taken.end)
            ..behind.map_or(self.range.end, |(&start, _)| start)
    }

    fn add_gap(&mut self, gap: Range<usize>) {
        if !gap.is_empty() {
            self.gaps.insert((gap.len(), gap.start));
        }
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut gaps = BTreeSet::new();
        let mut end = self.range.start;
        let behind = [(self.range.end, self.range.end)];
        let taken = self.taken.iter().map(|(&start, taken)| (start, taken.end));
        for (start, next) in taken.chain(behind) {
            assert!(start >= end, "children overlap");
            assert!(next > start || start == self.range.end, "an empty child");
            assert!(start.is_multiple_of(self.page) && next.is_multiple_of(self.page));
            if start > end {
                gaps.insert((start - end, end));
            }
            end = next;
        }
        assert_eq!(end, self.range.end, "a child outside of the range");
        assert_eq!(gaps, self.gaps);
    }
}
