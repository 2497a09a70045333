//! `kill -9` of children at random points.

use std::os::unix::process::ExitStatusExt;
use std::thread;

use cowspace::Policy;
use cowspace_tests::processes::{Holdings, children_of, launcher_of, until};
use rustix::process::{Pid, Signal, kill_process};
use zygote::{Child, Context, Error, Spawn, Zygote};

use crate::agent::{Agents, told};
use crate::memory::{Mapped, Random, fill, policies, seed_of, store};

const PAGES: usize = 200;
/// For all policies together.
const KILLS: usize = 200;

/// Stores to all of its memory, again and again.
pub(crate) fn store_for_ever(context: Context) -> i32 {
    let (_, memory, _) = told(&context);
    loop {
        fill(&memory, 7);
    }
}

/// After the memory that was cloned is gone, the zygote has what it had before there was any: descriptors, mappings, threads, and memory.
pub(crate) fn leave_nothing_in_the_zygote(zygote: &Zygote) {
    let myself = std::process::id();
    let mut random = Random::new();
    for &(zygotes, childrens) in policies() {
        // What the first mapping and the first child bring stays: the engine, and its thread.
        kill_children(zygote, zygotes, childrens, &mut random, 3);
        let before = Holdings::of(myself);
        let kills = KILLS.div_ceil(policies().len());
        kill_children(zygote, zygotes, childrens, &mut random, kills);
        until(|| Holdings::of(myself).threads == before.threads);
        assert_eq!(Holdings::of(myself), before, "{zygotes:?}, {childrens:?}");
    }
}

fn kill_children(
    zygote: &Zygote,
    zygotes: Policy,
    childrens: Policy,
    random: &mut Random,
    kills: usize,
) {
    let agents = Agents::new();
    let mapped = Mapped::new(PAGES, zygotes);
    fill(&mapped.memory, 1);
    let spawn = Spawn::new("killed_children::store_for_ever")
        .args(agents.arguments(&mapped.memory, 0))
        .policy(childrens);
    for round in 2..kills as u64 + 2 {
        // Each snapshot has something to do.
        let page = random.below(PAGES as u32) as usize;
        store(&mapped.memory, round, page);
        let status = match spawn_and_kill(zygote, &spawn, random) {
            Ok(mut child) => child.wait().expect("its status"),
            Err(Error::Ended(status)) => status,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(status.signal(), Some(9));
        assert_eq!(seed_of(&mapped.memory, page), Some(round));
    }
}

/// Spawns a child that is killed at any moment from its first on.
fn spawn_and_kill(
    zygote: &Zygote,
    spawn: &Spawn<'_>,
    random: &mut Random,
) -> Result<Child, Error> {
    let launcher = launcher_of(std::process::id());
    until(|| children_of(launcher).is_empty());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut victim = None;
            until(|| {
                victim = children_of(launcher).first().copied();
                victim.is_some()
            });
            random.pause(100_000);
            let victim = victim.and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
            // It cannot have ended by itself.
            kill_process(victim.expect("a process id"), Signal::KILL).expect("to kill it");
        });
        zygote.spawn(spawn)
    })
}
