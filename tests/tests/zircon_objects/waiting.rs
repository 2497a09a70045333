//! Waiting for a signal.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{ScopedJoinHandle, scope, yield_now};

use nix::unistd::gettid;

use super::*;

const PAST: [MonotonicInstant; 2] = [MonotonicInstant::INFINITE_PAST, MonotonicInstant::ZERO];

fn soon() -> MonotonicInstant {
    MonotonicInstant::after(Duration::from_millis(2))
}

/// Runs `wait` in a thread, and `then` each time it is seen asleep, until it is over.
fn while_asleep<T: Send>(wait: impl FnOnce() -> T + Send, mut then: impl FnMut()) -> T {
    scope(|scope| {
        let (tell, told) = channel();
        let waiter = scope.spawn(move || {
            tell.send(gettid()).expect("the test runs");
            wait()
        });
        let stat = format!(
            "/proc/self/task/{}/stat",
            told.recv().expect("the thread begins")
        );
        let asleep = |waiter: &ScopedJoinHandle<T>| {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            !waiter.is_finished() && stat.contains(") S ")
        };
        while !waiter.is_finished() {
            if asleep(&waiter) {
                then();
            }
            yield_now();
        }
        waiter.join().expect("the wait does not panic")
    })
}

#[test]
fn what_is_there_already_ends_the_wait_even_with_the_deadline_past() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    vmo.signal(Signals::NONE, Signals::USER_4)
        .expect("SIGNAL is there");
    let all = ZERO_CHILDREN | Signals::USER_4;
    for deadline in PAST.into_iter().chain([soon(), MonotonicInstant::INFINITE]) {
        for mask in [ZERO_CHILDREN, Signals::USER_4 | Signals::USER_5, all] {
            assert_eq!(vmo.wait_one(mask, deadline), WaitResult::Ok(all));
        }
    }
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_before() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    // Nothing can be waited for that never comes: no signals, and bits that are no signals.
    for mask in [
        Signals::USER_0,
        Signals::NONE,
        Signals::USER_0 | Signals::HANDLE_CLOSED,
    ] {
        for deadline in PAST.into_iter().chain([soon()]) {
            let result = vmo.wait_one(mask, deadline);
            assert_eq!(result, WaitResult::TimedOut(ZERO_CHILDREN));
            assert_eq!(result.to_result(), Err(Status::TIMED_OUT));
            assert!(MonotonicInstant::get() >= deadline);
        }
    }
}

#[test]
fn what_a_wait_needs() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let wait: Call = |handle| {
        let result = handle.wait_one(Signals::NONE, MonotonicInstant::INFINITE_PAST);
        result.to_result().map(drop)
    };
    check_order(wait, &vmo, Rights::WAIT, &[]);
    // A handle without the right does not tell of a signal that is there.
    let without = with_rights(&vmo, Rights::VMO_DEFAULT - Rights::WAIT);
    assert_eq!(
        without.wait_one(ZERO_CHILDREN, MonotonicInstant::ZERO),
        WaitResult::Err(Status::ACCESS_DENIED)
    );
    assert_eq!(
        Vmar::root_self().wait_one(ZERO_CHILDREN, MonotonicInstant::ZERO),
        WaitResult::Err(Status::ACCESS_DENIED)
    );
}

#[test]
fn a_signal_from_another_thread_wakes() {
    let vmo = numbered(1);
    let child = vmo
        .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(1))
        .expect("a VMO can be cloned");
    let mut child = Some(child);
    let woken = while_asleep(|| wait_for(&vmo, ZERO_CHILDREN), || drop(child.take()));
    assert_eq!(woken, Ok(ZERO_CHILDREN));

    let signal = || {
        vmo.signal(Signals::NONE, Signals::USER_2)
            .expect("SIGNAL is there");
    };
    let woken = while_asleep(|| wait_for(&vmo, Signals::USER_2 | Signals::USER_3), signal);
    assert_eq!(woken, Ok(ZERO_CHILDREN | Signals::USER_2));
}

#[test]
fn a_signal_that_is_gone_again_is_not_missed() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let user = Signals::USER_6;
    let pulse = || {
        vmo.signal(Signals::NONE, user).expect("SIGNAL is there");
        vmo.signal(user, Signals::NONE).expect("SIGNAL is there");
    };
    let woken = while_asleep(|| wait_for(&vmo, user), pulse);
    assert_eq!(woken, Ok(ZERO_CHILDREN | user));
    assert_eq!(signals_of(&vmo), ZERO_CHILDREN);
}

