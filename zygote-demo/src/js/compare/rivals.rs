//! The ways that are not cowspace's: each in processes of its own, so that nothing else is copied along.

use std::io::{self, PipeReader, PipeWriter};
use std::process::{self, ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cowspace_quickjs::Runtime;
use host_memory::heap::Heap;
use host_memory::process::{Fork, fork};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::answer::{Answer, tell};
use super::super::script::{Library, Script};
use super::super::zygote::until_told_to_end;
use super::round::{Plan, Tally, Way, alone, children, nanoseconds};
use crate::children::{Child, receive, send};
use crate::cli::Role;

/// A process that plays a role, as the one that has it play sees it.
struct Player {
    process: process::Child,
    requests: ChildStdin,
    replies: ChildStdout,
}

impl Player {
    fn start(role: Role, job: &impl Serialize) -> Result<Player> {
        let mut process = role
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut requests = process.stdin.take().context("no pipe to the process")?;
        let replies = process.stdout.take().context("no pipe from the process")?;
        send(&mut requests, job)?;
        Ok(Player {
            process,
            requests,
            replies,
        })
    }

    /// Has it do its work so many times.
    fn work<T: DeserializeOwned>(&mut self, times: usize) -> Result<T> {
        send(&mut self.requests, &times)?;
        receive(&mut self.replies)?
            .context("a process that is compared with ended without a result")
    }

    fn end(mut self) -> Result<()> {
        drop(self.requests);
        let status = self.process.wait()?;
        ensure!(
            status.success(),
            "a process that is compared with failed: {status}"
        );
        Ok(())
    }
}

/// Reads what a player is given to begin with.
fn job<T: DeserializeOwned>() -> Result<T> {
    receive(&mut io::stdin().lock())?
        .context("no job on standard input: this role is for the program itself")
}

fn runtime(library: &Library) -> Result<Runtime> {
    let heap = Heap::create_anonymous(library.heap_len()?)?;
    // The zygote has shown what the scripts write.
    library.load(heap, |_, _| ())
}

/// The process that forks, as this one sees it.
pub(super) struct Forker(Player);

impl Forker {
    pub(super) fn start(library: &Library, plan: &Plan) -> Result<Forker> {
        Ok(Forker(Player::start(Role::JsFork, &(library, plan))?))
    }

    pub(super) fn round(&mut self, children: usize) -> Result<Tally> {
        self.0.work(children)
    }

    pub(super) fn end(self) -> Result<()> {
        self.0.end()
    }
}

/// The process that forks.
pub(crate) fn fork_children() -> Result<()> {
    let (library, plan): (Library, Plan) = job()?;
    let mut zygote = Forking(runtime(&library)?);
    while let Some(count) = receive(&mut io::stdin().lock())? {
        let tally = children(&plan, count, &mut zygote)?;
        send(&mut io::stdout().lock(), &tally)?;
    }
    Ok(())
}

struct Forking(Runtime);

impl Way for Forking {
    fn request(&mut self, script: &Script) -> Result<Child> {
        let (requests, to_child) = io::pipe()?;
        let (from_child, replies) = io::pipe()?;
        match fork()? {
            Fork::Child => {
                drop((to_child, from_child));
                be_child(&mut self.0, script, requests, replies)
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

/// The forked copy's life. It must not return into its parent's code.
fn be_child(
    runtime: &mut Runtime,
    script: &Script,
    requests: PipeReader,
    mut replies: PipeWriter,
) -> ! {
    let told = tell(runtime, script, &mut replies).and_then(|()| until_told_to_end(requests));
    let code = match told {
        Ok(()) => 0,
        Err(error) => crate::report_error(&error),
    };
    process::exit(code)
}

/// One turn of a process that loads the library for itself.
pub(super) fn cold(library: &Library, plan: &Plan) -> Result<Tally> {
    alone(plan, |script| {
        let Player {
            mut process,
            requests,
            replies,
        } = Player::start(Role::JsCold, &(library, script))?;
        let pid = i32::try_from(process.id())?;
        Ok(Child::new(pid, requests, replies, move || {
            let status = process.wait()?;
            ensure!(status.success(), "process {pid} failed: {status}");
            Ok(())
        }))
    })
}

/// A cold process.
pub(crate) fn run_once() -> Result<()> {
    let (library, script): (Library, Script) = job()?;
    let mut runtime = runtime(&library)?;
    tell(&mut runtime, &script, &mut io::stdout().lock())?;
    until_told_to_end(io::stdin().lock())
}

/// The process that runs the script again and again, as this one sees it.
pub(super) struct Repeater {
    player: Player,
    /// How long the first time took, in nanoseconds.
    pub(super) first_ns: u64,
    first: Answer,
}

/// What a turn of it gives: how long each time took, and what was told each time.
type Turn = Vec<(u64, Answer)>;

impl Repeater {
    pub(super) fn start(library: &Library, script: &Script) -> Result<Repeater> {
        let mut player = Player::start(Role::JsRepeat, &(library, script))?;
        let (first_ns, first) = player.work::<Turn>(1)?.pop().context("no first time")?;
        Ok(Repeater {
            player,
            first_ns,
            first,
        })
    }

    /// What the script told the first time.
    pub(super) fn first(&self) -> Answer {
        self.first.clone()
    }

    pub(super) fn round(&mut self, times: usize) -> Result<Tally> {
        let mut tally = Tally::default();
        for (took, answer) in self.player.work::<Turn>(times)? {
            tally.request_ns.push(took);
            if answer != self.first {
                tally.wrong.push(String::new());
            }
        }
        Ok(tally)
    }

    pub(super) fn end(self) -> Result<()> {
        self.player.end()
    }
}

/// The process that runs the script again and again.
pub(crate) fn run_repeatedly() -> Result<()> {
    let (library, script): (Library, Script) = job()?;
    let mut runtime = runtime(&library)?;
    while let Some(times) = receive::<usize>(&mut io::stdin().lock())? {
        let mut turn = Turn::new();
        for _ in 0..times {
            let mut told = Vec::new();
            let begin = Instant::now();
            tell(&mut runtime, &script, &mut told)?;
            let took = nanoseconds(begin);
            let mut told = &told[..];
            let next = || receive(&mut told)?.context("the script has not told how it ended");
            turn.push((took, Answer::read(next)?));
        }
        send(&mut io::stdout().lock(), &turn)?;
    }
    Ok(())
}
