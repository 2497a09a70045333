//! Recording page faults to a file, for `cowspace profile`: the crate `fault_recording` has the format.
//!
//! ```text
//!   fault handler ──records──▶ channel ──┐   polled every few milliseconds
//!   who maps      ──notes────▶ list ─────┴──▶ cowspace-record ──messages──▶ file
//!   or names        (mapped.rs)                   (scribe.rs)
//! ```
//!
//! Nobody waits for the thread `cowspace-record` but who ends the recording: it may meet a slow disk, the log's lock, the program's `malloc`. It waits for others as any caller of the engine does: it takes
//! the address space to copy what is mapped, and asks the handler for its counts. It polls, since a receiver that waits would have the handler wake it for each fault.
//!
//! **Begin.** The environment variable `COWSPACE_RECORD` names a file, or the program calls [`Recorder::start`]. By environment the thread is made as the engine starts (or ahead, see
//! `ahead.rs`), so the handler has the channel before it serves its first fault.
//!
//! **End.** By [`Recorder::finish`], or at `exit(3)`, on whose list of functions we are: then for a few seconds at most. A process that is killed or calls `_exit(2)` has no end in its recording.
//!
//! **Forks.** A forked copy has no such thread and writes nothing: `OWNER` is another process.
//!
//! LOCKS: `DESK` and those of `mapped.rs` are leaves.

mod mapped;
mod scribe;

use std::env;
use std::io::{self, Write};
use std::mem;
use std::path::{self, Path, PathBuf};
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use fault_handler::{FaultRecord, monotonic_ns};
use fault_recording::End;
use host_memory::thread::{BareThread, standard_signals, with_blocked};
use host_memory::{forked, process};
use nix::unistd::{Gid, Uid};

use crate::ahead;
use crate::engine::Engine;
use crate::lock::Mutex;

pub(crate) use self::mapped::{before_mapping, note_mapping, note_name};

/// Names the file to record to.
const VARIABLE: &str = "COWSPACE_RECORD";
/// Records that can wait for the thread: those of half a second at the least, however fast faults are resolved.
const CAPACITY: usize = 64 << 10;
/// How long `exit(3)` may wait for the end of a recording.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

/// Whether somebody records, or is about to.
static ON: AtomicBool = AtomicBool::new(false);
/// The process that has the thread.
static OWNER: AtomicU32 = AtomicU32::new(0);
static DESK: Mutex<Desk> = Mutex::new(Desk {
    stage: Stage::Idle,
    finish: false,
});
/// What is on the desk has changed.
static CHANGED: Condvar = Condvar::new();
/// From a handler that was started with a recorder to the thread.
static RECORDS: Mutex<Option<Receiver<FaultRecord>>> = Mutex::new(None);

/// Between the thread and who has it begin and end.
struct Desk {
    stage: Stage,
    /// The thread is to end.
    finish: bool,
}

enum Stage {
    /// Nobody records.
    Idle,
    /// There is a thread, which has written nothing yet.
    Beginning,
    Recording,
    /// The thread has ended, and a [`Recorder`] is to hear how.
    Ended(io::Result<End>),
}

/// Who began a recording, and hears of its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Environment,
    Program,
}

/// When [`begin_by_environment`] is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// As the program or library is loaded, by [`ahead::start_threads_ahead`].
    Loading,
    /// In a call of the engine.
    Calling,
}

/// A recording of this process's traced faults, which goes on until this is dropped or the process ends.
///
/// There is one at a time. What is recorded are the faults of traced mappings; where traced mode does not work, only what is mapped.
#[derive(Debug)]
pub struct Recorder(());

impl Recorder {
    /// Appends a recording to a file, which is made if it is not there: several processes may record to one file. Starts the engine. Every fault of a traced mapping from now on is recorded.
    ///
    /// # Errors
    ///
    /// - `AlreadyExists`: this process records already, by another `Recorder` or since `COWSPACE_RECORD` says so
    /// - `InvalidInput`: the path is not of a plain file, or of one that holds something else than a recording
    /// - those of opening and writing the file, and of starting a thread
    /// - `Other`: the engine cannot start, or this is a forked copy of a process that uses it
    pub fn start(path: &Path) -> io::Result<Recorder> {
        Engine::get()
            .map_err(|status| io::Error::other(format!("the engine does not start: {status}")))?;
        begin(path, By::Program)?;
        let mut desk = DESK.lock();
        while matches!(desk.stage, Stage::Beginning) {
            desk.wait(&CHANGED, None);
        }
        if matches!(desk.stage, Stage::Recording) {
            return Ok(Recorder(()));
        }
        drop(desk);
        end()?;
        Err(io::Error::other("the recording has ended"))
    }

    /// Ends the recording: all faults that have ended before are in the file when this returns. Says what was recorded.
    ///
    /// # Errors
    ///
    /// Those of writing the file, now or earlier: what could not be written is missing.
    pub fn finish(self) -> io::Result<End> {
        mem::forget(self);
        end()
    }
}

impl Drop for Recorder {
    /// As [`Recorder::finish`]; an error is told to the log.
    fn drop(&mut self) {
        if let Err(error) = end() {
            tracing::warn!(%error, "the recording is not complete");
        }
    }
}

