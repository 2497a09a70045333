//! `cowspace profile`: how slow page faults are here, which part of a fault takes the time, and where the faults come from.
//!
//! A run is *recorded* into a file, by [`synthetic`] threads of this process or by another [`program`]; what the file says is computed by the crate
//! cowspace-profile, and shown by [`outputs`].

mod options;
mod outputs;
mod overhead;
mod pattern;
mod program;
mod synthetic;
mod touch;

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use cowspace_profile::{Diff, Profile};
use fault_recording::{ProcessRecording, ReadError, Recording};
use tempfile::NamedTempFile;

use options::Synthetic;
use outputs::{Outputs, Reserved, Summary};
use program::Ended;

use crate::say;

/// Profile page faults: of memory that this command touches itself, or of a program that uses cowspace
///
/// Without PROGRAM, threads of this command touch memory for some seconds, and time each touch. Memory of --size is
/// filled but for its last eighth. In each round it is cloned, by the call that clones what is mapped at an address, the
/// clone is mapped with --policy, and the threads touch pages of it in the order of --pattern. So all of its pages are
/// shared and none is in the page table, as in a child that has just been spawned, and all kinds of faults come:
///
///   minor          the first touch of a page that was filled: to a load the handler gives
///                  the page itself and up to 15 neighbours, to a store a copy
///   write-protect  the first store to a page that is there since it or a neighbour was loaded
///   missing        the first touch of a page that was never filled: it is given zeros
///
/// With --policy native the kernel resolves the faults alone, and only the threads' own times tell of them.
///
/// With PROGRAM, that is run with COWSPACE_RECORD set: its traced faults are recorded, and those of its children that use
/// cowspace. Its standard input, output and error stay its own; the summary comes on standard error when it has ended,
/// and its exit status is passed on: 128 and the number of a signal that ended it, 127 if there is no such program, 126
/// if it cannot be executed. If it made no traced fault the exit status is not 0 either.
///
/// Ctrl-C ends the run; what was recorded until then is shown.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, verbatim_doc_comment, override_usage = USAGE, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    synthetic: Synthetic,

    #[command(flatten)]
    outputs: Outputs,

    /// Keep the recording: `cowspace profile show FILE` shows it again
    #[arg(long, value_name = "FILE", help_heading = outputs::HEADING)]
    record: Option<PathBuf>,

    /// A program and its arguments, to be profiled instead
    #[arg(last = true, value_names = ["PROGRAM", "ARGS"])]
    program: Vec<OsString>,
}

const USAGE: &str = "\
cowspace profile [OPTIONS] [-- PROGRAM ARGS]
       cowspace profile show FILE [OUTPUTS]
       cowspace profile diff BEFORE AFTER [--json]";

const EXAMPLES: &str = "\
Examples:
  cowspace profile                                   how slow a fault is here
  cowspace profile --policy native --pattern zipf    the kernel's own faults, most of them of few pages
  cowspace profile --html faults.html -- ./program   of a program that uses cowspace, as a page with charts
  COWSPACE_RECORD=faults ./program                   record without this command, and show it later:
  cowspace profile show faults";

