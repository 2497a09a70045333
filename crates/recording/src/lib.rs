//! Recordings of page faults: the file that profiled processes write, and that `cowspace profile` reads.
//!
//! A file holds *messages* of one or several processes, each as a frame of its own (`frame.rs`), appended as they come: a zygote and its children write to one file.
//! What was read is a [`Recording`]: the same, by process.

#![forbid(unsafe_code)]

mod frame;
mod message;
mod reader;
mod recording;
#[cfg(test)]
mod tests;
mod writer;

pub use fault_handler::{Answer, FaultKind, FaultRecord, OutcomeKind};
pub use message::{End, Mapping, Message, Policy, Probe, Start};
pub use reader::{ReadError, parse, read};
pub use recording::{Ended, ProcessRecording, Recording};
pub use writer::{Writer, clear};
