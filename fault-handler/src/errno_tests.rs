//! The table of `docs/faults.md`, row by row: ioctl × errno → answer. The kernel is a stand-in that fails by script; what each errno means is tested where it is decided
//! (`host_memory::uffd`).

use std::sync::Arc;

use host_memory::memfd::MemFd;
use host_memory::page::{HostRange, page_size};
use host_memory::uffd::{FaultKind, Protect, UffdError, Wake};
use nix::errno::Errno;

use crate::fault::{Fault, Outcome, OutcomeKind};
use crate::install::Installer;
use crate::serve::ATTEMPTS;
use crate::stats::Stats;
use crate::testing::Call::{Continue, Copy, Poison, ReadEmpty, Unprotect, Zeropage};
use crate::testing::{BELL, Call, Fake, aborts, spawn};

const AGAIN: Result<(), UffdError> = Err(UffdError::Again { done: 0 });
const EXISTS: Result<(), UffdError> = Err(UffdError::Exists);
const GONE: Result<(), UffdError> = Err(UffdError::Gone);
const NO_MEMORY: Result<(), UffdError> = Err(UffdError::NoMemory);
const NO_PAGE: Result<(), UffdError> = Err(UffdError::NoPage);
const EINVAL: Result<(), UffdError> = Err(UffdError::Fatal(Errno::EINVAL));
/// The page that faults.
const PAGE: usize = 100;

/// One fault of [`PAGE`], answered by `answer`: its outcome, and the ioctls (empty reads left out).
fn one(
    kind: FaultKind,
    script: impl IntoIterator<Item = Result<(), UffdError>>,
    answer: impl Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
) -> (OutcomeKind, Vec<Call>) {
    let fake = Fake::new(script);
    let handler = spawn(&fake, answer);
    fake.fault(kind, [PAGE]);
    while handler.stats().all.counts.total() == 0 {}
    let stats = handler.stop();
    assert_eq!(stats.all.counts.total(), 1, "one fault, one outcome");
    let ended_so = |outcome: &OutcomeKind| stats.all.counts.of(*outcome) == 1;
    let outcome = OutcomeKind::ALL.into_iter().find(ended_so).unwrap();
    (outcome, fake.ioctls())
}

fn copy(_: &Fault, install: Installer<'_>) -> Outcome {
    install.copy_zeros(1, Protect::Write)
}

fn zero(_: &Fault, install: Installer<'_>) -> Outcome {
    install.zero()
}

fn continue_page(fault: &Fault, install: Installer<'_>) -> Outcome {
    install.continue_(
        HostRange::new(fault.page, page_size()).unwrap(),
        Protect::Write,
    )
}

/// Two pages before the faulting one, and three from it on.
fn continue_window(fault: &Fault, install: Installer<'_>) -> Outcome {
    let window = HostRange::new(fault.page - 2 * page_size(), 5 * page_size()).unwrap();
    install.continue_(window, Protect::None)
}

fn unprotect(_: &Fault, install: Installer<'_>) -> Outcome {
    install.unprotect(1)
}

fn poison(_: &Fault, install: Installer<'_>) -> Outcome {
    install.poison("the test says so")
}

const COPY: Call = Copy(PAGE, 1, Protect::Write);
/// What `zero` falls back to.
const COPY_ZEROS: Call = Copy(PAGE, 1, Protect::None);
const WAKE: Call = Call::Wake(PAGE);

#[test]
fn copy_ok() {
    assert_eq!(
        one(FaultKind::Missing, [], copy),
        (OutcomeKind::Copied, vec![COPY])
    );
}

#[test]
fn copy_eexist_wakes() {
    let wakes = (OutcomeKind::Exists, vec![COPY, WAKE]);
    assert_eq!(one(FaultKind::Missing, [EXISTS], copy), wakes);
}

#[test]
fn copy_eagain_reads_events_and_keeps_the_protection() {
    let fake = Fake::new([AGAIN, AGAIN, AGAIN]);
    let handler = spawn(&fake, copy);
    let records = handler.record(1);
    fake.fault(FaultKind::Missing, [PAGE]);
    assert_eq!(records.recv().unwrap().outcome, OutcomeKind::Copied);
    let stats = handler.stop();
    assert_eq!(stats.put_off, 3);
    let calls = fake.calls();
    assert_eq!(calls.iter().filter(|call| **call == COPY).count(), 4);
    // Between two attempts everything was read.
    let from_first = calls.iter().skip_while(|call| **call != COPY);
    let attempts = Vec::from_iter(from_first.take(7).copied());
    assert_eq!(
        attempts,
        [COPY, ReadEmpty, COPY, ReadEmpty, COPY, ReadEmpty, COPY]
    );
}

