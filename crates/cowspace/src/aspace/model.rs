//! The model of an address space: a record for each page, and a look at every page for every answer.

use std::ops::Range;

use super::{OpChildren, VmarId};
use crate::{
    options::{Perms, Policy, VmarFlags},
    status::Status,
};

pub(super) const PAGES: usize = 64;
/// The number of the root's first page: odd, so that alignments fall between.
pub(super) const FIRST: usize = 1001;

/// What a page of the address space shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) vmo: usize,
    pub(super) vmo_page: u64,
    pub(super) max_perms: Perms,
    pub(super) flags: VmarFlags,
    pub(super) policy: Policy,
    pub(super) perms: Perms,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// The innermost VMAR.
    pub(super) vmar: usize,
    pub(super) shown: Option<Shown>,
}

#[derive(Clone, Debug)]
pub(super) struct ModelVmar {
    pub(super) id: VmarId,
    pub(super) parent: usize,
    pub(super) range: Range<usize>,
    pub(super) flags: VmarFlags,
    pub(super) alive: bool,
}

/// VMARs by number, the root first; ranges are page numbers from the root's base.
pub(super) struct Model {
    pub(super) page: usize,
    pub(super) vmars: Vec<ModelVmar>,
    pub(super) pages: Vec<Page>,
}

/// Where something is to be placed, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) flags: VmarFlags,
    pub(super) offset: usize,
    pub(super) size: usize,
    pub(super) needs: Perms,
}

impl Model {
    pub(super) fn new(root: VmarId, page: usize) -> Model {
        let root = ModelVmar {
            id: root,
            parent: 0,
            range: 0..PAGES,
            flags: VmarFlags::all(),
            alive: true,
        };
        let unmapped = Page {
            vmar: 0,
            shown: None,
        };
        Model {
            page,
            vmars: vec![root],
            pages: vec![unmapped; PAGES],
        }
    }

    pub(super) fn base(&self) -> usize {
        FIRST * self.page
    }

    /// The VMAR itself, or one above it up to the root.
    pub(super) fn above(&self, mut vmar: usize) -> Vec<usize> {
        let mut path = vec![vmar];
        while vmar != 0 {
            vmar = self.vmars[vmar].parent;
            path.push(vmar);
        }
        path
    }

    pub(super) fn is_below(&self, vmar: usize, top: usize) -> bool {
        self.above(vmar).contains(&top)
    }

    pub(super) fn is_free(&self, vmar: usize, range: Range<usize>) -> bool {
        self.pages[range]
            .iter()
            .all(|page| page.vmar == vmar && page.shown.is_none())
    }

