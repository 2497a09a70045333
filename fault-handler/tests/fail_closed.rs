//! What cannot be resolved ends in SIGBUS for the threads that touch it, or in the end of the process with a reason: each in a process of its own.

use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;

use fault_handler::{Fault, FaultHandler, Installer, Options, Outcome, Protect, Resolver};
use host_memory::access::Volatile;
use host_memory::memfd::MemFd;
use host_memory::page::{Prot, page_size};
use host_memory::probe::Probe;
use host_memory::reserve::{Reservation, Source};
use host_memory::uffd::{Modes, Uffd, Wake};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

const CHILD: &str = "COWSPACE_TEST_FAILS";

/// Runs `body` in a process of its own, as the test `name`, with `COWSPACE_DISABLE` set to `disable`; asserts that it ends by `signal`, with `reason` on stderr.
fn ends(name: &str, disable: &str, signal: Signal, reason: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        // The core of a test that works is of no use to anybody.
        setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .init();
        return body();
    }
    let support = Probe::get().write_tracking;
    if !support.is_yes() {
        println!("SKIP {name}: {support:?}");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("COWSPACE_DISABLE", disable)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(signal as i32), "{stderr}");
    assert!(stderr.contains(reason), "{stderr}");
}

struct Answer<F>(F);

impl<F> Resolver for Answer<F>
where
    F: Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
{
    fn resolve(&self, fault: &Fault, install: Installer<'_>) -> Outcome {
        (self.0)(fault, install)
    }
}

/// One page of `file`, privately mapped and registered for everything; `prepare` sees it before it is touched.
fn touch(
    file: &MemFd,
    answer: impl Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
    prepare: impl FnOnce(&Uffd, &Reservation),
    access: impl FnOnce(&Volatile, &FaultHandler),
) {
    let uffd = Arc::new(Uffd::open().unwrap());
    let memory = Reservation::new(page_size()).unwrap();
    let source = Source::PrivateUnsealed(file, 0);
    memory
        .map(memory.range(), source, Prot::READ | Prot::WRITE)
        .unwrap();
    uffd.register(&memory, memory.range(), Modes::MISSING | Modes::WP)
        .unwrap();
    let resolver = Arc::new(Answer(answer));
    let handler = FaultHandler::spawn(uffd.clone(), resolver, Options::default()).unwrap();
    prepare(&uffd, &memory);
    access(
        &Volatile::new(memory.range().start(), page_size()).unwrap(),
        &handler,
    );
}

fn file() -> MemFd {
    MemFd::create("fault-handler-test", page_size() as u64).unwrap()
}

fn nothing(_: &Uffd, _: &Reservation) {}

/// Touches the page from the only thread. If that does not end the process, the test in the child passes and so fails in the parent.
fn load(bytes: &Volatile, _: &FaultHandler) {
    let _ = bytes.load_u8(0);
}

#[test]
fn poison_gives_sigbus() {
    let name = "poison_gives_sigbus";
    ends(name, "", Signal::SIGBUS, "", || {
        touch(
            &file(),
            |_, install| install.poison("the test says so"),
            nothing,
            load,
        );
    });
}

/// A system call on a poisoned page fails with EFAULT, without a signal; and the reason is logged.
#[test]
fn poison_is_logged() {
    ends(
        "poison_is_logged",
        "",
        Signal::SIGBUS,
        "page poisoned",
        || {
            let write_from_page = |bytes: &Volatile, handler: &FaultHandler| {
                let (_reads, writes) = nix::unistd::pipe().unwrap();
                // SAFETY: the kernel only reads the byte, which lies in a live reservation.
                let written =
                    unsafe { nix::libc::write(writes.as_raw_fd(), bytes.addr() as *const _, 1) };
                assert_eq!(Errno::result(written), Err(Errno::EFAULT));
                assert_eq!(handler.stats().all.counts.poisoned, 1);
            };
            touch(
                &file(),
                |_, install| install.poison("the test says so"),
                nothing,
                write_from_page,
            );
            // Dropping the handler waited for the log. Now the signal that the parent waits for.
            nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        },
    );
}

/// Write protection of a page that is not there leaves a marker, which POISON takes for a page.
#[test]
fn poison_replaces_a_write_protect_marker() {
    let name = "poison_replaces_a_write_protect_marker";
    ends(name, "", Signal::SIGBUS, "", || {
        let protect = |uffd: &Uffd, memory: &Reservation| {
            uffd.write_protect(memory.range(), Protect::Write, Wake::DontWake)
                .unwrap();
        };
        touch(
            &file(),
            |_, install| install.poison("the test says so"),
            protect,
            load,
        );
    });
}

#[test]
fn without_poison_the_process_ends() {
    let name = "without_poison_the_process_ends";
    ends(
        name,
        "poison",
        Signal::SIGABRT,
        "cowspace-fault: the test says so",
        || {
            touch(
                &file(),
                |_, install| install.poison("the test says so"),
                nothing,
                load,
            );
        },
    );
}

#[test]
fn a_panic_of_the_resolver_ends_the_process() {
    let name = "a_panic_of_the_resolver_ends_the_process";
    ends(
        name,
        "",
        Signal::SIGABRT,
        "cowspace-fault: panicked: its own fault",
        || {
            touch(&file(), |_, _| panic!("its own fault"), nothing, load);
        },
    );
}

/// The file is cut off under a thread that waits: no page can be installed, and when that is given up the kernel gives SIGBUS by itself.
#[test]
fn a_page_past_the_end_of_its_file_gives_sigbus() {
    let name = "a_page_past_the_end_of_its_file_gives_sigbus";
    ends(name, "", Signal::SIGBUS, "", || {
        let file = Arc::new(file());
        let cut = file.clone();
        let answer = move |_: &Fault, install: Installer<'_>| {
            cut.set_len(0).unwrap();
            install.copy_zeros(Protect::None)
        };
        touch(&file, answer, nothing, load);
    });
}
