//! A node of the tree: a memory (leaf) or a hidden node.

use std::collections::BTreeSet;

use crate::arena::Key;
use crate::runs::RunMap;

/// How a node looks into its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) parent: Key,
    /// Page `x` of the node is page `x + offset` of the parent.
    pub(crate) offset: u64,
    /// Pages from here on see nothing of the parent. Never 0: a node that sees nothing has no edge.
    pub(crate) limit: u64,
}

impl Edge {
    /// The edge to the parent's parent, if this one's parent has no run that matters: `None` if nothing can be seen there.
    pub(crate) fn beyond(self, up: Option<Edge>) -> Option<Edge> {
        let up = up?;
        let reach = up
            .limit
            .checked_sub(self.offset)
            .filter(|&reach| reach > 0)?;
        // No overflow: the pages from `offset` up to `up.limit` were looked up through `up` before.
        Some(Edge {
            parent: up.parent,
            offset: self.offset + up.offset,
            limit: self.limit.min(reach),
        })
    }
}

/// What only leaves, or only hidden nodes, have.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// The memory of a root or a clone.
    Leaf {
        /// Its size.
        pages: u64,
        /// How many VMOs look at it: at least 1.
        views: u64,
        /// Which family it belongs to.
        family: Key,
    },
    /// What a memory had when it was cloned.
    Hidden { children: BTreeSet<Key> },
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) parent: Option<Edge>,
    pub(crate) runs: RunMap,
    pub(crate) kind: Kind,
}

impl Node {
    /// The size of a leaf.
    pub(crate) fn pages(&self) -> u64 {
        match self.kind {
            Kind::Leaf { pages, .. } => pages,
            Kind::Hidden { .. } => unreachable!("a hidden node has no size"),
        }
    }

    /// The children of a hidden node.
    pub(crate) fn children_mut(&mut self) -> &mut BTreeSet<Key> {
        match &mut self.kind {
            Kind::Hidden { children } => children,
            Kind::Leaf { .. } => unreachable!("a leaf has no child nodes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    #[test]
    fn an_edge_beyond_is_cut_to_both_limits() {
        let parent = Arena::default().insert(());
        let edge = |offset, limit| Edge {
            parent,
            offset,
            limit,
        };
        assert_eq!(edge(2, 5).beyond(Some(edge(10, 100))), Some(edge(12, 5)));
        assert_eq!(edge(2, 5).beyond(Some(edge(10, 4))), Some(edge(12, 2)));
        assert_eq!(edge(4, 5).beyond(Some(edge(10, 4))), None);
        assert_eq!(edge(9, 5).beyond(Some(edge(10, 4))), None);
        assert_eq!(edge(2, 5).beyond(None), None);
    }
}
