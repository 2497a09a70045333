//! The trace parses, and its events lie inside of each other or side by side.

mod support;

use std::collections::{BTreeMap, HashMap};

use cowspace_profile::{Faults, Profile, write_trace};
use fault_recording::Recording;
use proptest::prelude::*;
use serde_json::Value;
use support::{any_recording, fault, probe, process, recording, sample};

/// An event that lasts, in nanoseconds.
#[derive(Clone, Debug)]
struct Span {
    cat: String,
    name: String,
    from: u64,
    to: u64,
    args: Value,
}

fn events(recording: &Recording) -> Vec<Value> {
    let faults = Faults::new(recording);
    let mut text = Vec::new();
    write_trace(&faults, &Profile::of(&faults), &mut text).unwrap();
    let mut trace: Value = serde_json::from_slice(&text).unwrap();
    serde_json::from_value(trace["traceEvents"].take()).unwrap()
}

/// The spans of each track, in the order of the file.
fn tracks(events: &[Value]) -> BTreeMap<(i64, i64), Vec<Span>> {
    let mut tracks: BTreeMap<_, Vec<Span>> = BTreeMap::new();
    let ns = |value: &Value| (value.as_f64().unwrap() * 1e3).round() as u64;
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let track = [&event["pid"], &event["tid"]].map(|number| number.as_i64().unwrap());
        let from = ns(&event["ts"]);
        tracks.entry(track.into()).or_default().push(Span {
            cat: event["cat"].as_str().unwrap().to_owned(),
            name: event["name"].as_str().unwrap().to_owned(),
            from,
            to: from.saturating_add(ns(&event["dur"])),
            args: event["args"].clone(),
        });
    }
    tracks
}

/// No two spans of a track overlap in part.
fn nests(track: &[Span]) {
    let mut spans: Vec<&Span> = track.iter().collect();
    // Who begins first and lasts longest is outside.
    spans.sort_by_key(|span| (span.from, std::cmp::Reverse(span.to)));
    let mut open: Vec<&Span> = Vec::new();
    for span in spans {
        while open.last().is_some_and(|outer| outer.to <= span.from) {
            open.pop();
        }
        if let Some(outer) = open.last() {
            assert!(span.to <= outer.to, "{span:?} overlaps {outer:?}");
        }
        open.push(span);
    }
    assert!(!track.is_empty());
}

/// Each span that is no phase has its phases behind it; they lie inside one after the other. Gives how long they are together.
fn with_phases(track: &[Span]) -> Vec<(Span, HashMap<String, u64>)> {
    let mut whole: Vec<(Span, HashMap<String, u64>)> = Vec::new();
    let mut now = 0;
    for span in track {
        if span.cat == "phase" {
            let (outer, phases) = whole.last_mut().unwrap();
            assert_eq!(span.from, now, "{span:?} of {outer:?}");
            assert!(span.to <= outer.to);
            phases.insert(span.name.clone(), span.to - span.from);
            now = span.to;
        } else {
            whole.push((span.clone(), HashMap::new()));
            now = span.from;
        }
    }
    whole
}

#[test]
fn a_trace_nests_and_adds_up() {
    for probes in [false, true] {
        let recording = sample(3000, probes);
        let tracks = tracks(&events(&recording));
        let (mut faults, mut handled) = (0, 0);
        for track in tracks.values() {
            nests(track);
            for (span, phases) in with_phases(track) {
                let sum: u64 = phases.values().sum();
                assert_eq!(sum, span.to - span.from, "{span:?}");
                match span.cat.as_str() {
                    "fault" => {
                        faults += 1;
                        assert_eq!(phases.contains_key("wake"), probes);
                        assert!(span.args["address"].as_str().unwrap().starts_with("0x"));
                    }
                    "handler" => {
                        handled += 1;
                        assert!(!phases.contains_key("queue"));
                    }
                    other => panic!("{other}"),
                }
            }
        }
        assert_eq!((faults, handled), (3000, 3000));
        // Four threads and two handlers, none of which needs a second track for threads.
        let threads = tracks.values().filter(|track| track[0].cat == "fault");
        assert_eq!(threads.count(), 4);
    }
}

#[test]
fn processes_and_threads_have_their_names_and_rates() {
    let events = events(&sample(300, false));
    let names = |what: &str| {
        let named = events.iter().filter(|event| event["name"] == what);
        let mut names: Vec<&str> = named
            .map(|event| event["args"]["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    assert_eq!(names("process_name"), ["program --option"]);
    assert_eq!(names("thread_name"), ["fault handler", "main", "worker"]);
    let counters = events.iter().filter(|event| event["ph"] == "C");
    assert!(counters.clone().count() > 100);
    assert!(
        counters
            .clone()
            .any(|event| event["args"]["minor"].as_f64().unwrap() > 0.0)
    );
}

#[test]
fn nanoseconds_survive_days() {
    let mut process = process(7);
    let day = 86_400_000_000_000;
    let at = 7 * day + 123_456_789;
    process.start.at_ns = 0;
    process.faults = vec![fault(at, 8, 0x1000)];
    let tracks = tracks(&events(&recording([process])));
    assert_eq!(tracks[&(7, 8)][0].from, at);
    assert_eq!(tracks[&(7, 8)][0].to, at + 3000);
}

#[test]
fn a_process_and_its_successor_are_two() {
    let mut process = process(7);
    let of = fault(1_500_000, 7, 0x1000);
    process.probes = vec![probe(&of, 10)];
    process.faults = vec![of];
    let tracks = tracks(&events(&recording([process.clone(), process])));
    assert_eq!(tracks.len(), 4);
    let mut pids: Vec<i64> = tracks.keys().map(|(pid, _)| *pid).collect();
    pids.dedup();
    assert_eq!(pids.len(), 2);
}

#[test]
fn of_nothing_there_is_a_trace() {
    assert!(events(&recording([])).is_empty());
    assert_eq!(events(&recording([process(7)])).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_recorded_nests(recording in any_recording()) {
        let faults = Faults::new(&recording).len();
        let tracks = tracks(&events(&recording));
        let spans = tracks.values().flatten();
        prop_assert_eq!(spans.filter(|span| span.cat == "fault").count(), faults);
        // Beyond that, nanoseconds are no more exact.
        let exact = |span: &Span| span.to < 1 << 50;
        for track in tracks.values().filter(|track| track.iter().all(exact)) {
            nests(track);
        }
    }
}
