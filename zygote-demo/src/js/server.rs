//! `zygote-demo js --listen`: each script that is posted runs in a child of its own.
//!
//! ```text
//!  main thread: the runtime, and what is loaded into it (POST /preload)
//!  http thread: hyper on one thread of tokio ── for each POST / ──┐
//!  a thread for each running script: a child, its answer, its end ┘  line: as many as may be, the others wait
//! ```
//!
//! Children are spawned by the scripts' threads. They and the main thread exclude each other: nobody gets a runtime that is half loaded.

mod http;
mod line;
mod listen;
mod run;
mod stats;

use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::oneshot;
use zygote::Launcher;

pub(super) use self::listen::Listen;

use self::line::Line;
use self::stats::Stats;
use super::answer::Answer;
use super::script::{Library, Script};
use super::spare::Spares;
use super::zygote::Zygote;

/// Scripts that wait to be loaded.
const PRELOADS: usize = 16;

/// What the command line says.
#[derive(Debug)]
pub(super) struct Options {
    /// How many scripts run at the same time.
    pub(super) concurrency: usize,
    /// How many more may wait.
    pub(super) queue: usize,
    pub(super) spares: usize,
    pub(super) policy: cowspace::Policy,
    pub(super) time: Duration,
    pub(super) memory: usize,
}

/// What the threads share.
#[derive(Debug)]
struct Server {
    zygote: Arc<Forkable>,
    /// Its spare children, to look at while it is changed.
    spares: Arc<Spares>,
    options: Options,
    line: Line,
    stats: Stats,
    /// To the main thread.
    preloads: SyncSender<Preload>,
}

/// The zygote. Who spawns reads, who changes what children get writes.
#[derive(Debug)]
struct Forkable(RwLock<Zygote>);

/// A script to be loaded.
#[derive(Debug)]
struct Preload {
    script: Script,
    /// What came of it, and how much the zygote's heap has now, in bytes.
    reply: oneshot::Sender<(Answer, usize)>,
}

impl Forkable {
    fn spawning<T>(&self, spawn: impl FnOnce(&Zygote) -> T) -> T {
        spawn(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn changing<T>(&self, change: impl FnOnce(&mut Zygote) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves until a signal says to end, and all that was begun is done.
pub(super) fn run(
    launcher: Launcher,
    library: &Library,
    listen: &Listen,
    options: Options,
) -> Result<ExitCode> {
    // First, so that an address that cannot be had is told at once.
    let socket = listen.bind()?;
    let (mut zygote, mut runtime) = Zygote::new(launcher, library)?;
    zygote.policy = options.policy;
    zygote.freeze()?;
    zygote.spares().resize(options.spares)?;
    zygote.refill()?;
    let spares = Arc::clone(zygote.spares());
    let zygote = Arc::new(Forkable(RwLock::new(zygote)));
    let (preloads, jobs) = sync_channel::<Preload>(PRELOADS);
    let server = Server {
        zygote: Arc::clone(&zygote),
        spares,
        line: Line::new(options.concurrency, options.queue),
        options,
        stats: Stats::new(runtime.heap().allocated()),
        preloads,
    };
    let http = thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || http::serve(server, socket))
        .context("cannot start a thread")?;
    for Preload { script, reply } in jobs {
        // Whoever has hung up does not want it any more.
        if reply.is_closed() {
            continue;
        }
        let answer = zygote.changing(|zygote| zygote.load(&mut runtime, &script))?;
        let _ = reply.send((answer, runtime.heap().allocated()));
        zygote.spawning(Zygote::refill)?;
    }
    let served = http
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    served.map(|()| ExitCode::SUCCESS)
}
