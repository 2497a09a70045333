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

/// Rounds of writing a page, cloning, and closing the clone before: closing takes as much at the end as at the beginning, however scattered the memory is by then.
#[test]
fn closing_a_clone_costs_what_changed_since() {
    const PAGES: u64 = 4096;
    let mut tree = Tree::new();
    let v = tree.create(PAGES);
    tree.own(v, 0..PAGES, LayerId(0), 0);
    let mut clone = tree.snapshot(v, 0, PAGES);
    let mut bytes = Vec::new();
    for round in 1..=1000 {
        let runs: Vec<_> = (0..4)
            .map(|at| ((round * 4 + at) * 997 % PAGES, at))
            .map(|(page, at)| (page..page + 1, at))
            .collect();
        tree.own_all(v, LayerId(round), &runs);
        let next = tree.snapshot(v, 0, PAGES);
        bytes.push(measure(|| tree.close(clone)).bytes_total);
        clone = next;
    }
    let (begin, end) = (&bytes[..100], &bytes[900..]);
    let (begin, end) = (begin.iter().sum::<u64>(), end.iter().sum::<u64>());
    assert!(
        end <= 2 * begin,
        "{begin} bytes at the beginning, {end} at the end"
    );
}
