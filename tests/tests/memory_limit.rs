//! When a page cannot be had, the thread that wants it gets SIGBUS (its system call EFAULT) and the log a reason; nothing hangs, other threads go on, and nobody sees wrong bytes.
//!
//! The limit is that of a memory cgroup, which the test makes for a process of its own: beside others, so it changes nothing for them. That needs root and the memory controller
//! of cgroup v1, whose `oom_control` can say that nobody is killed: then UFFDIO_COPY, and every other system call, fails with ENOMEM.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use cowspace::{Policy, Vmar, Vmo, VmoChildOptions};
use cowspace_tests::zircon::{can_read, can_write};
use cowspace_tests::{RW, memory, page, unmap};
use host_memory::memfd::MemFd;
use host_memory::probe::{Probe, Support};
use rustix::process::{Signal, set_parent_process_death_signal};

/// Set in the process with the limit: the folder of its cgroup.
const GROUP: &str = "COWSPACE_TEST_CGROUP";
/// Bytes that the process may have: it needs a few.
const LIMIT: usize = 48 << 20;
/// Pages of the memory that is touched. Few, so that they have one page table: a poisoned page needs no memory then.
const PAGES: usize = 128;

/// A memory cgroup, removed in the end.
struct Group(PathBuf);

impl Group {
    /// `Err` says what is missing for it.
    fn new(name: &str) -> Result<Group, String> {
        let says = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let controller = Path::new("/sys/fs/cgroup/memory");
        if !controller.join("memory.oom_control").exists() {
            return Err("no memory controller of cgroup v1".into());
        }
        let group = Group(controller.join(format!("cowspace-test-{}-{name}", std::process::id())));
        fs::create_dir(&group.0).map_err(says("no cgroup can be made"))?;
        group.set("memory.limit_in_bytes", LIMIT).map_err(says("no limit can be set"))?;
        group.set("memory.oom_control", 1).map_err(says("the limit would kill"))?;
        Ok(group)
    }

