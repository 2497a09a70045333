//! Profiles of page faults: what a recording says, shown. No engine, no system calls.
//!
//! ```text
//!   Recording
//!     faults.rs     each fault: its record, its probe, its region; in the order of time
//!       fault.rs      one of them: its kind, its phases
//!     profile.rs    the model: all that is shown of them together, computed once
//!       build.rs heat.rs
//!                   its making
//!       latency.rs  distributions of times
//!   for people      text.rs, html.rs (charts: svg.rs); label.rs, name.rs, words.rs: numbers, names and terms in both
//!   for programs    json.rs: the model. csv.rs, hdr.rs, trace.rs: the faults
//!     diff.rs       two profiles compared
//! ```
//!
//! # Words
//!
//! A *fault* is either one that a handler has recorded, or one that only a probe has seen, since the kernel resolved it: [`Kind::Kernel`]. Its *phases* are
//! named in [`Phase`]. *Handled* is the part that a handler can know (queue, resolve, install), *total* is what a thread waited, which only a probe can know.

#![forbid(unsafe_code)]

mod build;
mod csv;
mod diff;
mod fault;
mod faults;
mod hdr;
mod heat;
mod html;
mod json;
mod label;
mod latency;
mod name;
mod profile;
mod svg;
mod text;
mod trace;
mod words;

pub use csv::write_csv;
pub use diff::{Change, Counts, Diff, KindDiff, PhaseDiff, RegionDiff, Verdict};
pub use fault::{Fault, Kind, Phase, Phases, Role};
pub use faults::{Faults, Place};
pub use hdr::write_hdr;
pub use html::write_html;
pub use json::write_json;
pub use latency::{Bucket, Latencies, Summary};
pub use profile::{
    AnswerRow, Band, Cpu, Distribution, HeatMap, HeatRow, How, Machine, Measure, Placement,
    Process, Profile, Region, Thread, TimeBin, Touches,
};
pub use text::write_text;
pub use trace::write_trace;
