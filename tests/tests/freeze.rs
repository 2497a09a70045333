//! Freezing: no byte changes and no store is lost, by whatever policy; clones and info are as they would be without; holes stay holes; and what of it is not to be had is no error.

#![forbid(unsafe_code)]

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cowspace::{
    Frozen, HandleBased, MapsDetails, MapsInfo, Policy, Rights, Status, Vmar, VmarFlags, Vmo,
    VmoChildOptions, VmoOptions, process_maps,
};
use cowspace_tests::{RW, memory, page, unmap};
use host_memory::access::Volatile;
use host_memory::huge::{huge_page_size, try_collapse};
use host_memory::pin::Pinned;
use test_share::give_way;

/// Bytes of a huge page; where there are none, or too large ones to test with, of some pages.
fn huge() -> usize {
    huge_page_size()
        .filter(|size| *size <= 4 << 20)
        .unwrap_or(32 * page())
}

/// How many bytes of `bytes` are to lie in huge pages.
fn expected(bytes: usize) -> u64 {
    if try_collapse().is_yes() && huge_page_size() == Some(huge()) {
        bytes as u64
    } else {
        0
    }
}

/// A mapped VMO, to which there is no other handle. Word 0 of page `n` is `n` + 1.
struct Case {
    vmo: Vmo,
    addr: usize,
    len: usize,
}

impl Case {
    fn new(len: usize, policy: Policy) -> Case {
        let case = Case::empty(len, policy);
        for n in 0..len / page() {
            case.memory().store_u64(n * page(), n as u64 + 1);
        }
        case
    }

    fn empty(len: usize, policy: Policy) -> Case {
        let vmo = Vmo::create(len as u64).expect("a VMO");
        let addr = Vmar::root_self()
            .map_with_policy(0, &vmo, 0, len, RW, policy)
            .expect("a mapping");
        Case { vmo, addr, len }
    }

    fn memory(&self) -> Volatile {
        memory(self.addr, self.len)
    }

    fn freeze(&self) -> Frozen {
        loop {
            match Vmar::root_self().freeze(self.addr, self.len) {
                // The machine is busy, and a thread did not stop in time.
                Err(Status::UNAVAILABLE) => {}
                other => return other.expect("frozen"),
            }
        }
    }

    fn snapshot(&self) -> Vmo {
        loop {
            match Vmar::root_self().create_vmo_child(VmoChildOptions::SNAPSHOT, self.addr, self.len)
            {
                Err(Status::UNAVAILABLE) => {}
                other => return other.expect("a clone"),
            }
        }
    }

    #[track_caller]
    fn assert_intact(&self) {
        assert_numbered(|n| self.memory().load_u64(n * page()), self.len);
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        unmap(self.addr, self.len);
    }
}

#[track_caller]
fn assert_numbered(word: impl Fn(usize) -> u64, len: usize) {
    for n in 0..len / page() {
        assert_eq!(word(n), n as u64 + 1, "page {n}");
    }
}

fn word(vmo: &Vmo, at: usize) -> u64 {
    let mut word = [0; 8];
    vmo.read(&mut word, at as u64).expect("inside");
    u64::from_ne_bytes(word)
}

const POLICIES: [Policy; 2] = [Policy::Traced, Policy::Native];

#[test]
fn large_mappings_lie_where_huge_pages_fit() {
    // With pages of 64 KiB a huge one is half a GiB.
    let Some(size) = huge_page_size().filter(|size| *size <= 64 << 20) else {
        println!(
            "SKIP large mappings: huge pages of {:?} bytes",
            huge_page_size()
        );
        return;
    };
    let small = Case::new(page(), Policy::Native);
    let large = Case::new(size + page(), Policy::Native);
    assert!(large.addr.is_multiple_of(size), "{:#x}", large.addr);
    small.assert_intact();
}

