//! The `cowspace` command: what a person asks about cowspace on a machine.
//!
//! Each subcommand is a module with its arguments and a `run`.
#![forbid(unsafe_code)]

mod doctor;

use std::process::ExitCode;

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
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Doctor(args) => doctor::run(&args),
    }
}
