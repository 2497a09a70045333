//! The caller's memory: addresses that may be anything.
//!
//! The kernel alone touches them, and answers where an access of ours would end the program. `process_vm_readv(2)` and `process_vm_writev(2)` on this very process copy between
//! two places of it: the *local* side, here the caller's, is accessed as in every system call (a page that the fault handler serves is waited for, one that cannot
//! be touched is `EFAULT`); only the *remote* side, here our own buffer, is pinned, so that a snapshot meets no pinned page of a VMO. Where a sandbox forbids these calls,
//! reading and writing our buffer through `/proc/self/mem` does the same.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

use cowspace::{Handle, Status};
use zerocopy::{Immutable, IntoBytes};

/// Where the caller wants a result.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T: IntoBytes + Immutable> Out<T> {
    /// `INVALID_ARGS` if it cannot be written.
    pub(crate) fn write(&self, value: T) -> Result<(), Status> {
        Buffer(self.0.cast()).write(0, value.as_bytes())
    }

    /// As [`Out::write`], or nothing if the caller does not want it: for a null pointer.
    pub(crate) fn write_if_wanted(&self, value: T) -> Result<(), Status> {
        if self.0.is_null() {
            return Ok(());
        }
        self.write(value)
    }
}

impl Out<u32> {
    /// Gives a handle away. `INVALID_ARGS` if it cannot be written: then it is closed.
    pub(crate) fn give(&self, handle: impl Into<Handle>) -> Result<(), Status> {
        let handle = handle.into();
        self.write(handle.raw_handle())?;
        handle.into_raw();
        Ok(())
    }
}

/// Where the caller has bytes, or wants them.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Buffer(*mut u8);

impl Buffer {
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn address(self) -> usize {
        self.0.addr()
    }

    /// Writes `bytes` from byte `at` of the buffer on; `INVALID_ARGS` if that is not possible.
    pub(crate) fn write(self, at: usize, bytes: &[u8]) -> Result<(), Status> {
        self.put(at, bytes).map_err(|_| Status::INVALID_ARGS)
    }

    /// Fills `bytes` from byte `at` of the buffer on; `INVALID_ARGS` if that is not possible.
    pub(crate) fn read(self, at: usize, bytes: &mut [u8]) -> Result<(), Status> {
        self.get(at, bytes).map_err(|_| Status::INVALID_ARGS)
    }

    /// As [`Buffer::write`]; tells what could not be written.
    pub(crate) fn put(self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.copy(at, Ours::From(bytes))
    }

    /// As [`Buffer::read`]; tells what could not be read.
    pub(crate) fn get(self, at: usize, bytes: &mut [u8]) -> Result<(), Fault> {
        self.copy(at, Ours::To(bytes))
    }

    fn copy(self, at: usize, mut ours: Ours<'_>) -> Result<(), Fault> {
        let mut done = 0;
        while done < ours.len() {
            let theirs = self.0.addr().wrapping_add(at).wrapping_add(done);
            if self.0.is_null() {
                return Err(Fault(theirs));
            }
            match ours.move_some(done, theirs) {
                Ok(moved) if moved > 0 => done += moved,
                // A short answer before it says how far it got.
                _ => return Err(Fault(theirs)),
            }
        }
        Ok(())
    }
}

/// The first byte of the caller's memory that could not be accessed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault(pub(crate) usize);

/// Our side of a copy.
enum Ours<'a> {
    From(&'a [u8]),
    To(&'a mut [u8]),
}

impl Ours<'_> {
    fn len(&self) -> usize {
        match self {
            Ours::From(bytes) => bytes.len(),
            Ours::To(bytes) => bytes.len(),
        }
    }

    /// Copies as much as the kernel does in one go, from byte `at` on.
    fn move_some(&mut self, at: usize, theirs: usize) -> io::Result<usize> {
        let (ours, len) = match self {
            Ours::From(bytes) => (bytes[at..].as_ptr().cast_mut(), bytes.len() - at),
            Ours::To(bytes) => (bytes[at..].as_mut_ptr(), bytes.len() - at),
        };
        let piece = |base: *mut u8| libc::iovec {
            iov_base: base.cast(),
            iov_len: len,
        };
        let (local, remote) = (piece(std::ptr::without_provenance_mut(theirs)), piece(ours));
        let call = match self {
            Ours::From(_) => libc::process_vm_readv,
            Ours::To(_) => libc::process_vm_writev,
        };
        // SAFETY: `ours` are `len` bytes that are borrowed, mutably if the call writes them. What it writes at `theirs` is what the caller of this library asked to have
        // written there, by the contract of the C call; it may be no memory at all.
        let moved = unsafe { call(libc::getpid(), &local, 1, &remote, 1, 0) };
        if moved >= 0 {
            return Ok(moved as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS) => self.move_through_file(ours, len, theirs),
            _ => Err(error),
        }
    }

    /// The same where the system call is forbidden. The file is opened for each use: one that is kept would mean the parent in a forked copy.
    #[cold]
    fn move_through_file(&self, ours: *mut u8, len: usize, theirs: usize) -> io::Result<usize> {
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/proc/self/mem")?;
        let theirs = std::ptr::without_provenance_mut(theirs);
        let offset = ours.addr() as libc::off_t;
        // SAFETY: as in `move_some`. The file's bytes from `offset` on are those at `ours`: it is this process's memory.
        let moved = unsafe {
            match self {
                Ours::From(_) => libc::pread(memory.as_raw_fd(), theirs, len, offset),
                Ours::To(_) => libc::pwrite(memory.as_raw_fd(), theirs, len, offset),
            }
        };
        usize::try_from(moved).map_err(|_| io::Error::last_os_error())
    }
}
