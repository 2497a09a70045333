//! `/proc/self/mem`: access to our own mappings whatever their protection says.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use crate::memfd::MemFd;
use crate::page::HostRange;
use crate::reserve::Reservation;

/// How much goes through the stack at once where the kernel cannot copy directly.
const BOUNCE: usize = 16 << 10;

/// So many pieces of memory at most go into one system call: the kernel's UIO_MAXIOV.
const PIECES: usize = 1024;

/// The process's memory as a file (`proc_pid_mem(5)`), for memory inside a [`Reservation`].
///
/// The kernel reads pages that are PROT_NONE or not readable, and writes pages of a *private* mapping that is not writable, giving them a private copy as a
/// store would (`FOLL_FORCE`); it does not write a shared mapping that is not writable, and neither does it read what nothing is mapped behind (over the end of a file): `EIO`.
/// Kernels from 6.12 on may be configured to refuse the forced accesses (`proc_mem.force_override`): `EIO` too.
///
/// A page that a userfaultfd serves is faulted in like by any access: these calls then wait for the handler. Hold no lock that it wants. None of the methods but [`Self::open`] allocates.
///
/// The file means the process that opened it, for ever: in a forked copy every call is refused with `ESRCH`.
#[derive(Debug)]
pub struct ProcMem {
    file: File,
    pid: u32,
}

impl ProcMem {
    /// Opens `/proc/self/mem`.
    pub fn open() -> io::Result<ProcMem> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/self/mem")?;
        Ok(ProcMem {
            file,
            pid: std::process::id(),
        })
    }

    /// Reads all of `buf` from address `addr`, which with the whole length must be inside of `within` (`InvalidInput`).
    pub fn read(&self, within: &Reservation, addr: usize, buf: &mut [u8]) -> io::Result<()> {
        self.check(within, addr, buf.len())?;
        self.file.read_exact_at(buf, addr as u64)
    }

    /// Writes all of `buf` at address `addr`, which with the whole length must be inside of `within` (`InvalidInput`).
    pub fn write(&self, within: &Reservation, addr: usize, buf: &[u8]) -> io::Result<()> {
        self.check(within, addr, buf.len())?;
        self.file.write_all_at(buf, addr as u64)
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
                Ok(0) | Err(Errno::EFAULT) => self.copy_unreadable(addr, left, to, offset)?,
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
                    self.copy_unreadable(addr, left, to, offset)?
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
        addr: usize,
        len: usize,
        to: &MemFd,
        offset: u64,
    ) -> io::Result<usize> {
        let mut bounce = [0; BOUNCE];
        let part = &mut bounce[..len.min(BOUNCE)];
        self.file.read_exact_at(part, addr as u64)?;
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
