//! Memory that processes have clones of, with a state that can be recognized.

use cowspace::{Policy, Vmar, Vmo};
use cowspace_tests::{RW, memory, page, unmap};
use host_memory::access::Volatile;
use host_memory::probe::Probe;

/// The policies to test: the zygote's and its children's. The first are those that nobody has to ask for.
pub(crate) fn policies() -> &'static [(Policy, Policy)] {
    use Policy::{Native, Traced};
    if Probe::get().traced.is_yes() {
        &[(Traced, Native), (Native, Native), (Traced, Traced)]
    } else {
        &[(Native, Native)]
    }
}

/// A mapped VMO to which there is no handle. Unmapped when it goes.
pub(crate) struct Mapped {
    pub(crate) memory: Volatile,
}

impl Mapped {
    /// Some pages of zeros.
    pub(crate) fn new(pages: usize, policy: Policy) -> Self {
        let size = pages * page();
        let vmo = Vmo::create(size as u64).expect("a VMO");
        let address = Vmar::root_self()
            .map_with_policy(0, &vmo, 0, size, RW, policy)
            .expect("a mapping");
        Self {
            memory: memory(address, size),
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        unmap(self.memory.addr(), self.memory.len());
    }
}

/// What page number `number` holds in the state `seed`.
fn mark(seed: u64, number: usize) -> u64 {
    (seed << 32) + number as u64
}

/// Brings all pages into the state `seed`, each at its beginning and its end.
pub(crate) fn fill(memory: &Volatile, seed: u64) {
    for number in 0..memory.len() / page() {
        store(memory, seed, number);
    }
}

/// Brings one page into the state `seed`.
pub(crate) fn store(memory: &Volatile, seed: u64, number: usize) {
    memory.store_u64(number * page(), mark(seed, number));
    memory.store_u64((number + 1) * page() - 8, mark(seed, number));
}

/// The state that a page is in; `None` if it is in no state.
pub(crate) fn seed_of(memory: &Volatile, number: usize) -> Option<u64> {
    let (first, last) = (
        memory.load_u64(number * page()),
        memory.load_u64((number + 1) * page() - 8),
    );
    let seed = first >> 32;
    (first == last && first == mark(seed, number)).then_some(seed)
}

/// The one state that all pages are in.
pub(crate) fn seed(memory: &Volatile) -> Option<u64> {
    let seed = seed_of(memory, 0);
    let mut others = 1..memory.len() / page();
    others
        .all(|number| seed_of(memory, number) == seed)
        .then_some(seed)?
}

/// Pseudo-random numbers (xorshift32), the same in each run.
pub(crate) struct Random(u32);

impl Random {
    pub(crate) fn new() -> Self {
        Self(1)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }
}
