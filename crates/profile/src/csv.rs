//! Each fault as a row of a table.

use std::io::{self, Write};

use serde::Serialize;

use crate::fault::Phase;
use crate::faults::Faults;
use crate::json::outcome_name;
use crate::profile::{How, Profile};

/// A row. What is not known is empty. The names are the columns'.
#[derive(Serialize)]
struct Row<'a> {
    /// When it began, in nanoseconds from [`Profile::start_ns`] on.
    time_ns: u64,
    pid: i32,
    tid: Option<i32>,
    thread: &'a str,
    /// The page's first byte, in hexadecimal digits.
    address: String,
    region: &'a str,
    koid: Option<u64>,
    kind: &'static str,
    write: bool,
    answer: Option<&'static str>,
    depth: Option<u32>,
    outcome: Option<&'static str>,
    pages: Option<u32>,
    attempts: Option<u32>,
    cpu: Option<u32>,
    handler_cpu: Option<u32>,
    kernel_ns: Option<u64>,
    queue_ns: Option<u64>,
    resolve_ns: Option<u64>,
    install_ns: Option<u64>,
    wake_ns: Option<u64>,
    /// What the handler took; of what was not answered with a page, empty.
    handled_ns: Option<u64>,
    /// What the thread waited, without `recording_ns`; of what was not answered with a page, empty.
    total_ns: Option<u64>,
    /// What recording itself added.
    recording_ns: Option<u64>,
}

/// Writes each fault as a row of a CSV table, in the order in which they began. The first row names the columns: `time_ns`, `pid`, `tid`, `thread`, `address`, `region`, `koid`, `kind`, `write`,
/// `answer`, `depth`, `outcome`, `pages`, `attempts`, `cpu`, `handler_cpu`, the phases `kernel_ns`, `queue_ns`, `resolve_ns`, `install_ns`, `wake_ns`, then `handled_ns`, `total_ns`, `recording_ns`.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_csv(faults: &Faults<'_>, profile: &Profile, to: impl Write) -> io::Result<()> {
    let mut table = csv::WriterBuilder::new().has_headers(false).from_writer(to);
    table.write_record(COLUMNS)?;
    let threads = faults.threads();
    for fault in faults.iter() {
        let record = fault.record;
        let answer = record.map(|record| record.answer);
        let mapping = faults.regions()[fault.region].mapping;
        let phases = fault.phases();
        let phase = |phase: Phase| phases[phase as usize];
        let tid = fault.tid();
        table.serialize(Row {
            time_ns: fault.begin_ns().saturating_sub(profile.start_ns),
            pid: faults.recording().processes[fault.process].start.pid,
            tid,
            thread: tid
                .and_then(|tid| threads[fault.process].get(&tid).copied())
                .unwrap_or_default(),
            address: format!("{:#x}", fault.page()),
            region: mapping.map_or("", |mapping| &mapping.name),
            koid: mapping.map(|mapping| mapping.koid),
            kind: fault.kind().name(),
            write: fault.write(),
            answer: answer.map(|answer| answer.name()),
            depth: answer.and_then(|answer| answer.depth()),
            outcome: record.map(|record| outcome_name(record.outcome)),
            pages: record.map(|record| record.pages),
            attempts: record.map(|record| record.attempts),
            cpu: record.and_then(|record| record.cpu),
            handler_cpu: record.and_then(|record| record.handler_cpu),
            kernel_ns: phase(Phase::Kernel),
            queue_ns: phase(Phase::Queue),
            resolve_ns: phase(Phase::Resolve),
            install_ns: phase(Phase::Install),
            wake_ns: phase(Phase::Wake),
            handled_ns: fault.handled(),
            total_ns: fault.total(),
            recording_ns: record.map(|_| fault.recording()),
        })?;
    }
    table.flush()
}

/// Of a table without faults, too.
const COLUMNS: [&str; 24] = [
    "time_ns",
    "pid",
    "tid",
    "thread",
    "address",
    "region",
    "koid",
    "kind",
    "write",
    "answer",
    "depth",
    "outcome",
    "pages",
    "attempts",
    "cpu",
    "handler_cpu",
    "kernel_ns",
    "queue_ns",
    "resolve_ns",
    "install_ns",
    "wake_ns",
    "handled_ns",
    "total_ns",
    "recording_ns",
];
