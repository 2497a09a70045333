//! Stopping every other thread of the process: [`stop_other_threads`].
//!
//! ```text
//!  caller:   gate := round ──► signal to each thread ──► all arrived? ──► again, until no new thread ──► ... ──► gate := open
//!                                     │                      ▲                                                      │
//!  others:                            └─► handler: arrived := round, wait while gate = round  ◄─────────────────────┘
//! ```
//!
//! A thread is stopped when it is in our signal handler, so it is stopped between two of its instructions and all it did before is seen by the caller
//! (the handler's release store of `arrived` pairs with the caller's acquire load). A thread that is not stopped may create another; so `/proc/self/task` is read again after all
//! known ones arrived, until two readings in a row show nobody new (two, since a reading may skip a thread while another one dies).
//!
//! A signal may come late, when its round is over: the handler then finds the gate open, or of another round, and goes; a later round's own signal brings it back.
//!
//! **While threads are stopped, nothing may be allocated or freed**: one of them may hold the allocator's lock. The same goes for every lock that they may hold: the
//! loader's, stdio's, a log's, one of the program's own. So nothing here allocates between the first signal and the opening of the gate, and the caller must not either while it has a [`Stopped`].

mod tasks;

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::c_int;

use self::tasks::{State, Tasks};

/// How many threads can be stopped.
const CAPACITY: usize = 4096;
/// How long a thread may take to arrive, not counting the time in which it could run and had no CPU (or does not listen).
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of them together may take in any case.
const MOST_PATIENCE: Duration = Duration::from_secs(10);
/// How long a thread may take before we ask whether it is dead: dying threads tell nobody.
const SLICE: Duration = Duration::from_millis(1);
const OPEN: u32 = 0;

/// The round whose threads wait; [`OPEN`] when none does. A futex.
static GATE: AtomicU32 = AtomicU32::new(OPEN);
/// Counts arrivals, only to be waited for. A futex.
static ARRIVALS: AtomicU32 = AtomicU32::new(0);
/// The threads of this round: the first `LISTED` slots. Written by the holder of [`TURN`] alone. Static, since handlers may come late.
static SLOTS: [Slot; CAPACITY] = [const {
    Slot {
        tid: AtomicI32::new(0),
        arrived: AtomicU32::new(OPEN),
    }
}; CAPACITY];
static LISTED: AtomicUsize = AtomicUsize::new(0);
/// Held by whoever stops the others.
static TURN: Mutex<Turn> = Mutex::new(Turn {
    round: OPEN,
    signal: None,
});

struct Slot {
    tid: AtomicI32,
    /// The last round in which it arrived (or was found dead).
    arrived: AtomicU32,
}

#[derive(Debug)]
struct Turn {
    round: u32,
    signal: Option<c_int>,
}

/// As long as this lives, the other threads of the process stand still. See the module on what the holder must not do.
#[derive(Debug)]
pub struct Stopped {
    _turn: MutexGuard<'static, Turn>,
    io_workers: bool,
}

/// Why the other threads could not be stopped. None of them is stopped then.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// This thread (its id) did not arrive within 2 seconds, 10 if it could run: it blocks the signal, or waits in the kernel for something that does not come.
    #[error("thread {0} cannot be stopped: it blocks the signal, or is stuck in a system call")]
    Unresponsive(i32),
    /// The process has more than 4096 threads.
    #[error("the process has too many threads to stop them")]
    TooManyThreads,
    /// The program uses all real-time signals itself.
    #[error("no real-time signal is free")]
    NoSignal,
    /// `/proc/self/task` cannot be read, or the kernel cannot queue another signal (`EAGAIN`, RLIMIT_SIGPENDING).
    #[error("cannot stop the other threads: {0}")]
    Io(#[from] io::Error),
}

