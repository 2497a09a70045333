//! The handler on real memory and a real userfaultfd.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use fault_handler::{
    Fault, FaultHandler, FaultKind, FaultRecord, Installer, Options, Outcome, OutcomeKind,
    Placement, Protect, Resolver, Stats, monotonic_ns,
};
use host_memory::access::Volatile;
use host_memory::memfd::{Layer, MemFd};
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::pagemap::{PageFlags, Pagemap};
use host_memory::probe::Probe;
use host_memory::reserve::{Reservation, Source};
use host_memory::uffd::{Modes, Uffd, Wake};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, gettid};
use test_share::{give_way, share};

const PAGES: usize = 64;
const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Whether the kernel has what a test needs; says so if not.
fn traced(test: &str) -> bool {
    let support = Probe::get().traced;
    if !support.is_yes() {
        println!("SKIP {test}: {support:?}");
    }
    support.is_yes()
}

fn write_tracking(test: &str) -> bool {
    let support = Probe::get().write_tracking;
    if !support.is_yes() {
        println!("SKIP {test}: {support:?}");
    }
    support.is_yes()
}

/// The byte that fills page `index` of the layer.
fn byte(index: usize) -> u8 {
    u8::try_from(index % 251).unwrap() + 1
}

fn memfd(pages: usize) -> MemFd {
    MemFd::create("fault-handler-test", (pages * page_size()) as u64).unwrap()
}

/// A sealed layer whose page `i` is full of `byte(i)`.
fn layer() -> Arc<Layer> {
    let memfd = memfd(PAGES);
    for index in 0..PAGES {
        memfd
            .write_at(
                &vec![byte(index); page_size()],
                (index * page_size()) as u64,
            )
            .unwrap();
    }
    let layer = memfd.seal().unwrap();
    Arc::new(layer)
}

/// Resolves by a function of the fault and the page's index in the memory.
struct Answer<F> {
    base: usize,
    answer: F,
}

