//! A child as a zygote, and its child again, with the policies that nobody had to ask for and with others.

use cowspace_tests::processes::Orphans;
use zygote::Zygote;

use crate::agent::{Agent, Agents};
use crate::memory::{Mapped, fill, policies, seed};

const PAGES: usize = 100;

/// Each generation changes its memory after it has spawned the next.
pub(crate) fn each_sees_its_own_state(zygote: &Zygote) {
    for &(zygotes, childrens) in policies() {
        let _orphans = Orphans::adopt();
        let agents = Agents::new();
        let mapped = Mapped::new(PAGES, zygotes);
        fill(&mapped.memory, 1);
        let (mut child, first) = agents.spawn(zygote, &mapped, childrens);
        let mut all = vec![first];
        for generation in 2..=3 {
            let parent: &mut Agent = all.last_mut().expect("there is a first one");
            parent.assert_state(generation - 1);
            parent.ask(format_args!("fill {generation}"));
            let next = parent.spawn(&agents, generation);
            parent.ask(format_args!("fill {}", generation * 100));
            all.push(next);
        }
        // Nobody but the last has the state that it was spawned with.
        all[0].assert_state(200);
        all[1].assert_state(300);
        all[2].assert_state(3);
        assert_eq!(seed(&mapped.memory), Some(1));
        drop(all);
        assert!(child.wait().expect("its status").success());
    }
}

/// The first generation ends in the middle, with others reading what only it has had mapped.
pub(crate) fn later_ones_outlive_the_first(zygote: &Zygote) {
    for &(zygotes, childrens) in policies() {
        let _orphans = Orphans::adopt();
        let agents = Agents::new();
        let mapped = Mapped::new(PAGES, zygotes);
        fill(&mapped.memory, 1);
        let (mut child, mut first) = agents.spawn(zygote, &mapped, childrens);
        first.ask("store 1 0 10 1");
        let mut second = first.spawn(&agents, 2);
        second.ask("store 1 20 30 1");
        let mut third = second.spawn(&agents, 3);
        drop(first);
        assert!(child.wait().expect("its status").success());
        third.assert_state(1);
        second.ask("fill 2");
        let mut other_third = second.spawn(&agents, 4);
        drop(second);
        third.assert_state(1);
        other_third.assert_state(2);
        let mut fourth = third.spawn(&agents, 5);
        fourth.assert_state(1);
        drop(mapped);
        for last in [&mut third, &mut other_third, &mut fourth] {
            last.ask("fill 6");
            last.assert_state(6);
        }
    }
}
