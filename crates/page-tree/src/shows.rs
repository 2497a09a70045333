//! What content can be asked of and changed through: a VMO, or the memory behind it.

use std::ops::Range;

use crate::arena::Key;
use crate::tree::{MemoryId, Tree, View, VmoId};

/// A VMO, whose page 0 is the first of its window, or a memory, whose page 0 is its own first.
pub trait Shows: Locate {}

impl Shows for VmoId {}
impl Shows for MemoryId {}

/// Where that is in the tree. Nobody outside can implement or call this.
pub trait Locate: Copy {
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

#[cfg(test)]
mod tests {
    use crate::{LayerId, Place, Tree};

    #[test]
    fn a_memory_is_asked_in_its_own_coordinates() {
        let mut tree = Tree::new();
        let v = tree.create(8);
        let slice = tree.slice(v, 4, 2);
        let memory = tree.memory(slice);
        assert_eq!(memory, tree.memory(v));
        assert_eq!((tree.window(slice), tree.window(memory)), (4..6, 0..8));

        tree.own(memory, 5..6, LayerId(1), 0);
        assert_eq!(tree.resolve(slice, 1), Place::In(LayerId(1), 0));
        assert_eq!(tree.resolve(memory, 1), Place::Zero);
        tree.zero(slice, 1..2);
        assert_eq!(tree.resolve(memory, 5), Place::Zero);
        tree.check_invariants();
    }

    #[test]
    fn a_memory_is_blank_while_nothing_shows_in_it_or_through_it() {
        let mut tree = Tree::new();
        let v = tree.create(4);
        assert!(tree.is_blank(v));
        tree.own(v, 3..4, LayerId(1), 0);
        let clone = tree.snapshot(v, 0, 4);
        let beyond = tree.snapshot(v, 4, 4);
        assert!(!tree.is_blank(v) && !tree.is_blank(clone) && tree.is_blank(tree.memory(beyond)));
        tree.close(clone);
        tree.zero(v, 0..4);
        assert!(tree.is_blank(v));
    }

    #[test]
    fn numbers_at_the_end_of_the_range_are_cut() {
        let mut tree = Tree::new();
        let v = tree.create(u64::MAX);
        tree.own(v, u64::MAX - 1..u64::MAX, LayerId(1), 0);
        let slice = tree.slice(v, u64::MAX - 1, 10);
        assert_eq!(tree.pages(slice), 1);
        assert_eq!(tree.resolve(slice, 0), Place::In(LayerId(1), 0));
        assert_eq!(tree.resolve(slice, u64::MAX), Place::Zero);
        let clone = tree.snapshot(v, u64::MAX - 2, u64::MAX);
        assert_eq!(tree.resolve(clone, 1), Place::In(LayerId(1), 0));
        tree.own(clone, u64::MAX - 1..u64::MAX, LayerId(2), 0);
        tree.zero(v, 0..u64::MAX);
        tree.check_invariants();
        assert_eq!(tree.attribution(clone, 0..u64::MAX).private, 2);
    }
}
