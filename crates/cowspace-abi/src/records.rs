//! The records as C programs see them: `zircon/syscalls/object.h`.
//!
//! No padding is left to the compiler (`IntoBytes` sees to that), so that every byte that a program gets is set. `tests/c/layout.c` holds sizes and offsets against Zircon's.

use cowspace::{
    HandleBasicInfo, HandleCountInfo, MapsDetails, MapsInfo, ThreadStats, VmarInfo, VmoInfo,
    VmoLockState,
};
use zerocopy::{Immutable, IntoBytes};

/// `zx_info_handle_basic_t`
#[derive(Debug, Immutable, IntoBytes)]
#[repr(C)]
pub(crate) struct HandleBasic {
    koid: u64,
    rights: u32,
    object_type: u32,
    related_koid: u64,
    reserved: u32,
    padding: u32,
}

impl From<HandleBasicInfo> for HandleBasic {
    fn from(info: HandleBasicInfo) -> HandleBasic {
        HandleBasic {
            koid: info.koid.raw_koid(),
            rights: info.rights.bits(),
            object_type: info.object_type.into_raw(),
            related_koid: info.related_koid.raw_koid(),
            reserved: 0,
            padding: 0,
        }
    }
}

/// `zx_info_handle_count_t`
#[derive(Debug, Immutable, IntoBytes)]
#[repr(C)]
pub(crate) struct HandleCount {
    handle_count: u32,
}

impl From<HandleCountInfo> for HandleCount {
    fn from(info: HandleCountInfo) -> HandleCount {
        HandleCount {
            handle_count: info.handle_count,
        }
    }
}

/// `zx_info_thread_stats_t`
#[derive(Debug, Immutable, IntoBytes)]
#[repr(C)]
pub(crate) struct ThreadStatistics {
    total_runtime: i64,
    last_scheduled_cpu: u32,
    padding: u32,
}

impl From<ThreadStats> for ThreadStatistics {
    fn from(stats: ThreadStats) -> ThreadStatistics {
        ThreadStatistics {
            total_runtime: i64::try_from(stats.total_runtime.as_nanos()).unwrap_or(i64::MAX),
            last_scheduled_cpu: stats.last_scheduled_cpu,
            padding: 0,
        }
    }
}

/// `zx_vmo_lock_state_t`
#[derive(Debug, Immutable, IntoBytes)]
#[repr(C)]
pub(crate) struct LockState {
    offset: u64,
    size: u64,
    discarded_offset: u64,
    discarded_size: u64,
}

impl From<VmoLockState> for LockState {
    fn from(state: VmoLockState) -> LockState {
        LockState {
            offset: state.offset,
            size: state.size,
            discarded_offset: state.discarded_offset,
            discarded_size: state.discarded_size,
        }
    }
}

/// `zx_info_vmar_t`
#[derive(Debug, Immutable, IntoBytes)]
#[repr(C)]
pub(crate) struct Vmar {
    base: usize,
    len: usize,
}

impl From<VmarInfo> for Vmar {
    fn from(info: VmarInfo) -> Vmar {
        Vmar {
            base: info.base,
            len: info.len,
        }
    }
}

/// `zx_info_vmo_t`. The versions before the present one are its first [`Vmo::V1`], [`Vmo::V2`], [`Vmo::V3`] bytes.
#[derive(Debug, Immutable, IntoBytes)]
#[repr(C)]
pub(crate) struct Vmo {
    koid: u64,
    name: [u8; 32],
    size_bytes: u64,
    parent_koid: u64,
    num_children: usize,
    num_mappings: usize,
    share_count: usize,
    flags: u32,
    padding: u32,
    committed_bytes: u64,
    handle_rights: u32,
    cache_policy: u32,
    metadata_bytes: u64,
    committed_change_events: u64,
    populated_bytes: u64,
    committed_private_bytes: u64,
    populated_private_bytes: u64,
    committed_scaled_bytes: u64,
    populated_scaled_bytes: u64,
    committed_fractional_scaled_bytes: u64,
    populated_fractional_scaled_bytes: u64,
}

