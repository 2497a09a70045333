//! `cowspace bench` as a user runs it, at its small scale: that each name gives a well-formed result, whatever the
//! figures are.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const COWSPACE: &str = env!("CARGO_BIN_EXE_cowspace");

fn bench(plots: &Path) -> Command {
    let mut command = Command::new(COWSPACE);
    command
        .args(["bench", "--scale", "small", "--rounds", "1", "--plots"])
        .arg(plots)
        .env_remove("COWSPACE_DISABLE");
    command
}

/// Runs it with `--json`, and checks what holds for every report.
fn report(command: &mut Command) -> Value {
    let output = command.arg("--json").output().expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert!(report["machine"]["kernel"].is_string());
    assert!(report["machine"]["cpus"].as_u64() > Some(0));
    for result in list(&report, "results") {
        check(result);
    }
    for skipped in list(&report, "skipped") {
        let (what, why) = (&skipped["what"], &skipped["why"]);
        assert!(what.is_string() && why.is_string(), "{skipped}");
        let line = format!("SKIP {}: ", what.as_str().unwrap_or_default());
        assert!(errors.contains(&line), "{line} is not in {errors}");
    }
    report
}

fn list<'a>(report: &'a Value, name: &str) -> &'a Vec<Value> {
    report[name].as_array().expect("a list")
}

fn check(result: &Value) {
    let unit = result["unit"].as_str().unwrap_or_default();
    assert!(
        ["ns", "us", "ms", "bytes", "ops/s"].contains(&unit),
        "{result}"
    );
    assert!(result["size"].as_u64() > Some(0), "{result}");
    let own = positive(&result["cowspace"], result);
    let rivals = result["rivals"].as_object().expect("rivals by name");
    assert!(!rivals.is_empty(), "{result}");
    for (name, figure) in rivals {
        let ratio = positive(&result["ratio"][name], result);
        let expected = own / positive(figure, result);
        assert!((ratio / expected - 1.0).abs() < 1e-9, "{result}");
        let spread = &result["spread"][name];
        let (least, most) = (positive(&spread[0], result), positive(&spread[1], result));
        assert!(least <= positive(figure, result) && positive(figure, result) <= most);
    }
    let bars = result["bars"].as_array().expect("a list of bars");
    let all_met = bars.iter().all(|bar| {
        let ratio = positive(
            &result["ratio"][bar["rival"].as_str().expect("a rival's name")],
            result,
        );
        bar["at_most"].as_f64().is_none_or(|most| ratio <= most)
            && bar["at_least"].as_f64().is_none_or(|least| ratio >= least)
    });
    let met = (!bars.is_empty()).then_some(all_met);
    assert_eq!(result["met"].as_bool(), met, "{result}");
}

fn positive(figure: &Value, result: &Value) -> f64 {
    let figure = figure.as_f64().unwrap_or(f64::NAN);
    assert!(figure.is_finite() && figure > 0.0, "{result}");
    figure
}

/// Measures one name. Each of its results has these rivals, and at least one has a bar; what this machine lacks is
/// skipped.
fn measure(name: &str, rivals: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let report = report(bench(folder.path()).args(["--only", name]));
    let results = list(&report, "results");
    if results.is_empty() {
        let skipped = &list(&report, "skipped")[0];
        assert_eq!(skipped["what"], name);
        println!("SKIP {name}: {}", skipped["why"]);
        return;
    }
    for result in results {
        assert_eq!(result["name"], name);
        for rival in rivals {
            assert!(result["rivals"][rival].is_number(), "{result}");
        }
    }
    assert!(results.iter().any(|result| result["met"].is_boolean()));
}