#[test]
fn copy_gone_drops() {
    let drops = (OutcomeKind::Gone, vec![COPY, WAKE]);
    assert_eq!(one(FaultKind::Missing, [GONE], copy), drops);
}

/// As often as a fault may fail, and then POISON.
fn attempts_and_poison(call: Call) -> (OutcomeKind, Vec<Call>) {
    let mut calls = vec![call; ATTEMPTS as usize];
    calls.push(Poison(PAGE));
    (OutcomeKind::Poisoned, calls)
}

fn for_ever(result: Result<(), UffdError>) -> impl Iterator<Item = Result<(), UffdError>> {
    std::iter::repeat_n(result, ATTEMPTS as usize)
}

#[test]
fn copy_enomem_may_pass() {
    let passes = (OutcomeKind::Copied, vec![COPY, COPY, COPY]);
    assert_eq!(
        one(FaultKind::Missing, [NO_MEMORY, NO_MEMORY], copy),
        passes
    );
}

#[test]
fn copy_enomem_that_stays_poisons() {
    assert_eq!(
        one(FaultKind::Missing, for_ever(NO_MEMORY), copy),
        attempts_and_poison(COPY)
    );
}

#[test]
fn copy_efault_that_stays_poisons() {
    assert_eq!(
        one(FaultKind::Missing, for_ever(NO_PAGE), copy),
        attempts_and_poison(COPY)
    );
}

#[test]
fn copy_other_poisons() {
    let poisons = (OutcomeKind::Poisoned, vec![COPY, Poison(PAGE)]);
    assert_eq!(one(FaultKind::Missing, [EINVAL], copy), poisons);
}

fn copy_several(_: &Fault, install: Installer<'_>) -> Outcome {
    install.copy_zeros(3, Protect::Write)
}

const SEVERAL: Call = Copy(PAGE, 3, Protect::Write);
/// Something of it is done: the first page at least.
const PART: Result<(), UffdError> = Err(UffdError::Again { done: 1 });

#[test]
fn copy_of_several_ok() {
    let copied = (OutcomeKind::Copied, vec![SEVERAL]);
    assert_eq!(one(FaultKind::Missing, [], copy_several), copied);
}

#[test]
fn copy_of_several_in_part_is_enough() {
    let copied = (OutcomeKind::Copied, vec![SEVERAL]);
    assert_eq!(one(FaultKind::Missing, [PART], copy_several), copied);
}

#[test]
fn copy_of_several_eexist_wakes() {
    let wakes = (OutcomeKind::Exists, vec![SEVERAL, WAKE]);
    assert_eq!(one(FaultKind::Missing, [EXISTS], copy_several), wakes);
}

#[test]
fn copy_of_several_eagain_is_resolved_anew() {
    let again = (OutcomeKind::Copied, vec![SEVERAL, SEVERAL]);
    assert_eq!(one(FaultKind::Missing, [AGAIN], copy_several), again);
}

/// Then the answer to the one page is that to the fault.
#[test]
fn copy_of_several_that_cannot_be_is_the_page_alone() {
    for refused in [GONE, NO_MEMORY, NO_PAGE, EINVAL] {
        let copied = (OutcomeKind::Copied, vec![SEVERAL, COPY]);
        assert_eq!(one(FaultKind::Missing, [refused], copy_several), copied);
        let wakes = (OutcomeKind::Exists, vec![SEVERAL, COPY, WAKE]);
        let exists = [refused, EXISTS];
        assert_eq!(one(FaultKind::Missing, exists, copy_several), wakes);
        let again = (OutcomeKind::Copied, vec![SEVERAL, COPY, SEVERAL]);
        let changes = [refused, AGAIN];
        assert_eq!(one(FaultKind::Missing, changes, copy_several), again);
    }
    let drops = (OutcomeKind::Gone, vec![SEVERAL, COPY, WAKE]);
    assert_eq!(one(FaultKind::Missing, [GONE, GONE], copy_several), drops);
    let poisons = (OutcomeKind::Poisoned, vec![SEVERAL, COPY, Poison(PAGE)]);
    let mistake = [EINVAL, EINVAL];
    assert_eq!(one(FaultKind::Missing, mistake, copy_several), poisons);
}

