//! The one clock of all times here and in recordings.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` now, in nanoseconds: the clock of [`FaultRecord::read_ns`](crate::FaultRecord::read_ns).
///
/// All processes of the machine share it, so a fault's times can be laid beside what the faulting thread measured, or another process. (`std::time::Instant` is the same clock, and keeps its
/// number to itself.)
pub fn monotonic_ns() -> u64 {
    // It cannot fail: every kernel that has userfaultfd has the clock.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        let seconds = now.tv_sec().cast_unsigned();
        seconds * 1_000_000_000 + now.tv_nsec().cast_unsigned()
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Two readings of another clock, or of another unit, would not stay between readings of this one.
    #[test]
    fn it_goes_as_instants_do() {
        let (before, origin, after) = (Instant::now(), monotonic_ns(), Instant::now());
        while before.elapsed() < Duration::from_millis(5) {
            let least = after.elapsed();
            let now = Duration::from_nanos(monotonic_ns() - origin);
            let most = before.elapsed();
            assert!(least <= now && now <= most, "{least:?} {now:?} {most:?}");
        }
    }
}