    pub(super) fn children(&self, vmar: usize) -> impl Iterator<Item = usize> + '_ {
        (1..self.vmars.len())
            .filter(move |&child| self.vmars[child].alive && self.vmars[child].parent == vmar)
    }

    pub(super) fn address(&self, page: usize) -> usize {
        self.base() + page * self.page
    }

    /// Every place that would be right, as page numbers, or the error. `Ok` is never empty.
    pub(super) fn place(&self, vmar: usize, wanted: Wanted) -> Result<Vec<usize>, Status> {
        let Wanted { flags, offset, .. } = wanted;
        let ModelVmar {
            range,
            alive,
            flags: own,
            ..
        } = &self.vmars[vmar];
        let overwrite = flags.contains(VmarFlags::SPECIFIC_OVERWRITE);
        let specific = overwrite || flags.contains(VmarFlags::SPECIFIC);
        let limit = flags.contains(VmarFlags::OFFSET_IS_UPPER_LIMIT);
        if !alive {
            return Err(Status::BAD_STATE);
        }
        if wanted.size == 0 {
            return Err(Status::INVALID_ARGS);
        }
        if !own.can_map().contains(wanted.needs) {
            return Err(Status::ACCESS_DENIED);
        }
        if specific && limit
            || offset != 0 && !specific && !limit
            || !offset.is_multiple_of(self.page)
        {
            return Err(Status::INVALID_ARGS);
        }
        if (specific || limit) && !own.contains(VmarFlags::CAN_MAP_SPECIFIC) {
            return Err(Status::ACCESS_DENIED);
        }
        let (offset, count) = (offset / self.page, wanted.size / self.page);
        let mut first = range.start;
        let mut end = range.end;
        if specific {
            first += offset;
            end = first + count;
        } else if limit {
            end = first + offset;
        }
        if end > range.end || count > end - range.start {
            return Err(Status::INVALID_ARGS);
        }
        let align = flags.alignment()?;
        let aligned = |&at: &usize| self.address(at).is_multiple_of(align);
        if specific {
            if !aligned(&first) {
                return Err(Status::INVALID_ARGS);
            }
            if !overwrite && !self.is_free(vmar, first..end) {
                return Err(Status::ALREADY_EXISTS);
            }
            if self.pages[first..end].iter().any(|page| page.vmar != vmar) {
                return Err(Status::INVALID_ARGS);
            }
            return Ok(vec![first]);
        }
        let fits = |&at: &usize| aligned(&at) && self.is_free(vmar, at..at + count);
        let places: Vec<usize> = (first..end + 1 - count).filter(fits).collect();
        if places.is_empty() {
            return Err(Status::NO_RESOURCES);
        }
        Ok(places)
    }

    /// The pages that unmap and protect are given.
    pub(super) fn range_in(
        &self,
        vmar: usize,
        addr: usize,
        len: usize,
    ) -> Result<Range<usize>, Status> {
        if !addr.is_multiple_of(self.page) || len == 0 {
            return Err(Status::INVALID_ARGS);
        }
        let ModelVmar { range, alive, .. } = &self.vmars[vmar];
        if !alive {
            return Err(Status::BAD_STATE);
        }
        let end = addr + len.next_multiple_of(self.page);
        if addr < self.address(range.start) || end > self.address(range.end) {
            return Err(Status::INVALID_ARGS);
        }
        Ok(addr / self.page - FIRST..end / self.page - FIRST)
    }

    pub(super) fn may_unmap(
        &self,
        vmar: usize,
        range: &Range<usize>,
        op: OpChildren,
    ) -> Result<(), Status> {
        for child in self.children(vmar) {
            let child = &self.vmars[child].range;
            let overlaps = child.start < range.end && range.start < child.end;
            let inside = range.start <= child.start && child.end <= range.end;
            if overlaps && (!inside || op == OpChildren::No) {
                return Err(Status::INVALID_ARGS);
            }
        }
        Ok(())
    }

    /// Ends the VMARs below `vmar` that lie in the range, and unmaps it.
    pub(super) fn unmap(&mut self, vmar: usize, range: Range<usize>) {
        for child in 1..self.vmars.len() {
            let inside = self.vmars[child]
                .range
                .clone()
                .all(|page| range.contains(&page));
            if child != vmar && inside && self.is_below(child, vmar) {
                self.vmars[child].alive = false;
            }
        }
        for page in &mut self.pages[range] {
            *page = Page { vmar, shown: None };
        }
    }

    pub(super) fn may_protect(
        &self,
        vmar: usize,
        range: &Range<usize>,
        perms: Perms,
        op: OpChildren,
    ) -> Result<(), Status> {
        for page in &self.pages[range.clone()] {
            let shown = page.shown.ok_or(Status::NOT_FOUND)?;
            if !shown.max_perms.contains(perms) {
                return Err(Status::ACCESS_DENIED);
            }
            if page.vmar != vmar && op == OpChildren::No {
                return Err(Status::INVALID_ARGS);
            }
            if page.vmar != vmar && !shown.perms.contains(perms) {
                return Err(Status::ACCESS_DENIED);
            }
        }
        Ok(())
    }

    /// Whether a page belongs to the same mapping as the one before it.
    pub(super) fn continues(&self, page: usize) -> bool {
        let Some(before) = page.checked_sub(1) else {
            return false;
        };
        let (before, page) = (self.pages[before], self.pages[page]);
        let next = |shown: Shown| Shown {
            vmo_page: shown.vmo_page + 1,
            ..shown
        };
        match (before.shown, page.shown) {
            (Some(before_shown), Some(shown)) => {
                let same_perms = Shown {
                    perms: shown.perms,
                    ..next(before_shown)
                };
                before.vmar == page.vmar && same_perms == shown
            }
            _ => false,
        }
    }

    pub(super) fn find(&self, vmar: usize, range: Range<usize>) -> Result<(Shown, bool), Status> {
        let ModelVmar {
            range: own, alive, ..
        } = &self.vmars[vmar];
        if range.is_empty() {
            return Err(Status::INVALID_ARGS);
        }
        if !alive {
            return Err(Status::BAD_STATE);
        }
        let inside = own.start <= range.start && range.end <= own.end;
        if !inside || !range.clone().skip(1).all(|page| self.continues(page)) {
            return Err(Status::INVALID_ARGS);
        }
        let first = self.pages[range.start];
        let shown = first.shown.ok_or(Status::INVALID_ARGS)?;
        let cannot = VmarFlags::CANNOT_CREATE_VMO_CHILD;
        let above = self.above(first.vmar);
        let sealed = |&vmar: &usize| vmar != 0 && self.vmars[vmar].flags.contains(cannot);
        if shown.flags.contains(cannot) || above.iter().any(sealed) {
            return Err(Status::ACCESS_DENIED);
        }
        let executes = |page: &Page| page.shown.is_some_and(|s| s.perms.contains(Perms::EXECUTE));
        Ok((shown, self.pages[range].iter().all(executes)))
    }

    /// The records of a VMAR: depth, pages, and for a mapping what its first page shows.
    pub(super) fn maps(
        &self,
        vmar: usize,
        depth: usize,
    ) -> Vec<(usize, Range<usize>, Option<Shown>)> {
        let range = self.vmars[vmar].range.clone();
        let mut records = vec![(depth, range.clone(), None)];
        let mut page = range.start;
        while page < range.end {
            let start = page;
            page += 1;
            let child = self
                .children(vmar)
                .find(|&c| self.vmars[c].range.start == start);
            if let Some(child) = child {
                records.extend(self.maps(child, depth + 1));
                page = self.vmars[child].range.end;
            } else if let Some(shown) = self.pages[start].shown {
                let same = |page: usize| {
                    self.pages[page]
                        .shown
                        .is_some_and(|s| s.perms == shown.perms)
                };
                while page < range.end && self.continues(page) && same(page) {
                    page += 1;
                }
                records.push((depth + 1, start..page, Some(shown)));
            }
        }
        records
    }
}
