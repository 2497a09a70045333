//! A stand-in for the kernel that hands out faults and fails by script, and subprocesses for tests that end the process.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use host_memory::page::{HostRange, page_size};
use host_memory::uffd::{CopyFrom, Event, Events, FaultKind, Protect, UffdError, Wake};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use crate::fault::{Fault, Outcome, Resolver};
use crate::handler::{FaultHandler, Options};
use crate::install::Installer;
use crate::kernel::Kernel;
use crate::threads::SleepingThreads;

/// The bell's page; not one that faults.
pub(crate) const BELL: usize = 7;

/// What the handler asked of the kernel, but for what concerns the bell. Ranges as (page number, pages), counted from address 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A read that found nothing.
    ReadEmpty,
    Copy(usize, usize, Protect),
    Zeropage(usize),
    Continue(usize, usize, Protect),
    Unprotect(usize, usize, Wake),
    Poison(usize),
    Wake(usize),
    WakeSeveral(usize, usize),
}

/// The stand-in. What is not scripted succeeds.
pub(crate) struct Fake {
    readable: EventFd,
    state: Mutex<State>,
    /// Held by who rings.
    turn: Mutex<()>,
    bell_mapped: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    script: VecDeque<Result<(), UffdError>>,
    /// Answers of wake, which are not part of the script.
    wake: Option<UffdError>,
    read_fails: bool,
    blocking: bool,
    calls: Vec<Call>,
    /// Pages that were installed without waking who waits for them, which has not been done since.
    asleep: BTreeSet<usize>,
    /// Results of mapping the bell's page, which are not part of the script.
    bell_script: VecDeque<Result<(), UffdError>>,
    bell_is_mapped: bool,
    bell_is_silent: bool,
}

impl Fake {
    /// A kernel whose ioctls but for WAKE give these results, one after the other.
    pub(crate) fn new(script: impl IntoIterator<Item = Result<(), UffdError>>) -> Arc<Fake> {
        let state = State {
            script: script.into_iter().collect(),
            ..State::default()
        };
        Arc::new(Fake {
            readable: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap(),
            state: Mutex::new(state),
            turn: Mutex::new(()),
            bell_mapped: Condvar::new(),
        })
    }

    /// The next attempts to map the bell's page give these results.
    pub(crate) fn script_bell(&self, results: impl IntoIterator<Item = Result<(), UffdError>>) {
        self.state
            .lock()
            .expect("no panic")
            .bell_script
            .extend(results);
    }

    /// How many results are left of [`Fake::script_bell`].
    pub(crate) fn bell_script_left(&self) -> usize {
        self.state.lock().expect("no panic").bell_script.len()
    }

    /// Says that a message waits, and there is none: its thread got a signal.
    pub(crate) fn vanish(&self) {
        self.readable.write(1).unwrap();
    }

    /// From now on waking fails.
    pub(crate) fn fail_wakes(&self, error: UffdError) {
        self.state.lock().expect("no panic").wake = Some(error);
    }

    /// From now on reading fails.
    pub(crate) fn fail_reads(&self) {
        self.state.lock().expect("no panic").read_fails = true;
        self.readable.write(1).unwrap();
    }

    /// Faults of these pages, to be read together.
    pub(crate) fn fault(&self, kind: FaultKind, pages: impl IntoIterator<Item = usize>) {
        let write = kind == FaultKind::WriteProtect;
        let fault = |page| Event::PageFault {
            address: page * page_size(),
            kind,
            write,
            tid: None,
        };
        self.state
            .lock()
            .expect("no panic")
            .events
            .extend(pages.into_iter().map(fault));
        self.readable.write(1).unwrap();
    }

    /// The same, coming back when they have been read. What the handler is asked afterwards it looks at after them, as where the thread that has faulted goes on and asks; else they and the
    /// request come side by side, as from two threads.
    pub(crate) fn fault_and_be_read(
        &self,
        kind: FaultKind,
        pages: impl IntoIterator<Item = usize>,
    ) {
        self.fault(kind, pages);
        while !self.state.lock().expect("no panic").events.is_empty() {
            thread::yield_now();
        }
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.lock().expect("no panic").calls.clone()
    }

    /// All calls so far but for empty reads.
    pub(crate) fn ioctls(&self) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| *call != Call::ReadEmpty);
        calls
    }

    /// Whether nobody waits for a page that is there.
    pub(crate) fn all_are_awake(&self) -> bool {
        self.state.lock().expect("no panic").asleep.is_empty()
    }

    fn call(&self, call: Call) -> Result<(), UffdError> {
        let mut state = self.state.lock().expect("no panic");
        state.calls.push(call);
        state.script.pop_front().unwrap_or(Ok(()))
    }

    /// A call for `pages` pages from `first` on, which wakes or does not.
    fn install(&self, call: Call, first: usize, pages: usize, wake: Wake) -> Result<(), UffdError> {
        let result = self.call(call);
        let done = match result {
            Ok(()) => pages,
            Err(UffdError::Again { done }) => number(done),
            Err(_) => 0,
        };
        if wake == Wake::DontWake {
            let mut state = self.state.lock().expect("no panic");
            state.asleep.extend(first..first + done);
        }
        result
    }
}

