//! One turn of one way: children that live at the same time, and children one after the other.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::super::answer::Answer;
use super::super::script::Script;
use super::super::zygote::Zygote;
use crate::children::Child;
use crate::smaps::{self, Memory};

/// How many wrong answers of a row are told in full.
const SHOWN: usize = 3;

/// The same for all ways.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) script: Script,
    /// What it must tell.
    pub(super) expected: Answer,
}

/// What was measured. Times are in nanoseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// From each request to its result.
    pub(super) request_ns: Vec<u64>,
    pub(super) together: Vec<Together>,
    /// From each request until the process that answered it was gone, one request after the other.
    pub(super) life_ns: Vec<u64>,
    /// Whoever told something else than expected, in words.
    pub(super) wrong: Vec<String>,
}

/// The memory of children that live at the same time, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Together {
    pub(super) children: u64,
    /// Sums over the children.
    pub(super) pss: u64,
    pub(super) private: u64,
    /// What the process that gave them its memory has for itself.
    pub(super) zygote_private: u64,
}

/// The memory of a zygote before it has children, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Its PSS when it had loaded all.
    pub(super) alone: u64,
    /// Of it, what was then frozen: that is there once, for the zygote and its children, whether anybody has it mapped or not.
    pub(super) frozen: u64,
}

/// A process that gives children its memory.
pub(super) trait Way {
    /// A child that runs the script.
    fn request(&mut self, script: &Script) -> Result<Child>;

    /// A child has given its result, and lives.
    fn answered(&mut self, _: &Child) {}

    /// What there is to do between two requests.
    fn between(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.request_ns.extend(other.request_ns);
        self.together.extend(other.together);
        self.life_ns.extend(other.life_ns);
        self.wrong.extend(other.wrong);
    }

    /// Notes how long a request took, and whether its answer is right.
    pub(super) fn answered(&mut self, plan: &Plan, who: impl FnOnce() -> String, answer: &Answer) {
        if *answer != plan.expected {
            let who = who();
            let (told, expected) = (answer.document(), plan.expected.document());
            self.wrong
                .push(format!("{who} tells {told:?} instead of {expected:?}"));
        }
    }

    /// Tells of wrong answers.
    pub(super) fn complain(&self, how: &str) {
        for wrong in self.wrong.iter().take(SHOWN) {
            eprintln!("zygote-demo: {how}: {wrong:.400}");
        }
    }

    /// Sends the script to a process that is made for it. The result is the process, and how long the script's result took.
    fn request(
        &mut self,
        plan: &Plan,
        request: impl FnOnce(&Script) -> Result<Child>,
    ) -> Result<(Child, u64)> {
        let begin = Instant::now();
        let mut child = request(&plan.script)?;
        let answer = Answer::read(|| child.reply())?;
        let took = nanoseconds(begin);
        self.answered(plan, || format!("process {}", child.pid()), &answer);
        Ok((child, took))
    }
}

/// One turn of children that this process gives its memory.
pub(super) fn children(plan: &Plan, count: usize, way: &mut impl Way) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut alive = Vec::new();
    for _ in 0..count {
        way.between()?;
        let (child, took) = tally.request(plan, |script| way.request(script))?;
        way.answered(&child);
        tally.request_ns.push(took);
        alive.push(child);
    }
    let mut together = Together {
        children: count as u64,
        zygote_private: own()?.private,
        ..Together::default()
    };
    for child in &alive {
        together.count(child)?;
    }
    tally.together.push(together);
    for child in alive {
        child.end()?;
    }
    for _ in 0..count {
        let begin = Instant::now();
        way.between()?;
        let (child, _) = tally.request(plan, |script| way.request(script))?;
        way.answered(&child);
        child.end()?;
        tally.life_ns.push(nanoseconds(begin));
    }
    Ok(tally)
}

/// One process that nobody gives its memory.
pub(super) fn alone(plan: &Plan, request: impl FnOnce(&Script) -> Result<Child>) -> Result<Tally> {
    let mut tally = Tally::default();
    let (child, took) = tally.request(plan, request)?;
    tally.request_ns.push(took);
    let mut together = Together {
        children: 1,
        ..Together::default()
    };
    together.count(&child)?;
    tally.together.push(together);
    let begin = Instant::now();
    child.end()?;
    tally.life_ns.push(took + nanoseconds(begin));
    Ok(tally)
}

impl Together {
    fn count(&mut self, child: &Child) -> Result<()> {
        let Memory { pss, private } = smaps::of(child.pid())?;
        self.pss += pss;
        self.private += private;
        Ok(())
    }
}

pub(super) fn own() -> Result<Memory> {
    smaps::of(i32::try_from(std::process::id())?)
}

pub(super) fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Children of cowspace's zygote.
pub(super) struct Cowspace<'a>(pub(super) &'a Zygote);

impl Way for Cowspace<'_> {
    fn request(&mut self, script: &Script) -> Result<Child> {
        let zygote = self.0;
        let mut child = zygote.run(script)?;
        let pid = i32::try_from(child.id())?;
        let requests = child.stdin.take().context("no pipe to the child")?;
        let replies = child.stdout.take().context("no pipe from the child")?;
        Ok(Child::new(pid, requests, replies, move || {
            let status = child.wait()?;
            ensure!(status.success(), "child {pid} failed: {status}");
            Ok(())
        }))
    }

    fn answered(&mut self, child: &Child) {
        self.0.learn(child.pid());
    }

    fn between(&mut self) -> Result<()> {
        self.0.refill()?;
        self.0.spares().until_ready();
        Ok(())
    }
}
