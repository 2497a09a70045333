//! Closing VMOs, in any order.

use std::collections::BTreeSet;

use crate::arena::Key;
use crate::node::Kind;
use crate::tree::{Tree, VmoId};

impl Tree {
    /// Ends `v`: its children become children of its parent, or have none if it had none. Its memory ends with its last VMO; survivors go
    /// on reading what they read, and what none of them can see is released.
    pub fn close(&mut self, v: VmoId) {
        let vmo = self.vmos.remove(v.0);
        self.adopt(vmo.children, v.0, vmo.parent);
        match &mut self.nodes[vmo.memory].kind {
            Kind::Leaf { views, .. } if *views > 1 => *views -= 1,
            Kind::Leaf { .. } => self.end_memory(vmo.memory),
            Kind::Hidden { .. } => unreachable!("a VMO shows a leaf"),
        }
    }

    /// Puts `children` in the place of `gone` under `parent`.
    fn adopt(&mut self, mut children: BTreeSet<Key>, gone: Key, parent: Option<Key>) {
        for &child in &children {
            self.vmos[child].parent = parent;
        }
        if let Some(parent) = parent {
            let siblings = &mut self.vmos[parent].children;
            siblings.remove(&gone);
            siblings.append(&mut children);
        }
    }

    fn end_memory(&mut self, leaf: Key) {
        let above = self
            .perhaps_alone(leaf, usize::MAX)
            .into_iter()
            .flat_map(|pages| self.seen_above(leaf, pages))
            .collect();
        let node = self.nodes.remove(leaf);
        self.layers.release_all(node.runs.layers());

        let Kind::Leaf { family, .. } = node.kind else {
            unreachable!("a memory is a leaf")
        };
        self.families[family] -= 1;
        if self.families[family] == 0 {
            self.families.remove(family);
        }

        if let Some(edge) = node.parent {
            self.nodes[edge.parent].children_mut().remove(&leaf);
            self.give_up(above);
            self.tidy(vec![edge.parent]);
        }
    }
}