fn number(address: usize) -> usize {
    address / page_size()
}

impl Kernel for Fake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    fn set_blocking(&self, blocking: bool) -> io::Result<()> {
        self.state.lock().expect("no panic").blocking = blocking;
        Ok(())
    }

    fn read_events(&self, events: &mut Events) -> io::Result<()> {
        events.clear();
        loop {
            let mut state = self.state.lock().expect("no panic");
            if state.read_fails {
                return Err(io::ErrorKind::Other.into());
            }
            while !events.is_full()
                && let Some(event) = state.events.pop_front()
            {
                events.push(event);
            }
            if state.events.is_empty() {
                let _ = self.readable.read();
            }
            if !events.as_slice().is_empty() {
                return Ok(());
            }
            if !state.blocking {
                state.calls.push(Call::ReadEmpty);
                return Ok(());
            }
            drop(state);
            let mut message = [PollFd::new(self.readable.as_fd(), PollFlags::POLLIN)];
            poll(&mut message, PollTimeout::NONE)?;
        }
    }

    fn bell(&self) -> HostRange {
        HostRange::new(BELL * page_size(), page_size()).expect("it does not wrap around")
    }

    fn ring(&self) {
        let _turn = self.turn.lock().expect("no panic");
        self.state.lock().expect("no panic").bell_is_mapped = false;
        self.fault(FaultKind::Missing, [BELL]);
        let state = self.state.lock().expect("no panic");
        let mapped = self.bell_mapped.wait_while(state, |state| {
            !state.bell_is_mapped && !state.bell_is_silent
        });
        drop(mapped.expect("no panic"));
    }

    fn silence(&self) -> Result<(), UffdError> {
        self.state.lock().expect("no panic").bell_is_silent = true;
        self.bell_mapped.notify_all();
        Ok(())
    }

    fn copy(
        &self,
        dst: usize,
        src: CopyFrom<'_>,
        protect: Protect,
        wake: Wake,
    ) -> Result<(), UffdError> {
        let (first, pages) = (number(dst), src.len() / page_size());
        self.install(Call::Copy(first, pages, protect), first, pages, wake)
    }

    fn zeropage(&self, range: HostRange, wake: Wake) -> Result<(), UffdError> {
        if number(range.start()) == BELL {
            let mut state = self.state.lock().expect("no panic");
            let result = state.bell_script.pop_front().unwrap_or(Ok(()));
            if matches!(result, Ok(()) | Err(UffdError::Exists | UffdError::Gone)) {
                state.bell_is_mapped = true;
                self.bell_mapped.notify_all();
            }
            return result;
        }
        let page = number(range.start());
        self.install(Call::Zeropage(page), page, 1, wake)
    }

    fn continue_(&self, range: HostRange, protect: Protect, wake: Wake) -> Result<(), UffdError> {
        let (first, pages) = (number(range.start()), range.pages());
        self.install(Call::Continue(first, pages, protect), first, pages, wake)
    }

    fn unprotect(&self, range: HostRange, wake: Wake) -> Result<(), UffdError> {
        self.call(Call::Unprotect(number(range.start()), range.pages(), wake))
    }

    fn poison(&self, range: HostRange) -> Result<(), UffdError> {
        self.call(Call::Poison(number(range.start())))
    }

    fn wake(&self, range: HostRange) -> Result<(), UffdError> {
        let mut state = self.state.lock().expect("no panic");
        let (first, pages) = (number(range.start()), range.pages());
        state.calls.push(match pages {
            1 => Call::Wake(first),
            _ => Call::WakeSeveral(first, pages),
        });
        state
            .asleep
            .retain(|page| !(first..first + pages).contains(page));
        state.wake.map_or(Ok(()), Err)
    }
}

/// A resolver made of a function.
pub(crate) struct Answer<F>(pub(crate) F);

impl<F> Resolver for Answer<F>
where
    F: Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
{
    fn resolve(&self, fault: &Fault, install: Installer<'_>) -> Outcome {
        (self.0)(fault, install)
    }
}

/// A handler on the stand-in.
pub(crate) fn spawn(
    fake: &Arc<Fake>,
    answer: impl Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
) -> FaultHandler {
    let threads = SleepingThreads::start().unwrap();
    threads
        .serve_on(
            fake.clone(),
            Arc::new(Answer(answer)),
            Options::default(),
            None,
        )
        .unwrap()
}

/// Runs `body` in a process of its own, as the test `name` (its path within the crate), and asserts that it ends by abort with `reason` on stderr.
pub(crate) fn aborts(name: &str, reason: &str, body: impl FnOnce()) {
    const CHILD: &str = "COWSPACE_TEST_ABORTS";
    if std::env::var_os(CHILD).is_some() {
        // The core of a test that works is of no use to anybody.
        setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.signal(),
        Some(Signal::SIGABRT as i32),
        "{stderr}"
    );
    let line = stderr
        .lines()
        .find(|line| line.starts_with("cowspace-fault: "));
    assert!(line.is_some_and(|line| line.contains(reason)), "{stderr}");
}
