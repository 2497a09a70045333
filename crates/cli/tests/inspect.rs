//! `cowspace inspect` as a user runs it: on a process with a family worth a look, and on what cannot be inspected.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use cowspace::{Name, Policy, Vmar, VmarFlags, Vmo, VmoChildOptions};
use host_memory::access::Volatile;
use host_memory::page::page_size;
use serde_json::Value;

const COWSPACE: &str = env!("CARGO_BIN_EXE_cowspace");
/// Set in the process that is inspected.
const INSPECTED: &str = "COWSPACE_TEST_INSPECTED";

const PAGES: usize = 64;

/// The process that is inspected: a warmed heap with two clones, of which one is mapped, and something else. Says so, and waits until its input ends.
#[test]
fn process() {
    if std::env::var_os(INSPECTED).is_none() {
        return;
    }
    let root = Vmar::root_self();
    let size = PAGES * page_size();
    let rw = VmarFlags::PERM_READ | VmarFlags::PERM_WRITE;
    let named = |name: &str, size: usize| {
        let vmo = Vmo::create(size as u64).expect("a VMO");
        vmo.set_name(&Name::new_lossy(name)).expect("a name");
        vmo
    };
    let store = |addr: usize, pages: usize, value: u8| {
        for page in 0..pages {
            let at = Volatile::new(addr + page * page_size(), 1).expect("a mapping");
            at.store_u8(0, value);
        }
    };
    let heap = named("heap <&\"\\>", size);
    let addr = root.map(0, &heap, 0, size, rw).expect("a mapping");
    store(addr, PAGES, 1);
    let snapshot = |offset: usize, size: usize| {
        root.create_vmo_child(VmoChildOptions::SNAPSHOT, addr + offset, size)
            .expect("a clone")
    };
    let clone = snapshot(0, size);
    store(addr, 3, 2);
    let half = snapshot(size / 2, size / 2);
    let mapped = root.map(0, &clone, 0, size, rw).expect("a mapping");
    store(mapped, 5, 3);
    drop(heap);
    let other = named("other", size);
    let flags = VmarFlags::CAN_MAP_READ | VmarFlags::CAN_MAP_WRITE;
    let (below, _) = root.allocate(0, 4 * size, flags).expect("a VMAR");
    let native = below
        .map_with_policy(0, &other, 0, size, rw, Policy::Native)
        .expect("a mapping");
    store(native, 2, 1);

    println!("\nready");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the end of the input");
    drop((half, clone, other));
}

/// The process, running.
struct Inspected {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    folder: tempfile::TempDir,
}

impl Inspected {
    fn start() -> Inspected {
        Inspected::start_with(|command| command.env("COWSPACE_INSPECT", "1"))
    }

