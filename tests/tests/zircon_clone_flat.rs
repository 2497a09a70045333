//! What rounds of looking and cloning leave behind: nothing.

#![forbid(unsafe_code)]

use cowspace::{Policy, Vmo, VmoChildOptions};
use cowspace_tests::zircon::{Region, bytes, get, numbered};
use cowspace_tests::{RW, memory};
use test_share::share;

const PAGES: usize = 4;
/// A family keeps a few layers before it merges them.
const FEW: usize = 24;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("a process has descriptors")
        .count()
}

/// Maps a clone twice, looks at it, and clones it: nothing changes, so nothing may stay.
fn look_and_clone(policy: Policy, unmap_first: bool) {
    let root = numbered(PAGES);
    let snapshot = |vmo: &Vmo| {
        vmo.create_child(VmoChildOptions::SNAPSHOT, 0, bytes(PAGES))
            .expect("a snapshot can be made")
    };
    let clone = snapshot(&root);
    // In three quarters of them what stays would be more than a few.
    let rounds = (share(200) as usize).max(2 * FEW);
    let mut before = 0;
    for round in 0..rounds {
        let region = Region::new(2 * PAGES);
        region.map_with(0, &clone, PAGES, RW, policy);
        region.map_with(PAGES, &clone, PAGES, RW, policy);
        for at in 0..2 * PAGES {
            let value = memory(region.at(at), 1).load_u8(0);
            assert_eq!(usize::from(value), at % PAGES + 1);
        }
        if unmap_first {
            drop(region);
        }
        assert_eq!(get(&snapshot(&clone), 0), 1);
        if round == rounds / 4 {
            before = descriptors();
        }
    }
    let after = descriptors();
    assert!(after <= before + FEW, "{before} descriptors, later {after}");
}

// Descriptors are counted for the whole process, so this is one test.
#[test]
fn looking_and_cloning_leave_nothing() {
    for policy in cowspace_tests::zircon::POLICIES {
        for unmap_first in [true, false] {
            look_and_clone(policy, unmap_first);
        }
    }
}
