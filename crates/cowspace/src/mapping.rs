//! The VMAR calls with both sides together: the VMAR tree decides, the kernel follows, the tree is told.

use std::ops::Range;
use std::sync::Arc;

use host_memory::page::{HostRange, Prot};

use crate::aspace::{Change, MapRequest, MappingId, OpChildren, Piece, UnmapPlan, VmarId};
use crate::engine::{Engine, Space};
use crate::family::Backing;
use crate::object::VmObject;
use crate::options::{Perms, VmarFlags};
use crate::recording;
use crate::regions::NewRegion;
use crate::status::Status;

impl Engine {
    /// Makes a mapping; gives its address.
    ///
    /// # Errors
    ///
    /// Those of placement; `NO_MEMORY`.
    pub(crate) fn map(
        &self,
        vmar: VmarId,
        request: MapRequest<Arc<VmObject>>,
    ) -> Result<usize, Status> {
        let (vmo, vmo_offset) = (request.vmo.clone(), request.vmo_offset);
        let (policy, flags) = (request.policy, request.flags);
        let mut space = self.space();
        let plan = space.plan_map(vmar, request)?;
        let (space_range, perms) = (plan.range(), plan.perms());
        let range = host_range(&space_range);
        self.unmap_pieces(&space, plan.overwrites())?;
        let page = vmo_offset / host_memory::page::page_size() as u64;
        let new = NewRegion {
            vmo: &vmo,
            range,
            page,
            policy,
            ends_with_stream: flags.contains(VmarFlags::FAULT_BEYOND_STREAM_SIZE),
        };
        let before = recording::before_mapping();
        let made = match self.make_region(&space, &new) {
            Ok(made) => made,
            Err(status) => {
                // What was to be overwritten is unmapped already: the tree is told so.
                let undone = self.take_back(&mut space, vmar, range);
                drop(space);
                drop(undone);
                return Err(status);
            }
        };
        recording::note_mapping(before, &vmo, space_range.clone(), vmo_offset, policy);
        let (id, changes) = space.commit_map(plan);
        self.follow_changes(&space, &changes);
        if let Some(made) = made {
            self.enter_region(&vmo, id, made);
            if let Err(status) = self.protect_region(&vmo, id, range, prot(perms)) {
                let undone = self.take_back(&mut space, vmar, range);
                drop(space);
                drop((changes, undone));
                return Err(status);
            }
            if flags.contains(VmarFlags::MAP_RANGE) {
                self.make_ready(&space, vmar, &space_range);
            }
        }
        drop(space);
        // VMOs may end here, with no lock held.
        drop(changes);
        Ok(range.start())
    }

    /// Takes away what is mapped in a range, and the VMARs that lie in it.
    pub(crate) fn unmap(
        &self,
        vmar: VmarId,
        addr: usize,
        len: usize,
        op_children: OpChildren,
    ) -> Result<(), Status> {
        let mut space = self.space();
        let plan = space.plan_unmap(vmar, addr, len, op_children)?;
        self.carry_out(&mut space, plan).map(|changes| {
            drop(space);
            drop(changes);
        })
    }

    /// Ends a VMAR with all in it.
    pub(crate) fn destroy(&self, vmar: VmarId) -> Result<(), Status> {
        let mut space = self.space();
        let plan = space.plan_destroy(vmar)?;
        self.carry_out(&mut space, plan).map(|changes| {
            drop(space);
            drop(changes);
        })
    }

    /// Changes the permissions of all that is mapped in a range.
    pub(crate) fn protect(
        &self,
        vmar: VmarId,
        perms: Perms,
        addr: usize,
        len: usize,
        op_children: OpChildren,
    ) -> Result<(), Status> {
        let mut space = self.space();
        let plan = space.plan_protect(vmar, perms, addr, len, op_children)?;
        let mut done = Vec::new();
        for piece in plan.pieces() {
            let Some(mapping) = space.get(piece.id) else {
                continue;
            };
            let range = host_range(&piece.range);
            if let Err(status) =
                self.protect_region(mapping.vmo(), piece.id, range, prot(plan.perms()))
            {
                self.restore_permissions(&space, &done);
                self.restore_permissions(&space, std::slice::from_ref(piece));
                return Err(status);
            }
            done.push(piece.clone());
        }
        space.commit_protect(plan);
        Ok(())
    }

