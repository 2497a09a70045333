//! Rounds: each contender measures once, then each once more. What disturbs the machine for a while disturbs all of
//! them.
//!
//! Each round has another order: what a contender leaves behind (page tables that fork() copied push all else out of
//! the CPU's caches) is no other's lot every time. The orders are the same in each run.

use std::ffi::OsString;

use anyhow::Result;

use crate::job::Job;
use crate::worker::Worker;

/// One contender: a job, or several that run at the same time.
pub(crate) type Team = Vec<Job>;

/// What a team's workers measured in one round.
pub(crate) type Round = Vec<Vec<f64>>;

/// Runs `rounds` rounds, and if `warm` one before them that does not count. The result is, for each team, what it
/// measured in each round.
pub(crate) fn alternate(
    arguments: &[OsString],
    teams: &[Team],
    rounds: usize,
    warm: bool,
) -> Result<Vec<Vec<Round>>> {
    let mut workers = Vec::new();
    for team in teams {
        let started: Result<Vec<Worker>> = team
            .iter()
            .map(|job| Worker::start(arguments, *job))
            .collect();
        workers.push(started?);
    }
    let mut measured: Vec<Vec<Round>> = teams.iter().map(|_| Vec::new()).collect();
    let mut order: Vec<usize> = (0..teams.len()).collect();
    let mut random = fastrand::Rng::with_seed(0);
    for round in 0..rounds + usize::from(warm) {
        random.shuffle(&mut order);
        for &place in &order {
            let (team, measured) = (&mut workers[place], &mut measured[place]);
            for worker in &mut *team {
                worker.prepare()?;
            }
            for worker in &mut *team {
                worker.begin()?;
            }
            let figures: Result<Round> = team.iter_mut().map(Worker::figures).collect();
            let figures = figures?;
            if round > 0 || !warm {
                measured.push(figures);
            }
        }
    }
    Ok(measured)
}

/// One figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// Of one figure in each round; there is at least one round.
    pub(crate) fn of(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Figure {
        let mut values: Vec<f64> = rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        Figure {
            median: median(&values),
            least: values[0],
            most: values[values.len() - 1],
        }
    }

    /// Of the `place`th figure of a team of one.
    pub(crate) fn at(rounds: &[Round], place: usize) -> Figure {
        Figure::of(rounds, |round| round[0][place])
    }
}

/// The median of sorted values; 0 if there are none.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// The median of values in any order.
pub(crate) fn median_of(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    median(&values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_with_its_spread() {
        let rounds: Vec<Round> = [3.0, 1.0, 2.0, 9.0]
            .map(|value| vec![vec![0.0, value]])
            .into();
        assert_eq!(
            Figure::at(&rounds, 1),
            Figure {
                median: 2.5,
                least: 1.0,
                most: 9.0
            }
        );
        assert_eq!(median_of(vec![5.0, 1.0, 4.0]), 4.0);
        assert_eq!(median_of(Vec::new()), 0.0);
    }
}
