//! What a reader has.

use fault_handler::FaultRecord;

use crate::message::{End, Mapping, Probe, Start};

/// All that was read of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// In the order in which they began.
    pub processes: Vec<ProcessRecording>,
    /// Why not all of the file could be read, if so: one line. What precedes is right.
    pub cut: Option<String>,
}

/// What one process has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRecording {
    /// Who it is.
    pub start: Start,
    /// Its faults, in the order in which they ended.
    pub faults: Vec<FaultRecord>,
    /// What was mapped, each with how many faults had been recorded before: that of a fault is in the last table before it that has its address, or else in the first one behind.
    pub mappings: Vec<(usize, Vec<Mapping>)>,
    /// Names of its threads.
    pub threads: Vec<(i32, String)>,
    /// What threads measured themselves, in the order in which it was written.
    pub probes: Vec<Probe>,
    /// How it ended.
    pub end: Ended,
}

/// How a process's recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Said(End),
    /// The process was killed, ended by `_exit(2)`, or the file was cut: the last milliseconds are not there.
    Unsaid,
}
