//! Starting, asking and stopping the handler thread.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use host_memory::uffd::Uffd;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{Pid, getpid, gettid};

use crate::fail;
use crate::fault::Resolver;
use crate::install::Desk;
use crate::kernel::Kernel;
use crate::placement::{Follower, Placement};
use crate::record::FaultRecord;
use crate::report::Reporter;
use crate::serve::{Control, Server};
use crate::stats::{Meter, Stats};

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
#[derive(Debug)]
pub struct FaultHandler {
    control: Sender<Control>,
    bell: Arc<EventFd>,
    /// Taken when it is joined.
    threads: Option<Threads>,
    tid: i32,
    /// The process that has the threads: a forked copy has not.
    pid: Pid,
}

#[derive(Debug)]
struct Threads {
    handler: JoinHandle<Box<Meter>>,
    log: JoinHandle<()>,
}

impl FaultHandler {
    /// Starts a thread named `cowspace-fault` that serves `uffd` through `resolver`, and one named `cowspace-log` beside it (see the crate's page).
    ///
    /// # Errors
    ///
    /// Those of eventfd(2) and of starting a thread.
    pub fn spawn(
        uffd: Arc<Uffd>,
        resolver: Arc<dyn Resolver>,
        options: Options,
    ) -> io::Result<FaultHandler> {
        FaultHandler::spawn_on(uffd, resolver, options)
    }

    /// The same for any [`Kernel`].
    pub(crate) fn spawn_on(
        kernel: Arc<dyn Kernel>,
        resolver: Arc<dyn Resolver>,
        options: Options,
    ) -> io::Result<FaultHandler> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_flags(flags)?);
        // A few at a time; who asks more waits.
        let (control, requests) = bounded(4);
        let (reporter, log) = Reporter::spawn()?;
        let (tell_tid, tid) = bounded(1);
        let handler = {
            let bell = Arc::clone(&bell);
            // A thread starts with its creator's mask: so no signal finds it unprepared.
            let unblocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
            let spawned = thread::Builder::new()
                .name("cowspace-fault".into())
                .spawn(move || {
                    touch_stack();
                    let follower = Follower::new(options.placement);
                    let desk = Desk::new(reporter);
                    let mut server = Server::new(kernel, resolver, desk, follower, requests, bell);
                    let _ = tell_tid.send(gettid().as_raw());
                    // The server outlives a panic, and so the userfaultfd stays open: else the kernel would fill in zeros before the process ends.
                    guard(|| server.run());
                    server.into_meter()
                });
            unblocked.thread_set_mask()?;
            spawned?
        };
        let tid = tid.recv().map_err(io::Error::other)?;
        tracing::debug!(tid, ?options, "fault handler started");
        Ok(FaultHandler {
            control,
            bell,
            threads: Some(Threads { handler, log }),
            tid,
            pid: getpid(),
        })
    }

    /// The handler thread's id. Who stops the threads of the process by signal must leave it out: it blocks them all.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// The statistics since the start. All 0 in a forked copy.
    ///
    /// Waits for the handler to finish what it is at: so not to be called with a lock held that the resolver takes.
    pub fn stats(&self) -> Stats {
        // First of all: a copy of a process with several threads must not allocate.
        if self.is_forked() {
            return Stats::default();
        }
        let (answer, filled) = bounded(1);
        self.ask(Control::Stats(Meter::new(), answer));
        filled
            .recv()
            .map_or(Stats::default(), |meter| meter.stats())
    }

    /// Sends a record of each fault that ends from now on to the returned channel, which holds `capacity` of them, at least one. What finds it full is dropped and
    /// counted ([`Stats::records_dropped`]). There is one recorder: this one replaces an earlier. Nothing comes in a forked copy.
    ///
    /// Waits like [`FaultHandler::stats`]. The channel's memory is freed by whoever lets go of it last, which may be the handler when it is replaced: keep the receiver
    /// until then.
    pub fn record(&self, capacity: usize) -> Receiver<FaultRecord> {
        let (recorder, records) = bounded(capacity.max(1));
        let (begun, begins) = bounded(1);
        self.ask(Control::Record(recorder, begun));
        // An error means a forked copy.
        let _ = begins.recv();
        records
    }

    /// Stops the thread, waits for its end, and returns the final statistics (all 0 in a forked copy).
    pub fn stop(mut self) -> Stats {
        self.join().map_or(Stats::default(), |meter| meter.stats())
    }

    fn is_forked(&self) -> bool {
        getpid() != self.pid
    }

    /// Hands a request to the handler. In a forked copy it is dropped: there the bell is the parent's, and nobody is on the channel's other end.
    fn ask(&self, control: Control) {
        // An error means that the handler has ended, and then so has the process.
        if !self.is_forked() && self.control.send(control).is_ok() {
            // The bell can only be full of rings (EAGAIN), and then it is heard too.
            let _ = self.bell.write(1);
        }
    }

    fn join(&mut self) -> Option<Box<Meter>> {
        let threads = self.threads.take()?;
        if self.is_forked() {
            // The copy has no such threads: neither joined nor detached, only forgotten.
            std::mem::forget(threads);
            return None;
        }
        self.ask(Control::Stop);
        // Neither thread panics: the handler's panics end the process, and the log's only call is the program's subscriber.
        let meter = threads.handler.join().ok();
        let _ = threads.log.join();
        tracing::debug!(tid = self.tid, "fault handler stopped");
        meter
    }
}

impl Drop for FaultHandler {
    fn drop(&mut self) {
        self.join();
    }
}

/// Has the memory of as much of this thread's stack as it will ever use: see `empty_ring` in serve.rs.
#[inline(never)]
fn touch_stack() {
    std::hint::black_box(&mut [1u8; 128 << 10]);
}

/// Runs the thread's body. A panic, or an error after which no fault could be served, ends the process: the threads that wait would wait for ever, and if the
/// descriptor closed, the kernel would give them zeros.
fn guard(body: impl FnOnce() -> io::Result<()>) {
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
