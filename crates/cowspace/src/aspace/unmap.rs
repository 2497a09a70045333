//! Taking mappings and VMARs away: unmap and destroy.

use super::{AddressSpace, Change, Child, OpChildren, Piece, SameVmo, VmarId};
use crate::status::Status;

/// Mappings and VMARs that can be taken away.
pub(crate) struct UnmapPlan {
    changes: u64,
    pieces: Vec<Piece>,
    /// These end, with all below them.
    vmars: Vec<VmarId>,
}

impl UnmapPlan {
    /// What is mapped now and will be gone, by rising address.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

impl<V: Clone + SameVmo> AddressSpace<V> {
    /// Decides what unmap takes away: the VMAR's own mappings in the range, cut at its ends, and child VMARs
    /// that lie in it. `len` is rounded up to whole pages.
    pub(crate) fn plan_unmap(
        &self,
        vmar: VmarId,
        addr: usize,
        len: usize,
        op_children: OpChildren,
    ) -> Result<UnmapPlan, Status> {
        let range = self.range_in(vmar, addr, len)?;
        let mut vmars = Vec::new();
        for (at, child) in self.vmar(vmar)?.layout.overlapping(&range) {
            if let Child::Vmar(below) = child {
                let inside = range.start <= at.start && at.end <= range.end;
                if !inside || op_children == OpChildren::No {
                    return Err(Status::INVALID_ARGS);
                }
                vmars.push(below);
            }
        }
        Ok(UnmapPlan {
            changes: self.changes,
            pieces: self.pieces(vmar, &range)?,
            vmars,
        })
    }

    /// Decides what ends with a VMAR: all in it, and itself. The root cannot be destroyed
    /// (`NOT_SUPPORTED`). The caller has checked `OP_CHILDREN`.
    pub(crate) fn plan_destroy(&self, vmar: VmarId) -> Result<UnmapPlan, Status> {
        if vmar == self.root {
            return Err(Status::NOT_SUPPORTED);
        }
        let range = self.vmar(vmar)?.layout.range();
        Ok(UnmapPlan {
            changes: self.changes,
            pieces: self.pieces(vmar, &range)?,
            vmars: vec![vmar],
        })
    }

    /// Takes the mappings and VMARs away. Returns what became of the mappings.
    pub(crate) fn commit_unmap(&mut self, plan: UnmapPlan) -> Vec<Change<V>> {
        self.begin_commit(plan.changes);
        let changes = plan.pieces.iter().map(|piece| self.cut(piece)).collect();
        let mut ending = plan.vmars;
        while let Some(id) = ending.pop() {
            let vmar = self.vmars.remove(&id).expect(super::LIVE);
            let range = vmar.layout.range();
            // The parent is gone already if it ends too.
            if let Some(above) = vmar.parent.and_then(|parent| self.vmars.get_mut(&parent)) {
                above.layout.remove(range.start);
            }
            let children = vmar.layout.overlapping(&range);
            ending.extend(children.filter_map(|(_, child)| match child {
                Child::Vmar(below) => Some(below),
                Child::Mapping(_) => None,
            }));
        }
        changes
    }
}
