//! The thread that writes a recording.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded};
use fault_handler::{FaultRecord, Stats, monotonic_ns};
use fault_recording::{End, Mapping, Message, Start, Writer};
use host_memory::page::page_size;
use host_memory::probe::Probe;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::{Pid, getpid, getppid};

use crate::engine::Engine;
use crate::hash::HashSet;

use super::mapped::{self, Made};
use super::{By, CAPACITY, RECORDS};

/// How often records are taken.
const INTERVAL: Duration = Duration::from_millis(5);
/// Faults in one message: some 40 KiB.
const MOST_FAULTS: usize = 1024;
/// A mapping that nobody has faulted on is written so long after it was made.
const SETTLED_NS: u64 = 1_000_000_000;
/// Mappings in one message: a MiB at most.
const MOST_MAPPINGS: usize = 8192;

/// The thread's body. The recording has begun at `at_ns`.
pub(super) fn run(path: &Path, by: By, at_ns: u64) {
    let engine = await_engine();
    let recorded = catch_unwind(AssertUnwindSafe(|| record(engine, path, by, at_ns)));
    let result = recorded.unwrap_or_else(|_| Err(io::Error::other("the recorder has panicked")));
    if result.is_err()
        && let Some(tracer) = engine.started_tracer()
    {
        tracer.handler.stop_recording();
    }
    super::has_ended(result, path, by);
}

/// By environment the thread may be made long before the engine is. It touches no lock until then: the program may fork, and its copy have an engine of its own.
fn await_engine() -> &'static Engine {
    loop {
        match Engine::running() {
            Some(engine) => return engine,
            None => thread::sleep(INTERVAL),
        }
    }
}

fn record(engine: &'static Engine, path: &Path, by: By, at_ns: u64) -> io::Result<End> {
    let pid = getpid();
    let mut writer = Writer::append(path, pid.as_raw())?;
    writer.write(&Message::Start(start(pid, at_ns)))?;
    let mut scribe = Scribe {
        engine,
        writer,
        records: None,
        before: Stats::default(),
        batch: Vec::new(),
        made: VecDeque::new(),
        ending: false,
        names: Vec::new(),
        look: false,
        named: HashSet::default(),
        recorded: 0,
    };
    // By environment nothing was mapped before it was noted.
    if by == By::Program {
        scribe.attach();
        scribe.write_mappings(mapped::all(engine))?;
    }
    super::has_begun();
    loop {
        let last = super::wait(INTERVAL);
        scribe.attach();
        if last {
            return scribe.end();
        }
        scribe.round()?;
    }
}

/// Who records, since `at_ns`.
fn start(pid: Pid, at_ns: u64) -> Start {
    let text =
        |path: &str| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let command = fs::read("/proc/self/cmdline").unwrap_or_default();
    let command = command.strip_suffix(&[0]).unwrap_or(&command);
    let arguments = command.split(|&byte| byte == 0);
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(Duration::from_nanos(monotonic_ns() - at_ns));
    Start {
        cowspace: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        machine: std::env::consts::ARCH.to_owned(),
        cpus: cpus(),
        page_size: page_size() as u64,
        pid: pid.as_raw(),
        parent: getppid().as_raw(),
        command: arguments
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect(),
        at_ns,
        unix_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        traced: Probe::get().traced.is_yes(),
    }
}

/// How many CPUs the process may run on; 0 where the kernel does not say.
fn cpus() -> u32 {
    let set = sched_getaffinity(Pid::from_raw(0)).ok();
    let count = set.map(|set| {
        let cpus = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true));
        cpus.count()
    });
    count.and_then(|count| count.try_into().ok()).unwrap_or(0)
}

/// The thread's state.
struct Scribe {
    engine: &'static Engine,
    writer: Writer,
    /// `None` as long as nothing is traced.
    records: Option<Receiver<FaultRecord>>,
    /// What the handler had counted when it began to record.
    before: Stats,
    /// Records that were taken from the channel.
    batch: Vec<FaultRecord>,
    /// Mappings that are not written yet: records of faults before them may still come. See [`Scribe::is_due`].
    made: VecDeque<Made>,
    /// No more records come.
    ending: bool,
    /// New names of VMOs, to be written behind them.
    names: Vec<Mapping>,
    /// Not all mappings were noted.
    look: bool,
    /// Threads whose names are written.
    named: HashSet<i32>,
    recorded: u64,
}

impl Scribe {
    /// Has the handler record, if there is one and it does not.
    fn attach(&mut self) {
        if self.records.is_some() {
            return;
        }
        // In this order: a handler that has started has left its channel before.
        let tracer = self.engine.started_tracer();
        self.records = RECORDS.lock().take();
        if self.records.is_none()
            && let Some(tracer) = tracer
        {
            let (recorder, records) = bounded(CAPACITY);
            self.before = tracer.handler.stats();
            tracer.handler.record_to(recorder);
            self.records = Some(records);
        }
    }

