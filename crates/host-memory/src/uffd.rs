//! userfaultfd(2): the descriptor on which the kernel reports page faults, and the ioctls that resolve them.
//!
//! [`Uffd`] wraps the `userfaultfd` crate and adds what that lacks (`uffd/raw.rs` says what and why). It owns two decisions:
//!
//! - **Which descriptor.** [`Uffd::open`] climbs down a ladder of privileges and says which rung held ([`Access`]).
//! - **What an errno means.** Each ioctl's errno becomes an [`UffdError`] here and nowhere else. What to *do* about it is the caller's affair; the answers of the
//!   fault handler stand in `docs/faults.md`.
//!
//! # Why these methods are safe
//!
//! [`Uffd::register`] takes only memory that the engine itself has reserved ([`OwnedMemory`]). The ioctls that install pages change nothing that is there: the kernel
//! fills page-table entries that are *empty*, in mappings that are registered with a userfaultfd, and answers EEXIST or ENOENT otherwise. So a page appears in
//! memory whose every reader was waiting for it. No Rust reference can exist to such memory: it is reached through [`crate::access::Volatile`], raw pointers, or the
//! kernel.

mod error;
mod event;
mod open;
mod raw;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::memfd::LayerPages;
use crate::page::{HostRange, page_size};
use crate::probe::Disabled;
use crate::reserve::OwnedMemory;

use error::crate_errno;
use event::decode;

pub use error::{RegisterError, UffdError};
pub use event::{Event, Events, FaultKind};
pub use open::{Access, OpenError, open_rung};

bitflags::bitflags! {
    /// `UFFD_FEATURE_*`. Bits that a newer kernel offers are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Write protection: faults say whether they come from it.
        const PAGEFAULT_FLAG_WP = 1 << 0;
        /// `mremap` keeps the registration, reports itself, and waits until the report was read.
        const EVENT_REMAP = 1 << 2;
        /// MISSING registration of shmem.
        const MISSING_SHMEM = 1 << 5;
        /// Page faults carry the thread's id.
        const THREAD_ID = 1 << 8;
        /// MINOR registration of shmem, and `UFFDIO_CONTINUE` there.
        const MINOR_SHMEM = 1 << 10;
        /// Write protection of shmem.
        const WP_HUGETLBFS_SHMEM = 1 << 12;
        /// Write protection of anonymous pages that are not there yet.
        const WP_UNPOPULATED = 1 << 13;
        /// `UFFDIO_POISON`.
        const POISON = 1 << 14;
        /// Write protection that the kernel lifts itself (used with `PAGEMAP_SCAN` only; never asked for here).
        const WP_ASYNC = 1 << 15;
        /// `UFFDIO_MOVE`.
        const MOVE = 1 << 16;
        /// `UFFDIO_RWPROTECT`: faults at every access to a page that is there.
        const RWP = 1 << 17;
        const _ = !0;
    }
}

impl Features {
    /// What [`Uffd::open`] asks for, as far as the kernel offers it.
    pub const WANTED: Features = Features::PAGEFAULT_FLAG_WP
        .union(Features::EVENT_REMAP)
        .union(Features::MISSING_SHMEM)
        .union(Features::THREAD_ID)
        .union(Features::MINOR_SHMEM)
        .union(Features::WP_HUGETLBFS_SHMEM)
        .union(Features::WP_UNPOPULATED)
        .union(Features::POISON);

    /// Both halves of write protection, as shmem needs them.
    pub const WP_SHMEM: Features = Features::PAGEFAULT_FLAG_WP.union(Features::WP_HUGETLBFS_SHMEM);
}

bitflags::bitflags! {
    /// `UFFDIO_REGISTER_MODE_*`: which faults of a range are reported.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Modes: u64 {
        /// Neither the page table nor the file has the page.
        const MISSING = 1 << 0;
        /// A write to a page that is write-protected by `UFFDIO_WRITEPROTECT` or [`Protect::Write`].
        const WP = 1 << 1;
        /// The file has the page, the page table not yet.
        const MINOR = 1 << 2;
    }
}

/// Whether a page is installed write-protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protect {
    /// The next write faults to the handler.
    Write,
    /// Writes go through.
    None,
}

/// Whether an ioctl that succeeds wakes the threads that wait for its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// They are woken, and try again.
    Wake,
    /// They go on waiting, for an [`Uffd::wake`] to come.
    DontWake,
}

