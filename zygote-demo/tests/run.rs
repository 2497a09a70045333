//! The program as a person or CI runs it.

use std::fs;
use std::process::{Command, Output};

use fault_recording::Ended;
use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zygote-demo"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A folder with a little text of its own: that of the repository may change while the test runs.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..20 {
        let words = (0..400).map(|word| format!("token{} ", (word * word + number) % 97));
        let name = folder.path().join(format!("{number}.txt"));
        fs::write(name, words.collect::<String>()).unwrap();
    }
    folder
}

#[test]
fn every_row_is_isolated_and_told_in_json() {
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    let output = demo(&[
        "--json",
        "--children",
        "3",
        "--rounds",
        "3",
        "--heap",
        "16MiB",
        path,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["isolation_ok"], true);
    assert_eq!(report["children"], 3);
    assert!(
        report["heap_bytes"].as_u64().unwrap().abs_diff(16 << 20) < 1 << 20,
        "{report}"
    );
    let rows = report["rows"].as_array().unwrap();
    let mut names: Vec<&str> = rows
        .iter()
        .map(|row| row["how"].as_str().unwrap())
        .collect();
    if !names.contains(&"cowspace-traced") {
        println!("SKIP cowspace-traced: {}", text(&output.stderr));
        names.insert(1, "cowspace-traced");
    }
    assert_eq!(
        names,
        ["cowspace-native", "cowspace-traced", "fork", "cold"]
    );
    for row in rows {
        let number = |field: &str| row.pointer(field).unwrap().as_f64().unwrap();
        for field in ["/first_answer_us", "/fault_ns"] {
            let (p50, p99) = (
                number(&format!("{field}/p50")),
                number(&format!("{field}/p99")),
            );
            assert!(0.0 < p50 && p50 <= p99, "{field} of {row}");
        }
        assert!(
            number("/faults") > 0.0 && number("/sum_private_bytes") <= number("/sum_pss_bytes"),
            "{row}"
        );
    }
    // What is shared is counted once, however many have it; what is not, each time.
    let pss = |name: &str| {
        rows.iter().find(|row| row["how"] == name).unwrap()["sum_pss_bytes"]
            .as_u64()
            .unwrap()
    };
    assert!(pss("cowspace-native") < pss("cold") / 2, "{report}");
}

#[test]
fn people_get_a_table_and_the_answer_to_their_question() {
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    let output = demo(&["--children", "2", "--query", "token4 token9", path]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.starts_with("Indexed 20 documents"), "{shown}");
    assert!(shown.contains("\"token4 token9\" stands in"), "{shown}");
    let last = shown.lines().last().unwrap();
    assert!(last.starts_with("isolation ok"), "{last}");
}

#[test]
fn what_goes_wrong_is_said_on_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    for (arguments, said) in [
        (["/nowhere/at/all"], "/nowhere/at/all"),
        ([empty], "no words"),
    ] {
        let output = demo(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let errors = text(&output.stderr);
        assert!(
            errors.starts_with("zygote-demo: ")
                && errors.contains(said)
                && errors.lines().count() == 1,
            "{errors}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn faults_are_recorded() {
    let folder = folder();
    let text_path = folder.path().to_str().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let arguments = ["--children", "2", "--json", "--profile", file, text_path];
    // Twice: the second recording replaces the first.
    for _ in 0..2 {
        let output = demo(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(&format!("cowspace profile show {file}")));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let recording = fault_recording::read(file.as_ref()).unwrap();
        assert_eq!(recording.cut, None);
        let [zygote, children @ ..] = &recording.processes[..] else {
            panic!("nobody has recorded");
        };
        let rows = report["rows"].as_array().unwrap();
        let traced = rows.iter().any(|row| row["how"] == "cowspace-traced");
        // Two generations of two children, native and traced.
        assert_eq!(children.len(), if traced { 8 } else { 4 });
        let with_faults = children.iter().filter(|child| !child.faults.is_empty());
        assert_eq!(with_faults.count(), if traced { 4 } else { 0 });
        for process in &recording.processes {
            assert!(matches!(process.end, Ended::Said(end) if end.lost == 0));
            let mappings = process.mapping_of_each();
            assert!(mappings.iter().all(|its| its.unwrap().name == "index"));
        }
        assert_eq!(zygote.start.traced, traced);
    }
}

#[test]
fn a_file_that_cannot_be_recorded_to_is_told_first() {
    let folder = folder();
    let notes = folder.path().join("0.txt");
    for file in ["/nowhere/at/all", "/dev/full", notes.to_str().unwrap()] {
        // There is no such text either, but so far it does not come.
        let output = demo(&["--profile", file, "/nowhere"]);
        assert_eq!(output.status.code(), Some(1));
        let errors = text(&output.stderr);
        let begin = format!("zygote-demo: cannot record page faults to {file}: ");
        assert!(
            errors.starts_with(&begin) && errors.lines().count() == 1,
            "{errors}"
        );
        assert!(output.stdout.is_empty());
    }
    assert!(fs::read_to_string(notes).unwrap().contains("token"));
}
