//! The two threads of a handler, asleep until there is something to serve.
//!
//! Making a thread calls the process's `malloc`. Where that takes its memory from what the handler serves, the threads cannot be made at the moment they are first wanted, which may be inside
//! `malloc`; and what the C library keeps for them in `malloc`'s memory must not be memory that they serve. So they can be made ahead, and asleep: see [`SleepingThreads`].
//!
//! For the same reason the handler thread, once it serves, uses nothing of the standard library that belongs to a thread (`std::thread::current`, channels that wait):
//! the first use calls `malloc`.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use host_memory::thread::{BareThread, standard_signals, with_blocked};
use host_memory::uffd::Uffd;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, getpid, gettid};

use crate::fault::Resolver;
use crate::handler::{FaultHandler, Options, guard};
use crate::install::Desk;
use crate::kernel::{Kernel, Served};
use crate::placement::Follower;
use crate::record::FaultRecord;
use crate::report::Reporter;
use crate::serve::{Control, Server};
use crate::stats::Meter;

/// A handler's threads before there is a handler: `cowspace-fault` and `cowspace-log` (see the crate's page). Dropping this ends them.
pub struct SleepingThreads(Option<Threads>);

/// Both threads, asleep or not.
pub(crate) struct Threads {
    handler: BareThread,
    log: BareThread,
    order: Arc<Order>,
    meter: Arc<OnceLock<Box<Meter>>>,
    pub(crate) tid: i32,
    /// The process that has the threads: a forked copy has not.
    pid: Pid,
}

/// What the handler thread is to do, once that is known.
#[derive(Default)]
struct Order {
    place: Mutex<Option<Work>>,
    placed: Condvar,
}

enum Work {
    Serve {
        kernel: Arc<dyn Kernel>,
        resolver: Arc<dyn Resolver>,
        options: Options,
        requests: Receiver<Control>,
        recorder: Option<Sender<FaultRecord>>,
    },
    End,
}

impl SleepingThreads {
    /// Makes the threads, and waits until the handler's has a name. Calls the process's `malloc`, and no call waits for what the new threads do with it.
    ///
    /// # Errors
    ///
    /// Those of eventfd(2) and of starting a thread.
    pub fn start() -> io::Result<SleepingThreads> {
        // A thread starts with its creator's mask. The program's signals are the business of its own threads; the one that stops threads is a real-time signal.
        let (reporter, log) = with_blocked(standard_signals(), Reporter::spawn)?;
        let order = Arc::<Order>::default();
        let meter = Arc::<OnceLock<_>>::default();
        let tid = Arc::<OnceLock<_>>::default();
        let handler = {
            let (order, meter, tid) = (order.clone(), meter.clone(), tid.clone());
            // All of them: so no signal finds it unprepared.
            with_blocked(SigSet::all(), || {
                BareThread::spawn(c"cowspace-fault", move || {
                    touch_stack();
                    let _ = tid.set(gettid().as_raw());
                    if let Some(last) = order.wait().carry_out(reporter) {
                        let _ = meter.set(last);
                    }
                })
            })?
        };
        let tid = *tid.wait();
        Ok(SleepingThreads(Some(Threads {
            handler,
            log,
            order,
            meter,
            tid,
            pid: getpid(),
        })))
    }

    /// The handler thread's id, now and when it serves. Who stops the threads of the process by signal must leave it out: it blocks them all.
    pub fn tid(&self) -> i32 {
        self.0.as_ref().map_or(0, |threads| threads.tid)
    }

    /// Whether this is a copy of the process that has the threads: then there are none.
    pub fn is_forked(&self) -> bool {
        self.0.as_ref().is_none_or(Threads::is_forked)
    }

    /// Has them serve `uffd` through `resolver`, and send a record of each fault to `recorder`, as [`FaultHandler::record_to`] does. Makes no thread, waits for none, and calls no `malloc`.
    ///
    /// # Errors
    ///
    /// Those of mapping one page and registering it; `ESRCH` in a forked copy.
    pub fn serve(
        self,
        uffd: Arc<Uffd>,
        resolver: Arc<dyn Resolver>,
        options: Options,
        recorder: Option<Sender<FaultRecord>>,
    ) -> io::Result<FaultHandler> {
        self.serve_on(Arc::new(Served::new(uffd)?), resolver, options, recorder)
    }

    /// The same for any [`Kernel`].
    pub(crate) fn serve_on(
        mut self,
        kernel: Arc<dyn Kernel>,
        resolver: Arc<dyn Resolver>,
        options: Options,
        recorder: Option<Sender<FaultRecord>>,
    ) -> io::Result<FaultHandler> {
        if self.is_forked() {
            return Err(Errno::ESRCH.into());
        }
        // A few at a time; who asks more waits.
        let (control, requests) = bounded(4);
        let threads = self.0.take().ok_or(Errno::ESRCH)?;
        threads.order.give(Work::Serve {
            kernel: kernel.clone(),
            resolver,
            options,
            requests,
            recorder,
        });
        tracing::debug!(tid = threads.tid, ?options, "fault handler started");
        Ok(FaultHandler::new(control, kernel, threads))
    }
}

impl Drop for SleepingThreads {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            if threads.is_forked() {
                // The handler's thread may have held the order's lock at the fork.
                std::mem::forget(threads);
                return;
            }
            threads.order.give(Work::End);
            threads.join();
        }
    }
}

impl Threads {
    pub(crate) fn is_forked(&self) -> bool {
        getpid() != self.pid
    }

    /// Waits for their end, and returns what the handler measured. They were told to end.
    pub(crate) fn join(self) -> Option<Box<Meter>> {
        if self.is_forked() {
            // The copy has no such threads: neither joined nor detached, only forgotten.
            std::mem::forget(self);
            return None;
        }
        self.handler.join();
        self.log.join();
        Arc::into_inner(self.meter)?.into_inner()
    }
}

impl Order {
    fn give(&self, work: Work) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
        self.placed.notify_one();
    }

    fn wait(&self) -> Work {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(work) = place.take() {
                return work;
            }
            place = self
                .placed
                .wait(place)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl fmt::Debug for SleepingThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SleepingThreads({})", self.tid())
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({})", self.tid)
    }
}

impl Work {
    /// On the handler thread. What was measured, if it served.
    fn carry_out(self, reporter: Reporter) -> Option<Box<Meter>> {
        match self {
            Work::End => None,
            Work::Serve {
                kernel,
                resolver,
                options,
                requests,
                recorder,
            } => {
                let follower = Follower::new(options.placement);
                let desk = Desk::new(reporter);
                let mut server = Server::new(kernel, resolver, desk, follower, requests, recorder);
                // The server outlives a panic, and so the userfaultfd stays open: else the kernel would fill in zeros before the process ends.
                guard(|| server.run());
                Some(server.into_meter())
            }
        }
    }
}

/// Has the memory of as much of this thread's stack as it will ever use: see `empty_ring` in serve.rs.
#[inline(never)]
fn touch_stack() {
    std::hint::black_box(&mut [1u8; 128 << 10]);
}
