use std::fmt;

use bitflags::bitflags;

use crate::{options::VmarFlags, rights::Rights, status::Status};

/// The identity of a kernel object: the same through every handle, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Koid(u64);

impl Koid {
    /// No object: `ZX_KOID_INVALID`.
    pub const INVALID: Koid = Koid(0);

    /// The koid of a number.
    pub const fn from_raw(raw: u64) -> Koid {
        Koid(raw)
    }

    /// The number.
    pub const fn raw_koid(self) -> u64 {
        self.0
    }
}

/// How long a name can be, with the zero that ends it: `ZX_MAX_NAME_LEN`.
const NAME_LEN: usize = 32;

/// An object's name: up to 31 bytes, in no particular encoding, filled with zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Name([u8; NAME_LEN]);

impl Name {
    /// The name, or `INVALID_ARGS` if it is longer than 31 bytes or has a zero in it.
    pub fn new(name: &str) -> Result<Name, Status> {
        if name.len() >= NAME_LEN || name.bytes().any(|byte| byte == 0) {
            return Err(Status::INVALID_ARGS);
        }
        Ok(Name::from_bytes_lossy(name.as_bytes()))
    }

    /// The name, cut at its first zero and after 31 bytes, as `ZX_PROP_NAME` cuts it.
    pub fn new_lossy(name: &str) -> Name {
        Name::from_bytes_lossy(name.as_bytes())
    }

    /// As [`Name::new_lossy`], from bytes.
    pub fn from_bytes_lossy(name: &[u8]) -> Name {
        let mut bytes = [0; NAME_LEN];
        let len = name.iter().position(|&byte| byte == 0);
        let len = len.unwrap_or(name.len()).min(NAME_LEN - 1);
        bytes[..len].copy_from_slice(&name[..len]);
        Name(bytes)
    }

    /// The bytes before the zeros.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&byte| byte == 0);
        &self.0[..len.unwrap_or(NAME_LEN)]
    }

    /// All 32 bytes, as C programs see them.
    pub const fn into_raw(self) -> [u8; 32] {
        self.0
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(self.as_bytes()).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self.as_bytes()), f)
    }
}

/// The type of a kernel object, as `zx_obj_type_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct ObjectType(u32);

impl ObjectType {
    /// No object.
    pub const NONE: ObjectType = ObjectType(0);
    /// A process.
    pub const PROCESS: ObjectType = ObjectType(1);
    /// A thread.
    pub const THREAD: ObjectType = ObjectType(2);
    /// A VMO.
    pub const VMO: ObjectType = ObjectType(3);
    /// A VMAR.
    pub const VMAR: ObjectType = ObjectType(18);

    /// The number.
    pub const fn into_raw(self) -> u32 {
        self.0
    }
}

/// What `ZX_INFO_HANDLE_BASIC` says of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleBasicInfo {
    /// The object.
    pub koid: Koid,
    /// The rights of the handle.
    pub rights: Rights,
    /// The object's type.
    pub object_type: ObjectType,
    /// The process of a thread; none for others.
    pub related_koid: Koid,
}

/// What `ZX_INFO_HANDLE_COUNT` says of a handle's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleCountInfo {
    /// Handles to the object.
    pub handle_count: u32,
}

/// How the processor caches a VMO's memory, as `zx_cache_policy_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum CachePolicy {
    /// Cached: ordinary memory, which all VMOs here are.
    #[default]
    Cached = 0,
    /// Not cached.
    Uncached = 1,
    /// Device memory.
    UncachedDevice = 2,
    /// Writes are combined.
    WriteCombining = 3,
}

impl TryFrom<u32> for CachePolicy {
    type Error = Status;

    /// The policy of a number; `INVALID_ARGS` if there is none.
    fn try_from(raw: u32) -> Result<CachePolicy, Status> {
        match raw {
            0 => Ok(CachePolicy::Cached),
            1 => Ok(CachePolicy::Uncached),
            2 => Ok(CachePolicy::UncachedDevice),
            3 => Ok(CachePolicy::WriteCombining),
            _ => Err(Status::INVALID_ARGS),
        }
    }
}

bitflags! {
    /// What kind of VMO it is and how it was found, as `ZX_INFO_VMO_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct VmoInfoFlags: u32 {
        /// Made of pages; clear for physical VMOs.
        const TYPE_PAGED = 1 << 0;
        /// Its size can be changed.
        const RESIZABLE = 1 << 1;
        /// It is a copy-on-write clone.
        const IS_COW_CLONE = 1 << 2;
        /// The record stands for a handle.
        const VIA_HANDLE = 1 << 3;
        /// The record stands for a mapping.
        const VIA_MAPPING = 1 << 4;
        /// A pager supplies its pages.
        const PAGER_BACKED = 1 << 5;
        /// Its memory is contiguous.
        const CONTIGUOUS = 1 << 6;
        /// Its content may be thrown away while it is not locked.
        const DISCARDABLE = 1 << 7;
        /// Made by `SNAPSHOT | NO_WRITE`.
        const IMMUTABLE = 1 << 8;
        /// The record stands for an IOBuffer's handle.
        const VIA_IOB_HANDLE = 1 << 9;
    }
}

