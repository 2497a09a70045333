//! Time that several processes agree on, and the CPU that a thread runs on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// CLOCK_MONOTONIC in nanoseconds: the same clock in each process of the machine, and the one that [`Instant`] reads.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("the clock is there on every Linux that has memfd");
    Duration::from(now).as_nanos() as u64
}

/// The time of an [`Instant`] by [`now_ns`].
pub(crate) fn ns_of(instant: Instant) -> u64 {
    // Whoever is stopped between two readings is as much beside the truth: the best of several is taken.
    let readings = (0..8).map(|_| {
        let before = now_ns();
        let passed = ns(instant.elapsed()) as u64;
        (now_ns() - before, before - passed)
    });
    readings.min().map_or(0, |(_, at)| at)
}

/// A duration in nanoseconds.
pub(crate) fn ns(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// Nanoseconds in microseconds.
pub(crate) fn us(ns: f64) -> f64 {
    ns / 1e3
}

/// The CPUs that this process may use, ascending.
pub(crate) fn cpus() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else {
        return vec![0];
    };
    (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .collect()
}

/// Has the calling thread, and those that it starts from now on, run on these CPUs only.
pub(crate) fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot choose a CPU")
}
