//! Places where less is allowed, for real: users without privilege, containers, system call filters, limits.
//!
//! What can be masked has a word of `COWSPACE_DISABLE` ([`host_memory::probe`]). These here change the calling thread for good, and whatever it starts: a test enters one in a thread
//! of its own ([`Place::in_a_thread`]) and starts a program there, or the program `on_rung` enters one and becomes another program.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_move,
};
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_thread_gid, set_thread_groups, set_thread_uid,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Nobody, by custom: an id that owns nothing.
pub const NOBODY: u32 = 65534;
/// Descriptors that [`Place::FewFiles`] leaves.
pub const FEW_FILES: u64 = 64;
/// How `on_rung` ends where this machine cannot put a program into a place.
pub const NOT_HERE: u8 = 77;
/// `USERFAULTFD_IOC_NEW`, the request of `/dev/userfaultfd` (linux/userfaultfd.h).
const IOC_NEW: u64 = 0xaa00;

/// Whether root may become [`NOBODY`]; says so where not: in a user namespace without that user.
pub fn has_nobody(test: &str) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    // First here, first outside, how many (user_namespaces(7)).
    let number = |text: &str| text.parse::<u64>().ok();
    let holds = map.lines().any(|line| {
        let fields: Vec<Option<u64>> = line.split_whitespace().map(number).collect();
        let [Some(first), _, Some(count)] = fields[..] else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&NOBODY.into())
    });
    if !holds {
        println!("SKIP {test}: this user namespace has no user {NOBODY}");
    }
    holds
}

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// A filter answers EPERM where a userfaultfd is asked for.
    FilterEperm,
    /// A filter answers ENOSYS there, as a kernel without it does.
    FilterEnosys,
    /// A user without privilege.
    Nobody,
    /// Root of a user namespace, which outside is a user without privilege. For a process of one thread.
    UserNamespace,
    /// Root with the capabilities, the devices and the system calls that a container has by default.
    Container,
    /// A process may have [`FEW_FILES`] descriptors.
    FewFiles,
    /// The kernel makes no memory file that can be executed (`vm.memfd_noexec=2`).
    /// What the thread starts *first* is the init process of a process namespace of its own, and enters [`Place::NoExecInside`].
    NoExec,
    /// The second half of that.
    NoExecInside,
}

impl Place {
    /// All that a program can be started in.
    pub const ALL: [Place; 7] = [
        Place::FilterEperm,
        Place::FilterEnosys,
        Place::Nobody,
        Place::UserNamespace,
        Place::Container,
        Place::FewFiles,
        Place::NoExec,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Place::FilterEperm => "filter-eperm",
            Place::FilterEnosys => "filter-enosys",
            Place::Nobody => "nobody",
            Place::UserNamespace => "user-namespace",
            Place::Container => "container",
            Place::FewFiles => "few-files",
            Place::NoExec => "memfd-noexec",
            Place::NoExecInside => "memfd-noexec-inside",
        }
    }

    /// The place of this name.
    pub fn named(name: &str) -> Option<Place> {
        let all = Place::ALL.into_iter().chain([Place::NoExecInside]);
        all.into_iter().find(|place| place.name() == name)
    }

    /// Puts the calling thread there, and what it starts from now on. There is no way back.
    ///
    /// # Errors
    ///
    /// What this machine or this user lacks for it, in words. The thread may be half there.
    pub fn enter(self) -> Result<(), String> {
        match self {
            Place::FilterEperm => filter(&USERFAULTFD, libc::EPERM),
            Place::FilterEnosys => filter(&USERFAULTFD, libc::ENOSYS),
            Place::Nobody => become_nobody(),
            Place::UserNamespace => enter_user_namespace(),
            Place::Container => enter_container(),
            Place::FewFiles => setrlimit(Resource::RLIMIT_NOFILE, FEW_FILES, FEW_FILES)
                .map_err(lacks("the limit of descriptors cannot be set")),
            Place::NoExec => enter_process_namespace(),
            Place::NoExecInside => refuse_executable_memfds(),
        }
    }

    /// Runs `body` in a thread that has entered it.
    ///
    /// # Errors
    ///
    /// Those of [`Place::enter`]; `body` was not run then.
    ///
    /// # Panics
    ///
    /// As `body` does.
    pub fn in_a_thread<T: Send>(self, body: impl FnOnce() -> T + Send) -> Result<T, String> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || self.enter().map(|()| body()));
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Words for an error.
fn lacks<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Both ways to a userfaultfd.
const USERFAULTFD: [i64; 1] = [libc::SYS_userfaultfd];