/// Stops all threads of the process but the caller, those in `spare` (thread ids) and an io_uring's workers ([`Stopped::has_io_workers`]), until the answer is dropped.
///
/// One caller at a time: others wait here, where they can be stopped. Needs a real-time signal: `SIGRTMAX - 2`, or the next below that the program left at its default; the
/// handler stays installed. System calls of the stopped threads go on afterwards (`SA_RESTART`), except those which `signal(7)` says never do: `nanosleep`, `poll` and the
/// like give `EINTR`.
///
/// A thread in a system call that waits for a page that a userfaultfd serves arrives only after its fault was resolved. A thread may be stopped while it holds any lock: call
/// this with no lock held that a stopped thread may wait for in order to arrive, and take none before the answer is dropped.
pub fn stop_other_threads(spare: &[i32]) -> Result<Stopped, StopError> {
    let mut turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let signal = claim_signal(turn.signal)?;
    turn.signal = Some(signal);
    turn.round = turn.round.checked_add(1).unwrap_or(OPEN + 1);
    let round = turn.round;
    let tasks = Tasks::open()?;
    LISTED.store(0, Release);
    GATE.store(round, SeqCst);
    // From here on a return opens the gate.
    let mut stopped = Stopped {
        _turn: turn,
        io_workers: false,
    };
    let deadline = Instant::now() + MOST_PATIENCE;
    let mut io_workers = false;
    let mut readings_without_new = 0;
    while readings_without_new < 2 {
        let new = signal_new_threads(&tasks, signal, spare, &mut io_workers)?;
        wait_for_all(&tasks, round, deadline)?;
        readings_without_new = if new { 0 } else { readings_without_new + 1 };
    }
    stopped.io_workers = io_workers;
    Ok(stopped)
}

/// Whether this process has threads of the kernel's that work for an io_uring, see [`Stopped::has_io_workers`]. True also where that cannot be read.
#[must_use]
pub fn has_io_workers() -> bool {
    let looked = Tasks::open().and_then(|tasks| {
        let mut found = false;
        tasks.each(|tid| {
            found = found || tasks.is_io_worker(tid);
            Ok::<_, io::Error>(())
        })?;
        Ok(found)
    });
    looked.unwrap_or(true)
}

impl Stopped {
    /// Whether there are threads that were *not* stopped: the kernel's own for an io_uring (`iou-wrk`, `iou-sqp`), which take no signal. They run no code of the program, but what they read
    /// goes to its memory at any time, as from a device. So pages may be copied meanwhile, but not change their place.
    #[must_use]
    pub fn has_io_workers(&self) -> bool {
        self.io_workers
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        GATE.store(OPEN, Release);
        futex_wake_all(&GATE);
    }
}

/// Signals every thread not known yet, and lists it. Answers whether there was one.
fn signal_new_threads(
    tasks: &Tasks,
    signal: c_int,
    spare: &[i32],
    io_workers: &mut bool,
) -> Result<bool, StopError> {
    let me = gettid();
    let mut any = false;
    tasks.each(|tid| {
        if tid == me || spare.contains(&tid) || slot_of(tid).is_some() {
            return Ok(());
        }
        // Asked before: it would keep each round's signal in its queue, and the queue is limited.
        if tasks.is_io_worker(tid) {
            *io_workers = true;
            return Ok(());
        }
        let index = LISTED.load(Relaxed);
        let slot = SLOTS.get(index).ok_or(StopError::TooManyThreads)?;
        slot.tid.store(tid, Relaxed);
        slot.arrived.store(OPEN, Relaxed);
        // Pairs with the load in `slot_of` in the handler, which must find the slot.
        LISTED.store(index + 1, Release);
        match tgkill(tid, signal) {
            Ok(()) => any = true,
            // It is dead; its number may come back for a new thread.
            Err(Errno::ESRCH) => LISTED.store(index, Release),
            Err(errno) => return Err(StopError::Io(errno.into())),
        }
        Ok(())
    })?;
    Ok(any)
}

/// Waits until every listed thread has arrived or died.
fn wait_for_all(tasks: &Tasks, round: u32, deadline: Instant) -> Result<(), StopError> {
    for slot in listed() {
        let mut patience = Instant::now() + PATIENCE;
        loop {
            let seen = ARRIVALS.load(Acquire);
            // Pairs with the handler's store: what the thread did before is seen by us.
            if slot.arrived.load(Acquire) == round {
                break;
            }
            let tid = slot.tid.load(Relaxed);
            if Instant::now() >= patience.min(deadline) {
                return Err(StopError::Unresponsive(tid));
            }
            if futex_wait(&ARRIVALS, seen, Some(SLICE)) {
                continue;
            }
            match tasks.state(tid) {
                State::Dead => {
                    // A new thread may get its number.
                    slot.tid.store(0, Relaxed);
                    slot.arrived.store(round, Relaxed);
                }
                // On a busy machine it may be long before it has a CPU.
                State::Runnable => patience = Instant::now() + PATIENCE,
                State::Waiting => {}
            }
        }
    }
    Ok(())
}

