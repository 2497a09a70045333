//! `spawn.*`: from the request for a child to its first instruction, or to the end of its work.

use anyhow::{Result, bail};
use cowspace::Policy;
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, Outcome};
use crate::children::{Parent, Work};
use crate::clock::us;
use crate::fault::teams;
use crate::job::{Contender, Job, Task as Any};
use crate::report::{Bar, Row};
use crate::rivals::blank::Waiting;
use crate::rivals::cold::ColdStarter;
use crate::rivals::forking::Forking;
use crate::rounds::{Figure, Round, Team};
use crate::snapshot::FLAT;
use crate::warmed::Warmed;
use crate::worker::Contest;

/// Spare children that wait, where some do.
const SPARES: usize = 4;

/// What "linear" means: as many mappings may cost so many times what they would if each further one cost as much as
/// one of the first ones.
const LINEAR: f64 = 1.5;

/// Why more memory may cost more though nothing is done for each page.
const CACHES: &str = "nothing grows with the memory but what the rounds of fork(), which copies page tables, leave of the CPU's caches: \
    fork_file, which does the same for any size, rises as much.";

/// Why spare children are not there sooner.
const SPARES_FLOOR: &str = "bare_blank, which does nothing but wake up and map, is the floor; above it lie the clone of each VMO, the image and its descriptors by one message, the checks of \
    what came, and the child's engine: some 40 system calls in two processes, all with caches as others left them.";

/// Figures, in microseconds from the request: the child's first instruction, and the end of its work.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Of each mapping.
    bytes: usize,
    mappings: usize,
    spares: usize,
    /// Whether cowspace's zygote freezes its memory, as one should that is warm.
    frozen: bool,
    work: Work,
}

/// The places of the figures.
mod figure {
    pub(super) const FIRST: usize = 0;
    pub(super) const DONE: usize = 1;
}

/// A warmed process of a contender.
pub(crate) fn parent(
    contender: Contender,
    lengths: &[usize],
    spares: usize,
    frozen: bool,
) -> Result<Box<dyn Parent>> {
    let warmed = |policy| Warmed::new(lengths, spares, policy, frozen).map(Box::new);
    Ok(match contender {
        Contender::Native => warmed(Policy::Native)?,
        Contender::Traced => warmed(Policy::Traced)?,
        Contender::Fork => Box::new(Forking::anonymous(lengths)?),
        Contender::ForkFile => Box::new(Forking::of_files(lengths)?),
        Contender::BareBlank => Box::new(Waiting::new(lengths)?),
        Contender::PosixSpawn => Box::new(ColdStarter::new(lengths)),
        other => bail!("{} has no children", other.name()),
    })
}

struct Spawning {
    parent: Box<dyn Parent>,
    lengths: Vec<usize>,
    work: Work,
}

/// A contender at `spawn.*`.
pub(crate) fn contest(contender: Contender, task: Task) -> Result<Box<dyn Contest>> {
    let lengths = vec![task.bytes; task.mappings];
    Ok(Box::new(Spawning {
        parent: parent(contender, &lengths, task.spares, task.frozen)?,
        lengths,
        work: task.work,
    }))
}

impl Contest for Spawning {
    fn prepare(&mut self) -> Result<()> {
        self.parent.settle()
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        let mut child = self.parent.spawn(self.work)?;
        let life = child.life(self.work, &self.lengths)?;
        let asked = child.asked_ns;
        child.end()?;
        let mut figures = vec![0.0; 2];
        figures[figure::FIRST] = us(life.first_ns.saturating_sub(asked) as f64);
        figures[figure::DONE] = us(life.done_ns.saturating_sub(asked) as f64);
        Ok(figures)
    }
}

fn task(bytes: usize, mappings: usize, work: Work) -> Task {
    Task {
        bytes,
        mappings,
        spares: 0,
        frozen: false,
        work,
    }
}

/// `spawn.ready`
pub(crate) fn ready(bench: &Bench) -> Outcome {
    let bytes = bench.scale.heap;
    let cowspace = bench.by_default();
    let plain = task(bytes, 1, Work::Touch);
    // What a user can ask for besides: freezing, and spare children.
    let variants = [(false, 0), (false, SPARES), (true, 0), (true, SPARES)];
    let own = variants.map(|(frozen, spares)| Task {
        frozen,
        spares,
        ..plain
    });
    let mut jobs: Vec<Team> = own
        .iter()
        .map(|task| vec![Job::new(cowspace, Any::Spawn(*task))])
        .collect();
    jobs.extend(teams(
        Any::Spawn(plain),
        &[Contender::Fork, Contender::ForkFile, Contender::BareBlank],
    ));
    let measured = bench.rounds(&jobs, 21)?;
    // It takes as long as all the others together, and does not depend on what came before.
    let cold = bench.rounds(&teams(Any::Spawn(plain), &[Contender::PosixSpawn]), 3)?;
    let row = |place: usize, variant: &str| {
        Row::new("spawn.ready", "us", bytes)
            .variant(variant)
            .cowspace(Figure::at(&measured[place], figure::FIRST))
            .rival("fork", Figure::at(&measured[4], figure::FIRST))
            .rival("fork_file", Figure::at(&measured[5], figure::FIRST))
            .rival("posix_spawn", Figure::at(&cold[0], figure::FIRST))
    };
    Ok(vec![
        row(0, "default").bar(Bar::at_most("fork", 0.03)),
        row(1, "spare children waiting")
            .rival("bare_blank", Figure::at(&measured[6], figure::FIRST))
            .bar(Bar::at_most("fork", 0.015))
            .bar(Bar::at_most("fork_file", 1.5))
            .floor(SPARES_FLOOR),
        row(2, "after freeze"),
        row(3, "after freeze, spare children waiting")
            .rival("bare_blank", Figure::at(&measured[6], figure::FIRST)),
    ])
}

