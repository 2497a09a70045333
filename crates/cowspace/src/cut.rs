//! Stopping a memory's writers at one instant, and making a layer of what they wrote.
//!
//! Everything here runs with the address space locked, so no region comes, goes or changes its permissions meanwhile, and no call writes to the
//! memory. What is left are threads that store through mappings. They are stopped in one of these ways (why each is a consistent cut is in
//! `docs/architecture.md`):
//!
//! - *parked*: the faults of a traced region are dropped by the handler until they are woken. [`Parked`] is that state; dropping it wakes them.
//! - *replaced*: a `mmap` over the mapping is one instant for all threads.
//! - *the world stopped*: no other thread runs ([`host_memory::stop`]). Meanwhile nothing may allocate: a stopped thread may be inside `malloc`. And no
//!   family is locked: a thread whose system call waits for the fault handler stops only when that has answered it.

mod file;

use std::ops::Range;

use crate::bounce::Bounce;
use crate::lock::MutexGuard;
use host_memory::memfd::{MemFd, SealError};
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::pagemap::PageFlags;
use host_memory::process;
use host_memory::reserve::{InstallError, Prepared, Source};
use host_memory::stop::has_io_workers;
use host_memory::transfers;
use host_memory::uffd::{Modes, Protect};
use page_tree::{LayerId, MemoryId};

use crate::engine::{Engine, Space};
use crate::family::{Backing, Family, FamilyState, Home, Region, new_layer_id};
use crate::object::VmObject;
use crate::open_pages::OpenPages;
use crate::options::Policy;
use crate::private::is_own;
use crate::report::{no_memory, note};
use crate::resolver::Tracer;
use crate::status::Status;
use crate::wide::{WideFile, WideLayer, mappable};

/// The mappings of one memory, piece by piece: one VMA each, of one file.
struct Piece {
    range: HostRange,
    prot: Prot,
    /// Page of the memory at the start of the range.
    page: u64,
}

impl Piece {
    fn offset(&self) -> u64 {
        self.page * page_size() as u64
    }

    /// Makes one piece of two if the second goes on where this one ends: to the kernel they are one as well.
    fn take_in(&mut self, next: &Piece) -> bool {
        let continues = self.range.end() == next.range.start()
            && self.page + self.range.pages() as u64 == next.page
            && self.prot == next.prot;
        let both = HostRange::new(self.range.start(), self.range.len() + next.range.len());
        match both {
            // Still of one file.
            Some(both) if continues && mappable(both, self.page).count() == 1 => {
                self.range = both;
                true
            }
            _ => false,
        }
    }
}

/// The regions of a memory whose faults wait. Dropping it lets them go on.
struct Parked<'a> {
    tracer: &'a Tracer,
    family: &'a Family,
    memory: MemoryId,
}

impl<'a> Parked<'a> {
    /// After this the handler resolves no fault of these regions: it looks at the flag and installs its page under one lock of the family.
    fn new(tracer: &'a Tracer, family: &'a Family, memory: MemoryId) -> Parked<'a> {
        let parked = Parked {
            tracer,
            family,
            memory,
        };
        parked.set(true);
        parked
    }

    fn set(&self, parked: bool) -> Vec<HostRange> {
        let mut state = self.family.lock();
        let regions = &mut state.pages_mut(self.memory).regions;
        regions
            .values_mut()
            .for_each(|region| region.parked = parked);
        regions.values().map(|region| region.range).collect()
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        // A fault that the handler dropped before the flag was cleared is waiting and is woken here; one that it reads later is resolved.
        for range in self.set(false) {
            self.tracer.wake(range);
        }
    }
}

/// What a cut leaves to do when the snapshot has been taken.
#[derive(Default)]
pub(crate) struct AfterCut {
    /// The memory's file was copied, not sealed: these pages are its own again, in it.
    still_own: Option<(LayerId, Vec<Range<u64>>)>,
}

impl AfterCut {
    pub(crate) fn finish(self, state: &mut FamilyState, memory: MemoryId) {
        if let Some((layer, extents)) = self.still_own {
            for pages in extents {
                let first = pages.start;
                state.tree.own(memory, pages, layer, first);
            }
        }
    }
}

