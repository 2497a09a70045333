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

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use nix::unistd::Pid;
use rustix::process::setpriority_process;

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
const NEAR: Duration = Duration::from_micros(20);
/// To look costs 4 µs. Where thread after thread is found to be here, only so many late faults are passed over before the next look.
const LONGEST_PATIENCE: u32 = 16;

/// Follows faulting threads from CPU to CPU. Allocates nothing after it was made.
pub(crate) struct Follower {
    /// Where it may go; `None` to stay.
    allowed: Option<CpuSet>,
    cpu: Option<usize>,
    /// When the batch before was answered.
    answered: Instant,
    /// How many late faults to pass over next time, and now.
    patience: u32,
    passes: u32,
    /// Recently seen threads with their open `stat` files, the oldest replaced first.
    threads: [Option<(i32, OwnedFd)>; 8],
    oldest: usize,
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
            answered: Instant::now(),
            patience: 0,
            passes: 0,
            threads: [const { None }; 8],
            oldest: 0,
        }
    }

    /// Called after a batch was answered that was read at `woken`, with a thread that faulted. By then the scheduler has chosen the CPU where that thread goes on. Whatever fails, the
    /// handler stays where it is.
    pub(crate) fn follow(&mut self, tid: i32, woken: Instant) {
        if self.allowed.is_none() {
            return;
        }
        let late = woken.saturating_duration_since(self.answered) > NEAR;
        if late && self.passes > 0 {
            self.passes -= 1;
        } else if late {
            self.patience = if self.move_to(tid) {
                0
            } else {
                (self.patience * 2).clamp(1, LONGEST_PATIENCE)
            };
            self.passes = self.patience;
        }
        self.answered = Instant::now();
    }

    /// Moves to where the thread is; whether that is elsewhere.
    fn move_to(&mut self, tid: i32) -> bool {
        let (Some(allowed), Some(cpu)) = (self.allowed, self.last_cpu(tid)) else {
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

    /// On which CPU the thread ran last.
    fn last_cpu(&mut self, tid: i32) -> Option<usize> {
        let known = self
            .threads
            .iter()
            .position(|seen| matches!(seen, Some((seen, _)) if *seen == tid));
        let slot = known.unwrap_or(self.oldest);
        if known.is_none() {
            self.oldest = (self.oldest + 1) % self.threads.len();
            self.threads[slot] = open_stat(tid).map(|file| (tid, file));
        }
        let mut text = [0; 1024];
        match pread(&self.threads[slot].as_ref()?.1, &mut text, 0) {
            Ok(len) => parse_cpu(&text[..len]),
            // The thread has ended; a new one with its id gets a new file.
            Err(_) => {
                self.threads[slot] = None;
                None
            }
        }
    }
}

fn open_stat(tid: i32) -> Option<OwnedFd> {
    let mut path = [0_u8; 64];
    // The last byte stays 0.
    write!(&mut path[..63], "/proc/self/task/{tid}/stat").ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

/// Field 39 of proc_pid_stat(5). Fields are counted from behind the command's name, which is the second and may contain anything.
fn parse_cpu(stat: &[u8]) -> Option<usize> {
    let behind_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = stat[behind_name..]
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    std::str::from_utf8(fields.nth(39 - 3)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_found_behind_any_name() {
        let rest = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 1 1 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 3 0 0";
        assert_eq!(parse_cpu(format!("7 (a) b) {rest}").as_bytes()), Some(3));
        assert_eq!(parse_cpu(b"7 (a) S 1"), None);
        assert_eq!(parse_cpu(b""), None);
    }

    #[test]
    fn a_threads_own_cpu_is_one_that_exists() {
        let mut follower = Follower::new(Placement::Follow);
        let tid = nix::unistd::gettid().as_raw();
        let cpu = follower
            .last_cpu(tid)
            .expect("a thread can read its own stat");
        assert!(cpu < CpuSet::count());
        // Thread ids are positive: this one can be no thread's.
        assert_eq!(follower.last_cpu(-1), None);
        assert!(follower.last_cpu(tid).is_some());
    }
}
