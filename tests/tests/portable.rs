//! No source says what only one kind of machine is like: that a page has 4 KiB, that the processor is this one, that a VMO's pages can be counted in a `usize`.
//!
//! Unit tests may: a page size is an input there, like any other. Tests on real memory may not.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// What may not stand in a source, as a sequence of tokens; and what to write instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("4096", PAGE),
    ("4095", PAGE),
    ("0x1000", PAGE),
    ("0xfff", PAGE),
    ("1 << 12", PAGE),
    (">> 12", PAGE),
    ("4 << 10", PAGE),
    ("4 * 1024", PAGE),
    ("16384", PAGE),
    ("0x4000", PAGE),
    ("1 << 14", PAGE),
    (">> 14", PAGE),
    ("target_arch", PROCESSOR),
    ("core :: arch", PROCESSOR),
    ("std :: arch", PROCESSOR),
    ("asm !", PROCESSOR),
    ("__x86_64__", PROCESSOR),
    ("__aarch64__", PROCESSOR),
    ("immintrin", PROCESSOR),
];

const PAGE: &str = "ask host_memory::page::page_size(), or take the size of a page as an argument";
const PROCESSOR: &str = "do what every processor can, or have a crate do it";

/// Lines that mean something else: the file, a part of the line, what is meant. Each must be there.
const MEANT: &[(&str, &str, &str)] = &[
    (
        "crates/host-memory/src/stop.rs",
        "const CAPACITY: usize = 4096;",
        "threads",
    ),
    (
        "crates/page-tree/tests/no_allocation.rs",
        "const PAGES: u64 = 4096;",
        "pages, of any size",
    ),
    (
        "crates/zygote/src/protocol.rs",
        "bytes: 4096,",
        "the longest message",
    ),
    (
        "crates/bench/src/scale.rs",
        "[16, 64, 256, 1024, 4096, 8192]",
        "MiB of a heap",
    ),
    (
        "crates/cli/src/profile/synthetic.rs",
        "const CHUNK: usize = 4096;",
        "probes",
    ),
    (
        "tests/tests/stress.rs",
        "self.0 ^= self.0 >> 12;",
        "random numbers",
    ),
    (
        "tests/c/check.h",
        "UINTPTR_MAX - 4096 + 1",
        "an address of the kernel's, whatever its page",
    ),
    (
        "tests/c/allocator/main.c",
        "#define MOST_PIECES 4096",
        "pieces",
    ),
    (
        "tests/c/allocator/main.c",
        "aligned_alloc(4096, len)",
        "an alignment that a program asks for",
    ),
    (
        "tests/c/allocator/every_call.c",
        "4096, 0, &out));",
        "a size, to be refused",
    ),
    (
        "tests/c/allocator/every_call.c",
        "0, 4096, &out));",
        "a size, to be refused",
    ),
];

/// Folders of tests on made-up data, where a page size is an input, too.
const MADE_UP: &[&str] = &["crates/profile/tests"];

/// A line without its comment and the insides of its strings: words, numbers without `_`, signs.
fn tokens(line: &str) -> String {
    let mut code = String::new();
    let mut in_string = false;
    let mut last = ' ';
    for (at, c) in line.char_indices() {
        if c == '"' && last != '\\' && last != '\'' {
            in_string = !in_string;
        }
        if !in_string && (line[at..].starts_with("//") || line[at..].starts_with("/*")) {
            break;
        }
        code.push(if in_string { ' ' } else { c });
        last = c;
    }
    let mut tokens = String::from(" ");
    let mut word = String::new();
    let digits = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let end = |word: &mut String, tokens: &mut String| {
        if !word.is_empty() {
            let mut whole = std::mem::take(word);
            if digits(&whole) {
                whole = whole.replace('_', "").to_lowercase();
                for suffix in ["usize", "u64", "u32", "i64", "i32", "ul", "u"] {
                    if let Some(number) = whole.strip_suffix(suffix) {
                        whole = number.to_owned();
                    }
                }
            }
            tokens.push_str(&whole);
            tokens.push(' ');
        }
    };
    let mut signs = String::new();
    for c in code.chars().chain([' ']) {
        if c.is_alphanumeric() || c == '_' {
            end(&mut signs, &mut tokens);
            word.push(c);
            continue;
        }
        end(&mut word, &mut tokens);
        // Signs of two characters are one; all others stand alone.
        let pair = matches!((signs.as_str(), c), ("<", '<') | (">", '>') | (":", ':'));
        if !pair {
            end(&mut signs, &mut tokens);
        }
        if !c.is_whitespace() {
            signs.push(c);
        }
    }
    tokens
}

