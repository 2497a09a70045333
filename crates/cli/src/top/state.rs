//! From samples to what is shown: pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::sample::{KINDS, OUTCOMES, Sample, Target};
use fault_handler::Distribution;

/// How many intervals are remembered: as many as the widest window shows.
const REMEMBERED: usize = 1_000;

/// The intervals that one key goes through, in milliseconds.
const INTERVALS: [u64; 9] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

/// What is known of the process.
#[derive(Debug)]
pub(crate) struct State {
    /// Who it is. After exec(2) another.
    pub(crate) target: Target,
    /// How often it is asked.
    pub(crate) interval: Duration,
    /// Whether it is not asked for now.
    pub(crate) paused: bool,
    /// Why it does not answer, if it does not.
    pub(crate) trouble: Option<String>,
    /// Its last answer.
    pub(crate) last: Option<Sample>,
    /// What has happened between that and the one before.
    pub(crate) change: Option<Change>,
    /// What has happened in the intervals before, the last first.
    history: VecDeque<(Duration, [f64; 3])>,
}

/// What has happened between two answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Change {
    /// The time between them.
    pub(crate) span: Duration,
    /// Faults a second, by [`KINDS`].
    pub(crate) faults: [f64; 3],
    /// Faults a second, by [`OUTCOMES`].
    pub(crate) outcomes: [f64; 9],
    /// How long the handler took for them, by [`KINDS`].
    pub(crate) handled: [Distribution; 3],
    /// The phases of that.
    pub(crate) phases: Vec<Distribution>,
}

impl State {
    pub(crate) fn new(target: Target, interval: Duration) -> State {
        State {
            target,
            interval,
            paused: false,
            trouble: None,
            last: None,
            change: None,
            history: VecDeque::new(),
        }
    }

    /// Takes an answer.
    pub(crate) fn answer(&mut self, sample: Sample) {
        self.trouble = None;
        self.change = self
            .last
            .as_ref()
            .and_then(|last| Change::between(last, &sample));
        if let Some(change) = &self.change {
            self.history.push_front((sample.at, change.faults));
            self.history.truncate(REMEMBERED);
        }
        self.last = Some(sample);
    }

    /// It did not answer, for this reason. What it said before stays to be seen.
    pub(crate) fn no_answer(&mut self, reason: String) {
        self.trouble = Some(reason);
    }

    /// It is another program now, in the same process.
    pub(crate) fn began_anew(&mut self, target: Target) {
        *self = State {
            paused: self.paused,
            ..State::new(target, self.interval)
        };
    }

    /// Faults a second of one kind, or of all, in the last `cells` intervals: the last first.
    pub(crate) fn rates(&self, kind: Option<usize>, cells: usize) -> Vec<f64> {
        let rate = |faults: &[f64; 3]| match kind {
            Some(kind) => faults[kind],
            None => faults.iter().sum(),
        };
        self.history
            .iter()
            .take(cells)
            .map(|(_, faults)| rate(faults))
            .collect()
    }

    /// How much time the last `cells` intervals are.
    pub(crate) fn remembered(&self, cells: usize) -> Duration {
        let shown = self.history.len().min(cells);
        match (
            self.history.front(),
            self.history.get(shown.wrapping_sub(1)),
        ) {
            (Some((last, _)), Some((first, _))) => {
                let span = self
                    .change
                    .as_ref()
                    .map_or(self.interval, |change| change.span);
                last.saturating_sub(*first) + span
            }
            _ => Duration::ZERO,
        }
    }

    /// The next longer interval, or shorter one.
    pub(crate) fn change_interval(&mut self, longer: bool) {
        let now = self.interval.as_millis() as u64;
        let next = if longer {
            INTERVALS.into_iter().find(|other| *other > now)
        } else {
            INTERVALS.into_iter().rev().find(|other| *other < now)
        };
        if let Some(next) = next {
            self.interval = Duration::from_millis(next);
        }
    }
}

impl Change {
    /// `None` if there is nothing to be told: no time has passed, or a count has gone back, since the process has begun anew.
    pub(crate) fn between(before: &Sample, after: &Sample) -> Option<Change> {
        let span = after.at.checked_sub(before.at)?;
        let seconds = span.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let mut change = Change {
            span,
            ..Change::default()
        };
        for kind in 0..KINDS.len() {
            let faults = after.faults[kind].checked_sub(before.faults[kind])?;
            change.faults[kind] = faults as f64 / seconds;
            change.handled[kind] = after.handled[kind].since(&before.handled[kind]);
        }
        for outcome in 0..OUTCOMES.len() {
            let faults = after.outcomes[outcome].checked_sub(before.outcomes[outcome])?;
            change.outcomes[outcome] = faults as f64 / seconds;
        }
        change.phases = after
            .phases
            .iter()
            .zip(&before.phases)
            .map(|((_, after), (_, before))| after.since(before))
            .collect();
        Some(change)
    }

