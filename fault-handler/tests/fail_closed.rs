//! What cannot be resolved ends in SIGBUS for the threads that touch it, or in the end of the process with a reason: each in a process of its own.

use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;

use fault_handler::{Fault, FaultHandler, Installer, Options, Outcome, Protect, Resolver};
use host_memory::access::Volatile;
use host_memory::memfd::MemFd;
use host_memory::page::{Prot, page_size};
use host_memory::probe::{Probe, Support};
use host_memory::reserve::{Reservation, Source};
use host_memory::uffd::{Modes, Uffd, Wake};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

const CHILD: &str = "COWSPACE_TEST_FAILS";

/// How a process is to end that does what a test wants.
struct End {
    /// The test's name.
    name: &'static str,
    /// What the kernel must have.
    needs: Support,
    /// `COWSPACE_DISABLE` of the process.
    disable: &'static str,
    signal: Signal,
    /// What stderr contains.
    says: &'static str,
}

impl End {
    /// By SIGBUS, on a kernel with POISON.
    fn sigbus(name: &'static str) -> End {
        let needs = Probe::get().poison;
        End {
            name,
            needs,
            disable: "",
            signal: Signal::SIGBUS,
            says: "",
        }
    }

    /// By abort with this reason.
    fn abort(name: &'static str, says: &'static str) -> End {
        let needs = Probe::get().traced;
        End {
            name,
            needs,
            disable: "",
            signal: Signal::SIGABRT,
            says,
        }
    }

    fn also_needs(&mut self, support: Support) {
        if self.needs.is_yes() {
            self.needs = support;
        }
    }

    /// Runs `body` in a process of its own, and asserts that it ends so.
    fn of(self, body: impl FnOnce()) {
        if std::env::var_os(CHILD).is_some() {
            // The core of a test that works is of no use to anybody.
            setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
            tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .init();
            return body();
        }
        if let Support::No(reason) = self.needs {
            println!("SKIP {}: {reason}", self.name);
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([self.name, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .env("COWSPACE_DISABLE", self.disable)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(self.signal as i32), "{stderr}");
        assert!(stderr.contains(self.says), "{stderr}");
        assert!(!stderr.contains(LOADED), "the page was read: {stderr}");
    }
}

/// What a thread says that got to read a page.
const LOADED: &str = "loaded the page";

struct Answer<F>(F);

impl<F> Resolver for Answer<F>
where
    F: Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
{
    fn resolve(&self, fault: &Fault, install: Installer<'_>) -> Outcome {
        (self.0)(fault, install)
    }
}

/// Lets `access` touch one page of `file`, privately mapped and registered in `modes`, after `prepare` has seen it. The handler alone holds the userfaultfd then.
fn touch(
    file: &MemFd,
    modes: Modes,
    answer: impl Fn(&Fault, Installer<'_>) -> Outcome + Send + Sync + 'static,
    prepare: impl FnOnce(&Uffd, &Reservation),
    access: impl FnOnce(&Volatile, &FaultHandler),
) {
    let uffd = Arc::new(Uffd::open().unwrap());
    let memory = Reservation::new(page_size()).unwrap();
    let source = Source::PrivateUnsealed(file, 0);
    let prot = Prot::READ | Prot::WRITE;
    memory.map(memory.range(), source, prot).unwrap();
    uffd.register(&memory, memory.range(), modes).unwrap();
    prepare(&uffd, &memory);
    let handler = FaultHandler::spawn(uffd, Arc::new(Answer(answer)), Options::default()).unwrap();
    let bytes = Volatile::new(memory.range().start(), page_size()).unwrap();
    access(&bytes, &handler);
}

fn file() -> MemFd {
    MemFd::create("fault-handler-test", page_size() as u64).unwrap()
}

fn poison(_: &Fault, install: Installer<'_>) -> Outcome {
    install.poison("the test says so")
}

fn nothing(_: &Uffd, _: &Reservation) {}

/// Reads the page. If that does not end the process, the test in the child passes and so fails in the parent.
fn load(bytes: &Volatile, _: &FaultHandler) {
    let byte = bytes.load_u8(0);
    eprintln!("{LOADED}: {byte}");
}

#[test]
fn poison_gives_sigbus() {
    End::sigbus("poison_gives_sigbus").of(|| {
        touch(&file(), Modes::MISSING, poison, nothing, load);
    });
}

/// A system call on a poisoned page fails with EFAULT, without a signal; and the reason is logged, though the lock of the log is held by the thread that faults, as
/// `println!` of such memory would.
#[test]
fn poison_is_logged() {
    let mut end = End::sigbus("poison_is_logged");
    end.also_needs(Probe::get().traced);
    (end.signal, end.says) = (Signal::SIGTERM, "page poisoned");
    end.of(|| {
        let write_from_page = |bytes: &Volatile, handler: &FaultHandler| {
            let (_reads, writes) = std::io::pipe().unwrap();
            let _lock = std::io::stderr().lock();
            let page = bytes.addr() as *const _;
            // SAFETY: the kernel only reads the byte, which lies in a live reservation.
            let written = unsafe { nix::libc::write(writes.as_raw_fd(), page, 1) };
            assert_eq!(Errno::result(written), Err(Errno::EFAULT));
            assert_eq!(handler.stats().all.counts.poisoned, 1);
        };
        touch(&file(), Modes::MISSING, poison, nothing, write_from_page);
        // Dropping the handler waited for the log. Now the signal that the parent waits for.
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
    });
}

/// Write protection of a page that is not there leaves a marker, which POISON takes for a page.
#[test]
fn poison_replaces_a_write_protect_marker() {
    let mut end = End::sigbus("poison_replaces_a_write_protect_marker");
    end.also_needs(Probe::get().write_tracking);
    end.of(|| {
        let protect = |uffd: &Uffd, memory: &Reservation| {
            let range = memory.range();
            uffd.write_protect(range, Protect::Write, Wake::DontWake)
                .unwrap();
        };
        touch(&file(), Modes::MISSING | Modes::WP, poison, protect, load);
    });
}

#[test]
fn without_poison_the_process_ends() {
    let says = "cowspace-fault: the test says so";
    let end = End::abort("without_poison_the_process_ends", says);
    End {
        disable: "poison",
        ..end
    }
    .of(|| {
        touch(&file(), Modes::MISSING, poison, nothing, load);
    });
}

#[test]
fn a_panic_of_the_resolver_ends_the_process() {
    let says = "cowspace-fault: panicked: its own fault";
    End::abort("a_panic_of_the_resolver_ends_the_process", says).of(|| {
        touch(
            &file(),
            Modes::MISSING,
            |_, _| panic!("its own fault"),
            nothing,
            load,
        );
    });
}

/// The file is cut off under a thread that waits: no page can be installed, and when that is given up the kernel gives SIGBUS by itself.
#[test]
fn a_page_past_the_end_of_its_file_gives_sigbus() {
    End::sigbus("a_page_past_the_end_of_its_file_gives_sigbus").of(|| {
        let file = Arc::new(file());
        let cut = file.clone();
        let answer = move |_: &Fault, install: Installer<'_>| {
            cut.set_len(0).unwrap();
            install.copy_zeros(1, Protect::None)
        };
        touch(&file, Modes::MISSING, answer, nothing, load);
    });
}
