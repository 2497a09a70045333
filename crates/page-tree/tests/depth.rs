//! How far up a page is found.

use page_tree::{LayerId, Place, Tree};

const PAGES: u64 = 64;
const CLONES: u64 = 20;

#[test]
fn a_page_is_found_as_far_up_as_clones_were_made_since_it_was_written() {
    let mut tree = Tree::new();
    let mut line = vec![tree.create(2 * PAGES)];
    tree.own(line[0], 0..PAGES, LayerId(0), 0);
    for round in 1..=CLONES {
        // Page `round` is the last to be written before clone `round`.
        let v = line[line.len() - 1];
        tree.own(v, round..round + 1, LayerId(round), 0);
        line.push(tree.snapshot(v, 0, 2 * PAGES));
    }
    let last = line[line.len() - 1];
    let slice = tree.slice(last, 2, 2 * PAGES - 2);
    let found = |tree: &Tree, page| {
        let (run, depth) = tree.run_and_depth(last, page..page + 1);
        assert_eq!(run, tree.run(last, page..page + 1));
        if page >= 2 {
            let of_slice = tree.run_and_depth(slice, page - 2..page - 1);
            assert_eq!((of_slice.0.place, of_slice.1), (run.place, depth));
        }
        (run.place, depth)
    };
    for round in 1..=CLONES {
        let depth = u32::try_from(CLONES - round).unwrap() + 1;
        assert_eq!(found(&tree, round), (Place::In(LayerId(round), 0), depth));
    }
    let most = u32::try_from(tree.depth(last)).unwrap();
    assert_eq!(found(&tree, 50), (Place::In(LayerId(0), 50), most));
    assert_eq!(found(&tree, PAGES), (Place::Zero, most));
    // Beyond the end nothing is looked at.
    assert_eq!(found(&tree, 2 * PAGES), (Place::Zero, 0));

    tree.own(last, 50..51, LayerId(100), 7);
    assert_eq!(found(&tree, 50), (Place::In(LayerId(100), 7), 0));
    // Hidden nodes that nobody else sees merge into the memory.
    line[..line.len() - 1].iter().for_each(|v| tree.close(*v));
    for round in 1..=CLONES {
        assert_eq!(found(&tree, round), (Place::In(LayerId(round), 0), 0));
    }
}