impl<F> Resolver for Answer<F>
where
    F: Fn(&Fault, usize, Installer<'_>) -> Outcome + Send + Sync + 'static,
{
    fn resolve(&self, fault: &Fault, install: Installer<'_>) -> Outcome {
        (self.answer)(fault, (fault.page - self.base) / page_size(), install)
    }
}

/// Memory of [`PAGES`] pages that a handler serves.
struct Rig {
    // Dropped in this order: nobody waits for a handler that has gone.
    handler: FaultHandler,
    uffd: Arc<Uffd>,
    memory: Reservation,
}

impl Rig {
    fn new<F>(source: Source<'_>, modes: Modes, options: Options, answer: F) -> Rig
    where
        F: Fn(&Fault, usize, Installer<'_>) -> Outcome + Send + Sync + 'static,
    {
        let uffd = Arc::new(Uffd::open().unwrap());
        let memory = Reservation::new(PAGES * page_size()).unwrap();
        memory.map(memory.range(), source, RW).unwrap();
        uffd.register(&memory, memory.range(), modes).unwrap();
        let resolver = Arc::new(Answer {
            base: memory.range().start(),
            answer,
        });
        let handler = FaultHandler::spawn(uffd.clone(), resolver, options).unwrap();
        Rig {
            handler,
            uffd,
            memory,
        }
    }

    fn bytes(&self) -> Volatile {
        Volatile::new(self.memory.range().start(), self.memory.range().len()).unwrap()
    }

    fn page(&self, index: usize) -> HostRange {
        self.memory
            .range()
            .sub(index * page_size(), page_size())
            .unwrap()
    }

    /// Stops, and checks that no fault was lost or counted twice.
    fn stop(self) -> Stats {
        let stats = self.handler.stop();
        let kinds = [stats.missing, stats.minor, stats.write_protect];
        assert_eq!(
            stats.all.counts.total(),
            kinds.iter().map(|kind| kind.counts.total()).sum()
        );
        for kind in kinds {
            let installed = OutcomeKind::ALL
                .into_iter()
                .filter(|outcome| outcome.installed());
            assert_eq!(
                kind.total.count,
                installed.map(|outcome| kind.counts.of(outcome)).sum()
            );
        }
        stats
    }
}

fn offset(index: usize) -> u64 {
    (index * page_size()) as u64
}

/// Every byte of every page is the layer's.
fn assert_is_layer(bytes: &Volatile) {
    let mut page = vec![0; page_size()];
    for index in 0..PAGES {
        bytes.read(index * page_size(), &mut page);
        assert!(
            page.iter().all(|&found| found == byte(index)),
            "page {index}: {page:?}"
        );
    }
}

#[test]
fn missing_pages_are_copied_into_a_shared_memfd() {
    if !traced("missing_pages_are_copied_into_a_shared_memfd") {
        return;
    }
    let (layer, file) = (layer(), memfd(PAGES));
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| install.copy_layer(&layer, offset(index), 1, Protect::None),
    );
    assert_is_layer(&rig.bytes());
    rig.bytes().store_u8(3, 99);
    let mut first = [0; 4];
    file.read_at(&mut first, 0).unwrap();
    assert_eq!(
        first,
        [byte(0), byte(0), byte(0), 99],
        "a shared page is the file's"
    );
    assert_eq!(rig.stop().missing.counts.copied, PAGES as u64);
}

#[test]
fn pages_are_copied_from_a_memfd() {
    if !traced("pages_are_copied_from_a_memfd") {
        return;
    }
    let (from, to) = (memfd(PAGES), memfd(PAGES));
    from.write_at(&[7; 10], offset(5)).unwrap();
    let source = Source::Shared(&to, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| install.copy_memfd(&from, offset(index), Protect::None),
    );
    assert_eq!(rig.bytes().load_u8(5 * page_size() + 9), 7);
    assert_eq!(rig.bytes().load_u8(5 * page_size() + 10), 0);
    assert_eq!(rig.stop().missing.counts.copied, 1);
}

#[test]
fn a_window_of_minor_pages_is_mapped_at_once() {
    if !traced("a_window_of_minor_pages_is_mapped_at_once") {
        return;
    }
    let layer = layer();
    let source = Source::Private(&layer, 0);
    let rig = Rig::new(
        source,
        Modes::MINOR,
        Options::default(),
        move |fault, index, install| {
            // From the first page of the memory to the last, whichever page it was.
            let start = fault.page - index * page_size();
            let all = HostRange::new(start, PAGES * page_size()).unwrap();
            install.continue_(all, Protect::None)
        },
    );
    assert_eq!(rig.bytes().load_u8(40 * page_size()), byte(40));
    assert_is_layer(&rig.bytes());
    let stats = rig.stop();
    assert_eq!(
        (stats.minor.counts.continued, stats.all.counts.total()),
        (1, 1)
    );
}

/// A window stops at a page that is there, and is then what could be mapped.
#[test]
fn a_window_with_a_page_that_is_there_does_what_it_can() {
    if !traced("a_window_with_a_page_that_is_there_does_what_it_can") {
        return;
    }
    let layer = layer();
    let answer_layer = layer.clone();
    let source = Source::Private(&layer, 0);
    let rig = Rig::new(
        source,
        Modes::MINOR,
        Options::default(),
        move |fault, index, install| {
            if fault.write {
                return install.copy_layer(&answer_layer, offset(index), 1, Protect::None);
            }
            let start = fault.page - index * page_size();
            // Past the end of the mapping: then it is the page alone.
            let pages = if index == 60 { PAGES + 1 } else { PAGES };
            install.continue_(
                HostRange::new(start, pages * page_size()).unwrap(),
                Protect::None,
            )
        },
    );
    let records = rig.handler.record(PAGES);
    let bytes = rig.bytes();
    bytes.store_u8(20 * page_size(), byte(20));
    bytes.store_u8(50 * page_size(), byte(50));
    // Maps 30..50 and 0..20, then 60, then 51..60 and the rest each by one fault of its own.
    assert_eq!(bytes.load_u8(30 * page_size()), byte(30));
    assert_eq!(bytes.load_u8(60 * page_size()), byte(60));
    assert_is_layer(&bytes);
    rig.handler.stop_recording();
    let pages: Vec<u32> = records.iter().map(|record| record.pages).collect();
    assert_eq!(pages[..4], [1, 1, 20 + 20, 1]);
    assert_eq!(pages.iter().sum::<u32>(), PAGES as u32, "{pages:?}");
    let counts = rig.stop().minor.counts;
    assert_eq!(counts.copied, 2);
    assert!(
        (4..PAGES as u64 / 2).contains(&counts.continued),
        "{counts:?}"
    );
}

/// Several pages are copied up to one that is there or to the end, and the faulting page alone where they reach into another mapping or one that is not registered. Who waits for one of the
/// others is awake then, too.
#[test]
fn several_pages_are_copied_as_far_as_they_can_be() {
    if !traced("several_pages_are_copied_as_far_as_they_can_be") {
        return;
    }
    let layer = layer();
    let answer_layer = layer.clone();
    let source = Source::Private(&layer, 0);
    let rig = Rig::new(
        source,
        Modes::MINOR,
        Options::default(),
        move |_, index, install| {
            let pages = if index % 10 == 0 { 20 } else { 1 };
            install.copy_layer(&answer_layer, offset(index), pages, Protect::None)
        },
    );
    let pagemap = Pagemap::open().unwrap();
    let assert_there = |pages: Range<usize>, expected| {
        for index in pages {
            let mut there = false;
            pagemap
                .scan(rig.page(index), PageFlags::PRIVATE, |_, _| there = true)
                .unwrap();
            assert_eq!(there, expected, "page {index}");
        }
    };
    let bytes = rig.bytes();
    let load = |index| assert_eq!(bytes.load_u8(index * page_size()), byte(index));
    let records = rig.handler.record(8);
    load(7);
    load(0);
    assert_there(0..8, true);
    assert_there(8..PAGES, false);
    rig.memory.protect(rig.page(15), Prot::READ).unwrap();
    load(10);
    assert_there(10..11, true);
    rig.uffd.unregister(rig.page(35)).unwrap();
    load(30);
    assert_there(30..31, true);
    assert_there(11..30, false);
    assert_there(31..PAGES, false);
    rig.handler.stop_recording();
    let pages: Vec<u32> = records.iter().map(|record| record.pages).collect();
    assert_eq!(pages, [1, 7, 1, 1]);
    // With most of them waiting when it comes to page 40.
    thread::scope(|scope| {
        for index in (40..PAGES).rev() {
            scope.spawn(move || load(index));
        }
    });
    assert_there(40..PAGES, true);
    assert_is_layer(&bytes);
    let counts = rig.stop().all.counts;
    assert_eq!(counts.total(), counts.copied + counts.exists, "{counts:?}");
}

#[test]
fn a_write_to_a_minor_page_gets_a_copy() {
    if !traced("a_write_to_a_minor_page_gets_a_copy") {
        return;
    }
    let layer = layer();
    let answer_layer = layer.clone();
    let source = Source::Private(&layer, 0);
    let rig = Rig::new(
        source,
        Modes::MINOR,
        Options::default(),
        move |fault, index, install| {
            assert!(fault.write && fault.kind == FaultKind::Minor);
            install.copy_layer(&answer_layer, offset(index), 1, Protect::None)
        },
    );
    let bytes = rig.bytes();
    bytes.store_u8(page_size(), 200);
    assert_eq!(
        (bytes.load_u8(page_size()), bytes.load_u8(page_size() + 1)),
        (200, byte(1))
    );
    let mut first = [0];
    layer.read_at(&mut first, offset(1)).unwrap();
    assert_eq!(first, [byte(1)], "a layer never changes");
    assert_eq!(rig.stop().minor.counts.copied, 1);
}

#[test]
fn a_first_write_to_a_shared_page_is_seen() {
    if !write_tracking("a_first_write_to_a_shared_page_is_seen") {
        return;
    }
    let layer = layer();
    let modes = Modes::MINOR | Modes::WP;
    let source = Source::Private(&layer, 0);
    let rig = Rig::new(
        source,
        modes,
        Options::default(),
        |fault, _, install| match fault.kind {
            FaultKind::WriteProtect => install.unprotect(1),
            _ => {
                let page = HostRange::new(fault.page, page_size()).unwrap();
                install.continue_(page, Protect::Write)
            }
        },
    );
    let bytes = rig.bytes();
    assert_is_layer(&bytes);
    for _ in 0..3 {
        bytes.store_u8(2 * page_size(), 250);
    }
    assert_eq!(bytes.load_u8(2 * page_size()), 250);
    assert_eq!(bytes.load_u8(2 * page_size() + 1), byte(2));
    let mut first = [0];
    layer.read_at(&mut first, offset(2)).unwrap();
    assert_eq!(first, [byte(2)]);
    let stats = rig.stop();
    assert_eq!(stats.minor.counts.continued, PAGES as u64);
    assert_eq!(
        stats.write_protect.counts.unprotected, 1,
        "the first write only"
    );
}

#[test]
fn zeros_hide_the_file_and_can_be_written() {
    if !traced("zeros_hide_the_file_and_can_be_written") {
        return;
    }
    let layer = layer();
    let source = Source::Private(&layer, 0);
    let rig = Rig::new(
        source,
        Modes::MINOR,
        Options::default(),
        |_, index, install| {
            if index == 0 {
                install.zero()
            } else {
                install.copy_zeros(1, Protect::None)
            }
        },
    );
    let bytes = rig.bytes();
    for index in [0, 1] {
        assert_eq!(bytes.load_u8(index * page_size()), 0);
        bytes.store_u8(index * page_size(), 5);
        assert_eq!(bytes.load_u8(index * page_size()), 5);
    }
    let counts = rig.stop().minor.counts;
    assert_eq!((counts.zeroed, counts.copied), (1, 1));
}

/// Write protection of a page that is not there leaves a marker, which ZEROPAGE takes for a page.
#[test]
fn zeros_replace_a_write_protect_marker() {
    if !write_tracking("zeros_replace_a_write_protect_marker") {
        return;
    }
    let file = memfd(PAGES);
    let modes = Modes::MISSING | Modes::WP;
    let source = Source::PrivateUnsealed(&file, 0);
    let rig = Rig::new(source, modes, Options::default(), |_, _, install| {
        install.zero()
    });
    rig.uffd
        .write_protect(rig.page(0), Protect::Write, Wake::DontWake)
        .unwrap();
    assert_eq!(rig.bytes().load_u8(0), 0);
    rig.bytes().store_u8(0, 1);
    assert_eq!(rig.bytes().load_u8(0), 1);
    assert_eq!(rig.stop().missing.counts.zeroed, 1);
}

/// Threads that touch all pages in the same order meet at each: one installs it, the other finds it there or faults not at all.
#[test]
fn threads_that_fault_together_see_the_same_bytes() {
    if !traced("threads_that_fault_together_see_the_same_bytes") {
        return;
    }
    for placement in [Placement::Follow, Placement::Anywhere] {
        let (layer, file) = (layer(), memfd(PAGES));
        let source = Source::Shared(&file, 0);
        let options = Options { placement };
        let rig = Rig::new(source, Modes::MISSING, options, move |_, index, install| {
            install.copy_layer(&layer, offset(index), 1, Protect::None)
        });
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let bytes = rig.bytes();
                    start.wait();
                    assert_is_layer(&bytes);
                });
            }
        });
        let counts = rig.stop().missing.counts;
        assert_eq!(counts.copied, PAGES as u64);
        assert_eq!(counts.total(), counts.copied + counts.exists);
    }
}

