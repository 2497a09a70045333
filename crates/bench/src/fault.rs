//! `fault.*`: what a store costs to a page that is shared with a snapshot.
//!
//! All contenders do the same: all of the memory is resident, a snapshot of it is held (a clone, or a forked child
//! that waits), and pages are stored to for the first time since. cowspace and the bare loop start with the pages in
//! the file and none in the page table, as a first snapshot leaves them.

use std::time::Instant;

use anyhow::{Context, Result};
use cowspace::{Policy, Vmo};
use host_memory::access::Volatile;
use host_memory::page::page_size;
use procfs::process::Process;
use serde::{Deserialize, Serialize};

use crate::area::{Mapped, pages, random_pages};
use crate::bench::{Bench, Outcome};
use crate::clock::{cpus, ns, pin};
use crate::job::{Contender, Job, Placement, Task as Any};
use crate::report::{Bar, Row};
use crate::rivals::bare::{Bare, Source};
use crate::rivals::fork::{Forked, ForkedFile};
use crate::rounds::{Figure, Round, Team, median_of};
use crate::worker::Contest;

/// Why a traced fault costs more than that of the bare loop.
pub(crate) const READ: &str = "a first clone leaves the pages in no page table, so that a page has to be read from the file: 0.9 µs, see \
    bare_uffd_read, which does the same. Copying from a mapping of the file costs more, for that does not show the page \
    either (docs/performance.md, \"Floors\").";

/// Figures of [`Pattern::Single`]: the median, in nanoseconds. Of the others: nanoseconds a page, and bytes of
/// private memory that came into being.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) bytes: usize,
    pub(crate) pattern: Pattern,
}

/// Which pages are stored to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Pattern {
    /// So many at random, each store timed by itself.
    Single(usize),
    /// All bytes of all pages in order.
    Dense,
    /// One in so many at random.
    Sparse(usize),
}

/// Memory that can be brought to share every page with a snapshot.
pub(crate) trait Shared {
    /// Has it share every page again.
    fn share(&mut self) -> Result<()>;
    fn memory(&self) -> &Volatile;
}

/// cowspace's.
struct Cloned {
    policy: Policy,
    mapped: Mapped,
    _clone: Vmo,
}

impl Cloned {
    fn new(bytes: usize, policy: Policy) -> Result<Cloned> {
        let mapped = Mapped::new(bytes, policy)?;
        let clone = mapped.snapshot()?;
        Ok(Cloned {
            policy,
            mapped,
            _clone: clone,
        })
    }
}

impl Shared for Cloned {
    fn share(&mut self) -> Result<()> {
        *self = Cloned::new(self.memory().len(), self.policy)?;
        Ok(())
    }

    fn memory(&self) -> &Volatile {
        &self.mapped.memory
    }
}

/// The memory of a contender at this kind of task.
pub(crate) fn shared(job: Job, bytes: usize) -> Result<Box<dyn Shared>> {
    Ok(match job.contender {
        Contender::Native => Box::new(Cloned::new(bytes, Policy::Native)?),
        Contender::Traced => Box::new(Cloned::new(bytes, Policy::Traced)?),
        Contender::Fork => Box::new(Forked::new(bytes)?),
        Contender::ForkFile => Box::new(ForkedFile::new(bytes)?),
        Contender::BareUffd => Box::new(Bare::new(bytes, 1, None, Source::Mapping)?),
        Contender::BareUffdRead => Box::new(Bare::new(bytes, 1, None, Source::File)?),
        Contender::BareUffdPerCpu => {
            let cpus = cpus();
            Box::new(Bare::new(bytes, cpus.len(), Some(&cpus), Source::Mapping)?)
        }
        other => anyhow::bail!("{} has no faults", other.name()),
    })
}

struct Faults {
    shared: Box<dyn Shared>,
    pattern: Pattern,
    /// Whether the storing thread begins each round on another CPU.
    wanders: bool,
    round: usize,
}

/// A contender at `fault.*`.
pub(crate) fn contest(job: Job, task: Task) -> Result<Box<dyn Contest>> {
    Ok(Box::new(Faults {
        shared: shared(job, task.bytes)?,
        pattern: task.pattern,
        wanders: job.placement == Placement::Anywhere,
        round: 0,
    }))
}

