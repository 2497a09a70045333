//! Errnos and their meanings.

use nix::errno::Errno;

/// What an ioctl's errno means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UffdError {
    /// EEXIST: the first page of the range is there already, or (ZEROPAGE, POISON) its entry holds a write-protect marker.
    #[error("the page is there already")]
    Exists,
    /// EAGAIN. `done` bytes from the start of the range are installed; go on from there. With 0 the address space is changing (an `mremap` waits for its event to be
    /// read): read events first, then try again.
    #[error("the address space is changing, or the range was done in part ({done} bytes)")]
    Again {
        /// Bytes installed from the start of the range; a multiple of the page size, less than the length.
        done: usize,
    },
    /// ENOENT: no registered mapping holds the whole range (any more). ESRCH, EINTR: the process is dying.
    #[error("the range or the process is gone")]
    Gone,
    /// ENOMEM, ENOSPC: no page was to be had: the machine, the memory cgroup, or the file system's limit.
    #[error("no memory")]
    NoMemory,
    /// EFAULT: the file has no page there (CONTINUE over a hole), the range lies beyond the end of its file, or the source of a COPY cannot be read.
    #[error("there is no such page")]
    NoPage,
    /// Anything else: asking again would not help.
    #[error("{}", .0.desc())]
    Fatal(Errno),
}

impl UffdError {
    /// The meaning of `errno`, with the kernel's signed count of bytes that were done (which is a negative errno, or untouched, where nothing was).
    pub(super) fn new(errno: Errno, done: i64) -> UffdError {
        match errno {
            Errno::EEXIST => UffdError::Exists,
            Errno::EAGAIN => UffdError::Again {
                done: usize::try_from(done).unwrap_or(0),
            },
            Errno::ENOENT | Errno::ESRCH | Errno::EINTR => UffdError::Gone,
            Errno::ENOMEM | Errno::ENOSPC => UffdError::NoMemory,
            Errno::EFAULT => UffdError::NoPage,
            errno => UffdError::Fatal(errno),
        }
    }

    /// The meaning of an error that the `userfaultfd` crate hands on from a call that counts nothing.
    pub(super) fn from_crate(error: userfaultfd::Error) -> UffdError {
        UffdError::new(crate_errno(error), 0)
    }
}

/// The errno in an error of the `userfaultfd` crate (which has its own version of nix). The calls that are used make no other error.
pub(super) fn crate_errno(error: userfaultfd::Error) -> Errno {
    match error {
        userfaultfd::Error::SystemError(errno) => Errno::from_raw(errno as i32),
        _ => Errno::UnknownErrno,
    }
}

/// Why a range could not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The range does not lie within the owner's memory.
    #[error("the range does not belong to its owner")]
    NotOwned,
    /// EBUSY: another userfaultfd has it.
    #[error("registered with another userfaultfd")]
    Busy,
    /// EINVAL, EPERM: nothing is mapped there, or the kernel has no such mode for what is.
    #[error("the mapping cannot be registered in these modes")]
    Unsupported,
    /// Anything else: ENOMEM (the limit of mappings is reached) foremost.
    #[error("{}", .0.desc())]
    Fatal(Errno),
}
