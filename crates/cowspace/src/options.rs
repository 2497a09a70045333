use bitflags::bitflags;

use crate::{rights::Rights, status::Status};

bitflags! {
    /// Options of `Vmo::create_with_opts`, as `ZX_VMO_*`.
    ///
    /// Every bit can be represented, so that the call can answer `INVALID_ARGS`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct VmoOptions: u32 {
        /// The size can be changed, through handles with `Rights::RESIZE`.
        const RESIZABLE = 1 << 1;
        /// The content may be thrown away while the VMO is not locked.
        const DISCARDABLE = 1 << 2;
        /// For VMOs with a pager only; refused here.
        const TRAP_DIRTY = 1 << 3;
        /// As large as a VMO can be; the size given is the content size.
        const UNBOUNDED = 1 << 4;

        const _ = !0;
    }
}

bitflags! {
    /// Options of `Vmo::create_child` and `Vmar::create_vmo_child`, as `ZX_VMO_CHILD_*`.
    ///
    /// Every bit can be represented, so that the calls can answer `INVALID_ARGS`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct VmoChildOptions: u32 {
        /// A copy as of now.
        const SNAPSHOT = 1 << 0;
        /// The child can be resized.
        const RESIZABLE = 1 << 2;
        /// A view of a part of the parent's own pages.
        const SLICE = 1 << 3;
        /// Each page is copied no later than at its first write in the child.
        const SNAPSHOT_AT_LEAST_ON_WRITE = 1 << 4;
        /// The new handle lacks `Rights::WRITE`.
        const NO_WRITE = 1 << 5;
        /// A view of all of the parent, following its size.
        const REFERENCE = 1 << 6;
        /// A copy as of now of all that does not come from a pager.
        const SNAPSHOT_MODIFIED = 1 << 7;

        const _ = !0;
    }
}

bitflags! {
    /// Options of `Vmo::transfer_data`: there are none.
    ///
    /// Every bit can be represented, so that the call can answer `INVALID_ARGS`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct TransferDataOptions: u32 {
        const _ = !0;
    }
}

bitflags! {
    /// Options of the VMAR calls, as `zx_vm_option_t`.
    ///
    /// Every bit can be represented, so that the calls can answer `INVALID_ARGS`. Bits 24 to 31 are the
    /// logarithm of an alignment: see the `ALIGN_` constants, of which one can be or-ed in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct VmarFlags: u32 {
        /// map, protect: the range can be read.
        const PERM_READ = 1 << 0;
        /// map, protect: the range can be written. Needs `PERM_READ`.
        const PERM_WRITE = 1 << 1;
        /// map, protect: the range can be executed. Needs `PERM_READ`.
        const PERM_EXECUTE = 1 << 2;
        /// allocate: a hint to place the VMAR close to others.
        const COMPACT = 1 << 3;
        /// allocate, map: exactly at the offset given, where nothing may be yet.
        const SPECIFIC = 1 << 4;
        /// map: exactly at the offset given, in place of mappings that are there.
        const SPECIFIC_OVERWRITE = 1 << 5;
        /// allocate: the VMAR allows `SPECIFIC`, `SPECIFIC_OVERWRITE` and `OFFSET_IS_UPPER_LIMIT`.
        const CAN_MAP_SPECIFIC = 1 << 6;
        /// allocate: the VMAR can hold readable mappings.
        const CAN_MAP_READ = 1 << 7;
        /// allocate: the VMAR can hold writable mappings.
        const CAN_MAP_WRITE = 1 << 8;
        /// allocate: the VMAR can hold executable mappings.
        const CAN_MAP_EXECUTE = 1 << 9;
        /// map: make pages that the VMO has ready to be touched.
        const MAP_RANGE = 1 << 10;
        /// map: refuse a resizable VMO.
        const REQUIRE_NON_RESIZABLE = 1 << 11;
        /// map: touching the mapping may fault, for example because the VMO is discardable.
        const ALLOW_FAULTS = 1 << 12;
        /// allocate, map: the end lies at or below the offset given.
        const OFFSET_IS_UPPER_LIMIT = 1 << 13;
        /// map, protect: `PERM_READ` too where the machine cannot map execute-only; here always.
        const PERM_READ_IF_XOM_UNSUPPORTED = 1 << 14;
        /// map: pages wholly behind the VMO's stream size fault. Needs `ALLOW_FAULTS`.
        const FAULT_BEYOND_STREAM_SIZE = 1 << 15;
        /// allocate, map: nothing here can be cloned by `create_vmo_child` (RFC-0013; the number is
        /// this project's). Holds for everything below a VMAR.
        const CANNOT_CREATE_VMO_CHILD = 1 << 17;

        const _ = !0;
    }
}

