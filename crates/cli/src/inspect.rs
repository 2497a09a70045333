//! `cowspace inspect`: what a running process has, as it tells itself ([`cowspace::inspect`]), beside what the kernel says of it.

mod dot;
mod family;
mod smaps;
mod svg;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use cowspace::inspect::{Inspection, connect};
use serde::Serialize;
use smaps::Smaps;

/// Show a running process's VMARs, mappings, VMOs, clone families and layers
///
/// The process must have been started with COWSPACE_INSPECT=1, or have called cowspace::inspect::listen, and be
/// this user's (root can inspect everybody's). It goes on running meanwhile.
///
/// private: pages that a mapping has of its own. shared: pages of files in its page table. home: where a VMO keeps
/// what it changes: a file of its own, a sparse one over layers, or private pages of its one mapping. A hidden node is
/// what a VMO had when it was cloned; a layer is the sealed memory file its pages lie in.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The process
    pid: u32,

    /// Print one JSON document; the names are those of cowspace::inspect::Inspection
    #[arg(long, group = "form")]
    json: bool,

    /// Print the clone families as a graph for Graphviz
    #[arg(long, group = "form")]
    dot: bool,

    /// Print the clone families as a picture
    #[arg(long, group = "form")]
    svg: bool,
}

/// What is shown of a process.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    inspection: Inspection,
    /// The command line.
    command: Vec<String>,
    /// What the kernel says, if it does.
    smaps: Option<Smaps>,
}

/// Asks and prints.
pub(crate) fn run(args: &Args) -> ExitCode {
    let inspection = connect(args.pid).and_then(|mut client| client.inspect());
    let inspection = match inspection {
        Ok(inspection) => inspection,
        Err(error) => {
            crate::say(error);
            return ExitCode::FAILURE;
        }
    };
    let report = Report {
        command: smaps::command(args.pid),
        smaps: smaps::read(&inspection),
        inspection,
    };
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_err(io::Error::from)
    } else if args.dot {
        Ok(dot::draw(&report.inspection))
    } else if args.svg {
        Ok(svg::draw(&report.inspection))
    } else {
        Ok(text::write(&report))
    };
    match text.and_then(|text| writeln!(io::stdout().lock(), "{}", text.trim_end())) {
        // Whoever closed the pipe early (`| head`) has read what it wanted.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            crate::say(format_args!("cannot print: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Bytes for people: "1.5 MiB".
fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// A count and its noun.
fn count(n: u64, one: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    match one.strip_suffix('y') {
        Some(stem) if n != 1 => format!("{n} {stem}ies"),
        _ => format!("{n} {one}{plural}"),
    }
}

/// At most so many characters of a text.
fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.into();
    }
    let start: String = text.chars().take(longest - 1).collect();
    start + "…"
}
