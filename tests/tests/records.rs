//! A program whose faults are known: its records are exactly those, with what the page tree answered and at which depth, and they agree with the statistics.
//!
//! Recording is the whole process's, so each test is a process of its own.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cowspace::{
    Policy, Vmar, Vmo, VmoChildOptions, fault_stats, record_faults, stop_recording_faults,
};
use cowspace_tests::{RW, memory, page, unmap};
use fault_handler::{Answer, FaultKind, FaultRecord, OutcomeKind};
use host_memory::access::Volatile;
use host_memory::probe::Probe;
use nix::unistd::gettid;
use test_share::{give_way, share};

/// Pages that are there before anything is cloned; as many more of the VMO are not.
const PAGES: usize = 128;

/// Runs `works` in a process that runs nothing but the test of this name, if this machine has what it needs.
fn alone(test: &str, works: impl FnOnce()) {
    const ALONE: &str = "COWSPACE_TEST_ALONE";
    let support = Probe::get().write_tracking;
    if !support.is_yes() {
        println!("SKIP {test}: {support:?}");
        return;
    }
    if std::env::var_os(ALONE).is_some() {
        return works();
    }
    let alone = Command::new(std::env::current_exe().expect("a test has a file"))
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .status();
    assert!(alone.expect("it can be run").success());
}

/// The records of all faults that `f` causes.
fn recorded(f: impl FnOnce()) -> Vec<FaultRecord> {
    let before = fault_stats().unwrap_or_default();
    let records = record_faults(1 << 20).expect("traced mode works");
    f();
    stop_recording_faults();
    let stats = fault_stats().expect("traced mode works");
    let records: Vec<_> = records.iter().collect();
    assert_eq!(stats.records_dropped, 0);
    assert_eq!(stats.recorded - before.recorded, records.len() as u64);
    let noted: u64 = records.iter().map(|record| record.recording_ns).sum();
    assert!(stats.record_cost_ns - before.record_cost_ns >= noted);
    records
}

/// The number in word 0 of page `n` of the first VMO.
fn number(n: usize) -> u64 {
    n as u64 + 1
}

fn vmo() -> Vmo {
    let vmo = Vmo::create((2 * PAGES * page()) as u64).expect("a VMO");
    put(&vmo, 0..PAGES);
    vmo
}

fn put(vmo: &Vmo, pages: Range<usize>) {
    for n in pages {
        vmo.write(&number(n).to_ne_bytes(), (n * page()) as u64)
            .expect("bytes inside");
    }
}

fn clone(vmo: &Vmo) -> Vmo {
    vmo.create_child(VmoChildOptions::SNAPSHOT, 0, (2 * PAGES * page()) as u64)
        .expect("a clone")
}

fn map(vmo: &Vmo, policy: Policy) -> Volatile {
    let len = 2 * PAGES * page();
    let addr = Vmar::root_self()
        .map_with_policy(0, vmo, 0, len, RW, policy)
        .expect("a mapping");
    memory(addr, len)
}

fn load(bytes: &Volatile, n: usize) {
    let expected = if n < PAGES { number(n) } else { 0 };
    assert_eq!(bytes.load_u64(n * page()), expected, "page {n}");
}

fn store(bytes: &Volatile, n: usize) {
    bytes.store_u64(n * page(), number(n));
}

/// What a record says that is not a time: the page, what was missing, whether it was a write, the answer, the end, and the number of pages.
type Short = (usize, FaultKind, bool, Option<Answer>, OutcomeKind, u32);

fn short(bytes: &Volatile, record: &FaultRecord) -> Short {
    assert_eq!(record.page % page(), 0);
    (
        (record.page - bytes.addr()) / page(),
        record.kind,
        record.write,
        record.answer,
        record.outcome,
        record.pages,
    )
}

const READ: bool = false;
const WRITE: bool = true;

fn layer(depth: u32) -> Option<Answer> {
    Some(Answer::Layer { depth })
}

/// A VMO, and three clones, each of the one before: what a clone has written since it was made is one hidden node above the next.
fn chain() -> [Vmo; 4] {
    let first = vmo();
    let second = clone(&first);
    put(&second, 5..6);
    let third = clone(&second);
    put(&third, 6..7);
    let fourth = clone(&third);
    [first, second, third, fourth]
}

