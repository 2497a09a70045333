//! Making, ending and converting regions: the kernel's side of a mapping.
//!
//! Everything here runs with the address space locked. A region appears in this order: mapped without permissions (a touch is SIGSEGV, and the call that maps
//! has not returned), registered, filled, entered in its family and the fault table, and only then given its permissions. So no page of a
//! registered region is ever resolved by the kernel alone.

use std::sync::Arc;

use host_memory::memfd::Layer;
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::reserve::Source;
use host_memory::uffd::{Modes, Protect, UffdError, Wake};
use page_tree::{MemoryId, Place, Run};

use crate::aspace::MappingId;
use crate::bounce::Bounce;
use crate::cut::SavedPages;
use crate::engine::{Engine, Space};
use crate::family::{Backing, Family, FamilyState, Home, Region, new_layer_id};
use crate::mapping::{host_range, prot};
use crate::object::VmObject;
use crate::open_pages::OpenPages;
use crate::options::Policy;
use crate::plan::Plan;
use crate::report::no_memory;
use crate::resolver::Tracer;
use crate::sequence::Sequences;
use crate::status::Status;
use crate::stream_size::StreamSize;
use crate::wide::mappable;

/// A mapping about to be made: `range` shows the VMO from page `page` of it on.
pub(crate) struct NewRegion<'a> {
    pub(crate) vmo: &'a Arc<VmObject>,
    pub(crate) range: HostRange,
    pub(crate) page: u64,
    pub(crate) policy: Policy,
    /// What lies behind the VMO's stream size faults.
    pub(crate) ends_with_stream: bool,
}

/// A region that the kernel knows and nobody else yet.
pub(crate) struct MadeRegion {
    range: HostRange,
    page: u64,
    policy: Policy,
    backing: Backing,
    stream: Option<Arc<StreamSize>>,
}

impl Engine {
    /// Does all of a new mapping that can fail. `None`: no page of it lies inside the VMO, so there is nothing to map.
    ///
    /// # Errors
    ///
    /// `NO_MEMORY`: the kernel has no page, no descriptor or no VMA left. Then nothing is mapped in the range.
    pub(crate) fn make_region(
        &self,
        space: &Space,
        new: &NewRegion<'_>,
    ) -> Result<Option<MadeRegion>, Status> {
        let family = &new.vmo.family;
        let memory = new.vmo.memory;
        let Some((range, page)) = self.inside(&family.lock(), new) else {
            return Ok(None);
        };
        self.make_way(space, family, memory, range, page)?;

        let mut state = family.lock();
        let private = state.pages(memory).regions.is_empty()
            && !matches!(state.pages(memory).home, Home::MemFd { .. });
        let backing =
            if private && !state.tree.is_blank(memory) && covers(&state, memory, range, page) {
                self.map_private(&mut state, memory, range, new.policy)
                    .map(|plan| {
                        // Before the family is unlocked: from now on whoever changes a page waits for the address space, or the plan would be out of date.
                        state.pages_mut(memory).home = Home::Private {
                            layer: new_layer_id(),
                        };
                        Backing::Private(plan)
                    })
            } else {
                self.map_shared(&mut state, memory, range, page, new.policy)
                    .map(|()| Backing::Shared)
            };
        match backing {
            Ok(backing) => Ok(Some(MadeRegion {
                range,
                page,
                policy: new.policy,
                backing,
                stream: new.ends_with_stream.then(|| new.vmo.stream.clone()),
            })),
            Err(status) => {
                drop(state);
                // If this fails, too, an area without permissions stays that the next mapping replaces.
                let _ = self.release(range);
                Err(status)
            }
        }
    }

    /// Enters a region under its mapping's name. Infallible; the permissions come after it, by [`Self::protect_region`].
    pub(crate) fn enter_region(&self, vmo: &Arc<VmObject>, id: MappingId, made: MadeRegion) {
        let mut state = vmo.family.lock();
        let region = Region {
            id,
            range: made.range,
            page: made.page,
            policy: made.policy,
            uniform: made.stream.is_none(),
            parked: false,
            backing: made.backing,
            open: OpenPages::default(),
            ahead: OpenPages::default(),
            stores: Sequences::default(),
            stream: made.stream,
        };
        if region.policy == Policy::Traced {
            state.make_aliases();
            self.faults.insert(&vmo.family, vmo.memory, &region);
        }
        state.pages_mut(vmo.memory).regions.insert(id, region);
    }

