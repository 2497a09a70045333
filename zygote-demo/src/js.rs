//! `zygote-demo js`: children of a JavaScript runtime that start warm.
//!
//! The zygote loads the preload scripts into a runtime that lies in a mapped VMO. Each child has a clone of it, runs the script in it, and tells what the script
//! writes and how it ends in frames on its standard output.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use cowspace::{Name, Vmar, VmarFlags, Vmo};
use cowspace_quickjs::{DEFAULT_STACK, Ending, Limits, Runtime, Stream};
use host_memory::heap::Heap;
use host_memory::page::{HostRange, page_size};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::alarm;
use serde::{Deserialize, Serialize};
use zygote::{Child, Entry, Launcher, Spawn, Stdio, Zygote};

use crate::children::{receive, send};

/// What the launcher runs in a child.
const ENTRY: Entry = Entry {
    name: "run a script",
    run: child,
};

/// Run JavaScript in children of a warm runtime.
///
/// The zygote loads the preload scripts once. Each child has the loaded runtime at once, and for itself: what its script changes, no other child sees.
/// A script has the language's globals, `console` and `exit(code)`. Its value is printed.
#[derive(Args, Debug)]
pub(crate) struct Js {
    /// A script to load before children are spawned; can be given several times.
    #[arg(long, value_name = "FILE")]
    preload: Vec<PathBuf>,

    /// How many children run the script, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    children: u16,

    /// The script.
    #[arg(long, value_name = "FILE", required_unless_present = "code")]
    script: Option<PathBuf>,

    /// The script itself.
    #[arg(short = 'e', value_name = "CODE", conflicts_with = "script")]
    code: Option<String>,

    /// How the children's page faults are resolved.
    #[arg(long, value_enum, default_value_t = Policy::Native)]
    policy: Policy,

    /// How long a child's script may run, as 500ms or 2s; by default as long as it likes.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// How much memory a child's script may add to that of the zygote, as 16MiB; by default as much as the heap has.
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<ByteSize>,

    /// Address space for the runtime's heap. Memory is taken only for what is used.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    heap: ByteSize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// By the kernel alone.
    Native,
    /// By cowspace's fault handler, which times them.
    Traced,
}

impl From<Policy> for cowspace::Policy {
    fn from(policy: Policy) -> cowspace::Policy {
        match policy {
            Policy::Native => cowspace::Policy::Native,
            Policy::Traced => cowspace::Policy::Traced,
        }
    }
}

/// What a child is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Request {
    heap_start: usize,
    heap_len: usize,
    source: String,
    name: String,
    time: Option<Duration>,
    memory: Option<usize>,
}

/// What a child tells. The last is how the script ended.
#[derive(Debug, Serialize, Deserialize)]
enum Event {
    Output(String),
    Errors(String),
    Value(Option<String>),
    Exit(i32),
    Exception(String),
    Timeout,
    OutOfMemory,
}

/// Runs the script in each child. The result is the exit code: 0, or that of the first child whose script did not end well.
pub(crate) fn run(js: &Js) -> Result<ExitCode> {
    // Before anything else: the launcher is forked from this process as it is now, and it must have no second thread.
    let launcher = Launcher::start(&[ENTRY])?;
    let (source, name) = match (&js.code, &js.script) {
        (Some(code), _) => (code.clone(), "<-e>".to_owned()),
        (None, Some(path)) => (read(path)?, path.display().to_string()),
        (None, None) => bail!("no script: give one by -e CODE or --script FILE"),
    };
    let range = map(js.heap)?;
    warm(range, &js.preload)?;
    let zygote = Zygote::new(launcher);
    zygote.freeze()?;
    let request = Request {
        heap_start: range.start(),
        heap_len: range.len(),
        source,
        name,
        time: js.timeout,
        memory: js
            .memory_limit
            .map(|limit| usize::try_from(limit.as_u64()).unwrap_or(usize::MAX)),
    };
    let spawn = Spawn::new(ENTRY.name)
        .args(postcard::to_stdvec(&request)?)
        .stdin(Stdio::Null)
        .stdout(Stdio::Piped)
        .policy(js.policy.into());
    let mut first_failure = 0;
    for _ in 0..js.children {
        let code = follow(zygote.spawn(&spawn)?, &request)?;
        if first_failure == 0 {
            first_failure = code;
        }
    }
    Ok(ExitCode::from(first_failure))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Memory for the heap: a VMO of which pages are taken as they are used. No handle to it stays open.
fn map(size: ByteSize) -> Result<HostRange> {
    let len = usize::try_from(size.as_u64())
        .ok()
        .and_then(|size| size.checked_next_multiple_of(page_size()))
        .context("--heap is larger than the address space")?;
    let vmo = Vmo::create(len as u64).context("cannot make a VMO")?;
    vmo.set_name(&Name::new_lossy("javascript"))
        .context("cannot name a VMO")?;
    let flags = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
    let start = Vmar::root_self()
        .map(0, &vmo, 0, len, flags)
        .context("cannot map a VMO of the size of --heap")?;
    HostRange::new(start, len).context("a VMO was mapped at no page's address")
}

/// Makes the runtime, and loads the scripts.
fn warm(range: HostRange, preload: &[PathBuf]) -> Result<()> {
    let mut runtime = Runtime::create(Heap::create(range)?)?;
    let limits = Limits {
        stack: stack(),
        ..Limits::default()
    };
    for path in preload {
        let name = path.display().to_string();
        let ending = runtime.eval(&read(path)?, &name, &limits, &mut print)?;
        match ending {
            Ending::Value(_) => (),
            Ending::Exit(code) => bail!("{name} called exit({code}) instead of being loaded"),
            Ending::Exception(text) => bail!("cannot load {name}: {text}"),
            Ending::OutOfMemory => bail!("{name} does not fit into the heap: ask for more --heap"),
            other => bail!("cannot load {name}: {other:?}"),
        }
    }
    runtime.settle()?;
    Ok(())
}

/// How much of its stack a script may use: half, as other code is there as well.
fn stack() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_STACK).unwrap_or((DEFAULT_STACK as u64, 0));
    usize::try_from(soft / 2).map_or(4 << 20, |half| half.min(4 << 20))
}

