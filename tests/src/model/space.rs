//! A part of the address space: a record for each page, and a look at every page for every answer.

use std::ops::Range;

use cowspace::{Policy, Rights, Status, Vmar, VmarFlags};

use crate::page;

/// The pages of a world's own VMAR.
pub(super) const PAGES: usize = 64;

/// The permissions.
pub(super) const PERMS: VmarFlags = VmarFlags::PERM_READ
    .union(VmarFlags::PERM_WRITE)
    .union(VmarFlags::PERM_EXECUTE);

/// The flags that are a mapping's for as long as it lives.
pub(super) const KEPT: VmarFlags =
    VmarFlags::CANNOT_CREATE_VMO_CHILD.union(VmarFlags::FAULT_BEYOND_STREAM_SIZE);

/// What a page of the address space shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) object: usize,
    /// Which page of the VMO.
    pub(super) page: usize,
    pub(super) max_perms: VmarFlags,
    pub(super) perms: VmarFlags,
    /// Those of [`KEPT`] that were given.
    pub(super) flags: VmarFlags,
    pub(super) policy: Policy,
}

#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// The innermost VMAR.
    pub(super) vmar: usize,
    pub(super) shown: Option<Shown>,
}

pub(super) struct Region {
    pub(super) parent: usize,
    pub(super) range: Range<usize>,
    pub(super) flags: VmarFlags,
    pub(super) alive: bool,
}

/// A handle to a VMAR.
pub(super) struct VmarHandle {
    pub(super) vmar: Vmar,
    pub(super) region: usize,
    pub(super) rights: Rights,
}

/// What allocate and map are asked for; offset and size are pages.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) flags: VmarFlags,
    pub(super) offset: usize,
    pub(super) size: usize,
    pub(super) needs: VmarFlags,
}

/// A record of the maps: its depth, its pages, and for a mapping what the first of them shows.
pub(super) type Record = (usize, Range<usize>, Option<Shown>);

/// VMARs by number, the world's own first; ranges are page numbers from its base.
pub(super) struct Space {
    pub(super) base: usize,
    pub(super) regions: Vec<Region>,
    pub(super) slots: Vec<Slot>,
}

/// The `CAN_MAP_` flags in terms of `PERM_` flags.
pub(super) fn can_map(flags: VmarFlags) -> VmarFlags {
    let mut perms = VmarFlags::empty();
    perms.set(
        VmarFlags::PERM_READ,
        flags.contains(VmarFlags::CAN_MAP_READ),
    );
    perms.set(
        VmarFlags::PERM_WRITE,
        flags.contains(VmarFlags::CAN_MAP_WRITE),
    );
    perms.set(
        VmarFlags::PERM_EXECUTE,
        flags.contains(VmarFlags::CAN_MAP_EXECUTE),
    );
    perms
}

/// The rights that permissions need, or the other way round.
pub(super) fn rights_for(perms: VmarFlags) -> Rights {
    let mut rights = Rights::NONE;
    rights.set(Rights::READ, perms.contains(VmarFlags::PERM_READ));
    rights.set(Rights::WRITE, perms.contains(VmarFlags::PERM_WRITE));
    rights.set(Rights::EXECUTE, perms.contains(VmarFlags::PERM_EXECUTE));
    rights
}

pub(super) fn perms_of(rights: Rights) -> VmarFlags {
    let mut perms = VmarFlags::empty();
    perms.set(VmarFlags::PERM_READ, rights.contains(Rights::READ));
    perms.set(VmarFlags::PERM_WRITE, rights.contains(Rights::WRITE));
    perms.set(VmarFlags::PERM_EXECUTE, rights.contains(Rights::EXECUTE));
    perms
}

impl Space {
    pub(super) fn new(base: usize) -> Space {
        let own = Region {
            parent: 0,
            range: 0..PAGES,
            flags: crate::zircon::ALL,
            alive: true,
        };
        let empty = Slot {
            vmar: 0,
            shown: None,
        };
        Space {
            base,
            regions: vec![own],
            slots: vec![empty; PAGES],
        }
    }

    pub(super) fn address(&self, at: usize) -> usize {
        self.base + at * page()
    }

    /// The VMAR itself and those above it.
    pub(super) fn above(&self, mut region: usize) -> Vec<usize> {
        let mut path = vec![region];
        while region != 0 {
            region = self.regions[region].parent;
            path.push(region);
        }
        path
    }

