//! Distributions of times.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer times than this hour are counted as this long.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Times of many faults: a histogram that is right to a thousandth, and the exact sum, least and most.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    sum: u128,
    least: u64,
    most: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            histogram: Histogram::new(3).expect("three digits are allowed"),
            sum: 0,
            least: u64::MAX,
            most: 0,
        }
    }
}

impl Latencies {
    /// Adds one time.
    pub fn record(&mut self, ns: u64) {
        // It grows as it must, which saturating_record() would not do, and cannot fail below this bound.
        let _ = self.histogram.record(ns.min(LONGEST_NS));
        self.sum += u128::from(ns);
        self.least = self.least.min(ns);
        self.most = self.most.max(ns);
    }

    /// Adds all of others.
    pub(crate) fn add(&mut self, other: &Latencies) {
        self.histogram
            .add(&other.histogram)
            .expect("it grows as it must");
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    /// How many times there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Their sum in nanoseconds.
    #[must_use]
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// Their mean in nanoseconds; 0 if there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum as f64 / count as f64,
        }
    }

    /// The shortest; 0 if there is none.
    #[must_use]
    pub fn least(&self) -> u64 {
        self.least.min(self.most)
    }

    /// The longest; 0 if there is none.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.most
    }

    /// The time in nanoseconds that this share of them (0.5: the median) does not exceed; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        self.histogram
            .value_at_quantile(share)
            .clamp(self.least(), self.most)
    }

    /// What a table shows of them.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.most(),
        }
    }

    /// Bars of a histogram over a logarithmic axis: from the power of two at or below the least on, each octave in `steps` bars of equal width on that axis, the empty ones among them too.
    /// There are at most 64 octaves.
    #[must_use]
    pub fn buckets(&self, steps: u32) -> Vec<Bucket> {
        let mut buckets: Vec<Bucket> = Vec::new();
        if self.is_empty() {
            return buckets;
        }
        let steps = f64::from(steps.max(1));
        let place = |ns: u64| ((ns.max(1) as f64).log2() * steps).floor() as i64;
        let first = (i64::from(self.least().max(1).ilog2()) as f64 * steps) as i64;
        let edge = |place: i64| (place as f64 / steps).exp2();
        for step in self.histogram.iter_recorded() {
            let ns = step.value_iterated_to().clamp(self.least(), self.most);
            let at = usize::try_from(place(ns) - first).unwrap_or(0);
            while buckets.len() <= at {
                let place = first + buckets.len() as i64;
                buckets.push(Bucket {
                    from_ns: edge(place),
                    to_ns: edge(place + 1),
                    count: 0,
                });
            }
            buckets[at].count += step.count_at_value();
        }
        buckets
    }

    /// The histogram itself, in nanoseconds.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bucket {
    /// Where it begins, in nanoseconds.
    pub from_ns: f64,
    /// Where the next one begins.
    pub to_ns: f64,
    /// How many times lie there.
    pub count: u64,
}

/// Percentiles in nanoseconds; all are 0 if `count` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Of how many times.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// What one of ten exceeds.
    pub p90: u64,
    /// What one of a hundred exceeds.
    pub p99: u64,
    /// What one of a thousand exceeds.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Summary {
    /// Of exact times, which must be sorted.
    pub(crate) fn of_sorted(times: &[u64]) -> Summary {
        let Some(last) = times.len().checked_sub(1) else {
            return Summary::default();
        };
        // The least time that at least this share of them does not exceed.
        let at = |thousandths: usize| {
            let rank = (times.len() as u128 * thousandths as u128).div_ceil(1000) as usize;
            times[rank.saturating_sub(1).min(last)]
        };
        Summary {
            count: times.len() as u64,
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max: times[last],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_length_keep_three_digits() {
        for ns in [1, 999, 12_345, 5_000_000_000, LONGEST_NS] {
            let mut times = Latencies::default();
            times.record(1);
            times.record(ns);
            times.record(ns);
            let median = times.quantile(0.5);
            assert!(median.abs_diff(ns) <= ns / 1000, "{ns}: {median}");
            assert_eq!((times.count(), times.least(), times.most()), (3, 1, ns));
            let buckets = times.buckets(4);
            assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 3);
            let last = buckets.last().unwrap();
            assert!(
                last.from_ns <= ns as f64 && ns as f64 <= last.to_ns,
                "{last:?}"
            );
        }
        let mut times = Latencies::default();
        times.record(u64::MAX);
        times.record(u64::MAX);
        assert_eq!(
            (times.sum(), times.most()),
            (2 * u128::from(u64::MAX), u64::MAX)
        );
    }

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<u64> = (1..=2000).collect();
        let expected = Summary {
            count: 2000,
            p50: 1000,
            p90: 1800,
            p99: 1980,
            p999: 1998,
            max: 2000,
        };
        assert_eq!(Summary::of_sorted(&times), expected);
        assert_eq!(Summary::of_sorted(&[7]).p50, 7);
        assert_eq!(Summary::of_sorted(&[]), Summary::default());
    }
}