/// A layer has two pages: so many are copied from there on, but one at least.
#[test]
fn copy_ends_where_the_layer_ends() {
    let file = MemFd::create("errno-test", 2 * page_size() as u64).unwrap();
    let layer = Arc::new(file.seal().unwrap());
    for (page, wanted, copied) in [(0, 1, 1), (0, 2, 2), (1, 3, 1), (0, 100, 2), (2, 3, 1)] {
        let layer = layer.clone();
        let answer = move |_: &Fault, install: Installer<'_>| {
            install.copy_layer(&layer, page * page_size() as u64, wanted, Protect::None)
        };
        let calls = vec![Copy(PAGE, copied, Protect::None)];
        let copied = (OutcomeKind::Copied, calls);
        assert_eq!(one(FaultKind::Missing, [], answer), copied);
    }
}

#[test]
fn zeropage_ok() {
    let zeroed = (OutcomeKind::Zeroed, vec![Zeropage(PAGE)]);
    assert_eq!(one(FaultKind::Missing, [], zero), zeroed);
}

#[test]
fn zeropage_einval_copies_zeros() {
    let copied = (OutcomeKind::Zeroed, vec![Zeropage(PAGE), COPY_ZEROS]);
    assert_eq!(one(FaultKind::Missing, [EINVAL], zero), copied);
}

#[test]
fn zeropage_eexist_copies_over_a_marker() {
    let copied = (OutcomeKind::Zeroed, vec![Zeropage(PAGE), COPY_ZEROS]);
    assert_eq!(one(FaultKind::Missing, [EXISTS], zero), copied);
}

#[test]
fn zeropage_eexist_of_a_page_wakes() {
    let wakes = (OutcomeKind::Exists, vec![Zeropage(PAGE), COPY_ZEROS, WAKE]);
    assert_eq!(one(FaultKind::Missing, [EXISTS, EXISTS], zero), wakes);
}

#[test]
fn zeropage_eagain_is_resolved_anew() {
    let again = (OutcomeKind::Zeroed, vec![Zeropage(PAGE), Zeropage(PAGE)]);
    assert_eq!(one(FaultKind::Missing, [AGAIN], zero), again);
}

#[test]
fn zeropage_gone_drops() {
    let drops = (OutcomeKind::Gone, vec![Zeropage(PAGE), WAKE]);
    assert_eq!(one(FaultKind::Missing, [GONE], zero), drops);
}

#[test]
fn zeropage_enomem_that_stays_poisons() {
    let poisons = attempts_and_poison(Zeropage(PAGE));
    assert_eq!(one(FaultKind::Missing, for_ever(NO_MEMORY), zero), poisons);
}

const CONTINUE: Call = Continue(PAGE, 1, Protect::Write);
const AHEAD: Call = Continue(PAGE, 3, Protect::None);
const ALONE: Call = Continue(PAGE, 1, Protect::None);
const BEHIND: Call = Continue(PAGE - 2, 2, Protect::None);

#[test]
fn continue_ok() {
    let mapped = (OutcomeKind::Continued, vec![CONTINUE]);
    assert_eq!(one(FaultKind::Minor, [], continue_page), mapped);
}

#[test]
fn continue_window_from_the_page_on() {
    let mapped = (OutcomeKind::Continued, vec![AHEAD, BEHIND]);
    assert_eq!(one(FaultKind::Minor, [], continue_window), mapped);
}

#[test]
fn continue_window_in_part_is_enough() {
    let part = Err(UffdError::Again { done: page_size() });
    let mapped = (OutcomeKind::Continued, vec![AHEAD, BEHIND]);
    assert_eq!(one(FaultKind::Minor, [part], continue_window), mapped);
}

#[test]
fn continue_window_behind_may_fail() {
    let mapped = (OutcomeKind::Continued, vec![AHEAD, BEHIND]);
    assert_eq!(
        one(FaultKind::Minor, [Ok(()), EXISTS], continue_window),
        mapped
    );
}

#[test]
fn continue_window_that_cannot_be_is_the_page_alone() {
    let mapped = (OutcomeKind::Continued, vec![AHEAD, ALONE, BEHIND]);
    for refused in [GONE, NO_MEMORY, EINVAL] {
        assert_eq!(one(FaultKind::Minor, [refused], continue_window), mapped);
    }
}

