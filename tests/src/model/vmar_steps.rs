//! Steps on VMARs, and on memory through mappings.

use std::ops::Range;

use cowspace::{Rights, Status, VmarFlags};

use super::memory::WORD;
use super::ops::{Part, Place};
use super::space::{KEPT, PERMS, Shown, Wanted, can_map, perms_of, rights_for};
use super::world::{World, pick};
use crate::{memory, page};

impl World {
    /// A handle to a VMAR, mostly to one that was not destroyed.
    pub(super) fn vmar(&self, number: usize) -> usize {
        let index = number % self.vmars.len();
        if number < 28 && !self.space.regions[self.vmars[index].region].alive {
            return 0;
        }
        index
    }

    /// A handle and pages.
    pub(super) fn part(&self, part: Part) -> Option<(usize, Range<usize>)> {
        let mappings = self.space.mappings();
        let mapping = &mappings[pick(part.mapping, mappings.len())?];
        let first = mapping.start + part.first % mapping.len();
        let pages = if part.beyond {
            part.pages
        } else {
            part.pages.clamp(1, mapping.end - first)
        };
        let above = self.space.above(self.space.slots[first].vmar);
        let over: Vec<usize> = (0..self.vmars.len())
            .filter(|&index| above.contains(&self.vmars[index].region))
            .collect();
        let via = if part.via < 56 {
            over[part.via % over.len()]
        } else {
            self.vmar(part.via)
        };
        Some((via, first..first + pages))
    }

    fn wanted(
        &self,
        region: usize,
        place: Place,
        size: usize,
        mut flags: VmarFlags,
        needs: VmarFlags,
    ) -> Wanted {
        let most = self.space.regions[region].range.len() + 2;
        let offset = match place {
            Place::Anywhere => 0,
            Place::At(at) => {
                flags |= VmarFlags::SPECIFIC;
                at % most
            }
            Place::Over(at) => {
                flags |= VmarFlags::SPECIFIC_OVERWRITE;
                at % most
            }
            Place::Below(at) => {
                flags |= VmarFlags::OFFSET_IS_UPPER_LIMIT;
                at % most
            }
        };
        Wanted {
            flags,
            offset,
            size,
            needs,
        }
    }

    /// The page where something was put, which must be one of these.
    fn placed(&self, addr: usize, places: &[usize]) -> usize {
        let places: Vec<usize> = places.iter().map(|&at| self.space.address(at)).collect();
        assert!(
            places.contains(&addr),
            "{}: {addr:#x} is none of {places:x?}",
            self.now()
        );
        (addr - self.space.base) / page()
    }

    pub(super) fn allocate(&mut self, vmar: usize, place: Place, pages: usize, flags: VmarFlags) {
        let index = self.vmar(vmar);
        let handle = &self.vmars[index];
        let parent = handle.region;
        let wanted = self.wanted(parent, place, pages, flags, can_map(flags));
        let needs = rights_for(can_map(flags));
        let known = !wanted
            .flags
            .intersects(PERMS | VmarFlags::SPECIFIC_OVERWRITE);
        let expected = if !handle.rights.contains(needs) {
            Err(Status::ACCESS_DENIED)
        } else if !known {
            Err(Status::INVALID_ARGS)
        } else {
            self.space.place(parent, wanted)
        };
        let real = handle
            .vmar
            .allocate(wanted.offset * page(), pages * page(), wanted.flags);
        if let Some(((vmar, addr), places)) = self.agree("allocate", real, expected) {
            let first = self.placed(addr, &places);
            self.space.allocate(parent, first..first + pages, flags);
            let region = self.space.regions.len() - 1;
            self.enter_vmar(vmar, region, Rights::VMAR_DEFAULT | needs);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "as many as the call has")]
    pub(super) fn map(
        &mut self,
        vmar: usize,
        vmo: usize,
        place: Place,
        first: usize,
        pages: usize,
        flags: VmarFlags,
        native: bool,
    ) {
        let Some(vmo_index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let index = self.vmar(vmar);
        let (vmar, vmo) = (&self.vmars[index], &self.vmos[vmo_index]);
        let (region, object) = (vmar.region, vmo.object);
        let max_perms = perms_of(vmar.rights & vmo.rights);
        let wanted = self.wanted(region, place, pages, flags, max_perms);
        let expected = self.may_map(index, vmo_index, wanted);
        let policy = self.policy(native);
        let real = vmar.vmar.map_with_policy(
            wanted.offset * page(),
            &vmo.vmo,
            self.objects.base(object) + (first * page()) as u64,
            pages * page(),
            wanted.flags,
            policy,
        );
        if let Some((addr, places)) = self.agree("map", real, expected) {
            let start = self.placed(addr, &places);
            for at in 0..pages {
                self.space.slots[start + at].shown = Some(Shown {
                    object,
                    page: first + at,
                    max_perms,
                    perms: flags & PERMS,
                    flags: flags & KEPT,
                    policy,
                });
            }
        }
    }

    fn may_map(&self, vmar: usize, vmo: usize, wanted: Wanted) -> Result<Vec<usize>, Status> {
        let (vmar, vmo) = (&self.vmars[vmar], &self.vmos[vmo]);
        let (flags, perms) = (wanted.flags, wanted.flags & PERMS);
        if !vmo.rights.contains(Rights::MAP) {
            return Err(Status::ACCESS_DENIED);
        }
        if !perms.is_empty() && !perms.contains(VmarFlags::PERM_READ)
            || flags.contains(VmarFlags::MAP_RANGE | VmarFlags::SPECIFIC_OVERWRITE)
            || flags.contains(VmarFlags::CAN_MAP_READ)
        {
            return Err(Status::INVALID_ARGS);
        }
        if !(vmar.rights & vmo.rights).contains(rights_for(perms)) {
            return Err(Status::ACCESS_DENIED);
        }
        if flags.contains(VmarFlags::FAULT_BEYOND_STREAM_SIZE)
            && !flags.contains(VmarFlags::ALLOW_FAULTS)
        {
            return Err(Status::INVALID_ARGS);
        }
        if flags.contains(VmarFlags::REQUIRE_NON_RESIZABLE) && self.objects.is_resizable(vmo.object)
        {
            return Err(Status::NOT_SUPPORTED);
        }
        if self.objects.list[vmo.object].locks.is_some() && !flags.contains(VmarFlags::ALLOW_FAULTS)
        {
            return Err(Status::NOT_SUPPORTED);
        }
        if flags.contains(VmarFlags::COMPACT) {
            return Err(Status::INVALID_ARGS);
        }
        self.space.place(vmar.region, wanted)
    }

    pub(super) fn map_all(&mut self, vmar: usize, vmo: usize, native: bool) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let handle = &self.vmos[index];
        let mut flags = perms_of(handle.rights) - VmarFlags::PERM_EXECUTE;
        let discardable = self.objects.list[handle.object].locks.is_some();
        flags.set(VmarFlags::ALLOW_FAULTS, discardable);
        let pages = self.objects.window(handle.object).len();
        self.map(vmar, vmo, Place::Anywhere, 0, pages, flags, native);
    }

