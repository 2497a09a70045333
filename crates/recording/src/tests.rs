//! Files, whole and broken.

use std::fs;
use std::path::Path;

use fault_handler::{Answer, FaultKind, FaultRecord, OutcomeKind};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::frame::{HEADER, LONGEST, MAGIC, frame};
use crate::message::{End, Mapping, Message, Policy, Probe, Start};
use crate::recording::{Ended, ProcessRecording, Recording};
use crate::{ReadError, Writer, parse, read};

fn start_of(pid: i32) -> Start {
    Start {
        cowspace: "0.1.0".into(),
        kernel: "6.18".into(),
        machine: "x86_64".into(),
        cpus: 2,
        page_size: 4096,
        pid,
        parent: 1,
        command: vec!["program".into(), "argument".into()],
        at_ns: 1,
        unix_ns: 2,
        traced: true,
    }
}

fn fault_at(page: usize) -> FaultRecord {
    FaultRecord {
        read_ns: 7,
        page,
        kind: FaultKind::Missing,
        write: true,
        tid: Some(3),
        cpu: None,
        handler_cpu: Some(1),
        answer: Some(Answer::Layer { depth: 2 }),
        outcome: OutcomeKind::Copied,
        pages: 1,
        attempts: 1,
        queue_ns: 10,
        recording_ns: 5,
        resolve_ns: 20,
        install_ns: 30,
    }
}

fn mapping(start: usize, len: usize, koid: u64) -> Mapping {
    Mapping {
        start,
        len,
        name: "heap".into(),
        koid,
        vmo_offset: 0,
        policy: Policy::Traced,
    }
}

fn any_fault() -> impl Strategy<Value = FaultRecord> {
    let kinds = [
        FaultKind::Missing,
        FaultKind::Minor,
        FaultKind::WriteProtect,
    ];
    let answer = prop_oneof![
        Just(Answer::Zero),
        Just(Answer::Own),
        any::<u32>().prop_map(|depth| Answer::Layer { depth }),
    ];
    let what = (
        any::<(u64, usize, bool)>(),
        proptest::sample::select(Vec::from(kinds)),
        proptest::sample::select(&OutcomeKind::ALL[..]),
        option::of(answer),
    );
    let place = any::<(Option<i32>, Option<u32>, Option<u32>)>();
    let numbers = any::<(u32, u32, u64, u64, u64, u64)>();
    (what, place, numbers).prop_map(|(what, place, numbers)| {
        let ((read_ns, page, write), kind, outcome, answer) = what;
        let (tid, cpu, handler_cpu) = place;
        let (pages, attempts, queue_ns, recording_ns, resolve_ns, install_ns) = numbers;
        FaultRecord {
            read_ns,
            page,
            kind,
            write,
            tid,
            cpu,
            handler_cpu,
            answer,
            outcome,
            pages,
            attempts,
            queue_ns,
            recording_ns,
            resolve_ns,
            install_ns,
        }
    })
}

fn any_start() -> impl Strategy<Value = Message> {
    let texts = (".*", ".*", ".*", vec(".*", 0..4));
    let numbers = any::<(u32, u64, i32, i32, u64, u64, bool)>();
    (texts, numbers).prop_map(|((cowspace, kernel, machine, command), numbers)| {
        let (cpus, page_size, pid, parent, at_ns, unix_ns, traced) = numbers;
        Message::Start(Start {
            cowspace,
            kernel,
            machine,
            cpus,
            page_size,
            pid,
            parent,
            command,
            at_ns,
            unix_ns,
            traced,
        })
    })
}

fn any_mapping() -> impl Strategy<Value = Mapping> {
    let policies = [Policy::Traced, Policy::Native];
    let numbers = any::<(usize, usize, u64, u64)>();
    (numbers, ".*", proptest::sample::select(Vec::from(policies))).prop_map(
        |(numbers, name, policy)| {
            let (start, len, koid, vmo_offset) = numbers;
            Mapping {
                start,
                len,
                name,
                koid,
                vmo_offset,
                policy,
            }
        },
    )
}

