//! Whether the kernel itself may be writing to this process's memory: input that goes to pages directly, without a store of any thread.
//!
//! Such a transfer holds on to the page (it is *pinned*) and writes to it whatever the page table says by then: write protection, of userfaultfd as any other, does not stop it and
//! does not see it. `fork(2)` asks each page whether it is pinned; a program cannot. It can ask whether it has anything by which such a transfer may be under way:
//!
//! - memory pinned for long: RDMA, vfio (`VmPin` of `proc_pid_status(5)`), and io_uring's registered buffers. These are in `VmPin` too, but Linux 7.3 counts them there only for who lacks
//!   `CAP_IPC_LOCK`; so each ring is asked as well (`UserBufs` of its `/proc/self/fdinfo`);
//! - a descriptor opened with `O_DIRECT`;
//! - an io_uring, or a context of the older asynchronous input and output (`io_setup(2)`).
//!
//! What is not found: a transfer whose descriptor was closed while it was under way, and what is registered with a ring that has no descriptor any more (but a mapping, or one registered with itself) where
//! `VmPin` does not count it; and `process_vm_writev(2)`, `/proc/PID/mem` and debuggers, be it a thread of this process or another one
//! that writes so. These hold on to a page for as long as the copying takes, which is short unless the memory that they copy from is served by a userfaultfd.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use nix::fcntl::readlinkat;

use crate::folder::Folder;

/// How often a ring is asked that is being used.
const RING_TRIES: usize = 100;

/// Whether memory of this process is pinned for long. True also where that cannot be read.
#[must_use]
pub fn has_pinned_memory() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pinned = status.lines().find_map(|line| line.strip_prefix("VmPin:"));
    pinned.is_none_or(|size| size.trim() != "0 kB") || has_registered_buffers()
}

/// Whether a ring of this process has registered buffers.
fn has_registered_buffers() -> bool {
    any_descriptor(|folder, number| is_io_uring(folder, number) && has_buffers(number))
}

/// Newer kernels tell nothing of a ring that is just being used, so it is asked some times.
fn has_buffers(ring: i32) -> bool {
    for _ in 0..RING_TRIES {
        let Ok(told) = fs::read_to_string(format!("/proc/self/fdinfo/{ring}")) else {
            // Closed since, or not to be known.
            return Path::new("/proc/self/fd").join(ring.to_string()).exists();
        };
        if let Some(count) = told.lines().find_map(|line| line.strip_prefix("UserBufs:")) {
            return count.trim() != "0";
        }
        thread::yield_now();
    }
    true
}

/// Whether a transfer by the kernel into pages of this process may be under way. True also where that cannot be found out. Allocates (but calls no `malloc`, see `folder.rs`); takes some
/// microseconds for each open descriptor.
#[must_use]
pub fn may_be_under_way() -> bool {
    has_pinned_memory() || has_direct_descriptor() || has_aio_context()
}

/// Whether some descriptor of this process is an io_uring or was opened for direct input and output.
fn has_direct_descriptor() -> bool {
    any_descriptor(|folder, number| is_direct(number) || is_io_uring(folder, number))
}

/// Whether this is so of some descriptor of this process. True also where they cannot be listed.
fn any_descriptor(is_so: impl Fn(&Folder, i32) -> bool) -> bool {
    let looked = Folder::open(c"/proc/self/fd").and_then(|folder| {
        let mut found = false;
        folder.each_number(|number| {
            found = found || is_so(&folder, number);
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
        #[cfg(feature = "pin")]
        registered_buffers_are_found();
    }

    #[cfg(feature = "pin")]
    fn registered_buffers_are_found() {
        assert!(!has_registered_buffers());
        let memory = memmap2::MmapMut::map_anon(crate::page::page_size()).unwrap();
        let Ok(ring) = io_uring::IoUring::new(2) else {
            println!("SKIP registered buffers: no io_uring");
            return;
        };
        assert!(!has_registered_buffers());
        let buffer = libc::iovec {
            iov_base: memory.as_ptr().cast_mut().cast(),
            iov_len: memory.len(),
        };
        // SAFETY: nothing is ever read into the buffer, and the memory outlives the registration.
        unsafe { ring.submitter().register_buffers(&[buffer]) }.unwrap();
        assert!(has_registered_buffers() && has_pinned_memory());
        ring.submitter().unregister_buffers().unwrap();
        assert!(!has_registered_buffers());
    }
}
