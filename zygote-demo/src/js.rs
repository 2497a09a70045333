//! `zygote-demo js`: children of a JavaScript runtime that start warm.
//!
//! The zygote loads the preload scripts into a runtime that lies in a mapped VMO. Each child has a clone of it, runs a script in it, and tells what the script
//! writes and how it ends in frames on its standard output.
//!
//! ```text
//!  js: the command line ─┬─ show:    children one after the other
//!                        └─ compare: with fork(), a cold process, and no process at all
//!  script:  what is loaded, and what is run
//!  zygote:  this process with a library loaded, and what its children do ── spare: those that wait
//!  answer:  what came of a script ── running: a child that is waited for, but not for ever
//! ```

mod answer;
mod compare;
mod running;
mod script;
mod show;
mod spare;
mod zygote;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ::zygote::Launcher;
use anyhow::{Result, bail};
use bytesize::ByteSize;
use clap::{ArgGroup, Args, ValueEnum};
use host_memory::probe::Probe;

use self::compare::Role;
use self::script::{Library, Script};
use self::zygote::{ENTRY, Zygote};

/// Run JavaScript in children of a warm runtime.
///
/// The zygote loads the preload scripts once. Each child has the loaded runtime at once, and for itself: what its script changes, no other child sees.
/// A script has the language's globals, `console` and `exit(code)`. Its value is printed.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["script", "code", "role"])))]
pub(crate) struct Js {
    /// A script to load before children are spawned; can be given several times.
    #[arg(long, value_name = "FILE")]
    preload: Vec<PathBuf>,

    /// How many children run the script: one after the other, and with --compare also all at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, overrides_with = "children", value_parser = clap::value_parser!(u16).range(1..=1000))]
    children: u16,

    /// The script.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,

    /// The script itself.
    #[arg(short = 'e', value_name = "CODE")]
    code: Option<String>,

    /// How the children's page faults are resolved.
    #[arg(long, value_enum, default_value_t = Policy::Native, conflicts_with = "compare")]
    policy: Policy,

    /// Measure the script in children of cowspace, in forked children, in cold processes and in a process that runs it again and again: it must give the same each time.
    #[arg(long)]
    compare: bool,

    /// How often to do all of it. The ways that --compare compares take turns, so that what else the machine does meets them alike.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,

    /// How long a child's script may run, as 500ms or 2s; by default as long as it likes.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// How much memory a child's script may add to that of the zygote, as 16MiB; by default as much as the heap has.
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<ByteSize>,

    /// Address space for the runtime's heap. Memory is taken only for what is used.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    heap: ByteSize,

    /// Print one JSON document with --compare, else one for each child.
    #[arg(long)]
    json: bool,

    /// What this process is within another run of the program.
    #[arg(long, value_enum, hide = true)]
    role: Option<Role>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// By the kernel alone.
    Native,
    /// By cowspace's fault handler, which times them.
    Traced,
}

impl From<Policy> for cowspace::Policy {
    fn from(policy: Policy) -> cowspace::Policy {
        match policy {
            Policy::Native => cowspace::Policy::Native,
            Policy::Traced => cowspace::Policy::Traced,
        }
    }
}

/// Does what the command line says. The result is the exit code: that of the first child whose script did not end well, else 0.
pub(crate) fn run(js: &Js) -> Result<ExitCode> {
    if let Some(role) = js.role {
        return compare::play(role).map(|()| ExitCode::SUCCESS);
    }
    // Before anything else: the launcher is forked from this process as it is now, and it must have no second thread.
    let launcher = Launcher::start(&[ENTRY])?;
    let library = Library {
        preload: js.preload.clone(),
        heap: js.heap.as_u64(),
    };
    if matches!(js.policy, Policy::Traced) && !Probe::get().traced.is_yes() {
        eprintln!(
            "zygote-demo: this machine cannot trace faults, the kernel resolves them alone (`cowspace doctor` says why)"
        );
    }
    let script = js.script()?;
    if js.compare {
        let rounds = compare::Rounds {
            children: js.children.into(),
            repeat: js.repeat.into(),
        };
        return compare::run(launcher, &library, &script, rounds, js.json);
    }
    let (mut zygote, _runtime) = Zygote::new(launcher, &library)?;
    zygote.policy = js.policy.into();
    zygote.freeze()?;
    let children = u32::from(js.children) * u32::from(js.repeat);
    show::run(&zygote, &script, children, js.json)
}

impl Js {
    fn script(&self) -> Result<Script> {
        let (source, name) = match (&self.code, &self.script) {
            (Some(code), _) => (code.clone(), "<-e>".to_owned()),
            (None, Some(path)) => (script::read(path)?, path.display().to_string()),
            (None, None) => bail!("no script: give one by -e CODE or --script FILE"),
        };
        Ok(Script {
            source,
            name,
            time: self.timeout,
            memory: self
                .memory_limit
                .map(|limit| usize::try_from(limit.as_u64()).unwrap_or(usize::MAX)),
        })
    }
}
