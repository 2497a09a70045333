//! `cowspace profile` as a user runs it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use cowspace::{Policy, Vmar, VmarFlags, Vmo};
use fault_recording::{Ended, FaultKind, FaultRecord, Probe, ProcessRecording};
use host_memory::access::Volatile;
use host_memory::page::page_size;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use test_share::share;

const COWSPACE: &str = env!("CARGO_BIN_EXE_cowspace");
/// Pages of a run's memory. The last eighth of them was never filled.
const PAGES: usize = 512;
const FILLED: usize = PAGES - PAGES / 8;
/// As many as a load's fault brings along.
const WINDOW: usize = 16;

/// Faults of a run: of several rounds.
fn faults() -> usize {
    share(3000).max(500) as usize
}

fn profile() -> Command {
    let mut command = Command::new(COWSPACE);
    command.arg("profile").env_remove("COWSPACE_RECORD");
    command
}

/// A short run over [`PAGES`] pages, of one thread unless told otherwise. Its faults end it, however long the machine takes for them.
fn short() -> Command {
    let mut command = profile();
    command.args([
        "--seconds",
        "3600",
        "--faults",
        &faults().to_string(),
        "--size",
        &(PAGES * page_size()).to_string(),
    ]);
    command
}

/// Whether faults can be traced here. If not, the test says so.
fn traced(what: &str) -> bool {
    let can = host_memory::probe::Probe::get().traced.is_yes();
    if !can {
        println!("SKIP {what}: userfaultfd");
    }
    can
}

