//! What other programs read: JSON, CSV, HdrHistogram's log.

mod support;

use std::collections::BTreeMap;

use cowspace_profile::{Faults, Kind, Measure, Profile, write_csv, write_hdr, write_json};
use fault_recording::Recording;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use proptest::prelude::*;
use serde_json::Value;
use support::{any_recording, fault, mapping, probe, process, recording, sample};

fn json(recording: &Recording) -> Value {
    let mut text = Vec::new();
    write_json(&Profile::new(recording), &mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The rows of a CSV table, by the names of its columns.
fn csv(recording: &Recording) -> Vec<BTreeMap<String, String>> {
    let faults = Faults::new(recording);
    let mut text = Vec::new();
    write_csv(&faults, &Profile::of(&faults), &mut text).unwrap();
    let mut table = csv::Reader::from_reader(&text[..]);
    assert_eq!(table.headers().unwrap().len(), 24);
    table.deserialize().map(Result::unwrap).collect()
}

/// Each interval of a log: its tag, when it begins, its histogram.
fn hdr(recording: &Recording) -> Vec<(String, f64, Histogram<u64>)> {
    let faults = Faults::new(recording);
    let mut text = Vec::new();
    write_hdr(&faults, &Profile::of(&faults), &mut text).unwrap();
    let mut deserializer = hdrhistogram::serialization::Deserializer::new();
    let mut intervals = Vec::new();
    for entry in IntervalLogIterator::new(&text) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            use base64::Engine as _;
            let encoded = interval.encoded_histogram();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(encoded)
                .unwrap();
            let tag = interval.tag().unwrap().as_str().to_owned();
            let histogram = deserializer.deserialize(&mut &bytes[..]).unwrap();
            intervals.push((tag, interval.start_timestamp().as_secs_f64(), histogram));
        }
    }
    intervals
}

#[test]
fn json_has_stable_names() {
    let document = json(&sample(2000, true));
    assert_eq!(document["version"], 1);
    assert_eq!(document["measure"], "total");
    let pointers = [
        "/machines/0/page_size",
        "/processes/0/end/lost",
        "/kinds/write-protect/total/p999",
        "/kinds/missing/handled/histogram/0/from_ns",
        "/kinds/minor/outcomes/continued",
        "/all/phases/resolve/p50",
        "/all/bands/0/phases/wake",
        "/answers/0/answer/name",
        "/regions/0/ranges/0/start",
        "/regions/0/kinds/kernel",
        "/threads/0/latency/p99",
        "/placements/same/faults",
        "/touches/faulted/max",
        "/bins/0/kinds/missing",
        "/heat/rows/0/region",
        "/recording/p50",
    ];
    for pointer in pointers {
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let profile = Profile::new(&sample(2000, true));
    assert_eq!(
        document["all"]["total"]["p99"],
        profile.all.total.quantile(0.99)
    );
}

#[test]
fn a_row_has_all_of_a_fault() {
    let mut process = process(7);
    process.mappings = vec![(0, vec![mapping(0x10000, 4, 3, "a, \"heap\"")])];
    process.threads = vec![(8, "worker".to_owned())];
    let of = fault(1_500_000, 8, 0x11000);
    process.probes = vec![probe(&of, 4000)];
    process.faults = vec![of];
    let rows = csv(&recording([process]));
    let expected = [
        ("time_ns", "499000"),
        ("pid", "7"),
        ("tid", "8"),
        ("thread", "worker"),
        ("address", "0x11000"),
        ("region", "a, \"heap\""),
        ("koid", "3"),
        ("kind", "missing"),
        ("write", "true"),
        ("answer", "zero"),
        ("depth", ""),
        ("outcome", "copied"),
        ("pages", "1"),
        ("attempts", "1"),
        ("cpu", "0"),
        ("handler_cpu", "1"),
        ("kernel_ns", "1000"),
        ("queue_ns", "300"),
        ("resolve_ns", "500"),
        ("install_ns", "2200"),
        ("wake_ns", "4000"),
        ("handled_ns", "3000"),
        ("total_ns", "8000"),
        ("recording_ns", "0"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(rows, [BTreeMap::from(expected)]);
}

#[test]
fn the_log_has_each_kind_of_each_second() {
    let mut process = process(7);
    let at = [
        1_000_000,
        2_000_000,
        999_000_000,
        1_001_000_000,
        4_002_000_000,
    ];
    process.faults = at.map(|at| fault(at, 8, 0x11000)).to_vec();
    process.faults[1].kind = fault_recording::FaultKind::Minor;
    let intervals = hdr(&recording([process]));
    let intervals: Vec<_> = intervals
        .iter()
        .map(|(tag, from, times)| (tag.as_str(), *from, times.len(), times.max()))
        .collect();
    // The profile begins 1 ms after 0, as the process does.
    let expected = [
        ("missing", 0.0, 2, 3001),
        ("minor", 0.0, 1, 3001),
        ("missing", 1.0, 1, 3001),
        ("missing", 4.0, 1, 3001),
    ];
    assert_eq!(intervals, expected);
}

#[test]
fn the_log_adds_up_to_the_profile() {
    let recording = sample(3000, true);
    let profile = Profile::new(&recording);
    assert_eq!(profile.measure, Measure::Total);
    for kind in Kind::ALL {
        let intervals = hdr(&recording);
        let of_kind = intervals.iter().filter(|(tag, ..)| tag == kind.name());
        let count: u64 = of_kind.map(|(_, _, times)| times.len()).sum();
        assert_eq!(count, profile.kinds[kind as usize].total.count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_recorded_can_be_read_back(recording in any_recording()) {
        let profile = Profile::new(&recording);
        let document = json(&recording);
        prop_assert_eq!(&document["all"]["faults"], &Value::from(profile.all.faults));
        prop_assert_eq!(csv(&recording).len() as u64, profile.all.faults);
        let timed: u64 = hdr(&recording).iter().map(|(_, _, times)| times.len()).sum();
        prop_assert_eq!(timed, profile.all.latencies(profile.measure).count());
    }
}
