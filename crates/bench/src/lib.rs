//! How fast cowspace is, beside `fork()`, a bare userfaultfd loop, and what else there is.
//!
//! ```text
//!   bench.rs     which names there are; running them
//!     fault.rs threads.rs snapshot.rs spawn.rs memory.rs parent.rs chain.rs
//!                what is done, by cowspace and by its rivals, and what must be reached
//!     rivals/    the rivals
//!   rounds.rs    alternating rounds over
//!   worker.rs    worker processes, one for each contender
//!   report.rs    the table and the JSON document; plot.rs: the curves
//! ```
//!
//! `docs/performance.md` says for each name what is measured and why so.

#![forbid(unsafe_code)]

mod area;
mod bench;
mod chain;
mod children;
mod clock;
mod fault;
mod job;
mod machine;
mod memory;
mod parent;
mod plot;
mod report;
mod rivals;
mod rounds;
mod scale;
mod snapshot;
mod spawn;
mod threads;
mod warmed;
mod wire;
mod worker;
mod writer;

pub use bench::{Options, Skipped, names, run};
pub use machine::Machine;
pub use plot::plot;
pub use report::{Bar, Report, Row};
pub use scale::Scale;
pub use worker::worker;
