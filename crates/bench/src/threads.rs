//! `fault.threads`: traced faults a second, of several threads and of several processes.

use std::ops::Range;
use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result};
use host_memory::access::Volatile;
use host_memory::page::page_size;
use serde::{Deserialize, Serialize};

use crate::area::{pages, random_pages};
use crate::bench::{Bench, Outcome};
use crate::clock::{cpus, now_ns, pin};
use crate::fault::{Shared, placed, shared};
use crate::job::{Contender, Job, Placement, Task as Any};
use crate::report::{Bar, Row};
use crate::rounds::{Figure, Round, Team};
use crate::worker::Contest;

/// Why many threads are served more slowly than by the best bare loop.
const PLACED: &str = "the best of the bare loops has its faulting threads pinned, all to one CPU, which a library must not do to a \
    program's threads: beside a loop that nobody places see bare_uffd_unplaced. Where all are pinned alike, reading the page from the file is \
    half of the difference (bare_uffd_read); the rest is the engine's own.";

/// Figures: when the first thread began and the last one ended (CLOCK_MONOTONIC, in nanoseconds), and how many faults
/// there were.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    bytes: usize,
    threads: usize,
    /// Of each thread.
    faults: usize,
}

struct Threads {
    shared: Box<dyn Shared>,
    task: Task,
    /// One for each part of the memory that has a loop of its own: the threads of that part run there.
    cpus: Vec<usize>,
}

/// A contender at `fault.threads`.
pub(crate) fn contest(job: Job, task: Task) -> Result<Box<dyn Contest>> {
    Ok(Box::new(Threads {
        shared: shared(job, task.bytes)?,
        task,
        cpus: match job.contender {
            Contender::BareUffdPerCpu => cpus(),
            _ => Vec::new(),
        },
    }))
}

impl Contest for Threads {
    fn prepare(&mut self) -> Result<()> {
        self.shared.share()
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        let memory = self.shared.memory();
        let count = self.task.threads;
        let barrier = Barrier::new(count);
        let times: Vec<(u64, u64, usize)> = thread::scope(|scope| {
            let barrier = &barrier;
            let threads: Vec<_> = (0..count)
                .map(|number| {
                    let own = self.own_pages(memory, number);
                    let pages = random_pages(own, self.task.faults, number as u64);
                    let cpu = self.cpu(number);
                    scope.spawn(move || {
                        if let Some(cpu) = cpu {
                            // Where that is refused the thread is only placed worse.
                            let _ = pin(&[cpu]);
                        }
                        barrier.wait();
                        let start = now_ns();
                        for page in &pages {
                            memory.store_u64(page * page_size(), 0);
                        }
                        (start, now_ns(), pages.len())
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().ok());
            joined.collect::<Option<_>>()
        })
        .context("a thread has panicked")?;
        let start = times.iter().map(|time| time.0).min().unwrap_or(0);
        let end = times.iter().map(|time| time.1).max().unwrap_or(0);
        let faults: usize = times.iter().map(|time| time.2).sum();
        Ok(vec![start as f64, end as f64, faults as f64])
    }
}

impl Threads {
    /// The pages of one thread alone: of a part with its own loop, if there are such parts.
    fn own_pages(&self, memory: &Volatile, number: usize) -> Range<usize> {
        let parts = self.cpus.len().max(1);
        let part = pages(memory) / parts;
        let slice = part / self.task.threads.div_ceil(parts);
        let start = number % parts * part + number / parts * slice;
        start..start + slice
    }

    fn cpu(&self, number: usize) -> Option<usize> {
        (!self.cpus.is_empty()).then(|| self.cpus[number % self.cpus.len()])
    }
}

/// Faults a second of a team.
fn rate(round: &Round) -> f64 {
    let start = round
        .iter()
        .map(|worker| worker[0])
        .fold(f64::MAX, f64::min);
    let end = round.iter().map(|worker| worker[1]).fold(0.0, f64::max);
    let faults: f64 = round.iter().map(|worker| worker[2]).sum();
    faults / ((end - start).max(1.0) / 1e9)
}

/// `fault.threads`
pub(crate) fn measure(bench: &Bench) -> Outcome {
    bench.needs_userfaultfd()?;
    let mut rows = Vec::new();
    for &threads in bench.scale.threads {
        let task = Any::Threads(Task {
            bytes: bench.scale.fault,
            threads,
            faults: bench.scale.faults,
        });
        let per_cpu = vec![Job::new(Contender::BareUffdPerCpu, task)];
        let alike = vec![Job::new(Contender::Traced, task).at(Placement::SameCpu(0))];
        let read = vec![Job::new(Contender::BareUffdRead, task).at(Placement::SameCpu(0))];
        let mut teams = vec![
            vec![Job::new(Contender::Traced, task)],
            per_cpu,
            alike,
            read,
        ];
        teams.extend(placed(task, Contender::BareUffd));
        let measured = bench.rounds(&teams, 5)?;
        let bare = &measured[4..];
        rows.push(
            row("threads", threads, &measured[0], bare)
                .rival("bare_uffd_per_cpu", Figure::of(&measured[1], rate)),
        );
        // The first of the bare loop's placements.
        let alike = row("threads, all on one CPU", threads, &measured[2], &bare[..1]);
        rows.push(alike.rival("bare_uffd_read", Figure::of(&measured[3], rate)));
    }
    for &processes in bench.scale.threads {
        let task = Any::Threads(Task {
            bytes: bench.scale.fault / 4,
            threads: 1,
            faults: bench.scale.faults,
        });
        let team = |contender, placement: fn(usize) -> Placement| -> Team {
            let job = |place| Job::new(contender, task).at(placement(place));
            (0..processes).map(job).collect()
        };
        let teams = [
            team(Contender::Traced, |_| Placement::Anywhere),
            team(Contender::Traced, Placement::SameCpu),
            team(Contender::BareUffdRead, Placement::SameCpu),
            team(Contender::BareUffd, Placement::SameCpu),
            team(Contender::BareUffd, |_| Placement::Anywhere),
        ];
        let measured = bench.rounds(&teams, 5)?;
        let bare = &measured[3..];
        rows.push(row("processes", processes, &measured[0], bare));
        let alike = row(
            "processes, each on one CPU",
            processes,
            &measured[1],
            &bare[..1],
        );
        rows.push(alike.rival("bare_uffd_read", Figure::of(&measured[2], rate)));
    }
    Ok(rows)
}

fn row(what: &'static str, size: usize, cowspace: &[Round], bare: &[Vec<Round>]) -> Row {
    let placements: Vec<Figure> = bare.iter().map(|team| Figure::of(team, rate)).collect();
    let best = placements
        .iter()
        .max_by(|a, b| a.median.total_cmp(&b.median));
    let row = Row::new("fault.threads", "ops/s", size)
        .variant(what)
        .cowspace(Figure::of(cowspace, rate))
        .rival(
            "bare_uffd",
            best.copied().unwrap_or_else(|| Figure::exactly(0.0)),
        )
        .bar(Bar::at_least("bare_uffd", 0.9))
        .floor(PLACED);
    match placements.last() {
        // Where the scheduler puts it, as cowspace.
        Some(unplaced) if placements.len() > 1 => row.rival("bare_uffd_unplaced", *unplaced),
        _ => row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_teams_rate_is_over_the_time_in_which_any_of_it_ran() {
        let round = vec![vec![1e9, 2e9, 300.0], vec![1.5e9, 3e9, 500.0]];
        assert_eq!(rate(&round), 400.0);
    }
}
