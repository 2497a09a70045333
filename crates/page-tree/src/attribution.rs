//! What a VMO is charged with, as `ZX_INFO_VMO` has it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::runs::Place;
use crate::tree::{Tree, View, VmoId};

/// The fixed point of Zircon's fractional bytes: 63 bits after the point.
const ONE_BYTE: u64 = 1 << 63;

/// The pages of a VMO that have content, by how many memories share them.
///
/// Byte figures are Zircon's; the page size is a parameter because the tree does not know one. They fit their types while the pages
/// counted are fewer than 2^64 bytes, as the pages of a VMO are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Pages with content, shared or not.
    pub populated: u64,
    /// Those of them that no other memory would read.
    pub private: u64,
    /// Share count (how many memories would read the page's content; 1: private) -> pages. Sums up to `populated`.
    pub shares: BTreeMap<u64, u64>,
}

impl Attribution {
    fn add(&mut self, pages: u64, share_count: u64) {
        self.populated += pages;
        if share_count == 1 {
            self.private += pages;
        }
        *self.shares.entry(share_count).or_insert(0) += pages;
    }

    /// `populated_bytes`.
    #[must_use]
    pub fn populated_bytes(&self, page_size: u64) -> u64 {
        self.populated * page_size
    }

    /// `populated_private_bytes`.
    #[must_use]
    pub fn private_bytes(&self, page_size: u64) -> u64 {
        self.private * page_size
    }

    /// Each page divided by its share count, summed up, in units of 2^-63 byte.
    ///
    /// As in Zircon (`zircon/kernel/vm/include/vm/attribution.h`, `FractionalBytes`) a share of a page is its whole bytes plus the
    /// remaining bytes times the truncated fraction of one byte.
    #[must_use]
    pub fn scaled(&self, page_size: u64) -> u128 {
        let share = |count: u64| {
            let whole = u128::from(page_size / count) * u128::from(ONE_BYTE);
            whole + u128::from(ONE_BYTE / count) * u128::from(page_size % count)
        };
        self.shares
            .iter()
            .map(|(&count, &pages)| u128::from(pages) * share(count))
            .sum()
    }

    /// `populated_scaled_bytes`: [`Attribution::scaled`] truncated to whole bytes.
    #[must_use]
    pub fn scaled_bytes(&self, page_size: u64) -> u64 {
        u64::try_from(self.scaled(page_size) / u128::from(ONE_BYTE))
            .expect("no more than populated_bytes")
    }

    /// `populated_fractional_scaled_bytes`: what that truncation took, in units of 2^-63 byte.
    #[must_use]
    pub fn fractional_scaled_bytes(&self, page_size: u64) -> u64 {
        u64::try_from(self.scaled(page_size) % u128::from(ONE_BYTE)).expect("less than one byte")
    }
}

impl Tree {
    /// What `v` is charged with for `pages`. Slices and references are charged with nothing, also when the VMO that they were made of is
    /// closed.
    ///
    /// Share counts are found by walking down from each content, so the cost grows with the number of runs and of relatives.
    #[must_use]
    pub fn attribution(&self, v: VmoId, pages: Range<u64>) -> Attribution {
        let mut sum = Attribution::default();
        let vmo = &self.vmos[v.0];
        if !matches!(vmo.view, View::Own) {
            return sum;
        }
        for seen in self.view(vmo.memory, self.in_memory(v, pages)) {
            if let (Place::In(..), Some((node, page))) = (seen.place, seen.holder) {
                for (pages, count) in self.share_counts(node, page..page + seen.len()) {
                    sum.add(pages.end - pages.start, count);
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(shares: &[(u64, u64)]) -> Attribution {
        let mut sum = Attribution::default();
        for &(pages, count) in shares {
            sum.add(pages, count);
        }
        sum
    }

    #[test]
    fn shares_that_divide_a_page_have_no_fraction() {
        let sum = shared(&[(3, 1), (1, 2), (2, 4)]);
        assert_eq!(
            (sum.populated_bytes(4096), sum.private_bytes(4096)),
            (6 * 4096, 3 * 4096)
        );
        assert_eq!(sum.scaled_bytes(4096), 3 * 4096 + 2048 + 2 * 1024);
        assert_eq!(sum.fractional_scaled_bytes(4096), 0);
    }

    #[test]
    fn a_third_is_truncated_page_by_page() {
        // 4096 / 3 = 1365 and a third; 2^63 / 3 truncated is 0x2AAA_AAAA_AAAA_AAAA.
        let third = 0x2AAA_AAAA_AAAA_AAAA;
        let sum = shared(&[(1, 3)]);
        assert_eq!(
            (sum.scaled_bytes(4096), sum.fractional_scaled_bytes(4096)),
            (1365, third)
        );
        let sum = shared(&[(3, 3)]);
        assert_eq!(
            (sum.scaled_bytes(4096), sum.fractional_scaled_bytes(4096)),
            (4095, 3 * third)
        );
    }

    #[test]
    fn the_largest_vmo_fits() {
        for page_size in [1 << 12, 1 << 16] {
            let sum = shared(&[(u64::MAX / page_size, 1)]);
            assert_eq!(sum.scaled_bytes(page_size), sum.populated_bytes(page_size));
        }
    }
}
