//! Mistakes that the engine once made, each with the interleaving, the size or the missing kernel feature that brought it out.

#![forbid(unsafe_code)]

use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread;

use cowspace::{Policy, Vmar, VmarFlags, Vmo, VmoChildOptions, VmoOp};
use cowspace_tests::{RW, bytes_at, memory, page, unmap};
use host_memory::process::StillCopy;
use test_share::{give_way, share};

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
                give_way();
            }
        });
        let _stop = StopOnDrop(&stop);
        for _ in 0..share(3000) {
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
    for round in 0..u64::from(share(1500)) {
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
/// in that moment did not see the page, which the thread could store to, and then go on to store to pages that were not protected yet. `committed`: how many of the
/// source's pages are the layer's; of the others it is the zero page that was read.
fn a_first_write_to_a_page_that_was_read_is_cut_in_order(committed: usize) {
    const PAGES: usize = 64;
    let len = 2 * PAGES * page();
    let source = vmo(2 * PAGES);
    source.write(&[0], (len - page()) as u64).expect("a write");
    source
        .op_range(VmoOp::COMMIT, 0, (committed * page()) as u64)
        .expect("memory");
    let root = Vmar::root_self();
    for _ in 0..share(300) {
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

#[test]
fn a_first_write_to_a_page_of_the_layer_is_cut_in_order() {
    a_first_write_to_a_page_that_was_read_is_cut_in_order(64);
}

#[test]
fn a_first_write_to_the_zero_page_is_cut_in_order() {
    a_first_write_to_a_page_that_was_read_is_cut_in_order(0);
}

/// Not a mistake that was made, but one that no other test would see: the first snapshot of a memory with two writable pieces by two `mmap` calls, one after the other.
#[test]
fn a_first_snapshot_of_two_writable_pieces_is_one_instant() {
    const PAGES: usize = 16;
    let len = (PAGES + 2) * page();
    let root = Vmar::root_self();
    for round in 0..share(150) {
        let source = vmo(PAGES + 2);
        let addr = root
            .map_with_policy(0, &source, 0, len, RW, Policy::Native)
            .expect("a mapping");
        root.protect(addr + PAGES * page(), page(), VmarFlags::PERM_READ)
            .expect("permissions can be taken away");
        let shown = memory(addr, len);
        let (started, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1.. {
                    shown.store_u64((n as usize % PAGES) * page(), n);
                    fence(Ordering::SeqCst);
                    shown.store_u64((PAGES + 1) * page(), n);
                    fence(Ordering::SeqCst);
                    started.store(n, Ordering::Release);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    give_way();
                }
            });
            let _stop = StopOnDrop(&stop);
            while started.load(Ordering::Acquire) < 100 {
                thread::yield_now();
            }
            let cut = root
                .create_vmo_child(SNAPSHOT, addr, len)
                .expect("a snapshot");
            let last = word(&cut, (PAGES + 1) * page());
            let first = word(&cut, (last as usize % PAGES) * page());
            assert!(
                first >= last,
                "round {round}: the snapshot has store {last} and not the one before it"
            );
        });
        unmap(addr, len);
    }
}

/// Committed through a mapping that cannot be written, each page is read and written back.
fn a_commit_under_a_read_only_mapping_keeps_the_bytes(policy: Policy) {
    let parent = vmo(4);
    parent
        .write(&[5; 64], (2 * page()) as u64)
        .expect("a write");
    let clone = parent
        .create_child(SNAPSHOT, 0, 4 * page() as u64)
        .expect("a clone");
    let root = Vmar::root_self();
    let addr = root
        .map_with_policy(0, &clone, 0, 4 * page(), VmarFlags::PERM_READ, policy)
        .expect("a mapping");
    clone
        .op_range(VmoOp::COMMIT, 0, 4 * page() as u64)
        .expect("memory");
    assert_eq!(bytes_at(addr + 2 * page(), 64), [5; 64]);
    assert_eq!(word(&clone, 2 * page()), u64::from_ne_bytes([5; 8]));
    assert_eq!(word(&clone, page()), 0);
    assert_eq!(
        clone.info().expect("info").populated_private_bytes,
        4 * page() as u64
    );
    unmap(addr, 4 * page());
    assert_eq!(word(&clone, 2 * page()), u64::from_ne_bytes([5; 8]));
}

#[test]
fn a_commit_under_a_read_only_mapping_keeps_the_bytes_traced() {
    a_commit_under_a_read_only_mapping_keeps_the_bytes(Policy::Traced);
}

#[test]
fn a_commit_under_a_read_only_mapping_keeps_the_bytes_native() {
    a_commit_under_a_read_only_mapping_keeps_the_bytes(Policy::Native);
}

/// What a fork fills in ahead are no changes: a snapshot after it shares them as before.
#[test]
fn what_a_fork_fills_in_stays_shared() {
    let parent = vmo(8);
    parent
        .op_range(VmoOp::COMMIT, 0, 8 * page() as u64)
        .expect("memory");
    let older = parent
        .create_child(SNAPSHOT, 0, 8 * page() as u64)
        .expect("a clone");
    // Of another layer than the rest: copied in, where the clone is mapped.
    parent.write(&[1], 3 * page() as u64).expect("a write");
    let clone = parent
        .create_child(SNAPSHOT, 0, 8 * page() as u64)
        .expect("a clone");
    let root = Vmar::root_self();
    let addr = root
        .map_with_policy(0, &clone, 0, 8 * page(), RW, Policy::Traced)
        .expect("a mapping");
    drop(StillCopy::make().expect("a copy of the process"));
    let cut = root
        .create_vmo_child(SNAPSHOT, addr, 8 * page())
        .expect("a snapshot");
    let infos = [&parent, &older, &clone, &cut].map(|vmo| vmo.info().expect("info"));
    let held: u64 = infos.iter().map(|info| info.populated_scaled_bytes).sum();
    // Thirds of a page are rounded down.
    assert_eq!(
        held.div_ceil(page() as u64),
        9,
        "eight pages, and one that was changed"
    );
    assert_eq!(word(&cut, 3 * page()).to_ne_bytes()[0], 1);
    unmap(addr, 8 * page());
}

/// The engine starts at the first call. A thread that came while another had just begun to start it took this process for a forked copy of one where it runs: BAD_STATE.
#[test]
fn first_calls_of_many_threads_at_once() {
    const CHILD: &str = "COWSPACE_TEST_FIRST_CALLS";
    if std::env::var_os(CHILD).is_some() {
        let gate = Barrier::new(8);
        let call = || {
            gate.wait();
            Vmo::create(1).map(drop)
        };
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(call)).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        results
            .into_iter()
            .for_each(|result| assert_eq!(result.expect("no panic"), Ok(())));
        return;
    }
    // Each process starts its engine once.
    for _ in 0..share(40) {
        let output = Command::new(std::env::current_exe().expect("a program"))
            .args(["first_calls_of_many_threads_at_once", "--exact"])
            .env(CHILD, "1")
            .output()
            .expect("this program can be started");
        assert!(output.status.success(), "{output:?}");
    }
}

