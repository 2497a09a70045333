//! `snapshot.*`: how long a clone of a live mapping takes, and how long it stops a thread that writes there.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cowspace::{Policy, Vmo};
use host_memory::access::Volatile;
use host_memory::page::page_size;
use serde::{Deserialize, Serialize};

use crate::area::{Area, Mapped, pages, random_pages};
use crate::bench::{Bench, Outcome};
use crate::clock::{ns, us};
use crate::fault::teams;
use crate::job::{Contender, Job, Task as Any};
use crate::report::{Bar, Row};
use crate::rivals::fork;
use crate::rounds::{Figure, Round, median_of};
use crate::worker::Contest;
use crate::writer::Writer;

/// What "flat" means: the largest size may cost so many times what the smallest does.
pub(crate) const FLAT: f64 = 1.5;

/// How often a clone is taken again in one round.
const AGAIN: usize = 5;

/// Why a clone after stores takes the time it takes.
const EACH_PAGE: &str = "for each page written since, the kernel takes 0.85 µs to protect it and 1.5 µs to make and fill a page of a new \
    memory file (docs/kernel.md), and fork() nothing.";

/// Why the largest size may cost more.
const FEW_LEFT: &str = "at the largest size the rival's memory beside it leaves few free pages, and one that the host of a virtual machine has \
    never given costs some 10 µs more. A clone after nothing was written takes a microsecond: there one cache miss more \
    is seen.";

/// A word of each page at which the cloning thread stores; the writer has another.
const OWN: usize = 16;

/// Figures of cowspace, in microseconds: see [`figure`]. Of the rivals one: the call.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    bytes: usize,
    ready: Ready,
    /// Pages written between two clones.
    dirty: usize,
}

/// What is done to the memory before the first clone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Ready {
    /// It is filled.
    Filled,
    /// Huge pages are made of it, while it can still be written.
    Huge,
    /// It is frozen.
    Frozen,
}

/// The places of cowspace's figures.
mod figure {
    /// The writer's longest pause while the first clone is taken.
    pub(super) const PAUSE: usize = 0;
    /// The call that takes the first clone.
    pub(super) const CALL: usize = 1;
    /// The call again, after nothing was written.
    pub(super) const NOTHING: usize = 2;
    /// The call again, after some pages were written.
    pub(super) const DIRTY: usize = 3;
}

/// A contender at `snapshot.*`.
pub(crate) fn contest(contender: Contender, task: Task) -> Result<Box<dyn Contest>> {
    Ok(match (contender, contender.policy()) {
        (_, Some(policy)) => Box::new(Cloning {
            task,
            policy,
            mapped: None,
            round: 0,
        }),
        (Contender::Memcpy, _) => Box::new(Copying {
            from: vec![1; task.bytes],
            to: vec![2; task.bytes],
        }),
        _ => Box::new(Forking {
            _area: Area::anonymous(task.bytes)?,
        }),
    })
}

struct Cloning {
    task: Task,
    policy: Policy,
    mapped: Option<Mapped>,
    round: u64,
}

impl Contest for Cloning {
    fn prepare(&mut self) -> Result<()> {
        self.mapped = None;
        let mapped = Mapped::new(self.task.bytes, self.policy)?;
        match self.task.ready {
            Ready::Filled => {}
            Ready::Huge => mapped
                .memory
                .collapse()
                .context("cannot make huge pages of the memory")?,
            Ready::Frozen => {
                let frozen = mapped.freeze()?;
                ensure!(frozen.huge_bytes > 0, "no huge pages were to be had");
            }
        }
        self.mapped = Some(mapped);
        Ok(())
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        self.round += 1;
        let mapped = self.mapped.as_ref().context("not prepared")?;
        let memory = &mapped.memory;
        let order = random_pages(0..pages(memory), usize::MAX, self.round);
        let writer = Writer::start(memory, order, true);
        let (pause, first) = writer.longest_pause(|| timed(mapped));
        drop(writer);
        let (call, mut held) = first?;
        let mut nothing = Vec::new();
        let mut dirty = Vec::new();
        for again in 0..AGAIN {
            // What the writer, or the last time, has written is no business of the next clone.
            held = replace(held, timed(mapped)?.1);
            let (time, clone) = timed(mapped)?;
            nothing.push(time);
            held = replace(held, clone);
            write(memory, self.task.dirty, self.round + again as u64);
            let (time, clone) = timed(mapped)?;
            dirty.push(time);
            held = replace(held, clone);
        }
        drop(held);
        let mut figures = vec![0.0; 4];
        figures[figure::PAUSE] = us(pause);
        figures[figure::CALL] = us(call);
        figures[figure::NOTHING] = us(median_of(nothing));
        figures[figure::DIRTY] = us(median_of(dirty));
        Ok(figures)
    }
}

/// A clone, and how long it took to make, in nanoseconds.
fn timed(mapped: &Mapped) -> Result<(f64, Vmo)> {
    let start = Instant::now();
    let clone = mapped.snapshot()?;
    Ok((ns(start.elapsed()), clone))
}