/// Whether stores to pages that were only loaded are seen.
fn tracks_writes() -> bool {
    host_memory::probe::Probe::get().write_tracking.is_yes()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Runs it, which goes well: what it says on standard output.
fn said(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the command starts");
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{errors}");
    String::from_utf8(stdout).expect("text")
}

/// The one line that a refused call says. It has printed nothing else.
fn refused(command: &mut Command, status: i32) -> String {
    let Output {
        status: code,
        stdout,
        stderr,
    } = command.output().expect("the command starts");
    let said = String::from_utf8(stderr).expect("text");
    assert_eq!(code.code(), Some(status), "{said}");
    assert!(stdout.is_empty());
    assert!(
        said.starts_with("cowspace: ") && said.ends_with('\n'),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// What a run has recorded. It was all of one process, which ended as it should.
fn recorded(command: &mut Command) -> ProcessRecording {
    let folder = folder();
    let file = folder.path().join("recording");
    said(command.arg("--record").arg(&file));
    let mut recording = fault_recording::read(&file).expect("a recording");
    assert_eq!(recording.cut, None);
    assert_eq!(recording.processes.len(), 1);
    recording.processes.remove(0)
}

/// Which page of the run's memory an address is in.
fn page_of(process: &ProcessRecording, address: usize) -> usize {
    let mappings = process.mappings.iter().flat_map(|(_, mappings)| mappings);
    let mut at = mappings.filter(|mapping| mapping.name == "touched memory");
    let start = at.next().expect("the memory is in the table").start;
    assert!(
        at.all(|mapping| mapping.start == start),
        "all clones lie at one place"
    );
    assert!((start..start + PAGES * page_size()).contains(&address));
    (address - start) / page_size()
}

fn faulted(process: &ProcessRecording) -> impl Iterator<Item = &Probe> {
    process.probes.iter().filter(|probe| probe.faults > 0)
}

/// Checks what holds for each traced run, and gives the pages of its faults, in order.
fn check(process: &ProcessRecording, threads: usize) -> Vec<usize> {
    let Ended::Said(end) = process.end else {
        panic!("the run has ended");
    };
    assert_eq!((end.recorded, end.lost), (process.faults.len() as u64, 0));
    assert!(process.start.traced && !process.faults.is_empty());
    let tids: BTreeSet<_> = process.probes.iter().map(|probe| probe.tid).collect();
    assert!(tids.len() <= threads);
    // Several threads may each have one on the way as the last is counted.
    let count = faulted(process).count();
    assert!((faults()..faults() + threads).contains(&count), "{count}");
    for fault in &process.faults {
        let matching = faulted(process).filter(|probe| is_of(fault, probe)).count();
        assert_eq!(matching, 1, "{fault:?}");
    }
    process
        .faults
        .iter()
        .map(|fault| page_of(process, fault.page))
        .collect()
}

fn is_of(fault: &FaultRecord, probe: &Probe) -> bool {
    fault.tid == Some(probe.tid)
        && fault.page == probe.page
        && fault.write == probe.write
        && (probe.before_ns..=probe.after_ns).contains(&fault.read_ns)
}

#[test]
fn every_touch_of_a_stride_is_a_fault() {
    if !traced("profile, stride") {
        return;
    }
    for (writes, stride) in [("0", WINDOW), ("100%", WINDOW), ("0%", 100)] {
        let stride_text = stride.to_string();
        let process = recorded(short().args([
            "--pattern",
            "stride",
            "--stride",
            &stride_text,
            "--writes",
            writes,
        ]));
        let pages = check(&process, 1);
        let expected = (0..PAGES).step_by(stride).cycle().take(pages.len());
        assert_eq!(pages, expected.collect::<Vec<_>>());
        for (fault, page) in process.faults.iter().zip(pages) {
            let kind = if page < FILLED {
                FaultKind::Minor
            } else {
                FaultKind::Missing
            };
            assert_eq!(
                (fault.kind, fault.write),
                (kind, writes != "0" && writes != "0%")
            );
        }
        assert!(process.probes.iter().all(|probe| probe.faults > 0));
    }
}

#[test]
fn loads_in_sequence_bring_their_neighbours_along() {
    if !traced("profile, sequential") {
        return;
    }
    let process = recorded(short().args(["--pattern", "sequential", "--writes", "0"]));
    let pages = check(&process, 1);
    // No fault was seen by the thread and not by the handler.
    assert_eq!(faulted(&process).count(), process.faults.len());
    let round: Vec<usize> = (0..FILLED).step_by(WINDOW).chain(FILLED..PAGES).collect();
    assert_eq!(
        pages,
        round
            .iter()
            .copied()
            .cycle()
            .take(pages.len())
            .collect::<Vec<_>>()
    );
    for fault in &process.faults {
        let expected = match fault.kind {
            FaultKind::Minor => WINDOW,
            _ => 1,
        };
        assert_eq!(fault.pages as usize, expected);
    }
}

#[test]
fn every_pattern_gives_every_kind_of_fault() {
    if !traced("profile, patterns") {
        return;
    }
    let runs = [
        ("zipf", 3),
        ("sequential", 1),
        ("random", 1),
        ("zipf", 1),
        ("random", 3),
    ];
    for (pattern, threads) in runs.into_iter().take(share(5) as usize) {
        let process =
            recorded(short().args(["--pattern", pattern, "--threads", &threads.to_string()]));
        check(&process, threads);
        let kinds = [
            FaultKind::Missing,
            FaultKind::Minor,
            FaultKind::WriteProtect,
        ];
        let count = kinds.map(|kind| {
            process
                .faults
                .iter()
                .filter(|fault| fault.kind == kind)
                .count()
        });
        let [missing, minor, write_protect] = count;
        assert!(missing > 0 && minor > 0, "{pattern} {count:?}");
        assert_eq!(write_protect > 0, tracks_writes(), "{pattern} {count:?}");
    }
}

/// By a thread alone are seen: stores to a page of zeros that was loaded, which the kernel resolves, and faults that were over before the handler had read them, since the page came with
/// another.
#[test]
fn few_faults_are_seen_by_their_thread_alone() {
    if !traced("profile, unrecorded faults") {
        return;
    }
    if !tracks_writes() {
        println!("SKIP profile, unrecorded faults: write tracking");
        return;
    }
    let process = recorded(short().args(["--pattern", "random"]));
    check(&process, 1);
    let alone: Vec<&Probe> = faulted(&process)
        .filter(|probe| !process.faults.iter().any(|fault| is_of(fault, probe)))
        .collect();
    assert!(alone.len() < faulted(&process).count() / 10);
    let stores = alone.iter().filter(|probe| probe.write);
    assert!(stores.clone().count() > 0);
    stores.for_each(|probe| assert!(page_of(&process, probe.page) >= FILLED, "{probe:?}"));
}

#[test]
fn native_faults_are_known_to_the_threads_alone() {
    for pattern in ["sequential", "random", "zipf", "stride"] {
        // Of this command alone it does not need a userfaultfd.
        let process = recorded(
            short()
                .args(["--policy", "native", "--threads", "2", "--pattern", pattern])
                .env("COWSPACE_DISABLE", "uffd"),
        );
        assert!(process.faults.is_empty() && faulted(&process).count() > 0);
        let names: BTreeSet<_> = process
            .threads
            .iter()
            .map(|(_, name)| name.as_str())
            .collect();
        assert_eq!(names, ["touch-0", "touch-1"].into());
        let pages: BTreeSet<_> = process
            .probes
            .iter()
            .map(|probe| page_of(&process, probe.page))
            .collect();
        assert!(pages.len() > PAGES / WINDOW / 2, "{pattern}");
    }
}

#[test]
fn each_output_is_written_and_parses() {
    if !traced("profile, outputs") {
        return;
    }
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let record = path("recording");
    let summary = said(short().arg("--record").arg(&record));
    for word in [
        "touched memory",
        "minor",
        "write-protect",
        "Recording adds",
        "of them faulted",
    ] {
        let expected = word != "write-protect" || tracks_writes();
        assert_eq!(summary.contains(word), expected, "{word}: {summary}");
    }
    let show = || {
        let mut command = profile();
        command.arg("show").arg(&record);
        command
    };
    let mut all = show();
    for form in ["html", "trace", "hdr", "csv", "json"] {
        all.arg(format!("--{form}")).arg(path(form));
    }
    let shown = said(&mut all);
    assert_eq!(shown.contains("write-protect"), tracks_writes());
    let text = |name: &str| fs::read_to_string(path(name)).expect("it was written");
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("one JSON document");
    let recording = fault_recording::read(&record).expect("a recording");
    let faults = recording.processes[0].faults.len();
    assert!(text("html").contains("<svg"));
    json(&text("trace"));
    json(&text("json"));
    assert!(text("hdr").starts_with('#'));
    assert!(text("csv").lines().count() > faults);
    for form in ["html", "trace", "hdr", "csv", "json"] {
        let instead = said(show().arg(format!("--{form}")).arg("-"));
        assert_eq!(instead, text(form), "{form}");
    }
    // Who has read enough closes the pipe.
    for form in ["trace", "hdr", "csv", "json"] {
        let mut child = show()
            .arg(format!("--{form}"))
            .arg("-")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{form}"
        );
    }
    // Nobody is there to be told of a file that was written.
    let (gone, stderr) = std::io::pipe().expect("a pipe");
    drop(gone);
    let mut deaf = show();
    deaf.arg("--json").arg(path("deaf")).stderr(stderr);
    let status = deaf.stdout(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{status}");
    assert_eq!(text("deaf"), text("json"));
    // Over a longer file.
    let long = path("long");
    fs::write(&long, "x".repeat(1 << 20)).expect("a file");
    said(show().arg("--json").arg(&long));
    assert_eq!(text("long"), text("json"));
}

#[test]
fn no_file_takes_two_outputs_whatever_its_names() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("there"), "what was there").expect("a file");
    fs::hard_link(path("there"), path("linked")).expect("a second name");
    std::os::unix::fs::symlink(".", path("here")).expect("a second way");
    for (one, other) in [
        ("there", "linked"),
        ("there", "here/there"),
        ("new", "here/new"),
    ] {
        let mut both = short();
        both.arg("--json").arg(path(one));
        let said = refused(both.arg("--csv").arg(path(other)), 1);
        assert!(said.contains("are one file"), "{said}");
        let mut over = short();
        over.arg("--record").arg(path(one));
        let said = refused(over.arg("--csv").arg(path(other)), 1);
        assert!(said.contains("it is the recording"), "{said}");
    }
    // The recording is what is read first and lost then.
    for output in ["there", "here/there", "linked"] {
        let mut show = profile();
        show.arg("show").arg(path("there"));
        let said = refused(show.arg("--html").arg(path(output)), 1);
        assert!(said.contains("it is the recording"), "{said}");
    }
    assert_eq!(
        fs::read(path("there")).expect("it is there"),
        b"what was there"
    );
    assert!(!path("new").exists());
}

#[test]
fn a_recording_differs_in_nothing_from_itself() {
    if !traced("profile, diff") {
        return;
    }
    let folder = folder();
    let record = folder.path().join("recording");
    said(short().arg("--record").arg(&record));
    let diff = || {
        let mut command = profile();
        command.arg("diff").arg(&record).arg(&record);
        command
    };
    let text = said(&mut diff()).to_lowercase();
    assert!(text.contains("no change"), "{text}");
    serde_json::from_str::<Value>(&said(diff().arg("--json"))).expect("one JSON document");
}

#[test]
fn bad_arguments_are_refused_with_one_line() {
    let half = (page_size() / 2).to_string();
    for (arguments, word) in [
        (&["--threads", "0"][..], "0"),
        (&["--threads", "many"], "many"),
        (&["--size", &half], "less than a page"),
        (&["--size", "0"], "less than a page"),
        (&["--size", "much"], "much"),
        (&["--size", "100TiB"], "available"),
        (&["--size", "99999999999999TiB"], "available"),
        (&["--writes", "101"], "0 to 100"),
        (&["--writes", "-1"], "-1"),
        (&["--seconds", "0"], "above 0"),
        (&["--seconds", "1e9"], "86400"),
        (&["--seconds", "nan"], "nan"),
        (&["--pattern", "circles"], "zipf"),
        (&["--policy", "both"], "traced"),
        (&["--stride", "2"], "--pattern stride"),
        (&["--pattern", "stride", "--stride", "0"], "0"),
        (&["--seed", "x"], "x"),
        (&["--faults", "0"], "0"),
        (&["--record", "-"], "a file"),
        (&["--size", "1MiB", "--", "true"], "--size"),
        (&["--json", "a", "--csv", "a"], "two outputs"),
        (&["--json", "-", "--csv", "-"], "two outputs"),
        (&["--json", "a", "--record", "a"], "two outputs"),
        (&["show"], "FILE"),
        (&["diff", "a"], "AFTER"),
        (&["diff", "a", "b", "c"], "c"),
        (&["show", "a", "--seconds", "1"], "--seconds"),
        (&["true"], "true"),
    ] {
        let said = refused(profile().args(arguments), 2);
        assert!(said.contains(word), "{said}");
    }
    let said = refused(profile().env("COWSPACE_RECORD", "/dev/null"), 2);
    assert!(said.contains("COWSPACE_RECORD"), "{said}");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("foreign"), "not a recording").expect("a file");
    fs::write(path("empty"), "").expect("a file");
    for (name, word) in [
        ("missing", "No such file"),
        ("foreign", "no cowspace recording"),
        ("empty", "nothing was recorded"),
    ] {
        let said = refused(profile().arg("show").arg(path(name)), 1);
        assert!(said.contains(word) && said.contains(name), "{said}");
        let said = refused(profile().arg("diff").arg(path(name)).arg(path(name)), 1);
        assert!(said.contains(word), "{said}");
    }
    // Found before the work is done, and nothing is left.
    for output in ["--html", "--trace", "--hdr", "--csv", "--json", "--record"] {
        let other = if output == "--json" {
            "--csv"
        } else {
            "--json"
        };
        let marker = path("marker");
        let said = refused(
            profile()
                .arg(other)
                .arg(path("other"))
                .arg(output)
                .arg(path("missing/file"))
                .args(["--", "touch"])
                .arg(&marker),
            1,
        );
        assert!(said.contains("missing/file"), "{said}");
        assert!(!marker.exists() && !path("other").exists());
    }
    let said = refused(profile().arg("--record").arg(folder.path()), 1);
    assert!(said.contains("cannot write"), "{said}");
    let said = refused(profile().args(["--record", "/dev/null", "--", "true"]), 1);
    assert!(said.contains("/dev/null: it is no plain file"), "{said}");
    let said = refused(short().env("COWSPACE_DISABLE", "uffd"), 1);
    assert!(said.contains("cowspace doctor"), "{said}");
}

