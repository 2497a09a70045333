//! VMARs as a program uses them, and the memory-map topics of object info.

use std::sync::Arc;

use crate::aspace::{MapRequest, OpChildren, RecordDetails};
use crate::engine::{Engine, default_policy};
use crate::handles::{Handle, HandleBased};
use crate::hash::HashSet;
use crate::info::{MappingDetails, MapsDetails, MapsInfo, Name, VmarInfo};
use crate::object::{Object, VmObject, VmarObject};
use crate::options::{Perms, Policy, VmarFlags, VmarOp, VmoChildOptions};
use crate::report::call;
use crate::rights::Rights;
use crate::status::Status;
use crate::vmar_op::OpRules;
use crate::vmo::Vmo;
use host_memory::page::page_size;

/// A virtual memory address region: a range of addresses in which VMOs are mapped and child regions allocated.
///
/// See Zircon's reference on [VMARs](https://fuchsia.dev/fuchsia-src/reference/kernel_objects/vm_address_region). Closing the last handle changes
/// nothing: the region and its mappings stay until they are unmapped or destroyed.
///
/// The addresses are plain numbers. Whoever makes references of them says with that, that nobody unmaps or overwrites what they refer to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Vmar(Handle);

impl Vmar {
    /// The root VMAR of this process: at least 128 GiB. Each call gives a new handle. `zx_vmar_root_self`.
    ///
    /// # Panics
    ///
    /// If the engine cannot start (no address space, no `/proc`), there are no handles left, or the process is a forked copy. [`Vmar::try_root_self`] says so instead.
    pub fn root_self() -> Vmar {
        Vmar::try_root_self()
            .expect("the engine starts, and this process is not a forked copy of one where it runs")
    }

    /// As [`Vmar::root_self`].
    ///
    /// # Errors
    ///
    /// `NO_RESOURCES`, `BAD_STATE`.
    pub fn try_root_self() -> Result<Vmar, Status> {
        call(|engine| {
            let rights = Rights::VMAR_DEFAULT | Rights::READ | Rights::WRITE | Rights::EXECUTE;
            Handle::new(engine, Object::Vmar(engine.root.clone()), rights).map(Vmar)
        })
    }

    /// Allocates a child region of `size` bytes; gives it and its address. `zx_vmar_allocate`.
    ///
    /// `offset` is relative to this region, and 0 unless `SPECIFIC` or `OFFSET_IS_UPPER_LIMIT` is given.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without the right for each `CAN_MAP_*` asked for; then those of options and placement: `INVALID_ARGS`, `BAD_STATE`,
    /// `ACCESS_DENIED`, `ALREADY_EXISTS`, `NO_RESOURCES`.
    pub fn allocate(
        &self,
        offset: usize,
        size: usize,
        flags: VmarFlags,
    ) -> Result<(Vmar, usize), Status> {
        call(|engine| {
            let (parent, _) = self.0.vmar(engine, flags.can_map().rights())?;
            let (id, base) = engine.space().allocate(parent.id, flags, offset, size)?;
            let rights = Rights::VMAR_DEFAULT | flags.can_map().rights();
            // Placement has checked that the end is in this region.
            let object = Arc::new(VmarObject::new(id, base..base + size));
            let child = Handle::new(engine, Object::Vmar(object), rights).inspect_err(|_| {
                // Without a handle nobody could end it. There is nothing in it yet, so this cannot fail.
                let _ = engine.destroy(id);
            })?;
            Ok((Vmar(child), base))
        })
    }

    /// Maps `len` bytes of `vmo` from `vmo_offset` on; gives the address. The policy is the [`default_policy`]. `zx_vmar_map`.
    ///
    /// `vmar_offset` is relative to this region, and 0 unless `SPECIFIC`, `SPECIFIC_OVERWRITE` or `OFFSET_IS_UPPER_LIMIT` is given.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE` of this handle, then of the VMO's; `ACCESS_DENIED` without `MAP`, or without the right for a permission on either handle; `INVALID_ARGS`,
    /// `NOT_SUPPORTED`, `OUT_OF_RANGE` and those of placement; `NO_MEMORY`.
    pub fn map(
        &self,
        vmar_offset: usize,
        vmo: &Vmo,
        vmo_offset: u64,
        len: usize,
        flags: VmarFlags,
    ) -> Result<usize, Status> {
        self.map_with_policy(vmar_offset, vmo, vmo_offset, len, flags, default_policy())
    }

