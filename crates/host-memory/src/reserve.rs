//! Ranges of addresses of our own, and everything that is mapped into them.
//!
//! ```text
//!      Reservation::new(len)          map(at, source, prot)            release(at)
//!   free addresses ──► PROT_NONE, no memory ──► memory there ──► PROT_NONE, no memory
//!                              ▲                     ▲
//!                              └── install(prepared) ┘  one step, whatever was there
//! ```
//!
//! **Invariant**: from `new` until the last owner of the span is dropped every address of the range is mapped by this module, with something or with PROT_NONE; so the kernel
//! never gives one of them to somebody else. Every change is one `mmap(MAP_FIXED)` or one `mremap(MREMAP_FIXED)`, which replaces what is there in one step: no
//! other thread finds a hole, and none can map into it.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use nix::errno::Errno;
use nix::libc::{self, c_void};
use nix::sys::mman::{
    MRemapFlags, MapFlags, MmapAdvise, MsFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect,
    mremap, msync, munlock, munmap,
};

use crate::memfd::{self, Layer, MemFd};
use crate::page::{HostRange, Prot, page_size};
use crate::probe::Disabled;

/// Every live reservation, for [`find`].
static RESERVATIONS: RwLock<Vec<Weak<Span>>> = RwLock::new(Vec::new());

/// A range of addresses that belongs to the holder, from one `mmap(PROT_NONE, MAP_NORESERVE)`.
///
/// Nobody else's object lies in it, so its methods are safe to call. They refuse ranges that are not inside with `InvalidInput`, do nothing for empty ones, and
/// allocate nothing unless they say so. Dropping it frees the memory at once; the addresses go back to the system when no
/// [`Volatile`](crate::access::Volatile) is left either.
#[derive(Debug)]
pub struct Reservation {
    span: Arc<Span>,
}

/// The addresses of a reservation, unmapped when the last owner is gone.
#[derive(Debug)]
pub(crate) struct Span {
    range: HostRange,
}