fn any_probe() -> impl Strategy<Value = Probe> {
    any::<(i32, usize, bool, u64, u64, u32)>().prop_map(|numbers| {
        let (tid, page, write, before_ns, after_ns, faults) = numbers;
        Probe {
            tid,
            page,
            write,
            before_ns,
            after_ns,
            faults,
        }
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        1 => any_start(),
        3 => vec(any_fault(), 0..20).prop_map(Message::Faults),
        2 => vec(any_mapping(), 0..5).prop_map(Message::Mappings),
        1 => vec((any::<i32>(), ".*"), 0..5).prop_map(Message::Threads),
        1 => vec(any_probe(), 0..5).prop_map(Message::Probes),
        1 => any::<(u64, u64, u64, u64)>().prop_map(|(at_ns, recorded, lost, cost_ns)| {
            Message::End(End { at_ns, recorded, lost, cost_ns })
        }),
    ]
}

/// Messages of three processes, each with its pid; each process begins with a `Start`, and begins anew after an `End`.
fn any_messages() -> impl Strategy<Value = Vec<(i32, Message)>> {
    vec((1..4, any_message(), any_start()), 1..12).prop_map(|messages| {
        let mut running = [false; 4];
        let mut all = Vec::new();
        for (pid, message, start) in messages {
            let runs = &mut running[pid as usize];
            if !*runs && !matches!(message, Message::Start(_)) {
                all.push((pid, start));
            }
            *runs = !matches!(message, Message::End(_));
            all.push((pid, message));
        }
        all
    })
}

/// What a reader should have: by the plainest means.
fn expected(messages: &[(i32, Message)]) -> Vec<ProcessRecording> {
    let mut processes: Vec<(i32, ProcessRecording)> = Vec::new();
    for (pid, message) in messages {
        if let Message::Start(start) = message {
            processes.push((*pid, ProcessRecording::new(start.clone())));
            continue;
        }
        let (_, process) = processes
            .iter_mut()
            .rfind(|(its, _)| its == pid)
            .expect("it has begun");
        match message {
            Message::Start(_) => {}
            Message::Faults(faults) => process.faults.extend_from_slice(faults),
            Message::Mappings(table) => {
                process.mappings.push((process.faults.len(), table.clone()))
            }
            Message::Threads(threads) => process.threads.extend_from_slice(threads),
            Message::Probes(probes) => process.probes.extend_from_slice(probes),
            Message::End(end) => process.end = Ended::Said(*end),
        }
    }
    let mut processes = Vec::from_iter(processes.into_iter().map(|(_, process)| process));
    processes
        .iter_mut()
        .for_each(ProcessRecording::name_mappings);
    processes
}

/// The bytes of a file, and where its frames end.
fn file_of(messages: &[(i32, Message)]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for (pid, message) in messages {
        bytes.extend(frame(*pid, message).unwrap());
        ends.push(bytes.len());
    }
    (bytes, ends)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(messages in any_messages()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        let mut writers = [1, 2, 3].map(|pid| Writer::append(&path, pid).unwrap());
        for (pid, message) in &messages {
            writers[*pid as usize - 1].write(message).unwrap();
        }
        let whole = Recording { processes: expected(&messages), cut: None };
        prop_assert_eq!(read(&path).unwrap(), whole);
    }

    #[test]
    fn a_file_cut_anywhere_has_what_precedes(messages in any_messages()) {
        let (bytes, ends) = file_of(&messages);
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            match parse(&bytes[..cut]) {
                Err(ReadError::Empty) => prop_assert_eq!(cut, 0),
                Err(ReadError::Foreign) => prop_assert!(whole == 0 && cut > 0),
                Err(error) => prop_assert!(false, "{}", error),
                Ok(recording) => {
                    prop_assert_eq!(recording.processes, expected(&messages[..whole]));
                    let between = cut == ends[whole - 1];
                    prop_assert_eq!(recording.cut.is_none(), between);
                }
            }
        }
    }

    #[test]
    fn a_byte_that_is_wrong_costs_its_frame(
        messages in any_messages(),
        at in any::<proptest::sample::Index>(),
        by in 1..=u8::MAX,
    ) {
        let (mut bytes, ends) = file_of(&messages);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        let before = ends.iter().filter(|&&end| end <= at).count();
        match parse(&bytes) {
            Err(_) => prop_assert_eq!(before, 0),
            Ok(recording) => {
                prop_assert!(before > 0);
                prop_assert!(recording.cut.is_some());
                let right = expected(&messages[..before]);
                prop_assert!(recording.processes.len() >= right.len());
                for (read, right) in recording.processes.iter().zip(&right) {
                    prop_assert_eq!(&read.start, &right.start);
                    prop_assert!(read.faults.starts_with(&right.faults));
                    prop_assert!(read.mappings.starts_with(&right.mappings));
                    prop_assert!(read.threads.starts_with(&right.threads));
                    prop_assert!(read.probes.starts_with(&right.probes));
                }
            }
        }
    }

    #[test]
    fn anything_is_read_or_refused(mut bytes in vec(any::<u8>(), 0..300), begins in any::<bool>()) {
        let _ = parse(&bytes);
        // The same as what follows a frame, and as what a frame has.
        let (mut file, _) = file_of(&[(1, Message::Start(start_of(1)))]);
        file.append(&mut bytes.clone());
        if begins {
            file.extend(MAGIC);
        }
        file.append(&mut bytes);
        prop_assert_eq!(parse(&file).unwrap().processes.len(), 1);
    }

    #[test]
    fn a_message_that_is_none_is_no_frame(mut payload in vec(any::<u8>(), 0..100)) {
        let mut crc = crc32fast::Hasher::new();
        let (pid, length) = (1_u32.to_le_bytes(), (payload.len() as u32).to_le_bytes());
        crc.update(&pid);
        crc.update(&length);
        crc.update(&payload);
        let mut bytes = MAGIC.to_vec();
        bytes.extend([pid, length, crc.finalize().to_le_bytes()].concat());
        bytes.append(&mut payload);
        let _ = parse(&bytes);
    }
}

