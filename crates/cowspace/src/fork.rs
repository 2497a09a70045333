//! The program forks: the copy has no engine, and its memory must be what `fork` gives.
//!
//! A forked copy's ranges are not registered: where a mapping still shows wrong bytes, or a file lacks pages, the kernel would give them to the copy
//! as they are. So before the fork all such places are filled in, and until it is done no mapping changes. In the copy every call answers
//! `BAD_STATE` ([`crate::engine::Engine::get`]), and so nobody comes to the gate there, which stays closed.
//!
//! This runs in `fork()` of the C library. A process copied by the bare system call, behind the library's back, sees private mappings as they
//! happen to be filled.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar};

use host_memory::{forked, process};
use page_tree::MemoryId;

use crate::engine::{Engine, Space};
use crate::family::{Backing, Family, Home};
use crate::lock::Mutex;
use crate::options::Policy;
use crate::private::is_own;
use crate::status::Status;

/// Keeps the address space from everybody while the program forks. Not its lock alone: what is locked before `fork()` calls us and unlocked afterwards would have to lie in a thread-local value meanwhile.
///
/// LOCKS: closed with the address space locked. Who finds it closed unlocks that, waits, and begins anew.
#[derive(Default)]
pub(crate) struct Gate {
    closed: Mutex<bool>,
    /// Whether it was ever closed.
    forked: AtomicBool,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn is_open(&self) -> bool {
        !*self.closed.lock()
    }

    pub(crate) fn wait(&self) {
        let mut closed = self.closed.lock();
        while *closed {
            closed.wait(&self.opened, None);
        }
    }

    /// Whether the program may have a forked copy, which shares mappings of files with it. To be asked with the address space locked.
    pub(crate) fn has_forked(&self) -> bool {
        self.forked.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.forked.store(true, Ordering::Relaxed);
        *self.closed.lock() = true;
    }

    fn open(&self) {
        *self.closed.lock() = false;
        self.opened.notify_all();
    }
}

/// Has the C library call us around each fork. Calls after the first do nothing.
///
/// Calls `malloc` if there are many such handlers already (glibc: more than 48).
pub(crate) fn watch() -> io::Result<()> {
    static WATCHING: AtomicBool = AtomicBool::new(false);
    if WATCHING.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    forked::at_fork(prepare, release, forget)
        .inspect_err(|_| WATCHING.store(false, Ordering::Release))
}

extern "C" fn prepare() {
    let Some(engine) = Engine::running() else {
        return;
    };
    let space = engine.space();
    if let Err(status) = fill_all(engine, &space) {
        // The copy would see wrong bytes.
        process::abort(format_args!(
            "cowspace: fork: memory cannot be made ready for the copy: {status}; ending the process"
        ));
    }
    engine.gate.close();
}

extern "C" fn release() {
    if let Some(engine) = Engine::running() {
        engine.gate.open();
    }
}

/// In the copy nobody comes to the gate.
extern "C" fn forget() {}

fn fill_all(engine: &Engine, space: &Space) -> Result<(), Status> {
    for mapping in space.mappings() {
        if mapping.kind().policy == Policy::Traced {
            fill(engine, &mapping.vmo().family, mapping.vmo().memory)?;
        }
    }
    Ok(())
}

/// Fills in what only the fault handler knows of a memory.
fn fill(engine: &Engine, family: &Arc<Family>, memory: MemoryId) -> Result<(), Status> {
    let mut state = family.lock();
    match &state.pages(memory).home {
        Home::None => Ok(()),
        Home::MemFd { .. } => state.complete(memory),
        Home::Private { .. } => {
            let mut wrong = Vec::new();
            for region in state.pages(memory).regions.values() {
                let Backing::Private(plan) = &region.backing else {
                    continue;
                };
                for run in state.runs(memory) {
                    // The home's own pages are there already.
                    if is_own(&state, run.place) {
                        continue;
                    }
                    plan.exceptions(&run, |part| {
                        wrong.extend(region.addresses(part.pages.start, part.pages.end))
                    });
                }
            }
            let Some(tracer) = engine.started_tracer() else {
                return Ok(());
            };
            wrong
                .into_iter()
                .try_for_each(|range| engine.install(&mut state, tracer, memory, range))
        }
    }
}
