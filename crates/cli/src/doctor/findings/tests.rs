//! Machines as they are met, and the words for each.

use host_memory::probe::{Disabled, Rung};
use host_memory::uffd::{Access, Features};
use nix::errno::Errno;

use super::super::machine::Device;
use super::*;

/// Root on a plain new kernel: everything works.
fn root() -> (Probe, Machine) {
    let probe = Probe {
        release: "6.12.1-arch".to_owned(),
        page_size: 4096,
        max_map_count: Some(65_530),
        disabled: Disabled::empty(),
        ladder: Access::LADDER.map(|access| Rung {
            access,
            support: Support::Yes,
        }),
        access: Some(Access::Device),
        offered: Features::WANTED,
        traced: Support::Yes,
        write_tracking: Support::Yes,
        pagemap_scan: Support::Yes,
        poison: Support::Yes,
        move_pages: Support::Yes,
        read_protect: Support::Yes,
        memfd_sealing: Support::Yes,
        collapse: Support::Yes,
    };
    let machine = Machine {
        architecture: "x86_64",
        uid: 0,
        sys_ptrace: true,
        user_namespace: false,
        seccomp_filter: false,
        unprivileged_userfaultfd: Some(false),
        device: Some(Device {
            uid: 0,
            gid: 0,
            mode: 0o600,
        }),
        open_files: Some(1024),
        reservation: Ok(()),
        huge_pages: Support::Yes,
    };
    (probe, machine)
}

/// The same kernel where the ladder's rungs answer this; `None` is success.
fn with_ladder(rungs: [Option<Errno>; 3]) -> (Probe, Machine) {
    let (mut probe, machine) = root();
    for (rung, answer) in probe.ladder.iter_mut().zip(rungs) {
        rung.support = answer.map_or(Support::Yes, |errno| {
            Support::No(Reason::Refused("open", errno))
        });
    }
    probe.access = probe
        .ladder
        .iter()
        .find(|rung| rung.support.is_yes())
        .map(|rung| rung.access);
    let closed = match probe.access {
        Some(Access::Device | Access::Syscall) => return (probe, machine),
        Some(Access::UserModeOnly) => Support::No(Reason::UserModeOnly),
        None => Support::No(Reason::NoUserfaultfd),
    };
    (probe.traced, probe.write_tracking) = (closed, closed);
    (probe, machine)
}

fn unprivileged(machine: &mut Machine) {
    machine.uid = 1000;
    machine.sys_ptrace = false;
}

#[track_caller]
fn find<'a>(report: &'a Report, name: &str) -> &'a Finding {
    report
        .findings
        .iter()
        .find(|finding| finding.name == name)
        .unwrap_or_else(|| panic!("no finding {name}"))
}

#[track_caller]
fn has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

#[track_caller]
fn advises(report: &Report, name: &str, part: &str) {
    has(
        find(report, name)
            .advice
            .as_deref()
            .unwrap_or("(no advice)"),
        part,
    );
}

#[test]
fn all_is_well() {
    let (probe, machine) = root();
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Traced);
    has(&report.summary, "Traced mode works here: ");
    for finding in &report.findings {
        assert_eq!(finding.state, State::Ok, "{finding:?}");
        assert_eq!(
            (&finding.lost, &finding.advice),
            (&None, &None),
            "{finding:?}"
        );
    }
}

#[test]
fn unprivileged_user() {
    let (probe, mut machine) = with_ladder([Some(Errno::EACCES), Some(Errno::EPERM), None]);
    unprivileged(&mut machine);
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Native);
    has(
        &report.summary,
        "needs CAP_SYS_PTRACE, which this user does not have",
    );
    has(
        &find(&report, "/dev/userfaultfd").here,
        "owner 0, group 0, mode 0600",
    );
    advises(&report, "/dev/userfaultfd", "udev rule");
    advises(
        &report,
        "userfaultfd(2)",
        "sysctl -w vm.unprivileged_userfaultfd=1",
    );
    let user_mode = find(&report, "userfaultfd(2), user mode only");
    assert_eq!(user_mode.state, State::Ok);
    has(&user_mode.here, "not used");
    has(
        find(&report, "traced mode").lost.as_deref().unwrap(),
        "not seen",
    );
    advises(&report, "traced mode", "/dev/userfaultfd or userfaultfd(2)");
}