/// Where a copied page's bytes come from.
#[derive(Clone, Copy, Debug)]
pub enum CopyFrom<'a> {
    /// Memory of ours, of one page or several.
    Bytes(&'a [u8]),
    /// Pages of a layer, by way of its alias.
    Layer(LayerPages<'a>),
}

impl CopyFrom<'_> {
    /// In bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is a page at least")]
    pub fn len(&self) -> usize {
        match self {
            CopyFrom::Bytes(bytes) => bytes.len(),
            CopyFrom::Layer(pages) => pages.len(),
        }
    }

    /// The first page of it.
    #[must_use]
    pub fn first_page(self) -> Self {
        match self {
            CopyFrom::Bytes(bytes) => CopyFrom::Bytes(&bytes[..page_size()]),
            CopyFrom::Layer(pages) => CopyFrom::Layer(pages.first()),
        }
    }
}

/// A userfaultfd, close-on-exec, and non-blocking unless [`Uffd::set_blocking`] says otherwise.
///
/// When the last descriptor of it closes, every waiting thread wakes and *the kernel resolves by itself*, with zeros where the engine had bytes: keep it open as long
/// as a range is registered.
///
/// No method allocates except [`open`](Uffd::open).
#[derive(Debug)]
pub struct Uffd {
    inner: userfaultfd::Uffd,
    access: Access,
    features: Features,
    /// `UFFDIO_CONTINUE` may write-protect, as far as `COWSPACE_DISABLE` is concerned.
    continue_protects: bool,
}

impl Uffd {
    /// Opens a userfaultfd by the best rung of the ladder that holds, with those of [`Features::WANTED`] that the kernel offers and `COWSPACE_DISABLE` leaves.
    ///
    /// # Errors
    ///
    /// [`OpenError`], with the answer of each rung.
    pub fn open() -> Result<Uffd, OpenError> {
        let disabled = Disabled::get();
        if disabled.contains(Disabled::UFFD) {
            return Err(OpenError::Disabled);
        }
        let mut refused = [Errno::UnknownErrno; 3];
        for (access, answer) in Access::LADDER.into_iter().zip(&mut refused) {
            let opened = disabled
                .refuses(access)
                .map_or_else(|| open_rung(access), Err);
            match opened {
                Ok(fd) => return Uffd::configure(fd, access, disabled),
                Err(errno) => *answer = errno,
            }
        }
        Err(OpenError::Refused(refused))
    }

    fn configure(fd: OwnedFd, access: Access, disabled: Disabled) -> Result<Uffd, OpenError> {
        let features = Uffd::offered(access).map_err(OpenError::Handshake)?
            & Features::WANTED
            & disabled.leaves();
        open::handshake(&fd, features).map_err(OpenError::Handshake)?;
        // SAFETY: (1) `into_raw_fd` gives up our ownership, so the new value is the only owner; (2) it is a userfaultfd: `open_rung` made it, and it answered
        // UFFDIO_API.
        let inner = unsafe { userfaultfd::Uffd::from_raw_fd(fd.into_raw_fd()) };
        Ok(Uffd {
            inner,
            access,
            features,
            continue_protects: !disabled.contains(Disabled::CONTINUE_WP),
        })
    }

    /// The features that the kernel offers, asked on a descriptor of its own (which is closed again), since UFFDIO_API works once for each.
    ///
    /// # Errors
    ///
    /// Those of [`open_rung`] and of the handshake.
    pub fn offered(access: Access) -> Result<Features, Errno> {
        open::handshake(&open_rung(access)?, Features::empty())
    }

    /// By which rung this descriptor was had.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The features in force.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Reports the faults of `range` here from now on. The range keeps what is mapped already; between mapping and registering the kernel resolves by itself.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; nothing is registered then.
    pub fn register(
        &self,
        owner: &impl OwnedMemory,
        range: HostRange,
        modes: Modes,
    ) -> Result<(), RegisterError> {
        if !owner.owns(range) {
            return Err(RegisterError::NotOwned);
        }
        // Bit for bit the same constants of the kernel's header.
        let mode = userfaultfd::RegisterMode::from_bits_retain(modes.bits());
        let result = self
            .inner
            .register_with_mode(range.start() as *mut _, range.len(), mode);
        result.map(drop).map_err(|error| match crate_errno(error) {
            Errno::EBUSY => RegisterError::Busy,
            Errno::EINVAL | Errno::EPERM => RegisterError::Unsupported,
            errno => RegisterError::Fatal(errno),
        })
    }