#[test]
fn all_who_wait_are_woken() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    scope(|scope| {
        let each = [Signals::USER_0, Signals::USER_1, Signals::USER_2];
        let waiters: Vec<_> = (0..12)
            .map(|i| {
                let (vmo, mask) = (&vmo, each[i % 3]);
                scope.spawn(move || (mask, wait_for(vmo, mask)))
            })
            .collect();
        for signal in each {
            vmo.signal(Signals::NONE, signal).expect("SIGNAL is there");
        }
        for waiter in waiters {
            let (mask, woken) = waiter.join().expect("the wait does not panic");
            assert!(woken.expect("it ends well").contains(mask));
        }
    });
}

#[test]
fn closing_the_handle_cancels() {
    let closings: [fn(Vmo); 3] = [
        drop,
        |vmo| assert_eq!(Handle::close_raw(vmo.into_handle().into_raw()), Ok(())),
        |vmo| {
            drop(
                vmo.replace_handle(Rights::SAME_RIGHTS)
                    .expect("no right is needed"),
            )
        },
    ];
    let vmo = Vmo::create(0).expect("a VMO can be made");
    for close in closings {
        // The thread may have slept before it waited; then it finds no handle.
        let canceled = loop {
            let handle = with_rights(&vmo, Rights::WAIT);
            let raw = handle.raw_handle();
            let mut handle = Some(handle);
            let wait = move || {
                let unowned = Unowned::<Vmo>::from_raw_handle(raw);
                unowned.wait_one(Signals::USER_0, MonotonicInstant::INFINITE)
            };
            let result = while_asleep(wait, || handle.take().into_iter().for_each(close));
            if result != WaitResult::Err(Status::BAD_HANDLE) {
                break result;
            }
        };
        let signals = ZERO_CHILDREN | Signals::HANDLE_CLOSED;
        assert_eq!(canceled, WaitResult::Canceled(signals));
        assert_eq!(canceled.to_result(), Err(Status::CANCELED));
    }
    // Other handles' waits go on.
    let other = with_rights(&vmo, Rights::NONE);
    let mut other = Some(other);
    let go_on = || {
        if other.take().is_none() {
            vmo.signal(Signals::NONE, Signals::USER_0)
                .expect("SIGNAL is there");
        }
    };
    let woken = while_asleep(|| wait_for(&vmo, Signals::USER_0), go_on);
    assert_eq!(woken, Ok(ZERO_CHILDREN | Signals::USER_0));
}

#[test]
fn a_wait_does_not_keep_its_object() {
    let vmo = numbered(1);
    let child = vmo
        .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(1))
        .expect("a VMO can be cloned");
    let raw = child.raw_handle();
    let mut child = Some(child);
    let wait = move || {
        let unowned = Unowned::<Vmo>::from_raw_handle(raw);
        let _ = unowned.wait_one(Signals::USER_0, MonotonicInstant::INFINITE);
    };
    let end = || {
        if let Some(child) = child.take() {
            drop(child);
            assert_eq!(signals_of(&vmo), ZERO_CHILDREN);
        }
    };
    while_asleep(wait, end);
}

/// Counts a thread as ended, also where it panics: those who wait for it must not wait for ever.
struct Made<'a>(&'a AtomicUsize);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn children_come_and_go_while_others_wait() {
    const MAKERS: usize = 3;
    const ROUNDS: usize = 1000;
    let vmo = numbered(2);
    let making = AtomicUsize::new(MAKERS);
    let begin = Barrier::new(MAKERS + 2);
    let has_none = || signals_of(&vmo).contains(ZERO_CHILDREN);
    let make = || {
        let _made = Made(&making);
        begin.wait();
        let region = Region::new(1);
        for round in 0..ROUNDS {
            let clone = vmo
                .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(1))
                .expect("a VMO can be cloned");
            assert!(!has_none());
            // It lives on in its own child, then in a mapping alone.
            let slice = clone
                .create_child(VmoChildOptions::SLICE, 0, bytes(1))
                .expect("a clone has slices");
            drop(clone);
            assert!(!has_none());
            if round % 2 == 0 {
                region.map(0, &slice, 0, 1, RW);
                drop(slice);
                assert!(!has_none());
                region.unmap(0, 1);
            }
        }
    };
    let watch = || {
        begin.wait();
        while making.load(Ordering::SeqCst) > 0 {
            assert_eq!(wait_for(&vmo, ZERO_CHILDREN), Ok(ZERO_CHILDREN));
            yield_now();
        }
    };
    scope(|scope| {
        for _ in 0..2 {
            scope.spawn(watch);
        }
        for _ in 0..MAKERS {
            scope.spawn(make);
        }
    });
    assert_eq!(wait_for(&vmo, ZERO_CHILDREN), Ok(ZERO_CHILDREN));
    assert_eq!(vmo.info().expect("a VMO has info").num_children, 0);
}