    fn is_free(&self, region: usize, mut range: Range<usize>) -> bool {
        range.all(|at| self.slots[at].vmar == region && self.slots[at].shown.is_none())
    }

    fn children(&self, region: usize) -> impl Iterator<Item = usize> {
        let child = move |at: &usize| self.regions[*at].alive && self.regions[*at].parent == region;
        (1..self.regions.len()).filter(child)
    }

    /// Every place that would be right, or the first error. `Ok` is never empty.
    pub(super) fn place(&self, region: usize, wanted: Wanted) -> Result<Vec<usize>, Status> {
        let Wanted {
            flags,
            offset,
            size,
            needs,
        } = wanted;
        let own = &self.regions[region];
        let overwrite = flags.contains(VmarFlags::SPECIFIC_OVERWRITE);
        let specific = overwrite || flags.contains(VmarFlags::SPECIFIC);
        let limit = flags.contains(VmarFlags::OFFSET_IS_UPPER_LIMIT);
        if !own.alive {
            return Err(Status::BAD_STATE);
        }
        if size == 0 {
            return Err(Status::INVALID_ARGS);
        }
        if !can_map(own.flags).contains(needs) {
            return Err(Status::ACCESS_DENIED);
        }
        if (specific || limit) && !own.flags.contains(VmarFlags::CAN_MAP_SPECIFIC) {
            return Err(Status::ACCESS_DENIED);
        }
        let mut first = own.range.start;
        let mut end = own.range.end;
        if specific {
            first += offset;
            end = first + size;
        } else if limit {
            end = first + offset;
        }
        if end > own.range.end || size > end - own.range.start {
            return Err(Status::INVALID_ARGS);
        }
        let align = 1 << (flags.bits() >> 24);
        let aligned = |&at: &usize| self.address(at).is_multiple_of(align);
        if specific {
            if !aligned(&first) {
                return Err(Status::INVALID_ARGS);
            }
            if !overwrite && !self.is_free(region, first..end) {
                return Err(Status::ALREADY_EXISTS);
            }
            if self.slots[first..end]
                .iter()
                .any(|slot| slot.vmar != region)
            {
                return Err(Status::INVALID_ARGS);
            }
            return Ok(vec![first]);
        }
        let fits = |&at: &usize| aligned(&at) && self.is_free(region, at..at + size);
        let places: Vec<usize> = (first..end + 1 - size).filter(fits).collect();
        if places.is_empty() {
            return Err(Status::NO_RESOURCES);
        }
        Ok(places)
    }

    pub(super) fn allocate(&mut self, parent: usize, range: Range<usize>, flags: VmarFlags) {
        self.regions.push(Region {
            parent,
            range: range.clone(),
            flags,
            alive: true,
        });
        for slot in &mut self.slots[range] {
            slot.vmar = self.regions.len() - 1;
        }
    }

    /// Whether a range is one that unmap and protect can be given.
    pub(super) fn check_range(&self, region: usize, range: &Range<usize>) -> Result<(), Status> {
        let own = &self.regions[region];
        if range.is_empty() {
            return Err(Status::INVALID_ARGS);
        }
        if !own.alive {
            return Err(Status::BAD_STATE);
        }
        if range.start < own.range.start || own.range.end < range.end {
            return Err(Status::INVALID_ARGS);
        }
        Ok(())
    }

    pub(super) fn may_unmap(
        &self,
        region: usize,
        range: &Range<usize>,
        op_children: bool,
    ) -> Result<(), Status> {
        self.check_range(region, range)?;
        for child in self.children(region) {
            let child = &self.regions[child].range;
            let overlaps = child.start < range.end && range.start < child.end;
            let inside = range.start <= child.start && child.end <= range.end;
            if overlaps && (!inside || !op_children) {
                return Err(Status::INVALID_ARGS);
            }
        }
        Ok(())
    }

    /// Ends the VMARs below `region` that lie in the range, and unmaps it.
    pub(super) fn unmap(&mut self, region: usize, range: Range<usize>) {
        for child in 1..self.regions.len() {
            let inside = self.regions[child]
                .range
                .clone()
                .all(|at| range.contains(&at));
            if child != region && inside && self.above(child).contains(&region) {
                self.regions[child].alive = false;
            }
        }
        for slot in &mut self.slots[range] {
            *slot = Slot {
                vmar: region,
                shown: None,
            };
        }
    }