/// What is mapped. Offsets are bytes, multiples of the page size. Where the mapping reaches over the file's end, an access gets SIGBUS.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The memfd's own pages: stores are seen by every other mapping of it, and in the file (`MAP_SHARED`).
    Shared(&'a MemFd, u64),
    /// The layer's pages until a store makes a private copy of one (`MAP_PRIVATE`). Reading a hole makes it a page of zeros in the file.
    Private(&'a Layer, u64),
    /// The same over a memfd that is still to be sealed: while it is not, what others write to its pages shows in those that are not private yet.
    ///
    /// Over a live [`Source::Shared`] mapping of the same pages this is atomic to running writers: what a thread stored before is in the file, what it stores
    /// after is private, nothing is lost.
    PrivateUnsealed(&'a MemFd, u64),
    /// Zeros, private memory (`MAP_PRIVATE | MAP_ANONYMOUS`).
    Anonymous,
}

/// Memory mapped aside, outside of its reservation: to be moved into it in one step, see [`Reservation::prepare`], or to be unmapped at leisure, see [`Reservation::set_aside`].
#[derive(Debug)]
pub struct Prepared {
    range: HostRange,
}

/// Why a prepared mapping is not in its place.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// What was there is still there.
    #[error("{0}")]
    Refused(io::Error),
    /// What was there is gone, and the addresses are reserved again.
    #[error("{0}, and what was there is unmapped")]
    Lost(io::Error),
}

/// Somebody who may say what happens to a range of addresses, because nobody else's object can lie there. Implemented by [`Reservation`] and [`Prepared`] alone.
pub trait OwnedMemory: sealed::Sealed {
    /// Whether all of `range` belongs to this owner.
    fn owns(&self, range: HostRange) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Reservation {}
    impl Sealed for super::Prepared {}
}

impl OwnedMemory for Reservation {
    fn owns(&self, range: HostRange) -> bool {
        self.range().contains_range(range)
    }
}

impl OwnedMemory for Prepared {
    fn owns(&self, range: HostRange) -> bool {
        self.range.contains_range(range)
    }
}

impl Reservation {
    /// Reserves `len` bytes (a multiple of the page size, not 0) at an address that the kernel chooses. Costs no memory and is not charged (`MAP_NORESERVE`).
    /// Allocates.
    pub fn new(len: usize) -> io::Result<Reservation> {
        let start = map_aside(len, None, ProtFlags::PROT_NONE)?;
        let span = Arc::new(Span { range: start });
        let mut all = RESERVATIONS.write().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::downgrade(&span));
        Ok(Reservation { span })
    }

    /// The reserved addresses.
    #[must_use]
    pub fn range(&self) -> HostRange {
        self.span.range
    }

    /// Maps `source` at `at`, over whatever was there, in one step. The mapping is not charged against the system's memory (`MAP_NORESERVE`), and not registered with any userfaultfd.
    ///
    /// `ENOMEM`: the process has too many mappings (`vm.max_map_count`); what was there is still there.
    pub fn map(&self, at: HostRange, source: Source<'_>, prot: Prot) -> io::Result<()> {
        self.map_fixed(at, Some(source), prot.to_nix())
    }

    /// Back to reserved addresses without memory, in one step.
    pub fn release(&self, at: HostRange) -> io::Result<()> {
        self.map_fixed(at, None, ProtFlags::PROT_NONE)
    }

    /// Changes the protection (`mprotect(2)`). An error may leave a part changed.
    pub fn protect(&self, at: HostRange, prot: Prot) -> io::Result<()> {
        let Some((start, len)) = self.part(at)? else {
            return Ok(());
        };
        // SAFETY: 1. the range lies in the reservation, where no Rust object lies. 2. Threads that use the memory through raw pointers may get SIGSEGV, nothing else.
        unsafe { mprotect(start, len.get(), prot.to_nix()) }.map_err(io::Error::from)
    }

    /// Frees private pages: the file's pages, or zeros, show again at the next access. Shared pages stay as they are in their file (`MADV_DONTNEED`).
    ///
    /// A page write-protected by a userfaultfd leaves a marker, so that it still is: [`Pagemap`](crate::pagemap::Pagemap) then takes it for a swapped page, until the protection is taken off.
    pub fn discard(&self, at: HostRange) -> io::Result<()> {
        self.advise(at, MmapAdvise::MADV_DONTNEED)
    }

    /// Takes back that the pages stay in memory, which `mlockall(2)` of the program may have asked for, and for which [`Reservation::discard`] answers `EINVAL`.
    pub fn unlock(&self, at: HostRange) -> io::Result<()> {
        let Some((start, len)) = self.part(at)? else {
            return Ok(());
        };
        // SAFETY: 1. the range lies in the reservation, where no Rust object lies. 2. munlock(2) changes no byte.
        unsafe { munlock(start, len.get()) }.map_err(io::Error::from)
    }

    /// Makes every page present for reading, as reads would, without giving any page a private copy (`MADV_POPULATE_READ`, Linux 5.14; kernels without it do nothing, and that is fine).
    ///
    /// `EFAULT`: some page cannot be read (over the end of the file, poisoned, no memory). Faults in a range that is registered with a userfaultfd wait for its handler.
    pub fn populate_read(&self, at: HostRange) -> io::Result<()> {
        match self.advise(at, MmapAdvise::MADV_POPULATE_READ) {
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(()),
            other => other,
        }
    }

    /// Gives every page that is private or the file's memory that can be written, as stores would, without changing a byte: sharing is broken (`MADV_POPULATE_WRITE`, Linux 5.14).
    ///
    /// `EINVAL`: the range is not writable, or the kernel is older. `EFAULT`: no memory, over the end of a file. Faults in a range that is registered with a
    /// userfaultfd wait for its handler.
    pub fn populate_write(&self, at: HostRange) -> io::Result<()> {
        self.advise(at, MmapAdvise::MADV_POPULATE_WRITE)
    }

    /// Maps `len` bytes of `source` outside of the reservation, where nobody knows them, to be installed later. Until then a userfaultfd can be registered for them.
    pub fn prepare(&self, len: usize, source: Source<'_>, prot: Prot) -> io::Result<Prepared> {
        Ok(Prepared {
            range: map_aside(len, Some(source), prot.to_nix())?,
        })
    }

    /// Moves `prepared` over `at` (of the same length), in one step for every other thread: it finds either all that was there before or all of `prepared`
    /// (`mremap(2)` with `MREMAP_FIXED`).
    ///
    /// The registration with a userfaultfd moves along if that has `UFFD_FEATURE_EVENT_REMAP`; then this call **waits until the event has been read**: hold no lock that the
    /// reader wants. Without the feature the registration is lost.
    ///
    /// The kernel refuses with `ENOMEM` already when the process is some mappings short of `vm.max_map_count`.
    pub fn install(&self, prepared: Prepared, at: HostRange) -> Result<(), InstallError> {
        let invalid = || InstallError::Refused(io::ErrorKind::InvalidInput.into());
        if prepared.range.len() != at.len() {
            return Err(invalid());
        }
        let Some((target, len)) = self.part(at).map_err(InstallError::Refused)? else {
            return Ok(());
        };
        let source = pointer(prepared.range.start()).ok_or_else(invalid)?;
        let flags = MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED;
        // SAFETY: 1. the source is `prepared`, mapped by us and known to nobody. 2. The target lies in the reservation, where no Rust object lies; threads that
        // use it through raw pointers see one or the other content.
        let moved = unsafe { mremap(source, len.get(), len.get(), flags, Some(target)) };
        if let Err(errno) = moved {
            if is_mapped(target, len) {
                return Err(InstallError::Refused(errno.into()));
            }
            self.close_hole(target, len);
            return Err(InstallError::Lost(errno.into()));
        }
        // Nothing is left at the old place to unmap.
        std::mem::forget(prepared);
        Ok(())
    }

    /// Moves the page tables of a [`Source::Shared`] mapping out of the reservation, in one step for every other thread, and leaves the mapping itself, empty: whoever uses it
    /// faults, and finds the same pages of the file. `at` is one mapping of the kernel's, and not registered with a userfaultfd.
    ///
    /// What replaces the mapping then has no pages to unmap (40 ms for 1 GiB, while all threads that fault or map wait). Dropping what is returned does that, and
    /// threads go on meanwhile; until then the file counts as mapped for writing.
    ///
    /// `EINVAL`: the kernel cannot (before Linux 5.13, `MREMAP_DONTUNMAP` is for anonymous memory). `ENOMEM`: too many mappings, or no room. Then nothing has changed.
    pub fn set_aside(&self, at: HostRange) -> io::Result<Prepared> {
        if Disabled::get().contains(Disabled::DONTUNMAP) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let Some((live, len)) = self.part(at)? else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
        // Without MREMAP_FIXED, which would unmap the target first: if the place is somebody else's by now, the kernel takes another one. Not by `mremap(3)`: that
        // hands a place on with MREMAP_FIXED alone.
        // SAFETY: 1. the mapping lies in the reservation, where no Rust object lies, and stays; of the file it shows the same bytes as before. 2. The target is
        // free addresses that the kernel chooses.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_mremap,
                live.as_ptr(),
                len.get(),
                len.get(),
                flags,
                congruent_place(at),
            )
        };
        let start = usize::try_from(Errno::result(moved)?).map_err(io::Error::other)?;
        let range = HostRange::new(start, at.len()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Prepared { range })
    }

    /// `mremap` unmaps its target before the last things that can fail. Reserves it again if it did, unless another thread of the process was given it meanwhile:
    /// hence MAP_FIXED_NOREPLACE, which fails where anything is mapped.
    fn close_hole(&self, target: NonNull<c_void>, len: NonZeroUsize) {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: with MAP_FIXED_NOREPLACE (Linux 4.17) this replaces nobody's mapping.
        let _ = unsafe { mmap_anonymous(Some(target.addr()), len, ProtFlags::PROT_NONE, flags) };
    }

    fn map_fixed(
        &self,
        at: HostRange,
        source: Option<Source<'_>>,
        prot: ProtFlags,
    ) -> io::Result<()> {
        let Some((start, len)) = self.part(at)? else {
            return Ok(());
        };
        // SAFETY: 1. the range lies in the reservation: what is replaced is ours, and no Rust object lies in it. 2. Threads that use the memory through raw pointers see
        // one or the other content, or get SIGSEGV or SIGBUS.
        unsafe { map_at(Some(start.addr()), len, source, prot, MapFlags::MAP_FIXED) }.map(drop)
    }

    fn advise(&self, at: HostRange, advice: MmapAdvise) -> io::Result<()> {
        let Some((start, len)) = self.part(at)? else {
            return Ok(());
        };
        loop {
            // SAFETY: 1. the range lies in the reservation, where no Rust object lies. 2. Of the advices used here MADV_DONTNEED changes bytes, which
            // those who use the memory through raw pointers were told; MADV_POPULATE_READ and MADV_POPULATE_WRITE change none.
            match unsafe { madvise(start, len.get(), advice) } {
                Err(Errno::EINTR) => {}
                other => return other.map_err(io::Error::from),
            }
        }
    }

    /// The start and length of a part of the reservation; `None` if it is empty.
    fn part(&self, at: HostRange) -> io::Result<Option<(NonNull<c_void>, NonZeroUsize)>> {
        if !self.owns(at) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(pointer(at.start()).zip(NonZeroUsize::new(at.len())))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut all = RESERVATIONS.write().unwrap_or_else(PoisonError::into_inner);
        let mine = Arc::as_ptr(&self.span);
        all.retain(|span| span.as_ptr() != mine);
        drop(all);
        // If it fails the memory stays until the span goes.
        let _ = self.release(self.range());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        unmap(self.range);
    }
}