#[test]
fn each_fault_of_a_private_mapping_is_recorded() {
    use FaultKind::{Minor, Missing, WriteProtect};
    use OutcomeKind::{Continued, Copied, Unprotected, Zeroed};
    alone("each_fault_of_a_private_mapping_is_recorded", || {
        let [first, second, third, fourth] = chain();
        let bytes = map(&fourth, Policy::Traced);
        let records = recorded(|| {
            // A window of 16, of which it is the fifth; then nothing in it.
            load(&bytes, 20);
            load(&bytes, 16);
            load(&bytes, 31);
            // Of other layers than the one mapped.
            load(&bytes, 6);
            load(&bytes, 5);
            // Mapped, but to read; and not mapped.
            store(&bytes, 21);
            store(&bytes, 50);
            // Nobody's.
            load(&bytes, PAGES + 3);
            store(&bytes, PAGES + 9);
        });
        let got: Vec<Short> = records.iter().map(|record| short(&bytes, record)).collect();
        let expected = [
            (20, Minor, READ, layer(3), Continued, 16),
            (6, Minor, READ, layer(1), Copied, 1),
            (5, Minor, READ, layer(2), Copied, 1),
            (21, WriteProtect, WRITE, Some(Answer::Own), Unprotected, 1),
            (50, Minor, WRITE, layer(3), Copied, 1),
            (PAGES + 3, Missing, READ, Some(Answer::Zero), Zeroed, 1),
            (PAGES + 9, Missing, WRITE, Some(Answer::Zero), Copied, 1),
        ];
        assert_eq!(got, expected);
        for record in &records {
            assert_eq!(record.tid, Some(gettid().as_raw()));
            assert_eq!(record.attempts, 1);
            assert!(record.cpu.is_some() && record.handler_cpu.is_some());
        }

        // With nobody else left to see them the hidden nodes merge into the memory: the layers are its own.
        drop((first, second, third));
        let records = recorded(|| load(&bytes, 100));
        let got: Vec<Short> = records.iter().map(|record| short(&bytes, record)).collect();
        assert_eq!(got, [(100, Minor, READ, layer(0), Continued, 16)]);
        unmap(bytes.addr(), bytes.len());
    });
}

#[test]
fn each_fault_of_a_shared_mapping_is_recorded() {
    use FaultKind::Missing;
    use OutcomeKind::{Copied, Zeroed};
    alone("each_fault_of_a_shared_mapping_is_recorded", || {
        let [_first, _second, _third, fourth] = chain();
        let mapped = [(); 2].map(|()| map(&fourth, Policy::Traced));
        let records = recorded(|| {
            load(&mapped[0], 20);
            store(&mapped[0], 5);
            load(&mapped[0], 6);
            store(&mapped[0], PAGES + 3);
            // In the file by now: the kernel maps them by itself.
            load(&mapped[1], 5);
            load(&mapped[1], 20);
        });
        let got: Vec<Short> = records
            .iter()
            .map(|record| short(&mapped[0], record))
            .collect();
        let expected = [
            (20, Missing, READ, layer(3), Copied, 1),
            (5, Missing, WRITE, layer(2), Copied, 1),
            (6, Missing, READ, layer(1), Copied, 1),
            (PAGES + 3, Missing, WRITE, Some(Answer::Zero), Zeroed, 1),
        ];
        assert_eq!(got, expected);
        for bytes in mapped {
            unmap(bytes.addr(), bytes.len());
        }
    });
}

#[test]
fn stores_in_sequence_are_recorded_with_what_was_served_ahead() {
    alone(
        "stores_in_sequence_are_recorded_with_what_was_served_ahead",
        || {
            const MANY: usize = 1000;
            let len = MANY * page();
            let vmo = Vmo::create(len as u64).expect("a VMO");
            put(&vmo, 0..MANY);
            let _clone = clone(&vmo);
            let addr = Vmar::root_self()
                .map_with_policy(0, &vmo, 0, len, RW, Policy::Traced)
                .expect("a mapping");
            let bytes = memory(addr, len);
            // Not mapped: copied. Mapped to read: the protection is lifted.
            for (kind, outcome, pages) in [
                (FaultKind::Minor, OutcomeKind::Copied, 0..MANY / 2),
                (
                    FaultKind::WriteProtect,
                    OutcomeKind::Unprotected,
                    MANY / 2..MANY,
                ),
            ] {
                if kind == FaultKind::WriteProtect {
                    for n in pages.clone() {
                        assert_eq!(bytes.load_u64(n * page()), number(n));
                    }
                }
                let records = recorded(|| pages.clone().for_each(|n| store(&bytes, n)));
                let mut next = pages.start;
                for record in &records {
                    let (n, .., served) = short(&bytes, record);
                    assert_eq!(n, next, "{record:?}");
                    assert_eq!((record.kind, record.outcome), (kind, outcome));
                    next += served as usize;
                }
                // What is served ahead may go over the end, where the mapping does.
                assert!(next >= pages.end, "{next}");
                assert!(records.len() < pages.len() / 4, "{}", records.len());
            }
            unmap(addr, len);
        },
    );
}

