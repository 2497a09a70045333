//! The list of what is measured, and running it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail};
use host_memory::page::page_size;
use host_memory::probe::Probe;
use serde::Serialize;

use crate::job::{Contender, Job, Task};
use crate::machine::{self, Machine};
use crate::report::{Report, Row};
use crate::rounds::{Round, Team, alternate};
use crate::scale::{Scale, Sizes};
use crate::worker::Worker;
use crate::{chain, fault, memory, parent, snapshot, spawn, threads};

/// What came of one name.
pub(crate) type Outcome = Result<Vec<Row>>;

/// A name of the table, and what measures it.
type Case = (&'static str, fn(&Bench) -> Outcome);

const CASES: &[Case] = &[
    ("fault.traced", fault::traced),
    ("fault.traced_default", fault::traced_default),
    ("fault.native", fault::native),
    ("fault.dense", fault::dense),
    ("fault.sparse", fault::sparse),
    ("fault.threads", threads::measure),
    ("snapshot.first", snapshot::first),
    ("snapshot.again", snapshot::again),
    ("snapshot.scale", snapshot::scale),
    ("spawn.ready", spawn::ready),
    ("spawn.scale", spawn::scale),
    ("spawn.first_touch", spawn::first_touch),
    ("memory.children", memory::children),
    ("parent.tax", parent::tax),
    ("chain", chain::measure),
];

/// All names, in the order in which they are measured.
pub fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|(name, _)| *name)
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which names: all if there are none.
    pub only: Vec<String>,
    /// How many rounds, at least 1; else each name has its own number.
    pub rounds: Option<usize>,
    /// How large.
    pub scale: Scale,
    /// The arguments with which this program calls [`worker`](crate::worker).
    pub worker: Vec<OsString>,
}

/// Something that was not measured.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// The name, with what of it.
    pub what: String,
    /// What this machine lacks.
    pub why: String,
}

/// That a machine lacks what a measurement needs; no failure.
#[derive(Debug)]
struct Lacking(String);

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Lacking {}

/// A bench under way.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    pub(crate) scale: Sizes,
    /// What may be used of the machine's memory.
    room: usize,
    skipped: RefCell<Vec<Skipped>>,
}

/// Measures, and tells on standard error what it is at.
///
/// # Errors
///
/// A name that does not exist, 0 rounds, or whatever went wrong, in one line. What the machine cannot do is no error:
/// the report lists it as skipped.
pub fn run(options: &Options) -> Result<Report> {
    for only in &options.only {
        if !names().any(|name| name == only) {
            let all: Vec<&str> = names().collect();
            bail!("nothing is named {only:?}: there are {}", all.join(", "));
        }
    }
    if options.rounds == Some(0) {
        bail!("nothing can be measured in 0 rounds");
    }
    let bench = Bench {
        options,
        scale: Sizes::of(options.scale),
        room: machine::available_memory()? / 100 * 85,
        skipped: RefCell::default(),
    };
    let chosen = || {
        let wanted =
            |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
        CASES.iter().filter(move |(name, _)| wanted(name))
    };
    let most = chosen().map(|(name, _)| bench.footprint(name)).max();
    bench.warm(most.unwrap_or(0).min(bench.room))?;
    let mut rows = Vec::new();
    for (name, case) in chosen() {
        let start = Instant::now();
        match case(&bench) {
            Ok(measured) => rows.extend(measured),
            Err(error) if error.is::<Lacking>() => bench.skip(name, error.to_string()),
            Err(error) => return Err(error.context(*name)),
        }
        eprintln!("{name}: measured in {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(Report {
        machine: Machine::read(),
        results: rows.into_iter().map(Row::finish).collect(),
        skipped: bench.skipped.into_inner(),
    })
}

impl Bench<'_> {
    /// Lets each team measure in turn: as many rounds as the user says, or else `rounds`.
    pub(crate) fn rounds(&self, teams: &[Team], rounds: usize) -> Result<Vec<Vec<Round>>> {
        let rounds = self.options.rounds.unwrap_or(rounds);
        alternate(&self.options.worker, teams, rounds, self.scale.warm)
    }

    /// That faults can be traced here.
    pub(crate) fn needs_userfaultfd(&self) -> Result<()> {
        if !Probe::get().traced.is_yes() {
            return Err(Lacking("no usable userfaultfd (see `cowspace doctor`)".to_owned()).into());
        }
        Ok(())
    }

    /// cowspace as a program has it that asks for nothing special.
    pub(crate) fn by_default(&self) -> Contender {
        if Probe::get().traced.is_yes() {
            Contender::Traced
        } else {
            Contender::Native
        }
    }

    /// Whether a size is the last of the curve over memory that can be measured here.
    pub(crate) fn is_largest(&self, bytes: usize) -> bool {
        let here = self
            .scale
            .curve
            .iter()
            .filter(|size| 2 * **size <= self.room);
        here.max() == Some(&bytes)
    }

    /// Whether so much memory can be had; if not, `what` is skipped.
    pub(crate) fn fits(&self, what: &str, bytes: usize) -> bool {
        let fits = bytes <= self.room;
        if !fits {
            let why = format!(
                "needs {} of memory",
                bytesize::ByteSize::b(bytes as u64).display().iec()
            );
            self.skip(what, why);
        }
        fits
    }

    /// Tells the user, and the report, what is not measured.
    pub(crate) fn skip(&self, what: &str, why: String) {
        eprintln!("SKIP {what}: {why}");
        self.skipped.borrow_mut().push(Skipped {
            what: what.to_owned(),
            why,
        });
    }

    /// About how much memory a name needs at most, over all its contenders.
    fn footprint(&self, name: &str) -> usize {
        match name {
            "snapshot.scale" | "spawn.scale" => {
                3 * self.scale.curve.last().copied().unwrap_or(self.scale.heap)
            }
            "fault.dense" | "fault.sparse" => 6 * self.scale.dense,
            name if name.starts_with("fault") => 6 * self.scale.fault,
            "chain" => 6 * self.scale.chain_heap,
            "memory.children" => 5 * self.scale.children_heap,
            _ => 5 * self.scale.heap,
        }
    }

    /// Has the machine's memory be there: a page that a virtual machine's host has not given yet costs several times
    /// as much as one that it has.
    fn warm(&self, bytes: usize) -> Result<()> {
        let start = Instant::now();
        let bytes = bytes - bytes % page_size();
        let job = Job::new(Contender::Fork, Task::Warm(bytes));
        drop(Worker::start(&self.options.worker, job)?);
        eprintln!(
            "warmed {} of memory in {:.1} s",
            bytesize::ByteSize::b(bytes as u64).display().iec(),
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }
}
