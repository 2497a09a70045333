//! The tree as a list of its nodes, for whoever wants to look at it or draw it.

use std::collections::BTreeMap;

use crate::arena::Key;
use crate::layers::LayerId;
use crate::node::Kind;
use crate::runs::Place;
use crate::tree::{MemoryId, Tree};

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineNode {
    /// The memory; `None` for a hidden node.
    pub memory: Option<MemoryId>,
    /// The parent.
    pub parent: Option<OutlineEdge>,
    /// How many pages it owns in each layer.
    pub owned: Vec<(LayerId, u64)>,
    /// How many pages have the zero marker.
    pub zero: u64,
    /// The number of runs, markers among them.
    pub runs: u64,
}

/// How a node looks into its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlineEdge {
    /// Index of the parent in [`Tree::outline`].
    pub parent: usize,
    /// Page `x` of the node is page `x + offset` of the parent.
    pub offset: u64,
    /// Pages from here on see nothing of the parent.
    pub limit: u64,
}

impl Tree {
    /// All nodes. A parent comes before its children.
    #[must_use]
    pub fn outline(&self) -> Vec<OutlineNode> {
        let roots = self
            .nodes
            .iter()
            .filter(|(_, node)| node.parent.is_none())
            .map(|(key, _)| key);
        let mut todo: Vec<Key> = roots.collect();
        todo.reverse();
        let mut places: BTreeMap<Key, usize> = BTreeMap::new();
        let mut outline = Vec::with_capacity(self.nodes.len());
        while let Some(key) = todo.pop() {
            let node = &self.nodes[key];
            places.insert(key, outline.len());
            let memory = match &node.kind {
                Kind::Leaf { .. } => Some(MemoryId(key)),
                Kind::Hidden { children } => {
                    todo.extend(children.iter().rev());
                    None
                }
            };
            let markers = node.runs.iter().filter(|run| run.place == Place::Zero);
            outline.push(OutlineNode {
                memory,
                parent: node.parent.map(|edge| OutlineEdge {
                    parent: places[&edge.parent],
                    offset: edge.offset,
                    limit: edge.limit,
                }),
                owned: node.runs.layers().iter().collect(),
                zero: markers.map(|run| run.pages.end - run.pages.start).sum(),
                runs: node.runs.len() as u64,
            });
        }
        outline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_every_owned_page_is_there() {
        let mut tree = Tree::new();
        let v = tree.create(8);
        tree.own(v, 0..8, LayerId(1), 0);
        let clone = tree.snapshot(v, 2, 4);
        tree.own(v, 3..4, LayerId(2), 3);
        tree.zero(clone, 0..1);
        let outline = tree.outline();
        assert_eq!(outline.len(), tree.nodes());
        let hidden = &outline[0];
        assert_eq!((hidden.memory, hidden.parent), (None, None));
        assert_eq!(hidden.owned, [(LayerId(1), 8)]);
        let of = |v| {
            outline
                .iter()
                .find(|node| node.memory == Some(tree.memory(v)))
        };
        let (parent, child) = (of(v).unwrap(), of(clone).unwrap());
        assert_eq!(
            (&parent.owned[..], parent.zero),
            (&[(LayerId(2), 1)][..], 0)
        );
        assert_eq!((child.owned.len(), child.zero, child.runs), (0, 1, 1));
        let edge = child.parent.unwrap();
        assert_eq!((edge.parent, edge.offset, edge.limit), (0, 2, 4));
    }
}
