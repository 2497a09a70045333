//! Where the handler runs.
//!
//! A fault costs about 10 µs when the handler runs on the faulting thread's CPU, which is idle while that thread waits, and about 55 µs when another, sleeping CPU must
//! be woken for it (a virtual machine's figures). So the handler moves to where the faults come from.
//!
//! The scheduler works against that. A woken thread goes to an idle CPU if there is one, and while the handler wakes it, its own is not: so the thread moves away from the handler, and both
//! CPUs must be woken for each fault. Two things stop this (EEVDF with delayed dequeueing, Linux 6.12 on):
//!
//! - To follow *at once*, after the very answer that moved the thread: so that both meet again on one CPU.
//! - To weigh more than the thread. One that had more than its share of the CPU stays in its queue while it waits, and is woken there. The handler works longer on a fault than a thread that
//!   does nothing but fault; of a heavier one that is less than its share. (Without the right to it, threads that do a little more than fault stay all the same.)
//!
//! `docs/performance.md` has the figures, and what else was tried.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rustix::process::setpriority_process;

use crate::clock::monotonic_ns;
use crate::cpus::Cpus;

/// Where the handler runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Where the scheduler puts it.
    Anywhere,
    /// On the CPU where the faulting thread runs, among those that the handler was started with.
    #[default]
    Follow,
}

/// The handler's nice value: three times the weight of a thread with 0. More has no more effect, and each step costs where there is only one CPU to be on.
const NICE: i32 = -5;
/// The next fault comes sooner than this where thread and handler share a CPU and the thread does little else. Two CPUs that wake each other need longer.
const NEAR_NS: u64 = 20_000;
/// To look costs 4 µs. Where thread after thread is found to be here, only so many late faults are passed over before the next look.
const LONGEST_PATIENCE: u32 = 16;

/// Follows faulting threads from CPU to CPU. Allocates nothing after it was made.
pub(crate) struct Follower {
    /// Where it may go; `None` to stay.
    allowed: Option<CpuSet>,
    cpu: Option<usize>,
    /// When the batch before was answered.
    answered_ns: u64,
    /// How many late faults to pass over next time, and now.
    patience: u32,
    passes: u32,
}

impl Follower {
    /// For the calling thread.
    pub(crate) fn new(placement: Placement) -> Follower {
        let allowed = match placement {
            Placement::Anywhere => None,
            Placement::Follow => sched_getaffinity(Pid::from_raw(0)).ok(),
        };
        let allowed = allowed.filter(|allowed| {
            let is_set = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
            (0..CpuSet::count()).filter(is_set).count() > 1
        });
        if allowed.is_some() {
            let _ = setpriority_process(None, NICE);
        }
        Follower {
            allowed,
            cpu: None,
            answered_ns: monotonic_ns(),
            patience: 0,
            passes: 0,
        }
    }

    /// Called after a batch was answered that was read at `read_ns`, with a thread that faulted. By then the scheduler has chosen the CPU where that thread goes on. Whatever fails, the
    /// handler stays where it is.
    pub(crate) fn follow(&mut self, cpus: &mut Cpus, tid: i32, read_ns: u64) {
        if self.allowed.is_none() {
            return;
        }
        let late = read_ns.saturating_sub(self.answered_ns) > NEAR_NS;
        if late && self.passes > 0 {
            self.passes -= 1;
        } else if late {
            self.patience = if self.move_to(cpus, tid) {
                0
            } else {
                (self.patience * 2).clamp(1, LONGEST_PATIENCE)
            };
            self.passes = self.patience;
        }
        self.answered_ns = monotonic_ns();
    }

    /// Moves to where the thread is; whether that is elsewhere.
    fn move_to(&mut self, cpus: &mut Cpus, tid: i32) -> bool {
        let (Some(allowed), Some(cpu)) = (self.allowed, cpus.last(tid)) else {
            return false;
        };
        if self.cpu == Some(cpu) || !allowed.is_set(cpu).unwrap_or(false) {
            return false;
        }
        let mut only = CpuSet::new();
        let moved = only.set(cpu).is_ok() && sched_setaffinity(Pid::from_raw(0), &only).is_ok();
        if moved {
            self.cpu = Some(cpu);
        }
        moved
    }
}