/// The handler: may run in any thread at any instruction, so it does nothing but atomics and system calls, and keeps `errno`.
extern "C" fn wait_at_gate(_signal: c_int) {
    let round = GATE.load(Acquire);
    if round == OPEN {
        return;
    }
    let Some(slot) = slot_of(gettid()) else {
        return;
    };
    // SAFETY: the C library's errno of this thread, which exists as long as the thread does; only this thread accesses it.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { errno.read() };
    slot.arrived.store(round, Release);
    ARRIVALS.fetch_add(1, AcqRel);
    futex_wake_all(&ARRIVALS);
    while GATE.load(Acquire) == round {
        futex_wait(&GATE, round, None);
    }
    // SAFETY: as above.
    unsafe { errno.write(saved) };
}

fn listed() -> &'static [Slot] {
    SLOTS.get(..LISTED.load(Acquire)).unwrap_or(&SLOTS)
}

fn slot_of(tid: i32) -> Option<&'static Slot> {
    listed().iter().find(|slot| slot.tid.load(Relaxed) == tid)
}

/// A signal with our handler installed.
fn claim_signal(last: Option<c_int>) -> Result<c_int, StopError> {
    let ours = wait_at_gate as extern "C" fn(c_int) as libc::sighandler_t;
    if let Some(signal) = last
        && handler_of(signal)? == ours
    {
        return Ok(signal);
    }
    for signal in (libc::SIGRTMIN()..=libc::SIGRTMAX() - 2).rev() {
        if handler_of(signal)? == libc::SIG_DFL {
            install(signal, ours)?;
            return Ok(signal);
        }
    }
    Err(StopError::NoSignal)
}

fn handler_of(signal: c_int) -> io::Result<libc::sighandler_t> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only asks; the kernel's answer goes to `action`, which has room for it.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    Errno::result(result)?;
    // SAFETY: the call has succeeded, so it has filled it.
    Ok(unsafe { action.assume_init() }.sa_sigaction)
}

/// All signals are blocked in the handler: another signal's handler would be program code that runs while its thread counts as stopped. On the thread's alternate
/// stack if it has one, since its own may be small.
fn install(signal: c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: sigaction is a plain structure of integers (and a null function pointer), for which zeros are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: writes the set it is given.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: 1. the handler is an extern "C" function of one integer, as without SA_SIGINFO, and async-signal-safe. 2. The signal had the default
    // action, so no other code of the process counts on it.
    let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    Errno::result(result)?;
    Ok(())
}

fn gettid() -> i32 {
    // SAFETY: has no precondition.
    unsafe { libc::gettid() }
}

fn tgkill(tid: i32, signal: c_int) -> nix::Result<()> {
    // SAFETY: passes integers; the signal has our handler (see `claim_signal`), so it does no more than that does.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal) };
    Errno::result(result).map(drop)
}

/// Waits while `futex` holds `value`. `false` if the time ran out. May come back early.
fn futex_wait(futex: &AtomicU32, value: u32, at_most: Option<Duration>) -> bool {
    let limit = at_most.map(|time| libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(time.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: 1. the futex is a live atomic. 2. The kernel reads the time limit, which lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), operation, value, limit) };
    Errno::result(result) != Err(Errno::ETIMEDOUT)
}

fn futex_wake_all(futex: &AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the futex is a live atomic; waking has no other effect.
    unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), operation, c_int::MAX) };
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    use super::*;

    static INTERRUPTED: AtomicU32 = AtomicU32::new(0);

    extern "C" fn interrupt(_signal: c_int) {
        INTERRUPTED.fetch_add(1, SeqCst);
    }

    /// The futex call fails when a signal comes, and sets errno. (In a real round signals are blocked, and it fails only if the gate opens just before.)
    #[test]
    fn the_handler_keeps_errno() {
        let action = SigAction::new(
            SigHandler::Handler(interrupt),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler is async-signal-safe, and nobody else here uses this signal.
        unsafe { sigaction(Signal::SIGWINCH, &action) }.unwrap();
        // Whoever started us may have blocked it, as perf(1) does.
        SigSet::from(Signal::SIGWINCH).thread_unblock().unwrap();
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (me, round) = (gettid(), u32::MAX);
        SLOTS[0].tid.store(me, SeqCst);
        LISTED.store(1, SeqCst);
        GATE.store(round, SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while SLOTS[0].arrived.load(SeqCst) != round {
                    std::thread::yield_now();
                }
                while INTERRUPTED.load(SeqCst) < 10 {
                    // One may come just before the futex call, ten do not.
                    tgkill(me, Signal::SIGWINCH as c_int).unwrap();
                    std::thread::yield_now();
                }
                GATE.store(OPEN, SeqCst);
                futex_wake_all(&GATE);
            });
            Errno::set_raw(77);
            wait_at_gate(0);
            let errno = Errno::last_raw();
            assert_eq!(errno, 77);
        });
    }
}
