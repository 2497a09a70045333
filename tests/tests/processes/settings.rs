//! The tests of this program once more where userfaultfd, or a part of it, cannot be had: in this program executed again, in a setting that denies it.
//!
//! All of them where something else is then done in this program; where only the reason is another one, without those that take long.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use cowspace_tests::rung::{NOBODY, has_nobody};
use host_memory::probe::Probe;
use nix::errno::Errno;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use zygote::Zygote;

/// Names the setting that this program is to put itself into.
const SETTING: &str = "COWSPACE_TEST_SETTING";
const FILTERED_EPERM: &str = "userfaultfd fails with EPERM";
const FILTERED_ENOSYS: &str = "userfaultfd fails with ENOSYS";
const ORDINARY_USER: &str = "an ordinary user";
/// What the probe masks itself, see [`host_memory::probe`].
const MASKED: &str = "COWSPACE_DISABLE";

/// The first thing in `main`: puts the program into the setting that it was executed for, if any. An error is the exit code to end with.
pub(crate) fn enter() -> Result<(), ExitCode> {
    let Ok(setting) = std::env::var(SETTING) else {
        return Ok(());
    };
    match setting.as_str() {
        FILTERED_EPERM => filter_userfaultfd(Errno::EPERM),
        FILTERED_ENOSYS => filter_userfaultfd(Errno::ENOSYS),
        _ => {}
    }
    if setting == ORDINARY_USER && Probe::get().traced.is_yes() {
        println!("SKIP an ordinary user: here everybody may use userfaultfd");
        return Err(ExitCode::SUCCESS);
    }
    if setting != MASKED && Probe::get().traced.is_yes() {
        eprintln!("the setting is not as it should be: {:?}", Probe::get());
        return Err(ExitCode::FAILURE);
    }
    Ok(())
}

/// Has both ways to a userfaultfd fail with this error, in this process and in those that it makes.
fn filter_userfaultfd(errno: Errno) {
    /// `USERFAULTFD_IOC_NEW`, `_IO(0xAA, 0)`: userfaultfd(2).
    const IOC_NEW: u64 = 0xAA00;
    let is_new = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, IOC_NEW);
    let is_new = SeccompRule::new(vec![is_new.expect("a condition")]).expect("a rule");
    let rules = BTreeMap::from([
        (libc::SYS_userfaultfd, Vec::new()),
        (libc::SYS_ioctl, vec![is_new]),
    ]);
    let architecture = std::env::consts::ARCH
        .try_into()
        .expect("a filter for this machine");
    let error = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, error, architecture);
    let program: Vec<_> = filter.and_then(TryInto::try_into).expect("a filter");
    apply_filter(&program).expect("who gives up privileges may filter");
}

/// Which tests are run.
#[derive(PartialEq)]
enum Tests {
    All,
    Quick,
}

/// Runs the tests but those of this module in another setting.
fn run(setting: &str, tests: Tests, change: impl FnOnce(&mut Command)) {
    let mut program = Command::new("/proc/self/exe");
    program.env(SETTING, setting).args(["--skip", "settings::"]);
    let less_than_all = !test_share::is_whole();
    let mut leave_out = |modules: &[&str]| {
        for module in modules {
            program.args(["--skip", module]);
        }
    };
    if tests == Tests::Quick || less_than_all {
        leave_out(&["rounds::", "killed_children::"]);
    }
    if less_than_all {
        leave_out(&[
            "killed_zygote::",
            "frozen::",
            "shared_pages::",
            "programs::",
        ]);
    }
    change(&mut program);
    let output = program.output().expect("to execute this program");
    let said = String::from_utf8_lossy(&output.stdout);
    for skipped in said.lines().filter(|line| line.starts_with("SKIP")) {
        println!("{skipped}");
    }
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn run_masked(mask: &str, tests: Tests) {
    run(MASKED, tests, |program| {
        program.env(MASKED, mask);
    });
}

pub(crate) fn userfaultfd_is_disabled(_: &Zygote) {
    run_masked("uffd", Tests::All);
}

pub(crate) fn write_protection_is_disabled(_: &Zygote) {
    run_masked("wp", Tests::All);
}

pub(crate) fn minor_faults_are_disabled(_: &Zygote) {
    run_masked("minor", Tests::Quick);
}

pub(crate) fn pagemap_scan_is_disabled(_: &Zygote) {
    run_masked("pagemap-scan", Tests::All);
}

pub(crate) fn a_filter_forbids_userfaultfd(_: &Zygote) {
    run(FILTERED_EPERM, Tests::Quick, |_| {});
}

pub(crate) fn a_filter_hides_userfaultfd(_: &Zygote) {
    run(FILTERED_ENOSYS, Tests::Quick, |_| {});
}

pub(crate) fn an_ordinary_user_has_no_userfaultfd(_: &Zygote) {
    let is_root = rustix::process::getuid().is_root();
    if is_root && !has_nobody("an ordinary user") {
        return;
    }
    run(ORDINARY_USER, Tests::All, |program| {
        // Otherwise this is one already.
        if is_root {
            program.uid(NOBODY).gid(NOBODY);
        }
    });
}
