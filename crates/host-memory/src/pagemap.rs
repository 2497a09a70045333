//! `/proc/self/pagemap`: which pages of a range are private, the file's, zero, write-protected.
//!
//! | page | `PAGEMAP_SCAN` (Linux 6.7) says | entries of the file say | here |
//! |---|---|---|---|
//! | never touched, or given back | nothing | nothing | not reported |
//! | the file's, present | PRESENT, FILE | present, file | FILE |
//! | private, present | PRESENT | present | PRIVATE |
//! | private, swapped out | SWAPPED | swapped | PRIVATE, SWAPPED |
//! | the zero page | PRESENT, PFNZERO | present | ZERO; by entries PRIVATE |
//! | not present, with a marker of a userfaultfd's | SWAPPED | swapped | PRIVATE, SWAPPED |
//!
//! A marker stands for write protection where no page is (a protected page of a file's mapping leaves one when it is discarded) or for poison. The kernel does not tell it
//! from a swapped page. So take PRIVATE to mean: cannot be told to be anybody else's. Reading such a page gives the right bytes in each case.
//!
//! `WRITTEN`, from which we take what is not write-protected, stands only for memory that is registered with a userfaultfd for write protection. Elsewhere kernels before 7.3 say it of
//! every page, and those from there on of none, so that all seem to be protected: who asks what is *not* protected must know that it can be.
//!
//! Pages of shared memory of other files that were swapped out are not reported at all: the page table does not know them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use crate::page::{HostRange, page_size};
use crate::probe::Disabled;

bitflags::bitflags! {
    /// What the page table says of a page.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct PageFlags: u8 {
        /// An anonymous page of this mapping, present or swapped out; neither the file's nor the zero page, as far as that can be told.
        const PRIVATE = 1;
        /// A page of the mapped file.
        const FILE = 2;
        /// The zero page. Only [`Method::Scan`] tells it from a private one.
        const ZERO = 4;
        /// Write-protected by a userfaultfd (whatever `mprotect` says). Means nothing in memory that is not registered for write protection, see the module.
        const WRITE_PROTECTED = 8;
        /// Not present: swapped out, or only a userfaultfd's marker. Comes with PRIVATE.
        const SWAPPED = 16;
    }
}

/// How the page table is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// The ioctl `PAGEMAP_SCAN` (Linux 6.7): the kernel finds the runs; it passes over page tables that are not there.
    Scan,
    /// Eight bytes for each page, read from the file: any kernel.
    Entries,
}

/// The page tables of this process.
///
/// The file means the process that opened it, for ever: in a forked copy every call is refused with `ESRCH`.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    method: Method,
    pid: u32,
}

/// `struct pm_scan_arg` of `linux/fs.h`; see Documentation/admin-guide/mm/pagemap.rst of the kernel.
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const _: () = {
    assert!(size_of::<ScanArg>() == 96 && align_of::<ScanArg>() == 8);
    assert!(std::mem::offset_of!(ScanArg, walk_end) == 32);
    assert!(std::mem::offset_of!(ScanArg, vec) == 40);
    assert!(std::mem::offset_of!(ScanArg, category_inverted) == 64);
    assert!(std::mem::offset_of!(ScanArg, return_mask) == 88);
    assert!(size_of::<Region>() == 24 && align_of::<Region>() == 8);
    assert!(std::mem::offset_of!(Region, categories) == 16);
};

/// `PAGE_IS_*` of `linux/fs.h`.
mod category {
    pub(super) const WRITTEN: u64 = 1 << 1;
    pub(super) const FILE: u64 = 1 << 2;
    pub(super) const PRESENT: u64 = 1 << 3;
    pub(super) const SWAPPED: u64 = 1 << 4;
    pub(super) const ZERO: u64 = 1 << 5;
}

/// What the kernel is asked for: pages with and without some categories, and which it tells besides.
#[derive(Clone, Copy)]
struct Wanted {
    with: u64,
    without: u64,
    told: u64,
}

impl Wanted {
    const ALL: Wanted = Wanted {
        with: 0,
        without: 0,
        told: category::FILE | category::ZERO,
    };
    const PRIVATE: Wanted = Wanted {
        with: 0,
        without: category::FILE | category::ZERO,
        told: category::FILE | category::ZERO,
    };
    const UNPROTECTED: Wanted = Wanted {
        with: category::WRITTEN,
        without: 0,
        told: 0,
    };
    const UNPROTECTED_FLAGS: Wanted = Wanted {
        with: category::WRITTEN,
        without: 0,
        told: category::FILE | category::ZERO,
    };
}

/// Bits of an entry, the same document.
mod entry {
    pub(super) const WRITE_PROTECTED: u64 = 1 << 57;
    pub(super) const FILE: u64 = 1 << 61;
    pub(super) const SWAPPED: u64 = 1 << 62;
    pub(super) const PRESENT: u64 = 1 << 63;
}

