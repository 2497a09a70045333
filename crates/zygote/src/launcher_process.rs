//! What runs in the launcher process.
//!
//! One thread, one loop. It waits for requests of its zygote and for the end of its children. For each request it forks one blank child, which goes straight on with the control socket that came
//! with the request: it inherits the descriptor. The zygote has the other end, and what the child is to become it is told there, at once or (a spare child) one day; the launcher need not
//! know. A spare child it forks when it has nothing else to do, or when there is a message for it already. It reaps every child and writes the wait status into the pipe that came with the request; the zygote reads it there, since it is not the child's parent.
//!
//! ```text
//!     zygote ──control socket, status pipe──► launcher ──fork──► blank child
//!        ▲ ▲                                     │                    │
//!        │ └──────────wait status────────────────┘                    │
//!        └──────────────────────── control socket ────────────────────┘
//! ```
//!
//! The launcher takes no signals (`^C` is for the zygote and the children): it ends when the zygote's socket closes. A forked child must keep nothing of the
//! launcher's, and close-on-exec does not help where nobody calls exec: so the loop *returns* in a child, dropping all that the launcher owns, before the
//! child goes on.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;

use host_memory::copies;
use host_memory::process::{Fork, fork};
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, waitpid,
};

use crate::blank;
use crate::launcher::Entry;
use crate::message::{receive_value, send_value};
use crate::protocol::{LAUNCH, Report, Request, SHORT};

/// Runs the launcher, and in each child that it forks the child, until the process ends.
pub(crate) fn run(socket: OwnedFd, entries: Vec<Entry>) -> ! {
    // Nothing may unwind out of here, into the copy of a main function that believes to run once.
    let code = catch_unwind(AssertUnwindSafe(|| launcher_or_child(socket, &entries)));
    exit(code.unwrap_or(PANICKED))
}

/// Spare children are forked when no request has come for so long: the child that one of them is to replace has just started, and wants the processor itself.
const A_MOMENT_NS: i64 = 1_000_000;

/// The exit code of a Rust program whose main function panics.
const PANICKED: i32 = 101;

fn launcher_or_child(socket: OwnedFd, entries: &[Entry]) -> i32 {
    let outcome = Process::new(socket).and_then(Process::serve);
    match outcome {
        Ok(Outcome::ZygoteGone) => 0,
        Ok(Outcome::InChild { control, waits }) => {
            if waits {
                // What is not prepared the child does when it runs.
                let _ = copies::own_written_pages();
            }
            blank::run(control, entries)
        }
        Err(error) => {
            eprintln!("zygote-launcher: {error}");
            1
        }
    }
}

enum Outcome {
    ZygoteGone,
    /// This process is a new blank child; it will be told over this socket what to become.
    InChild {
        control: OwnedFd,
        /// Not at once: it has time to prepare.
        waits: bool,
    },
}

struct Process {
    zygote: OwnedFd,
    children: Vec<Child>,
    /// Descriptors for spare children that are still to be forked.
    spares: VecDeque<[OwnedFd; LAUNCH]>,
    /// Whether a moment has passed since the last request.
    idle: bool,
    /// The signal mask of the program, for the children.
    mask: SigSet,
}

struct Child {
    pid: Pid,
    /// Readable once the child has ended.
    pidfd: OwnedFd,
    /// Its wait status goes into this pipe.
    status: OwnedFd,
}

impl Process {
    fn new(zygote: OwnedFd) -> io::Result<Self> {
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        // Nobody who waits for the end of the zygote's input or output is to wait for the launcher. Error messages it may have.
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        drop(null);
        // What cannot be prepared here each child does by itself.
        let _ = cowspace::prepare();
        let _ = blank::rehearse();
        let _ = copies::share_code();
        // Last: whoever looks for a launcher finds one that is ready, with nothing open but its socket.
        rustix::thread::set_name(c"zygote-launcher")?;
        Ok(Self {
            zygote,
            children: Vec::new(),
            spares: VecDeque::new(),
            idle: true,
            mask,
        })
    }

    fn serve(mut self) -> io::Result<Outcome> {
        loop {
            let happened = self.wait()?;
            // A child that is wanted now before those that have ended. A spare one first: however many more requests come, they do not put it off.
            let served = if let Some((place, events)) = happened.spare {
                match self.spares.remove(place) {
                    Some(spare) if !events.contains(PollFlags::HUP) => self.launch(spare, false)?,
                    // The zygote has let go of it before it was forked.
                    _ => Served::Launcher,
                }
            } else if happened.request {
                self.take_request()?
            } else if happened.ended.is_empty() {
                self.idle = true;
                match self.spares.pop_front() {
                    Some(spare) => self.launch(spare, true)?,
                    None => Served::Launcher,
                }
            } else {
                Served::Launcher
            };
            match served {
                Served::ZygoteGone => return Ok(Outcome::ZygoteGone),
                Served::Launcher => {}
                Served::InChild { control, waits } => {
                    self.mask.thread_set_mask()?;
                    return Ok(Outcome::InChild { control, waits });
                }
            }
            self.reap(&happened.ended);
        }
    }

