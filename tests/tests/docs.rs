//! What `docs/zircon.md` says is tested: each row names a test file, and each file that it names is there.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/zircon.md");
    std::fs::read_to_string(path).expect("docs/zircon.md can be read")
}

/// The test files that a row names, and the names that are none. A name may leave out the folder that the name before it has.
fn named(row: &str) -> (Vec<PathBuf>, Vec<&str>) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || "_/.".contains(c);
    let (mut found, mut missing) = (Vec::<PathBuf>::new(), Vec::new());
    for name in row.split(|c| !part_of_name(c)) {
        let name = name.trim_end_matches('.');
        // C programs are run by `c_library.rs`.
        let folder = match name.rsplit_once('.') {
            Some((_, "rs")) => package.join("tests"),
            Some((_, "c")) => package.to_path_buf(),
            _ => continue,
        };
        let beside = found.last().and_then(|last| last.parent());
        let beside = beside.map(|folder| folder.join(name));
        let path = [Some(folder.join(name)), beside].into_iter().flatten();
        match path.into_iter().find(|path| path.is_file()) {
            Some(path) => found.push(path),
            None => missing.push(name),
        }
    }
    (found, missing)
}

/// The rows of tables, without their heads.
fn rows(document: &str) -> Vec<&str> {
    let lines: Vec<&str> = document.lines().collect();
    let is_row = |line: &str| line.starts_with('|');
    let rule = |line: &str| is_row(line) && line.chars().all(|c| "|-: ".contains(c));
    let body = (1..lines.len()).filter(|&at| {
        let head = lines.get(at + 1).is_some_and(|next| rule(next));
        is_row(lines[at]) && !rule(lines[at]) && !head
    });
    body.map(|at| lines[at]).collect()
}

#[test]
fn each_row_names_its_tests() {
    let document = document();
    let rows = rows(&document);
    assert!(rows.len() > 60, "only {} rows", rows.len());
    let without: Vec<&&str> = rows.iter().filter(|row| named(row).0.is_empty()).collect();
    assert!(without.is_empty(), "rows without a test: {without:#?}");
}

#[test]
fn each_test_that_is_named_exists() {
    let document = document();
    let missing: Vec<&str> = document.lines().flat_map(|line| named(line).1).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
