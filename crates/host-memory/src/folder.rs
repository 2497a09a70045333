//! Folders read without allocating: `readdir(3)` and what wraps it call `malloc`.

use std::ffi::CStr;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek};

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// As much as the kernel hands out at once: some three hundred entries of `/proc`.
#[repr(align(8))]
struct Buffer([u8; 8 << 10]);

const NAME: usize = offset_of!(libc::dirent64, d_name);
const LENGTH: usize = offset_of!(libc::dirent64, d_reclen);

impl Folder {
    pub(crate) fn open(path: &CStr) -> io::Result<Folder> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Folder(open(path, flags, Mode::empty())?))
    }

    /// Calls `f` with the name of each entry that is a number, from the beginning, until it fails. Entries that come or go meanwhile may be left out.
    pub(crate) fn each_number<E: From<io::Error>>(
        &self,
        mut f: impl FnMut(i32) -> Result<(), E>,
    ) -> Result<(), E> {
        lseek(&self.0, 0, Whence::SeekSet).map_err(io::Error::from)?;
        let mut buffer = Buffer([0; _]);
        loop {
            let filled = getdents(&self.0, &mut buffer)?;
            if filled == 0 {
                return Ok(());
            }
            let mut rest = buffer.0.get(..filled).unwrap_or_default();
            while let Some((name, next)) = first_entry(rest) {
                // "." and ".." are no numbers.
                if let Some(number) = name.to_str().ok().and_then(|name| name.parse().ok()) {
                    f(number)?;
                }
                rest = next;
            }
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `getdents64(2)`: how many bytes of the buffer hold entries.
fn getdents(dir: &OwnedFd, buffer: &mut Buffer) -> io::Result<usize> {
    let (start, len) = (buffer.0.as_mut_ptr(), buffer.0.len());
    // SAFETY: the kernel writes at most `len` bytes into the buffer, which has as many and is ours alone; any bytes are a value of it.
    let filled = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), start, len) };
    Ok(usize::try_from(Errno::result(filled)?).unwrap_or(0))
}

/// The name of the first of some `struct linux_dirent64` (which the C library calls `dirent64`), and what follows it.
fn first_entry(entries: &[u8]) -> Option<(&CStr, &[u8])> {
    let length = entries.get(LENGTH..LENGTH + 2)?;
    let length = usize::from(u16::from_ne_bytes(length.try_into().ok()?));
    let (entry, next) = entries.split_at_checked(length)?;
    let name = CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()?;
    Some((name, next))
}
