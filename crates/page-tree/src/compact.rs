//! Compaction: which layers are worth copying together, and saying that it was done.
//!
//! A sealed layer keeps the memory of pages that nobody refers to, and every round of write, clone and close may leave one more layer,
//! however few pages it has. [`Tree::compactable`] chooses what one VMO sees, by two rules:
//!
//! - *Waste*: of a layer of which the tree refers to less than half of the pages held, everything that the VMO sees. Copying costs less
//!   than it gives back.
//! - *Size*: of the layers that the VMO sees wholly (no reference lies outside its view), in order of size, the longest line from the smallest on
//!   whose last member is not larger than all before it together. What is copied lands in a layer at least twice as large, so a page is
//!   copied by this rule at most log2(pages) times; and afterwards each layer is larger than all smaller ones together, so at most log2(pages) + 1 are
//!   left.
//!
//! Layers that no VMO sees wholly are left until they are wasted or a reader goes: to merge them from several sides could copy for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::layers::LayerId;
use crate::runs::{Place, Run};
use crate::shows::Shows;
use crate::tree::Tree;

/// Whether a layer of `held` pages, of which `referred` are referred to, is worth copying for what that gives back.
#[must_use]
pub fn is_wasted(referred: u64, held: u64) -> bool {
    referred < held.div_ceil(2)
}

impl Tree {
    /// The runs of `v`, in its coordinates and in order, that should be copied into one new layer; none if that is not worth it.
    ///
    /// `held` tells how many pages a layer holds, or `None` for one that is not to be touched (live memory, or the layer under a mapping).
    ///
    /// The engine copies the bytes of each run to the same pages of a new layer, seals it, and calls [`Tree::relocate`] for each; the layers
    /// that nobody refers to any more then die. What is shared stays shared: this is why it is `relocate` and not [`Tree::own`].
    #[must_use]
    pub fn compactable(&self, v: impl Shows, held: &dyn Fn(LayerId) -> Option<u64>) -> Vec<Run> {
        let window = self.window(v);
        let memory = v.leaf(self);
        let content = || {
            let view = self.view(memory, self.in_memory(v, 0..u64::MAX));
            view.filter_map(|seen| match seen.place {
                Place::In(layer, _) => Some((layer, seen)),
                Place::Zero => None,
            })
        };

        let mut seen_pages: BTreeMap<LayerId, u64> = BTreeMap::new();
        for (layer, seen) in content() {
            *seen_pages.entry(layer).or_insert(0) += seen.len();
        }
        let chosen = self.choose(&seen_pages, held);
        let runs = content().filter(|(layer, _)| chosen.contains(layer));
        runs.map(|(_, seen)| Run {
            pages: seen.pages.start - window.start..seen.pages.end - window.start,
            place: seen.place,
        })
        .collect()
    }

    /// Says that the content of `pages` of `v` has been copied to the pages of `layer` from `layer_page` on. It is the same content, for all
    /// that share it, and is found there from now on. Pages without content stay zero.
    pub fn relocate(&mut self, v: impl Shows, pages: Range<u64>, layer: LayerId, layer_page: u64) {
        let inside = self.in_memory(v, pages);
        let first = inside.start;
        let seen: Vec<_> = self.view(v.leaf(self), inside).collect();
        for seen in seen {
            if let (Place::In(..), Some((node, page))) = (seen.place, seen.holder) {
                let place = Place::In(layer, layer_page + (seen.pages.start - first));
                self.nodes[node]
                    .runs
                    .set(page..page + seen.len(), place, &mut self.layers);
            }
        }
    }