impl Contest for Faults {
    fn prepare(&mut self) -> Result<()> {
        self.round += 1;
        self.shared.share()?;
        if self.wanders {
            let all = cpus();
            pin(&[all[self.round % all.len()]])?;
            pin(&all)?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        let memory = self.shared.memory();
        match self.pattern {
            Pattern::Single(faults) => {
                let order = random_pages(0..pages(memory), faults, self.round as u64);
                let times = order.iter().map(|page| {
                    let start = Instant::now();
                    memory.store_u64(page * page_size(), 0);
                    ns(start.elapsed())
                });
                Ok(vec![median_of(times.collect())])
            }
            Pattern::Dense => {
                let page = vec![0xa5; page_size()];
                each(memory, 0..pages(memory), |at| memory.write(at, &page))
            }
            Pattern::Sparse(one_in) => {
                let count = pages(memory) / one_in;
                let order = random_pages(0..pages(memory), count, self.round as u64);
                each(memory, order.into_iter(), |at| memory.store_u64(at, 0))
            }
        }
    }
}

/// Stores to pages: nanoseconds for each, and bytes of private memory that came into being.
fn each(
    memory: &Volatile,
    pages: impl ExactSizeIterator<Item = usize>,
    store: impl Fn(usize),
) -> Result<Vec<f64>> {
    let count = pages.len() as f64;
    let before = private_bytes(memory)?;
    let start = Instant::now();
    for page in pages {
        store(page * page_size());
    }
    let time = ns(start.elapsed());
    let after = private_bytes(memory)?;
    Ok(vec![time / count, after - before])
}

/// Anonymous memory in mappings that lie in `memory`, by the kernel's account.
fn private_bytes(memory: &Volatile) -> Result<f64> {
    let maps = Process::myself()
        .and_then(|myself| myself.smaps())
        .context("cannot read how much memory there is")?;
    let end = memory.addr() + memory.len();
    let inside = maps.into_iter().filter(|map| {
        let (start, stop) = map.address;
        start >= memory.addr() as u64 && stop <= end as u64
    });
    Ok(inside
        .filter_map(|map| map.extension.map.get("Anonymous").copied())
        .sum::<u64>() as f64)
}

/// One team of one job for each contender.
pub(crate) fn teams(task: Any, contenders: &[Contender]) -> Vec<Team> {
    let alone = |contender: &Contender| vec![Job::new(*contender, task)];
    contenders.iter().map(alone).collect()
}

/// The bare loop in each placement that this machine has.
pub(crate) fn placed(task: Any, contender: Contender) -> Vec<Team> {
    let mut teams = vec![vec![Job::new(contender, task).at(Placement::SameCpu(0))]];
    if cpus().len() > 1 {
        teams.push(vec![Job::new(contender, task).at(Placement::OtherCpu)]);
        teams.push(vec![Job::new(contender, task)]);
    }
    teams
}

/// `fault.traced`: handler and faulting thread pinned, cowspace's and the bare loop's alike.
pub(crate) fn traced(bench: &Bench) -> Outcome {
    bench.needs_userfaultfd()?;
    let task = single(bench);
    let mut rows = Vec::new();
    for (placement, variant) in [
        (Placement::SameCpu(0), "same CPU"),
        (Placement::OtherCpu, "handler on another CPU"),
    ] {
        if placement == Placement::OtherCpu && cpus().len() < 2 {
            continue;
        }
        let all = [
            Contender::Traced,
            Contender::BareUffd,
            Contender::BareUffdRead,
        ];
        let jobs = all.map(|contender| vec![Job::new(contender, task).at(placement)]);
        let measured = bench.rounds(&jobs, 11)?;
        rows.push(
            row(bench, "fault.traced", &measured)
                .variant(variant)
                .rival("bare_uffd", Figure::at(&measured[1], 0))
                .rival("bare_uffd_read", Figure::at(&measured[2], 0))
                .bar(Bar::at_most("bare_uffd", 1.10))
                .floor(READ),
        );
    }
    Ok(rows)
}

/// `fault.traced_default`: nobody pins anything of cowspace's, and the storing thread begins each round on another CPU.
pub(crate) fn traced_default(bench: &Bench) -> Outcome {
    bench.needs_userfaultfd()?;
    let task = single(bench);
    let mut jobs = vec![vec![Job::new(Contender::Traced, task)]];
    jobs.extend(placed(task, Contender::BareUffd));
    let measured = bench.rounds(&jobs, 11)?;
    let best = best(&measured[1..], |figure| figure.median);
    Ok(vec![
        row(bench, "fault.traced_default", &measured)
            .rival("bare_uffd", best)
            .bar(Bar::at_most("bare_uffd", 1.25))
            .floor(READ),
    ])
}

/// `fault.native`
pub(crate) fn native(bench: &Bench) -> Outcome {
    let task = single(bench);
    let contenders = [Contender::Native, Contender::Fork, Contender::ForkFile];
    let measured = bench.rounds(&teams(task, &contenders), 11)?;
    Ok(vec![
        row(bench, "fault.native", &measured)
            .rival("fork", Figure::at(&measured[1], 0))
            .rival("fork_file", Figure::at(&measured[2], 0))
            .bar(Bar::at_most("fork", 1.05)),
    ])
}

/// `fault.dense`
pub(crate) fn dense(bench: &Bench) -> Outcome {
    bench.needs_userfaultfd()?;
    let task = Any::Fault(Task {
        bytes: bench.scale.dense,
        pattern: Pattern::Dense,
    });
    let mut jobs = teams(
        task,
        &[Contender::Traced, Contender::Fork, Contender::ForkFile],
    );
    jobs.push(vec![
        Job::new(Contender::BareUffd, task).at(Placement::SameCpu(0)),
    ]);
    let measured = bench.rounds(&jobs, 5)?;
    Ok(vec![
        Row::new("fault.dense", "ns", bench.scale.dense)
            .cowspace(Figure::at(&measured[0], 0))
            .rival("fork", Figure::at(&measured[1], 0))
            .rival("fork_file", Figure::at(&measured[2], 0))
            .rival("bare_uffd", Figure::at(&measured[3], 0))
            .bar(Bar::at_most("fork", 0.70)),
    ])
}

/// `fault.sparse`: time, and memory beside that of the pages written.
pub(crate) fn sparse(bench: &Bench) -> Outcome {
    bench.needs_userfaultfd()?;
    let one_in = 64;
    let bytes = bench.scale.dense;
    let task = Any::Fault(Task {
        bytes,
        pattern: Pattern::Sparse(one_in),
    });
    let mut jobs = teams(task, &[Contender::Traced, Contender::Fork]);
    jobs.extend(placed(task, Contender::BareUffd));
    let measured = bench.rounds(&jobs, 7)?;
    let best = best(&measured[2..], |figure| figure.median);
    let written = (bytes / page_size() / one_in * page_size()) as f64;
    Ok(vec![
        Row::new("fault.sparse", "ns", bytes)
            .variant("time a page")
            .cowspace(Figure::at(&measured[0], 0))
            .rival("bare_uffd", best)
            .rival("fork", Figure::at(&measured[1], 0))
            .bar(Bar::at_most("bare_uffd", 1.15))
            .floor(READ),
        Row::new("fault.sparse", "bytes", bytes)
            .variant("memory")
            .cowspace(Figure::at(&measured[0], 1))
            .rival("pages_written", Figure::exactly(written))
            .bar(Bar::at_most("pages_written", 1.1)),
    ])
}

fn single(bench: &Bench) -> Any {
    Any::Fault(Task {
        bytes: bench.scale.fault,
        pattern: Pattern::Single(bench.scale.faults),
    })
}

fn row(bench: &Bench, name: &'static str, measured: &[Vec<Round>]) -> Row {
    Row::new(name, "ns", bench.scale.fault).cowspace(Figure::at(&measured[0], 0))
}

/// The team with the lowest cost.
fn best(teams: &[Vec<Round>], cost: impl Fn(&Figure) -> f64) -> Figure {
    let figures = teams.iter().map(|team| Figure::at(team, 0));
    figures
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
        .unwrap_or_else(|| Figure::exactly(0.0))
}
