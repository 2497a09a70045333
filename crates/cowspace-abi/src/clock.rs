//! Clocks and sleeping. Ticks are the nanoseconds of the monotonic clock.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// No deadline: `ZX_TIME_INFINITE`.
const INFINITE: i64 = i64::MAX;
const NANOSECONDS: i64 = 1_000_000_000;

pub(crate) fn get_monotonic() -> i64 {
    read(ClockId::Monotonic)
}

pub(crate) fn get_boot() -> i64 {
    read(ClockId::Boottime)
}

pub(crate) fn ticks_per_second() -> i64 {
    NANOSECONDS
}

fn read(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec * NANOSECONDS + now.tv_nsec
}

/// Now and `duration` later, or as near to it as the numbers go.
pub(crate) fn deadline_after(duration: i64) -> i64 {
    get_monotonic().saturating_add(duration)
}

pub(crate) fn nanosleep(deadline: i64) -> Result<(), cowspace::Status> {
    let until = timespec(deadline);
    // A signal handler ran: the deadline is still the same. Nothing else can go wrong with a time that is one.
    while clock_nanosleep_absolute(ClockId::Monotonic, &until).is_err() {}
    Ok(())
}

/// A deadline as the kernel takes it; one that has passed is 0.
pub(crate) fn timespec(deadline: i64) -> Timespec {
    let deadline = deadline.max(0);
    Timespec {
        tv_sec: deadline / NANOSECONDS,
        tv_nsec: deadline % NANOSECONDS,
    }
}

/// As [`timespec`], or `None` to wait for ever.
pub(crate) fn timeout(deadline: i64) -> Option<Timespec> {
    (deadline != INFINITE).then(|| timespec(deadline))
}
