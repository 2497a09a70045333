//! `cowspace doctor`: what this machine offers, what is lost without what it lacks, and what to do.
//!
//! [`host_memory::probe`] tries what the kernel does, [`machine`] reads who we are and what stands
//! in the way, [`findings`] and [`access`] turn both into words (pure, so that every machine can be
//! tested on any), [`print`] shows them.

mod access;
mod findings;
mod machine;
mod print;

use std::process::ExitCode;

use host_memory::probe::Probe;
use machine::Machine;

/// Say what this machine offers to cowspace, what is lost without what it lacks, and what to do
///
/// Exits with 0 where traced mode works (cowspace sees, resolves and times page faults), 1 where
/// only native mode does (the kernel resolves them alone, to the same bytes), 2 where cowspace
/// cannot run.
///
/// The answers hold for the user, the container and the environment it is run in. COWSPACE_DISABLE
/// (a comma list of uffd, dev-userfaultfd, kernel-faults, wp, continue-wp, minor, poison,
/// pagemap-scan, dontunmap, collapse, force) hides features from cowspace, and so from this.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// Examines the machine, prints the report, and returns its exit status.
pub(crate) fn run(args: &Args) -> ExitCode {
    let report = findings::examine(Probe::get(), &Machine::read());
    let printed = if args.json {
        print::json(&report)
    } else {
        print::text(&report)
    };
    match printed {
        // Whoever closed the pipe early (`| head -1`) has read what it wanted.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            crate::say(format_args!("cannot print the report: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(report.verdict.exit_status()),
    }
}
