//! Layers, and how many pages of each are referred to.

use std::collections::{BTreeMap, BTreeSet};

/// A layer: a store of page contents that the engine chose a number for. The tree knows nothing else of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub u64);

/// References to layers, counted in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerCounts(BTreeMap<LayerId, u64>);

impl LayerCounts {
    pub(crate) fn add(&mut self, layer: LayerId, pages: u64) {
        *self.0.entry(layer).or_insert(0) += pages;
    }

    /// Takes `pages` references off; true if none are left.
    pub(crate) fn take(&mut self, layer: LayerId, pages: u64) -> bool {
        let count = self.0.get_mut(&layer).expect("the layer is counted");
        *count = count
            .checked_sub(pages)
            .expect("the layer has these references");
        let last = *count == 0;
        if last {
            self.0.remove(&layer);
        }
        last
    }

    pub(crate) fn add_all(&mut self, other: &LayerCounts) {
        for (&layer, &pages) in &other.0 {
            self.add(layer, pages);
        }
    }

    pub(crate) fn pages(&self, layer: LayerId) -> u64 {
        self.0.get(&layer).copied().unwrap_or(0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LayerId, u64)> {
        self.0.iter().map(|(&layer, &pages)| (layer, pages))
    }
}

/// The references of a whole tree, and the layers that lost their last one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    pub(crate) counts: LayerCounts,
    /// Not counted now, and not yet reported. A layer that is referred to again before it was reported is taken out again.
    pub(crate) dead: BTreeSet<LayerId>,
}

impl Layers {
    pub(crate) fn acquire(&mut self, layer: LayerId, pages: u64) {
        self.counts.add(layer, pages);
        self.dead.remove(&layer);
    }

    pub(crate) fn release(&mut self, layer: LayerId, pages: u64) {
        if self.counts.take(layer, pages) {
            self.dead.insert(layer);
        }
    }

    pub(crate) fn release_all(&mut self, counts: &LayerCounts) {
        for (layer, pages) in counts.iter() {
            self.release(layer, pages);
        }
    }
}
