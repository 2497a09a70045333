//! The program calls `fork()` and `exec` itself while the engine runs. A forked copy has what `fork` gives: its own copy of private memory, with the bytes of that moment also
//! where no page was there; a share of what is shared; and no engine. The process goes on as if nothing had been.
//!
//! What the copy of a process with threads sees is looked at from outside ([`StillCopy`]); what the copy of a process with one thread does, it does itself.

#![forbid(unsafe_code)]

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use cowspace::{Policy, Status, Vmar, Vmo, VmoChildOptions, VmoOp};
use cowspace_tests::processes::descriptors;
use cowspace_tests::{RW, bytes_at, memory, page, unmap};
use host_memory::process::StillCopy;
use test_share::give_way;

const PAGES: usize = 96;

/// A VMO of [`PAGES`] pages, page `p` of which holds `value(p)` everywhere.
fn filled(value: impl Fn(usize) -> u8) -> Vmo {
    let vmo = Vmo::create((PAGES * page()) as u64).expect("a VMO");
    for p in 0..PAGES {
        fill(&vmo, p, value(p));
    }
    vmo
}

fn fill(vmo: &Vmo, p: usize, value: u8) {
    vmo.write(&vec![value; page()], (p * page()) as u64)
        .expect("writing");
}

fn snapshot(vmo: &Vmo) -> Vmo {
    vmo.create_child(VmoChildOptions::SNAPSHOT, 0, (PAGES * page()) as u64)
        .expect("a snapshot")
}

fn map(vmo: &Vmo, policy: Policy) -> usize {
    Vmar::root_self()
        .map_with_policy(0, vmo, 0, PAGES * page(), RW, policy)
        .expect("a mapping")
}

/// The bytes at an address of a copy.
fn copied(copy: &StillCopy, addr: usize) -> Vec<u8> {
    let mut bytes = vec![0; PAGES * page()];
    copy.read(addr, &mut bytes)
        .expect("the copy has the memory");
    bytes
}

/// Asserts which value each page holds everywhere.
#[track_caller]
fn assert_pages(bytes: &[u8], value: impl Fn(usize) -> u8) {
    for (p, bytes) in bytes.chunks(page()).enumerate() {
        let wrong = bytes.iter().position(|byte| *byte != value(p));
        assert_eq!(
            wrong.map(|at| bytes[at]),
            None,
            "page {p} is to hold {}",
            value(p)
        );
    }
}

/// A mapping whose pages lie in several layers, are zero over a layer, private, and mostly not there: its address and what it shows.
fn patchwork(policy: Policy) -> (Vmo, usize, impl Fn(usize) -> u8 + Copy) {
    let root = filled(|p| p as u8 + 1);
    let first = snapshot(&root);
    // Scattered pages, so that they become exceptions in a mapping of the other layer.
    (0..PAGES).step_by(5).for_each(|p| fill(&first, p, 150));
    let second = snapshot(&first);
    let zeros = |p: usize| p % 7 == 3;
    for p in (0..PAGES).filter(|p| zeros(*p)) {
        second
            .op_range(VmoOp::ZERO, (p * page()) as u64, page() as u64)
            .expect("zeroing");
    }
    let addr = map(&second, policy);
    // Some of them touched, some written, and after another snapshot some written again.
    let mapped = memory(addr, PAGES * page());
    let _ = mapped.load_u8(11 * page());
    for p in [20, 21, 60] {
        mapped.write(p * page(), &vec![200; page()]);
    }
    let _kept = snapshot(&second);
    mapped.write(60 * page(), &vec![201; page()]);
    let value = move |p: usize| match p {
        20 | 21 => 200,
        60 => 201,
        p if zeros(p) => 0,
        p if p % 5 == 0 => 150,
        p => p as u8 + 1,
    };
    (second, addr, value)
}