/// Where the alignment begins in [`VmarFlags`].
const ALIGN_SHIFT: u32 = 24;
/// The smallest and the largest alignment that have a name, as logarithms: 1 KiB and 4 GiB.
const ALIGN_LOGS: std::ops::RangeInclusive<u32> = 10..=32;

macro_rules! alignments {
    ($($name:ident = $log:literal, $text:literal;)*) => {
        impl VmarFlags {
            $(
                #[doc = concat!("allocate, map: the address is a multiple of ", $text, ".")]
                pub const $name: VmarFlags = VmarFlags::from_bits_retain($log << ALIGN_SHIFT);
            )*
        }
    };
}

alignments! {
    ALIGN_1KB = 10, "1 KiB";
    ALIGN_2KB = 11, "2 KiB";
    ALIGN_4KB = 12, "4 KiB";
    ALIGN_8KB = 13, "8 KiB";
    ALIGN_16KB = 14, "16 KiB";
    ALIGN_32KB = 15, "32 KiB";
    ALIGN_64KB = 16, "64 KiB";
    ALIGN_128KB = 17, "128 KiB";
    ALIGN_256KB = 18, "256 KiB";
    ALIGN_512KB = 19, "512 KiB";
    ALIGN_1MB = 20, "1 MiB";
    ALIGN_2MB = 21, "2 MiB";
    ALIGN_4MB = 22, "4 MiB";
    ALIGN_8MB = 23, "8 MiB";
    ALIGN_16MB = 24, "16 MiB";
    ALIGN_32MB = 25, "32 MiB";
    ALIGN_64MB = 26, "64 MiB";
    ALIGN_128MB = 27, "128 MiB";
    ALIGN_256MB = 28, "256 MiB";
    ALIGN_512MB = 29, "512 MiB";
    ALIGN_1GB = 30, "1 GiB";
    ALIGN_2GB = 31, "2 GiB";
    ALIGN_4GB = 32, "4 GiB";
}

bitflags! {
    /// Permissions to touch memory: those of a mapping, the greatest of a mapping, or those that a VMAR
    /// can map.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub(crate) struct Perms: u8 {
        const READ = 1 << 0;
        const WRITE = 1 << 1;
        const EXECUTE = 1 << 2;
    }
}

impl Perms {
    /// Those of the three that a handle's rights name.
    pub(crate) fn from_rights(rights: Rights) -> Perms {
        let mut perms = Perms::empty();
        perms.set(Perms::READ, rights.contains(Rights::READ));
        perms.set(Perms::WRITE, rights.contains(Rights::WRITE));
        perms.set(Perms::EXECUTE, rights.contains(Rights::EXECUTE));
        perms
    }

    /// The rights of the same names.
    pub(crate) fn rights(self) -> Rights {
        let mut rights = Rights::NONE;
        rights.set(Rights::READ, self.contains(Perms::READ));
        rights.set(Rights::WRITE, self.contains(Perms::WRITE));
        rights.set(Rights::EXECUTE, self.contains(Perms::EXECUTE));
        rights
    }

    /// The `PERM_` flags, as object info shows them.
    pub(crate) fn flags(self) -> VmarFlags {
        let mut flags = VmarFlags::empty();
        flags.set(VmarFlags::PERM_READ, self.contains(Perms::READ));
        flags.set(VmarFlags::PERM_WRITE, self.contains(Perms::WRITE));
        flags.set(VmarFlags::PERM_EXECUTE, self.contains(Perms::EXECUTE));
        flags
    }

    /// Writing or executing without reading, which no call allows.
    fn lack_read(self) -> bool {
        !self.is_empty() && !self.contains(Perms::READ)
    }
}

