//! Recordings of page faults: `src/bin/recorded.rs` is a program whose faults are known, recorded here in every way.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cowspace_tests::c_library::{Language, Library, Linkage, sources};
use cowspace_tests::limits::has_descriptors;
use cowspace_tests::page;
use cowspace_tests::processes::until;
use cowspace_tests::rung::{NOBODY, has_nobody};
use fault_recording::{Ended, Policy, ProcessRecording, Recording, read};
use host_memory::probe::Probe;
use test_share::share;

/// A recording to be made, and the program that makes it.
struct Recorded {
    folder: tempfile::TempDir,
}

impl Recorded {
    fn new() -> Recorded {
        let folder = tempfile::tempdir().expect("a folder");
        Recorded { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("faults")
    }

    /// The program, which is not told to record.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_recorded"));
        program.args(arguments).env_remove("COWSPACE_RECORD");
        program
    }

    /// The program, told by its environment.
    fn by_environment(&self, arguments: &[&str]) -> Command {
        let mut program = self.program(arguments);
        program.env("COWSPACE_RECORD", self.file());
        program
    }

    /// The program, told by an argument more.
    fn by_argument(&self, arguments: &[&str]) -> Command {
        let mut program = self.program(arguments);
        program.arg(self.file());
        program
    }

    /// All of the file.
    fn read(&self) -> Recording {
        let recording = read(&self.file()).expect("a recording");
        assert_eq!(recording.cut, None);
        recording
    }
}

