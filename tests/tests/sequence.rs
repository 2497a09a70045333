//! Stores in sequence are served some pages ahead. That saves faults, and is otherwise not to be noticed: not in the bytes, not in what counts as written.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cowspace::{Policy, Vmar, Vmo, VmoChildOptions, fault_stats};
use cowspace_tests::{RW, memory, page, unmap};
use host_memory::access::Volatile;
use test_share::{first_or_all, give_way, share};

const PAGES: usize = 3000;

/// A traced VMO of which word 0 of each page is 1, and a clone of it.
fn cloned(pages: usize) -> (Vmo, Volatile, Vmo) {
    let len = pages * page();
    let vmo = Vmo::create(len as u64).expect("a VMO");
    let addr = Vmar::root_self()
        .map_with_policy(0, &vmo, 0, len, RW, Policy::Traced)
        .expect("a mapping");
    let bytes = memory(addr, len);
    (0..pages).for_each(|n| bytes.store_u64(n * page(), 1));
    let clone = snapshot(&bytes);
    (vmo, bytes, clone)
}

fn snapshot(bytes: &Volatile) -> Vmo {
    Vmar::root_self()
        .create_vmo_child(VmoChildOptions::SNAPSHOT, bytes.addr(), bytes.len())
        .expect("a clone")
}

fn words(vmo: &Vmo, pages: usize) -> Vec<u64> {
    let mut bytes = vec![0; pages * page()];
    vmo.read(&mut bytes, 0).expect("bytes inside");
    let word = |page: &[u8]| u64::from_ne_bytes(page[..8].try_into().expect("8 bytes"));
    bytes.chunks(page()).map(word).collect()
}

fn faults() -> Option<u64> {
    fault_stats().map(|stats| stats.all.counts.total())
}

/// One test, because what it counts is the whole process's.
#[test]
fn stores_in_sequence_take_few_faults_and_count_exactly() {
    let lengths = [1501, 17, 1, 40, 500];
    for &written in first_or_all(2, &lengths) {
        let (vmo, bytes, clone) = cloned(PAGES);
        let before = faults();
        // Not from the beginning; then a gap; then a little more.
        let sequence = 5..5 + written;
        let more = written + 900..written + 910;
        for n in sequence.clone().chain(more.clone()) {
            bytes.store_u64(n * page(), 2);
        }
        if let (Some(before), Some(after)) = (before, faults())
            && written > 500
        {
            let taken = (after - before) as usize;
            assert!(taken < written / 4, "{taken} faults for {written} pages");
        }
        let stored = |n: usize| sequence.contains(&n) || more.contains(&n);
        let expected = ((written + more.len()) * page()) as u64;
        let private = |vmo: &Vmo| vmo.info().expect("info").populated_private_bytes;
        assert_eq!((private(&vmo), private(&clone)), (expected, expected));

        // What was served ahead and not stored to is no change of the next clone's, and no store to it is lost afterwards.
        let next = snapshot(&bytes);
        assert_eq!((private(&vmo), private(&clone)), (0, expected));
        let behind = 5 + written;
        bytes.store_u64(behind * page(), 3);
        assert_eq!(private(&vmo), page() as u64);
        for n in 0..PAGES {
            let now = if n == behind {
                3
            } else {
                1 + u64::from(stored(n))
            };
            assert_eq!(bytes.load_u64(n * page()), now);
        }
        let of_next = words(&next, PAGES);
        assert!((0..PAGES).all(|n| of_next[n] == 1 + u64::from(stored(n))));
        assert!(words(&clone, PAGES).iter().all(|word| *word == 1));

        // The same without the mapping.
        unmap(bytes.addr(), bytes.len());
        assert_eq!(private(&vmo), page() as u64);
        assert_eq!(words(&vmo, PAGES)[behind], 3);
    }
    clones_of_a_sequence_are_prefixes();
    a_sequence_goes_over_the_end_of_a_file();
}

/// A memory file ends at 2^62 bytes, where the next one goes on: also for a few pages of the one among many that are mapped from elsewhere.
fn a_sequence_goes_over_the_end_of_a_file() {
    let (pages, few, end) = (300, 196..208, 203);
    let len = pages * page();
    let first = (1_u64 << 62) - (end * page()) as u64;
    let bytes_of = |n: usize| vec![(n % 250) as u8 + 1; page()];
    let snapshot = |vmo: &Vmo, offset| {
        vmo.create_child(VmoChildOptions::SNAPSHOT, offset, len as u64)
            .expect("a clone")
    };
    let root = Vmo::create(1 << 63).expect("a VMO");
    for n in few.clone() {
        let at = first + (n * page()) as u64;
        root.write(&bytes_of(n), at).expect("bytes inside");
    }
    let most = snapshot(&root, first);
    for n in (0..pages).filter(|n| !few.contains(n)) {
        let at = (n * page()) as u64;
        most.write(&bytes_of(n), at).expect("bytes inside");
    }
    let all = snapshot(&most, 0);
    let addr = Vmar::root_self()
        .map_with_policy(0, &all, 0, len, RW, Policy::Traced)
        .expect("a mapping");
    let bytes = memory(addr, len);
    (0..pages).for_each(|n| bytes.store_u64(n * page(), 0));
    for n in 0..pages {
        let mut seen = vec![0; page()];
        bytes.read(n * page(), &mut seen);
        assert_eq!(seen[8..], bytes_of(n)[8..], "page {n}");
    }
    unmap(addr, len);
}

/// A thread stores to all pages in order, over and over, each time a number one higher: a clone has the higher number up to some page, and the lower one from there on.
fn clones_of_a_sequence_are_prefixes() {
    let pages = 1000;
    let (_vmo, bytes, _clone) = cloned(pages);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let bytes = &bytes;
        scope.spawn(|| {
            for number in 2_u64.. {
                for n in 0..pages {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    bytes.store_u64(n * page(), number);
                    give_way();
                }
            }
        });
        for _ in 0..share(300) {
            let words = words(&snapshot(bytes), pages);
            let (first, last) = (words[0], words[pages - 1]);
            let higher = words.iter().take_while(|word| **word == first).count();
            let right = words[higher..].iter().all(|word| *word == last);
            if !right || first.wrapping_sub(last) > 1 {
                stop.store(true, Ordering::Relaxed);
                panic!("{words:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    unmap(bytes.addr(), bytes.len());
}
