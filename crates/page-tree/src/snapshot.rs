//! Cloning.

use std::collections::BTreeSet;

use crate::arena::Key;
use crate::node::{Edge, Kind, Node};
use crate::runs::RunMap;
use crate::tree::{Tree, View, VmoId};

impl Tree {
    /// Makes a clone of `v`: `pages` long, page `x` showing what page `offset + x` of `v` shows now, and zero where `v` has no such page.
    /// The window may lie partly or wholly past the end of `v`. A clone of a slice sees nothing outside the slice.
    ///
    /// Before this the engine has sealed every layer that the memory of `v` [`uses`](Tree::uses). Afterwards `uses` tells whether the
    /// memory still has runs itself: if the clone's window had none of them they stayed where they were.
    pub fn snapshot(&mut self, v: VmoId, offset: u64, pages: u64) -> VmoId {
        let memory = self.vmos[v.0].memory;
        let window = self.in_memory(v, offset..offset.saturating_add(pages));
        let edge = self.nearest_content(Edge {
            parent: memory,
            offset: window.start,
            limit: window.end - window.start,
        });
        let parent = edge.map(|edge| match edge.parent == memory {
            true => Edge {
                parent: self.hide(memory),
                ..edge
            },
            false => edge,
        });

        let family = match self.nodes[memory].kind {
            Kind::Leaf { family, .. } => family,
            Kind::Hidden { .. } => unreachable!("a VMO shows a leaf"),
        };
        self.families[family] += 1;
        let kind = Kind::Leaf {
            pages,
            views: 1,
            family,
        };
        let clone = self.nodes.insert(Node {
            parent,
            runs: RunMap::default(),
            kind,
        });
        if let Some(edge) = parent {
            self.nodes[edge.parent].children_mut().insert(clone);
        }
        self.add_vmo(clone, View::Own, Some(v))
    }

    /// Moves `edge` up past every node that has no run in the window: what shows there shows from further up. `None` if no node has.
    fn nearest_content(&self, edge: Edge) -> Option<Edge> {
        let mut edge = Some(edge).filter(|edge| edge.limit > 0)?;
        loop {
            let node = &self.nodes[edge.parent];
            if node
                .runs
                .within(edge.offset..edge.offset + edge.limit)
                .next()
                .is_some()
            {
                return Some(edge);
            }
            edge = edge.beyond(node.parent)?;
        }
    }

    /// Puts a hidden node with all that `leaf` has in its place, and the leaf below that.
    fn hide(&mut self, leaf: Key) -> Key {
        let node = &mut self.nodes[leaf];
        let (parent, limit) = (node.parent, node.pages());
        let runs = std::mem::take(&mut node.runs);
        let hidden = self.nodes.insert(Node {
            parent,
            runs,
            kind: Kind::Hidden {
                children: BTreeSet::from([leaf]),
            },
        });
        self.nodes[leaf].parent = Some(Edge {
            parent: hidden,
            offset: 0,
            limit,
        });
        if let Some(edge) = parent {
            let siblings = self.nodes[edge.parent].children_mut();
            siblings.remove(&leaf);
            siblings.insert(hidden);
        }
        hidden
    }
}