/// The clone before is given up only now: children live for a while.
fn replace(old: Vmo, new: Vmo) -> Vmo {
    drop(old);
    new
}

fn write(memory: &Volatile, count: usize, seed: u64) {
    for page in random_pages(0..pages(memory), count, seed) {
        memory.store_u64(page * page_size() + OWN, seed);
    }
}

struct Forking {
    _area: Area,
}

impl Contest for Forking {
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        Ok(vec![us(fork::call()?)])
    }
}

struct Copying {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Contest for Copying {
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        let start = Instant::now();
        self.to.copy_from_slice(std::hint::black_box(&self.from));
        std::hint::black_box(&mut self.to);
        Ok(vec![us(ns(start.elapsed()))])
    }
}

fn task(bench: &Bench, bytes: usize, ready: Ready) -> Any {
    Any::Snapshot(Task {
        bytes,
        ready,
        dirty: bench.scale.dirty,
    })
}

/// `snapshot.first`
pub(crate) fn first(bench: &Bench) -> Outcome {
    let bytes = bench.scale.heap;
    let cowspace = bench.by_default();
    let small = task(bench, bytes, Ready::Filled);
    let contenders = [cowspace, Contender::Fork, Contender::Memcpy];
    let measured = bench.rounds(&teams(small, &contenders), 5)?;
    let row = |place, variant: &str, cowspace: &[Round], fork: &[Round]| {
        Row::new("snapshot.first", "us", bytes)
            .variant(variant)
            .cowspace(Figure::at(cowspace, place))
            .rival("fork", Figure::at(fork, 0))
    };
    let memcpy = Figure::at(&measured[2], 0);
    let mut rows = vec![
        row(figure::PAUSE, "writer's pause", &measured[0], &measured[1])
            .rival("memcpy", memcpy)
            .bar(Bar::at_most("fork", 1.2)),
        row(figure::CALL, "call", &measured[0], &measured[1]).rival("memcpy", memcpy),
    ];
    let first = |ready| vec![Job::new(cowspace, task(bench, bytes, ready))];
    let huge = [
        first(Ready::Huge),
        first(Ready::Frozen),
        vec![Job::new(Contender::Fork, small)],
    ];
    match bench.rounds(&huge, 5) {
        Ok(measured) => {
            for (cowspace, when) in measured.iter().zip(["huge pages", "after freeze"]) {
                let row = |place, what: &str| {
                    row(place, &format!("{what}, {when}"), cowspace, &measured[2])
                };
                let bar = Bar::at_most("fork", 0.05);
                rows.push(row(figure::PAUSE, "writer's pause").bar(bar));
                rows.push(row(figure::CALL, "call"));
            }
        }
        Err(error) => bench.skip("snapshot.first with huge pages", format!("{error:#}")),
    }
    Ok(rows)
}

/// `snapshot.again`
pub(crate) fn again(bench: &Bench) -> Outcome {
    let bytes = bench.scale.heap;
    let contenders = [bench.by_default(), Contender::Fork];
    let measured = bench.rounds(&teams(task(bench, bytes, Ready::Filled), &contenders), 5)?;
    let row = |place| {
        Row::new("snapshot.again", "us", bytes)
            .cowspace(Figure::at(&measured[0], place))
            .rival("fork", Figure::at(&measured[1], 0))
    };
    Ok(vec![
        row(figure::NOTHING)
            .variant("nothing written")
            .bar(Bar::at_most("fork", 0.001)),
        row(figure::DIRTY)
            .variant(format!("{} pages written", bench.scale.dirty))
            .bar(Bar::at_most("fork", 0.10))
            .floor(EACH_PAGE),
    ])
}

/// `snapshot.scale`: all of it over sizes.
pub(crate) fn scale(bench: &Bench) -> Outcome {
    let dirty = format!("again, {} pages written", bench.scale.dirty);
    let curves = [
        (figure::PAUSE, "first, writer's pause"),
        (figure::NOTHING, "again, nothing written"),
        (figure::DIRTY, &dirty),
    ];
    let contenders = [bench.by_default(), Contender::Fork];
    let mut rows: Vec<Row> = Vec::new();
    let mut smallest = Vec::new();
    for &bytes in &bench.scale.curve {
        if !bench.fits(&format!("snapshot.scale at {bytes} bytes"), 2 * bytes) {
            continue;
        }
        let measured = bench.rounds(&teams(task(bench, bytes, Ready::Filled), &contenders), 3)?;
        let at = |place| Figure::at(&measured[0], place);
        if smallest.is_empty() {
            smallest = curves.iter().map(|(place, _)| at(*place)).collect();
        }
        for ((place, variant), smallest) in curves.iter().zip(&smallest) {
            let mut row = Row::new("snapshot.scale", "us", bytes)
                .variant(*variant)
                .cowspace(at(*place))
                .rival("fork", Figure::at(&measured[1], 0));
            if *place != figure::PAUSE && bench.is_largest(bytes) {
                row = row
                    .rival("smallest_size", *smallest)
                    .bar(Bar::at_most("smallest_size", FLAT))
                    .floor(FEW_LEFT);
            }
            rows.push(row);
        }
    }
    Ok(rows)
}
