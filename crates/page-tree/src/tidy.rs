//! Keeping the tree small: merging and taking out hidden nodes.

use std::collections::BTreeSet;

use crate::arena::Key;
use crate::node::Kind;
use crate::tree::Tree;

impl Tree {
    /// Brings the nodes named, and those which that concerns, back to the invariants: a root has no markers, a hidden node has two
    /// children and a run. Some of the nodes may be gone already.
    pub(crate) fn tidy(&mut self, mut work: Vec<Key>) {
        while let Some(key) = work.pop() {
            let Some(node) = self.nodes.get_mut(key) else {
                continue;
            };
            if node.parent.is_none() {
                // Nothing is above, so there is nothing to hide.
                node.runs.remove_markers();
            }
            let Kind::Hidden { children } = &node.kind else {
                continue;
            };
            match children.len() {
                0 => work.extend(self.take_out(key)),
                1 => work.extend(self.merge(key)),
                _ if node.runs.is_empty() => work.extend(self.take_out(key)),
                _ => {}
            }
        }
    }

    /// Takes a hidden node out that has no children, or no runs: its children look straight at its parent from then on. Returns the nodes
    /// to look at again.
    fn take_out(&mut self, key: Key) -> Vec<Key> {
        let node = self.nodes.remove(key);
        self.layers.release_all(node.runs.layers());
        let Kind::Hidden { children } = node.kind else {
            unreachable!("leaves are closed, not taken out")
        };

        let mut concerned: Vec<Key> = node.parent.map(|up| up.parent).into_iter().collect();
        let mut moved = BTreeSet::new();
        for child in children {
            let edge = &mut self.nodes[child].parent;
            *edge = edge.and_then(|edge| edge.beyond(node.parent));
            if edge.is_some() {
                moved.insert(child);
            } else {
                concerned.push(child);
            }
        }
        if let Some(up) = node.parent {
            let siblings = self.nodes[up.parent].children_mut();
            siblings.remove(&key);
            siblings.append(&mut moved);
        }
        concerned
    }

    /// Merges a hidden node into its only child: the child has its runs, where they were visible, and its parent. Returns the nodes to
    /// look at again.
    ///
    /// All runs of the node are visible through the child (invariant 5), so they fall below its limit and into gaps of its map.
    fn merge(&mut self, key: Key) -> Vec<Key> {
        let node = self.nodes.remove(key);
        let Kind::Hidden { children } = node.kind else {
            unreachable!("a leaf has no child to merge into")
        };
        let child = *children.first().expect("one child");

        let below = &mut self.nodes[child];
        let edge = below.parent.expect("a child has an edge");
        below.runs.absorb(node.runs, edge.offset);
        below.parent = edge.beyond(node.parent);
        let seen_above = below.parent.is_some();

        let mut concerned = vec![child];
        if let Some(up) = node.parent {
            let siblings = self.nodes[up.parent].children_mut();
            siblings.remove(&key);
            if seen_above {
                siblings.insert(child);
            }
            concerned.push(up.parent);
        }
        concerned
    }
}
