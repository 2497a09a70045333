//! Recordings for tests.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use fault_recording::{
    Answer, End, Ended, FaultKind, FaultRecord, Mapping, OutcomeKind, Policy, Probe,
    ProcessRecording, Recording, Start,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

pub const PAGE: usize = 4096;

/// One process, nothing recorded yet.
pub fn process(pid: i32) -> ProcessRecording {
    ProcessRecording {
        start: Start {
            cowspace: "0.1.0".to_owned(),
            kernel: "6.18.0".to_owned(),
            machine: "x86_64".to_owned(),
            cpus: 2,
            page_size: PAGE as u64,
            pid,
            parent: 1,
            command: vec!["program".to_owned(), "--option".to_owned()],
            at_ns: 1_000_000,
            unix_ns: 1_800_000_000_000_000_000,
            traced: true,
        },
        faults: Vec::new(),
        mappings: Vec::new(),
        threads: Vec::new(),
        probes: Vec::new(),
        end: Ended::Said(End {
            at_ns: 2_000_000_000,
            recorded: 0,
            lost: 0,
            cost_ns: 0,
        }),
    }
}

pub fn recording(processes: impl Into<Vec<ProcessRecording>>) -> Recording {
    Recording {
        processes: processes.into(),
        cut: None,
    }
}

/// A copied page, 300 ns of queueing, 500 of resolving, 2200 of installing.
pub fn fault(read_ns: u64, tid: i32, page: usize) -> FaultRecord {
    FaultRecord {
        read_ns,
        page,
        kind: FaultKind::Missing,
        write: true,
        tid: Some(tid),
        cpu: Some(0),
        handler_cpu: Some(1),
        answer: Some(Answer::Zero),
        outcome: OutcomeKind::Copied,
        pages: 1,
        attempts: 1,
        queue_ns: 300,
        recording_ns: 0,
        resolve_ns: 500,
        install_ns: 2200,
    }
}

pub fn mapping(start: usize, pages: usize, koid: u64, name: &str) -> Mapping {
    Mapping {
        start,
        len: pages * PAGE,
        name: name.to_owned(),
        koid,
        vmo_offset: 0,
        policy: Policy::Traced,
    }
}

/// The probe around a fault: 1000 ns before it was read, `wake` after it was handled.
pub fn probe(fault: &FaultRecord, wake: u64) -> Probe {
    Probe {
        tid: fault.tid.unwrap(),
        page: fault.page,
        write: fault.write,
        before_ns: fault.read_ns - 1000,
        after_ns: fault.read_ns
            + fault.queue_ns
            + fault.recording_ns
            + fault.resolve_ns
            + fault.install_ns
            + wake,
        faults: 1,
    }
}

/// Something like a program: two processes, three kinds, three regions and one that is gone, probes if asked for.
pub fn sample(faults: usize, probes: bool) -> Recording {
    let mut random = fastrand::Rng::with_seed(5);
    let processes = [100, 200].map(|pid| {
        let mut process = process(pid);
        let base = 0x7f00_0000_0000 + pid as usize * 0x1000_0000;
        let regions = [
            (0, 4096, "heap"),
            (0x400_0000, 1024, "table"),
            (0x800_0000, 64, "stack"),
        ];
        let mappings = regions.iter().enumerate();
        process.mappings.push((
            0,
            mappings
                .map(|(koid, (at, pages, name))| mapping(base + at, *pages, koid as u64 + 1, name))
                .collect(),
        ));
        process.threads = vec![(pid, "main".to_owned()), (pid + 1, "worker".to_owned())];
        let mut now = 10_000_000;
        for number in 0..faults / 2 {
            now += random.u64(4_000..40_000);
            let (at, pages, _) = regions[(number % 7 / 3).min(2)];
            let page = (random.f64().powi(4) * pages as f64) as usize;
            let mut fault = fault(now, pid + i32::from(random.bool()), base + at + page * PAGE);
            fault.cpu = Some(random.u32(0..4));
            fault.handler_cpu = Some(random.u32(0..4));
            fault.write = random.bool();
            fault.kind = [
                FaultKind::Missing,
                FaultKind::Minor,
                FaultKind::WriteProtect,
            ][number % 5 % 3];
            (fault.answer, fault.outcome) = match fault.kind {
                FaultKind::Missing => (Some(Answer::Zero), OutcomeKind::Zeroed),
                FaultKind::Minor => (Some(Answer::Own), OutcomeKind::Continued),
                FaultKind::WriteProtect => {
                    let depth = random.u32(0..4);
                    (Some(Answer::Layer { depth }), OutcomeKind::Copied)
                }
            };
            if number % 50 == 0 {
                fault.outcome = OutcomeKind::Parked;
                fault.pages = 0;
            }
            let slow = if random.u32(0..50) == 0 { 40 } else { 1 };
            fault.queue_ns = random.u64(50..400) * slow;
            fault.recording_ns = random.u64(2_000..4_000);
            fault.resolve_ns = random.u64(200..900);
            fault.install_ns = random.u64(800..2400);
            if number % 97 == 0 {
                fault.page = base + 0xc00_0000;
            }
            if probes {
                process.probes.push(probe(&fault, random.u64(1500..6000)));
            }
            now += 50_000 * (slow - 1) / 39 + 10_000;
            process.faults.push(fault);
        }
        process.end = Ended::Said(End {
            at_ns: now + 5_000_000,
            recorded: process.faults.len() as u64,
            lost: 3,
            cost_ns: process.faults.len() as u64 * 90,
        });
        process
    });
    recording(processes)
}

