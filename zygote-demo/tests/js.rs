//! `zygote-demo js`: each child has the warmed runtime for itself.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const LIBRARY: &str = "\
var library = { count: 0, cow: Array.from({ length: 20000 }, (_, at) => ({ at, name: `cow ${at}` })) };
function moo() { return deeper(); }
function deeper() { throw new TypeError('moo'); }
";

/// The program with a small library preloaded.
fn js(disable: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let library: PathBuf = folder.path().join("library.js");
    fs::write(&library, LIBRARY).unwrap();
    Command::new(env!("CARGO_BIN_EXE_zygote-demo"))
        .args(["js", "--preload"])
        .arg(library)
        .args(arguments)
        .env("COWSPACE_DISABLE", disable)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn what_a_child_changes_the_next_does_not_see() {
    let code = "library.count += 1; library.cow[7].name += '!'; moo = () => 'new'; \
                [library.count, library.cow[7].name, library.cow.length, moo()]";
    for (disable, policy) in [("", "native"), ("", "traced"), ("uffd", "native")] {
        let output = js(
            disable,
            &["--children", "3", "--policy", policy, "-e", code],
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
        let expected = "[1,\"cow 7!\",20000,\"new\"]\n".repeat(3);
        assert_eq!(text(&output.stdout), expected, "{disable} {policy}");
    }
}

#[test]
fn errors_and_exit_codes_are_the_scripts() {
    let output = js("", &["-e", "console.log('before'); moo()"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "before\n");
    let errors = text(&output.stderr);
    let lines: Vec<&str> = errors.lines().map(str::trim).collect();
    assert_eq!(lines[0], "TypeError: moo", "{errors}");
    assert!(
        lines[1].starts_with("at deeper (") && lines[1].contains("library.js:3"),
        "{errors}"
    );
    assert!(lines[2].starts_with("at moo ("), "{errors}");
    assert_eq!(js("", &["-e", "exit(42)"]).status.code(), Some(42));
    let output = js("", &["-e", "console.error('bad'); exit(0)"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), "bad\n")
    );
}

#[test]
fn time_and_memory_are_limited() {
    for (arguments, said) in [
        (["--timeout", "50ms", "-e", "for (;;) {}"], "--timeout"),
        (
            [
                "--memory-limit",
                "8MiB",
                "-e",
                "const all = []; for (;;) all.push({})",
            ],
            "--memory-limit",
        ),
    ] {
        let output = js("", &arguments);
        assert_eq!(output.status.code(), Some(1));
        let errors = text(&output.stderr);
        assert!(
            errors.contains(said) && errors.lines().count() == 1,
            "{errors}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn what_cannot_be_run_is_said_on_one_line() {
    for (arguments, code, said) in [
        (&["--script", "/nowhere.js"][..], 1, "/nowhere.js"),
        (&["--preload", "/nowhere.js", "-e", "1"], 1, "/nowhere.js"),
        (&["--heap", "64KiB", "-e", "1"], 1, "heap"),
        (&[], 2, "--script"),
        (&["-e", "1", "--pool", "3"], 2, "cannot be used"),
        (&[], 2, "-e <CODE>"),
        (&["-e", "1", "--script", "/nowhere.js"], 2, "cannot be used"),
        (&["--compare", "-e", "null.x"], 1, "TypeError"),
    ] {
        let output = js("", arguments);
        assert_eq!(output.status.code(), Some(code));
        let errors = text(&output.stderr);
        assert!(errors.contains(said), "{errors}");
        assert!(code == 2 || errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn what_the_engine_cannot_interrupt_is_killed() {
    // One call of the engine's: it would take hours.
    let code = "/(a*)*b/.test('a'.repeat(1000))";
    let output = js("", &["--timeout", "50ms", "-e", code]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--timeout"));
}

#[test]
fn a_rejection_aside_is_an_error() {
    let output = js("", &["-e", "Promise.reject(new RangeError('aside')); 1"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("RangeError: aside"));
}

#[test]
fn programs_get_a_document_of_each_child() {
    let code = "console.log('out'); console.error('err'); moo()";
    let output = js("", &["--json", "--children", "2", "-e", code]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), ""));
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        let told: Value = serde_json::from_str(line).unwrap();
        assert_eq!(told["ending"], "exception");
        assert_eq!(
            (&told["output"], &told["errors"]),
            (&"out\n".into(), &"err\n".into())
        );
        assert!(told["reason"].as_str().unwrap().contains("at deeper ("));
        assert_eq!(told["value"], Value::Null);
    }
    let output = js("", &["--json", "-e", "exit(3)"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["ending"], &told["exit_code"]),
        (&"exit".into(), &3.into())
    );
}

#[test]
fn without_userfaultfd_traced_children_are_told_to_be_native() {
    let output = js("uffd", &["--policy", "traced", "-e", "library.cow.length"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "20000\n");
    let errors = text(&output.stderr);
    assert!(
        errors.contains("cannot trace") && errors.lines().count() == 1,
        "{errors}"
    );
}

const WAYS: [&str; 7] = [
    "cowspace-native",
    "cowspace-traced",
    "cowspace-native-pool",
    "cowspace-traced-pool",
    "fork",
    "in-process",
    "cold",
];

/// The JSON of `--compare`, and what it says on standard error.
fn compare(disable: &str, code: &str) -> (Value, String) {
    let arguments = [
        "--compare",
        "--json",
        "--children",
        "3",
        "--repeat",
        "2",
        "-e",
        code,
    ];
    let output = js(disable, &arguments);
    let errors = text(&output.stderr).to_owned();
    assert!(output.status.success(), "{errors}");
    (serde_json::from_slice(&output.stdout).unwrap(), errors)
}

#[test]
fn all_ways_are_compared_in_json() {
    // Without userfaultfd there is nothing to trace with.
    for disable in test_share::first_or_all(1, &["", "uffd"]) {
        let (report, errors) = compare(
            disable,
            "library.count += 1; library.cow.map(({ at }) => at * 2).length",
        );
        // In one process the count goes up, but it is not told.
        let rows = report["rows"].as_array().unwrap();
        let names: Vec<&str> = rows
            .iter()
            .map(|row| row["how"].as_str().unwrap())
            .collect();
        let expected = WAYS
            .iter()
            .copied()
            .filter(|way| names.contains(way) || !way.contains("traced"));
        assert_eq!(names, expected.collect::<Vec<_>>(), "{errors}");
        let traced = names.iter().filter(|way| way.contains("traced")).count();
        if traced == 0 {
            // Where it was not taken away.
            if disable.is_empty() {
                println!("SKIP cowspace-traced: {errors}");
            }
            assert!(errors.contains("no cowspace-traced rows"));
        }
        assert!(disable.is_empty() || traced == 0);
        assert_eq!(report["same_result"], true);
        for row in rows {
            let number = |field: &str| row.pointer(field).unwrap().as_f64().unwrap();
            let (p50, p99) = (number("/request_ms/p50"), number("/request_ms/p99"));
            assert!(0.0 < p50 && p50 <= p99, "{row}");
            if row["how"] == "in-process" {
                assert_eq!(row["pss_per_child_bytes"], Value::Null);
                continue;
            }
            let (pss, private) = (
                number("/pss_per_child_bytes"),
                number("/private_per_child_bytes"),
            );
            assert!(0.0 < private && private <= pss, "{row}");
            assert!(number("/children_per_s") > 0.0);
        }
        let bars = report["bars"].as_array().unwrap();
        assert_eq!(bars.len(), 4 * (2 + traced), "{bars:?}");
        // That is no matter of time. Children have nearly all in common.
        let memory = bars.iter().filter(|bar| bar["bar"] == "memory");
        assert!(memory.clone().count() > 0);
        assert!(memory.clone().all(|bar| bar["met"] == true), "{bars:?}");
    }
}

#[test]
fn what_is_written_while_loading_is_in_nobodys_way() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"console.log('loading'); console.error('still')")
        .unwrap();
    let file = file.path().to_str().unwrap();
    for more in [&["--compare", "--json"][..], &["--json"]] {
        let output = js("", &[&["--preload", file, "-e", "1"], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(told.is_object());
        assert_eq!(text(&output.stderr).matches("loading\nstill\n").count(), 1);
    }
}

#[test]
fn a_script_that_does_not_run_twice_in_a_process_is_compared_all_the_same() {
    let (report, errors) = compare(
        "",
        "const once = 7; library.count += 1; [once, library.count]",
    );
    assert!(errors.contains("no in-process row"), "{errors}");
    assert_eq!(report["same_result"], true);
    let bars = report["bars"].as_array().unwrap();
    assert!(bars.iter().all(|bar| bar["bar"] != "near-in-process"));
}

#[test]
fn children_that_tell_different_things_are_a_failure() {
    let output = js("", &["--compare", "--children", "2", "-e", "Math.random()"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("zygote-demo: fork: process "),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("NOT every process told the same"));
}

#[test]
fn people_get_a_table_and_the_verdicts() {
    let output = js("", &["--compare", "-e", "library.cow.length"]);
    assert!(output.status.success());
    let shown = text(&output.stdout);
    for part in [
        "cowspace-native-pool",
        "in-process",
        "no slower than fork",
        "Every process told the same.",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}
