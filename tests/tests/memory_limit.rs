//! When a page cannot be had, the thread that wants it gets SIGBUS (its system call EFAULT) and the log a reason; nothing hangs, other threads go on, and nobody sees wrong bytes.
//!
//! The limit is that of a memory cgroup, which the test makes for a process of its own: beside others, so it changes nothing for them. That needs root and the memory controller
//! of cgroup v1, whose `oom_control` can say that nobody is killed: then UFFDIO_COPY, and every other system call, fails with ENOMEM.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, IoSliceMut, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use cowspace::{Policy, Status, Vmar, Vmo, VmoChildOptions};
use cowspace_tests::limits::{MemoryGroup, join_memory_group};
use cowspace_tests::{RW, memory, page, unmap};
use host_memory::memfd::MemFd;
use host_memory::probe::{Probe, Support};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::process::{Signal, set_parent_process_death_signal};

/// Set in the process with the limit: the folder of its cgroup.
const GROUP: &str = "COWSPACE_TEST_CGROUP";
/// Bytes that the process may have: it needs a few.
const LIMIT: usize = 48 << 20;
/// Pages of the memory that is touched: more of them need memory than a few CPUs have put by.
const PAGES: usize = 1024;
/// A page table has room for more pages than this, on every machine.
const TABLE: usize = 256;

/// What a test needs that not every machine has.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Traced,
    /// Without poison a page that cannot be had is the end of the process; and without write protection a file that is mapped has all pages, so that none needs memory.
    Poison,
}

impl Needs {
    /// What is missing for it.
    fn missing(self) -> Option<String> {
        let probe = Probe::get();
        let poison = [probe.poison, probe.write_tracking];
        let needed = [probe.traced]
            .into_iter()
            .chain(poison.into_iter().filter(|_| self == Needs::Poison));
        needed.into_iter().find_map(|support| match support {
            Support::Yes => None,
            Support::No(reason) => Some(reason.to_string()),
        })
    }
}

/// Runs `body` in a process with the limit, and gives how that ended.
fn limited(test: &str, needs: Needs, body: impl FnOnce()) -> Option<std::process::Output> {
    if let Some(group) = std::env::var_os(GROUP) {
        // Should the test be killed, nobody else would end this process.
        set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal can be asked for");
        join_memory_group(&group);
        body();
        return None;
    }
    if let Some(reason) = needs.missing() {
        println!("SKIP {test}: {reason}");
        return None;
    }
    let group = match MemoryGroup::new(test, LIMIT).and_then(MemoryGroup::without_killing) {
        Ok(group) => group,
        Err(reason) => {
            println!("SKIP {test}: {reason}");
            return None;
        }
    };
    // Read here, the program's pages are not counted as the process's. Of its own the kernel would take them away first, for they can be read again; but not into no memory.
    let program = std::env::current_exe().expect("a program");
    fs::read(&program).expect("a program can be read");
    let mut command = Command::new(program);
    command
        .args([test, "--exact", "--nocapture"])
        .env(GROUP, group.folder())
        // To print one takes memory.
        .env("RUST_BACKTRACE", "0");
    // Who waits for memory waits for ever. Should the process do that, it gets some, and the test fails.
    let (ended, end) = mpsc::channel::<()>();
    let (output, in_time) = thread::scope(|scope| {
        let group = &group;
        let watch = scope.spawn(move || {
            let timeout =
                end.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout);
            if timeout {
                group.lift();
            }
            !timeout
        });
        let output = command.output().expect("this program can be started");
        drop(ended);
        (output, watch.join().expect("no panic"))
    });
    assert!(in_time, "the process waited for memory: {output:?}");
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
            // Each CPU may have some pages put by. The kernel begins to fetch them back when it runs out.
            thread::yield_now();
        }
        if refused == 32 {
            return;
        }
    }
    panic!("the limit is none");
}

/// Pages that lie in another layer than their neighbours: in a private mapping only these need memory to be read.
const LOOSE: usize = 5;

/// What a page holds everywhere.
fn value(p: usize) -> u8 {
    (p % 250) as u8 + 1
}