/// What a file may hold whose checksums are right: sometimes sensible, sometimes not at all.
pub fn any_recording() -> impl Strategy<Value = Recording> {
    let cut = option::weighted(0.2, Just("cut".to_owned()));
    (vec(any_process(), 0..3), cut).prop_map(|(processes, cut)| Recording { processes, cut })
}

fn any_ns() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..2000_u64, 2 => 0..1_000_000_000_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn any_page() -> impl Strategy<Value = usize> {
    let pages = (0..24_usize).prop_map(|page| page * PAGE);
    prop_oneof![8 => pages, 1 => any::<usize>(), 1 => Just(usize::MAX)]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("heap".to_owned()),
        Just(String::new()),
        any::<String>()
    ]
}

fn any_tid() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 1..3_i32, 1 => any::<i32>()]
}

fn any_process() -> impl Strategy<Value = ProcessRecording> {
    let start = (
        select(vec![1, 2, -1, i32::MAX]),
        any_ns(),
        any::<u64>(),
        any::<bool>(),
        prop_oneof![8 => Just(PAGE as u64), 1 => Just(0), 1 => Just(u64::MAX)],
        vec(any_name(), 0..3),
    );
    let tables = vec((0..40_usize, vec(any_mapping(), 0..4)), 0..4);
    let end = option::of((any_ns(), any::<u64>(), 0..2_u64, any::<u64>()));
    (
        start,
        vec(any_fault(), 0..40),
        tables,
        vec((any_tid(), any_name()), 0..3),
        vec(any_probe(), 0..40),
        end,
    )
        .prop_map(|(start, faults, mappings, threads, probes, end)| {
            let (pid, at_ns, unix_ns, traced, page_size, command) = start;
            let of = process(pid);
            ProcessRecording {
                start: Start {
                    at_ns,
                    unix_ns,
                    traced,
                    page_size,
                    command,
                    ..of.start
                },
                faults,
                mappings,
                threads,
                probes,
                end: end.map_or(Ended::Unsaid, |(at_ns, recorded, lost, cost_ns)| {
                    Ended::Said(End {
                        at_ns,
                        recorded,
                        lost,
                        cost_ns,
                    })
                }),
            }
        })
}

fn any_mapping() -> impl Strategy<Value = Mapping> {
    let len = prop_oneof![8 => (0..16_usize).prop_map(|pages| pages * PAGE), 1 => any::<usize>()];
    let policy = select(vec![Policy::Traced, Policy::Native]);
    (any_page(), len, any_name(), 0..4_u64, any::<u64>(), policy).prop_map(
        |(start, len, name, koid, vmo_offset, policy)| Mapping {
            start,
            len,
            name,
            koid,
            vmo_offset,
            policy,
        },
    )
}

fn any_fault() -> impl Strategy<Value = FaultRecord> {
    let kinds = vec![
        FaultKind::Missing,
        FaultKind::Minor,
        FaultKind::WriteProtect,
    ];
    let depth = prop_oneof![0..3_u32, any::<u32>()];
    let answer = prop_oneof![
        Just(Answer::Zero),
        Just(Answer::Own),
        depth.prop_map(|depth| Answer::Layer { depth })
    ];
    let cpu = || option::of(prop_oneof![0..2_u32, any::<u32>()]);
    (
        (any_ns(), any_page(), select(kinds), any::<bool>()),
        (option::of(any_tid()), cpu(), cpu(), option::of(answer)),
        select(OutcomeKind::ALL.to_vec()),
        (prop_oneof![0..3_u32, any::<u32>()], any::<u32>()),
        (any_ns(), any_ns(), any_ns(), any_ns()),
    )
        .prop_map(
            |(what, who, outcome, (pages, attempts), times)| FaultRecord {
                read_ns: what.0,
                page: what.1,
                kind: what.2,
                write: what.3,
                tid: who.0,
                cpu: who.1,
                handler_cpu: who.2,
                answer: who.3,
                outcome,
                pages,
                attempts,
                queue_ns: times.0,
                resolve_ns: times.1,
                install_ns: times.2,
                recording_ns: times.3,
            },
        )
}

fn any_probe() -> impl Strategy<Value = Probe> {
    (
        any_tid(),
        any_page(),
        any::<bool>(),
        any_ns(),
        any_ns(),
        0..3_u32,
    )
        .prop_map(|(tid, page, write, before_ns, len, faults)| Probe {
            tid,
            page,
            write,
            before_ns,
            // Now and then it ends before it begins.
            after_ns: before_ns.wrapping_add(len),
            faults,
        })
}
