//! The tree itself: what it is made of, making and naming its members.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::arena::{Arena, Key};
use crate::layers::{LayerId, Layers};
use crate::node::{Kind, Node};
use crate::resolve::Runs;
use crate::runs::RunMap;
use crate::shows::Shows;

/// A VMO of one [`Tree`]: a root, a clone, a slice or a reference. Never used again for another VMO of that tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmoId(pub(crate) Key);

/// The memory that a VMO shows: the same for a VMO, its slices and its references, another for each clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryId(pub(crate) Key);

/// Why pages were not decommitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decommit {
    /// The memory is a clone or has one (`ZX_ERR_NOT_SUPPORTED`).
    NotSupported,
}

impl std::fmt::Display for Decommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Decommit::NotSupported => f.write_str("the memory is a copy-on-write clone or has one"),
        }
    }
}

impl std::error::Error for Decommit {}

/// The page tree of one clone family, or of several which have nothing to do with one another.
///
/// See the crate's documentation for the picture, the invariants and the contract. A copy ([`Clone`]) is for those who want to look at it without a lock: ids are the same in it.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub(crate) nodes: Arena<Node>,
    pub(crate) vmos: Arena<Vmo>,
    /// How many memories each family has.
    pub(crate) families: Arena<u64>,
    pub(crate) layers: Layers,
}

/// A VMO: a window on a memory, and its place among its relatives.
#[derive(Clone, Debug)]
pub(crate) struct Vmo {
    /// The leaf.
    pub(crate) memory: Key,
    pub(crate) view: View,
    pub(crate) parent: Option<Key>,
    pub(crate) children: BTreeSet<Key>,
}

/// How much of its memory a VMO shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View {
    /// All, and the memory was made for it: a root or a clone.
    Own,
    /// All, the memory being another's.
    Reference,
    /// A fixed window.
    Slice { start: u64, pages: u64 },
}

impl Tree {
    /// A tree without members.
    #[must_use]
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Makes a VMO of a family of its own, `pages` long and all zero.
    pub fn create(&mut self, pages: u64) -> VmoId {
        let family = self.families.insert(1);
        let memory = self.nodes.insert(Node {
            parent: None,
            runs: RunMap::default(),
            kind: Kind::Leaf {
                pages,
                views: 1,
                family,
            },
        });
        self.add_vmo(memory, View::Own, None)
    }

    /// Makes a VMO that shows the `pages` pages of `v` from `offset` on: the same memory, in a fixed window.
    ///
    /// The window should lie within `v` (Zircon: `ZX_ERR_INVALID_ARGS`); what does not is zero and ignored.
    pub fn slice(&mut self, v: VmoId, offset: u64, pages: u64) -> VmoId {
        let start = self.window(v).start.saturating_add(offset);
        self.add_view(
            v,
            View::Slice {
                start,
                pages: pages.min(u64::MAX - start),
            },
        )
    }

    /// Makes a VMO that shows the same memory as `v`: all of it and whatever its size becomes; of a slice, the slice's window.
    pub fn reference(&mut self, v: VmoId) -> VmoId {
        let view = match self.vmos[v.0].view {
            View::Own | View::Reference => View::Reference,
            slice @ View::Slice { .. } => slice,
        };
        self.add_view(v, view)
    }

    /// The memory behind `v`.
    #[must_use]
    pub fn memory(&self, v: VmoId) -> MemoryId {
        MemoryId(self.vmos[v.0].memory)
    }

    /// Where `v` lies in the coordinates of its memory. Of a slice this is the window it was made with, otherwise all of the memory.
    #[must_use]
    pub fn window(&self, v: impl Shows) -> Range<u64> {
        v.window(self)
    }

    /// The size of `v`: of a slice its own, of a reference that of its memory.
    #[must_use]
    pub fn pages(&self, v: impl Shows) -> u64 {
        let window = self.window(v);
        window.end - window.start
    }

    /// The runs that the memory of `v` has itself, not by inheritance, in the coordinates of `v` and cut to it. Zero markers are
    /// among them as [`Place::Zero`](crate::Place::Zero).
    pub fn own_runs(&self, v: impl Shows) -> Runs<'_> {
        Runs::own(self, v)
    }

    /// Whether the memory of `v` itself, not an ancestor, refers to `layer`.
    #[must_use]
    pub fn uses(&self, v: impl Shows, layer: LayerId) -> bool {
        self.nodes[v.leaf(self)].runs.layers().pages(layer) > 0
    }

    /// How many pages of `layer` the tree refers to.
    #[must_use]
    pub fn layer_pages(&self, layer: LayerId) -> u64 {
        self.layers.counts.pages(layer)
    }

    /// Every layer that the tree refers to, with the number of pages.
    pub fn layers(&self) -> impl Iterator<Item = (LayerId, u64)> {
        self.layers.counts.iter()
    }

    /// The layers that were referred to and are no more, each once (again if it came to life again in between).
    pub fn take_dead_layers(&mut self) -> impl Iterator<Item = LayerId> + use<> {
        std::mem::take(&mut self.layers.dead).into_iter()
    }

    /// Whether `v` is a root, or a clone that sees nothing of its ancestors, and all of its memory is zero.
    #[must_use]
    pub fn is_blank(&self, v: impl Shows) -> bool {
        let node = &self.nodes[v.leaf(self)];
        node.parent.is_none()
            && node.runs.at(0).place.is_none()
            && node.runs.at(0).len >= node.pages()
    }

    /// The number of nodes: memories and hidden nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many hidden nodes are above the memory of `v`: the most that [`Tree::resolve`] looks at besides the memory itself.
    #[must_use]
    pub fn depth(&self, v: VmoId) -> usize {
        let memory = self.vmos[v.0].memory;
        std::iter::successors(self.nodes[memory].parent, |edge| {
            self.nodes[edge.parent].parent
        })
        .count()
    }

    fn add_view(&mut self, v: VmoId, view: View) -> VmoId {
        let memory = self.vmos[v.0].memory;
        match &mut self.nodes[memory].kind {
            Kind::Leaf { views, .. } => *views += 1,
            Kind::Hidden { .. } => unreachable!("a VMO shows a leaf"),
        }
        self.add_vmo(memory, view, Some(v))
    }

    pub(crate) fn add_vmo(&mut self, memory: Key, view: View, parent: Option<VmoId>) -> VmoId {
        let vmo = Vmo {
            memory,
            view,
            parent: parent.map(|parent| parent.0),
            children: BTreeSet::new(),
        };
        let key = self.vmos.insert(vmo);
        if let Some(parent) = parent {
            self.vmos[parent.0].children.insert(key);
        }
        VmoId(key)
    }

    /// `pages` of `v` in the coordinates of its memory, cut to both.
    pub(crate) fn in_memory(&self, v: impl Shows, pages: Range<u64>) -> Range<u64> {
        let window = self.window(v);
        let end = window.end.min(self.nodes[v.leaf(self)].pages());
        let start = window.start.saturating_add(pages.start).min(end);
        start..window.start.saturating_add(pages.end).clamp(start, end)
    }
}