impl VmarFlags {
    const ALIGNMENT: VmarFlags = VmarFlags::from_bits_retain(0xff << ALIGN_SHIFT);

    const CAN_MAP_PERMS: VmarFlags = VmarFlags::CAN_MAP_READ
        .union(VmarFlags::CAN_MAP_WRITE)
        .union(VmarFlags::CAN_MAP_EXECUTE);

    const OF_PROTECT: VmarFlags = VmarFlags::PERM_READ
        .union(VmarFlags::PERM_WRITE)
        .union(VmarFlags::PERM_EXECUTE)
        .union(VmarFlags::PERM_READ_IF_XOM_UNSUPPORTED);

    const OF_PLACEMENT: VmarFlags = VmarFlags::SPECIFIC
        .union(VmarFlags::OFFSET_IS_UPPER_LIMIT)
        .union(VmarFlags::CANNOT_CREATE_VMO_CHILD)
        .union(VmarFlags::ALIGNMENT);

    const OF_ALLOCATE: VmarFlags = VmarFlags::OF_PLACEMENT
        .union(VmarFlags::CAN_MAP_PERMS)
        .union(VmarFlags::CAN_MAP_SPECIFIC)
        .union(VmarFlags::COMPACT);

    const OF_MAP: VmarFlags = VmarFlags::OF_PLACEMENT
        .union(VmarFlags::OF_PROTECT)
        .union(VmarFlags::SPECIFIC_OVERWRITE)
        .union(VmarFlags::MAP_RANGE)
        .union(VmarFlags::REQUIRE_NON_RESIZABLE)
        .union(VmarFlags::ALLOW_FAULTS)
        .union(VmarFlags::FAULT_BEYOND_STREAM_SIZE);

    /// The permissions that map and protect are asked for. No machine that Linux runs on is asked to map
    /// execute-only, so `PERM_READ_IF_XOM_UNSUPPORTED` is `PERM_READ`.
    pub(crate) fn perms(self) -> Perms {
        let read = VmarFlags::PERM_READ | VmarFlags::PERM_READ_IF_XOM_UNSUPPORTED;
        let mut perms = Perms::empty();
        perms.set(Perms::READ, self.intersects(read));
        perms.set(Perms::WRITE, self.contains(VmarFlags::PERM_WRITE));
        perms.set(Perms::EXECUTE, self.contains(VmarFlags::PERM_EXECUTE));
        perms
    }

    /// The permissions that a VMAR made with these flags can map. Its handle has the rights of the same
    /// names, and the parent's handle needs them.
    pub(crate) fn can_map(self) -> Perms {
        let mut perms = Perms::empty();
        perms.set(Perms::READ, self.contains(VmarFlags::CAN_MAP_READ));
        perms.set(Perms::WRITE, self.contains(VmarFlags::CAN_MAP_WRITE));
        perms.set(Perms::EXECUTE, self.contains(VmarFlags::CAN_MAP_EXECUTE));
        perms
    }

    /// The alignment asked for in bytes, 1 if none; a number without a name is `INVALID_ARGS`.
    pub(crate) fn alignment(self) -> Result<usize, Status> {
        match self.bits() >> ALIGN_SHIFT {
            0 => Ok(1),
            log if ALIGN_LOGS.contains(&log) => 1usize.checked_shl(log).ok_or(Status::INVALID_ARGS),
            _ => Err(Status::INVALID_ARGS),
        }
    }

    /// The options that allocate knows: `INVALID_ARGS` for any other.
    pub(crate) fn check_allocate(self) -> Result<(), Status> {
        if !VmarFlags::OF_ALLOCATE.contains(self) {
            return Err(Status::INVALID_ARGS);
        }
        self.alignment().map(drop)
    }

    /// What map says of its options before it looks at the rights for the permissions (spec, steps 3
    /// and 4).
    pub(crate) fn check_map_perms(self) -> Result<(), Status> {
        let overwritten = VmarFlags::MAP_RANGE | VmarFlags::SPECIFIC_OVERWRITE;
        if self.perms().lack_read()
            || self.contains(overwritten)
            || self.intersects(VmarFlags::CAN_MAP_PERMS)
        {
            return Err(Status::INVALID_ARGS);
        }
        Ok(())
    }

