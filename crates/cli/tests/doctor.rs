//! `cowspace doctor` as a user runs it: as ourselves, with features hidden, without privilege,
//! under a seccomp filter, with too little address space.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use cowspace_tests::rung::{NOBODY, Place};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};
use serde_json::Value;

const DOCTOR: &str = env!("CARGO_BIN_EXE_cowspace");

fn doctor() -> Command {
    doctor_at(Path::new(DOCTOR))
}

fn doctor_at(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("doctor").env_remove("COWSPACE_DISABLE");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    output
}

/// Runs it with `--json` and checks what holds for every report.
fn report(command: &mut Command) -> Value {
    let output = run(command.arg("--json"));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let status = match report["verdict"].as_str() {
        Some("traced") => 0,
        Some("native") => 1,
        Some("nothing") => 2,
        other => panic!("verdict {other:?}"),
    };
    assert_eq!(output.status.code(), Some(status));
    assert!(
        report["summary"]
            .as_str()
            .is_some_and(|summary| summary.ends_with('.') && !summary.contains('\n'))
    );
    assert!(
        report["page_size"]
            .as_u64()
            .is_some_and(u64::is_power_of_two)
    );
    for finding in report["findings"].as_array().expect("findings") {
        assert!(
            finding["name"].is_string() && finding["here"].is_string(),
            "{finding}"
        );
        assert!(
            ["ok", "no", "off", "low"].contains(&finding["state"].as_str().unwrap_or("?")),
            "{finding}"
        );
        assert!(
            finding["lost"].is_null() || finding["advice"].is_string(),
            "a loss without advice: {finding}"
        );
    }
    report
}

fn finding<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["findings"]
        .as_array()
        .and_then(|findings| findings.iter().find(|finding| finding["name"] == name))
        .unwrap_or_else(|| panic!("no finding {name} in {report:#}"))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc").uid() == 0
}

/// A copy that every user may run: the target folder may lie where only we get.
fn copy_for_everybody() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let program = folder.path().join("cowspace");
    fs::copy(DOCTOR, &program).expect("a copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    (folder, program)
}

