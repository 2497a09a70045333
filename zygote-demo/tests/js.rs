//! `zygote-demo js`: each child has the warmed runtime for itself.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

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
    ] {
        let output = js("", arguments);
        assert_eq!(output.status.code(), Some(code));
        let errors = text(&output.stderr);
        assert!(errors.contains(said), "{errors}");
        assert!(code == 2 || errors.lines().count() == 1, "{errors}");
    }
}
