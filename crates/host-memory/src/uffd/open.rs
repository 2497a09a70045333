//! Opening a userfaultfd: the ladder of privileges, and the handshake about features.

use std::fmt;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{Features, raw};

/// How a userfaultfd was had, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `USERFAULTFD_IOC_NEW` on `/dev/userfaultfd` (Linux 6.1 on): whoever may open the device may handle faults of the kernel too.
    Device,
    /// The system call: needs CAP_SYS_PTRACE, or `vm.unprivileged_userfaultfd` set to 1.
    Syscall,
    /// The system call with `UFFD_USER_MODE_ONLY`: needs no privilege, but a fault *inside* a system call (`write(2)` from such memory) fails with EFAULT, so it is
    /// not transparent to the program.
    UserModeOnly,
}

impl Access {
    /// All rungs of the ladder, in the order in which they are tried.
    pub const LADDER: [Access; 3] = [Access::Device, Access::Syscall, Access::UserModeOnly];

    /// Whether faults that the kernel itself takes on behalf of a system call are handled as well.
    pub fn handles_kernel_faults(self) -> bool {
        self != Access::UserModeOnly
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Device => "/dev/userfaultfd",
            Access::Syscall => "userfaultfd(2)",
            Access::UserModeOnly => "userfaultfd(2) with UFFD_USER_MODE_ONLY",
        })
    }
}

/// Why no userfaultfd could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// `COWSPACE_DISABLE` names `uffd`; see [`crate::probe::Disabled`].
    #[error("disabled by COWSPACE_DISABLE")]
    Disabled,
    /// Every rung of the ladder was refused.
    #[error("{}: {}; {}: {}; {}: {}", Access::Device, .0[0].desc(), Access::Syscall, .0[1].desc(), Access::UserModeOnly, .0[2].desc())]
    Refused(
        /// The answer of each rung, in the order of [`Access::LADDER`].
        [Errno; 3],
    ),
    /// A descriptor was opened, but the kernel does not speak this version of the protocol or its handshake failed.
    #[error("UFFDIO_API: {}", .0.desc())]
    Handshake(Errno),
}

/// Opens an unconfigured userfaultfd (close-on-exec, non-blocking) by one rung of the ladder.
///
/// # Errors
///
/// The kernel's: ENOENT where there is no device, EACCES or EPERM without the privilege, ENOSYS without the system call, EINVAL for `UFFD_USER_MODE_ONLY` before
/// Linux 5.11, EMFILE and ENFILE.
pub fn open_rung(access: Access) -> Result<OwnedFd, Errno> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    let fd = match access {
        Access::Device => {
            let device = open(
                "/dev/userfaultfd",
                OFlag::O_RDWR | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            // SAFETY: (1) the request and its integer argument are those of `USERFAULTFD_IOC_NEW`, which reads no memory of ours; (2) `device` lives until the end
            // of the block.
            unsafe { raw::new_uffd(device.as_raw_fd(), flags) }?
        }
        Access::Syscall => syscall(flags)?,
        Access::UserModeOnly => syscall(flags | raw::USER_MODE_ONLY)?,
    };
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn syscall(flags: libc::c_int) -> Result<libc::c_int, Errno> {
    // SAFETY: userfaultfd(2) takes one integer and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    // A descriptor number fits an int by the kernel's own limit (`fs.nr_open`); -1 is the error.
    Errno::result(fd as libc::c_int)
}

/// Shakes hands on a fresh descriptor: asks for `features` and returns what the kernel offers. Works once for each descriptor.
///
/// # Errors
///
/// EINVAL if a feature that was asked for is not offered.
pub(super) fn handshake(fd: &OwnedFd, features: Features) -> Result<Features, Errno> {
    let mut api = raw::Api {
        api: raw::UFFD_API,
        features: features.bits(),
        ioctls: 0,
    };
    // SAFETY: (1) `api` is a live, exclusive `struct uffdio_api`, its layout asserted; (2) the descriptor is open; should it be no userfaultfd, the kernel answers
    // ENOTTY.
    unsafe { raw::api(fd.as_raw_fd(), &raw mut api) }?;
    Ok(Features::from_bits_retain(api.features))
}