/// A system call that reads such memory waits for the handler like any thread.
#[test]
fn faults_of_the_kernel_are_served() {
    if !traced("faults_of_the_kernel_are_served") {
        return;
    }
    let (layer, file) = (layer(), memfd(PAGES));
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| install.copy_layer(&layer, offset(index), 1, Protect::None),
    );
    let (mut reads, writes) = std::io::pipe().unwrap();
    let mut found = [0; 2];
    for (index, found) in found.iter_mut().enumerate() {
        let page = rig.page(index).start() as *const _;
        // SAFETY: the kernel only reads the byte, which lies in a live reservation.
        let written = unsafe { nix::libc::write(writes.as_raw_fd(), page, 1) };
        assert_eq!(written, 1);
        reads.read_exact(std::slice::from_mut(found)).unwrap();
    }
    assert_eq!(found, [byte(0), byte(1)]);
    assert_eq!(rig.stop().missing.counts.copied, 2);
}

/// `/proc/self/mem` does not wait for a handler: the kernel looks there without being ready to let go of its lock, so a page that is not mapped is an I/O error.
#[test]
fn proc_mem_does_not_fault() {
    if !traced("proc_mem_does_not_fault") {
        return;
    }
    let file = memfd(PAGES);
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        |_, _, install| install.copy_zeros(1, Protect::None),
    );
    let mem = File::open("/proc/self/mem").unwrap();
    let at = rig.page(0).start() as u64;
    assert!(mem.read_at(&mut [0], at).is_err());
    assert_eq!(rig.bytes().load_u8(0), 0);
    assert_eq!(mem.read_at(&mut [0], at).unwrap(), 1);
    assert_eq!(rig.stop().missing.counts.copied, 1);
}

