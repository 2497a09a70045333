//! cowspace's warmed process: memory in mapped VMOs without handles, and a launcher.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cowspace::Policy;
use host_memory::access::Volatile;
use procfs::process::{Process, all_processes};
use serde::{Deserialize, Serialize};
use zygote::{Entry, Launcher, Spawn, Stdio, Zygote};

use crate::area::{Mapped, read_all};
use crate::children::{Child, Parent, Work, live};
use crate::clock::now_ns;

/// What the launcher runs in a child.
const ENTRY: Entry = Entry {
    name: "bench",
    run: child,
};

/// How long spare children may take to come into being.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize)]
struct Orders {
    /// Address and length of each mapping.
    memory: Vec<(usize, usize)>,
    work: Work,
}

/// A zygote.
pub(crate) struct Warmed {
    zygote: Zygote,
    mapped: Vec<Mapped>,
    /// Blank children that wait.
    spares: usize,
}

impl Warmed {
    /// Starts the launcher, for which this process must have one thread, makes the memory, and freezes it if told to.
    pub(crate) fn new(
        lengths: &[usize],
        spares: usize,
        policy: Policy,
        frozen: bool,
    ) -> Result<Warmed> {
        let launcher = Launcher::start(&[ENTRY]).context("cannot start the launcher")?;
        launcher.pool(u32::try_from(spares)?)?;
        let mapped: Result<Vec<Mapped>> = lengths
            .iter()
            .map(|len| Mapped::new(*len, policy))
            .collect();
        let warmed = Warmed {
            zygote: Zygote::new(launcher),
            mapped: mapped?,
            spares,
        };
        if frozen {
            warmed.zygote.freeze()?;
        }
        Ok(warmed)
    }
}

impl Parent for Warmed {
    fn settle(&mut self) -> Result<()> {
        if self.spares == 0 {
            return Ok(());
        }
        let patience = Instant::now() + PATIENCE;
        while blank_children()? < self.spares {
            if Instant::now() > patience {
                bail!("spare children do not come into being");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn read_all(&self) {
        for mapped in &self.mapped {
            std::hint::black_box(read_all(&mapped.memory));
        }
    }

    fn spawn(&mut self, work: Work) -> Result<Child> {
        let asked_ns = now_ns();
        let memory = self.mapped.iter();
        let orders = Orders {
            memory: memory
                .map(|mapped| (mapped.memory.addr(), mapped.memory.len()))
                .collect(),
            work,
        };
        let spawn = Spawn::new(ENTRY.name)
            .args(postcard::to_stdvec(&orders)?)
            .stdin(Stdio::Piped)
            .stdout(Stdio::Piped);
        let mut child = self.zygote.spawn(&spawn)?;
        Ok(Child {
            pid: i32::try_from(child.id())?,
            asked_ns,
            requests: Box::new(child.stdin.take().context("no pipe to the child")?),
            replies: Box::new(child.stdout.take().context("no pipe from the child")?),
            wait: Box::new(move || {
                let status = child.wait()?;
                ensure!(status.success(), "a child failed: {status}");
                Ok(())
            }),
        })
    }
}

/// How many blank children wait, by the names that the launcher gives them and itself.
fn blank_children() -> Result<usize> {
    let own = i32::try_from(std::process::id())?;
    let named = |process: procfs::ProcResult<Process>| process.ok()?.stat().ok();
    let all: Vec<_> = all_processes()?.filter_map(named).collect();
    let launcher = all
        .iter()
        .find(|process| process.ppid == own && process.comm == "zygote-launcher");
    let Some(launcher) = launcher else {
        // It was forked a moment ago, and has not named itself yet.
        return Ok(0);
    };
    let blank = all
        .iter()
        .filter(|process| process.ppid == launcher.pid && process.comm == "zygote-blank");
    Ok(blank.count())
}

/// A child's life. Its memory has been mapped where the zygote had it.
fn child(context: zygote::Context) -> i32 {
    let first_ns = now_ns();
    match live_clone(first_ns, &context) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("cowspace bench: {error:#}");
            1
        }
    }
}

fn live_clone(first_ns: u64, context: &zygote::Context) -> Result<()> {
    let orders: Orders = postcard::from_bytes(&context.args)?;
    let memory: Option<Vec<Volatile>> = orders
        .memory
        .iter()
        .map(|(addr, len)| Volatile::new(*addr, *len))
        .collect();
    let memory = memory.context("the memory is not in the root VMAR")?;
    live(
        first_ns,
        &memory,
        orders.work,
        &mut io::stdin(),
        &mut io::stdout(),
    )
}
