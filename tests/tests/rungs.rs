//! What a machine lacks changes no byte: random programs and snapshots under running writers, on each rung of what the kernel and the process's privileges may offer.
//!
//! Each rung is a process of its own, since what is there is asked once. Where a rung is hidden by `COWSPACE_DISABLE` the engine believes that it is not there; without privilege, and
//! under a system call filter, it really is not.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use cowspace::Policy;
use cowspace_tests::consistent_cut::{
    Shape, first_snapshots_are_consistent_cuts, snapshots_are_consistent_cuts,
};
use cowspace_tests::model::{Looks, World, programs};
use host_memory::probe::{Probe, Support};
use proptest::test_runner::{Config, TestRunner};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use test_share::share;

/// Set in the process that stands on the rung: how it gets there.
const RUNG: &str = "COWSPACE_TEST_RUNG";
/// `USERFAULTFD_IOC_NEW`, the request of `/dev/userfaultfd` (linux/userfaultfd.h).
const IOC_NEW: u64 = 0xaa00;
/// Nobody, by custom: an id that owns nothing.
const NOBODY: u32 = 65534;

/// Runs a test of this program again in a process of its own; there `works` runs.
fn on_a_rung(test: &str, prepare: impl FnOnce(&mut Command), works: impl FnOnce()) {
    if std::env::var_os(RUNG).is_some() {
        return works();
    }
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command
        .args([test, "--exact", "--nocapture"])
        .env(RUNG, "1");
    prepare(&mut command);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIP {test}: {error}");
            return;
        }
    };
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
}

/// The tests that hold everywhere, in short.
fn same_bytes_as_ever() {
    for policy in [Some(Policy::Traced), Some(Policy::Native), None] {
        let config = Config {
            cases: share(60),
            failure_persistence: None,
            ..Config::default()
        };
        let run = TestRunner::new(config).run(&programs(60), |program| {
            World::new(policy, Looks::WhenAsked)
                .with_bounds_only()
                .run(&program);
            Ok(())
        });
        run.unwrap_or_else(|failure| panic!("{policy:?}: {failure}"));
    }
    for shape in [Shape::One, Shape::Two, Shape::Resizable, Shape::Pieces] {
        for policy in [Policy::Traced, Policy::Native] {
            snapshots_are_consistent_cuts(shape, policy, share(15));
            first_snapshots_are_consistent_cuts(shape, policy, share(2));
        }
    }
}

macro_rules! hidden {
    ($($test:ident: $words:literal;)*) => {$(
        #[test]
        fn $test() {
            on_a_rung(
                stringify!($test),
                |command| {
                    command.env("COWSPACE_DISABLE", $words);
                },
                same_bytes_as_ever,
            );
        }
    )*};
}

hidden! {
    without_userfaultfd: "uffd";
    without_write_protection: "wp";
    without_minor_faults: "minor";
    without_poison: "poison";
    without_pagemap_scan: "pagemap-scan";
    without_setting_mappings_aside: "dontunmap";
    without_huge_pages: "collapse";
    without_access_past_permissions: "force";
    without_write_protection_and_scan: "wp,pagemap-scan";
    without_userfaultfd_and_scan: "uffd,pagemap-scan";
    as_on_linux_6_1_on_arm64: "wp,poison,pagemap-scan";
}

/// No userfaultfd that can be used: whatever the policy asked for, the kernel resolves alone.
fn same_bytes_without_tracing() {
    assert!(
        !Probe::get().traced.is_yes(),
        "the rung is not there: {:?}",
        Probe::get().traced
    );
    same_bytes_as_ever();
}

/// A user without privilege gets a userfaultfd for faults in user mode at most, which is not enough.
#[test]
fn as_an_unprivileged_user() {
    let test = "as_an_unprivileged_user";
    let privileged = rustix::process::geteuid().is_root();
    if std::env::var_os(RUNG).is_none() && !privileged && Probe::get().traced.is_yes() {
        println!("SKIP {test}: everybody may trace here, and only root can become another user");
        return;
    }
    if std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd")
        .is_ok_and(|text| text.trim() == "1")
    {
        println!("SKIP {test}: vm.unprivileged_userfaultfd is 1");
        return;
    }
    let become_nobody = |command: &mut Command| {
        if privileged {
            command.uid(NOBODY).gid(NOBODY);
        }
    };
    on_a_rung(test, become_nobody, || {
        let ladder = Probe::get().ladder;
        assert!(
            ladder[..2]
                .iter()
                .all(|rung| matches!(rung.support, Support::No(_))),
            "{ladder:?}"
        );
        same_bytes_without_tracing();
    });
}

/// Every way to a userfaultfd answers `errno` for this thread and those that it starts.
fn refuse_userfaultfd(errno: i32) {
    let architecture =
        TargetArch::try_from(std::env::consts::ARCH).expect("an architecture that has filters");
    let request = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, IOC_NEW)
        .expect("a condition");
    let new = SeccompRule::new(vec![request]).expect("a rule");
    let rules = BTreeMap::from([
        (libc::SYS_userfaultfd, vec![]),
        (libc::SYS_ioctl, vec![new]),
    ]);
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture).expect("a filter");
    let program = BpfProgram::try_from(filter).expect("a program");
    seccompiler::apply_filter(&program).expect("the kernel takes filters");
}

/// As the default filter of containers does.
#[test]
fn under_a_filter_that_says_eperm() {
    on_a_rung(
        "under_a_filter_that_says_eperm",
        |_| {},
        || {
            refuse_userfaultfd(libc::EPERM);
            same_bytes_without_tracing();
        },
    );
}

/// As a sandbox that hides what it does not know, or a kernel without it.
#[test]
fn under_a_filter_that_says_enosys() {
    on_a_rung(
        "under_a_filter_that_says_enosys",
        |_| {},
        || {
            refuse_userfaultfd(libc::ENOSYS);
            same_bytes_without_tracing();
        },
    );
}
