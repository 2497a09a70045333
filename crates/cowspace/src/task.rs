//! What the kernel knows of a thread: whether it runs, its CPU time, its name.

use std::fs;
use std::time::Duration;

use nix::sched::sched_getcpu;
use nix::time::{ClockId, clock_gettime};
use procfs::FromRead;
use procfs::process::Stat;

use crate::info::Name;
use crate::lock::Mutex;

/// A thread of this process, which may have ended: then another one may have its number.
pub(crate) struct Task {
    tid: i32,
    /// When it began, in ticks since the system did: with the number this names one thread.
    began: u64,
}

impl Task {
    /// The thread with a number; `None` if there is none, or `/proc` does not tell.
    pub(crate) fn find(tid: i32) -> Option<Task> {
        let began = stat(tid)?.starttime;
        Some(Task { tid, began })
    }

    /// What the kernel says of it, if it still knows it.
    fn stat(&self) -> Option<Stat> {
        stat(self.tid).filter(|stat| stat.starttime == self.began)
    }

    /// What the kernel says of it, if it has not ended.
    fn running(&self) -> Option<Stat> {
        // A main thread that has ended is known until the process ends.
        self.stat().filter(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// Whether it has not ended.
    pub(crate) fn lives(&self) -> bool {
        self.running().is_some()
    }

    /// Its time on a CPU so far and the CPU that it was on last, if it has not ended.
    pub(crate) fn run_time(&self) -> Option<(Duration, u32)> {
        // The kernel's number for the CPU clock of a thread: its inverted number and three bits, "of a thread" and "the scheduler's".
        let clock = ClockId::from_raw((!self.tid << 3) | 0b110);
        let time = clock_gettime(clock).ok()?;
        // After the clock: if it is this thread now it was so then.
        let cpu = self.running()?.processor?;
        Some((time.into(), cpu.try_into().ok()?))
    }

    fn comm_path(&self) -> String {
        format!("/proc/self/task/{}/comm", self.tid)
    }

    /// The name that the kernel has, if it still knows the thread.
    fn comm(&self) -> Option<Name> {
        let mut comm = fs::read(self.comm_path()).ok()?;
        // The kernel ends it with a line feed.
        comm.pop();
        self.stat()?;
        Some(Name::from_bytes_lossy(&comm))
    }

    fn set_comm(&self, name: &Name) {
        if self.stat().is_some() {
            // A zero says more than nothing: a write of no bytes changes nothing. Where the kernel does not take the name, only its tools miss it.
            let name = &name.into_raw()[..=name.as_bytes().len()];
            let _ = fs::write(self.comm_path(), name);
        }
    }
}

/// As [`Task::run_time`] for the calling thread, which asks faster than others.
pub(crate) fn own_run_time() -> Option<(Duration, u32)> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    let cpu = sched_getcpu().ok()?;
    Some((time.into(), cpu.try_into().ok()?))
}

fn stat(tid: i32) -> Option<Stat> {
    Stat::from_file(format!("/proc/self/task/{tid}/stat")).ok()
}

/// A task's name, of which the kernel and its tools see 15 bytes. Whoever names the thread last is heard, be it through the kernel.
pub(crate) struct TaskName {
    /// The name given, and what the kernel made of it.
    given: Mutex<(Name, Name)>,
}

impl TaskName {
    /// The name that a task has already.
    pub(crate) fn of(task: &Task) -> TaskName {
        let comm = task.comm().unwrap_or_default();
        TaskName {
            given: Mutex::new((comm, comm)),
        }
    }

    pub(crate) fn get(&self, task: &Task) -> Name {
        let comm = task.comm();
        let (name, shown) = *self.given.lock();
        comm.filter(|comm| *comm != shown).unwrap_or(name)
    }

    pub(crate) fn set(&self, task: &Task, name: Name) {
        task.set_comm(&name);
        let shown = task.comm().unwrap_or_default();
        *self.given.lock() = (name, shown);
    }
}
