//! `kill -9` of children at random points.

use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc::sync_channel;
use std::thread;

use cowspace::Policy;
use cowspace_tests::processes::{Holdings, children_of, launcher_of, until};
use rustix::process::{Pid, Signal, kill_process};
use test_share::share;
use zygote::{Context, Error, Spawn, Zygote};

use crate::agent::{Agents, told};
use crate::memory::{Mapped, Random, fill, policies, seed_of, store};

const PAGES: usize = 200;
/// For all policies together.
const KILLS: u32 = 200;

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
    let launcher = launcher_of(myself);
    let (wanted, killer) = sync_channel::<u32>(0);
    thread::scope(|scope| {
        // Of one thread that lives all the time it is sure when it is counted.
        scope.spawn(move || {
            killer
                .into_iter()
                .for_each(|pause| kill_first_of(launcher, pause))
        });
        let mut random = Random::new();
        for &(zygotes, childrens) in policies() {
            let mut kill_children = |kills| {
                let mapped = Mapped::new(PAGES, zygotes);
                fill(&mapped.memory, 1);
                for round in 2..kills + 2 {
                    until(|| children_of(launcher).is_empty());
                    wanted
                        .send(random.below(100_000))
                        .expect("the killer is there");
                    let page = random.below(PAGES as u32) as usize;
                    spawn_victim(zygote, &mapped, childrens, page, round);
                }
            };
            // What the first mapping and the first child bring stays: the engine, and its thread.
            kill_children(3);
            let before = Holdings::of(myself);
            kill_children(u64::from(share(KILLS)).div_ceil(policies().len() as u64));
            assert_eq!(Holdings::of(myself), before, "{zygotes:?}, {childrens:?}");
        }
        drop(wanted);
    });
}

/// Kills the next child of the launcher, some time after it was forked.
fn kill_first_of(launcher: u32, pause: u32) {
    let mut victim = None;
    until(|| {
        victim = children_of(launcher).first().copied();
        victim.is_some()
    });
    (0..pause).for_each(|_| std::hint::spin_loop());
    let victim = victim.and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    // It does not end by itself.
    kill_process(victim.expect("a process id"), Signal::KILL).expect("to kill it");
}

/// Spawns a child that is killed before it is ready, or later.
fn spawn_victim(zygote: &Zygote, mapped: &Mapped, policy: Policy, page: usize, round: u64) {
    // Each snapshot has something to do.
    store(&mapped.memory, round, page);
    let spawn = Spawn::new("killed_children::store_for_ever")
        .args(Agents::new().arguments(&mapped.memory, 0))
        .policy(policy);
    let status = match zygote.spawn(&spawn) {
        Ok(mut child) => child.wait().expect("its status"),
        Err(Error::Ended(status)) => status,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    assert_eq!(seed_of(&mapped.memory, page), Some(round));
}
