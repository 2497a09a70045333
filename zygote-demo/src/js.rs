//! `zygote-demo js`: children of a JavaScript runtime that start warm.
//!
//! The zygote loads the preload scripts into a runtime that lies in a mapped VMO. Each child has a clone of it, runs a script in it, and tells what the script
//! writes and how it ends in frames on its standard output.
//!
//! ```text
//!  js: the command line ─┬─ show:    children one after the other
//!                        ├─ server:  a child for each request, by HTTP
//!                        └─ compare: with fork(), a cold process, and no process at all
//!  script:  what is loaded, and what is run
//!  zygote:  this process with a library loaded, and what its children do ── spare: those that wait
//!  answer:  what came of a script ── running: a child that is waited for, but not for ever
//! ```

mod answer;
pub(crate) mod compare;
mod running;
mod script;
mod server;
mod show;
mod spare;
mod zygote;

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use ::zygote::Launcher;
use anyhow::{Result, bail};
use bytesize::ByteSize;
use clap::{ArgGroup, Args, ValueEnum};
use host_memory::probe::Probe;

use self::script::{Library, Script};
use self::server::Listen;
use self::zygote::{ENTRY, Zygote};

/// How long a script may run that somebody posts.
const SERVED_TIME: Duration = Duration::from_secs(10);

/// How many bytes it may add.
const SERVED_MEMORY: usize = 256 << 20;

/// Run JavaScript in children of a warm runtime.
///
/// The zygote loads the preload scripts once. Each child has the loaded runtime at once, and for
/// itself: what its script changes, no other child sees. A script has the language's globals,
/// `console` and `exit(code)`. Its value is printed.
///
/// With --listen it is a server, and each request has a child of its own:
///
///   POST /         runs the body; gives its output and its value, or as status 4xx or 5xx why there
///                  is no value. With `Accept: application/json` all of it as one document.
///   POST /preload  loads the body for children to come, wholly or not at all
///   GET /stats     how long requests took, what became of them, what children cost
///
/// SIGTERM ends it when all that was begun is done. Nobody is asked who he is: whoever can connect
/// can run scripts, each within --timeout and --memory-limit, and load them into the zygote.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = AFTER_HELP,
    group(ArgGroup::new("what").required(true).args(["script", "code", "listen"])),
)]
pub(crate) struct Js {
    /// A script to load before children are spawned; can be given several times. What it writes goes to standard error.
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

    /// Run the scripts that are posted to this address, unix:PATH or 127.0.0.1:PORT (port 0: any; which, is printed).
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["compare", "json", "children", "repeat"])]
    listen: Option<Listen>,

    /// With --listen: how many scripts run at the same time; by default as many as there are processors.
    #[arg(long, value_name = "K", conflicts_with_all = ["script", "code"], value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: Option<u16>,

    /// With --listen: how many more scripts may wait for their turn. Others get status 503.
    #[arg(long, value_name = "N", conflicts_with_all = ["script", "code"], default_value_t = 1000)]
    queue: u16,

    /// With --listen: how many spare children have a copy of the runtime already, and wait for their script; by default as many as --concurrency.
    #[arg(long, value_name = "N", conflicts_with_all = ["script", "code"], value_parser = clap::value_parser!(u16).range(0..=256))]
    pool: Option<u16>,

    /// How the children's page faults are resolved.
    #[arg(long, value_enum, default_value_t = Policy::Native, conflicts_with = "compare")]
    policy: Policy,

    /// Measure the script in children of cowspace, in forked children, in cold processes and in a process that runs it again and again: it must give the same each time.
    #[arg(long)]
    compare: bool,

    /// How often to do all of it. The ways that --compare compares take turns, so that what else the machine does meets them alike.
    #[arg(long, value_name = "N", default_value_t = 1, overrides_with = "repeat", value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,

    /// How long a child's script may run, as 500ms or 2s; by default as long as it likes, with --listen 10s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// How much memory a child's script may add to that of the zygote, as 16MiB; by default as much as the heap has, with --listen 256MiB.
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<ByteSize>,

    /// Address space for the runtime's heap. Memory is taken only for what is used.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    heap: ByteSize,

    /// Print one JSON document with --compare, else one for each child.
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  zygote-demo js --preload library.js -e 'library.version'
  zygote-demo js --preload library.js --script work.js --compare --children 20
  zygote-demo js --preload library.js --listen unix:/tmp/js.sock &
  curl --unix-socket /tmp/js.sock --data-binary '6 * 7' http://js/

Exit status: that of the first script that did not end well (1 for an exception), else 0;
with --compare 1 if not every process told the same.";

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
    if let Some(listen) = &js.listen {
        return server::run(launcher, &library, listen, js.options());
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
    /// How to serve.
    fn options(&self) -> server::Options {
        let processors = || thread::available_parallelism().map_or(1, NonZero::get);
        let concurrency = self.concurrency.map_or_else(processors, usize::from);
        server::Options {
            concurrency,
            queue: self.queue.into(),
            spares: self.pool.map_or(concurrency, usize::from),
            policy: self.policy.into(),
            time: self.timeout.unwrap_or(SERVED_TIME),
            memory: self.memory().unwrap_or(SERVED_MEMORY),
        }
    }

    /// What --memory-limit says, in bytes.
    fn memory(&self) -> Option<usize> {
        let limit = self.memory_limit?.as_u64();
        Some(usize::try_from(limit).unwrap_or(usize::MAX))
    }

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
            memory: self.memory(),
        })
    }
}
