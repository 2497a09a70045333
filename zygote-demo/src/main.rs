//! A warmed search index served by cloned processes: the demonstration of cowspace, and its comparison with what else there is.
//!
//! ```text
//!  main ── cli ── warm (text, index, pad) ── rows ─┬─ cowspace: this process is the zygote
//!                                                  ├─ fork:     a process of its own is
//!                                                  └─ cold:     nobody is
//!                    children (what each does) ────┘
//!  profile: records the faults of the cowspace rows
//!  report: the table, or JSON
//!
//!  main ── cli ── js: a JavaScript runtime instead of the index
//! ```

#![forbid(unsafe_code)]

mod children;
mod cli;
mod index;
mod js;
mod pad;
mod plan;
mod profile;
mod progress;
mod report;
mod rows;
mod smaps;
mod state;
mod text;
mod warm;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use cowspace::Policy;
use zygote::Launcher;

use crate::cli::{Cli, Role, Runtime};
use crate::plan::{How, Plan};
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::Findings;
use crate::rows::Zygote;
use crate::rows::cowspace::Warmed;
use crate::state::State;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Runtime::Js(js)) = &cli.runtime {
        return js::run(js).unwrap_or_else(|error| {
            report_error(&error);
            ExitCode::FAILURE
        });
    }
    let done = match cli.role {
        Some(Role::Fork) => rows::fork::process().map(|()| true),
        Some(Role::Cold) => rows::cold::process().map(|()| true),
        Some(Role::JsFork) => js::compare::fork_children().map(|()| true),
        Some(Role::JsCold) => js::compare::run_once().map(|()| true),
        Some(Role::JsRepeat) => js::compare::run_repeatedly().map(|()| true),
        None => compare(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says on one line what went wrong. The result is the exit code that goes with it.
fn report_error(error: &anyhow::Error) -> i32 {
    let text = format!("{error:#}").replace('\n', " ");
    eprintln!("zygote-demo: {text}");
    1
}

/// Runs all rows and prints what came out. The result is whether every process saw exactly its own index.
fn compare(cli: &Cli) -> Result<bool> {
    // Before anything else: the launcher is forked from this process as it is now, and it must have no second thread.
    let launcher = Launcher::start(&[rows::cowspace::ENTRY])?;
    let profile = cli.profile.as_deref().map(Profile::begin).transpose()?;
    let mut source = cli.source();
    let documents = source.read()?;
    let plan = Plan::new(
        &documents,
        &cli.query,
        cli.children.into(),
        cli.rounds.into(),
    );
    let mut progress = Progress::new();

    let mut zygote = Warmed::new(launcher, source.room(&documents), profile.as_ref())?;
    source.warm(zygote.heap(), &documents, &mut progress)?;
    let heap_bytes = zygote.heap().allocated();
    let fresh = State::of(&*index::of(zygote.heap())?, &plan.queries(How::Cold));
    let frozen = if cli.no_freeze {
        None
    } else {
        progress.say(|| "freezing the index".to_owned());
        Some(zygote.freeze()?)
    };
    let mut outcomes = Vec::new();
    for (how, policy) in [
        (How::CowspaceNative, Policy::Native),
        (How::CowspaceTraced, Policy::Traced),
    ] {
        zygote.set_policy(policy);
        outcomes.push((
            how,
            rows::run(how, &mut zygote, &plan, &mut progress).context(how.name())?,
        ));
    }
    if let Some(profile) = profile {
        profile.end()?;
    }
    // The other rows need the memory.
    zygote.unmap()?;
    progress.say(|| "fork: a process of its own warms its index and forks".to_owned());
    outcomes.push((
        How::Fork,
        rows::fork::run(&source, &plan).context(How::Fork.name())?,
    ));
    outcomes.push((
        How::Cold,
        rows::cold::run(&source, &plan, &fresh, &mut progress).context(How::Cold.name())?,
    ));
    drop(progress);
    if let Some(path) = &cli.profile {
        let path = path.display();
        eprintln!("page faults are recorded: cowspace profile show {path}");
    }

    let findings = Findings {
        documents: &documents,
        plan: &plan,
        fresh: &fresh,
        heap_bytes,
        frozen,
        outcomes: &outcomes,
    };
    findings.print(cli.json)
}
