//! That a record says what was, field by field. The kernel is a stand-in that fails by script; what needs a real one is in `tests/real.rs`.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use crossbeam_channel::Receiver;
use host_memory::page::{HostRange, page_size};
use host_memory::uffd::{FaultKind, Protect, UffdError};

use crate::clock::monotonic_ns;
use crate::fault::{Answer, Fault, Outcome, OutcomeKind};
use crate::install::Installer;
use crate::record::FaultRecord;
use crate::serve::ATTEMPTS;
use crate::testing::Call::{Copy, Wake, WakeSeveral};
use crate::testing::{Fake, spawn};

const AGAIN: Result<(), UffdError> = Err(UffdError::Again { done: 0 });
const EXISTS: Result<(), UffdError> = Err(UffdError::Exists);
const GONE: Result<(), UffdError> = Err(UffdError::Gone);
const NO_MEMORY: Result<(), UffdError> = Err(UffdError::NoMemory);
/// The page that faults.
const PAGE: usize = 100;

/// The kernel stops after so many pages.
fn in_part(pages: usize) -> Result<(), UffdError> {
    let done = pages * page_size();
    Err(UffdError::Again { done })
}

/// The record of one fault of [`PAGE`] that is answered by `answer`.
fn record(
    script: impl IntoIterator<Item = Result<(), UffdError>>,
    answer: impl Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
) -> FaultRecord {
    let fake = Fake::new(script);
    let handler = spawn(&fake, answer);
    let records = handler.record(1);
    fake.fault(FaultKind::Missing, [PAGE]);
    let record = records.recv().unwrap();
    assert!(fake.all_are_awake(), "{record:?}");
    assert_eq!(
        (record.page, record.kind),
        (PAGE * page_size(), FaultKind::Missing)
    );
    record
}

fn copy_one(_: &Fault, install: Installer<'_>) -> Outcome {
    install.copy_zeros(1, Protect::None)
}

#[test]
fn pages_are_those_that_the_kernel_has_done() {
    let copy_five = |_: &Fault, install: Installer<'_>| install.copy_zeros(5, Protect::None);
    let zero = |_: &Fault, install: Installer<'_>| install.zero();
    let lift_four = |_: &Fault, install: Installer<'_>| install.unprotect(4);
    // Two before the faulting page, and three from it on.
    let window = |fault: &Fault, install: Installer<'_>| {
        let window = HostRange::new(fault.page - 2 * page_size(), 5 * page_size()).unwrap();
        install.continue_(window, Protect::None)
    };
    for (pages, record) in [
        (1, record([], copy_one)),
        (5, record([], copy_five)),
        (3, record([in_part(3)], copy_five)),
        // The page alone.
        (1, record([GONE], copy_five)),
        (5, record([AGAIN], copy_five)),
        (1, record([], zero)),
        (1, record([EXISTS], zero)),
        (5, record([], window)),
        (3, record([in_part(1)], window)),
        (1, record([in_part(1), GONE], window)),
        (2, record([GONE, Ok(()), in_part(1)], window)),
        (4, record([], lift_four)),
        (1, record([GONE], lift_four)),
    ] {
        assert!(record.outcome.installed());
        assert_eq!(record.pages, pages, "{record:?}");
    }
    for record in [
        record([EXISTS], copy_five),
        record([EXISTS], window),
        record([GONE, GONE], copy_five),
        record([], |_, install| install.park()),
        record([], |_, install| install.retry()),
        record([], |_, install| install.poison("the test says so")),
    ] {
        assert!(!record.outcome.installed());
        assert_eq!(record.pages, 0, "{record:?}");
    }
}

/// Where somebody records, and so installing and waking are two calls, who waits for any page that is done is awake: see also `record`.
#[test]
fn who_waits_is_woken_when_the_page_is_installed() {
    let fake = Fake::new([Ok(()), in_part(2), GONE]);
    let handler = spawn(&fake, |_, install| install.copy_zeros(3, Protect::None));
    let records = handler.record(4);
    for page in [PAGE, 200, 300] {
        fake.fault(FaultKind::Missing, [page]);
        assert!(records.recv().unwrap().outcome.installed());
    }
    handler.stop_recording();
    fake.fault(FaultKind::Missing, [400]);
    handler.stop();
    let copy = |page, pages| Copy(page, pages, Protect::None);
    let calls = [
        copy(PAGE, 3),
        WakeSeveral(PAGE, 3),
        copy(200, 3),
        WakeSeveral(200, 2),
        copy(300, 3),
        copy(300, 1),
        Wake(300),
        // Nobody records any more: one call.
        copy(400, 3),
    ];
    assert_eq!(fake.ioctls(), calls);
    assert!(fake.all_are_awake());
}

#[test]
fn attempts_are_how_often_the_resolver_was_asked() {
    assert_eq!(record([], copy_one).attempts, 1);
    assert_eq!(record([EXISTS], copy_one).attempts, 1);
    assert_eq!(record([AGAIN, NO_MEMORY, AGAIN], copy_one).attempts, 4);
    let poison = std::iter::repeat_n(NO_MEMORY, ATTEMPTS as usize);
    let poisoned = record(poison, copy_one);
    assert_eq!(poisoned.outcome, OutcomeKind::Poisoned);
    assert_eq!(poisoned.attempts, ATTEMPTS);
}

