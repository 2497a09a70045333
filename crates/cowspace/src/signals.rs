//! Signals of objects, and who waits for them.
//!
//! LOCKS: a state's lock is a leaf but for the handle table, which a wait looks at under it. It may be taken with a family locked, so nothing is allocated or freed
//! under it, and nobody sleeps with any other lock held.
//!
//! No change is missed: whoever changes signals or closes a handle settles, under the lock, with each wait that is over thereby, and the wait returns what was settled,
//! even if the signal is gone again when its thread runs. A wait enters itself under the same lock after it has seen that no signal is there yet and that its handle
//! is open. So a change comes before that look or finds the wait; and a handle is taken out of its table before its waits are settled, so that a wait
//! that still saw it there is found.

use std::mem;
use std::sync::Condvar;
use std::time::Duration;

use bitflags::bitflags;

use crate::lock::{Mutex, MutexGuard};
use crate::status::Status;
use crate::time::MonotonicInstant;

bitflags! {
    /// What can be waited for, as `zx_signals_t`.
    ///
    /// A bit without a name can be represented, so that calls can refuse it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Signals: u32 {
        /// `ZX_VMO_ZERO_CHILDREN`: the VMO has no child.
        const VMO_ZERO_CHILDREN = 1 << 3;
        /// `ZX_SIGNAL_HANDLE_CLOSED`: the handle waited on was closed. Only ever seen in [`WaitResult::Canceled`].
        const HANDLE_CLOSED = 1 << 23;
        /// `ZX_USER_SIGNAL_0`. User signals mean what the program wants them to mean.
        const USER_0 = 1 << 24;
        /// `ZX_USER_SIGNAL_1`
        const USER_1 = 1 << 25;
        /// `ZX_USER_SIGNAL_2`
        const USER_2 = 1 << 26;
        /// `ZX_USER_SIGNAL_3`
        const USER_3 = 1 << 27;
        /// `ZX_USER_SIGNAL_4`
        const USER_4 = 1 << 28;
        /// `ZX_USER_SIGNAL_5`
        const USER_5 = 1 << 29;
        /// `ZX_USER_SIGNAL_6`
        const USER_6 = 1 << 30;
        /// `ZX_USER_SIGNAL_7`
        const USER_7 = 1 << 31;
        /// `ZX_USER_SIGNAL_ALL`
        const USER_ALL = 0xff << 24;

        const _ = !0;
    }
}

impl Signals {
    /// No signal at all.
    pub const NONE: Signals = Signals::empty();
}

/// How a wait ended. The signals are all that the object had at the end, not only those asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum WaitResult {
    /// One of the signals was there, or came.
    Ok(Signals),
    /// The deadline passed first. `ZX_ERR_TIMED_OUT`.
    TimedOut(Signals),
    /// The handle was closed or replaced meanwhile; the signals have `HANDLE_CLOSED`. `ZX_ERR_CANCELED`.
    Canceled(Signals),
    /// The wait did not begin.
    Err(Status),
}

impl WaitResult {
    /// The signals of a wait that ended well; `TIMED_OUT`, `CANCELED` or why it did not begin.
    ///
    /// # Errors
    ///
    /// See above.
    pub const fn to_result(self) -> Result<Signals, Status> {
        match self {
            WaitResult::Ok(signals) => Ok(signals),
            WaitResult::TimedOut(_) => Err(Status::TIMED_OUT),
            WaitResult::Canceled(_) => Err(Status::CANCELED),
            WaitResult::Err(status) => Err(status),
        }
    }
}

/// The signals of one object.
pub(crate) struct SignalState {
    state: Mutex<State>,
    settled: Condvar,
}

struct State {
    signals: Signals,
    waits: Vec<Wait>,
    next_wait: u64,
}

/// A thread that waits.
struct Wait {
    id: u64,
    handle: u32,
    mask: Signals,
    /// How it ended, for its thread to take.
    end: Option<WaitResult>,
}

impl SignalState {
    /// Those of an object that is born with `signals`.
    pub(crate) fn new(signals: Signals) -> SignalState {
        SignalState {
            state: Mutex::new(State {
                signals,
                waits: Vec::new(),
                next_wait: 0,
            }),
            settled: Condvar::new(),
        }
    }

    /// Takes `clear` away, then adds `set`.
    pub(crate) fn change(&self, clear: Signals, set: Signals) {
        let mut state = self.state.lock();
        let now = (state.signals - clear) | set;
        state.signals = now;
        let end = |wait: &Wait| now.intersects(wait.mask).then_some(WaitResult::Ok(now));
        self.settle(state, end);
    }

    /// Ends the waits on a handle, which is in the table no more.
    pub(crate) fn handle_closed(&self, handle: u32) {
        let state = self.state.lock();
        let now = state.signals | Signals::HANDLE_CLOSED;
        let end = |wait: &Wait| (wait.handle == handle).then_some(WaitResult::Canceled(now));
        self.settle(state, end);
    }

    fn settle(&self, mut state: MutexGuard<'_, State>, end: impl Fn(&Wait) -> Option<WaitResult>) {
        let mut any = false;
        for wait in &mut state.waits {
            if wait.end.is_none() {
                wait.end = end(wait);
                any |= wait.end.is_some();
            }
        }
        drop(state);
        if any {
            self.settled.notify_all();
        }
    }

    /// Waits until a signal of `mask` is there. `is_open` tells whether the handle is in the table.
    pub(crate) fn wait(
        &self,
        handle: u32,
        mask: Signals,
        deadline: MonotonicInstant,
        is_open: impl FnOnce() -> bool,
    ) -> WaitResult {
        // Before the guard, so that it is dropped after it.
        let mut room = Vec::new();
        let mut state = self.lock_with_room(&mut room);
        if !is_open() {
            return WaitResult::Err(Status::BAD_HANDLE);
        }
        let now = state.signals;
        let id = state.next_wait;
        state.next_wait += 1;
        state.waits.push(Wait {
            id,
            handle,
            mask,
            end: now.intersects(mask).then_some(WaitResult::Ok(now)),
        });
        loop {
            let mut waits = state.waits.iter();
            let index = waits
                .position(|wait| wait.id == id)
                .expect("a wait is taken out by its own thread");
            let left = deadline.left();
            let late =
                (left == Some(Duration::ZERO)).then_some(WaitResult::TimedOut(state.signals));
            if let Some(end) = state.waits[index].end.or(late) {
                state.waits.swap_remove(index);
                return end;
            }
            state.wait(&self.settled, left);
        }
    }

    /// Locks the state when there is room for one more wait. `room` is for the caller to drop when it is unlocked.
    fn lock_with_room(&self, room: &mut Vec<Wait>) -> MutexGuard<'_, State> {
        loop {
            let mut state = self.state.lock();
            if state.waits.len() < state.waits.capacity() {
                return state;
            }
            if state.waits.len() < room.capacity() {
                room.append(&mut state.waits);
                mem::swap(room, &mut state.waits);
                return state;
            }
            let wanted = 2 * state.waits.len() + 1;
            drop(state);
            *room = Vec::with_capacity(wanted);
        }
    }
}
