//! What the kernel does with mappings inside a reservation, other threads running meanwhile.

mod util;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use host_memory::access::Volatile;
use host_memory::memfd::MemFd;
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::pagemap::{PageFlags, Pagemap};
use host_memory::reserve::{InstallError, OwnedMemory, Reservation, Source};
use util::{
    SetOnDrop, bytes, data, layer, maps_have, maps_id, maps_line, numbered, pages, reserve,
    volatile, wait_above,
};

const RW: Prot = Prot::READ.union(Prot::WRITE);

#[test]
fn is_page_aligned_and_not_empty() {
    for bad in [0, 1, page_size() + 1] {
        assert_eq!(
            Reservation::new(bad).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    let room = reserve(2);
    assert_eq!(room.range().len(), 2 * page_size());
    let line = maps_line(room.range().start()).unwrap();
    assert!(line.contains(" ---p "), "{line}");
}

#[test]
fn a_huge_one_costs_nothing() {
    assert_eq!(Reservation::new(1 << 40).unwrap().range().len(), 1 << 40);
}

#[test]
fn refuses_what_is_not_inside() {
    let room = reserve(4);
    let start = room.range().start();
    let outside = [
        HostRange::new(start - page_size(), page_size()).unwrap(),
        HostRange::new(start + 3 * page_size(), 2 * page_size()).unwrap(),
        HostRange::new(0, page_size()).unwrap(),
    ];
    for at in outside {
        let prepared = room
            .prepare(at.len(), Source::Anonymous, Prot::READ)
            .unwrap();
        for refused in [
            room.map(at, Source::Anonymous, Prot::READ),
            room.release(at),
            room.protect(at, Prot::READ),
            room.discard(at),
            room.populate_read(at),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(matches!(
            room.install(prepared, at),
            Err(InstallError::Refused(_))
        ));
        assert!(!room.owns(at));
    }
    let empty = pages(&room, 4, 0);
    room.map(empty, Source::Anonymous, RW).unwrap();
    room.release(empty).unwrap();
    room.protect(empty, RW).unwrap();
    let prepared = room
        .prepare(2 * page_size(), Source::Anonymous, Prot::READ)
        .unwrap();
    assert!(matches!(
        room.install(prepared, pages(&room, 0, 1)),
        Err(InstallError::Refused(_))
    ));
    assert_eq!(
        room.prepare(0, Source::Anonymous, RW).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let memfd = numbered(2);
    assert!(
        room.map(pages(&room, 0, 1), Source::Shared(&memfd, 1), RW)
            .is_err(),
        "the offset is not aligned"
    );
    assert!(
        room.map(pages(&room, 0, 1), Source::Shared(&memfd, u64::MAX), RW)
            .is_err()
    );
}

#[test]
fn shared_mappings_of_a_memfd_are_one_memory() {
    let room = reserve(4);
    let memfd = numbered(2);
    room.map(pages(&room, 0, 2), Source::Shared(&memfd, 0), RW)
        .unwrap();
    room.map(pages(&room, 3, 1), Source::Shared(&memfd, bytes(1)), RW)
        .unwrap();
    let (both, second) = (volatile(pages(&room, 0, 2)), volatile(pages(&room, 3, 1)));
    second.store_u8(7, 70);
    assert_eq!(both.load_u8(page_size() + 7), 70);
    let mut byte = [0];
    memfd.read_at(&mut byte, bytes(1) + 7).unwrap();
    assert_eq!(byte, [70]);
    memfd.write_at(&[71], bytes(1) + 7).unwrap();
    assert_eq!(second.load_u8(7), 71);
}

#[test]
fn private_mappings_leave_the_file_alone_and_discard_shows_it_again() {
    let room = reserve(2);
    let layer = layer(2);
    room.map(room.range(), Source::Private(&layer, 0), RW)
        .unwrap();
    let memory = volatile(room.range());
    memory.store_u8(0, 99);
    memory.store_u8(page_size(), 99);
    let mut byte = [0];
    layer.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [1]);
    room.discard(pages(&room, 0, 1)).unwrap();
    assert_eq!((memory.load_u8(0), memory.load_u8(page_size())), (1, 99));
}

#[test]
fn discard_leaves_shared_pages_and_zeroes_anonymous_ones() {
    let room = reserve(2);
    let memfd = numbered(1);
    room.map(pages(&room, 0, 1), Source::Shared(&memfd, 0), RW)
        .unwrap();
    room.map(pages(&room, 1, 1), Source::Anonymous, RW).unwrap();
    let memory = volatile(room.range());
    memory.store_u8(0, 99);
    memory.store_u8(page_size(), 99);
    room.discard(room.range()).unwrap();
    assert_eq!((memory.load_u8(0), memory.load_u8(page_size())), (99, 0));
}

#[test]
fn unsealed_private_pages_follow_the_file_until_they_are_written() {
    let room = reserve(1);
    let memfd = numbered(1);
    room.map(room.range(), Source::PrivateUnsealed(&memfd, 0), RW)
        .unwrap();
    let memory = volatile(room.range());
    assert_eq!(memory.load_u8(1), 1);
    memfd.write_at(&[2, 2], 0).unwrap();
    assert_eq!(memory.load_u8(1), 2);
    memory.store_u8(0, 99);
    memfd.write_at(&[3, 3], 0).unwrap();
    assert_eq!((memory.load_u8(0), memory.load_u8(1)), (99, 2));
}

#[test]
fn reading_a_hole_through_a_mapping_makes_it_a_page_of_the_file() {
    let room = reserve(1);
    let layer = MemFd::create("test", bytes(1)).unwrap().seal().unwrap();
    room.map(room.range(), Source::Private(&layer, 0), RW)
        .unwrap();
    assert_eq!(data(|f| layer.data(0..u64::MAX, f)), []);
    assert_eq!(volatile(room.range()).load_u8(0), 0);
    assert_eq!(data(|f| layer.data(0..u64::MAX, f)), [(0, 1)]);
}

#[test]
fn protect_and_release_show_in_the_maps() {
    let room = reserve(3);
    let layer = layer(3);
    room.map(room.range(), Source::Private(&layer, 0), RW)
        .unwrap();
    let second = room.range().start() + page_size();
    room.protect(pages(&room, 1, 1), Prot::READ | Prot::EXEC)
        .unwrap();
    assert!(maps_line(second).unwrap().contains(" r-xp "));
    room.protect(pages(&room, 1, 1), Prot::empty()).unwrap();
    let line = maps_line(second).unwrap();
    assert!(
        line.contains(" ---p ") && line.contains("memfd:test"),
        "{line}"
    );
    room.release(pages(&room, 1, 1)).unwrap();
    let line = maps_line(second).unwrap();
    assert!(line.contains(" ---p ") && !line.contains("memfd"), "{line}");
    let memory = volatile(room.range());
    assert_eq!((memory.load_u8(0), memory.load_u8(2 * page_size())), (1, 3));
}

#[test]
fn populate_read_makes_pages_present_and_none_private() {
    let room = reserve(64);
    let layer = layer(64);
    room.map(room.range(), Source::Private(&layer, 0), RW)
        .unwrap();
    let scan = || {
        let mut found = Vec::new();
        let pagemap = Pagemap::open().unwrap();
        pagemap
            .scan(room.range(), PageFlags::all(), |run, flags| {
                // Nothing is registered: what is said of protection means nothing.
                found.push((run, flags - PageFlags::WRITE_PROTECTED))
            })
            .unwrap();
        found
    };
    assert_eq!(scan(), []);
    room.populate_read(room.range()).unwrap();
    if scan().is_empty() {
        println!("SKIP populate_read: MADV_POPULATE_READ");
        return;
    }
    assert_eq!(scan(), [(room.range(), PageFlags::FILE)]);
    room.map(room.range(), Source::Private(&layer, bytes(63)), RW)
        .unwrap();
    let error = room.populate_read(room.range()).unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(libc::EFAULT),
        "over the end of the file: {error}"
    );
}

/// Writer `w` stores 1, 2, 3 ... to its words in turn. So any prefix of its stores is known by its last one.
struct Writer {
    memory: Volatile,
    words: Vec<usize>,
    stored: AtomicU64,
}

impl Writer {
    fn new(memory: &Volatile, index: usize) -> Writer {
        let page = page_size();
        // One word in each page, and no two writers in one word.
        let words = (0..memory.len() / page)
            .map(|i| i * page + index * 8)
            .collect();
        Writer {
            memory: memory.clone(),
            words,
            stored: AtomicU64::new(0),
        }
    }

    fn run(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let next = self.stored.load(Ordering::Relaxed) + 1;
            self.memory
                .store_u64(self.words[next as usize % self.words.len()], next);
            self.stored.store(next, Ordering::SeqCst);
        }
    }

    /// How long a prefix `words` holds, if it is one.
    fn prefix(&self, word: impl Fn(usize) -> u64) -> u64 {
        let last = self.words.iter().map(|offset| word(*offset)).max().unwrap();
        let count = self.words.len() as u64;
        for (i, offset) in self.words.iter().enumerate() {
            // The greatest number up to `last` that goes to word i, if there is one above 0.
            let back = (last + count - i as u64) % count;
            assert_eq!(
                word(*offset),
                last.saturating_sub(back),
                "word {i} of a prefix of {last} stores"
            );
        }
        last
    }
}

#[test]
fn private_over_a_live_shared_mapping_is_atomic_to_running_writers() {
    const PAGES: usize = 64;
    for _ in 0..20 {
        let room = reserve(PAGES);
        let memfd = MemFd::create("test", bytes(PAGES)).unwrap();
        room.map(room.range(), Source::Shared(&memfd, 0), RW)
            .unwrap();
        let memory = volatile(room.range());
        let writers = [Writer::new(&memory, 0), Writer::new(&memory, 1)];
        let stop = AtomicBool::new(false);
        let file = || {
            let mut file = vec![0; PAGES * page_size()];
            memfd.read_at(&mut file, 0).unwrap();
            file
        };
        let (before, at_swap, after) = thread::scope(|scope| {
            let _stop = SetOnDrop(&stop);
            for writer in &writers {
                scope.spawn(|| writer.run(&stop));
            }
            writers
                .iter()
                .for_each(|writer| wait_above(&writer.stored, 1000));
            let before = writers
                .each_ref()
                .map(|writer| writer.stored.load(Ordering::SeqCst));
            room.map(room.range(), Source::PrivateUnsealed(&memfd, 0), RW)
                .unwrap();
            let after = writers
                .each_ref()
                .map(|writer| writer.stored.load(Ordering::SeqCst));
            let at_swap = file();
            for (writer, after) in writers.iter().zip(after) {
                wait_above(&writer.stored, after + 1000);
            }
            (before, at_swap, after)
        });
        assert!(
            at_swap == file(),
            "no store leaks into the file after the swap"
        );
        for (i, writer) in writers.iter().enumerate() {
            let prefix = writer.prefix(|offset| {
                u64::from_ne_bytes(at_swap[offset..offset + 8].try_into().unwrap())
            });
            assert!(
                (before[i]..=after[i] + 1).contains(&prefix),
                "{} <= {prefix} <= {} + 1",
                before[i],
                after[i]
            );
            let all = writer.prefix(|offset| memory.load_u64(offset));
            assert_eq!(
                all,
                writer.stored.load(Ordering::SeqCst),
                "no store is lost"
            );
        }
        memfd.seal().unwrap();
    }
}

#[test]
fn install_replaces_in_one_step() {
    let room = reserve(16);
    let sources = [
        layer(16),
        MemFd::create("test", bytes(16)).unwrap().seal().unwrap(),
    ];
    room.map(room.range(), Source::Private(&sources[0], 0), Prot::READ)
        .unwrap();
    let memory = volatile(room.range());
    let (stop, read) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let _stop = SetOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for page in 0..16 {
                    // Anything else than the two would be a hole (a SIGSEGV) or reserved memory (another one).
                    let byte = memory.load_u8(page * page_size());
                    assert!(
                        byte == 0 || usize::from(byte) == page + 1,
                        "{byte} in page {page}"
                    );
                }
                read.fetch_add(1, Ordering::SeqCst);
            }
        });
        for i in 0..500 {
            let source = Source::Private(&sources[(i + 1) % 2], 0);
            let prepared = room
                .prepare(room.range().len(), source, Prot::READ)
                .unwrap();
            let aside = prepared.range();
            assert!(!room.owns(aside) && prepared.owns(aside));
            room.install(prepared, room.range()).unwrap();
            let expected = if i % 2 == 0 { 0 } else { 1 };
            assert_eq!(memory.load_u8(0), expected);
        }
        wait_above(&read, 0);
    });
}

