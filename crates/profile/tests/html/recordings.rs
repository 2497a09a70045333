//! Recordings as real ones look, made up.

use fault_recording::{
    Answer, Ended, FaultKind, FaultRecord, OutcomeKind, Policy, Probe, ProcessRecording, Recording,
};

use crate::support::{self, PAGE, fault, mapping};

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

/// A process with this command line.
fn process(pid: i32, command: &str) -> ProcessRecording {
    let mut process = support::process(pid);
    process.start.at_ns = BEGIN;
    process.start.command = command.split(' ').map(str::to_owned).collect();
    process
}

/// Two processes with several threads and regions for three seconds: three kinds, two humps of times (the handler is on the same CPU or on another), a slow tail, bursts, loss.
pub(crate) fn busy(probes: bool) -> Recording {
    let mut random = fastrand::Rng::with_seed(5);
    let regions = [
        mapping(0x7f00_0000_0000, 32_768, 21, "heap: word index"),
        mapping(0x7f10_0000_0000, 8_192, 22, "postings"),
        mapping(0x7f20_0000_0000, 512, 23, ""),
        mapping(0x7f30_0000_0000, 64, 24, "counters"),
        mapping(0x7f40_0000_0000, 64, 25, "untouched"),
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
    let mut region = mapping(0x7f00_0000_0000, 4_096, 3, "profile");
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
        .push((0, vec![mapping(0x10_0000, 16, 1, "alone")]));
    process.faults.push(fault(BEGIN + 5_000, 7, 0x10_3000));
    Recording {
        processes: vec![process],
        cut: None,
    }
}

/// So many processes whose regions, threads and all else have one of these names, whatever it is; faults in each.
pub(crate) fn named(names: &[&str], count: usize) -> Recording {
    let mut recording = Recording {
        processes: Vec::new(),
        cut: Some(format!(
            "the rest of the file is no frame: {}",
            names.join(" ")
        )),
    };
    for (number, name) in names.iter().cycle().take(count).enumerate() {
        let name = (*name).to_owned();
        let mut process = process(number as i32 + 1, "");
        process.start.command = vec![name.clone(), name.clone()];
        process.start.kernel = name.clone();
        process.start.machine = name.clone();
        process.start.cowspace = name.clone();
        process.threads = vec![(101, name.clone())];
        let mappings = (0..5).map(|region| mapping(0x10_0000 << region, 16, region, &name));
        process.mappings.push((0, mappings.collect()));
        for region in 0..5 {
            for page in 0..16 {
                let at = BEGIN + (number * 1_000 + page * 7) as u64 * 1_000;
                let mut fault = fault(at, 101, (0x10_0000 << region) + page * PAGE);
                fault.install_ns += page as u64 * 150;
                process.faults.push(fault);
            }
        }
        process.end = Ended::Unsaid;
        recording.processes.push(process);
    }
    recording
}

/// Whose page is as large as it can be: faults everywhere all the time, of all kinds, as fast and as slow as can be, of many threads in many regions, all of this name.
pub(crate) fn full(name: &str) -> Recording {
    let mut process = process(1, name);
    let starts = (0..48).map(|region| 0x100_0000 * (region + 1));
    let mappings = starts.map(|start| mapping(start, 16, start as u64, name));
    process.mappings.push((0, mappings.collect()));
    process.threads = (0..60).map(|tid| (tid, name.to_owned())).collect();
    for moment in 0..250 {
        for (number, mapped) in process.mappings[0].1.iter().enumerate() {
            for page in 0..16 {
                let at = BEGIN + moment * 1_000_000 + (number * 16 + page) as u64;
                let tid = (number as i32 + moment as i32) % 60;
                let mut fault = fault(at, tid, mapped.start + page * PAGE);
                fault.kind = [
                    FaultKind::Missing,
                    FaultKind::Minor,
                    FaultKind::WriteProtect,
                ][page % 3];
                fault.answer = Some(Answer::Layer { depth: tid as u32 });
                fault.cpu = Some(tid as u32);
                fault.install_ns = 1 << (moment % 40);
                process.faults.push(fault);
            }
        }
    }
    Recording {
        processes: vec![process],
        cut: None,
    }
}
