//! Memory files that can still be written: [`MemFd`]. Sealed, one becomes a [`Layer`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use memmap2::{Advice, MmapOptions};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek};

pub use crate::layer::{AdoptError, Layer, LayerPages};
use crate::page::page_size;

/// Against writing, growing, shrinking, and against more seals.
pub(crate) const IMMUTABLE: SealFlag = SealFlag::F_SEAL_WRITE
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_SEAL);

/// How much [`MemFd::allocate`] asks for in one call: a signal makes `fallocate` on tmpfs give back all that the interrupted call
/// allocated, so a long call under a profiler's timer would never end.
const ALLOCATE_STEP: u64 = 4 << 20;

/// A memfd of ours: writable, not sealed, closed on exec.
///
/// Offsets and lengths are bytes. Ranges that reach over the end are refused with `InvalidInput`; nothing but [`Self::set_len`]
/// changes the length. Methods may be called by several threads at once, each is one or more system calls and as atomic as
/// those. None allocates from the heap, except [`Self::create`].
#[derive(Debug)]
pub struct MemFd {
    file: File,
}

/// Why [`MemFd::seal`] failed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A shared mapping made from this descriptor still exists (a read-only one counts, too), or the kernel holds pages of the file
    /// for input and output (`EBUSY`, `F_ADD_SEALS` in `fcntl(2)`).
    #[error("the memory is still mapped for sharing, or in use by a device")]
    Busy,
    /// Anything else.
    #[error("cannot seal the memory: {0}")]
    Io(#[from] io::Error),
}

