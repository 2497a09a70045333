//! The `fork` row: the same index in private anonymous memory, in a process of its own with one thread, which forks its children.

use std::io::{self, PipeReader, PipeWriter};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use host_memory::heap::Heap;
use host_memory::process::{self, Fork};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Outcome, Zygote};
use crate::Role;
use crate::children::{Child, Orders, receive, send, serve};
use crate::plan::{How, Plan};
use crate::progress::Progress;
use crate::warm::Source;

/// What the row's process is given on its standard input.
#[derive(Serialize, Deserialize)]
struct Job {
    source: Source,
    plan: Plan,
}

/// Runs the row in a process of its own, so that nothing else of this one is copied along.
pub(crate) fn run(source: &Source, plan: &Plan) -> Result<Outcome> {
    let mut process = Role::Fork
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = process
        .stdin
        .take()
        .context("no pipe to the row's process")?;
    let mut stdout = process
        .stdout
        .take()
        .context("no pipe from the row's process")?;
    send(
        &mut stdin,
        &Job {
            source: source.clone(),
            plan: plan.clone(),
        },
    )?;
    let outcome = receive(&mut stdout);
    let status = process.wait()?;
    ensure!(status.success(), "the process that forks failed: {status}");
    outcome?.context("the process that forks gave no result")
}

/// The row's process.
pub(crate) fn process() -> Result<()> {
    let mut job: Job = receive(&mut io::stdin().lock())?
        .context("no job on standard input: this role is for the program itself")?;
    let documents = job.source.read()?;
    let mut heap = Heap::create_anonymous(job.source.room(&documents))?;
    let mut progress = Progress::silent();
    job.source.warm(&mut heap, &documents, &mut progress)?;
    // The text itself would be one more thing for fork to copy.
    drop(documents);
    let outcome = super::run(How::Fork, &mut Forker { heap }, &job.plan, &mut progress)?;
    send(&mut io::stdout().lock(), &outcome)
}

struct Forker {
    heap: Heap,
}

impl Zygote for Forker {
    fn heap(&mut self) -> &mut Heap {
        &mut self.heap
    }

    fn spawn(&mut self, orders: &Orders) -> Result<Child> {
        let (requests, to_child) = io::pipe()?;
        let (from_child, replies) = io::pipe()?;
        match process::fork()? {
            Fork::Child => {
                drop((to_child, from_child));
                self.be_child(orders, requests, replies)
            }
            Fork::Parent(pid) => Ok(Child::new(pid, to_child, from_child, move || {
                let status = waitpid(Pid::from_raw(pid), None)?;
                ensure!(
                    matches!(status, WaitStatus::Exited(_, 0)),
                    "child {pid} failed: {status:?}"
                );
                Ok(())
            })),
        }
    }
}

impl Forker {
    /// The forked copy's life. It must not return into its parent's code.
    fn be_child(&mut self, orders: &Orders, requests: PipeReader, replies: PipeWriter) -> ! {
        let code = match serve(&mut self.heap, orders, None, || None, requests, replies) {
            Ok(()) => 0,
            Err(error) => crate::report_error(&error),
        };
        std::process::exit(code)
    }
}
