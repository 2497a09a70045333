//! How children with cloned memory in use end, and what they say before.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use cowspace::{Policy, Vmar, VmarFlags};
use cowspace_tests::page;
use host_memory::access::Volatile;
use rustix::process::{Resource, Rlimit, Signal, kill_process, setrlimit};
use zygote::{Child, Context, Spawn, Stdio, Zygote};

use crate::agent::{Agents, told};
use crate::memory::{Mapped, fill, policies, seed};

/// More than a pipe holds.
const PAGES: usize = 64;

/// The ways to end, by number.
const RETURNS: u64 = 0;
const PANICS: u64 = 1;
const ABORTS: u64 = 2;
const STORES_TO_READ_ONLY: u64 = 3;
const LOADS_UNMAPPED: u64 = 4;
const WAITS: u64 = 5;

/// Prints all its memory on both streams, changes it, and ends in the way that it is told.
pub(crate) fn end(context: Context) -> i32 {
    let (_, memory, how) = told(&context);
    // Who ends by a signal is not to leave a file behind.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).expect("less is always allowed");
    let mut bytes = vec![0; memory.len()];
    memory.read(0, &mut bytes);
    io::stdout().write_all(&bytes).expect("to write");
    io::stderr().write_all(&bytes).expect("to write");
    fill(&memory, 2);
    io::stdout().flush().expect("to write");
    match how {
        PANICS => panic!("as intended"),
        ABORTS => std::process::abort(),
        STORES_TO_READ_ONLY => {
            protect(&memory, VmarFlags::PERM_READ);
            memory.store_u8(0, 1);
        }
        LOADS_UNMAPPED => {
            protect(&memory, VmarFlags::empty());
            let _ = memory.load_u8(memory.len() - 1);
        }
        WAITS => drop(io::stdin().read(&mut [0])),
        _ => {}
    }
    if seed(&memory) == Some(2) { 77 } else { 1 }
}

fn protect(memory: &Volatile, access: VmarFlags) {
    Vmar::root_self()
        .protect(memory.addr(), memory.len(), access)
        .expect("less is always allowed");
}

fn run(
    zygote: &Zygote,
    mapped: &Mapped,
    policy: Policy,
    how: u64,
    meanwhile: impl FnOnce(&mut Child),
) -> Output {
    let spawn = Spawn::new("endings::end")
        .args(Agents::new().arguments(&mapped.memory, how))
        .policy(policy)
        .stdin(Stdio::Piped)
        .stdout(Stdio::Piped)
        .stderr(Stdio::Piped);
    let mut child = zygote.spawn(&spawn).expect("a child");
    meanwhile(&mut child);
    child.wait_with_output().expect("its status")
}

pub(crate) fn are_told_with_memory_in_use(zygote: &Zygote) {
    for &(zygotes, childrens) in policies() {
        let mapped = Mapped::new(PAGES, zygotes);
        fill(&mapped.memory, 1);
        let mut bytes = vec![0; PAGES * page()];
        mapped.memory.read(0, &mut bytes);

        let expected = [
            (RETURNS, Some(77), None),
            (PANICS, Some(101), None),
            (ABORTS, None, Some(Signal::ABORT)),
            (STORES_TO_READ_ONLY, None, Some(Signal::SEGV)),
            (LOADS_UNMAPPED, None, Some(Signal::SEGV)),
            (WAITS, Some(77), None),
        ];
        for (how, code, signal) in expected {
            let output = run(zygote, &mapped, childrens, how, |_| {});
            let status = output.status;
            assert_eq!(
                (status.code(), status.signal()),
                (code, signal.map(Signal::as_raw)),
                "{how}"
            );
            assert!(output.stdout == bytes, "{how}");
            assert!(output.stderr.starts_with(&bytes), "{how}");
        }
        let terminate = |child: &mut Child| {
            let pid = i32::try_from(child.id())
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            kill_process(pid.expect("a process id"), Signal::TERM).expect("to send a signal");
        };
        let output = run(zygote, &mapped, childrens, WAITS, terminate);
        assert_eq!(output.status.signal(), Some(Signal::TERM.as_raw()));
        let output = run(zygote, &mapped, childrens, WAITS, |child| {
            child.kill().expect("to kill")
        });
        assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()));
        assert_eq!(seed(&mapped.memory), Some(1));
    }
}
