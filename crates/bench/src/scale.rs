//! How large everything is: as the figures are meant, or small, to see that it works.

use host_memory::page::page_size;

const MIB: usize = 1 << 20;

/// How large a bench is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// What the figures are meant for.
    Full,
    /// A few seconds in all. The figures mean nothing.
    Small,
}

/// The sizes of a scale. Lengths are bytes.
pub(crate) struct Sizes {
    /// Memory in which single faults are timed.
    pub(crate) fault: usize,
    /// How many of them in a round.
    pub(crate) faults: usize,
    /// Memory for `fault.dense` and `fault.sparse`.
    pub(crate) dense: usize,
    /// Faulting threads, or processes.
    pub(crate) threads: &'static [usize],
    /// A warmed process's memory.
    pub(crate) heap: usize,
    /// Pages written between two clones.
    pub(crate) dirty: usize,
    /// Sizes of the curves over memory, ascending.
    pub(crate) curve: Vec<usize>,
    /// Numbers of mappings of the curve over these, ascending, and the length of each.
    pub(crate) mappings: &'static [usize],
    pub(crate) mapping: usize,
    /// Children that live at the same time, and the memory they share.
    pub(crate) children: usize,
    pub(crate) children_heap: usize,
    /// How long a writer is watched in a round, in milliseconds.
    pub(crate) watch_ms: u64,
    /// Rounds of dirty, clone, exit.
    pub(crate) chain: usize,
    /// Memory for them.
    pub(crate) chain_heap: usize,
    /// Whether a round that does not count comes first.
    pub(crate) warm: bool,
}

impl Sizes {
    pub(crate) fn of(scale: Scale) -> Sizes {
        match scale {
            Scale::Full => Sizes {
                fault: 64 * MIB,
                faults: 2000,
                dense: 256 * MIB,
                threads: &[1, 2, 4, 8],
                heap: 1024 * MIB,
                dirty: 1000,
                curve: [16, 64, 256, 1024, 4096, 8192].map(|mib| mib * MIB).into(),
                mappings: &[1, 10, 100, 1000],
                mapping: 16 * page_size(),
                children: 32,
                children_heap: 256 * MIB,
                watch_ms: 2000,
                chain: 1000,
                chain_heap: 64 * MIB,
                warm: true,
            },
            Scale::Small => Sizes {
                fault: 64 * page_size(),
                faults: 32,
                dense: 256 * page_size(),
                threads: &[1, 2],
                heap: 256 * page_size(),
                dirty: 16,
                curve: [32, 256].map(|pages| pages * page_size()).into(),
                mappings: &[1, 4, 8],
                mapping: 4 * page_size(),
                children: 3,
                children_heap: 128 * page_size(),
                watch_ms: 250,
                chain: 40,
                chain_heap: 128 * page_size(),
                warm: false,
            },
        }
    }
}