#[test]
fn what_follows_a_frame_that_was_not_finished_is_read() {
    let faults =
        |pages: &[usize]| Message::Faults(pages.iter().map(|&page| fault_at(page)).collect());
    let (mut bytes, _) = file_of(&[
        (1, Message::Start(start_of(1))),
        (2, Message::Start(start_of(2))),
    ]);
    let killed = frame(1, &faults(&[0x89; 500])).unwrap();
    for torn in 1..killed.len() {
        let mut file = bytes.clone();
        file.extend(&killed[..torn]);
        file.extend(frame(2, &faults(&[5])).unwrap());
        let recording = parse(&file).unwrap();
        assert!(recording.processes[0].faults.is_empty());
        assert_eq!(recording.processes[1].faults, [fault_at(5)]);
        let cut = recording.cut.unwrap();
        assert!(cut.contains(&format!("at byte {}", bytes.len())), "{cut}");
    }
    // And without end.
    for _ in 0..1000 {
        bytes.extend(&killed[..HEADER]);
    }
    assert!(parse(&bytes).unwrap().cut.is_some());
}

#[test]
fn a_length_is_not_believed() {
    for length in [LONGEST as u32, LONGEST as u32 + 1, u32::MAX] {
        let (mut bytes, _) = file_of(&[(1, Message::Start(start_of(1)))]);
        bytes.extend(MAGIC);
        bytes.extend([1_u32, length, 0].map(u32::to_le_bytes).concat());
        assert!(parse(&bytes).unwrap().cut.is_some());
        assert!(matches!(
            parse(&bytes[bytes.len() - HEADER..]),
            Err(ReadError::Foreign)
        ));
    }
    // One of the message's own: a list of 2^60 faults.
    let mut list = postcard::to_stdvec(&Message::Faults(Vec::new())).unwrap();
    list.pop();
    list.extend(postcard::to_stdvec(&(1_u64 << 60)).unwrap());
    assert!(postcard::from_bytes::<Message>(&list).is_err());
}

