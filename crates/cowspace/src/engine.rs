//! The one engine of a process: what is global, and how it starts.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::lock::{Mutex, MutexGuard};
use fault_handler::FaultHandler;
use host_memory::forked;
use host_memory::huge::huge_page_size;
use host_memory::limits;
use host_memory::page::page_size;
use host_memory::pagemap::Pagemap;
use host_memory::procmem::ProcMem;
use host_memory::reserve::Reservation;
use host_memory::stop::{Stopped, stop_other_threads};
use std::sync::Arc;

use crate::ahead;
use crate::aspace::AddressSpace;
use crate::bounce::Bounce;
use crate::fork::Gate;
use crate::handle::HandleTable;
use crate::inspect;
use crate::object::{Object, VmObject, VmarObject};
use crate::options::Policy;
use crate::process::ProcessObject;
use crate::recording::{self, When};
use crate::report::note;
use crate::resolver::{FaultTable, Tracer};
use crate::status::Status;
use crate::thread::Threads;

/// The VMAR tree with the engine's payload.
pub(crate) type Space = AddressSpace<Arc<VmObject>>;

/// The root VMAR is this long where the address space has room for it, and never shorter than [`LEAST_ROOT`].
const MOST_ROOT: usize = 16 << 40;
/// Zircon programs may count on a root VMAR of this length.
const LEAST_ROOT: usize = 128 << 30;

static RESERVATION: OnceLock<Result<Reservation, Status>> = OnceLock::new();
static ENGINE: OnceLock<Result<Engine, Status>> = OnceLock::new();
static DEFAULT_POLICY: AtomicU8 = AtomicU8::new(Policy::Traced as u8);

/// Everything that exists once in a process.
pub(crate) struct Engine {
    /// The root VMAR's addresses. Lives as long as the process.
    pub(crate) reservation: &'static Reservation,
    pub(crate) memory: ProcMem,
    pub(crate) pagemap: Pagemap,
    pub(crate) handles: HandleTable<Object>,
    pub(crate) root: Arc<VmarObject>,
    pub(crate) process: Arc<ProcessObject>,
    pub(crate) threads: Threads,
    /// Regions that the fault handler answers for.
    pub(crate) faults: Arc<FaultTable>,
    /// First in the lock order, see the crate's documentation.
    space: Mutex<Space>,
    /// Closed while the program forks.
    pub(crate) gate: Gate,
    tracer: OnceLock<Option<Tracer>>,
    /// Held while the fault handler starts and while the world is stopped: a handler that nobody knows yet could not be left running.
    starting: Mutex<()>,
}

