//! What this machine offers, asked once.
//!
//! Each answer comes from trying, not from a version number: features are back-ported, masked by containers, compiled out, or broken on one architecture. Trying is
//! safe in any state of the process: it uses descriptors and mappings of its own, touches no memory that could fault, and leaves nothing behind.
//!
//! # `COWSPACE_DISABLE`
//!
//! For tests and for finding faults, this environment variable makes the probe and [`Uffd::open`] behave as on a machine that lacks what it names. It is a list of
//! words with commas between; unknown words are ignored:
//!
//! | word | hides |
//! |---|---|
//! | `uffd` | userfaultfd altogether |
//! | `dev-userfaultfd` | `/dev/userfaultfd` (as before 6.1, and in containers) |
//! | `kernel-faults` | userfaultfd for faults of the kernel itself: what is left is for faults in user mode only (as without privilege) |
//! | `wp` | write protection by userfaultfd (as on arm64 before 6.12) |
//! | `continue-wp` | `UFFDIO_CONTINUE` that write-protects (as before 6.4) |
//! | `minor` | minor faults of shmem (as before 5.14) |
//! | `poison` | `UFFDIO_POISON` (as before 6.6) |
//! | `pagemap-scan` | `PAGEMAP_SCAN` (as before 6.7) |
//! | `dontunmap` | `MREMAP_DONTUNMAP` of shared memory (as before 5.13) |
//! | `collapse` | `MADV_COLLAPSE` (as before 6.1) |
//! | `force` | access past permissions through `/proc/self/mem` (as with `proc_mem.force_override=never`); only from 6.11 on |
//!
//! It is read once, when first needed.

use std::fmt;
use std::sync::OnceLock;

use nix::errno::Errno;

use crate::memfd::{MemFd, SealError, maps_writable};
use crate::page::{Prot, page_size};
use crate::pagemap::{Method, Pagemap};
use crate::reserve::{Reservation, Source};
use crate::uffd::{
    Access, Features, Modes, Protect, RegisterError, Uffd, UffdError, Wake, open_rung,
};

bitflags::bitflags! {
    /// What `COWSPACE_DISABLE` hides; see the module.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Disabled: u16 {
        /// `uffd`
        const UFFD = 1 << 0;
        /// `wp`
        const WP = 1 << 1;
        /// `minor`
        const MINOR = 1 << 2;
        /// `poison`
        const POISON = 1 << 3;
        /// `pagemap-scan`
        const PAGEMAP_SCAN = 1 << 4;
        /// `dontunmap`
        const DONTUNMAP = 1 << 5;
        /// `collapse`
        const COLLAPSE = 1 << 6;
        /// `continue-wp`
        const CONTINUE_WP = 1 << 7;
        /// `kernel-faults`
        const KERNEL_FAULTS = 1 << 8;
        /// `dev-userfaultfd`
        const DEV_USERFAULTFD = 1 << 9;
        /// `force`
        const FORCE = 1 << 10;
    }
}

impl Disabled {
    /// The process's setting.
    pub fn get() -> Disabled {
        static DISABLED: OnceLock<Disabled> = OnceLock::new();
        *DISABLED.get_or_init(|| {
            std::env::var("COWSPACE_DISABLE")
                .map_or(Disabled::empty(), |list| Disabled::parse(&list))
        })
    }

    fn parse(list: &str) -> Disabled {
        list.split(',')
            .map(|word| match word.trim() {
                "uffd" => Disabled::UFFD,
                "wp" => Disabled::WP,
                "minor" => Disabled::MINOR,
                "poison" => Disabled::POISON,
                "pagemap-scan" => Disabled::PAGEMAP_SCAN,
                "dontunmap" => Disabled::DONTUNMAP,
                "collapse" => Disabled::COLLAPSE,
                "continue-wp" => Disabled::CONTINUE_WP,
                "kernel-faults" => Disabled::KERNEL_FAULTS,
                "dev-userfaultfd" => Disabled::DEV_USERFAULTFD,
                "force" => Disabled::FORCE,
                _ => Disabled::empty(),
            })
            .fold(Disabled::empty(), Disabled::union)
    }

