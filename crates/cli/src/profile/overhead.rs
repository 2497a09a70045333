//! What recording adds to a fault: the same touches are done with and without it, in turns.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use cowspace::Recorder;
use fastrand::Rng;

use super::pattern::Plan;
use super::touch::{Warmed, this_thread, touch};

/// Rounds of each, and faults of a round at most.
const ROUNDS: u64 = 10;
const FAULTS: usize = 400;
/// With fewer faults of each nothing is said.
const LEAST: usize = 200;

/// How long a touch takes that faults, in nanoseconds: the medians.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overhead {
    without_ns: u64,
    with_ns: u64,
}

/// Measures it, in the calling thread alone. `None` if there were too few faults to tell, or it was interrupted.
pub(crate) fn measure(
    warmed: &mut Warmed,
    plan: &Plan,
    seed: u64,
    interrupted: &AtomicBool,
) -> Result<Option<Overhead>> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // Who is first changes, so that neither has the warmer caches always.
        for turn in 0..2 {
            let with = (round + turn) % 2 == 1;
            let recorder = with.then(|| -> Result<_> {
                let scratch = tempfile::NamedTempFile::new()?;
                Ok((Recorder::start(scratch.path())?, scratch))
            });
            let recorder = recorder.transpose().context("cannot record")?;
            faults(
                warmed,
                plan,
                seed.wrapping_add(round),
                &mut times[usize::from(with)],
            )?;
            if let Some((recorder, _scratch)) = recorder {
                recorder.finish().context("cannot record")?;
            }
            if interrupted.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
    }
    let [without, with] = times.map(median);
    Ok(without.zip(with).map(|(without_ns, with_ns)| Overhead {
        without_ns,
        with_ns,
    }))
}

/// Times of touches that fault.
fn faults(warmed: &mut Warmed, plan: &Plan, seed: u64, times: &mut Vec<u64>) -> Result<()> {
    let armed = warmed.arm()?;
    let mut random = Rng::with_seed(seed);
    let enough = times.len() + FAULTS;
    for next in plan.round(0, &mut random) {
        let probe = touch(&armed.memory, this_thread(), next);
        if probe.faults > 0 {
            times.push(probe.after_ns.saturating_sub(probe.before_ns));
        }
        if times.len() == enough {
            break;
        }
    }
    Ok(())
}

fn median(mut times: Vec<u64>) -> Option<u64> {
    let middle = times.len() / 2;
    (times.len() >= LEAST).then(|| *times.select_nth_unstable(middle).1)
}

impl fmt::Display for Overhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overhead {
            without_ns,
            with_ns,
        } = *self;
        let micros = |ns| ns as f64 / 1e3;
        let (without, with) = (micros(without_ns), micros(with_ns));
        if with_ns > without_ns {
            let added = micros(with_ns - without_ns);
            let percent = added / without.max(0.001) * 100.0;
            writeln!(
                f,
                "Recording adds {added:.1} µs to a fault ({percent:.0} %)."
            )?;
        } else {
            writeln!(
                f,
                "Recording adds to a fault no more than can be measured here."
            )?;
        }
        write!(
            f,
            "The median was {with:.1} µs with it and {without:.1} µs without, in rounds in turns."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_faults_tell_nothing() {
        assert_eq!(median(vec![7; LEAST - 1]), None);
        assert_eq!(median((0..=LEAST as u64).collect()), Some(LEAST as u64 / 2));
    }

    #[test]
    fn it_is_said_in_short_lines() {
        let said = |without_ns, with_ns| {
            Overhead {
                without_ns,
                with_ns,
            }
            .to_string()
        };
        assert_eq!(
            said(10_000, 10_500),
            "Recording adds 0.5 µs to a fault (5 %).\nThe median was 10.5 µs with it and 10.0 µs without, in rounds in turns."
        );
        assert!(said(10_000, 9_900).contains("no more than can be measured"));
        assert!(said(0, 1).contains("(100 %)"));
        for line in said(100_000_000, 200_000_000).lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
