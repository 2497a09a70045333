//! What the threads of a synthetic run are to do.

use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use host_memory::page::page_size;
use procfs::{Current, Meminfo};

use super::pattern::Pattern;

/// A day: an endless run is no profile, and would fill the disk.
const MOST_SECONDS: f64 = 86400.0;
/// Pages between two touches of `--pattern stride`: as many as a load's fault brings along, so that every touch faults.
const STRIDE: u32 = 16;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Without PROGRAM")]
pub(crate) struct Synthetic {
    /// Who resolves the faults: cowspace's handler, which records them, or the kernel alone
    #[arg(long, value_enum, default_value_t = Policy::Traced, conflicts_with = "program")]
    pub(crate) policy: Policy,

    /// In which order pages are touched
    #[arg(long, value_enum, default_value_t = Pattern::Random, conflicts_with = "program")]
    pub(crate) pattern: Pattern,

    /// Touch one page in so many, with --pattern stride [default: 16]
    #[arg(long, value_name = "PAGES", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "program")]
    stride: Option<u32>,

    /// How much memory there is to touch, as 64MiB or 1GiB
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "64MiB",
        conflicts_with = "program"
    )]
    size: ByteSize,

    /// How many threads touch it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024), conflicts_with = "program")]
    pub(crate) threads: u16,

    /// How many of a hundred touches are stores; the others are loads
    #[arg(long, value_name = "PERCENT", default_value = "50", value_parser = percent, conflicts_with = "program")]
    pub(crate) writes: u8,

    /// For how long
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds, conflicts_with = "program")]
    pub(crate) seconds: Duration,

    /// End after so many faults, if that is sooner: a million of them need some 200 MiB to be shown
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "program")]
    pub(crate) faults: u64,

    /// Another number gives other pages in a random order
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1,
        conflicts_with = "program"
    )]
    pub(crate) seed: u64,
}

/// Who resolves the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    Traced,
    Native,
}

impl Synthetic {
    /// What the values are together that each are in order; one line if that makes no sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.stride.is_some() && self.pattern != Pattern::Stride {
            return Err("--stride is for --pattern stride".to_owned());
        }
        let size = self.size.as_u64();
        let page = page_size() as u64;
        if size < page {
            return Err(format!(
                "--size {size} is less than a page, which is {page} bytes here"
            ));
        }
        // All of it, and a copy of every page that is stored to.
        let needed = size.saturating_mul(2);
        if let Ok(available) =
            Meminfo::current().map(|memory| memory.mem_available.unwrap_or(memory.mem_free))
            && needed > available
        {
            return Err(format!(
                "--size {} needs twice as much memory, and {} are available",
                self.size.display().iec(),
                ByteSize(available).display().iec()
            ));
        }
        Ok(())
    }

    /// The memory in whole pages.
    pub(crate) fn pages(&self) -> usize {
        usize::try_from(self.size.as_u64())
            .unwrap_or(usize::MAX)
            .div_ceil(page_size())
    }

    /// Pages from one touch of an ordered pattern to the next.
    pub(crate) fn stride(&self) -> usize {
        match self.pattern {
            Pattern::Stride => self.stride.unwrap_or(STRIDE) as usize,
            _ => 1,
        }
    }
}

/// As people write it: 20 or 20%.
fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    match number {
        Ok(percent @ 0..=100) => Ok(percent),
        _ => Err("a number from 0 to 100 is wanted".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= MOST_SECONDS => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!(
            "a number above 0 and of at most {MOST_SECONDS} is wanted"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_people_write_them() {
        assert_eq!(percent("0"), Ok(0));
        assert_eq!(percent("100%"), Ok(100));
        for bad in ["101", "-1", "20%%", "%", "", "some"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("86400"), Ok(Duration::from_secs(86400)));
        for bad in ["0", "-1", "1e9", "nan", "inf", "", "2s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