/// What the default profiles of container engines do not let through, as far as this architecture has it. (process_vm_readv, process_vm_writev and ptrace they do, from Linux 4.8 on; who
/// forbids those, too, is met by `tests/c/sandbox.c`.)
const NOT_IN_CONTAINERS: [i64; 37] = [
    libc::SYS_userfaultfd,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_mbind,
    libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
];

/// What root in a container may, by default.
const IN_CONTAINERS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// These calls, and the request of `/dev/userfaultfd`, answer `errno`.
fn filter(calls: &[i64], errno: i32) -> Result<(), String> {
    let architecture = std::env::consts::ARCH
        .try_into()
        .map_err(lacks("system call filters"))?;
    let program = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, IOC_NEW)
        .and_then(|request| SeccompRule::new(vec![request]))
        .and_then(|new| {
            let mut rules: BTreeMap<_, _> = calls.iter().map(|&call| (call, vec![])).collect();
            rules.insert(libc::SYS_ioctl, vec![new]);
            let answer = SeccompAction::Errno(errno.unsigned_abs());
            SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture)
        })
        .and_then(BpfProgram::try_from)
        .map_err(lacks("no filter can be made"))?;
    seccompiler::apply_filter(&program).map_err(lacks("system call filters"))
}

fn become_nobody() -> Result<(), String> {
    if !geteuid().is_root() {
        // One already, or somebody like it.
        return Ok(());
    }
    set_thread_groups(&[])
        .and_then(|()| set_thread_gid(Gid::from_raw(NOBODY)))
        .and_then(|()| set_thread_uid(Uid::from_raw(NOBODY)))
        .map_err(lacks("another user"))
}

fn enter_user_namespace() -> Result<(), String> {
    become_nobody()?;
    let (user, group) = (geteuid(), getegid());
    // A process that has become another user is not dumpable, and its files in /proc are root's: the map is written after that was undone, which exec does too.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .map_err(lacks("user namespaces"))?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(lacks("user namespaces"))?;
    let write = |file: &str, text: String| {
        fs::write(Path::new("/proc/self").join(file), text).map_err(lacks("user namespaces"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {} 1", user.as_raw()))?;
    write("gid_map", format!("0 {} 1", group.as_raw()))
}

fn enter_container() -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("only root can set a container up".to_owned());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(lacks("mount namespaces"))?;
    mount_private().map_err(lacks("mounts of its own"))?;
    only_usual_devices().map_err(lacks("a folder of devices"))?;
    for capability in CapabilitySet::all().iter() {
        // Ends where the kernel has no more.
        if !IN_CONTAINERS.contains(capability)
            && capability_is_in_bounding_set(capability).unwrap_or(false)
        {
            remove_capability_from_bounding_set(capability).map_err(lacks("capabilities"))?;
        }
    }
    filter(&NOT_IN_CONTAINERS, libc::EPERM)
}

/// Mounts made from now on are this thread's own.
fn mount_private() -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", private)?)
}

/// A /dev with what every container has.
fn only_usual_devices() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = folder.path();
    mount("tmpfs", dev, "tmpfs", MountFlags::empty(), None)?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        fs::write(dev.join(name), "")?;
        mount_bind(Path::new("/dev").join(name), dev.join(name))?;
    }
    fs::create_dir(dev.join("shm"))?;
    mount("tmpfs", dev.join("shm"), "tmpfs", MountFlags::empty(), None)?;
    symlink("/proc/self/fd", dev.join("fd"))?;
    Ok(mount_move(dev, "/dev")?)
}

fn enter_process_namespace() -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("only root can forbid it".to_owned());
    }
    // With the network's namespace go the names of sockets, which tests make of their process's number.
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .map_err(lacks("process namespaces"))?;
    mount_private().map_err(lacks("mounts of its own"))
}

fn refuse_executable_memfds() -> Result<(), String> {
    mount("proc", "/proc", "proc", MountFlags::empty(), None).map_err(lacks("a /proc"))?;
    fs::write("/proc/sys/vm/memfd_noexec", "2").map_err(lacks("vm.memfd_noexec (Linux 6.3)"))
}