    /// The answer of a rung of the ladder that is hidden; `None` if it is not.
    pub(crate) fn refuses(self, access: Access) -> Option<Errno> {
        let hidden = match access {
            Access::Device if self.contains(Disabled::DEV_USERFAULTFD) => Errno::ENOENT,
            _ if self.contains(Disabled::UFFD) => Errno::ENOSYS,
            _ if access.handles_kernel_faults() && self.contains(Disabled::KERNEL_FAULTS) => {
                Errno::EPERM
            }
            _ => return None,
        };
        Some(hidden)
    }

    /// The features of userfaultfd that are not hidden.
    pub(crate) fn leaves(self) -> Features {
        let mut hidden = Features::empty();
        if self.contains(Disabled::WP) {
            hidden |= Features::WP_SHMEM | Features::WP_UNPOPULATED | Features::WP_ASYNC;
        }
        if self.contains(Disabled::MINOR) {
            hidden |= Features::MINOR_SHMEM;
        }
        if self.contains(Disabled::POISON) {
            hidden |= Features::POISON;
        }
        !hidden
    }
}

/// Whether something works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Yes,
    /// It does not.
    No(Reason),
}

impl Support {
    /// Whether it works.
    pub fn is_yes(self) -> bool {
        self == Support::Yes
    }

    fn of(works: bool, otherwise: Reason) -> Support {
        if works {
            Support::Yes
        } else {
            Support::No(otherwise)
        }
    }
}

/// Why something does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `COWSPACE_DISABLE` hides it.
    Disabled,
    /// There is no userfaultfd to do it with; the ladder says why.
    NoUserfaultfd,
    /// Only a descriptor for faults in user mode could be had: system calls on such memory would fail.
    UserModeOnly,
    /// The kernel was built without huge pages.
    NoHugePages,
    /// The kernel does not offer this feature of userfaultfd; its name in the kernel's header.
    NotOffered(&'static str),
    /// The kernel offers it, but the trial was refused at this step.
    Refused(&'static str, Errno),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Disabled => f.write_str("disabled by COWSPACE_DISABLE"),
            Reason::NoUserfaultfd => f.write_str("no userfaultfd"),
            Reason::UserModeOnly => f.write_str("only faults in user mode could be handled"),
            Reason::NoHugePages => f.write_str("the kernel has no huge pages"),
            Reason::NotOffered(feature) => write!(f, "the kernel does not offer {feature}"),
            Reason::Refused(step, errno) => write!(f, "{step}: {}", errno.desc()),
        }
    }
}

/// One rung of the ladder to a userfaultfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The way.
    pub access: Access,
    /// Whether it is open to this process.
    pub support: Support,
}

/// The answers. All fields are facts about this process on this kernel; none changes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The kernel's release, as `uname -r` says it. Empty where /proc does not say.
    pub release: String,
    /// Bytes of a page.
    pub page_size: usize,
    /// `vm.max_map_count`: how many mappings this process may have. `None` where /proc does not say.
    pub max_map_count: Option<u64>,
    /// What `COWSPACE_DISABLE` hides.
    pub disabled: Disabled,
    /// The ladder to a userfaultfd, best rung first. Every rung is tried, also below one that holds.
    pub ladder: [Rung; 3],
    /// The best rung that holds.
    pub access: Option<Access>,
    /// What the kernel's userfaultfd offers, less what is hidden. Empty without one.
    pub offered: Features,
    /// Traced mode: faults, the kernel's own included, handled in user space.
    pub traced: Support,
    /// Within traced mode, that first writes to shared pages are seen: write protection, and `UFFDIO_CONTINUE` that sets it, of a private memfd mapping.
    pub write_tracking: Support,
    /// `PAGEMAP_SCAN`.
    pub pagemap_scan: Support,
    /// `UFFDIO_POISON`.
    pub poison: Support,
    /// `UFFDIO_MOVE`.
    pub move_pages: Support,
    /// Protection against reads as well as writes (`UFFDIO_RWPROTECT`).
    pub read_protect: Support,
    /// Sealing of memfds, without which nothing works.
    pub memfd_sealing: Support,
    /// `MADV_COLLAPSE`. Whether huge pages can really be made now, [`try_collapse`](crate::huge::try_collapse) says.
    pub collapse: Support,
}