#[test]
fn a_parked_fault_waits_until_it_is_woken() {
    if !traced("a_parked_fault_waits_until_it_is_woken") {
        return;
    }
    let (layer, file) = (layer(), memfd(PAGES));
    let parked = Arc::new(AtomicBool::new(true));
    let is_parked = parked.clone();
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| {
            if is_parked.load(Ordering::SeqCst) {
                install.park()
            } else {
                install.copy_layer(&layer, offset(index), 1, Protect::None)
            }
        },
    );
    let records = rig.handler.record(4);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(rig.bytes().load_u8(0), byte(0));
            done.store(true, Ordering::SeqCst);
        });
        assert_eq!(records.recv().unwrap().outcome, OutcomeKind::Parked);
        assert!(!done.load(Ordering::SeqCst));
        // In this order, as the engine does: a fault between the two is either served or parked and woken.
        parked.store(false, Ordering::SeqCst);
        rig.uffd.wake(rig.memory.range()).unwrap();
    });
    assert!(done.load(Ordering::SeqCst));
    let counts = rig.stop().missing.counts;
    assert_eq!((counts.parked, counts.copied), (1, 1));
}

#[test]
fn a_retried_fault_comes_again() {
    if !traced("a_retried_fault_comes_again") {
        return;
    }
    let (layer, file) = (layer(), memfd(PAGES));
    let first = AtomicBool::new(true);
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| {
            if first.swap(false, Ordering::SeqCst) {
                install.retry()
            } else {
                install.copy_layer(&layer, offset(index), 1, Protect::None)
            }
        },
    );
    assert_eq!(rig.bytes().load_u8(0), byte(0));
    let counts = rig.stop().missing.counts;
    assert_eq!((counts.retried, counts.copied), (1, 1));
}