#[test]
fn nothing_is_recorded_of_native_mappings() {
    alone("nothing_is_recorded_of_native_mappings", || {
        let [_first, _second, _third, fourth] = chain();
        let bytes = map(&fourth, Policy::Native);
        let records = recorded(|| {
            (0..2 * PAGES).for_each(|n| load(&bytes, n));
            (0..2 * PAGES).for_each(|n| store(&bytes, n));
        });
        assert_eq!(records, []);
        unmap(bytes.addr(), bytes.len());
    });
}

/// Threads store while clones are taken: their faults are parked, come too late or are put off, as it happens. Whatever becomes of them, each has its record. The memory is mapped once (a
/// private mapping, whose pages are protected), and then twice (shared ones, which are replaced).
#[test]
fn records_and_statistics_agree_while_clones_are_taken() {
    alone(
        "records_and_statistics_agree_while_clones_are_taken",
        || {
            let vmo = vmo();
            let _clone = clone(&vmo);
            let first = map(&vmo, Policy::Traced);
            while_clones_are_taken(&vmo, &first);
            let second = map(&vmo, Policy::Traced);
            while_clones_are_taken(&vmo, &second);
            unmap(first.addr(), first.len());
            unmap(second.addr(), second.len());
        },
    );
}

fn while_clones_are_taken(vmo: &Vmo, mapped: &Volatile) {
    let before = fault_stats().expect("traced mode works");
    let stop = AtomicBool::new(false);
    let rounds = [const { AtomicU64::new(0) }; 2];
    let mut tids = Vec::new();
    let records = recorded(|| {
        thread::scope(|scope| {
            let threads = [0, 1].map(|thread| {
                let (stop, round) = (&stop, &rounds[thread]);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let start = thread * PAGES;
                        (start..start + PAGES).for_each(|n| {
                            store(mapped, n);
                            give_way();
                        });
                        round.fetch_add(1, Ordering::Relaxed);
                    }
                    gettid().as_raw()
                })
            });
            for _ in 0..share(30).max(5) {
                // Each thread has stored to all of its pages since the clone before.
                for round in &rounds {
                    let before = round.load(Ordering::Relaxed);
                    while round.load(Ordering::Relaxed) == before {
                        thread::sleep(Duration::from_micros(100));
                    }
                }
                drop(clone(vmo));
            }
            stop.store(true, Ordering::Relaxed);
            tids.extend(threads.map(|thread| thread.join().expect("no panic")));
        });
    });
    let after = fault_stats().expect("traced mode works");
    let kinds = [
        (FaultKind::Missing, before.missing, after.missing),
        (FaultKind::Minor, before.minor, after.minor),
        (
            FaultKind::WriteProtect,
            before.write_protect,
            after.write_protect,
        ),
    ];
    for (kind, before, after) in kinds {
        for outcome in OutcomeKind::ALL {
            let counted = after.counts.of(outcome) - before.counts.of(outcome);
            let of_it = |record: &&FaultRecord| (record.kind, record.outcome) == (kind, outcome);
            let found = records.iter().filter(of_it).count() as u64;
            assert_eq!(found, counted, "{kind:?} {outcome:?}");
        }
    }
    let again = |record: &FaultRecord| u64::from(record.attempts) - 1;
    let put_off = after.put_off - before.put_off;
    assert_eq!(records.iter().map(again).sum::<u64>(), put_off);
    // Fewer than a store each, since they come in sequence.
    assert!(records.len() > 30 * 16, "{}", records.len());
    for record in &records {
        let outcome = record.outcome;
        assert_eq!(outcome.installed(), record.pages > 0, "{record:?}");
        // Not of the main thread, which touches nothing.
        assert!(record.tid.is_some_and(|tid| tids.contains(&tid)));
        if outcome.installed() {
            assert!(record.answer.is_some(), "{record:?}");
        }
        if matches!(outcome, OutcomeKind::Parked | OutcomeKind::Retried) {
            assert_eq!(record.answer, None);
        }
    }
}
