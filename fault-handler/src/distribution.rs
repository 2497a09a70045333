//! Distributions of times that can leave the handler whole, so that what was added between two moments can be told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often which time was measured. Two digits of a time are exact: it stands for all that are rounded up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution(Vec<(u64, u64)>);

/// What [`Stats`](crate::Stats) has the quantiles of: how long faults took that the handler installed itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distributions {
    /// From reading a fault of any kind to the resolver's answer.
    pub resolve: Distribution,
    /// From the answer to the end of the ioctl, for any kind.
    pub install: Distribution,
    /// Both together, of [`FaultKind::Missing`](crate::FaultKind::Missing).
    pub missing: Distribution,
    /// Of [`FaultKind::Minor`](crate::FaultKind::Minor).
    pub minor: Distribution,
    /// Of [`FaultKind::WriteProtect`](crate::FaultKind::WriteProtect).
    pub write_protect: Distribution,
}

impl Distribution {
    /// Of times in nanoseconds, each with how often it was measured.
    pub fn new(times: impl IntoIterator<Item = (u64, u64)>) -> Distribution {
        let mut times: Vec<_> = times.into_iter().filter(|(_, count)| *count > 0).collect();
        times.sort_unstable();
        Distribution(times)
    }

    /// How many times were measured.
    pub fn count(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// What this has and `before` had not: what was measured since, if `before` was taken from the same source.
    pub fn since(&self, before: &Distribution) -> Distribution {
        let mut before = before.0.iter().peekable();
        Distribution::new(self.0.iter().map(|&(ns, count)| {
            while before.next_if(|(earlier, _)| *earlier < ns).is_some() {}
            let had = before.next_if(|(same, _)| *same == ns);
            (ns, count.saturating_sub(had.map_or(0, |(_, had)| *had)))
        }))
    }

    /// Both together.
    pub fn plus(&self, other: &Distribution) -> Distribution {
        let mut times = BTreeMap::new();
        for (ns, count) in self.0.iter().chain(&other.0) {
            let sum: &mut u64 = times.entry(*ns).or_default();
            *sum = sum.saturating_add(*count);
        }
        Distribution::new(times)
    }

    /// The time that `share` of all do not exceed, in nanoseconds; 1.0 is the longest. `None` if nothing was measured.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (share * self.count() as f64).ceil() as u64;
        let mut seen = 0u64;
        self.0
            .iter()
            .find(|(_, count)| {
                seen = seen.saturating_add(*count);
                seen >= wanted
            })
            .or(self.0.last())
            .map(|(ns, _)| *ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times = Distribution::new([(10, 50), (20, 40), (30, 0), (40, 9), (500, 1)]);
        assert_eq!(times.count(), 100);
        let quantiles = [0.0, 0.5, 0.51, 0.9, 0.99, 1.0].map(|share| times.quantile(share));
        assert_eq!(quantiles, [10, 10, 20, 20, 40, 500].map(Some));
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn a_difference_and_its_base_make_the_whole() {
        let before = Distribution::new([(10, 3), (30, 1)]);
        let after = Distribution::new([(5, 1), (10, 3), (20, 2), (30, 4)]);
        let between = after.since(&before);
        assert_eq!(between, Distribution::new([(5, 1), (20, 2), (30, 3)]));
        assert_eq!(between.plus(&before), after);
        assert_eq!(after.since(&after), Distribution::default());
    }

    #[test]
    fn numbers_that_cannot_be_are_no_panic() {
        let huge = Distribution::new([(u64::MAX, u64::MAX), (1, u64::MAX)]);
        assert_eq!(huge.count(), u64::MAX);
        assert_eq!(huge.quantile(1.0), Some(1));
        assert_eq!(huge.plus(&huge).count(), u64::MAX);
        assert_eq!(
            Distribution::new([(1, 1)]).since(&huge),
            Distribution::default()
        );
    }
}