#[test]
fn bytes_stay_and_clones_differ_from_nothing() {
    for policy in POLICIES {
        let size = huge();
        let case = Case::new(3 * size + 5 * page(), policy);
        let early = case.snapshot();
        for round in 0..3u64 {
            let frozen = case.freeze();
            assert_eq!(frozen.bytes, case.len as u64, "{policy:?}, round {round}");
            // Those changed since the first time lie in other layers.
            let changed = (0..3 * size / page()).step_by(101).count() * page();
            let least = 3 * size - if round > 0 { changed } else { 0 };
            assert_eq!(frozen.huge_bytes, expected(least), "{policy:?}, {round}");
            case.assert_intact();
            // Some pages are changed between.
            for n in (0..case.len / page()).step_by(101) {
                case.memory().store_u64(n * page() + 8, round + 1);
            }
            let clone = case.snapshot();
            let mapped = Vmar::root_self()
                .map_with_policy(0, &clone, 0, case.len, RW, policy)
                .expect("a mapping of the clone");
            let seen = memory(mapped, case.len);
            assert_numbered(|n| seen.load_u64(n * page()), case.len);
            for n in 0..case.len / page() {
                let marked = if n % 101 == 0 { round + 1 } else { 0 };
                assert_eq!(seen.load_u64(n * page() + 8), marked, "page {n}");
                assert_eq!(case.memory().load_u64(n * page() + 8), marked, "page {n}");
            }
            seen.store_u64(3 * page(), 99);
            assert_eq!(case.memory().load_u64(3 * page()), 4);
            unmap(mapped, case.len);
        }
        assert_numbered(|n| word(&early, n * page()), case.len);
        assert_eq!(word(&early, 8), 0);
    }
}

/// Stores to each page of its own in turn; each must still hold what was stored last.
fn write(memory: &Volatile, writer: usize, stop: &AtomicBool, stores: &AtomicU64) {
    let own: Vec<usize> = (0..memory.len() / page()).collect();
    let at = |n: usize| n * page() + 8 + 8 * writer;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for &n in own.iter().skip(writer).step_by(3) {
            assert_eq!(memory.load_u64(at(n)), round - 1, "a store was lost");
            memory.store_u64(at(n), round);
            stores.fetch_add(1, Ordering::Relaxed);
        }
        give_way();
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn threads_go_on_storing_and_lose_nothing() {
    for policy in POLICIES {
        let case = Case::new(4 * huge(), policy);
        let (stop, stores) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let _stop = StopOnDrop(&stop);
            for writer in 0..3 {
                let (case, stop, stores) = (&case, &stop, &stores);
                scope.spawn(move || write(&case.memory(), writer, stop, stores));
            }
            let mut before = 0;
            for _ in 0..6 {
                case.freeze();
                case.assert_intact();
                let clone = case.snapshot();
                assert_numbered(|n| word(&clone, n * page()), case.len);
                // What the writers had stored when the round before ended is in the clone: they never stop.
                while stores.load(Ordering::Relaxed) <= before {
                    thread::sleep(Duration::from_micros(100));
                }
                before = stores.load(Ordering::Relaxed);
            }
        });
        case.assert_intact();
    }
}

/// What the mapping at `addr` is charged with.
fn charged(addr: usize) -> (usize, usize) {
    let at = |info: &&MapsInfo| info.base == addr;
    let maps = process_maps().expect("maps");
    let mappings = maps
        .iter()
        .filter(at)
        .filter_map(|info| match info.details {
            MapsDetails::Mapping(details) => {
                Some((details.committed_bytes, details.committed_private_bytes))
            }
            _ => None,
        });
    let [charged] = mappings.collect::<Vec<_>>()[..] else {
        panic!("not one mapping at {addr:#x}");
    };
    charged
}