    fn carry_out(
        &self,
        space: &mut Space,
        plan: UnmapPlan,
    ) -> Result<Vec<Change<Arc<VmObject>>>, Status> {
        self.unmap_pieces(space, plan.pieces())?;
        let changes = space.commit_unmap(plan);
        self.follow_changes(space, &changes);
        Ok(changes)
    }

    /// The kernel's part of taking pieces of mappings away: all between the first and the last of them. After an error
    /// nothing has changed: what can fail comes first, and what cannot be undone is one call of the kernel.
    fn unmap_pieces(&self, space: &Space, pieces: &[Piece]) -> Result<(), Status> {
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            return Ok(());
        };
        let range = host_range(&(first.range.start..last.range.end));
        let whole: Vec<_> = pieces
            .iter()
            .filter_map(|piece| Some((piece, space.get(piece.id)?)))
            .filter(|(piece, mapping)| mapping.range() == piece.range)
            .collect();
        for piece in pieces {
            if let Some(mapping) = space.get(piece.id)
                && mapping.range() != piece.range
            {
                self.share_for_cut(space, mapping.vmo(), piece.id)?;
            }
        }
        let saved = whole
            .iter()
            .map(|(piece, mapping)| self.save_region(mapping.vmo(), piece.id))
            .collect::<Result<Vec<_>, Status>>()
            .and_then(|saved| self.release(range).map(|()| saved))
            .inspect_err(|_| self.restore_permissions(space, pieces))?;
        for ((piece, mapping), saved) in whole.into_iter().zip(saved) {
            self.forget_region(mapping.vmo(), piece.id, saved);
        }
        Ok(())
    }

    /// A private home has one mapping of everything: before a part of it is cut out, its pages move to a file.
    fn share_for_cut(&self, space: &Space, vmo: &VmObject, id: MappingId) -> Result<(), Status> {
        let mut state = vmo.family.lock();
        let private = state
            .region_mut(vmo.memory, id)
            .is_some_and(|region| matches!(region.backing, Backing::Private(_)));
        drop(state);
        if private {
            self.share(space, &vmo.family, vmo.memory)
        } else {
            Ok(())
        }
    }

    /// Gives the regions of cut mappings their new names.
    fn follow_changes(&self, space: &Space, changes: &[Change<Arc<VmObject>>]) {
        for change in changes {
            let rest: Vec<(MappingId, HostRange)> = [change.left, change.right]
                .into_iter()
                .flatten()
                .filter_map(|id| Some((id, host_range(&space.get(id)?.range()))))
                .collect();
            self.split_region(change.old.vmo(), change.old.id(), &rest);
        }
    }

    /// Unmaps what the tree has in a range of a VMAR's own, after a mapping there could not be made.
    fn take_back(
        &self,
        space: &mut Space,
        vmar: VmarId,
        range: HostRange,
    ) -> Vec<Change<Arc<VmObject>>> {
        let plan = space.plan_unmap(vmar, range.start(), range.len(), OpChildren::No);
        plan.and_then(|plan| self.carry_out(space, plan))
            .unwrap_or_default()
    }

    /// Sets the permissions that the tree still has: a call that fails changes nothing. The kernel merges areas again here, which cannot
    /// run out of them.
    fn restore_permissions(&self, space: &Space, pieces: &[Piece]) {
        for piece in pieces {
            let Some(mapping) = space.get(piece.id) else {
                continue;
            };
            for (range, perms) in mapping.perms_in(piece.range.clone()) {
                let _ =
                    self.protect_region(mapping.vmo(), piece.id, host_range(&range), prot(perms));
            }
        }
    }
}

/// A range of the VMAR tree as one of host addresses.
pub(crate) fn host_range(range: &Range<usize>) -> HostRange {
    HostRange::new(range.start, range.len()).expect("mappings are whole pages of the root VMAR")
}

/// Zircon's permissions as the kernel's.
pub(crate) fn prot(perms: Perms) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, perms.contains(Perms::READ));
    prot.set(Prot::WRITE, perms.contains(Perms::WRITE));
    prot.set(Prot::EXEC, perms.contains(Perms::EXECUTE));
    prot
}
