//! What surrounds the probe's answers: who this process is, and what can stand between it and
//! userfaultfd.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use host_memory::huge::try_collapse;
use host_memory::page::{Prot, page_size};
use host_memory::probe::Support;
use host_memory::reserve::{Reservation, Source};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;

/// CAP_SYS_PTRACE's number in `linux/capability.h`.
const CAP_SYS_PTRACE: u32 = 19;

/// Addresses that the root VMAR spans at the least.
const ADDRESS_SPACE: usize = 128 << 30;

/// Facts about this process and its surroundings, from /proc and /dev.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Rust's name of the architecture.
    pub(crate) architecture: &'static str,
    /// Effective user id.
    pub(crate) uid: u32,
    /// CAP_SYS_PTRACE is in effect. Within a user namespace that does not count for userfaultfd.
    pub(crate) sys_ptrace: bool,
    /// User ids are not those of the initial user namespace.
    pub(crate) user_namespace: bool,
    /// A seccomp filter is on.
    pub(crate) seccomp_filter: bool,
    /// `vm.unprivileged_userfaultfd`; `None` where there is no such setting: the kernel has no
    /// userfaultfd, or is older than 5.2, where it is for everybody.
    pub(crate) unprivileged_userfaultfd: Option<bool>,
    /// The node `/dev/userfaultfd`.
    pub(crate) device: Option<Device>,
    /// Hard limit on open files: cowspace raises the soft one to it.
    pub(crate) open_files: Option<u64>,
    /// Whether an address space of the root VMAR's size can be reserved and memory mapped within;
    /// else why not.
    #[serde(skip)]
    pub(crate) reservation: Result<(), Errno>,
    /// Whether a huge page could be made of frozen memory just now.
    #[serde(skip)]
    pub(crate) huge_pages: Support,
}

/// Owner and permissions of `/dev/userfaultfd`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Device {
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) mode: u32,
}

impl Machine {
    /// Reads all of them. What cannot be read counts as absent.
    pub(crate) fn read() -> Machine {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = field(&status, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        Machine {
            architecture: std::env::consts::ARCH,
            uid: effective_uid(&status).unwrap_or(u32::MAX),
            sys_ptrace: effective.is_some_and(|caps| caps & (1 << CAP_SYS_PTRACE) != 0),
            user_namespace: fs::read_to_string("/proc/self/uid_map")
                .is_ok_and(|map| !is_initial(&map)),
            seccomp_filter: field(&status, "Seccomp:") == Some("2"),
            unprivileged_userfaultfd: fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd")
                .ok()
                .map(|value| value.trim() != "0"),
            device: device(),
            open_files: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(_soft, hard)| hard),
            reservation: reserve(),
            huge_pages: try_collapse(),
        }
    }

    /// Whether the privilege that userfaultfd(2) asks for is held where it asks for it.
    pub(crate) fn may_trace(&self) -> bool {
        self.sys_ptrace && !self.user_namespace
    }
}

/// The first word after `name` at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
}

/// The initial user namespace maps all ids to themselves.
fn is_initial(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The ids are: real, effective, saved, file system.
fn effective_uid(status: &str) -> Option<u32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn device() -> Option<Device> {
    let node = fs::metadata("/dev/userfaultfd").ok()?;
    node.file_type().is_char_device().then(|| Device {
        uid: node.uid(),
        gid: node.gid(),
        mode: node.mode() & 0o777,
    })
}

fn reserve() -> Result<(), Errno> {
    let errno = |error: std::io::Error| {
        error
            .raw_os_error()
            .map_or(Errno::UnknownErrno, Errno::from_raw)
    };
    let space = Reservation::new(ADDRESS_SPACE).map_err(errno)?;
    let page = space
        .range()
        .sub(0, page_size())
        .ok_or(Errno::UnknownErrno)?;
    space
        .map(page, Source::Anonymous, Prot::READ | Prot::WRITE)
        .map_err(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let status = "Name:\tcowspace\nUid:\t0\t1000\t2\t3\nCapEff:\t0000000000080000\n\
                      Seccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(status, "Seccomp:"), Some("2"));
        assert_eq!(field(status, "CapEff:"), Some("0000000000080000"));
        assert_eq!(field(status, "Absent:"), None);
        assert_eq!(effective_uid(status), Some(1000));
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("         0       1000          1\n"));
    }

    #[test]
    fn this_machine_is_read() {
        let machine = Machine::read();
        assert_eq!(machine.uid, fs::metadata("/proc/self").unwrap().uid());
        assert!(machine.open_files.is_some_and(|limit| limit > 0));
    }
}