/// Runs it to its good end; gives what it printed.
fn run(mut program: Command) -> String {
    let output = program.output().expect("it can be run");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Whether faults and first writes are traced here.
fn is_traced() -> bool {
    let probe = Probe::get();
    let traced = probe.traced.is_yes() && probe.write_tracking.is_yes();
    if !traced {
        println!("SKIP recorded faults: no userfaultfd that traces writes");
    }
    traced
}

/// Asserts that these and no other faults were recorded: what the program printed.
fn assert_known(process: &ProcessRecording, printed: &str) {
    let mut lines = printed.lines();
    let tid: i32 = lines.next().unwrap().parse().unwrap();
    let recorded = process.faults.iter().map(|fault| {
        assert_eq!(fault.tid, Some(tid));
        format!("{} {} {:?}", fault.page, fault.write, fault.kind)
    });
    assert_eq!(Vec::from_iter(recorded), Vec::from_iter(lines));
    let all = |name: &str| {
        let mappings = process.mapping_of_each();
        assert!(mappings.iter().all(|mapping| mapping.unwrap().name == name));
    };
    all("known");
    let mut mappings = process.mappings.iter().flat_map(|(_, table)| table);
    let mapping = mappings.rfind(|mapping| mapping.name == "known");
    let mapping = mapping.unwrap();
    assert_eq!((mapping.len, mapping.vmo_offset), (64 * page(), 0));
    assert_eq!(mapping.policy, Policy::Traced);
    assert_eq!(process.threads, [(tid, "recorded".to_owned())]);
    let Ended::Said(end) = process.end else {
        panic!("no end");
    };
    assert_eq!((end.recorded, end.lost), (4, 0));
    assert!(end.cost_ns > 0);
    assert!(process.start.at_ns <= process.faults[0].read_ns);
    assert!(process.faults[3].read_ns <= end.at_ns);
}

#[test]
fn known_faults_by_environment() {
    if !is_traced() {
        return;
    }
    let recorded = Recorded::new();
    let printed = run(recorded.by_environment(&["known"]));
    let recording = recorded.read();
    let [process] = &recording.processes[..] else {
        panic!("{recording:?}");
    };
    assert_known(process, &printed);
    let start = &process.start;
    assert!(start.traced);
    assert_eq!(start.page_size, page() as u64);
    assert_eq!(start.command[1..], ["known"]);
    assert_eq!(start.parent, std::process::id().cast_signed());
    assert!(start.cpus > 0 && !start.kernel.is_empty() && !start.machine.is_empty());
}

#[test]
fn known_faults_by_call() {
    if !is_traced() {
        return;
    }
    let recorded = Recorded::new();
    let printed = run(recorded.by_argument(&["known"]));
    let recording = recorded.read();
    assert_eq!(recording.processes.len(), 1);
    assert_known(&recording.processes[0], &printed);
}

/// Also where the handler runs already and has recorded before.
#[test]
fn one_recording_after_the_other() {
    if !is_traced() {
        return;
    }
    let recorded = Recorded::new();
    let printed = run(recorded.by_argument(&["again"]));
    let printed: Vec<&str> = printed.lines().collect();
    let recording = recorded.read();
    assert_eq!(recording.processes.len(), 3);
    for (process, printed) in recording.processes.iter().zip(printed.chunks(5)) {
        assert_known(process, &printed.join("\n"));
    }
}

#[test]
fn without_userfaultfd_there_are_mappings() {
    let recorded = Recorded::new();
    let mut program = recorded.by_environment(&["known"]);
    program.env("COWSPACE_DISABLE", "uffd");
    run(program);
    let recording = recorded.read();
    let process = &recording.processes[0];
    assert!(!process.start.traced && process.faults.is_empty());
    let [(0, table)] = &process.mappings[..] else {
        panic!("{process:?}");
    };
    assert_eq!(
        (&*table[0].name, table[0].policy),
        ("known", Policy::Native)
    );
    assert!(matches!(process.end, Ended::Said(end) if end.recorded == 0 && end.lost == 0));
}

#[test]
fn a_program_that_maps_nothing_is_recorded() {
    let recorded = Recorded::new();
    run(recorded.by_environment(&["nothing"]));
    let recording = recorded.read();
    assert!(recording.processes[0].mappings.is_empty());
    assert!(matches!(recording.processes[0].end, Ended::Said(_)));
}

/// Asserts that a zygote and its children are there, and all ended, the killed one excepted.
fn assert_family(recording: &Recording, killed: Option<i32>) {
    assert_eq!(recording.processes.len(), 5);
    let zygote = &recording.processes[0];
    assert_eq!(zygote.faults.len(), 1);
    let mut counts = Vec::new();
    for process in &recording.processes {
        let said = matches!(process.end, Ended::Said(_));
        assert_eq!(said, killed != Some(process.start.pid), "{process:?}");
        let mappings = process.mapping_of_each();
        assert!(mappings.iter().all(|its| its.unwrap().name == "inherited"));
        if process.start.pid != zygote.start.pid && said {
            assert!(process.faults.iter().all(|fault| fault.write));
            counts.push(process.faults.len());
        }
    }
    counts.sort_unstable();
    let all = [1, 2, 3, 4];
    assert_eq!(counts, all[..4 - usize::from(killed.is_some())]);
}

#[test]
fn a_zygote_and_its_children_write_to_one_file() {
    if !is_traced() {
        return;
    }
    let recorded = Recorded::new();
    run(recorded.by_environment(&["zygote", "touch"]));
    assert_family(&recorded.read(), None);
    let recorded = Recorded::new();
    run(recorded.by_argument(&["zygote", "touch"]));
    assert_family(&recorded.read(), None);
}

#[test]
fn a_killed_child_leaves_the_others_theirs() {
    if !is_traced() {
        return;
    }
    let recorded = Recorded::new();
    let mut program = recorded.by_environment(&["zygote", "wait"]);
    program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = program.spawn().expect("it can be run");
    let mut victim = String::new();
    let mut output = BufReader::new(program.stdout.take().expect("its output"));
    output.read_line(&mut victim).expect("a line");
    let victim: i32 = victim.trim().parse().expect("a process id");
    // What is read meanwhile may be cut in the last frame.
    until(|| {
        let recording = read(&recorded.file());
        let processes = recording.map_or(Vec::new(), |recording| recording.processes);
        processes.iter().any(|process| process.start.pid == victim)
    });
    let mut input = program.stdin.take().expect("its input");
    input.write_all(b"\n").expect("it listens");
    assert!(program.wait().expect("its status").success());
    let recording = read(&recorded.file()).expect("a recording");
    assert_family(&recording, Some(victim));
}

/// The one line on the standard error stream.
fn complaint(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

#[test]
fn what_cannot_be_written_is_told_and_the_program_goes_on() {
    let recorded = Recorded::new();
    let foreign = recorded.folder.path().join("foreign");
    fs::write(&foreign, "something else").unwrap();
    let missing = recorded.folder.path().join("missing/faults");
    for (path, reason) in [
        (&*foreign, "it has something else than a recording"),
        (&*missing, "No such file or directory"),
        (Path::new("/dev/full"), "it is no plain file"),
        (recorded.folder.path(), "it is no plain file"),
    ] {
        let mut program = recorded.program(&["known"]);
        let output = program.env("COWSPACE_RECORD", path).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty());
        let complaint = complaint(&output);
        assert!(complaint.starts_with("cowspace: page faults are not recorded to "));
        assert!(complaint.contains(reason), "{complaint}");

        let mut program = recorded.program(&["refused"]);
        let output = program.arg(path).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty());
        assert!(self::complaint(&output).contains(reason));
    }
    assert_eq!(fs::read(&foreign).unwrap(), b"something else");
}

