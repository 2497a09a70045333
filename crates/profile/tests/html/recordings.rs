//! Recordings as real ones look, made up.

use fault_recording::{
    Answer, End, Ended, FaultKind, FaultRecord, Mapping, OutcomeKind, Policy, Probe,
    ProcessRecording, Recording, Start,
};

const PAGE: usize = 4096;

/// When the first process begins.
const BEGIN: u64 = 9_000_000_000_000;

/// A random number about 1 that is rarely far away: the logarithm is normal.
fn around(random: &mut fastrand::Rng, spread: f64) -> f64 {
    let normal: f64 = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    (normal * spread).exp()
}

/// A page's number below `pages`, the low ones far more often than the others.
fn zipf(random: &mut fastrand::Rng, pages: usize) -> usize {
    let page = (pages as f64).powf(random.f64()) - 1.0;
    (page as usize).min(pages - 1)
}

/// A process that says how it ended.
pub(crate) fn process(pid: i32, command: &str) -> ProcessRecording {
    ProcessRecording {
        start: Start {
            cowspace: "0.1.0".to_owned(),
            kernel: "6.18.5".to_owned(),
            machine: "x86_64".to_owned(),
            cpus: 2,
            page_size: PAGE as u64,
            pid,
            parent: 1,
            command: command.split(' ').map(str::to_owned).collect(),
            at_ns: BEGIN,
            unix_ns: 1_800_000_000_000_000_000,
            traced: true,
        },
        faults: Vec::new(),
        mappings: Vec::new(),
        threads: Vec::new(),
        probes: Vec::new(),
        end: Ended::Said(End {
            at_ns: BEGIN + 3_000_000_000,
            recorded: 0,
            lost: 0,
            cost_ns: 0,
        }),
    }
}

pub(crate) fn mapping(start: usize, pages: usize, name: &str, koid: u64) -> Mapping {
    Mapping {
        start,
        len: pages * PAGE,
        name: name.to_owned(),
        koid,
        vmo_offset: 0,
        policy: Policy::Traced,
    }
}

/// A missing page, copied.
pub(crate) fn fault(read_ns: u64, page: usize) -> FaultRecord {
    FaultRecord {
        read_ns,
        page,
        kind: FaultKind::Missing,
        write: true,
        tid: Some(101),
        cpu: Some(0),
        handler_cpu: Some(1),
        answer: Some(Answer::Layer { depth: 1 }),
        outcome: OutcomeKind::Copied,
        pages: 1,
        attempts: 1,
        queue_ns: 300,
        recording_ns: 0,
        resolve_ns: 700,
        install_ns: 2_500,
    }
}

