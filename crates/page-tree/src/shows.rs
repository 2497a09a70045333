//! What content can be asked of and changed through: a VMO, or the memory behind it.

use std::ops::Range;

use crate::arena::Key;
use crate::tree::{MemoryId, Tree, View, VmoId};

/// A VMO, whose page 0 is the first of its window, or a memory, whose page 0 is its own first.
pub trait Shows: Copy + Locate {}

impl Shows for VmoId {}
impl Shows for MemoryId {}

/// Where that is in the tree. Nobody outside can implement or call this.
pub trait Locate {
    /// The leaf.
    fn leaf(self, tree: &Tree) -> Key;
    /// What of the leaf is seen.
    fn window(self, tree: &Tree) -> Range<u64>;
    /// Whether that is a fixed part of it.
    fn is_slice(self, tree: &Tree) -> bool;
}

impl Locate for VmoId {
    fn leaf(self, tree: &Tree) -> Key {
        tree.vmos[self.0].memory
    }

    fn window(self, tree: &Tree) -> Range<u64> {
        let vmo = &tree.vmos[self.0];
        match vmo.view {
            View::Own | View::Reference => 0..tree.nodes[vmo.memory].pages(),
            View::Slice { start, pages } => start..start + pages,
        }
    }

    fn is_slice(self, tree: &Tree) -> bool {
        matches!(tree.vmos[self.0].view, View::Slice { .. })
    }
}

impl Locate for MemoryId {
    fn leaf(self, _: &Tree) -> Key {
        self.0
    }

    fn window(self, tree: &Tree) -> Range<u64> {
        0..tree.nodes[self.0].pages()
    }

    fn is_slice(self, _: &Tree) -> bool {
        false
    }
}
