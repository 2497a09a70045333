//! A thread that writes while something else happens to its memory.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use host_memory::access::Volatile;
use host_memory::page::page_size;

/// A running writer: it stores a word to one page after the other, in a given order, again and again. Ends when
/// dropped.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Whether pauses are looked for.
    watch: AtomicBool,
    stores: AtomicU64,
    longest_ns: AtomicU64,
}

impl Writer {
    /// Starts one, and waits until it writes. Only one that is `timed` can be watched: looking at the clock costs
    /// about as much as ten stores.
    pub(crate) fn start(memory: &Volatile, pages: Vec<usize>, timed: bool) -> Writer {
        let shared = Arc::new(Shared::default());
        let thread = {
            let (shared, memory) = (Arc::clone(&shared), memory.clone());
            thread::spawn(move || shared.write(&memory, &pages, timed))
        };
        let writer = Writer {
            shared,
            thread: Some(thread),
        };
        writer.await_stores(1);
        writer
    }

    /// How many stores there were so far.
    pub(crate) fn stores(&self) -> u64 {
        self.shared.stores.load(Relaxed)
    }

    /// The longest time between two stores while `happening` runs, in nanoseconds, and what that returned.
    pub(crate) fn longest_pause<T>(&self, happening: impl FnOnce() -> T) -> (f64, T) {
        self.shared.longest_ns.store(0, Relaxed);
        self.shared.watch.store(true, Relaxed);
        self.await_stores(2);
        let result = happening();
        // The pause is noticed at the first store after it.
        self.await_stores(2);
        self.shared.watch.store(false, Relaxed);
        (self.shared.longest_ns.load(Relaxed) as f64, result)
    }

    fn await_stores(&self, more: u64) {
        let enough = self.stores() + more;
        while self.stores() < enough {
            thread::yield_now();
        }
    }
}

impl Shared {
    fn write(&self, memory: &Volatile, pages: &[usize], timed: bool) {
        let mut last = Instant::now();
        let mut stores = 0;
        for page in pages.iter().cycle() {
            stores += 1;
            memory.store_u64(page * page_size() + 8, stores);
            if timed {
                let now = Instant::now();
                let pause = now.duration_since(last).as_nanos() as u64;
                if self.watch.load(Relaxed) && pause > self.longest_ns.load(Relaxed) {
                    self.longest_ns.store(pause, Relaxed);
                }
                last = now;
            }
            self.stores.store(stores, Relaxed);
            if self.stop.load(Relaxed) {
                break;
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
