//! A program whose faults are known, for `tests/recording.rs`, which records it. What it does is its first argument; it says which faults that were.

#![forbid(unsafe_code)]

use std::env;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use cowspace::{Name, Policy, Recorder, Vmar, Vmo, VmoChildOptions};
use cowspace_tests::{RW, memory, page};
use host_memory::access::Volatile;
use nix::sys::resource::{Resource, setrlimit};
use test_share::share;
use zygote::{Context, Launcher, Spawn, Stdio, Zygote};

const PAGES: usize = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Ok(launcher) = Launcher::start(cowspace_tests::entries![touch, wait]) else {
        return ExitCode::FAILURE;
    };
    match arguments[..] {
        ["known"] => known(),
        ["known", file] => {
            // What came before is not recorded.
            known_faults(&mapped("before"));
            let recorder = Recorder::start(Path::new(file)).expect("a recording");
            let second = Recorder::start(Path::new(file)).expect_err("one at a time");
            assert_eq!(second.kind(), std::io::ErrorKind::AlreadyExists);
            known();
            let end = recorder.finish().expect("an end");
            // And what comes after neither.
            known_faults(&mapped("after"));
            assert_eq!(end.recorded, 4);
            assert_eq!(end.lost, 0);
        }
        ["again", file] => {
            for _ in 0..3 {
                let recorder = Recorder::start(Path::new(file)).expect("a recording");
                known();
                drop(recorder);
            }
        }
        ["nothing"] => drop(Vmo::create(1)),
        ["refused", file] => {
            let refused = Recorder::start(Path::new(file)).expect_err("no recording");
            eprintln!("{refused}");
            known();
        }
        ["zygote", entry] => children(launcher, entry, ""),
        ["zygote", entry, file] => {
            let recorder = Recorder::start(Path::new(file)).expect("a recording");
            children(launcher, entry, file);
            recorder.finish().expect("an end");
        }
        ["full"] => full(),
        ["churn"] => churn(),
        ["many", file] => many(file),
        ["exit"] => {
            known();
            // From a thread, while another one faults.
            let memory = mapped("exit");
            thread::spawn(move || {
                loop {
                    store(&memory, 5);
                }
            });
            let exits = thread::spawn(|| std::process::exit(7));
            let _ = exits.join();
        }
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// A mapping of sealed pages, so that each first touch is a fault.
fn mapped(name: &str) -> Volatile {
    let len = PAGES * page();
    let vmo = Vmo::create(len as u64).expect("a VMO");
    vmo.write(&vec![1; len], 0).expect("writing");
    let root = Vmar::root_self();
    let addr = root
        .map_with_policy(0, &vmo, 0, len, RW, Policy::Traced)
        .expect("a mapping");
    // Named when it is mapped already.
    vmo.set_name(&Name::new_lossy(name)).expect("a name");
    vmo.create_child(VmoChildOptions::SNAPSHOT, 0, len as u64)
        .expect("a clone");
    memory(addr, len)
}

fn store(memory: &Volatile, at: usize) {
    memory.store_u8(at * page(), 2);
}

/// Four faults: two reads, each of a window of 16 pages; a store to a page that is mapped, and one to a page that is not.
fn known_faults(memory: &Volatile) -> [(usize, bool, &'static str); 4] {
    let at = |place: usize| memory.addr() + place * page();
    let _ = memory.load_u8(0);
    let _ = memory.load_u8(32 * page());
    store(memory, 40);
    store(memory, 20);
    [
        (at(0), false, "Minor"),
        (at(32), false, "Minor"),
        (at(40), true, "WriteProtect"),
        (at(20), true, "Minor"),
    ]
}

/// Says what it does: its thread, and a line for each fault.
fn known() {
    let memory = mapped("known");
    println!("{}", nix::unistd::gettid());
    for (page, write, kind) in known_faults(&memory) {
        println!("{page} {write} {kind}");
    }
}

/// Spawns four children, each with something to do, and waits for them. The last one is killed if it does not end by itself.
fn children(launcher: Launcher, entry: &str, file: &str) {
    let memory = mapped("inherited");
    let zygote = Zygote::new(launcher);
    let mut children = Vec::new();
    for number in 0..4 {
        let entry = if number < 3 { "touch" } else { entry };
        let spawn = Spawn::new(entry)
            .args(format!("{number} {} {file}", memory.addr()))
            .policy(Policy::Traced)
            .stdout(Stdio::Piped);
        let mut child = zygote.spawn(&spawn).expect("a child");
        if entry == "wait" {
            let mut ready = [0];
            let output = child.stdout.as_mut().expect("its output");
            output.read_exact(&mut ready).expect("it is ready");
            // When it has begun its recording.
            println!("{}", child.id());
            std::io::stdout().flush().expect("somebody listens");
            let _ = std::io::stdin().read(&mut ready);
            child.kill().expect("to kill it");
            child.wait().expect("its status");
        }
        children.push(child);
    }
    for child in &mut children {
        child.wait().expect("its status");
    }
    store(&memory, 3);
}

/// A child: stores to as many pages as its number says, and one.
fn touch(context: Context) -> i32 {
    let arguments = String::from_utf8(context.args).expect("text");
    let mut arguments = arguments.splitn(3, ' ');
    let mut number = || arguments.next().and_then(|text| text.parse().ok());
    let (count, addr): (Option<usize>, _) = (number(), number());
    let file = arguments.next().unwrap_or("");
    let recorder = (!file.is_empty()).then(|| Recorder::start(Path::new(file)));
    let memory = memory(addr.expect("an address"), PAGES * page());
    for at in (0..=count.expect("a number")).rev() {
        store(&memory, 8 * at + 1);
    }
    if let Some(recorder) = recorder {
        let end = recorder.and_then(Recorder::finish).expect("an end");
        assert_eq!(end.lost, 0);
    }
    0
}

/// A child that is killed in the end.
fn wait(context: Context) -> i32 {
    touch(context);
    println!();
    loop {
        thread::park();
    }
}

/// Has more faults than there is room for in the file.
fn full() {
    let memories: Vec<_> = (0..200).map(|_| mapped("full")).collect();
    // The signal is the business of the thread that writes.
    setrlimit(Resource::RLIMIT_FSIZE, 8192, 8192).expect("a limit");
    for memory in &memories {
        (0..PAGES).rev().step_by(3).for_each(|at| store(memory, at));
    }
    println!("goes on");
}

/// Mappings come, are touched, and go, in several threads, and the world is stopped. Says how many faults there were.
fn churn() {
    let stopped = thread::spawn(|| {
        let vmo = Vmo::create(page() as u64).expect("a VMO");
        for _ in 0..2 {
            Vmar::root_self()
                .map_with_policy(0, &vmo, 0, page(), RW, Policy::Native)
                .expect("a mapping");
        }
        for _ in 0..200 {
            vmo.create_child(VmoChildOptions::SNAPSHOT, 0, page() as u64)
                .expect("a clone");
        }
    });
    let threads = (0..4u8).map(|number| {
        thread::Builder::new()
            .name(format!("churn-{number}"))
            .spawn(move || {
                for round in 0..share(400) {
                    let memory = mapped(&format!("{number}-{round}"));
                    (0..PAGES)
                        .rev()
                        .step_by(9)
                        .for_each(|at| store(&memory, at));
                    Vmar::root_self()
                        .unmap(memory.addr(), memory.len())
                        .expect("unmapping");
                }
            })
    });
    let threads: Vec<_> = threads.map(|thread| thread.expect("a thread")).collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("its end"));
    stopped.join().expect("its end");
    println!(
        "{}",
        cowspace::fault_stats()
            .expect("statistics")
            .all
            .counts
            .total()
    );
}

/// 20,000 mappings, before and after the recording has begun.
fn many(file: &str) {
    let (root, count) = (Vmar::root_self(), share(20_000).max(2_000) as usize);
    let vmo = Vmo::create((count * page()) as u64).expect("a VMO");
    let map = |at: usize| {
        root.map_with_policy(0, &vmo, (at * page()) as u64, page(), RW, Policy::Native)
            .expect("a mapping")
    };
    // From the end, so that none continues another.
    (count / 2..count).rev().map(map).for_each(drop);
    let recorder = Recorder::start(Path::new(file)).expect("a recording");
    (0..count / 2).rev().map(map).for_each(drop);
    recorder.finish().expect("an end");
}
