//! `/proc/self/mem`: access to our own mappings whatever their protection says.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::errno::Errno;

use crate::memfd::MemFd;
use crate::page::{HostRange, Prot, page_size};
use crate::probe::Disabled;
use crate::reserve::Reservation;

/// How much goes through the stack at once where the kernel cannot copy directly.
const BOUNCE: usize = 16 << 10;

/// So many pieces of memory at most go into one system call: the kernel's UIO_MAXIOV.
const PIECES: usize = 1024;

/// The process's memory as a file (`proc_pid_mem(5)`), for memory inside a [`Reservation`].
///
/// The kernel reads pages that are PROT_NONE or not readable, and writes pages of a *private* mapping that is not writable, giving them a private copy as a
/// store would (`FOLL_FORCE`); it does not write a shared mapping that is not writable, and neither does it read what nothing is mapped behind (over the end of a file): `EIO`.
///
/// Kernels from 6.12 on may refuse the forced accesses (`proc_mem.force_override`; Debian's do from 7.3 on). There the memory gets the permission for as long as an access takes: other
/// threads, too, can use it then. Nobody must change the permissions of that memory meanwhile.
///
/// A page that a userfaultfd serves is faulted in like by any access: these calls then wait for the handler. Hold no lock that it wants. None of the methods but [`Self::open`] allocates.
///
/// The file means the process that opened it, for ever: in a forked copy every call is refused with `ESRCH`.
#[derive(Debug)]
pub struct ProcMem {
    file: File,
    forced: Forced,
    pid: u32,
}

/// How permissions are passed over.
#[derive(Debug)]
enum Forced {
    /// By the kernel.
    Yes,
    /// By giving the permission for a moment; `/proc/self/maps` says what there was before.
    No(File),
}