impl Engine {
    /// Makes everything that the memory of `vmo` holds immutable, at one instant for all threads: afterwards the tree knows it, and it lies in sealed layers.
    ///
    /// Gives the family locked, for the snapshot to be taken under the same lock: a call can write to a memory that is not mapped without the address space.
    ///
    /// # Errors
    ///
    /// `NO_MEMORY`; `BAD_STATE` if pages are pinned by the kernel, or shared for writing with a forked copy of the process; `UNAVAILABLE` if a
    /// thread could not be stopped. Then nothing has changed.
    pub(crate) fn cut<'a>(
        &self,
        space: &Space,
        vmo: &'a VmObject,
    ) -> Result<(MutexGuard<'a, FamilyState>, AfterCut), Status> {
        let (family, memory) = (&*vmo.family, vmo.memory);
        let mut state = family.lock();
        let pages = state.pages(memory);
        if pages.regions.is_empty() {
            state.settle(memory)?;
            return Ok((state, AfterCut::default()));
        }
        let native = pages
            .regions
            .values()
            .any(|region| region.policy == Policy::Native);
        let one = !pages.resizable && pages.covers_all(state.tree.pages(memory));
        let private = matches!(pages.home, Home::Private { .. });
        if private && !native && pages.only_region().open.is_empty() {
            // No thread can store to a page before the handler has had the family: the lock alone is the cut.
            self.check_open(pages.only_region());
            return Ok((state, AfterCut::default()));
        }
        drop(state);
        let mut after = AfterCut::default();
        match (private, self.started_tracer()) {
            (true, Some(tracer)) if !native && tracer.writes => {
                self.cut_private_parked(tracer, family, memory)?
            }
            (true, _) => self.cut_private_stopped(family, memory)?,
            (false, Some(tracer)) if !native => {
                self.cut_file_parked(tracer, space, family, memory, one)?
            }
            // What the cut replaces it may have to put back, and an io_uring's workers would not stop for that.
            (false, _)
                if one && self.writable_pieces(space, family, memory) <= 1 && !has_io_workers() =>
            {
                self.cut_file_replaced(space, family, memory)?;
            }
            (false, _) => after = self.cut_file_stopped(family, memory)?,
        }
        // No call writes to a mapped memory meanwhile: it would need the address space.
        Ok((family.lock(), after))
    }

    /// Gives a memory in its private home a shared one, for a second mapping or for a mapping of a part.
    pub(crate) fn share(
        &self,
        space: &Space,
        family: &Family,
        memory: MemoryId,
    ) -> Result<(), Status> {
        let traced = family
            .lock()
            .pages(memory)
            .regions
            .values()
            .all(|region| region.policy == Policy::Traced);
        // The pages change their place. What the kernel has pinned cannot follow, and a transfer under way must end first: it does when its thread stops.
        if transfers::has_pinned_memory() {
            note(|| "memory is pinned: a private mapping cannot be shared".into());
            return Err(Status::BAD_STATE);
        }
        match self.started_tracer() {
            Some(tracer) if traced && tracer.writes && !transfers::may_be_under_way() => {
                self.share_parked(tracer, space, family, memory)
            }
            _ => self.share_stopped(space, family, memory),
        }
    }

    /// Copies the private pages of a mapping that is about to end to a file, for [`Self::keep_saved`]. Until then
    /// nothing has changed but that the mapping can only be read.
    pub(crate) fn save_private(
        &self,
        vmo: &VmObject,
        range: HostRange,
    ) -> Result<SavedPages, Status> {
        let file = new_file(range.len() as u64)?;
        let state = vmo.family.lock();
        let policy = state.pages(vmo.memory).only_region().policy;
        // Whoever still stores here is late, and gets SIGSEGV as if the range were unmapped already. To be read is what we need, and not every kernel lets us read past permissions.
        self.reservation
            .protect(range, Prot::READ)
            .map_err(no_memory("taking permissions away"))?;
        drop(state);
        let mut changed = Vec::new();
        self.scan_stored(policy, range, |part| push_range(&mut changed, part))
            .map_err(no_memory("scanning a mapping"))?;
        let mut changed = self.stored(&vmo.family, vmo.memory, changed)?;
        self.copy_out(range, &changed, &file)?;
        let file = WideFile::from(file);
        let state = vmo.family.lock();
        let region = state.pages(vmo.memory).only_region();
        let told = region.policy == Policy::Traced
            && self.started_tracer().is_some_and(|tracer| tracer.writes);
        if !told {
            // Without write protection a page that was only copied in to be seen is private, too.
            state.keep_changes(vmo.memory, &file)?;
            changed.clear();
            file.data(0..file.len(), |bytes| {
                changed.extend(range.sub(bytes.start as usize, (bytes.end - bytes.start) as usize));
            })
            .map_err(no_memory("reading a file's extents"))?;
        }
        Ok(SavedPages {
            range,
            changed,
            file,
        })
    }

    /// Makes the copy the home of the memory, whose mapping is gone.
    pub(crate) fn keep_saved(&self, state: &mut FamilyState, memory: MemoryId, saved: SavedPages) {
        let SavedPages {
            range,
            changed,
            file,
        } = saved;
        state.own_pages(memory, new_layer_id(), &changed, range, file);
    }

    /// Private home, traced: the pages that can be stored to without a fault are write-protected, then copied.
    fn cut_private_parked(
        &self,
        tracer: &Tracer,
        family: &Family,
        memory: MemoryId,
    ) -> Result<(), Status> {
        let parked = Parked::new(tracer, family, memory);
        let stopped = self.protect_private(tracer, family, memory)?;
        let gathered = self.gather(&stopped)?;
        // From here on a protected page has the bytes that the tree says, so the protection stays. But a transfer of the kernel's that began before it goes on past it: while
        // there may be one the pages count as changed, and the next cut copies them again. One that begins later takes the protection away first, as a store does. It goes
        // to a private page of ours, whatever that holds by now; so where there is none all stays protected in any case.
        let keep = !stopped.private || !transfers::may_be_under_way();
        let mut state = family.lock();
        if let Some(Gathered { layer, runs }) = gathered {
            state.own_runs_of(memory, new_layer_id(), layer, &runs);
        }
        if keep {
            stopped.keep();
            let pages = state.tree.pages(memory);
            let region = state.pages_mut(memory).only_region_mut();
            region.open.clear(pages);
            region.ahead.clear(pages);
        }
        drop(state);
        drop(parked);
        Ok(())
    }

    /// Copies the pages of a stopped region that have changed to a layer; `None` if there are none.
    fn gather(&self, stopped: &Protected<'_>) -> Result<Option<Gathered>, Status> {
        let Protected { range, changed, .. } = stopped;
        let pages: usize = changed.iter().map(|part| part.pages()).sum();
        if pages == 0 {
            return Ok(None);
        }
        let page_of = |part: &HostRange| ((part.start() - range.start()) / page_size()) as u64;
        let sparse = Gathered::is_sparse(pages as u64, range.pages() as u64);
        let file = new_file(
            (if sparse {
                pages * page_size()
            } else {
                range.len()
            }) as u64,
        )?;
        if sparse {
            self.memory
                .gather_out(self.reservation, changed, &file)
                .map_err(no_memory("copying private pages"))?;
        } else {
            self.copy_out(*range, changed, &file)?;
        }
        let mut next = 0;
        let runs = changed.iter().map(|part| {
            let (first, len) = (page_of(part), part.pages() as u64);
            let place = if sparse { next } else { first };
            next += len;
            (first..first + len, place)
        });
        Ok(Some(Gathered {
            runs: runs.collect(),
            layer: seal(file.into())?,
        }))
    }

    /// Private home, kernel alone: all private pages are copied while the world stands still.
    fn cut_private_stopped(&self, family: &Family, memory: MemoryId) -> Result<(), Status> {
        let state = family.lock();
        let region = state.pages(memory).only_region();
        let (range, policy) = (region.range, region.policy);
        drop(state);
        let file = new_file(range.len() as u64)?;
        let stopped = self.stop_world()?;
        let copied = self.copy_private(range, policy, &file);
        drop(stopped);
        let file = WideFile::from(file);
        let mut state = family.lock();
        if copied.map_err(no_memory("copying private pages"))?
            && state.keep_changes(memory, &file)?
        {
            state.own_layer(memory, new_layer_id(), seal(file)?)?;
        }
        Ok(())
    }

    /// Own file, kernel alone, any mappings: the file is copied while the world stands still, and stays the memory's home.
    fn cut_file_stopped(&self, family: &Family, memory: MemoryId) -> Result<AfterCut, Status> {
        // Meanwhile the memory has no home; to the handler that is the same as a complete file, which this is: a native region sees all of it.
        let (home, file, complete) = family.lock().take_file(memory)?;
        let copied = self.copy_file_stopped(&file);
        let mut state = family.lock();
        state.put_file_back(memory, home, file, complete);
        let copy = copied?;
        if !state.keep_changes(memory, &copy)? {
            return Ok(AfterCut::default());
        }
        let id = new_layer_id();
        state.own_layer(memory, id, seal(copy)?)?;
        let extents = state.own_extents(memory, id);
        Ok(AfterCut {
            still_own: Some((home, extents)),
        })
    }

    /// What a file holds at one instant.
    fn copy_file_stopped(&self, file: &WideFile) -> Result<WideFile, Status> {
        let copy = file.new_like().map_err(no_memory("making a file"))?;
        let mut bounce = Bounce::new()?;
        let len = file.len();
        let stopped = self.stop_world()?;
        let mut result = Ok(());
        let scanned = file.data(0..len, |bytes| {
            if result.is_ok() {
                result = copy_bytes(file, &copy, bytes, bounce.all());
            }
        });
        drop(stopped);
        scanned.and(result).map_err(no_memory("copying a file"))?;
        Ok(copy)
    }

    /// Shares a traced memory: what is private is copied to a file, and mappings of that file, which fault where it is empty, are moved in place.
    fn share_parked(
        &self,
        tracer: &Tracer,
        space: &Space,
        family: &Family,
        memory: MemoryId,
    ) -> Result<(), Status> {
        let pieces = self.pieces_of(space, family, memory);
        let parked = Parked::new(tracer, family, memory);
        let stopped = self.protect_private(tracer, family, memory)?;
        let file = new_file(stopped.range.len() as u64)?;
        self.copy_out(stopped.range, &stopped.changed, &file)?;
        let file = WideFile::from(file);
        // A failure after the first replacement would lose private pages: `replace` does all that can fail before it.
        self.replace(tracer, &pieces, (&file, Source::Shared), Modes::MISSING)?;
        let (range, changed) = stopped.keep();
        let mut state = family.lock();
        state.own_pages(memory, new_layer_id(), &changed, range, file);
        let region = state.pages_mut(memory).only_region_mut();
        region.backing = Backing::Shared;
        region.open = OpenPages::default();
        region.ahead = OpenPages::default();
        drop(state);
        drop(parked);
        Ok(())
    }

    /// Shares a memory that the kernel serves alone: everything it sees is copied at once.
    fn share_stopped(
        &self,
        space: &Space,
        family: &Family,
        memory: MemoryId,
    ) -> Result<(), Status> {
        let pieces = self.pieces_of(space, family, memory);
        let state = family.lock();
        let region = state.pages(memory).only_region();
        let (range, policy) = (region.range, region.policy);
        let file = WideFile::from(new_file(range.len() as u64)?);
        state.copy_layers(memory, &file)?;
        drop(state);
        let (to, _) = file.at(0).map_err(no_memory("making a file"))?;
        let stopped = self.stop_world()?;
        stopped.may_move_pages()?;
        let copied = self.copy_private(range, policy, to);
        let mapped = copied.and_then(|_| {
            for (index, piece) in pieces.iter().enumerate() {
                match self.map_piece(piece, &file) {
                    // Nothing has changed yet.
                    Err(error) if index == 0 => return Err(error),
                    Err(error) => fail_closed("a mapping cannot be replaced", &error),
                    Ok(()) => {}
                }
            }
            Ok(())
        });
        drop(stopped);
        mapped.map_err(no_memory("copying private pages"))?;
        let layer = new_layer_id();
        let mut state = family.lock();
        // What was known to be the memory's own is now so in the file. Pages that the file has from a layer stay shared, and what was stored since is found by comparing.
        for run in state.runs(memory) {
            if is_own(&state, run.place) {
                let first = run.pages.start;
                state.tree.own(memory, run.pages, layer, first);
            }
        }
        let pages = state.pages_mut(memory);
        let region = pages.only_region_mut();
        region.backing = Backing::Shared;
        region.policy = Policy::Native;
        self.faults.remove(region.range.start());
        pages.home = Home::MemFd {
            layer,
            file,
            complete: true,
        };
        let garbage = state.collect();
        drop(state);
        drop(garbage);
        Ok(())
    }

    /// Write-protects every page of a parked private region that a thread could store to without a fault that waits, and says which of them are private.
    ///
    /// Those are the private pages and the zero page; and a page of the layer whose protection the handler has lifted, for a store that has not happened yet: the kernel makes the
    /// private page without asking again. What is mapped write-protected, or not at all, faults and waits.
    fn protect_private<'a>(
        &'a self,
        tracer: &'a Tracer,
        family: &Family,
        memory: MemoryId,
    ) -> Result<Protected<'a>, Status> {
        let state = family.lock();
        let region = state.pages(memory).only_region();
        let range = region.range;
        let noted = region.open.ranges(NEAR).map(|ranges| {
            let parts = ranges.into_iter();
            let parts = parts.filter_map(|pages| region.addresses(pages.start, pages.end));
            parts.collect::<Vec<_>>()
        });
        self.check_open(region);
        drop(state);
        let looked_at = match noted {
            Some(parts) => parts,
            None => {
                let mut parts = Vec::new();
                self.pagemap
                    .scan_unprotected(range, |part| push_range(&mut parts, part))
                    .map_err(no_memory("scanning a mapping"))?;
                parts
            }
        };
        let mut protected = Protected {
            tracer,
            range,
            open: Vec::new(),
            private: false,
            changed: Vec::new(),
        };
        let Protected { open, changed, .. } = &mut protected;
        let mut others = Vec::new();
        self.pagemap
            .scan_unprotected_flags(&looked_at, |part, flags| {
                push_range(open, part);
                if flags.contains(PageFlags::PRIVATE) {
                    push_range(changed, part);
                } else {
                    push_range(&mut others, part);
                }
            })
            .map_err(no_memory("scanning a mapping"))?;
        for &part in &protected.open {
            tracer.protect(part, Protect::Write)?;
        }
        // A page that was no private one may have become one between the scan and its protection; now nothing changes any more.
        let changed = &mut protected.changed;
        let private = changed.len();
        let mut swapped = Vec::new();
        for part in others {
            self.pagemap
                .scan(part, PageFlags::PRIVATE, |part, flags| {
                    if flags.contains(PageFlags::SWAPPED) {
                        push_range(&mut swapped, part);
                    } else {
                        changed.push(part);
                    }
                })
                .map_err(no_memory("scanning a mapping"))?;
        }
        // Swapped out; or no page at all but the mark which a page of the layer, reclaimed just now, has left for its protection. To read that is a fault, which would
        // wait for ever. The mark goes with the protection.
        for part in swapped {
            tracer.protect(part, Protect::None)?;
            let mut pages = Vec::new();
            self.pagemap
                .scan(part, PageFlags::PRIVATE, |part, _| {
                    push_range(&mut pages, part)
                })
                .map_err(no_memory("scanning a mapping"))?;
            for part in pages {
                tracer.protect(part, Protect::Write)?;
                changed.push(part);
            }
        }
        if changed.len() > private {
            changed.sort_unstable_by_key(|part| part.start());
        }
        protected.private = !changed.is_empty();
        protected.changed = self.stored(family, memory, std::mem::take(changed))?;
        Ok(protected)
    }

    /// In debug builds: ends the process if a page is open that a traced private region does not know of.
    fn check_open(&self, region: &Region) {
        if !cfg!(debug_assertions) {
            return;
        }
        let any = PageFlags::PRIVATE | PageFlags::FILE | PageFlags::ZERO;
        let scanned = self.pagemap.scan(region.range, any, |part, flags| {
            // Not protected and not there is also a page that was poisoned, to which nobody can store.
            if !flags.intersects(PageFlags::WRITE_PROTECTED | PageFlags::SWAPPED) {
                let first = region.page_at(part.start());
                for page in first..first + part.pages() as u64 {
                    assert!(region.open.contains(page), "page {page} is open, unknown");
                }
            }
        });
        assert!(scanned.is_ok());
    }

    /// Prepares a registered replacement for each piece and then moves each in place. First all that can fail, then what may not: after an error nothing was replaced.
    fn replace<'f>(
        &self,
        tracer: &Tracer,
        pieces: &[Piece],
        (file, how): (&'f WideFile, fn(&'f MemFd, u64) -> Source<'f>),
        modes: Modes,
    ) -> Result<(), Status> {
        let prepared: Vec<Prepared> = pieces
            .iter()
            .map(|piece| {
                let prepared = file
                    .at(piece.offset())
                    .and_then(|(file, offset)| {
                        let source = how(file, offset);
                        self.reservation
                            .prepare(piece.range.len(), source, piece.prot)
                    })
                    .map_err(no_memory("preparing a mapping"))?;
                tracer
                    .uffd
                    .register(&prepared, prepared.range(), modes)
                    .map_err(no_memory("registering a mapping"))?;
                Ok(prepared)
            })
            .collect::<Result<_, Status>>()?;
        for (index, (prepared, piece)) in prepared.into_iter().zip(pieces).enumerate() {
            match self.reservation.install(prepared, piece.range) {
                Ok(()) => {}
                // With few mappings left to the process the kernel may still refuse the first.
                Err(InstallError::Refused(error)) if index == 0 => {
                    return Err(no_memory("moving a mapping in place")(error));
                }
                Err(error) => fail_closed("a prepared mapping cannot be moved in place", &error),
            }
        }
        Ok(())
    }

    /// Maps a piece of the memory's own file in place, not registered.
    fn map_piece(&self, piece: &Piece, file: &WideFile) -> std::io::Result<()> {
        let (file, offset) = file.at(piece.offset())?;
        let source = Source::Shared(file, offset);
        self.reservation.map(piece.range, source, piece.prot)
    }

    /// Copies parts of a region to the same places in a file that begins where the region begins.
    fn copy_out(&self, region: HostRange, parts: &[HostRange], file: &MemFd) -> Result<(), Status> {
        for &part in parts {
            self.memory
                .copy_out(
                    self.reservation,
                    part,
                    file,
                    (part.start() - region.start()) as u64,
                )
                .map_err(no_memory("copying private pages"))?;
        }
        Ok(())
    }

    /// Copies all private pages of a region that may have changed since the last cut; says if there were any. Allocates nothing.
    fn copy_private(
        &self,
        region: HostRange,
        policy: Policy,
        file: &MemFd,
    ) -> std::io::Result<bool> {
        let mut any = false;
        let mut result = Ok(());
        self.scan_stored(policy, region, |part| {
            any = true;
            if result.is_ok() {
                let offset = (part.start() - region.start()) as u64;
                result = self.memory.copy_out(self.reservation, part, file, offset);
            }
        })?;
        result.map(|()| any)
    }

    fn pieces_of(&self, space: &Space, family: &Family, memory: MemoryId) -> Vec<Piece> {
        let state = family.lock();
        let mut pieces = Vec::new();
        for region in state.pages(memory).regions.values() {
            for (range, prot) in self.pieces(space, region) {
                let page = region.page_at(range.start());
                pieces.extend(mappable(range, page).map(|(range, page)| Piece {
                    range,
                    prot,
                    page,
                }));
            }
        }
        pieces.sort_unstable_by_key(|piece| piece.range.start());
        pieces.dedup_by(|next, piece| piece.take_in(next));
        pieces
    }

    fn writable_pieces(&self, space: &Space, family: &Family, memory: MemoryId) -> usize {
        self.pieces_of(space, family, memory)
            .iter()
            .filter(|piece| piece.prot.contains(Prot::WRITE))
            .count()
    }
}