#[test]
fn a_record_tells_who_and_what() {
    if !traced("a_record_tells_who_and_what") {
        return;
    }
    let file = memfd(PAGES);
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        |_, _, install| install.copy_zeros(1, Protect::None),
    );
    let records = rig.handler.record(1);
    rig.bytes().store_u8(9 * page_size() + 1, 1);
    let record = records.recv().unwrap();
    assert_eq!(record.page, rig.page(9).start());
    assert_eq!((record.kind, record.write), (FaultKind::Missing, true));
    assert_eq!(
        (record.tid, record.outcome),
        (Some(gettid().as_raw()), OutcomeKind::Copied)
    );
    let total = rig.stop().missing.total;
    assert_eq!(total.count, 1);
    assert!(total.p50_ns >= record.install_ns - record.install_ns / 64);
}

/// Wherever the handler follows to or is, the record has the CPU of the thread.
#[test]
fn a_record_tells_the_cpu_of_the_fault() {
    if !traced("a_record_tells_the_cpu_of_the_fault") {
        return;
    }
    let file = memfd(PAGES);
    let source = Source::Shared(&file, 0);
    for placement in [Placement::Follow, Placement::Anywhere] {
        let rig = Rig::new(
            source,
            Modes::MISSING,
            Options { placement },
            |_, _, install| install.zero(),
        );
        let records = rig.handler.record(PAGES);
        let bytes = rig.bytes();
        let mut expected = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
                let cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap());
                let cpus: Vec<usize> = cpus.collect();
                for index in 0..PAGES {
                    let cpu = cpus[index % cpus.len()];
                    let mut only = CpuSet::new();
                    only.set(cpu).unwrap();
                    sched_setaffinity(Pid::from_raw(0), &only).unwrap();
                    let before = monotonic_ns();
                    let _ = bytes.load_u8(index * page_size());
                    expected.push((cpu, before, monotonic_ns()));
                }
            });
        });
        rig.handler.stop_recording();
        let records: Vec<_> = records.iter().collect();
        assert_eq!(records.len(), PAGES);
        for (record, (cpu, before, after)) in records.iter().zip(expected) {
            assert_eq!(record.cpu.unwrap() as usize, cpu);
            // It is woken when the page has been installed, so what it measured lies around all of that.
            let FaultRecord {
                read_ns,
                queue_ns,
                recording_ns,
                resolve_ns,
                install_ns,
                ..
            } = *record;
            let installed = read_ns + queue_ns + recording_ns + resolve_ns + install_ns;
            assert!(before <= read_ns && installed <= after, "{record:?}");
        }
        file.punch(0..offset(PAGES)).unwrap();
        rig.stop();
    }
}