#[test]
fn a_program_without_cowspace_is_told_from_one_that_fails() {
    let folder = folder();
    let record = folder.path().join("recording");
    let said = refused(
        profile().arg("--record").arg(&record).args(["--", "true"]),
        1,
    );
    assert!(said.contains("true made no traced fault"), "{said}");
    assert!(!record.exists());
    let said = refused(profile().args(["--", "sh", "-c", "exit 3"]), 3);
    assert!(said.contains("no traced fault"), "{said}");
    refused(
        profile().args(["--", "sh", "-c", "kill -USR1 $$"]),
        128 + 10,
    );
    let said = refused(profile().args(["--", "/no/such/program"]), 127);
    assert!(said.contains("/no/such/program"), "{said}");
    let said = refused(profile().arg("--").arg(folder.path()), 126);
    assert!(said.contains("cannot run"), "{said}");
    let output = profile()
        .args(["--", "echo", "to", "stdout"])
        .output()
        .expect("it starts");
    assert_eq!(output.stdout, b"to stdout\n");
}

/// The program of [`the_faults_of_a_program_are_shown_on_standard_error`]: this test again, in a process of its own.
#[test]
fn program_that_faults() {
    let Ok(status) = std::env::var("COWSPACE_TEST_PROGRAM") else {
        return;
    };
    let len = 8 * page_size();
    let vmo = Vmo::create(len as u64).expect("a VMO");
    vmo.write(&vec![1; len], 0).expect("it is there");
    let clone = vmo
        .create_child(cowspace::VmoChildOptions::SNAPSHOT, 0, len as u64)
        .expect("a clone");
    let rw = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
    let root = Vmar::root_self();
    let start = root
        .map_with_policy(0, &clone, 0, len, rw, Policy::Traced)
        .expect("it is mapped");
    let memory = Volatile::new(start, len).expect("it is the root VMAR's");
    (0..8).for_each(|page| memory.store_u64(page * page_size(), 2));
    std::process::exit(status.parse().expect("a number"));
}

