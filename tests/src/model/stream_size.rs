//! The stream size: how many bytes of a VMO count as content.

use cowspace::{Rights, Status, VmarFlags};

use super::space::Shown;
use super::world::{World, pick};
use crate::page;

impl World {
    /// By the call, or as a property.
    pub(super) fn set_stream_size(&mut self, vmo: usize, bytes: usize, property: bool) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let handle = &self.vmos[index];
        let object = handle.object;
        let (old, size) = (self.objects.stream(object), self.objects.size(object));
        let end = self.objects.base(object) + size as u64;
        let new = self.objects.base(object) + bytes as u64;
        let (real, rights) = if property {
            let rights = Rights::SET_PROPERTY | Rights::WRITE;
            (handle.vmo.set_content_size(new), rights)
        } else {
            (handle.vmo.set_stream_size(new), Rights::WRITE)
        };
        let expected = if !handle.rights.contains(rights) {
            Err(Status::ACCESS_DENIED)
        } else if new > end && new != old && !property {
            Err(Status::OUT_OF_RANGE)
        } else {
            Ok(())
        };
        if self.agree("set_stream_size", real, expected).is_none() {
            return;
        }
        *self.objects.stream_mut(object) = new;
        if new != old {
            let rest = (end - old.min(new).min(end)) as usize;
            let bytes = self.objects.in_memory(object, size - rest..size);
            let memory = &mut self.objects.memories[self.objects.list[object].memory];
            memory.zero(bytes, &mut self.contents);
        }
    }

    /// Whether touching what a page of a mapping shows is a fault whatever its permissions are.
    pub(super) fn is_behind(&self, shown: &Shown) -> bool {
        let ends_with_stream = shown.flags.contains(VmarFlags::FAULT_BEYOND_STREAM_SIZE);
        let start = self.objects.base(shown.object) + (shown.page * page()) as u64;
        shown.page >= self.objects.window(shown.object).len()
            || ends_with_stream && start >= self.objects.stream(shown.object)
    }
}