#[derive(Subcommand)]
enum Command {
    /// Show what was recorded in FILE
    Show {
        /// A recording: of --record, of COWSPACE_RECORD, or of `zygote-demo --profile`
        file: PathBuf,
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Compare two recordings
    Diff {
        /// The recording to compare with
        before: PathBuf,
        /// The recording that is compared
        after: PathBuf,
        /// Print one JSON document instead of text
        #[arg(long)]
        json: bool,
    },
}

/// Profiles, shows or compares; the exit status.
pub(crate) fn run(args: &Args) -> ExitCode {
    if let Err(wrong) = args.check() {
        say(wrong);
        return ExitCode::from(2);
    }
    let done = match &args.command {
        Some(Command::Show { file, outputs }) => show(file, outputs),
        Some(Command::Diff {
            before,
            after,
            json,
        }) => diff(before, after, *json),
        None if args.program.is_empty() => touch_memory(args),
        None => run_program(args),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

impl Args {
    /// What is wrong with arguments that are each in order; one line.
    fn check(&self) -> Result<(), String> {
        match &self.command {
            Some(Command::Show { outputs, .. }) => return outputs.check(None),
            Some(Command::Diff { .. }) => return Ok(()),
            None => {}
        }
        self.outputs.check(self.record.as_deref())?;
        if self.record.as_deref() == Some(Path::new("-")) {
            return Err("--record wants a file: several processes may write to it".to_owned());
        }
        if !self.program.is_empty() {
            return Ok(());
        }
        if env::var_os(program::VARIABLE).is_some() {
            // The engine would obey it, and there is one recorder in a process.
            let variable = program::VARIABLE;
            return Err(format!(
                "{variable} is set, which is for other programs: --record FILE keeps this one's recording"
            ));
        }
        self.synthetic.check()
    }
}

/// Profiles memory that this command touches itself.
fn touch_memory(args: &Args) -> Result<u8> {
    // What cannot be written is found before the work is done.
    let files = args.outputs.open(args.record.as_deref())?;
    let target = Target::new(args.record.as_deref())?;
    let run = synthetic::run(&args.synthetic, &target.path)?;
    files.write(&read(&target.path)?, Summary::Stdout, &run.lines())?;
    Ok(0)
}

/// Profiles another program.
fn run_program(args: &Args) -> Result<u8> {
    let files = args.outputs.open(args.record.as_deref())?;
    let target = Target::new(args.record.as_deref())?;
    let name = args.program[0].display();
    let status = match program::run(&args.program, &target.path)? {
        Ended::Ran(status) => program::passed_on(status),
        Ended::NotStarted(error) => {
            say(format_args!("cannot run {name}: {error}"));
            return Ok(program::not_started(&error));
        }
    };
    let recorded = match fault_recording::read(&target.path) {
        Err(ReadError::Empty) => Err("it does not use cowspace, or did not come to it"),
        Err(error) => return failed(status, &error.into()),
        Ok(recording) => match &recording.processes {
            processes if processes.iter().any(has_faults) => Ok(recording),
            processes if processes.iter().any(|process| process.start.traced) => {
                Err("its mappings are native, or it touched no page of them")
            }
            _ => Err("`cowspace doctor` says why faults cannot be traced here"),
        },
    };
    let shown = match recorded {
        Ok(recording) => files.write(&recording, Summary::Stderr, &[]),
        Err(reason) => Err(anyhow!("{name} made no traced fault: {reason}")),
    };
    match shown {
        Ok(()) => Ok(status),
        Err(error) => failed(status, &error),
    }
}

/// Says what failed of profiling a program. How the program itself ended counts for more.
fn failed(status: u8, error: &anyhow::Error) -> Result<u8> {
    say(format_args!("{error:#}"));
    Ok(if status == 0 { 1 } else { status })
}

fn has_faults(process: &ProcessRecording) -> bool {
    !process.faults.is_empty() || !process.probes.is_empty()
}

fn show(file: &Path, outputs: &Outputs) -> Result<u8> {
    let files = outputs.open(Some(file))?;
    files.write(&read(file)?, Summary::Stdout, &[])?;
    Ok(0)
}

fn diff(before: &Path, after: &Path, json: bool) -> Result<u8> {
    let profile = |file| Ok::<_, anyhow::Error>(Profile::new(&read(file)?));
    let diff = Diff::new(&profile(before)?, &profile(after)?);
    outputs::piped(io::stdout(), |out| {
        if json {
            diff.write_json(out)
        } else {
            diff.write_text(out)
        }
    })
    .context("cannot print the comparison")?;
    Ok(0)
}

fn read(file: &Path) -> Result<Recording> {
    fault_recording::read(file).map_err(|error| match error {
        // It names the file itself.
        ReadError::Io { .. } => anyhow!(error),
        error => anyhow!("{}: {error}", file.display()),
    })
}

/// The file of the recording, empty. One that is not wanted later is removed when this is dropped.
struct Target {
    path: PathBuf,
    _kept: Option<Reserved>,
    _scratch: Option<NamedTempFile>,
}

impl Target {
    fn new(kept: Option<&Path>) -> Result<Target> {
        let Some(path) = kept else {
            let scratch =
                NamedTempFile::with_prefix("cowspace-").context("no room for a recording")?;
            return Ok(Target {
                path: std::path::absolute(scratch.path())?,
                _kept: None,
                _scratch: Some(scratch),
            });
        };
        // Several processes append to it, wherever their folder is.
        let path = std::path::absolute(path)?;
        let reserved = Reserved::new(&path)?;
        if !reserved.is_plain() {
            return Err(anyhow!(
                "cannot record to {}: it is no plain file",
                path.display()
            ));
        }
        let cannot = || format!("cannot record to {}", path.display());
        reserved.empty().with_context(cannot)?;
        Ok(Target {
            path,
            _kept: Some(reserved),
            _scratch: None,
        })
    }
}
