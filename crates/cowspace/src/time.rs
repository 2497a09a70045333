//! Points of time, as calls with a deadline take them.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A point of time on the clock that counts while the system is awake (`CLOCK_MONOTONIC`), in nanoseconds: `zx_instant_mono_t`, before that `zx_time_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct MonotonicInstant(i64);

impl MonotonicInstant {
    /// Never: `ZX_TIME_INFINITE`.
    pub const INFINITE: MonotonicInstant = MonotonicInstant(i64::MAX);
    /// Before every other: `ZX_TIME_INFINITE_PAST`.
    pub const INFINITE_PAST: MonotonicInstant = MonotonicInstant(i64::MIN);
    /// Where the clock began.
    pub const ZERO: MonotonicInstant = MonotonicInstant(0);

    /// Now. `zx_clock_get_monotonic`.
    pub fn get() -> MonotonicInstant {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .expect("every kernel that has userfaultfd has the clock");
        let seconds = now.tv_sec().saturating_mul(1_000_000_000);
        MonotonicInstant(seconds.saturating_add(now.tv_nsec()))
    }

    /// So long from now; `INFINITE` where the numbers end. `zx_deadline_after`.
    pub fn after(duration: Duration) -> MonotonicInstant {
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        MonotonicInstant(MonotonicInstant::get().0.saturating_add(nanos))
    }

    /// The point that a number of nanoseconds names.
    pub const fn from_nanos(nanos: i64) -> MonotonicInstant {
        MonotonicInstant(nanos)
    }

    /// The number of nanoseconds.
    pub const fn into_nanos(self) -> i64 {
        self.0
    }

    /// How long it is until then, 0 if it is past; `None` for `INFINITE`.
    pub(crate) fn left(self) -> Option<Duration> {
        if self == MonotonicInstant::INFINITE {
            return None;
        }
        let left = self.0.saturating_sub(MonotonicInstant::get().0);
        Some(Duration::from_nanos(u64::try_from(left).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back_and_deadlines_lie_ahead() {
        let before = MonotonicInstant::get();
        let deadline = MonotonicInstant::after(Duration::from_secs(100));
        assert!(before <= MonotonicInstant::get());
        assert!(deadline.into_nanos() - before.into_nanos() >= 100_000_000_000);
        assert!(deadline.left() <= Some(Duration::from_secs(100)));
        assert!(deadline.left() > Some(Duration::ZERO));
    }

    #[test]
    fn the_ends_of_time() {
        assert_eq!(MonotonicInstant::INFINITE.left(), None);
        assert_eq!(
            MonotonicInstant::after(Duration::MAX),
            MonotonicInstant::INFINITE
        );
        for past in [MonotonicInstant::INFINITE_PAST, MonotonicInstant::ZERO] {
            assert_eq!(past.left(), Some(Duration::ZERO));
        }
        assert!(MonotonicInstant::from_nanos(i64::MAX - 1).left() > Some(Duration::from_secs(1)));
    }
}