    /// As [`Vmar::map`], with the policy by which faults in the mapping are resolved. Where traced mode does not work, every mapping is native.
    ///
    /// # Errors
    ///
    /// As [`Vmar::map`].
    pub fn map_with_policy(
        &self,
        vmar_offset: usize,
        vmo: &Vmo,
        vmo_offset: u64,
        len: usize,
        flags: VmarFlags,
        policy: Policy,
    ) -> Result<usize, Status> {
        call(|engine| {
            let (vmar, vmar_rights) = self.0.vmar(engine, Rights::NONE)?;
            let (vmo, vmo_rights) = vmo.as_ref().vmo(engine, Rights::NONE)?;
            if !vmo_rights.contains(Rights::MAP) {
                return Err(Status::ACCESS_DENIED);
            }
            flags.check_map_perms()?;
            let both = vmo_rights & vmar_rights;
            if !both.contains(flags.perms().rights()) {
                return Err(Status::ACCESS_DENIED);
            }
            flags.check_map()?;
            if flags.contains(VmarFlags::REQUIRE_NON_RESIZABLE) && vmo.resizable {
                return Err(Status::NOT_SUPPORTED);
            }
            if vmo.discardable.is_some() && !flags.contains(VmarFlags::ALLOW_FAULTS) {
                return Err(Status::NOT_SUPPORTED);
            }
            let request = MapRequest {
                flags,
                vmar_offset,
                vmo,
                vmo_offset,
                len,
                max_perms: Perms::from_rights(both),
                policy: engine.effective(policy),
            };
            engine.map(vmar.id, request)
        })
    }

    /// Unmaps `len` bytes (rounded up to whole pages) at `addr`, and destroys the child regions that lie in them. `zx_vmar_unmap`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `INVALID_ARGS` for a range that is empty, not aligned, not inside, or cuts a child region, and if there is a child region in it and
    /// the handle lacks `OP_CHILDREN`; `BAD_STATE` if the region is destroyed; `NO_MEMORY`.
    pub fn unmap(&self, addr: usize, len: usize) -> Result<(), Status> {
        call(|engine| {
            let (vmar, rights) = self.0.vmar(engine, Rights::NONE)?;
            engine.unmap(vmar.id, addr, len, op_children(rights))
        })
    }

    /// Gives `len` bytes (rounded up to whole pages) at `addr` the permissions in `flags`. `zx_vmar_protect`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without the right for a permission; `INVALID_ARGS`, `BAD_STATE`, `NOT_FOUND` for a gap, `ACCESS_DENIED` for more than
    /// a mapping may have; `NO_MEMORY`. After an error no permission has changed.
    pub fn protect(&self, addr: usize, len: usize, flags: VmarFlags) -> Result<(), Status> {
        call(|engine| {
            let (vmar, rights) = self.0.vmar(engine, flags.perms().rights())?;
            flags.check_protect()?;
            engine.protect(vmar.id, flags.perms(), addr, len, op_children(rights))
        })
    }

    /// Does `op` to what is mapped in `size` bytes (rounded up to whole pages) at `addr`. `zx_vmar_op_range` with no
    /// buffer.
    ///
    /// Mappings are operated on one after the other, from the lowest address up. It counts what a mapping may ever
    /// allow, not what it allows now.
    ///
    /// # Errors
    ///
    /// In this order: `BAD_HANDLE`, `WRONG_TYPE`; `INVALID_ARGS` for an unknown operation; `ACCESS_DENIED` without the
    /// operation's right (`WRITE` for COMMIT, DECOMMIT, ZERO; `READ` for MAP_RANGE, PREFETCH; none for the others);
    /// `INVALID_ARGS` for a range that is empty or not aligned; `OUT_OF_RANGE` if it is not inside; `BAD_STATE` if the
    /// region is destroyed. Then for each mapping, those before it having been operated on: `BAD_STATE` for a gap
    /// before it; `INVALID_ARGS` if it is a child region's and the handle lacks `OP_CHILDREN`, or the operation is
    /// COMMIT, DECOMMIT or PREFETCH; `ACCESS_DENIED` if it may never be written (COMMIT, DECOMMIT, ZERO) or read
    /// (PREFETCH); `OUT_OF_RANGE` behind the end of the VMO; those of the operation of the same name of
    /// [`Vmo::op_range`]. `BAD_STATE` for a gap at the end.
    pub fn op_range(&self, op: VmarOp, addr: usize, size: usize) -> Result<(), Status> {
        self.op_range_with_buffer(op, addr, size, 0, 0)
    }