impl Probe {
    /// The machine's answers, asked at the first call.
    pub fn get() -> &'static Probe {
        static PROBE: OnceLock<Probe> = OnceLock::new();
        PROBE.get_or_init(|| Probe::run(Disabled::get()))
    }

    fn run(disabled: Disabled) -> Probe {
        let ladder = Access::LADDER.map(|access| Rung {
            access,
            support: if disabled.refuses(access).is_some() {
                Support::No(Reason::Disabled)
            } else {
                match open_rung(access) {
                    Ok(_closed) => Support::Yes,
                    Err(errno) => Support::No(Reason::Refused("open", errno)),
                }
            },
        });
        let access = ladder
            .iter()
            .find(|rung| rung.support.is_yes())
            .map(|rung| rung.access);
        let offered = access
            .and_then(|access| Uffd::offered(access).ok())
            .unwrap_or(Features::empty())
            & disabled.leaves();
        let feature = |feature, name, hidden| match access {
            _ if disabled.intersects(hidden | Disabled::UFFD) => Support::No(Reason::Disabled),
            None => Support::No(Reason::NoUserfaultfd),
            Some(_) => Support::of(offered.contains(feature), Reason::NotOffered(name)),
        };
        let traced = first_no([
            feature(
                Features::MISSING_SHMEM,
                "UFFD_FEATURE_MISSING_SHMEM",
                Disabled::empty(),
            ),
            feature(
                Features::MINOR_SHMEM,
                "UFFD_FEATURE_MINOR_SHMEM",
                Disabled::MINOR,
            ),
            feature(
                Features::EVENT_REMAP,
                "UFFD_FEATURE_EVENT_REMAP",
                Disabled::empty(),
            ),
            Support::of(
                access.is_some_and(Access::handles_kernel_faults),
                Reason::UserModeOnly,
            ),
        ]);
        let write_tracking = match first_no([
            traced,
            feature(
                Features::WP_SHMEM,
                "UFFD_FEATURE_WP_HUGETLBFS_SHMEM",
                Disabled::WP,
            ),
            Support::of(!disabled.contains(Disabled::CONTINUE_WP), Reason::Disabled),
        ]) {
            Support::Yes => try_write_tracking().map_or_else(Support::No, |()| Support::Yes),
            no => no,
        };
        Probe {
            release: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map(|text| text.trim().to_owned())
                .unwrap_or_default(),
            page_size: page_size(),
            max_map_count: std::fs::read_to_string("/proc/sys/vm/max_map_count")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            disabled,
            ladder,
            access,
            offered,
            traced,
            write_tracking,
            pagemap_scan: if disabled.contains(Disabled::PAGEMAP_SCAN) {
                Support::No(Reason::Disabled)
            } else {
                try_pagemap_scan().map_or_else(Support::No, |()| Support::Yes)
            },
            poison: feature(Features::POISON, "UFFD_FEATURE_POISON", Disabled::POISON),
            move_pages: feature(Features::MOVE, "UFFD_FEATURE_MOVE", Disabled::empty()),
            read_protect: feature(Features::RWP, "UFFD_FEATURE_RWP", Disabled::empty()),
            memfd_sealing: try_sealing().map_or_else(Support::No, |()| Support::Yes),
            collapse: if disabled.contains(Disabled::COLLAPSE) {
                Support::No(Reason::Disabled)
            } else {
                try_collapse().map_or_else(Support::No, |()| Support::Yes)
            },
        }
    }
}

/// The first refusal, or [`Support::Yes`].
fn first_no<const N: usize>(all: [Support; N]) -> Support {
    all.into_iter()
        .find(|one| !one.is_yes())
        .unwrap_or(Support::Yes)
}