#[test]
fn holes_stay_holes() {
    for policy in POLICIES {
        let size = huge();
        let case = Case::empty(3 * size, policy);
        // The first huge page lacks a page, the second nothing, the third has one page.
        let hole = 7 * page();
        for at in (0..2 * size).step_by(page()).filter(|at| *at != hole) {
            case.memory().store_u64(at, 1);
        }
        case.memory().store_u64(2 * size + page(), 1);
        let held = 2 * size;
        assert_eq!(charged(case.addr), (held, held), "{policy:?}");
        for _ in 0..2 {
            let frozen = case.freeze();
            assert_eq!(frozen.bytes, held as u64, "{policy:?}");
            assert_eq!(frozen.huge_bytes, expected(size), "{policy:?}");
            assert_eq!(charged(case.addr), (held, held), "{policy:?}");
            assert_eq!(case.vmo.info().expect("info").committed_bytes, held as u64);
            assert_eq!(case.vmo.info().expect("info").num_children, 0);
        }
        let clone = case.snapshot();
        assert_eq!(clone.info().expect("info").committed_bytes, held as u64);
        assert_eq!(word(&clone, hole), 0);
        assert_eq!(case.memory().load_u64(hole), 0);
    }
}

/// A part of a mapping, also of a clone that shows its parent's pages elsewhere than they lay: there no huge page fits, or it is not whole.
#[test]
fn only_what_fits_is_made_huge() {
    let size = huge();
    let case = Case::new(4 * size, Policy::Native);
    let root = Vmar::root_self();
    let freeze = |at: usize, len: usize| root.freeze(case.addr + at, len).expect("frozen");
    let frozen = freeze(page(), size);
    assert_eq!(frozen.bytes, size as u64);
    // All of the first but a page, and a page of the second: the first is worth it.
    assert_eq!(frozen.huge_bytes, expected(size - page()));
    assert_eq!(freeze(2 * size, page()).huge_bytes, 0);

    let clone = case
        .vmo
        .create_child(VmoChildOptions::SNAPSHOT, page() as u64, (3 * size) as u64)
        .expect("a clone");
    let addr = root.map(0, &clone, 0, 3 * size, RW).expect("a mapping");
    let shifted = root.freeze(addr, 3 * size).expect("frozen");
    let bytes = (3 * size) as u64;
    assert_eq!((shifted.bytes, shifted.huge_bytes), (bytes, 0));
    let seen = memory(addr, 3 * size);
    for n in 0..3 * size / page() {
        assert_eq!(seen.load_u64(n * page()), n as u64 + 2);
    }
    unmap(addr, 3 * size);
}

/// A file that the kernel alone serves through two mappings is copied for a clone: there is nothing to freeze. Traced, it can be left behind.
#[test]
fn memory_that_is_mapped_twice() {
    for policy in POLICIES {
        let case = Case::new(2 * huge(), policy);
        let second = Vmar::root_self()
            .map_with_policy(0, &case.vmo, 0, case.len, RW, policy)
            .expect("a second mapping");
        let frozen = case.freeze();
        if frozen.bytes != 0 {
            assert_eq!((policy, frozen.bytes), (Policy::Traced, case.len as u64));
        }
        memory(second, case.len).store_u64(16, 5);
        case.memory().store_u64(24, 6);
        assert_eq!(case.memory().load_u64(16), 5);
        assert_eq!(memory(second, case.len).load_u64(24), 6);
        case.assert_intact();
        let clone = case.snapshot();
        assert_numbered(|n| word(&clone, n * page()), case.len);
        assert_eq!((word(&clone, 16), word(&clone, 24)), (5, 6));
        unmap(second, case.len);
        case.assert_intact();
    }
}

/// Memory that the kernel has pinned is refused as for a clone, or stays with its VMO.
#[test]
fn pinned_memory() {
    for policy in POLICIES {
        for cloned_before in [false, true] {
            let case = Case::new(huge(), policy);
            if cloned_before {
                drop(case.snapshot());
                case.memory().store_u64(8, 1);
            }
            let pinned = match Pinned::new(memory(case.addr, 2 * page())) {
                Ok(pinned) => pinned,
                Err(error) => {
                    println!("SKIP pinned memory: io_uring: {error}");
                    return;
                }
            };
            match Vmar::root_self().freeze(case.addr, case.len) {
                Ok(frozen) => assert_eq!(frozen.bytes, case.len as u64),
                Err(status) => assert_eq!(status, Status::BAD_STATE),
            }
            case.assert_intact();
            pinned.unpin().expect("memory can be unpinned");
            assert_eq!(case.freeze().bytes, case.len as u64);
            case.assert_intact();
        }
    }
}