/// Several threads, each of them in its own records.
#[test]
fn records_tell_threads_apart() {
    if !traced("records_tell_threads_apart") {
        return;
    }
    let file = memfd(PAGES);
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        |_, _, install| install.zero(),
    );
    let records = rig.handler.record(PAGES);
    let bytes = &rig.bytes();
    let tids: Vec<i32> = thread::scope(|scope| {
        // One page each, so that there are more threads than files the handler keeps of them.
        let threads: Vec<_> = (0..PAGES)
            .map(|index| {
                scope.spawn(move || {
                    let _ = bytes.load_u8(index * page_size());
                    gettid().as_raw()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    rig.handler.stop_recording();
    let records: Vec<_> = records.iter().collect();
    assert_eq!(records.len(), PAGES);
    for record in records {
        let index = (record.page - rig.memory.range().start()) / page_size();
        assert_eq!(record.tid, Some(tids[index]));
        assert!(record.cpu.is_some(), "{record:?}");
        assert_eq!((record.pages, record.attempts), (1, 1));
    }
    rig.stop();
}

/// Replacements are moved over the memory while threads fault in it. Each `mremap` waits for its event to be read, and answers EAGAIN to every ioctl meanwhile.
#[test]
fn memory_is_replaced_while_threads_fault() {
    if !traced("memory_is_replaced_while_threads_fault") {
        return;
    }
    let (layer, file) = (layer(), memfd(PAGES));
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| install.copy_layer(&layer, offset(index), 1, Protect::None),
    );
    let records = rig.handler.record(1 << 20);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_is_layer(&rig.bytes());
                    give_way();
                }
            });
        }
        for _ in 0..200 {
            let file = memfd(PAGES);
            let source = Source::Shared(&file, 0);
            let len = rig.memory.range().len();
            let prepared = rig.memory.prepare(len, source, RW).unwrap();
            rig.uffd
                .register(&prepared, prepared.range(), Modes::MISSING)
                .unwrap();
            rig.memory.install(prepared, rig.memory.range()).unwrap();
        }
        // The threads may not have run at all meanwhile: what the last replacement holds is read here, too.
        assert_is_layer(&rig.bytes());
        done.store(true, Ordering::Relaxed);
    });
    let stats = rig.stop();
    assert_eq!(stats.records_dropped, 0);
    // However often each had to be put off.
    let again = |record: FaultRecord| u64::from(record.attempts) - 1;
    assert_eq!(records.iter().map(again).sum::<u64>(), stats.put_off);
    assert!(stats.missing.counts.copied >= PAGES as u64);
}

/// Unregistering lets waiting threads go, and the kernel resolves by itself.
#[test]
fn an_unregistered_range_is_the_kernels() {
    if !traced("an_unregistered_range_is_the_kernels") {
        return;
    }
    let file = memfd(PAGES);
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        |_, _, install| install.park(),
    );
    let records = rig.handler.record(1);
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(rig.bytes().load_u8(0), 0));
        records.recv().unwrap();
        rig.uffd.unregister(rig.memory.range()).unwrap();
    });
    assert_eq!(rig.stop().all.counts.parked, 1);
}

