//! Looking pages up allocates nothing: the fault handler does it.

use allocation_counter::measure;
use page_tree::{LayerId, Tree, VmoId};

/// A line of clones, each above the next with a page of its own and a zeroed one, and a slice of the last.
fn deep() -> (Tree, Vec<VmoId>) {
    let mut tree = Tree::new();
    let root = tree.create(64);
    tree.own(root, 0..64, LayerId(0), 0);
    let mut line = vec![root];
    for round in 1..40 {
        let v = *line.last().unwrap();
        tree.own(v, round..round + 1, LayerId(round), 0);
        tree.zero(v, 63 - round / 2..64 - round / 2);
        line.push(tree.snapshot(v, 0, 64));
    }
    line.push(tree.slice(*line.last().unwrap(), 8, 32));
    assert!(tree.depth(*line.last().unwrap()) > 30);
    (tree, line)
}

#[test]
fn the_counter_counts() {
    assert!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total > 0);
}

#[test]
fn resolve_and_run_allocate_nothing() {
    let (tree, line) = deep();
    let mut found = 0;
    let allocations = measure(|| {
        for &v in &line {
            for page in 0..70 {
                found += usize::from(tree.resolve(v, page) != page_tree::Place::Zero);
                found += usize::from(!tree.run(v, page..100).pages.is_empty());
            }
        }
    });
    assert!(found > 1000);
    assert_eq!(allocations.count_total, 0);
}
