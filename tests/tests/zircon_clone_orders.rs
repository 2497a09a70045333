//! Families of three generations: every order of writing, zeroing, resizing and closing, and what each member shows and is charged with after each step.
//! The same in all ways to hold a VMO: without a mapping, with one of either policy, resizable or not.

#![forbid(unsafe_code)]

use cowspace_tests::family::{Access, Family};
use test_share::share;

const PAGES: usize = 4;

/// What can be done to one of three members.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Write a page that all began with, and one that nobody has.
    Write,
    /// Zero the page that all began with, and one that the second wrote.
    Zero,
    /// Cut all but the first page off, and grow again.
    Shrink,
    /// End it.
    Close,
}

fn act(family: &mut Family, member: usize, act: Act) {
    if !family.is_open(member) {
        return;
    }
    match act {
        Act::Write => {
            family.write(member, 0);
            family.write(member, PAGES - 1);
        }
        Act::Zero => family.zero(member, 0, 2),
        Act::Shrink => {
            family.resize(member, 1);
            family.resize(member, PAGES);
        }
        Act::Close => family.close(member),
    }
}

/// A child of a child, of everything.
fn chain(access: Access) -> Family {
    let mut family = Family::new(access, PAGES);
    (0..3).for_each(|page| family.write(0, page));
    family.snapshot(0, 0, PAGES);
    family.write(1, 1);
    family.snapshot(1, 0, PAGES);
    family
}

/// Two children of one, with writes to the parent between them.
fn siblings(access: Access) -> Family {
    let mut family = Family::new(access, PAGES);
    (0..3).for_each(|page| family.write(0, page));
    family.snapshot(0, 0, PAGES);
    family.write(0, 1);
    family.snapshot(0, 0, PAGES);
    family
}

/// A child of a child, each beginning a page later and reaching over the end.
fn with_offsets(access: Access) -> Family {
    let mut family = Family::new(access, PAGES);
    (0..PAGES).for_each(|page| family.write(0, page));
    family.snapshot(0, 1, PAGES);
    family.write(1, 1);
    family.snapshot(1, 1, PAGES);
    family
}

/// Runs every sequence of `len` different acts, on a family of its own each; on a slow machine some of them.
fn every_order(begin: fn(Access) -> Family, access: Access, len: usize) {
    let mut acts = Vec::new();
    for member in 0..3 {
        acts.extend([Act::Write, Act::Zero, Act::Close].map(|act| (member, act)));
        if access.resizable() {
            acts.push((member, Act::Shrink));
        }
    }
    let mut sequence = vec![0; len];
    // An odd number, so that all acts take their turn.
    let each = (1000 / share(1000)) | 1;
    let mut number = 0;
    loop {
        let different = (0..len).all(|i| !sequence[..i].contains(&sequence[i]));
        number += u32::from(different);
        if different && number % each == 0 {
            let steps: Vec<_> = sequence.iter().map(|&at: &usize| acts[at]).collect();
            let mut family = begin(access);
            for done in 0..len {
                let (member, what) = steps[done];
                act(&mut family, member, what);
                family.check(&|| format!("{:?}", &steps[..=done]));
            }
        }
        // The next number in the system of base `acts.len()`.
        let Some(digit) = sequence.iter().rposition(|&digit| digit + 1 < acts.len()) else {
            return;
        };
        sequence[digit] += 1;
        sequence[digit + 1..].fill(0);
    }
}

#[test]
fn chain_by_calls() {
    every_order(chain, Access::Calls, 3);
}

#[test]
fn chain_by_calls_and_resizing() {
    every_order(chain, Access::Resizable, 3);
}

#[test]
fn chain_by_traced_mappings() {
    every_order(chain, Access::ALL[2], 3);
}

#[test]
fn chain_by_native_mappings() {
    every_order(chain, Access::ALL[3], 3);
}

#[test]
fn chain_by_mappings_and_resizing() {
    for access in &Access::ALL[4..] {
        every_order(chain, *access, 2);
    }
}

#[test]
fn siblings_in_every_way() {
    for access in Access::ALL {
        every_order(siblings, access, 2);
    }
}

#[test]
fn with_offsets_in_every_way() {
    for access in Access::ALL {
        every_order(with_offsets, access, 2);
    }
}

/// Zircon's clones of one page: `n` children, each of which may write.
#[test]
fn many_children_share_and_part() {
    for access in Access::ALL {
        let mut family = Family::new(access, 2);
        family.write(0, 0);
        for child in 1..=7 {
            family.snapshot(0, 0, 2);
            family.check(&|| format!("{child} children"));
        }
        for member in [3, 0, 7] {
            family.write(member, 0);
            family.write(member, 1);
            family.check(&|| format!("a write to {member}"));
        }
        for member in [1, 0, 2, 7, 3, 4, 5] {
            family.close(member);
            family.check(&|| format!("the end of {member}"));
        }
    }
}

/// Each generation changes one page and clones itself, forwards or backwards; then they end from either side.
#[test]
fn progressive_clones() {
    const DEPTH: usize = 6;
    for access in Access::ALL {
        for oldest_first in [true, false] {
            let mut family = Family::new(access, DEPTH);
            for generation in 0..DEPTH {
                family.write(generation, generation);
                family.snapshot(generation, 0, DEPTH);
                family.write(generation, DEPTH - 1 - generation);
                family.check(&|| format!("generation {generation}"));
            }
            for end in 0..DEPTH {
                let member = if oldest_first { end } else { DEPTH - end };
                family.close(member);
                family.check(&|| format!("the end of {member}"));
            }
        }
    }
}

/// A clone sees its window alone: what lies outside stays its owner's.
#[test]
fn windows_share_what_they_show() {
    for access in Access::ALL {
        for first in 0..PAGES {
            for pages in 1..=PAGES {
                let mut family = Family::new(access, PAGES);
                (0..PAGES).for_each(|page| family.write(0, page));
                family.snapshot(0, first, pages);
                family.check(&|| format!("a clone of {pages} pages at {first}"));
                family.snapshot(1, 1, pages);
                family.check(&|| "and one of it, a page later".into());
                (0..PAGES).for_each(|page| family.write(0, page));
                family.check(&|| "and writes to all".into());
                family.close(1);
                family.check(&|| "and the end of the middle one".into());
            }
        }
    }
}
