//! What runs in the launcher process.
//!
//! One thread, one loop. It waits for requests of its zygote and for the end of its children, forks blank children, and hands each the descriptors that came
//! with a request. It reaps every child and writes the wait status into the pipe that came with the request; the zygote reads it there, since it is not the child's
//! parent.
//!
//! ```text
//!     zygote ──Launch──► launcher ──fork──► blank child
//!        ▲                  │  hand over: control socket, stdin, stdout, stderr
//!        │◄──wait status────┘               │
//!        └───────── control socket ─────────┘
//! ```
//!
//! The launcher takes no signals (`^C` is for the zygote and the children): it ends when the zygote's socket closes. A forked child must keep nothing of the
//! launcher's, and close-on-exec does not help where nobody calls exec: so the loop *returns* in a child, dropping all that the launcher owns, before the
//! child goes on.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;

use host_memory::process::{Fork, fork};
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use crate::blank;
use crate::launcher::Entry;
use crate::message::{self, receive_value, send_value};
use crate::protocol::{HANDED_OVER, LAUNCH, Launched, Request, SHORT};

/// Runs the launcher, and in each child that it forks the child, until the process ends.
pub(crate) fn run(socket: OwnedFd, entries: Vec<Entry>) -> ! {
    // Nothing may unwind out of here, into the copy of a main function that believes to run once.
    let code = catch_unwind(AssertUnwindSafe(|| launcher_or_child(socket, &entries)));
    exit(code.unwrap_or(PANICKED))
}

/// The exit code of a Rust program whose main function panics.
const PANICKED: i32 = 101;

fn launcher_or_child(socket: OwnedFd, entries: &[Entry]) -> i32 {
    let outcome = Process::new(socket).and_then(Process::serve);
    match outcome {
        Ok(Outcome::ZygoteGone) => 0,
        Ok(Outcome::InChild(handover)) => blank::run(handover, entries),
        Err(error) => {
            eprintln!("zygote-launcher: {error}");
            1
        }
    }
}

enum Outcome {
    ZygoteGone,
    /// This process is a new blank child; it will be told over this socket what to become.
    InChild(OwnedFd),
}

struct Process {
    zygote: OwnedFd,
    children: Vec<Child>,
    /// How many blank children are to wait.
    pool: usize,
    /// The signal mask of the program, for the children.
    mask: SigSet,
}

struct Child {
    pid: Pid,
    /// Readable once the child has ended.
    pidfd: OwnedFd,
    state: State,
}

enum State {
    /// Waits for descriptors over this socket.
    Blank(OwnedFd),
    /// Its wait status goes into this pipe.
    Running(OwnedFd),
    /// Was blank and is not needed; its socket is closed, so it ends.
    Dismissed,
}

impl Process {
    fn new(zygote: OwnedFd) -> io::Result<Self> {
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        rustix::thread::set_name(c"zygote-launcher")?;
        // Nobody who waits for the end of the zygote's input or output is to wait for the launcher. Error messages it may have.
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        Ok(Self {
            zygote,
            children: Vec::new(),
            pool: 0,
            mask,
        })
    }

    fn serve(mut self) -> io::Result<Outcome> {
        loop {
            let fill = self.blanks() < self.pool;
            let ready = self.wait(fill)?;
            self.reap(&ready.ended);
            let forked = if ready.request {
                match self.take_request()? {
                    None => return Ok(Outcome::ZygoteGone),
                    Some(forked) => forked,
                }
            } else if fill && ready.ended.is_empty() {
                self.fill_pool()
            } else {
                Forked::Launcher
            };
            if let Forked::Child(handover) = forked {
                self.mask.thread_set_mask()?;
                return Ok(Outcome::InChild(handover));
            }
        }
    }

    /// Serves one request; `None` if there will be no more.
    fn take_request(&mut self) -> io::Result<Option<Forked>> {
        let request = match receive_value(&self.zygote, SHORT) {
            Ok(None) => return Ok(None),
            Ok(Some(request)) => request,
            // It arrived without its descriptors, for want of room here: the zygote sees that its child's control socket closes, and says so.
            Err(lost) if lost.raw_os_error().is_none() => return Ok(Some(Forked::Launcher)),
            Err(error) => return Err(error),
        };
        Ok(Some(match request {
            (Request::Pool(blanks), _) => {
                self.resize_pool(blanks as usize);
                Forked::Launcher
            }
            (Request::Launch, descriptors) => match <[OwnedFd; LAUNCH]>::try_from(descriptors) {
                Ok(descriptors) => self.launch(descriptors),
                Err(_) => Forked::Launcher,
            },
        }))
    }

    fn blanks(&self) -> usize {
        self.children
            .iter()
            .filter(|child| matches!(child.state, State::Blank(_)))
            .count()
    }

