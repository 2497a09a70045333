//! Discardable VMOs: memory that may be thrown away while nobody has it locked. Here it never is, so a lock is only counted.

use crate::lock::Mutex;
use crate::object::VmObject;
use crate::options::VmoOp;
use crate::status::Status;

/// What `Vmo::lock` says of a discardable VMO, as `zx_vmo_lock_state_t`. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct VmoLockState {
    /// Where the locked range begins.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
    /// Where the range begins that was discarded since the VMO was last locked.
    pub discarded_offset: u64,
    /// How long that is: 0 if nothing was lost, which is always so here.
    pub discarded_size: u64,
}

/// How often a discardable VMO is locked.
#[derive(Default)]
pub(crate) struct LockCount(Mutex<u64>);

impl VmObject {
    /// `LOCK`, `TRY_LOCK` or `UNLOCK`; the caller has checked the right. `state` is filled by `LOCK`.
    ///
    /// # Errors
    ///
    /// In this order: `NOT_SUPPORTED` if the VMO is not discardable; `OUT_OF_RANGE` unless the range is all of it; `INVALID_ARGS` for `LOCK` without a `state`; `BAD_STATE` for
    /// `UNLOCK` without a lock.
    pub(crate) fn lock_op(
        &self,
        op: VmoOp,
        offset: u64,
        size: u64,
        state: Option<&mut VmoLockState>,
    ) -> Result<(), Status> {
        let locks = self.discardable.as_ref().ok_or(Status::NOT_SUPPORTED)?;
        if offset != 0 || size != self.size(&self.family.lock()) {
            return Err(Status::OUT_OF_RANGE);
        }
        let mut count = locks.0.lock();
        match op {
            VmoOp::UNLOCK => *count = count.checked_sub(1).ok_or(Status::BAD_STATE)?,
            VmoOp::LOCK => {
                *state.ok_or(Status::INVALID_ARGS)? = VmoLockState {
                    offset,
                    size,
                    ..VmoLockState::default()
                };
                *count += 1;
            }
            _ => *count += 1,
        }
        Ok(())
    }

    /// `NOT_SUPPORTED` for a discardable VMO, which has no children of any kind.
    pub(crate) fn check_children(&self) -> Result<(), Status> {
        match self.discardable {
            Some(_) => Err(Status::NOT_SUPPORTED),
            None => Ok(()),
        }
    }
}
