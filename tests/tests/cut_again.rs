//! Cloning one mapping again and again: each clone has the bytes of its instant, however the pages came to be writable since the one before, and rounds leave nothing behind.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cowspace::{Policy, Vmar, VmarFlags, Vmo, VmoChildOptions, VmoOp};
use cowspace_tests::{RW, memory, page, unmap};
use host_memory::access::Volatile;
use test_share::{first_or_all, give_way, share};

/// splitmix64: every run is the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// A VMO that is mapped as a whole; unmapped when dropped.
struct Mapped {
    vmo: Vmo,
    memory: Volatile,
}

impl Mapped {
    fn new(pages: usize, policy: Policy) -> Mapped {
        Mapped::of(
            Vmo::create((pages * page()) as u64).expect("a VMO can be made"),
            pages,
            policy,
        )
    }

    fn of(vmo: Vmo, pages: usize, policy: Policy) -> Mapped {
        let len = pages * page();
        let start = Vmar::root_self()
            .map_with_policy(0, &vmo, 0, len, RW, policy)
            .expect("a VMO can be mapped");
        Mapped {
            vmo,
            memory: memory(start, len),
        }
    }

    fn store(&self, at: usize, value: u64) {
        self.memory.store_u64(at * page(), value);
    }

    fn snapshot(&self) -> Vmo {
        Vmar::root_self()
            .create_vmo_child(
                VmoChildOptions::SNAPSHOT,
                self.memory.addr(),
                self.memory.len(),
            )
            .expect("a mapping can be cloned")
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        unmap(self.memory.addr(), self.memory.len());
    }
}

fn word(vmo: &Vmo, at: usize) -> u64 {
    let mut bytes = [0; 8];
    vmo.read(&mut bytes, (at * page()) as u64)
        .expect("a page inside can be read");
    u64::from_ne_bytes(bytes)
}

/// What some pages of a mapping hold, and of clones of it.
struct World {
    mapped: Mapped,
    /// The pages looked at, and what they hold.
    now: BTreeMap<usize, u64>,
    clones: Vec<(Vmo, BTreeMap<usize, u64>)>,
    values: u64,
}

impl World {
    /// A mapping of which a clone was made once.
    fn new(pages: usize, looked_at: impl IntoIterator<Item = usize>) -> World {
        let mapped = Mapped::new(pages, Policy::Traced);
        let mut now = BTreeMap::new();
        for (number, at) in looked_at.into_iter().enumerate() {
            // Every third holds nothing.
            let value = if number % 3 == 0 { 0 } else { number as u64 };
            if value != 0 {
                mapped.store(at, value);
            }
            now.insert(at, value);
        }
        let mut world = World {
            mapped,
            now,
            clones: Vec::new(),
            values: 1 << 32,
        };
        world.clone();
        world
    }

