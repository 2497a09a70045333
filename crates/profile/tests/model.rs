//! The model says what was recorded, and its counts add up whatever that was.

mod support;

use cowspace_profile::{Faults, Kind, Measure, Phase, Phases, Profile, Role};
use fault_recording::{Answer, Ended, FaultKind, OutcomeKind, Policy, Recording};
use proptest::prelude::*;
use support::{PAGE, any_recording, fault, mapping, probe, process, recording, sample};

/// Everything that is counted in several ways is the same in all of them.
fn adds_up(of: &Recording) -> Profile {
    let faults = Faults::new(of);
    let profile = Profile::of(&faults);
    let all = profile.all.faults;
    assert_eq!(all, faults.len() as u64);
    let records: u64 = of
        .processes
        .iter()
        .map(|process| process.faults.len() as u64)
        .sum();
    let kernel = profile.kinds[Kind::Kernel as usize].faults;
    assert_eq!(all, records + kernel);

    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.sum::<u64>();
    assert_eq!(
        all,
        sum(&mut profile.kinds.iter().map(|kind| kind.faults)),
        "by kind"
    );
    assert_eq!(
        all,
        sum(&mut profile.processes.iter().map(|process| process.faults)),
        "by process"
    );
    assert_eq!(
        all,
        sum(&mut profile.regions.iter().map(|region| region.faults)),
        "by region"
    );
    assert_eq!(
        all,
        sum(&mut profile.threads.iter().map(|thread| thread.faults)),
        "by thread"
    );
    assert_eq!(
        all,
        sum(&mut profile.cpus.iter().map(|cpu| cpu.faults)),
        "by CPU"
    );
    assert_eq!(
        all,
        sum(&mut profile.placements.iter().map(|place| place.faults)),
        "by place"
    );
    assert_eq!(
        all,
        sum(&mut profile.bins.iter().map(|bin| bin.faults())),
        "by time"
    );
    assert_eq!(
        all,
        sum(&mut profile.heat.cells.iter().copied()),
        "in the heat map"
    );
    assert_eq!(
        records,
        sum(&mut profile.answers.iter().map(|answer| answer.faults)),
        "by answer"
    );
    for kind in Kind::ALL {
        let of_kind = profile.kinds[kind as usize].faults;
        let by_region = profile
            .regions
            .iter()
            .map(|region| region.kinds[kind as usize]);
        assert_eq!(of_kind, by_region.sum::<u64>(), "{kind:?} by region");
        let by_time = profile.bins.iter().map(|bin| bin.kinds[kind as usize]);
        assert_eq!(of_kind, by_time.sum::<u64>(), "{kind:?} by time");
    }
    for of in profile.kinds.iter().chain([&profile.all]) {
        let times = of.latencies(profile.measure);
        assert_eq!(
            times.count(),
            of.bands.iter().map(|band| band.faults).sum::<u64>()
        );
        let buckets = times.buckets(4);
        assert_eq!(
            times.count(),
            buckets.iter().map(|bucket| bucket.count).sum::<u64>()
        );
        assert!(buckets.len() <= 64 * 4);
        assert!(of.outcomes.iter().map(|(_, count)| count).sum::<u64>() <= of.faults);
    }
    // By row as by region.
    for (index, region) in profile.regions.iter().enumerate() {
        let rows = profile.heat.rows.iter().enumerate();
        let mut rows = rows.filter(|(_, row)| row.region == Some(index)).peekable();
        if rows.peek().is_some() {
            let cells = rows.flat_map(|(row, _)| profile.heat.row(row));
            assert_eq!(region.faults, cells.sum::<u64>(), "{region:?}");
        }
    }
    assert!(profile.heat.rows.len() <= 64 && profile.heat.columns <= 120);
    assert!(profile.pages_touched <= all && profile.sequential <= all);
    profile
}

