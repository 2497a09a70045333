//! What says that it allocates nothing does not: it may be called while other threads are stopped, one of which may hold the allocator's lock.

mod util;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use host_memory::memfd::MemFd;
use host_memory::page::{Prot, page_size};
use host_memory::pagemap::{Method, PageFlags, Pagemap};
use host_memory::procmem::ProcMem;
use host_memory::reserve::Source;
use host_memory::stop::stop_other_threads;
use util::{bytes, layer, numbered, pages, reserve, volatile};

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator; counting touches a thread-local integer, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `f` allocates or frees.
fn calls(f: impl FnOnce()) -> usize {
    let before = CALLS.get();
    f();
    CALLS.get() - before
}

#[test]
fn the_count_counts() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

#[test]
fn files_do_not() {
    let (memfd, layer) = (numbered(3), layer(3));
    let mut buf = vec![0; page_size()];
    let first = layer.page(0).map(|page| page.addr());
    let count = calls(|| {
        memfd.write_at(&buf, 0).unwrap();
        memfd.read_at(&mut buf, 0).unwrap();
        memfd.punch(bytes(1)..bytes(2)).unwrap();
        memfd.data(0..bytes(3), |_| {}).unwrap();
        assert!(!memfd.is_present(bytes(1)).unwrap());
        memfd.allocate(0..bytes(3)).unwrap();
        memfd.set_len(bytes(2)).unwrap();
        assert!(memfd.write_at(&buf, bytes(2)).is_err());
        layer.read_at(&mut buf, bytes(1)).unwrap();
        layer.data(0..bytes(3), |_| {}).unwrap();
        assert_eq!(layer.page(0).map(|page| page.addr()), first);
    });
    assert_eq!(count, 0);
    assert_eq!(calls(|| drop(std::hint::black_box(memfd.seal()))), 0);
}

#[test]
fn mappings_do_not() {
    let room = reserve(4);
    let (memfd, layer) = (numbered(4), layer(4));
    let rw = Prot::READ | Prot::WRITE;
    let other = reserve(1);
    let outside = other.range();
    let count = calls(|| {
        room.map(room.range(), Source::Shared(&memfd, 0), rw)
            .unwrap();
        room.map(room.range(), Source::Private(&layer, 0), rw)
            .unwrap();
        room.populate_read(room.range()).unwrap();
        room.protect(room.range(), Prot::READ).unwrap();
        room.discard(room.range()).unwrap();
        let prepared = room.prepare(page_size(), Source::Anonymous, rw).unwrap();
        room.install(prepared, pages(&room, 1, 1)).unwrap();
        room.release(room.range()).unwrap();
        assert!(room.map(outside, Source::Anonymous, rw).is_err());
    });
    assert_eq!(count, 0);
}

#[test]
fn stopping_and_copying_meanwhile_does_not() {
    let room = reserve(40);
    let layer = layer(40);
    room.map(
        room.range(),
        Source::Private(&layer, 0),
        Prot::READ | Prot::WRITE,
    )
    .unwrap();
    volatile(room.range()).store_u8(0, 9);
    room.protect(pages(&room, 3, 2), Prot::empty()).unwrap();
    let to = MemFd::create("test", bytes(40)).unwrap();
    let mem = ProcMem::open().unwrap();
    let maps = [
        Pagemap::open().unwrap(),
        Pagemap::open_as(Method::Entries).unwrap(),
    ];
    let mut byte = [0];
    let mut private = [0; 2];
    let count = calls(|| {
        let stopped = stop_other_threads(&[]).unwrap();
        for (pagemap, private) in maps.iter().zip(&mut private) {
            let scanned = pagemap.scan(room.range(), PageFlags::PRIVATE, |run, _| {
                *private += run.pages()
            });
            scanned.unwrap();
        }
        mem.copy_out(&room, room.range(), &to, 0).unwrap();
        mem.write(&room, room.range().start(), &[10]).unwrap();
        mem.read(&room, room.range().start(), &mut byte).unwrap();
        drop(stopped);
    });
    assert_eq!(count, 0);
    assert_eq!((byte, private), ([10], [1, 1]));
}
