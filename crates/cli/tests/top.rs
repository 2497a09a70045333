//! `cowspace top` as a person sees it: in a terminal of 80 by 24, beside a program that faults when it is told to.

#![forbid(unsafe_code)]
mod terminal;

use std::env;
use std::io::{BufRead, BufReader, Write, stdin};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use cowspace::{Name, Policy, Vmar, VmarFlags, Vmo, VmoChildOptions, fault_stats};
use host_memory::access::Volatile;
use host_memory::page::page_size;
use rustix::process::Signal;
use serde_json::Value;
use terminal::Terminal;

const COWSPACE: &str = env!("CARGO_BIN_EXE_cowspace");

/// Pages of the program's memory: enough that they never run out.
const PAGES: usize = 4_000;

/// The program that is looked at: run by [`Program`]. It obeys lines on its standard input, and answers each with the number of its faults.
#[test]
#[ignore = "obeys its standard input"]
fn program() {
    let len = PAGES * page_size();
    let original = Vmo::create(len as u64).expect("a VMO");
    original
        .write(&vec![1; len], 0)
        .expect("pages to be cloned");
    // Nobody writes to the original any more, so a clone is what has faults.
    let clone = original
        .create_child(VmoChildOptions::SNAPSHOT, 0, len as u64)
        .expect("a clone");
    clone
        .set_name(&Name::new_lossy("looked at"))
        .expect("a name");
    let flags = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
    let addr = Vmar::root_self()
        .map_with_policy(0, &clone, 0, len, flags, Policy::Traced)
        .expect("a mapping");
    drop(clone);
    let memory = Volatile::new(addr, len).expect("mapped memory");

    // From the end, so that no sequence is seen in it.
    let mut next = PAGES;
    let answer = |word: &str| {
        let faults = fault_stats().map_or(0, |stats| stats.all.counts.total());
        println!("\n{word} {faults}");
    };
    answer("ready");
    for line in stdin().lines() {
        match line.expect("a line").as_str() {
            "fault" => {
                for _ in 0..100 {
                    next -= 1;
                    memory.store_u8(next * page_size(), 7);
                }
                answer("faults");
            }
            "begin anew" => {
                let error = Program::command().exec();
                panic!("cannot begin anew: {error}");
            }
            other => panic!("{other}?"),
        }
    }
}

/// A running [`program`].
struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn command() -> Command {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "program", "--ignored", "--nocapture"]);
        command.env("COWSPACE_INSPECT", "1");
        command
    }

    fn start() -> Program {
        let mut child = Program::command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut program = Program { child, output };
        program.hear("ready");
        program
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do something.
    fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{line}").expect("told");
    }

    /// Waits for its answer.
    fn hear(&mut self, word: &str) -> u64 {
        let mut line = String::new();
        loop {
            line.clear();
            let len = self.output.read_line(&mut line).expect("a line");
            assert!(len > 0, "the program has ended");
            if let Some(number) = line.trim().strip_prefix(word) {
                return number.trim().parse().expect("a number");
            }
        }
    }

    /// Has it fault, and returns how many faults it has had since it began: 0 where nothing can be traced.
    fn fault(&mut self) -> u64 {
        self.tell("fault");
        self.hear("faults")
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a process");
    }

    /// Lets it end by itself, which takes its socket away.
    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("our child");
    }
}

/// Where a test fails, nothing is to be left.
impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn top(pid: u32) -> Command {
    let mut command = Command::new(COWSPACE);
    command.args(["top", &pid.to_string(), "--interval", "0.1"]);
    command
}

/// A view of the program, once it is there.
fn watch(program: &Program) -> Terminal {
    let terminal = Terminal::start(&top(program.pid()), 80, 24);
    terminal.wait_for("memory", |screen| screen.contains("MEMORY"));
    terminal
}

/// The number of all faults on a screen.
fn all_faults(screen: &str) -> Option<u64> {
    let line = screen.lines().find(|line| line.starts_with(" all "))?;
    let number = line.split_whitespace().nth(2)?;
    number.replace(',', "").parse().ok()
}

