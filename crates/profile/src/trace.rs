//! The faults as a trace: Trace Event JSON, which <https://ui.perfetto.dev> and chrome://tracing open.
//!
//! Each thread has a track with its faults, the phases that are known inside of each. Each handler has one with what it did itself. Events of one track lie inside of each other or side by side, as they
//! must; should times overlap nevertheless, a thread gets several tracks.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::fault::{Fault, Kind, Phase};
use crate::faults::Faults;
use crate::json::outcome_name;
use crate::profile::{How, Profile};

/// The first number of tracks that are no thread's: no thread of Linux has it.
const FIRST_OWN: i64 = 1 << 22;

/// Writes a trace of all faults, of about a kilobyte each. Times are microseconds from [`Profile::start_ns`] on, with nanoseconds behind the point.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_trace(faults: &Faults<'_>, profile: &Profile, to: impl Write) -> io::Result<()> {
    let mut trace = Trace {
        to: BufWriter::new(to),
        start_ns: profile.start_ns,
        first: true,
        tracks: Tracks::default(),
    };
    trace
        .to
        .write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")?;
    let pids = trace.processes(faults)?;
    trace.threads(faults, &pids)?;
    trace.handlers(faults, &pids)?;
    trace.rates(faults, profile, &pids)?;
    trace.to.write_all(b"\n]}\n")?;
    trace.to.flush()
}

/// An event, as the format has it.
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    /// X: has a duration. C: a counter. M: metadata.
    ph: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: i64,
    tid: i64,
    #[serde(skip_serializing_if = "Value::is_null")]
    args: Value,
}

/// Where events go.
#[derive(Clone, Copy)]
struct Track {
    pid: i64,
    tid: i64,
}

/// Numbers of tracks, each used once.
#[derive(Default)]
struct Tracks {
    used: HashSet<i64>,
    own: i64,
}

impl Tracks {
    /// This number, if nobody has it yet, else one of its own.
    fn number(&mut self, wanted: Option<i32>) -> i64 {
        if let Some(wanted) = wanted.map(i64::from)
            && self.used.insert(wanted)
        {
            return wanted;
        }
        loop {
            let number = FIRST_OWN + self.own;
            self.own += 1;
            if self.used.insert(number) {
                return number;
            }
        }
    }
}

/// Tracks of one thread, each with when its last event ends: one, unless they overlap.
type Lanes = BinaryHeap<Reverse<(u64, i64)>>;

struct Trace<W> {
    to: W,
    start_ns: u64,
    first: bool,
    tracks: Tracks,
}

