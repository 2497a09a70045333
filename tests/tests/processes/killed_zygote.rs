//! `kill -9` of a zygote in the middle of its work.

use cowspace_tests::processes::Orphans;
use zygote::{Context, Spawn, Zygote};

use crate::agent::{Agent, Agents, told};
use crate::memory::{Mapped, Random, fill, policies, seed};

/// More than are mapped at once by one fault.
const PAGES: usize = 100;

/// A zygote that changes its memory and spawns an agent, again and again. Each agent's label is the state that it must see.
pub(crate) fn keep_spawning(context: Context) -> i32 {
    let (name, memory, _) = told(&context);
    let zygote = Zygote::new(context.launcher.expect("it may spawn"));
    for label in 1.. {
        fill(&memory, label);
        let arguments = format!("{name} {} {} {label}", memory.addr(), memory.len());
        let spawn = Spawn::new("agent::serve")
            .args(arguments)
            .policy(cowspace::default_policy())
            .can_spawn(true);
        drop(zygote.spawn(&spawn).expect("an agent"));
    }
    0
}

pub(crate) fn children_outlive_their_zygote(zygote: &Zygote) {
    let mut random = Random::new();
    for &(zygotes, childrens) in policies() {
        let mapped = Mapped::new(PAGES, zygotes);
        fill(&mapped.memory, 1_000);
        for children in 1..=4 {
            let _orphans = Orphans::adopt();
            let agents = Agents::new();
            let spawn = Spawn::new("killed_zygote::keep_spawning")
                .args(agents.arguments(&mapped.memory, 0))
                .policy(childrens)
                .can_spawn(true);
            let mut middle = zygote.spawn(&spawn).expect("a zygote in the middle");
            let accept = |label| agents.accept(label);
            let mut survivors: Vec<Agent> = (1..=children).map(accept).collect();
            (0..random.below(100_000)).for_each(|_| std::hint::spin_loop());
            middle.kill().expect("to kill it");
            middle.wait().expect("its status");

            for (survivor, label) in survivors.iter_mut().zip(1..) {
                // It has not touched its memory before.
                survivor.assert_state(label);
                survivor.ask(format_args!("fill {}", label + 100));
            }
            for (survivor, label) in survivors.iter_mut().zip(1..) {
                let mut grandchild = survivor.spawn(&agents, label + 100);
                grandchild.assert_state(label + 100);
                grandchild.ask(format_args!("fill {}", label + 200));
                survivor.assert_state(label + 100);
                grandchild.assert_state(label + 200);
            }
        }
        assert_eq!(seed(&mapped.memory), Some(1_000));
    }
}