#[test]
fn the_faults_of_a_program_are_shown_on_standard_error() {
    if !traced("profile, program") {
        return;
    }
    let folder = folder();
    let json = folder.path().join("json");
    for status in [0, 7] {
        let output = profile()
            .arg("--json")
            .arg(&json)
            .arg("--")
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "program_that_faults", "--nocapture"])
            .env("COWSPACE_TEST_PROGRAM", status.to_string())
            .output()
            .expect("the command starts");
        let summary = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(status), "{summary}");
        assert!(summary.contains("minor"), "{summary}");
        let stdout = String::from_utf8(output.stdout).expect("text");
        assert!(!stdout.contains("minor"), "{stdout}");
        let profile: Value = serde_json::from_slice(&fs::read(&json).expect("it was written"))
            .expect("one JSON document");
        assert_eq!(profile["all"]["faults"], 8);
    }
}

/// Sends a signal when a program says that it is ready: how the command ends.
fn signalled(
    signal: Signal,
    to: impl FnOnce(Pid, Signal) -> nix::Result<()>,
) -> (Option<i32>, Option<i32>) {
    let script = "trap 'exit 5' INT; trap 'exit 6' TERM; trap 'exit 7' HUP; echo ready; read line";
    let mut child = profile()
        .args(["--", "sh", "-c", script])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    // To wait closes it, at whose end the program would end by itself.
    let stdin = child.stdin.take();
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe"))
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "ready\n");
    to(pid(&child), signal).expect("it is there");
    let status = child.wait().expect("it ends");
    drop(stdin);
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut said)
        .expect("text");
    assert!(said.contains("no traced fault"), "{said}");
    (status.code(), status.signal())
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

