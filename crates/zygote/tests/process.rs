//! Children as processes: they behave as those of `std::process` do. None of this needs memory to be cloned.

#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use cowspace_tests::processes::{
    children_of, descriptors, launcher_of, name_of, own_descriptors, stat, until, until_idle,
};
use cowspace_tests::{entries, runner, tests};
use host_memory::process::{Fork, fork};
use host_memory::procmem::ProcMem;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};
use test_share::share;
use zygote::{Child, Context, Entry, Error, Launcher, Spawn, Stdio, Zygote};

fn main() -> ExitCode {
    if std::env::var_os(PRINTS_AND_STARTS).is_some() {
        return prints_and_starts();
    }
    if std::env::var_os(FORKS_WITH_A_POOL).is_some() {
        return forks_with_a_pool();
    }
    runner::main(
        ENTRIES,
        tests![
            exit_code_is_what_the_entry_returns,
            arguments_arrive_whole,
            output_and_errors_are_piped,
            input_is_piped,
            null_streams_are_empty,
            streams_are_inherited,
            a_panic_is_exit_code_101,
            a_child_can_be_killed,
            a_signal_is_in_the_status,
            try_wait_does_not_wait,
            the_status_stays_known,
            errors_say_what_is_wrong,
            threads_forbid_a_launcher,
            what_was_printed_before_is_printed_once,
            many_threads_spawn_at_once,
            no_descriptor_leaks,
            a_child_has_no_foreign_descriptors,
            dropped_children_are_reaped,
            a_pool_keeps_blank_children,
            many_threads_share_a_pool,
            a_wanted_spare_is_not_put_off,
            the_ended_are_reaped_while_many_spawn,
            a_forked_copy_has_a_pool_of_its_own,
            a_launcher_gives_its_code_to_children,
            spare_children_outlive_their_launcher,
            the_launcher_takes_no_signals,
            kills_at_random_points_leave_nothing,
            children_survive_their_zygote,
            blank_children_end_with_their_zygote,
            a_zygote_killed_at_any_moment_leaves_nobody,
            a_killed_launcher_is_told,
        ],
    )
}

const ENTRIES: &[Entry] = entries![
    exit_with,
    echo_arguments,
    flood,
    shout,
    list_descriptors,
    panics,
    passes_output_on,
    middle,
    middle_with_pool,
    spawns_for_ever,
    kills_its_launcher,
    kills_its_launcher_with_a_spare,
];

fn output(zygote: &Zygote, spawn: Spawn<'_>) -> String {
    let child = zygote.spawn(&spawn.stdout(Stdio::Piped)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A child that lives until its input is closed.
fn idle(zygote: &Zygote) -> Child {
    zygote
        .spawn(&Spawn::new("shout").stdin(Stdio::Piped).stdout(Stdio::Null))
        .unwrap()
}

// Exit codes, arguments

fn exit_with(context: Context) -> i32 {
    i32::from(context.args[0])
}

fn exit_code_is_what_the_entry_returns(zygote: &Zygote) {
    for code in [0, 1, 77, 255] {
        let mut child = zygote.spawn(&Spawn::new("exit_with").args([code])).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(i32::from(code)));
    }
}

fn echo_arguments(context: Context) -> i32 {
    io::stdout().write_all(&context.args).unwrap();
    0
}

fn arguments_arrive_whole(zygote: &Zygote) {
    // Lengths around those of a packet, and more than a socket's buffer holds.
    for len in [0, 1, 32_700, 32 * 1024, 65_600, 3_000_000] {
        let text: String = (0..len)
            .map(|n| char::from(b'a' + (n % 23) as u8))
            .collect();
        assert!(
            output(zygote, Spawn::new("echo_arguments").args(text.clone())) == text,
            "{len}"
        );
    }
}

// Standard streams

fn flood(_: Context) -> i32 {
    let stderr = thread::spawn(|| io::stderr().write_all(&[b'e'; 1 << 20]));
    io::stdout().write_all(&[b'o'; 1 << 20]).unwrap();
    stderr.join().unwrap().unwrap();
    0
}

fn output_and_errors_are_piped(zygote: &Zygote) {
    let child = zygote
        .spawn(
            &Spawn::new("flood")
                .stdout(Stdio::Piped)
                .stderr(Stdio::Piped),
        )
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == [b'o'; 1 << 20]);
    assert!(output.stderr == [b'e'; 1 << 20]);
}