impl Prepared {
    /// Where the memory lies until it is installed.
    #[must_use]
    pub fn range(&self) -> HostRange {
        self.range
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        unmap(self.range);
    }
}

/// The span of the live reservation that `len` bytes from `addr` lie in. Holding it keeps the addresses from being given to anybody else.
pub(crate) fn find(addr: usize, len: usize) -> Option<Arc<Span>> {
    let all = RESERVATIONS.read().unwrap_or_else(PoisonError::into_inner);
    all.iter()
        .filter_map(Weak::upgrade)
        .find(|span| span.range.contains_bytes(addr, len))
}

/// Keeps the addresses of the live reservation that holds `range` from ever being given to anybody else in this process, also when it is dropped. `false` if there is none.
pub(crate) fn pin(range: HostRange) -> bool {
    find(range.start(), range.len())
        .map(std::mem::forget)
        .is_some()
}

/// Maps where the kernel finds room.
fn map_aside(len: usize, source: Option<Source<'_>>, prot: ProtFlags) -> io::Result<HostRange> {
    let aligned = len.is_multiple_of(page_size());
    let len = NonZeroUsize::new(len)
        .filter(|_| aligned)
        .ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: without MAP_FIXED the kernel chooses addresses that are nobody's.
    let start = unsafe { map_at(None, len, source, prot, MapFlags::empty()) }?;
    HostRange::new(start.as_ptr().expose_provenance(), len.get())
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A place for `at` that is free now, and lies so that whole page tables can be moved there: at the same offset from a multiple of what an entry of the table of
/// tables covers (2 MiB where pages have 4 KiB; 1 GiB for the table above). 0 if there is none: the kernel then finds a place where pages are moved one by one.
fn congruent_place(at: HostRange) -> usize {
    let entries = page_size() / size_of::<u64>();
    let table = page_size() * entries;
    let unit = if at.len() >= table * entries {
        table * entries
    } else {
        table
    };
    let Ok(room) = map_aside(at.len() + unit, None, ProtFlags::PROT_NONE) else {
        return 0;
    };
    let offset = at.start() % unit;
    let place = room.start() - room.start() % unit + offset;
    unmap(room);
    if place < room.start() {
        place + unit
    } else {
        place
    }
}

/// One `mmap`; without a source, reserved addresses.
///
/// # Safety
/// With MAP_FIXED no Rust object may lie in the `len` bytes from `addr`, and they must belong to the caller.
unsafe fn map_at(
    addr: Option<NonZeroUsize>,
    len: NonZeroUsize,
    source: Option<Source<'_>>,
    prot: ProtFlags,
    fixed: MapFlags,
) -> io::Result<NonNull<c_void>> {
    let flags = fixed | MapFlags::MAP_NORESERVE;
    let (fd, offset, flags): (BorrowedFd<'_>, u64, MapFlags) = match source {
        Some(Source::Shared(memfd, offset)) => {
            (memfd.as_fd(), offset, flags | MapFlags::MAP_SHARED)
        }
        Some(Source::Private(layer, offset)) => {
            (layer.as_fd(), offset, flags | MapFlags::MAP_PRIVATE)
        }
        Some(Source::PrivateUnsealed(memfd, offset)) => {
            (memfd.as_fd(), offset, flags | MapFlags::MAP_PRIVATE)
        }
        Some(Source::Anonymous) | None => {
            // SAFETY: the caller's promise.
            return unsafe { mmap_anonymous(addr, len, prot, flags | MapFlags::MAP_PRIVATE) }
                .map_err(io::Error::from);
        }
    };
    // SAFETY: the caller's promise.
    unsafe { mmap(addr, len, prot, flags, fd, memfd::to_off(offset)?) }.map_err(io::Error::from)
}

/// Whether all of a range is mapped, with something or reserved.
fn is_mapped(start: NonNull<c_void>, len: NonZeroUsize) -> bool {
    // SAFETY: with MS_ASYNC the call does nothing (msync(2)) but look for holes, which it answers with ENOMEM.
    unsafe { msync(start, len.get(), MsFlags::MS_ASYNC) }.is_ok()
}

/// For ranges mapped by this module, whose owner is being dropped.
fn unmap(range: HostRange) {
    if let Some(start) = pointer(range.start()) {
        // SAFETY: 1. the range is ours, from one of the calls above. 2. Its only owner is being dropped, so nobody has a right to it any more.
        // It can fail only where it would split a mapping and there are too many (ENOMEM); then the addresses stay reserved.
        let _ = unsafe { munmap(start, range.len()) };
    }
}

fn pointer(addr: usize) -> Option<NonNull<c_void>> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(addr))
}