/// A clone of a clone, mapped so often, and hardly a page of it there. With one mapping its pages are private, with two they lie in a file.
///
/// The test reads. A store to a private mapping needs not ask: there the kernel takes the page for the copy before it asks the handler, so it waits for memory as with any private memory.
fn clone_mapped(maps: usize) -> (Vmo, Vec<usize>) {
    let len = PAGES * page();
    let fill = |vmo: &Vmo, p: usize| {
        vmo.write(&vec![value(p); page()], (p * page()) as u64)
            .expect("writing")
    };
    let clone = |vmo: &Vmo| {
        vmo.create_child(VmoChildOptions::SNAPSHOT, 0, len as u64)
            .expect("a clone")
    };
    let source = Vmo::create(len as u64).expect("a VMO");
    (0..PAGES)
        .filter(|p| p % LOOSE != 0)
        .for_each(|p| fill(&source, p));
    let middle = clone(&source);
    (0..PAGES).step_by(LOOSE).for_each(|p| fill(&middle, p));
    let vmo = clone(&middle);
    let map = |_| {
        Vmar::root_self()
            .map_with_policy(0, &vmo, 0, len, RW, Policy::Traced)
            .expect("a mapping")
    };
    let addresses: Vec<usize> = (0..maps).map(map).collect();
    for addr in &addresses {
        // Each page table is there: to poison a page takes no memory then.
        let mapped = memory(*addr, len);
        (1..PAGES)
            .step_by(TABLE)
            .for_each(|p| mapped.store_u64(p * page(), 1));
    }
    (vmo, addresses)
}

/// What was logged. Its memory is there from the start: a pipe, say, takes pages of its own to be written to.
#[derive(Clone)]
struct Log(Arc<(Mutex<Vec<u8>>, Condvar)>);

impl Log {
    const ROOM: usize = 64 << 10;

    fn start() -> Log {
        let mut text = vec![1; Log::ROOM];
        text.clear();
        let log = Log(Arc::new((Mutex::new(text), Condvar::new())));
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    /// Waits until it says something.
    fn wait_for(&self, what: &str) {
        let (text, changed) = &*self.0;
        let says = |text: &mut Vec<u8>| String::from_utf8_lossy(text).contains(what);
        let text = text.lock().expect("no panic");
        drop(
            changed
                .wait_while(text, |text| !says(text))
                .expect("no panic"),
        );
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (text, changed) = &*self.0;
        let mut text = text.lock().expect("no panic");
        if text.len() + bytes.len() <= Log::ROOM {
            text.extend_from_slice(bytes);
        }
        changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What can be seen of it in the process itself: system calls that look at the page fail, and all else goes on.
fn fails_without_a_signal(maps: usize) {
    let log = Log::start();
    let (clone, addresses) = clone_mapped(maps);
    let addr = addresses[0];
    let (ballast, bytes) = (ballast(), vec![1; page()]);
    // Once with memory, so that what this needs is there later.
    assert_eq!(load(addr + page()), Ok(1));
    exhaust(&ballast, &bytes);
    ballast.punch(0..ballast.len()).expect("giving memory back");
    // Written once, for what is only allocated is not there yet.
    let mut lost = vec![(0, Ok(0)); PAGES];
    lost.clear();

    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    // Until the number rises.
    let others_go_on = || {
        let seen = count.load(Ordering::Relaxed);
        while count.load(Ordering::Relaxed) == seen {
            thread::sleep(Duration::from_micros(100));
        }
    };
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            let there = memory(addr + page(), page());
            while !stop.load(Ordering::Relaxed) {
                there.store_u64(8, count.load(Ordering::Relaxed) + 1);
                assert_eq!(there.load_u64(8), count.fetch_add(1, Ordering::Relaxed) + 1);
            }
        });
        others_go_on();
        exhaust(&ballast, &bytes);
        let pages = (LOOSE..PAGES - LOOSE).step_by(LOOSE);
        let loads = pages.map(|p| (p, load(addr + p * page())));
        lost.extend(loads.filter(|(_, result)| *result != Ok(1)));
        let again = lost.first().map(|(p, _)| load(addr + p * page()));
        others_go_on();
        ballast.punch(0..ballast.len()).expect("giving memory back");

        // Nothing was said before: a panic would have wanted memory.
        let poisoned = Err(Errno::EFAULT);
        assert!(
            lost.iter().all(|(_, result)| *result == poisoned),
            "{lost:?}"
        );
        assert_eq!(
            again,
            Some(poisoned),
            "what could not be had once is lost to the mapping"
        );
        let last = (PAGES - 1) / LOOSE * LOOSE;
        assert_eq!(load(addr + last * page()), Ok(1), "there is memory again");
        log.wait_for("page poisoned");
        let p = lost[0].0;
        // A file has the page still. Of private pages the mapping is the truth, so nobody can tell what was lost: an error, never other bytes.
        let expected = if maps == 1 {
            Err(Status::NO_MEMORY)
        } else {
            Ok(value(p))
        };
        assert_eq!(page_of(&clone, p), expected);
        let len = (PAGES * page()) as u64;
        let later = clone.create_child(VmoChildOptions::SNAPSHOT, 0, len);
        assert_eq!(later.and_then(|later| page_of(&later, p)), expected);
        assert_eq!(page_of(&clone, p), expected);
        assert_eq!(
            page_of(&clone, p + 1),
            Ok(value(p + 1)),
            "the page beside it"
        );
    });
    // Without a handle there is nothing to keep.
    drop(clone);
    for addr in addresses {
        unmap(addr, PAGES * page());
    }
}

