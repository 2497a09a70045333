//! `cowspace bench`: how fast cowspace is on this machine, beside `fork()` and a bare userfaultfd loop.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use cowspace_bench::{Options, Report, Scale};

/// Measure how fast cowspace is on this machine, beside fork(), a bare userfaultfd loop and others
///
/// Every figure stands beside the same of its rivals, measured in the same run, in alternating rounds: the median of
/// the rounds, with the least and the most. A row says what must be reached, and whether it is; that changes nothing
/// about the exit status. What this machine cannot do is skipped, and said on standard error.
///
/// docs/performance.md says for each name what is measured. All of it takes some minutes and most of the memory, and
/// means something only on a machine that does nothing else.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,

    /// Measure only this, for example fault.traced; can be given several times
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(cowspace_bench::names()))]
    only: Vec<String>,

    /// Rounds for each name, instead of its own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,

    /// Where to put pictures of the curves
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "target/bench",
        overrides_with = "plots"
    )]
    plots: PathBuf,

    /// How large everything is: `small` takes seconds, and shows only that the bench works
    #[arg(long, value_enum, default_value_t = Size::Full)]
    scale: Size,

    /// Be a worker of another bench
    #[arg(long, hide = true)]
    worker: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Size {
    Full,
    Small,
}

/// Measures, prints, and draws.
pub(crate) fn run(args: &Args) -> ExitCode {
    if args.worker {
        return cowspace_bench::worker();
    }
    let options = Options {
        only: args.only.clone(),
        rounds: args.rounds.map(usize::from),
        scale: match args.scale {
            Size::Full => Scale::Full,
            Size::Small => Scale::Small,
        },
        worker: ["bench", "--worker"].map(Into::into).into(),
    };
    match cowspace_bench::run(&options).and_then(|report| show(args, &report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn show(args: &Args, report: &Report) -> anyhow::Result<()> {
    let text = if args.json {
        report.json()
    } else {
        report.table()
    };
    match writeln!(io::stdout().lock(), "{text}") {
        // Whoever closed the pipe early (`| head`) has read what it wanted.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    for file in cowspace_bench::plot(report, &args.plots)? {
        crate::tell(format_args!("drawn: {}", file.display()));
    }
    Ok(())
}
