//! The seam between the handler and the kernel: what the handler asks of a userfaultfd, and how others wake it. Tests put a stand-in here that fails by script.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use host_memory::page::HostRange;
use host_memory::uffd::{CopyFrom, Events, Protect, Uffd, UffdError, Wake};

use crate::bell::Bell;

/// A userfaultfd as the handler uses it. Ranges are of registered memory. POISON wakes.
pub(crate) trait Kernel: Send + Sync {
    /// What becomes readable when a message waits, while reads do not wait for one.
    fn as_fd(&self) -> BorrowedFd<'_>;
    /// [`Uffd::set_blocking`].
    fn set_blocking(&self, blocking: bool) -> io::Result<()>;
    /// [`Uffd::read_events`].
    fn read_events(&self, events: &mut Events) -> io::Result<()>;
    /// The page whose faults mean that somebody asks something.
    fn bell(&self) -> HostRange;
    /// [`Bell::ring`].
    fn ring(&self);
    /// [`Bell::silence`].
    fn silence(&self) -> Result<(), UffdError>;
    /// [`Uffd::copy`].
    fn copy(
        &self,
        dst: usize,
        src: CopyFrom<'_>,
        protect: Protect,
        wake: Wake,
    ) -> Result<(), UffdError>;
    /// [`Uffd::zeropage`].
    fn zeropage(&self, range: HostRange, wake: Wake) -> Result<(), UffdError>;
    /// [`Uffd::continue_`].
    fn continue_(&self, range: HostRange, protect: Protect, wake: Wake) -> Result<(), UffdError>;
    /// [`Uffd::write_protect`], lifting.
    fn unprotect(&self, range: HostRange, wake: Wake) -> Result<(), UffdError>;
    /// [`Uffd::poison`].
    fn poison(&self, range: HostRange) -> Result<(), UffdError>;
    /// [`Uffd::wake`].
    fn wake(&self, range: HostRange) -> Result<(), UffdError>;
}

/// The real one.
pub(crate) struct Served {
    uffd: Arc<Uffd>,
    bell: Bell,
}

impl Served {
    pub(crate) fn new(uffd: Arc<Uffd>) -> io::Result<Served> {
        let bell = Bell::new(&uffd)?;
        Ok(Served { uffd, bell })
    }
}

impl Kernel for Served {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }

    fn set_blocking(&self, blocking: bool) -> io::Result<()> {
        self.uffd.set_blocking(blocking)
    }

    fn read_events(&self, events: &mut Events) -> io::Result<()> {
        self.uffd.read_events(events)
    }

    fn bell(&self) -> HostRange {
        self.bell.page()
    }

    fn ring(&self) {
        self.bell.ring();
    }

    fn silence(&self) -> Result<(), UffdError> {
        self.bell.silence(&self.uffd)
    }

    fn copy(
        &self,
        dst: usize,
        src: CopyFrom<'_>,
        protect: Protect,
        wake: Wake,
    ) -> Result<(), UffdError> {
        self.uffd.copy(dst, src, protect, wake)
    }

    fn zeropage(&self, range: HostRange, wake: Wake) -> Result<(), UffdError> {
        self.uffd.zeropage(range, wake)
    }

    fn continue_(&self, range: HostRange, protect: Protect, wake: Wake) -> Result<(), UffdError> {
        self.uffd.continue_(range, protect, wake)
    }

    fn unprotect(&self, range: HostRange, wake: Wake) -> Result<(), UffdError> {
        self.uffd.write_protect(range, Protect::None, wake)
    }

    fn poison(&self, range: HostRange) -> Result<(), UffdError> {
        self.uffd.poison(range, Wake::Wake)
    }

    fn wake(&self, range: HostRange) -> Result<(), UffdError> {
        self.uffd.wake(range)
    }
}