/// Words that a thread counts up, in random order, are the file's before, while and after the page tables are moved away.
#[test]
fn a_mapping_set_aside_stays_the_files() {
    for pages in [1, 700, 1600] {
        let room = reserve(pages + 3);
        // Not at the beginning of a page table.
        let at = room.range().sub(page_size(), pages * page_size()).unwrap();
        let memfd = MemFd::create("test", bytes(pages)).unwrap();
        room.map(at, Source::Shared(&memfd, 0), RW).unwrap();
        let memory = volatile(at);
        let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut asides = Vec::new();
        thread::scope(|scope| {
            let stop_writer = SetOnDrop(&stop);
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let n = rounds.load(Ordering::Relaxed);
                    for page in 0..pages {
                        // Each once: neither count has the factor 13.
                        let offset = page * 13 % pages * page_size();
                        assert!(memory.load_u64(offset) >= n, "a store was lost");
                        memory.store_u64(offset, n + 1);
                    }
                    rounds.store(n + 1, Ordering::SeqCst);
                }
            });
            for _ in 0..10 {
                wait_above(&rounds, rounds.load(Ordering::SeqCst));
                match room.set_aside(at) {
                    Ok(aside) => asides.push(aside),
                    Err(error) => return println!("SKIP setting aside: {error}"),
                }
            }
            drop(stop_writer);
        });
        let shown: Vec<u64> = (0..pages)
            .map(|page| memory.load_u64(page * page_size()))
            .collect();
        for (page, shown) in shown.iter().enumerate() {
            assert!(*shown >= rounds.load(Ordering::SeqCst));
            let mut file = [0; 8];
            memfd.read_at(&mut file, bytes(page)).unwrap();
            assert_eq!(u64::from_ne_bytes(file), *shown);
        }
        if let Some(aside) = asides.first() {
            assert!(!room.owns(aside.range()));
        }
        room.map(at, Source::PrivateUnsealed(&memfd, 0), RW)
            .unwrap();
        let before = asides.is_empty();
        let memfd = match memfd.seal() {
            Ok(_) => {
                assert!(before);
                continue;
            }
            Err((memfd, _)) => memfd,
        };
        drop(asides);
        memfd.seal().unwrap();
    }
}

#[test]
fn what_is_prepared_and_not_installed_is_unmapped() {
    let room = reserve(1);
    let layer = layer(1);
    let prepared = room
        .prepare(page_size(), Source::Private(&layer, 0), RW)
        .unwrap();
    assert!(maps_have(&maps_id(&layer)));
    drop(prepared);
    assert!(!maps_have(&maps_id(&layer)));
    let prepared = room
        .prepare(page_size(), Source::Private(&layer, 0), RW)
        .unwrap();
    let aside = prepared.range();
    room.install(prepared, room.range()).unwrap();
    assert!(
        !maps_line(aside.start()).is_some_and(|line| line.contains(&maps_id(&layer))),
        "it was moved, not copied"
    );
    assert_eq!(volatile(room.range()).load_u8(0), 1);
}