macro_rules! names {
    ($($test:ident: $name:literal beside $rivals:expr;)*) => {
        $(#[test] fn $test() { measure($name, &$rivals); })*

        /// The names of the bench are those that are tested here.
        #[test]
        fn every_name_is_tested() {
            let folder = tempfile::tempdir().expect("a folder");
            let output = refused(bench(folder.path()).args(["--only", "nothing"]), 2);
            let (_, names) = output.split_once("[possible values: ").expect("a list of names");
            assert_eq!(names.trim_end().trim_end_matches(']').split(", ").collect::<Vec<_>>(), [$($name),*]);
        }
    };
}

names! {
    fault_traced: "fault.traced" beside ["bare_uffd"];
    fault_traced_default: "fault.traced_default" beside ["bare_uffd"];
    fault_native: "fault.native" beside ["fork", "fork_file"];
    fault_dense: "fault.dense" beside ["fork", "fork_file", "bare_uffd"];
    fault_sparse: "fault.sparse" beside [];
    fault_threads: "fault.threads" beside ["bare_uffd"];
    snapshot_first: "snapshot.first" beside ["fork"];
    snapshot_again: "snapshot.again" beside ["fork"];
    snapshot_scale: "snapshot.scale" beside ["fork"];
    spawn_ready: "spawn.ready" beside ["fork", "fork_file", "posix_spawn"];
    spawn_scale: "spawn.scale" beside ["fork", "fork_file"];
    spawn_first_touch: "spawn.first_touch" beside ["fork", "fork_file"];
    memory_children: "memory.children" beside ["fork", "fork_file"];
    parent_tax: "parent.tax" beside ["fork"];
    chain: "chain" beside ["round_1"];
}

#[test]
fn several_names_give_one_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = bench(folder.path())
        .args(["--only", "fault.native", "--only", "snapshot.again"])
        .output()
        .expect("the command starts");
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).expect("text");
    for word in ["fault.native", "snapshot.again", "≤ 1.05 × fork", "met"] {
        assert!(table.contains(word), "{word} is not in {table}");
    }
    assert!(!table.contains("chain"), "{table}");
}

#[test]
fn curves_are_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let plots = folder.path().join("made/where/missing");
    report(bench(&plots).args(["--only", "spawn.scale"]));
    for over in ["bytes", "mappings"] {
        let file = plots.join(format!("spawn.scale.{over}.svg"));
        let picture = std::fs::read_to_string(&file).expect("a picture");
        assert!(picture.starts_with("<svg") && picture.contains("fork_file"));
    }
}

/// Nothing can be traced without a userfaultfd. All else is measured with native mappings.
#[test]
fn without_userfaultfd_what_needs_it_is_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = report(
        bench(folder.path())
            .args(["--only", "fault.traced", "--only", "snapshot.again"])
            .env("COWSPACE_DISABLE", "uffd"),
    );
    let names = |list: &Vec<Value>, key: &str| -> Vec<Value> {
        list.iter().map(|entry| entry[key].clone()).collect()
    };
    assert_eq!(names(list(&report, "skipped"), "what"), ["fault.traced"]);
    assert_eq!(
        names(list(&report, "results"), "name"),
        ["snapshot.again"; 2]
    );
}

#[test]
fn bad_arguments_are_refused_with_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = refused(bench(folder.path()).args(["--only", "fault.traces"]), 2);
    assert!(said.contains("fault.traces") && said.contains("fault.traced_default"));
    for arguments in [
        &["--rounds", "0"][..],
        &["--rounds", "many"],
        &["--scale", "large"],
        &["--fast"],
        &["fault.traced"],
    ] {
        let said = refused(Command::new(COWSPACE).arg("bench").args(arguments), 2);
        let last = arguments[arguments.len() - 1];
        assert!(said.contains(last), "{said}");
    }
}

/// The one line that a refused call says.
fn refused(command: &mut Command, status: i32) -> String {
    let Output {
        status: code,
        stdout,
        stderr,
    } = command.output().expect("the command starts");
    assert_eq!(code.code(), Some(status));
    assert!(stdout.is_empty());
    let said = String::from_utf8(stderr).expect("text");
    assert!(said.starts_with("cowspace: ") && said.ends_with('\n'));
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}
