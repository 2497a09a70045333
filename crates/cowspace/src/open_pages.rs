//! Which pages of a traced private mapping may be *open*: a thread can store to them without a fault.
//!
//! The kernel's page table is the truth about that, but to walk it takes a time that grows with the mapping. A page becomes open only by the engine (the
//! fault handler, above all), which notes it here before it does it; so a cut need not look at any other page. The note may say too much, never too
//! little. Everything here happens with the family locked.

use std::cell::Cell;
use std::ops::Range;

/// So many bits at most: a page each up to 8 GiB of 4 KiB pages, and more than one page from there on.
const MOST_BITS: u64 = 1 << 21;
const WORD: u64 = u64::BITS as u64;

/// A set of pages, see the module's documentation. Noting a page allocates nothing.
#[derive(Default)]
pub(crate) struct OpenPages(
    /// `None`: nothing is known, any page may be open.
    Option<Bits>,
);

struct Bits {
    /// A bit stands for `1 << shift` pages.
    shift: u32,
    words: Box<[Cell<u64>]>,
    /// A bit for each of `words` that is not 0.
    summary: Box<[Cell<u64>]>,
    /// Whether there is any.
    any: Cell<bool>,
}

impl OpenPages {
    /// None of `pages` pages is open.
    pub(crate) fn none_of(pages: u64) -> OpenPages {
        let mut shift = 0;
        while pages.div_ceil(1 << shift) > MOST_BITS {
            shift += 1;
        }
        let words = pages.div_ceil(1 << shift).div_ceil(WORD);
        OpenPages(Some(Bits {
            shift,
            words: zeros(words),
            summary: zeros(words.div_ceil(WORD)),
            any: Cell::new(false),
        }))
    }

    /// Pages may be open from now on.
    pub(crate) fn note(&self, pages: Range<u64>) {
        if let Some(bits) = &self.0
            && !pages.is_empty()
        {
            (pages.start >> bits.shift..=(pages.end - 1) >> bits.shift)
                .for_each(|bit| bits.set(bit));
        }
    }

    /// Whether surely no page is open.
    pub(crate) fn is_empty(&self) -> bool {
        let bits = self.0.as_ref();
        bits.is_some_and(|bits| !bits.any.get())
    }

    /// No page is open any more; `pages` is how many there are.
    pub(crate) fn clear(&mut self, pages: u64) {
        match &self.0 {
            Some(bits) => bits.clear(),
            None => *self = OpenPages::none_of(pages),
        }
    }

    /// The pages that may be open, as ascending ranges that may reach over the last page; `None` if nothing is known. Ranges that are at most `gap` pages
    /// apart are given as one.
    pub(crate) fn ranges(&self, gap: u64) -> Option<Vec<Range<u64>>> {
        let bits = self.0.as_ref()?;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for bit in bits.iter() {
            let pages = bit << bits.shift..(bit + 1) << bits.shift;
            match ranges.last_mut() {
                Some(last) if pages.start - last.end <= gap => last.end = pages.end,
                _ => ranges.push(pages),
            }
        }
        Some(ranges)
    }

    /// Whether a page may be open.
    pub(crate) fn contains(&self, page: u64) -> bool {
        let has = |bits: &Bits| {
            let bit = page >> bits.shift;
            let word = bits.words.get((bit / WORD) as usize);
            word.is_some_and(|word| word.get() & 1 << (bit % WORD) != 0)
        };
        self.0.as_ref().is_none_or(has)
    }
}

impl Bits {
    fn set(&self, bit: u64) {
        // A page behind the end is nobody's.
        if let Some(word) = self.words.get((bit / WORD) as usize) {
            word.set(word.get() | 1 << (bit % WORD));
            let bit = bit / WORD;
            let word = &self.summary[(bit / WORD) as usize];
            word.set(word.get() | 1 << (bit % WORD));
            self.any.set(true);
        }
    }

    fn clear(&self) {
        for bit in ones(&self.summary) {
            self.words[bit as usize].set(0);
        }
        self.summary.iter().for_each(|word| word.set(0));
        self.any.set(false);
    }

    fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        ones(&self.summary).flat_map(|word| {
            let one = ones(&self.words[word as usize..][..1]);
            one.map(move |bit| word * WORD + bit)
        })
    }
}

/// The numbers of the bits that are set, ascending.
fn ones(words: &[Cell<u64>]) -> impl Iterator<Item = u64> + '_ {
    words.iter().zip(0..).flat_map(|(word, number)| {
        let mut rest = word.get();
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| u64::from(rest.trailing_zeros()))?;
            rest &= rest - 1;
            Some(number * WORD + bit)
        })
    })
}

/// Memory that is there already: the fault path must not have to ask the kernel for it, and zeros the allocator need not write.
fn zeros(len: u64) -> Box<[Cell<u64>]> {
    let words = vec![Cell::new(1); len as usize].into_boxed_slice();
    std::hint::black_box(&words)
        .iter()
        .for_each(|word| word.set(0));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_everything() {
        let mut open = OpenPages::default();
        assert!(!open.is_empty() && open.contains(7));
        assert_eq!(open.ranges(0), None);
        open.note(3..4);
        assert_eq!(open.ranges(0), None);
        open.clear(10);
        assert!(open.is_empty() && !open.contains(7));
        assert_eq!(open.ranges(0), Some(vec![]));
    }

    #[test]
    fn what_is_noted_is_found_until_it_is_cleared() {
        let pages = 3 * WORD * WORD + 5;
        let mut open = OpenPages::none_of(pages);
        for noted in [0..1, 63..65, 4095..4097, 4100..4101, pages - 1..pages] {
            open.note(noted.clone());
            assert!(noted.clone().all(|page| open.contains(page)));
        }
        open.note(9..9);
        let expected = vec![0..1, 63..65, 4095..4097, 4100..4101, pages - 1..pages];
        assert_eq!(open.ranges(0), Some(expected));
        let joined = vec![0..1, 63..65, 4095..4101, pages - 1..pages];
        assert_eq!(open.ranges(3), Some(joined));
        open.note(pages + 100..pages + 2000);
        assert!(!open.contains(1) && !open.contains(4097));
        open.clear(pages);
        assert!(open.is_empty());
        open.note(4099..4100);
        open.note(5000..5001);
        assert_eq!(open.ranges(9), Some(vec![4099..4100, 5000..5001]));
    }

    #[test]
    fn a_bit_of_a_large_mapping_stands_for_several_pages() {
        let open = OpenPages::none_of(MOST_BITS + 1);
        open.note(5..6);
        open.note(MOST_BITS..MOST_BITS + 1);
        let expected = vec![4..6, MOST_BITS..MOST_BITS + 2];
        assert_eq!(open.ranges(0), Some(expected));
        assert!(open.contains(4) && !open.contains(6));
        let Some(bits) = OpenPages::none_of(1 << 35).0 else {
            panic!("it is known");
        };
        assert_eq!(bits.words.len() as u64, MOST_BITS / WORD);
    }
}
