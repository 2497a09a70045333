//! This process as a zygote with a library loaded, and what its children do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use cowspace::{Frozen, Name, Policy, Vmar, VmarFlags, Vmo, VmoChildOptions};
use cowspace_quickjs::{Runtime, Stream};
use host_memory::heap::Heap;
use host_memory::page::HostRange;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use zygote::{Child, Entry, Launcher, Spawn, Stdio};

use super::answer::{Answer, Event, tell};
use super::script::{Library, Script, print};
use super::spare::{Pages, Spares, touch};
use crate::children::{Request, receive, send};

/// Bytes behind what is in use in which children may well put what they add.
const ROOM: usize = 16 << 20;

/// What the launcher runs in a child.
pub(super) const ENTRY: Entry = Entry {
    name: "run a script",
    run: child,
};

/// What a child is given.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    heap_start: usize,
    heap_len: usize,
    /// Where it will write to, as far as that can be known.
    ahead: Pages,
    /// Whether a fault handler resolves its faults.
    traced: bool,
    /// A spare child gets it later.
    script: Option<Script>,
}

/// What spawns children. The runtime itself is apart, as it stays on its thread.
#[derive(Debug)]
pub(super) struct Zygote {
    zygote: zygote::Zygote,
    range: HostRange,
    /// How much of the range is in use: what children have of the zygote, and some room for what they add.
    in_use: AtomicUsize,
    spares: Arc<Spares>,
    /// How the children's faults are to be resolved.
    pub(super) policy: Policy,
}

impl Zygote {
    /// Loads the library into a runtime in a VMO of which pages are taken as they are used. No handle to it stays open.
    pub(super) fn new(launcher: Launcher, library: &Library) -> Result<(Zygote, Runtime)> {
        let len = library.heap_len()?;
        let vmo = Vmo::create(len as u64).context("cannot make a VMO")?;
        vmo.set_name(&Name::new_lossy("javascript"))
            .context("cannot name a VMO")?;
        let flags = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
        let start = Vmar::root_self()
            .map(0, &vmo, 0, len, flags)
            .context("cannot map a VMO of the size of --heap")?;
        drop(vmo);
        let range = HostRange::new(start, len).context("a VMO was mapped at no page's address")?;
        let runtime = library.load(Heap::create(range)?, |_, text| print(Stream::Errors, text))?;
        let zygote = Zygote {
            zygote: zygote::Zygote::new(launcher),
            range,
            in_use: AtomicUsize::new(0),
            spares: Arc::default(),
            policy: Policy::Native,
        };
        Ok((zygote, runtime))
    }

    /// Makes what is loaded ready for children. Spare ones that have not got it end.
    pub(super) fn freeze(&self) -> Result<Frozen> {
        self.spares.forget()?;
        let frozen = self.zygote.freeze()?;
        let in_use = usize::try_from(frozen.bytes)?.saturating_add(ROOM);
        self.in_use
            .store(in_use.min(self.range.len()), Ordering::Relaxed);
        Ok(frozen)
    }

    /// Loads one script more. New children see it if it ends well; else it is as if it had never been.
    ///
    /// # Errors
    ///
    /// The runtime cannot be used any more.
    pub(super) fn load(&self, runtime: &mut Runtime, script: &Script) -> Result<Answer> {
        let root = Vmar::root_self();
        let (start, len) = (self.range.start(), self.range.len());
        let before = root
            .create_vmo_child(VmoChildOptions::SNAPSHOT, start, len)
            .context("cannot keep the runtime as it is")?;
        let mut told = Vec::new();
        tell(runtime, script, &mut told)?;
        let mut told = &told[..];
        let next = || receive(&mut told)?.context("the script has not told how it ended");
        let answer = Answer::read(next)?;
        if answer.end.is_well() {
            runtime.settle()?;
        } else {
            let offset = start - root.info()?.base;
            let flags =
                VmarFlags::PERM_READ | VmarFlags::PERM_WRITE | VmarFlags::SPECIFIC_OVERWRITE;
            root.map(offset, &before, 0, len, flags)
                .context("cannot put the runtime back as it was")?;
        }
        drop(before);
        self.freeze()?;
        Ok(answer)
    }

    /// The spare children.
    pub(super) fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    /// A child that runs the script, tells what comes of it on its standard output, and lives until it is told to end.
    pub(super) fn run(&self, script: &Script) -> Result<Child> {
        while let Some(mut child) = self.spares.take() {
            let requests = child.stdin.as_mut().context("no pipe to the child")?;
            // One that takes nothing any more has ended just now.
            if send(requests, script).is_ok() {
                return Ok(child);
            }
        }
        self.spawn(Some(script))
    }

    /// Spawns the spare children that are missing.
    pub(super) fn refill(&self) -> Result<()> {
        while self.spares.is_missing() {
            self.spares.add(self.spawn(None)?)?;
        }
        Ok(())
    }

    /// Looks at a child that has given its result and lives, for what there is to be learned.
    pub(super) fn learn(&self, pid: i32) {
        let in_use = self.range.sub(0, self.in_use.load(Ordering::Relaxed));
        if let Some(in_use) = in_use {
            self.spares.learn(pid, in_use);
        }
    }

    fn spawn(&self, script: Option<&Script>) -> Result<Child> {
        let orders = Orders {
            heap_start: self.range.start(),
            heap_len: self.range.len(),
            ahead: self.spares.ahead(),
            traced: self.policy == Policy::Traced,
            script: script.cloned(),
        };
        let spawn = Spawn::new(ENTRY.name)
            .args(postcard::to_stdvec(&orders)?)
            .stdin(Stdio::Piped)
            .stdout(Stdio::Piped)
            .policy(self.policy);
        let child = self.zygote.spawn(&spawn)?;
        ensure!(
            child.left_out().is_empty(),
            "child {} lacks a part of the zygote's memory: {:?}",
            child.id(),
            child.left_out()
        );
        Ok(child)
    }
}

/// A child's life. The runtime has been mapped where the zygote had it.
fn child(context: zygote::Context) -> i32 {
    match run_script(&context.args) {
        Ok(()) => 0,
        Err(error) => crate::report_error(&error),
    }
}

fn run_script(args: &[u8]) -> Result<()> {
    // The zygote alone ends scripts, and `^C` is for it. If it is gone its launcher ends, and nobody wants to know the result.
    SigSet::from(Signal::SIGINT).thread_block()?;
    set_pdeathsig(Signal::SIGKILL)?;
    let orders: Orders = postcard::from_bytes(args)?;
    let range = HostRange::new(orders.heap_start, orders.heap_len)
        .context("the runtime's place is no range of pages")?;
    touch(range, &orders.ahead, orders.traced)?;
    let mut runtime = Runtime::open(Heap::open(range)?)?;
    let mut requests = io::stdin().lock();
    let mut events = io::stdout().lock();
    let script = match orders.script {
        Some(script) => script,
        None => {
            send(&mut events, &Event::Ready)?;
            match receive(&mut requests)? {
                Some(script) => script,
                // There will be none.
                None => return Ok(()),
            }
        }
    };
    tell(&mut runtime, &script, &mut events)?;
    until_told_to_end(requests)
}

/// Waits for the request to end, or for the end of requests.
pub(super) fn until_told_to_end(mut requests: impl io::Read) -> Result<()> {
    while let Some(request) = receive(&mut requests)? {
        if matches!(request, Request::End) {
            break;
        }
    }
    Ok(())
}