/// Runs `test` in a thread whose children get `errno` from userfaultfd(2).
fn without_userfaultfd_call(errno: i32, test: impl FnOnce() + Send) {
    let architecture: TargetArch = std::env::consts::ARCH
        .try_into()
        .expect("an architecture that seccompiler knows");
    let filter = SeccompFilter::new(
        BTreeMap::from([(nix::libc::SYS_userfaultfd, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        architecture,
    )
    .and_then(seccompiler::BpfProgram::try_from)
    .expect("a filter");
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                // A filter stays with the thread that asks for it and with what that starts.
                seccompiler::apply_filter(&filter).expect("a seccomp filter");
                test();
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn text_and_json_say_the_same() {
    let report = report(&mut doctor());
    let output = run(&mut doctor());
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().next(), report["summary"].as_str());
    assert!(
        !text.contains('\u{1b}'),
        "colours without a terminal: {text:?}"
    );
    assert!(
        text.lines()
            .all(|line| line == line.trim_end() && line.chars().count() <= 140),
        "{text}"
    );
    for finding in report["findings"].as_array().expect("findings") {
        let name = finding["name"].as_str().expect("a name");
        let first_word = name.split(' ').next().expect("a word");
        assert!(text.contains(first_word), "{name} is missing in {text}");
    }
}

#[test]
fn without_userfaultfd_only_native_works() {
    let report = report(doctor().env("COWSPACE_DISABLE", "uffd"));
    assert_eq!(report["verdict"], "native");
    assert_eq!(report["disabled"], serde_json::json!(["uffd"]));
    for name in [
        "/dev/userfaultfd",
        "userfaultfd(2)",
        "traced mode",
        "write tracking",
    ] {
        assert_eq!(finding(&report, name)["state"], "off", "{name}");
    }
    assert!(
        finding(&report, "traced mode")["advice"]
            .as_str()
            .is_some_and(|advice| advice.contains("COWSPACE_DISABLE"))
    );
}

#[test]
fn without_minor_faults_only_native_works() {
    assert_eq!(
        report(doctor().env("COWSPACE_DISABLE", "minor"))["verdict"],
        "native"
    );
}

#[test]
fn each_hidden_feature_is_off() {
    let all = report(&mut doctor());
    for (word, name) in [
        ("wp", "write tracking"),
        ("continue-wp", "write tracking"),
        ("poison", "UFFDIO_POISON"),
        ("pagemap-scan", "PAGEMAP_SCAN"),
    ] {
        let masked = report(doctor().env("COWSPACE_DISABLE", word));
        // None of these is what traced mode stands on.
        assert_eq!(masked["verdict"], all["verdict"], "{word}");
        if finding(&all, name)["state"] == "ok" {
            assert_eq!(finding(&masked, name)["state"], "off", "{word}");
            assert!(finding(&masked, name)["lost"].is_string(), "{word}");
        } else {
            println!("SKIP hiding {word}: this machine has no {name}");
        }
    }
}

#[test]
fn each_hidden_way_is_off() {
    let masked = report(doctor().env("COWSPACE_DISABLE", "kernel-faults"));
    assert_eq!(masked["verdict"], "native");
    assert_eq!(finding(&masked, "/dev/userfaultfd")["state"], "off");
    assert_eq!(finding(&masked, "userfaultfd(2)")["state"], "off");
    let masked = report(doctor().env("COWSPACE_DISABLE", "dev-userfaultfd"));
    assert_eq!(finding(&masked, "/dev/userfaultfd")["state"], "off");
    let syscall = &finding(&masked, "userfaultfd(2)")["state"];
    assert_eq!(masked["verdict"] == "traced", *syscall == "ok", "{masked}");
}

#[test]
fn without_privilege() {
    if !is_root() {
        println!("SKIP doctor for an unprivileged user: needs root, to become one");
        return;
    }
    let (_folder, program) = copy_for_everybody();
    let report = report(doctor_at(&program).uid(NOBODY).gid(NOBODY).current_dir("/"));
    assert_eq!(report["machine"]["uid"], NOBODY);
    assert_eq!(report["machine"]["sys_ptrace"], false);
    words_for_an_ordinary_user(
        &report,
        "needs CAP_SYS_PTRACE, which this user does not have",
    );
}

/// Whether everybody may trace is the system's setting, and not ours to change.
fn words_for_an_ordinary_user(report: &Value, closed: &str) {
    let syscall = finding(report, "userfaultfd(2)");
    let here = syscall["here"].as_str().expect("words");
    if report["machine"]["unprivileged_userfaultfd"] == true {
        println!("SKIP what an ordinary user lacks: vm.unprivileged_userfaultfd is 1");
        assert_eq!(syscall["state"], "ok");
        assert!(here.contains("allowed to everybody"), "{syscall}");
        return;
    }
    println!("SKIP what everybody may: vm.unprivileged_userfaultfd is 0");
    assert_eq!(syscall["state"], "no");
    assert!(here.contains(closed), "{syscall}");
    if finding(report, "/dev/userfaultfd")["state"] == "ok" {
        assert_eq!(report["verdict"], "traced");
        return;
    }
    assert_eq!(report["verdict"], "native");
    assert!(
        report["summary"]
            .as_str()
            .is_some_and(|summary| summary.contains(closed)),
        "{report}"
    );
    assert!(finding(report, "traced mode")["lost"].is_string());
    let advice = syscall["advice"].as_str().unwrap_or_default();
    assert!(
        advice.contains("vm.unprivileged_userfaultfd=1"),
        "{syscall}"
    );
}

/// Root there, and a user without privilege outside, which is what the kernel asks for.
#[test]
fn as_root_of_a_user_namespace() {
    let (_folder, program) = copy_for_everybody();
    let in_a_namespace = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(program);
        command.env_remove("COWSPACE_DISABLE").current_dir("/");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    match in_a_namespace(Path::new("true")).output() {
        Ok(output) if output.status.success() => {}
        refused => {
            println!("SKIP doctor in a user namespace: {refused:?}");
            return;
        }
    }
    let report = report(in_a_namespace(&program).arg("doctor"));
    assert_eq!(report["machine"]["uid"], 0);
    assert_eq!(report["machine"]["sys_ptrace"], true);
    assert_eq!(report["machine"]["user_namespace"], true);
    words_for_an_ordinary_user(&report, "which this user has in a user namespace only");
    let device = finding(&report, "/dev/userfaultfd");
    if report["verdict"] == "native" && report["machine"]["device"].is_object() {
        let advice = device["advice"].as_str().unwrap_or_default();
        assert!(advice.contains("as the host's root"), "{device}");
    }
}

/// With the system calls, the capabilities and the devices that a container has by default.
#[test]
fn in_a_container() {
    let report = match Place::Container.in_a_thread(|| report(&mut doctor())) {
        Ok(report) => report,
        Err(lack) => {
            println!("SKIP doctor in a container: {lack}");
            return;
        }
    };
    assert_eq!(report["verdict"], "native");
    assert_eq!(report["machine"]["uid"], 0);
    assert_eq!(report["machine"]["sys_ptrace"], false);
    assert_eq!(report["machine"]["seccomp_filter"], true);
    assert_eq!(report["machine"]["device"], Value::Null);
    let has = |name: &str, field: &str, words: &str| {
        let finding = finding(&report, name);
        let said = finding[field].as_str().unwrap_or_default();
        assert!(said.contains(words), "{words:?} is not in {finding}");
    };
    has("userfaultfd(2)", "here", "refused by a seccomp filter");
    has("userfaultfd(2)", "advice", "--security-opt seccomp=");
    has("/dev/userfaultfd", "here", "not there");
    if !report["kernel"]
        .as_str()
        .is_some_and(|release| release.starts_with("5."))
    {
        has("/dev/userfaultfd", "advice", "--device /dev/userfaultfd");
    }
    has("traced mode", "lost", "page faults are not seen");
    for name in ["memfd sealing", "address space"] {
        assert_eq!(finding(&report, name)["state"], "ok", "{name}");
    }
}

#[test]
fn with_few_files() {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -n 64 && exec \"$0\" doctor \"$@\"", DOCTOR])
        .env_remove("COWSPACE_DISABLE");
    let few = report(&mut shell);
    let files = finding(&few, "open files");
    assert_eq!(files["state"], "low");
    let here = files["here"].as_str().expect("words");
    assert!(here.starts_with("64 files may be open"), "{files}");
    // Of the two limits the one that counts: cowspace raises the other to it.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -Sn 64 && exec \"$0\" doctor \"$@\"", DOCTOR])
        .env_remove("COWSPACE_DISABLE");
    assert_eq!(
        finding(&report(&mut shell), "open files"),
        finding(&report(&mut doctor()), "open files")
    );
}

#[test]
fn under_a_seccomp_filter() {
    let plain = report(&mut doctor());
    if finding(&plain, "userfaultfd(2)")["state"] != "ok" {
        println!("SKIP doctor under a seccomp filter: userfaultfd(2) is closed without one too");
        return;
    }
    for (errno, words) in [
        (nix::libc::EPERM, "refused by a seccomp filter"),
        (nix::libc::ENOSYS, "a seccomp filter hides it"),
    ] {
        without_userfaultfd_call(errno, || {
            let report = report(&mut doctor());
            assert_eq!(report["machine"]["seccomp_filter"], true);
            let syscall = finding(&report, "userfaultfd(2)");
            assert_eq!(syscall["state"], "no");
            assert!(
                syscall["here"]
                    .as_str()
                    .is_some_and(|here| here.contains(words)),
                "{syscall}"
            );
            // The device is not behind the filter.
            let device_open = finding(&report, "/dev/userfaultfd")["state"] == "ok";
            assert_eq!(
                report["verdict"],
                if device_open { "traced" } else { "native" }
            );
            assert_eq!(syscall["advice"].is_string(), !device_open);
        });
    }
}

#[test]
fn without_address_space_nothing_works() {
    // 16 GiB hold the program, but not what cowspace reserves.
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "ulimit -v 16777216 && exec \"$0\" doctor --json",
            DOCTOR,
        ])
        .env_remove("COWSPACE_DISABLE");
    let output = run(&mut shell);
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(output.status.code(), Some(2), "{report:#}");
    assert_eq!(report["verdict"], "nothing");
    assert!(
        finding(&report, "address space")["advice"]
            .as_str()
            .is_some_and(|advice| advice.contains("ulimit -v"))
    );
}

#[test]
fn a_reader_that_goes_early_is_no_error() {
    let output = Command::new("sh")
        .args(["-c", "\"$0\" doctor | head -n 1 >/dev/null", DOCTOR])
        .output()
        .expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn help_says_what_the_exit_status_means() {
    let output = run(doctor().arg("--help"));
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("Exits with 0") && text.contains("COWSPACE_DISABLE"),
        "{text}"
    );
}