#[test]
fn continue_window_elsewhere_is_the_page_alone() {
    let elsewhere = |fault: &Fault, install: Installer<'_>| {
        let window = HostRange::new(fault.page + page_size(), page_size()).unwrap();
        install.continue_(window, Protect::None)
    };
    let mapped = (OutcomeKind::Continued, vec![ALONE]);
    assert_eq!(one(FaultKind::Minor, [], elsewhere), mapped);
}

#[test]
fn continue_eexist_wakes() {
    let wakes = (OutcomeKind::Exists, vec![CONTINUE, WAKE]);
    assert_eq!(one(FaultKind::Minor, [EXISTS], continue_page), wakes);
    let wakes = (OutcomeKind::Exists, vec![AHEAD, WAKE]);
    assert_eq!(one(FaultKind::Minor, [EXISTS], continue_window), wakes);
}

#[test]
fn continue_eagain_is_resolved_anew() {
    let again = (OutcomeKind::Continued, vec![CONTINUE, CONTINUE]);
    assert_eq!(one(FaultKind::Minor, [AGAIN], continue_page), again);
}

#[test]
fn continue_gone_drops() {
    let drops = (OutcomeKind::Gone, vec![CONTINUE, WAKE]);
    assert_eq!(one(FaultKind::Minor, [GONE], continue_page), drops);
}

#[test]
fn continue_over_a_hole_asks_the_resolver_again() {
    let changes_its_mind = |fault: &Fault, install: Installer<'_>| {
        static ASKED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        if ASKED.swap(true, std::sync::atomic::Ordering::Relaxed) {
            copy(fault, install)
        } else {
            continue_page(fault, install)
        }
    };
    let copied = (OutcomeKind::Copied, vec![CONTINUE, COPY]);
    assert_eq!(one(FaultKind::Minor, [NO_PAGE], changes_its_mind), copied);
}

#[test]
fn continue_over_a_hole_that_stays_poisons() {
    let poisons = attempts_and_poison(CONTINUE);
    assert_eq!(
        one(FaultKind::Minor, for_ever(NO_PAGE), continue_page),
        poisons
    );
}

#[test]
fn continue_enomem_that_stays_poisons() {
    let poisons = attempts_and_poison(CONTINUE);
    assert_eq!(
        one(FaultKind::Minor, for_ever(NO_MEMORY), continue_page),
        poisons
    );
}

#[test]
fn continue_other_poisons() {
    let poisons = (OutcomeKind::Poisoned, vec![CONTINUE, Poison(PAGE)]);
    let damaged = Err(UffdError::Fatal(Errno::EIO));
    assert_eq!(one(FaultKind::Minor, [damaged], continue_page), poisons);
}

const UNPROTECT: Call = Unprotect(PAGE, 1, Wake::Wake);

#[test]
fn unprotect_ok() {
    let unprotected = (OutcomeKind::Unprotected, vec![UNPROTECT]);
    assert_eq!(one(FaultKind::WriteProtect, [], unprotect), unprotected);
}

#[test]
fn unprotect_eagain_is_resolved_anew() {
    let again = (OutcomeKind::Unprotected, vec![UNPROTECT, UNPROTECT]);
    assert_eq!(one(FaultKind::WriteProtect, [AGAIN], unprotect), again);
}

#[test]
fn unprotect_gone_drops() {
    let drops = (OutcomeKind::Gone, vec![UNPROTECT, WAKE]);
    assert_eq!(one(FaultKind::WriteProtect, [GONE], unprotect), drops);
}

fn unprotect_several(_: &Fault, install: Installer<'_>) -> Outcome {
    install.unprotect(3)
}

const UNPROTECT_SEVERAL: Call = Unprotect(PAGE, 3, Wake::Wake);

#[test]
fn unprotect_of_several_ok() {
    let unprotected = (OutcomeKind::Unprotected, vec![UNPROTECT_SEVERAL]);
    assert_eq!(
        one(FaultKind::WriteProtect, [], unprotect_several),
        unprotected
    );
}

#[test]
fn unprotect_of_several_eagain_is_resolved_anew() {
    let calls = vec![UNPROTECT_SEVERAL, UNPROTECT_SEVERAL];
    let again = (OutcomeKind::Unprotected, calls);
    assert_eq!(
        one(FaultKind::WriteProtect, [AGAIN], unprotect_several),
        again
    );
}

