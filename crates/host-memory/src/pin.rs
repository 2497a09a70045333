//! Memory that the kernel has pinned: it keeps the very pages, and reads or writes them without looking at the page table again.
//!
//! io_uring's registered buffers do that, and so do O_DIRECT, RDMA and vfio. Whoever swaps the pages under a mapping must know what then becomes of such pages; [`Pinned`] is for trying it out
//! (feature `pin`, for tests).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, squeue, types};

use crate::access::Volatile;

/// A buffer registered with an io_uring of its own (`IORING_REGISTER_BUFFERS`): its pages are pinned for writing.
pub struct Pinned {
    ring: IoUring,
    memory: Volatile,
}

impl Pinned {
    /// Pins memory, which must be writable. Each page is faulted in as by a store.
    ///
    /// # Errors
    ///
    /// `ENOSYS` or `EPERM` where there is no io_uring (`kernel.io_uring_disabled`, seccomp); `ENOMEM` over `RLIMIT_MEMLOCK`; `EFAULT` if the memory is not writable.
    pub fn new(memory: Volatile) -> io::Result<Pinned> {
        let ring = IoUring::new(2)?;
        let buffer = libc::iovec {
            iov_base: std::ptr::with_exposed_provenance_mut(memory.addr()),
            iov_len: memory.len(),
        };
        // SAFETY: 1. the kernel holds a reference to each page, so it never writes to pages that have become somebody else's. 2. What lies in the memory is no Rust
        // object, and all code reaches it by atomic accesses, see `Volatile`: so it may be written at any time.
        unsafe { ring.submitter().register_buffers(&[buffer]) }?;
        Ok(Pinned { ring, memory })
    }

    /// Has the kernel read from a file into the pinned pages, as a device would (`IORING_OP_READ_FIXED`), and waits for it.
    ///
    /// # Errors
    ///
    /// Those of read(2), and `UnexpectedEof` if the file is too short.
    ///
    /// # Panics
    ///
    /// If the bytes are not all inside of the memory.
    pub fn fill(&mut self, at: usize, len: usize, file: BorrowedFd<'_>) -> io::Result<()> {
        assert!(
            at <= self.memory.len() && len <= self.memory.len() - at,
            "not inside"
        );
        let length = u32::try_from(len).map_err(io::Error::other)?;
        let into = std::ptr::with_exposed_provenance_mut(self.memory.addr() + at);
        // By one of the ring's workers, as the kernel chooses where a file could make the caller wait (Linux 7.3: also on tmpfs): a thread that stays, and cannot be stopped.
        let read = opcode::ReadFixed::new(types::Fd(file.as_raw_fd()), into, length, 0)
            .build()
            .flags(squeue::Flags::ASYNC);
        // SAFETY: the descriptor is open until we are done, for we wait; the buffer is the registered one, see `new`.
        unsafe { self.ring.submission().push(&read) }.map_err(io::Error::other)?;
        self.ring.submit_and_wait(1)?;
        let done = self.ring.completion().next().ok_or(io::ErrorKind::Other)?;
        match usize::try_from(done.result()) {
            Ok(read) if read == len => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => Err(io::Error::from_raw_os_error(-done.result())),
        }
    }

    /// Lets go of the pages, before it returns. (If this is only dropped the kernel does so in its own time.)
    ///
    /// # Errors
    ///
    /// Those of `IORING_UNREGISTER_BUFFERS`; none is known to happen.
    pub fn unpin(self) -> io::Result<()> {
        self.ring.submitter().unregister_buffers()
    }
}
