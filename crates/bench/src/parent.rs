//! `parent.tax`: what a running writer loses while clones of its memory are taken ten times a second.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cowspace::{Policy, Vmo};
use host_memory::access::Volatile;
use host_memory::process::StillCopy;
use serde::{Deserialize, Serialize};

use crate::area::{Area, Mapped, pages, random_pages};
use crate::bench::{Bench, Outcome};
use crate::job::{Contender, Task as Any};
use crate::report::{Bar, Row};
use crate::rounds::Figure;
use crate::worker::Contest;
use crate::writer::Writer;

/// Between two clones.
const TICK: Duration = Duration::from_millis(100);

/// The writer's pages are one in so many, at random: the rest of the memory is only there, as in a warmed process.
const WRITTEN: usize = 64;

/// Why tracing may cost a writer more than fork().
const TRACED: &str = "each first store after a clone is a fault that a thread answers, some 10 µs against the kernel's 2.5: \
    4,096 of them ten times a second. That is what tracing is; a native mapping has none.";

/// The figure: the writer's stores a second.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    bytes: usize,
    watch_ms: u64,
}

/// Somebody who can take one snapshot of its memory after the other.
trait Clones {
    fn memory(&self) -> &Volatile;
    /// Takes the next, and then gives up the one before.
    fn next(&mut self) -> Result<()>;
}

struct ByCowspace {
    mapped: Mapped,
    clone: Option<Vmo>,
}

impl Clones for ByCowspace {
    fn memory(&self) -> &Volatile {
        &self.mapped.memory
    }

    fn next(&mut self) -> Result<()> {
        let clone = self.mapped.snapshot()?;
        self.clone = Some(clone);
        Ok(())
    }
}

struct ByFork {
    area: Area,
    child: Option<StillCopy>,
}

impl Clones for ByFork {
    fn memory(&self) -> &Volatile {
        &self.area.memory
    }

    fn next(&mut self) -> Result<()> {
        let child = StillCopy::make()?;
        self.child = Some(child);
        Ok(())
    }
}

struct Tax {
    clones: Box<dyn Clones>,
    watch: Duration,
}

/// A contender at `parent.tax`.
pub(crate) fn contest(contender: Contender, task: Task) -> Result<Box<dyn Contest>> {
    let mapped = |policy: Policy| -> Result<Box<dyn Clones>> {
        Ok(Box::new(ByCowspace {
            mapped: Mapped::new(task.bytes, policy)?,
            clone: None,
        }))
    };
    Ok(Box::new(Tax {
        clones: match (contender, contender.policy()) {
            (_, Some(policy)) => mapped(policy)?,
            (Contender::Fork, _) => Box::new(ByFork {
                area: Area::anonymous(task.bytes)?,
                child: None,
            }),
            (other, _) => bail!("{} takes no snapshots", other.name()),
        },
        watch: Duration::from_millis(task.watch_ms),
    }))
}

impl Contest for Tax {
    fn prepare(&mut self) -> Result<()> {
        self.clones.next()
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        let memory = self.clones.memory();
        let written = pages(memory) / WRITTEN;
        let order = random_pages(0..pages(memory), written.max(1), 1);
        let writer = Writer::start(memory, order, false);
        let (start, before) = (Instant::now(), writer.stores());
        let mut next = start;
        while start.elapsed() < self.watch {
            self.clones.next()?;
            next += TICK;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let stores = writer.stores() - before;
        Ok(vec![stores as f64 / start.elapsed().as_secs_f64()])
    }
}

/// `parent.tax`
pub(crate) fn tax(bench: &Bench) -> Outcome {
    let bytes = bench.scale.heap;
    let task = Any::Parent(Task {
        bytes,
        watch_ms: bench.scale.watch_ms,
    });
    let mut contenders = vec![Contender::Fork, Contender::Native];
    if bench.by_default() == Contender::Traced {
        contenders.push(Contender::Traced);
    }
    let measured = bench.rounds(&crate::fault::teams(task, &contenders), 3)?;
    let policies = contenders.iter().zip(&measured).skip(1);
    Ok(policies
        .map(|(contender, rounds)| {
            Row::new("parent.tax", "ops/s", bytes)
                .variant(match contender {
                    Contender::Traced => "traced",
                    _ => "native",
                })
                .cowspace(Figure::at(rounds, 0))
                .rival("fork", Figure::at(&measured[0], 0))
                .bar(Bar::at_least("fork", 1.0))
                .floor(TRACED)
        })
        .collect())
}
