//! Memory files that nobody can change any more: [`Layer`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;

use memmap2::{Mmap, MmapOptions};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::memfd::{self, IMMUTABLE};
use crate::page::page_size;

/// A memfd whose bytes and length never change again: sealed against writing, growing and shrinking.
///
/// So it can be mapped and handed to other processes without asking anybody, and read without a lock. The descriptor may be one that
/// was opened for writing: the seals hold all the same.
#[derive(Debug)]
pub struct Layer {
    file: File,
    len: u64,
    id: (u64, u64),
    received: bool,
    /// All of the file, read-only; made when [`Self::page`] first asks. `None` inside: it cannot be mapped.
    alias: OnceLock<Option<Mmap>>,
}

/// Why [`Layer::adopt`] refused a descriptor.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The descriptor is not one of a memfd, or of one with huge pages only (hugetlbfs).
    #[error("the descriptor is not one of a memory file (memfd)")]
    NotMemFd,
    /// Somebody could still change it.
    #[error("the memory file is not sealed against writing, growing and shrinking")]
    NotSealed,
    /// The descriptor is open for writing only.
    #[error("the memory file's descriptor cannot read")]
    NotReadable,
    /// The kernel's answer when it was asked about the descriptor.
    #[error("cannot examine the memory file: {0}")]
    Io(#[from] io::Error),
}

impl Layer {
    /// Takes over a descriptor from somebody who is not trusted, after checking that it is a memfd (its files lie on tmpfs), sealed, and readable.
    ///
    /// Seals cannot be taken off, so what holds here holds for ever.
    pub fn adopt(fd: OwnedFd) -> Result<Layer, AdoptError> {
        let file = File::from(fd);
        if fstatfs(&file).map_err(io::Error::from)?.filesystem_type() != TMPFS_MAGIC {
            return Err(AdoptError::NotMemFd);
        }
        // EINVAL: another kind of file; EBADF: a path only (O_PATH).
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_err(|_| AdoptError::NotMemFd)?;
        let needed = IMMUTABLE.difference(SealFlag::F_SEAL_SEAL);
        if !SealFlag::from_bits_retain(seals).contains(needed) {
            return Err(AdoptError::NotSealed);
        }
        let mode = fcntl(&file, FcntlArg::F_GETFL).map_err(io::Error::from)?;
        if OFlag::from_bits_retain(mode) & OFlag::O_ACCMODE == OFlag::O_WRONLY {
            return Err(AdoptError::NotReadable);
        }
        let layer = Layer::from_sealed(file).map_err(|(_, error)| error)?;
        Ok(Layer {
            received: true,
            ..layer
        })
    }

    /// `file` is sealed, or will be before anybody writes to it. Gives it back if the kernel does not answer.
    pub(crate) fn from_sealed(file: File) -> Result<Layer, (File, io::Error)> {
        match file.metadata() {
            Ok(metadata) => Ok(Layer {
                len: metadata.size(),
                id: (metadata.dev(), metadata.ino()),
                file,
                received: false,
                alias: OnceLock::new(),
            }),
            Err(error) => Err((file, error)),
        }
    }

    /// The length in bytes. One that was adopted need not be a whole number of pages; the rest of the last page is zeros.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a length of 0 has no meaning of its own here"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The descriptor; whoever gets it can read, and change nothing.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Device and inode number: two layers with the same are the same file. Not unique any more when the last descriptor and mapping are gone.
    #[must_use]
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// Whether it came from somebody else ([`Self::adopt`]): then others have it as well, as a rule.
    #[must_use]
    pub fn is_received(&self) -> bool {
        self.received
    }

    /// Reads all of `buf` from `offset`. Holes read as zeros and stay holes. Allocates nothing.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    /// The same, but what lies behind the end reads as zeros.
    pub fn read_zeros_behind(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let len = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (there, behind) = buf.split_at_mut(len);
        behind.fill(0);
        self.read_at(there, offset)
    }

    /// Calls `f` with each run of pages that hold data, in ascending order, clipped to `range` (made whole pages). Allocates nothing.
    ///
    /// Whoever reads a hole through a mapping makes it a page of zeros (in a sealed file, too), so the answer may grow with time; the bytes do not change.
    pub fn data(&self, range: Range<u64>, f: impl FnMut(Range<u64>)) -> io::Result<()> {
        memfd::data(&self.file, range, f)
    }

    /// Where the page that holds `offset` can be read in this process: the address, in a read-only mapping of the whole layer, of the page's first byte. The mapping
    /// is made at the first call (which takes a lock meanwhile, and allocates), and lives as long as the layer.
    ///
    /// `None` if `offset` lies over the end, or where the layer cannot be mapped (no room for it, no `/proc`): then use [`Self::read_at`].
    /// Reading a hole there makes it a page of zeros in the file: ask only for pages known to hold data.
    /// A thread that must not allocate or wait (the fault handler) finds the mapping made if somebody asked once before.
    pub fn page(&self, offset: u64) -> Option<LayerPages<'_>> {
        self.pages(offset, 1)
    }

    /// The same for that page and those behind it, `count` in all or as many as the layer has.
    pub fn pages(&self, offset: u64, count: usize) -> Option<LayerPages<'_>> {
        if offset >= self.len || count == 0 {
            return None;
        }
        let alias = self.alias.get_or_init(|| self.map_alias()).as_ref()?;
        let size = page_size();
        let offset = usize::try_from(offset).ok()?;
        let start = offset - offset % size;
        // The rest of the last page is mapped, too.
        let left = (alias.len() - start).next_multiple_of(size);
        Some(LayerPages {
            first: alias.as_ptr().wrapping_add(start),
            len: count.saturating_mul(size).min(left),
            _layer: self,
        })
    }

    /// Through a descriptor that can only read: kernels before 6.7 refuse a shared mapping of a sealed file through one that could write.
    fn map_alias(&self) -> Option<Mmap> {
        let read_only = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd())).ok()?;
        let len = usize::try_from(self.len).ok()?;
        // SAFETY: the bytes of the mapping never change and its pages never end: 1. the file's seals allow no thread and no process to write or
        // truncate it, through whatever descriptor or mapping; 2. the mapping was made without the right to write, so mprotect and /proc/self/mem do not help
        // either (a file that is not sealed yet has no writer, see `MemFd::unsealed_layer`, and nobody looks at the bytes but the kernel, see `LayerPages`); 3. it is in
        // nobody's reservation, so nothing of ours maps over it, and it is unmapped only when the layer is dropped.
        unsafe { MmapOptions::new().len(len).map(&read_only) }.ok()
    }
}

/// Pages of a [`Layer`] in this process's memory, see [`Layer::pages`]: one at least.
#[derive(Clone, Copy, Debug)]
pub struct LayerPages<'a> {
    first: *const u8,
    len: usize,
    _layer: &'a Layer,
}

impl LayerPages<'_> {
    /// The address of the first byte; readable for [`Self::len`] bytes as long as the layer lives. A page whose memory the machine has lost gives SIGBUS, so
    /// let the kernel read it (`UFFDIO_COPY`, `write(2)`).
    #[must_use]
    pub fn addr(&self) -> usize {
        self.first.addr()
    }

    /// How many bytes, whole pages.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is a page at least")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The first page alone.
    pub(crate) fn first(self) -> Self {
        LayerPages {
            len: page_size(),
            ..self
        }
    }
}