    /// Faults a second of all kinds.
    pub(crate) fn all_faults(&self) -> f64 {
        self.faults.iter().sum()
    }
}

/// The distribution of all kinds.
pub(crate) fn together(kinds: &[Distribution; 3]) -> Distribution {
    let [first, others @ ..] = kinds;
    others
        .iter()
        .fold(first.clone(), |sum, kind| sum.plus(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(Target::default(), Duration::from_secs(1))
    }

    fn sample(at_ms: u64, faults: [u64; 3]) -> Sample {
        Sample {
            at: Duration::from_millis(at_ms),
            faults,
            outcomes: [faults.iter().sum(), 0, 0, 0, 0, 0, 0, 0, 0],
            handled: faults.map(|count| Distribution::new([(1_000, count)])),
            phases: vec![("resolve", Distribution::new([(300, faults[0])]))],
            ..Sample::default()
        }
    }

    #[test]
    fn rates_are_what_was_added_by_the_time_that_passed() {
        let mut state = state();
        state.answer(sample(5_000, [1_000, 50, 7]));
        assert_eq!(state.change, None, "one answer alone tells no rate");
        state.answer(sample(7_000, [3_000, 51, 7]));
        let change = state.change.as_ref().expect("a change");
        assert_eq!(change.span, Duration::from_secs(2));
        assert_eq!(change.faults, [1_000.0, 0.5, 0.0]);
        assert_eq!(change.all_faults(), 1_000.5);
        assert_eq!(change.outcomes[0], 1_000.5);
        assert_eq!(change.handled[0], Distribution::new([(1_000, 2_000)]));
        assert_eq!(change.phases, [Distribution::new([(300, 2_000)])]);
        assert_eq!(together(&change.handled).count(), 2_001);
    }

    #[test]
    fn a_count_that_goes_back_begins_anew() {
        let mut state = state();
        state.answer(sample(1_000, [100, 0, 0]));
        state.answer(sample(2_000, [200, 0, 0]));
        state.answer(sample(3_000, [5, 0, 0]));
        assert_eq!(state.change, None, "no rate, and no absurd one");
        state.answer(sample(4_000, [15, 0, 0]));
        assert_eq!(state.change.as_ref().expect("a change").faults[0], 10.0);
        assert_eq!(state.rates(Some(0), 10), [10.0, 100.0]);
    }

    #[test]
    fn no_time_is_no_rate() {
        let mut state = state();
        state.answer(sample(1_000, [100, 0, 0]));
        state.answer(sample(1_000, [200, 0, 0]));
        assert_eq!(state.change, None);
        state.answer(sample(500, [300, 0, 0]));
        assert_eq!(state.change, None);
    }

    #[test]
    fn the_last_intervals_are_remembered_and_no_more() {
        let mut state = state();
        for second in 0..REMEMBERED as u64 + 10 {
            state.answer(sample(second * 1_000, [second * second, second, 0]));
        }
        assert_eq!(state.rates(Some(1), 3), [1.0; 3]);
        assert_eq!(state.rates(None, 2), [2_018.0, 2_016.0]);
        assert_eq!(state.rates(Some(0), usize::MAX).len(), REMEMBERED);
        assert_eq!(state.remembered(60), Duration::from_secs(60));
        assert_eq!(state.remembered(0), Duration::ZERO);
    }

    #[test]
    fn what_was_said_stays_while_there_is_no_answer() {
        let mut state = state();
        state.answer(sample(1_000, [1, 0, 0]));
        state.no_answer("it is stopped".into());
        assert!(state.trouble.is_some() && state.last.is_some());
        state.answer(sample(3_000, [3, 0, 0]));
        assert_eq!(state.trouble, None);
        assert_eq!(state.change.as_ref().expect("a change").faults[0], 1.0);
        state.paused = true;
        state.began_anew(Target {
            pid: 7,
            ..Target::default()
        });
        assert!(state.last.is_none() && state.paused && state.target.pid == 7);
    }

    #[test]
    fn the_interval_goes_up_and_down_and_stays_within_bounds() {
        let mut state = State::new(Target::default(), Duration::from_millis(1_500));
        state.change_interval(true);
        assert_eq!(state.interval, Duration::from_secs(2));
        for _ in 0..20 {
            state.change_interval(false);
        }
        assert_eq!(state.interval, Duration::from_millis(100));
        for _ in 0..20 {
            state.change_interval(true);
        }
        assert_eq!(state.interval, Duration::from_secs(60));
    }
}