/// What a page of a VMO holds everywhere.
fn page_of(vmo: &Vmo, p: usize) -> Result<u8, Status> {
    let mut bytes = vec![0; page()];
    vmo.read(&mut bytes, (p * page()) as u64)?;
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "{bytes:?}");
    Ok(bytes[0])
}

/// Loads a byte by a system call, which fails where a thread would get a signal.
fn load(addr: usize) -> nix::Result<usize> {
    let remote = RemoteIoVec { base: addr, len: 1 };
    process_vm_readv(Pid::this(), &mut [IoSliceMut::new(&mut [0])], &[remote])
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
    assert_passed(limited("a_private_page", Needs::Poison, || {
        fails_without_a_signal(1)
    }));
}

#[test]
fn a_page_of_a_file() {
    assert_passed(limited("a_page_of_a_file", Needs::Poison, || {
        fails_without_a_signal(2)
    }));
}

/// A load of the program itself ends it.
#[test]
fn a_load_gets_sigbus() {
    let output = limited("a_load_gets_sigbus", Needs::Poison, || {
        setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("no core file");
        let (_clone, addresses) = clone_mapped(2);
        let ballast = ballast();
        exhaust(&ballast, &vec![1; page()]);
        let mapped = memory(addresses[0], PAGES * page());
        for p in 0..PAGES {
            let _ = mapped.load_u8(p * page());
        }
    });
    if let Some(output) = output {
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    }
}

/// To freeze is a favour: where there is no room for one huge page more, all else is done.
#[test]
fn freezing_without_room_for_a_huge_page() {
    let output = limited(
        "freezing_without_room_for_a_huge_page",
        Needs::Traced,
        || {
            let len = LIMIT / 2;
            for policy in [Policy::Native, Policy::Traced] {
                let vmo = Vmo::create(len as u64).expect("a VMO");
                let addr = Vmar::root_self()
                    .map_with_policy(0, &vmo, 0, len, RW, policy)
                    .expect("a mapping");
                let mapped = memory(addr, len);
                let number = |at: usize| (at / page() + 1) as u64;
                (0..len)
                    .step_by(page())
                    .for_each(|at| mapped.store_u64(at, number(at)));
                let (ballast, bytes) = (ballast(), vec![1; page()]);
                exhaust(&ballast, &bytes);
                // Half a huge page, for what freezing needs besides.
                ballast.punch(0..1 << 20).expect("giving memory back");
                let frozen = Vmar::root_self().freeze(addr, len).expect("frozen");
                assert_eq!(frozen.bytes, len as u64, "{policy:?}");
                drop(ballast);
                for at in (0..len).step_by(page()) {
                    assert_eq!(mapped.load_u64(at), number(at), "{policy:?}");
                }
                let again = Vmar::root_self().freeze(addr, len).expect("frozen");
                assert!(again.huge_bytes >= frozen.huge_bytes, "{policy:?}");
                unmap(addr, len);
            }
        },
    );
    assert_passed(output);
}
