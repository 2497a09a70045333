//! Threads do everything at once to the VMOs of one family: map, unmap, protect, clone, read, write, zero, commit, close, and store through mappings. This hunts races and deadlocks.
//!
//! What can be checked without stopping anybody: each page has one thread that changes it, so that thread knows its exact value by every door; of the others' pages a clone has a value that
//! was there between the call and its return; and a clone never changes.
//!
//! `COWSPACE_STRESS_ROUNDS` makes it longer: so many actions of each thread.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use cowspace::{Policy, Status, Vmar, VmarFlags, Vmo, VmoChildOptions, VmoOp};
use cowspace_tests::{RW, memory, page, unmap};
use test_share::share;

const THREADS: usize = 4;
const PAGES: usize = 80;
/// VMOs that are changed, and clones that must not change.
const MEMBERS: usize = 3;
const CLONES: usize = 8;
const MAPPINGS: usize = 3;
const ROUNDS: u32 = 400;

/// A VMO that all threads change.
struct Member {
    vmo: Vmo,
    pages: [Expected; PAGES],
    /// Taken out while one thread changes it; read-locked while somebody may touch the memory.
    mappings: RwLock<Vec<Mapping>>,
}

/// What is in a page of a member: a number that its thread counts up, or zero.
#[derive(Default)]
struct Expected {
    value: AtomicU64,
    /// The newest number, also if zeros came after it.
    newest: AtomicU64,
    zeroed: AtomicBool,
}

/// A mapping of some pages of a member.
struct Mapping {
    addr: usize,
    first: usize,
    count: usize,
}

/// A clone nobody writes to, and what it holds.
struct Clone {
    vmo: Vmo,
    values: Vec<u64>,
}

struct Family {
    policy: Option<Policy>,
    members: Mutex<Vec<Arc<Member>>>,
    clones: Mutex<Vec<Arc<Clone>>>,
    steps: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers that look random (xorshift64*), the same ones for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    /// Some pages in a row: the first, and how many.
    fn pages(&mut self) -> (usize, usize) {
        let first = self.roll(PAGES);
        (first, 1 + self.roll(PAGES - first))
    }
}

fn at(p: usize) -> u64 {
    (p * page()) as u64
}

fn read(vmo: &Vmo, p: usize) -> u64 {
    let mut word = [0; 8];
    vmo.read(&mut word, at(p)).expect("reading");
    u64::from_ne_bytes(word)
}

fn read_all(vmo: &Vmo) -> Vec<u64> {
    let mut bytes = vec![0; PAGES * page()];
    vmo.read(&mut bytes, 0).expect("reading");
    let pages = bytes.chunks(page());
    pages
        .map(|bytes| u64::from_ne_bytes(*bytes.first_chunk().expect("a page has eight bytes")))
        .collect()
}

/// Makes a clone. That a thread did not stop in time is a reason to try again: the machine may be busy, and nothing has changed.
fn patiently(make: impl Fn() -> Result<Vmo, Status>) -> Vmo {
    loop {
        match make() {
            Err(Status::UNAVAILABLE) => {}
            other => return other.expect("a clone"),
        }
    }
}

fn snapshot(vmo: &Vmo) -> Vmo {
    patiently(|| vmo.create_child(VmoChildOptions::SNAPSHOT, 0, at(PAGES)))
}

impl Member {
    fn new(vmo: Vmo, values: &[u64]) -> Member {
        let pages = std::array::from_fn(|p| Expected {
            value: AtomicU64::new(values[p]),
            newest: AtomicU64::new(values[p]),
            zeroed: AtomicBool::new(values[p] == 0),
        });
        Member {
            vmo,
            pages,
            mappings: RwLock::default(),
        }
    }

    fn mappings(&self) -> std::sync::RwLockReadGuard<'_, Vec<Mapping>> {
        self.mappings.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_mapping(&self, dice: &mut Dice) -> Option<Mapping> {
        let mut mappings = self
            .mappings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let count = mappings.len();
        (count > 0).then(|| mappings.swap_remove(dice.roll(count)))
    }

    fn put_mapping(&self, mapping: Mapping) {
        self.mappings
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(mapping);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        for mapping in self.mappings().iter() {
            unmap(mapping.addr, mapping.count * page());
        }
    }
}