#[test]
fn the_screen_tells_what_the_program_does() {
    let mut program = Program::start();
    let terminal = watch(&program);
    for _ in 0..3 {
        let faults = program.fault();
        terminal.wait_for("right number", |screen| all_faults(screen) == Some(faults));
    }
    let screen = terminal.wait_for("second look", |screen| screen.contains("last "));
    let pid = program.pid().to_string();
    let traced = if program.fault() > 0 {
        " traced: the fault handler sees faults"
    } else {
        " nothing traced"
    };
    for expected in [
        pid.as_str(),
        traced,
        "up 0:",
        "queue+resolve",
        "since the start",
        "saves",
        "that copies would take",
        "q quit",
    ] {
        assert!(screen.contains(expected), "no {expected} in\n{screen}");
    }
    assert!(screen.lines().count() <= 24);
    program.end();
    terminal.left().is_tidy(0);
}

#[test]
fn keys_are_obeyed() {
    let mut program = Program::start();
    let mut terminal = watch(&program);
    terminal.type_in("+");
    terminal.wait_for("longer interval", |screen| screen.contains("every 0.2 s"));
    terminal.type_in("-");
    terminal.wait_for("shorter interval", |screen| screen.contains("every 0.1 s"));
    terminal.type_in("p");
    terminal.wait_for("pause", |screen| screen.contains("PAUSED"));
    terminal.type_in("p");
    let faults = program.fault();
    terminal.wait_for("end of the pause", |screen| {
        !screen.contains("PAUSED") && all_faults(screen) == Some(faults)
    });
    terminal.type_in("q");
    terminal.left().is_tidy(0);
    program.end();
}

#[test]
fn the_window_may_change_its_size() {
    let program = Program::start();
    let mut terminal = watch(&program);
    terminal.resize(40, 10);
    terminal.wait_for("word", |screen| {
        screen.starts_with("window too small: 40×10")
    });
    terminal.resize(1, 1);
    terminal.resize(120, 45);
    let screen = terminal.wait_for("mappings", |screen| {
        screen.contains("MAPPINGS") && screen.contains("looked at")
    });
    assert!(screen.contains("ALL FAULTS A SECOND"), "{screen}");
    terminal.type_in("q");
    terminal.left().is_tidy(0);
    program.end();
}

#[test]
fn each_key_that_quits_leaves_the_terminal_as_it_was() {
    let program = Program::start();
    for key in ["q", "\x1b", "\x03"] {
        let mut terminal = watch(&program);
        terminal.type_in(key);
        let left = terminal.left();
        left.is_tidy(0);
        assert_eq!(left.screen.trim(), "");
    }
    program.end();
}

#[test]
fn each_signal_that_quits_leaves_the_terminal_as_it_was() {
    let program = Program::start();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = watch(&program);
        terminal.signal(signal);
        terminal.left().is_tidy(0);
    }
    program.end();
}

#[test]
fn a_process_that_ends_is_told() {
    for killed in [false, true] {
        let program = Program::start();
        let terminal = watch(&program);
        let pid = program.pid();
        if killed {
            program.signal(Signal::KILL);
        } else {
            program.end();
        }
        let left = terminal.left();
        left.is_tidy(0);
        assert_eq!(left.screen.trim(), format!("process {pid} has ended"));
    }
}

#[test]
fn a_terminal_that_is_closed_ends_the_view() {
    let program = Program::start();
    let terminal = watch(&program);
    assert_eq!(terminal.close().code(), Some(0));
    program.end();
}

#[test]
fn keys_are_obeyed_while_the_process_does_not_answer() {
    let program = Program::start();
    let mut terminal = watch(&program);
    program.signal(Signal::STOP);
    terminal.type_in("++");
    terminal.wait_for("longer interval", |screen| screen.contains("every 0.5 s"));
    terminal.type_in("q");
    terminal.left().is_tidy(0);
    program.signal(Signal::CONT);
    program.end();
}

