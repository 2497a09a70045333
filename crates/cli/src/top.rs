//! `cowspace top`: what a running process's faults and memory look like now, refreshed in place.
//!
//! | file | what it does |
//! |---|---|
//! | `source.rs` | asks the process |
//! | `sample.rs` | what it has told |
//! | `state.rs` | from answers to what is shown: rates, what was added, what is remembered |
//! | `view.rs`, `words.rs` | how that looks |
//! | `screen.rs` | the terminal, and how it is given back |
//! | `live.rs` | keys, signals, answers, one after the other |
//! | `lines.rs` | the same as JSON, for programs |

mod lines;
mod live;
mod sample;
mod screen;
mod source;
mod state;
mod view;
#[cfg(test)]
mod view_tests;
mod words;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use source::Source;

/// Watch a running process: faults a second, how long they take, how they end, memory saved by sharing
///
/// The process must let itself be looked into: start it with COWSPACE_INSPECT=1. Only its own user and root can. Keys: q, Esc or Ctrl-C quits, p pauses, + and - change the interval.
///
/// Missing faults are of pages that are not there yet, minor ones of pages that are in the file but not mapped, write-protect ones are the first writes to pages. Times are those in the fault handler,
/// from reading a fault to the end of its ioctl; what the kernel takes before and after it only `cowspace profile` can tell. Native mappings have no faults here: the kernel resolves them alone.
///
/// Exits with 0 when told to quit, by a key or by SIGTERM, SIGINT or SIGHUP, and when the process has ended.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The process
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pid: u32,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,

    /// Print one JSON document a line for each look, instead of the screen
    #[arg(long)]
    json: bool,

    /// End after the first look that tells rates; with --json only
    #[arg(long, requires = "json")]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 0.1..=3_600.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0.1 to 3600 is wanted".into()),
    }
}

/// Shows the process until told to quit, or until it ends.
pub(crate) fn run(args: &Args) -> ExitCode {
    match watch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn watch(args: &Args) -> anyhow::Result<()> {
    if !args.json && !io::stdout().is_terminal() {
        anyhow::bail!("standard output is not a terminal: use --json, or cowspace inspect");
    }
    let source = Source::connect(args.pid)?;
    if args.json {
        lines::print(source, args.interval, args.once)
    } else {
        live::show(source, args.interval)
    }
}
