//! Helpers of the conformance tests: a VMAR of the test's own, VMOs whose pages can be told apart, and looks at memory that may fault.

use cowspace::{Handle, HandleBased, MapsDetails, Policy, Rights, Status, Vmar, VmarFlags, Vmo};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};

use crate::page;

/// Both ways to resolve faults. What a program sees must not depend on it.
pub const POLICIES: [Policy; 2] = [Policy::Traced, Policy::Native];

/// Everything that a VMAR can be allowed.
pub const ALL: VmarFlags = VmarFlags::CAN_MAP_READ
    .union(VmarFlags::CAN_MAP_WRITE)
    .union(VmarFlags::CAN_MAP_EXECUTE)
    .union(VmarFlags::CAN_MAP_SPECIFIC);

/// Why a call was refused.
///
/// # Panics
///
/// If it was not.
#[track_caller]
pub fn refused<T>(result: Result<T, Status>) -> Status {
    match result {
        Ok(_) => panic!("the call must be refused"),
        Err(status) => status,
    }
}

/// A handle value that nobody has: one that was closed.
///
/// # Panics
///
/// If no VMO can be made.
pub fn closed_handle() -> u32 {
    Vmo::create(0).expect("a VMO can be made").raw_handle()
}

/// A handle with these rights to the object of another.
///
/// # Panics
///
/// If the other lacks one of them, or `DUPLICATE`.
#[track_caller]
pub fn with_rights<H: HandleBased>(handle: &H, rights: Rights) -> H {
    handle
        .duplicate_handle(rights)
        .expect("a handle can be duplicated with fewer rights")
}

/// The rights of a handle.
///
/// # Panics
///
/// If it is none.
#[track_caller]
pub fn rights_of(handle: &impl HandleBased) -> Rights {
    handle
        .basic_info()
        .expect("the handle is one of this process")
        .rights
}

/// A handle to a VMO taken for one to a VMAR.
pub fn as_vmar(vmo: Vmo) -> Vmar {
    Vmar::from(Handle::from(vmo))
}

/// A handle to a VMAR taken for one to a VMO.
pub fn as_vmo(vmar: Vmar) -> Vmo {
    Vmo::from(Handle::from(vmar))
}

/// `pages` pages in bytes, as VMO calls want them.
pub fn bytes(pages: usize) -> u64 {
    (pages * page()) as u64
}

/// A VMO of so many pages. Page `i` begins with the byte `i + 1`.
///
/// # Panics
///
/// If it cannot be made.
pub fn numbered(pages: usize) -> Vmo {
    let vmo = Vmo::create(bytes(pages)).expect("a small VMO can be made");
    for page in 0..pages {
        put(&vmo, page, page as u8 + 1);
    }
    vmo
}

/// The first byte of a page of a VMO, by `vmo_read`.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn get(vmo: &Vmo, page: usize) -> u8 {
    let mut byte = [0xEE];
    vmo.read(&mut byte, bytes(page))
        .expect("a page inside can be read");
    byte[0]
}

/// Writes the first byte of a page of a VMO, by `vmo_write`.
///
/// # Panics
///
/// If it cannot be written.
#[track_caller]
pub fn put(vmo: &Vmo, page: usize, value: u8) {
    vmo.write(&[value], bytes(page))
        .expect("a page inside can be written");
}

/// The first bytes of the first pages of a VMO.
#[track_caller]
pub fn firsts(vmo: &Vmo, pages: usize) -> Vec<u8> {
    (0..pages).map(|page| get(vmo, page)).collect()
}

/// Whether a load from an address works. Where it does not, a thread that tries gets a signal.
///
/// # Panics
///
/// If the kernel does not let the process ask.
#[track_caller]
pub fn can_read(addr: usize) -> bool {
    let mut byte = [0];
    let remote = RemoteIoVec { base: addr, len: 1 };
    allowed(process_vm_readv(
        Pid::this(),
        &mut [IoSliceMut::new(&mut byte)],
        &[remote],
    ))
}

/// Whether a store to an address works. It stores the byte that is there, or 0 where there is none to be had.
///
/// # Panics
///
/// If the kernel does not let the process ask.
#[track_caller]
pub fn can_write(addr: usize) -> bool {
    let mut byte = [0];
    let remote = RemoteIoVec { base: addr, len: 1 };
    let _ = process_vm_readv(Pid::this(), &mut [IoSliceMut::new(&mut byte)], &[remote]);
    allowed(process_vm_writev(
        Pid::this(),
        &[IoSlice::new(&byte)],
        &[remote],
    ))
}

