//! How much of their random cases and rounds tests do: all of them, but where a machine is so slow that they would take hours.
//!
//! For tests alone; used where more of the same only makes a find more likely, and nowhere else.

#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The environment variable: a number that [`share`] divides by. Without it, or if it is none, that is 1.
pub const DIVISOR: &str = "COWSPACE_TEST_SHARE";

/// So many cases, rounds or threads' steps of `all`: at least one.
pub fn share(all: u32) -> u32 {
    static DIVISOR_HERE: OnceLock<u32> = OnceLock::new();
    of(
        all,
        *DIVISOR_HERE.get_or_init(|| divisor(std::env::var(DIVISOR).ok().as_deref())),
    )
}

/// Whether tests do everything here.
pub fn is_whole() -> bool {
    share(2) == 2
}

/// Of several kinds all, or where tests do less, the `few` that come first: the most telling ones.
pub fn first_or_all<T>(few: usize, all: &[T]) -> &[T] {
    if is_whole() { all } else { &all[..few] }
}

/// Lets other threads run, where tests do less: such a machine has one processor, most of which a thread that calls this all the time would have.
/// It sleeps for a millisecond now and then, since in an emulated machine it is dear to go from one process to another.
pub fn give_way() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    if !is_whole() && CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(16) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn divisor(text: Option<&str>) -> u32 {
    text.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn of(all: u32, divisor: u32) -> u32 {
    (all / divisor.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_variable_tests_do_everything() {
        assert_eq!(of(800, divisor(None)), 800);
        assert_eq!(of(800, divisor(Some("much"))), 800);
        assert_eq!(of(800, divisor(Some("0"))), 800);
    }

    #[test]
    fn a_share_is_at_least_one() {
        assert_eq!(of(800, divisor(Some("16"))), 50);
        assert_eq!(of(12, divisor(Some("16"))), 1);
    }
}