    /// Ends a VMAR that is alive and not the world's own.
    pub(super) fn destroy(&mut self, region: usize) {
        self.regions[region].alive = false;
        self.unmap(
            self.regions[region].parent,
            self.regions[region].range.clone(),
        );
    }

    pub(super) fn may_protect(
        &self,
        region: usize,
        range: &Range<usize>,
        perms: VmarFlags,
        op_children: bool,
    ) -> Result<(), Status> {
        self.check_range(region, range)?;
        for slot in &self.slots[range.clone()] {
            let shown = slot.shown.ok_or(Status::NOT_FOUND)?;
            if !shown.max_perms.contains(perms) {
                return Err(Status::ACCESS_DENIED);
            }
            if slot.vmar != region && !op_children {
                return Err(Status::INVALID_ARGS);
            }
            if slot.vmar != region && !shown.perms.contains(perms) {
                return Err(Status::ACCESS_DENIED);
            }
        }
        Ok(())
    }

    /// Whether a page belongs to the same mapping as the one before it.
    pub(super) fn continues(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else {
            return false;
        };
        let (before, slot) = (self.slots[before], self.slots[at]);
        let (Some(shown_before), Some(shown)) = (before.shown, slot.shown) else {
            return false;
        };
        let next = Shown {
            page: shown_before.page + 1,
            perms: shown.perms,
            ..shown_before
        };
        before.vmar == slot.vmar && next == shown
    }

    /// The pages of each mapping.
    pub(super) fn mappings(&self) -> Vec<Range<usize>> {
        let mut mappings: Vec<Range<usize>> = Vec::new();
        for at in (0..PAGES).filter(|&at| self.slots[at].shown.is_some()) {
            match mappings.last_mut() {
                Some(last) if self.continues(at) => last.end = at + 1,
                _ => mappings.push(at..at + 1),
            }
        }
        mappings
    }

    /// How many mappings a VMO has.
    pub(super) fn mappings_of(&self, object: usize) -> usize {
        let of = |range: &Range<usize>| self.slots[range.start].shown.map(|shown| shown.object);
        let mappings = self.mappings().into_iter();
        mappings.filter(|range| of(range) == Some(object)).count()
    }

    /// What `create_vmo_child` would clone, and whether all of it can be executed.
    pub(super) fn find(&self, region: usize, range: Range<usize>) -> Result<(Shown, bool), Status> {
        // An empty range and one that is not inside have the same answer here as for unmap.
        self.check_range(region, &range)?;
        let first = self.slots[range.start];
        let shown = first.shown.ok_or(Status::INVALID_ARGS)?;
        if !range.clone().skip(1).all(|at| self.continues(at)) {
            return Err(Status::INVALID_ARGS);
        }
        let cannot = VmarFlags::CANNOT_CREATE_VMO_CHILD;
        let above = self.above(first.vmar);
        let refused = above
            .iter()
            .any(|&at| self.regions[at].flags.contains(cannot));
        if refused || shown.flags.contains(cannot) {
            return Err(Status::ACCESS_DENIED);
        }
        let executable = |slot: &Slot| {
            slot.shown
                .is_some_and(|shown| shown.perms.contains(VmarFlags::PERM_EXECUTE))
        };
        Ok((shown, self.slots[range].iter().all(executable)))
    }

    /// The records of a VMAR.
    pub(super) fn maps(&self, region: usize, depth: usize) -> Vec<Record> {
        let range = self.regions[region].range.clone();
        let mut records = vec![(depth, range.clone(), None)];
        let mut at = range.start;
        while at < range.end {
            let start = at;
            at += 1;
            let begins = |&child: &usize| self.regions[child].range.start == start;
            if let Some(child) = self.children(region).find(begins) {
                records.extend(self.maps(child, depth + 1));
                at = self.regions[child].range.end;
            } else if let Some(shown) = self.slots[start].shown {
                let perms = |at: usize| self.slots[at].shown.map(|shown| shown.perms);
                while at < range.end && self.continues(at) && perms(at) == Some(shown.perms) {
                    at += 1;
                }
                records.push((depth + 1, start..at, Some(shown)));
            }
        }
        records
    }
}
