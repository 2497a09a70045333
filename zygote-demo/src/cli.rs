//! The command line.

use std::path::PathBuf;
use std::process::Command;

use bytesize::ByteSize;
use clap::{Parser, Subcommand, ValueEnum};

use crate::js::Js;
use crate::warm::Source;

/// Warm a search index once, and give it to many processes.
///
/// A zygote reads text and builds an index of it (which word stands where) in memory that is mapped from a VMO. Then it spawns children that
/// have the index at once, each for itself: each answers queries, indexes a document of its own, and answers again. The zygote changes its index too, and spawns a
/// second generation. Every process must see exactly its own index; that is checked to the last posting.
///
/// The same is done in four ways, and what they cost is compared:
///
///   cowspace-native  an address-space clone; the kernel resolves faults alone
///   cowspace-traced  the same, each fault resolved and timed by cowspace's fault handler
///   fork             fork(2) of a process with the index in private anonymous memory
///   cold             no zygote: the program is executed again, and indexes again
#[derive(Parser, Debug)]
#[command(version, verbatim_doc_comment, after_help = AFTER_HELP, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) runtime: Option<Runtime>,

    /// Text files and folders to index; by default this repository's own text.
    pub(crate) paths: Vec<PathBuf>,

    /// Pad the index to this size, as 64MiB or 1GiB, with documents made of the text's own words.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "0B",
        hide_default_value = true
    )]
    pub(crate) heap: ByteSize,

    /// How many children each generation has.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) children: u16,

    /// How many generations of children the zygotes spawn.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub(crate) rounds: u16,

    /// A word, or several as a phrase, for the children to look up; can be given several times. By default some words of the text.
    #[arg(long, short, value_name = "WORDS")]
    pub(crate) query: Vec<String>,

    /// Do not freeze the warmed index before children are spawned: the first of them waits, and all read it page by page.
    #[arg(long)]
    pub(crate) no_freeze: bool,

    /// Record the page faults of the zygote and of its traced children to this file, which `cowspace profile show FILE` reads. A recording that is there is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,

    /// Print one JSON document and nothing else.
    #[arg(long)]
    pub(crate) json: bool,

    /// What this process is within another run of the program.
    #[arg(long, value_enum, hide = true)]
    pub(crate) role: Option<Role>,
}

const AFTER_HELP: &str = "\
Columns of the table:
  first answer   from the request for a child until its first answer has arrived
  memory         of the first generation, by the kernel's account (smaps): shared pages divided by
                 the number of processes that share them (PSS), and pages that are a child's alone
  page faults    of the first generation, all together
  first store    to a page that the zygote has warmed (cold: to fresh memory), median and p99, as
                 the storing thread saw it: what one copy-on-write fault costs

Examples:
  zygote-demo                                  this repository's text, 8 children
  zygote-demo --heap 1GiB --children 16        an index for which fork() takes its time
  zygote-demo ~/notes --query 'page fault'     your own text and question
  zygote-demo --json | jq .rows                for a program to read
  zygote-demo --profile demo.faults            each page fault of the cowspace rows, to look into

Exit status: 0 if every process saw exactly its own index, else 1.";

/// What else can be warm.
#[derive(Debug, Subcommand)]
pub(crate) enum Runtime {
    Js(Js),
}

/// The parts of a run that are processes of their own.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Warms an index and forks children.
    Fork,
    /// Indexes for itself.
    Cold,
    /// Loads JavaScript, and forks children.
    JsFork,
    /// Loads JavaScript, and runs a script once.
    JsCold,
    /// Loads JavaScript, and runs a script as often as it is asked to.
    JsRepeat,
}

impl Role {
    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Fork => "fork",
            Role::Cold => "cold",
            Role::JsFork => "js-fork",
            Role::JsCold => "js-cold",
            Role::JsRepeat => "js-repeat",
        }
    }

    /// This program in another role.
    pub(crate) fn command(self) -> Command {
        // Not the file's name: the very program that runs now, even if another one has been put in its place meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("--role").arg(self.name());
        command
    }
}

impl Cli {
    /// What the index is made of.
    pub(crate) fn source(&self) -> Source {
        let heap = usize::try_from(self.heap.as_u64()).unwrap_or(usize::MAX);
        Source::new(self.paths.clone(), heap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let heap = |size: &str| {
            Cli::try_parse_from(["zygote-demo", "--heap", size]).map(|cli| cli.source().heap)
        };
        assert_eq!(heap("1GiB").unwrap(), 1 << 30);
        assert_eq!(heap("64 MiB").unwrap(), 64 << 20);
        assert!(heap("much").is_err());
    }

    #[test]
    fn roles_are_named_as_they_are_parsed() {
        for role in Role::value_variants() {
            assert_eq!(role.to_possible_value().unwrap().get_name(), role.name());
        }
    }
}
