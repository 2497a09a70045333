//! Ten thousand rounds of write, clone, spawn or close, exit.

use std::collections::VecDeque;

use cowspace::{Vmar, Vmo, VmoChildOptions};
use cowspace_tests::page;
use cowspace_tests::processes::Holdings;
use test_share::{first_or_all, share};
use zygote::{Context, Spawn, Zygote};

use crate::agent::{Agents, told};
use crate::memory::{Mapped, Random, fill, policies, seed_of, store};

const ROUNDS: u32 = 10_000;
const WARM_UP: u32 = 1_000;
/// Every so many rounds a child is spawned, and has ended before the next.
const SPAWN: u64 = 50;
/// Every so many rounds it is counted what the process holds.
const COUNT: u64 = 10;
const PAGES: u32 = 64;
/// So many clones live on for some rounds, each with a page of its own.
const CLONES: usize = 5;

/// A child whose memory has one page in the state that it is told, and the last page in the first state.
pub(crate) fn check(context: Context) -> i32 {
    let (_, memory, round) = told(&context);
    let newest = (0..PAGES as usize)
        .filter_map(|page| seed_of(&memory, page))
        .max();
    fill(&memory, round + 1);
    i32::from(newest != Some(round))
}

pub(crate) fn leave_nothing_behind(zygote: &Zygote) {
    let warm_up = u64::from(share(WARM_UP).max(300));
    let rounds = u64::from(share(ROUNDS)).max(2 * warm_up);
    // What policy the children have makes no difference to the zygote.
    for &(zygotes, childrens) in first_or_all(1, policies()) {
        let agents = Agents::new();
        let mapped = Mapped::new(PAGES as usize, zygotes);
        fill(&mapped.memory, 0);
        let mut random = Random::new();
        let mut clones: VecDeque<Vmo> = VecDeque::new();
        let (mut warm, mut last) = (Most::default(), Most::default());
        for round in 1..=rounds {
            store(&mapped.memory, round, random.below(PAGES) as usize);
            if round % SPAWN == 0 {
                let spawn = Spawn::new("rounds::check")
                    .args(agents.arguments(&mapped.memory, round))
                    .policy(childrens);
                let mut child = zygote.spawn(&spawn).expect("a child");
                assert!(child.wait().expect("its status").success(), "round {round}");
            } else {
                let clone = clone(&mapped);
                let of_its_own = u64::from(random.below(PAGES)) * page() as u64;
                clone
                    .write(&round.to_ne_bytes(), of_its_own)
                    .expect("to write");
                clones.push_back(clone);
                if clones.len() > CLONES {
                    // Now the oldest goes, now a younger one.
                    clones.remove(random.below(CLONES as u32) as usize);
                }
            }
            let counts = if round <= warm_up {
                &mut warm
            } else if round > rounds - warm_up {
                &mut last
            } else {
                continue;
            };
            if round % COUNT == 0 {
                counts.note(Holdings::of(std::process::id()));
            }
        }
        last.assert_no_more_than(&warm);
    }
}

fn clone(mapped: &Mapped) -> Vmo {
    let (addr, len) = (mapped.memory.addr(), mapped.memory.len());
    Vmar::root_self()
        .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, len)
        .expect("a clone")
}

/// The most of everything that was ever counted.
#[derive(Debug, Default)]
struct Most {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    bytes: u64,
}

impl Most {
    fn note(&mut self, holdings: Holdings) {
        self.descriptors = self.descriptors.max(holdings.descriptors);
        self.mappings = self.mappings.max(holdings.mappings);
        self.threads = self.threads.max(holdings.threads);
        self.bytes = self.bytes.max(holdings.files + holdings.private);
    }

    /// How many layers there are depends on what was written in which round; if one were left in a hundred rounds, it would be more than this.
    fn assert_no_more_than(&self, before: &Self) {
        let few = 16;
        assert!(
            self.descriptors <= before.descriptors + few
                && self.mappings <= before.mappings + few
                && self.threads <= before.threads
                && self.bytes <= before.bytes + (few * page()) as u64,
            "{self:?} after {before:?}"
        );
        // Chains are as long as there are layers at most, and each layer has a descriptor.
        assert!(self.descriptors < 100, "{self:?}");
    }
}
