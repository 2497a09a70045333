//! The ways to a userfaultfd, in words: whether each is open, if not why, and what to do about it.
//!
//! One errno has several causes, which only the surroundings tell apart: EPERM from the system call
//! is the lack of a privilege or a seccomp filter, ENOSYS a kernel without userfaultfd or a filter.

use host_memory::probe::{Probe, Reason, Rung, Support};
use host_memory::uffd::Access;
use nix::errno::Errno;

use super::findings::{Finding, State, UNSET, is_older};
use super::machine::Machine;

const LET_DEVICE_IN: &str = "a container must be given the device: \
    docker (or podman) run --device /dev/userfaultfd";

const OPEN_DEVICE: &str = "as root: chgrp GROUP /dev/userfaultfd; chmod 0660 /dev/userfaultfd, \
    where GROUP is a group of this user; lasting by a udev rule: \
    KERNEL==\"userfaultfd\", GROUP=\"GROUP\", MODE=\"0660\"";

const OPEN_DEVICE_OUTSIDE: &str = "as the host's root: \
    chgrp GROUP /dev/userfaultfd; chmod 0660 /dev/userfaultfd, where GROUP is a group of this user";

const LET_SYSCALL_THROUGH: &str = "run it under a seccomp filter that lets userfaultfd through: \
    docker (or podman) run --security-opt seccomp=PROFILE.json, where PROFILE.json is the default \
    profile with userfaultfd added to the calls it allows (seccomp=unconfined to try); \
    or give it the device instead";

const LET_SYSCALL_THROUGH_WITH_PRIVILEGE: &str = "give it the device, above; or both the privilege \
    and a seccomp filter that lets userfaultfd through: docker (or podman) run --cap-add SYS_PTRACE \
    --security-opt seccomp=PROFILE.json, where PROFILE.json is the default profile with userfaultfd \
    added to the calls it allows (seccomp=unconfined to try)";

const RAISE_PRIVILEGE: &str = "as root: sysctl -w vm.unprivileged_userfaultfd=1, \
    lasting by a file in /etc/sysctl.d; or run as root; or open the device to this user instead";

const RAISE_PRIVILEGE_OUTSIDE: &str = "as the host's root: \
    sysctl -w vm.unprivileged_userfaultfd=1; or run outside of the user namespace; \
    or open the device to this user instead";

const ALLOW_IN_POLICY: &str = "look for the refusal in the kernel's log, \
    and allow userfaultfd in the policy that is named there";

const NEED_KERNEL: &str = "a kernel with CONFIG_USERFAULTFD \
    (sandboxes that emulate the kernel have none)";

const RAISE_OPEN_FILES: &str = "raise the limit on open files (ulimit -n)";

/// What is said of one rung: how it stands here, and what to do.
struct Words(String, Option<&'static str>);

fn words(here: &str, advice: &'static str) -> Words {
    Words(here.to_owned(), Some(advice))
}

fn only(here: &str) -> Words {
    Words(here.to_owned(), None)
}

/// The finding for one rung. A closed one loses nothing by itself: that is for the finding on
/// traced mode to say.
pub(super) fn finding(rung: &Rung, probe: &Probe, machine: &Machine) -> Finding {
    let Words(here, advice) = match rung.support {
        Support::Yes => only(open(rung.access, machine)),
        Support::No(Reason::Refused(_, errno)) => match rung.access {
            Access::Device => device_refused(errno, probe, machine),
            Access::Syscall => syscall_refused(errno, probe, machine),
            Access::UserModeOnly => user_mode_refused(errno, machine),
        },
        Support::No(reason @ Reason::Disabled) => words(&reason.to_string(), UNSET),
        Support::No(reason) => only(&reason.to_string()),
    };
    // Where traced mode works nobody needs a second way, and the third does not lead there.
    let of_use = !probe.traced.is_yes() && rung.access != Access::UserModeOnly;
    Finding {
        name: match rung.access {
            Access::Device => "/dev/userfaultfd",
            Access::Syscall => "userfaultfd(2)",
            Access::UserModeOnly => "userfaultfd(2), user mode only",
        },
        state: State::of(rung.support),
        here,
        lost: None,
        advice: advice.filter(|_| of_use).map(str::to_owned),
    }
}

/// Why there is no full userfaultfd, for the verdict: what stands before the system call, the way
/// that every kernel has.
pub(super) fn obstacle(probe: &Probe, machine: &Machine) -> String {
    let [_device, syscall, _user_mode_only] = &probe.ladder;
    finding(syscall, probe, machine).here
}

fn open(access: Access, machine: &Machine) -> &'static str {
    match access {
        Access::Device => "this user may open it: faults inside of system calls are handled too",
        Access::Syscall if machine.may_trace() => {
            "allowed by CAP_SYS_PTRACE: faults inside of system calls are handled too"
        }
        Access::Syscall => {
            "allowed to everybody (vm.unprivileged_userfaultfd): \
             faults inside of system calls are handled too"
        }
        Access::UserModeOnly => {
            "allowed, and not used: a read(2) into memory served that way would fail"
        }
    }
}