impl Engine {
    /// The engine, started by the first call.
    ///
    /// # Errors
    ///
    /// `BAD_STATE` in a copy of the process made by `fork()`: the engine's threads and locks are not in it.
    pub(crate) fn get() -> Result<&'static Engine, Status> {
        if forked::in_forked_copy() {
            return Err(Status::BAD_STATE);
        }
        match ENGINE.get_or_init(Engine::start) {
            Ok(engine) => Ok(engine),
            Err(status) => Err(*status),
        }
    }

    /// The engine if it runs in this very process.
    pub(crate) fn running() -> Option<&'static Engine> {
        if forked::in_forked_copy() {
            return None;
        }
        ENGINE.get()?.as_ref().ok()
    }

    fn start() -> Result<Engine, Status> {
        let reservation = reserve()?;
        let fail = |what: &'static str| {
            move |error| {
                tracing::error!(%error, "the engine cannot start: {what}");
                Status::NO_RESOURCES
            }
        };
        forked::mark_process().map_err(fail("no page that is wiped on fork"))?;
        limits::raise_descriptor_limit();
        Bounce::prepare();
        let range = reservation.range();
        let huge = huge_page_size().unwrap_or(page_size());
        let space = Space::new(range.start()..range.end(), page_size(), huge);
        let root = Arc::new(VmarObject::new(space.root(), range.start()..range.end()));
        let engine = Engine {
            reservation,
            memory: ProcMem::open().map_err(fail("/proc/self/mem does not open"))?,
            pagemap: Pagemap::open().map_err(fail("/proc/self/pagemap does not open"))?,
            handles: HandleTable::new(),
            root,
            process: Arc::new(ProcessObject::new()),
            threads: Threads::new(),
            faults: Arc::new(FaultTable::default()),
            space: Mutex::new(space),
            gate: Gate::default(),
            tracer: OnceLock::new(),
            starting: Mutex::new(()),
        };
        crate::fork::watch().map_err(fail("no fork handlers"))?;
        recording::begin_by_environment(When::Calling);
        if !ahead::only() {
            inspect::listen_if_asked();
        }
        Ok(engine)
    }

    /// Locks the address space, when no thread forks.
    pub(crate) fn space(&self) -> MutexGuard<'_, Space> {
        loop {
            let space = self.space.lock();
            if self.gate.is_open() {
                return space;
            }
            drop(space);
            self.gate.wait();
        }
    }

    /// The userfaultfd and its handler, started when first wanted; `None` where traced mode does not work, and as long as the handler's threads are not to be had.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        if self.tracer.get().is_none() && !ahead::can_be_had() {
            return None;
        }
        self.tracer
            .get_or_init(|| {
                let _starting = self.starting.lock();
                Tracer::start(&self.faults)
            })
            .as_ref()
    }

    /// The tracer if something was traced already.
    pub(crate) fn started_tracer(&self) -> Option<&Tracer> {
        self.tracer.get()?.as_ref()
    }

    /// What a mapping asked for with `policy` gets: nothing is traced without a tracer.
    pub(crate) fn effective(&self, policy: Policy) -> Policy {
        match policy {
            Policy::Traced if self.tracer().is_some() => Policy::Traced,
            _ => Policy::Native,
        }
    }

    /// Stops all threads of the process but this one and the fault handler's.
    ///
    /// LOCKS: nobody waits for anything with `starting` held but for the new handler to say its name, and for stopped threads.
    ///
    /// # Errors
    ///
    /// `UNAVAILABLE` if one of them does not stop.
    pub(crate) fn stop_world(&self) -> Result<StoppedWorld<'_>, Status> {
        let starting = self.starting.lock();
        let handler = self.started_tracer().map(|tracer| tracer.handler.tid());
        let handler = handler.or(ahead::handler());
        match stop_other_threads(handler.as_slice()) {
            Ok(stopped) => Ok(StoppedWorld {
                stopped,
                _starting: starting,
            }),
            Err(error) => {
                note(|| format!("no snapshot: {error}"));
                Err(Status::UNAVAILABLE)
            }
        }
    }
}

/// Only this thread and the fault handler's run. Nothing may be allocated or freed meanwhile: a stopped thread may be inside the allocator.
pub(crate) struct StoppedWorld<'a> {
    // In this order: threads that wait for the lock must run to get it.
    stopped: Stopped,
    _starting: MutexGuard<'a, ()>,
}

impl StoppedWorld<'_> {
    /// For who moves pages to another place.
    ///
    /// # Errors
    ///
    /// `UNAVAILABLE` if an io_uring has workers: they go on, and what they write to the old place meanwhile would be lost.
    pub(crate) fn may_move_pages(&self) -> Result<(), Status> {
        if self.stopped.has_io_workers() {
            return Err(Status::UNAVAILABLE);
        }
        Ok(())
    }
}

/// What is measured of the fault handler so far; `None` as long as nothing was traced.
///
/// Times are in nanoseconds, by phase, see [`fault_handler::Stats`].
pub fn fault_stats() -> Option<fault_handler::Stats> {
    Engine::running()?
        .started_tracer()
        .map(|tracer| tracer.handler.stats())
}

/// As [`fault_stats`], with the times that these are of.
pub(crate) fn fault_stats_and_times() -> Option<(fault_handler::Stats, fault_handler::Distributions)>
{
    Engine::running()?
        .started_tracer()
        .map(|tracer| tracer.handler.stats_and_times())
}

