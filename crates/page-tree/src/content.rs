//! Changing what a memory shows: writes, zeroing, decommit, resizing.

use std::ops::Range;

use crate::arena::Key;
use crate::layers::LayerId;
use crate::node::Kind;
use crate::runs::Place;
use crate::shows::Shows;
use crate::tree::{Decommit, Tree, VmoId};

impl Tree {
    /// Says that the content of `pages` of `v` is now that of the pages of `layer` from `layer_page` on: a write, or a commit. The bytes
    /// are there already. Nobody else's content changes; what only this memory saw there before is released.
    ///
    /// `layer_page` plus the number of pages must fit 64 bits.
    pub fn own(&mut self, v: impl Shows, pages: Range<u64>, layer: LayerId, layer_page: u64) {
        let memory = v.leaf(self);
        let cut = self.in_memory(v, pages);
        // What is cut off is at the end only: a range beyond the end is empty.
        let above = self.seen_above(memory, cut.clone());
        self.nodes[memory]
            .runs
            .set(cut, Place::In(layer, layer_page), &mut self.layers);
        self.give_up(above);
    }

    /// As [`Tree::own`] of many runs of one layer, each with the page of the layer at which it begins: takes less time for each.
    pub fn own_all(&mut self, v: impl Shows, layer: LayerId, runs: &[(Range<u64>, u64)]) {
        let memory = v.leaf(self);
        // Elsewhere a certain other leaf goes on seeing what is above: that stays so whatever is released meanwhile.
        let alone = self.perhaps_alone(memory, 4 * runs.len());
        for (pages, layer_page) in runs {
            let cut = self.in_memory(v, pages.clone());
            let from = alone.partition_point(|part| part.end <= cut.start);
            let parts = alone[from..].iter();
            let above = parts
                .take_while(|part| part.start < cut.end)
                .flat_map(|part| {
                    self.seen_above(memory, part.start.max(cut.start)..part.end.min(cut.end))
                })
                .collect();
            self.nodes[memory]
                .runs
                .set(cut, Place::In(layer, *layer_page), &mut self.layers);
            self.give_up(above);
        }
    }

    /// Makes `pages` of `v` zero, giving their content up (`ZX_VMO_OP_ZERO` on whole pages).
    pub fn zero(&mut self, v: impl Shows, pages: Range<u64>) {
        let memory = v.leaf(self);
        let cut = self.in_memory(v, pages);
        let above = self.seen_above(memory, cut.clone());
        self.nodes[memory]
            .runs
            .set(cut.clone(), Place::Zero, &mut self.layers);
        self.give_up(above);
        self.trim_markers(memory, cut);
    }

    /// Drops the content of `pages` of `v`, which read as zero afterwards.
    ///
    /// # Errors
    /// [`Decommit::NotSupported`] if the memory is a clone or has one: see [`Tree::is_alone`].
    pub fn decommit(&mut self, v: VmoId, pages: Range<u64>) -> Result<(), Decommit> {
        if !self.is_alone(v) {
            return Err(Decommit::NotSupported);
        }
        let cut = self.in_memory(v, pages);
        // Nothing is above a memory without relatives, so no run means zero.
        self.nodes[self.vmos[v.0].memory]
            .runs
            .remove(cut, &mut self.layers);
        Ok(())
    }

    /// Makes the memory of `v` `pages` long. Pages cut off lose their content in this memory alone, pages added are zero, also where
    /// this memory or an ancestor once had content.
    ///
    /// Slices are not made of resizable VMOs. Of a slice this does nothing; slices of a memory that is resized all the same keep their
    /// size, and are zero where the memory ends.
    pub fn resize(&mut self, v: impl Shows, pages: u64) {
        if v.is_slice(self) {
            return;
        }
        let memory = v.leaf(self);
        let cut = pages..self.nodes[memory].pages();
        let above = self.seen_above(memory, cut.clone());

        let node = &mut self.nodes[memory];
        node.runs.remove(cut, &mut self.layers);
        match &mut node.kind {
            Kind::Leaf { pages: size, .. } => *size = pages,
            Kind::Hidden { .. } => unreachable!("a VMO shows a leaf"),
        }
        let mut blind = None;
        if let Some(edge) = &mut node.parent {
            edge.limit = edge.limit.min(pages);
            blind = Some(edge.parent).filter(|_| pages == 0);
        }
        if let Some(parent) = blind {
            // Size 0: the memory sees nothing of its parent, and never will again.
            self.nodes[memory].parent = None;
            self.nodes[parent].children_mut().remove(&memory);
        }
        self.give_up(above);
        self.tidy(blind.into_iter().collect());
    }

    /// Removes the markers among `pages` of a leaf where nothing would show through.
    fn trim_markers(&mut self, leaf: Key, pages: Range<u64>) {
        let mut page = pages.start;
        while page < pages.end {
            let span = self.nodes[leaf].runs.at(page);
            let mut len = span.len.min(pages.end - page);
            if span.place == Some(Place::Zero) {
                let shows;
                (shows, len) = self.behind(leaf, page, len);
                if shows == Place::Zero {
                    self.nodes[leaf]
                        .runs
                        .remove(page..page + len, &mut self.layers);
                }
            }
            page += len;
        }
    }

    /// What `page` of `leaf` would show if the leaf had no run there, and for how many of `len` pages that is zero or is not.
    fn behind(&self, leaf: Key, page: u64, len: u64) -> (Place, u64) {
        match self.nodes[leaf].parent {
            Some(up) if page < up.limit => {
                let len = len.min(up.limit - page);
                let seen = self.look_up(up.parent, page + up.offset..page + up.offset + len);
                (seen.place, seen.len())
            }
            _ => (Place::Zero, len),
        }
    }
}
