//! `zx_vmar_op_range`: an operation on what is mapped in a range, mapping by mapping.

use std::ops::Range;

use host_memory::page::{HostRange, page_size};
use page_tree::{MemoryId, Place};

use crate::aspace::{MappingId, OpChildren, OpPart, VmarId};
use crate::engine::{Engine, Space};
use crate::family::{FamilyState, Home};
use crate::mapping::host_range;
use crate::object::{VmObject, VmarObject};
use crate::options::{Perms, VmarFlags, VmarOp};
use crate::regions::intersect;
use crate::rights::Rights;
use crate::status::Status;
use std::sync::Arc;

/// What an operation asks for.
pub(crate) struct OpRules {
    /// The right of the VMAR's handle.
    pub(crate) right: Rights,
    /// What each mapping must allow, now or not.
    pub(crate) needs: Perms,
    /// Whether it may act on mappings of child VMARs at all.
    pub(crate) children: OpChildren,
}

impl OpRules {
    /// `INVALID_ARGS` for an operation that does not exist.
    pub(crate) fn of(op: VmarOp) -> Result<OpRules, Status> {
        let (right, needs, children) = match op {
            VmarOp::COMMIT | VmarOp::DECOMMIT => (Rights::WRITE, Perms::WRITE, OpChildren::No),
            VmarOp::MAP_RANGE => (Rights::READ, Perms::empty(), OpChildren::Yes),
            VmarOp::ZERO => (Rights::WRITE, Perms::WRITE, OpChildren::Yes),
            VmarOp::DONT_NEED | VmarOp::ALWAYS_NEED => {
                (Rights::NONE, Perms::empty(), OpChildren::Yes)
            }
            VmarOp::PREFETCH => (Rights::READ, Perms::READ, OpChildren::No),
            _ => return Err(Status::INVALID_ARGS),
        };
        Ok(OpRules {
            right,
            needs,
            children,
        })
    }
}

impl Engine {
    /// Does `op` to all that is mapped in `size` bytes at `addr`. The caller has checked the operation's right;
    /// `children` also says whether the handle has `OP_CHILDREN`.
    ///
    /// The address space is locked for one mapping at a time, as in Zircon: what other calls do meanwhile is seen from
    /// the next mapping on.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGS`, `OUT_OF_RANGE`, `BAD_STATE` and `ACCESS_DENIED` of the range and its mappings; those of the
    /// operation. The mappings before the one that failed have been operated on.
    pub(crate) fn vmar_op(
        &'static self,
        vmar: &VmarObject,
        op: VmarOp,
        range: Range<usize>,
        needs: Perms,
        children: OpChildren,
    ) -> Result<(), Status> {
        let Range { start: mut at, end } = range;
        while at < end {
            at = self.vmar_op_once(vmar.id, op, at..end, needs, children)?;
        }
        Ok(())
    }

    /// Operates on the mapping at the beginning of the range; gives the address where the rest begins.
    fn vmar_op_once(
        &'static self,
        vmar: VmarId,
        op: VmarOp,
        range: Range<usize>,
        needs: Perms,
        children: OpChildren,
    ) -> Result<usize, Status> {
        let space = self.space();
        let OpPart {
            vmo,
            vmo_offset,
            range,
            flags,
        } = space.op_part(vmar, &range, needs, children)?;
        let len = range.len() as u64;
        // Nobody can resize it meanwhile: it is mapped, so that needs the address space.
        let inside = vmo.check_inside(&vmo.family.lock(), vmo_offset, len);
        let reached = !flags.contains(VmarFlags::FAULT_BEYOND_STREAM_SIZE)
            || vmo.stream.reaches(vmo_offset, len);
        let inside = inside.and(reached.then_some(()).ok_or(Status::OUT_OF_RANGE));
        if inside.is_ok() && op == VmarOp::MAP_RANGE {
            self.make_ready(&space, vmar, &range);
        }
        let content = vmo.content_in(self, space);
        inside?;
        match op {
            VmarOp::COMMIT => vmo.commit(content, vmo_offset, len)?,
            VmarOp::DECOMMIT => vmo.decommit(content, vmo_offset, len)?,
            VmarOp::ZERO => vmo.zero(content, vmo_offset, len)?,
            // Nothing is ever evicted, and there is nothing to fetch from.
            _ => drop(content),
        }
        // The VMO may end with our reference to it: no lock is held any more.
        Ok(range.end)
    }

    /// Makes the pages that VMOs have ready to be read without a fault, where a mapping in the range of the VMAR or
    /// below may be read. A hint: what cannot be had now is had when it is touched.
    pub(crate) fn make_ready(&self, space: &Space, vmar: VmarId, range: &Range<usize>) {
        for piece in space.pieces(vmar, range).unwrap_or_default() {
            let Some(mapping) = space.get(piece.id) else {
                continue;
            };
            let present = present(mapping.vmo(), piece.id, host_range(&piece.range));
            for (run, perms) in mapping.perms_in(piece.range) {
                if !perms.contains(Perms::READ) {
                    continue;
                }
                let run = host_range(&run);
                // Faults wait for the handler, which wants the family: it is not locked here.
                for part in present.iter().filter_map(|part| intersect(*part, run)) {
                    let _ = self.reservation.populate_read(part);
                }
            }
        }
    }
}

/// Where a part of a mapping shows pages that the VMO has.
fn present(vmo: &Arc<VmObject>, id: MappingId, part: HostRange) -> Vec<HostRange> {
    let mut state = vmo.family.lock();
    let Some(region) = state.region_mut(vmo.memory, id) else {
        return Vec::new();
    };
    let Some(part) = intersect(region.range, part) else {
        return Vec::new();
    };
    let first = region.page_at(part.start());
    let pages = state.present_pages(vmo.memory, first..first + part.pages() as u64);
    let region = state.region_mut(vmo.memory, id);
    let region = region.expect("the family was not unlocked");
    pages
        .into_iter()
        .filter_map(|pages| region.addresses(pages.start, pages.end))
        .collect()
}

impl FamilyState {
    /// The pages that the memory has of some, in no order, some perhaps twice: those that the tree knows, and those
    /// that threads put into the home's file.
    fn present_pages(&self, memory: MemoryId, pages: Range<u64>) -> Vec<Range<u64>> {
        let runs = self.runs_in(memory, pages.clone()).into_iter();
        let mut present: Vec<Range<u64>> = runs
            .filter(|run| run.place != Place::Zero)
            .map(|run| run.pages)
            .collect();
        if let Home::MemFd { file, .. } = &self.pages(memory).home {
            let size = page_size() as u64;
            // What the file does not tell is not made ready, which is no error.
            let _ = file.data(pages.start * size..pages.end * size, |bytes| {
                present.push(bytes.start / size..bytes.end / size);
            });
        }
        present
    }
}