/// A forked copy has the value but not the thread: what it does with it concerns nobody else.
#[test]
fn a_forked_copy_leaves_the_handler_alone() {
    if !traced("a_forked_copy_leaves_the_handler_alone") {
        return;
    }
    let (layer, file) = (layer(), memfd(PAGES));
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| install.copy_layer(&layer, offset(index), 1, Protect::None),
    );
    assert_eq!(rig.bytes().load_u8(0), byte(0));
    let (mut tell, (mut reads, writes)) = (Vec::with_capacity(1), std::io::pipe().unwrap());
    // SAFETY: the child allocates nothing and takes no lock that another thread may hold: `stats` and `stop` answer at once in a copy, write(2) is async-signal-safe,
    // and it ends by _exit(2).
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let before = rig.handler.stats();
            let after = rig.handler.stop();
            let right = before == Stats::default() && after == Stats::default();
            let _ = nix::unistd::write(writes.as_fd(), &[u8::from(right)]);
            // SAFETY: _exit(2) runs nothing of this program.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(writes);
            reads.read_to_end(&mut tell).unwrap();
            assert!(matches!(
                waitpid(child, None).unwrap(),
                WaitStatus::Exited(_, 0)
            ));
        }
    }
    assert_eq!(tell, [1]);
    assert_is_layer(&rig.bytes());
    assert_eq!(rig.stop().missing.counts.copied, PAGES as u64);
}

/// Installs a handler for a signal that interrupts what a thread waits for.
fn on_signal(signal: Signal, handler: extern "C" fn(nix::libc::c_int)) {
    let handler = SigHandler::Handler(handler);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handlers below do nothing but atomics, and nobody else here uses these signals.
    unsafe { sigaction(signal, &action) }.unwrap();
}

fn send(tid: i32, signal: Signal) {
    let pid = nix::unistd::getpid().as_raw();
    // SAFETY: passes integers, and the signal has a handler.
    let sent =
        unsafe { nix::libc::syscall(nix::libc::SYS_tgkill, pid, tid, signal as nix::libc::c_int) };
    assert_eq!(sent, 0);
}

/// Whether the thread sleeps, in a system call or for a page.
fn sleeps(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('S')
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_micros(100));
    }
}

extern "C" fn do_nothing(_: nix::libc::c_int) {}

