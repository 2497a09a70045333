//! The handler thread's loop.
//!
//! ```text
//!        ┌────────────▶ read, which waits; each fault is resolved
//!        │                │                  EAGAIN, no memory ──▶ ring
//!        │              as long as the ring is not empty:             │
//!        │                wait for a while, read everything           │
//!        │                resolve anew what was in the ring before ◀──┘
//!        │                │
//!        └── the bell's page was among the faults: map it, and obey (statistics, recorder, stop)
//! ```
//!
//! With something to try again a read must not wait: a fault that poll(2) has announced is gone when its thread gets a signal.
//!
//! A fault in the ring is resolved anew only after the descriptor was read empty once more: EAGAIN means that somebody waits for his event to be read, and the kernel
//! hands out page faults before events. (New faults cannot keep that away for ever: each thread has one at a time, and those in the ring wait.)

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use host_memory::page::{HostRange, page_size};
use host_memory::uffd::{Event, Events, FaultKind, UffdError, Wake};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{sched_getcpu, sched_yield};
use nix::sys::time::TimeSpec;

use crate::clock::monotonic_ns;
use crate::cpus::Cpus;
use crate::fail;
use crate::fault::{Answer, Fault, Next, OutcomeKind, Resolver};
use crate::install::{Desk, Installer};
use crate::kernel::Kernel;
use crate::placement::Follower;
use crate::record::FaultRecord;
use crate::stats::Meter;

/// Messages read at once.
const BATCH: usize = 32;
/// Faults that can wait to be resolved anew; small under test, so that a full ring is met. Any more are woken, and fault anew by themselves.
const RING: usize = if cfg!(test) { 4 } else { 256 };
/// How often an installation may fail for a reason that may pass, before the page is poisoned.
pub(crate) const ATTEMPTS: u32 = 8;

/// What the handler is asked by others, between batches.
pub(crate) enum Control {
    /// Copy the statistics into the box and hand it back.
    Stats(Box<Meter>, Reply<Box<Meter>>),
    /// Send a record of each fault here from now on, or to nobody; hand back to whom they went before, whose memory is not the handler's to free.
    Record(Option<Recorder>, Readers, Reply<Option<Recorder>>),
    /// End.
    Stop,
}

/// Where the handler puts its answer. Who asked keeps it until the handler has let go of it, and so frees it: what the handler freed would be memory of the program's allocator, which the handler
/// may itself serve.
pub(crate) type Reply<T> = Arc<OnceLock<T>>;

/// How those who take records from a channel do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// They may wait in it, and must be woken.
    Wait,
    /// They look now and then.
    Poll,
}

/// Where records go.
pub(crate) type Recorder = Sender<FaultRecord>;

/// A fault under way.
struct Pending {
    fault: Fault,
    page: HostRange,
    /// When it was read.
    read_ns: u64,
    /// How often installing it has failed.
    failed: u32,
    /// How often the resolver was asked.
    attempts: u32,
    /// What it said the page is.
    answer: Option<Answer>,
    noted: Noted,
}

/// What is noted of a fault, or of its last attempt, only where somebody records.
#[derive(Clone, Copy, Default)]
struct Noted {
    /// Where the thread ran last when the fault had been read.
    cpu: Option<u32>,
    /// When the attempt began.
    begun_ns: u64,
    /// How long it took to find the CPU then.
    recording_ns: u64,
}

impl Pending {
    fn new(fault: Fault, page: HostRange, read_ns: u64) -> Pending {
        Pending {
            fault,
            page,
            read_ns,
            failed: 0,
            attempts: 0,
            answer: None,
            noted: Noted::default(),
        }
    }
}

/// The handler thread's state. No other thread sees any of it.
pub(crate) struct Server {
    kernel: Arc<dyn Kernel>,
    resolver: Arc<dyn Resolver>,
    desk: Desk,
    events: Events,
    /// Whether reading waits.
    blocking: bool,
    ring: VecDeque<Pending>,
    /// Somebody waits for the bell's page.
    rung: bool,
    /// Rounds in a row in which there was something to try again.
    rounds: u32,
    follower: Follower,
    cpus: Cpus,
    meter: Box<Meter>,
    recorder: Option<Recorder>,
    control: Receiver<Control>,
}

impl Server {
    pub(crate) fn new(
        kernel: Arc<dyn Kernel>,
        resolver: Arc<dyn Resolver>,
        desk: Desk,
        follower: Follower,
        control: Receiver<Control>,
        recorder: Option<Recorder>,
    ) -> Server {
        let mut server = Server {
            kernel,
            resolver,
            desk,
            events: Events::with_capacity(BATCH),
            blocking: false,
            ring: empty_ring(),
            rung: false,
            rounds: 0,
            follower,
            cpus: Cpus::new(),
            meter: Meter::new(),
            recorder: None,
            control,
        };
        server.record_to(recorder);
        server
    }