    /// Sets the permissions of the part of `range` that the region covers.
    pub(crate) fn protect_region(
        &self,
        vmo: &VmObject,
        id: MappingId,
        range: HostRange,
        prot: Prot,
    ) -> Result<(), Status> {
        let mut state = vmo.family.lock();
        let Some(region) = state.region_mut(vmo.memory, id) else {
            return Ok(());
        };
        let Some(part) = intersect(region.range, range) else {
            return Ok(());
        };
        if part != region.range {
            region.uniform = false;
        }
        let parts = region.permissions(part, prot);
        // With the family locked: an access past permissions relies on them ([`host_memory::procmem`]).
        for (part, prot) in parts {
            self.reservation
                .protect(part, prot)
                .map_err(no_memory("changing permissions"))?;
        }
        Ok(())
    }

    /// Saves what only the mapping of a region holds, before it is unmapped: the private pages of a memory that lives
    /// on.
    pub(crate) fn save_region(
        &self,
        vmo: &Arc<VmObject>,
        id: MappingId,
    ) -> Result<Option<SavedPages>, Status> {
        let mut state = vmo.family.lock();
        // The VMAR tree has the last reference: the memory ends with the mapping.
        let ends = Arc::strong_count(vmo) == 1 && state.pages(vmo.memory).is_only_vmo();
        let Some(region) = state.region_mut(vmo.memory, id) else {
            return Ok(None);
        };
        let range = region.range;
        let private = matches!(region.backing, Backing::Private(_));
        drop(state);
        if private && !ends {
            self.save_private(vmo, range).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Forgets a region that is unmapped, all of it. `saved` is what [`Self::save_region`] gave for it.
    pub(crate) fn forget_region(&self, vmo: &VmObject, id: MappingId, saved: Option<SavedPages>) {
        let mut state = vmo.family.lock();
        let pages = state.pages_mut(vmo.memory);
        let Some(region) = pages.regions.remove(&id) else {
            return;
        };
        match saved {
            Some(saved) => self.keep_saved(&mut state, vmo.memory, saved),
            None if matches!(region.backing, Backing::Private(_)) => pages.home = Home::None,
            None => {}
        }
        drop(state);
        self.faults.remove(region.range.start());
    }

    /// Replaces the region `old` of a memory in its shared home by what is left of it. The pieces keep their pages; the kernel keeps
    /// their registration.
    pub(crate) fn split_region(
        &self,
        vmo: &VmObject,
        old: MappingId,
        rest: &[(MappingId, HostRange)],
    ) {
        let mut state = vmo.family.lock();
        let pages = state.pages_mut(vmo.memory);
        let Some(region) = pages.regions.remove(&old) else {
            return;
        };
        let mut pieces = Vec::new();
        for &(id, range) in rest {
            if let Some(part) = intersect(region.range, range) {
                pieces.push(Region {
                    id,
                    range: part,
                    page: region.page_at(part.start()),
                    policy: region.policy,
                    uniform: region.uniform,
                    parked: false,
                    backing: Backing::Shared,
                    open: OpenPages::default(),
                    ahead: OpenPages::default(),
                    stores: Sequences::default(),
                    stream: region.stream.clone(),
                });
            }
        }
        self.faults.remove(region.range.start());
        for piece in pieces {
            if piece.policy == Policy::Traced {
                self.faults.insert(&vmo.family, vmo.memory, &piece);
            }
            pages.regions.insert(piece.id, piece);
        }
    }

    /// Gives a range back to the reservation. Threads that wait for a fault in it try again, and get SIGSEGV.
    ///
    /// After an error the permissions may be gone.
    pub(crate) fn release(&self, range: HostRange) -> Result<(), Status> {
        self.reservation
            .release(range)
            .or_else(|_| {
                // The process has more mappings than it may have. Without permissions those of one file are one, and then there may be room.
                self.reservation.protect(range, Prot::empty())?;
                self.reservation.release(range)
            })
            .map_err(no_memory("unmapping"))?;
        if let Some(tracer) = self.started_tracer() {
            tracer.wake(range);
        }
        Ok(())
    }

    /// The part of the mapping that lies inside the VMO, and the memory's page it begins at. Only a resizable memory's mapping
    /// reaches over the end, for its file's end is where accesses fault.
    fn inside(&self, state: &FamilyState, new: &NewRegion<'_>) -> Option<(HostRange, u64)> {
        let window = new.vmo.window(state);
        let page = window.start + new.page;
        if state.pages(new.vmo.memory).resizable
            && !matches!(new.vmo.kind, crate::object::VmoKind::Slice(_))
        {
            return Some((new.range, page));
        }
        let pages = window
            .end
            .saturating_sub(page)
            .min(new.range.pages() as u64);
        let range = new.range.sub(0, pages as usize * page_size())?;
        (!range.is_empty()).then_some((range, page))
    }

    /// Brings the memory's home into the shape that one more region needs.
    fn make_way(
        &self,
        space: &Space,
        family: &Arc<Family>,
        memory: MemoryId,
        range: HostRange,
        page: u64,
    ) -> Result<(), Status> {
        let mut state = family.lock();
        let pages = state.pages(memory);
        match (&pages.home, pages.regions.is_empty()) {
            (Home::Private { .. }, _) => {
                drop(state);
                self.share(space, family, memory)
            }
            // Its own file, not complete and not mapped: as a layer it can be mapped privately.
            (
                Home::MemFd {
                    complete: false, ..
                },
                true,
            ) if covers(&state, memory, range, page) => state.settle(memory),
            _ => Ok(()),
        }
    }

    /// Maps the layers of a memory privately, without permissions.
    fn map_private(
        &self,
        state: &mut FamilyState,
        memory: MemoryId,
        range: HostRange,
        policy: Policy,
    ) -> Result<Plan, Status> {
        let size = page_size() as u64;
        let runs = state.runs(memory);
        let plan = Plan::choose(&runs, |id| {
            state.layer(id).map_or(0, |layer| layer.len() / size)
        });
        for segment in plan.segments() {
            let part = range
                .sub(
                    (segment.pages.start * size) as usize,
                    ((segment.pages.end - segment.pages.start) * size) as usize,
                )
                .ok_or(Status::INTERNAL)?;
            let Place::In(id, page) = segment.place else {
                self.map_layer(part, None, policy)?;
                continue;
            };
            let layer = state.layer(id).ok_or(Status::INTERNAL)?;
            for (part, page) in mappable(part, page) {
                self.map_layer(part, layer.at(page * size), policy)?;
            }
        }
        if policy == Policy::Native {
            self.fill_exceptions(state, &runs, &plan, range)?;
        }
        Ok(plan)
    }

    /// Maps a file of a layer from an offset on, or zeros, privately.
    fn map_layer(
        &self,
        at: HostRange,
        layer: Option<(&Arc<Layer>, u64)>,
        policy: Policy,
    ) -> Result<(), Status> {
        let source = match layer {
            Some((layer, offset)) => Source::Private(layer, offset),
            None => Source::Anonymous,
        };
        self.reservation
            .map(at, source, Prot::empty())
            .map_err(no_memory("mapping a layer"))?;
        if policy == Policy::Traced {
            let tracer = self.tracer().ok_or(Status::INTERNAL)?;
            tracer
                .uffd
                .register(self.reservation, at, tracer.private_modes(layer.is_some()))
                .map_err(no_memory("registering a mapping"))?;
        }
        Ok(())
    }

    /// Copies in what the mapping shows wrong, before anybody can look.
    fn fill_exceptions(
        &self,
        state: &FamilyState,
        runs: &[Run],
        plan: &Plan,
        range: HostRange,
    ) -> Result<(), Status> {
        let size = page_size() as u64;
        let mut wrong = Vec::new();
        for run in runs {
            plan.exceptions(run, |exception| wrong.push(exception));
        }
        let mut bounce = Bounce::new()?;
        for run in wrong {
            if run.place == Place::Zero {
                self.fill_zeros(state, &run, plan, range)?;
                continue;
            }
            let Place::In(id, first) = run.place else {
                continue;
            };
            let layer = state.layer(id).ok_or(Status::INTERNAL)?;
            let mut at = run.pages.start;
            while at < run.pages.end {
                let bytes = bounce.all();
                let pages = (run.pages.end - at).min(bytes.len() as u64 / size);
                let bytes = &mut bytes[..(pages * size) as usize];
                layer
                    .read_at(bytes, (first + at - run.pages.start) * size)
                    .map_err(no_memory("reading a layer"))?;
                self.memory
                    .write(
                        self.reservation,
                        range.start() + (at * size) as usize,
                        bytes,
                    )
                    .map_err(no_memory("filling a mapping"))?;
                at += pages;
            }
        }
        Ok(())
    }

    /// Zeros where the mapped layer has data.
    fn fill_zeros(
        &self,
        state: &FamilyState,
        run: &Run,
        plan: &Plan,
        range: HostRange,
    ) -> Result<(), Status> {
        let size = page_size() as u64;
        let Place::In(id, first) = plan.shows(run.pages.start) else {
            return Ok(());
        };
        let layer = state.layer(id).ok_or(Status::INTERNAL)?;
        let mut data = Vec::new();
        let bytes = first * size..(first + run.pages.end - run.pages.start) * size;
        layer
            .data(bytes.clone(), |part| data.push(part))
            .map_err(no_memory("reading a layer's extents"))?;
        if data.is_empty() {
            return Ok(());
        }
        let zeros = Bounce::zeros()?;
        for part in data {
            let start =
                range.start() + (run.pages.start * size + part.start - bytes.start) as usize;
            let end = start + (part.end - part.start) as usize;
            for at in (start..end).step_by(zeros.bytes().len()) {
                let len = zeros.bytes().len().min(end - at);
                self.memory
                    .write(self.reservation, at, &zeros.bytes()[..len])
                    .map_err(no_memory("filling a mapping"))?;
            }
        }
        Ok(())
    }

    /// Maps a memory's own file, without permissions.
    fn map_shared(
        &self,
        state: &mut FamilyState,
        memory: MemoryId,
        range: HostRange,
        page: u64,
        policy: Policy,
    ) -> Result<(), Status> {
        state.file(memory)?;
        if policy == Policy::Native {
            state.complete(memory)?;
        }
        let Home::MemFd { file, complete, .. } = &state.pages(memory).home else {
            return Err(Status::INTERNAL);
        };
        for (part, page) in mappable(range, page) {
            file.at(page * page_size() as u64)
                .and_then(|(file, offset)| {
                    let source = Source::Shared(file, offset);
                    self.reservation.map(part, source, Prot::empty())
                })
                .map_err(no_memory("mapping a file"))?;
        }
        if !complete {
            let tracer = self.tracer().ok_or(Status::INTERNAL)?;
            tracer
                .uffd
                .register(self.reservation, range, Modes::MISSING)
                .map_err(no_memory("registering a mapping"))?;
        }
        Ok(())
    }

    /// The pieces of a region that are one VMA each, with their permissions.
    pub(crate) fn pieces(&self, space: &Space, region: &Region) -> Vec<(HostRange, Prot)> {
        let Some(mapping) = space.get(region.id) else {
            return Vec::new();
        };
        mapping
            .perms_in(mapping.range())
            .filter_map(|(range, perms)| {
                Some((intersect(region.range, host_range(&range))?, prot(perms)))
            })
            .flat_map(|(range, prot)| region.permissions(range, prot))
            .collect()
    }
}

impl FamilyState {
    /// Copies all that the memory sees into its own file, which the kernel can then serve alone.
    pub(crate) fn complete(&mut self, memory: MemoryId) -> Result<(), Status> {
        if let Home::MemFd { complete: true, .. } = self.pages(memory).home {
            return Ok(());
        }
        let end = self.tree.pages(memory);
        self.fill(memory, &(0..end))?;
        if let Home::MemFd { complete, .. } = &mut self.pages_mut(memory).home {
            *complete = true;
        }
        Ok(())
    }
}

impl Tracer {
    /// Wakes the threads that wait in a range: they try again.
    pub(crate) fn wake(&self, range: HostRange) {
        // A range that is not registered has no waiting threads.
        let _ = self.uffd.wake(range);
    }

    /// Sets or takes away the write protection of a range. Nothing is protected where writes are not traced.
    pub(crate) fn protect(&self, range: HostRange, protect: Protect) -> Result<(), Status> {
        if !self.writes {
            return Ok(());
        }
        loop {
            match self.uffd.write_protect(range, protect, Wake::DontWake) {
                // The address space is changing; the handler is about to read of it.
                Err(UffdError::Again { .. }) => std::thread::yield_now(),
                other => return other.map_err(no_memory("changing write protection")),
            }
        }
    }
}

/// Whether a region covers all of a memory that may live in private pages.
fn covers(state: &FamilyState, memory: MemoryId, range: HostRange, page: u64) -> bool {
    !state.pages(memory).resizable && page == 0 && range.pages() as u64 == state.tree.pages(memory)
}

/// What two ranges have in common.
pub(crate) fn intersect(a: HostRange, b: HostRange) -> Option<HostRange> {
    let start = a.start().max(b.start());
    let end = a.end().min(b.end());
    if start < end {
        HostRange::new(start, end - start)
    } else {
        None
    }
}
