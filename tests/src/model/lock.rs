//! Locking discardable VMOs. Nothing is ever discarded.

use std::ops::Range;

use cowspace::{Rights, Status, VmoLockState, VmoOp};

use super::world::{World, pick};

impl World {
    /// Locks or unlocks all of a VMO.
    pub(super) fn lock(&mut self, vmo: usize, op: VmoOp) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let object = self.vmos[index].object;
        let size = self.objects.base(object) + self.objects.size(object) as u64;
        let real = if op == VmoOp::LOCK {
            let state = self.vmos[index].vmo.lock(0, size);
            let expected = VmoLockState {
                size,
                ..VmoLockState::default()
            };
            state.map(|state| assert_eq!(state, expected, "{}", self.now()))
        } else {
            self.vmos[index].vmo.op_range(op, 0, size)
        };
        let expected = self.do_lock(index, op, true, true);
        self.agree("locking", real, expected);
    }

    /// The same of some bytes, and without room for the state.
    pub(super) fn lock_range(
        &mut self,
        index: usize,
        op: VmoOp,
        bytes: &Range<usize>,
    ) -> Result<(), Status> {
        let object = self.vmos[index].object;
        let all = self.objects.base(object) == 0 && *bytes == (0..self.objects.size(object));
        self.do_lock(index, op, all, false)
    }

    fn do_lock(&mut self, index: usize, op: VmoOp, all: bool, state: bool) -> Result<(), Status> {
        let handle = &self.vmos[index];
        if !handle.rights.intersects(Rights::READ | Rights::WRITE) {
            return Err(Status::ACCESS_DENIED);
        }
        let locks = &mut self.objects.list[handle.object].locks;
        let locks = locks.as_mut().ok_or(Status::NOT_SUPPORTED)?;
        if !all {
            return Err(Status::OUT_OF_RANGE);
        }
        match op {
            VmoOp::UNLOCK => *locks = locks.checked_sub(1).ok_or(Status::BAD_STATE)?,
            VmoOp::LOCK if !state => return Err(Status::INVALID_ARGS),
            _ => *locks += 1,
        }
        Ok(())
    }
}
