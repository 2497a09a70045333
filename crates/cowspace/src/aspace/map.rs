//! Making mappings.

use std::ops::Range;

use super::{AddressSpace, Change, Mapping, MappingId, Piece, SameVmo, VmarId, mapping::Kind};
use crate::{
    options::{Perms, Policy, VmarFlags},
    status::Status,
};

/// What map is asked for, after the caller has looked at the handles, their rights, the options
/// ([`VmarFlags::check_map_perms`], [`VmarFlags::check_map`]) and the kind of VMO.
pub(crate) struct MapRequest<V> {
    pub(crate) flags: VmarFlags,
    /// From the VMAR's base, in bytes.
    pub(crate) vmar_offset: usize,
    pub(crate) vmo: V,
    pub(crate) vmo_offset: u64,
    /// In bytes; rounded up to whole pages.
    pub(crate) len: usize,
    /// The permissions that the VMO's and the VMAR's handle both allow: at least those in `flags`.
    pub(crate) max_perms: Perms,
    pub(crate) policy: Policy,
}

/// A mapping that can be made.
pub(crate) struct MapPlan<V> {
    changes: u64,
    vmar: VmarId,
    range: Range<usize>,
    vmo: V,
    vmo_offset: u64,
    kind: Kind,
    perms: Perms,
    overwrites: Vec<Piece>,
}

impl<V> MapPlan<V> {
    /// Where it will be.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The permissions that it begins with.
    pub(crate) fn perms(&self) -> Perms {
        self.perms
    }

    /// What is mapped there now and will be gone, by rising address.
    pub(crate) fn overwrites(&self) -> &[Piece] {
        &self.overwrites
    }
}

impl<V: Clone + SameVmo> AddressSpace<V> {
    /// Decides where a mapping goes, from step 9 of map's checks on.
    pub(crate) fn plan_map(
        &self,
        vmar: VmarId,
        request: MapRequest<V>,
    ) -> Result<MapPlan<V>, Status> {
        let flags = request.flags;
        flags.check_map_placement()?;
        if !request.vmo_offset.is_multiple_of(self.page as u64) {
            return Err(Status::INVALID_ARGS);
        }
        let len = request.len.checked_next_multiple_of(self.page);
        let len = len.ok_or(Status::OUT_OF_RANGE)?;
        let vmo_end = request.vmo_offset.checked_add(len as u64);
        vmo_end.ok_or(Status::OUT_OF_RANGE)?;
        let range = self.place(vmar, flags, request.vmar_offset, len, request.max_perms)?;
        let settled = VmarFlags::CANNOT_CREATE_VMO_CHILD | VmarFlags::FAULT_BEYOND_STREAM_SIZE;
        Ok(MapPlan {
            changes: self.changes,
            vmar,
            // Empty unless the caller asked to overwrite.
            overwrites: self.pieces(vmar, &range)?,
            range,
            vmo: request.vmo,
            vmo_offset: request.vmo_offset,
            kind: Kind {
                max_perms: request.max_perms,
                flags: flags & settled,
                policy: request.policy,
            },
            perms: flags.perms(),
        })
    }

    /// Makes the mapping. Returns it and the mappings that it was put over.
    pub(crate) fn commit_map(&mut self, plan: MapPlan<V>) -> (MappingId, Vec<Change<V>>) {
        self.begin_commit(plan.changes);
        let overwritten = plan
            .overwrites
            .iter()
            .map(|piece| self.cut(piece))
            .collect();
        let id = MappingId(self.new_id());
        let mapping = Mapping::new(
            id,
            plan.vmar,
            plan.range,
            (plan.vmo, plan.vmo_offset),
            plan.kind,
            plan.perms,
        );
        self.enter(mapping);
        (id, overwritten)
    }
}
