//! `vmar_op_range`: an operation on mapping after mapping.

use std::ops::Range;

use cowspace::{Rights, Status, VmarFlags, VmarOp};

use super::ops::Part;
use super::space::Shown;
use super::world::World;
use crate::page;

/// The right that an operation needs, what a mapping must allow, and whether it may be a child VMAR's.
fn rules(op: VmarOp) -> Result<(Rights, VmarFlags, bool), Status> {
    let (none, read, write) = (
        VmarFlags::empty(),
        VmarFlags::PERM_READ,
        VmarFlags::PERM_WRITE,
    );
    match op {
        VmarOp::COMMIT | VmarOp::DECOMMIT => Ok((Rights::WRITE, write, false)),
        VmarOp::MAP_RANGE => Ok((Rights::READ, none, true)),
        VmarOp::ZERO => Ok((Rights::WRITE, write, true)),
        VmarOp::DONT_NEED | VmarOp::ALWAYS_NEED => Ok((Rights::NONE, none, true)),
        VmarOp::PREFETCH => Ok((Rights::READ, read, false)),
        _ => Err(Status::INVALID_ARGS),
    }
}

impl World {
    pub(super) fn vmar_range(&mut self, part: Part, op: VmarOp) {
        let Some((index, range)) = self.part(part) else {
            return;
        };
        let len = World::not_rounded(&range, part.via);
        let addr = self.space.address(range.start);
        let real = self.vmars[index].vmar.op_range(op, addr, len);
        let expected = self.do_vmar_range(index, op, range);
        self.agree("vmar_op_range", real, expected);
    }

    /// What is before the first error is done.
    fn do_vmar_range(
        &mut self,
        index: usize,
        op: VmarOp,
        mut range: Range<usize>,
    ) -> Result<(), Status> {
        let (region, rights) = (self.vmars[index].region, self.vmars[index].rights);
        let (right, needs, of_children) = rules(op)?;
        if !rights.contains(right) {
            return Err(Status::ACCESS_DENIED);
        }
        let own = &self.space.regions[region];
        if range.is_empty() {
            return Err(Status::INVALID_ARGS);
        }
        if range.start < own.range.start || own.range.end < range.end {
            return Err(Status::OUT_OF_RANGE);
        }
        if !own.alive {
            return Err(Status::BAD_STATE);
        }
        let of_children = of_children && rights.contains(Rights::OP_CHILDREN);
        while !range.is_empty() {
            let first = self.space.slots[range.start];
            let shown = first.shown.ok_or(Status::BAD_STATE)?;
            if first.vmar != region && !of_children {
                return Err(Status::INVALID_ARGS);
            }
            if !shown.max_perms.contains(needs) {
                return Err(Status::ACCESS_DENIED);
            }
            let mut rest = range.start + 1..range.end;
            let end = rest.find(|&at| !self.space.continues(at));
            let end = end.unwrap_or(range.end);
            self.do_to_mapping(op, &shown, end - range.start)?;
            range.start = end;
        }
        Ok(())
    }

    fn do_to_mapping(&mut self, op: VmarOp, shown: &Shown, pages: usize) -> Result<(), Status> {
        let object = shown.object;
        let last = Shown {
            page: shown.page + pages - 1,
            ..*shown
        };
        if self.is_behind(&last) {
            return Err(Status::OUT_OF_RANGE);
        }
        if op == VmarOp::DECOMMIT && !self.objects.is_alone(object) {
            return Err(Status::NOT_SUPPORTED);
        }
        let bytes = shown.page * page()..(shown.page + pages) * page();
        let bytes = self.objects.in_memory(object, bytes);
        let memory = &mut self.objects.memories[self.objects.list[object].memory];
        match op {
            VmarOp::COMMIT => {
                memory.commit(bytes.start / page()..bytes.end / page(), &mut self.contents);
            }
            VmarOp::DECOMMIT | VmarOp::ZERO => memory.zero(bytes, &mut self.contents),
            _ => {}
        }
        Ok(())
    }
}