nix::ioctl_readwrite!(
    /// Answers how many regions it wrote to `vec`.
    pagemap_scan, b'f', 16, ScanArg
);

/// How many regions the kernel tells at once.
const REGIONS: usize = 128;
/// How many entries are read at once.
const ENTRIES: usize = 512;
const ENTRY_SIZE: usize = size_of::<u64>();

impl Pagemap {
    /// Opens `/proc/self/pagemap`, with [`Method::Scan`] where the kernel has it (it answers `ENOTTY` where not) and `COWSPACE_DISABLE` does not hide it.
    pub fn open() -> io::Result<Pagemap> {
        if Disabled::get().contains(Disabled::PAGEMAP_SCAN) {
            return Pagemap::open_as(Method::Entries);
        }
        let mut pagemap = Pagemap::open_as(Method::Scan)?;
        if pagemap
            .scan_regions(0, page_size(), Wanted::ALL, &mut |_, _, _| {})
            .is_err()
        {
            pagemap.method = Method::Entries;
        }
        Ok(pagemap)
    }

    /// Opens `/proc/self/pagemap`, to be read in a given way. With [`Method::Scan`] on a kernel without it, [`Self::scan`] fails with `ENOTTY`.
    pub fn open_as(method: Method) -> io::Result<Pagemap> {
        Ok(Pagemap {
            file: File::open("/proc/self/pagemap")?,
            method,
            pid: std::process::id(),
        })
    }

    /// How the page table is read.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Calls `f` with each run of neighbouring pages of `range` that have the same flags, at least one of them in `any_of`, in ascending order. Pages not reported have no flag of `any_of`.
    /// A run may come in several pieces. Unmapped parts of the range have no flags. Allocates nothing.
    ///
    /// With other threads running each answer was true of its page at some time during the call.
    pub fn scan(
        &self,
        range: HostRange,
        any_of: PageFlags,
        mut f: impl FnMut(HostRange, PageFlags),
    ) -> io::Result<()> {
        // Where only private pages are asked for, the kernel need not tell of the others.
        let wanted = if any_of == PageFlags::PRIVATE {
            Wanted::PRIVATE
        } else {
            Wanted::ALL
        };
        self.scan_wanted(range, wanted, |run, flags| {
            if flags.intersects(any_of) {
                f(run, flags);
            }
        })
    }

    /// Calls `f` with each run of pages of `range`, present or swapped out, that no userfaultfd write-protects, in ascending order. A run may come in several pieces. Allocates nothing.
    ///
    /// All of the range must be registered for write protection; elsewhere newer kernels would find nothing.
    ///
    /// Whose pages they are is not asked, for which the kernel would have to look at each page and not only at its table: where nearly all pages are protected this is many times faster
    /// than [`Self::scan`].
    pub fn scan_unprotected(
        &self,
        range: HostRange,
        mut f: impl FnMut(HostRange),
    ) -> io::Result<()> {
        self.scan_wanted(range, Wanted::UNPROTECTED, |run, flags| {
            if !flags.is_empty() && !flags.contains(PageFlags::WRITE_PROTECTED) {
                f(run);
            }
        })
    }

    /// As [`Self::scan_unprotected`] of one range after the other, and says whose pages they are, which takes a look at each page: for ranges that have few protected
    /// ones. Allocates nothing.
    pub fn scan_unprotected_flags(
        &self,
        ranges: &[HostRange],
        mut f: impl FnMut(HostRange, PageFlags),
    ) -> io::Result<()> {
        self.check_process()?;
        ranges.iter().try_for_each(|&range| {
            self.scan_checked(range, Wanted::UNPROTECTED_FLAGS, |run, flags| {
                if !flags.is_empty() && !flags.contains(PageFlags::WRITE_PROTECTED) {
                    f(run, flags);
                }
            })
        })
    }

    /// Calls `f` with each run of private pages of `range` that no userfaultfd write-protects, in ascending order: [`Self::scan`] of what [`Self::scan_unprotected`] finds, with the same
    /// condition. Allocates nothing.
    pub fn scan_private_unprotected(
        &self,
        range: HostRange,
        mut f: impl FnMut(HostRange),
    ) -> io::Result<()> {
        let mut result = Ok(());
        self.scan_unprotected(range, |part| {
            if result.is_ok() {
                result = self.scan(part, PageFlags::PRIVATE, |run, flags| {
                    if !flags.contains(PageFlags::WRITE_PROTECTED) {
                        f(run);
                    }
                });
            }
        })?;
        result
    }

    fn scan_wanted(
        &self,
        range: HostRange,
        wanted: Wanted,
        f: impl FnMut(HostRange, PageFlags),
    ) -> io::Result<()> {
        self.check_process()?;
        self.scan_checked(range, wanted, f)
    }

    fn check_process(&self) -> io::Result<()> {
        if std::process::id() == self.pid {
            Ok(())
        } else {
            Err(Errno::ESRCH.into())
        }
    }

