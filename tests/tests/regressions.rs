//! Mistakes that the engine once made, each with the interleaving, the size or the missing kernel feature that brought it out.

#![forbid(unsafe_code)]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread;

use cowspace::{Policy, Vmar, Vmo, VmoChildOptions, VmoOp};
use cowspace_tests::{RW, memory, page, unmap};

const SNAPSHOT: VmoChildOptions = VmoChildOptions::SNAPSHOT;

/// Lets a loop in another thread end, also when an assertion fails: the scope waits for it.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn vmo(pages: usize) -> Vmo {
    Vmo::create((pages * page()) as u64).expect("a small VMO can be made")
}

fn word(vmo: &Vmo, at: usize) -> u64 {
    let mut bytes = [0; 8];
    vmo.read(&mut bytes, at as u64)
        .expect("bytes inside can be read");
    u64::from_ne_bytes(bytes)
}

/// Between the moment at which a snapshot had sealed what an unmapped VMO holds and the moment at which the tree was split, a write made a new file
/// for it, which the clone was then said to share.
#[test]
fn a_write_by_call_during_a_snapshot_is_in_one_of_the_two() {
    let parent = vmo(1);
    let (stop, newest) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                parent.write(&u64::to_ne_bytes(n), 0).expect("a write");
                newest.store(n, Ordering::Release);
            }
        });
        let _stop = StopOnDrop(&stop);
        for _ in 0..3000 {
            let before = newest.load(Ordering::Acquire);
            let clone = parent
                .create_child(SNAPSHOT, 0, page() as u64)
                .expect("a clone");
            let first = word(&clone, 0);
            assert!(
                first >= before,
                "write {before} was done, and the clone has {first}"
            );
            assert!(word(&parent, 0) >= first);
            assert_eq!(word(&clone, 0), first, "a clone has changed");
        }
    });
}

/// The plan of a mapping was made, the family unlocked, and then the region entered: what was written by call in between was lost.
fn a_write_by_call_while_a_clone_is_mapped(policy: Policy) {
    let parent = vmo(2);
    parent.write(&[1; 16], 0).expect("a write");
    let start = Barrier::new(2);
    for round in 0..1500_u64 {
        let clone = parent
            .create_child(SNAPSHOT, 0, 2 * page() as u64)
            .expect("a clone");
        let addr = thread::scope(|scope| {
            let mapping = scope.spawn(|| {
                start.wait();
                Vmar::root_self()
                    .map_with_policy(0, &clone, 0, 2 * page(), RW, policy)
                    .expect("a mapping")
            });
            start.wait();
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            clone
                .write(&u64::to_ne_bytes(round + 7), page() as u64)
                .expect("a write");
            clone
                .op_range(VmoOp::ZERO, 0, page() as u64)
                .expect("zeroing");
            mapping.join().expect("the thread ends well")
        });
        assert_eq!(
            word(&clone, page()),
            round + 7,
            "round {round}: the write is lost"
        );
        assert_eq!(word(&clone, 0), 0, "round {round}: the zeros are lost");
        let shown = memory(addr, 2 * page());
        assert_eq!(shown.load_u64(page()), round + 7, "round {round}");
        assert_eq!(shown.load_u64(0), 0, "round {round}");
        unmap(addr, 2 * page());
    }
}

#[test]
fn a_write_by_call_while_a_clone_is_mapped_traced() {
    a_write_by_call_while_a_clone_is_mapped(Policy::Traced);
}

#[test]
fn a_write_by_call_while_a_clone_is_mapped_native() {
    a_write_by_call_while_a_clone_is_mapped(Policy::Native);
}

/// A page of the layer that had been read before is written to: the handler lifts its protection, and a moment later the kernel makes the private page. A snapshot
/// in that moment did not see the page, which the thread could store to, and then go on to store to pages that were not protected yet.
#[test]
fn a_first_write_to_a_page_that_was_read_is_cut_in_order() {
    const PAGES: usize = 64;
    let len = 2 * PAGES * page();
    let source = vmo(2 * PAGES);
    for at in 0..2 * PAGES {
        source.write(&[0], (at * page()) as u64).expect("a write");
    }
    let root = Vmar::root_self();
    for _ in 0..300 {
        let clone = source
            .create_child(SNAPSHOT, 0, len as u64)
            .expect("a clone");
        let addr = root
            .map_with_policy(0, &clone, 0, len, RW, Policy::Traced)
            .expect("a mapping");
        let shown = memory(addr, len);
        // The upper half's even pages are the writer's own already, each an area of its own to protect; the lower half was read.
        for at in 0..PAGES {
            let _ = shown.load_u8(at * page());
            if at % 2 == 0 {
                shown.store_u64((PAGES + at) * page(), 0);
            }
        }
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=PAGES as u64 {
                    shown.store_u64((n as usize - 1) * page(), n);
                    fence(Ordering::SeqCst);
                    shown.store_u64((2 * PAGES - 2) * page(), n);
                    fence(Ordering::SeqCst);
                    done.store(n, Ordering::Release);
                }
            });
            while done.load(Ordering::Acquire) < PAGES as u64 {
                let least = done.load(Ordering::Acquire);
                let cut = root
                    .create_vmo_child(SNAPSHOT, addr, len)
                    .expect("a snapshot");
                let last = word(&cut, (2 * PAGES - 2) * page());
                assert!(last >= least);
                for n in 1..=last {
                    assert_eq!(
                        word(&cut, (n as usize - 1) * page()),
                        n,
                        "the snapshot has store {last} and not store {n}"
                    );
                }
            }
        });
        unmap(addr, len);
    }
}
