//! The fault path allocates nothing: a faulting thread may hold the allocator's lock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use fault_handler::{
    Fault, FaultHandler, FaultKind, Installer, Options, Outcome, Protect, Resolver,
};
use host_memory::access::Volatile;
use host_memory::memfd::{Layer, MemFd};
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::probe::Probe;
use host_memory::reserve::{Reservation, Source};
use host_memory::uffd::{Modes, Uffd};
use nix::unistd::gettid;
use test_share::share;

const PAGES: usize = 256;

/// The thread whose allocations are counted; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above; `ptr` came from `alloc`, so from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    let watched = WATCHED.load(Ordering::Relaxed);
    if watched != 0 && watched == gettid().as_raw() {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every answer but poison in turn.
struct All {
    layer: Layer,
    memfd: MemFd,
    base: usize,
}

impl Resolver for All {
    fn resolve(&self, fault: &Fault, install: Installer<'_>) -> Outcome {
        let index = (fault.page - self.base) / page_size();
        let offset = (index * page_size()) as u64;
        if fault.kind == FaultKind::WriteProtect {
            return install.unprotect(1);
        }
        match index % 5 {
            0 => install.copy_layer(&self.layer, offset, 1, Protect::Write),
            1 => install.copy_memfd(&self.memfd, offset, Protect::None),
            2 => install.copy_zeros(1, Protect::None),
            3 => install.zero(),
            _ => {
                let page = HostRange::new(fault.page, page_size()).unwrap();
                install.continue_(page, Protect::Write)
            }
        }
    }
}

#[test]
fn the_fault_path_allocates_nothing() {
    let support = Probe::get().write_tracking;
    if !support.is_yes() {
        println!("SKIP the_fault_path_allocates_nothing: {support:?}");
        return;
    }
    let len = PAGES * page_size();
    let memfd = || {
        let memfd = MemFd::create("fault-handler-test", len as u64).unwrap();
        memfd.write_at(&vec![1; len], 0).unwrap();
        memfd
    };
    let layer = memfd().seal().unwrap();
    let memory = Reservation::new(len).unwrap();
    memory
        .map(
            memory.range(),
            Source::Private(&layer, 0),
            Prot::READ | Prot::WRITE,
        )
        .unwrap();
    let uffd = Arc::new(Uffd::open().unwrap());
    uffd.register(&memory, memory.range(), Modes::all())
        .unwrap();
    let resolver = Arc::new(All {
        layer,
        memfd: memfd(),
        base: memory.range().start(),
    });
    let handler = FaultHandler::spawn(uffd, resolver, Options::default()).unwrap();
    // What is given up below is the channel's only holder but for the handler.
    drop(handler.record(1));

    WATCHED.store(handler.tid(), Ordering::Relaxed);
    let records = handler.record(2 * PAGES);
    let bytes = Volatile::new(memory.range().start(), len).unwrap();
    for index in 0..PAGES {
        let at = index * page_size();
        let _ = bytes.load_u8(at);
        bytes.store_u8(at, 2);
    }
    handler.stop_recording();
    // Whichever of the two lets go of a request first.
    for _ in 0..share(2000).max(100) {
        handler.stats();
        handler.stop_recording();
    }
    WATCHED.store(0, Ordering::Relaxed);
    assert_eq!(CALLS.load(Ordering::Relaxed), 0);

    let stats = handler.stop();
    assert_eq!(stats.recorded, stats.all.counts.total());
    let counts = stats.all.counts;
    assert!(
        counts.copied > 0 && counts.zeroed > 0 && counts.continued > 0,
        "{counts:?}"
    );
    assert!(counts.unprotected > 0, "{counts:?}");
    assert!(records.iter().all(|record| record.cpu.is_some()));
}
