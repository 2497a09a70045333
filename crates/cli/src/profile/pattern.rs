//! Which pages are touched, in which order, and how.

use clap::ValueEnum;
use fastrand::Rng;

/// In which order pages are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// All pages, one after the other; of several threads each has its part of them
    Sequential,
    /// Any page, each as likely as the other
    Random,
    /// Few pages often and most seldom: the second most popular one half as often as the first, the third a third as often, and so on
    Zipf,
    /// One page in so many (--stride), in order; of several threads each has its part of them
    Stride,
}

/// A touch of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    /// Which page of the memory.
    pub(crate) page: usize,
    /// Whether it is a store.
    pub(crate) write: bool,
}

/// What all threads do in a round.
#[derive(Debug)]
pub(crate) struct Plan {
    pattern: Pattern,
    pages: usize,
    stride: usize,
    /// How many of a hundred touches are stores.
    writes: u8,
    threads: usize,
    /// All pages, the most popular first. For [`Pattern::Zipf`] alone.
    popular: Vec<usize>,
}

impl Plan {
    /// A plan for some threads, at least one.
    pub(crate) fn new(
        pattern: Pattern,
        pages: usize,
        stride: usize,
        writes: u8,
        threads: usize,
        seed: u64,
    ) -> Plan {
        let mut popular = Vec::new();
        if pattern == Pattern::Zipf {
            popular.extend(0..pages);
            Rng::with_seed(seed).shuffle(&mut popular);
        }
        Plan {
            pattern,
            pages,
            stride,
            writes,
            threads,
            popular,
        }
    }

    /// How many touches a round has, of all threads.
    pub(crate) fn touches(&self) -> usize {
        self.pages.div_ceil(self.stride)
    }

    /// What a thread does in a round, with its own random numbers.
    pub(crate) fn round<'a>(
        &'a self,
        thread: usize,
        random: &'a mut Rng,
    ) -> impl Iterator<Item = Touch> + 'a {
        // In u128, since a product of two counts of pages need not be one.
        let share = |thread: usize| {
            (self.touches() as u128 * thread as u128 / self.threads as u128) as usize
        };
        (share(thread)..share(thread + 1)).map(|nth| Touch {
            page: match self.pattern {
                Pattern::Sequential | Pattern::Stride => nth * self.stride,
                Pattern::Random => random.usize(0..self.pages),
                Pattern::Zipf => self.popular[popularity(random.f64(), self.pages)],
            },
            write: random.u8(0..100) < self.writes,
        })
    }
}

/// Turns a number from 0 to 1, all as likely, into one below `n` by Zipf's law with the exponent 1, or nearly so: 1/x between x and x + 1 stands for 1/x.
fn popularity(random: f64, n: usize) -> usize {
    let rank = ((n as f64 + 1.0).ln() * random).exp() as usize;
    rank.clamp(1, n) - 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn pages(plan: &Plan, thread: usize) -> Vec<usize> {
        let mut random = Rng::with_seed(thread as u64);
        plan.round(thread, &mut random)
            .map(|touch| touch.page)
            .collect()
    }

    #[test]
    fn threads_share_the_pages_of_an_ordered_pattern() {
        for (pattern, stride, threads) in [
            (Pattern::Sequential, 1, 1),
            (Pattern::Sequential, 1, 3),
            (Pattern::Stride, 7, 2),
            (Pattern::Stride, 500, 4),
        ] {
            let plan = Plan::new(pattern, 100, stride, 0, threads, 1);
            let all: Vec<usize> = (0..threads)
                .flat_map(|thread| pages(&plan, thread))
                .collect();
            let expected: Vec<usize> = (0..100).step_by(stride).collect();
            assert_eq!(all, expected);
        }
    }

    #[test]
    fn a_random_pattern_touches_as_many_and_any() {
        for pattern in [Pattern::Random, Pattern::Zipf] {
            let plan = Plan::new(pattern, 1000, 1, 0, 3, 1);
            let all: Vec<usize> = (0..3).flat_map(|thread| pages(&plan, thread)).collect();
            assert_eq!(all.len(), 1000);
            assert!(all.iter().all(|&page| page < 1000));
            assert_eq!(pages(&plan, 0), pages(&plan, 0));
            assert_ne!(pages(&plan, 0), pages(&plan, 1));
        }
    }

    #[test]
    fn popularity_follows_zipfs_law() {
        let (n, draws) = (1000, 200_000);
        let mut random = Rng::with_seed(3);
        let mut counts: HashMap<usize, u32> = HashMap::new();
        for _ in 0..draws {
            *counts.entry(popularity(random.f64(), n)).or_default() += 1;
        }
        let count = |rank| f64::from(counts[&rank]);
        // The integral of 1/x from 1 to 2 is ln 2, from 10 to 11 it is ln 1.1.
        let expected = 2_f64.ln() / 1.1_f64.ln();
        assert!((count(0) / count(9) / expected - 1.0).abs() < 0.1);
        assert_eq!(popularity(0.0, n), 0);
        assert_eq!(popularity(1.0, n), n - 1);
        assert_eq!(popularity(0.7, 1), 0);
    }

    #[test]
    fn stores_are_as_many_as_asked_for() {
        for (writes, least, most) in [(0, 0, 0), (100, 10_000, 10_000), (30, 2700, 3300)] {
            let plan = Plan::new(Pattern::Sequential, 10_000, 1, writes, 1, 1);
            let mut random = Rng::with_seed(1);
            let stores = plan
                .round(0, &mut random)
                .filter(|touch| touch.write)
                .count();
            assert!((least..=most).contains(&stores), "{stores}");
        }
    }
}