/// Parts of a mapping so many pages apart are looked at together: to ask the kernel once more costs as much as to look at so many pages.
const NEAR: u64 = 16;

/// A layer of pages that have changed, and where in it each run of the memory's pages begins.
pub(crate) struct Gathered {
    layer: WideLayer,
    runs: Vec<(Range<u64>, u64)>,
}

impl Gathered {
    /// Whether so many pages of a memory lie in a layer one behind the other, which takes less time and memory. If it is most of them a mapping may be made of the
    /// layer, and they are at their own places, as in a file of the memory's.
    pub(crate) fn is_sparse(pages: u64, of: u64) -> bool {
        pages < of / 2
    }
}

/// What a private mapping had of its own, see [`Engine::save_private`].
pub(crate) struct SavedPages {
    range: HostRange,
    changed: Vec<HostRange>,
    file: WideFile,
}

/// A parked region whose pages are write-protected. Dropping it takes the protection away again.
struct Protected<'a> {
    tracer: &'a Tracer,
    range: HostRange,
    /// What was not protected before.
    open: Vec<HostRange>,
    /// Whether any of it is private.
    private: bool,
    /// What of it is private and changed since the last cut.
    changed: Vec<HostRange>,
}

impl Protected<'_> {
    /// Leaves the protection in place.
    fn keep(mut self) -> (HostRange, Vec<HostRange>) {
        self.open.clear();
        (self.range, std::mem::take(&mut self.changed))
    }
}

