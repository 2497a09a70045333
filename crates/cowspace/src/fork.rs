//! The program forks: the copy has no engine, and its memory must be what `fork` gives.
//!
//! A forked copy's ranges are not registered: where a mapping still shows wrong bytes, or a file lacks pages, the kernel would give them to the copy
//! as they are. So before the fork all such places are filled in, and until it is done no mapping changes. In the copy every call answers
//! `BAD_STATE` ([`crate::engine::Engine::get`]); the lock that is held there is never asked for.
//!
//! This runs in `fork()` of the C library. A process copied by the bare system call, behind the library's back, sees private mappings as they
//! happen to be filled.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use crate::lock::MutexGuard;
use host_memory::forked;
use page_tree::MemoryId;

use crate::engine::{Engine, Space};
use crate::family::{Backing, Family, Home};
use crate::options::Policy;
use crate::private::is_own;
use crate::status::Status;

thread_local! {
    /// The address space, locked from before a fork of this thread until after it.
    static HELD: RefCell<Option<MutexGuard<'static, Space>>> = const { RefCell::new(None) };
}

/// Has the C library call us around each fork.
pub(crate) fn watch() -> io::Result<()> {
    forked::at_fork(prepare, release, forget)
}

extern "C" fn prepare() {
    let Some(engine) = Engine::running() else {
        return;
    };
    let space = engine.space();
    if let Err(status) = fill_all(engine, &space) {
        // The copy would see wrong bytes.
        eprintln!(
            "cowspace: fork: memory cannot be made ready for the copy: {status}; ending the process"
        );
        std::process::abort();
    }
    HELD.with(|held| *held.borrow_mut() = Some(space));
}

extern "C" fn release() {
    HELD.with(|held| drop(held.borrow_mut().take()));
}

/// In the copy the lock stays locked: to unlock it would wake those who wait for it, and the list of them may be locked by a thread that the copy has not.
extern "C" fn forget() {
    HELD.with(|held| std::mem::forget(held.borrow_mut().take()));
}

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