/// Says everything louder, line by line.
fn shout(_: Context) -> i32 {
    for line in io::stdin().lines() {
        println!("{}", line.unwrap().to_uppercase());
    }
    0
}

fn input_is_piped(zygote: &Zygote) {
    let mut child = zygote
        .spawn(&Spawn::new("shout").stdin(Stdio::Piped).stdout(Stdio::Piped))
        .unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for word in ["one", "two"] {
        writeln!(child.stdin.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{}\n", word.to_uppercase()));
    }
    assert!(child.wait().unwrap().success(), "waiting closes its input");
}

fn null_streams_are_empty(zygote: &Zygote) {
    assert_eq!(output(zygote, Spawn::new("shout").stdin(Stdio::Null)), "");
    let child = zygote
        .spawn(&Spawn::new("flood").stdout(Stdio::Null).stderr(Stdio::Null))
        .unwrap();
    assert!(child.stdout.is_none());
    assert!(child.wait_with_output().unwrap().status.success());
}

/// A zygote in the middle, whose child has the streams that it has itself.
fn passes_output_on(context: Context) -> i32 {
    let zygote = Zygote::new(context.launcher.unwrap());
    let mut child = zygote.spawn(&Spawn::new("shout")).unwrap();
    child.wait().unwrap().code().unwrap()
}

fn streams_are_inherited(zygote: &Zygote) {
    let mut child = zygote
        .spawn(
            &Spawn::new("passes_output_on")
                .can_spawn(true)
                .stdin(Stdio::Piped)
                .stdout(Stdio::Piped),
        )
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"through two processes\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"THROUGH TWO PROCESSES\n");
}

/// With this variable set, this program is what the next test runs.
const PRINTS_AND_STARTS: &str = "ZYGOTE_TEST_PRINTS_AND_STARTS";

fn prints_and_starts() -> ExitCode {
    print!("once");
    let zygote = Zygote::new(Launcher::start(entries![shout]).unwrap());
    let mut child = zygote
        .spawn(&Spawn::new("shout").stdin(Stdio::Null))
        .unwrap();
    assert!(child.wait().unwrap().success());
    ExitCode::SUCCESS
}

fn what_was_printed_before_is_printed_once(_: &Zygote) {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.env(PRINTS_AND_STARTS, "1").output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"once");
}

// How children end

fn panics(_: Context) -> i32 {
    panic!("as intended");
}

fn a_panic_is_exit_code_101(zygote: &Zygote) {
    let child = zygote
        .spawn(&Spawn::new("panics").stderr(Stdio::Piped))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(101));
    assert!(String::from_utf8_lossy(&output.stderr).contains("as intended"));
}

fn a_child_can_be_killed(zygote: &Zygote) {
    let mut child = idle(zygote);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    child.kill().expect("to kill what has ended is no error");
}

fn a_signal_is_in_the_status(zygote: &Zygote) {
    for signal in [Signal::TERM, Signal::USR1] {
        let mut child = idle(zygote);
        kill_process(pid(child.id()), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            (status.code(), status.signal()),
            (None, Some(signal.as_raw()))
        );
    }
}

fn try_wait_does_not_wait(zygote: &Zygote) {
    let mut child = idle(zygote);
    assert_eq!(child.try_wait().unwrap(), None);
    drop(child.stdin.take());
    until(|| child.try_wait().unwrap().is_some());
    assert!(child.try_wait().unwrap().unwrap().success());
}

fn the_status_stays_known(zygote: &Zygote) {
    let mut child = zygote.spawn(&Spawn::new("exit_with").args([5])).unwrap();
    for _ in 0..3 {
        assert_eq!(child.wait().unwrap().code(), Some(5));
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(5));
    }
}

