//! Many threads map, unmap, protect and overwrite pages of one VMAR at once, while others store to neighbouring pages
//! and clone them. Every thread knows what its own pages must be.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cowspace::{Policy, Status, VmarFlags, VmarOp, Vmo, VmoChildOptions};
use cowspace_tests::zircon::{Region, bytes, can_read, can_write};
use cowspace_tests::{RW, memory, page};
use test_share::{give_way, share};

const CHANGERS: usize = 4;
/// Pages of each changing thread. They lie between those of the others, so that the kernel cuts and merges its areas
/// all the time.
const PAGES: usize = 12;
const ROUNDS: u32 = 1_500;
/// Behind the pages that change: two counters of the storing thread.
const COUNTERS: usize = CHANGERS * PAGES;

const READ: VmarFlags = VmarFlags::PERM_READ;
const NONE: VmarFlags = VmarFlags::empty();

/// A generator of numbers, the same for each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// What a page of the region shows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shown {
    /// The common VMO, or the thread's own.
    common: bool,
    perms: VmarFlags,
}

/// A thread's own pages, and what must be there.
struct Changer<'a> {
    region: &'a Region,
    policy: Policy,
    common: &'a Vmo,
    /// As long as the common one; has a clone.
    own: &'a Vmo,
    /// Page numbers in the region and in both VMOs.
    pages: Vec<usize>,
    shown: Vec<Option<Shown>>,
    /// Of the common VMO's page and of the own one's.
    values: Vec<[u64; 2]>,
    numbers: Numbers,
}

impl Changer<'_> {
    fn vmo(&self, common: bool) -> &Vmo {
        if common { self.common } else { self.own }
    }

    fn map(&mut self, which: usize, overwrite: bool) {
        let shown = Shown {
            common: self.numbers.below(2) == 0,
            perms: [RW, RW, READ, NONE][self.numbers.below(4)],
        };
        let kind = if overwrite {
            VmarFlags::SPECIFIC_OVERWRITE
        } else {
            VmarFlags::SPECIFIC
        };
        let at = self.pages[which];
        let mapped = self.region.vmar.map_with_policy(
            at * page(),
            self.vmo(shown.common),
            bytes(at),
            page(),
            shown.perms | kind,
            self.policy,
        );
        if self.shown[which].is_some() && !overwrite {
            assert_eq!(mapped, Err(Status::ALREADY_EXISTS));
        } else {
            assert_eq!(mapped, Ok(self.region.at(at)));
            self.shown[which] = Some(shown);
        }
    }

    fn protect(&mut self, which: usize) {
        let perms = [RW, READ, NONE][self.numbers.below(3)];
        let addr = self.region.at(self.pages[which]);
        let result = self.region.vmar.protect(addr, page(), perms);
        match &mut self.shown[which] {
            Some(shown) => {
                assert_eq!(result, Ok(()));
                shown.perms = perms;
            }
            None => assert_eq!(result, Err(Status::NOT_FOUND)),
        }
    }

    fn operate(&mut self, which: usize) {
        let op = [VmarOp::ZERO, VmarOp::COMMIT, VmarOp::MAP_RANGE][self.numbers.below(3)];
        let addr = self.region.at(self.pages[which]);
        let result = self.region.vmar.op_range(op, addr, page());
        match self.shown[which] {
            Some(shown) => {
                assert_eq!(result, Ok(()));
                if op == VmarOp::ZERO {
                    self.values[which][usize::from(!shown.common)] = 0;
                }
            }
            None => assert_eq!(result, Err(Status::BAD_STATE)),
        }
    }

    fn store(&mut self, which: usize) {
        let Some(shown) = self.shown[which] else {
            return;
        };
        let value = &mut self.values[which][usize::from(!shown.common)];
        if shown.perms == RW {
            *value += 1;
            memory(self.region.at(self.pages[which]), 8).store_u64(0, *value);
        }
    }

    fn check(&self, which: usize) {
        let at = self.pages[which];
        let addr = self.region.at(at);
        let perms = self.shown[which].map_or(NONE, |shown| shown.perms);
        assert_eq!(can_read(addr), perms.contains(READ), "page {at}");
        assert_eq!(can_write(addr), perms == RW, "page {at}");
        if let Some(shown) = self.shown[which]
            && shown.perms.contains(READ)
        {
            let expected = self.values[which][usize::from(!shown.common)];
            assert_eq!(memory(addr, 8).load_u64(0), expected, "page {at}");
        }
        for common in [true, false] {
            let expected = self.values[which][usize::from(!common)];
            assert_eq!(value(self.vmo(common), at), expected, "page {at}");
        }
    }

    fn run(mut self) {
        for _ in 0..share(ROUNDS) {
            let which = self.numbers.below(PAGES);
            match self.numbers.below(8) {
                0 => self.map(which, false),
                1 | 2 => self.map(which, true),
                3 => {
                    let addr = self.region.at(self.pages[which]);
                    assert_eq!(self.region.vmar.unmap(addr, page()), Ok(()));
                    self.shown[which] = None;
                }
                4 | 5 => self.protect(which),
                6 => self.operate(which),
                _ => {}
            }
            self.store(which);
            self.check(which);
        }
        (0..PAGES).for_each(|which| self.check(which));
    }
}