/// The phases of each fault are what its thread waited, and those of the handler what the handler did.
fn phases_fit(of: &Recording) {
    let sum = |phases: Phases| phases.into_iter().flatten().map(u128::from).sum::<u128>();
    for fault in Faults::new(of)
        .iter()
        .filter(|fault| fault.record.is_some())
    {
        let waited = sum(fault.phases());
        let with_recording = waited + u128::from(fault.recording());
        assert_eq!(
            with_recording,
            u128::from(fault.end_ns() - fault.begin_ns()),
            "{fault:?}"
        );
        if let Some(ns) = fault.handled() {
            assert_eq!(sum(fault.handler_phases()), u128::from(ns), "{fault:?}");
        }
        if let Some(ns) = fault.total() {
            assert_eq!(waited, u128::from(ns), "{fault:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_add_up(recording in any_recording()) {
        adds_up(&recording);
        phases_fit(&recording);
    }
}

#[test]
fn of_nothing_there_is_a_profile() {
    let profile = adds_up(&recording([]));
    assert_eq!(profile.all.faults, 0);
    assert!(profile.bins.is_empty() && profile.regions.is_empty() && profile.touches.is_none());
    let profile = adds_up(&recording([process(7)]));
    assert_eq!(profile.processes.len(), 1);
    assert_eq!(profile.all.latencies(profile.measure).quantile(0.5), 0);
}

#[test]
fn a_single_fault_is_all_there_is() {
    let mut process = process(7);
    process.mappings = vec![(0, vec![mapping(0x10000, 4, 3, "heap")])];
    process.faults = vec![fault(1_500_000, 8, 0x11000)];
    process.threads = vec![(8, "worker".to_owned())];
    let profile = adds_up(&recording([process]));
    assert_eq!(profile.measure, Measure::Handled);
    assert_eq!(profile.all.handled.quantile(0.5), 3000);
    assert!(profile.all.total.is_empty());
    assert_eq!(profile.first_fault_ns, 500_000);
    let region = &profile.regions[0];
    assert_eq!(
        (region.name.as_str(), region.koid, region.bytes),
        ("heap", Some(3), 4 * PAGE as u64)
    );
    assert_eq!((region.pages_touched, region.latency.max), (1, 3000));
    assert_eq!(profile.threads[0].name, "worker");
    assert_eq!(profile.placements.map(|place| place.faults), [0, 1, 0]);
    assert_eq!(profile.bins.len(), 1);
    let shares = profile.all.shares();
    assert_eq!(shares, [0.0, 0.1, 500.0 / 3000.0, 2200.0 / 3000.0, 0.0]);
}

#[test]
fn a_probe_gives_its_fault_a_beginning_and_an_end() {
    let mut process = process(7);
    let of = fault(1_500_000, 8, 0x11000);
    process.faults = vec![
        fault(1_500_000, 9, 0x11000),
        of,
        fault(1_900_000, 8, 0x11000),
    ];
    process.probes = vec![probe(&of, 4000)];
    let recording = recording([process]);
    let faults = Faults::new(&recording);
    let probed: Vec<_> = faults
        .iter()
        .filter(|fault| fault.probe.is_some())
        .collect();
    assert_eq!(probed.len(), 1);
    assert_eq!(probed[0].tid(), Some(8));
    assert_eq!(probed[0].record, Some(&of));
    assert_eq!(probed[0].total(), Some(8000));
    assert_eq!(probed[0].phases(), [1000, 300, 500, 2200, 4000].map(Some));
    assert_eq!(
        probed[0].handler_phases(),
        [None, Some(300), Some(500), Some(2200), None]
    );
    adds_up(&recording);
}

#[test]
fn what_recording_adds_is_in_no_time() {
    let mut process = process(7);
    let mut of = fault(1_500_000, 8, 0x11000);
    of.recording_ns = 3500;
    process.probes = vec![probe(&of, 4000)];
    process.faults = vec![of];
    let recording = recording([process]);
    let fault = Faults::new(&recording).iter().next().unwrap();
    assert_eq!(
        (fault.total(), fault.handled(), fault.recording()),
        (Some(8000), Some(3000), 3500)
    );
    assert_eq!(adds_up(&recording).recording.p50, 3500);
}

#[test]
fn a_thread_that_runs_before_its_ioctl_has_returned_waits_no_longer() {
    let mut process = process(7);
    let of = fault(1_500_000, 8, 0x11000);
    let mut probe = probe(&of, 0);
    probe.after_ns -= 200;
    process.faults = vec![of];
    process.probes = vec![probe];
    let recording = recording([process]);
    let fault = Faults::new(&recording).iter().next().unwrap();
    assert_eq!(fault.phases(), [1000, 300, 500, 2000, 0].map(Some));
    assert_eq!((fault.total(), fault.handled()), (Some(3800), Some(3000)));
}

#[test]
fn a_touch_of_several_faults_has_one_beginning_and_one_end() {
    let mut process = process(7);
    let [first, second, third] = [1_500_000, 1_510_000, 1_520_000].map(|at| fault(at, 8, 0x11000));
    let mut touch = probe(&first, 0);
    touch.after_ns = 1_530_000;
    touch.faults = 3;
    process.faults = vec![first, second, third];
    process.probes = vec![touch];
    let recording = recording([process]);
    let faults = Faults::new(&recording);
    let roles: Vec<Role> = faults.iter().map(|fault| fault.role).collect();
    assert_eq!(roles, [Role::First, Role::Middle, Role::Last]);
    let known: Vec<_> = faults.iter().map(|fault| fault.phases()).collect();
    assert_eq!(known[0][Phase::Kernel as usize], Some(1000));
    assert_eq!(known[2][Phase::Wake as usize], Some(7000));
    assert_eq!(
        (known[0][4], known[1][0], known[1][4], known[2][0]),
        (None, None, None, None)
    );
    let profile = adds_up(&recording);
    assert!(profile.all.total.is_empty());
    let touches = profile.touches.unwrap();
    assert_eq!(
        (touches.several_faults.count, touches.several_faults.max),
        (1, 31_000)
    );
}

#[test]
fn what_only_a_probe_has_seen_is_the_kernels() {
    let mut process = process(7);
    let of = |page| fault(1_500_000, 8, page);
    let mut quiet = probe(&of(0x13000), 0);
    quiet.faults = 0;
    process.start.traced = false;
    process.probes = vec![probe(&of(0x11000), 0), probe(&of(0x12000), 0), quiet];
    let profile = adds_up(&recording([process]));
    assert_eq!(profile.kinds[Kind::Kernel as usize].faults, 2);
    assert_eq!((profile.all.faults, profile.measure), (2, Measure::Total));
    assert_eq!(profile.all.total.quantile(0.5), 4000);
    let touches = profile.touches.unwrap();
    assert_eq!(
        (
            touches.count,
            touches.faulted.count,
            touches.without_fault.count
        ),
        (3, 2, 1)
    );
}

#[test]
fn a_probe_whose_record_may_be_lost_is_no_fault_of_the_kernels() {
    let mut process = process(7);
    let mut native = mapping(0x20000, 1, 2, "native");
    native.policy = Policy::Native;
    process.mappings = vec![(0, vec![mapping(0x10000, 1, 1, "traced"), native])];
    let probes = [0x10000, 0x20000].map(|page| probe(&fault(1_500_000, 8, page), 0));
    process.probes = probes.to_vec();
    let mut lossy = process.clone();
    lossy.end = Ended::Unsaid;
    let profile = adds_up(&recording([process, lossy]));
    let counts = profile
        .processes
        .iter()
        .map(|process| (process.faults, process.unmatched_probes));
    assert_eq!(counts.collect::<Vec<_>>(), [(2, 0), (1, 1)]);
}

#[test]
fn a_region_is_what_was_mapped_at_the_time() {
    let mut process = process(7);
    let pages = [0x10000, 0x10000, 0x11000, 0x30000, 0x40000];
    process.faults = (0..)
        .zip(pages)
        .map(|(at, page)| fault(1_500_000 + at * 5000, 8, page))
        .collect();
    process.mappings = vec![
        (1, vec![mapping(0x10000, 2, 1, "first")]),
        // The table does not have what was unmapped meanwhile, nor what was mapped and unmapped.
        (2, vec![mapping(0x10000, 1, 2, "second")]),
        (
            5,
            vec![
                mapping(0x30000, 1, 3, "late"),
                mapping(0x10000, 2, 4, "last"),
            ],
        ),
    ];
    let recording = recording([process]);
    let faults = Faults::new(&recording);
    let names = faults.iter().map(|fault| {
        let mapping = faults.regions()[fault.region].mapping;
        mapping.map(|mapping| mapping.name.as_str())
    });
    let expected = [
        Some("first"),
        Some("first"),
        Some("first"),
        Some("late"),
        None,
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let profile = adds_up(&recording);
    let unknown = profile
        .regions
        .iter()
        .find(|region| region.koid.is_none())
        .unwrap();
    assert_eq!(
        (unknown.faults, &unknown.ranges),
        (1, &vec![(0x40000, PAGE)])
    );
}

#[test]
fn only_answered_faults_are_timed() {
    let mut process = process(7);
    process.faults = OutcomeKind::ALL
        .into_iter()
        .enumerate()
        .map(|(at, outcome)| {
            let mut fault = fault(1_500_000 + at as u64, 8, 0x10000);
            fault.outcome = outcome;
            fault
        })
        .collect();
    let profile = adds_up(&recording([process]));
    assert_eq!(profile.all.handled.count(), 5);
    assert_eq!(
        profile.all.outcomes,
        OutcomeKind::ALL.map(|outcome| (outcome, 1))
    );
}

#[test]
fn what_follows_on_is_sequential_by_thread() {
    let mut process = process(7);
    let pages = [(8, 0), (9, 50), (8, 1), (9, 51), (8, 4), (9, 53), (8, 0)];
    process.faults = (0..)
        .zip(pages)
        .map(|(at, (tid, page))| fault(1_500_000 + at, tid, page * PAGE))
        .collect();
    // Pages 1, 2 and 3 were installed with page 1.
    process.faults[2].pages = 3;
    let profile = adds_up(&recording([process]));
    assert_eq!((profile.sequential, profile.pages_touched), (3, 6));
}

#[test]
fn answers_are_told_by_depth() {
    let mut process = process(7);
    let answers = [
        None,
        Some(Answer::Layer { depth: 2 }),
        Some(Answer::Zero),
        Some(Answer::Layer { depth: 0 }),
        Some(Answer::Zero),
    ];
    process.faults = (0..)
        .zip(answers)
        .map(|(at, answer)| {
            let mut fault = fault(1_500_000 + at, 8, 0x10000);
            fault.kind = FaultKind::Minor;
            fault.answer = answer;
            fault
        })
        .collect();
    let profile = adds_up(&recording([process]));
    let rows: Vec<_> = profile
        .answers
        .iter()
        .map(|row| (row.answer, row.faults, row.resolve.p50))
        .collect();
    let expected = [
        (Some(Answer::Zero), 2, 500),
        (Some(Answer::Layer { depth: 0 }), 1, 500),
        (Some(Answer::Layer { depth: 2 }), 1, 500),
        (None, 1, 500),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn many_regions_share_the_last_row_of_the_heat_map() {
    let mut process = process(7);
    let regions = 0..100;
    process.mappings = vec![(
        0,
        regions
            .clone()
            .map(|of| mapping(of << 20, 16, of as u64, ""))
            .collect(),
    )];
    process.faults = regions
        .flat_map(|of| (0..=of % 50).map(move |page| (of << 20) + page % 16 * PAGE))
        .zip(0..)
        .map(|(page, at)| fault(1_500_000 + at * 5000, 8, page))
        .collect();
    let profile = adds_up(&recording([process]));
    let last = profile.heat.rows.last().unwrap();
    assert_eq!((last.region, last.bytes), (None, 69 * 16 * PAGE as u64));
    assert!(
        profile
            .heat
            .row(profile.heat.rows.len() - 1)
            .iter()
            .sum::<u64>()
            > 0
    );
}

#[test]
fn a_program_has_a_profile() {
    let profile = adds_up(&sample(20_000, true));
    assert_eq!(profile.measure, Measure::Total);
    assert_eq!(
        profile
            .regions
            .iter()
            .filter(|region| region.faults > 0)
            .count(),
        8
    );
    assert_eq!(adds_up(&sample(20_000, false)).measure, Measure::Handled);
}