/// Begins to record if the environment says so. What is in the way is told in one line, and the program goes on.
pub(crate) fn begin_by_environment(when: When) {
    let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
        return;
    };
    // Begun as the program was loaded, and not by a process that this one is a copy of.
    if ON.load(Ordering::Acquire) && is_ours() {
        return;
    }
    let path = PathBuf::from(path);
    let begun = if when == When::Calling && ahead::only() {
        ON.store(false, Ordering::Release);
        Err(io::Error::other(
            "no thread can be made in a process that was forked after it loaded cowspace",
        ))
    } else if is_raised() {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the program runs with the rights of another user than the one who has started it",
        ))
    } else {
        begin(&path, By::Environment)
    };
    if let Err(error) = begun {
        tell(&path, &error);
    }
}

/// Where a handler that starts now is to send its records.
pub(crate) fn recorder() -> Option<Sender<FaultRecord>> {
    if !is_on() {
        return None;
    }
    let (recorder, records) = bounded(CAPACITY);
    *RECORDS.lock() = Some(records);
    Some(recorder)
}

/// Whether this process records, or is about to.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Acquire)
}

/// Whether the environment is of somebody who may do less than the program: who starts one with the set-user-ID bit does not say which files it writes.
fn is_raised() -> bool {
    Uid::current() != Uid::effective() || Gid::current() != Gid::effective()
}

/// Whether the thread, if there is one, is this process's.
fn is_ours() -> bool {
    OWNER.load(Ordering::Acquire) == std::process::id()
}

/// Makes the thread.
fn begin(path: &Path, by: By) -> io::Result<()> {
    // The thread opens it later: the program may be in another folder by then.
    let path = path::absolute(path)?;
    at_exit()?;
    let mut desk = DESK.lock();
    if is_ours() && !matches!(desk.stage, Stage::Idle) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "this process records already",
        ));
    }
    OWNER.store(std::process::id(), Ordering::Release);
    desk.stage = Stage::Beginning;
    desk.finish = false;
    // Before the first fault that is recorded.
    let at_ns = monotonic_ns();
    ON.store(true, Ordering::Release);
    let thread = with_blocked(standard_signals(), || {
        BareThread::spawn(c"cowspace-record", move || scribe::run(&path, by, at_ns))
    });
    if thread.is_err() {
        ON.store(false, Ordering::Release);
        desk.stage = Stage::Idle;
    }
    thread.map(drop)
}

/// Ends the recording and waits until it has.
fn end() -> io::Result<End> {
    // First of all: another thread may have held the lock at the fork.
    if forked::in_forked_copy() || !is_ours() {
        return Err(io::Error::other("a forked copy does not record"));
    }
    let mut desk = DESK.lock();
    desk.finish = true;
    CHANGED.notify_all();
    loop {
        match mem::replace(&mut desk.stage, Stage::Idle) {
            Stage::Ended(result) => return result,
            Stage::Idle => return Err(io::Error::other("nobody records")),
            stage => desk.stage = stage,
        }
        desk.wait(&CHANGED, None);
    }
}

/// On the thread: says that it has written its first message.
fn has_begun() {
    DESK.lock().stage = Stage::Recording;
    CHANGED.notify_all();
}

/// On the thread: waits for a while, or until it is to end; whether it is.
fn wait(at_most: Duration) -> bool {
    let mut desk = DESK.lock();
    if !desk.finish {
        desk.wait(&CHANGED, Some(at_most));
    }
    desk.finish
}

/// On the thread: says that it has ended.
fn has_ended(result: io::Result<End>, path: &Path, by: By) {
    ON.store(false, Ordering::Release);
    drop(RECORDS.lock().take());
    mapped::forget();
    let stage = match (by, result) {
        (By::Program, result) => Stage::Ended(result),
        (By::Environment, result) => {
            if let Err(error) = result {
                tell(path, &error);
            }
            Stage::Idle
        }
    };
    DESK.lock().stage = stage;
    CHANGED.notify_all();
}

/// Says in one line why nothing (more) is recorded.
fn tell(path: &Path, error: &io::Error) {
    let path = path.display();
    tracing::warn!(%path, %error, "page faults are not recorded");
    // If even that cannot be written there is nobody to tell.
    let _ = writeln!(
        io::stderr(),
        "cowspace: page faults are not recorded to {path}: {error}"
    );
}

/// Has `exit(3)` end the recording.
fn at_exit() -> io::Result<()> {
    static LISTED: AtomicBool = AtomicBool::new(false);
    if LISTED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    process::at_exit(end_at_exit).inspect_err(|_| LISTED.store(false, Ordering::Release))
}

extern "C" fn end_at_exit() {
    // The thread does not look at the desk before the engine runs, and has nothing to write then.
    if !is_ours() || Engine::running().is_none() {
        return;
    }
    let patience = Instant::now() + EXIT_PATIENCE;
    // Not to be waited for: a program may call exit(3) in the handler of a signal, over whoever has the lock.
    let mut desk = loop {
        match DESK.try_lock() {
            Some(desk) => break desk,
            None if Instant::now() >= patience => return,
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    desk.finish = true;
    CHANGED.notify_all();
    while matches!(desk.stage, Stage::Beginning | Stage::Recording) {
        let left = patience.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        desk.wait(&CHANGED, Some(left));
    }
}