impl MemFd {
    /// A new memfd of `len` bytes, all of them holes. `name` is what `/proc/self/maps` shows (at most 249 bytes, no zero byte: `EINVAL`).
    ///
    /// Where the kernel knows `MFD_NOEXEC_SEAL` (6.3), the file cannot be executed by `execve(2)`; mapping it executable stays possible.
    pub fn create(name: &str, len: u64) -> io::Result<MemFd> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let not_executable = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
        let fd = match memfd_create(name, not_executable) {
            Err(Errno::EINVAL) => memfd_create(name, flags),
            other => other,
        }?;
        let file = File::from(fd);
        file.set_len(len)?;
        Ok(MemFd { file })
    }

    /// The length in bytes, asked from the kernel.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a length of 0 has no meaning of its own here"
    )]
    pub fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.size())
    }

    /// Makes the length `len` bytes. What is cut off is gone, also from mappings, the private pages of private mappings included
    /// (an access there gets SIGBUS); what is added is a hole.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// The descriptor. It can write: whoever gets it can change the bytes.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Reads all of `buf` from `offset`. Holes read as zeros and stay holes.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    /// Writes all of `buf` at `offset`. Holes it touches become pages, filled up with zeros.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check(offset, buf.len() as u64)?;
        self.file.write_all_at(buf, offset)
    }

    /// Makes `range` a hole: whole pages are given back to the system, parts of pages are zeroed. Shared mappings see zeros at once; private pages
    /// of private mappings stay as they are.
    pub fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.fallocate(flags, range.start, self.check_range(&range)?)
    }

    /// Gives every page that `range` touches memory: holes become pages of zeros, other pages stay as they are. On an error (`ENOSPC`: no memory) a part may have been done.
    pub fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if self.check_range(&range)? == 0 {
            return Ok(());
        }
        let page = page_size() as u64;
        let mut start = range.start - range.start % page;
        while start < range.end {
            let len = ALLOCATE_STEP.min(range.end - start);
            self.fallocate(FallocateFlags::FALLOC_FL_KEEP_SIZE, start, len)?;
            self.zero_allocated(start, len)?;
            start += len;
        }
        Ok(())
    }

    /// `fallocate` does not zero the pages it makes, and as long as nobody did they count as holes for SEEK_DATA. A read through a mapping does it, whoever else writes meanwhile.
    fn zero_allocated(&self, start: u64, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut options = MmapOptions::new();
        options.offset(start).len(len);
        // SAFETY: the bytes may change under the mapping, so none is looked at: only the kernel touches it, and it is gone at the end of this function.
        let mapping = unsafe { options.map(&self.file) }?;
        mapping.advise(Advice::PopulateRead)
    }

    /// Calls `f` with each run of pages that hold data, in ascending order, clipped to `range` (made whole pages), which may reach over the end.
    ///
    /// With other threads writing meanwhile a run is what was there when the kernel looked.
    pub fn data(&self, range: Range<u64>, f: impl FnMut(Range<u64>)) -> io::Result<()> {
        data(&self.file, range, f)
    }

    /// Whether the page at `offset` holds data (a page of zeros that somebody wrote does).
    pub fn is_present(&self, offset: u64) -> io::Result<bool> {
        let mut present = false;
        data(&self.file, offset..offset.saturating_add(1), |_| {
            present = true
        })?;
        Ok(present)
    }

    /// Makes the bytes immutable for ever, for everybody, whatever descriptor they have: seals against writing, growing, shrinking and
    /// more seals. Private mappings may exist, and may go on being written; shared ones may not ([`SealError::Busy`]: nothing has changed then).
    ///
    /// Waits up to half a second where the kernel sees pages in use by a device (`memfd_wait_for_pins`). It tells them by their references, of which it takes some itself for a moment
    /// (reclaim, migration, DAMON): so a refusal is only believed when it is repeated.
    pub fn seal(self) -> Result<Layer, (MemFd, SealError)> {
        let seal = || fcntl(&self.file, FcntlArg::F_ADD_SEALS(IMMUTABLE));
        let busy = |sealed: &nix::Result<_>| *sealed == Err(Errno::EBUSY);
        let mut sealed = seal();
        for _ in 0..2 {
            if busy(&sealed) {
                sealed = seal();
            }
        }
        match sealed {
            Ok(_) => Layer::from_sealed(self.file)
                .map_err(|(file, error)| (MemFd { file }, error.into())),
            Err(Errno::EBUSY) => Err((self, SealError::Busy)),
            Err(errno) => Err((self, SealError::Io(errno.into()))),
        }
    }

    /// The layer that [`Self::seal`] will make of this file, through a descriptor of its own. The caller promises that nothing writes to the file any more: if sealing fails
    /// all the same, the layer must be given up before the file is written again. One descriptor.
    pub fn unsealed_layer(&self) -> io::Result<Layer> {
        Layer::from_sealed(self.file.try_clone()?).map_err(|(_, error)| error)
    }

    /// Refuses what reaches over the end.
    pub(crate) fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn check_range(&self, range: &Range<u64>) -> io::Result<u64> {
        let len = range
            .end
            .checked_sub(range.start)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.check(range.start, len)?;
        Ok(len)
    }

    fn fallocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let (offset, len) = (to_off(offset)?, to_off(len)?);
        loop {
            match fallocate(&self.file, flags, offset, len) {
                Err(Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl From<MemFd> for OwnedFd {
    fn from(memfd: MemFd) -> OwnedFd {
        memfd.file.into()
    }
}

/// So many pages are asked for one by one rather than for the end of their run: the kernel looks at each page of a run
/// to find it (1 ms for 20,000), however few are wanted.
const ONE_BY_ONE: u64 = 256;

/// The runs of pages of `file` with data, by SEEK_DATA and SEEK_HOLE (`lseek(2)`). They move the file's position, which nobody here uses.
pub(crate) fn data(
    file: &File,
    range: Range<u64>,
    mut f: impl FnMut(Range<u64>),
) -> io::Result<()> {
    let page = page_size() as u64;
    let limit = range
        .end
        .checked_next_multiple_of(page)
        .unwrap_or(range.end);
    let mut at = range.start - range.start % page;
    while at < limit {
        let start = match lseek(file, to_off(at)?, Whence::SeekData) {
            Ok(start) => start.unsigned_abs(),
            // No data from here to the end, or the end is before.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        if start >= limit {
            break;
        }
        if limit - start <= ONE_BY_ONE * page {
            return data_one_by_one(file, start..limit, f);
        }
        let end = match lseek(file, to_off(start)?, Whence::SeekHole) {
            // The file's end counts as a hole and need not be page-aligned.
            Ok(end) => end.unsigned_abs().next_multiple_of(page),
            // It was cut off or punched meanwhile.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        // Punched between the two calls: no data there any more.
        let end = end.clamp(start, limit);
        if start < end {
            f(start..end);
        }
        at = end.max(at + page);
    }
    Ok(())
}

/// The same for few pages, of which the first has data.
fn data_one_by_one(
    file: &File,
    range: Range<u64>,
    mut f: impl FnMut(Range<u64>),
) -> io::Result<()> {
    let page = page_size() as u64;
    let mut run = range.start..range.start + page;
    while run.end < range.end {
        let next = match lseek(file, to_off(run.end)?, Whence::SeekData) {
            Ok(next) => next.unsigned_abs(),
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        if next >= range.end {
            break;
        }
        if next > run.end {
            f(run.clone());
            run.start = next;
        }
        run.end = next + page;
    }
    f(run);
    Ok(())
}

/// Whether whoever has this descriptor can change the file's bytes through a mapping: the kernel is asked for a shared writable one, which is given up at once.
pub fn maps_writable(fd: BorrowedFd<'_>) -> bool {
    let mut options = MmapOptions::new();
    options.len(page_size());
    // SAFETY: others may change the bytes and the length, so nobody looks at any: the mapping is gone at the end of this function.
    unsafe { options.map_mut(fd.as_raw_fd()) }.is_ok()
}

pub(crate) fn to_off(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}
