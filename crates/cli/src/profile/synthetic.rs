//! The synthetic run: threads that touch memory, round after round.
//!
//! It happens in this process and not in one of its own: the command has used no VMO before, so the engine is as fresh here, and Ctrl-C, the threads' probes and errors need not be sent anywhere.
//!
//! ```text
//!   this thread:  clone and map ──go──►          wait         ◄──done── unmap, again
//!   each thread:                      touch, touch, touch ...
//! ```

use std::mem;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use cowspace::Recorder;
use fastrand::Rng;
use fault_handler::monotonic_ns;
use fault_recording::{Message, Probe, Writer};
use host_memory::access::Volatile;
use host_memory::probe::Probe as Machine;
use indicatif::ProgressBar;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::options::{Policy, Synthetic};
use super::overhead::{self, Overhead};
use super::pattern::Plan;
use super::program::heeded;
use super::touch::{Warmed, this_thread, touch};

/// Probes written at once.
const CHUNK: usize = 4096;
/// So many touches of a thread that do not fault are recorded, too: they tell what a touch and its timing cost alone.
const SAMPLES: usize = 2000;
const CANNOT_WRITE: &str = "cannot write the recording";
/// What a run leaves beside the recording.
pub(crate) struct Run {
    /// What recording has cost; `None` if it was not measured.
    pub(crate) overhead: Option<Overhead>,
    /// How often a page was touched.
    pub(crate) touches: u64,
    /// In how many rounds.
    pub(crate) rounds: u64,
    /// How many of the touches faulted.
    pub(crate) faulted: u64,
    /// Whether the run ended because of that.
    pub(crate) full: bool,
}

impl Run {
    /// The same as text, for below the summary.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Run {
            touches,
            rounds,
            faulted,
            ..
        } = self;
        let mut lines = vec![
            String::new(),
            match rounds {
                1 => format!("{touches} touches: {faulted} of them faulted."),
                _ => format!("{touches} touches in {rounds} rounds: {faulted} of them faulted."),
            },
        ];
        if self.full {
            lines.push("These were enough: --faults has the number.".to_owned());
        }
        lines.extend(self.overhead.as_ref().map(Overhead::to_string));
        lines
    }
}

/// What this thread and the others share in a run.
struct Shared<'a> {
    plan: &'a Plan,
    memory: Volatile,
    until_ns: u64,
    seed: u64,
    record: &'a Path,
    /// Ctrl-C.
    interrupted: &'a AtomicBool,
    /// A thread has failed.
    failed: AtomicBool,
    /// How many touches have faulted, and how many are to.
    faulted: AtomicU64,
    most: u64,
}

/// A thread as the one that arms the rounds sees it.
struct Worker<'scope> {
    go: SyncSender<()>,
    done: Receiver<()>,
    thread: ScopedJoinHandle<'scope, Result<u64>>,
}

