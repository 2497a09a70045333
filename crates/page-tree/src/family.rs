//! Zircon's family relation: what `parent_koid`, `num_children` and the rule for decommit are made of.

use crate::node::Kind;
use crate::tree::{Tree, VmoId};

impl Tree {
    /// The VMO that `v` was made of, while it lives; then that one's parent, and so on.
    #[must_use]
    pub fn parent(&self, v: VmoId) -> Option<VmoId> {
        self.vmos[v.0].parent.map(VmoId)
    }

    /// How many VMOs of all kinds have `v` as [`Tree::parent`].
    #[must_use]
    pub fn children(&self, v: VmoId) -> usize {
        self.vmos[v.0].children.len()
    }

    /// Whether the memory of `v` is neither a clone of a living memory nor has clones, near or far. Slices and references do not
    /// matter.
    #[must_use]
    pub fn is_alone(&self, v: VmoId) -> bool {
        match self.nodes[self.vmos[v.0].memory].kind {
            Kind::Leaf { family, .. } => self.families[family] == 1,
            Kind::Hidden { .. } => unreachable!("a VMO shows a leaf"),
        }
    }
}
