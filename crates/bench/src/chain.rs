//! `chain`: whether faults and clones cost the same after a thousand rounds of dirty, clone, exit.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cowspace::{Policy, Vmo};
use host_memory::page::page_size;
use serde::{Deserialize, Serialize};

use crate::area::{Mapped, pages, random_pages};
use crate::bench::{Bench, Outcome};
use crate::clock::ns;
use crate::job::{Contender, Job, Task as Any};
use crate::report::{Bar, Row};
use crate::rounds::{Figure, median_of};
use crate::worker::Contest;

/// Why later rounds may cost more.
const SCATTERED: &str = "after rounds of scattered stores the pages lie in several layers, where all lay in one at first. There are never more \
    layers than are worth copying together, so this does not go on.";

/// Pages written in each round.
const DIRTY: usize = 64;

/// Who goes on after a clone was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Heir {
    /// The one that was cloned; its clone exits.
    Parent,
    /// The clone; the one that was cloned exits.
    Clone,
}

/// Figures, in nanoseconds: see [`figure`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    bytes: usize,
    rounds: usize,
    heir: Heir,
}

/// The places of the figures. Begin and end are the first and the last ten rounds (of fewer than a hundred a tenth):
/// one would be mostly chance.
mod figure {
    pub(super) const FAULT_BEGIN: usize = 0;
    pub(super) const FAULT_END: usize = 1;
    pub(super) const CLONE_BEGIN: usize = 2;
    pub(super) const CLONE_END: usize = 3;
}

struct Chain {
    task: Task,
    policy: Policy,
    mapped: Option<Mapped>,
    /// What was cloned last.
    held: Option<Vmo>,
}

/// cowspace at `chain`: its only rival is itself.
pub(crate) fn contest(contender: Contender, task: Task) -> Result<Box<dyn Contest>> {
    Ok(Box::new(Chain {
        task,
        policy: contender
            .policy()
            .context("only cowspace can be compared with itself")?,
        mapped: None,
        held: None,
    }))
}

impl Contest for Chain {
    fn prepare(&mut self) -> Result<()> {
        (self.mapped, self.held) = (None, None);
        let mapped = Mapped::new(self.task.bytes, self.policy)?;
        // The first clone moves all pages, and is no round.
        self.held = Some(mapped.snapshot()?);
        self.mapped = Some(mapped);
        Ok(())
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        let mut faults = Vec::new();
        let mut clones = Vec::new();
        for round in 0..self.task.rounds {
            let mapped = self.mapped.take().context("not prepared")?;
            faults.push(dirty(&mapped, round));
            let start = Instant::now();
            let clone = mapped.snapshot()?;
            clones.push(ns(start.elapsed()));
            match self.task.heir {
                Heir::Parent => {
                    self.held = Some(clone);
                    self.mapped = Some(mapped);
                }
                Heir::Clone => {
                    let heir = Mapped::of(&clone, self.task.bytes, self.policy)?;
                    drop(mapped);
                    self.held = None;
                    // No handle to what is mapped, as in a zygote.
                    drop(clone);
                    // Held until the next round, so that faults are copy-on-write ones.
                    self.held = Some(heir.snapshot()?);
                    self.mapped = Some(heir);
                }
            }
        }
        let few = (self.task.rounds / 10).clamp(1, 10);
        let begin = |all: &[f64]| median_of(all[..few].to_vec());
        let end = |all: &[f64]| median_of(all[all.len() - few..].to_vec());
        ensure!(faults.len() >= few, "a chain of no rounds");
        let mut figures = vec![0.0; 4];
        figures[figure::FAULT_BEGIN] = begin(&faults);
        figures[figure::FAULT_END] = end(&faults);
        figures[figure::CLONE_BEGIN] = begin(&clones);
        figures[figure::CLONE_END] = end(&clones);
        Ok(figures)
    }
}

/// Stores to some pages; the median time of a store.
fn dirty(mapped: &Mapped, round: usize) -> f64 {
    let memory = &mapped.memory;
    let order = random_pages(0..pages(memory), DIRTY, round as u64);
    let times = order.iter().map(|page| {
        let start = Instant::now();
        memory.store_u64(page * page_size(), round as u64);
        ns(start.elapsed())
    });
    median_of(times.collect())
}

/// `chain`
pub(crate) fn measure(bench: &Bench) -> Outcome {
    let bytes = bench.scale.chain_heap;
    let contender = bench.by_default();
    let job = |heir| {
        let task = Any::Chain(Task {
            bytes,
            rounds: bench.scale.chain,
            heir,
        });
        vec![Job::new(contender, task)]
    };
    let measured = bench.rounds(&[job(Heir::Parent), job(Heir::Clone)], 2)?;
    let mut rows = Vec::new();
    for (rounds, heir) in measured.iter().zip(["the parent", "the clone"]) {
        for (begin, end, what) in [
            (figure::FAULT_BEGIN, figure::FAULT_END, "fault"),
            (figure::CLONE_BEGIN, figure::CLONE_END, "clone"),
        ] {
            rows.push(
                Row::new("chain", "ns", bytes)
                    .variant(format!("{what}, {heir} goes on"))
                    .cowspace(Figure::at(rounds, end))
                    .rival("round_1", Figure::at(rounds, begin))
                    .bar(Bar::at_most("round_1", 1.1))
                    .floor(SCATTERED),
            );
        }
    }
    Ok(rows)
}
