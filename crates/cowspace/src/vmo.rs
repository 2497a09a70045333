//! VMOs as a program uses them: rights and arguments are checked here, in Zircon's order.

use std::sync::Arc;

use crate::lock::MutexGuard;
use host_memory::page::page_size;

use crate::discard::VmoLockState;
use crate::engine::{Engine, Space};
use crate::family::{Family, FamilyState};
use crate::handles::{Handle, HandleBased};
use crate::info::{CachePolicy, Name, VmoInfo};
use crate::object::{NewVmo, Object, VmObject, VmoKind};
use crate::options::{VmoChildOptions, VmoOp, VmoOptions};
use crate::report::call;
use crate::rights::Rights;
use crate::status::Status;
use crate::stream_size::StreamSize;

/// A virtual memory object: memory that can be read, written, cloned, and mapped by a [`crate::Vmar`].
///
/// See Zircon's reference on [virtual memory objects](https://fuchsia.dev/fuchsia-src/reference/kernel_objects/vm_object).
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Vmo(Handle);

impl Vmo {
    /// A VMO of `size` bytes, rounded up to whole pages, all zero. `zx_vmo_create` without options.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE` if the size is above 2^64 - 64 pages; `NO_RESOURCES` if there is no handle left, or the engine cannot start;
    /// `BAD_STATE` in a forked copy of the process, as for every call.
    pub fn create(size: u64) -> Result<Vmo, Status> {
        Vmo::create_with_opts(VmoOptions::empty(), size)
    }

    /// As [`Vmo::create`], with options. `size` as given is the stream size; with `UNBOUNDED` the VMO itself has
    /// 2^64 - 64 pages. `zx_vmo_create`.
    ///
    /// # Errors
    ///
    /// As [`Vmo::create`]; after the size `INVALID_ARGS` for an unknown option, and for `RESIZABLE` with `UNBOUNDED`.
    pub fn create_with_opts(options: VmoOptions, size: u64) -> Result<Vmo, Status> {
        call(|engine| {
            let mut pages = size_in_pages(size)?;
            let known = VmoOptions::RESIZABLE | VmoOptions::DISCARDABLE | VmoOptions::UNBOUNDED;
            if !known.contains(options)
                || options.contains(VmoOptions::RESIZABLE | VmoOptions::UNBOUNDED)
            {
                return Err(Status::INVALID_ARGS);
            }
            if options.contains(VmoOptions::UNBOUNDED) {
                pages = most_pages();
            }
            let resizable = options.contains(VmoOptions::RESIZABLE);
            let family = Family::new();
            let mut state = family.lock();
            let vmo = state.tree.create(pages);
            let new = NewVmo {
                resizable,
                discardable: options.contains(VmoOptions::DISCARDABLE),
                ..NewVmo::new(VmoKind::Root, StreamSize::new(0, size))
            };
            let object = VmObject::new(&family, &mut state, vmo, new);
            drop(state);
            let mut rights = Rights::VMO_DEFAULT;
            rights.set(Rights::RESIZE, resizable);
            Vmo::from_object(engine, object, rights)
        })
    }

    pub(crate) fn from_object(
        engine: &Engine,
        object: Arc<VmObject>,
        rights: Rights,
    ) -> Result<Vmo, Status> {
        Handle::new(engine, Object::Vmo(object), rights).map(Vmo)
    }

