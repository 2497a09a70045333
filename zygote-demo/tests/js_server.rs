//! `zygote-demo js --listen`: each script has a child of its own, and harms nobody else.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cowspace_tests::processes::{Holdings, children_of, launcher_of, stat, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use test_share::{first_or_all, share};

const LIBRARY: &str = "\
var library = { count: 0, cow: Array.from({ length: 20000 }, (_, at) => ({ at, name: `cow ${at}` })) };
function moo() { return deeper(); }
function deeper() { throw new TypeError('moo'); }
";

/// A running server. Dropping it kills it, and with it its children.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
    launcher: u32,
}

impl Server {
    fn start(disable: &str, arguments: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("library.js");
        fs::write(&library, LIBRARY).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_zygote-demo"))
            .args(["js", "--preload"])
            .arg(library)
            .arg("--listen")
            .arg(format!("unix:{}", folder.path().join("socket").display()))
            .args(arguments)
            .env("COWSPACE_DISABLE", disable)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on unix:"), "{line}");
        let launcher = launcher_of(process.id());
        Server {
            process,
            folder,
            launcher,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    /// Sends a request, and gives status, head and body of the reply.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String, String) {
        let mut stream = self.connect();
        send(&mut stream, method, path, headers, body);
        reply(stream)
    }

    fn post(&self, script: &str) -> (u16, String) {
        let (status, _, body) = self.ask("POST", "/", "", script.as_bytes());
        (status, body)
    }

    fn preload(&self, script: &str) -> (u16, String) {
        let (status, _, body) = self.ask("POST", "/preload", "", script.as_bytes());
        (status, body)
    }

    fn stats(&self) -> Value {
        let (status, _, body) = self.ask("GET", "/stats", "", b"");
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    fn number(&self, pointer: &str) -> u64 {
        let stats = self.stats();
        let number = stats.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no {pointer} in {stats}"))
    }

    /// Waits until the one script that was sent runs, or has run.
    fn until_begun(&self) {
        until(|| {
            let stats = self.stats();
            stats["memory"]["children"] == 1 || stats["requests"]["value"] == 1
        });
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Has it end, and checks that nothing is left.
    fn drain(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let status = self.process.wait().unwrap();
        assert!(!self.socket().exists());
        assert!(is_gone(self.launcher) && children_of(self.launcher).is_empty());
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether it has ended: nobody but the system need have taken notice.
fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == 'Z')
}

fn send(stream: &mut UnixStream, method: &str, path: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: js\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Whoever refuses a body need not read it.
    let _ = stream.write_all(body);
}

fn reply(mut stream: UnixStream) -> (u16, String, String) {
    let mut reply = Vec::new();
    // A connection may be reset behind a reply to what was not read.
    let _ = stream.read_to_end(&mut reply);
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no reply: {reply:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

#[test]
fn a_script_gives_its_value_or_the_reason_why_not() {
    let server = Server::start("", &["--timeout", &time(1), "--memory-limit", "16MiB"]);
    for (script, status, body) in [
        ("library.cow.length", 200, "20000\n"),
        ("console.log('a'); console.error('b'); [1]", 200, "a\n[1]\n"),
        ("undefined", 200, ""),
        ("console.log('bye'); exit(0)", 200, "bye\n"),
        ("exit(3)", 422, "exit code 3\n"),
    ] {
        assert_eq!(server.post(script), (status, body.to_owned()), "{script}");
    }
    let hostile = [
        ("moo()", 422, "TypeError: moo\n    at deeper ("),
        ("let = ;", 422, "SyntaxError"),
        ("(function f() { f() })()", 422, "call stack"),
        (
            "Promise.reject(new RangeError('aside')); 1",
            422,
            "RangeError: aside",
        ),
        ("for (;;) {}", 504, "--timeout"),
        (
            "const all = []; for (;;) all.push({})",
            507,
            "--memory-limit",
        ),
        ("for (;;) console.log('x'.repeat(1e6))", 507, "wrote more"),
        // Takes its whole time, as one above does.
        ("/(a*)*b/.test('a'.repeat(1000))", 504, "--timeout"),
    ];
    for &(script, status, said) in first_or_all(hostile.len() - 1, &hostile) {
        let (got, body) = server.post(script);
        assert_eq!(got, status, "{script}: {body}");
        assert!(body.contains(said), "{script}: {body}");
    }
    let accept = "Accept: application/json\r\n";
    let (status, head, body) = server.ask("POST", "/", accept, b"console.log('out'); moo()");
    assert_eq!(status, 422);
    assert!(head.contains("application/json"));
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&told["ending"], &told["output"]),
        (&"exception".into(), &"out\n".into())
    );
    assert!(
        told["reason"].as_str().unwrap().contains("at moo ("),
        "{told}"
    );
    assert_eq!(server.drain().code(), Some(0));
}

#[test]
fn what_is_no_script_is_refused() {
    let server = Server::start("", &[]);
    for (method, path, headers, body, status) in [
        ("GET", "/", "", &b""[..], 405),
        ("POST", "/stats", "", b"1", 405),
        ("GET", "/preload", "", b"", 405),
        ("POST", "/other", "", b"1", 404),
        ("POST", "/", "Origin: http://somewhere\r\n", b"1", 403),
        ("POST", "/", "", b"'\xff'", 400),
        ("POST", "/", "", &vec![b' '; (16 << 20) + 1], 413),
    ] {
        let (got, head, reply) = server.ask(method, path, headers, body);
        assert_eq!(got, status, "{method} {path}: {reply}");
        assert_eq!(
            head.to_lowercase().contains("\nallow: "),
            status == 405,
            "{head}"
        );
    }
    assert_eq!(server.number("/requests/total"), 0);
    for address in ["0.0.0.0:80", "unix:", "nowhere"] {
        let output = Command::new(env!("CARGO_BIN_EXE_zygote-demo"))
            .args(["js", "--listen", address])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}");
    }
    let taken = format!("unix:{}", server.socket().display());
    let output = Command::new(env!("CARGO_BIN_EXE_zygote-demo"))
        .args(["js", "--listen", &taken])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), errors.lines().count()),
        (Some(1), 1),
        "{errors}"
    );
}

