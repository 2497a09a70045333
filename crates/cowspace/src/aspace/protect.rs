//! Changing permissions.

use super::{AddressSpace, OpChildren, Piece, SameVmo, VmarId};
use crate::{options::Perms, status::Status};

/// Permissions that can be set.
pub(crate) struct ProtectPlan {
    changes: u64,
    pieces: Vec<Piece>,
    perms: Perms,
}

impl ProtectPlan {
    /// The parts of mappings that will have the permissions, by rising address and without a gap.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The permissions that they will have.
    pub(crate) fn perms(&self) -> Perms {
        self.perms
    }
}

impl<V: Clone + SameVmo> AddressSpace<V> {
    /// Decides whether all of a range can have the permissions. The caller has checked the rights and the
    /// options ([`VmarFlags::check_protect`](crate::options::VmarFlags::check_protect)). `len` is rounded up to
    /// whole pages.
    pub(crate) fn plan_protect(
        &self,
        vmar: VmarId,
        perms: Perms,
        addr: usize,
        len: usize,
        op_children: OpChildren,
    ) -> Result<ProtectPlan, Status> {
        let range = self.range_in(vmar, addr, len)?;
        let pieces = self.pieces(vmar, &range)?;
        let mut covered = range.start;
        for piece in &pieces {
            if piece.range.start > covered {
                return Err(Status::NOT_FOUND);
            }
            covered = piece.range.end;
            let mapping = &self.mappings[&piece.id];
            if !mapping.kind().max_perms.contains(perms) {
                return Err(Status::ACCESS_DENIED);
            }
            if mapping.vmar() != vmar {
                if op_children == OpChildren::No {
                    return Err(Status::INVALID_ARGS);
                }
                // Through an ancestor permissions are kept or taken away, never given.
                let mut present = mapping.perms_in(piece.range.clone());
                if present.any(|(_, present)| !present.contains(perms)) {
                    return Err(Status::ACCESS_DENIED);
                }
            }
        }
        if covered < range.end {
            return Err(Status::NOT_FOUND);
        }
        Ok(ProtectPlan {
            changes: self.changes,
            pieces,
            perms,
        })
    }

    /// Sets the permissions.
    pub(crate) fn commit_protect(&mut self, plan: ProtectPlan) {
        self.begin_commit(plan.changes);
        for piece in &plan.pieces {
            let mapping = self.mappings.get_mut(&piece.id).expect(super::LIVE);
            mapping.set_perms(&piece.range, plan.perms);
        }
    }
}