    /// What map says of its options after the rights and before it looks at the kind of VMO (step 6).
    pub(crate) fn check_map(self) -> Result<(), Status> {
        let refused_later = VmarFlags::COMPACT | VmarFlags::CAN_MAP_SPECIFIC;
        if self.contains(VmarFlags::FAULT_BEYOND_STREAM_SIZE)
            && !self.contains(VmarFlags::ALLOW_FAULTS)
            || !VmarFlags::OF_MAP.union(refused_later).contains(self)
        {
            return Err(Status::INVALID_ARGS);
        }
        self.alignment().map(drop)
    }

    /// What map says of its options after the kind of VMO (step 9).
    pub(crate) fn check_map_placement(self) -> Result<(), Status> {
        if self.intersects(VmarFlags::COMPACT | VmarFlags::CAN_MAP_SPECIFIC) {
            return Err(Status::INVALID_ARGS);
        }
        Ok(())
    }

    /// What protect says of its options, after the rights.
    pub(crate) fn check_protect(self) -> Result<(), Status> {
        if self.perms().lack_read() || !VmarFlags::OF_PROTECT.contains(self) {
            return Err(Status::INVALID_ARGS);
        }
        Ok(())
    }
}

/// An operation of `Vmo::op_range`, as `ZX_VMO_OP_*`. An unknown number is a value too; the call answers
/// `INVALID_ARGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct VmoOp(u32);

impl VmoOp {
    /// Give each page of the range memory of its own.
    pub const COMMIT: VmoOp = VmoOp(1);
    /// Give the pages back; they read as zero.
    pub const DECOMMIT: VmoOp = VmoOp(2);
    /// Lock a discardable VMO, whether or not it was discarded.
    pub const LOCK: VmoOp = VmoOp(3);
    /// Take one lock away.
    pub const UNLOCK: VmoOp = VmoOp(4);
    /// Make instruction and data caches agree.
    pub const CACHE_SYNC: VmoOp = VmoOp(6);
    /// Drop cached data.
    pub const CACHE_INVALIDATE: VmoOp = VmoOp(7);
    /// Write cached data to memory.
    pub const CACHE_CLEAN: VmoOp = VmoOp(8);
    /// Write cached data to memory and drop it.
    pub const CACHE_CLEAN_INVALIDATE: VmoOp = VmoOp(9);
    /// Make the bytes of the range zero.
    pub const ZERO: VmoOp = VmoOp(10);
    /// Lock a discardable VMO if it was not discarded.
    pub const TRY_LOCK: VmoOp = VmoOp(11);
    /// A hint that the range is not needed soon.
    pub const DONT_NEED: VmoOp = VmoOp(12);
    /// A hint that the range should stay in memory.
    pub const ALWAYS_NEED: VmoOp = VmoOp(13);
    /// Make the range quick to read.
    pub const PREFETCH: VmoOp = VmoOp(14);

    /// The operation of a number; every number is one.
    pub const fn from_raw(raw: u32) -> VmoOp {
        VmoOp(raw)
    }

    /// The number, as C programs give it.
    pub const fn into_raw(self) -> u32 {
        self.0
    }
}

/// An operation of `Vmar::op_range`, as `ZX_VMAR_OP_*`. An unknown number is a value too; the call answers
/// `INVALID_ARGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct VmarOp(u32);

impl VmarOp {
    /// Give each page of the range memory of its own in its VMO.
    pub const COMMIT: VmarOp = VmarOp(1);
    /// Give the pages back; they read as zero.
    pub const DECOMMIT: VmarOp = VmarOp(2);
    /// Make pages that the VMOs have ready to be touched.
    pub const MAP_RANGE: VmarOp = VmarOp(3);
    /// Make the bytes of the range zero.
    pub const ZERO: VmarOp = VmarOp(10);
    /// A hint that the range is not needed soon.
    pub const DONT_NEED: VmarOp = VmarOp(12);
    /// A hint that the range should stay in memory.
    pub const ALWAYS_NEED: VmarOp = VmarOp(13);
    /// Make the range quick to read.
    pub const PREFETCH: VmarOp = VmarOp(14);

