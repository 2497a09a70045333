//! Whether stores come in sequence, page after page: then the fault handler serves the pages ahead as well, as readahead does.
//!
//! A fault costs about ten times what copying one page more costs. So each further fault of a sequence is answered for twice as many pages as the one before, up to a limit; a store
//! anywhere else is answered for its page alone. Of what a sequence has been given it has thus stored to half at least, when it ends.

use std::cell::Cell;

/// Sequences told apart at a time in one mapping.
const SEQUENCES: usize = 4;

/// The sequences of stores in a mapping. Everything here happens with the family locked.
#[derive(Default)]
pub(crate) struct Sequences {
    seen: [Cell<Sequence>; SEQUENCES],
    oldest: Cell<usize>,
}

/// The pages served last for a sequence.
#[derive(Clone, Copy, Default)]
struct Sequence {
    first: u64,
    end: u64,
    /// How many were wanted, which may be more than there were.
    wanted: u64,
}

impl Sequences {
    /// A thread stores to `page`, which had to be asked for. `serve` is told how many pages from there on should be served, at most `most`, and says how many will be. Returns that.
    pub(crate) fn store(&self, page: u64, most: u64, serve: impl FnOnce(u64) -> u64) -> u64 {
        // Also a page inside: one behind it may have been there already, which ends a copy.
        let goes_on = |sequence: &Cell<Sequence>| {
            (sequence.get().first + 1..=sequence.get().end).contains(&page)
        };
        let (place, wanted) = match self.seen.iter().position(goes_on) {
            Some(place) => (place, (self.seen[place].get().wanted * 2).clamp(1, most)),
            None => {
                let place = self.oldest.get();
                self.oldest.set((place + 1) % SEQUENCES);
                (place, 1)
            }
        };
        let served = serve(wanted);
        self.seen[place].set(Sequence {
            first: page,
            end: page + served,
            wanted,
        });
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_served_more_and_more() {
        let sequences = Sequences::default();
        let mut page = 100;
        for expected in [1, 2, 4, 8, 8, 8] {
            let served = sequences.store(page, 8, |wanted| wanted);
            assert_eq!(served, expected);
            page += served;
        }
        // Less was there than wanted: that ends nothing.
        assert_eq!(sequences.store(page, 8, |_| 3), 3);
        assert_eq!(sequences.store(page + 3, 8, |wanted| wanted), 8);
        // The last copy has met a page that was there.
        assert_eq!(sequences.store(page + 7, 8, |wanted| wanted), 8);
    }

    #[test]
    fn scattered_stores_are_served_alone() {
        let sequences = Sequences::default();
        let mut random = 1_u64;
        for _ in 0..1000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            assert_eq!(sequences.store(random >> 20, 64, |wanted| wanted), 1);
        }
        // The same page again, which somebody else took away.
        assert_eq!(sequences.store(5, 64, |wanted| wanted), 1);
        assert_eq!(sequences.store(5, 64, |wanted| wanted), 1);
    }

    #[test]
    fn several_sequences_are_told_apart() {
        let sequences = Sequences::default();
        let mut at = [0, 1000, 2000, 3000];
        for expected in [1, 2, 4, 8, 16] {
            for page in &mut at {
                let served = sequences.store(*page, 64, |wanted| wanted);
                assert_eq!(served, expected);
                *page += served;
            }
        }
    }
}