fn errors_say_what_is_wrong(zygote: &Zygote) {
    let error = zygote.spawn(&Spawn::new("nobody")).unwrap_err();
    assert!(matches!(&error, Error::NoSuchEntry(name) if name == "nobody"));
    assert_eq!(error.to_string().lines().count(), 1);
}

fn threads_forbid_a_launcher(_: &Zygote) {
    let error = thread::spawn(|| Launcher::start(&[]).unwrap_err())
        .join()
        .unwrap();
    assert!(matches!(error, Error::Threads(2..)), "{error}");
}

fn many_threads_spawn_at_once(zygote: &Zygote) {
    thread::scope(|scope| {
        for code in 0..4 {
            scope.spawn(move || {
                for _ in 0..8 {
                    let mut child = zygote.spawn(&Spawn::new("exit_with").args([code])).unwrap();
                    assert_eq!(child.wait().unwrap().code(), Some(i32::from(code)));
                }
            });
        }
    });
}

// What is left behind

fn no_descriptor_leaks(zygote: &Zygote) {
    idle(zygote).kill().unwrap();
    let launcher = launcher_of(std::process::id());
    until_idle(launcher);
    let before = descriptors("self");
    for _ in 0..20 {
        idle(zygote).wait().unwrap();
        output(
            zygote,
            Spawn::new("echo_arguments")
                .stdin(Stdio::Piped)
                .stderr(Stdio::Piped),
        );
        drop(zygote.spawn(&Spawn::new("nobody")));
    }
    until_idle(launcher);
    assert_eq!(descriptors("self"), before);
}

/// Lists its descriptors, those of its engine apart.
fn list_descriptors(context: Context) -> i32 {
    let mut own = own_descriptors("self");
    own.retain(|_, to| !to.starts_with("/proc/") && to != "anon_inode:[userfaultfd]");
    println!("{own:?}");
    if context.launcher.is_some() {
        let of_launcher = own_descriptors(&launcher_of(std::process::id()).to_string());
        assert_eq!(
            of_launcher.len(),
            1,
            "its launcher has its socket: {of_launcher:?}"
        );
    }
    i32::from(context.launcher.is_some() != (context.args == b"zygote"))
}

fn a_child_has_no_foreign_descriptors(zygote: &Zygote) {
    let _open_here = std::fs::File::open("/proc/self/exe").unwrap();
    let others: Vec<Child> = (0..3).map(|_| idle(zygote)).collect();
    assert_eq!(output(zygote, Spawn::new("list_descriptors")), "{}\n");
    let as_zygote = output(
        zygote,
        Spawn::new("list_descriptors")
            .args("zygote")
            .can_spawn(true),
    );
    let is_pidfd = |link: &&str| link.contains("[pidfd]") || link.contains("pidfd:");
    assert_eq!(
        as_zygote.matches("socket:").count(),
        1,
        "its launcher's socket: {as_zygote}"
    );
    assert_eq!(
        as_zygote.split(',').filter(is_pidfd).count(),
        1,
        "its launcher: {as_zygote}"
    );
    assert_eq!(as_zygote.split(',').count(), 2, "and no more: {as_zygote}");
    for mut other in others {
        other.wait().unwrap();
    }
}

fn dropped_children_are_reaped(zygote: &Zygote) {
    let launcher = launcher_of(std::process::id());
    for _ in 0..5 {
        drop(zygote.spawn(&Spawn::new("exit_with").args([0])).unwrap());
    }
    until_idle(launcher);
}