#[test]
fn unprivileged_user_where_all_may() {
    let (probe, mut machine) = with_ladder([Some(Errno::EACCES), None, None]);
    unprivileged(&mut machine);
    machine.unprivileged_userfaultfd = Some(true);
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Traced);
    has(
        &find(&report, "userfaultfd(2)").here,
        "allowed to everybody",
    );
    // The device is closed, and nobody needs it.
    let device = find(&report, "/dev/userfaultfd");
    assert_eq!((device.state, &device.advice), (State::No, &None));
}

#[test]
fn container_with_the_default_filter() {
    let (probe, mut machine) =
        with_ladder([Some(Errno::ENOENT), Some(Errno::EPERM), Some(Errno::EPERM)]);
    machine.seccomp_filter = true;
    machine.device = None;
    for (sys_ptrace, needs_privilege) in [(true, false), (false, true)] {
        machine.sys_ptrace = sys_ptrace;
        let report = examine(&probe, &machine);
        assert_eq!(report.verdict, Verdict::Native);
        has(&report.summary, "refused by a seccomp filter");
        assert_eq!(
            report.summary.contains("would still need CAP_SYS_PTRACE"),
            needs_privilege,
            "{}",
            report.summary
        );
        advises(&report, "/dev/userfaultfd", "--device /dev/userfaultfd");
        advises(&report, "userfaultfd(2)", "--security-opt seccomp=");
    }
}

#[test]
fn container_with_the_device() {
    let (probe, mut machine) = with_ladder([None, Some(Errno::EPERM), Some(Errno::EPERM)]);
    machine.seccomp_filter = true;
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Traced);
    assert_eq!(find(&report, "userfaultfd(2)").advice, None);
}

#[test]
fn container_whose_device_list_lacks_it() {
    let (probe, machine) =
        with_ladder([Some(Errno::EPERM), Some(Errno::EPERM), Some(Errno::EPERM)]);
    let report = examine(&probe, &machine);
    advises(&report, "/dev/userfaultfd", "--device");
    // Root, allowed, no filter: something else is in the way.
    has(&find(&report, "userfaultfd(2)").here, "security module");
}

#[test]
fn filter_that_plays_an_old_kernel() {
    let (probe, mut machine) = with_ladder([
        Some(Errno::EACCES),
        Some(Errno::ENOSYS),
        Some(Errno::ENOSYS),
    ]);
    machine.seccomp_filter = true;
    let report = examine(&probe, &machine);
    has(
        &find(&report, "userfaultfd(2)").here,
        "the kernel has it, but a seccomp filter hides it",
    );
    advises(&report, "userfaultfd(2)", "seccomp=");
}

#[test]
fn kernel_without_userfaultfd() {
    let (probe, mut machine) = with_ladder([
        Some(Errno::ENOENT),
        Some(Errno::ENOSYS),
        Some(Errno::ENOSYS),
    ]);
    (machine.unprivileged_userfaultfd, machine.device) = (None, None);
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Native);
    has(&report.summary, "this kernel has no userfaultfd");
    advises(&report, "/dev/userfaultfd", "CONFIG_USERFAULTFD");
    advises(&report, "userfaultfd(2)", "CONFIG_USERFAULTFD");
}

#[test]
fn root_of_a_user_namespace() {
    let (probe, mut machine) = with_ladder([Some(Errno::EACCES), Some(Errno::EPERM), None]);
    machine.user_namespace = true;
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Native);
    has(&report.summary, "in a user namespace only");
    advises(&report, "userfaultfd(2)", "host's root");
    advises(&report, "/dev/userfaultfd", "host's root");
}

#[test]
fn kernel_before_the_device() {
    let (mut probe, mut machine) = with_ladder([Some(Errno::ENOENT), None, None]);
    probe.release = "5.15.0-91-generic".to_owned();
    machine.device = None;
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Traced);
    has(&find(&report, "/dev/userfaultfd").here, "from 6.1 on");
}

#[test]
fn kernel_that_lacks_features() {
    let (mut probe, machine) = root();
    let lacks = |name| Support::No(Reason::NotOffered(name));
    probe.write_tracking = lacks("UFFD_FEATURE_WP_HUGETLBFS_SHMEM");
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Traced);
    has(&report.summary, "but for writes");
    advises(&report, "write tracking", "on arm64 6.12");

    probe.traced = lacks("UFFD_FEATURE_MINOR_SHMEM");
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Native);
    has(&report.summary, "UFFD_FEATURE_MINOR_SHMEM");
    advises(&report, "traced mode", "5.14");
}