#[test]
fn a_process_that_runs_another_program_begins_anew() {
    let mut program = Program::start();
    let mut terminal = watch(&program);
    let before = program.fault();
    terminal.wait_for("its faults", |screen| all_faults(screen) == Some(before));
    program.tell("begin anew");
    let after = program.hear("ready");
    assert!(after <= before);
    let after = program.fault();
    let more = program.fault();
    assert!(before == 0 || after < more);
    terminal.wait_for("other program", |screen| all_faults(screen) == Some(more));
    terminal.type_in("q");
    terminal.left().is_tidy(0);
    program.end();
}

/// Its output, which is one line on standard error.
#[track_caller]
fn refused(command: &mut Command, status: i32) -> String {
    let output: Output = command.output().expect("the command");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let us = std::process::id();
    let not_a_terminal = refused(&mut top(us), 1);
    assert!(not_a_terminal.contains("--json"), "{not_a_terminal}");
    // Larger than any process's number.
    let nobody = refused(top(i32::MAX as u32).arg("--json"), 1);
    assert!(nobody.contains("there is no process"), "{nobody}");
    let silent = refused(top(us).arg("--json"), 1);
    assert!(silent.contains("COWSPACE_INSPECT=1"), "{silent}");
    for arguments in [
        &["top"][..],
        &["top", "0"],
        &["top", "-1"],
        &["top", "4294967296"],
        &["top", "x"],
        &["top", "1", "--interval", "0"],
        &["top", "1", "--interval", "NaN"],
        &["top", "1", "--interval", "1e9"],
        &["top", "1", "--once"],
    ] {
        refused(Command::new(COWSPACE).args(arguments), 2);
    }
    // In a terminal it is a line too, and no screen is taken.
    let left = Terminal::start(&top(us), 80, 24).left();
    assert_eq!(left.status.code(), Some(1));
    assert!(
        left.screen.contains("COWSPACE_INSPECT=1"),
        "{}",
        left.screen
    );
    assert!(!left.amiss.iter().any(|what| what.contains("modes")));
}

#[test]
fn json_tells_the_same_line_by_line() {
    let mut program = Program::start();
    let faults = program.fault();
    let once = top(program.pid())
        .args(["--json", "--once"])
        .output()
        .expect("the command");
    assert!(once.status.success());
    let document: Value = serde_json::from_slice(&once.stdout).expect("one JSON document");
    assert_eq!(document["faults"]["all"], faults);
    assert_eq!(document["faults_per_second"]["all"], 0.0);
    assert_eq!(document["traced"], faults > 0);
    assert_eq!(document["pid"], program.pid());
    assert_eq!(document["page_size"], page_size());
    let bytes = PAGES * page_size();
    assert_eq!(document["memory"]["mapped_bytes"], bytes);
    assert!(document["saved_bytes"].as_u64() <= Some(bytes as u64));
    let handled = &document["handled_ns"];
    assert_eq!(handled["all"]["since_start"]["count"], faults);
    assert_eq!(handled["install"]["since_start"]["count"], faults);
    let ascending =
        ["p50", "p90", "p99", "max"].map(|name| handled["all"]["since_start"][name].as_u64());
    assert!(ascending.is_sorted(), "{ascending:?}");

    let mut lines = top(program.pid())
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command");
    let mut output = BufReader::new(lines.stdout.take().expect("a pipe"));
    let mut look = || -> Value {
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("a JSON document")
    };
    let first = look();
    assert!(first["faults_per_second"].is_null(), "{first}");
    let mut at = first["at_ns"].as_u64();
    let faults = program.fault();
    loop {
        let next = look();
        assert!(next["at_ns"].as_u64() > at);
        assert!(next["faults_per_second"]["all"].is_f64());
        at = next["at_ns"].as_u64();
        if next["faults"]["all"] == faults {
            break;
        }
    }
    let pid = program.pid();
    program.end();
    let ended = lines.wait_with_output().expect("our child");
    assert!(ended.status.success());
    let text = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(text.trim(), format!("process {pid} has ended"));
}