#[test]
fn unprotect_of_several_that_cannot_be_is_the_page_alone() {
    for refused in [GONE, EINVAL] {
        let calls = vec![UNPROTECT_SEVERAL, UNPROTECT];
        let unprotected = (OutcomeKind::Unprotected, calls);
        assert_eq!(
            one(FaultKind::WriteProtect, [refused], unprotect_several),
            unprotected
        );
    }
    let drops = (OutcomeKind::Gone, vec![UNPROTECT_SEVERAL, UNPROTECT, WAKE]);
    assert_eq!(
        one(FaultKind::WriteProtect, [GONE, GONE], unprotect_several),
        drops
    );
}

/// One fault that ends the process.
fn one_aborts(
    name: &str,
    reason: &str,
    kind: FaultKind,
    script: impl IntoIterator<Item = Result<(), UffdError>>,
    answer: impl Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
) {
    aborts(&format!("errno_tests::{name}"), reason, || {
        one(kind, script, answer);
    });
}

#[test]
fn unprotect_other_aborts() {
    one_aborts(
        "unprotect_other_aborts",
        "the kernel refuses to install a page, and the page at 0x",
        FaultKind::WriteProtect,
        [EINVAL, EINVAL],
        unprotect,
    );
}

#[test]
fn poison_ok() {
    let poisoned = (OutcomeKind::Poisoned, vec![Poison(PAGE)]);
    assert_eq!(one(FaultKind::Missing, [], poison), poisoned);
}

#[test]
fn poison_eexist_wakes() {
    let wakes = (OutcomeKind::Exists, vec![Poison(PAGE), WAKE]);
    assert_eq!(one(FaultKind::Missing, [EXISTS], poison), wakes);
}

#[test]
fn poison_eexist_twice_lifts_a_marker() {
    let fake = Fake::new([EXISTS, EXISTS]);
    let handler = spawn(&fake, poison);
    let records = handler.record(2);
    fake.fault(FaultKind::Missing, [PAGE]);
    assert_eq!(records.recv().unwrap().outcome, OutcomeKind::Exists);
    fake.fault(FaultKind::Missing, [PAGE]);
    assert_eq!(records.recv().unwrap().outcome, OutcomeKind::Poisoned);
    handler.stop();
    let lift = Unprotect(PAGE, 1, Wake::DontWake);
    assert_eq!(
        fake.ioctls(),
        [Poison(PAGE), WAKE, Poison(PAGE), lift, Poison(PAGE)]
    );
}

#[test]
fn poison_eexist_of_a_protected_page_aborts() {
    one_aborts(
        "poison_eexist_of_a_protected_page_aborts",
        "the write-protected page at 0x",
        FaultKind::WriteProtect,
        [EXISTS],
        poison,
    );
}

#[test]
fn poison_eagain_is_resolved_anew() {
    let again = (OutcomeKind::Poisoned, vec![Poison(PAGE), Poison(PAGE)]);
    assert_eq!(one(FaultKind::Missing, [AGAIN], poison), again);
}

#[test]
fn poison_gone_drops() {
    let drops = (OutcomeKind::Gone, vec![Poison(PAGE), WAKE]);
    assert_eq!(one(FaultKind::Missing, [GONE], poison), drops);
}

#[test]
fn poison_past_the_end_of_the_file_wakes() {
    let wakes = (OutcomeKind::Gone, vec![Poison(PAGE), WAKE]);
    assert_eq!(one(FaultKind::Missing, [NO_PAGE], poison), wakes);
}

#[test]
fn poison_enomem_may_pass() {
    let passes = (OutcomeKind::Poisoned, vec![Poison(PAGE), Poison(PAGE)]);
    assert_eq!(one(FaultKind::Missing, [NO_MEMORY], poison), passes);
}

#[test]
fn poison_enomem_that_stays_aborts() {
    one_aborts(
        "poison_enomem_that_stays_aborts",
        "and no memory to poison a page",
        FaultKind::Missing,
        for_ever(NO_MEMORY).chain([NO_MEMORY]),
        copy,
    );
}

#[test]
fn poison_that_the_kernel_lacks_aborts() {
    one_aborts(
        "poison_that_the_kernel_lacks_aborts",
        "the test says so, and the page at 0x",
        FaultKind::Missing,
        [Err(UffdError::Fatal(Errno::EOPNOTSUPP))],
        poison,
    );
}