/// One thread's part.
struct Player<'a> {
    me: usize,
    dice: Dice,
    family: &'a Family,
}

impl Player<'_> {
    fn member(&mut self) -> Arc<Member> {
        let members = lock(&self.family.members);
        members[self.dice.roll(members.len())].clone()
    }

    /// A page that only this thread changes.
    fn own_page(&mut self) -> usize {
        self.dice.roll(PAGES / THREADS) * THREADS + self.me
    }

    fn policy(&mut self) -> Policy {
        self.family.policy.unwrap_or(if self.dice.roll(2) == 0 {
            Policy::Native
        } else {
            Policy::Traced
        })
    }

    fn step(&mut self) {
        let member = self.member();
        match self.dice.roll(20) {
            0..5 => self.store(&member),
            5..8 => self.write(&member),
            8..10 => self.look(&member),
            10 => self.zero(&member),
            11 => self.commit(&member),
            12 => self.map(&member),
            13 => self.unmap(&member),
            14 => self.protect(&member),
            15 | 16 => self.clone(&member),
            17 => self.look_at_clone(),
            18 => self.replace(),
            _ => self.ask(&member),
        }
        self.family.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes one of this thread's pages and notes it. `newest` is told first: whoever clones may see the page before the rest is told.
    fn change(&self, member: &Member, p: usize, how: impl FnOnce(u64)) {
        let expected = &member.pages[p];
        let value = expected.newest.load(Ordering::Relaxed) + 1;
        expected.newest.store(value, Ordering::SeqCst);
        how(value);
        expected.value.store(value, Ordering::SeqCst);
    }

    #[track_caller]
    fn assert_own(&self, member: &Member, p: usize, seen: u64, how: &str) {
        assert_eq!(
            seen,
            member.pages[p].value.load(Ordering::Relaxed),
            "page {p} by {how}"
        );
    }

    fn store(&mut self, member: &Member) {
        let p = self.own_page();
        for mapping in member
            .mappings()
            .iter()
            .filter(|mapping| (mapping.first..mapping.first + mapping.count).contains(&p))
        {
            let memory = memory(mapping.addr, mapping.count * page());
            let offset = (p - mapping.first) * page();
            self.assert_own(member, p, memory.load_u64(offset), "a load");
            self.change(member, p, |value| memory.store_u64(offset, value));
            self.assert_own(member, p, memory.load_u64(offset), "a load after a store");
        }
    }

    fn write(&mut self, member: &Member) {
        let p = self.own_page();
        let reference = (self.dice.roll(4) == 0).then(|| {
            member
                .vmo
                .create_child(VmoChildOptions::REFERENCE, 0, 0)
                .expect("a reference")
        });
        let vmo = reference.as_ref().unwrap_or(&member.vmo);
        self.change(member, p, |value| {
            vmo.write(&value.to_ne_bytes(), at(p)).expect("writing")
        });
        self.assert_own(member, p, read(&member.vmo, p), "vmo_read after vmo_write");
    }

    /// Compares this thread's pages by every door.
    fn look(&mut self, member: &Member) {
        let values = read_all(&member.vmo);
        for p in (self.me..PAGES).step_by(THREADS) {
            self.assert_own(member, p, values[p], "vmo_read");
        }
        for mapping in member.mappings().iter() {
            let memory = memory(mapping.addr, mapping.count * page());
            for p in
                (mapping.first..mapping.first + mapping.count).filter(|p| p % THREADS == self.me)
            {
                self.assert_own(
                    member,
                    p,
                    memory.load_u64((p - mapping.first) * page()),
                    "a load",
                );
            }
        }
    }

    fn zero(&mut self, member: &Member) {
        let p = self.own_page();
        member.pages[p].zeroed.store(true, Ordering::SeqCst);
        member
            .vmo
            .op_range(VmoOp::ZERO, at(p), page() as u64)
            .expect("zeroing");
        member.pages[p].value.store(0, Ordering::SeqCst);
        self.assert_own(member, p, read(&member.vmo, p), "vmo_read after zeroing");
    }

    fn commit(&mut self, member: &Member) {
        let (first, count) = self.dice.pages();
        member
            .vmo
            .op_range(VmoOp::COMMIT, at(first), at(count))
            .expect("committing");
    }

    fn map(&mut self, member: &Member) {
        if member.mappings().len() >= MAPPINGS {
            return self.unmap(member);
        }
        // All of it most of the time: only then a clone can live in private pages.
        let (first, count) = if self.dice.roll(3) == 0 {
            self.dice.pages()
        } else {
            (0, PAGES)
        };
        let policy = self.policy();
        let addr = Vmar::root_self()
            .map_with_policy(0, &member.vmo, at(first), count * page(), RW, policy)
            .expect("a mapping");
        member.put_mapping(Mapping { addr, first, count });
    }

    /// Unmaps a mapping, or a part of it.
    fn unmap(&mut self, member: &Member) {
        let Some(Mapping { addr, first, count }) = member.take_mapping(&mut self.dice) else {
            return;
        };
        let (start, end) = if self.dice.roll(3) == 0 {
            let start = self.dice.roll(count);
            (start, start + 1 + self.dice.roll(count - start))
        } else {
            (0, count)
        };
        unmap(addr + start * page(), (end - start) * page());
        for part in [0..start, end..count] {
            if !part.is_empty() {
                member.put_mapping(Mapping {
                    addr: addr + part.start * page(),
                    first: first + part.start,
                    count: part.len(),
                });
            }
        }
    }

    /// Makes a part of a mapping read-only for a while.
    fn protect(&mut self, member: &Member) {
        let Some(mapping) = member.take_mapping(&mut self.dice) else {
            return;
        };
        let start = self.dice.roll(mapping.count);
        let len = (1 + self.dice.roll(mapping.count - start)) * page();
        let addr = mapping.addr + start * page();
        let root = Vmar::root_self();
        root.protect(addr, len, VmarFlags::PERM_READ)
            .expect("taking a permission away");
        let memory = memory(mapping.addr, mapping.count * page());
        for p in (mapping.first..mapping.first + mapping.count).filter(|p| p % THREADS == self.me) {
            self.assert_own(
                member,
                p,
                memory.load_u64((p - mapping.first) * page()),
                "a load",
            );
        }
        root.protect(addr, len, RW).expect("giving it back");
        member.put_mapping(mapping);
    }

    fn clone(&mut self, member: &Member) {
        let before: Vec<u64> = member
            .pages
            .iter()
            .map(|page| page.value.load(Ordering::SeqCst))
            .collect();
        let whole = |mapping: &&Mapping| mapping.count == PAGES;
        // The mapping must stay until it is cloned.
        let mappings = member.mappings();
        let vmo = match mappings
            .iter()
            .find(whole)
            .filter(|_| self.dice.roll(2) == 0)
        {
            Some(mapping) => patiently(|| {
                Vmar::root_self().create_vmo_child(
                    VmoChildOptions::SNAPSHOT,
                    mapping.addr,
                    PAGES * page(),
                )
            }),
            None => snapshot(&member.vmo),
        };
        drop(mappings);
        let values = read_all(&vmo);
        for (p, (&value, &before)) in values.iter().zip(&before).enumerate() {
            let expected = &member.pages[p];
            let newest = expected.newest.load(Ordering::SeqCst);
            if p % THREADS == self.me {
                assert_eq!(
                    value, before,
                    "page {p} in a clone, of the thread that cloned"
                );
            } else if value == 0 {
                assert!(
                    before == 0 || expected.zeroed.load(Ordering::SeqCst),
                    "page {p} in a clone is zero and not {before}"
                );
            } else {
                assert!(
                    (before..=newest).contains(&value),
                    "page {p} in a clone: {value} is not in {before}..={newest}"
                );
            }
        }
        let mut clones = lock(&self.family.clones);
        let dropped = (clones.len() >= CLONES).then(|| clones.swap_remove(self.dice.roll(CLONES)));
        clones.push(Arc::new(Clone { vmo, values }));
        drop(clones);
        // Closes it, with no lock held.
        drop(dropped);
    }

    fn look_at_clone(&mut self) {
        let clones = lock(&self.family.clones);
        if clones.is_empty() {
            return;
        }
        let clone = clones[self.dice.roll(clones.len())].clone();
        drop(clones);
        assert_eq!(read_all(&clone.vmo), clone.values, "a clone has changed");
        let policy = self.policy();
        let len = PAGES * page();
        let addr = Vmar::root_self()
            .map_with_policy(0, &clone.vmo, 0, len, VmarFlags::PERM_READ, policy)
            .expect("a mapping");
        let mapped = memory(addr, len);
        let shown: Vec<u64> = (0..PAGES).map(|p| mapped.load_u64(p * page())).collect();
        assert_eq!(shown, clone.values, "a clone's mapping");
        unmap(addr, len);
    }

    /// Puts a clone of a clone in a member's place.
    fn replace(&mut self) {
        let Some(clone) = lock(&self.family.clones).last().cloned() else {
            return;
        };
        let vmo = snapshot(&clone.vmo);
        let mut members = lock(&self.family.members);
        let index = self.dice.roll(MEMBERS);
        let old = std::mem::replace(
            &mut members[index],
            Arc::new(Member::new(vmo, &clone.values)),
        );
        drop(members);
        // The last who has it closes it and unmaps what is left.
        drop(old);
    }

    fn ask(&mut self, member: &Member) {
        let info = member.vmo.info().expect("info");
        assert_eq!(info.size_bytes, at(PAGES));
        assert!(info.populated_bytes <= info.size_bytes, "{info:?}");
        cowspace::process_maps().expect("the maps");
        // Waits for the fault handler, by a fault that only it can serve: also while another thread stops this one for a snapshot.
        cowspace::fault_stats();
    }
}

