//! How much memory a file takes.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::stat::fstat;

/// Which file, and how much memory it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileUsage {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes of its pages, present or swapped out. Holes take none.
    pub bytes: u64,
}

impl FileUsage {
    /// Of the memory file behind a descriptor. `fstat(2)`.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<FileUsage> {
        /// The unit of `st_blocks`, whatever the block size is.
        const BLOCK: u64 = 512;
        let stat = fstat(file)?;
        Ok(FileUsage {
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::memfd::MemFd;
    use crate::page::page_size;

    use super::*;

    #[test]
    fn pages_count_and_holes_do_not() {
        let size = page_size() as u64;
        let file = MemFd::create("cowspace-test", 100 * size).unwrap();
        let usage = || FileUsage::of(file.as_fd()).unwrap();
        assert_eq!(usage().bytes, 0);
        file.write_at(&[1], 5 * size).unwrap();
        file.allocate(10 * size..12 * size).unwrap();
        assert_eq!(usage().bytes, 3 * size);
        let inode = usage().inode;
        let layer = file.seal().unwrap();
        let sealed = FileUsage::of(layer.as_fd()).unwrap();
        assert_eq!((sealed.bytes, sealed.inode), (3 * size, inode));
        assert_eq!(layer.id(), (sealed.device, sealed.inode));
    }
}