/// Two processes with several threads and regions for three seconds: three kinds, two humps of times (the handler is on the same CPU or on another), a slow tail, bursts, loss.
pub(crate) fn busy(probes: bool) -> Recording {
    let mut random = fastrand::Rng::with_seed(5);
    let regions = [
        mapping(0x7f00_0000_0000, 32_768, "heap: word index", 21),
        mapping(0x7f10_0000_0000, 8_192, "postings", 22),
        mapping(0x7f20_0000_0000, 512, "", 23),
        mapping(0x7f30_0000_0000, 64, "counters", 24),
    ];
    let mut processes = Vec::new();
    for (number, (pid, command)) in [(4711, "./zygote-demo --heap 128MiB"), (4712, "child serve")]
        .into_iter()
        .enumerate()
    {
        let mut process = process(pid, command);
        process.start.at_ns += number as u64 * 400_000_000;
        process.mappings.push((0, regions.to_vec()));
        process.threads = vec![
            (pid, "main".to_owned()),
            (pid + 10, "indexer".to_owned()),
            (pid + 11, "query 1".to_owned()),
            (pid + 12, "query 2".to_owned()),
        ];
        let mut now = process.start.at_ns + 20_000_000;
        let end = BEGIN + 3_000_000_000;
        let mut sequence = 0;
        while now < end {
            // Bursts of 300 ms.
            let since = (now - BEGIN) / 1_000_000;
            let busy = if (since / 300).is_multiple_of(2) {
                1.0
            } else {
                6.0
            };
            let pause = 70_000.0 * busy * around(&mut random, 0.5);
            now += pause as u64;
            let region = &regions[[0, 0, 0, 0, 0, 1, 1, 2, 3][random.usize(..9)]];
            let pages = region.len / PAGE;
            let tid = pid + [10, 11, 12, 0][zipf(&mut random, 4)];
            let place = match tid - pid {
                // One goes through its memory in sequence.
                10 => {
                    sequence += 1;
                    sequence * pages / 30_000
                }
                _ => zipf(&mut random, pages) * 7919 % pages,
            };
            let kind = match random.u32(..10) {
                0..5 => FaultKind::WriteProtect,
                5..8 => FaultKind::Minor,
                _ => FaultKind::Missing,
            };
            let near = random.bool();
            let slow = if near { 1.0 } else { 3.5 };
            let tail = if random.u32(..150) == 0 { 12.0 } else { 1.0 };
            let (outcome, install, pages) = match kind {
                FaultKind::Missing => (OutcomeKind::Copied, 3_800.0, random.u32(1..16)),
                FaultKind::Minor => (OutcomeKind::Continued, 1_500.0, 16),
                FaultKind::WriteProtect => (OutcomeKind::Unprotected, 1_900.0, 1),
            };
            let part = |ns: f64, random: &mut fastrand::Rng| (ns * around(random, 0.18)) as u64;
            let record = FaultRecord {
                read_ns: now,
                page: region.start + place * PAGE,
                kind,
                write: kind != FaultKind::Minor,
                tid: Some(tid),
                cpu: Some(u32::from(near)),
                handler_cpu: Some(1),
                answer: Some(match random.u32(..8) {
                    0 => Answer::Zero,
                    1 | 2 => Answer::Own,
                    more => Answer::Layer { depth: more % 3 },
                }),
                outcome,
                pages,
                attempts: 1,
                queue_ns: part(250.0 * tail * tail, &mut random),
                recording_ns: 0,
                resolve_ns: part(600.0 * slow, &mut random),
                install_ns: part(install * tail, &mut random),
            };
            let handled = record.queue_ns + record.resolve_ns + record.install_ns;
            if probes {
                process.probes.push(Probe {
                    tid,
                    page: record.page,
                    write: record.write,
                    before_ns: now - part(2_400.0 * slow, &mut random),
                    after_ns: now + handled + part(1_800.0 * slow, &mut random),
                    faults: 1,
                });
            }
            now += handled;
            process.faults.push(record);
        }
        if let Ended::Said(said) = &mut process.end {
            said.recorded = process.faults.len() as u64;
            said.lost = 17;
            said.cost_ns = said.recorded * 85;
        }
        processes.push(process);
    }
    Recording {
        processes,
        cut: None,
    }
}

/// What a run under the native policy has: probes alone.
pub(crate) fn native() -> Recording {
    let mut random = fastrand::Rng::with_seed(6);
    let mut process = process(99, "cowspace profile --policy native");
    process.start.traced = false;
    let mut region = mapping(0x7f00_0000_0000, 4_096, "profile", 3);
    region.policy = Policy::Native;
    process.mappings.push((0, vec![region.clone()]));
    let mut now = BEGIN + 1_000_000;
    for _ in 0..5_000 {
        let faults = random.u32(..2);
        let before_ns = now;
        now += match faults {
            0 => (60.0 * around(&mut random, 0.1)) as u64,
            _ => (2_500.0 * around(&mut random, 0.2)) as u64,
        };
        process.probes.push(Probe {
            tid: 99,
            page: region.start + zipf(&mut random, 4_096) * PAGE,
            write: true,
            before_ns,
            after_ns: now,
            faults,
        });
        now += 20_000;
    }
    Recording {
        processes: vec![process],
        cut: None,
    }
}

/// One process with one fault.
pub(crate) fn one() -> Recording {
    let mut process = process(7, "one");
    process
        .mappings
        .push((0, vec![mapping(0x10_0000, 16, "alone", 1)]));
    process.faults.push(fault(BEGIN + 5_000, 0x10_3000));
    Recording {
        processes: vec![process],
        cut: None,
    }
}

/// Many regions, threads and processes that have this name, whatever it is; a fault in each.
pub(crate) fn named(name: &str, count: usize) -> Recording {
    let mut recording = Recording {
        processes: Vec::new(),
        cut: Some(format!("the rest of the file is no frame: {name}")),
    };
    for number in 0..count {
        let mut process = process(number as i32 + 1, "");
        process.start.command = vec![name.to_owned(), name.to_owned()];
        process.start.kernel = name.to_owned();
        process.start.machine = name.to_owned();
        process.start.cowspace = name.to_owned();
        process.threads = vec![(101, name.to_owned())];
        let mappings = (0..8).map(|region| mapping(0x10_0000 << region, 16, name, region));
        process.mappings.push((0, mappings.collect()));
        for region in 0..8 {
            for page in 0..16 {
                let at = BEGIN + (number * 1_000 + page * 7) as u64 * 1_000;
                process
                    .faults
                    .push(fault(at, (0x10_0000 << region) + page * PAGE));
            }
        }
        process.end = Ended::Unsaid;
        recording.processes.push(process);
    }
    recording
}
