//! Random programs over several families, against a model that copies bytes.

mod support;

use proptest::prelude::*;
use support::{To, World};
use test_share::share;

/// One step. VMOs are named by their number among those alive, modulo how many there are; pages past the end are part of the game.
#[derive(Clone, Debug)]
enum Op {
    Create {
        pages: u64,
    },
    Clone {
        of: usize,
        offset: u64,
        pages: u64,
    },
    Slice {
        of: usize,
        offset: u64,
        pages: u64,
    },
    Reference {
        of: usize,
    },
    Write {
        vmo: usize,
        page: u64,
        pages: u64,
        to: To,
    },
    Zero {
        vmo: usize,
        page: u64,
        pages: u64,
    },
    Decommit {
        vmo: usize,
        page: u64,
        pages: u64,
    },
    Resize {
        vmo: usize,
        pages: u64,
    },
    Close {
        vmo: usize,
    },
    Compact {
        vmo: usize,
    },
}

/// The largest VMO.
const PAGES: u64 = 24;
/// The most VMOs alive at one time.
const VMOS: usize = 10;

fn op() -> impl Strategy<Value = Op> {
    let vmo = 0..VMOS;
    let page = 0..PAGES;
    let some = prop_oneof![3 => 1..5u64, 1 => 0..PAGES];
    let window = (
        vmo.clone(),
        prop_oneof![2 => Just(0), 1 => 0..PAGES],
        prop_oneof![Just(PAGES), 0..PAGES],
    );
    let to = prop_oneof![Just(To::Home), Just(To::New), Just(To::NewScattered)];
    prop_oneof![
        1 => (1..=PAGES).prop_map(|pages| Op::Create { pages }),
        6 => window.clone().prop_map(|(of, offset, pages)| Op::Clone { of, offset, pages }),
        1 => window.prop_map(|(of, offset, pages)| Op::Slice { of, offset, pages }),
        1 => vmo.clone().prop_map(|of| Op::Reference { of }),
        8 => (vmo.clone(), page.clone(), some.clone(), to)
            .prop_map(|(vmo, page, pages, to)| Op::Write { vmo, page, pages, to }),
        3 => (vmo.clone(), page.clone(), some.clone()).prop_map(|(vmo, page, pages)| Op::Zero { vmo, page, pages }),
        1 => (vmo.clone(), page, some).prop_map(|(vmo, page, pages)| Op::Decommit { vmo, page, pages }),
        2 => (vmo.clone(), 0..=PAGES).prop_map(|(vmo, pages)| Op::Resize { vmo, pages }),
        4 => vmo.clone().prop_map(|vmo| Op::Close { vmo }),
        1 => vmo.prop_map(|vmo| Op::Compact { vmo }),
    ]
}

fn step(world: &mut World, op: &Op) {
    let alive = world.alive();
    let makes_one = matches!(
        op,
        Op::Create { .. } | Op::Clone { .. } | Op::Slice { .. } | Op::Reference { .. }
    );
    if alive == VMOS && makes_one || alive == 0 && !matches!(op, Op::Create { .. }) {
        return;
    }
    match *op {
        Op::Create { pages } => world.create(pages),
        Op::Clone { of, offset, pages } => world.snapshot(of % alive, offset, pages),
        Op::Slice { of, offset, pages } => world.slice(of % alive, offset, pages),
        Op::Reference { of } => world.reference(of % alive),
        Op::Write {
            vmo,
            page,
            pages,
            to,
        } => world.write(vmo % alive, page..page + pages, to),
        Op::Zero { vmo, page, pages } => world.zero(vmo % alive, page..page + pages),
        Op::Decommit { vmo, page, pages } => world.decommit(vmo % alive, page..page + pages),
        Op::Resize { vmo, pages } => world.resize(vmo % alive, pages),
        Op::Close { vmo } => world.close(vmo % alive),
        Op::Compact { vmo } => world.compact(vmo % alive),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: share(20_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_program_reads_as_if_bytes_were_copied(
        pages in 1..=PAGES,
        program in proptest::collection::vec(op(), 1..40),
    ) {
        let mut world = World::default();
        world.create(pages);
        for op in &program {
            step(&mut world, op);
            world.check();
        }
        // And down to nothing.
        while world.alive() > 0 {
            world.close(world.alive() / 2);
            world.check();
        }
        prop_assert_eq!(world.tree.nodes(), 0);
        prop_assert_eq!(world.tree.layers().count(), 0);
    }
}