/// The number at the beginning of a page of a VMO.
fn value(vmo: &Vmo, at: usize) -> u64 {
    let mut value = [0; 8];
    vmo.read(&mut value, bytes(at)).expect("it is inside");
    u64::from_ne_bytes(value)
}

/// Counts up in two pages, first in one, then in the other. Gives the number.
fn count(region: &Region, done: &AtomicBool) -> u64 {
    let (first, second) = (
        memory(region.at(COUNTERS), 8),
        memory(region.at(COUNTERS + 1), 8),
    );
    let mut number = 0;
    while !done.load(Ordering::Relaxed) {
        number += 1;
        first.store_u64(0, number);
        second.store_u64(0, number);
        assert_eq!((first.load_u64(0), second.load_u64(0)), (number, number));
        give_way();
    }
    number
}

/// Clones the common VMO, and what is mapped where the counters are.
fn clone(region: &Region, common: &Vmo, done: &AtomicBool) {
    let mut before = 0;
    while !done.load(Ordering::Relaxed) {
        let options = VmoChildOptions::SNAPSHOT;
        let whole = common.create_child(options, 0, bytes(COUNTERS + 2));
        let whole = whole.expect("a snapshot");
        let counters = region
            .vmar
            .create_vmo_child(options, region.at(COUNTERS), 2 * page())
            .expect("the counters stay mapped");
        for (clone, at) in [(&whole, COUNTERS), (&counters, 0)] {
            let (first, second) = (value(clone, at), value(clone, at + 1));
            assert!(first == second || first == second + 1, "{first} {second}");
            assert!(second >= before, "{second} after {before}");
            before = second;
        }
        // So that not every fault of the others meets a cut.
        thread::yield_now();
    }
}

fn all_at_once(policy: Policy) {
    let len = bytes(COUNTERS + 2);
    let region = Region::new(COUNTERS + 2);
    let vmo = || Vmo::create(len).expect("a small VMO");
    let common = vmo();
    let flags = RW | VmarFlags::SPECIFIC;
    region
        .vmar
        .map_with_policy(
            COUNTERS * page(),
            &common,
            bytes(COUNTERS),
            2 * page(),
            flags,
            policy,
        )
        .expect("there is room");
    let owns: Vec<(Vmo, Vmo)> = (0..CHANGERS)
        .map(|_| {
            let own = vmo();
            let clone = own.create_child(VmoChildOptions::SNAPSHOT, 0, len);
            (own, clone.expect("a snapshot"))
        })
        .collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let counter = scope.spawn(|| count(&region, &done));
        let cloner = scope.spawn(|| clone(&region, &common, &done));
        let changers: Vec<_> = owns
            .iter()
            .enumerate()
            .map(|(number, (own, _))| {
                let changer = Changer {
                    region: &region,
                    policy,
                    common: &common,
                    own,
                    pages: (0..PAGES).map(|at| at * CHANGERS + number).collect(),
                    shown: vec![None; PAGES],
                    values: vec![[0; 2]; PAGES],
                    numbers: Numbers(number as u64 + 1),
                };
                scope.spawn(move || changer.run())
            })
            .collect();
        // A thread that failed must not keep the others waiting.
        let ended: Vec<_> = changers.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        let number = counter.join().expect("the counter lost no store");
        cloner.join().expect("each clone was a cut");
        assert!(ended.iter().all(|result| result.is_ok()));
        assert_eq!(value(&common, COUNTERS), number);
        assert_eq!(value(&common, COUNTERS + 1), number);
    });
    for (_, clone) in &owns {
        assert!((0..COUNTERS).all(|at| value(clone, at) == 0));
    }
}

#[test]
fn threads_change_one_vmar_at_once_traced() {
    all_at_once(Policy::Traced);
}

#[test]
fn threads_change_one_vmar_at_once_native() {
    all_at_once(Policy::Native);
}
