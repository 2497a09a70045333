//! The C library: its headers, its symbols, and programs that use it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cowspace_tests::c_library::{Language, Library, Linkage, compiler, root, sources};

/// Each of `tests/c/` is a program that checks results, errors and bad pointers of some calls.
#[test]
fn c_programs() {
    let Some(library) = Library::installed() else {
        return;
    };
    for source in programs("c") {
        check(&library, &source, Language::C, Linkage::Shared);
    }
}

#[test]
fn cpp_programs() {
    let Some(library) = Library::installed() else {
        return;
    };
    // The headers' layouts and numbers are the same in C++.
    let layout = sources().join("layout.c");
    for source in programs("cc").into_iter().chain([layout]) {
        check(&library, &source, Language::Cpp, Linkage::Shared);
    }
}

#[test]
fn static_programs() {
    let Some(library) = Library::installed() else {
        return;
    };
    for name in ["vmos.c", "starting.c", "plus.cc"] {
        let source = sources().join(name);
        let language = match source.extension().is_some_and(|e| e == "cc") {
            true => Language::Cpp,
            false => Language::C,
        };
        check(&library, &source, language, Linkage::Static);
    }
}

/// Opened and closed at run time: its threads, and what it does as a thread ends, stay.
#[test]
fn the_library_can_be_closed() {
    let Some(library) = Library::installed() else {
        return;
    };
    let program = library.prefix().join("closing");
    let mut compiler = compiler(Language::C);
    compiler.args(library.pkg_config(&["--cflags"]));
    compiler.arg(sources().join("loaded/closing.c"));
    compiler
        .args(["-Wno-pedantic", "-pthread", "-ldl", "-o"])
        .arg(&program);
    let output = compiler.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    library.run(&program);
}

/// The very text of the README.
#[test]
fn program_of_the_readme() {
    let Some(library) = Library::installed() else {
        return;
    };
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("\n## From C\n").nth(1).expect("a section");
    let program = section
        .split("```c\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let source = library.prefix().join("readme.c");
    fs::write(&source, program.expect("a program")).unwrap();
    let program = library.build(&source, Language::C, Linkage::Shared);
    assert_eq!(library.run(&program), "the clone has: warm\n");
}

/// Each header can be included alone, and twice, in both languages.
#[test]
fn headers_stand_alone() {
    let Some(library) = Library::installed() else {
        return;
    };
    for header in headers(&library) {
        let text = format!("#include <{header}>\n#include <{header}>\nextern int unused;\n");
        let source = library.prefix().join("header.c");
        fs::write(&source, text).unwrap();
        for language in [Language::C, Language::Cpp] {
            let mut compiler = compiler(language);
            compiler.args(library.pkg_config(&["--cflags"]));
            compiler.args(["-fsyntax-only"]).arg(&source);
            let said = compiler.output().unwrap();
            let text = String::from_utf8_lossy(&said.stderr);
            assert!(said.status.success(), "{header} in {language:?}:\n{text}");
        }
    }
}

/// Both libraries have each call as `zx_x` and as `_zx_x`; the headers declare them all, and nothing else.
#[test]
fn symbols_are_those_of_the_headers() {
    let Some(library) = Library::installed() else {
        return;
    };
    let mut declared = BTreeSet::new();
    for header in headers(&library) {
        let text = fs::read_to_string(library.prefix().join("include").join(header)).unwrap();
        for declaration in text.split("\nextern ").skip(1) {
            let before = declaration.split('(').next().unwrap();
            declared.insert(before.rsplit([' ', '*']).next().unwrap().to_owned());
        }
    }
    assert!(declared.len() > 80, "{declared:?}");
    for name in &declared {
        let other = match name.strip_prefix('_') {
            Some(plain) => plain.to_owned(),
            None => format!("_{name}"),
        };
        assert!(declared.contains(&other), "{name} without {other}");
    }
    // A program that needs what is not here does not build.
    for left_out in [
        "zx_object_wait_many",
        "zx_object_wait_async",
        "zx_port_create",
        "zx_futex_requeue",
        "zx_futex_wake_single_owner",
        "zx_futex_get_owner",
    ] {
        assert!(!declared.contains(left_out), "{left_out}");
    }
    let exported = |options: &[&str], file: &str| -> BTreeSet<String> {
        let path = library.prefix().join("lib").join(file);
        let said = Command::new("nm").args(options).arg(path).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let names = said
            .lines()
            .filter_map(|line| line.split_once(" T "))
            .map(|(_, name)| name);
        let ours = |name: &&str| name.trim_start_matches('_').starts_with("zx_");
        names.filter(ours).map(str::to_owned).collect()
    };
    if Command::new("nm").arg("--version").output().is_err() {
        println!("SKIP the symbols of the C library: nm");
        return;
    }
    assert_eq!(
        exported(&["-D", "--defined-only"], "libcowspace_zx.so"),
        declared
    );
    assert_eq!(exported(&["--defined-only"], "libcowspace_zx.a"), declared);
}

fn check(library: &Library, source: &Path, language: Language, linkage: Linkage) {
    let program = library.build(source, language, linkage);
    print!("{}", library.run(&program));
}

/// The sources with an extension.
fn programs(extension: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(sources()).unwrap();
    let paths = all.map(|entry| entry.unwrap().path());
    let programs: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    assert!(!programs.is_empty());
    programs
}

/// The installed headers, as they are included.
fn headers(library: &Library) -> Vec<String> {
    let include = library.prefix().join("include");
    let folders = ["zircon", "zircon/syscalls"];
    let names = folders.iter().flat_map(|folder| {
        let entries = fs::read_dir(include.join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.ends_with(".h"))
            .map(move |name| format!("{folder}/{name}"))
    });
    names.collect()
}