    /// The layers to copy out of, given how many pages of each are seen.
    fn choose(
        &self,
        seen_pages: &BTreeMap<LayerId, u64>,
        held: &dyn Fn(LayerId) -> Option<u64>,
    ) -> BTreeSet<LayerId> {
        let mut chosen = BTreeSet::new();
        let mut copied = 0;
        let mut whole = Vec::new();
        for (&layer, &seen) in seen_pages {
            let Some(held) = held(layer) else { continue };
            let referred = self.layers.counts.pages(layer);
            if is_wasted(referred, held) {
                chosen.insert(layer);
                copied += seen;
            } else if seen == referred {
                whole.push((seen, layer));
            }
        }

        whole.sort_unstable();
        let mut line = 0;
        for (index, &(seen, _)) in whole.iter().enumerate() {
            if seen <= copied {
                line = index + 1;
            }
            copied += seen;
        }
        chosen.extend(whole[..line].iter().map(|&(_, layer)| layer));
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::VmoId;

    fn one_vmo(sizes: &[u64]) -> (Tree, VmoId) {
        let mut tree = Tree::new();
        let v = tree.create(sizes.iter().sum());
        let mut page = 0;
        for (layer, size) in (1..).zip(sizes) {
            tree.own(v, page..page + size, LayerId(layer), page);
            page += size;
        }
        (tree, v)
    }

    fn chosen(tree: &Tree, v: VmoId, held: &dyn Fn(LayerId) -> Option<u64>) -> Vec<u64> {
        let runs = tree.compactable(v, held);
        runs.iter()
            .map(|run| match run.place {
                Place::In(layer, _) => layer.0,
                Place::Zero => panic!("a zero run is not copied"),
            })
            .collect()
    }

    #[test]
    fn layers_that_double_are_left_alone() {
        let (tree, v) = one_vmo(&[1, 2, 4, 8]);
        assert!(chosen(&tree, v, &|layer| Some(tree.layer_pages(layer))).is_empty());
    }

    #[test]
    fn the_longest_line_of_small_layers_is_copied() {
        let (tree, v) = one_vmo(&[100, 1, 30, 2, 2, 1]);
        assert_eq!(
            chosen(&tree, v, &|layer| Some(tree.layer_pages(layer))),
            [2, 4, 5, 6]
        );
    }

    #[test]
    fn a_layer_mostly_unused_is_copied_alone() {
        let (tree, v) = one_vmo(&[5, 100]);
        assert_eq!(
            chosen(&tree, v, &|layer| Some(if layer.0 == 1 { 11 } else { 100 })),
            [1]
        );
        assert!(chosen(&tree, v, &|layer| Some(if layer.0 == 1 { 10 } else { 100 })).is_empty());
        assert!(chosen(&tree, v, &|_| None).is_empty());
    }

    #[test]
    fn relocated_content_stays_shared_and_its_layers_die() {
        let (mut tree, v) = one_vmo(&[1, 1]);
        let clone = tree.snapshot(v, 0, 2);
        tree.own(v, 1..2, LayerId(3), 0);
        // Layer 2 is seen by the clone only, layer 3 by the parent only, layer 1 by both.
        assert_eq!(
            chosen(&tree, clone, &|layer| Some(tree.layer_pages(layer))),
            [1, 2]
        );
        tree.relocate(clone, 0..2, LayerId(4), 10);
        tree.check_invariants();
        assert_eq!(tree.resolve(v, 0), Place::In(LayerId(4), 10));
        assert_eq!(tree.resolve(v, 1), Place::In(LayerId(3), 0));
        assert_eq!(
            tree.run(clone, 0..2),
            Run {
                pages: 0..2,
                place: Place::In(LayerId(4), 10)
            }
        );
        assert!(tree.take_dead_layers().eq([LayerId(1), LayerId(2)]));
    }

    #[test]
    fn layers_that_nobody_sees_wholly_are_left() {
        let (mut tree, v) = one_vmo(&[2, 2]);
        let clone = tree.snapshot(v, 0, 4);
        tree.zero(v, 0..1);
        tree.zero(clone, 1..2);
        // Of layer 1 each sees one page.
        for v in [v, clone] {
            assert!(chosen(&tree, v, &|layer| Some(tree.layer_pages(layer))).is_empty());
        }
    }
}