/// Ends the process if nothing goes on for two minutes, and tells what each thread does.
fn watch(family: &Family, done: &AtomicBool) {
    let (mut seen, mut still) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        thread::park_timeout(Duration::from_secs(1));
        let steps = family.steps.load(Ordering::Relaxed);
        still = if steps == seen { still + 1 } else { 0 };
        seen = steps;
        if still == 120 {
            eprintln!("nothing goes on after {steps} steps:");
            for task in std::fs::read_dir("/proc/self/task")
                .into_iter()
                .flatten()
                .flatten()
            {
                let tell =
                    |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
                eprintln!(
                    "{:?} {} {} {}",
                    task.file_name(),
                    tell("stat"),
                    tell("syscall"),
                    tell("stack")
                );
            }
            std::process::abort();
        }
    }
}

fn stress(policy: Option<Policy>, seed: u64) {
    // The engine's reasons, should a call fail. Another test may have been first.
    let _ = tracing_subscriber::fmt().with_test_writer().try_init();
    let rounds = std::env::var("COWSPACE_STRESS_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| share(ROUNDS));
    let root = Vmo::create(at(PAGES)).expect("a VMO");
    let zeros = vec![0; PAGES];
    let clone = || snapshot(&root);
    let members = (1..MEMBERS)
        .map(|_| Arc::new(Member::new(clone(), &zeros)))
        .collect::<Vec<_>>();
    let family = Family {
        policy,
        members: Mutex::new([vec![Arc::new(Member::new(root, &zeros))], members].concat()),
        clones: Mutex::default(),
        steps: AtomicU64::new(0),
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watchdog = scope.spawn(|| watch(&family, &done));
        let players: Vec<_> = (0..THREADS)
            .map(|me| {
                let family = &family;
                scope.spawn(move || {
                    let dice = Dice(seed * 1_000_003 + me as u64 + 1);
                    let mut player = Player { me, dice, family };
                    (0..rounds).for_each(|_| player.step());
                })
            })
            .collect();
        let failed = players
            .into_iter()
            .map(|player| player.join())
            .filter(Result::is_err)
            .count();
        done.store(true, Ordering::Relaxed);
        watchdog.thread().unpark();
        assert_eq!(failed, 0, "threads that found something wrong");
    });
}

#[test]
fn traced() {
    stress(Some(Policy::Traced), 1);
}

#[test]
fn native() {
    stress(Some(Policy::Native), 2);
}

#[test]
fn mixed() {
    stress(None, 3);
}
