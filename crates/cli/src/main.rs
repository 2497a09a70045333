//! The `cowspace` command: what a person asks about cowspace on a machine.
//!
//! Each subcommand is a module with its arguments and a `run`.
#![forbid(unsafe_code)]

mod bench;
mod doctor;
mod inspect;
mod profile;
mod top;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Zircon's virtual memory objects on Linux: tools.
#[derive(Parser)]
#[command(name = "cowspace", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Doctor(doctor::Args),
    Bench(bench::Args),
    Inspect(inspect::Args),
    Top(top::Args),
    Profile(Box<profile::Args>),
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Doctor(args) => doctor::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Top(args) => top::run(&args),
            Command::Profile(args) => profile::run(&args),
        },
        Err(error) => refuse(&error),
    }
}

/// Bad arguments are answered with one line; where help was asked for, or nothing at all, with help.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let text = error.to_string();
    let reason = text.lines().map(str::trim).take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let reason: Vec<&str> = reason.filter(|line| !line.is_empty()).collect();
    let reason = reason.join(" ").replace(" tip:", "; tip:");
    say(reason.strip_prefix("error: ").unwrap_or(&reason));
    ExitCode::from(2)
}

/// Says what is wrong: one line on standard error.
fn say(text: impl Display) {
    tell(format_args!(
        "cowspace: {}",
        text.to_string().replace('\n', " ")
    ));
}

/// A line on standard error. Where nobody is there to be told (a terminal or a pipe is closed) `eprintln` would panic.
fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