#[test]
fn reasons_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faults");
    let reason = |path: &Path| read(path).unwrap_err().to_string();
    assert!(reason(&path).starts_with("cannot read "));
    assert!(reason(folder.path()).starts_with("cannot read "));
    for (bytes, expected) in [
        (&b""[..], "nothing was recorded: the file is empty"),
        (b"#!/bin/sh\n", "this is no cowspace recording"),
        (b"\x89cowrec1", "this is no cowspace recording"),
        (
            b"\x89cowrec2 and so on",
            "recorded by another version of cowspace, which must read it",
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(reason(&path), expected);
    }
}

#[test]
fn messages_without_a_beginning_are_left_out() {
    let end = Message::End(End::default());
    let (bytes, _) = file_of(&[
        (1, Message::Start(start_of(1))),
        (1, end.clone()),
        (1, Message::Faults(vec![fault_at(1)])),
        (2, end),
    ]);
    let recording = parse(&bytes).unwrap();
    assert_eq!(recording.processes.len(), 1);
    assert!(recording.processes[0].faults.is_empty());
    assert!(recording.cut.unwrap().contains("process 1"));
}

#[test]
fn only_a_recording_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    fs::write(&path, "dear diary").unwrap();
    let error = Writer::append(&path, 1).unwrap_err();
    assert_eq!(error.to_string(), "it has something else than a recording");
    assert_eq!(fs::read(&path).unwrap(), b"dear diary");
    assert!(crate::clear(&path).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"dear diary");
    let recording = folder.path().join("faults");
    for _ in 0..2 {
        crate::clear(&recording).unwrap();
        assert!(matches!(read(&recording), Err(ReadError::Empty)));
        let mut writer = Writer::append(&recording, 1).unwrap();
        writer.write(&Message::Start(start_of(1))).unwrap();
        assert_eq!(read(&recording).unwrap().processes.len(), 1);
    }
    let error = Writer::append(folder.path(), 1).unwrap_err();
    assert_eq!(error.to_string(), "it is no plain file");
    let error = Writer::append(Path::new("/dev/null"), 1).unwrap_err();
    assert_eq!(error.to_string(), "it is no plain file");
}

#[test]
fn what_is_too_long_is_refused_and_the_next_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faults");
    let mut writer = Writer::append(&path, 1).unwrap();
    let long = Message::Threads(vec![(1, "x".repeat(LONGEST))]);
    assert!(writer.write(&long).is_err());
    writer.write(&Message::Start(start_of(1))).unwrap();
    assert_eq!(read(&path).unwrap().processes.len(), 1);
}

#[test]
fn what_is_renamed_has_its_last_name() {
    let named = |name: &str, koid| Mapping {
        name: name.into(),
        ..mapping(0, 1, koid)
    };
    let long = "x".repeat(LONGEST);
    let (bytes, _) = file_of(&[
        (1, Message::Start(start_of(1))),
        (1, Message::Mappings(vec![named("", 1), named("other", 2)])),
        (1, Message::Mappings(vec![named("first", 1), named("a", 3)])),
        (1, Message::Mappings(vec![named(&long[..1000], 3)])),
        (
            1,
            Message::Mappings(vec![Mapping {
                len: 0,
                ..named("last", 1)
            }]),
        ),
    ]);
    let recording = parse(&bytes).unwrap();
    let tables = recording.processes[0].mappings.iter();
    let names = tables
        .flat_map(|(_, table)| table)
        .map(|its| &its.name[..4.min(its.name.len())]);
    let names = Vec::from_iter(names);
    assert_eq!(names, ["last", "othe", "last", "a", "xxxx"]);
}

#[test]
fn a_fault_is_in_the_last_table_before_it_or_the_first_behind() {
    let mut process = ProcessRecording::new(start_of(1));
    process.faults = [15, 15, 25, 35, 15, 99].map(fault_at).into();
    process.mappings = vec![
        (1, vec![mapping(10, 20, 1)]),
        (2, vec![mapping(20, 10, 2)]),
        (4, vec![mapping(30, 10, 3), mapping(12, 6, 4)]),
        (6, vec![mapping(usize::MAX - 5, 100, 5)]),
    ];
    let koids = process.mapping_of_each();
    let koids = Vec::from_iter(koids.into_iter().map(|mapping| mapping.map(|its| its.koid)));
    assert_eq!(koids, [Some(1), Some(1), Some(2), Some(3), Some(4), None]);
}
