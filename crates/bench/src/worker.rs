//! Worker processes: each contender has one of its own, so that nothing of another is forked, mapped or scheduled
//! with it.
//!
//! ```text
//!   bench ──job──────────► worker: makes its memory
//!         ◄──ready─────────
//!         ──prepare──────► puts it into the state that is measured from      ┐ each round,
//!         ◄──ready─────────                                                  │ one worker
//!         ──run──────────► measures                                          │ after the other
//!         ◄──figures───────                                                  ┘
//! ```

use std::ffi::OsString;
use std::io;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::clock::{cpus, pin};
use crate::job::{Job, Placement, Task};
use crate::rivals::cold::ColdStart;
use crate::wire::{receive, send};
use crate::{area::Area, chain, fault, memory, parent, snapshot, spawn, threads};

/// What the process is to do; the first message on its standard input.
#[derive(Serialize, Deserialize)]
pub(crate) enum Role {
    Compete(Job),
    /// A child by `posix_spawn`.
    Cold(ColdStart),
}

#[derive(Serialize, Deserialize)]
enum Request {
    Prepare,
    Run,
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Ready,
    Figures(Vec<f64>),
    Failed(String),
}

/// A contender within its worker.
pub(crate) trait Contest {
    /// Puts everything into the state that a round starts from. Not measured.
    fn prepare(&mut self) -> Result<()>;
    /// Does what is measured, and says what came out. What each figure is, the task's own module says.
    fn run(&mut self) -> Result<Vec<f64>>;
}

/// A worker as the bench sees it.
pub(crate) struct Worker {
    process: Child,
    requests: Option<ChildStdin>,
    replies: ChildStdout,
}

impl Worker {
    /// Starts this program again, with the arguments that make it a worker, and waits until it is ready.
    pub(crate) fn start(arguments: &[OsString], job: Job) -> Result<Worker> {
        let mut process = Command::new("/proc/self/exe")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let mut requests = process.stdin.take().context("no pipe to the worker")?;
        let replies = process.stdout.take().context("no pipe from the worker")?;
        send(&mut requests, &Role::Compete(job))?;
        let mut worker = Worker {
            process,
            requests: Some(requests),
            replies,
        };
        worker.await_ready()?;
        Ok(worker)
    }

    pub(crate) fn prepare(&mut self) -> Result<()> {
        self.ask(&Request::Prepare)?;
        self.await_ready()
    }

    /// Lets it measure; does not wait.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.ask(&Request::Run)
    }

    /// Waits for what it has measured.
    pub(crate) fn figures(&mut self) -> Result<Vec<f64>> {
        match self.reply()? {
            Reply::Figures(figures) => Ok(figures),
            _ => bail!("a worker is out of step"),
        }
    }

    fn await_ready(&mut self) -> Result<()> {
        match self.reply()? {
            Reply::Ready => Ok(()),
            _ => bail!("a worker is out of step"),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<()> {
        let requests = self.requests.as_mut().context("the worker has ended")?;
        send(requests, request)
    }

    fn reply(&mut self) -> Result<Reply> {
        match receive(&mut self.replies)? {
            Some(Reply::Failed(reason)) => bail!(reason),
            Some(reply) => Ok(reply),
            None => bail!("a worker has ended: {}", self.process.wait()?),
        }
    }
}

impl Drop for Worker {
    /// Lets it end, and waits until its memory is free.
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.process.wait();
    }
}

/// The life of a worker process. It must have one thread.
pub fn worker() -> ExitCode {
    let done = match receive(&mut io::stdin()) {
        Ok(Some(Role::Compete(job))) => compete(job),
        Ok(Some(Role::Cold(start))) => start.live(),
        Ok(None) => Err(anyhow::anyhow!("no job: this is for the bench itself")),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cowspace bench: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn compete(job: Job) -> Result<()> {
    // Not locked over the whole life: a forked child must find no lock held.
    match serve(job) {
        Err(error) => send(&mut io::stdout(), &Reply::Failed(one_line(&error))),
        Ok(()) => Ok(()),
    }
}

fn serve(job: Job) -> Result<()> {
    allow_descriptors()?;
    let mut contest = contest(job)?;
    send(&mut io::stdout(), &Reply::Ready)?;
    while let Some(request) = receive(&mut io::stdin())? {
        let reply = match request {
            Request::Prepare => {
                contest.prepare()?;
                Reply::Ready
            }
            Request::Run => Reply::Figures(contest.run()?),
        };
        send(&mut io::stdout(), &reply)?;
    }
    Ok(())
}

/// Makes the contender. What starts a handler thread does so in here, on the handler's CPU; afterwards this thread
/// goes to its own.
fn contest(job: Job) -> Result<Box<dyn Contest>> {
    let all = cpus();
    let (own, handler) = match job.placement {
        Placement::Anywhere => (None, None),
        Placement::SameCpu(place) => {
            let cpu = all.get(place % all.len());
            (cpu, cpu)
        }
        Placement::OtherCpu => (all.first(), all.last()),
    };
    if let Some(cpu) = handler {
        pin(&[*cpu])?;
    }
    let contest: Box<dyn Contest> = match job.task {
        Task::Warm(bytes) => {
            drop(Area::anonymous(bytes)?);
            Box::new(Idle)
        }
        Task::Fault(task) => fault::contest(job, task)?,
        Task::Threads(task) => threads::contest(job, task)?,
        Task::Snapshot(task) => snapshot::contest(job.contender, task)?,
        Task::Spawn(task) => spawn::contest(job.contender, task)?,
        Task::Memory(task) => memory::contest(job.contender, task)?,
        Task::Parent(task) => parent::contest(job.contender, task)?,
        Task::Chain(task) => chain::contest(job.contender, task)?,
    };
    if let Some(cpu) = own {
        pin(&[*cpu])?;
    }
    Ok(contest)
}

/// A thousand mappings are a thousand layers, and each is a descriptor.
fn allow_descriptors() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// For a job that is done once it is ready.
struct Idle;

impl Contest for Idle {
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        Ok(Vec::new())
    }
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").replace('\n', " ")
}
