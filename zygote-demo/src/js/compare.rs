//! The same script in several ways, measured in one run.
//!
//! ```text
//!  this process ─┬─ spawns children of its own      cowspace-native, -traced, and both with spare children
//!                ├─ a process that forks            fork
//!                ├─ a process for each request      cold
//!                └─ a process that runs it itself   in-process: what there is to lose
//! ```

mod bars;
mod report;
mod rivals;
mod round;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use cowspace::Policy;
use host_memory::probe::Probe;
use serde::{Deserialize, Serialize};
use zygote::Launcher;

pub(crate) use self::rivals::{fork_children, run_once, run_repeatedly};

use self::report::Report;
use self::rivals::{Forker, Repeater, cold};
use self::round::{Before, Cowspace, Plan, Tally, children, own};
use super::script::{Library, Script};
use super::zygote::Zygote;
use crate::progress::Progress;
use crate::report::Frozen;

/// Spare children in the rows that have some.
const SPARES: usize = 2;

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    /// Children that live at the same time.
    pub(super) children: usize,
    pub(super) repeat: usize,
}

/// How a script comes to its runtime: the rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum How {
    /// In a clone by cowspace; the kernel resolves faults alone.
    CowspaceNative,
    /// In a clone by cowspace whose faults the fault handler resolves and times.
    CowspaceTraced,
    /// As cowspace-native; a spare child with its copy has waited for the script.
    CowspaceNativePool,
    /// As cowspace-traced; a spare child with its copy has waited for the script.
    CowspaceTracedPool,
    /// In a process copied by fork(2), from private anonymous memory.
    Fork,
    /// In a process that is executed, and loads the library by itself.
    Cold,
    /// In one process that has it loaded and runs it again and again: no isolation.
    InProcess,
}

impl How {
    /// The ways that are cowspace's own: the policy, and whether there are spare children.
    const COWSPACE: [(How, Policy, usize); 4] = [
        (How::CowspaceNative, Policy::Native, 0),
        (How::CowspaceTraced, Policy::Traced, 0),
        (How::CowspaceNativePool, Policy::Native, SPARES),
        (How::CowspaceTracedPool, Policy::Traced, SPARES),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            How::CowspaceNative => "cowspace-native",
            How::CowspaceTraced => "cowspace-traced",
            How::CowspaceNativePool => "cowspace-native-pool",
            How::CowspaceTracedPool => "cowspace-traced-pool",
            How::Fork => "fork",
            How::Cold => "cold",
            How::InProcess => "in-process",
        }
    }

    pub(super) fn is_cowspace(self) -> bool {
        How::COWSPACE.iter().any(|(how, ..)| *how == self)
    }
}

/// Runs and measures all ways, and prints what came out. The exit code says whether every child told the same.
pub(super) fn run(
    launcher: Launcher,
    library: &Library,
    script: &Script,
    rounds: Rounds,
    json: bool,
) -> Result<ExitCode> {
    let mut progress = Progress::new();
    let (mut zygote, runtime) = Zygote::new(launcher, library)?;
    let alone = own()?.pss;
    let frozen = Frozen::by(|| zygote.freeze())?;
    let heap_bytes = runtime.heap().allocated();
    let mut repeater = Repeater::start(library, script)?;
    let expected = repeater.first();
    let reason = expected.document().reason().unwrap_or_default();
    ensure!(
        expected.end.code() == 0,
        "the script does not end well, so there is nothing to compare: {reason}"
    );
    let plan = Plan {
        script: script.clone(),
        expected,
    };
    let mut forker = Forker::start(library, &plan)?;
    let traced = Probe::get().traced.is_yes();
    if !traced {
        eprintln!(
            "zygote-demo: no cowspace-traced rows: this machine cannot trace faults (`cowspace doctor` says why)"
        );
    }
    let mut rows: Vec<(How, Tally)> = Vec::new();
    let mut add = |how: How, tally: Tally| match rows.iter_mut().find(|(other, _)| *other == how) {
        Some((_, all)) => all.add(tally),
        None => rows.push((how, tally)),
    };
    for round in 1..=rounds.repeat {
        for (how, policy, spares) in How::COWSPACE {
            if policy == Policy::Traced && !traced {
                continue;
            }
            progress.say(|| format!("round {round}: {}", how.name()));
            zygote.policy = policy;
            zygote.spares().resize(spares)?;
            add(
                how,
                children(&plan, rounds.children, &mut Cowspace(&zygote))?,
            );
            zygote.spares().resize(0)?;
        }
        progress.say(|| format!("round {round}: fork"));
        add(How::Fork, forker.round(rounds.children)?);
        progress.say(|| format!("round {round}: in-process"));
        add(How::InProcess, repeater.round(rounds.children)?);
        for number in 0..rounds.children.div_ceil(rounds.repeat) {
            progress.say(|| format!("round {round}: cold, process {}", number + 1));
            add(How::Cold, cold(library, &plan)?);
        }
    }
    let first_ns = repeater.first_ns;
    forker.end()?;
    repeater.end()?;
    drop(progress);
    // Variables of the script's own may well be in its way when it runs a second time.
    let repeats = rows
        .iter()
        .position(|(how, tally)| *how == How::InProcess && !tally.wrong.is_empty());
    if let Some(row) = repeats {
        rows.remove(row);
        eprintln!(
            "zygote-demo: no in-process row: in a process that has run the script before it tells something else"
        );
    }
    let before = Before {
        alone,
        frozen: frozen.bytes,
    };
    let report = Report::new(script, rounds, heap_bytes, before, frozen, first_ns, &rows);
    for (how, tally) in &rows {
        tally.complain(how.name());
    }
    report.print(json)?;
    let right = rows.iter().all(|(_, tally)| tally.wrong.is_empty());
    Ok(if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