fn private_memory_is_copied(policy: Policy) {
    let (vmo, addr, value) = patchwork(policy);
    let copy = StillCopy::make().expect("a forked copy");
    assert_pages(&copied(&copy, addr), value);
    // From here on they are two.
    copy.write(addr + 30 * page(), &vec![90; page()])
        .expect("writing in the copy");
    memory(addr, PAGES * page()).write(31 * page(), &vec![91; page()]);
    fill(&vmo, 32, 92);
    assert_pages(
        &copied(&copy, addr),
        |p| if p == 30 { 90 } else { value(p) },
    );
    let here = |p: usize| {
        if p == 31 || p == 32 {
            p as u8 + 60
        } else {
            value(p)
        }
    };
    assert_pages(&bytes_at(addr, PAGES * page()), here);

    // A clone while the copy lives has the right bytes, and so does one afterwards.
    let during = snapshot(&vmo);
    drop(copy);
    memory(addr, PAGES * page()).write(33 * page(), &vec![93; page()]);
    let after = snapshot(&vmo);
    let mut bytes = vec![0; PAGES * page()];
    during.read(&mut bytes, 0).expect("reading");
    assert_pages(&bytes, here);
    after.read(&mut bytes, 0).expect("reading");
    assert_pages(&bytes, |p| if p == 33 { 93 } else { here(p) });
    unmap(addr, PAGES * page());
}

/// A VMO that was never cloned is mapped shared: as `MAP_SHARED` memory it stays shared with a copy.
fn shared_memory_is_shared(policy: Policy) {
    let vmo = filled(|p| p as u8);
    let addr = map(&vmo, policy);
    let copy = StillCopy::make().expect("a forked copy");
    assert_pages(&copied(&copy, addr), |p| p as u8);
    copy.write(addr + 5 * page(), &vec![99; page()])
        .expect("writing in the copy");
    let value = |p| if p == 5 { 99 } else { p as u8 };
    assert_pages(&bytes_at(addr, PAGES * page()), value);
    // What others write cannot be cut off at one instant: no clone, or one that is right.
    let during = vmo.create_child(VmoChildOptions::SNAPSHOT, 0, (PAGES * page()) as u64);
    assert_eq!(during.err(), Some(Status::BAD_STATE));
    assert_pages(&bytes_at(addr, PAGES * page()), value);
    memory(addr, PAGES * page()).write(6 * page(), &vec![98; page()]);
    assert_eq!(copied(&copy, addr)[6 * page()], 98, "still shared");

    drop(copy);
    let after = snapshot(&vmo);
    memory(addr, PAGES * page()).write(7 * page(), &vec![97; page()]);
    let mut bytes = vec![0; PAGES * page()];
    after.read(&mut bytes, 0).expect("reading");
    assert_pages(&bytes, |p| if p == 6 { 98 } else { value(p) });
    unmap(addr, PAGES * page());
}

/// A clone that is mapped twice lies in a file with holes, which the handler fills; in the copy there is none.
fn sparse_shared_memory_is_filled(policy: Policy) {
    let clone = snapshot(&filled(|p| p as u8 + 1));
    let addresses = [map(&clone, policy), map(&clone, policy)];
    memory(addresses[0], PAGES * page()).write(40 * page(), &vec![77; page()]);
    let value = |p| if p == 40 { 77 } else { p as u8 + 1 };
    let copy = StillCopy::make().expect("a forked copy");
    for addr in addresses {
        assert_pages(&copied(&copy, addr), value);
    }
    drop(copy);
    let after = snapshot(&clone);
    let mut bytes = vec![0; PAGES * page()];
    after.read(&mut bytes, 0).expect("reading");
    assert_pages(&bytes, value);
    addresses
        .iter()
        .for_each(|addr| unmap(*addr, PAGES * page()));
}

