//! Steps on VMOs by calls.

use std::ops::Range;

use cowspace::{Policy, Rights, Status, Vmo, VmoOp, VmoOptions};

use super::world::{World, pick};
use crate::page;

impl World {
    pub(super) fn create(&mut self, pages: usize, resizable: bool, discardable: bool) {
        let mut options = VmoOptions::empty();
        options.set(VmoOptions::RESIZABLE, resizable);
        options.set(VmoOptions::DISCARDABLE, discardable);
        let size = self.origin + (pages * page()) as u64;
        let vmo = Vmo::create_with_opts(options, size).expect("a small VMO can be made");
        let koid = self.new_koid(&vmo);
        let object = self.objects.add_root(koid, self.origin, pages, resizable);
        self.objects.list[object].locks = discardable.then_some(0);
        let mut rights = Rights::VMO_DEFAULT;
        rights.set(Rights::RESIZE, resizable);
        self.enter(vmo, object, rights);
    }

    /// Whether bytes can be meant with a handle that needs `rights`.
    fn may(&self, index: usize, rights: Rights, bytes: &Range<usize>) -> Result<(), Status> {
        let handle = &self.vmos[index];
        if !handle.rights.contains(rights) {
            Err(Status::ACCESS_DENIED)
        } else if bytes.end > self.objects.size(handle.object) {
            Err(Status::OUT_OF_RANGE)
        } else {
            Ok(())
        }
    }

    /// A handle, and a range that lies within its VMO in most cases, for most of what a program does to a VMO to be done.
    fn target(&self, vmo: usize, at: usize, len: usize) -> Option<(usize, Range<usize>)> {
        let index = pick(vmo, self.vmos.len())?;
        let size = self.objects.size(self.vmos[index].object);
        if vmo >= 28 || size == 0 {
            return Some((index, at..at + len));
        }
        let at = at % size;
        Some((index, at..at + len.min(size - at)))
    }

    pub(super) fn write(&mut self, vmo: usize, at: usize, len: usize) {
        let Some((index, bytes)) = self.target(vmo, at, len) else {
            return;
        };
        let handle = &self.vmos[index];
        let object = handle.object;
        let inside = self.objects.in_memory(object, bytes.clone());
        let data = self.contents.pattern(inside.start, inside.len());
        let real = handle
            .vmo
            .write(&data, self.objects.base(object) + bytes.start as u64);
        let expected = self.may(index, Rights::WRITE, &bytes);
        if self.agree("write", real, expected).is_some() {
            let memory = &mut self.objects.memories[self.objects.list[object].memory];
            memory.write(inside.start, &data, &mut self.contents);
        }
    }

    pub(super) fn range_op(&mut self, vmo: usize, op: VmoOp, at: usize, len: usize) {
        let Some((index, bytes)) = self.target(vmo, at, len) else {
            return;
        };
        let handle = &self.vmos[index];
        let object = handle.object;
        let real = handle.vmo.op_range(
            op,
            self.objects.base(object) + bytes.start as u64,
            bytes.len() as u64,
        );
        let expected = match op {
            VmoOp::LOCK | VmoOp::TRY_LOCK | VmoOp::UNLOCK => self.lock_range(index, op, &bytes),
            _ => self.may_range_op(index, op, &bytes),
        };
        if self.agree("op_range", real, expected).is_none() {
            return;
        }
        let inside = self.objects.in_memory(object, bytes);
        let memory = &mut self.objects.memories[self.objects.list[object].memory];
        match op {
            VmoOp::ZERO | VmoOp::DECOMMIT => memory.zero(inside, &mut self.contents),
            VmoOp::COMMIT => {
                let pages = inside.start / page()..inside.end.div_ceil(page());
                memory.commit(pages, &mut self.contents);
            }
            _ => {}
        }
    }

    fn may_range_op(&self, index: usize, op: VmoOp, bytes: &Range<usize>) -> Result<(), Status> {
        let handle = &self.vmos[index];
        let aligned = bytes.start.is_multiple_of(page()) && bytes.len().is_multiple_of(page());
        let whole = bytes.start / page() * page()..bytes.end.next_multiple_of(page());
        match op {
            VmoOp::COMMIT => self.may(index, Rights::WRITE, &whole),
            VmoOp::PREFETCH => self.may(index, Rights::READ, &whole),
            VmoOp::DECOMMIT => {
                self.may(index, Rights::WRITE, bytes)?;
                if bytes.is_empty() {
                    Ok(())
                } else if !self.objects.is_alone(handle.object) {
                    Err(Status::NOT_SUPPORTED)
                } else if !aligned {
                    Err(Status::INVALID_ARGS)
                } else {
                    Ok(())
                }
            }
            VmoOp::ZERO if bytes.is_empty() => self.may(index, Rights::WRITE, &(0..0)),
            VmoOp::ZERO => self.may(index, Rights::WRITE, bytes),
            VmoOp::CACHE_SYNC | VmoOp::CACHE_CLEAN | VmoOp::CACHE_CLEAN_INVALIDATE => {
                self.may_cache_op(index, Rights::READ, bytes)
            }
            VmoOp::CACHE_INVALIDATE => self.may_cache_op(index, Rights::WRITE, bytes),
            VmoOp::DONT_NEED | VmoOp::ALWAYS_NEED => Ok(()),
            _ => Err(Status::INVALID_ARGS),
        }
    }

    fn may_cache_op(
        &self,
        index: usize,
        rights: Rights,
        bytes: &Range<usize>,
    ) -> Result<(), Status> {
        self.may(index, rights, &(0..0))?;
        if bytes.is_empty() {
            return Err(Status::INVALID_ARGS);
        }
        self.may(index, rights, bytes)
    }

    pub(super) fn resize(&mut self, vmo: usize, bytes: usize) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let handle = &self.vmos[index];
        let object = handle.object;
        let size = self.objects.base(object) + bytes as u64;
        let real = handle.vmo.set_size(size);
        let expected = if !handle.rights.contains(Rights::WRITE) {
            Err(Status::ACCESS_DENIED)
        } else if !self.objects.is_resizable(object) {
            Err(Status::UNAVAILABLE)
        } else if !handle.rights.contains(Rights::RESIZE) {
            Err(Status::ACCESS_DENIED)
        } else {
            Ok(())
        };
        if self.agree("set_size", real, expected).is_some() {
            let memory = &mut self.objects.memories[self.objects.list[object].memory];
            memory.resize(bytes, &mut self.contents);
            *self.objects.stream_mut(object) = size;
        }
    }

    pub(super) fn read(&self, vmo: usize) {
        if let Some(index) = pick(vmo, self.vmos.len()) {
            self.check_vmo(index);
        }
    }

    /// Whether a VMO's memory has a native mapping.
    pub(super) fn is_native(&self, object: usize) -> bool {
        let memory = self.objects.list[object].memory;
        let shown = self.space.slots.iter().filter_map(|slot| slot.shown);
        let mut of_memory = shown.filter(|shown| self.objects.list[shown.object].memory == memory);
        of_memory.any(|shown| shown.policy == Policy::Native)
    }
}