#[test]
fn hidden_features_are_not_missing() {
    let (mut probe, machine) = root();
    probe.disabled = Disabled::PAGEMAP_SCAN | Disabled::MINOR;
    probe.pagemap_scan = Support::No(Reason::Disabled);
    probe.traced = Support::No(Reason::Disabled);
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Native);
    assert_eq!(report.disabled, ["minor", "pagemap-scan"]);
    has(&report.summary, "COWSPACE_DISABLE");
    assert_eq!(find(&report, "PAGEMAP_SCAN").state, State::Off);
    advises(&report, "PAGEMAP_SCAN", UNSET);
}

#[test]
fn hidden_ways_are_not_closed() {
    let (mut probe, machine) = root();
    let off = Support::No(Reason::Disabled);
    probe.disabled = Disabled::DEV_USERFAULTFD;
    (probe.ladder[0].support, probe.access) = (off, Some(Access::Syscall));
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Traced);
    assert_eq!(report.disabled, ["dev-userfaultfd"]);
    assert_eq!(find(&report, "/dev/userfaultfd").state, State::Off);

    let closed = Support::No(Reason::UserModeOnly);
    probe.disabled = Disabled::KERNEL_FAULTS;
    (probe.ladder[1].support, probe.access) = (off, Some(Access::UserModeOnly));
    (probe.traced, probe.write_tracking) = (closed, closed);
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Native);
    assert_eq!(report.disabled, ["kernel-faults"]);
    has(&report.summary, "COWSPACE_DISABLE");
    advises(&report, "userfaultfd(2)", UNSET);
}

#[test]
fn nothing_works() {
    let (mut probe, mut machine) = root();
    machine.reservation = Err(Errno::ENOMEM);
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Nothing);
    has(&report.summary, "cannot run here: an address space");
    advises(&report, "address space", "ulimit -v");

    machine.reservation = Ok(());
    probe.memfd_sealing = Support::No(Reason::Refused("memfd_create", Errno::ENOSYS));
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Nothing);
    has(
        &report.summary,
        "memory files cannot be sealed (memfd_create",
    );
}

#[test]
fn low_limits_are_named() {
    let (mut probe, mut machine) = root();
    probe.max_map_count = Some(1000);
    machine.open_files = Some(64);
    let report = examine(&probe, &machine);
    advises(
        &report,
        "vm.max_map_count",
        "sysctl -w vm.max_map_count=65530",
    );
    advises(&report, "open files", "ulimit -Hn 1024");
}

#[test]
fn every_loss_has_advice_and_every_sentence_is_short_enough_to_read() {
    let (mut probe, machine) = with_ladder([Some(Errno::ENOENT); 3]);
    let no = Support::No(Reason::Refused("trial", Errno::EINVAL));
    (
        probe.pagemap_scan,
        probe.poison,
        probe.move_pages,
        probe.collapse,
    ) = (no, no, no, no);
    for finding in examine(&probe, &machine).findings {
        assert!(
            finding.lost.is_none() || finding.advice.is_some(),
            "{finding:?}"
        );
        assert!(finding.here.len() < 200, "{finding:?}");
    }
}

#[test]
fn releases_compare_by_number() {
    let (mut probe, _) = root();
    for (release, older) in [
        ("5.15.0", true),
        ("6.0.19", true),
        ("6.1.0-13-amd64", false),
        ("6.12.1", false),
        ("10.0", false),
        ("custom", false),
    ] {
        probe.release = release.to_owned();
        assert_eq!(is_older(&probe, (6, 1)), older, "{release}");
    }
}

#[test]
fn memory_without_huge_pages_costs_no_verdict() {
    let (probe, mut machine) = root();
    let report = examine(&probe, &machine);
    assert_eq!(find(&report, "huge pages").state, State::Ok);
    machine.huge_pages = Support::No(Reason::Refused("MADV_COLLAPSE", Errno::ENOMEM));
    let report = examine(&probe, &machine);
    assert_eq!(report.verdict, Verdict::Traced);
    let finding = find(&report, "huge pages");
    assert_eq!(finding.state, State::No);
    assert!(finding.lost.is_some() && finding.advice.is_some());
    machine.huge_pages = Support::No(Reason::Disabled);
    let report = examine(&probe, &machine);
    assert_eq!(find(&report, "huge pages").state, State::Off);
}