impl<W: Write> Trace<W> {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        if !std::mem::replace(&mut self.first, false) {
            self.to.write_all(b",\n")?;
        }
        Ok(serde_json::to_writer(&mut self.to, event)?)
    }

    fn named(&mut self, what: &str, track: Track, name: &str) -> io::Result<()> {
        self.event(&Event {
            name: what,
            ph: "M",
            cat: None,
            ts: None,
            dur: None,
            pid: track.pid,
            tid: track.tid,
            args: json!({ "name": name }),
        })
    }

    /// Something that lasted.
    fn span(
        &mut self,
        track: Track,
        (cat, name): (&'static str, &str),
        (from_ns, len_ns): (u64, u64),
        args: Value,
    ) -> io::Result<()> {
        self.event(&Event {
            name,
            ph: "X",
            cat: Some(cat),
            ts: Some(micros(from_ns.saturating_sub(self.start_ns))),
            dur: Some(micros(len_ns)),
            pid: track.pid,
            tid: track.tid,
            args,
        })
    }

    /// Names the processes, and gives their numbers. One that has replaced its program (execve(2)) has the same number twice.
    fn processes(&mut self, faults: &Faults<'_>) -> io::Result<Vec<i64>> {
        let mut pids = Tracks::default();
        let mut numbers = Vec::new();
        for process in &faults.recording().processes {
            let pid = pids.number(Some(process.start.pid));
            let command = process.start.command.join(" ");
            let track = Track { pid, tid: pid };
            self.named("process_name", track, &command)?;
            numbers.push(pid);
        }
        Ok(numbers)
    }

    /// A track that is free from this moment on, and not again before `end_ns`.
    fn lane(
        &mut self,
        lanes: &mut Lanes,
        pid: i64,
        (tid, name): (Option<i32>, &str),
        (begin_ns, end_ns): (u64, u64),
    ) -> io::Result<Track> {
        let free = lanes
            .peek()
            .is_some_and(|Reverse((end, _))| *end <= begin_ns);
        let known = if free { lanes.pop() } else { None };
        let tid = match known {
            Some(Reverse((_, tid))) => tid,
            None => {
                let tid = self.tracks.number(tid);
                if !name.is_empty() {
                    self.named("thread_name", Track { pid, tid }, name)?;
                }
                tid
            }
        };
        lanes.push(Reverse((end_ns, tid)));
        Ok(Track { pid, tid })
    }

    /// The threads' tracks.
    fn threads(&mut self, faults: &Faults<'_>, pids: &[i64]) -> io::Result<()> {
        let names = faults.threads();
        let mut lanes: HashMap<(usize, Option<i32>), Lanes> = HashMap::new();
        for fault in faults.iter() {
            let tid = fault.tid();
            let name = match tid {
                None => "threads that the kernel did not name",
                Some(tid) => names[fault.process].get(&tid).copied().unwrap_or_default(),
            };
            let lanes = lanes.entry((fault.process, tid)).or_default();
            let (begin, end) = (fault.begin_ns(), fault.end_ns().max(fault.begin_ns()));
            let track = self.lane(lanes, pids[fault.process], (tid, name), (begin, end))?;
            let kind = ("fault", fault.kind().name());
            self.span(track, kind, (begin, end - begin), args(faults, &fault))?;
            let mut now = begin;
            for (phase, ns) in parts(&fault) {
                self.span(track, ("phase", phase), (now, ns), Value::Null)?;
                now += ns;
            }
        }
        Ok(())
    }

    /// The handlers' tracks: from when they took up a fault on.
    fn handlers(&mut self, faults: &Faults<'_>, pids: &[i64]) -> io::Result<()> {
        let begin = |fault: &Fault<'_>| {
            let record = fault.record?;
            Some(record.read_ns.saturating_add(record.queue_ns))
        };
        let begin_of = |index: usize| faults.get(index).and_then(|fault| begin(&fault));
        let mut order: Vec<usize> = (0..faults.len())
            .filter(|index| begin_of(*index).is_some())
            .collect();
        order.sort_by_key(|index| begin_of(*index));
        let mut lanes: HashMap<usize, Lanes> = HashMap::new();
        for fault in order.into_iter().filter_map(|index| faults.get(index)) {
            let (Some(record), Some(begin)) = (fault.record, begin(&fault)) else {
                continue;
            };
            let parts = [
                ("recording", record.recording_ns),
                (Phase::Resolve.name(), record.resolve_ns),
                (Phase::Install.name(), record.install_ns),
            ];
            let end = parts
                .iter()
                .fold(begin, |now, (_, ns)| now.saturating_add(*ns));
            let lanes = lanes.entry(fault.process).or_default();
            let pid = pids[fault.process];
            let track = self.lane(lanes, pid, (None, "fault handler"), (begin, end))?;
            let of = json!({ "tid": record.tid, "cpu": record.handler_cpu });
            self.span(
                track,
                ("handler", fault.kind().name()),
                (begin, end - begin),
                of,
            )?;
            let mut now = begin;
            for (part, ns) in parts {
                let ns = ns.min(end - now);
                if ns > 0 {
                    self.span(track, ("phase", part), (now, ns), Value::Null)?;
                }
                now += ns;
            }
        }
        Ok(())
    }

    /// Each process's faults a second.
    fn rates(&mut self, faults: &Faults<'_>, profile: &Profile, pids: &[i64]) -> io::Result<()> {
        let Some(first) = profile.bins.first() else {
            return Ok(());
        };
        let mut counts = vec![vec![[0_u64; 4]; profile.bins.len()]; pids.len()];
        for fault in faults.iter() {
            let since = fault.begin_ns() - self.start_ns - first.from_ns;
            let bin = (since / first.len_ns) as usize;
            counts[fault.process][bin][fault.kind() as usize] += 1;
        }
        for (pid, bins) in pids.iter().zip(counts) {
            let occur = |kind: &Kind| bins.iter().any(|bin| bin[*kind as usize] > 0);
            let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(occur).collect();
            let after = profile.bins.last().map(|last| {
                let end = last.from_ns.saturating_add(last.len_ns);
                (end, [0; 4])
            });
            let starts = profile.bins.iter().map(|bin| bin.from_ns);
            for (from_ns, counts) in starts.zip(bins).chain(after) {
                if kinds.is_empty() {
                    break;
                }
                let rate = |kind: &Kind| counts[*kind as usize] as f64 * 1e9 / first.len_ns as f64;
                let rates = kinds
                    .iter()
                    .map(|kind| (kind.name().to_owned(), rate(kind).into()));
                self.event(&Event {
                    name: "faults a second",
                    ph: "C",
                    cat: None,
                    ts: Some(micros(from_ns)),
                    dur: None,
                    pid: *pid,
                    tid: *pid,
                    args: Value::Object(rates.collect()),
                })?;
            }
        }
        Ok(())
    }
}

/// What is known of a fault's time, in the order in which it passed, without what took none.
fn parts(fault: &Fault<'_>) -> impl Iterator<Item = (&'static str, u64)> {
    let phases = Phase::ALL.into_iter().zip(fault.phases());
    let phases = phases.map(|(phase, ns)| (phase.name(), ns.unwrap_or(0)));
    let mut parts: Vec<(&str, u64)> = phases.collect();
    parts.insert(Phase::Resolve as usize, ("recording", fault.recording()));
    parts.into_iter().filter(|(_, ns)| *ns > 0)
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// What is shown of a fault that is clicked at.
fn args(faults: &Faults<'_>, fault: &Fault<'_>) -> Value {
    let mapping = faults.regions()[fault.region].mapping;
    let mut args = json!({
        "address": format!("{:#x}", fault.page()),
        "write": fault.write(),
    });
    if let Some(mapping) = mapping {
        args["region"] = mapping.name.as_str().into();
    }
    if let Some(record) = fault.record {
        args["answer"] = record.answer.name().into();
        args["outcome"] = outcome_name(record.outcome).into();
        args["pages"] = record.pages.into();
        args["attempts"] = record.attempts.into();
        let known = [
            ("depth", record.answer.depth()),
            ("cpu", record.cpu),
            ("handler_cpu", record.handler_cpu),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                args[name] = value.into();
            }
        }
    }
    args
}
