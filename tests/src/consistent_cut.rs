//! A snapshot under running writers is a consistent cut: of each thread it holds a prefix of its writes, and no write without those that its
//! writer had seen.

mod others;

pub use others::{Step, step};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread;

use cowspace::{Policy, Vmar, Vmo, VmoChildOptions, VmoOptions};
use host_memory::access::Volatile;

use crate::{RW, memory, page, unmap};

use others::{OTHERS, Others};
use test_share::give_way;

const WRITERS: usize = 3;
/// Each writer's own pages. More than a fault-around window, so that a cut meets pages in every state.
const PAGES: usize = 40;
/// One slot in each page, and a few more in the first.
const SLOTS: u64 = PAGES as u64;

/// How the memory under test is mapped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// One mapping of everything.
    One,
    /// Two mappings of everything; each writer uses the one that its number says.
    Two,
    /// One mapping of a resizable VMO.
    Resizable,
    /// One mapping with a read-only page between every two writers.
    Pieces,
}

/// A writer's pages begin here; the page before them is read-only in `Pieces`.
fn base(writer: usize) -> usize {
    (writer * (PAGES + 1) + 1) * page()
}

/// Where write number `n` of a writer goes: page after page, a little further in each round.
fn slot(writer: usize, n: u64) -> usize {
    base(writer) + (n % SLOTS) as usize * page() + (writer * 8)
}

/// Where a writer says how much of the next one it has seen, with its own write number.
fn seen(writer: usize, n: u64) -> usize {
    base(writer) + (n % SLOTS) as usize * page() + 256
}

/// Lets the writers end, also when an assertion fails: the scope waits for them.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes in order, and after each write the next writer's newest number as far as this one can see it.
fn write(writer: usize, memory: &Volatile, newest: &[AtomicU64], stop: &AtomicBool) {
    let other = (writer + 1) % WRITERS;
    let mut n = 1;
    while !stop.load(Ordering::Relaxed) {
        // Acquire: what is seen of the other writer happened before what follows.
        let seen_of_other = newest[other].load(Ordering::Acquire);
        memory.store_u64(seen(writer, n), seen_of_other);
        // The stores must reach memory in this order for the test to mean something.
        fence(Ordering::SeqCst);
        memory.store_u64(slot(writer, n), n);
        fence(Ordering::SeqCst);
        newest[writer].store(n, Ordering::Release);
        n += 1;
        give_way();
    }
}

/// Checks a snapshot and gives each writer's newest number in it.
fn check(snapshot: &[u8], least: &[u64]) -> Vec<u64> {
    let at = |offset: usize| {
        u64::from_le_bytes(
            snapshot[offset..offset + 8]
                .try_into()
                .expect("eight bytes"),
        )
    };
    let number = |offset: usize| {
        if cfg!(target_endian = "big") {
            at(offset).swap_bytes()
        } else {
            at(offset)
        }
    };
    let mut newest = Vec::new();
    for (writer, &least) in least.iter().enumerate() {
        let last = (0..SLOTS)
            .map(|i| number(slot(writer, i)))
            .max()
            .expect("there are slots");
        assert!(
            last >= least,
            "writer {writer}: write {} was before the snapshot, which ends at {last}",
            least
        );
        for n in last.saturating_sub(SLOTS - 1).max(1)..=last {
            assert_eq!(
                number(slot(writer, n)),
                n,
                "writer {writer}: no prefix, the last write is {last}"
            );
        }
        newest.push(last);
    }
    for writer in 0..WRITERS {
        let other = (writer + 1) % WRITERS;
        for i in 0..SLOTS {
            let seen_of_other = number(seen(writer, i));
            assert!(
                seen_of_other <= newest[other],
                "writer {writer} had seen write {seen_of_other} of writer {other}, of which the snapshot has {}",
                newest[other]
            );
        }
    }
    newest
}

/// Takes so many snapshots of a VMO that threads write to through mappings, and checks each.
///
/// # Panics
///
/// If one of them is no consistent cut, or a write was lost.
pub fn snapshots_are_consistent_cuts(shape: Shape, policy: Policy, snapshots: u32) {
    cuts(shape, policy, snapshots as usize, &[], 0);
}

