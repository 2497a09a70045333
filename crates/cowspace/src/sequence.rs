//! Whether stores come in sequence, page after page: then the fault handler serves pages ahead of them as well, as readahead does.
//!
//! A fault costs about ten times what copying one page more costs. So the longer a sequence has become, the more pages are served with each further fault of it, up to a limit; a store
//! anywhere else is answered for its page alone. When a sequence ends, little has been served that it did not come to: memory for nothing.

use std::cell::Cell;

/// Sequences told apart at a time in one mapping.
const SEQUENCES: usize = 4;
/// A fault of a sequence is served with one page for so many that the sequence has had.
const SHARE: u64 = 16;

/// The sequences of stores in a mapping. Everything here happens with the family locked.
#[derive(Default)]
pub(crate) struct Sequences {
    seen: [Cell<Sequence>; SEQUENCES],
    oldest: Cell<usize>,
}

#[derive(Clone, Copy, Default)]
struct Sequence {
    start: u64,
    /// The pages served last.
    first: u64,
    end: u64,
}

impl Sequence {
    /// Also with a page inside of what was served: one before it may have been there already, which ends a copy.
    fn goes_on_at(self, page: u64) -> bool {
        self.first < page && page <= self.end
    }
}

impl Sequences {
    /// A thread stores to `page`, and the store has faulted: how many pages to serve from there on, 1 to `most`.
    pub(crate) fn store(&self, page: u64, most: u64) -> u64 {
        let known = self.seen.iter().find(|seen| seen.get().goes_on_at(page));
        let seen = known.unwrap_or_else(|| {
            let oldest = self.oldest.get();
            self.oldest.set((oldest + 1) % SEQUENCES);
            &self.seen[oldest]
        });
        let start = known.map_or(page, |known| known.get().start);
        let pages = ((page - start) / SHARE).min(most).max(1);
        seen.set(Sequence {
            start,
            first: page,
            end: page + pages,
        });
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 64;

    #[test]
    fn the_longer_a_sequence_the_more_is_served() {
        let sequences = Sequences::default();
        let (start, mut page, mut faults) = (100, 100, 0);
        while page < start + 10 * SHARE * MOST {
            let served = sequences.store(page, MOST);
            assert!((1..=MOST).contains(&served));
            assert!(served == 1 || served * SHARE <= page - start);
            page += served;
            faults += 1;
        }
        assert!(faults < 300, "{faults}");
        assert_eq!(sequences.store(page, MOST), MOST);
        // Less was there than wanted, or a page was there that ends the copy: that ends no sequence.
        assert_eq!(sequences.store(page + 3, 5), 5);
        assert_eq!(sequences.store(page + 7, MOST), MOST);
        // A step back or over a page does.
        assert_eq!(sequences.store(page + 6, MOST), 1);
        assert_eq!(sequences.store(page + 8 + MOST, MOST), 1);
    }

    #[test]
    fn scattered_stores_are_served_alone() {
        let sequences = Sequences::default();
        let mut random = 1_u64;
        for _ in 0..1000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            assert_eq!(sequences.store(random >> 20, MOST), 1);
        }
        // The same page again, which somebody else took away.
        assert_eq!(sequences.store(5, MOST), 1);
        assert_eq!(sequences.store(5, MOST), 1);
        // The last page there can be.
        assert_eq!(sequences.store(u64::MAX - 1, MOST), 1);
    }

    #[test]
    fn several_sequences_are_told_apart() {
        let sequences = Sequences::default();
        let mut at = [0, 1000, 2000, 3000].map(|start| (start, start));
        for _ in 0..40 {
            for (start, page) in &mut at {
                let served = sequences.store(*page, MOST);
                assert_eq!(served, ((*page - *start) / SHARE).max(1));
                *page += served;
            }
        }
    }
}
