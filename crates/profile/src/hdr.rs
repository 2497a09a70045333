//! Distributions over time as a log of HdrHistogram's.

use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::fault::Kind;
use crate::faults::Faults;
use crate::latency::Latencies;
use crate::profile::Profile;
use crate::words::measure_says;

/// Nanoseconds of an interval.
const INTERVAL: u64 = 1_000_000_000;

/// Writes an interval log that the tools of HdrHistogram read: for each second in which there were faults, and each kind, one histogram of their times in nanoseconds (by [`Profile::measure`]), with the kind's
/// name as its tag. Those whose time is not known are not in it.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_hdr(faults: &Faults<'_>, profile: &Profile, to: impl Write) -> io::Result<()> {
    let mut to = BufWriter::new(to);
    let start = Duration::from_nanos(profile.start_unix_ns.unwrap_or(0));
    let start = SystemTime::UNIX_EPOCH + start;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("Page faults, in nanoseconds, by kind.")
        .add_comment(measure_says(profile.measure))
        .with_start_time(start)
        .with_base_time(start)
        .begin_log_with(&mut to, &mut serializer)?;
    let mut interval = 0;
    let mut kinds: [Latencies; 4] = Default::default();
    let mut write = |interval: u64, kinds: &mut [Latencies; 4]| {
        for (kind, times) in Kind::ALL.into_iter().zip(std::mem::take(kinds)) {
            if !times.is_empty() {
                let from = Duration::from_secs(interval);
                let long = Duration::from_nanos(INTERVAL);
                log.write_histogram(times.histogram(), from, long, Tag::new(kind.name()))
                    .map_err(|error| io::Error::other(format!("{error:?}")))?;
            }
        }
        io::Result::Ok(())
    };
    for fault in faults.iter() {
        let Some(ns) = fault.time(profile.measure) else {
            continue;
        };
        let now = fault.begin_ns().saturating_sub(profile.start_ns) / INTERVAL;
        if now != interval {
            write(interval, &mut kinds)?;
            interval = now;
        }
        kinds[fault.kind() as usize].record(ns);
    }
    write(interval, &mut kinds)?;
    to.flush()
}