#[track_caller]
fn allowed(result: nix::Result<usize>) -> bool {
    match result {
        Ok(1) => true,
        Err(Errno::EFAULT) => false,
        other => panic!("asking the kernel for one byte of this process: {other:?}"),
    }
}

/// A record of the maps: its depth, first page, number of pages, and for a mapping its permissions and page of the VMO.
pub type ShortRecord = (usize, usize, usize, Option<(VmarFlags, u64)>);

/// A VMAR of a test's own, so that tests in one process do not see each other. It ends when it is dropped.
pub struct Region {
    /// With all rights.
    pub vmar: Vmar,
    /// Its first address.
    pub base: usize,
}

impl Region {
    /// One of so many pages, with nothing in it.
    ///
    /// # Panics
    ///
    /// If there is no room.
    pub fn new(pages: usize) -> Region {
        Region::with_flags(pages, ALL)
    }

    /// One made with these flags.
    ///
    /// # Panics
    ///
    /// If the flags are refused.
    pub fn with_flags(pages: usize, flags: VmarFlags) -> Region {
        Region::below(&Vmar::root_self(), pages, flags)
    }

    /// One in another VMAR.
    ///
    /// # Panics
    ///
    /// If the flags are refused.
    pub fn below(parent: &Vmar, pages: usize, flags: VmarFlags) -> Region {
        let (vmar, base) = parent
            .allocate(0, pages * page(), flags)
            .expect("there is room for a small VMAR");
        Region { vmar, base }
    }

    /// The address of a page.
    pub fn at(&self, page: usize) -> usize {
        self.base + page * crate::page()
    }

    /// Maps pages of a VMO at a page. Gives the address.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn map(&self, at: usize, vmo: &Vmo, first: usize, pages: usize, flags: VmarFlags) -> usize {
        self.try_map(at, vmo, first, pages, flags)
            .expect("a VMO can be mapped in a VMAR that allows it")
    }

    /// As [`Region::map`], with a policy.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn map_with(
        &self,
        at: usize,
        vmo: &Vmo,
        pages: usize,
        flags: VmarFlags,
        policy: Policy,
    ) -> usize {
        let flags = flags | VmarFlags::SPECIFIC;
        self.vmar
            .map_with_policy(at * page(), vmo, 0, pages * page(), flags, policy)
            .expect("a VMO can be mapped in a VMAR that allows it")
    }

    /// As [`Region::map`], where it may be refused. `SPECIFIC` unless the flags say `SPECIFIC_OVERWRITE`.
    ///
    /// # Errors
    ///
    /// Those of [`Vmar::map`].
    pub fn try_map(
        &self,
        at: usize,
        vmo: &Vmo,
        first: usize,
        pages: usize,
        mut flags: VmarFlags,
    ) -> Result<usize, Status> {
        flags.set(
            VmarFlags::SPECIFIC,
            !flags.contains(VmarFlags::SPECIFIC_OVERWRITE),
        );
        self.vmar
            .map(at * page(), vmo, bytes(first), pages * page(), flags)
    }

    /// Unmaps pages.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn unmap(&self, at: usize, pages: usize) {
        self.vmar
            .unmap(self.at(at), pages * page())
            .expect("pages of a live VMAR can be unmapped");
    }

    /// Changes the permissions of pages.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn protect(&self, at: usize, pages: usize, flags: VmarFlags) {
        self.vmar
            .protect(self.at(at), pages * page(), flags)
            .expect("mapped pages can have these permissions");
    }

    /// The maps in short.
    ///
    /// # Panics
    ///
    /// If the VMAR is destroyed.
    pub fn maps(&self) -> Vec<ShortRecord> {
        let records = self.vmar.maps().expect("a live VMAR has maps");
        let short = |record: &cowspace::MapsInfo| {
            let mapping = match record.details {
                MapsDetails::Mapping(details) => {
                    Some((details.mmu_flags, details.vmo_offset / page() as u64))
                }
                _ => None,
            };
            let first = (record.base - self.base) / page();
            (record.depth, first, record.size / page(), mapping)
        };
        records.iter().map(short).collect()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // A test may have destroyed it, or one above it.
        let _ = self.vmar.destroy();
    }
}