    /// Ends the registration of `range` and wakes whoever waits there: from now on **the kernel resolves by itself**. Ranges that are not registered are left alone.
    ///
    /// # Errors
    ///
    /// [`UffdError`].
    pub fn unregister(&self, range: HostRange) -> Result<(), UffdError> {
        self.inner
            .unregister(range.start() as *mut _, range.len())
            .map_err(UffdError::from_crate)
    }

    /// Wakes every thread that waits for a page of `range`, read or not. Each tries again, and faults anew if its page is still missing.
    ///
    /// # Errors
    ///
    /// [`UffdError::Fatal`] for a range that no process can have.
    pub fn wake(&self, range: HostRange) -> Result<(), UffdError> {
        self.inner
            .wake(range.start() as *mut _, range.len())
            .map_err(UffdError::from_crate)
    }

    /// UFFDIO_COPY: fills the missing pages from `dst` on with the bytes of `src`, whose length must be a multiple of the page size. In a private mapping that makes
    /// private pages, in a shared one pages of the file. A write-protect marker in the way is replaced. Stops at the first page that cannot be made.
    ///
    /// # Errors
    ///
    /// [`UffdError`]; `Again` with a count above 0 where it stopped after some pages. [`UffdError::Fatal`] with EINVAL if `dst` or the length is not page-aligned, or `protect` asks for what the range is not registered for.
    pub fn copy(
        &self,
        dst: usize,
        src: CopyFrom<'_>,
        protect: Protect,
        wake: Wake,
    ) -> Result<(), UffdError> {
        let (src, len) = match src {
            CopyFrom::Bytes(bytes) => (bytes.as_ptr().addr(), bytes.len()),
            CopyFrom::Layer(pages) => (pages.addr(), pages.len()),
        };
        let mut args = raw::Copy {
            dst: dst as u64,
            src: src as u64,
            len: len as u64,
            mode: mode(protect, wake),
            copied: 0,
        };
        // SAFETY: (1) `args` is a live, exclusive `struct uffdio_copy`, its layout asserted; (2) of ours the kernel reads only `src`, which outlives the call: a slice,
        // or pages of a layer's alias; (3) it writes only into empty pages of registered memory, see "Why these methods are safe".
        let result = unsafe { raw::copy(self.inner.as_raw_fd(), &raw mut args) };
        result
            .map(drop)
            .map_err(|errno| UffdError::new(errno, args.copied))
    }

    /// UFFDIO_ZEROPAGE: maps the zero page over the missing pages of `range` (a shared mapping gets zeroed pages of the file).
    ///
    /// # Errors
    ///
    /// [`UffdError`]; [`UffdError::Exists`] also for a page that holds nothing but a write-protect marker.
    pub fn zeropage(&self, range: HostRange, wake: Wake) -> Result<(), UffdError> {
        let mut args = fill(range, mode(Protect::None, wake));
        // SAFETY: (1) `args` is a live, exclusive `struct uffdio_zeropage`, its layout asserted; (2) the kernel changes only empty pages of registered memory, see
        // "Why these methods are safe".
        let result = unsafe { raw::zeropage(self.inner.as_raw_fd(), &raw mut args) };
        result
            .map(drop)
            .map_err(|errno| UffdError::new(errno, args.done))
    }

    /// UFFDIO_CONTINUE: maps the file's own pages over the missing pages of `range`; in a private mapping read-only, so that the first write copies. Stops at the first
    /// page that the file lacks.
    ///
    /// # Errors
    ///
    /// [`UffdError`]; `Again` with a count above 0 where it stopped after some pages. [`UffdError::Fatal`] with EINVAL for [`Protect::Write`] before Linux 6.4, and where
    /// `COWSPACE_DISABLE` masks it.
    pub fn continue_(
        &self,
        range: HostRange,
        protect: Protect,
        wake: Wake,
    ) -> Result<(), UffdError> {
        if protect == Protect::Write && !self.continue_protects {
            return Err(UffdError::Fatal(Errno::EINVAL));
        }
        let mut args = fill(range, mode(protect, wake));
        // SAFETY: (1) `args` is a live, exclusive `struct uffdio_continue`, its layout asserted; (2) the kernel changes only empty pages of registered memory, see
        // "Why these methods are safe".
        let result = unsafe { raw::continue_(self.inner.as_raw_fd(), &raw mut args) };
        result
            .map(drop)
            .map_err(|errno| UffdError::new(errno, args.done))
    }

