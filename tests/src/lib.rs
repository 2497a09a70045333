//! What the integration tests share: a model of VMOs that copies bytes, and small helpers.

#![forbid(unsafe_code)]

pub mod c_library;
pub mod consistent_cut;
pub mod family;
pub mod limits;
pub mod model;
pub mod processes;
pub mod rung;
pub mod runner;
pub mod zircon;

use cowspace::{Vmar, VmarFlags};
use host_memory::access::Volatile;
use host_memory::probe::Probe;

/// The system's page size.
pub fn page() -> usize {
    host_memory::page::page_size()
}

/// Whether this kernel tells pages of a mapping that were written from such that were only read, see `docs/zircon.md`, "What is counted".
pub fn are_counts_exact() -> bool {
    let probe = Probe::get();
    probe.pagemap_scan.is_yes() && (probe.write_tracking.is_yes() || !probe.traced.is_yes())
}

/// Reading and writing.
pub const RW: VmarFlags = VmarFlags::PERM_READ.union(VmarFlags::PERM_WRITE);

/// The memory at an address of the root VMAR.
///
/// # Panics
///
/// If it is not in the root VMAR.
pub fn memory(addr: usize, len: usize) -> Volatile {
    Volatile::new(addr, len).expect("the range lies in the root VMAR")
}

/// All bytes at an address of the root VMAR.
pub fn bytes_at(addr: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory(addr, len).read(0, &mut bytes);
    bytes
}

/// Unmaps a range of the root VMAR.
pub fn unmap(addr: usize, len: usize) {
    Vmar::root_self()
        .unmap(addr, len)
        .expect("a mapped range can be unmapped");
}

/// The README's examples are compiled and run with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct ReadmeExamples;