impl Drop for Protected<'_> {
    fn drop(&mut self) {
        for &part in &self.open {
            // A page that stayed protected without a copy would be taken for unchanged.
            if let Err(status) = self.tracer.protect(part, Protect::None) {
                fail_closed("write protection cannot be taken away", &status);
            }
        }
    }
}

impl FamilyState {
    /// Makes the file of a memory without regions a layer.
    pub(crate) fn settle(&mut self, memory: MemoryId) -> Result<(), Status> {
        if !matches!(self.pages(memory).home, Home::MemFd { .. }) {
            return Ok(());
        }
        let (layer, file, complete) = self.take_file(memory)?;
        match file.seal() {
            Ok(sealed) => {
                self.own_sealed(memory, layer, sealed, complete);
                Ok(())
            }
            Err((file, error)) => {
                self.put_file_back(memory, layer, file, complete);
                Err(seal_status(&error))
            }
        }
    }

    /// Takes a memory's file out of its home. Whoever does that holds the address space or keeps the family locked until there is a home again.
    fn take_file(&mut self, memory: MemoryId) -> Result<(LayerId, WideFile, bool), Status> {
        match std::mem::replace(&mut self.pages_mut(memory).home, Home::None) {
            Home::MemFd {
                layer,
                file,
                complete,
            } => Ok((layer, file, complete)),
            other => {
                self.pages_mut(memory).home = other;
                Err(Status::INTERNAL)
            }
        }
    }

