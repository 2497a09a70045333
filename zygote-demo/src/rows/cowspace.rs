//! The `cowspace` rows: the index lies in a mapped VMO whose handles are all closed, and children are spawned with clones of it.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cowspace::{Name, Policy, Vmar, VmarFlags, Vmo};
use host_memory::heap::Heap;
use host_memory::page::HostRange;
use serde::{Deserialize, Serialize};
use zygote::{Entry, Launcher, Spawn, Stdio};

use super::Zygote;
use crate::children::{Child, Handled, Orders, serve};
use crate::profile::Profile;
use crate::report::Frozen;

/// What the launcher runs in a child.
pub(crate) const ENTRY: Entry = Entry {
    name: "serve the cloned index",
    run: child,
};

/// Where a child finds the index, and what it is to do with it.
#[derive(Serialize, Deserialize)]
struct Inheritance {
    heap_start: usize,
    heap_len: usize,
    orders: Orders,
    /// Where it is to record its faults.
    profile: Option<PathBuf>,
}

/// This process, as a zygote with a heap in VMO memory.
pub(crate) struct Warmed {
    zygote: zygote::Zygote,
    heap: Heap,
    policy: Policy,
    profile: Option<PathBuf>,
}

impl Warmed {
    /// Makes a heap of `room` bytes in a VMO, to be filled. No handle to the VMO stays open: from here on the mapping alone keeps it. Children record as this process does.
    pub(crate) fn new(
        launcher: Launcher,
        room: usize,
        profile: Option<&Profile>,
    ) -> Result<Warmed> {
        let vmo = Vmo::create(room as u64).context("cannot make a VMO")?;
        vmo.set_name(&Name::new_lossy("index"))
            .context("cannot name a VMO")?;
        let flags = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
        let start = Vmar::root_self()
            .map(0, &vmo, 0, room, flags)
            .context("cannot map a VMO")?;
        drop(vmo);
        let range = HostRange::new(start, room).context("a VMO was mapped at no page's address")?;
        Ok(Warmed {
            zygote: zygote::Zygote::new(launcher),
            heap: Heap::create(range)?,
            policy: Policy::Native,
            profile: profile.map(|profile| profile.path.clone()),
        })
    }

    /// Makes the warmed index ready for children.
    pub(crate) fn freeze(&self) -> Result<Frozen> {
        Frozen::by(|| Ok(self.zygote.freeze()?))
    }

    /// How the children's faults are to be resolved.
    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Gives the memory back, and ends the launcher.
    pub(crate) fn unmap(self) -> Result<()> {
        let range = self.heap.range();
        Vmar::root_self()
            .unmap(range.start(), range.len())
            .context("cannot unmap the index")
    }
}

impl Zygote for Warmed {
    fn heap(&mut self) -> &mut Heap {
        &mut self.heap
    }

    fn spawn(&mut self, orders: &Orders) -> Result<Child> {
        let range = self.heap.range();
        let inheritance = Inheritance {
            heap_start: range.start(),
            heap_len: range.len(),
            orders: orders.clone(),
            profile: self.profile.clone(),
        };
        let spawn = Spawn::new(ENTRY.name)
            .args(postcard::to_stdvec(&inheritance)?)
            .stdin(Stdio::Piped)
            .stdout(Stdio::Piped)
            .policy(self.policy);
        let mut child = self.zygote.spawn(&spawn)?;
        let pid = i32::try_from(child.id())?;
        ensure!(
            child.left_out().is_empty(),
            "child {pid} lacks a part of the zygote's memory: {:?}",
            child.left_out()
        );
        let requests = child.stdin.take().context("no pipe to the child")?;
        let replies = child.stdout.take().context("no pipe from the child")?;
        Ok(Child::new(pid, requests, replies, move || {
            let status = child.wait()?;
            ensure!(status.success(), "child {pid} failed: {status}");
            Ok(())
        }))
    }
}

/// A child's life. Its memory has been mapped where the zygote had it.
fn child(context: zygote::Context) -> i32 {
    match serve_clone(&context.args) {
        Ok(()) => 0,
        Err(error) => crate::report_error(&error),
    }
}

fn serve_clone(args: &[u8]) -> Result<()> {
    let Inheritance {
        heap_start,
        heap_len,
        orders,
        profile,
    } = postcard::from_bytes(args)?;
    let range =
        HostRange::new(heap_start, heap_len).context("the index's place is no range of pages")?;
    let profile = profile.map(Profile::join).transpose()?;
    let mut heap = Heap::open(range)?;
    let served = serve(
        &mut heap,
        &orders,
        None,
        handled,
        std::io::stdin().lock(),
        std::io::stdout().lock(),
    );
    let recorded = profile.map_or(Ok(()), Profile::end);
    served.and(recorded)
}

/// What this process's fault handler has resolved.
fn handled() -> Option<Handled> {
    let all = cowspace::fault_stats()?.all;
    Some(Handled {
        faults: all.counts.total(),
        p50_ns: all.total.p50_ns,
        p99_ns: all.total.p99_ns,
    })
}
