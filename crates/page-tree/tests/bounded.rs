//! Rounds of write, clone and close without end leave nothing behind: nodes, depth, layers and the memory that layers hold stay bounded.

use std::collections::BTreeMap;

use page_tree::{LayerId, Tree, VmoId};
use test_share::share;

const ROUNDS: u32 = 10_000;
const PAGES: u64 = 64;

/// Which VMO goes when there are enough.
#[derive(Clone, Copy)]
enum Goes {
    Oldest,
    Newest,
    Any,
    /// The parent of the newest: each clone takes the place of what it was made of.
    Parent,
}

/// A tree with the engine's part in miniature: layers and what they hold.
struct Rounds {
    tree: Tree,
    held: BTreeMap<LayerId, u64>,
    /// In the order of making.
    alive: Vec<VmoId>,
    last_layer: u64,
    /// Pages, by compaction.
    copied: u64,
    random: u64,
}

impl Rounds {
    fn new() -> Rounds {
        let mut tree = Tree::new();
        let alive = vec![tree.create(PAGES)];
        let mut rounds = Rounds {
            tree,
            held: BTreeMap::new(),
            alive,
            last_layer: 0,
            copied: 0,
            random: 1,
        };
        let layer = rounds.new_layer(PAGES);
        rounds.tree.own(rounds.alive[0], 0..PAGES, layer, 0);
        rounds
    }

    /// splitmix64: every run is the same.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn new_layer(&mut self, pages: u64) -> LayerId {
        self.last_layer += 1;
        self.held.insert(LayerId(self.last_layer), pages);
        LayerId(self.last_layer)
    }

    /// Up to three pages of `v`, into one new layer.
    fn write(&mut self, v: VmoId) {
        let pages = self.tree.pages(v);
        let count = 1 + self.below(3);
        let layer = self.new_layer(count);
        for at in 0..count {
            let page = self.below(pages);
            self.tree.own(v, page..page + 1, layer, at);
        }
    }

    fn clone_of(&mut self, v: VmoId) {
        let pages = self.tree.pages(v);
        let clone = self.tree.snapshot(v, 0, pages);
        self.alive.push(clone);
    }

    fn close(&mut self, goes: Goes) {
        let newest = self.alive.len() - 1;
        let at = match goes {
            Goes::Oldest => 0,
            Goes::Newest => newest,
            Goes::Any => self.below(newest as u64 + 1) as usize,
            Goes::Parent => newest - 1,
        };
        self.tree.close(self.alive.remove(at));
    }

    fn compact(&mut self, v: VmoId) {
        let held = &self.held;
        let runs = self.tree.compactable(v, &|layer| held.get(&layer).copied());
        let copied = runs.iter().map(|run| run.pages.end - run.pages.start).sum();
        self.copied += copied;
        let layer = self.new_layer(copied);
        for run in runs {
            self.tree
                .relocate(v, run.pages.clone(), layer, run.pages.start);
        }
    }

    fn forget_dead_layers(&mut self) {
        for layer in self.tree.take_dead_layers() {
            self.held.remove(&layer);
        }
        // A compaction that found nothing made no layer.
        self.held.retain(|_, pages| *pages > 0);
    }

    fn check_shape(&self) {
        self.tree.check_invariants();
        let memories = self.alive.len();
        assert!(
            self.tree.nodes() < 2 * memories,
            "{} nodes for {memories} memories",
            self.tree.nodes()
        );
        for &v in &self.alive {
            assert!(
                self.tree.depth(v) < memories,
                "depth {} with {memories} memories",
                self.tree.depth(v)
            );
        }
    }

    /// After every VMO was compacted.
    fn check_layers(&self) {
        let memories = self.alive.len() as u64;
        let layers = self.held.len() as u64;
        let sizes = u64::from(PAGES.ilog2()) + 1;
        assert!(
            layers <= memories * sizes,
            "{layers} layers for {memories} memories"
        );

        let referred: u64 = self.tree.layers().map(|(_, pages)| pages).sum();
        let held: u64 = self.held.values().sum();
        assert!(
            referred <= memories * PAGES,
            "{referred} pages referred to by {memories} memories"
        );
        assert!(
            held <= 2 * referred,
            "{held} pages held, {referred} referred to"
        );
    }
}

/// In each round one of the VMOs writes and is cloned, now and then the clone writes, and one goes when more than `keep` are alive.
fn rounds(goes: Goes, keep: usize) {
    let (mut rounds, count) = (Rounds::new(), share(ROUNDS));
    for round in 0..count {
        let of = match goes {
            Goes::Any => rounds.below(rounds.alive.len() as u64) as usize,
            Goes::Newest => 0,
            Goes::Oldest | Goes::Parent => rounds.alive.len() - 1,
        };
        let v = rounds.alive[of];
        rounds.write(v);
        rounds.clone_of(v);
        if round % 3 == 0 {
            rounds.write(*rounds.alive.last().unwrap());
        }
        if rounds.alive.len() > keep {
            rounds.close(goes);
        }
        for v in rounds.alive.clone() {
            rounds.compact(v);
        }
        rounds.forget_dead_layers();
        rounds.check_layers();
        if round % 16 == 0 {
            rounds.check_shape();
        }
    }
    // What a round wrote was copied no more often than it could double: 4 is the average number of pages a round writes, rounded up.
    let copied = rounds.copied;
    assert!(
        copied <= u64::from(count) * 4 * u64::from(PAGES.ilog2()),
        "{copied} pages copied in {count} rounds"
    );
}

#[test]
fn the_oldest_goes() {
    for keep in [1, 3, 12] {
        rounds(Goes::Oldest, keep);
    }
}

#[test]
fn the_newest_goes() {
    for keep in [2, 12] {
        rounds(Goes::Newest, keep);
    }
}

#[test]
fn any_goes() {
    for keep in [1, 3, 12] {
        rounds(Goes::Any, keep);
    }
}

#[test]
fn the_parent_goes() {
    for keep in [1, 6] {
        rounds(Goes::Parent, keep);
    }
}