/// A closed output is no reason to end.
fn print(stream: Stream, text: &str) {
    let _ = match stream {
        Stream::Output => io::stdout().write_all(text.as_bytes()),
        Stream::Errors => io::stderr().write_all(text.as_bytes()),
    };
}

/// Shows what a child tells. The result is the exit code that its script stands for.
fn follow(mut child: Child, request: &Request) -> Result<u8> {
    let begin = Instant::now();
    let id = child.id();
    ensure!(
        child.left_out().is_empty(),
        "child {id} lacks a part of the zygote's memory: {:?}",
        child.left_out()
    );
    let mut events = child.stdout.take().context("no pipe from the child")?;
    let code = loop {
        match receive::<Event>(&mut events).ok().flatten() {
            Some(Event::Output(text)) => print(Stream::Output, &text),
            Some(Event::Errors(text)) => print(Stream::Errors, &text),
            Some(Event::Value(value)) => {
                if let Some(value) = value {
                    print(Stream::Output, &format!("{value}\n"));
                }
                break 0;
            }
            Some(Event::Exit(code)) => break (code & 0xff) as u8,
            Some(Event::Exception(text)) => {
                print(Stream::Errors, &format!("{text}\n"));
                break 1;
            }
            Some(Event::Timeout) => break timed_out(id),
            Some(Event::OutOfMemory) => {
                let said =
                    "its script wanted more memory than it may have: see --memory-limit and --heap";
                eprintln!("zygote-demo: child {id} was stopped: {said}");
                break 1;
            }
            None => {
                let status = child.wait()?;
                if request.time.is_some_and(|time| begin.elapsed() > time) {
                    break timed_out(id);
                }
                eprintln!("zygote-demo: child {id} ended without a result ({status})");
                break 1;
            }
        }
    };
    // It has nothing more to do, whatever it may be at.
    child.wait()?;
    Ok(code)
}

fn timed_out(id: u32) -> u8 {
    eprintln!("zygote-demo: child {id} was stopped: its script ran longer than --timeout allows");
    1
}

/// A child's life. The runtime has been mapped where the zygote had it.
fn child(context: zygote::Context) -> i32 {
    match run_script(&context.args) {
        Ok(()) => 0,
        Err(error) => crate::report_error(&error),
    }
}

fn run_script(args: &[u8]) -> Result<()> {
    let request: Request = postcard::from_bytes(args)?;
    if let Some(time) = request.time {
        // For a script that the engine cannot interrupt: SIGALRM ends the process.
        let seconds = time.as_secs().saturating_add(2);
        alarm::set(u32::try_from(seconds).unwrap_or(u32::MAX));
    }
    let range = HostRange::new(request.heap_start, request.heap_len)
        .context("the runtime's place is no range of pages")?;
    let mut runtime = Runtime::open(Heap::open(range)?)?;
    let limits = Limits {
        time: request.time,
        memory: request.memory,
        stack: stack(),
    };
    let mut events = io::stdout().lock();
    let mut tell = |stream: Stream, text: &str| {
        let event = match stream {
            Stream::Output => Event::Output(text.to_owned()),
            Stream::Errors => Event::Errors(text.to_owned()),
        };
        // If nobody listens any more, the end of the script is not told either.
        let _ = send(&mut events, &event);
    };
    let ending = runtime.eval(&request.source, &request.name, &limits, &mut tell)?;
    let event = match ending {
        Ending::Value(value) => Event::Value(value),
        Ending::Exit(code) => Event::Exit(code),
        Ending::Exception(text) => Event::Exception(text),
        Ending::Timeout => Event::Timeout,
        Ending::OutOfMemory => Event::OutOfMemory,
        other => bail!("the script ended in an unknown way: {other:?}"),
    };
    send(&mut events, &event)
}
