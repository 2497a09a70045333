//! Touching pages, with each touch timed by the thread that does it.

use std::hint::black_box;

use cowspace::{Name, Policy, Status, Vmar, VmarFlags, Vmo, VmoChildOptions};
use fault_handler::monotonic_ns;
use fault_recording::Probe;
use host_memory::access::Volatile;
use host_memory::page::page_size;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::gettid;

use super::pattern::Touch;

/// Memory that was filled once, and a fresh clone of it for each round. All handles are closed: the clones are made of what is mapped.
pub(crate) struct Warmed {
    root: Vmar,
    base: usize,
    len: usize,
    policy: Policy,
    /// Where the last clone was mapped: so all lie at one place, and are one region to a profile.
    place: Option<usize>,
}

/// A clone that is mapped. Unmapped when dropped.
pub(crate) struct Armed<'a> {
    root: &'a Vmar,
    pub(crate) memory: Volatile,
}

impl Warmed {
    /// Fills memory of some pages but for the last eighth of them. Clones are mapped with a policy.
    pub(crate) fn new(pages: usize, policy: Policy) -> Result<Warmed, Status> {
        let len = pages.checked_mul(page_size()).ok_or(Status::NO_MEMORY)?;
        let vmo = Vmo::create(len as u64)?;
        vmo.set_name(&Name::new_lossy("filled memory"))?;
        let root = Vmar::try_root_self()?;
        let rw = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
        let base = root.map_with_policy(0, &vmo, 0, len, rw, Policy::Native)?;
        let memory = Volatile::new(base, len).ok_or(Status::BAD_STATE)?;
        let filled = pages - pages / 8;
        (0..filled).for_each(|page| memory.store_u64(page * page_size(), page as u64));
        Ok(Warmed {
            root,
            base,
            len,
            policy,
            place: None,
        })
    }

    /// Maps a fresh clone: no page of it is in the page table.
    pub(crate) fn arm(&mut self) -> Result<Armed<'_>, Status> {
        let clone = self
            .root
            .create_vmo_child(VmoChildOptions::SNAPSHOT, self.base, self.len)?;
        clone.set_name(&Name::new_lossy("touched memory"))?;
        let mut flags = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
        let mut offset = 0;
        if let Some(place) = self.place {
            flags |= VmarFlags::SPECIFIC;
            offset = place - self.root.info()?.base;
        }
        let start = self
            .root
            .map_with_policy(offset, &clone, 0, self.len, flags, self.policy)?;
        self.place = Some(start);
        let memory = Volatile::new(start, self.len).ok_or(Status::BAD_STATE)?;
        Ok(Armed {
            root: &self.root,
            memory,
        })
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        // A failure leaves it mapped, and the next round cannot be armed: which is said then.
        let _ = self.root.unmap(self.memory.addr(), self.memory.len());
    }
}

impl Drop for Warmed {
    fn drop(&mut self) {
        // A failure leaves memory behind until the process ends, which is soon.
        let _ = self.root.unmap(self.base, self.len);
    }
}

/// Touches a page of the memory, in the calling thread, whose id is given.
///
/// The kernel is asked how many faults it has counted for the thread before the first time is taken and after the last: so a touch that faulted is known for sure, and asking is in no figure.
pub(crate) fn touch(memory: &Volatile, tid: i32, touch: Touch) -> Probe {
    let offset = touch.page * page_size();
    let counted = faults();
    let before_ns = monotonic_ns();
    if touch.write {
        memory.store_u64(offset, before_ns);
    } else {
        black_box(memory.load_u64(offset));
    }
    let after_ns = monotonic_ns();
    let faults = faults().wrapping_sub(counted);
    Probe {
        tid,
        page: memory.addr() + offset,
        write: touch.write,
        before_ns,
        after_ns,
        faults: faults.try_into().unwrap_or(u32::MAX),
    }
}

/// How many faults the kernel has counted for the calling thread. One that it had to begin again (as it does when a handler has resolved it) may be among the major ones.
fn faults() -> u64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| {
        (usage.minor_page_faults() + usage.major_page_faults()).cast_unsigned()
    })
}

/// The id of the calling thread.
pub(crate) fn this_thread() -> i32 {
    gettid().as_raw()
}