    /// UFFDIO_WRITEPROTECT: sets ([`Protect::Write`]) or lifts ([`Protect::None`]) the write protection of `range`. Of file mappings also pages that are not there: a
    /// marker stands for each. Only lifting can wake.
    ///
    /// Before Linux 6.4 the range must lie in one mapping.
    ///
    /// # Errors
    ///
    /// [`UffdError`]; `Again` always means that the address space is changing.
    pub fn write_protect(
        &self,
        range: HostRange,
        protect: Protect,
        wake: Wake,
    ) -> Result<(), UffdError> {
        let (start, len) = (range.start() as *mut _, range.len());
        match protect {
            Protect::Write => self.inner.write_protect(start, len),
            Protect::None => self
                .inner
                .remove_write_protection(start, len, wake == Wake::Wake),
        }
        .map_err(UffdError::from_crate)
    }

    /// UFFDIO_POISON (Linux 6.6 on): whoever touches a missing page of `range` from now on gets SIGBUS.
    ///
    /// # Errors
    ///
    /// [`UffdError`]; [`UffdError::Exists`] for a page that is there or holds a write-protect marker. [`UffdError::Fatal`] on kernels that lack it, or where
    /// `COWSPACE_DISABLE` masks it.
    pub fn poison(&self, range: HostRange, wake: Wake) -> Result<(), UffdError> {
        if !self.features.contains(Features::POISON) {
            return Err(UffdError::Fatal(Errno::EOPNOTSUPP));
        }
        let mut args = fill(range, mode(Protect::None, wake));
        // SAFETY: (1) `args` is a live, exclusive `struct uffdio_poison`, its layout asserted; (2) the kernel changes only empty pages of registered memory, see
        // "Why these methods are safe".
        let result = unsafe { raw::poison(self.inner.as_raw_fd(), &raw mut args) };
        result
            .map(drop)
            .map_err(|errno| UffdError::new(errno, args.done))
    }

    /// Whether [`Uffd::read_events`] waits for a message. As long as it does, poll(2) answers POLLERR.
    ///
    /// It belongs to the open file, so a copy of the process made by fork(2) has the same.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2): none for a descriptor that is open.
    pub fn set_blocking(&self, blocking: bool) -> io::Result<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(self.as_fd(), FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, !blocking);
        fcntl(self.as_fd(), FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Reads what waits, at most one buffer full, into `events`; nothing if nothing waits, but see [`Uffd::set_blocking`].
    ///
    /// The kernel hands out page faults before other events: read until the buffer is not full to have seen them all.
    ///
    /// # Errors
    ///
    /// Those of read(2) but for EAGAIN and EINTR, which count as nothing.
    pub fn read_events(&self, events: &mut Events) -> io::Result<()> {
        events.clear();
        let bytes = size_of_val(&*events.messages);
        // SAFETY: (1) the pointer and length are those of the live, exclusive message buffer; (2) every byte pattern is a valid `Message`, whose fields are integers.
        let read = unsafe {
            libc::read(
                self.inner.as_raw_fd(),
                events.messages.as_mut_ptr().cast(),
                bytes,
            )
        };
        let read = match Errno::result(read) {
            Ok(read) => read.cast_unsigned(),
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let has_tid = self.features.contains(Features::THREAD_ID);
        let messages = &events.messages[..read / size_of::<raw::Message>()];
        events
            .read
            .extend(messages.iter().map(|message| decode(message, has_tid)));
        Ok(())
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

fn mode(protect: Protect, wake: Wake) -> u64 {
    let protect = match protect {
        Protect::Write => raw::MODE_WP,
        Protect::None => 0,
    };
    let wake = match wake {
        Wake::Wake => 0,
        Wake::DontWake => raw::MODE_DONTWAKE,
    };
    protect | wake
}

fn fill(range: HostRange, mode: u64) -> raw::Fill {
    raw::Fill {
        range: raw::Range {
            start: range.start() as u64,
            len: range.len() as u64,
        },
        mode,
        done: 0,
    }
}

#[cfg(test)]
mod tests;