/// What was copied into a native mapping only for it to be seen became the VMO's own when the mapping ended: the pages were no longer shared, and zeros counted as content.
#[test]
fn what_a_native_mapping_fills_in_stays_shared_when_it_ends() {
    let parent = vmo(4);
    parent
        .write(&vec![7; 2 * page()], page() as u64)
        .expect("a write");
    let older = parent
        .create_child(SNAPSHOT, 0, 4 * page() as u64)
        .expect("a clone");
    // Page 0 of another layer than page 1, and zeros where that has bytes.
    parent.write(&[1], 0).expect("a write");
    parent
        .op_range(VmoOp::ZERO, 2 * page() as u64, page() as u64)
        .expect("zeros");
    let clone = parent
        .create_child(SNAPSHOT, 0, 4 * page() as u64)
        .expect("a clone");
    let before = clone.info().expect("info");
    let root = Vmar::root_self();
    let addr = root
        .map_with_policy(0, &clone, 0, 4 * page(), RW, Policy::Native)
        .expect("a mapping");
    assert_eq!(memory(addr, page()).load_u8(0), 1);
    memory(addr, 4 * page()).store_u8(3 * page(), 9);
    unmap(addr, 4 * page());
    let after = clone.info().expect("info");
    let size = page() as u64;
    assert_eq!(after.populated_bytes, before.populated_bytes + size);
    assert_eq!(
        after.populated_private_bytes,
        before.populated_private_bytes + size
    );
    assert_eq!(word(&clone, 3 * page()).to_ne_bytes()[0], 9);
    assert_eq!(word(&clone, 0).to_ne_bytes()[0], 1);
    assert_eq!(word(&clone, 2 * page()), 0);
    drop(older);
}