/// Else whoever may start it could have it write to files of its owner's.
#[test]
fn a_set_user_id_program_does_not_record_by_environment() {
    const TEST: &str = "a_set_user_id_program_does_not_record_by_environment";
    if !nix::unistd::Uid::effective().is_root() {
        println!("SKIP {TEST}: not root");
        return;
    }
    if !has_nobody(TEST) {
        return;
    }
    let recorded = Recorded::new();
    let folder = recorded.folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("raised");
    fs::copy(recorded.program(&[]).get_program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut program = Command::new(&copy);
    program
        .arg("nothing")
        .env("COWSPACE_RECORD", recorded.file());
    let output = program.uid(NOBODY).gid(NOBODY).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!recorded.file().exists());
    let complaint = complaint(&output);
    if complaint.contains("os error") {
        println!("SKIP {TEST}: a set-user-ID bit means nothing in that folder");
        return;
    }
    assert!(complaint.contains("another user"), "{complaint}");
}

#[test]
fn a_program_goes_on_where_there_is_no_room() {
    // Two hundred memories live at once, with clones.
    if !is_traced() || !has_descriptors("recorded faults", 1024) {
        return;
    }
    let recorded = Recorded::new();
    let output = recorded.by_environment(&["full"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"goes on\n");
    let complaint = complaint(&output);
    assert!(complaint.contains("not recorded"), "{complaint}");
    // What is there can be read.
    let recording = read(&recorded.file()).expect("a recording");
    assert_eq!(recording.processes[0].end, Ended::Unsaid);
}

#[test]
fn mappings_that_come_and_go_are_known() {
    if !is_traced() {
        return;
    }
    let recorded = Recorded::new();
    let printed = run(recorded.by_environment(&["churn"]));
    let recording = recorded.read();
    let process = &recording.processes[0];
    let Ended::Said(end) = process.end else {
        panic!("no end");
    };
    let total: u64 = printed.trim().parse().unwrap();
    assert_eq!(end.recorded + end.lost, total);
    assert_eq!(end.recorded, process.faults.len() as u64);
    assert!(total >= 4 * u64::from(share(400)) * 8);
    // Each fault is in the mapping that its own thread had made.
    for (fault, mapping) in process.faults.iter().zip(process.mapping_of_each()) {
        let mapping = mapping.expect("a mapping");
        let (_, thread) = process
            .threads
            .iter()
            .find(|(tid, _)| Some(*tid) == fault.tid)
            .unwrap();
        let (number, _) = mapping
            .name
            .split_once('-')
            .unwrap_or_else(|| panic!("{fault:?} {mapping:?}"));
        assert_eq!(
            thread.strip_prefix("churn-"),
            Some(number),
            "{fault:?} {mapping:?}"
        );
    }
}

#[test]
fn many_mappings_are_recorded() {
    let recorded = Recorded::new();
    run(recorded.by_argument(&["many"]));
    let recording = recorded.read();
    let tables = recording.processes[0].mappings.iter();
    let mapped: usize = tables.map(|(_, table)| table.len()).sum();
    // One that was made while all were copied is there twice.
    let made = share(20_000).max(2_000) as usize;
    assert!((made..=made + 1).contains(&mapped), "{mapped}");
    let size = fs::metadata(recorded.file()).unwrap().len();
    assert!(size < 4 << 20, "{size} bytes");
}

#[test]
fn a_thread_may_exit_while_others_fault() {
    if !is_traced() {
        return;
    }
    let recorded = Recorded::new();
    let output = recorded.by_environment(&["exit"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let recording = recorded.read();
    let process = &recording.processes[0];
    assert!(matches!(process.end, Ended::Said(_)));
    assert!(process.faults.len() >= 4);
}

/// By environment alone; its forked copy writes nothing, and what it executes begins its own.
#[test]
fn a_c_program_is_recorded() {
    if !is_traced() {
        return;
    }
    let Some(library) = Library::installed() else {
        return;
    };
    for linkage in [Linkage::Shared, Linkage::Static] {
        let source = sources().join("recording/main.c");
        let program = library.build(&source, Language::C, linkage);
        let recorded = Recorded::new();
        let mut program = Command::new(program);
        program.env("LD_LIBRARY_PATH", library.prefix().join("lib"));
        program.env("COWSPACE_RECORD", recorded.file());
        assert_eq!(run(program), "");
        let recording = recorded.read();
        assert_eq!(recording.processes.len(), 2);
        for process in &recording.processes {
            let pages = process.faults.iter().map(|fault| fault.page / page());
            let pages = Vec::from_iter(pages);
            let first = pages[2] - 8;
            assert_eq!(pages, [first + 40, first + 24, first + 8]);
            let mappings = process.mapping_of_each();
            assert!(mappings.iter().all(|its| its.unwrap().name == "from C"));
            assert!(matches!(process.end, Ended::Said(end) if end.recorded == 3));
        }
        assert_eq!(recording.processes[1].start.command[1..], ["once"]);
    }
}
