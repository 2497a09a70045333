//! What has become of requests, and what children cost now: `GET /stats`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Server;
use crate::smaps;

/// What a request for a script comes to: an [`End`](crate::js::answer::End) by its name, or one of these.
pub(super) const BUSY: &str = "busy";
pub(super) const FAILED: &str = "failed";
const HUNG_UP: &str = "hung_up";

/// All of these are in the document, whether there were any or not.
const OUTCOMES: [&str; 10] = [
    "value",
    "exit",
    "exception",
    "timeout",
    "memory",
    "output",
    "crash",
    HUNG_UP,
    BUSY,
    FAILED,
];

#[derive(Debug)]
pub(super) struct Stats(Mutex<State>);

#[derive(Debug)]
struct State {
    outcomes: BTreeMap<&'static str, u64>,
    /// Requests that have come to nothing so far.
    open: u64,
    /// Of those that had a value, in microseconds; `None` where there is no memory for it.
    latency: Option<Histogram<u64>>,
    /// Processes that run a script.
    children: BTreeSet<u32>,
    heap_bytes: usize,
    preloads: u64,
    preloads_refused: u64,
}

/// A request. If it is dropped with no outcome, whoever made it has hung up.
pub(super) struct Counted<'a> {
    stats: &'a Stats,
    begin: Instant,
    outcome: &'static str,
}

impl Counted<'_> {
    pub(super) fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut state = self.stats.lock();
        state.open -= 1;
        *state.outcomes.entry(self.outcome).or_default() += 1;
        let took = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        if self.outcome == "value"
            && let Some(latency) = &mut state.latency
        {
            // It grows with what is recorded; without the memory for that one is missing.
            let _ = latency.record(took);
        }
    }
}

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    requests: Requests,
    latency_ms: Latency,
    memory: Memory,
    pool: Pool,
    preloads: Preloads,
}

/// The total is the sum of the outcomes and of what is open.
#[derive(Debug, Serialize)]
struct Requests {
    total: u64,
    open: u64,
    /// Of the open ones.
    waiting: usize,
    #[serde(flatten)]
    outcomes: BTreeMap<&'static str, u64>,
}

/// From a request's arrival to its result, waiting included, of those that had a value.
#[derive(Debug, Serialize)]
struct Latency {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// What is allocated in the warmed heap: each process that loads the library by itself has as much.
    heap_bytes: usize,
    /// Children that run a script now.
    children: usize,
    /// What they have for themselves.
    private_bytes: u64,
    /// What they would have more if each had loaded the library by itself.
    saved_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Pool {
    size: usize,
    waiting: usize,
}

#[derive(Debug, Serialize)]
struct Preloads {
    done: u64,
    /// Those that did not end well, and so have changed nothing.
    refused: u64,
}

impl Stats {
    pub(super) fn new(heap_bytes: usize) -> Stats {
        Stats(Mutex::new(State {
            outcomes: OUTCOMES.iter().map(|name| (*name, 0)).collect(),
            open: 0,
            latency: Histogram::new(3).ok(),
            children: BTreeSet::new(),
            heap_bytes,
            preloads: 0,
            preloads_refused: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come.
    pub(super) fn begin(&self) -> Counted<'_> {
        self.lock().open += 1;
        Counted {
            stats: self,
            begin: Instant::now(),
            outcome: HUNG_UP,
        }
    }

    pub(super) fn child_runs(&self, pid: u32) {
        self.lock().children.insert(pid);
    }

    pub(super) fn child_ends(&self, pid: u32) {
        self.lock().children.remove(&pid);
    }

    pub(super) fn preloaded(&self, well: bool, heap_bytes: usize) {
        let mut state = self.lock();
        state.heap_bytes = heap_bytes;
        match well {
            true => state.preloads += 1,
            false => state.preloads_refused += 1,
        }
    }
}

/// Puts the document together. It looks at processes, which takes a moment.
pub(super) fn document(server: &Server) -> Document {
    let state = server.stats.lock();
    let latency = state.latency.as_ref();
    let ms = |quantile| latency.map_or(0.0, |all| all.value_at_quantile(quantile) as f64 / 1e3);
    let latency_ms = Latency {
        count: latency.map_or(0, Histogram::len),
        p50: ms(0.5),
        p90: ms(0.9),
        p99: ms(0.99),
        max: latency.map_or(0.0, |all| all.max() as f64 / 1e3),
    };
    let requests = Requests {
        total: state.outcomes.values().sum::<u64>() + state.open,
        open: state.open,
        waiting: server.line.waiting(),
        outcomes: state.outcomes.clone(),
    };
    let preloads = Preloads {
        done: state.preloads,
        refused: state.preloads_refused,
    };
    let (children, heap_bytes) = (state.children.clone(), state.heap_bytes);
    drop(state);
    // Those that have ended meanwhile do not count.
    let private = children.iter().filter_map(|pid| {
        let pid = i32::try_from(*pid).ok()?;
        Some(smaps::of(pid).ok()?.private)
    });
    let private: Vec<u64> = private.collect();
    let private_bytes = private.iter().sum();
    let memory = Memory {
        heap_bytes,
        children: private.len(),
        private_bytes,
        saved_bytes: (heap_bytes as u64 * private.len() as u64).saturating_sub(private_bytes),
    };
    let (waiting, size) = server.spares.waiting();
    Document {
        requests,
        latency_ms,
        memory,
        pool: Pool { size, waiting },
        preloads,
    }
}