    /// Serves one request, if there will be any more.
    fn take_request(&mut self) -> io::Result<Served> {
        self.idle = false;
        let (request, descriptors) = match receive_value(&self.zygote, SHORT) {
            Ok(None) => return Ok(Served::ZygoteGone),
            Ok(Some(request)) => request,
            // It arrived without its descriptors, for want of room here: the zygote sees that its child's control socket closes, and says so.
            Err(lost) if lost.raw_os_error().is_none() => return Ok(Served::Launcher),
            Err(error) => return Err(error),
        };
        match (request, <[OwnedFd; LAUNCH]>::try_from(descriptors)) {
            (Request::Now, Ok(descriptors)) => self.launch(descriptors, false),
            (Request::Spare, Ok(descriptors)) => {
                self.spares.push_back(descriptors);
                Ok(Served::Launcher)
            }
            (_, Err(_)) => Ok(Served::Launcher),
        }
    }

    /// Forks a blank child, which is to wait for some time or not.
    fn launch(&mut self, [control, status]: [OwnedFd; LAUNCH], waits: bool) -> io::Result<Served> {
        match fork() {
            Ok(Fork::Child) => return Ok(Served::InChild { control, waits }),
            Ok(Fork::Parent(pid)) => {
                // From here on the child alone has it, so its end closes it.
                drop(control);
                self.add(pid, status)?;
            }
            Err(error) => {
                // If the zygote is gone, nobody has to know.
                let refused = Report::NotLaunched(error.to_string());
                let _ = send_value(control.as_fd(), &refused, &[]);
            }
        }
        Ok(Served::Launcher)
    }

    /// Notes a child that was forked.
    fn add(&mut self, pid: i32, status: OwnedFd) -> io::Result<()> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => self.children.push(Child { pid, pidfd, status }),
            // This program ignores SIGCHLD, and the child has ended: its number may be another's already.
            Err(Errno::SRCH) => {}
            Err(_) => {
                // Without a descriptor to see its end by it would become a zombie: the zygote learns from its status that it was ended.
                let _ = kill_process(pid, Signal::KILL);
                if let Ok(Some((_, ended))) =
                    retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()))
                {
                    tell(&status, ended);
                }
            }
        }
        Ok(())
    }

    /// Waits until something happens, or, while spare children are to be forked, until nothing has happened for a moment.
    fn wait(&self) -> io::Result<Happened> {
        let mut sources = vec![PollFd::new(&self.zygote, PollFlags::IN)];
        let controls = self.spares.iter().map(|[control, _]| control);
        sources.extend(controls.map(|control| PollFd::new(control, PollFlags::IN)));
        let children = self.children.iter().map(|child| &child.pidfd);
        sources.extend(children.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: if self.idle { 0 } else { A_MOMENT_NS },
        };
        let until = (!self.spares.is_empty()).then_some(&moment);
        retry_on_intr(|| poll(&mut sources, until))?;
        let (spares, children) = sources[1..].split_at(self.spares.len());
        let mut spares = spares.iter().map(PollFd::revents).enumerate();
        let ended = children.iter().zip(&self.children);
        Ok(Happened {
            request: !sources[0].revents().is_empty(),
            spare: spares.find(|(_, events)| !events.is_empty()),
            ended: ended
                .filter(|(source, _)| !source.revents().is_empty())
                .map(|(_, child)| child.pid)
                .collect(),
        })
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
                    tell(&child.status, status);
                    false
                }
                // This program ignores SIGCHLD, so the kernel has reaped the child, and its status is lost: the pipe just closes.
                Err(_) => false,
            }
        });
    }
}

/// Writes how a child has ended into its pipe. Nobody need be at the other end any more.
fn tell(pipe: &OwnedFd, status: WaitStatus) {
    let _ = rustix::io::write(pipe, &status.as_raw().to_ne_bytes());
}

/// What happened while waiting.
struct Happened {
    request: bool,
    /// A spare child that is still to be forked is told already what to become, or let go of: its place among them, and which of the two.
    spare: Option<(usize, PollFlags)>,
    /// These children have ended.
    ended: Vec<Pid>,
}

/// What became of a request.
enum Served {
    /// There will be no more.
    ZygoteGone,
    /// This is the launcher, whether a child was forked or not.
    Launcher,
    /// This process is the new blank child; it will be told over this socket what to become.
    InChild {
        control: OwnedFd,
        /// Not at once: it has time to prepare.
        waits: bool,
    },
}