    /// Undoes [`Self::take_file`].
    fn put_file_back(&mut self, memory: MemoryId, layer: LayerId, file: WideFile, complete: bool) {
        self.pages_mut(memory).home = Home::MemFd {
            layer,
            file,
            complete,
        };
    }

    /// Pages of `changed` are the memory's own, at their places in a new home: `file`, which holds nothing else.
    fn own_pages(
        &mut self,
        memory: MemoryId,
        layer: LayerId,
        changed: &[HostRange],
        region: HostRange,
        file: impl Into<WideFile>,
    ) {
        let size = page_size();
        for part in changed {
            let first = ((part.start() - region.start()) / size) as u64;
            self.tree
                .own(memory, first..first + part.pages() as u64, layer, first);
        }
        self.pages_mut(memory).home = Home::MemFd {
            layer,
            file: file.into(),
            complete: false,
        };
    }
}

fn copy_bytes(
    from: &WideFile,
    to: &WideFile,
    bytes: Range<u64>,
    bounce: &mut [u8],
) -> std::io::Result<()> {
    let mut at = bytes.start;
    while at < bytes.end {
        let len = (bytes.end - at).min(bounce.len() as u64);
        let piece = &mut bounce[..len as usize];
        from.read_at(piece, at)?;
        to.write_at(piece, at)?;
        at += len;
    }
    Ok(())
}

