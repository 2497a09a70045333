//! Huge pages made of layers: no byte changes, no hole becomes memory, and what the kernel cannot make stays as it is.

mod util;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use host_memory::access::Volatile;
use host_memory::huge::{huge_page_size, try_collapse};
use host_memory::memfd::{Layer, MemFd};
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::probe::Support;
use host_memory::reserve::{Reservation, Source};
use util::data;

/// Bytes of a huge page; `None`, and a word why, where none can be made.
fn huge() -> Option<usize> {
    match (huge_page_size(), try_collapse()) {
        // More would take long to fill.
        (Some(size), Support::Yes) if size <= 4 << 20 => Some(size),
        (size, support) => {
            println!("SKIP huge pages of {size:?} bytes: {support:?}");
            None
        }
    }
}

/// A word of each page tells which page it is.
fn layer(len: usize, holes: &[usize]) -> Layer {
    let file = MemFd::create("test", len as u64).unwrap();
    for page in (0..len / page_size()).filter(|page| !holes.contains(page)) {
        let at = (page * page_size()) as u64;
        file.write_at(&(page as u64 + 1).to_ne_bytes(), at).unwrap();
    }
    file.seal().unwrap()
}

fn collapse(layer: &Layer, range: Range<u64>) -> Vec<Range<u64>> {
    let mut done = Vec::new();
    layer.collapse(range, |bytes| done.push(bytes)).unwrap();
    done
}

/// A place where huge pages fit.
fn congruent(len: usize, huge: usize) -> (Reservation, HostRange) {
    let room = Reservation::new(len + huge).unwrap();
    let start = room.range().start();
    let range = room.range().sub(start.next_multiple_of(huge) - start, len);
    (room, range.unwrap())
}

/// How many bytes of the mapping at `addr` one entry of a page table maps as a huge page.
fn mapped_huge(addr: usize) -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-') {
            let parse = |text| usize::from_str_radix(text, 16).unwrap();
            inside = (parse(start)..parse(end)).contains(&addr);
        } else if inside && first == "ShmemPmdMapped:" {
            let kib = line.split_whitespace().nth(1).unwrap();
            return kib.parse::<usize>().unwrap() << 10;
        }
    }
    0
}

#[test]
fn whole_huge_pages_are_made_and_holes_stay_holes() {
    let Some(huge) = huge() else { return };
    let pages = huge / page_size();
    let hole = pages + pages / 2;
    let layer = layer(4 * huge + 3 * page_size(), &[hole]);
    let before = data(|f| layer.data(0..u64::MAX, f));
    let at = |n: usize| (n * huge) as u64;

    // Not one of which the range has only a part.
    assert_eq!(collapse(&layer, 1..at(2)), []);
    let all = [0..at(1), at(2)..at(4)];
    assert_eq!(collapse(&layer, 0..layer.len()), all);
    assert_eq!(collapse(&layer, 0..layer.len()), all, "again");
    assert_eq!(data(|f| layer.data(0..u64::MAX, f)), before);

    let (room, range) = congruent(4 * huge, huge);
    room.map(range, Source::Private(&layer, 0), Prot::READ | Prot::WRITE)
        .unwrap();
    let memory = Volatile::new(range.start(), range.len()).unwrap();
    for page in (0..4 * pages).filter(|page| *page != hole) {
        assert_eq!(memory.load_u64(page * page_size()), page as u64 + 1);
    }
    assert_eq!(mapped_huge(range.start()), 3 * huge);
    // A private page is one page, not a huge one.
    memory.store_u64(5 * page_size(), 77);
    let mut word = [0; 8];
    layer.read_at(&mut word, 5 * page_size() as u64).unwrap();
    assert_eq!(u64::from_ne_bytes(word), 6);
    assert_eq!(memory.load_u64(5 * page_size()), 77);
    assert_eq!(memory.load_u64(6 * page_size()), 7);
}

#[test]
fn threads_that_read_and_write_meanwhile_notice_nothing() {
    let Some(huge) = huge() else { return };
    let layer = layer(4 * huge, &[]);
    let (room, range) = congruent(4 * huge, huge);
    room.map(range, Source::Private(&layer, 0), Prot::READ | Prot::WRITE)
        .unwrap();
    let memory = Volatile::new(range.start(), range.len()).unwrap();
    let stop = AtomicBool::new(false);
    let pages = 4 * huge / page_size();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for page in 0..pages {
                    assert_eq!(memory.load_u64(page * page_size()), page as u64 + 1);
                }
            }
        });
        let writer = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                for page in (0..pages).step_by(7) {
                    let at = page * page_size() + 8;
                    assert_eq!(memory.load_u64(at), count - 1, "a store was lost");
                    memory.store_u64(at, count);
                }
            }
        });
        let mut made = false;
        let done = layer.collapse(0..layer.len(), |_| made = true);
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        writer.join().unwrap();
        done.unwrap();
        assert!(made);
    });
}