fn a_pool_keeps_blank_children(zygote: &Zygote) {
    let launcher = launcher_of(std::process::id());
    until_idle(launcher);
    let blanks = || {
        let mut blanks = children_of(launcher);
        blanks.retain(|child| name_of(*child).as_deref() == Some("zygote-blank"));
        blanks
    };
    zygote.launcher().pool(3).unwrap();
    until(|| blanks().len() == 3);
    let waiting = blanks();
    for blank in &waiting {
        let has = own_descriptors(&blank.to_string());
        assert_eq!(
            has.len(),
            2,
            "a blank child has a socket to wait at, and a pidfd to give: {has:?}"
        );
    }
    let mut child = zygote
        .spawn(&Spawn::new("shout").stdin(Stdio::Piped))
        .unwrap();
    assert!(waiting.contains(&child.id()), "it was a blank child before");
    assert_eq!(name_of(child.id()).as_deref(), Some("shout"));
    until(|| blanks().len() == 3);
    assert!(!blanks().contains(&child.id()));
    // Those that are killed are passed over, and replaced with the next one taken.
    let killed = blanks();
    for blank in &killed[..2] {
        kill_process(pid(*blank), Signal::KILL).unwrap();
    }
    until(|| blanks() == killed[2..]);
    let mut other = idle(zygote);
    assert_eq!(other.id(), killed[2]);
    until(|| blanks().len() == 3);
    // All of them.
    for blank in blanks() {
        kill_process(pid(blank), Signal::KILL).unwrap();
    }
    until(|| blanks().is_empty());
    assert!(idle(zygote).wait().unwrap().success());
    assert!(other.wait().unwrap().success());
    until(|| blanks().len() == 3);
    zygote.launcher().pool(1).unwrap();
    until(|| blanks().len() == 1);
    zygote.launcher().pool(2).unwrap();
    until(|| blanks().len() == 2);
    zygote.launcher().pool(0).unwrap();
    until(|| children_of(launcher) == [child.id()]);
    assert!(child.wait().unwrap().success());
    until_idle(launcher);
}

fn many_threads_share_a_pool(zygote: &Zygote) {
    // The engine has its descriptors from now on.
    idle(zygote).wait().unwrap();
    let launcher = launcher_of(std::process::id());
    until_idle(launcher);
    let before = descriptors("self");
    zygote.launcher().pool(3).unwrap();
    thread::scope(|scope| {
        for code in 0..4 {
            scope.spawn(move || {
                for round in 0..50 {
                    let mut child = zygote.spawn(&Spawn::new("exit_with").args([code])).unwrap();
                    assert_eq!(child.wait().unwrap().code(), Some(i32::from(code)));
                    if code == 0 && round % 10 == 0 {
                        zygote.launcher().pool(round / 10 % 4).unwrap();
                    }
                }
            });
        }
    });
    zygote.launcher().pool(0).unwrap();
    until_idle(launcher);
    assert_eq!(descriptors("self"), before);
}

/// A spare child that is taken before it was forked is forked at once, whatever else the launcher is asked meanwhile.
fn a_wanted_spare_is_not_put_off(zygote: &Zygote) {
    idle(zygote).wait().unwrap();
    let launcher = launcher_of(std::process::id());
    until_idle(launcher);
    let spawned = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..share(100) {
                idle(zygote).wait().unwrap();
            }
            spawned.store(true, Ordering::Relaxed);
        });
        // Who is never forked waits for ever: whoever runs the tests ends that.
        while !spawned.load(Ordering::Relaxed) {
            zygote.launcher().pool(1).unwrap();
            zygote.launcher().pool(0).unwrap();
        }
    });
    // Those not wanted any more, too, that were never forked.
    until_idle(launcher);
}

/// Each child is two descriptors of the launcher's until it is reaped.
fn the_ended_are_reaped_while_many_spawn(zygote: &Zygote) {
    let launcher = launcher_of(std::process::id());
    let zombies = || {
        let mut children = children_of(launcher);
        children.retain(|child| stat(*child).is_some_and(|(state, _)| state == 'Z'));
        children.len()
    };
    const THREADS: usize = 32;
    let most = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..share(40) {
                    drop(zygote.spawn(&Spawn::new("exit_with").args([0])).unwrap());
                    most.fetch_max(zombies(), Ordering::Relaxed);
                }
            });
        }
    });
    let most = most.into_inner();
    println!("(at most {most} zombies)");
    assert!(most <= 2 * THREADS);
    until_idle(launcher);
}

