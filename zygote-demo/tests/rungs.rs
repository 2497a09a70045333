//! The demo where machines and users lack something: its children are isolated everywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cowspace_tests::rung::{NOBODY, Place};
use host_memory::probe::Probe;
use serde_json::Value;

/// A folder that everybody gets to, with the program and a little text.
struct Stage {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("zygote-demo");
        fs::copy(env!("CARGO_BIN_EXE_zygote-demo"), &program).unwrap();
        let words = (0..2000).map(|word| format!("token{} ", word * word % 97));
        fs::create_dir(folder.path().join("text")).unwrap();
        let text = folder.path().join("text/words.txt");
        fs::write(text, words.collect::<String>()).unwrap();
        for path in [folder.path(), &program] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Stage { folder, program }
    }

    /// Runs the demo by `starter`, which is given what to run.
    fn run(&self, starter: impl FnOnce(&Path) -> Command) -> Output {
        let mut command = starter(&self.program);
        command
            .args([
                "--json",
                "--children",
                "2",
                "--rounds",
                "2",
                "--heap",
                "16MiB",
            ])
            .arg(self.folder.path().join("text"))
            .current_dir("/");
        command.output().unwrap()
    }
}

/// Checks what holds everywhere. `traced`: whether there must be a row with traced children.
fn check(output: &Output, traced: Option<bool>) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["isolation_ok"], true, "{report}");
    assert_eq!(report["children"], 2);
    let rows = report["rows"].as_array().unwrap();
    let has = |how: &str| rows.iter().any(|row| row["how"] == how);
    assert!(
        has("cowspace-native") && has("fork") && has("cold"),
        "{report}"
    );
    if let Some(traced) = traced {
        assert_eq!(has("cowspace-traced"), traced, "{errors}");
    }
}

fn masked(words: &str, traced: Option<bool>) {
    let stage = Stage::new();
    let output = stage.run(|program| {
        let mut command = Command::new(program);
        command.env("COWSPACE_DISABLE", words);
        command
    });
    check(&output, traced);
}

#[test]
fn without_userfaultfd() {
    masked("uffd", Some(false));
}

#[test]
fn with_faults_in_user_mode_only() {
    masked("kernel-faults", Some(false));
}

#[test]
fn as_on_linux_5_14() {
    masked(
        "dev-userfaultfd,wp,continue-wp,poison,pagemap-scan,collapse",
        None,
    );
}

/// In a thread of its own that has entered the place.
fn at(place: Place, traced: Option<bool>) {
    let stage = Stage::new();
    match place.in_a_thread(|| stage.run(|program| Command::new(program))) {
        Ok(output) => check(&output, traced),
        Err(lack) => println!("SKIP the demo at {}: {lack}", place.name()),
    }
}

/// Traced where the system lets everybody and we can; elsewhere the device may be open, or not. (scripts/matrix/init runs this with both values.)
#[test]
fn as_an_unprivileged_user() {
    let everybody = fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    let may = everybody.is_ok_and(|text| text.trim() == "1") && Probe::get().traced.is_yes();
    at(Place::Nobody, may.then_some(true));
}

#[test]
fn in_a_container() {
    at(Place::Container, Some(false));
}

#[test]
fn under_a_filter() {
    at(Place::FilterEperm, Some(false));
}

#[test]
fn with_few_descriptors() {
    let stage = Stage::new();
    let output = stage.run(|program| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
            .arg(program);
        shell
    });
    check(&output, None);
}

#[test]
fn as_root_of_a_user_namespace() {
    let stage = Stage::new();
    let unshare = |program: &Path| {
        let mut command = Command::new("unshare");
        if rustix::process::geteuid().is_root() {
            // And no groups besides.
            command.uid(NOBODY).gid(NOBODY);
        }
        command.args(["--user", "--map-root-user"]).arg(program);
        command
    };
    match unshare(Path::new("true")).output() {
        Ok(output) if output.status.success() => check(&stage.run(unshare), None),
        refused => println!("SKIP the demo in a user namespace: {refused:?}"),
    }
}
