//! Memory to measure with: how it is made resident, and in which order its pages are touched.
//!
//! Every contender's memory is reached by the same loads and stores ([`Volatile`]), so these cost the same for each.

use std::collections::HashSet;
use std::ops::Range;

use anyhow::{Context, Result, anyhow};
use cowspace::{Frozen, Policy, Vmar, VmarFlags, Vmo, VmoChildOptions};
use host_memory::access::Volatile;
use host_memory::memfd::{Layer, MemFd};
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::reserve::{Reservation, Source};

const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Memory of the kernel's own, without cowspace.
pub(crate) struct Area {
    pub(crate) memory: Volatile,
    pub(crate) range: HostRange,
    pub(crate) reservation: Reservation,
}

impl Area {
    /// Reserves `len` bytes and maps nothing yet. A page behind them stays free, or the kernel would make one mapping
    /// of several.
    pub(crate) fn reserve(len: usize) -> Result<Area> {
        let reservation = Reservation::new(len + page_size()).context("no room for the memory")?;
        let range = reservation.range().sub(0, len);
        let range = range.context("a length of no whole pages")?;
        let memory = Volatile::new(range.start(), len).context("the memory is not reserved")?;
        Ok(Area {
            memory,
            range,
            reservation,
        })
    }

    /// Private anonymous memory, resident.
    pub(crate) fn anonymous(len: usize) -> Result<Area> {
        let area = Area::reserve(len)?;
        area.reservation.map(area.range, Source::Anonymous, RW)?;
        fill(&area.memory);
        Ok(area)
    }

    /// A private mapping of a sealed memfd that holds all pages; the pages are not in the page table.
    pub(crate) fn of_file(len: usize) -> Result<(Area, Layer)> {
        let file = MemFd::create("bench", len as u64)?;
        let area = Area::reserve(len)?;
        let reservation = &area.reservation;
        reservation.map(area.range, Source::Shared(&file, 0), RW)?;
        fill(&area.memory);
        reservation.release(area.range)?;
        let layer = file.seal().map_err(|(_, error)| anyhow!(error))?;
        area.show(&layer)?;
        Ok((area, layer))
    }

    /// Maps a file's pages, all of it by one call.
    pub(crate) fn show(&self, layer: &Layer) -> Result<()> {
        let pages = Source::Private(layer, 0);
        Ok(self.reservation.map(self.range, pages, RW)?)
    }

    /// Gives private pages up, so that the file's show again.
    pub(crate) fn discard(&self) -> Result<()> {
        Ok(self.reservation.discard(self.range)?)
    }

    /// The same, and puts the file's pages into the page table.
    pub(crate) fn show_file(&self) -> Result<()> {
        self.discard()?;
        Ok(self.reservation.populate_read(self.range)?)
    }
}

/// A VMO mapped in the root VMAR, resident, with no handle left. Unmapped when dropped.
pub(crate) struct Mapped {
    pub(crate) memory: Volatile,
}

impl Mapped {
    /// Makes a VMO of `len` bytes, maps and fills it.
    pub(crate) fn new(len: usize, policy: Policy) -> Result<Mapped> {
        let vmo = Vmo::create(len as u64).context("cannot make a VMO")?;
        let mapped = Mapped::of(&vmo, len, policy)?;
        fill(&mapped.memory);
        Ok(mapped)
    }

    /// Maps a VMO.
    pub(crate) fn of(vmo: &Vmo, len: usize, policy: Policy) -> Result<Mapped> {
        let flags = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
        let start = Vmar::root_self()
            .map_with_policy(0, vmo, 0, len, flags, policy)
            .context("cannot map a VMO")?;
        let memory = Volatile::new(start, len).context("mapped outside of the root VMAR")?;
        Ok(Mapped { memory })
    }

    /// Makes it ready to be cloned.
    pub(crate) fn freeze(&self) -> Result<Frozen> {
        Vmar::root_self()
            .freeze(self.memory.addr(), self.memory.len())
            .context("cannot freeze a mapping")
    }

    /// A clone of what is mapped, by RFC-0013's call.
    pub(crate) fn snapshot(&self) -> Result<Vmo> {
        Vmar::root_self()
            .create_vmo_child(
                VmoChildOptions::SNAPSHOT,
                self.memory.addr(),
                self.memory.len(),
            )
            .context("cannot clone a mapping")
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // A failure leaves memory behind, in a process that is about to end.
        let _ = Vmar::root_self().unmap(self.memory.addr(), self.memory.len());
    }
}

/// How many pages there are.
pub(crate) fn pages(memory: &Volatile) -> usize {
    memory.len() / page_size()
}

/// Stores to each page, in order: what page `n` then holds is [`value`] of `n`.
pub(crate) fn fill(memory: &Volatile) {
    for page in 0..pages(memory) {
        memory.store_u64(page * page_size(), value(page));
    }
}

/// What [`fill`] stores to a page.
pub(crate) fn value(page: usize) -> u64 {
    page as u64 + 1
}

/// Loads from each page, in order; the sum, so that no load is left out.
pub(crate) fn read_all(memory: &Volatile) -> u64 {
    (0..pages(memory)).fold(0, |sum: u64, page| {
        sum.wrapping_add(memory.load_u64(page * page_size()))
    })
}

/// `count` of some pages, or all if there are fewer, in a random order that is the same in each process.
pub(crate) fn random_pages(among: Range<usize>, count: usize, seed: u64) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    if count < among.len() / 4 {
        // Few of many: quicker than to shuffle all.
        let mut seen = HashSet::with_capacity(count);
        let mut chosen = Vec::with_capacity(count);
        while chosen.len() < count {
            let page = random.usize(among.clone());
            if seen.insert(page) {
                chosen.push(page);
            }
        }
        return chosen;
    }
    let mut pages: Vec<usize> = among.collect();
    random.shuffle(&mut pages);
    pages.truncate(count);
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_pages_are_different_ones_and_the_same_each_time() {
        for count in [0, 10, 24, 26, 100, 200] {
            let chosen = random_pages(50..150, count, 7);
            assert_eq!(chosen, random_pages(50..150, count, 7));
            let different: HashSet<usize> = chosen.iter().copied().collect();
            assert_eq!(different.len(), count.min(100));
            assert!(chosen.iter().all(|page| (50..150).contains(page)));
        }
        assert_ne!(random_pages(0..1000, 10, 1), random_pages(0..1000, 10, 2));
    }
}