#[test]
fn a_port_is_listened_on() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_zygote-demo"))
        .args(["js", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: js\r\nConnection: close\r\nContent-Length: 5\r\n\r\n6 * 7",
        )
        .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(
        reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("\r\n42\n"),
        "{reply}"
    );
    kill_process(
        Pid::from_raw(process.id().try_into().unwrap()).unwrap(),
        Signal::INT,
    )
    .unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_process_that_crashes_costs_its_own_request() {
    let server = Server::start("", &["--timeout", "1h"]);
    let mut stream = server.connect();
    send(&mut stream, "POST", "/", "", b"for (;;) {}");
    until(|| server.number("/memory/children") == 1);
    // The spare ones as well.
    for child in children_of(server.launcher) {
        let _ = kill_process(
            Pid::from_raw(child.try_into().unwrap()).unwrap(),
            Signal::KILL,
        );
    }
    let (status, _, body) = reply(stream);
    assert_eq!(status, 500);
    assert!(body.contains("SIGKILL"), "{body}");
    assert_eq!(server.post("1"), (200, "1\n".to_owned()));
    assert_eq!(server.number("/requests/crash"), 1);
    assert_eq!(server.drain().code(), Some(0));
}

#[test]
fn a_client_that_hangs_up_ends_its_child() {
    let server = Server::start("", &["--timeout", "1h", "--concurrency", "1"]);
    let mut runs = server.connect();
    send(&mut runs, "POST", "/", "", b"for (;;) {}");
    until(|| server.number("/memory/children") == 1);
    let mut waits = server.connect();
    send(&mut waits, "POST", "/", "", b"for (;;) {}");
    until(|| server.number("/requests/waiting") == 1);
    drop(waits);
    until(|| server.number("/requests/hung_up") == 1);
    drop(runs);
    until(|| server.number("/requests/hung_up") == 2 && server.number("/memory/children") == 0);
    assert_eq!(server.post("1"), (200, "1\n".to_owned()));
    assert_eq!(server.drain().code(), Some(0));
}

#[test]
fn too_many_are_sent_away() {
    let server = Server::start(
        "",
        &["--timeout", "1h", "--concurrency", "1", "--queue", "0"],
    );
    let mut runs = server.connect();
    send(&mut runs, "POST", "/", "", b"for (;;) {}");
    until(|| server.number("/memory/children") == 1);
    let (status, head, _) = server.ask("POST", "/", "", b"1");
    assert_eq!(status, 503);
    assert!(head.to_lowercase().contains("retry-after"), "{head}");
    assert_eq!(server.number("/requests/busy"), 1);
}

#[test]
fn the_end_waits_for_what_was_begun() {
    let server = Server::start("", &[]);
    let mut stream = server.connect();
    let script = b"const end = Date.now() + 300; while (Date.now() < end); 'done'";
    send(&mut stream, "POST", "/", "", script);
    server.until_begun();
    let idle = server.connect();
    let began = thread::spawn(move || reply(stream));
    assert_eq!(server.drain().code(), Some(0));
    let (status, _, body) = began.join().unwrap();
    assert_eq!((status, body.as_str()), (200, "done\n"));
    drop(idle);
}

/// A time limit that what comes to another end does not reach, on a slow machine either.
fn time(seconds: u32) -> String {
    format!("{}s", seconds * 4 / share(4))
}

/// Requests of several clients, with scripts among them that would do harm.
fn under_load(disable: &str, policy: &str, requests: u32) {
    let requests = requests as usize;
    let time = time(3);
    let arguments = [
        "--timeout",
        &time,
        "--memory-limit",
        "8MiB",
        "--policy",
        policy,
        "--concurrency",
        "4",
    ];
    let server = Server::start(disable, &arguments);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        break;
                    }
                    let (script, status) = match number % 50 {
                        // Each takes its whole time: none where a share is done.
                        7 if number % 250 == 107 => ("for (;;) {}".to_owned(), 504),
                        13 => ("const all = []; for (;;) all.push({})".to_owned(), 507),
                        19 => ("(function f() { f() })()".to_owned(), 422),
                        23 => ("exit(9)".to_owned(), 422),
                        31 => ("throw new Error('no')".to_owned(), 422),
                        37 => ("for (;;) console.log('x'.repeat(1e6))".to_owned(), 507),
                        _ => (format!("library.count += 1; library.cow[{number}].name = 'x'; delete library.cow[{number} + 1]; moo = null; [library.count, {number}, library.cow[{number} + 2].name]"), 200),
                    };
                    let (got, body) = server.post(&script);
                    assert_eq!(got, status, "{script}: {body}");
                    if status == 200 {
                        assert_eq!(body, format!("[1,{number},\"cow {}\"]\n", number + 2));
                    }
                }
            });
        }
    });
    let stats = server.stats();
    let count = |name: &str| stats["requests"][name].as_u64().unwrap();
    let of = |rest: usize| (0..requests).filter(|number| number % 50 == rest).count() as u64;
    let loops = (0..requests).filter(|number| number % 250 == 107).count() as u64;
    assert_eq!(count("total"), requests as u64);
    assert_eq!(
        (count("timeout"), count("memory"), count("output")),
        (loops, of(13), of(37))
    );
    assert_eq!(
        (count("exit"), count("exception")),
        (of(23), of(19) + of(31))
    );
    let rest = ["open", "waiting", "crash", "hung_up", "busy", "failed"];
    assert!(rest.iter().all(|name| count(name) == 0), "{stats}");
    assert_eq!(stats["latency_ms"]["count"], count("value"));
    assert_eq!(server.drain().code(), Some(0));
}

