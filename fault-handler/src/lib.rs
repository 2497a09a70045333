//! The fault-handler thread: it reads page faults from a userfaultfd, asks a [`Resolver`] what the page is, installs it, and measures each step.
//!
//! ```text
//!  a thread of the program             the kernel               the handler thread
//!
//!  load or store
//!     │ page is not mapped
//!     ├──────────────────────────▶ queues a message,
//!     ┆ waits                      marks the descriptor
//!     ┆                            readable ──────────────────▶ read returns:
//!     ┆                                                         a batch of messages            woken
//!     ┆                                                         Resolver::resolve(&fault, ..)    │
//!     ┆                                                           looks up, holds what keeps     │
//!     ┆                                                           the bytes alive, and calls     ▼
//!     ┆                                                           one method of Installer     resolved
//!     ┆                            fills the page table ◀──────── ioctl                          ▼
//!     ┆                            wakes who waits for it ──────▶ returns                     installed
//!     ◀────────────────────────────┘
//!  tries again, goes on
//! ```
//!
//! # What this crate owns, and what stays outside
//!
//! It owns the thread, the order of reading and retrying, the answer to each error of each ioctl (the table in `docs/faults.md`, each row with its test), and the
//! statistics. *What* a page is, which lock protects that, and which ranges are registered is the resolver's affair.
//!
//! # Rules of the fault path
//!
//! - It allocates nothing: a faulting thread may hold the allocator's lock.
//! - It logs nothing and waits for no lock of this crate. A page that is poisoned is logged, but by a second thread (`cowspace-log`): a faulting thread may hold the
//!   lock of stderr, or of whatever the program's `tracing` subscriber writes to.
//! - It never stops reading: an `mremap` of registered memory waits until its event was read, and until then every ioctl answers EAGAIN. So a fault that got EAGAIN goes
//!   into a ring, and the resolver is asked *anew* after everything was read.
//! - Every fault ends in exactly one counted [`OutcomeKind`].
//! - What cannot be resolved fails closed: SIGBUS for whoever touches the page ([`Installer::poison`]), or, where the kernel cannot do that, the end of the process
//!   with a reason. Never zeros, never a hang. A panic in a resolver ends the process too: its threads would wait for ever.
//!
//! The thread blocks all signals: a signal handler of the program that touched engine memory would wait for the very thread it runs on. Whoever stops the process's
//! threads by signal must leave it out ([`FaultHandler::tid`]).
//!
//! # A forked copy
//!
//! fork(2) copies the value but not the thread. In the copy [`FaultHandler::stats`] answers with nothing, and dropping it leaves the parent's thread alone.

#![forbid(unsafe_code)]

mod bell;
mod clock;
mod cpus;
#[cfg(test)]
mod errno_tests;
mod fail;
mod fault;
mod handler;
mod install;
mod kernel;
mod placement;
mod record;
#[cfg(test)]
mod record_tests;
mod report;
mod serve;
mod stats;
#[cfg(test)]
mod testing;
mod threads;

pub use clock::monotonic_ns;
pub use fault::{Answer, Fault, Outcome, OutcomeKind, Resolver};
pub use handler::{FaultHandler, Options};
pub use host_memory::uffd::{FaultKind, Protect};
pub use install::{Installer, most_copied};
pub use placement::Placement;
pub use record::FaultRecord;
pub use stats::{Counts, KindStats, Latency, Stats};
pub use threads::SleepingThreads;