    /// The operation of a number; every number is one.
    pub const fn from_raw(raw: u32) -> VmarOp {
        VmarOp(raw)
    }

    /// The number, as C programs give it.
    pub const fn into_raw(self) -> u32 {
        self.0
    }
}

/// Who resolves the faults of a mapping. Both give the same bytes always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The fault handler: each first touch and first write is seen, resolved and timed. Needs
    /// userfaultfd; without it the mapping is native.
    Traced,
    /// The kernel alone.
    Native,
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVALID: Result<(), Status> = Err(Status::INVALID_ARGS);

    #[test]
    fn alignment_numbers() {
        for raw in 0..=255u32 {
            let expected = match raw {
                0 => Ok(1),
                10..=32 => Ok(1 << raw),
                _ => Err(Status::INVALID_ARGS),
            };
            let flags = VmarFlags::from_bits_retain(raw << 24);
            assert_eq!(flags.alignment(), expected, "{raw}");
        }
        assert_eq!(VmarFlags::ALIGN_1KB.bits(), 10 << 24);
        assert_eq!(VmarFlags::ALIGN_2MB.alignment(), Ok(2 << 20));
        assert_eq!(VmarFlags::ALIGN_4GB.alignment(), Ok(4 << 30));
    }

    /// For each bit of the 24 below the alignment: which call knows it.
    #[test]
    fn bits_of_each_call() {
        for bit in 0..24 {
            let flags = VmarFlags::from_bits_retain(1 << bit);
            let allocate = matches!(bit, 3 | 4 | 6..=9 | 13 | 17);
            assert_eq!(flags.check_allocate().is_ok(), allocate, "allocate {bit}");
            let protect = matches!(bit, 0 | 14);
            assert_eq!(flags.check_protect().is_ok(), protect, "protect {bit}");
            let with_read = flags | VmarFlags::PERM_READ | VmarFlags::ALLOW_FAULTS;
            let map = with_read
                .check_map_perms()
                .and_then(|()| with_read.check_map())
                .and_then(|()| with_read.check_map_placement());
            let known = matches!(bit, 0..=2 | 4 | 5 | 10..=15 | 17);
            assert_eq!(map.is_ok(), known, "map {bit}");
        }
    }

    #[test]
    fn combinations() {
        let (read, write) = (VmarFlags::PERM_READ, VmarFlags::PERM_WRITE);
        assert_eq!(write.check_map_perms(), INVALID);
        assert_eq!(VmarFlags::PERM_EXECUTE.check_protect(), INVALID);
        let xom = VmarFlags::PERM_EXECUTE | VmarFlags::PERM_READ_IF_XOM_UNSUPPORTED;
        assert_eq!(xom.check_map_perms(), Ok(()));
        assert_eq!(xom.perms(), Perms::READ | Perms::EXECUTE);
        let overwrite = VmarFlags::MAP_RANGE | VmarFlags::SPECIFIC_OVERWRITE;
        assert_eq!((read | overwrite).check_map_perms(), INVALID);
        assert_eq!(VmarFlags::FAULT_BEYOND_STREAM_SIZE.check_map(), INVALID);
        assert_eq!(VmarFlags::empty().check_protect(), Ok(()));
        assert_eq!((read | VmarFlags::ALIGN_4KB).check_protect(), INVALID);
        assert_eq!(VmarFlags::from_bits_retain(9 << 24).check_map(), INVALID);
        assert_eq!(
            VmarFlags::from_bits_retain(33 << 24).check_allocate(),
            INVALID
        );
    }

    #[test]
    fn perms_flags_and_rights_agree() {
        for bits in 0..8u8 {
            let perms = Perms::from_bits_retain(bits);
            assert_eq!(perms.flags().perms(), perms);
            assert_eq!(perms.flags().bits(), u32::from(bits));
            assert_eq!(Perms::from_rights(perms.rights()), perms);
            let can_map = VmarFlags::from_bits_retain(u32::from(bits) << 7);
            assert_eq!(can_map.can_map(), perms);
        }
    }
}