fn device_refused(errno: Errno, probe: &Probe, machine: &Machine) -> Words {
    match errno {
        Errno::EACCES => {
            let whose = machine.device.map_or(String::new(), |node| {
                format!(
                    " (owner {}, group {}, mode {:04o})",
                    node.uid, node.gid, node.mode
                )
            });
            words(
                &format!("this user may not open it{whose}"),
                if machine.user_namespace {
                    OPEN_DEVICE_OUTSIDE
                } else {
                    OPEN_DEVICE
                },
            )
        }
        Errno::EPERM => words("not in the container's list of devices", LET_DEVICE_IN),
        Errno::ENOENT if is_older(probe, (6, 1)) => only(&format!(
            "not there: Linux has it from 6.1 on, and this is {}",
            probe.release
        )),
        Errno::ENOENT if machine.unprivileged_userfaultfd.is_none() => {
            words("not there, as this kernel has no userfaultfd", NEED_KERNEL)
        }
        Errno::ENOENT => words("not there", LET_DEVICE_IN),
        Errno::ENXIO | Errno::ENODEV | Errno::ENOTTY => {
            words("a node with no driver of the kernel behind it", NEED_KERNEL)
        }
        other => only(&format!("cannot be used: {}", other.desc())),
    }
}

fn syscall_refused(errno: Errno, probe: &Probe, machine: &Machine) -> Words {
    // Before 5.2 there is no setting, and the call is for everybody.
    let allowed = machine.may_trace() || machine.unprivileged_userfaultfd != Some(false);
    match errno {
        Errno::EPERM if is_filtered(probe, machine) && allowed => {
            words("refused by a seccomp filter (EPERM)", LET_SYSCALL_THROUGH)
        }
        Errno::EPERM if is_filtered(probe, machine) => words(
            "refused by a seccomp filter (EPERM); without the filter it would still need \
             CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1",
            LET_SYSCALL_THROUGH_WITH_PRIVILEGE,
        ),
        Errno::EPERM if allowed => words(
            "refused to a user who may use it (EPERM): by a security module, \
             or by a filter that cannot be seen from here",
            ALLOW_IN_POLICY,
        ),
        Errno::EPERM if machine.sys_ptrace => words(
            "needs CAP_SYS_PTRACE on the host, which this user has in a user namespace only, \
             or vm.unprivileged_userfaultfd=1, which is 0",
            RAISE_PRIVILEGE_OUTSIDE,
        ),
        Errno::EPERM => words(
            "needs CAP_SYS_PTRACE, which this user does not have, \
             or vm.unprivileged_userfaultfd=1, which is 0",
            RAISE_PRIVILEGE,
        ),
        other => hidden_or_absent(other, machine),
    }
}

fn user_mode_refused(errno: Errno, machine: &Machine) -> Words {
    match errno {
        Errno::EINVAL => only("not there: Linux has it from 5.11 on"),
        Errno::EPERM if machine.seccomp_filter => only("refused by a seccomp filter (EPERM)"),
        Errno::EPERM => only("refused by a security module (EPERM)"),
        other => hidden_or_absent(other, machine),
    }
}

/// The kernel grants the call for user mode to everybody (since 5.11): who refuses it is a filter,
/// and refuses the other call as well.
fn is_filtered(probe: &Probe, machine: &Machine) -> bool {
    let [_device, _syscall, user_mode_only] = &probe.ladder;
    let refused = matches!(
        user_mode_only.support,
        Support::No(Reason::Refused(_, Errno::EPERM))
    );
    machine.seccomp_filter && refused
}

/// The setting `vm.unprivileged_userfaultfd` is there (since 5.2) where the kernel has userfaultfd:
/// ENOSYS beside it comes from a filter.
fn hidden_or_absent(errno: Errno, machine: &Machine) -> Words {
    match errno {
        Errno::ENOSYS if machine.unprivileged_userfaultfd.is_some() => words(
            "the kernel has it, but a seccomp filter hides it (ENOSYS)",
            LET_SYSCALL_THROUGH,
        ),
        Errno::ENOSYS => words("this kernel has no userfaultfd (ENOSYS)", NEED_KERNEL),
        Errno::EMFILE | Errno::ENFILE => words(
            &format!("no descriptor left for it: {}", errno.desc()),
            RAISE_OPEN_FILES,
        ),
        other => only(&format!("refused: {}", other.desc())),
    }
}