/// With this variable set, this program is what the next test runs.
const FORKS_WITH_A_POOL: &str = "ZYGOTE_TEST_FORKS_WITH_A_POOL";

/// As a server does that has several processes.
fn forks_with_a_pool() -> ExitCode {
    let launcher = Launcher::start(entries![echo_arguments]).unwrap();
    launcher.pool(2).unwrap();
    let fork = fork().unwrap();
    let myself = match fork {
        Fork::Child => "the copy",
        Fork::Parent(_) => "the first",
    };
    let zygote = Zygote::new(launcher);
    for _ in 0..30 {
        assert_eq!(
            output(&zygote, Spawn::new("echo_arguments").args(myself)),
            myself
        );
    }
    if let Fork::Parent(copy) = fork {
        let (_, status) = waitpid(Pid::from_raw(copy), WaitOptions::empty())
            .unwrap()
            .unwrap();
        assert_eq!(status.exit_status(), Some(0));
    }
    ExitCode::SUCCESS
}

fn a_forked_copy_has_a_pool_of_its_own(_: &Zygote) {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.env(FORKS_WITH_A_POOL, "1").output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `fork` copies the page tables of a mapping of code only if a page of it is the process's own.
fn a_launcher_gives_its_code_to_children(zygote: &Zygote) {
    if !ProcMem::open().unwrap().is_forced() {
        println!("SKIP the launcher's code: proc_mem.force_override");
        return;
    }
    // When it serves requests it has prepared itself.
    assert!(idle(zygote).wait().unwrap().success());
    let launcher = launcher_of(std::process::id());
    let maps = std::fs::read_to_string(format!("/proc/{launcher}/smaps")).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut own = Vec::new();
    let mut is_code = false;
    for line in maps.lines() {
        if line
            .split(' ')
            .nth(1)
            .is_some_and(|field| field.ends_with('p'))
        {
            is_code = line.contains(" r-xp ") && line.ends_with(program.to_str().unwrap());
        } else if let (true, Some(size)) = (is_code, line.strip_prefix("Anonymous:")) {
            own.push(size.trim().to_owned());
        }
    }
    assert!(
        !own.is_empty() && !own.contains(&"0 kB".to_owned()),
        "{own:?}"
    );
}

fn the_launcher_takes_no_signals(zygote: &Zygote) {
    let launcher = launcher_of(std::process::id());
    for signal in [Signal::INT, Signal::QUIT, Signal::HUP, Signal::TERM] {
        kill_process(pid(launcher), signal).unwrap();
    }
    // Its children take them as usual.
    let mut child = idle(zygote);
    kill_process(pid(child.id()), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
}

fn kills_at_random_points_leave_nothing(zygote: &Zygote) {
    idle(zygote).kill().unwrap();
    let launcher = launcher_of(std::process::id());
    until_idle(launcher);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = (descriptors("self"), threads());
    let mut random = 1_u32;
    let (mut ready, mut half_way) = (0, 0);
    for _ in 0..share(200) {
        // xorshift32, the same in each run; the timing is not.
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let pause = random % 30_000;
        let spawned = thread::scope(|scope| {
            let killer = scope.spawn(move || {
                let mut victim = None;
                until(|| {
                    victim = children_of(launcher).first().copied();
                    victim.is_some()
                });
                for _ in 0..pause {
                    std::hint::spin_loop();
                }
                // It may have ended: then its number is nobody's or a zombie's, as the launcher makes no other child now.
                let _ = kill_process(pid(victim.unwrap()), Signal::KILL);
            });
            let spawned =
                zygote.spawn(&Spawn::new("shout").stdin(Stdio::Piped).stdout(Stdio::Null));
            killer.join().unwrap();
            spawned
        });
        match spawned {
            Ok(mut child) => {
                ready += 1;
                assert_eq!(child.wait().unwrap().signal(), Some(9));
            }
            Err(Error::Ended(status)) => {
                half_way += 1;
                assert_eq!(status.signal(), Some(9));
            }
            Err(other) => panic!("{other}"),
        }
        until_idle(launcher);
    }
    println!("({ready} killed when they ran, {half_way} before)");
    until(|| threads() == before.1);
    assert_eq!(descriptors("self"), before.0);
}

// Zygotes and launchers that die

/// A zygote that will be killed: says who its launcher is, and has a child that serves its own input and output.
fn middle(context: Context) -> i32 {
    let zygote = Zygote::new(context.launcher.unwrap());
    let child = zygote.spawn(&Spawn::new("shout")).unwrap();
    println!("{} {}", launcher_of(std::process::id()), child.id());
    loop {
        thread::park();
    }
}

/// A zygote that will be killed: says who its launcher and its blank children are.
fn middle_with_pool(context: Context) -> i32 {
    let launcher = context.launcher.unwrap();
    launcher.pool(2).unwrap();
    let process = launcher_of(std::process::id());
    until(|| children_of(process).len() == 2);
    let blanks = children_of(process);
    println!("{process} {} {}", blanks[0], blanks[1]);
    loop {
        thread::park();
    }
}

/// Spawns one of the zygotes above; gives it, the lines that it says, and the processes that it says in the first.
fn spawn_middle(zygote: &Zygote, entry: &str) -> (Child, impl BufRead, Vec<u32>) {
    // What outlives the zygote becomes this process's child.
    set_child_subreaper(Some(pid(std::process::id()))).unwrap();
    let spawn = Spawn::new(entry)
        .can_spawn(true)
        .stdin(Stdio::Piped)
        .stdout(Stdio::Piped);
    let mut middle = zygote.spawn(&spawn).unwrap();
    let mut lines = BufReader::new(middle.stdout.take().unwrap());
    let mut said = String::new();
    lines.read_line(&mut said).unwrap();
    let processes = said
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    (middle, lines, processes)
}

fn children_survive_their_zygote(zygote: &Zygote) {
    let (mut middle, mut lines, processes) = spawn_middle(zygote, "middle");
    let [launcher, survivor] = processes[..] else {
        panic!("{processes:?}")
    };
    let mut input = middle.stdin.take().unwrap();
    middle.kill().unwrap();
    assert_eq!(middle.wait().unwrap().signal(), Some(9));
    assert_eq!(reap(launcher), Some(0), "the launcher ends by itself");
    assert!(stat(survivor).is_some_and(|(_, parent)| parent == std::process::id()));
    for word in ["still", "here"] {
        writeln!(input, "{word}").unwrap();
        let mut answer = String::new();
        lines.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{}\n", word.to_uppercase()));
    }
    drop(input);
    assert_eq!(reap(survivor), Some(0));
    let mut rest = String::new();
    assert_eq!(
        lines.read_to_string(&mut rest).unwrap(),
        0,
        "nobody has its output open"
    );
}

fn blank_children_end_with_their_zygote(zygote: &Zygote) {
    let (mut middle, mut lines, processes) = spawn_middle(zygote, "middle_with_pool");
    assert_eq!(processes.len(), 3);
    middle.kill().unwrap();
    assert_eq!(middle.wait().unwrap().signal(), Some(9));
    let codes: Vec<Option<i32>> = processes
        .iter()
        .map(|process| reap_or_gone(*process))
        .collect();
    assert!(
        codes.iter().all(|code| matches!(code, Some(0) | None)),
        "{codes:?}"
    );
    let mut rest = String::new();
    assert_eq!(lines.read_to_string(&mut rest).unwrap(), 0);
}

/// A zygote that will be killed in the middle of a spawn.
fn spawns_for_ever(context: Context) -> i32 {
    let zygote = Zygote::new(context.launcher.unwrap());
    // More than the socket holds, so that an image is often half-way.
    let arguments = vec![0; 400_000];
    loop {
        zygote
            .spawn(&Spawn::new("exit_with").args(arguments.clone()))
            .unwrap();
    }
}

fn a_zygote_killed_at_any_moment_leaves_nobody(zygote: &Zygote) {
    let myself = std::process::id();
    set_child_subreaper(Some(pid(myself))).unwrap();
    let launcher = launcher_of(myself);
    let spawn = Spawn::new("spawns_for_ever")
        .can_spawn(true)
        .stderr(Stdio::Piped);
    for round in 0..30 {
        let mut middle = zygote.spawn(&spawn).unwrap();
        for _ in 0..round * 10_000 {
            std::hint::spin_loop();
        }
        middle.kill().unwrap();
        let output = middle.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(9));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "",
            "nobody complains"
        );
        // What has outlived it, its launcher first, is this process's to reap.
        loop {
            let orphans: Vec<u32> = children_of(myself)
                .into_iter()
                .filter(|child| *child != launcher)
                .collect();
            if orphans.is_empty() {
                break;
            }
            for orphan in orphans {
                assert_eq!(reap(orphan), Some(0));
            }
        }
    }
}

