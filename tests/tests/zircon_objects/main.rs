//! What all objects have in common (handles, signals, names), and the process and its threads as objects, against Zircon's rules.

#![forbid(unsafe_code)]

mod handles;
mod process;
mod signals;
mod thread;
mod waiting;

use std::collections::HashSet;
use std::time::Duration;

use cowspace::{
    Handle, HandleBased, Koid, MapsDetails, MonotonicInstant, Name, ObjectType, Process, Rights,
    Signals, Status, Thread, Unowned, Vmar, Vmo, VmoChildOptions, VmoInfoFlags, WaitResult,
};
use cowspace_tests::RW;
use cowspace_tests::zircon::{
    Region, bytes, closed_handle, numbered, refused, rights_of, with_rights,
};

const ZERO_CHILDREN: Signals = Signals::VMO_ZERO_CHILDREN;

fn koid_of(handle: &impl HandleBased) -> Koid {
    handle.basic_info().expect("a handle").koid
}

/// The signals that an object has now.
fn signals_of(handle: &impl HandleBased) -> Signals {
    match handle.wait_one(Signals::NONE, MonotonicInstant::INFINITE_PAST) {
        WaitResult::TimedOut(signals) => signals,
        other => panic!("nothing was waited for: {other:?}"),
    }
}

/// Waits for as long as it takes.
fn wait_for(handle: &impl HandleBased, signals: Signals) -> Result<Signals, Status> {
    handle
        .wait_one(signals, MonotonicInstant::INFINITE)
        .to_result()
}

/// A call on a handle whose value is known: as the call of a C program.
type Call = fn(&Unowned<Handle>) -> Result<(), Status>;

/// Checks what a call answers to no handle, to handles of other types, and to each missing right of those that it needs.
#[track_caller]
fn check_order<H: HandleBased>(call: Call, good: &H, needs: Rights, of_other_type: &[Handle]) {
    let ask = |raw| call(&Unowned::from_raw_handle(raw));
    for raw in [0, closed_handle()] {
        assert_eq!(ask(raw), Err(Status::BAD_HANDLE));
    }
    for other in of_other_type {
        for rights in [Rights::SAME_RIGHTS, Rights::NONE] {
            let other = with_rights(other, rights);
            assert_eq!(ask(other.raw_handle()), Err(Status::WRONG_TYPE));
        }
    }
    for missing in needs.iter() {
        let without = with_rights(good, rights_of(good) - missing);
        assert_eq!(ask(without.raw_handle()), Err(Status::ACCESS_DENIED));
    }
    let enough = with_rights(good, needs);
    assert_ne!(ask(enough.raw_handle()), Err(Status::ACCESS_DENIED));
}