#[test]
fn wake_that_fails_aborts() {
    aborts(
        "errno_tests::wake_that_fails_aborts",
        "cannot wake 0x",
        || {
            let fake = Fake::new([EXISTS]);
            fake.fail_wakes(UffdError::Fatal(Errno::EINVAL));
            let handler = spawn(&fake, copy);
            let records = handler.record(1);
            fake.fault(FaultKind::Missing, [PAGE]);
            let _ = records.recv();
        },
    );
}

#[test]
fn read_that_fails_aborts() {
    aborts(
        "errno_tests::read_that_fails_aborts",
        "cannot read faults: ",
        || {
            let fake = Fake::new([]);
            let handler = spawn(&fake, copy);
            fake.fail_reads();
            // Answered only if the read did not end the process.
            handler.stats();
        },
    );
}

#[test]
fn a_panic_of_the_resolver_aborts() {
    let name = "a_panic_of_the_resolver_aborts";
    one_aborts(
        name,
        "panicked: the resolver's own",
        FaultKind::Missing,
        [],
        |_, _| panic!("the resolver's own"),
    );
}

#[test]
fn park_only_forgets() {
    let forgets = (OutcomeKind::Parked, vec![]);
    assert_eq!(
        one(FaultKind::Missing, [], |_, install| install.park()),
        forgets
    );
}

#[test]
fn retry_only_wakes() {
    let wakes = (OutcomeKind::Retried, vec![WAKE]);
    assert_eq!(
        one(FaultKind::Minor, [], |_, install| install.retry()),
        wakes
    );
}

/// Six faults read together, none of which can be installed: the ring holds four under test, the others are let go; then all that are in the ring succeed.
#[test]
fn a_full_ring_wakes() {
    let fake = Fake::new([AGAIN; 6]);
    let handler = spawn(&fake, copy);
    let records = handler.record(6);
    fake.fault(FaultKind::Missing, PAGE..PAGE + 6);
    let outcomes: Vec<_> = records
        .iter()
        .take(6)
        .map(|record| record.outcome)
        .collect();
    let Stats { all, put_off, .. } = handler.stop();
    assert_eq!(outcomes[..2], [OutcomeKind::Retried; 2]);
    assert_eq!(outcomes[2..], [OutcomeKind::Copied; 4]);
    assert_eq!((all.counts.retried, all.counts.copied, put_off), (2, 4, 4));
    assert!(fake.calls().contains(&Call::Wake(PAGE + 4)));
    assert!(fake.calls().contains(&Call::Wake(PAGE + 5)));
}

/// A fault that never gets further does not keep the handler from stopping, and its thread is let go.
#[test]
fn stop_lets_go_of_the_ring() {
    let fake = Fake::new(std::iter::repeat_n(AGAIN, 1_000_000));
    let handler = spawn(&fake, copy);
    fake.fault(FaultKind::Missing, [PAGE]);
    while handler.stats().put_off == 0 {}
    let stats = handler.stop();
    assert_eq!((stats.all.counts.retried, stats.all.counts.total()), (1, 1));
    assert_eq!(fake.ioctls().last(), Some(&WAKE));
}

#[test]
fn more_than_a_batch_is_read() {
    let fake = Fake::new([]);
    let handler = spawn(&fake, copy);
    let records = handler.record(100);
    fake.fault(FaultKind::Missing, PAGE..PAGE + 100);
    let pages: Vec<_> = records
        .iter()
        .take(100)
        .map(|record| record.page / page_size())
        .collect();
    assert_eq!(pages, Vec::from_iter(PAGE..PAGE + 100));
    assert_eq!(handler.stop().missing.counts.copied, 100);
}

#[test]
fn records_beyond_the_capacity_are_counted() {
    let fake = Fake::new([]);
    let handler = spawn(&fake, copy);
    let records = handler.record(1);
    fake.fault(FaultKind::Missing, PAGE..PAGE + 3);
    while handler.stats().all.counts.total() < 3 {}
    assert_eq!(handler.stop().records_dropped, 2);
    assert_eq!(records.iter().count(), 1);
}

/// So the place that is to be filled is never the one that somebody has begun to take from.
#[test]
fn one_place_of_the_recorders_channel_stays_empty() {
    let fake = Fake::new([]);
    let handler = spawn(&fake, copy);
    let (recorder, records) = crossbeam_channel::bounded(3);
    handler.record_to(recorder);
    for ended in [5, 10] {
        fake.fault(FaultKind::Missing, PAGE..PAGE + 5);
        while handler.stats().all.counts.total() < ended {}
        assert_eq!(records.try_iter().count(), 2);
    }
    let stats = handler.stop();
    assert_eq!((stats.recorded, stats.records_dropped), (4, 6));
}