/// `spawn.first_touch`
pub(crate) fn first_touch(bench: &Bench) -> Outcome {
    let bytes = bench.scale.heap;
    let cowspace = bench.by_default();
    let warmed = task(bytes, 1, Work::ReadAll);
    let frozen = Task {
        frozen: true,
        ..warmed
    };
    let rivals = [cowspace, Contender::Fork, Contender::ForkFile];
    let mut jobs = teams(Any::Spawn(warmed), &rivals);
    jobs.push(vec![Job::new(cowspace, Any::Spawn(frozen))]);
    let measured = bench.rounds(&jobs, 5)?;
    let row = |place: usize, variant: &str| {
        Row::new("spawn.first_touch", "us", bytes)
            .variant(variant)
            .cowspace(Figure::at(&measured[place], figure::DONE))
            .rival("fork", Figure::at(&measured[1], figure::DONE))
            .rival("fork_file", Figure::at(&measured[2], figure::DONE))
    };
    Ok(vec![
        row(0, "as warmed"),
        row(3, "after freeze").bar(Bar::at_most("fork", 1.0)),
    ])
}

/// `spawn.scale`: over bytes, and over mappings.
pub(crate) fn scale(bench: &Bench) -> Outcome {
    let mut rows = over_bytes(bench)?;
    rows.extend(over_mappings(bench)?);
    Ok(rows)
}

fn over_bytes(bench: &Bench) -> Outcome {
    let mut rows: Vec<Row> = Vec::new();
    let mut smallest = None;
    for &bytes in &bench.scale.curve {
        if !bench.fits(&format!("spawn.scale at {bytes} bytes"), 2 * bytes) {
            continue;
        }
        let mut contenders = vec![bench.by_default(), Contender::Fork];
        if bench.fits(
            &format!("spawn.scale at {bytes} bytes: fork_file"),
            3 * bytes,
        ) {
            contenders.push(Contender::ForkFile);
        }
        let task = Any::Spawn(task(bytes, 1, Work::Touch));
        let measured = bench.rounds(&teams(task, &contenders), 7)?;
        let mut row = row(bytes, &contenders, &measured);
        let own = Figure::at(&measured[0], figure::FIRST);
        let smallest = *smallest.get_or_insert(own);
        if bench.is_largest(bytes) {
            row = row
                .rival("smallest_size", smallest)
                .bar(Bar::at_most("smallest_size", FLAT))
                .floor(CACHES);
        }
        rows.push(row);
    }
    Ok(rows)
}

fn over_mappings(bench: &Bench) -> Outcome {
    let contenders = [bench.by_default(), Contender::Fork, Contender::ForkFile];
    let mut rows = Vec::new();
    let mut own: Vec<(f64, f64)> = Vec::new();
    for &mappings in bench.scale.mappings {
        let task = Any::Spawn(task(bench.scale.mapping, mappings, Work::Touch));
        let measured = bench.rounds(&teams(task, &contenders), 7)?;
        let mut row = row(mappings, &contenders, &measured).variant("mappings");
        own.push((
            mappings as f64,
            Figure::at(&measured[0], figure::FIRST).median,
        ));
        if bench.scale.mappings.last() == Some(&mappings) {
            row = row
                .rival("straight_line", Figure::exactly(straight_line(&own)))
                .bar(Bar::at_most("straight_line", LINEAR));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Where a straight line through the first point and the last but one has the last one. It does not fall: what few
/// mappings cost is mostly chance.
fn straight_line(points: &[(f64, f64)]) -> f64 {
    match points {
        [(x0, y0), .., (x1, y1), (x2, _)] => y0 + (y1 - y0).max(0.0) / (x1 - x0) * (x2 - x0),
        _ => points.last().map_or(0.0, |(_, y)| *y),
    }
}

fn row(size: usize, contenders: &[Contender], measured: &[Vec<Round>]) -> Row {
    let own = Row::new("spawn.scale", "us", size).cowspace(Figure::at(&measured[0], figure::FIRST));
    let rivals = contenders.iter().zip(measured).skip(1);
    rivals.fold(own, |row, (rival, rounds)| {
        row.rival(rival.name(), Figure::at(rounds, figure::FIRST))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_is_drawn_on() {
        let points = [(1.0, 10.0), (10.0, 19.0), (100.0, 109.0), (1000.0, 0.0)];
        assert_eq!(straight_line(&points), 1009.0);
        let falling = [(1.0, 10.0), (10.0, 5.0), (100.0, 0.0)];
        assert_eq!(straight_line(&falling), 10.0);
    }
}