#[test]
fn thousand_requests_with_hostile_ones_among_them() {
    under_load("", "native", share(1000));
}

#[test]
fn the_same_without_userfaultfd() {
    under_load("uffd", "native", share(1000));
}

#[test]
fn the_same_traced() {
    under_load("", "traced", share(200));
}

#[test]
fn what_is_loaded_later_new_children_have() {
    let settings = [("", "traced"), ("", "native"), ("uffd", "native")];
    for &(disable, policy) in first_or_all(1, &settings) {
        let time = time(1);
        let server = Server::start(
            disable,
            &[
                "--timeout",
                &time,
                "--memory-limit",
                "16MiB",
                "--policy",
                policy,
            ],
        );
        let mut stream = server.connect();
        let script = b"const end = Date.now() + 200; while (Date.now() < end); typeof later";
        send(&mut stream, "POST", "/", "", script);
        server.until_begun();
        let heap = server.number("/memory/heap_bytes");
        let later = "var later = { cow: library.cow.map(({ at }) => at) }; library.count = 7; console.log('loaded')";
        assert_eq!(server.preload(later), (200, "loaded\n".to_owned()));
        assert_eq!(
            server
                .post("[later.cow.length, library.count++, library.cow.length]")
                .1,
            "[20000,7,20000]\n"
        );
        let (status, _, body) = reply(stream);
        assert_eq!((status, body.as_str()), (200, "undefined\n"));
        let more = server.number("/memory/heap_bytes");
        assert!(more > heap + 100_000, "{heap} {more}");
        // Wholly, or not at all.
        for (script, status) in [
            (
                "library.cow.length = 3; later = 1; Object.prototype.bad = 1; throw new Error('half')",
                422,
            ),
            ("library.cow.length = 3; later = 1; for (;;) {}", 504),
            (
                "library.cow.length = 3; later = []; for (;;) later.push({})",
                507,
            ),
            ("library.cow.length = 3; exit(0)", 200),
            (
                "library.cow.length = 3; Promise.reject(new Error('aside'))",
                422,
            ),
        ] {
            assert_eq!(server.preload(script).0, status, "{script}");
            let see = "[later.cow.length, library.count, library.cow.length, library.cow[19999].name, typeof {}.bad]";
            assert_eq!(
                server.post(see).1,
                "[20000,7,20000,\"cow 19999\",\"undefined\"]\n",
                "{script}"
            );
        }
        let stats = server.stats();
        assert_eq!(stats["memory"]["heap_bytes"], more);
        assert_eq!(
            (&stats["preloads"]["done"], &stats["preloads"]["refused"]),
            (&1.into(), &5.into())
        );
        assert_eq!(server.drain().code(), Some(0));
    }
}

