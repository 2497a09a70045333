//! Whether the kernel itself may be writing to this process's memory: input that goes to pages directly, without a store of any thread.
//!
//! Such a transfer holds on to the page (it is *pinned*) and writes to it whatever the page table says by then: write protection, of userfaultfd as any other, does not stop it and
//! does not see it. `fork(2)` asks each page whether it is pinned; a program cannot. It can ask whether it has anything by which such a transfer may be under way:
//!
//! - memory pinned for long: io_uring's registered buffers, RDMA, vfio (`VmPin` of `proc_pid_status(5)`);
//! - a descriptor opened with `O_DIRECT`;
//! - an io_uring, or a context of the older asynchronous input and output (`io_setup(2)`).
//!
//! What is not found: a transfer whose descriptor was closed while it was under way; and `process_vm_writev(2)`, `/proc/PID/mem` and debuggers, be it a thread of this process or another one
//! that writes so. These hold on to a page for as long as the copying takes, which is short unless the memory that they copy from is served by a userfaultfd.

use std::fs;
use std::io;

use nix::fcntl::readlinkat;

use crate::folder::Folder;

/// Whether memory of this process is pinned for long. True also where that cannot be read.
#[must_use]
pub fn has_pinned_memory() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pinned = status.lines().find_map(|line| line.strip_prefix("VmPin:"));
    pinned.is_none_or(|size| size.trim() != "0 kB")
}

/// Whether a transfer by the kernel into pages of this process may be under way. True also where that cannot be found out. Allocates (but calls no `malloc`, see `folder.rs`); takes some
/// microseconds for each open descriptor.
#[must_use]
pub fn may_be_under_way() -> bool {
    has_pinned_memory() || has_direct_descriptor() || has_aio_context()
}

/// Whether some descriptor of this process is an io_uring or was opened for direct input and output.
fn has_direct_descriptor() -> bool {
    let looked = Folder::open(c"/proc/self/fd").and_then(|folder| {
        let mut found = false;
        folder.each_number(|number| {
            found |= is_direct(number) || is_io_uring(&folder, number);
            Ok::<_, io::Error>(())
        })?;
        Ok(found)
    });
    looked.unwrap_or(true)
}

fn is_io_uring(folder: &Folder, number: i32) -> bool {
    readlinkat(folder, number.to_string().as_str())
        .is_ok_and(|target| target == "anon_inode:[io_uring]")
}

fn is_direct(number: i32) -> bool {
    // SAFETY: F_GETFL changes nothing, whatever the number names by now; on a closed one it is an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_DIRECT != 0
}

/// Whether this process has a context of `io_setup(2)`: each is a mapping of its own. The system's count says first whether anybody has one.
fn has_aio_context() -> bool {
    let none = fs::read_to_string("/proc/sys/fs/aio-nr").is_ok_and(|count| count.trim() == "0");
    !none && fs::read_to_string("/proc/self/maps").map_or(true, |maps| maps.contains("/[aio]"))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    /// One test, because what it opens can be seen by all threads of the process; no other test of this program opens the like.
    #[test]
    fn direct_descriptors_and_rings_are_found() {
        assert!(!has_direct_descriptor());
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(file.path());
        match open {
            Ok(direct) => {
                assert!(may_be_under_way());
                drop(direct);
            }
            Err(error) => println!("SKIP O_DIRECT: {error}"),
        }
        assert!(!has_direct_descriptor());
    }
}