/// What is wrong with a line, if anything.
fn wrong(line: &str) -> Option<&'static str> {
    let tokens = tokens(line);
    let found = FORBIDDEN
        .iter()
        .find(|(what, _)| tokens.contains(&format!(" {what} ")))?;
    // A bit of a set of flags, which is counted from 0 on.
    let bit = found.0.contains("<<") && line.trim().starts_with("const ");
    let flag = bit && tokens.ends_with(&format!("= {} ; ", found.0));
    let flag = flag || line.starts_with("#define ZX_");
    (!flag).then_some(found.1)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All sources of Rust and C under a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("names are plain").to_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                sources(&path, found);
            }
        } else if [".rs", ".c", ".h", ".cc"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            found.push(path);
        }
    }
}

/// The lines of a source that are no unit test: those come last, or have a file of their own.
fn lines_without_unit_tests<'a>(path: &Path, text: &'a str) -> Vec<(usize, &'a str)> {
    let name = path.file_stem().and_then(|name| name.to_str());
    let in_src = path.components().any(|part| part.as_os_str() == "src");
    if in_src && name.is_some_and(|name| name == "tests" || name.ends_with("_tests")) {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let end = (1..lines.len()).find(|&at| {
        lines[at - 1] == "#[cfg(test)]" && lines[at].starts_with("mod ") && lines[at].ends_with('{')
    });
    let lines = lines.into_iter().take(end.unwrap_or(usize::MAX));
    lines.enumerate().map(|(at, line)| (at + 1, line)).collect()
}

#[test]
fn no_source_assumes_a_machine() {
    let root = root();
    let mut files = Vec::new();
    for folder in ["crates", "fault-handler", "zygote-demo", "tests"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "only {} sources", files.len());
    let mut meant = vec![false; MEANT.len()];
    let mut findings = Vec::new();
    for path in &files {
        let name = path.strip_prefix(&root).expect("under the root");
        if name == Path::new("tests/tests/portable.rs")
            || MADE_UP.iter().any(|folder| name.starts_with(folder))
        {
            continue;
        }
        let text = fs::read_to_string(path).expect("sources are text");
        for (number, line) in lines_without_unit_tests(name, &text) {
            let Some(instead) = wrong(line) else { continue };
            let known = MEANT
                .iter()
                .position(|(file, part, _)| Path::new(file) == name && line.contains(part));
            match known {
                Some(known) => meant[known] = true,
                None => findings.push(format!(
                    "{}:{number}: {}\n    {instead}",
                    name.display(),
                    line.trim()
                )),
            }
        }
    }
    assert!(
        findings.is_empty(),
        "these assume one kind of machine (if something else is meant: MEANT in tests/tests/portable.rs)\n{}",
        findings.join("\n")
    );
    let stale = MEANT.iter().zip(meant);
    let stale = stale.filter(|((file, ..), meant)| !meant && root.join(file).exists());
    let stale: Vec<_> = stale.map(|(entry, _)| entry).collect();
    assert!(stale.is_empty(), "no such lines any more: {stale:?}");
}

/// A VMO may be larger than the address space: its pages are counted in `u64`.
#[test]
fn the_page_tree_counts_pages_in_u64() {
    let mut files = Vec::new();
    sources(&root().join("crates/page-tree/src"), &mut files);
    for path in files {
        let text = fs::read_to_string(&path).expect("sources are text");
        for (number, line) in lines_without_unit_tests(&path, &text) {
            let tokens = tokens(line);
            for name in ["page", "pages", "offset"] {
                assert!(
                    !tokens.contains(&format!(" {name} : usize ")),
                    "{}:{number}: {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn lines_are_judged() {
    for line in [
        "let page = 4096;",
        "const PAGE: usize = 4096;",
        "let page = 4_096_usize;",
        "buffer[0x1000]",
        "let number = addr >> 12;",
        "let len = 1<<12;",
        "#[cfg(target_arch = \"x86_64\")]",
        "use std::arch::x86_64::_mm_clflush;",
        "core::arch::asm!(\"\");",
        "f(\"a\", 4096) // \"",
        "char page[4096u];",
    ] {
        assert!(wrong(line).is_some(), "{line}");
    }
    for line in [
        "let page = page_size();",
        "// 4096 bytes on most machines",
        "let text = \"4096\";",
        "let len = 40960;",
        "const MAP: u32 = 1 << 12;",
        "let x = 1 << 120;",
        "std::env::consts::ARCH",
        "let quote = '\"'; // 4096",
    ] {
        assert_eq!(wrong(line), None, "{line}");
    }
}