    fn fresh(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    fn clone(&mut self) {
        self.clones.push((self.mapped.snapshot(), self.now.clone()));
    }

    fn check(&self) {
        for (at, &value) in &self.now {
            assert_eq!(word(&self.mapped.vmo, *at), value, "page {at} by a call");
        }
        for (number, (clone, then)) in self.clones.iter().enumerate() {
            for (at, &value) in then {
                assert_eq!(word(clone, *at), value, "page {at} of clone {number}");
            }
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        let (&at, _) = self
            .now
            .iter()
            .nth(dice.below(self.now.len()))
            .expect("one");
        let size = page() as u64;
        let byte = at as u64 * size;
        match dice.below(16) {
            0..=5 => {
                let value = self.fresh();
                self.mapped.store(at, value);
                self.now.insert(at, value);
            }
            6 | 7 => {
                let value = self.mapped.memory.load_u64(at * page());
                assert_eq!(value, self.now[&at], "page {at} by a load");
            }
            8 => {
                let value = self.fresh();
                let written = self.mapped.vmo.write(&value.to_ne_bytes(), byte);
                written.expect("a page inside can be written");
                self.now.insert(at, value);
            }
            9 => {
                let zeroed = self.mapped.vmo.op_range(VmoOp::ZERO, byte, size);
                zeroed.expect("a page inside can be zeroed");
                self.now.insert(at, 0);
            }
            10 => {
                let committed = self.mapped.vmo.op_range(VmoOp::COMMIT, byte, size);
                committed.expect("a page inside can be committed");
            }
            11 => {
                let all = self.mapped.memory.addr();
                let read = VmarFlags::PERM_READ;
                for perms in [read, read | VmarFlags::PERM_WRITE] {
                    Vmar::root_self()
                        .protect(all + at * page(), page(), perms)
                        .expect("permissions can be changed");
                }
            }
            12 if self.clones.len() > 1 => {
                let gone = dice.below(self.clones.len());
                self.clones.remove(gone);
            }
            13 => {
                // A second mapping and back: the pages change their home.
                let first = self.mapped.memory.clone();
                let start = Vmar::root_self()
                    .map(0, &self.mapped.vmo, 0, first.len(), RW)
                    .expect("a VMO can be mapped twice");
                self.mapped.memory = memory(start, first.len());
                unmap(first.addr(), first.len());
            }
            _ => self.clone(),
        }
        if self.clones.len() > 5 {
            self.clones.remove(0);
        }
    }
}

/// Random steps on a mapping of so many pages, of which some are looked at.
fn random_steps(pages: usize, looked_at: &[usize], seeds: u32, steps: usize) {
    for seed in 0..u64::from(share(seeds)) {
        println!("{pages} pages, seed {seed}");
        let mut world = World::new(pages, looked_at.iter().copied());
        let mut dice = Dice(seed);
        for _ in 0..steps {
            world.step(&mut dice);
        }
        world.clone();
        world.check();
    }
}

#[test]
fn each_clone_has_the_bytes_of_its_instant() {
    random_steps(8, &[0, 1, 2, 4, 5, 7], 40, 120);
    // More than a word of bits, and pages that are near one another.
    let some: Vec<usize> = (0..40).map(|number| number * 5 + number % 3).collect();
    random_steps(300, &some, 20, 300);
    let far: Vec<usize> = (0..60).map(|number| number * number * 3).collect();
    random_steps(20_000, &far, 10, 300);
}

/// So many that the engine does not remember each page by itself.
#[test]
fn each_clone_of_a_huge_mapping_has_the_bytes_of_its_instant() {
    let pages = (1 << 22) + 77;
    let near = [0, 1, 2, 3, 1000, 1001];
    let far = [1 << 21, (1 << 21) + 1, pages - 3, pages - 2, pages - 1];
    let looked_at: Vec<usize> = near.into_iter().chain(far).collect();
    random_steps(pages, &looked_at, 4, 100);
}

/// Most pages change between two clones, or few; then others that see them are cloned and mapped.
#[test]
fn pages_of_every_layer_are_found_by_clones_of_clones() {
    const PAGES: usize = 200;
    let mapped = Mapped::new(PAGES, Policy::Traced);
    let mut now = [0; PAGES];
    let mut held = Vec::new();
    let mut dice = Dice(7);
    for round in 1..=u64::from(share(59).max(12)) {
        let changed = if round % 4 == 0 { 150 } else { 20 };
        for _ in 0..changed {
            let at = dice.below(PAGES);
            now[at] = round;
            mapped.store(at, round);
        }
        // A run, too.
        let first = dice.below(PAGES - 30);
        for (at, value) in now.iter_mut().enumerate().skip(first).take(30) {
            *value = round + 1000;
            mapped.store(at, *value);
        }
        let clone = mapped.snapshot();
        let policy = if round % 2 == 0 {
            Policy::Traced
        } else {
            Policy::Native
        };
        let other = Mapped::of(clone, PAGES, policy);
        for (at, &value) in now.iter().enumerate() {
            let shown = other.memory.load_u64(at * page());
            assert_eq!(shown, value, "page {at} in round {round}");
        }
        other.store(5, u64::MAX);
        let grandchild = other.snapshot();
        assert_eq!(
            (word(&grandchild, 5), word(&grandchild, 6)),
            (u64::MAX, now[6])
        );
        held.push((grandchild, now));
        if held.len() > 6 {
            held.remove(dice.below(held.len()));
        }
        for (grandchild, then) in &held {
            for at in (0..PAGES).filter(|&at| at != 5) {
                assert_eq!(
                    word(grandchild, at),
                    then[at],
                    "page {at}, a round before {round}"
                );
            }
        }
    }
}

/// Threads store to pages of their own, over and over; each clone shows of each thread a prefix of what it stored.
#[test]
fn clones_while_threads_store_are_prefixes() {
    const THREADS: usize = 2;
    const EACH: usize = 700;
    let mapped = Mapped::new(THREADS * EACH, Policy::Traced);
    let mut held = mapped.snapshot();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for first in (0..THREADS).map(|number| number * EACH) {
            let (mapped, stop) = (&mapped, &stop);
            scope.spawn(move || {
                for count in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // Every page in turn, in an order in which neighbours are far apart.
                    let at = first + (count as usize * 37) % EACH;
                    mapped.store(at, count);
                    give_way();
                }
            });
        }
        for _ in 0..share(150) {
            let clone = mapped.snapshot();
            for first in (0..THREADS).map(|number| number * EACH) {
                let words: Vec<u64> = (first..first + EACH).map(|at| word(&clone, at)).collect();
                let last = *words.iter().max().expect("pages");
                for (at, &value) in words.iter().enumerate() {
                    // The last store to this page that is not later than the last of all.
                    let back = (0..EACH as u64)
                        .find(|back| last >= *back && (last - back) as usize * 37 % EACH == at);
                    let expected = back.map_or(0, |back| last - back);
                    assert_eq!(value, expected, "page {at}, after {last} stores");
                }
            }
            held = clone;
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(held);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("a process has descriptors")
        .count()
}

/// A chain of rounds, counted by the layers it leaves: each has a descriptor. They are the whole process's, so it is done in one of its own.
#[test]
fn layers_of_a_chain_stay_few() {
    const ALONE: &str = "COWSPACE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let alone = Command::new(std::env::current_exe().expect("a test has a file"))
            .args(["layers_of_a_chain_stay_few", "--exact", "--nocapture"])
            .env(ALONE, "1")
            .status();
        return assert!(alone.expect("it can be run").success());
    }
    const PAGES: usize = 2048;
    /// As many as are left before the engine looks for some to merge, and one of each size.
    const FEW: usize = 48;
    // As many as there may be layers, and as many again.
    let rounds = u64::from(share(400)).max(2 * FEW as u64);
    let before = descriptors();
    for &clone_goes_on in first_or_all(1, &[true, false]) {
        let mut mapped = Mapped::new(PAGES, Policy::Traced);
        let mut now = vec![0; PAGES];
        let mut held = mapped.snapshot();
        let mut dice = Dice(3);
        for round in 1..rounds {
            for _ in 0..16 {
                let at = dice.below(PAGES);
                now[at] = round;
                mapped.store(at, round);
            }
            let clone = mapped.snapshot();
            if clone_goes_on {
                mapped = Mapped::of(clone, PAGES, Policy::Traced);
                held = mapped.snapshot();
            } else {
                held = clone;
            }
            let layers = descriptors() - before;
            assert!(layers <= FEW, "{layers} descriptors more in round {round}");
        }
        for (at, &value) in now.iter().enumerate() {
            assert_eq!(word(&held, at), value, "page {at}");
        }
    }
}
