//! The invariants of the crate's documentation, checked.

use std::collections::BTreeMap;

use crate::arena::Key;
use crate::layers::LayerCounts;
use crate::node::Kind;
use crate::runs::{Place, RunMap};
use crate::tree::Tree;

impl Tree {
    /// Walks the whole tree. For tests: it takes time in proportion to all runs and all members.
    ///
    /// # Panics
    /// With the name of the invariant that is broken.
    pub fn check_invariants(&self) {
        self.check_vmos();
        self.check_nodes();
        self.check_runs();
        self.check_readers();
        self.check_families();
    }

    fn check_vmos(&self) {
        let mut views: BTreeMap<Key, u64> = BTreeMap::new();
        for (key, vmo) in self.vmos.iter() {
            *views.entry(vmo.memory).or_insert(0) += 1;
            for &child in &vmo.children {
                assert_eq!(
                    self.vmos[child].parent,
                    Some(key),
                    "links: VMO {child:?} is a child of {key:?}"
                );
            }
            if let Some(parent) = vmo.parent {
                assert!(
                    self.vmos[parent].children.contains(&key),
                    "links: VMO {key:?} has the parent {parent:?}"
                );
            }
            let steps = std::iter::successors(vmo.parent, |&parent| self.vmos[parent].parent)
                .take(self.vmos.len());
            assert!(
                steps.count() < self.vmos.len(),
                "links: VMO {key:?} is its own ancestor"
            );
        }
        for (key, node) in self.nodes.iter() {
            if let Kind::Leaf { views: counted, .. } = node.kind {
                assert_eq!(
                    Some(&counted),
                    views.get(&key),
                    "links: VMOs of memory {key:?}"
                );
            }
        }
    }

    fn check_nodes(&self) {
        for (key, node) in self.nodes.iter() {
            match &node.kind {
                Kind::Leaf { pages, .. } => {
                    if let Some(edge) = node.parent {
                        assert!(
                            edge.limit <= *pages,
                            "edges: the limit of leaf {key:?} is above its size"
                        );
                    }
                }
                Kind::Hidden { children } => {
                    assert!(
                        children.len() >= 2,
                        "shape: hidden node {key:?} has {} children",
                        children.len()
                    );
                    assert!(
                        !node.runs.is_empty(),
                        "shape: hidden node {key:?} has no runs"
                    );
                    for &child in children {
                        let parent = self.nodes[child].parent.map(|edge| edge.parent);
                        assert_eq!(
                            parent,
                            Some(key),
                            "links: node {child:?} is a child of {key:?}"
                        );
                    }
                }
            }
            if let Some(edge) = node.parent {
                let parent = &self.nodes[edge.parent].kind;
                assert!(
                    matches!(parent, Kind::Hidden { children } if children.contains(&key)),
                    "links: node {key:?} has the parent {:?}",
                    edge.parent
                );
                assert!(edge.limit > 0, "edges: {key:?} sees nothing of its parent");
                assert!(
                    edge.offset.checked_add(edge.limit).is_some(),
                    "edges: {key:?} looks past the last page"
                );
            }
            assert!(
                self.ancestors(key).count() < self.nodes.len(),
                "links: node {key:?} is its own ancestor"
            );
        }
    }

    fn check_runs(&self) {
        let mut sum = LayerCounts::default();
        for (key, node) in self.nodes.iter() {
            assert_eq!(
                &count_layers(key, &node.runs),
                node.runs.layers(),
                "layers: counts of node {key:?}"
            );
            sum.add_all(node.runs.layers());
            let last = node.runs.iter().last();
            if let (Kind::Leaf { pages, .. }, Some(last)) = (&node.kind, last) {
                assert!(
                    last.pages.end <= *pages,
                    "runs: leaf {key:?} has content past its end"
                );
            }
            if node.parent.is_none() {
                let marker = node.runs.iter().find(|run| run.place == Place::Zero);
                assert!(
                    marker.is_none(),
                    "runs: root {key:?} has a marker: {marker:?}"
                );
            }
        }
        assert_eq!(sum, self.layers.counts, "layers: counts of the tree");
        for &layer in &self.layers.dead {
            assert_eq!(
                self.layers.counts.pages(layer),
                0,
                "layers: {layer:?} is dead and referred to"
            );
        }
    }

    fn check_readers(&self) {
        for (key, node) in self.nodes.iter() {
            for run in node.runs.iter() {
                for (pages, count) in self.share_counts(key, run.pages) {
                    assert!(
                        count > 0,
                        "readers: nobody reads pages {pages:?} of node {key:?}"
                    );
                }
            }
        }
    }

    fn check_families(&self) {
        let mut memories: BTreeMap<Key, u64> = BTreeMap::new();
        let mut of_root: BTreeMap<Key, Key> = BTreeMap::new();
        for (key, node) in self.nodes.iter() {
            if let Kind::Leaf { family, .. } = node.kind {
                *memories.entry(family).or_insert(0) += 1;
                let root = self.ancestors(key).last().unwrap_or(key);
                let first = *of_root.entry(root).or_insert(family);
                assert_eq!(first, family, "families: two below root {root:?}");
            }
        }
        let counted: BTreeMap<Key, u64> = self
            .families
            .iter()
            .map(|(key, &count)| (key, count))
            .collect();
        assert_eq!(counted, memories, "families: memories of each");
    }

    /// The nodes above `key`, up to as many as there are nodes.
    fn ancestors(&self, key: Key) -> impl Iterator<Item = Key> + '_ {
        let parent = |key: Key| self.nodes[key].parent.map(|edge| edge.parent);
        std::iter::successors(parent(key), move |&key| parent(key)).take(self.nodes.len())
    }
}

/// Counts the layers of a map anew, and checks its order on the way.
fn count_layers(key: Key, runs: &RunMap) -> LayerCounts {
    let mut counts = LayerCounts::default();
    let mut before: Option<crate::runs::Run> = None;
    for run in runs.iter() {
        assert!(!run.pages.is_empty(), "runs: an empty one in node {key:?}");
        if let Some(before) = before {
            assert!(
                before.pages.end <= run.pages.start,
                "runs: two of node {key:?} overlap"
            );
            let continues = before.pages.end == run.pages.start
                && before.place.plus(before.pages.end - before.pages.start) == run.place;
            assert!(
                !continues,
                "runs: two of node {key:?} that continue one another at {}",
                run.pages.start
            );
        }
        if let Place::In(layer, _) = run.place {
            counts.add(layer, run.pages.end - run.pages.start);
        }
        before = Some(run);
    }
    counts
}