/// The same with first clones alone, of so many memories, each of them large: its file is sealed while threads go on.
///
/// # Panics
///
/// If one of them is no consistent cut, or a write was lost.
pub fn first_snapshots_are_consistent_cuts(shape: Shape, policy: Policy, memories: u32) {
    for _ in 0..memories {
        cuts(shape, policy, 2, &[], LARGE);
    }
}

/// The same, with a step of a program on other pages of the VMO before each snapshot.
///
/// # Panics
///
/// If one of them is no consistent cut or shows other pages than it must, or a write was lost.
pub fn snapshots_are_consistent_cuts_beside(shape: Shape, policy: Policy, program: &[Step]) {
    cuts(shape, policy, program.len(), program, 0);
}

/// Bytes that are written once, at the end of the memory.
const LARGE: usize = 12 << 20;

/// What page `page` of them holds; a hole now and then.
fn filled(page: usize) -> u64 {
    if page % 100 == 7 { 0 } else { page as u64 + 1 }
}

fn cuts(shape: Shape, policy: Policy, snapshots: usize, program: &[Step], more: usize) {
    let start = (WRITERS * (PAGES + 1) + 1) * page();
    let filled_from = start + OTHERS * page();
    let len = filled_from + more;
    let options = if shape == Shape::Resizable {
        VmoOptions::RESIZABLE
    } else {
        VmoOptions::empty()
    };
    let vmo = Vmo::create_with_opts(options, len as u64).expect("a VMO");
    let root = Vmar::root_self();
    let maps = if shape == Shape::Two { 2 } else { 1 };
    let addresses: Vec<usize> = (0..maps)
        .map(|_| {
            root.map_with_policy(0, &vmo, 0, len, RW, policy)
                .expect("a mapping")
        })
        .collect();
    if shape == Shape::Pieces {
        for writer in 0..WRITERS {
            let address = addresses[0] + base(writer) - page();
            root.protect(address, page(), cowspace::VmarFlags::PERM_READ)
                .expect("read-only pages");
        }
    }
    for n in (0..more / page()).filter(|n| filled(*n) != 0) {
        memory(addresses[0], len).store_u64(filled_from + n * page(), filled(n));
    }
    let check_filled = |bytes: &[u8]| {
        for (n, page) in bytes[filled_from..].chunks(page()).enumerate() {
            assert_eq!(page[..8], filled(n).to_ne_bytes(), "page {n} of the rest");
        }
    };
    let mut others = Others::new(&vmo, addresses[0], start);
    let newest: [AtomicU64; WRITERS] = Default::default();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (address, newest, stop) = (addresses[writer % maps], &newest, &stop);
            scope.spawn(move || write(writer, &memory(address, len), newest, stop));
        }
        let writing = StopOnDrop(&stop);
        let mut bytes = vec![0; len];
        let mut kept = Vec::new();
        for round in 0..snapshots {
            if let Some(step) = program.get(round) {
                others.take(step);
            }
            let least: Vec<u64> = newest.iter().map(|n| n.load(Ordering::Acquire)).collect();
            let address = addresses[round % maps];
            let clone = root
                .create_vmo_child(VmoChildOptions::SNAPSHOT, address, len)
                .expect("a clone");
            clone.read(&mut bytes, 0).expect("a clone can be read");
            let cut = check(&bytes, &least);
            others.check(&bytes);
            check_filled(&bytes);
            // Some clones live on while more is written and cloned.
            if round % 10 == 0 {
                kept.push((clone, cut));
            }
        }
        drop(writing);
        for (clone, cut) in kept {
            clone.read(&mut bytes, 0).expect("a clone can be read");
            assert_eq!(check(&bytes, &[0; WRITERS]), cut, "a clone has changed");
        }
    });
    others.open();
    // No write to the source was lost.
    let least: Vec<u64> = newest.iter().map(|n| n.load(Ordering::Acquire)).collect();
    let mut bytes = vec![0; len];
    vmo.read(&mut bytes, 0).expect("the VMO can be read");
    check(&bytes, &least);
    others.check(&bytes);
    check_filled(&bytes);
    for address in addresses {
        let mut shown = vec![0; len];
        memory(address, len).read(0, &mut shown);
        assert!(shown == bytes, "a mapping differs from its VMO");
        unmap(address, len);
    }
}