/// Requests from several threads, while others fault, memory is replaced (EAGAIN for every ioctl, the bell's too), and signals interrupt whoever waits: every request is answered, and every byte right.
#[test]
fn requests_are_answered_while_threads_fault_and_signals_interrupt() {
    if !traced("requests_are_answered_while_threads_fault_and_signals_interrupt") {
        return;
    }
    on_signal(Signal::SIGUSR1, do_nothing);
    let (layer, file) = (layer(), memfd(PAGES));
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| install.copy_layer(&layer, offset(index), 1, Protect::None),
    );
    let (done, quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    let threads = [const { AtomicI32::new(0) }; 5];
    let goes_on = |me: &AtomicI32| {
        me.store(gettid().as_raw(), Ordering::SeqCst);
        !done.load(Ordering::SeqCst)
    };
    thread::scope(|scope| {
        for me in &threads[..2] {
            scope.spawn(|| {
                while goes_on(me) {
                    assert_is_layer(&rig.bytes());
                    give_way();
                }
                // It gets signals as long as it lives.
                wait_until(|| quiet.load(Ordering::SeqCst));
            });
        }
        for me in &threads[2..] {
            scope.spawn(|| {
                let mut before = 0;
                while goes_on(me) {
                    let total = rig.handler.stats().all.counts.total();
                    assert!(total >= before);
                    before = total;
                    rig.handler.record(1);
                    give_way();
                }
                wait_until(|| quiet.load(Ordering::SeqCst));
            });
        }
        scope.spawn(|| {
            wait_until(|| threads.iter().all(|tid| tid.load(Ordering::SeqCst) != 0));
            while !done.load(Ordering::SeqCst) {
                for tid in &threads {
                    send(tid.load(Ordering::SeqCst), Signal::SIGUSR1);
                }
                thread::yield_now();
            }
            quiet.store(true, Ordering::SeqCst);
        });
        for _ in 0..share(300).max(20) {
            let file = memfd(PAGES);
            let source = Source::Shared(&file, 0);
            let len = rig.memory.range().len();
            let prepared = rig.memory.prepare(len, source, RW).unwrap();
            rig.uffd
                .register(&prepared, prepared.range(), Modes::MISSING)
                .unwrap();
            rig.memory.install(prepared, rig.memory.range()).unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_is_layer(&rig.bytes());
    assert!(rig.stop().missing.counts.copied >= PAGES as u64);
}

static IN_SIGNAL: AtomicBool = AtomicBool::new(false);
static LEAVE_SIGNAL: AtomicBool = AtomicBool::new(false);

extern "C" fn linger(_: nix::libc::c_int) {
    IN_SIGNAL.store(true, Ordering::SeqCst);
    while !LEAVE_SIGNAL.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
}

/// A thread gets a signal while its fault waits to be read, and is away for long: the handler does not wait for that fault, and the thread's next try is served.
#[test]
fn a_fault_that_a_signal_takes_away_is_not_waited_for() {
    if !traced("a_fault_that_a_signal_takes_away_is_not_waited_for") {
        return;
    }
    on_signal(Signal::SIGUSR2, linger);
    let (layer, file) = (layer(), memfd(PAGES));
    let (busy, go) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (is_busy, may_go) = (busy.clone(), go.clone());
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        move |_, index, install| {
            is_busy.store(true, Ordering::SeqCst);
            wait_until(|| may_go.load(Ordering::SeqCst));
            install.copy_layer(&layer, offset(index), 1, Protect::None)
        },
    );
    let tid = AtomicI32::new(0);
    thread::scope(|scope| {
        let first = scope.spawn(|| assert_eq!(rig.bytes().load_u8(0), byte(0)));
        wait_until(|| busy.load(Ordering::SeqCst));
        scope.spawn(|| {
            let bytes = rig.bytes();
            tid.store(gettid().as_raw(), Ordering::SeqCst);
            assert_eq!(bytes.load_u8(page_size()), byte(1));
        });
        wait_until(|| tid.load(Ordering::SeqCst) != 0 && sleeps(tid.load(Ordering::SeqCst)));
        send(tid.load(Ordering::SeqCst), Signal::SIGUSR2);
        wait_until(|| IN_SIGNAL.load(Ordering::SeqCst));
        go.store(true, Ordering::SeqCst);
        first.join().unwrap();
        assert_eq!(rig.handler.stats().missing.counts.total(), 1);
        LEAVE_SIGNAL.store(true, Ordering::SeqCst);
    });
    assert_eq!(rig.stop().missing.counts.copied, 2);
}

/// The program keeps all of its memory from being given back, the bell's page too.
#[test]
fn requests_are_answered_where_memory_is_locked() {
    // Locking is the whole process's, and fills memory that other tests want empty: so this is done in a process of its own.
    const ALONE: &str = "COWSPACE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let alone = Command::new(std::env::current_exe().unwrap())
            .args([
                "requests_are_answered_where_memory_is_locked",
                "--exact",
                "--nocapture",
            ])
            .env(ALONE, "1")
            .status();
        return assert!(alone.unwrap().success());
    }
    if !traced("requests_are_answered_where_memory_is_locked") {
        return;
    }
    let future = MlockAllFlags::MCL_FUTURE;
    if let Err(errno) = mlockall(future) {
        println!("SKIP requests_are_answered_where_memory_is_locked: mlockall: {errno}");
        return;
    }
    let file = memfd(PAGES);
    let source = Source::Shared(&file, 0);
    let rig = Rig::new(
        source,
        Modes::MISSING,
        Options::default(),
        |_, _, install| install.copy_zeros(1, Protect::None),
    );
    assert_eq!(rig.handler.stats(), Stats::default());
    assert_eq!(rig.handler.stats(), Stats::default());
    rig.stop();
    munlockall().unwrap();
}
