//! What stands on the screen, in windows of several sizes.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::sample::{Mapping, Sample, Target};
use super::state::State;
use super::view::draw;
use cowspace::inspect::Memory;
use fault_handler::Distribution;

/// What a window of that size shows, line by line.
fn shown(state: &State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a backend");
    terminal.draw(|frame| draw(frame, state)).expect("drawn");
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect())
        .collect()
}

fn sample(second: u64) -> Sample {
    let faults = [1_000 * second * second, 40 * second, 7];
    Sample {
        at: Duration::from_secs(second),
        uptime: Some(Duration::from_secs(3_600 + second)),
        page_size: 16_384,
        traced: true,
        faults,
        outcomes: [faults[0], 3, faults[1], 7, 0, 0, 0, 0, 1],
        handled: [
            Distribution::new([(3_100, faults[0] / 2), (4_000, faults[0] / 2), (80_000, 1)]),
            Distribution::new([(900, faults[1])]),
            Distribution::new([(2_000, 7)]),
        ],
        phases: ["queue+resolve", "install"]
            .into_iter()
            .zip([700, 2_200])
            .map(|(name, ns)| (name, Distribution::new([(ns, faults[0])])))
            .collect(),
        memory: Memory {
            vmos: 12,
            families: 3,
            mappings: 34,
            mapped_bytes: 10 << 30,
            private_bytes: 120 << 20,
            shared_bytes: 512 << 20,
            layers: 1,
            layer_bytes: 500 << 20,
            received_bytes: 0,
            file_bytes: 404 << 20,
            copied_bytes: 10 << 30,
        },
        mappings: (0..40)
            .map(|n| Mapping {
                start: 0x7000_0000_0000 + (n << 30),
                len: 1 << 30,
                name: format!("heap {n}"),
                private: 3 << 20,
                shared: 5 << 20,
                traced: n % 2 == 0,
            })
            .collect(),
        mappings_age: Duration::from_secs(7),
    }
}

/// A process that was looked at for a minute.
fn state() -> State {
    let target = Target {
        pid: 4_242,
        command: format!("zygote-demo --children 100 {}", "x".repeat(300)),
    };
    let mut state = State::new(target, Duration::from_secs(1));
    for second in 1..=61 {
        state.answer(sample(second));
    }
    state
}

#[track_caller]
fn contains(lines: &[String], expected: &str) {
    assert!(
        lines.iter().any(|line| line.contains(expected)),
        "no {expected:?} in\n{}",
        lines.join("\n")
    );
}

/// Everything that matters, whatever the size.
#[track_caller]
fn says_what_matters(lines: &[String]) {
    for expected in [
        "cowspace top    4242  zygote-demo --children 100",
        "up 1:01:01",
        "traced: the fault handler sees faults · pages of 16.0 KiB",
        "missing",
        "write-protect",
        "last 1 s",
        "since the start",
        "3.1 µs",
        "80.0 µs",
        "  queue+resolve  700 ns",
        "  install        2.2 µs",
        "poisoned 0",
        "10.0 GiB mapped (34 mappings, 12 VMOs)",
        "120.0 MiB private   512.0 MiB shared   500.0 MiB in 1 layer",
        "saves 9.0 GiB",
        "90% of 10.0 GiB that copies would take",
        "q quit",
        "p pause",
        "+ - every 1 s",
    ] {
        contains(lines, expected);
    }
    // The last second, all of them, the peak.
    let missing = lines.iter().find(|line| line.starts_with(" missing"));
    let missing: Vec<&str> = missing.expect("a line").split_whitespace().collect();
    for expected in ["121k", "3,721,000"] {
        assert!(missing.contains(&expected), "{missing:?}");
    }
    assert!(
        missing.last().expect("a graph").ends_with('█'),
        "{missing:?}"
    );
}

#[test]
fn a_window_of_80_by_24_shows_all_that_matters() {
    let lines = shown(&state(), 80, 24);
    says_what_matters(&lines);
    assert!(lines[23].starts_with(" q quit"));
    // No line but that of the command is cut.
    for line in &lines[1..] {
        assert!(!line.contains('…'), "{line}");
    }
}

#[test]
fn the_smallest_window_shows_it_too() {
    says_what_matters(&shown(&state(), 80, 21));
}

#[test]
fn a_larger_window_shows_more() {
    let lines = shown(&state(), 120, 40);
    says_what_matters(&lines);
    contains(&lines, "ALL FAULTS A SECOND");
    contains(&lines, "minor          in the file, not mapped");
    contains(&lines, "MAPPINGS");
    contains(&lines, "7 s ago");
    contains(&lines, "0x700000000000");
    contains(&lines, "heap 0");
    let taller = shown(&state(), 120, 80);
    says_what_matters(&taller);
    contains(&taller, "heap 39");
}

#[test]
fn a_window_that_is_too_small_says_so() {
    let text = shown(&state(), 40, 10).concat();
    assert!(
        text.starts_with("window too small: 40×10, 80×21 needed"),
        "{text}"
    );
    for (width, height) in [(1, 1), (0, 0), (80, 1), (1, 24), (79, 24), (80, 20)] {
        shown(&state(), width, height);
    }
}

#[test]
fn every_size_can_be_drawn() {
    let mut states = vec![
        state(),
        State::new(Target::default(), Duration::from_secs(60)),
    ];
    states.push(State::new(Target::default(), Duration::ZERO));
    states[2].answer(Sample::default());
    states[2].answer(Sample {
        at: Duration::from_nanos(1),
        faults: [u64::MAX / 4; 3],
        outcomes: [u64::MAX / 16; 9],
        handled: [(); 3].map(|()| Distribution::new([(u64::MAX, u64::MAX)])),
        memory: Memory {
            vmos: u64::MAX,
            mappings: u64::MAX,
            mapped_bytes: u64::MAX,
            private_bytes: u64::MAX,
            shared_bytes: u64::MAX,
            layers: u64::MAX,
            copied_bytes: u64::MAX,
            ..Memory::default()
        },
        ..Sample::default()
    });
    for state in &states {
        for (width, height) in [
            (80, 21),
            (81, 23),
            (109, 24),
            (110, 30),
            (300, 31),
            (1_100, 100),
        ] {
            shown(state, width, height);
        }
    }
}

#[test]
fn nothing_is_shown_as_known_before_it_is() {
    let mut state = State::new(Target::default(), Duration::from_secs(1));
    contains(&shown(&state, 80, 24), "waiting for the first answer");
    let first = Sample {
        phases: sample(1).phases,
        ..Sample::default()
    };
    state.answer(first);
    let lines = shown(&state, 80, 24);
    contains(&lines, "none yet");
    contains(&lines, "nothing traced: the kernel alone");
    let missing = lines.iter().find(|line| line.starts_with(" missing"));
    let missing: Vec<&str> = missing.expect("a line").split_whitespace().collect();
    assert_eq!(missing, ["missing", "-", "0", "0"]);
}

#[test]
fn a_pause_and_trouble_are_said() {
    let mut state = state();
    state.paused = true;
    state.no_answer("it is\u{1b}[31m stopped".into());
    let lines = shown(&state, 80, 24);
    contains(&lines, "PAUSED");
    contains(&lines, "p go on");
    contains(&lines, "no answer: it is·[31m stopped");
    contains(&lines, "3,721,000");
}