/// How much of each thing the server may have more after many rounds than after a few.
const MORE_BYTES: u64 = 24 << 20;
const MORE_THINGS: usize = 40;

#[test]
fn loading_again_and_again_costs_no_more_each_time() {
    let server = Server::start("", &["--concurrency", "1"]);
    let rounds = std::env::var("ROUNDS")
        .map_or_else(|_| share(200).max(4), |rounds| rounds.parse().unwrap());
    let mut early = None;
    for round in 0..rounds {
        let script = format!(
            "var later = Array.from({{ length: 500 }}, (_, at) => ({{ at, round: {round} }})); library.cow[{round} % 20000].name = 'round {round}'"
        );
        assert_eq!(server.preload(&script).0, 200);
        // One that is undone.
        assert_eq!(
            server
                .preload("later = null; library.cow = null; throw 1")
                .0,
            422
        );
        let see = format!("[later[499].round, library.cow[{round} % 20000].name]");
        assert_eq!(
            server.post(&see).1,
            format!("[{round},\"round {round}\"]\n")
        );
        if round + 1 == rounds / 4 {
            early = Some((Holdings::of(server.process.id()), server.stats()));
        }
    }
    let (before, stats) = early.unwrap();
    let after = Holdings::of(server.process.id());
    println!("after a quarter: {before:?} {}", stats["latency_ms"]);
    println!(
        "after {rounds} rounds: {after:?} {}",
        server.stats()["latency_ms"]
    );
    assert!(
        after.files + after.private < before.files + before.private + MORE_BYTES,
        "{before:?} {after:?}"
    );
    assert!(
        after.descriptors < before.descriptors + MORE_THINGS,
        "{before:?} {after:?}"
    );
    assert!(
        after.mappings < before.mappings + MORE_THINGS,
        "{before:?} {after:?}"
    );
}