#[test]
fn a_program_gets_the_signals() {
    // From the terminal both get it.
    assert_eq!(signalled(Signal::SIGINT, killpg), (Some(5), None));
    assert_eq!(signalled(Signal::SIGTERM, kill), (Some(6), None));
    assert_eq!(signalled(Signal::SIGHUP, kill), (Some(7), None));
}

#[test]
fn signals_that_are_ignored_stay_so() {
    let script = "trap '' INT QUIT TERM HUP; exec \"$0\" \"$@\"";
    let program = "for signal in INT QUIT TERM HUP; do kill -$signal $$; done; exit 4";
    let output = Command::new("sh")
        .args(["-c", script, COWSPACE, "profile", "--", "sh", "-c", program])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn an_interrupted_run_shows_what_it_has() {
    if !traced("profile, interrupted") {
        return;
    }
    let folder = folder();
    let record = folder.path().join("recording");
    let mut child = profile()
        .args(["--seconds", "3600", "--size", "1MiB", "--record"])
        .arg(&record)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command starts");
    while faults_in(&record) == 0 {
        assert_eq!(child.try_wait().expect("a child"), None);
        std::thread::sleep(Duration::from_micros(100));
    }
    kill(pid(&child), Signal::SIGINT).expect("it is there");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    let summary = String::from_utf8(output.stdout).expect("text");
    assert!(summary.contains("of them faulted"), "{summary}");
    let recording = fault_recording::read(&record).expect("a recording");
    assert!(matches!(recording.processes[0].end, Ended::Said(_)));
}

fn faults_in(record: &Path) -> usize {
    fault_recording::read(record).map_or(0, |recording| {
        recording
            .processes
            .iter()
            .map(|process| process.faults.len())
            .sum()
    })
}
