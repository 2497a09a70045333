//! What a machine lacks changes no byte: random programs and snapshots under running writers, on each rung of what the kernel and the process's privileges may offer.
//!
//! Each rung is a process of its own, since what is there is asked once. Where a rung is hidden by `COWSPACE_DISABLE` the engine believes that it is not there; in the places of
//! [`cowspace_tests::rung`] it really is not. `scripts/test-rungs` runs all other tests on each of them, too.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::process::Command;

use cowspace::Policy;
use cowspace_tests::consistent_cut::{
    Shape, first_snapshots_are_consistent_cuts, snapshots_are_consistent_cuts,
};
use cowspace_tests::limits::{Comb, MemoryGroup, join_memory_group, mapping_limit};
use cowspace_tests::model::{Looks, World, programs};
use cowspace_tests::rung::{FEW_FILES, NOT_HERE, Place};
use host_memory::probe::{Disabled, Probe, Support};
use nix::sys::resource::{Resource, getrlimit};
use proptest::test_runner::{Config, TestRunner};
use test_share::{first_or_all, is_whole, share};

/// Set in the process that stands on the rung.
const RUNG: &str = "COWSPACE_TEST_RUNG";
/// Set in a process with little memory: the folder of its cgroup.
const GROUP: &str = "COWSPACE_TEST_CGROUP";
/// Bytes that such a process may have.
const LITTLE_MEMORY: usize = 128 << 20;
/// Mappings that a process with few has left.
const FEW_MAPPINGS: usize = 400;

/// In a process of its own, in a place and without what the words hide, `works` runs.
fn on_a_rung(test: &str, place: Option<Place>, hidden: &str, works: impl FnOnce()) {
    if std::env::var_os(RUNG).is_some() {
        return works();
    }
    run_again(test, place, ("COWSPACE_DISABLE", OsStr::new(hidden)));
}