fn kills_its_launcher(context: Context) -> i32 {
    let zygote = Zygote::new(context.launcher.unwrap());
    let mut child = zygote.spawn(&Spawn::new("exit_with").args([0])).unwrap();
    assert!(child.wait().unwrap().success());
    let mut orphan = idle(&zygote);
    kill_process(pid(launcher_of(std::process::id())), Signal::KILL).unwrap();
    until(|| zygote.launcher().pool(0).is_err());
    assert!(matches!(
        zygote.spawn(&Spawn::new("shout")),
        Err(Error::LauncherGone)
    ));
    assert_eq!(orphan.wait().unwrap_err().kind(), io::ErrorKind::NotFound);
    println!("{}", orphan.id());
    0
}

fn a_killed_launcher_is_told(zygote: &Zygote) {
    set_child_subreaper(Some(pid(std::process::id()))).unwrap();
    let orphan = output(zygote, Spawn::new("kills_its_launcher").can_spawn(true));
    assert_eq!(reap(orphan.trim_end().parse().unwrap()), Some(0));
}

fn kills_its_launcher_with_a_spare(context: Context) -> i32 {
    let zygote = Zygote::new(context.launcher.unwrap());
    let launcher = launcher_of(std::process::id());
    zygote.launcher().pool(1).unwrap();
    until(|| {
        let children = children_of(launcher);
        children.len() == 1 && name_of(children[0]).as_deref() == Some("zygote-blank")
    });
    kill_process(pid(launcher), Signal::KILL).unwrap();
    until(|| zygote.launcher().pool(1).is_err());
    let mut spare = idle(&zygote);
    assert!(matches!(
        zygote.spawn(&Spawn::new("shout")),
        Err(Error::LauncherGone)
    ));
    assert_eq!(spare.wait().unwrap_err().kind(), io::ErrorKind::NotFound);
    println!("{}", spare.id());
    0
}

/// The launcher is not needed for a spare child to become one; only how it ends nobody knows then.
fn spare_children_outlive_their_launcher(zygote: &Zygote) {
    set_child_subreaper(Some(pid(std::process::id()))).unwrap();
    let spawn = Spawn::new("kills_its_launcher_with_a_spare").can_spawn(true);
    let spare = output(zygote, spawn);
    assert_eq!(reap(spare.trim_end().parse().unwrap()), Some(0));
}

fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap()).unwrap()
}

/// Waits for the end of a process that has become this one's child, and gives its exit code.
fn reap(process: u32) -> Option<i32> {
    until(|| stat(process).is_none_or(|(_, parent)| parent == std::process::id()));
    let (_, status) = waitpid(Some(pid(process)), WaitOptions::empty())
        .unwrap()
        .unwrap();
    status.exit_status()
}

/// As [`reap`], or `None` if its launcher was quicker.
fn reap_or_gone(process: u32) -> Option<i32> {
    until(|| stat(process).is_none_or(|(_, parent)| parent == std::process::id()));
    let (_, status) = waitpid(Some(pid(process)), WaitOptions::empty()).ok()??;
    status.exit_status()
}