/// A file for the private pages of a mapping.
fn new_file(len: u64) -> Result<MemFd, Status> {
    MemFd::create("cowspace-vmo", len).map_err(no_memory("making a file"))
}

/// Seals a file that nobody else has.
fn seal(file: WideFile) -> Result<WideLayer, Status> {
    file.seal().map_err(|(_, error)| seal_status(&error))
}

fn seal_status(error: &SealError) -> Status {
    match error {
        SealError::Busy => {
            note(|| {
                "no snapshot: pages are pinned, or shared with a forked copy of the process".into()
            });
            Status::BAD_STATE
        }
        SealError::Io(error) => {
            note(|| format!("sealing a layer: {error}"));
            Status::NO_MEMORY
        }
    }
}

/// Adds a range to a list of ascending ranges.
pub(crate) fn push_range(ranges: &mut Vec<HostRange>, range: HostRange) {
    match ranges.last_mut() {
        Some(last) if last.end() == range.start() => {
            if let Some(joined) = HostRange::new(last.start(), last.len() + range.len()) {
                *last = joined;
            }
        }
        _ => ranges.push(range),
    }
}

/// Ends the process where going on would show wrong bytes. Not by way of the log: a stopped or parked thread may hold its lock.
pub(crate) fn fail_closed(what: &str, error: &dyn std::fmt::Display) -> ! {
    process::abort(format_args!(
        "cowspace: {what}: {error}; ending the process before it sees wrong memory"
    ))
}