#[test]
fn the_answer_is_what_the_resolver_said_last() {
    assert_eq!(record([], copy_one).answer, None);
    for answer in [Answer::Zero, Answer::Own, Answer::Layer { depth: 7 }] {
        let say = move |_: &Fault, install: Installer<'_>| {
            install.found(answer);
            install.zero()
        };
        assert_eq!(record([], say).answer, Some(answer));
        assert_eq!(record([AGAIN], say).answer, Some(answer));
    }
    // First a page, then none.
    let asked = Mutex::new(0);
    let change = move |_: &Fault, install: Installer<'_>| {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        if *asked > 1 {
            return install.park();
        }
        install.found(Answer::Own);
        install.zero()
    };
    let parked = record([AGAIN], change);
    assert_eq!((parked.attempts, parked.answer), (2, None));
}

/// When the record's fault was queued, resolved and installed no more.
fn ends(record: &FaultRecord) -> [u64; 3] {
    let begun = record.read_ns + record.queue_ns + record.recording_ns;
    let resolved = begun + record.resolve_ns;
    [begun, resolved, resolved + record.install_ns]
}

/// When the resolver was called, gave its answer, and had the result.
type Called = [u64; 3];

/// The records of faults of `pages`, read together, and the resolver's calls.
fn timed(
    script: impl IntoIterator<Item = Result<(), UffdError>>,
    pages: Range<usize>,
) -> (Vec<FaultRecord>, Vec<Called>) {
    let fake = Fake::new(script);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let handler = spawn(&fake, {
        let calls = calls.clone();
        move |_, install| {
            let called = monotonic_ns();
            // So long that no phase passes for another.
            while monotonic_ns() < called + 1_000_000 {}
            let answers = monotonic_ns();
            let outcome = install.zero();
            calls
                .lock()
                .unwrap()
                .push([called, answers, monotonic_ns()]);
            outcome
        }
    });
    let records = handler.record(pages.len());
    let before = monotonic_ns();
    fake.fault(FaultKind::Missing, pages.clone());
    let records: Vec<_> = records.iter().take(pages.len()).collect();
    assert!(records.iter().all(|record| record.read_ns >= before));
    drop(handler);
    let calls = calls.lock().unwrap().clone();
    (records, calls)
}

/// The phases of `record` lie where the resolver was at it.
fn assert_phases(record: &FaultRecord, [called, answers, has]: Called) {
    let [begun, resolved, ended] = ends(record);
    assert!(begun <= called, "{record:?}");
    assert!(answers <= resolved && resolved <= has, "{record:?}");
    // It is woken before the resolver has the result, and that is not part of installing.
    assert!(resolved <= ended && ended <= has, "{record:?}");
}

#[test]
fn phases_follow_one_another() {
    let (records, calls) = timed([], PAGE..PAGE + 3);
    let mut free = records[0].read_ns;
    for (record, called) in records.iter().zip(calls) {
        // Of one batch, so the later ones wait for the earlier ones.
        assert_eq!(record.read_ns, records[0].read_ns);
        assert!(record.read_ns + record.queue_ns >= free);
        assert_phases(record, called);
        free = ends(record)[2];
    }
}

#[test]
fn a_fault_that_is_put_off_is_queued_until_its_last_attempt() {
    let (records, calls) = timed([AGAIN, AGAIN], PAGE..PAGE + 1);
    let (record, [_, [.., second_has], third]) = (records[0], calls[..].try_into().unwrap());
    assert_eq!(record.attempts, 3);
    assert_phases(&record, third);
    assert!(record.read_ns + record.queue_ns >= second_has);
    assert_eq!(record.recording_ns, 0);
}

#[test]
fn stopping_leaves_all_records_of_faults_before_it() {
    const FAULTS: usize = 500;
    let fake = Fake::new([]);
    let handler = spawn(&fake, copy_one);
    handler.stop_recording();
    fake.fault_and_be_read(FaultKind::Missing, [PAGE]);
    assert_eq!(handler.stats().all.counts.total(), 1);
    let none = handler.stats();
    assert_eq!((none.recorded, none.record_cost_ns), (0, 0));

    let records = handler.record(FAULTS);
    fake.fault_and_be_read(FaultKind::Missing, 200..200 + FAULTS);
    handler.stop_recording();
    assert_eq!(records.len(), FAULTS);
    fake.fault_and_be_read(FaultKind::Missing, [PAGE]);
    let stats = handler.stats();
    assert_eq!(stats.all.counts.total(), FAULTS as u64 + 2);
    assert_eq!((stats.recorded, stats.records_dropped), (FAULTS as u64, 0));
    // The channel has ended: this does not wait.
    let records: Vec<_> = records.iter().collect();
    assert_eq!(records.len(), FAULTS);
    let noted: u64 = records.iter().map(|record| record.recording_ns).sum();
    assert!(stats.record_cost_ns >= noted, "{stats:?}");
    handler.stop_recording();
}

#[test]
fn a_new_recorder_replaces_the_old_one() {
    let fake = Fake::new([]);
    let handler = spawn(&fake, copy_one);
    let first = handler.record(2);
    fake.fault_and_be_read(FaultKind::Missing, [PAGE]);
    let second = handler.record(2);
    fake.fault_and_be_read(FaultKind::Missing, [PAGE + 1]);
    handler.stop_recording();
    let pages = |records: Receiver<FaultRecord>| -> Vec<usize> {
        records
            .iter()
            .map(|record| record.page / page_size())
            .collect()
    };
    assert_eq!((pages(first), pages(second)), (vec![PAGE], vec![PAGE + 1]));
}