impl Vmo {
    pub(crate) const V1: usize = 104;
    pub(crate) const V2: usize = 120;
    pub(crate) const V3: usize = 128;
    pub(crate) const V4: usize = size_of::<Vmo>();
}

impl From<VmoInfo> for Vmo {
    fn from(info: VmoInfo) -> Vmo {
        Vmo {
            koid: info.koid.raw_koid(),
            name: info.name.into_raw(),
            size_bytes: info.size_bytes,
            parent_koid: info.parent_koid.raw_koid(),
            num_children: info.num_children,
            num_mappings: info.num_mappings,
            share_count: info.share_count,
            flags: info.flags.bits(),
            padding: 0,
            committed_bytes: info.committed_bytes,
            handle_rights: info.handle_rights.bits(),
            cache_policy: info.cache_policy as u32,
            metadata_bytes: info.metadata_bytes,
            committed_change_events: info.committed_change_events,
            populated_bytes: info.populated_bytes,
            committed_private_bytes: info.committed_private_bytes,
            populated_private_bytes: info.populated_private_bytes,
            committed_scaled_bytes: info.committed_scaled_bytes,
            populated_scaled_bytes: info.populated_scaled_bytes,
            committed_fractional_scaled_bytes: info.committed_fractional_scaled_bytes,
            populated_fractional_scaled_bytes: info.populated_fractional_scaled_bytes,
        }
    }
}

/// `zx_info_maps_t`. The versions before the present one are its first [`Maps::V1`] and [`Maps::V2`] bytes, and count pages: [`Maps::in_pages`].
#[derive(Debug, Default, Immutable, IntoBytes)]
#[repr(C)]
pub(crate) struct Maps {
    name: [u8; 32],
    base: usize,
    size: usize,
    depth: usize,
    details_type: u32,
    padding: u32,
    mapping: MapsMapping,
}

/// `zx_info_maps_mapping_t`
#[derive(Debug, Default, Immutable, IntoBytes)]
#[repr(C)]
struct MapsMapping {
    mmu_flags: u32,
    padding: u32,
    vmo_koid: u64,
    vmo_offset: u64,
    committed_bytes: usize,
    populated_bytes: usize,
    committed_private_bytes: usize,
    populated_private_bytes: usize,
    committed_scaled_bytes: usize,
    populated_scaled_bytes: usize,
    committed_fractional_scaled_bytes: u64,
    populated_fractional_scaled_bytes: u64,
}

impl Maps {
    pub(crate) const V1: usize = 96;
    pub(crate) const V2: usize = 104;
    pub(crate) const V3: usize = size_of::<Maps>();

    /// With `committed_pages` and `populated_pages` of the older versions.
    pub(crate) fn in_pages(mut self, page_size: usize) -> Maps {
        self.mapping.committed_bytes /= page_size;
        self.mapping.populated_bytes /= page_size;
        self
    }
}

impl From<MapsInfo> for Maps {
    fn from(info: MapsInfo) -> Maps {
        let mut maps = Maps {
            name: info.name.into_raw(),
            base: info.base,
            size: info.size,
            depth: info.depth,
            ..Maps::default()
        };
        // ZX_INFO_MAPS_TYPE_*
        maps.details_type = match info.details {
            MapsDetails::Aspace => 1,
            MapsDetails::Vmar => 2,
            MapsDetails::Mapping(mapping) => {
                maps.mapping = MapsMapping {
                    mmu_flags: mapping.mmu_flags.bits(),
                    padding: 0,
                    vmo_koid: mapping.vmo_koid.raw_koid(),
                    vmo_offset: mapping.vmo_offset,
                    committed_bytes: mapping.committed_bytes,
                    populated_bytes: mapping.populated_bytes,
                    committed_private_bytes: mapping.committed_private_bytes,
                    populated_private_bytes: mapping.populated_private_bytes,
                    committed_scaled_bytes: mapping.committed_scaled_bytes,
                    populated_scaled_bytes: mapping.populated_scaled_bytes,
                    committed_fractional_scaled_bytes: mapping.committed_fractional_scaled_bytes,
                    populated_fractional_scaled_bytes: mapping.populated_fractional_scaled_bytes,
                };
                3
            }
        };
        maps
    }
}