    /// Waits for a request or the end of a child; only looks if `fill` says that there is work to do meanwhile.
    fn wait(&self, fill: bool) -> io::Result<Ready> {
        let mut sources = vec![PollFd::new(&self.zygote, PollFlags::IN)];
        sources.extend(
            self.children
                .iter()
                .map(|child| PollFd::new(&child.pidfd, PollFlags::IN)),
        );
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        retry_on_intr(|| poll(&mut sources, fill.then_some(&at_once)))?;
        let mut happened = sources.iter().map(|source| !source.revents().is_empty());
        let request = happened.next().unwrap_or(false);
        let ended = self
            .children
            .iter()
            .zip(happened)
            .filter_map(|(child, ended)| ended.then_some(child.pid))
            .collect();
        Ok(Ready { request, ended })
    }

    /// Reaps children that have ended and tells their status to whom it concerns.
    fn reap(&mut self, ended: &[Pid]) {
        self.children.retain(|child| {
            if !ended.contains(&child.pid) {
                return true;
            }
            match retry_on_intr(|| waitpid(Some(child.pid), WaitOptions::NOHANG)) {
                Ok(None) => true,
                Ok(Some((_, status))) => {
                    if let State::Running(pipe) = &child.state {
                        // Nobody need be at the other end any more.
                        let _ = rustix::io::write(pipe, &status.as_raw().to_ne_bytes());
                    }
                    false
                }
                // This program ignores SIGCHLD, so the kernel has reaped the child, and its status is lost: the pipe just closes.
                Err(_) => false,
            }
        });
    }

    /// Lets blank children that are too many go: they end when their socket closes.
    fn resize_pool(&mut self, blanks: usize) {
        self.pool = blanks;
        let mut surplus = self.blanks().saturating_sub(blanks);
        for child in &mut self.children {
            if surplus > 0 && matches!(child.state, State::Blank(_)) {
                surplus -= 1;
                child.state = State::Dismissed;
            }
        }
    }

    fn fill_pool(&mut self) -> Forked {
        self.fork_blank().unwrap_or_else(|_| {
            // There is no room for more processes: make do with those there are.
            self.pool = self.blanks();
            Forked::Launcher
        })
    }

    /// Turns a blank child into one that runs.
    fn launch(&mut self, descriptors: [OwnedFd; LAUNCH]) -> Forked {
        let [control, status, stdin, stdout, stderr] = descriptors;
        if self.blanks() == 0 {
            match self.fork_blank() {
                Ok(Forked::Launcher) => {}
                Ok(in_child) => return in_child,
                Err(error) => {
                    refuse(&control, &error);
                    return Forked::Launcher;
                }
            }
        }
        for child in &mut self.children {
            let State::Blank(handover) = &child.state else {
                continue;
            };
            // The zygote sends nothing before it has heard of the child, so what the child is told comes after this, and what it answers, too.
            let give = [
                control.as_fd(),
                stdin.as_fd(),
                stdout.as_fd(),
                stderr.as_fd(),
            ];
            let told = hand_over(handover, give).and_then(|()| {
                let running = Launched::Running(child.pid.as_raw_pid());
                send_value(control.as_fd(), &running, &[child.pidfd.as_fd()])
            });
            child.state = State::Running(status);
            if let Err(error) = told {
                refuse(&control, &error);
            }
            break;
        }
        Forked::Launcher
    }

    fn fork_blank(&mut self) -> io::Result<Forked> {
        let (ours, theirs) = message::pair()?;
        let pid = match fork()? {
            Fork::Child => return Ok(Forked::Child(theirs)),
            Fork::Parent(pid) => Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?,
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                self.children.push(Child {
                    pid,
                    pidfd,
                    state: State::Blank(ours),
                });
                Ok(Forked::Launcher)
            }
            Err(error) => {
                // Its socket closes, so it ends at once.
                drop((ours, theirs));
                let _ = retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
                Err(error.into())
            }
        }
    }
}

/// Gives a blank child what it waits for. If it is dead, its status will tell.
fn hand_over(blank: &OwnedFd, descriptors: [BorrowedFd<'_>; HANDED_OVER]) -> io::Result<()> {
    match message::send(blank.as_fd(), &[], &descriptors) {
        Err(dead) if dead.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Tells the zygote that there is no child. If it is gone, nobody has to know.
fn refuse(control: &OwnedFd, why: &io::Error) {
    let failed = Launched::Failed(why.to_string());
    let _ = send_value(control.as_fd(), &failed, &[]);
}

/// What happened while waiting.
struct Ready {
    request: bool,
    ended: Vec<Pid>,
}

/// Which process a function that may fork has returned in.
enum Forked {
    Launcher,
    /// A new blank child, and where it will be told what to become.
    Child(OwnedFd),
}
