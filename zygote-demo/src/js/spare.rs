//! Spare children: each has its copy of the zygote's memory already, and waits for the one script that it will run.
//!
//! A script stores to many pages that were the zygote's, and each first store to one is a fault that copies it. (It need not change an object for that: using one
//! counts a reference.) It is much the same pages for each script that uses the same library. So each child asks for those that the children before it have
//! stored to in a few calls, before its script runs: a spare one while it waits.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use host_memory::access::Volatile;
use host_memory::page::{HostRange, page_size};
use procfs::process::{PageInfo, Process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use zygote::Child;

/// How many children are looked at to know what the next one will write to, if there are no newer ones.
const LOOKS: usize = 4;

/// After so many requests more the next child is looked at.
const EVERY: u32 = 16;

/// Pages that a child is expected to write to, by number in the heap.
pub(super) type Pages = Vec<Range<u32>>;

/// The spare children of a zygote, and what is known of where its children write to.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    size: usize,
    /// Those that wait longest, and so are ready, in front.
    waiting: VecDeque<Child>,
    /// What the last children have written to.
    written: VecDeque<Pages>,
    /// Requests since a child was last looked at.
    since: u32,
}

impl Spares {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has so many wait, once they are [filled up](Spares::is_missing). Those that are too many end.
    pub(super) fn resize(&self, size: usize) -> Result<()> {
        let mut state = self.lock();
        state.size = size;
        let keep = size.min(state.waiting.len());
        let surplus = state.waiting.split_off(keep);
        drop(state);
        end(surplus)
    }

    /// Lets go of all: the zygote's memory has changed. Where children write to will be much the same.
    pub(super) fn forget(&self) -> Result<()> {
        let all = std::mem::take(&mut self.lock().waiting);
        end(all)
    }

    /// How many wait, and how many should.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting.len(), state.size)
    }

    /// One that waits, if any does: rather one that is ready.
    pub(super) fn take(&self) -> Option<Child> {
        let mut state = self.lock();
        while !state.waiting.is_empty() {
            let ready = state
                .waiting
                .iter()
                .position(|child| said_ready(child, Patience::None));
            let mut child = state.waiting.remove(ready.unwrap_or(0))?;
            if child.try_wait().is_ok_and(|ended| ended.is_none()) {
                return Some(child);
            }
        }
        None
    }

    /// Waits until all that wait are ready.
    pub(super) fn until_ready(&self) {
        let state = self.lock();
        for child in &state.waiting {
            said_ready(child, Patience::Endless);
        }
    }

    /// Whether there is one missing.
    pub(super) fn is_missing(&self) -> bool {
        let state = self.lock();
        state.waiting.len() < state.size
    }

    /// Where the next child is expected to write to.
    pub(super) fn ahead(&self) -> Pages {
        union(&self.lock().written)
    }

    /// Has one more wait. It says [`Event::Ready`](super::answer::Event) before all else.
    pub(super) fn add(&self, child: Child) -> Result<()> {
        let mut state = self.lock();
        let full = state.waiting.len() >= state.size;
        if !full {
            state.waiting.push_back(child);
            return Ok(());
        }
        drop(state);
        end(VecDeque::from([child]))
    }

    /// Looks at what a child has written to whose script has ended, if it is time to. It must not have ended itself.
    pub(super) fn learn(&self, pid: i32, heap: HostRange) {
        let mut state = self.lock();
        state.since += 1;
        let enough = state.written.len() == LOOKS && state.since < EVERY;
        if enough {
            return;
        }
        state.since = 0;
        drop(state);
        // It is a favour: where one may not look, faults take their time.
        if let Ok(pages) = written(pid, heap) {
            let mut state = self.lock();
            state.written.push_back(pages);
            if state.written.len() > LOOKS {
                state.written.pop_front();
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Patience {
    None,
    Endless,
}

/// Whether a spare child has said that it is ready, or will say nothing any more.
fn said_ready(child: &Child, patience: Patience) -> bool {
    let Some(stdout) = &child.stdout else {
        return true;
    };
    let at_once = Timespec::default();
    let patience = match patience {
        Patience::None => Some(&at_once),
        Patience::Endless => None,
    };
    let mut stdout = [PollFd::new(stdout, PollFlags::IN)];
    retry_on_intr(|| poll(&mut stdout, patience)).is_ok_and(|ready| ready > 0)
}

fn end(children: VecDeque<Child>) -> Result<()> {
    for mut child in children {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

fn union(all: &VecDeque<Pages>) -> Pages {
    let pages: BTreeSet<u32> = all.iter().flatten().cloned().flatten().collect();
    runs(pages)
}

fn runs(pages: impl IntoIterator<Item = u32>) -> Pages {
    let mut runs = Pages::new();
    for page in pages {
        match runs.last_mut() {
            Some(last) if last.end == page => last.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

/// The pages of this range that a process has for itself.
fn written(pid: i32, range: HostRange) -> Result<Pages> {
    let process = Process::new(pid)?;
    let page = page_size();
    let first = range.start() / page;
    let infos = process
        .pagemap()?
        .get_range_info(first..first + range.len() / page)?;
    let own = infos.iter().enumerate().filter_map(|(at, info)| {
        let PageInfo::MemoryPage(flags) = info else {
            return None;
        };
        let own = flags.contains(procfs::process::MemoryPageFlags::PRESENT)
            && !flags.contains(procfs::process::MemoryPageFlags::FILE);
        u32::try_from(at).ok().filter(|_| own)
    });
    Ok(runs(own))
}

/// Takes a copy of each of these pages: in few calls where the kernel alone resolves faults, else by a store to each. (A fault handler is no faster for being asked by a call, and scripts in
/// traced children took longer after it: 17 ms instead of 12.)
pub(super) fn touch(heap: HostRange, pages: &Pages, traced: bool) -> Result<()> {
    let memory = Volatile::new(heap.start(), heap.len()).context("the heap is not mapped")?;
    let offset = |page: u32| (page as usize * page_size()).min(memory.len());
    for run in pages {
        let (start, end) = (offset(run.start), offset(run.end));
        if traced || memory.populate_write(start, end - start).is_err() {
            for at in (start..end).step_by(page_size()) {
                memory.store_u8(at, memory.load_u8(at));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_memory::heap::Heap;

    #[test]
    fn pages_are_put_together() {
        let all = VecDeque::from([vec![1..3, 7..8], vec![2..4, 30..31], vec![8..9, 20..21]]);
        assert_eq!(union(&all), [1..4, 7..9, 20..21, 30..31]);
        assert_eq!(union(&VecDeque::new()), []);
    }

    #[test]
    fn pages_that_were_stored_to_are_found() {
        let heap = Heap::create_anonymous(64 * page_size()).unwrap();
        touch(heap.range(), &vec![9..11, 20..21], false).unwrap();
        touch(heap.range(), &vec![40..41, 63..64], true).unwrap();
        let found = written(nix::unistd::getpid().as_raw(), heap.range()).unwrap();
        assert!(
            found.contains(&(9..11)) && found.contains(&(63..64)),
            "{found:?}"
        );
        assert!(!found.iter().any(|run| run.contains(&30)), "{found:?}");
    }
}
