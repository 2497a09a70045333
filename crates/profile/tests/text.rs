//! The summary in the terminal.

mod support;

use cowspace_profile::{Profile, write_text};
use fault_recording::Recording;
use proptest::prelude::*;
use support::{any_recording, process, recording, sample};

fn text(recording: &Recording) -> String {
    let mut text = Vec::new();
    write_text(&Profile::new(recording), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Columns that a text takes, if each character takes one.
fn width(text: &str) -> usize {
    text.lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

#[test]
fn a_program_fits_the_terminal() {
    for probes in [false, true] {
        let text = text(&sample(20_000, probes));
        println!("{text}");
        assert!(width(&text) <= 80, "{}", width(&text));
        for word in [
            "How slow is a fault here?",
            "write-protect",
            "p99.9",
            "install",
            "heap (100)",
            "█",
            "in a layer, 2 nodes up",
        ] {
            assert!(text.contains(word), "{word}");
        }
        assert_eq!(text.contains("wake"), probes);
    }
}

#[test]
fn of_nothing_one_says_so() {
    for recording in [recording([]), recording([process(7)])] {
        let text = text(&recording);
        assert!(text.contains("No page fault was recorded."), "{text}");
        assert!(text.lines().count() < 8, "{text}");
    }
}

#[test]
fn what_the_kernel_resolves_has_a_total_and_no_phases() {
    let mut native = sample(500, true);
    for process in &mut native.processes {
        process.faults.clear();
        process.start.traced = false;
    }
    let text = text(&native);
    assert!(text.contains("kernel's own"), "{text}");
    assert!(
        text.contains("the kernel resolved them by itself"),
        "{text}"
    );
    assert!(!text.contains("install "), "{text}");
    assert!(!text.contains("(kernel's own: "), "{text}");
    assert!(width(&text) <= 80);
}

/// Where others are traced one asks why these are not.
#[test]
fn what_the_kernel_resolves_among_others_is_explained() {
    let mut mixed = sample(500, true);
    for process in &mut mixed.processes {
        process.faults.drain(..20);
    }
    let text = text(&mixed);
    assert!(text.contains("(kernel's own: resolved by"), "{text}");
    assert!(width(&text) <= 80);
}

#[test]
fn of_a_few_faults_no_percentile_is_told_that_they_do_not_have() {
    let few = text(&sample(60, false));
    assert!(!few.contains("One in a hundred"), "{few}");
    assert!(text(&sample(600, false)).contains("One in a hundred"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_recorded_is_plain_text(recording in any_recording()) {
        let text = text(&recording);
        prop_assert!(text.chars().all(|character| character == '\n' || !character.is_control()));
    }
}