/// Touches memory as the options say, and appends to the recording. Ends early, and well, at SIGINT and SIGTERM; the second of them ends the process.
pub(crate) fn run(options: &Synthetic, record: &Path) -> Result<Run> {
    let policy = match options.policy {
        Policy::Traced if !Machine::get().traced.is_yes() => bail!(
            "faults cannot be traced here: `cowspace doctor` says why, and --policy native needs nothing"
        ),
        Policy::Traced => cowspace::Policy::Traced,
        Policy::Native => cowspace::Policy::Native,
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in heeded(&[SIGINT, SIGTERM]) {
        flag::register_conditional_default(signal, interrupted.clone())?;
        flag::register(signal, interrupted.clone())?;
    }
    let plan = |threads| {
        let (pages, stride) = (options.pages(), options.stride());
        Plan::new(
            options.pattern,
            pages,
            stride,
            options.writes,
            threads,
            options.seed,
        )
    };
    let progress = Progress::new(options.seconds);
    let mut warmed = Warmed::new(options.pages(), policy).context("cannot fill the memory")?;
    let overhead = match options.policy {
        Policy::Traced => overhead::measure(&mut warmed, &plan(1), options.seed, &interrupted)?,
        Policy::Native => None,
    };
    let recorder = Recorder::start(record).context("cannot record")?;
    let run = rounds(
        options,
        &mut warmed,
        &plan(options.threads.into()),
        record,
        &interrupted,
    );
    let recorded = recorder.finish();
    drop(progress);
    let run = run?;
    recorded.context(CANNOT_WRITE)?;
    Ok(Run { overhead, ..run })
}

/// All rounds.
fn rounds(
    options: &Synthetic,
    warmed: &mut Warmed,
    plan: &Plan,
    record: &Path,
    interrupted: &AtomicBool,
) -> Result<Run> {
    // All clones lie at one place, which the first one finds.
    let memory = warmed.arm()?.memory.clone();
    let length = u64::try_from(options.seconds.as_nanos()).unwrap_or(u64::MAX);
    let shared = Shared {
        plan,
        memory,
        until_ns: monotonic_ns().saturating_add(length),
        seed: options.seed,
        record,
        interrupted,
        failed: AtomicBool::new(false),
        faulted: AtomicU64::new(0),
        most: options.faults,
    };
    let mut rounds = 0;
    let touches: Result<u64> = scope(|scope| {
        let threads = 0..usize::from(options.threads);
        // If one of them does not start, those that did find nobody who lets them go, and end.
        let workers: Result<Vec<Worker>> = threads
            .map(|thread| Worker::start(scope, &shared, thread))
            .collect();
        let workers = workers?;
        while !shared.is_over() {
            let armed = warmed.arm()?;
            // Whoever is not there any more has failed, and says so at the end.
            workers.iter().for_each(|worker| _ = worker.go.send(()));
            workers.iter().for_each(|worker| _ = worker.done.recv());
            drop(armed);
            rounds += 1;
        }
        workers
            .into_iter()
            .try_fold(0, |touches, worker| Ok(touches + worker.end()?))
    });
    let faulted = shared.faulted.into_inner();
    Ok(Run {
        overhead: None,
        touches: touches?,
        rounds,
        faulted,
        full: faulted >= options.faults,
    })
}

impl Shared<'_> {
    /// Whether no further round is to be begun.
    fn is_over(&self) -> bool {
        self.is_ended(monotonic_ns())
    }

    /// Whether no further touch is to be done at that time.
    fn is_ended(&self, now_ns: u64) -> bool {
        now_ns >= self.until_ns
            || self.faulted.load(Ordering::Relaxed) >= self.most
            || self.failed.load(Ordering::Relaxed)
            || self.interrupted.load(Ordering::Relaxed)
    }

    /// The body of a thread: how often it has touched a page.
    fn work(&self, thread: usize, go: &Receiver<()>, done: &SyncSender<()>) -> Result<u64> {
        let tid = this_thread();
        let mut random = Rng::with_seed(self.seed.wrapping_add(thread as u64));
        let mut probes = Probes::new(self)?;
        // The recorder looks for names of threads of which it has a fault.
        probes.name(tid, &format!("touch-{thread}"))?;
        let mut touches = 0;
        while go.recv().is_ok() {
            for next in self.plan.round(thread, &mut random) {
                let probe = touch(&self.memory, tid, next);
                touches += 1;
                probes.add(probe)?;
                if self.is_ended(probe.after_ns) {
                    break;
                }
            }
            // An error means that nobody waits for it.
            let _ = done.send(());
        }
        probes.write()?;
        Ok(touches)
    }
}

impl<'scope> Worker<'scope> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        shared: &'scope Shared<'env>,
        thread: usize,
    ) -> Result<Worker<'scope>> {
        let (go, goes) = sync_channel(1);
        let (tell, done) = sync_channel(1);
        let thread = Builder::new()
            .name(format!("touch-{thread}"))
            .spawn_scoped(scope, move || {
                shared
                    .work(thread, &goes, &tell)
                    .inspect_err(|_| shared.failed.store(true, Ordering::Relaxed))
            })
            .context("cannot start a thread")?;
        Ok(Worker { go, done, thread })
    }

    /// Lets it end, and waits for that: how often it has touched a page.
    fn end(self) -> Result<u64> {
        drop(self.go);
        self.thread
            .join()
            .map_err(|_| anyhow!("a thread has panicked"))?
    }
}

/// A thread's probes on their way into the recording.
struct Probes<'a> {
    shared: &'a Shared<'a>,
    writer: Writer,
    buffer: Vec<Probe>,
    /// How many touches that did not fault are still wanted.
    samples: usize,
}

impl<'a> Probes<'a> {
    fn new(shared: &'a Shared<'a>) -> Result<Probes<'a>> {
        Ok(Probes {
            shared,
            writer: Writer::append(shared.record, process::id().cast_signed())
                .context(CANNOT_WRITE)?,
            buffer: Vec::with_capacity(CHUNK),
            samples: SAMPLES,
        })
    }

    fn name(&mut self, tid: i32, name: &str) -> Result<()> {
        let message = Message::Threads(vec![(tid, name.to_owned())]);
        self.writer.write(&message).context(CANNOT_WRITE)
    }

    fn add(&mut self, probe: Probe) -> Result<()> {
        if probe.faults > 0 {
            self.shared.faulted.fetch_add(1, Ordering::Relaxed);
        } else if self.samples > 0 {
            self.samples -= 1;
        } else {
            return Ok(());
        }
        self.buffer.push(probe);
        if self.buffer.len() == CHUNK {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let message = Message::Probes(mem::take(&mut self.buffer));
        self.writer.write(&message).context(CANNOT_WRITE)?;
        if let Message::Probes(buffer) = message {
            self.buffer = buffer;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// A line on standard error, if that is a terminal, that shows how long the run has been going on.
struct Progress(ProgressBar);

impl Progress {
    fn new(length: Duration) -> Progress {
        let line =
            ProgressBar::new_spinner().with_message(format!("touching pages for {length:?}"));
        line.enable_steady_tick(Duration::from_millis(250));
        Progress(line)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
