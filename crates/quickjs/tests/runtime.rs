//! A runtime in one process: what scripts can do, how they end, and what stays of them.

#![forbid(unsafe_code)]

use std::time::Duration;

use cowspace_quickjs::{Ending, Error, Limits, Runtime, Stream};
use host_memory::heap::{Heap, HeapError};

fn runtime() -> Runtime {
    Runtime::create(Heap::create_anonymous(256 << 20).unwrap()).unwrap()
}

fn eval_within(runtime: &mut Runtime, source: &str, limits: &Limits) -> Ending {
    let ending = runtime.eval(source, "test.js", limits, &mut |_, _| ());
    ending.unwrap()
}

fn eval(runtime: &mut Runtime, source: &str) -> Ending {
    eval_within(runtime, source, &Limits::default())
}

fn value(text: &str) -> Ending {
    Ending::Value(Some(text.to_owned()))
}

#[test]
fn values_are_text() {
    let mut runtime = runtime();
    for (source, text) in [
        ("1 + 1", "2"),
        ("'a' + '\\u00e4\\u{1f404}'", "aä🐄"),
        ("({a: [1, null, 'x']})", r#"{"a":[1,null,"x"]}"#),
        ("null", "null"),
        ("Symbol('s')", "Symbol(s)"),
        ("10n ** 20n", "100000000000000000000"),
        ("let loop = {}; loop.self = loop", "[object Object]"),
        ("Promise.resolve(6).then(n => n * 7)", "42"),
        ("(async () => { await null; return 'late' })()", "late"),
        ("'\0' + 1", "\u{0}1"),
    ] {
        assert_eq!(eval(&mut runtime, source), value(text), "{source}");
    }
    assert_eq!(eval(&mut runtime, "undefined"), Ending::Value(None));
}

#[test]
fn the_console_is_two_streams() {
    let mut runtime = runtime();
    let mut written = Vec::new();
    let source = "console.log('a', 1, [2]); console.error(new TypeError('bad')); JSON.stringify = null; console.info({b: 3})";
    let ending = runtime.eval(
        source,
        "test.js",
        &Limits::default(),
        &mut |stream, text| {
            written.push((stream, text.to_owned()));
        },
    );
    assert_eq!(ending.unwrap(), Ending::Value(None));
    assert_eq!(written[0], (Stream::Output, "a 1 [2]\n".to_owned()));
    assert_eq!(written[1].0, Stream::Errors);
    assert!(
        written[1].1.starts_with("TypeError: bad\n    at "),
        "{written:?}"
    );
    assert_eq!(written[2], (Stream::Output, "{\"b\":3}\n".to_owned()));
}

#[test]
fn exceptions_have_the_scripts_stack() {
    let mut runtime = runtime();
    eval(
        &mut runtime,
        "function outer() { inner() }\nfunction inner() { null.x }",
    );
    let Ending::Exception(text) = eval(&mut runtime, "outer()") else {
        panic!("no exception");
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("TypeError: "), "{text}");
    assert!(lines[1].starts_with("at inner (test.js:2"), "{text}");
    assert!(lines[2].starts_with("at outer (test.js:1"), "{text}");
    for (source, said) in [
        ("throw 5", "5"),
        ("let = ;", "SyntaxError"),
        ("Promise.reject(new RangeError('far'))", "RangeError: far"),
        ("(function f() { f() })()", "call stack"),
        (
            "throw {toJSON() { throw 1 }, toString() { throw 2 }}",
            "cannot be made text",
        ),
    ] {
        let Ending::Exception(text) = eval(&mut runtime, source) else {
            panic!("{source}: no exception");
        };
        assert!(text.contains(said), "{source}: {text}");
    }
    assert_eq!(eval(&mut runtime, "1"), value("1"));
}

#[test]
fn a_rejected_promise_is_an_error_unless_somebody_cares() {
    let mut runtime = runtime();
    for (source, said) in [
        (
            "Promise.reject(new RangeError('aside')); 1",
            "RangeError: aside",
        ),
        ("(async () => { await null; null.x })(); 1", "TypeError"),
        ("Promise.reject(1).then(() => 2); 3", "1"),
        (
            "Promise.reject('first'); Promise.reject('second'); 3",
            "first",
        ),
        ("Promise.reject('mine')", "mine"),
    ] {
        let Ending::Exception(text) = eval(&mut runtime, source) else {
            panic!("{source}: no exception");
        };
        assert!(text.starts_with(said), "{source}: {text}");
    }
    for source in [
        "Promise.reject(1).catch(() => 2); 3",
        "const late = Promise.reject(1); Promise.resolve().then(() => late.catch(() => 2)); 3",
        "Promise.all([Promise.reject(1), Promise.reject(2)]).catch(() => 3)",
    ] {
        assert_eq!(eval(&mut runtime, source), value("3"), "{source}");
    }
    assert_eq!(
        eval(&mut runtime, "Promise.reject(1); exit(4)"),
        Ending::Exit(4)
    );
}

#[test]
fn exit_cannot_be_caught() {
    let mut runtime = runtime();
    for (source, code) in [
        ("exit(3)", 3),
        ("exit()", 0),
        (
            "try { exit(4) } catch { exit(5) } finally { console.log('no') }",
            4,
        ),
        ("Promise.resolve().then(() => exit(6))", 6),
    ] {
        assert_eq!(eval(&mut runtime, source), Ending::Exit(code), "{source}");
    }
    let Ending::Exception(text) = eval(&mut runtime, "exit(Symbol())") else {
        panic!("a symbol is no exit code");
    };
    assert!(text.starts_with("TypeError"), "{text}");
}

#[test]
fn time_is_limited() {
    let mut runtime = runtime();
    let limits = Limits {
        time: Some(Duration::from_millis(20)),
        ..Limits::default()
    };
    for source in [
        "for (;;) {}",
        "for (;;) try { for (;;) {} } catch {}",
        "const again = () => Promise.resolve().then(again); again()",
        "({toJSON() { for (;;) {} }})",
    ] {
        let ending = eval_within(&mut runtime, source, &limits);
        assert_eq!(ending, Ending::Timeout, "{source}");
    }
    // The third has left a job, which goes on as long as it may.
    let ending = eval_within(&mut runtime, "1", &limits);
    assert!(
        ending == Ending::Timeout || ending == value("1"),
        "{ending:?}"
    );
}

#[test]
fn memory_is_limited() {
    let mut runtime = runtime();
    let limits = Limits {
        memory: Some(8 << 20),
        ..Limits::default()
    };
    for source in [
        "const all = []; for (;;) all.push({})",
        "new Uint8Array(64 << 20)",
        "let text = 'x'; for (;;) text = text + text.repeat(2)",
    ] {
        let ending = eval_within(&mut runtime, source, &limits);
        assert_eq!(ending, Ending::OutOfMemory, "{source}");
    }
    // Garbage is no reason to refuse memory: neither what is given back by itself nor cycles.
    let source =
        "for (let i = 0; i < 300000; i++) { const a = {i, s: 'x'.repeat(50)}; a.self = a } 'done'";
    assert_eq!(eval_within(&mut runtime, source, &limits), value("done"));
    let source = "for (let i = 0; i < 20000; i++) { const a = {s: 'x'.repeat(2000) + i}; a.self = a } 'done'";
    assert_eq!(eval_within(&mut runtime, source, &limits), value("done"));
    assert_eq!(
        eval(&mut runtime, "new Uint8Array(64 << 20).length"),
        value("67108864")
    );
}

#[test]
fn what_a_script_leaves_is_there_for_the_next() {
    let mut runtime = runtime();
    eval(
        &mut runtime,
        "var kept = new Map([['a', /b+/u]]); function f() { return kept.get('a').test('bb') }",
    );
    runtime.settle().unwrap();
    assert_eq!(eval(&mut runtime, "f()"), value("true"));
    assert!(runtime.heap().allocated() > 100_000);
}

#[test]
fn warming_again_and_again_takes_no_more_memory() {
    let mut runtime = runtime();
    let more = "var kept = Array.from({length: 5000}, (_, at) => { const a = {at}; a.self = a; return a })";
    let mut most = 0;
    for round in 0..200 {
        eval(&mut runtime, more);
        runtime.settle().unwrap();
        if round == 20 {
            most = runtime.heap().allocated() + (20 << 20);
        }
    }
    let allocated = runtime.heap().allocated();
    assert!(allocated < most, "{allocated} bytes, not {most}");
    assert_eq!(eval(&mut runtime, "kept[7].self.at"), value("7"));
}

#[test]
fn a_heap_without_a_runtime_is_told() {
    assert!(matches!(
        Runtime::open(Heap::create_anonymous(1 << 20).unwrap()),
        Err(Error::Heap(HeapError::Root(false)))
    ));
    assert!(matches!(
        Runtime::create(Heap::create_anonymous(64 << 10).unwrap()),
        Err(Error::TooSmall)
    ));
}