    fn set(&self, file: &str, value: usize) -> io::Result<()> {
        fs::write(self.0.join(file), value.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its one process was waited for. If it was not made there is nothing to remove.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Runs `body` in a process with the limit, and gives how that ended.
fn limited(test: &str, body: impl FnOnce()) -> Option<std::process::Output> {
    if let Some(group) = std::env::var_os(GROUP) {
        // Should the test be killed, nobody else would end this process.
        set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal can be asked for");
        fs::write(Path::new(&group).join("cgroup.procs"), "0").expect("a process can join a cgroup");
        body();
        return None;
    }
    if let Support::No(reason) = Probe::get().traced {
        println!("SKIP {test}: {reason}");
        return None;
    }
    let group = match Group::new(test) {
        Ok(group) => group,
        Err(reason) => {
            println!("SKIP {test}: {reason}");
            return None;
        }
    };
    let output = Command::new(std::env::current_exe().expect("a program"))
        .args([test, "--exact", "--nocapture"])
        .env(GROUP, &group.0)
        .output()
        .expect("this program can be started");
    Some(output)
}

fn ballast() -> MemFd {
    MemFd::create("cowspace-test-ballast", 4 * LIMIT as u64).expect("a file")
}

/// Takes all memory that is left. To empty the file gives it back.
///
/// Until then this process must touch no new memory but through system calls: the kernel has a thread that does wait for memory (it would end the process, had the
/// cgroup not said no). So nothing may be allocated, by calls of VMOs either.
fn exhaust(ballast: &MemFd, bytes: &[u8]) {
    let mut refused = 0;
    for at in (0..ballast.len()).step_by(bytes.len()) {
        if let Err(error) = ballast.write_at(bytes, at) {
            assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
            refused += 1;
        }
        // Other CPUs may have some put by, and the kernel fetches that back only when it runs out.
        if refused == 4 {
            return;
        }
    }
    panic!("the limit is none");
}

/// A clone of numbered pages that is mapped so often, and no page of it there but the first. With one mapping its pages are private, with two they lie in a file.
fn clone_mapped(maps: usize) -> (Vmo, Vec<usize>) {
    let len = PAGES * page();
    let source = Vmo::create(len as u64).expect("a VMO");
    for p in 0..PAGES {
        source.write(&vec![p as u8 + 1; page()], (p * page()) as u64).expect("writing");
    }
    let clone = source.create_child(VmoChildOptions::SNAPSHOT, 0, len as u64).expect("a clone");
    let map = |_| {
        Vmar::root_self().map_with_policy(0, &clone, 0, len, RW, Policy::Traced).expect("a mapping")
    };
    let addresses: Vec<usize> = (0..maps).map(map).collect();
    for addr in &addresses {
        memory(*addr, len).store_u64(0, 1);
    }
    (clone, addresses)
}

/// Lets the log be read line by line.
fn log() -> impl BufRead {
    #[derive(Clone)]
    struct Log(Arc<Mutex<PipeWriter>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (reader, writer) = io::pipe().expect("a pipe");
    let log = Log(Arc::new(Mutex::new(writer)));
    tracing_subscriber::fmt().with_writer(move || log.clone()).init();
    BufReader::new(reader)
}

/// What can be seen of it in the process itself: system calls that look at the page fail, and all else goes on.
fn fails_without_a_signal(maps: usize) {
    let mut log = log();
    let (clone, addresses) = clone_mapped(maps);
    let addr = addresses[0];
    // Once with memory, so that what this needs is there later.
    assert!(can_read(addr) && can_write(addr));
    let (ballast, bytes) = (ballast(), vec![1; page()]);
    exhaust(&ballast, &bytes);
    ballast.punch(0..ballast.len()).expect("giving memory back");
    let mut lost = Vec::with_capacity(PAGES);

    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            let first = memory(addr, page());
            while !stop.load(Ordering::Relaxed) {
                first.store_u64(8, count.load(Ordering::Relaxed) + 1);
                assert_eq!(first.load_u64(8), count.fetch_add(1, Ordering::Relaxed) + 1);
            }
        });
        while count.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        exhaust(&ballast, &bytes);
        // To write a page of a clone takes a page.
        lost.extend((1..PAGES - 1).filter(|p| !can_write(addr + p * page())));
        let stays = !lost.is_empty() && !can_read(addr + lost[0] * page());
        // The other thread goes on.
        let seen = count.load(Ordering::Relaxed);
        while count.load(Ordering::Relaxed) == seen {
            thread::yield_now();
        }
        ballast.punch(0..ballast.len()).expect("giving memory back");
        // Nothing was said before: a panic would have wanted memory.
        assert!(!lost.is_empty(), "there was memory for all pages");
        assert!(stays, "a page that could not be had stays unreadable");
        assert!(can_write(addr + (PAGES - 1) * page()), "there is memory again");
        assert!(!can_read(addr + lost[0] * page()));
        let mut line = String::new();
        while !line.contains("page poisoned") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("a pipe can be read"), 0);
        }
        // What is lost is the mapping's page, not what the VMO holds.
        let mut bytes = vec![0; page()];
        clone.read(&mut bytes, (lost[0] * page()) as u64).expect("the VMO has the page");
        assert!(bytes == vec![lost[0] as u8 + 1; page()], "{bytes:?}");
        let again = clone.create_child(VmoChildOptions::SNAPSHOT, 0, (PAGES * page()) as u64).expect("a clone");
        again.read(&mut bytes, (lost[0] * page()) as u64).expect("reading");
        assert!(bytes == vec![lost[0] as u8 + 1; page()], "{bytes:?}");
    });
    for addr in addresses {
        unmap(addr, PAGES * page());
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[track_caller]
fn assert_passed(output: Option<std::process::Output>) {
    if let Some(output) = output {
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_private_page() {
    assert_passed(limited("a_private_page", || fails_without_a_signal(1)));
}

#[test]
fn a_page_of_a_file() {
    assert_passed(limited("a_page_of_a_file", || fails_without_a_signal(2)));
}

/// A store of the program ends it, as a fault that cannot be resolved does.
#[test]
fn a_store_gets_sigbus() {
    let output = limited("a_store_gets_sigbus", || {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).expect("no core file");
        let (_clone, addresses) = clone_mapped(1);
        let ballast = ballast();
        exhaust(&ballast, &vec![1; page()]);
        let mapped = memory(addresses[0], PAGES * page());
        for p in 1..PAGES {
            mapped.store_u8(p * page(), 1);
        }
    });
    if let Some(output) = output {
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    }
}
