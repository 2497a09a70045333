//! Two profiles compared.

mod support;

use cowspace_profile::{Diff, Profile, Verdict};
use fault_recording::{FaultKind, Recording};
use proptest::prelude::*;
use support::{any_recording, recording, sample};

fn diff(a: &Recording, b: &Recording) -> Diff {
    Diff::new(&Profile::new(a), &Profile::new(b))
}

fn text(diff: &Diff) -> String {
    let mut text = Vec::new();
    diff.write_text(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The same, with another installation of faults of one kind.
fn with_install(of: &Recording, kind: FaultKind, install: impl Fn(u64) -> u64) -> Recording {
    let mut other = of.clone();
    let faults = other
        .processes
        .iter_mut()
        .flat_map(|process| &mut process.faults);
    for fault in faults.filter(|fault| fault.kind == kind) {
        fault.install_ns = install(fault.install_ns);
    }
    other
}

#[test]
fn a_recording_is_no_other_than_itself() {
    let a = sample(5000, false);
    let diff = diff(&a, &a);
    for kind in &diff.kinds {
        for change in [kind.p50, kind.p90] {
            assert_eq!(
                (change.verdict, change.ratio),
                (Verdict::Same, Some(1.0)),
                "{kind:?}"
            );
        }
    }
    assert!(text(&diff).contains("No change of times."));
}

#[test]
fn one_kind_is_slower() {
    let a = sample(5000, false);
    let b = with_install(&a, FaultKind::Minor, |ns| ns * 2);
    let diff = diff(&a, &b);
    let verdicts = diff.kinds.iter().map(|kind| (kind.kind, kind.p50.verdict));
    let expected = [
        ("missing", Verdict::Same),
        ("minor", Verdict::Slower),
        ("write-protect", Verdict::Same),
        ("all", Verdict::Slower),
    ];
    assert_eq!(verdicts.collect::<Vec<_>>(), expected);
    let back = self::diff(&b, &a);
    assert_eq!(back.kinds[1].p50.verdict, Verdict::Faster);
    let install = diff
        .phases
        .iter()
        .find(|phase| phase.phase == "install")
        .unwrap();
    assert_eq!(install.p50.verdict, Verdict::Slower);
    let text = text(&diff);
    println!("{text}");
    assert!(text.contains("From A to B: minor p50 slower (×"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn a_little_more_or_a_few_faults_say_nothing() {
    let a = sample(5000, false);
    let little = with_install(&a, FaultKind::Minor, |ns| ns + ns / 50);
    assert_eq!(diff(&a, &little).kinds[1].p50.verdict, Verdict::Same);
    let few = sample(8, false);
    let diff = diff(&few, &with_install(&few, FaultKind::Minor, |ns| ns * 9));
    assert!(
        diff.kinds
            .iter()
            .all(|kind| kind.p99.verdict == Verdict::Unknown)
    );
    assert_eq!(diff.kinds[1].p50.verdict, Verdict::Unknown);
    assert!(text(&diff).contains("too few"));
}

#[test]
fn other_machines_and_measures_are_told() {
    let a = sample(500, false);
    let mut b = sample(500, true);
    for process in &mut b.processes {
        process.start.page_size = 16384;
        process.start.kernel = "6.12.0".to_owned();
    }
    let notes = diff(&a, &b).notes.join("\n");
    for part in [
        "page size (4.0 KiB, 16.0 KiB)",
        "kernel (6.18.0, 6.12.0)",
        "what the handlers took is compared",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert!(!notes.contains("CPUs"), "{notes}");
}

/// Of the same faults the handler knows three phases, and probes all five: shares are those of the three.
#[test]
fn shares_are_of_what_both_know() {
    let a = sample(500, false);
    let mut b = sample(500, true);
    for (with, without) in b.processes.iter_mut().zip(&a.processes) {
        with.faults.clone_from(&without.faults);
    }
    let diff = diff(&a, &b);
    let names: Vec<&str> = diff.phases.iter().map(|phase| phase.phase).collect();
    assert_eq!(names, ["queue", "resolve", "install"]);
    for side in 0..2 {
        let sum: f64 = diff.phases.iter().map(|phase| phase.shares[side]).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }
}

#[test]
fn regions_are_compared_by_name() {
    let a = sample(700, false);
    let mut b = a.clone();
    b.processes.pop();
    let diff = diff(&a, &b);
    let heap = diff
        .regions
        .iter()
        .find(|region| region.name.as_deref() == Some("heap"))
        .unwrap();
    assert_eq!(heap.faults[0], heap.faults[1] * 2);
    assert_eq!(diff.all.faults, [700, 350]);
    let mut json = Vec::new();
    diff.write_json(&mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["all"]["faults"][1], 350);
    assert_eq!(json["kinds"][0]["p50"]["verdict"], "same");
}

#[test]
fn with_nothing_there_is_nothing_to_compare() {
    let text = text(&diff(&recording([]), &sample(100, false)));
    assert!(text.contains("too few faults"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_recorded_compares(a in any_recording(), b in any_recording()) {
        let diff = diff(&a, &b);
        let text = text(&diff);
        prop_assert!(text.chars().all(|character| character == '\n' || !character.is_control()));
        diff.write_json(std::io::sink()).unwrap();
    }
}
