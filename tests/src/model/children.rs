//! Children of VMOs, made with a handle or without.

use std::ops::Range;

use cowspace::{HandleBased, Koid, Rights, Status, Vmo, VmoChildOptions};

use super::objects::Kind;
use super::ops::Part;
use super::world::{World, pick};
use crate::page;

const RESIZABLE: VmoChildOptions = VmoChildOptions::RESIZABLE;
const NO_WRITE: VmoChildOptions = VmoChildOptions::NO_WRITE;

impl World {
    pub(super) fn child(
        &mut self,
        vmo: usize,
        options: VmoChildOptions,
        first: usize,
        pages: usize,
    ) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let have = self.objects.window(self.vmos[index].object).len();
        // Slices are mostly inside, and references mostly of nothing.
        let (first, pages) = if options.contains(VmoChildOptions::SLICE) && vmo < 28 {
            let first = first.min(have);
            (first, pages.min(have - first))
        } else if options.contains(VmoChildOptions::REFERENCE) && vmo < 28 {
            (0, 0)
        } else {
            (first, pages)
        };
        let handle = &self.vmos[index];
        let (parent, rights) = (handle.object, handle.rights);
        let base = self.objects.base(parent);
        // Some of the clones of large VMOs are as large, and show the same bytes at the same distance from their beginning.
        let (base, origin) = match options - (NO_WRITE | RESIZABLE) {
            VmoChildOptions::REFERENCE => (0, 0),
            VmoChildOptions::SLICE => (base, 0),
            // Nothing before its origin may be seen in it.
            _ if first > 0 || pages.is_multiple_of(2) => (base, 0),
            _ => (0, base),
        };
        let real = handle.vmo.create_child(
            options,
            base + (first * page()) as u64,
            origin + (pages * page()) as u64,
        );
        let expected = self.may_child(index, options, first..first + pages);
        if let Some((child, kind)) = self.agree("create_child", real, expected) {
            let object = self.new_child(&child, parent, kind, options, first..first + pages);
            if kind == Kind::Clone {
                self.objects.memory_mut(object).origin = origin;
                *self.objects.stream_mut(object) += origin;
            }
            self.enter(child, object, child_rights(kind, options, rights));
        }
    }

    /// The kind of child, or the first error.
    fn may_child(
        &self,
        index: usize,
        options: VmoChildOptions,
        pages: Range<usize>,
    ) -> Result<Kind, Status> {
        let handle = &self.vmos[index];
        let parent = handle.object;
        let inside = pages.end <= self.objects.window(parent).len();
        if options.contains(NO_WRITE | RESIZABLE) {
            return Err(Status::INVALID_ARGS);
        }
        if !handle.rights.contains(Rights::DUPLICATE | Rights::READ) {
            return Err(Status::ACCESS_DENIED);
        }
        if self.objects.list[parent].locks.is_some() {
            return Err(Status::NOT_SUPPORTED);
        }
        match options - (NO_WRITE | RESIZABLE) {
            VmoChildOptions::SLICE if options.contains(RESIZABLE) || !inside => {
                Err(Status::INVALID_ARGS)
            }
            VmoChildOptions::SLICE if self.objects.is_resizable(parent) => {
                Err(Status::NOT_SUPPORTED)
            }
            VmoChildOptions::SLICE => {
                let first = self.objects.window(parent).start + pages.start;
                Ok(Kind::Slice(first, pages.len()))
            }
            VmoChildOptions::REFERENCE if pages != (0..0) => Err(Status::INVALID_ARGS),
            VmoChildOptions::REFERENCE => {
                let resizable = self.objects.is_resizable(parent);
                if self.objects.is_slice(parent) || options.contains(RESIZABLE) && !resizable {
                    Err(Status::NOT_SUPPORTED)
                } else if options.contains(RESIZABLE) && !handle.rights.contains(Rights::RESIZE) {
                    Err(Status::ACCESS_DENIED)
                } else {
                    Ok(Kind::Reference)
                }
            }
            VmoChildOptions::SNAPSHOT
            | VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE
            | VmoChildOptions::SNAPSHOT_MODIFIED => self.may_clone(parent, pages),
            _ => Err(Status::INVALID_ARGS),
        }
    }

    fn may_clone(&self, parent: usize, pages: Range<usize>) -> Result<Kind, Status> {
        if !self.objects.is_slice(parent) {
            Ok(Kind::Clone)
        } else if pages.end <= self.objects.window(parent).len() {
            Err(Status::NOT_SUPPORTED)
        } else {
            Err(Status::OUT_OF_RANGE)
        }
    }

    pub(super) fn clone_mapping(&mut self, part: Part, options: VmoChildOptions) {
        let Some((index, range)) = self.part(part) else {
            return;
        };
        let handle = &self.vmars[index];
        let real = handle.vmar.create_vmo_child(
            options,
            self.space.address(range.start),
            range.len() * page(),
        );
        let expected = self.may_clone_mapping(index, options, range.clone());
        if let Some((child, (parent, first, executable))) =
            self.agree("create_vmo_child", real, expected)
        {
            let pages = first..first + range.len();
            let object = self.new_child(&child, parent, Kind::Clone, options, pages);
            let mut rights = Rights::VMO_DEFAULT;
            if options.contains(NO_WRITE) {
                rights.remove(Rights::WRITE);
                rights.set(Rights::EXECUTE, executable);
            }
            self.enter(child, object, rights);
        }
    }

    /// Changes no more than a cut does.
    pub(super) fn freeze(&mut self, part: Part) {
        let Some((index, range)) = self.part(part) else {
            return;
        };
        let size = range.len() * page();
        let address = self.space.address(range.start);
        let real = self.vmars[index].vmar.freeze(address, size);
        let expected = self.may_clone_mapping(index, VmoChildOptions::SNAPSHOT, range);
        if let Some((frozen, (object, ..))) = self.agree("freeze", real, expected) {
            let native = self.is_native(object);
            self.objects.cut(object, native);
            let now = self.now();
            assert!(frozen.huge_bytes <= frozen.bytes, "{now}: {frozen:?}");
            assert!(frozen.bytes <= size as u64, "{now}: {frozen:?}");
        }
    }

    /// The VMO that would be cloned, its page, and whether the clone can be executed.
    fn may_clone_mapping(
        &self,
        index: usize,
        options: VmoChildOptions,
        range: Range<usize>,
    ) -> Result<(usize, usize, bool), Status> {
        let handle = &self.vmars[index];
        if !handle.rights.contains(Rights::INSPECT) {
            return Err(Status::ACCESS_DENIED);
        }
        let kind = options - NO_WRITE;
        if kind != VmoChildOptions::SNAPSHOT && kind != VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE
        {
            return Err(Status::INVALID_ARGS);
        }
        let (shown, executable) = self.space.find(handle.region, range.clone())?;
        if self.objects.list[shown.object].locks.is_some() {
            return Err(Status::NOT_SUPPORTED);
        }
        self.may_clone(shown.object, shown.page..shown.page + range.len())?;
        Ok((shown.object, shown.page, executable))
    }

    fn new_child(
        &mut self,
        child: &Vmo,
        parent: usize,
        kind: Kind,
        options: VmoChildOptions,
        pages: Range<usize>,
    ) -> usize {
        let koid = self.new_koid(child);
        if kind != Kind::Clone {
            let memory = self.objects.list[parent].memory;
            return self.objects.add(koid, Some(parent), memory, kind);
        }
        let native = self.is_native(parent);
        let bytes = pages.start * page()..pages.end * page();
        let resizable = options.contains(RESIZABLE);
        let object = self
            .objects
            .add_clone(koid, parent, bytes, resizable, native);
        let immutable = VmoChildOptions::SNAPSHOT | NO_WRITE;
        self.objects.list[object].immutable = options.contains(immutable);
        object
    }

    /// The koid of a new VMO.
    pub(super) fn new_koid(&self, vmo: &Vmo) -> Koid {
        let koid = vmo.basic_info().expect("the handle is valid").koid;
        let known = self.objects.list.iter().any(|object| object.koid == koid);
        assert!(!known, "{}: {koid:?} is not new", self.now());
        koid
    }
}

/// The rights of a child made with a handle that has `parent`'s.
fn child_rights(kind: Kind, options: VmoChildOptions, parent: Rights) -> Rights {
    let mut rights = parent | Rights::GET_PROPERTY | Rights::SET_PROPERTY;
    rights.set(Rights::RESIZE, options.contains(RESIZABLE));
    if options.contains(NO_WRITE) {
        rights.remove(Rights::WRITE);
    } else if kind == Kind::Clone {
        rights.insert(Rights::WRITE);
        rights.remove(Rights::EXECUTE);
    }
    rights
}
