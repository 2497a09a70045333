//! Memory that the kernel has pinned (buffers registered with io_uring, as for O_DIRECT) across a snapshot: what a device writes there later goes to the VMO that pinned it and to
//! no clone; or the clone is refused with BAD_STATE, and all is as before. Moving such pages is refused as well.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cowspace::{Policy, Status, TransferDataOptions, Vmar, Vmo, VmoChildOptions};
use cowspace_tests::{RW, bytes_at, memory, page, unmap};
use host_memory::access::Volatile;
use host_memory::pin::Pinned;
use rustix::pipe::{SpliceFlags, pipe, splice};
use test_share::give_way;

/// Enough that a first clone would let threads go on before the file is sealed.
const PAGES: usize = 600;
/// The pinned pages.
const FIRST: usize = 3;
const COUNT: usize = 2;
/// The page that a thread writes all the time.
const BUSY: usize = 20;

/// Where the VMO's changed pages are when it is pinned.
#[derive(Clone, Copy, PartialEq)]
enum Home {
    /// In its own file, which is mapped this often.
    File(usize),
    /// In private pages of its mapping: it was cloned before.
    Private,
}

struct Case {
    vmo: Vmo,
    addresses: Vec<usize>,
    /// What the device reads.
    source: File,
    /// What each page holds but [`BUSY`].
    pages: Vec<u8>,
}

impl Case {
    fn new(policy: Policy, home: Home) -> Case {
        let len = PAGES * page();
        let vmo = Vmo::create(len as u64).expect("a VMO");
        let maps = if let Home::File(maps) = home { maps } else { 1 };
        let map = |_| {
            Vmar::root_self()
                .map_with_policy(0, &vmo, 0, len, RW, policy)
                .expect("a mapping")
        };
        let addresses: Vec<usize> = (0..maps).map(map).collect();
        let pages: Vec<u8> = (0..PAGES).map(|p| (p % 99) as u8 + 1).collect();
        for p in (0..PAGES).filter(|p| *p != BUSY) {
            memory(addresses[0], len).write(p * page(), &vec![pages[p]; page()]);
        }
        let case = Case {
            vmo,
            addresses,
            source: tempfile::tempfile().expect("a temporary file"),
            pages,
        };
        if home == Home::Private {
            let clone = case.snapshot().expect("nothing is pinned yet");
            case.assert_holds(&clone, &case.pages);
        }
        case
    }

    fn snapshot(&self) -> Result<Vmo, Status> {
        self.vmo
            .create_child(VmoChildOptions::SNAPSHOT, 0, (PAGES * page()) as u64)
    }

    /// Has the kernel pin [`COUNT`] pages from `first` on. Where it cannot, the test says so.
    fn pin(&self, first: usize) -> Option<Pinned> {
        Pinned::new(memory(self.addresses[0] + first * page(), COUNT * page()))
            .inspect_err(|error| println!("SKIP pinned memory: io_uring: {error}"))
            .ok()
    }

    /// The device writes `value` to the pinned pages.
    fn fill(&mut self, pinned: &mut Pinned, value: u8) {
        let len = COUNT * page();
        self.source.set_len(0).expect("a file can be cut off");
        // The kernel reads from the beginning of the file, wherever we write.
        self.source.write_all_at_start(&vec![value; len]);
        pinned
            .fill(0, len, self.source.as_fd())
            .expect("a read into registered memory");
        self.pages[FIRST..FIRST + COUNT].fill(value);
    }

    #[track_caller]
    fn assert_holds(&self, vmo: &Vmo, pages: &[u8]) {
        let mut bytes = vec![0; PAGES * page()];
        vmo.read(&mut bytes, 0).expect("reading");
        assert_pages(&bytes, pages);
    }

    /// The VMO shows what it must by each door.
    #[track_caller]
    fn assert_here(&self) {
        self.assert_holds(&self.vmo, &self.pages);
        for addr in &self.addresses {
            assert_pages(&bytes_at(*addr, PAGES * page()), &self.pages);
        }
    }
}

trait WriteAtStart {
    fn write_all_at_start(&mut self, bytes: &[u8]);
}

impl WriteAtStart for File {
    fn write_all_at_start(&mut self, bytes: &[u8]) {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, 0).expect("writing a file");
        self.flush().expect("a file has no buffer");
    }
}

#[track_caller]
fn assert_pages(bytes: &[u8], pages: &[u8]) {
    for p in (0..PAGES).filter(|p| *p != BUSY) {
        let bytes = &bytes[p * page()..(p + 1) * page()];
        // In one piece: byte by byte, this is most of the test.
        assert!(
            bytes == vec![pages[p]; page()],
            "page {p} is to hold {} and begins with {}",
            pages[p],
            bytes[0]
        );
    }
}