    fn start_with(set: impl FnOnce(&mut Command) -> &mut Command) -> Inspected {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(std::env::current_exe().expect("a program"));
        command
            .args(["process", "--exact", "--nocapture"])
            .env(INSPECTED, "1")
            .env_remove("COWSPACE_INSPECT")
            .env("XDG_RUNTIME_DIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = set(&mut command).spawn().expect("the process starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let ready = out.any(|line| line.expect("a line") == "ready");
        assert!(ready, "{:?}", child.wait());
        Inspected { child, out, folder }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("cowspace").join(self.pid())
    }

    fn inspect(&self, form: &[&str]) -> String {
        let output = inspect(&self.pid(), form);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Has it end by itself.
    fn end(mut self) {
        drop(self.child.stdin.take());
        while self.out.next().is_some() {}
        assert!(self.child.wait().expect("it ends").success());
        assert!(!self.socket().exists());
    }
}

impl Drop for Inspected {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our own `XDG_RUNTIME_DIR` is another one: the process's environment says where its socket is.
fn inspect(pid: &str, form: &[&str]) -> Output {
    Command::new(COWSPACE)
        .args(["inspect", pid])
        .args(form)
        .env_remove("XDG_RUNTIME_DIR")
        .output()
        .expect("the command starts")
}

#[test]
fn text_shows_mappings_families_and_sums() {
    let process = Inspected::start();
    let text = process.inspect(&[]);
    println!("{text}");
    let long = text.lines().find(|line| line.chars().count() > 100);
    assert_eq!(long, None);
    for wanted in [
        "heap <&\"\\>",
        "other",
        " VMAR",
        "rw-",
        "native",
        "hidden node",
        "family 1: 3 VMOs, ",
        "family 2: VMO ",
        "3 mappings of ",
        "(the same)",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    process.end();
}

#[test]
fn json_has_what_was_done() {
    let process = Inspected::start();
    let json: Value = serde_json::from_str(&process.inspect(&["--json"])).expect("JSON");
    assert_eq!(json["pid"].to_string(), process.pid());
    let size = (PAGES * page_size()) as u64;
    let vmos = json["vmos"].as_array().expect("a list");
    let kinds: Vec<_> = vmos.iter().map(|vmo| vmo["kind"].as_str()).collect();
    assert_eq!(kinds, ["root", "clone", "clone", "root"].map(Some));
    let handles: Vec<_> = vmos.iter().map(|vmo| vmo["handles"].as_u64()).collect();
    assert_eq!(handles, [0, 1, 1, 1].map(Some));
    let heap = &vmos[0];
    assert_eq!(heap["name"], "heap <&\"\\>");
    assert_eq!(heap["committed_bytes"], size);
    let page = page_size() as u64;
    assert_eq!(vmos[1]["private_bytes"], 5 * page);
    assert_eq!(vmos[2]["committed_bytes"], size / 2);
    for (family, owned) in json["families"]
        .as_array()
        .expect("a list")
        .iter()
        .zip([0, 1])
    {
        let sum = |list: &Value, field: &str| -> u64 {
            let list = list.as_array().expect("a list").iter();
            list.filter_map(|item| item[field].as_u64()).sum()
        };
        let shares = vmos.iter().filter(|vmo| vmo["family"] == owned);
        let shares: u64 = shares.filter_map(|vmo| vmo["scaled_bytes"].as_u64()).sum();
        assert!(sum(&family["layers"], "owned_bytes").abs_diff(shares) < 4 * PAGES as u64);
        assert_eq!(
            sum(&family["nodes"], "owned_bytes"),
            sum(&family["layers"], "owned_bytes")
        );
    }
    let (memory, smaps) = (&json["memory"], &json["smaps"]);
    assert_eq!(memory["private_bytes"], smaps["private_bytes"]);
    assert_eq!(memory["shared_bytes"], smaps["shared_bytes"]);
    process.end();
}

/// Strings end, brackets match, every edge is between nodes that are there; and Graphviz reads it where it is.
#[test]
fn the_graph_is_well_formed() {
    let process = Inspected::start();
    let graph = process.inspect(&["--dot"]);
    assert!(graph.starts_with("digraph cowspace {\n") && graph.trim_end().ends_with('}'));
    let mut outside = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in graph.chars() {
        match (quoted, escaped, c) {
            (true, true, _) => escaped = false,
            (true, false, '\\') => escaped = true,
            (_, _, '"') => quoted = !quoted,
            (true, ..) => {}
            (false, ..) => outside.push(c),
        }
    }
    assert!(!quoted, "{graph}");
    assert_eq!(outside.matches('{').count(), outside.matches('}').count());
    let words = |line: &str| -> Vec<String> {
        let ends = line
            .split('[')
            .next()
            .unwrap_or_default()
            .trim_end_matches(';');
        ends.split("->").map(|end| end.trim().to_owned()).collect()
    };
    let nodes: Vec<String> = outside
        .lines()
        .filter(|line| line.contains("label=") && !line.contains("->"))
        .map(|line| words(line).remove(0))
        .collect();
    let edges: Vec<Vec<String>> = outside
        .lines()
        .filter(|line| line.contains("->"))
        .map(words)
        .collect();
    assert!(edges.len() >= 6, "{graph}");
    for end in edges.iter().flatten() {
        assert!(nodes.contains(end), "{end}: {graph}");
    }
    let dot = Command::new("dot")
        .args(["-Tsvg", "-o", "/dev/null"])
        .stdin(Stdio::piped())
        .spawn();
    match dot {
        Ok(mut dot) => {
            let mut input = dot.stdin.take().expect("a pipe");
            input.write_all(graph.as_bytes()).expect("it reads");
            drop(input);
            assert!(dot.wait().expect("it ends").success());
        }
        Err(error) => println!("SKIP the_graph_is_well_formed: dot: {error}"),
    }
    process.end();
}

/// Well-formed XML, each node is a box inside of the picture, and no two are at one place.
#[test]
fn the_picture_is_well_formed() {
    let process = Inspected::start();
    let picture = process.inspect(&["--svg"]);
    let xml = roxmltree::Document::parse(&picture).expect("XML");
    let root = xml.root_element();
    let number = |node: roxmltree::Node<'_, '_>, name: &str| -> u64 {
        let value = node.attribute(name).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{name}: {node:?}"))
    };
    let boxes = root
        .children()
        .filter(|node| node.attribute("rx").is_some());
    let mut places = Vec::new();
    for node in boxes {
        let (x, y) = (number(node, "x"), number(node, "y"));
        assert!(x + number(node, "width") <= number(root, "width"));
        assert!(y + number(node, "height") <= number(root, "height"));
        places.push((x, y));
    }
    let all = places.len();
    places.sort_unstable();
    places.dedup();
    let json: Value = serde_json::from_str(&process.inspect(&["--json"])).expect("JSON");
    let families = json["families"].as_array().expect("a list").iter();
    let nodes: usize = families
        .map(|family| family["nodes"].as_array().expect("a list").len())
        .sum();
    assert_eq!((places.len(), all), (nodes, nodes));
    let texts = || root.descendants().filter_map(|node| node.text());
    assert!(
        texts().any(|text| text.contains("heap <&\"\\>")),
        "{picture}"
    );
    assert!(root.descendants().any(|node| node.has_tag_name("path")));
    process.end();
}

/// One line on standard error, and 1; bad arguments 2.
#[test]
fn what_cannot_be_inspected_is_said_in_one_line() {
    let refused = |pid: &str, status: i32| {
        let output = inspect(pid, &[]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(output.stdout.is_empty());
        errors
    };
    assert!(refused("0", 1).contains("there is no process 0"));
    assert!(refused("4294967295", 1).contains("there is no process"));
    refused("nonsense", 2);
    refused("-1", 2);

    let silent = Inspected::start_with(|command| command);
    assert!(refused(&silent.pid(), 1).contains("COWSPACE_INSPECT=1"));
    assert!(!silent.socket().exists());
    silent.end();

    let both = inspect("1", &["--json", "--svg"]);
    assert_eq!(both.status.code(), Some(2));

    // A process that was killed leaves its socket, until somebody asks for it.
    let mut killed = Inspected::start();
    assert!(killed.socket().exists());
    killed.child.kill().expect("it is killed");
    killed.child.wait().expect("it ends");
    let output = Command::new(COWSPACE)
        .args(["inspect", &killed.pid()])
        .env("XDG_RUNTIME_DIR", killed.folder.path())
        .output()
        .expect("the command starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no process"));
    assert!(!killed.socket().exists());
}
