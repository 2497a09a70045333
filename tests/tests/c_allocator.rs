//! The C library as the memory source of an allocator: `tests/c/allocator/` is a program whose `malloc` lives on VMOs. It says there what it checks.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cowspace::inspect::connect;
use cowspace_tests::c_library::{Language, Library, compiler, sources};
use cowspace_tests::limits::has_descriptors;
use fault_recording::Ended;
use host_memory::probe::Probe;

/// How much each of the program's threads does.
const ROUNDS: &str = "3000";

#[derive(Clone, Copy, PartialEq)]
enum Linked {
    Shared,
    Archive,
    /// With the archive, and the C library is part of the program, too.
    Static,
    AtRunTime,
}

fn build(library: &Library, linked: Linked) -> PathBuf {
    let name = match linked {
        Linked::Shared => "allocator-shared",
        Linked::Archive => "allocator-archive",
        Linked::Static => "allocator-static",
        Linked::AtRunTime => "allocator-at-run-time",
    };
    let program = library.prefix().join(name);
    let folder = sources().join("allocator");
    let mut compiler = compiler(Language::C);
    compiler.args(["-std=gnu11", "-Wno-pedantic", "-fno-builtin", "-rdynamic"]);
    compiler.args(library.pkg_config(&["--cflags"]));
    compiler.arg(folder.join("main.c"));
    match linked {
        Linked::AtRunTime => {
            compiler.args(["-DLOADED", "-ldl"]);
        }
        Linked::Shared => {
            compiler.arg(folder.join("every_call.c"));
            compiler.args(library.pkg_config(&["--libs"]));
        }
        Linked::Archive => {
            compiler.arg(folder.join("every_call.c"));
            compiler.arg("-xnone");
            compiler.arg(library.prefix().join("lib/libcowspace_zx.a"));
            let all = library.pkg_config(&["--static", "--libs"]);
            compiler.args(all.iter().filter(|flag| *flag != "-lcowspace_zx"));
        }
        Linked::Static => {
            compiler.arg(folder.join("every_call.c")).arg("-static");
            compiler.args(library.pkg_config(&["--static", "--libs"]));
        }
    }
    compiler.arg("-pthread").arg("-o").arg(&program);
    let said = compiler.output().unwrap();
    assert!(said.status.success(), "{compiler:?}: {}", text(&said));
    program
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}\n{out}{err}", output.status)
}

fn command(library: &Library, linked: Linked, rounds: &str) -> Command {
    let mut command = Command::new(build(library, linked));
    let lib = library.prefix().join("lib");
    command.env("LD_LIBRARY_PATH", &lib).arg(rounds);
    if linked == Linked::AtRunTime {
        command.arg(lib.join("libcowspace_zx.so"));
    }
    command
}

/// Runs it to its good end, and tells whether its mappings were traced.
fn ends_well(mut command: Command) -> bool {
    let output = command.output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{command:?}: {said}");
    assert!(said.contains("\nok "), "{said}");
    assert!(!said.contains(" clones=0 "), "{said}");
    said.contains("traced=1")
}

fn lives_on_vmos(linked: Linked) {
    if !has_descriptors("malloc on VMOs", 1024) {
        return;
    }
    let Some(library) = Library::installed() else {
        return;
    };
    let traced = ends_well(command(&library, linked, ROUNDS));
    assert_eq!(traced, Probe::get().traced.is_yes());
}

#[test]
fn malloc_lives_on_vmos_of_the_shared_library() {
    lives_on_vmos(Linked::Shared);
}

#[test]
fn malloc_lives_on_vmos_of_the_archive() {
    lives_on_vmos(Linked::Archive);
}

#[test]
fn malloc_lives_on_vmos_of_a_static_program() {
    lives_on_vmos(Linked::Static);
}

/// And closed again, which changes nothing.
#[test]
fn malloc_lives_on_vmos_of_a_library_that_was_opened() {
    lives_on_vmos(Linked::AtRunTime);
}

/// On machines that lack what tracing needs, or some of it.
#[test]
fn malloc_lives_on_vmos_of_lesser_machines() {
    if !has_descriptors("malloc on VMOs", 1024) {
        return;
    }
    let Some(library) = Library::installed() else {
        return;
    };
    for lacks in ["uffd", "wp", "minor,pagemap-scan"] {
        let mut command = command(&library, Linked::Shared, ROUNDS);
        command.env("COWSPACE_DISABLE", lacks);
        ends_well(command);
    }
}

/// Nor does recording call it from where it must not.
#[test]
fn malloc_lives_on_vmos_while_faults_are_recorded() {
    if !has_descriptors("malloc on VMOs", 1024) {
        return;
    }
    let Some(library) = Library::installed() else {
        return;
    };
    for linked in [Linked::Shared, Linked::AtRunTime] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults");
        let mut command = command(&library, linked, ROUNDS);
        command.env("COWSPACE_RECORD", &file);
        let traced = ends_well(command);
        let recording = fault_recording::read(&file).unwrap();
        assert_eq!(recording.cut, None);
        // Its forked copy is none.
        assert_eq!(recording.processes.len(), 1);
        let process = &recording.processes[0];
        let Ended::Said(end) = process.end else {
            panic!("no end");
        };
        assert_eq!(end.recorded > 0, traced);
        assert_eq!(end.recorded, process.faults.len() as u64);
        assert!(process.mapping_of_each().iter().all(Option::is_some));
    }
}

/// Nor does answering whoever looks into it, again and again.
#[test]
fn malloc_lives_on_vmos_of_a_process_that_is_looked_into() {
    if !has_descriptors("malloc on VMOs", 1024) {
        return;
    }
    let Some(library) = Library::installed() else {
        return;
    };
    for linked in [Linked::Shared, Linked::AtRunTime] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(&library, linked, ROUNDS);
        command.env("COWSPACE_INSPECT", "1");
        command.env("XDG_RUNTIME_DIR", folder.path());
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let looks = look_while_it_runs(child.id(), folder.path());
        let output = child.wait_with_output().unwrap();
        let said = text(&output);
        assert!(output.status.success() && said.contains("\nok "), "{said}");
        assert!(looks > 0);
    }
}

/// Looks into a process until it ends; how often.
fn look_while_it_runs(pid: u32, folder: &Path) -> usize {
    let socket = folder.join("cowspace").join(pid.to_string());
    let stat = format!("/proc/{pid}/stat");
    let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    let mut looks = 0;
    while runs() {
        // Its environment tells where the socket is; connecting fails before it is there and when it has ended.
        if socket.exists()
            && let Ok(mut client) = connect(pid)
        {
            while client.live().is_ok() && client.inspect().is_ok() {
                looks += 1;
            }
        }
        std::thread::yield_now();
    }
    looks
}

#[test]
fn a_call_of_malloc_is_noticed() {
    let Some(library) = Library::installed() else {
        return;
    };
    let output = command(&library, Linked::Shared, "0").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("malloc\n"), "{}", text(&output));
}