/// Forks at random moments of threads that write, map, clone and wait for the engine's locks. Of each page the copy has a value between those before and after; and the
/// clones are as right as ever.
fn forks_under_load(policy: Policy) {
    const WRITERS: usize = 2;
    const FORKS: usize = 25;
    let vmo = snapshot(&filled(|_| 0));
    let addr = map(&vmo, policy);
    let newest: [AtomicU64; PAGES] = std::array::from_fn(|_| AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let read_all = |read: &dyn Fn(usize, &mut [u8])| -> Vec<u64> {
        let mut word = [0; 8];
        let words = (0..PAGES).map(|p| {
            read(p * page(), &mut word);
            u64::from_ne_bytes(word)
        });
        words.collect()
    };
    let before = || {
        newest
            .iter()
            .map(|n| n.load(Ordering::Acquire))
            .collect::<Vec<_>>()
    };
    let check = |least: &[u64], seen: &[u64]| {
        for (p, (least, seen)) in least.iter().zip(seen).enumerate() {
            // The word may be one ahead of what its writer has told.
            let most = newest[p].load(Ordering::Acquire) + 1;
            assert!(
                (*least..=most).contains(seen),
                "page {p}: {seen} is not in {least}..={most}"
            );
        }
    };
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for writer in 0..WRITERS {
            let (newest, stop) = (&newest, &stop);
            scope.spawn(move || {
                let mapped = memory(addr, PAGES * page());
                for n in 1.. {
                    for p in (writer..PAGES).step_by(WRITERS) {
                        mapped.store_u64(p * page(), n);
                        newest[p].store(n, Ordering::Release);
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    give_way();
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let least = before();
                let clone = snapshot(&vmo);
                check(
                    &least,
                    &read_all(&|at, word| clone.read(word, at as u64).expect("reading")),
                );
                let elsewhere = map(&clone, policy);
                unmap(elsewhere, PAGES * page());
            }
        });
        for _ in 0..FORKS {
            let least = before();
            let copy = StillCopy::make().expect("a forked copy");
            check(
                &least,
                &read_all(&|at, word| copy.read(addr + at, word).expect("the copy has it")),
            );
        }
    });
    check(
        &before(),
        &read_all(&|at, word| vmo.read(word, at as u64).expect("reading")),
    );
    unmap(addr, PAGES * page());
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One test forks at a time: a copy has the memory of all of them.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

macro_rules! both_policies {
    ($($test:ident)*) => {$(
        mod $test {
            use super::Policy;

            #[test]
            fn traced() {
                let _alone = super::alone();
                super::$test(Policy::Traced);
            }

            #[test]
            fn native() {
                let _alone = super::alone();
                super::$test(Policy::Native);
            }
        }
    )*};
}

both_policies!(private_memory_is_copied shared_memory_is_shared sparse_shared_memory_is_filled forks_under_load);

/// In a process of one thread the copy can go on with any code: all calls refuse, nothing hangs, and what is dropped does nothing. Test programs have more threads, so a program
/// of its own does it.
#[test]
fn a_copy_has_no_engine() {
    let output = Command::new(env!("CARGO_BIN_EXE_forked_copy"))
        .output()
        .expect("the program can be started");
    assert!(output.status.success(), "{output:?}");
}

/// A program started by `exec` has no descriptor of the engine.
#[test]
fn nothing_is_open_after_exec() {
    let _alone = alone();
    // What we were started with is passed on as ever.
    let inherited: Vec<String> = descriptors("self")
        .iter()
        .map(|(fd, to)| format!(" {fd} -> {to}"))
        .collect();
    let (_vmo, addr, _) = patchwork(Policy::Traced);
    let shared = filled(|_| 1);
    let elsewhere = map(&shared, Policy::Traced);
    let ours: Vec<String> = open_files().collect();
    assert!(
        ours.iter().any(|file| is_of_the_engine(file)),
        "the engine has files: {ours:?}"
    );

    let output = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .expect("ls(1)");
    let theirs = String::from_utf8_lossy(&output.stdout);
    assert!(
        theirs.lines().filter(|line| line.contains(" -> ")).count() > 2,
        "it has standard streams: {output:?}"
    );
    let is_new = |line: &&str| !inherited.iter().any(|of| line.ends_with(of.as_str()));
    let wrong: Vec<&str> = theirs
        .lines()
        .filter(|line| is_of_the_engine(line))
        .filter(is_new)
        .collect();
    assert_eq!(wrong, [""; 0], "{theirs}");
    unmap(addr, PAGES * page());
    unmap(elsewhere, PAGES * page());
}

/// What this process's descriptors refer to.
fn open_files() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("a folder of descriptors");
    // Those that another thread has closed meanwhile are left out.
    entries.filter_map(|entry| {
        let link = std::fs::read_link(entry.ok()?.path()).ok()?;
        Some(link.to_string_lossy().into_owned())
    })
}

fn is_of_the_engine(file: &str) -> bool {
    let names = ["memfd:cowspace", "userfaultfd", "eventfd"];
    names.iter().any(|name| file.contains(name))
        || file.ends_with("/mem")
        || file.ends_with("/pagemap")
}
