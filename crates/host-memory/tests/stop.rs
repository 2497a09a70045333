//! Stopping every other thread, for real. While they are stopped the tests neither allocate nor print: what they find they check afterwards.

mod util;

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64};
use std::thread;

use host_memory::stop::stop_other_threads;
use nix::errno::Errno;
use nix::unistd::gettid;
use util::{SetOnDrop, wait_above, wait_until};

/// Counts until it is told to end.
struct Counter {
    count: AtomicU64,
    end: AtomicBool,
    tid: AtomicI32,
}

impl Counter {
    const fn new() -> Counter {
        Counter {
            count: AtomicU64::new(0),
            end: AtomicBool::new(false),
            tid: AtomicI32::new(0),
        }
    }

    fn run(&self) {
        self.tid.store(gettid().as_raw(), SeqCst);
        while !self.end.load(SeqCst) {
            self.count.fetch_add(1, SeqCst);
        }
    }
}

/// What a counter shows at two times between which a running thread would have counted. Allocates nothing.
fn watch<const N: usize>(counts: [&AtomicU64; N]) -> [(u64, u64); N] {
    let first = counts.map(|count| count.load(SeqCst));
    for _ in 0..200 {
        thread::yield_now();
    }
    std::array::from_fn(|i| (first[i], counts[i].load(SeqCst)))
}

/// Until a thread sleeps in the kernel.
fn wait_asleep(tid: &AtomicI32) {
    wait_until(|| {
        let tid = tid.load(SeqCst);
        let stat = fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
        tid != 0
            && stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('S'))
    });
}

#[test]
fn running_threads_stand_still_and_go_on() {
    let counters = [const { Counter::new() }; 3];
    thread::scope(|scope| {
        let _end = counters.each_ref().map(|counter| SetOnDrop(&counter.end));
        for counter in &counters {
            scope.spawn(|| counter.run());
        }
        counters
            .iter()
            .for_each(|counter| wait_above(&counter.count, 0));
        for _ in 0..50 {
            let stopped = stop_other_threads(&[]).unwrap();
            let seen = watch(counters.each_ref().map(|counter| &counter.count));
            drop(stopped);
            assert!(
                seen.iter().all(|(first, second)| first == second),
                "{seen:?}"
            );
            for (counter, (_, then)) in counters.iter().zip(seen) {
                wait_above(&counter.count, then);
            }
        }
    });
}

#[test]
fn spared_threads_run() {
    let (spared, other) = (Counter::new(), Counter::new());
    thread::scope(|scope| {
        let _end = (SetOnDrop(&spared.end), SetOnDrop(&other.end));
        scope.spawn(|| spared.run());
        scope.spawn(|| other.run());
        wait_above(&spared.count, 0);
        wait_above(&other.count, 0);
        let stopped = stop_other_threads(&[spared.tid.load(SeqCst)]).unwrap();
        let before = spared.count.load(SeqCst);
        // Many times what it takes; no `wait_above`, which would panic, and so allocate.
        let ran = (0..10_000_000).any(|_| {
            thread::yield_now();
            spared.count.load(SeqCst) != before
        });
        let [(first, second)] = watch([&other.count]);
        drop(stopped);
        assert!(ran && first == second, "{ran} {first} {second}");
    });
}

#[test]
fn threads_in_system_calls_do_not_notice() {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let (word, in_read, in_futex) = (AtomicU32::new(0), AtomicI32::new(0), AtomicI32::new(0));
    let futex = |operation: i32, value: u32| {
        // SAFETY: the word lives, and there is no time limit.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                operation,
                value,
                std::ptr::null::<libc::timespec>(),
            )
        };
        Errno::result(result)
    };
    thread::scope(|scope| {
        let read = scope.spawn(|| {
            in_read.store(gettid().as_raw(), SeqCst);
            let mut byte = [0];
            // One system call: `read` hands EINTR on.
            reader.read(&mut byte).map(|count| (count, byte))
        });
        let wait = scope.spawn(|| {
            in_futex.store(gettid().as_raw(), SeqCst);
            futex(libc::FUTEX_WAIT, 0)
        });
        wait_asleep(&in_read);
        wait_asleep(&in_futex);
        for _ in 0..20 {
            drop(stop_other_threads(&[]).unwrap());
        }
        wait_asleep(&in_read);
        wait_asleep(&in_futex);
        writer.write_all(&[7]).unwrap();
        assert_eq!(read.join().unwrap().unwrap(), (1, [7]));
        word.store(1, SeqCst);
        // It may be on its way back into the call, which then answers EAGAIN: the word has changed.
        futex(libc::FUTEX_WAKE, 1).unwrap();
        assert!(matches!(wait.join().unwrap(), Ok(0) | Err(Errno::EAGAIN)));
    });
}

#[test]
fn threads_that_come_and_go_meanwhile_are_stopped_too() {
    let (work, threads, end) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let _end = SetOnDrop(&end);
        for _ in 0..2 {
            scope.spawn(|| {
                while !end.load(SeqCst) {
                    let worker = thread::scope(|scope| {
                        let worker =
                            scope.spawn(|| (0..500).for_each(|_| _ = work.fetch_add(1, SeqCst)));
                        (0..500).for_each(|_| _ = work.fetch_add(1, SeqCst));
                        worker.join()
                    });
                    worker.unwrap();
                    threads.fetch_add(1, SeqCst);
                }
            });
        }
        wait_above(&threads, 10);
        for _ in 0..200 {
            let stopped = stop_other_threads(&[]).unwrap();
            let [(first, second)] = watch([&work]);
            drop(stopped);
            assert_eq!(first, second);
        }
        wait_above(&threads, threads.load(SeqCst));
    });
}

#[test]
fn several_callers_take_turns() {
    let inside = AtomicU64::new(0);
    let most = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let stopped = stop_other_threads(&[]).unwrap();
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    inside.fetch_sub(1, SeqCst);
                    drop(stopped);
                }
            });
        }
    });
    assert_eq!(most.load(SeqCst), 1);
}
