//! Looking pages up. Nothing here allocates: this is what the fault handler asks.

use std::ops::Range;

use crate::arena::Key;
use crate::runs::{Place, Run};
use crate::shows::Shows;
use crate::tree::Tree;

/// A run of pages of a leaf, and what they show.
pub(crate) struct Seen {
    /// In the leaf's coordinates.
    pub(crate) pages: Range<u64>,
    /// Of the first page.
    pub(crate) place: Place,
    /// The node that has the run, and the first page in its coordinates; `None` if no node has one, so that the pages are zero.
    pub(crate) holder: Option<(Key, u64)>,
    /// How many hidden nodes above the leaf the last node was that was looked at: the holder, if there is one.
    pub(crate) depth: u32,
}

impl Seen {
    pub(crate) fn len(&self) -> u64 {
        self.pages.end - self.pages.start
    }
}

impl Tree {
    /// Where the content of `page` of `v` is. Beyond the end of `v`: [`Place::Zero`].
    ///
    /// Takes one step for each hidden node above the memory of `v` at most ([`Tree::depth`]) and allocates nothing.
    #[must_use]
    pub fn resolve(&self, v: impl Shows, page: u64) -> Place {
        match page.checked_add(1) {
            Some(end) => self.run(v, page..end).place,
            None => Place::Zero,
        }
    }

    /// The run that begins at `pages.start`: as long as the pages are at consecutive pages of one layer, or all zero, and within
    /// `pages`. It may end early where the next page is found in another node, so callers loop until they have all.
    ///
    /// Never empty if `pages` is not. Beyond the end of `v` all is zero. Allocates nothing.
    #[must_use]
    pub fn run(&self, v: impl Shows, pages: Range<u64>) -> Run {
        self.run_and_depth(v, pages).0
    }

    /// [`Tree::run`], and how many hidden nodes above the memory of `v` it was found: 0 in its own map, at most [`Tree::depth`]. Of pages that no node has: how far up was looked.
    #[must_use]
    pub fn run_and_depth(&self, v: impl Shows, pages: Range<u64>) -> (Run, u32) {
        let inside = self.in_memory(v, pages.clone());
        if inside.is_empty() {
            let place = Place::Zero;
            return (Run { pages, place }, 0);
        }
        let seen = self.look_up(v.leaf(self), inside);
        let run = Run {
            pages: pages.start..pages.start + seen.len(),
            place: seen.place,
        };
        (run, seen.depth)
    }

    /// What `leaf` shows from `pages.start` on, as far as it is one run of one node. `pages` is not empty.
    pub(crate) fn look_up(&self, leaf: Key, pages: Range<u64>) -> Seen {
        let mut len = pages.end - pages.start;
        let (mut key, mut page) = (leaf, pages.start);
        let mut depth = 0;
        loop {
            let node = &self.nodes[key];
            let span = node.runs.at(page);
            len = len.min(span.len);
            if let Some(place) = span.place {
                return Seen {
                    pages: pages.start..pages.start + len,
                    place,
                    holder: Some((key, page)),
                    depth,
                };
            }
            match node.parent {
                Some(up) if page < up.limit => {
                    len = len.min(up.limit - page);
                    key = up.parent;
                    page += up.offset;
                    depth += 1;
                }
                _ => {
                    return Seen {
                        pages: pages.start..pages.start + len,
                        place: Place::Zero,
                        holder: None,
                        depth,
                    };
                }
            }
        }
    }

    /// All that `leaf` shows in `pages`, in order.
    pub(crate) fn view(&self, leaf: Key, pages: Range<u64>) -> impl Iterator<Item = Seen> + '_ {
        let mut rest = pages;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let seen = self.look_up(leaf, rest.clone());
            rest.start = seen.pages.end;
            Some(seen)
        })
    }
}

/// The own runs of a VMO's memory, in order: what [`Tree::own_runs`] gives.
pub struct Runs<'a> {
    tree: &'a Tree,
    memory: Key,
    /// What is still to be looked at, in the memory's coordinates.
    rest: Range<u64>,
    /// Where the VMO begins in its memory.
    start: u64,
}

impl<'a> Runs<'a> {
    pub(crate) fn own(tree: &'a Tree, v: impl Shows) -> Runs<'a> {
        Runs {
            tree,
            memory: v.leaf(tree),
            rest: tree.in_memory(v, 0..u64::MAX),
            start: tree.window(v).start,
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let mut run = self.tree.nodes[self.memory]
            .runs
            .within(self.rest.clone())
            .next()?;
        self.rest.start = run.pages.end;
        run.pages = run.pages.start - self.start..run.pages.end - self.start;
        Some(run)
    }
}
