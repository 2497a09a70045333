//! The VMO page tree: which content each page of a family of copy-on-write clones shows.
//!
//! The crate decides and does nothing else: it holds no byte, does no I/O and knows no page size. Every offset, size and
//! count is in pages. Bytes lie in *layers*, which are numbers to the tree; the engine keeps the files behind them.
//!
//! # The picture
//!
//! ```text
//!    VMOs          memories (leaves)        hidden nodes                 layers
//!
//!    a ──────────► A {3: L5[3]} ──────┐
//!    slice of a ─►   (same leaf)      ├──► H {0..8: L1[0..8]}            L1: sealed, 8 pages
//!    b ──────────► B {0: zero}  ──┐   │       no parent                  L4: sealed
//!                                 ├──►│                                  L5: A's own
//!    c ──────────► C {}         ──┘  G {2: L4[0]}, offset 0, limit 8
//! ```
//!
//! - A **VMO** is what a handle names: it has a parent and children in Zircon's sense. Slices and references are VMOs which
//!   look at the memory of another, through a window.
//! - A **memory** is a leaf of the tree: what a root or a clone shows. It lives while any VMO looks at it.
//! - A **hidden node** is what a memory had when it was cloned. Its content never changes.
//! - A node maps ranges of pages (*runs*) to a [`Place`]: pages of a layer, or the zero marker. A page without a run is looked up in
//!   the parent at `page + offset` if `page` is below the node's `limit`, and is zero otherwise.
//!
//! In the picture page 3 of `c` is looked up in `C` (no run), `G` (no run), and found in `H`: page 3 of layer 1.
//!
//! # What each operation does to the tree
//!
//! | operation | tree |
//! |---|---|
//! | [`Tree::snapshot`] | the leaf's runs move, as one map, to a new hidden node with the leaf and the clone below it. If the leaf has nothing in the clone's window, the clone hangs below the nearest ancestor that has, or below none: chains of unwritten clones stay flat |
//! | [`Tree::own`] | a run in the leaf; what the leaf saw there before loses one reader |
//! | [`Tree::own_all`] | the same for many runs of one layer |
//! | [`Tree::zero`] | as `own`, with the marker where an ancestor would show through, and no run elsewhere |
//! | [`Tree::resize`] | runs beyond the end go, the limit is cut; growing leaves the limit |
//! | [`Tree::close`] | the leaf goes when its last VMO does; what it saw loses one reader |
//! | [`Tree::relocate`] | the same content at another place, for all its readers (compaction) |
//!
//! Content that loses its last reader leaves its node at once, and a layer without references is reported by
//! [`Tree::take_dead_layers`]. So the tree never refers to more pages than eager copies would have made. A hidden node with one child left
//! is merged into it (runs keep their layer, no byte is copied); one without runs is taken out.
//!
//! # Invariants
//!
//! [`Tree::check_invariants`] checks all of them; the tests call it after every step.
//!
//! 1. *Links*: parents and children, of nodes and of VMOs, agree; there is no cycle.
//! 2. *Shape*: a hidden node has two or more children and one or more runs. (So there are fewer hidden nodes than memories.)
//! 3. *Edges*: a limit is not 0, `offset + limit` does not overflow, and a leaf's limit is not above its size.
//! 4. *Runs*: disjoint, not empty, coalesced where they continue one another; a leaf's lie within its size; a root has no markers.
//! 5. *Readers*: every page of every hidden run is what some leaf reads there.
//! 6. *Layers*: a layer's count is the number of pages that runs refer to; a layer counted 0 is reported as dead once.
//! 7. *Families*: all memories below one root are of one family; a family counts its memories.
//!
//! Share counts ([`Tree::attribution`]) are not stored: they are found by walking down from the content.
//!
//! # Contract with the engine
//!
//! - Ids are made by one tree and are good until [`Tree::close`]; another id is a mistake of the caller and panics.
//! - Ranges, alignment and rights are checked before the tree is asked. What lies beyond the end of a VMO is ignored by
//!   operations and reads as zero.
//! - The bytes at a place must not change while another memory can see them: before [`Tree::snapshot`] the engine seals each layer for
//!   which [`Tree::uses`] is true.
//! - The tree has no lock: one lock of the engine guards it.
//!
//! ```
//! use page_tree::{LayerId, Place, Tree};
//!
//! let mut tree = Tree::new();
//! let parent = tree.create(8);
//! tree.own(parent, 0..8, LayerId(1), 0);
//!
//! let clone = tree.snapshot(parent, 2, 4);
//! tree.own(parent, 3..4, LayerId(2), 0);
//! assert_eq!(tree.resolve(parent, 3), Place::In(LayerId(2), 0));
//! assert_eq!(tree.resolve(clone, 1), Place::In(LayerId(1), 3));
//!
//! tree.close(parent);
//! assert_eq!(tree.layer_pages(LayerId(1)), 4); // what the clone still sees
//! assert!(tree.take_dead_layers().eq([LayerId(2)]));
//! ```

#![forbid(unsafe_code)]

mod arena;
mod attribution;
mod close;
mod compact;
mod content;
mod family;
mod invariants;
mod layers;
mod node;
mod outline;
mod readers;
mod resolve;
mod runs;
mod shows;
mod snapshot;
mod tidy;
mod tree;

pub use attribution::Attribution;
pub use compact::is_wasted;
pub use layers::LayerId;
pub use outline::{OutlineEdge, OutlineNode};
pub use resolve::Runs;
pub use runs::{Place, Run};
pub use shows::Shows;
pub use tree::{Decommit, MemoryId, Tree, VmoId};