/// The errno within an [`std::io::Error`].
fn errno(error: &std::io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// Maps one page of a memfd privately, registers it for everything, and installs it write-protected: what a traced private mapping needs. The page is never touched
/// through the mapping, so that nothing can wait for it.
fn try_write_tracking() -> Result<(), Reason> {
    let io = |step| move |error: std::io::Error| Reason::Refused(step, errno(&error));
    let uffd = Uffd::open().map_err(|_| Reason::NoUserfaultfd)?;
    let len = page_size();
    let memfd = MemFd::create("cowspace-probe", len as u64).map_err(io("memfd_create"))?;
    memfd.write_at(&[1], 0).map_err(io("pwrite"))?;
    let memory = Reservation::new(len).map_err(io("mmap"))?;
    memory
        .map(
            memory.range(),
            Source::PrivateUnsealed(&memfd, 0),
            Prot::READ | Prot::WRITE,
        )
        .map_err(io("mmap"))?;
    uffd.register(&memory, memory.range(), Modes::all())
        .map_err(|error| {
            Reason::Refused(
                "UFFDIO_REGISTER",
                match error {
                    RegisterError::Busy => Errno::EBUSY,
                    RegisterError::Fatal(errno) => errno,
                    RegisterError::Unsupported | RegisterError::NotOwned => Errno::EINVAL,
                },
            )
        })?;
    uffd.continue_(memory.range(), Protect::Write, Wake::DontWake)
        .map_err(|error| Reason::Refused("UFFDIO_CONTINUE", cause(error)))?;
    uffd.write_protect(memory.range(), Protect::None, Wake::DontWake)
        .map_err(|error| Reason::Refused("UFFDIO_WRITEPROTECT", cause(error)))
}

/// An errno that says what the error means, to print.
fn cause(error: UffdError) -> Errno {
    match error {
        UffdError::Exists => Errno::EEXIST,
        UffdError::Again { .. } => Errno::EAGAIN,
        UffdError::Gone => Errno::ENOENT,
        UffdError::NoMemory => Errno::ENOMEM,
        UffdError::NoPage => Errno::EFAULT,
        UffdError::Fatal(errno) => errno,
    }
}

fn try_pagemap_scan() -> Result<(), Reason> {
    let refused = |errno| Reason::Refused("PAGEMAP_SCAN", errno);
    match Pagemap::open().map(|pagemap| pagemap.method()) {
        Ok(Method::Scan) => Ok(()),
        Ok(Method::Entries) => Err(refused(Errno::ENOTTY)),
        Err(error) => Err(refused(errno(&error))),
    }
}

fn try_sealing() -> Result<(), Reason> {
    let memfd = MemFd::create("cowspace-probe", page_size() as u64)
        .map_err(|error| Reason::Refused("memfd_create", errno(&error)))?;
    match memfd.seal() {
        Ok(layer) if maps_writable(layer.as_fd()) => {
            Err(Reason::Refused("F_ADD_SEALS without effect", Errno::ENOSYS))
        }
        Ok(_layer) => Ok(()),
        Err((_, SealError::Busy)) => Err(Reason::Refused("F_ADD_SEALS", Errno::EBUSY)),
        Err((_, SealError::Io(error))) => Err(Reason::Refused("F_ADD_SEALS", errno(&error))),
    }
}

/// Advice about no bytes: the kernel checks that it knows the advice, and does nothing.
fn try_collapse() -> Result<(), Reason> {
    // SAFETY: a range of length 0 holds no memory that could change, whatever the advice.
    let result = unsafe { libc::madvise(page_size() as *mut _, 0, libc::MADV_COLLAPSE) };
    Errno::result(result)
        .map(drop)
        .map_err(|errno| Reason::Refused("madvise", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disable_list_is_read_word_by_word() {
        assert_eq!(Disabled::parse(""), Disabled::empty());
        assert_eq!(Disabled::parse("minor, wp"), Disabled::MINOR | Disabled::WP);
        assert_eq!(
            Disabled::parse("continue-wp,kernel-faults,dev-userfaultfd"),
            Disabled::CONTINUE_WP | Disabled::KERNEL_FAULTS | Disabled::DEV_USERFAULTFD
        );
        assert_eq!(
            Disabled::parse("uffd,nonsense,pagemap-scan,poison,collapse"),
            Disabled::UFFD | Disabled::PAGEMAP_SCAN | Disabled::POISON | Disabled::COLLAPSE
        );
    }

    #[test]
    fn the_best_rung_that_holds_is_taken() {
        let probe = Probe::run(Disabled::get());
        let first = probe.ladder.iter().find(|rung| rung.support.is_yes());
        assert_eq!(probe.access, first.map(|rung| rung.access));
        match Uffd::open() {
            Ok(uffd) => assert_eq!(Some(uffd.access()), probe.access),
            Err(_) => assert_eq!(probe.access, None),
        }
    }

    #[test]
    fn hidden_features_are_not_there() {
        let no = Support::No(Reason::Disabled);
        let probe = Probe::run(Disabled::UFFD);
        assert_eq!((probe.access, probe.offered), (None, Features::empty()));
        assert_eq!(
            (probe.traced, probe.write_tracking, probe.poison),
            (no, no, no)
        );
        assert_eq!(Probe::run(Disabled::MINOR).traced, no_or_without_uffd(no));
        assert_eq!(Probe::run(Disabled::POISON).poison, no);
        assert_eq!(Probe::run(Disabled::PAGEMAP_SCAN).pagemap_scan, no);
        assert_eq!(Probe::run(Disabled::COLLAPSE).collapse, no);
        let without_wp = Probe::run(Disabled::WP);
        assert!(!without_wp.write_tracking.is_yes());
        assert!(!without_wp.offered.intersects(Features::WP_SHMEM));
        assert_eq!(without_wp.traced, Probe::run(Disabled::empty()).traced);
    }

    #[test]
    fn hidden_rungs_are_closed_and_the_others_as_they_are() {
        let all = Probe::run(Disabled::empty());
        let no = Support::No(Reason::Disabled);
        let of = |probe: &Probe| probe.ladder.map(|rung| rung.support);
        let [device, syscall, user_mode_only] = of(&all);
        let without_device = Probe::run(Disabled::DEV_USERFAULTFD);
        assert_eq!(of(&without_device), [no, syscall, user_mode_only]);
        assert_eq!(
            without_device.traced.is_yes(),
            syscall.is_yes() && all.traced.is_yes()
        );
        let user_mode = Probe::run(Disabled::KERNEL_FAULTS);
        assert_eq!(of(&user_mode), [no, no, user_mode_only]);
        assert!(!user_mode.traced.is_yes());
        if all.traced.is_yes() && user_mode_only.is_yes() {
            assert_eq!(user_mode.traced, Support::No(Reason::UserModeOnly));
        }
        let without_continue = Probe::run(Disabled::CONTINUE_WP);
        assert_eq!(of(&without_continue), [device, syscall, user_mode_only]);
        assert_eq!(without_continue.traced, all.traced);
        assert!(!without_continue.write_tracking.is_yes());
    }

    /// The refusal to expect: without any userfaultfd the lack of it comes first.
    fn no_or_without_uffd(no: Support) -> Support {
        if Probe::run(Disabled::empty()).access.is_some() {
            no
        } else {
            Support::No(Reason::NoUserfaultfd)
        }
    }

    #[test]
    fn write_tracking_needs_tracing() {
        let probe = Probe::get();
        assert!(probe.traced.is_yes() || !probe.write_tracking.is_yes());
        assert!(!probe.release.is_empty());
        assert_eq!(probe.page_size, page_size());
        assert!(
            probe.memfd_sealing.is_yes(),
            "every kernel that is supported seals memfds"
        );
    }

    #[test]
    fn asking_again_gives_the_same_answers() {
        assert_eq!(Probe::run(Disabled::get()), *Probe::get());
    }
}