    /// As [`Vmar::op_range`], with the address and the length of the buffer that `zx_vmar_op_range` has room for. No
    /// operation uses one, and it is not looked at.
    ///
    /// # Errors
    ///
    /// As [`Vmar::op_range`]; `INVALID_ARGS` if one of the two is not 0, after the right and before the range.
    pub fn op_range_with_buffer(
        &self,
        op: VmarOp,
        addr: usize,
        size: usize,
        buffer: usize,
        buffer_size: usize,
    ) -> Result<(), Status> {
        call(|engine| {
            let (vmar, rights) = self.0.vmar(engine, Rights::NONE)?;
            let rules = OpRules::of(op)?;
            if !rights.contains(rules.right) {
                return Err(Status::ACCESS_DENIED);
            }
            let page = page_size();
            let size = size.checked_next_multiple_of(page).unwrap_or(0);
            if buffer != 0 || buffer_size != 0 || size == 0 || !addr.is_multiple_of(page) {
                return Err(Status::INVALID_ARGS);
            }
            let end = addr.checked_add(size).ok_or(Status::OUT_OF_RANGE)?;
            if addr < vmar.range.start || end > vmar.range.end {
                return Err(Status::OUT_OF_RANGE);
            }
            let children = match rules.children {
                OpChildren::Yes => op_children(rights),
                OpChildren::No => OpChildren::No,
            };
            engine.vmar_op(&vmar, op, addr..end, rules.needs, children)
        })
    }

    /// Ends the region: all in it is unmapped, child regions are destroyed. The handle stays valid, and further calls on it answer `BAD_STATE`.
    /// `zx_vmar_destroy`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without `OP_CHILDREN`; `NOT_SUPPORTED` for the root; `BAD_STATE` if it is destroyed already; `NO_MEMORY`.
    pub fn destroy(&self) -> Result<(), Status> {
        call(|engine| {
            let (vmar, _) = self.0.vmar(engine, Rights::OP_CHILDREN)?;
            engine.destroy(vmar.id)
        })
    }

    /// Where the region lies. `ZX_INFO_VMAR`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without `INSPECT`; `BAD_STATE` if it is destroyed.
    pub fn info(&self) -> Result<VmarInfo, Status> {
        call(|engine| {
            let (vmar, _) = self.0.vmar(engine, Rights::INSPECT)?;
            engine.space().info(vmar.id)
        })
    }

    /// What lies in the region, with the memory of each mapping. `ZX_INFO_VMAR_MAPS`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without `INSPECT`; `BAD_STATE` if it is destroyed; `NO_MEMORY`.
    pub fn maps(&self) -> Result<Vec<MapsInfo>, Status> {
        call(|engine| {
            let (vmar, _) = self.0.vmar(engine, Rights::INSPECT)?;
            maps(engine, &vmar, Memory::Counted)
        })
    }

    /// Makes a copy-on-write clone of what is mapped in `addr..addr + size`, without a handle to the VMO. `zx_vmar_create_vmo_child`, RFC-0013.
    ///
    /// The result is a child of the VMO that is mapped there, as [`Vmo::create_child`] makes one: the bytes of one instant, also against threads that write
    /// meanwhile. It has the default rights of a VMO, without `WRITE` if `NO_WRITE` is given, and with `EXECUTE` if `NO_WRITE` is given and the range is executable.
    ///
    /// # Errors
    ///
    /// In this order: `BAD_HANDLE`; `WRONG_TYPE`; `ACCESS_DENIED` without `INSPECT`; `INVALID_ARGS` unless the options are exactly one of `SNAPSHOT` and
    /// `SNAPSHOT_AT_LEAST_ON_WRITE`, possibly with `NO_WRITE`; `INVALID_ARGS` for a range that is empty or not aligned; `BAD_STATE` if the region is destroyed; `INVALID_ARGS` if the range
    /// is not part of one mapping; `ACCESS_DENIED` if it was made with `CANNOT_CREATE_VMO_CHILD`, or a region above it was; then those of [`Vmo::create_child`].
    pub fn create_vmo_child(
        &self,
        options: VmoChildOptions,
        addr: usize,
        size: usize,
    ) -> Result<Vmo, Status> {
        call(|engine| {
            let (vmar, _) = self.0.vmar(engine, Rights::INSPECT)?;
            let kind = options - VmoChildOptions::NO_WRITE;
            if kind != VmoChildOptions::SNAPSHOT
                && kind != VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE
            {
                return Err(Status::INVALID_ARGS);
            }
            let space = engine.space();
            let found = space.find(vmar.id, addr, size)?;
            let (vmo, offset, executable) = (found.vmo.clone(), found.vmo_offset, found.executable);
            vmo.check_children()?;
            // Still locked: what is cloned is what is mapped there at the instant of the snapshot.
            let child =
                vmo.create_clone(engine, space, options, offset, size as u64, vmo.name())?;
            let mut rights = Rights::VMO_DEFAULT;
            if options.contains(VmoChildOptions::NO_WRITE) {
                rights.remove(Rights::WRITE);
                rights.set(Rights::EXECUTE, executable);
            }
            Vmo::from_object(engine, child, rights)
        })
    }
}

