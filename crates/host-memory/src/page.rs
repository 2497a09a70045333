//! Page size, page-aligned ranges of addresses, and protections.

use std::sync::OnceLock;

use nix::sys::mman::ProtFlags;

/// The system's page size in bytes, a power of two (4, 16 or 64 KiB on the machines we know). Asked once from `sysconf(3)`.
#[must_use]
pub fn page_size() -> usize {
    static PAGE_SIZE: OnceLock<usize> = OnceLock::new();
    *PAGE_SIZE.get_or_init(|| {
        // SAFETY: 1. sysconf takes no pointer and has no precondition. 2. It reads a constant of the process: nobody changes it.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size)
            .ok()
            .filter(|size| size.is_power_of_two())
            .expect("POSIX lets sysconf(_SC_PAGESIZE) not fail")
    })
}

/// A range of host addresses whose start and length are multiples of [`page_size`] and whose end does not wrap. It may be empty.
///
/// A range is only two numbers: it says nothing about what is mapped there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HostRange {
    start: usize,
    len: usize,
}

impl HostRange {
    /// The `len` bytes from `start`; `None` if either is not page-aligned or the end would wrap.
    #[must_use]
    pub fn new(start: usize, len: usize) -> Option<HostRange> {
        let aligned = (start | len).is_multiple_of(page_size());
        let fits = start.checked_add(len).is_some();
        (aligned && fits).then_some(HostRange { start, len })
    }

    /// The first address.
    #[must_use]
    pub fn start(self) -> usize {
        self.start
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// The address after the last byte.
    #[must_use]
    pub fn end(self) -> usize {
        self.start + self.len
    }

    /// The length in pages.
    #[must_use]
    pub fn pages(self) -> usize {
        self.len / page_size()
    }

    /// Whether the range has no byte.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether the byte at `addr` lies inside.
    #[must_use]
    pub fn contains(self, addr: usize) -> bool {
        addr >= self.start && addr < self.end()
    }

    /// Whether all of `other` lies inside. An empty `other` does if it starts inside or at the end.
    #[must_use]
    pub fn contains_range(self, other: HostRange) -> bool {
        self.contains_bytes(other.start, other.len)
    }

    /// [`Self::contains_range`] for bytes that need not be page-aligned.
    #[must_use]
    pub fn contains_bytes(self, addr: usize, len: usize) -> bool {
        addr.checked_sub(self.start)
            .is_some_and(|offset| offset <= self.len && len <= self.len - offset)
    }

    /// The `len` bytes at `offset` bytes into the range; `None` if they are not page-aligned or not all inside.
    #[must_use]
    pub fn sub(self, offset: usize, len: usize) -> Option<HostRange> {
        let start = self.start.checked_add(offset)?;
        HostRange::new(start, len).filter(|sub| self.contains_range(*sub))
    }
}

bitflags::bitflags! {
    /// What the processor may do with a mapping; no bit is `PROT_NONE`. See `mmap(2)`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Prot: u8 {
        /// Loads.
        const READ = 1;
        /// Stores. Most processors then allow loads too.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
    }
}

impl Prot {
    pub(crate) fn to_nix(self) -> ProtFlags {
        let mut flags = ProtFlags::PROT_NONE;
        flags.set(ProtFlags::PROT_READ, self.contains(Prot::READ));
        flags.set(ProtFlags::PROT_WRITE, self.contains(Prot::WRITE));
        flags.set(ProtFlags::PROT_EXEC, self.contains(Prot::EXEC));
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_aligned_and_do_not_wrap() {
        let page = page_size();
        assert!(HostRange::new(page, page).is_some());
        assert_eq!(HostRange::new(page + 1, page), None);
        assert_eq!(HostRange::new(page, page - 1), None);
        let last = usize::MAX - (page - 1);
        assert_eq!(HostRange::new(last, page), None, "the end would be 2^64");
        assert!(HostRange::new(last, 0).is_some());
    }

    #[test]
    fn a_part_lies_inside() {
        let page = page_size();
        let range = HostRange::new(4 * page, 4 * page).unwrap();
        assert_eq!((range.end(), range.pages()), (8 * page, 4));
        assert_eq!(
            range.sub(page, 3 * page),
            HostRange::new(5 * page, 3 * page)
        );
        assert_eq!(range.sub(page, 4 * page), None);
        assert_eq!(range.sub(4 * page, 0), HostRange::new(8 * page, 0));
        assert_eq!(range.sub(5 * page, 0), None);
        assert_eq!(range.sub(usize::MAX - page + 1, page), None);
        assert_eq!(range.sub(1, page), None);
    }

    #[test]
    fn bytes_inside_need_no_alignment() {
        let page = page_size();
        let range = HostRange::new(4 * page, page).unwrap();
        assert!(range.contains(4 * page) && !range.contains(5 * page));
        assert!(range.contains_bytes(4 * page + 1, page - 1));
        assert!(!range.contains_bytes(4 * page + 1, page));
        assert!(!range.contains_bytes(4 * page - 1, 1));
        assert!(!range.contains_bytes(4 * page + 1, usize::MAX));
    }
}