/// Writes a rising number to [`BUSY`], and tells the newest.
fn write(addr: usize, newest: &AtomicU64, stop: &AtomicBool) {
    let memory = memory(addr, PAGES * page());
    while !stop.load(Ordering::Relaxed) {
        let n = newest.load(Ordering::Relaxed) + 1;
        assert_eq!(memory.load_u64(BUSY * page()), n - 1, "a store was lost");
        memory.store_u64(BUSY * page(), n);
        newest.store(n, Ordering::Release);
        give_way();
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn pinned_pages_stay_with_their_vmo(policy: Policy, home: Home) {
    let mut case = Case::new(policy, home);
    let Some(mut pinned) = case.pin(FIRST) else {
        return;
    };
    case.fill(&mut pinned, 101);
    case.assert_here();

    let (newest, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let writes_to = case.addresses[0];
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| write(writes_to, &newest, &stop));
        let mut clones = Vec::new();
        for round in 0..3 {
            match case.snapshot() {
                Ok(clone) => clones.push((clone, case.pages.clone())),
                Err(status) => assert_eq!(status, Status::BAD_STATE),
            }
            case.assert_here();
            // The device goes on after the snapshot.
            case.fill(&mut pinned, 110 + round);
            case.assert_here();
            for (clone, pages) in &clones {
                case.assert_holds(clone, pages);
            }
            // The program's own stores go to the same page as the device's.
            let value = 120 + round;
            memory(case.addresses[0], PAGES * page()).write(FIRST * page(), &vec![value; page()]);
            case.pages[FIRST] = value;
            case.assert_here();
        }
        case.fill(&mut pinned, 130);
        pinned.unpin().expect("memory can be unpinned");
        let clone = case.snapshot().expect("nothing is pinned any more");
        clones.push((clone, case.pages.clone()));
        memory(case.addresses[0], PAGES * page()).write(FIRST * page(), &vec![131; page()]);
        case.pages[FIRST] = 131;
        case.assert_here();
        for (clone, pages) in &clones {
            case.assert_holds(clone, pages);
        }
    });
    for addr in case.addresses {
        unmap(addr, PAGES * page());
    }
}

macro_rules! cases {
    ($($test:ident: $policy:ident, $home:expr;)*) => {$(
        #[test]
        fn $test() {
            pinned_pages_stay_with_their_vmo(Policy::$policy, $home);
        }
    )*};
}

cases! {
    file_mapped_once_traced: Traced, Home::File(1);
    file_mapped_once_native: Native, Home::File(1);
    file_mapped_twice_traced: Traced, Home::File(2);
    file_mapped_twice_native: Native, Home::File(2);
    private_traced: Traced, Home::Private;
    private_native: Native, Home::Private;
}

/// Pages that hold still what the last clone has when the next is taken, and that the device writes to only then.
///
/// Each policy in a process of its own: a ring anywhere in this one keeps a first clone from moving pages to private ones, also for a moment after it was closed.
#[test]
fn pages_pinned_without_a_change_stay_with_their_vmo() {
    const ALONE: &str = "COWSPACE_TEST_ALONE";
    if let Ok(policy) = std::env::var(ALONE) {
        let traced = policy == format!("{:?}", Policy::Traced);
        return pinned_without_a_change(if traced {
            Policy::Traced
        } else {
            Policy::Native
        });
    }
    let test = "pages_pinned_without_a_change_stay_with_their_vmo";
    for policy in [Policy::Traced, Policy::Native] {
        let alone = Command::new(std::env::current_exe().expect("a test has a file"))
            .args([test, "--exact", "--nocapture"])
            .env(ALONE, format!("{policy:?}"))
            .status();
        assert!(alone.expect("it can be run").success(), "{policy:?}");
    }
}

fn pinned_without_a_change(policy: Policy) {
    let mut case = Case::new(policy, Home::Private);
    let Some(mut pinned) = case.pin(FIRST) else {
        return;
    };
    let before = case.pages.clone();
    let clone = case.snapshot().expect("private pages stay where they are");
    case.fill(&mut pinned, 101);
    case.assert_here();
    let next = case.snapshot().expect("private pages stay where they are");
    case.assert_holds(&next, &case.pages);
    case.assert_holds(&clone, &before);
    pinned.unpin().expect("memory can be unpinned");
    unmap(case.addresses[0], PAGES * page());
}

/// A page that the device goes on writing to cannot be moved to another VMO, nor be replaced.
#[test]
fn pinned_pages_are_not_moved() {
    for policy in [Policy::Traced, Policy::Native] {
        let case = Case::new(policy, Home::File(1));
        let other = Vmo::create((PAGES * page()) as u64).expect("a VMO");
        other.write(&[200], 0).expect("inside");
        let move_one = |to: &Vmo, from: &Vmo| {
            to.transfer_data(TransferDataOptions::empty(), 0, page() as u64, from, 0)
        };
        let Some(pinned) = case.pin(0) else { return };
        assert_eq!(move_one(&other, &case.vmo), Err(Status::BAD_STATE));
        assert_eq!(move_one(&case.vmo, &other), Err(Status::BAD_STATE));
        case.assert_here();
        pinned.unpin().expect("memory can be unpinned");
        // Other tests of this process may have pinned memory still.
        match move_one(&other, &case.vmo) {
            Ok(()) => {
                let mut moved = vec![0; page()];
                other.read(&mut moved, 0).expect("inside");
                assert_eq!(moved, vec![case.pages[0]; page()]);
            }
            Err(status) => assert_eq!(status, Status::BAD_STATE),
        }
        unmap(case.addresses[0], PAGES * page());
    }
}