#[test]
fn errors_are_those_of_a_clone_in_its_order() {
    let root = Vmar::root_self();
    let case = Case::new(4 * page(), Policy::Native);
    let (addr, len) = (case.addr, case.len);
    let blind = root
        .as_ref()
        .duplicate_handle(Rights::VMAR_DEFAULT.difference(Rights::INSPECT));
    let blind = Vmar::from(blind.expect("a handle without INSPECT"));
    assert_eq!(blind.freeze(addr + 1, 0), Err(Status::ACCESS_DENIED));
    let of_vmo = case.vmo.duplicate_handle(Rights::SAME_RIGHTS);
    let of_vmo = Vmar::from(cowspace::Handle::from(of_vmo.expect("a handle")));
    assert_eq!(of_vmo.freeze(addr, len), Err(Status::WRONG_TYPE));
    for (addr, len) in [
        (addr, 0),
        (addr + 1, page()),
        (addr, page() + 1),
        (addr, len + page()),
        (addr, usize::MAX - page() + 1),
    ] {
        assert_eq!(root.freeze(addr, len), Err(Status::INVALID_ARGS));
    }
    let (ended, base) = root
        .allocate(0, 4 * page(), VmarFlags::CAN_MAP_READ)
        .expect("a region");
    assert_eq!(ended.freeze(base, page()), Err(Status::INVALID_ARGS));
    ended.destroy().expect("destroyed");
    assert_eq!(ended.freeze(base, page()), Err(Status::BAD_STATE));

    let refusing = RW | VmarFlags::CANNOT_CREATE_VMO_CHILD;
    let addr = root
        .map(0, &case.vmo, 0, len, refusing)
        .expect("a mapping that refuses clones");
    assert_eq!(root.freeze(addr, len), Err(Status::ACCESS_DENIED));
    unmap(addr, len);
    let slice = case
        .vmo
        .create_child(VmoChildOptions::SLICE, 0, page() as u64)
        .expect("a slice");
    let addr = root.map(0, &slice, 0, page(), RW).expect("a mapping");
    assert_eq!(root.freeze(addr, page()), Err(Status::NOT_SUPPORTED));
    unmap(addr, page());
    let discardable = Vmo::create_with_opts(VmoOptions::DISCARDABLE, len as u64).expect("a VMO");
    let flags = RW | VmarFlags::ALLOW_FAULTS;
    let addr = root
        .map(0, &discardable, 0, len, flags)
        .expect("a mapping of a discardable VMO");
    assert_eq!(root.freeze(addr, len), Err(Status::NOT_SUPPORTED));
    unmap(addr, len);
    case.assert_intact();
}

/// Set in the process for which `MADV_COLLAPSE` is hidden.
const HIDDEN: &str = "COWSPACE_TEST_NO_COLLAPSE";

#[test]
fn without_huge_pages_all_else_is_frozen() {
    if std::env::var_os(HIDDEN).is_none() {
        let output = Command::new(std::env::current_exe().expect("a program"))
            .args(["without_huge_pages_all_else_is_frozen", "--exact"])
            .env(HIDDEN, "1")
            .env("COWSPACE_DISABLE", "collapse")
            .output()
            .expect("the test runs again");
        let text = String::from_utf8_lossy(&output.stdout);
        let passed = output.status.success() && text.contains("1 passed");
        assert!(passed, "{text}{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    for policy in POLICIES {
        let case = Case::new(2 * huge(), policy);
        let bytes = case.len as u64;
        let huge_bytes = 0;
        assert_eq!(case.freeze(), Frozen { bytes, huge_bytes });
        case.assert_intact();
    }
}