impl ProcMem {
    /// Opens `/proc/self/mem`.
    pub fn open() -> io::Result<ProcMem> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/self/mem")?;
        let forced = if is_forced(&file)? {
            Forced::Yes
        } else {
            Forced::No(File::open("/proc/self/maps")?)
        };
        Ok(ProcMem {
            file,
            forced,
            pid: std::process::id(),
        })
    }

    /// Whether the kernel passes over permissions, so that others never see a difference.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        matches!(self.forced, Forced::Yes)
    }

    /// Reads all of `buf` from address `addr`, which with the whole length must be inside of `within` (`InvalidInput`).
    pub fn read(&self, within: &Reservation, addr: usize, buf: &mut [u8]) -> io::Result<()> {
        self.check(within, addr, buf.len())?;
        self.read_checked(within, addr, buf)
    }

    /// Writes all of `buf` at address `addr`, which with the whole length must be inside of `within` (`InvalidInput`).
    pub fn write(&self, within: &Reservation, addr: usize, buf: &[u8]) -> io::Result<()> {
        self.check(within, addr, buf.len())?;
        let Forced::No(maps) = &self.forced else {
            return self.file.write_all_at(buf, addr as u64);
        };
        each_permitted(maps, within, addr, buf.len(), Prot::WRITE, |part| {
            self.file
                .write_all_at(&buf[part.clone()], (addr + part.start) as u64)
        })
    }

    /// [`Self::read`] of what was checked.
    fn read_checked(&self, within: &Reservation, addr: usize, buf: &mut [u8]) -> io::Result<()> {
        let Forced::No(maps) = &self.forced else {
            return self.file.read_exact_at(buf, addr as u64);
        };
        each_permitted(maps, within, addr, buf.len(), Prot::READ, |part| {
            self.file
                .read_exact_at(&mut buf[part.clone()], (addr + part.start) as u64)
        })
    }

    /// Copies all of `range`, inside of `within`, into `to` at `offset`, which must have room for it (`InvalidInput`). Every page of it becomes present there,
    /// pages of zeros included. Readable memory is copied by the kernel directly.
    pub fn copy_out(
        &self,
        within: &Reservation,
        range: HostRange,
        to: &MemFd,
        offset: u64,
    ) -> io::Result<()> {
        self.check(within, range.start(), range.len())?;
        to.check(offset, range.len() as u64)?;
        let mut done = 0;
        while done < range.len() {
            let (addr, offset, left) = (
                range.start() + done,
                offset + done as u64,
                range.len() - done,
            );
            done += match write_from(to, &[piece(addr, left)], offset) {
                Ok(0) | Err(Errno::EFAULT) => {
                    self.copy_unreadable(within, addr, left, to, offset)?
                }
                Ok(copied) => copied,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno.into()),
            };
        }
        Ok(())
    }

    /// Copies all of `ranges`, as [`Self::copy_out`] would, one behind the other to the beginning of `to`. Few system calls for many ranges; allocates.
    pub fn gather_out(
        &self,
        within: &Reservation,
        ranges: &[HostRange],
        to: &MemFd,
    ) -> io::Result<()> {
        self.check_process()?;
        for range in ranges {
            check_inside(within, range.start(), range.len())?;
        }
        to.check(0, ranges.iter().map(|range| range.len() as u64).sum())?;
        let mut pieces = Vec::with_capacity(PIECES.min(ranges.len()));
        let mut rest = ranges.iter().copied();
        let mut offset = 0;
        loop {
            pieces.extend(
                rest.by_ref()
                    .take(PIECES - pieces.len())
                    .map(|range| piece(range.start(), range.len())),
            );
            let Some(first) = pieces.first() else {
                return Ok(());
            };
            let copied = match write_from(to, &pieces, offset) {
                Ok(0) | Err(Errno::EFAULT) => {
                    let (addr, left) = (first.iov_base.addr(), first.iov_len);
                    self.copy_unreadable(within, addr, left, to, offset)?
                }
                Ok(copied) => copied,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno.into()),
            };
            offset += copied as u64;
            drop_copied(&mut pieces, copied);
        }
    }

    /// Copies the beginning of what the kernel cannot read as the program could (or its memory is lost: then this fails, too). Answers how many bytes.
    fn copy_unreadable(
        &self,
        within: &Reservation,
        addr: usize,
        len: usize,
        to: &MemFd,
        offset: u64,
    ) -> io::Result<usize> {
        let mut bounce = [0; BOUNCE];
        let part = &mut bounce[..len.min(BOUNCE)];
        self.read_checked(within, addr, part)?;
        to.write_at(part, offset)?;
        Ok(part.len())
    }

    fn check(&self, within: &Reservation, addr: usize, len: usize) -> io::Result<()> {
        self.check_process()?;
        check_inside(within, addr, len)
    }

    fn check_process(&self) -> io::Result<()> {
        if std::process::id() == self.pid {
            Ok(())
        } else {
            Err(Errno::ESRCH.into())
        }
    }
}

/// Whether the kernel reads through this `/proc/self/mem` what may not be read. `COWSPACE_DISABLE` can say no only of a kernel that tells what permissions there are: those that
/// really refuse do.
fn is_forced(memory: &File) -> io::Result<bool> {
    // The kernel decided when it started: one answer for this process and all forked from it.
    static FORCED: OnceLock<bool> = OnceLock::new();
    if let Some(forced) = FORCED.get() {
        return Ok(*forced);
    }
    let none = Reservation::new(page_size())?;
    let start = none.range().start();
    let forced = if Disabled::get().contains(Disabled::FORCE) {
        let maps = File::open("/proc/self/maps")?;
        permissions_at(&maps, start).is_err()
    } else {
        memory.read_exact_at(&mut [0], start as u64).is_ok()
    };
    Ok(*FORCED.get_or_init(|| forced))
}