impl AsRef<Handle> for Vmar {
    fn as_ref(&self) -> &Handle {
        &self.0
    }
}

impl From<Handle> for Vmar {
    fn from(handle: Handle) -> Vmar {
        Vmar(handle)
    }
}

impl From<Vmar> for Handle {
    fn from(vmar: Vmar) -> Handle {
        vmar.0
    }
}

impl HandleBased for Vmar {}

/// All that is mapped in this process, with the memory of each mapping: the address space, the root VMAR, and all below it, in order.
/// `ZX_INFO_PROCESS_MAPS`.
///
/// # Errors
///
/// `NO_MEMORY`; `BAD_STATE` in a forked copy.
pub fn process_maps() -> Result<Vec<MapsInfo>, Status> {
    process(Memory::Counted)
}

/// As [`process_maps`], without looking at memory: all byte counts are 0. Its cost grows with the number of mappings alone.
///
/// # Errors
///
/// As [`process_maps`].
pub fn process_layout() -> Result<Vec<MapsInfo>, Status> {
    process(Memory::NotCounted)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Memory {
    Counted,
    NotCounted,
}

fn process(memory: Memory) -> Result<Vec<MapsInfo>, Status> {
    call(|engine| {
        let mut records = maps(engine, &engine.root, memory)?;
        for record in &mut records {
            record.depth += 1;
        }
        let root = records[0];
        let name = Name::new_lossy("process");
        records.insert(
            0,
            MapsInfo {
                name,
                depth: 0,
                details: MapsDetails::Aspace,
                ..root
            },
        );
        Ok(records)
    })
}

fn maps(
    engine: &'static Engine,
    vmar: &VmarObject,
    memory: Memory,
) -> Result<Vec<MapsInfo>, Status> {
    let mut vmos: Vec<Option<Arc<VmObject>>> = Vec::new();
    let mut records = Vec::new();
    let space = engine.space();
    for record in space.maps(vmar.id)? {
        let (name, details, vmo) = match record.details {
            RecordDetails::Vmar => (Name::new_lossy("vmar"), MapsDetails::Vmar, None),
            RecordDetails::Mapping {
                vmo,
                vmo_offset,
                perms,
                ..
            } => {
                let details = MappingDetails {
                    mmu_flags: perms.flags(),
                    vmo_koid: vmo.koid,
                    vmo_offset,
                    ..MappingDetails::default()
                };
                (vmo.name(), MapsDetails::Mapping(details), Some(vmo.clone()))
            }
        };
        vmos.push(vmo);
        let (base, size) = (record.range.start, record.range.len());
        records.push(MapsInfo {
            name,
            base,
            size,
            depth: record.depth,
            details,
        });
    }
    drop(space);
    if memory == Memory::Counted {
        let mut looked_at = HashSet::default();
        for (record, vmo) in records.iter_mut().zip(&vmos) {
            if let (MapsDetails::Mapping(details), Some(vmo)) = (&mut record.details, vmo) {
                if looked_at.insert(Arc::as_ptr(&vmo.family)) {
                    vmo.family_content(engine).reconcile_family()?;
                }
                vmo.attribute(details, record.size);
            }
        }
    }
    Ok(records)
}

fn op_children(rights: Rights) -> OpChildren {
    if rights.contains(Rights::OP_CHILDREN) {
        OpChildren::Yes
    } else {
        OpChildren::No
    }
}