/// Runs a test of this program again.
fn run_again(test: &str, place: Option<Place>, (variable, value): (&str, &OsStr)) {
    let program = std::env::current_exe().expect("a program");
    let mut command = match place {
        Some(place) => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_on_rung"));
            command.arg(place.name()).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args([test, "--exact", "--nocapture"])
        .env(variable, value)
        .env(RUNG, "1");
    let output = command.output().expect("a program can be started");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status.code() == Some(NOT_HERE.into()) {
        println!("SKIP {test}: {}", stderr.trim_end());
        return;
    }
    for skipped in stdout.lines().filter(|line| line.starts_with("SKIP")) {
        println!("{skipped}");
    }
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
}

/// The tests that hold everywhere, in short.
fn same_bytes_as_ever() {
    let policies = [None, Some(Policy::Traced), Some(Policy::Native)];
    let shapes = [Shape::One, Shape::Two, Shape::Resizable, Shape::Pieces];
    for &policy in first_or_all(1, &policies) {
        let config = Config {
            cases: share(60),
            failure_persistence: None,
            ..Config::default()
        };
        let run = TestRunner::new(config).run(&programs(60), |program| {
            World::new(policy, Looks::WhenAsked).run(&program);
            Ok(())
        });
        run.unwrap_or_else(|failure| panic!("{policy:?}: {failure}"));
    }
    for &shape in first_or_all(1, &shapes) {
        for policy in [Policy::Traced, Policy::Native] {
            snapshots_are_consistent_cuts(shape, policy, share(15));
            if is_whole() {
                first_snapshots_are_consistent_cuts(shape, policy, 2);
            }
        }
    }
}

macro_rules! hidden {
    ($($test:ident: $words:literal;)*) => {$(
        #[test]
        fn $test() {
            on_a_rung(stringify!($test), None, $words, || {
                let words = $words.split(',').count();
                assert_eq!(Disabled::get().iter().count(), words, "an unknown word hides nothing");
                same_bytes_as_ever();
            });
        }
    )*};
}

hidden! {
    without_userfaultfd: "uffd";
    without_the_device: "dev-userfaultfd";
    with_faults_in_user_mode_only: "kernel-faults";
    without_write_protection: "wp";
    without_write_protection_of_what_is_continued: "continue-wp";
    without_minor_faults: "minor";
    without_poison: "poison";
    without_pagemap_scan: "pagemap-scan";
    without_setting_mappings_aside: "dontunmap";
    without_huge_pages: "collapse";
    without_access_past_permissions: "force";
    without_write_protection_and_scan: "wp,pagemap-scan";
    without_userfaultfd_and_scan: "uffd,pagemap-scan";
    as_on_linux_6_1_on_arm64: "wp,poison,pagemap-scan";
    as_on_linux_5_14: "dev-userfaultfd,wp,continue-wp,poison,pagemap-scan,collapse";
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

/// A user without privilege gets a userfaultfd for faults in user mode at most, which is not enough; unless the system lets everybody.
fn same_bytes_for_users(test: &str) {
    let everybody = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    if everybody.is_ok_and(|text| text.trim() == "1") {
        println!("SKIP {test} cannot trace: vm.unprivileged_userfaultfd is 1");
        return same_bytes_as_ever();
    }
    let [device, syscall, _] = Probe::get().ladder;
    assert!(matches!(device.support, Support::No(_)), "{device:?}");
    assert!(matches!(syscall.support, Support::No(_)), "{syscall:?}");
    same_bytes_without_tracing();
}

#[test]
fn as_an_unprivileged_user() {
    let test = "as_an_unprivileged_user";
    on_a_rung(test, Some(Place::Nobody), "", || same_bytes_for_users(test));
}

#[test]
fn as_root_of_a_user_namespace() {
    let test = "as_root_of_a_user_namespace";
    on_a_rung(test, Some(Place::UserNamespace), "", || {
        same_bytes_for_users(test)
    });
}

#[test]
fn in_a_container() {
    let test = "in_a_container";
    on_a_rung(test, Some(Place::Container), "", same_bytes_without_tracing);
}

/// As the default filter of containers does.
#[test]
fn under_a_filter_that_says_eperm() {
    let test = "under_a_filter_that_says_eperm";
    on_a_rung(
        test,
        Some(Place::FilterEperm),
        "",
        same_bytes_without_tracing,
    );
}

/// As a sandbox that hides what it does not know, or a kernel without it.
#[test]
fn under_a_filter_that_says_enosys() {
    let test = "under_a_filter_that_says_enosys";
    on_a_rung(
        test,
        Some(Place::FilterEnosys),
        "",
        same_bytes_without_tracing,
    );
}

/// Nothing that the engine does needs a memory file that can be executed: code is mapped, and that stays possible.
#[test]
fn without_executable_memory_files() {
    let test = "without_executable_memory_files";
    on_a_rung(test, Some(Place::NoExec), "", || {
        let refused = nix::sys::memfd::memfd_create(
            "test",
            nix::sys::memfd::MFdFlags::from_bits_retain(libc::MFD_EXEC),
        );
        assert_eq!(
            refused.err(),
            Some(nix::errno::Errno::EACCES),
            "the rung is not there"
        );
        same_bytes_as_ever();
    });
}

#[test]
fn with_few_descriptors() {
    let test = "with_few_descriptors";
    on_a_rung(test, Some(Place::FewFiles), "", || {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has one");
        assert_eq!(limit, (FEW_FILES, FEW_FILES), "the rung is not there");
        same_bytes_as_ever();
    });
}

/// What it is like at the limit itself, `mapping_limit.rs` says.
#[test]
fn with_few_mappings() {
    let test = "with_few_mappings";
    on_a_rung(test, None, "", || {
        let Some(limit) = mapping_limit() else {
            println!("SKIP {test}: vm.max_map_count is too high to reach");
            return;
        };
        let mut comb = Comb::new(limit + 64);
        comb.fill();
        (0..FEW_MAPPINGS / 2).for_each(|_| comb.ease());
        same_bytes_as_ever();
        // They were the last.
        comb.fill();
    });
}

/// What it is like at the limit itself, `memory_limit.rs` says.
#[test]
fn with_little_memory() {
    let test = "with_little_memory";
    if std::env::var_os(RUNG).is_none() {
        match MemoryGroup::new(test, LITTLE_MEMORY) {
            Ok(group) => {
                run_again(test, None, (GROUP, group.folder().as_os_str()));
            }
            Err(reason) => println!("SKIP {test}: {reason}"),
        }
        return;
    }
    join_memory_group(std::env::var_os(GROUP).expect("the parent made one"));
    same_bytes_as_ever();
}
