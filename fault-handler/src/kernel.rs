//! The seam between the handler and the kernel: what the handler asks of a userfaultfd. Tests put a stand-in here that fails by script.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use host_memory::page::HostRange;
use host_memory::uffd::{CopyFrom, Events, Protect, Uffd, UffdError, Wake};

/// A userfaultfd as the handler uses it. Ranges are of registered memory; whatever succeeds wakes, but for [`Kernel::unprotect`], which is told.
pub(crate) trait Kernel: Send + Sync {
    /// What becomes readable when a message waits.
    fn as_fd(&self) -> BorrowedFd<'_>;
    /// [`Uffd::read_events`].
    fn read_events(&self, events: &mut Events) -> io::Result<()>;
    /// [`Uffd::copy`].
    fn copy(&self, dst: usize, src: CopyFrom<'_>, protect: Protect) -> Result<(), UffdError>;
    /// [`Uffd::zeropage`].
    fn zeropage(&self, range: HostRange) -> Result<(), UffdError>;
    /// [`Uffd::continue_`].
    fn continue_(&self, range: HostRange, protect: Protect) -> Result<(), UffdError>;
    /// [`Uffd::write_protect`], lifting.
    fn unprotect(&self, range: HostRange, wake: Wake) -> Result<(), UffdError>;
    /// [`Uffd::poison`].
    fn poison(&self, range: HostRange) -> Result<(), UffdError>;
    /// [`Uffd::wake`].
    fn wake(&self, range: HostRange) -> Result<(), UffdError>;
}

impl Kernel for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        AsFd::as_fd(self)
    }

    fn read_events(&self, events: &mut Events) -> io::Result<()> {
        Uffd::read_events(self, events)
    }

    fn copy(&self, dst: usize, src: CopyFrom<'_>, protect: Protect) -> Result<(), UffdError> {
        Uffd::copy(self, dst, src, protect, Wake::Wake)
    }

    fn zeropage(&self, range: HostRange) -> Result<(), UffdError> {
        Uffd::zeropage(self, range, Wake::Wake)
    }

    fn continue_(&self, range: HostRange, protect: Protect) -> Result<(), UffdError> {
        Uffd::continue_(self, range, protect, Wake::Wake)
    }

    fn unprotect(&self, range: HostRange, wake: Wake) -> Result<(), UffdError> {
        self.write_protect(range, Protect::None, wake)
    }

    fn poison(&self, range: HostRange) -> Result<(), UffdError> {
        Uffd::poison(self, range, Wake::Wake)
    }

    fn wake(&self, range: HostRange) -> Result<(), UffdError> {
        Uffd::wake(self, range)
    }
}