    /// A length that is these pages when it is rounded up.
    pub(super) fn not_rounded(pages: &Range<usize>, number: usize) -> usize {
        (pages.len() * page()).saturating_sub(number % 2)
    }

    pub(super) fn unmap(&mut self, part: Part) {
        let Some((index, range)) = self.part(part) else {
            return;
        };
        let handle = &self.vmars[index];
        let region = handle.region;
        let op_children = handle.rights.contains(Rights::OP_CHILDREN);
        let expected = self.space.may_unmap(region, &range, op_children);
        let addr = self.space.address(range.start);
        let real = handle
            .vmar
            .unmap(addr, World::not_rounded(&range, part.via));
        if self.agree("unmap", real, expected).is_some() {
            self.space.unmap(region, range);
        }
    }

    pub(super) fn protect(&mut self, part: Part, flags: VmarFlags) {
        let Some((index, range)) = self.part(part) else {
            return;
        };
        let handle = &self.vmars[index];
        let op_children = handle.rights.contains(Rights::OP_CHILDREN);
        let expected = if !handle.rights.contains(rights_for(flags)) {
            Err(Status::ACCESS_DENIED)
        } else if !flags.is_empty() && !flags.contains(VmarFlags::PERM_READ) {
            Err(Status::INVALID_ARGS)
        } else {
            self.space
                .may_protect(handle.region, &range, flags, op_children)
        };
        let addr = self.space.address(range.start);
        let len = World::not_rounded(&range, part.via);
        let real = handle.vmar.protect(addr, len, flags);
        if self.agree("protect", real, expected).is_some() {
            for slot in &mut self.space.slots[range] {
                slot.shown = slot.shown.map(|shown| Shown {
                    perms: flags,
                    ..shown
                });
            }
        }
    }

    pub(super) fn destroy(&mut self, vmar: usize) {
        let handle = &self.vmars[self.vmar(vmar)];
        let region = handle.region;
        if region == 0 {
            return;
        }
        let expected = if !handle.rights.contains(Rights::OP_CHILDREN) {
            Err(Status::ACCESS_DENIED)
        } else if !self.space.regions[region].alive {
            Err(Status::BAD_STATE)
        } else {
            Ok(())
        };
        let real = handle.vmar.destroy();
        if self.agree("destroy", real, expected).is_some() {
            self.space.destroy(region);
        }
    }

    pub(super) fn store(&mut self, mapping: usize, at: usize, len: usize) {
        let mappings = self.space.mappings();
        let Some(index) = pick(mapping, mappings.len()) else {
            return;
        };
        let mapping = &mappings[index];
        // Whole words: no page of them has the bytes already that are stored in it.
        let at = at % (mapping.len() * page()) / WORD * WORD;
        let end = (at + len.next_multiple_of(WORD)).min(mapping.len() * page());
        // As far as the pages in a row can be written.
        let writable = |at: usize| {
            let shown = self.space.slots[mapping.start + at / page()].shown;
            shown.filter(|shown| {
                shown.perms.contains(VmarFlags::PERM_WRITE) && !self.is_behind(shown)
            })
        };
        let Some(shown) = writable(at) else {
            return;
        };
        let end = (at..end)
            .find(|&byte| writable(byte).is_none())
            .unwrap_or(end);
        let offset = shown.page * page() + at % page();
        let inside = self
            .objects
            .in_memory(shown.object, offset..offset + end - at);
        let data = self.contents.pattern(inside.start, inside.len());
        let base = self.space.address(mapping.start);
        memory(base, mapping.len() * page()).write(at, &data);
        let memory = &mut self.objects.memories[self.objects.list[shown.object].memory];
        memory.write(inside.start, &data, &mut self.contents);
    }

    pub(super) fn load(&mut self, mapping: usize) {
        let mappings = self.space.mappings();
        if let Some(index) = pick(mapping, mappings.len()) {
            self.check_pages(mappings[index].clone());
        }
    }
}