/// Calls `f` with each part of `len` bytes from `addr` that lies in one mapping, as offsets in the whole, while that mapping has the permission `needed`. Allocates nothing.
///
/// Shared memory does not get the permission to be written: then `f` does as the kernel lets it.
fn each_permitted(
    maps: &File,
    within: &Reservation,
    addr: usize,
    len: usize,
    needed: Prot,
    mut f: impl FnMut(Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let page = page_size();
    let mut done = 0;
    while done < len {
        let at = addr + done;
        let mapping = permissions_at(maps, at)?;
        let end = len.min(mapping.end - addr);
        if mapping.prot.contains(needed) || (mapping.shared && needed == Prot::WRITE) {
            f(done..end)?;
        } else {
            let start = at / page * page;
            let pages = HostRange::new(start, (addr + end).next_multiple_of(page) - start)
                .ok_or(io::ErrorKind::InvalidInput)?;
            // A mapping that may be written may be read, too: nothing else is sure to be had from the hardware.
            within.protect(pages, mapping.prot | needed | Prot::READ)?;
            let result = f(done..end);
            within.protect(pages, mapping.prot)?;
            result?;
        }
        done = end;
    }
    Ok(())
}

/// What `/proc/self/maps` says of the mapping at an address.
struct Mapping {
    end: usize,
    prot: Prot,
    shared: bool,
}

/// `struct procmap_query` of `linux/fs.h`, Linux 6.11.
#[repr(C)]
#[derive(Default)]
struct MapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

const _: () = {
    assert!(size_of::<MapQuery>() == 104 && align_of::<MapQuery>() == 8);
    assert!(std::mem::offset_of!(MapQuery, vma_flags) == 40);
    assert!(std::mem::offset_of!(MapQuery, vma_name_size) == 80);
};

nix::ioctl_readwrite!(
    /// The mapping that covers `query_addr`, or ENOENT.
    procmap_query, b'f', 17, MapQuery
);

fn permissions_at(maps: &File, addr: usize) -> io::Result<Mapping> {
    let mut query = MapQuery {
        size: size_of::<MapQuery>() as u64,
        query_addr: addr as u64,
        ..MapQuery::default()
    };
    // SAFETY: 1. `query` is a valid procmap_query (layout asserted above), ours alone. 2. It names no buffers, so the kernel writes to nothing else.
    unsafe { procmap_query(maps.as_raw_fd(), &raw mut query) }?;
    let mut prot = Prot::empty();
    prot.set(Prot::READ, query.vma_flags & 1 != 0);
    prot.set(Prot::WRITE, query.vma_flags & 2 != 0);
    prot.set(Prot::EXEC, query.vma_flags & 4 != 0);
    Ok(Mapping {
        end: query.vma_end as usize,
        prot,
        shared: query.vma_flags & 8 != 0,
    })
}

fn check_inside(within: &Reservation, addr: usize, len: usize) -> io::Result<()> {
    if within.range().contains_bytes(addr, len) {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

fn piece(addr: usize, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(addr),
        iov_len: len,
    }
}

/// Takes the first `bytes` bytes out of a list.
fn drop_copied(pieces: &mut Vec<libc::iovec>, mut bytes: usize) {
    let mut whole = 0;
    while let Some(piece) = pieces.get(whole)
        && piece.iov_len <= bytes
    {
        bytes -= piece.iov_len;
        whole += 1;
    }
    pieces.drain(..whole);
    if let Some(first) = pieces.first_mut() {
        *first = piece(first.iov_base.addr() + bytes, first.iov_len - bytes);
    }
}

/// `pwritev(2)` from memory that is no Rust object. Answers how many bytes were written.
fn write_from(to: &MemFd, pieces: &[libc::iovec], offset: u64) -> nix::Result<usize> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let count = pieces.len() as libc::c_int;
    // SAFETY: (1) `pieces` is a live list of `count` iovecs; (2) the kernel only reads the memory that they name, wherever it is, and answers EFAULT where it cannot;
    // other threads may write it meanwhile.
    let written = unsafe { libc::pwritev(to.as_fd().as_raw_fd(), pieces.as_ptr(), count, offset) };
    Errno::result(written).map(|written| written.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_bytes_leave_a_list() {
        let left = |bytes| {
            let mut pieces = vec![piece(10, 4), piece(20, 8), piece(40, 2)];
            drop_copied(&mut pieces, bytes);
            let part = |piece: &libc::iovec| (piece.iov_base.addr(), piece.iov_len);
            pieces.iter().map(part).collect::<Vec<_>>()
        };
        assert_eq!(left(0), [(10, 4), (20, 8), (40, 2)]);
        assert_eq!(left(3), [(13, 1), (20, 8), (40, 2)]);
        assert_eq!(left(4), [(20, 8), (40, 2)]);
        assert_eq!(left(13), [(41, 1)]);
        assert_eq!(left(14), []);
    }
}