/// Receives a record of each traced fault from now on, `capacity` of them at most at a time; further ones are counted and dropped. Replaces an earlier one. Each fault takes longer until
/// [`stop_recording_faults`]. `None` where traced mode does not work, and where the process records to a file
/// ([`Recorder`](crate::Recorder)).
pub fn record_faults(
    capacity: usize,
) -> Option<crossbeam_channel::Receiver<fault_handler::FaultRecord>> {
    let handler: &FaultHandler = &Engine::get().ok()?.tracer()?.handler;
    if recording::is_on() {
        return None;
    }
    Some(handler.record(capacity))
}

/// Ends what [`record_faults`] began: when this comes back, the records of all faults that ended before are in its channel, which is disconnected. A recording to a file goes on.
pub fn stop_recording_faults() {
    if !recording::is_on()
        && let Some(tracer) = Engine::running().and_then(Engine::started_tracer)
    {
        tracer.handler.stop_recording();
    }
}

/// The policy of mappings that are made without naming one. `Traced` unless [`set_default_policy`] said otherwise.
pub fn default_policy() -> Policy {
    if DEFAULT_POLICY.load(Ordering::Relaxed) == Policy::Native as u8 {
        Policy::Native
    } else {
        Policy::Traced
    }
}

/// Sets the policy of mappings that are made from now on without naming one. Existing mappings keep theirs.
pub fn set_default_policy(policy: Policy) {
    DEFAULT_POLICY.store(policy as u8, Ordering::Relaxed);
}

/// Reserves the root VMAR's addresses now, and starts nothing.
///
/// Processes forked after this have the root VMAR at the same place, so that memory cloned into them can keep its addresses. The first other
/// call implies it.
///
/// # Errors
///
/// `NO_RESOURCES` if the address space (or `RLIMIT_AS`) has no room for 128 GiB; `BAD_STATE` in a forked copy of a process whose engine runs.
pub fn reserve_address_space() -> Result<(), Status> {
    if forked::in_forked_copy() {
        return Err(Status::BAD_STATE);
    }
    reserve().map(|_| ())
}

/// Does ahead what the engine's start needs and processes forked from this one can use, too: the reservation, buffers, the page by which a forked copy is told apart, what the kernel says of
/// itself. Starts nothing.
///
/// For a process that forks others which are to start their engines quickly.
///
/// # Errors
///
/// As [`reserve_address_space`]; `NO_RESOURCES` if there is no memory.
pub fn prepare() -> Result<(), Status> {
    reserve_address_space()?;
    let fail = |error| {
        tracing::error!(%error, "the engine's start cannot be prepared");
        Status::NO_RESOURCES
    };
    forked::prepare_mark().map_err(fail)?;
    Bounce::prepare();
    // Both keep what they find out; the files mean this process, and are of no use to a copy.
    let _ = huge_page_size();
    let _ = (ProcMem::open(), Pagemap::open());
    crate::fork::watch().map_err(fail)
}

/// Whether the engine has started in this process: then it is too late to fork a launcher from it.
pub fn is_running() -> bool {
    Engine::running().is_some()
}

/// Whether an address is the root VMAR's.
pub(crate) fn serves(address: usize) -> bool {
    match RESERVATION.get() {
        Some(Ok(reservation)) => reservation.range().contains(address),
        _ => false,
    }
}

fn reserve() -> Result<&'static Reservation, Status> {
    RESERVATION
        .get_or_init(|| {
            let mut len = MOST_ROOT;
            loop {
                match Reservation::new(len) {
                    Ok(reservation) => return Ok(reservation),
                    Err(_) if len / 2 >= LEAST_ROOT => len /= 2,
                    Err(error) => {
                        tracing::error!(%error, "no room for a root VMAR of {LEAST_ROOT} bytes");
                        return Err(Status::NO_RESOURCES);
                    }
                }
            }
        })
        .as_ref()
        .map_err(|status| *status)
}
