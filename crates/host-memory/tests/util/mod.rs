//! What several of the test programs need.
#![allow(dead_code, reason = "each test program uses a part")]

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use host_memory::access::Volatile;
use host_memory::memfd::{Layer, MemFd};
use host_memory::page::{HostRange, page_size};
use host_memory::reserve::Reservation;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// A reservation of some pages.
pub(crate) fn reserve(pages: usize) -> Reservation {
    Reservation::new(pages * page_size()).unwrap()
}

/// `count` pages from the `first` on of a reservation.
pub(crate) fn pages(of: &Reservation, first: usize, count: usize) -> HostRange {
    of.range()
        .sub(first * page_size(), count * page_size())
        .unwrap()
}

/// Access to all of a range.
pub(crate) fn volatile(range: HostRange) -> Volatile {
    Volatile::new(range.start(), range.len()).unwrap()
}

/// A memfd whose page `i` is full of the byte `i + 1`.
pub(crate) fn numbered(pages: usize) -> MemFd {
    let memfd = MemFd::create("test", bytes(pages)).unwrap();
    for i in 0..pages {
        memfd
            .write_at(&vec![i as u8 + 1; page_size()], bytes(i))
            .unwrap();
    }
    memfd
}

/// The same, sealed.
pub(crate) fn layer(pages: usize) -> Layer {
    numbered(pages).seal().unwrap()
}

/// So many pages in bytes, as a file's offset.
pub(crate) fn bytes(pages: usize) -> u64 {
    (pages * page_size()) as u64
}

/// The runs of pages of a memfd or layer that hold data: the first page of each, and the page after its last.
pub(crate) fn data(
    call: impl FnOnce(&mut dyn FnMut(std::ops::Range<u64>)) -> std::io::Result<()>,
) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let page = page_size() as u64;
    call(&mut |run| {
        assert!(
            run.start % page == 0 && run.end % page == 0,
            "{run:?} is not page-aligned"
        );
        runs.push((run.start / page, run.end / page));
    })
    .unwrap();
    runs
}

/// The line of `/proc/self/maps` for the mapping that holds `addr`.
pub(crate) fn maps_line(addr: usize) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .find(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let parse = |text| usize::from_str_radix(text, 16).unwrap();
            (parse(start)..parse(end)).contains(&addr)
        })
        .map(str::to_owned)
}

/// How `/proc/self/maps` names the layer's file: device and inode number.
pub(crate) fn maps_id(layer: &Layer) -> String {
    let (dev, ino) = layer.id();
    format!(" {:02x}:{:02x} {ino} ", libc::major(dev), libc::minor(dev))
}

/// Whether a mapping of that file exists.
pub(crate) fn maps_have(id: &str) -> bool {
    fs::read_to_string("/proc/self/maps").unwrap().contains(id)
}

/// Runs `child` in a forked copy, and answers its exit code. It must do nothing but what a copy of a process with several threads may: no allocation, no lock.
pub(crate) fn in_fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child does what the caller promises, and leaves by _exit.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = child();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("the forked copy ended by {other:?}"),
        },
    }
}

/// Sets the flag when it goes, also by a panic: threads that run until then do not keep a failed test waiting.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until `counter` is above `value`, which the test takes for granted; the limit is only there to end a hanging test.
pub(crate) fn wait_above(counter: &AtomicU64, value: u64) {
    wait_until(|| counter.load(Ordering::SeqCst) > value);
}

/// Waits until `condition` holds; the limit is only there to end a hanging test.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited a minute in vain"
        );
        std::thread::sleep(Duration::from_micros(100));
    }
}