    /// Serves until it is told to stop. An error is one of poll, read or fcntl, after which no fault could be served.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            let put_off = self.ring.len();
            self.read()?;
            self.work_ring(put_off);
            if self.answer_bell() && self.obey() {
                self.desert();
                self.kernel.silence().map_err(io::Error::other)?;
                return self.kernel.set_blocking(false);
            }
        }
    }

    /// What was counted and timed, in the end.
    pub(crate) fn into_meter(self) -> Box<Meter> {
        self.meter
    }

    /// With something to try again: waits for a message, but only for a while, the longer the longer that is so. Else the next read does.
    fn wait(&mut self) -> io::Result<()> {
        let idle = self.ring.is_empty() && !self.rung;
        if self.blocking != idle {
            self.kernel.set_blocking(idle)?;
            self.blocking = idle;
        }
        if idle {
            self.rounds = 0;
            return Ok(());
        }
        self.rounds = self.rounds.saturating_add(1);
        let timeout = if self.rounds < 4 {
            // Whoever changes the address space needs a CPU to go on.
            let _ = sched_yield();
            TimeSpec::new(0, 0)
        } else {
            Duration::from_micros(50 << (self.rounds - 4).min(5)).into()
        };
        let mut message = [PollFd::new(self.kernel.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut message, Some(timeout), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads and resolves: until nothing waits, or where reading waits, one batch.
    fn read(&mut self) -> io::Result<()> {
        let bell = self.kernel.bell();
        loop {
            self.kernel.read_events(&mut self.events)?;
            let read_ns = monotonic_ns();
            let mut thread = None;
            for i in 0..self.events.as_slice().len() {
                let Event::PageFault {
                    address,
                    kind,
                    write,
                    tid,
                } = self.events.as_slice()[i]
                else {
                    continue;
                };
                let start = address - address % page_size();
                if start == bell.start() {
                    self.rung = true;
                    continue;
                }
                // The last page of the address space is nobody's.
                let Some(page) = HostRange::new(start, page_size()) else {
                    continue;
                };
                thread = tid.or(thread);
                let fault = Fault {
                    page: start,
                    kind,
                    write,
                    tid,
                };
                self.serve(Pending::new(fault, page, read_ns));
            }
            if let Some(tid) = thread {
                self.follower.follow(&mut self.cpus, tid, read_ns);
            }
            if self.blocking || !self.events.is_full() {
                return Ok(());
            }
        }
    }

    /// Resolves anew the `put_off` oldest faults of the ring: those that were there before everything was read.
    fn work_ring(&mut self, put_off: usize) {
        for _ in 0..put_off {
            if let Some(pending) = self.ring.pop_front() {
                self.serve(pending);
            }
        }
    }

    /// Maps the bell's page if somebody waits for it. Whether that is done: then the requests are to be looked at, see bell.rs.
    fn answer_bell(&mut self) -> bool {
        if !self.rung {
            return false;
        }
        let page = self.kernel.bell();
        let result = match self.kernel.zeropage(page, Wake::Wake) {
            // It is there: a signal has interrupted who waited, whose fault came again. Or the process is dying.
            Err(UffdError::Exists | UffdError::Gone) => self.kernel.wake(page),
            result => result,
        };
        match result {
            Ok(()) => self.rung = false,
            // Not poisoned, however long there is no memory: who asks can wait.
            Err(UffdError::Again { .. } | UffdError::NoMemory) => {}
            Err(error) => fail::abort(format_args!("cannot answer the bell: {error}")),
        }
        !self.rung
    }

    /// Resolves a fault, and sees to it that it ends or is in the ring.
    fn serve(&mut self, mut pending: Pending) {
        let Pending { fault, page, .. } = pending;
        pending.attempts += 1;
        if self.recorder.is_some() {
            self.note_beginning(&mut pending);
        }
        let installer = Installer::new(&*self.kernel, &mut self.desk, page, fault.kind);
        let outcome = self.resolver.resolve(&fault, installer);
        pending.answer = self.desk.found.take();
        let next = match outcome.0 {
            Next::Failed(reason) => {
                pending.failed += 1;
                if pending.failed < ATTEMPTS {
                    Next::Later
                } else {
                    self.give_up(&pending, reason)
                }
            }
            next => next,
        };
        match next {
            Next::Ended(outcome) => self.end(&pending, outcome),
            Next::Later | Next::Failed(_) => self.put_off(pending),
        }
    }

    /// Notes when an attempt begins and, the first time, where the thread is. As long as it is not woken that is where it faulted.
    fn note_beginning(&mut self, pending: &mut Pending) {
        let noted = &mut pending.noted;
        noted.begun_ns = monotonic_ns();
        noted.recording_ns = 0;
        if pending.attempts > 1 {
            return;
        }
        let cpu = pending.fault.tid.and_then(|tid| self.cpus.last(tid));
        noted.cpu = cpu.and_then(|cpu| cpu.try_into().ok());
        noted.recording_ns = monotonic_ns().saturating_sub(noted.begun_ns);
        self.meter.record_cost_ns += noted.recording_ns;
    }

    /// Poisons a page that could not be had.
    fn give_up(&mut self, pending: &Pending, reason: &'static str) -> Next {
        let kind = pending.fault.kind;
        let installer = Installer::new(&*self.kernel, &mut self.desk, pending.page, kind);
        match installer.poison_now(reason, None).0 {
            Next::Failed(worse) => fail::abort(format_args!(
                "{reason} at {:#x}, and {worse}",
                pending.fault.page
            )),
            next => next,
        }
    }

    /// Puts a fault into the ring, or, where that is full, lets its thread fault anew.
    fn put_off(&mut self, pending: Pending) {
        if self.ring.len() < RING {
            self.meter.put_off += 1;
            self.ring.push_back(pending);
        } else {
            self.let_go(pending);
        }
    }

    /// Wakes a fault's thread without a page: right at any time, since it faults anew.
    fn let_go(&mut self, mut pending: Pending) {
        let now = monotonic_ns();
        pending.noted.begun_ns = now;
        pending.noted.recording_ns = 0;
        self.desk.resolved_ns.set(now);
        if let Err(error) = self.kernel.wake(pending.page) {
            fail::abort(format_args!(
                "cannot wake {:#x}: {error}",
                pending.fault.page
            ));
        }
        self.end(&pending, OutcomeKind::Retried);
    }

    /// Counts a fault that has ended, and records it.
    fn end(&mut self, pending: &Pending, outcome: OutcomeKind) {
        let resolved_ns = self.desk.resolved_ns.get();
        let ended_ns = monotonic_ns();
        // Where installing does not wake, the time that counts is of before the waking: the thread may well run on this CPU before the ioctl that wakes it comes back.
        let installed_ns = self.desk.installed_ns.take().unwrap_or(ended_ns);
        let install_ns = installed_ns.saturating_sub(resolved_ns);
        let Fault {
            page,
            kind,
            write,
            tid,
        } = pending.fault;
        let until_resolved_ns = resolved_ns.saturating_sub(pending.read_ns);
        self.meter.add(kind, outcome, until_resolved_ns, install_ns);
        let pages = self.desk.pages.take();
        let Some(recorder) = &self.recorder else {
            return;
        };
        let Noted {
            cpu,
            begun_ns,
            recording_ns,
        } = pending.noted;
        let record = FaultRecord {
            read_ns: pending.read_ns,
            page,
            kind,
            write,
            tid,
            cpu,
            handler_cpu: sched_getcpu().ok().and_then(|cpu| cpu.try_into().ok()),
            answer: pending.answer,
            outcome,
            pages: pages.try_into().unwrap_or(u32::MAX),
            attempts: pending.attempts,
            queue_ns: begun_ns.saturating_sub(pending.read_ns),
            recording_ns,
            resolve_ns: resolved_ns.saturating_sub(begun_ns + recording_ns),
            install_ns,
        };
        if send(recorder, record) {
            self.meter.recorded += 1;
        } else {
            self.meter.records_dropped += 1;
        }
        self.meter.record_cost_ns += monotonic_ns().saturating_sub(ended_ns);
    }

    /// Does what was asked; whether that is to stop.
    fn obey(&mut self) -> bool {
        self.meter.reports_dropped = self.desk.reports_dropped();
        while let Ok(control) = self.control.try_recv() {
            match control {
                Control::Stats(mut into, answer) => {
                    into.copy_from(&self.meter);
                    // It has one answer, so none is dropped here.
                    let _ = answer.set(into);
                }
                Control::Record(recorder, readers, before) => {
                    if readers == Readers::Wait {
                        // To wake them the channel asks for this thread's identity, which is allocated at the first time: now, and not at a fault.
                        drop(std::thread::current());
                    }
                    let _ = before.set(self.record_to(recorder));
                }
                Control::Stop => return true,
            }
        }
        false
    }

    /// Sends records there from now on; gives where they went before.
    fn record_to(&mut self, recorder: Option<Recorder>) -> Option<Recorder> {
        self.desk.wake = match recorder {
            Some(_) => Wake::DontWake,
            None => Wake::Wake,
        };
        std::mem::replace(&mut self.recorder, recorder)
    }

    /// Lets go of the faults in the ring, which nobody would resolve any more.
    fn desert(&mut self) {
        while let Some(pending) = self.ring.pop_front() {
            self.let_go(pending);
        }
    }
}

/// Sends a record if there is room for it and for one more. Never waits.
///
/// The one more is for whoever takes records: of a full channel the place that is next to be filled is the one that he has just begun to take from, and if he has no CPU then, or is stopped with
/// all threads, sending would go round and round until he goes on.
fn send(recorder: &Recorder, record: FaultRecord) -> bool {
    let has_room = |places| recorder.len() + 1 < places;
    recorder.capacity().is_none_or(has_room) && recorder.try_send(record).is_ok()
}

/// An empty ring whose memory is there. What is only allocated is had page by page at the first touch: at a time when there may be none, which is just when faults are put off, and then the
/// handler would wait for memory like anybody.
fn empty_ring() -> VecDeque<Pending> {
    let page = HostRange::new(0, page_size()).expect("the first page does not wrap around");
    let mut ring = VecDeque::with_capacity(RING);
    let fault = Fault {
        page: page.start(),
        kind: FaultKind::Missing,
        write: false,
        tid: None,
    };
    ring.resize_with(RING, || Pending::new(fault, page, 0));
    ring.clear();
    ring
}
