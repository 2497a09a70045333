//! What is done when the library is loaded: where the program has a `malloc` of its own, the fault handler's threads are made, since no call may make them.
//! See `docs/architecture.md`, "Allocation".

use std::sync::atomic::{AtomicBool, Ordering};

use cowspace::{make_threads_only_ahead, start_threads_ahead};
use host_memory::malloc;

use crate::own;

/// Whether it is known whose `malloc` the program has. To ask takes a lock of the loader's, which another thread may hold
/// while it waits for the `malloc` that calls us: so it is asked as the library is loaded, and not again.
static DECIDED: AtomicBool = AtomicBool::new(false);

/// Called by the loader, after what the library needs is loaded, and before `main` or the return of `dlopen`.
// SAFETY: the section holds addresses of C functions that the loader calls once each, by the ABI of ELF.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

extern "C" fn at_load() {
    // Early, to get one of the first.
    own::thread_key();
    if decide() {
        // Where there is no thread to be had, mappings stay native.
        let _ = start_threads_ahead();
    }
}

/// To be called before anything that may make threads: `malloc` may call the library before the loader does.
pub(crate) fn before_mapping() {
    if !DECIDED.load(Ordering::Acquire) {
        // Also has the linker keep it, in a program that takes from the archive only what is used.
        std::hint::black_box(&AT_LOAD);
        decide();
    }
}

fn decide() -> bool {
    let ahead = malloc::is_the_programs();
    if ahead {
        make_threads_only_ahead();
    }
    DECIDED.store(true, Ordering::Release);
    ahead
}