    /// Writes what has happened: as much as there can be at one moment, however fast more comes.
    fn round(&mut self) -> io::Result<()> {
        for _ in 0..=CAPACITY / MOST_FAULTS {
            let records = self.records.iter().flat_map(Receiver::try_iter);
            self.batch.extend(records.take(MOST_FAULTS));
            let all = self.batch.len() < MOST_FAULTS;
            // After the records: who has faulted on a mapping has had it noted.
            let mut notes = mapped::take();
            self.made.extend(notes.made.drain(..));
            self.names.append(&mut notes.names());
            self.look |= notes.too_many;
            self.write_threads()?;
            self.write_batch(all)?;
            if all {
                // Behind mappings that still have the names before.
                if self.made.is_empty() {
                    let names = std::mem::take(&mut self.names);
                    self.write_mappings(names)?;
                }
                if std::mem::take(&mut self.look) {
                    self.write_mappings(mapped::all(self.engine))?;
                }
                break;
            }
        }
        Ok(())
    }

    /// Whether a mapping is to be written though no fault behind it has come.
    ///
    /// A thread goes on before the handler has sent the record of its fault: it can unmap, and another one map something else there. So the new mapping waits for a fault that was read after it was
    /// made (the handler sends all records of a batch before it reads the next). If none comes, then until long after any handler has got the CPU again.
    fn is_due(&self, made: &Made) -> bool {
        self.ending || made.at_ns.saturating_add(SETTLED_NS) <= monotonic_ns()
    }

    /// Writes the batch, and each mapping before the first fault that was read when it was there. If these are `all` records there are, then the mappings that are due.
    fn write_batch(&mut self, all: bool) -> io::Result<()> {
        let mut faults = Vec::with_capacity(self.batch.len());
        let mut table = Vec::new();
        for fault in std::mem::take(&mut self.batch) {
            let was_there = |made: &Made| made.at_ns <= fault.read_ns;
            while self.made.front().is_some_and(was_there)
                && let Some(made) = self.made.pop_front()
            {
                self.write_faults(std::mem::take(&mut faults))?;
                self.enter(&mut table, made)?;
            }
            self.write_mappings(std::mem::take(&mut table))?;
            faults.push(fault);
        }
        self.write_faults(faults)?;
        if all {
            while self.made.front().is_some_and(|made| self.is_due(made))
                && let Some(made) = self.made.pop_front()
            {
                self.enter(&mut table, made)?;
            }
            self.write_mappings(table)?;
        }
        Ok(())
    }

    /// Puts a mapping into a table, which is written before where the mapping would not come last in it.
    fn enter(&mut self, table: &mut Vec<Mapping>, made: Made) -> io::Result<()> {
        let mapping = made.to_mapping();
        if table
            .last()
            .is_some_and(|last| mapping.start < last.start + last.len)
        {
            self.write_mappings(std::mem::take(table))?;
        }
        mapped::put(table, mapping);
        Ok(())
    }

    fn write_faults(&mut self, faults: Vec<FaultRecord>) -> io::Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        let count = faults.len() as u64;
        self.writer.write(&Message::Faults(faults))?;
        self.recorded += count;
        Ok(())
    }

    fn write_mappings(&mut self, mut table: Vec<Mapping>) -> io::Result<()> {
        while !table.is_empty() {
            let rest = table.split_off(table.len().min(MOST_MAPPINGS));
            self.writer.write(&Message::Mappings(table))?;
            table = rest;
        }
        Ok(())
    }

    /// Writes the names of threads that are new in the batch. One that has ended has none.
    fn write_threads(&mut self) -> io::Result<()> {
        let mut names = Vec::new();
        for tid in self.batch.iter().filter_map(|fault| fault.tid) {
            if self.named.insert(tid)
                && let Ok(name) = fs::read(format!("/proc/self/task/{tid}/comm"))
            {
                names.push((tid, String::from_utf8_lossy(&name).trim_end().to_owned()));
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        self.writer.write(&Message::Threads(names))
    }

    /// Writes what is left, and the end.
    fn end(mut self) -> io::Result<End> {
        let handler = self.engine.started_tracer().map(|tracer| &tracer.handler);
        if let Some(handler) = handler {
            // It may have started since the last look.
            self.attach();
            handler.stop_recording();
        }
        self.ending = true;
        self.round()?;
        let counted = handler.map(|handler| handler.stats()).unwrap_or_default();
        let since = |count: fn(&Stats) -> u64| count(&counted).saturating_sub(count(&self.before));
        // Whatever has become of it, a record that is not in the file is lost.
        let made = since(|stats| stats.recorded + stats.records_dropped);
        let end = End {
            at_ns: monotonic_ns(),
            recorded: self.recorded,
            lost: made.saturating_sub(self.recorded),
            cost_ns: since(|stats| stats.record_cost_ns),
        };
        self.writer.write(&Message::End(end))?;
        Ok(end)
    }
}
