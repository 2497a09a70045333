//! Starting, asking and stopping the handler thread.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use host_memory::uffd::Uffd;

use crate::distribution::Distributions;
use crate::fail;
use crate::fault::Resolver;
use crate::kernel::Kernel;
use crate::placement::Placement;
use crate::record::FaultRecord;
use crate::serve::{Control, Readers, Recorder, Reply};
use crate::stats::{Meter, Stats};
use crate::threads::{SleepingThreads, Threads};

/// How a handler works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where its thread runs.
    pub placement: Placement,
}

/// A running handler thread. Dropping it stops the thread.
///
/// The userfaultfd stays open as long as anybody holds it; a range that is still registered when the handler has stopped is attended by nobody, and whoever touches a
/// missing page of it waits for ever. So unregister first.
pub struct FaultHandler {
    control: Sender<Control>,
    /// For its bell.
    kernel: Arc<dyn Kernel>,
    tid: i32,
    /// Taken when they are joined.
    threads: Option<Threads>,
}

impl FaultHandler {
    /// Starts a thread named `cowspace-fault` that serves `uffd` through `resolver`, and one named `cowspace-log` beside it (see the crate's page).
    ///
    /// # Errors
    ///
    /// Those of starting a thread, and of mapping and registering a page.
    pub fn spawn(
        uffd: Arc<Uffd>,
        resolver: Arc<dyn Resolver>,
        options: Options,
    ) -> io::Result<FaultHandler> {
        SleepingThreads::start()?.serve(uffd, resolver, options, None)
    }

    /// The handler of threads that have been given something to serve.
    pub(crate) fn new(
        control: Sender<Control>,
        kernel: Arc<dyn Kernel>,
        threads: Threads,
    ) -> FaultHandler {
        FaultHandler {
            control,
            kernel,
            tid: threads.tid,
            threads: Some(threads),
        }
    }

    /// The handler thread's id. Who stops the threads of the process by signal must leave it out: it blocks them all.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// The statistics since the start. All 0 in a forked copy.
    ///
    /// Waits for the handler to finish what it is at: so not to be called with a lock held that the resolver takes.
    pub fn stats(&self) -> Stats {
        self.meter().map_or(Stats::default(), |meter| meter.stats())
    }

    /// As [`FaultHandler::stats`], and of the same moment the times that these are of.
    pub fn stats_and_times(&self) -> (Stats, Distributions) {
        self.meter().map_or_else(Default::default, |meter| {
            let times = meter.distributions();
            (meter.stats(), times)
        })
    }

    /// A copy of the handler's; none in a forked copy.
    fn meter(&self) -> Option<Box<Meter>> {
        // First of all: a copy of a process with several threads must not allocate.
        if self.is_forked() {
            return None;
        }
        let filled = Reply::default();
        self.ask(Control::Stats(Meter::new(), filled.clone()));
        answer_from(filled)
    }

    /// Sends a record of each fault that ends from now on to the returned channel, which holds `capacity` of them, at least one. What finds it full is dropped and
    /// counted ([`Stats::records_dropped`]). There is one recorder: this one replaces an earlier. Nothing comes in a forked copy.
    ///
    /// Each fault takes longer meanwhile, by [`FaultRecord::recording_ns`] and what comes after it is installed ([`Stats::record_cost_ns`]); most cheaply where nobody waits in the channel, who
    /// must be woken for each.
    ///
    /// Waits like [`FaultHandler::stats`].
    pub fn record(&self, capacity: usize) -> Receiver<FaultRecord> {
        // One place stays empty.
        let (recorder, records) = bounded(capacity.max(1).saturating_add(1));
        self.set_recorder(Some(recorder), Readers::Wait);
        records
    }

    /// The same to a channel that is there already, and in which nobody waits: who takes the records looks now and then. Then no record costs a waking, and the handler thread never asks for its
    /// own identity, for which the standard library calls `malloc`: the program's, which may live in memory that the handler serves.
    ///
    /// One place of the channel stays empty, so that sending never waits for who is just taking a record: one receiver, no more.
    pub fn record_to(&self, recorder: Sender<FaultRecord>) {
        self.set_recorder(Some(recorder), Readers::Poll);
    }

    /// Ends what [`FaultHandler::record`] began: when this comes back, the records of all faults that ended before are in the channel, and the channel is disconnected. (A thread that goes on
    /// after a fault may be ahead of the fault's record, but not of this call.) Nothing happens where nobody records.
    ///
    /// Waits like [`FaultHandler::stats`].
    pub fn stop_recording(&self) {
        self.set_recorder(None, Readers::Poll);
    }

    fn set_recorder(&self, recorder: Option<Recorder>, readers: Readers) {
        // As in `stats`.
        if self.is_forked() {
            return;
        }
        let replaced = Reply::default();
        self.ask(Control::Record(recorder, readers, replaced.clone()));
        // What comes back may be the last to let go of a channel, which frees its memory: here, and not on the fault path.
        drop(answer_from(replaced));
    }

    /// Stops the thread, waits for its end, and returns the final statistics (all 0 in a forked copy).
    pub fn stop(mut self) -> Stats {
        self.join().map_or(Stats::default(), |meter| meter.stats())
    }

    fn is_forked(&self) -> bool {
        self.threads.as_ref().is_none_or(Threads::is_forked)
    }

    /// Hands a request to the handler, and waits until it is about to look at it. In a forked copy it is dropped: there nobody serves the bell's page, and nobody is on the channel's
    /// other end.
    fn ask(&self, control: Control) {
        // An error means that the handler has ended, and then so has the process.
        if !self.is_forked() && self.control.send(control).is_ok() {
            self.kernel.ring();
        }
    }

    fn join(&mut self) -> Option<Box<Meter>> {
        self.ask(Control::Stop);
        let meter = self.threads.take()?.join();
        tracing::debug!(tid = self.tid, "fault handler stopped");
        meter
    }
}

impl fmt::Debug for FaultHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultHandler({})", self.tid)
    }
}

impl Drop for FaultHandler {
    fn drop(&mut self) {
        self.join();
    }
}

/// Waits until the handler has let go of its reply, which it does at once: the bell has been answered. `None` in a forked copy, which has sent nothing.
fn answer_from<T>(mut reply: Reply<T>) -> Option<T> {
    for round in 0u32.. {
        match Arc::try_unwrap(reply) {
            Ok(answer) => return answer.into_inner(),
            Err(shared) => reply = shared,
        }
        if round < 100 {
            thread::yield_now();
        } else {
            // Whatever has the CPU is more urgent than we are.
            thread::sleep(Duration::from_micros(100));
        }
    }
    None
}

/// Runs the thread's body. A panic, or an error after which no fault could be served, ends the process: the threads that wait would wait for ever, and if the
/// descriptor closed, the kernel would give them zeros.
pub(crate) fn guard(body: impl FnOnce() -> io::Result<()>) {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => fail::abort(format_args!("cannot read faults: {error}")),
        Err(panic) => fail::abort(format_args!("panicked: {}", message(&*panic))),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