#[test]
fn stop_without_a_fault() {
    let fake = Fake::new([]);
    let handler = spawn(&fake, copy);
    assert_ne!(handler.tid(), nix::unistd::gettid().as_raw());
    assert_eq!(handler.stop(), Stats::default());
    drop(spawn(&fake, copy));
}

/// With nothing to try again the handler waits in the read itself: no read is in vain.
#[test]
fn a_fault_is_one_read() {
    let fake = Fake::new([]);
    let handler = spawn(&fake, copy);
    let records = handler.record(1);
    for page in PAGE..PAGE + 3 {
        fake.fault(FaultKind::Missing, [page]);
        records.recv().unwrap();
    }
    handler.stop();
    // Its waking is a call of its own only where it is recorded.
    let calls = (PAGE..PAGE + 3).flat_map(|page| [Copy(page, 1, Protect::Write), Call::Wake(page)]);
    assert_eq!(fake.calls(), Vec::from_iter(calls));
}

/// A fault is announced and vanishes when its thread gets a signal. A read that waited for it would hold up what is in the ring.
#[test]
fn a_fault_that_vanishes_does_not_hold_up_the_ring() {
    let fake = Fake::new([AGAIN; 100]);
    let handler = spawn(&fake, copy);
    let records = handler.record(1);
    fake.fault(FaultKind::Missing, [PAGE]);
    while records.is_empty() {
        fake.vanish();
    }
    assert_eq!(records.recv().unwrap().outcome, OutcomeKind::Copied);
    assert_eq!(handler.stop().put_off, 100);
}

#[test]
fn bell_is_no_fault() {
    let fake = Fake::new([]);
    let handler = spawn(&fake, |_, _| panic!("the bell is not the resolver's"));
    let records = handler.record(1);
    assert_eq!(handler.stats(), Stats::default());
    assert_eq!(handler.stop(), Stats::default());
    assert_eq!(records.iter().count(), 0);
    assert_eq!(fake.calls(), []);
}

#[test]
fn bell_eagain_and_enomem_are_tried_again() {
    let fake = Fake::new([]);
    let handler = spawn(&fake, copy);
    let more_than_a_fault = 3 * ATTEMPTS as usize;
    for result in [AGAIN, NO_MEMORY] {
        fake.script_bell(std::iter::repeat_n(result, more_than_a_fault));
        assert_eq!(handler.stats(), Stats::default());
        assert_eq!(fake.bell_script_left(), 0);
    }
    // Faults are served all the while.
    fake.script_bell(std::iter::repeat_n(NO_MEMORY, more_than_a_fault));
    fake.fault(FaultKind::Missing, [PAGE]);
    let stats = handler.stop();
    assert_eq!((stats.all.counts.copied, stats.put_off), (1, 0));
}

#[test]
fn bell_eexist_wakes() {
    for result in [EXISTS, GONE] {
        let fake = Fake::new([]);
        let handler = spawn(&fake, copy);
        fake.script_bell([result]);
        handler.stats();
        assert_eq!(fake.ioctls(), [Call::Wake(BELL)]);
    }
}

#[test]
fn bell_other_aborts() {
    let name = "errno_tests::bell_other_aborts";
    aborts(name, "cannot answer the bell: ", || {
        let fake = Fake::new([]);
        let handler = spawn(&fake, copy);
        fake.script_bell([EINVAL]);
        handler.stats();
    });
}

/// More of them than fit into the channel, with faults in the ring and without.
#[test]
fn every_request_is_answered() {
    let again = std::iter::repeat_n([AGAIN, AGAIN, Ok(())], 1_000).flatten();
    let fake = Fake::new(again);
    let handler = spawn(&fake, copy);
    std::thread::scope(|scope| {
        for asker in 0..8 {
            let (handler, fake) = (&handler, &fake);
            scope.spawn(move || {
                for round in 0..50 {
                    fake.fault(FaultKind::Missing, [PAGE + asker]);
                    if round % 10 == 0 {
                        handler.record(1);
                    } else {
                        handler.stats();
                    }
                }
            });
        }
    });
    // All have been read when the last is: but those in the ring may be let go as it stops.
    let counts = handler.stop().all.counts;
    assert_eq!(counts.total(), 8 * 50);
}
