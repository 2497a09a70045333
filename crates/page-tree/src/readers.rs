//! Who reads a content: walking down from a node, and releasing what nobody reads.

use std::collections::btree_set;
use std::ops::{ControlFlow, Range};

use crate::arena::Key;
use crate::node::Kind;
use crate::tree::Tree;

/// So many children of a node are looked at to choose one of them.
const A_FEW: usize = 8;

/// Pages of a node.
pub(crate) struct Held {
    pub(crate) node: Key,
    pub(crate) pages: Range<u64>,
}

/// A hidden node on the way down from a content to its readers.
struct Level<'a> {
    /// Those not yet looked at.
    children: btree_set::Iter<'a, Key>,
    /// The pages in question, in this node's coordinates.
    pages: Range<u64>,
    /// What to add to a page of this node to get the page of the node at the top.
    shift: u64,
}

impl Tree {
    /// What `leaf` sees of its ancestors in `pages`: the runs there, content and markers.
    pub(crate) fn seen_above(&self, leaf: Key, pages: Range<u64>) -> Vec<Held> {
        if self.nodes[leaf].parent.is_none() {
            return Vec::new();
        }
        let above = self.view(leaf, pages).filter_map(|seen| {
            let (node, page) = seen.holder?;
            (node != leaf).then(|| Held {
                node,
                pages: page..page + seen.len(),
            })
        });
        above.collect()
    }

    /// The pages of `leaf`, in order, outside of which one certain other leaf looks at the same pages of its parent: nothing is lost there when `leaf` goes.
    ///
    /// Takes a time that grows with what stands between the two, not with all that `leaf` sees: so closing costs no more than what was changed since the clone. It looks at
    /// at most `most` runs of a node; where that is not enough, all pages are given.
    pub(crate) fn perhaps_alone(&self, leaf: Key, most: usize) -> Vec<Range<u64>> {
        let Some(edge) = self.nodes[leaf].parent else {
            return Vec::new();
        };
        // In coordinates of the parent.
        let window = edge.offset..edge.offset + edge.limit;
        let mut hidden = Vec::new();
        // What the other leaf's branch can see of the window, and how a page of the node reached counts in the parent.
        let (mut seen, mut shift) = (window.clone(), 0);
        let mut node = edge.parent;
        while let Kind::Hidden { children } = &self.nodes[node].kind {
            let others = children.iter().filter(|&&child| child != leaf).take(A_FEW);
            let Some(&child) = others.min_by_key(|&&child| self.nodes[child].runs.len()) else {
                hidden.push(window.clone());
                break;
            };
            let below = &self.nodes[child];
            if below.runs.len() > most {
                hidden.push(window.clone());
                break;
            }
            let edge = below.parent.expect("a child has an edge");
            shift += edge.offset;
            let start = seen.start.max(shift).min(seen.end);
            let end = seen.end.min(shift.saturating_add(edge.limit)).max(start);
            hidden.extend([seen.start..start, end..seen.end]);
            seen = start..end;
            if !seen.is_empty() {
                let own = below.runs.within(start - shift..end - shift);
                hidden.extend(own.map(|run| run.pages.start + shift..run.pages.end + shift));
            }
            node = child;
        }
        hidden.retain(|pages| !pages.is_empty());
        hidden.sort_unstable_by_key(|pages| pages.start);
        let mut at = window.start;
        hidden
            .into_iter()
            .filter_map(|pages| {
                let start = pages.start.max(at);
                at = at.max(pages.end);
                (start < at).then(|| start - edge.offset..at - edge.offset)
            })
            .collect()
    }

    /// Calls `visit` for every leaf below `node`, and each range of `pages` (in the node's coordinates) which that leaf sees in the node. A
    /// leaf may be visited several times, with disjoint ranges. Stops when `visit` breaks.
    fn visit_readers(
        &self,
        node: Key,
        pages: Range<u64>,
        mut visit: impl FnMut(Range<u64>) -> ControlFlow<()>,
    ) {
        let Kind::Hidden { children } = &self.nodes[node].kind else {
            let _ = visit(pages);
            return;
        };
        let mut path = vec![Level {
            children: children.iter(),
            pages,
            shift: 0,
        }];
        while let Some(level) = path.last_mut() {
            let Some(&child) = level.children.next() else {
                path.pop();
                continue;
            };
            let below = &self.nodes[child];
            let edge = below.parent.expect("a child has an edge");
            // The pages of the child that look at the level's pages, and how they count in the node at the top.
            let start = level
                .pages
                .start
                .saturating_sub(edge.offset)
                .min(edge.limit);
            let end = level.pages.end.saturating_sub(edge.offset).min(edge.limit);
            let shift = level.shift + edge.offset;
            for gap in below.runs.gaps(start..end) {
                match &below.kind {
                    Kind::Hidden { children } => path.push(Level {
                        children: children.iter(),
                        pages: gap,
                        shift,
                    }),
                    Kind::Leaf { .. } if visit(gap.start + shift..gap.end + shift).is_break() => {
                        return;
                    }
                    Kind::Leaf { .. } => {}
                }
            }
        }
    }

    /// How many leaves see each of `pages` of `node`, as consecutive ranges with one count each. Of a leaf: 1.
    pub(crate) fn share_counts(&self, node: Key, pages: Range<u64>) -> Vec<(Range<u64>, u64)> {
        let mut steps: Vec<(u64, i64)> = vec![(pages.start, 0), (pages.end, 0)];
        self.visit_readers(node, pages, |seen| {
            steps.extend([(seen.start, 1), (seen.end, -1)]);
            ControlFlow::Continue(())
        });
        steps.sort_unstable();
        let mut count = 0;
        let ranges = steps.windows(2).filter_map(|pair| {
            count += pair[0].1;
            (pair[0].0 < pair[1].0).then(|| (pair[0].0..pair[1].0, count.unsigned_abs()))
        });
        ranges.collect()
    }

    /// Takes out what nobody reads among `above`, which a leaf has just stopped reading.
    ///
    /// That is all that could have lost its last reader, and nothing becomes visible by it: who does not see a run does not see what is
    /// behind it either.
    pub(crate) fn give_up(&mut self, above: Vec<Held>) {
        let mut emptied = Vec::new();
        for Held { node, pages } in above {
            for unread in self.unread(node, pages) {
                self.nodes[node].runs.remove(unread, &mut self.layers);
            }
            if self.nodes[node].runs.is_empty() {
                emptied.push(node);
            }
        }
        self.tidy(emptied);
    }

    /// The ranges of `pages` of the hidden node `node` which no leaf sees.
    fn unread(&self, node: Key, pages: Range<u64>) -> Vec<Range<u64>> {
        // Nearly always some leaf sees all of it: found without counting the others.
        let mut all_read = false;
        self.visit_readers(node, pages.clone(), |seen| {
            all_read = seen == pages;
            if all_read {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if all_read {
            return Vec::new();
        }
        let counts = self.share_counts(node, pages).into_iter();
        counts
            .filter(|(_, count)| *count == 0)
            .map(|(pages, _)| pages)
            .collect()
    }
}