/// The file of a VMO, by its length.
fn file_of_length(len: usize) -> File {
    let is_it = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|name| name.starts_with("/memfd:cowspace-vmo (deleted)"))
            && path.metadata().is_ok_and(|file| file.len() == len as u64)
    };
    let path = std::fs::read_dir("/proc/self/fd")
        .expect("/proc is there")
        .map(|entry| entry.expect("a descriptor").path())
        .find(|path| is_it(path));
    File::open(path.expect("the VMO has a file")).expect("it can be opened again")
}

/// Counts up the words of its pages, one of two, until told to stop. Gives what each holds then.
fn count(memory: &Volatile, first: usize, rounds: &AtomicU64, stop: &AtomicBool) -> u64 {
    let mut n = 1;
    while !stop.load(Ordering::Relaxed) {
        for p in (first..memory.len() / page()).step_by(2) {
            assert_eq!(memory.load_u64(p * page()), n, "page {p}: a store was lost");
            memory.store_u64(p * page(), n + 1);
        }
        n += 1;
        rounds.store(n, Ordering::Relaxed);
        give_way();
    }
    n
}

/// A pipe holds pages of the file, of which nobody knows before the file is to be sealed. By then threads have gone on, and what they have stored is kept.
fn a_refused_first_clone_loses_nothing(policy: Policy, pages: usize) {
    let len = pages * page();
    let vmo = Vmo::create(len as u64).expect("a VMO");
    let addr = Vmar::root_self()
        .map_with_policy(0, &vmo, 0, len, RW, policy)
        .expect("a mapping");
    let memory = memory(addr, len);
    (0..pages).for_each(|p| memory.store_u64(p * page(), 1));
    let (holds, into) = pipe().expect("a pipe");
    let file = file_of_length(len);
    let held = splice(
        &file,
        None,
        &into,
        None,
        COUNT * page(),
        SpliceFlags::empty(),
    );
    assert_eq!(held, Ok(COUNT * page()));
    let snapshot = || vmo.create_child(VmoChildOptions::SNAPSHOT, 0, len as u64);
    let word = |vmo: &Vmo, p: usize| {
        let mut word = [0; 8];
        vmo.read(&mut word, (p * page()) as u64).expect("inside");
        u64::from_ne_bytes(word)
    };

    let (rounds, stop) = (<[AtomicU64; 2]>::default(), AtomicBool::new(false));
    let counted = thread::scope(|scope| {
        let stop_counting = StopOnDrop(&stop);
        let counting = [0, 1].map(|first| {
            let (memory, rounds, stop) = (&memory, &rounds[first], &stop);
            scope.spawn(move || count(memory, first, rounds, stop))
        });
        for _ in 0..2 {
            match snapshot() {
                Err(status) => assert_eq!(status, Status::BAD_STATE),
                Ok(_) => println!("SKIP held pages: this kernel does not mind"),
            }
            let seen = rounds[0].load(Ordering::Relaxed);
            while rounds[0].load(Ordering::Relaxed) < seen + 3 && !counting[0].is_finished() {
                thread::sleep(Duration::from_micros(100));
            }
        }
        drop((holds, into));
        let clone = snapshot().expect("nothing is held any more");
        let cut: Vec<u64> = (0..pages).map(|p| word(&clone, p)).collect();
        drop(stop_counting);
        let counted = counting.map(|thread| thread.join().expect("it counts"));
        // Of each thread a prefix: pages that it has come to in its round, then those that it has not.
        for first in [0, 1] {
            let mine: Vec<u64> = cut.iter().copied().skip(first).step_by(2).collect();
            assert!(mine.is_sorted_by(|a, b| a >= b) && mine[0] <= mine[mine.len() - 1] + 1);
        }
        assert!((0..pages).all(|p| word(&clone, p) == cut[p]));
        counted
    });
    for p in 0..pages {
        assert_eq!(memory.load_u64(p * page()), counted[p % 2]);
        assert_eq!(word(&vmo, p), counted[p % 2]);
    }
    unmap(addr, len);
}

#[test]
fn a_first_clone_refused_while_threads_run_traced() {
    a_refused_first_clone_loses_nothing(Policy::Traced, 1601);
}

#[test]
fn a_first_clone_refused_while_threads_run_native() {
    a_refused_first_clone_loses_nothing(Policy::Native, 1603);
}