    /// Reads `data.len()` bytes at `offset`. Commits nothing. `zx_vmo_read`.
    ///
    /// `data` may lie in a mapping of any VMO, of this one as well.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `READ`; `OUT_OF_RANGE` if not all of it lies in the VMO.
    pub fn read(&self, data: &mut [u8], offset: u64) -> Result<(), Status> {
        let mut rest = &mut *data;
        self.read_with(offset, rest.len() as u64, |bytes| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            rest = later;
            Ok(())
        })
    }

    /// Writes `data` at `offset`. `zx_vmo_write`.
    ///
    /// `data` may lie in a mapping of any VMO, of this one as well.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `WRITE`; `OUT_OF_RANGE` if not all of it lies in the VMO; `NO_MEMORY`, after which a part may be
    /// written.
    pub fn write(&self, data: &[u8], offset: u64) -> Result<(), Status> {
        let mut rest = data;
        self.write_with(offset, rest.len() as u64, |bytes| {
            let (now, later) = rest.split_at(bytes.len());
            bytes.copy_from_slice(now);
            rest = later;
            Ok(())
        })
    }

    /// As [`Vmo::read`], for bytes that are not to go to a slice: `take` is called with one piece after another, and
    /// nothing is locked meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Vmo::read`], before `take` is called; then the first that `take` gives, which ends the call.
    pub fn read_with(
        &self,
        offset: u64,
        len: u64,
        take: impl FnMut(&[u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        call(|engine| {
            let (vmo, _) = self.0.vmo(engine, Rights::READ)?;
            vmo.read(engine, offset, len, take)
        })
    }

    /// As [`Vmo::write`], for bytes that do not come from a slice: `fill` is called with one piece after another to be
    /// filled, which is zeros before, and nothing is locked meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Vmo::write`]; then the first that `fill` gives, which ends the call.
    pub fn write_with(
        &self,
        offset: u64,
        len: u64,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        call(|engine| {
            let (vmo, _) = self.0.vmo(engine, Rights::WRITE)?;
            vmo.write(engine, offset, len, |bytes| {
                // It holds what went through it last, perhaps another VMO's.
                bytes.fill(0);
                fill(bytes)
            })
        })
    }

    /// The size in bytes: whole pages. `zx_vmo_get_size`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`.
    pub fn get_size(&self) -> Result<u64, Status> {
        call(|engine| {
            let (vmo, _) = self.0.vmo(engine, Rights::NONE)?;
            let state = vmo.family.lock();
            Ok(vmo.size(&state))
        })
    }

    /// Changes the size, rounded up to whole pages. What is cut off is gone, what is added is zero. The stream size
    /// becomes `size` as given. `zx_vmo_set_size`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `WRITE`; `OUT_OF_RANGE` if the size cannot be rounded;
    /// `UNAVAILABLE` if the VMO is not resizable; `ACCESS_DENIED` without `RESIZE`; `OUT_OF_RANGE` if the size is
    /// too large; `INVALID_ARGS` if with the offsets of its ancestors it passes 2^64; `NO_MEMORY`.
    pub fn set_size(&self, size: u64) -> Result<(), Status> {
        call(|engine| {
            let (vmo, rights) = self.0.vmo(engine, Rights::WRITE)?;
            size.checked_next_multiple_of(page_size() as u64)
                .ok_or(Status::OUT_OF_RANGE)?;
            if !vmo.resizable {
                return Err(Status::UNAVAILABLE);
            }
            if !rights.contains(Rights::RESIZE) {
                return Err(Status::ACCESS_DENIED);
            }
            let bytes = size_in_pages(size)? * page_size() as u64;
            vmo.root_offset
                .checked_add(bytes)
                .ok_or(Status::INVALID_ARGS)?;
            vmo.resize(engine, size)
        })
    }

    /// Makes a child: a copy-on-write clone of `offset..offset + size`, a slice, or a reference. `zx_vmo_create_child`.
    ///
    /// All clone kinds are snapshots here: the bytes of one instant, also against threads that write meanwhile.
    ///
    /// # Errors
    ///
    /// In this order: `OUT_OF_RANGE` for a size that no VMO can have; `INVALID_ARGS` for `NO_WRITE` with
    /// `RESIZABLE`; `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `DUPLICATE` and `READ`; `NOT_SUPPORTED` if
    /// the VMO is discardable; `INVALID_ARGS` for no kind or several, or an unknown option; then those of the kind,
    /// see `docs/zircon.md`. `BAD_STATE` if pages of the VMO are pinned.
    pub fn create_child(
        &self,
        options: VmoChildOptions,
        offset: u64,
        size: u64,
    ) -> Result<Vmo, Status> {
        size_in_pages(size)?;
        if options.contains(VmoChildOptions::NO_WRITE | VmoChildOptions::RESIZABLE) {
            return Err(Status::INVALID_ARGS);
        }
        call(|engine| {
            let (parent, rights) = self.0.vmo(engine, Rights::DUPLICATE | Rights::READ)?;
            parent.check_children()?;
            let kind = child_kind(options)?;
            let name = if rights.contains(Rights::GET_PROPERTY) {
                parent.name()
            } else {
                Name::default()
            };
            let child = match kind {
                ChildKind::Clone => {
                    parent.create_clone(engine, engine.space(), options, offset, size, name)?
                }
                ChildKind::Slice => parent.create_slice(offset, size, name)?,
                ChildKind::Reference => {
                    parent.create_reference(options, offset, size, name, rights)?
                }
            };
            Vmo::from_object(engine, child, child_rights(kind, options, rights))
        })
    }

    /// Does `op` to `offset..offset + size`. `zx_vmo_op_range`, without a buffer: so `LOCK` is refused, for which
    /// there is [`Vmo::lock`].
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `INVALID_ARGS` for an unknown operation; `ACCESS_DENIED` without the operation's right; then its own: see `docs/zircon.md`.
    pub fn op_range(&self, op: VmoOp, offset: u64, size: u64) -> Result<(), Status> {
        self.op_range_with(op, offset, size, None)
    }

    /// Locks a discardable VMO, once more if it is locked already, and says what was lost of it. The range must be
    /// all of it. `ZX_VMO_OP_LOCK`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without `READ` or `WRITE`; `NOT_SUPPORTED` if the VMO is not
    /// discardable; `OUT_OF_RANGE` for any other range.
    pub fn lock(&self, offset: u64, size: u64) -> Result<VmoLockState, Status> {
        let mut state = VmoLockState::default();
        self.op_range_with(VmoOp::LOCK, offset, size, Some(&mut state))?;
        Ok(state)
    }

    fn op_range_with(
        &self,
        op: VmoOp,
        offset: u64,
        size: u64,
        lock_state: Option<&mut VmoLockState>,
    ) -> Result<(), Status> {
        call(|engine| {
            let (vmo, rights) = self.0.vmo(engine, Rights::NONE)?;
            let need = |any: Rights| {
                if rights.intersects(any) {
                    Ok(())
                } else {
                    Err(Status::ACCESS_DENIED)
                }
            };
            match op {
                VmoOp::COMMIT => {
                    need(Rights::WRITE).and_then(|()| vmo.commit(vmo.content(engine), offset, size))
                }
                VmoOp::DECOMMIT => need(Rights::WRITE)
                    .and_then(|()| vmo.decommit(vmo.content(engine), offset, size)),
                VmoOp::ZERO => {
                    need(Rights::WRITE).and_then(|()| vmo.zero(vmo.content(engine), offset, size))
                }
                VmoOp::LOCK | VmoOp::TRY_LOCK | VmoOp::UNLOCK => {
                    need(Rights::READ | Rights::WRITE)?;
                    vmo.lock_op(op, offset, size, lock_state)
                }
                VmoOp::CACHE_SYNC | VmoOp::CACHE_CLEAN | VmoOp::CACHE_CLEAN_INVALIDATE => {
                    need(Rights::READ).and_then(|()| vmo.check_cache_range(offset, size))
                }
                VmoOp::CACHE_INVALIDATE => {
                    need(Rights::WRITE).and_then(|()| vmo.check_cache_range(offset, size))
                }
                VmoOp::PREFETCH => {
                    need(Rights::READ).and_then(|()| vmo.check_whole_pages(offset, size))
                }
                VmoOp::DONT_NEED | VmoOp::ALWAYS_NEED => Ok(()),
                _ => Err(Status::INVALID_ARGS),
            }
        })
    }

    /// Chooses how the processor caches the memory, which on Linux is `CachePolicy::Cached` for all. A number is
    /// looked at as a policy at its place in the order of checks. `zx_vmo_set_cache_policy`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `MAP`; `INVALID_ARGS` for a number that is no policy;
    /// `BAD_STATE` if the VMO is mapped, has children, references or slices, or is one; `NOT_SUPPORTED` for any
    /// policy but `Cached`.
    pub fn set_cache_policy(&self, policy: impl TryInto<CachePolicy>) -> Result<(), Status> {
        call(|engine| {
            let (vmo, _) = self.0.vmo(engine, Rights::MAP)?;
            let policy = policy.try_into().map_err(|_| Status::INVALID_ARGS)?;
            let state = vmo.family.lock();
            let pages = state.pages(vmo.memory);
            let alone = state.tree.parent(vmo.vmo).is_none()
                && state.tree.children(vmo.vmo) == 0
                && pages.is_only_vmo();
            if pages.is_mapped() || !alone {
                return Err(Status::BAD_STATE);
            }
            match policy {
                CachePolicy::Cached => Ok(()),
                _ => Err(Status::NOT_SUPPORTED),
            }
        })
    }

    /// What there is to know of the VMO and its family. `ZX_INFO_VMO`.
    ///
    /// Looks at every page that was changed since the last look, so it takes time that grows with them.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; no right is needed. `NO_MEMORY`.
    pub fn info(&self) -> Result<VmoInfo, Status> {
        call(|engine| {
            let (vmo, rights) = self.0.vmo(engine, Rights::NONE)?;
            vmo.info(engine, rights)
        })
    }

    /// The VMO's name. `ZX_PROP_NAME`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `GET_PROPERTY`.
    pub fn get_name(&self) -> Result<Name, Status> {
        call(|engine| Ok(self.0.vmo(engine, Rights::GET_PROPERTY)?.0.name()))
    }

    /// Names the VMO; handles to it share the name. `ZX_PROP_NAME`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `SET_PROPERTY`.
    pub fn set_name(&self, name: &Name) -> Result<(), Status> {
        call(|engine| {
            let (vmo, _) = self.0.vmo(engine, Rights::SET_PROPERTY)?;
            vmo.set_name(*name);
            Ok(())
        })
    }

    /// A handle with `EXECUTE` added, in place of this one. `zx_vmo_replace_as_executable` with `ZX_HANDLE_INVALID` as the resource, which this process's
    /// policy accepts.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`. This handle is closed in any case.
    pub fn replace_as_executable(self) -> Result<Vmo, Status> {
        call(|engine| {
            let (vmo, rights) = self
                .0
                .vmo(engine, Rights::NONE)
                .map_err(|_| Status::BAD_HANDLE)?;
            Vmo::from_object(engine, vmo, rights | Rights::EXECUTE)
        })
    }
}

impl AsRef<Handle> for Vmo {
    fn as_ref(&self) -> &Handle {
        &self.0
    }
}

impl From<Handle> for Vmo {
    fn from(handle: Handle) -> Vmo {
        Vmo(handle)
    }
}

impl From<Vmo> for Handle {
    fn from(vmo: Vmo) -> Handle {
        vmo.0
    }
}

impl HandleBased for Vmo {}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ChildKind {
    Clone,
    Slice,
    Reference,
}

/// The one kind that the options name.
fn child_kind(options: VmoChildOptions) -> Result<ChildKind, Status> {
    let kind = options - (VmoChildOptions::NO_WRITE | VmoChildOptions::RESIZABLE);
    match kind {
        VmoChildOptions::SNAPSHOT
        | VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE
        | VmoChildOptions::SNAPSHOT_MODIFIED => Ok(ChildKind::Clone),
        VmoChildOptions::SLICE if !options.contains(VmoChildOptions::RESIZABLE) => {
            Ok(ChildKind::Slice)
        }
        VmoChildOptions::REFERENCE => Ok(ChildKind::Reference),
        _ => Err(Status::INVALID_ARGS),
    }
}

/// The rights of a child's handle, made with a handle that has `parent`'s.
fn child_rights(kind: ChildKind, options: VmoChildOptions, parent: Rights) -> Rights {
    let mut rights = parent | Rights::GET_PROPERTY | Rights::SET_PROPERTY;
    rights.set(Rights::RESIZE, options.contains(VmoChildOptions::RESIZABLE));
    if options.contains(VmoChildOptions::NO_WRITE) {
        rights.remove(Rights::WRITE);
    } else if kind == ChildKind::Clone {
        rights.insert(Rights::WRITE);
        rights.remove(Rights::EXECUTE);
    }
    rights
}

impl VmObject {
    /// What a snapshot of `bytes` bytes (rounded up to whole pages) from byte `offset` on asks of the VMO and the range; gives where it begins in the family's root.
    pub(crate) fn check_clone(&self, offset: u64, bytes: u64) -> Result<u64, Status> {
        let size = page_size() as u64;
        let pages = bytes.div_ceil(size);
        if !offset.is_multiple_of(size) {
            return Err(Status::INVALID_ARGS);
        }
        let end = offset
            .checked_add(pages * size)
            .ok_or(Status::OUT_OF_RANGE)?;
        if let VmoKind::Slice(_) = self.kind {
            let within = end <= self.size(&self.family.lock());
            return Err(if within {
                Status::NOT_SUPPORTED
            } else {
                Status::OUT_OF_RANGE
            });
        }
        let root_offset = self
            .root_offset
            .checked_add(offset)
            .ok_or(Status::INVALID_ARGS)?;
        root_offset
            .checked_add(pages * size)
            .map(|_end| root_offset)
            .ok_or(Status::INVALID_ARGS)
    }

    /// A snapshot of `bytes` bytes (rounded up to whole pages) from byte `offset` on, with the address space as the
    /// caller found it.
    pub(crate) fn create_clone(
        &self,
        engine: &'static Engine,
        space: MutexGuard<'_, Space>,
        options: VmoChildOptions,
        offset: u64,
        bytes: u64,
        name: Name,
    ) -> Result<Arc<VmObject>, Status> {
        let root_offset = self.check_clone(offset, bytes)?;
        let size = page_size() as u64;
        let pages = bytes.div_ceil(size);
        let (mut state, after) = engine.cut(&space, self)?;
        let vmo = state.tree.snapshot(self.vmo, offset / size, pages);
        after.finish(&mut state, self.memory);
        // Only saves memory: the clone is made already, and the next one tries again.
        let _ = state.compact(self.memory);
        let snapshot = options.contains(VmoChildOptions::SNAPSHOT);
        let new = NewVmo {
            name,
            root_offset,
            resizable: options.contains(VmoChildOptions::RESIZABLE),
            immutable: snapshot && options.contains(VmoChildOptions::NO_WRITE),
            ..NewVmo::new(VmoKind::Clone, StreamSize::new(0, bytes))
        };
        let child = VmObject::new(&self.family, &mut state, vmo, new);
        let garbage = state.collect();
        drop(state);
        drop(space);
        drop(garbage);
        Ok(child)
    }

    fn create_slice(&self, offset: u64, bytes: u64, name: Name) -> Result<Arc<VmObject>, Status> {
        let size = page_size() as u64;
        let pages = bytes.div_ceil(size);
        let mut state = self.family.lock();
        let inside = offset
            .checked_add(pages * size)
            .is_some_and(|end| end <= self.size(&state));
        if !offset.is_multiple_of(size) || !inside {
            return Err(Status::INVALID_ARGS);
        }
        if self.resizable {
            return Err(Status::NOT_SUPPORTED);
        }
        let vmo = state.tree.slice(self.vmo, offset / size, pages);
        let first = self.first_page() + offset / size;
        let new = NewVmo {
            name,
            root_offset: self.root_offset.saturating_add(offset),
            ..NewVmo::new(VmoKind::Slice(first), StreamSize::new(first, bytes))
        };
        Ok(VmObject::new(&self.family, &mut state, vmo, new))
    }

    fn create_reference(
        &self,
        options: VmoChildOptions,
        offset: u64,
        size: u64,
        name: Name,
        rights: Rights,
    ) -> Result<Arc<VmObject>, Status> {
        if offset != 0 || size != 0 {
            return Err(Status::INVALID_ARGS);
        }
        let resizable = options.contains(VmoChildOptions::RESIZABLE);
        if matches!(self.kind, VmoKind::Slice(_)) || (resizable && !self.resizable) {
            return Err(Status::NOT_SUPPORTED);
        }
        if resizable && !rights.contains(Rights::RESIZE) {
            return Err(Status::ACCESS_DENIED);
        }
        let mut state = self.family.lock();
        let vmo = state.tree.reference(self.vmo);
        let new = NewVmo {
            name,
            root_offset: self.root_offset,
            resizable: self.resizable,
            ..NewVmo::new(VmoKind::Reference, self.stream.clone())
        };
        Ok(VmObject::new(&self.family, &mut state, vmo, new))
    }

    /// Cache operations have nothing to do on coherent memory.
    fn check_cache_range(&self, offset: u64, size: u64) -> Result<(), Status> {
        if size == 0 {
            return Err(Status::INVALID_ARGS);
        }
        self.check_inside(&self.family.lock(), offset, size)
    }

    /// The rounded range must lie in the VMO; there is nothing else to fetch first.
    fn check_whole_pages(&self, offset: u64, size: u64) -> Result<(), Status> {
        let page = page_size() as u64;
        let end = offset
            .checked_add(size)
            .and_then(|end| end.checked_next_multiple_of(page))
            .ok_or(Status::OUT_OF_RANGE)?;
        let start = offset / page * page;
        self.check_inside(&self.family.lock(), start, end - start)
    }

    /// `OUT_OF_RANGE` unless all of the range lies in the VMO.
    pub(crate) fn check_inside(
        &self,
        state: &FamilyState,
        offset: u64,
        size: u64,
    ) -> Result<(), Status> {
        let inside = offset
            .checked_add(size)
            .is_some_and(|end| end <= self.size(state));
        if inside {
            Ok(())
        } else {
            Err(Status::OUT_OF_RANGE)
        }
    }
}

/// The size of the largest VMO: 2^64 bytes less 64 pages.
fn most_pages() -> u64 {
    u64::MAX / page_size() as u64 - 63
}

/// A size in whole pages, if a VMO can have it.
fn size_in_pages(size: u64) -> Result<u64, Status> {
    let page = page_size() as u64;
    let pages = size.div_ceil(page);
    if pages <= most_pages() {
        Ok(pages)
    } else {
        Err(Status::OUT_OF_RANGE)
    }
}