    fn scan_checked(
        &self,
        range: HostRange,
        wanted: Wanted,
        mut f: impl FnMut(HostRange, PageFlags),
    ) -> io::Result<()> {
        let mut report = |start: usize, end: usize, flags: PageFlags| {
            if let Some(run) = HostRange::new(start, end.saturating_sub(start)) {
                f(run, flags);
            }
        };
        match self.method {
            Method::Scan => self.scan_regions(range.start(), range.end(), wanted, &mut report),
            Method::Entries => self.scan_entries(range, &mut report),
        }
    }

    fn scan_regions(
        &self,
        start: usize,
        end: usize,
        wanted: Wanted,
        report: &mut impl FnMut(usize, usize, PageFlags),
    ) -> io::Result<()> {
        let mut regions = [Region::default(); REGIONS];
        // The kernel takes memory for as many as it is told there is room for.
        let room = REGIONS.min((end - start) / page_size()) as u64;
        let mut at = start as u64;
        while at < end as u64 {
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                flags: 0,
                start: at,
                end: end as u64,
                walk_end: 0,
                vec: regions.as_mut_ptr().expose_provenance() as u64,
                vec_len: room,
                max_pages: 0,
                category_inverted: wanted.without,
                category_mask: wanted.with | wanted.without,
                category_anyof_mask: category::PRESENT | category::SWAPPED,
                return_mask: wanted.told
                    | category::WRITTEN
                    | category::PRESENT
                    | category::SWAPPED,
            };
            // SAFETY: 1. `arg` is a valid pm_scan_arg (layout asserted above), ours alone. 2. The kernel writes at most `vec_len` regions to
            // `vec`, which has as many, and which nobody else knows. 3. Without flags it changes no page.
            let found = match unsafe { pagemap_scan(self.file.as_raw_fd(), &raw mut arg) } {
                Ok(found) => usize::try_from(found).unwrap_or(0),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for region in regions.iter().take(found) {
                report(
                    region.start as usize,
                    region.end as usize,
                    flags_of_categories(region.categories),
                );
            }
            if arg.walk_end <= at {
                // A walk that does not advance is an answer we do not understand.
                return Err(Errno::EIO.into());
            }
            at = arg.walk_end;
        }
        Ok(())
    }

    fn scan_entries(
        &self,
        range: HostRange,
        report: &mut impl FnMut(usize, usize, PageFlags),
    ) -> io::Result<()> {
        let page = page_size();
        let mut buf = [0; ENTRIES * ENTRY_SIZE];
        let (mut run_start, mut run_flags) = (range.start(), PageFlags::empty());
        let mut at = range.start();
        while at < range.end() {
            let count = ENTRIES.min((range.end() - at) / page);
            let bytes = &mut buf[..count * ENTRY_SIZE];
            self.file
                .read_exact_at(bytes, (at / page * ENTRY_SIZE) as u64)?;
            for entry in bytes.as_chunks::<ENTRY_SIZE>().0 {
                let flags = flags_of_entry(u64::from_ne_bytes(*entry));
                if flags != run_flags {
                    report(run_start, at, run_flags);
                    (run_start, run_flags) = (at, flags);
                }
                at += page;
            }
        }
        report(run_start, at, run_flags);
        Ok(())
    }
}

fn flags_of_categories(categories: u64) -> PageFlags {
    let mut flags = match categories {
        c if c & category::ZERO != 0 => PageFlags::ZERO,
        c if c & category::FILE != 0 => PageFlags::FILE,
        _ => PageFlags::PRIVATE,
    };
    flags.set(PageFlags::SWAPPED, categories & category::SWAPPED != 0);
    flags.set(
        PageFlags::WRITE_PROTECTED,
        categories & category::WRITTEN == 0,
    );
    flags
}

fn flags_of_entry(entry: u64) -> PageFlags {
    if entry & (entry::PRESENT | entry::SWAPPED) == 0 {
        return PageFlags::empty();
    }
    let mut flags = if entry & entry::FILE == 0 {
        PageFlags::PRIVATE
    } else {
        PageFlags::FILE
    };
    flags.set(PageFlags::SWAPPED, entry & entry::SWAPPED != 0);
    flags.set(
        PageFlags::WRITE_PROTECTED,
        entry & entry::WRITE_PROTECTED != 0,
    );
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These tests' machines have no swap: what the kernel's documents say of swapped pages.
    #[test]
    fn swapped_pages_are_private() {
        let swapped = PageFlags::PRIVATE | PageFlags::SWAPPED;
        let protected = swapped | PageFlags::WRITE_PROTECTED;
        assert_eq!(
            flags_of_categories(category::SWAPPED | category::WRITTEN),
            swapped
        );
        assert_eq!(flags_of_categories(category::SWAPPED), protected);
        assert_eq!(flags_of_entry(entry::SWAPPED), swapped);
        assert_eq!(
            flags_of_entry(entry::SWAPPED | entry::WRITE_PROTECTED),
            protected
        );
    }
}