/// What `ZX_INFO_VMO` says of a VMO, as `zx_info_vmo_t`.
///
/// *Populated* is content that the VMO can reach and that is not plain zero, *committed* is what of it is
/// in memory. *Private* counts pages that no other VMO can reach; *scaled* divides each page by the number
/// of VMOs that can, and *fractional* is what the division cut off, where 2^63 is one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VmoInfo {
    /// The VMO.
    pub koid: Koid,
    /// Its name.
    pub name: Name,
    /// Its size in bytes, whole pages.
    pub size_bytes: u64,
    /// The VMO that it was made from, if that one lives.
    pub parent_koid: Koid,
    /// Living direct children of all kinds.
    pub num_children: usize,
    /// Mappings of it.
    pub num_mappings: usize,
    /// Address spaces that it is mapped in.
    pub share_count: usize,
    /// Its kind.
    pub flags: VmoInfoFlags,
    /// Bytes of content in memory.
    pub committed_bytes: u64,
    /// The rights of the handle that was asked.
    pub handle_rights: Rights,
    /// How its memory is cached.
    pub cache_policy: CachePolicy,
    /// Bytes of bookkeeping.
    pub metadata_bytes: u64,
    /// How often memory was reclaimed unasked.
    pub committed_change_events: u64,
    /// Bytes of content.
    pub populated_bytes: u64,
    /// Committed bytes that only this VMO can reach.
    pub committed_private_bytes: u64,
    /// Populated bytes that only this VMO can reach.
    pub populated_private_bytes: u64,
    /// Committed bytes, each divided by its number of sharers.
    pub committed_scaled_bytes: u64,
    /// Populated bytes, each divided by its number of sharers.
    pub populated_scaled_bytes: u64,
    /// The fraction that `committed_scaled_bytes` lacks, in units of 2^-63 byte.
    pub committed_fractional_scaled_bytes: u64,
    /// The fraction that `populated_scaled_bytes` lacks, in units of 2^-63 byte.
    pub populated_fractional_scaled_bytes: u64,
}

/// What `ZX_INFO_VMAR` says of a VMAR, as `zx_info_vmar_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmarInfo {
    /// Its first address.
    pub base: usize,
    /// Its length in bytes.
    pub len: usize,
}

/// One record of a memory map, as `zx_info_maps_t`.
///
/// Records come in pre-order: a record at depth *d* is a child of the last one before it at *d* - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapsInfo {
    /// The VMO's name for a mapping; some text for the others.
    pub name: Name,
    /// The first address.
    pub base: usize,
    /// The length in bytes.
    pub size: usize,
    /// How deep in the tree.
    pub depth: usize,
    /// What is there.
    pub details: MapsDetails,
}

/// What a record of a memory map stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapsDetails {
    /// The address space of the process.
    Aspace,
    /// A VMAR.
    Vmar,
    /// A run of pages of a mapping with the same permissions.
    Mapping(MappingDetails),
}

/// What a record of a memory map says of a mapping, as `zx_info_maps_mapping_t`.
///
/// The byte counts mean for the range shown what those of the same names of [`VmoInfo`] mean for a VMO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MappingDetails {
    /// The present permissions: `PERM_` flags only.
    pub mmu_flags: VmarFlags,
    /// The VMO that is mapped.
    pub vmo_koid: Koid,
    /// Where in the VMO the record begins, in bytes.
    pub vmo_offset: u64,
    /// Bytes of content in memory.
    pub committed_bytes: usize,
    /// Bytes of content.
    pub populated_bytes: usize,
    /// Committed bytes that only this VMO can reach.
    pub committed_private_bytes: usize,
    /// Populated bytes that only this VMO can reach.
    pub populated_private_bytes: usize,
    /// Committed bytes, each divided by its number of sharers.
    pub committed_scaled_bytes: usize,
    /// Populated bytes, each divided by its number of sharers.
    pub populated_scaled_bytes: usize,
    /// The fraction that `committed_scaled_bytes` lacks, in units of 2^-63 byte.
    pub committed_fractional_scaled_bytes: u64,
    /// The fraction that `populated_scaled_bytes` lacks, in units of 2^-63 byte.
    pub populated_fractional_scaled_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut() {
        let long = "x".repeat(40);
        assert_eq!(Name::new_lossy(&long).as_bytes(), "x".repeat(31).as_bytes());
        assert_eq!(Name::new_lossy(&long).into_raw()[31], 0);
        assert_eq!(Name::new_lossy("a\0b").to_string(), "a");
        assert_eq!(Name::new(&long), Err(Status::INVALID_ARGS));
        assert_eq!(Name::new("a\0b"), Err(Status::INVALID_ARGS));
        assert_eq!(Name::new(&long[..31]), Ok(Name::new_lossy(&long)));
        assert!(Name::default().is_empty());
    }

    #[test]
    fn a_name_cut_inside_a_character_can_be_shown() {
        let name = Name::new_lossy(&"é".repeat(16));
        assert_eq!(name.as_bytes().len(), 31);
        assert!(name.to_string().ends_with('\u{fffd}'));
    }
}
