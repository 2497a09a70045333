//! Zircon's virtual memory objects on Linux, with RFC-0013's `zx_vmar_create_vmo_child`.
//!
//! A [`Vmo`] is memory that a handle names; a [`Vmar`] is a range of addresses that VMOs are mapped in. [`Vmo::create_child`] makes copy-on-write clones
//! of a VMO, and [`Vmar::create_vmo_child`] makes one of whatever is mapped at an address, without a handle to it.
//!
//! ```
//! use cowspace::{Status, Vmar, VmarFlags, Vmo, VmoChildOptions};
//!
//! # fn main() -> Result<(), Status> {
//! let size = host_memory::page::page_size();
//! let root = Vmar::root_self();
//! let vmo = Vmo::create(size as u64)?;
//! vmo.write(b"warm", 0)?;
//! let address = root.map(0, &vmo, 0, size, VmarFlags::PERM_READ | VmarFlags::PERM_WRITE)?;
//! drop(vmo); // the mapping keeps the memory
//!
//! let clone = root.create_vmo_child(VmoChildOptions::SNAPSHOT, address, size)?;
//! clone.write(b"mine", 0)?; // nobody else sees this
//! let mut bytes = [0; 4];
//! root.create_vmo_child(VmoChildOptions::SNAPSHOT, address, size)?.read(&mut bytes, 0)?;
//! assert_eq!(&bytes, b"warm");
//! root.unmap(address, size)
//! # }
//! ```
//!
//! Names, rights, statuses and the order of checks are Zircon's; the Rust names are those of Fuchsia's `zx` crate. `docs/architecture.md` tells how it works.
//!
//! # Locks
//!
//! ```text
//! address space (engine.rs)      the VMAR tree; every map, unmap, protect, snapshot and change of home, and each copy through a private mapping
//!   family (family.rs)           page tree, layers, homes and regions of one clone family
//!   fault table (resolver.rs)    address -> family; a leaf, as are the handle table, a VMO's name, and (but for the handle table) signals
//! ```
//!
//! The fault handler takes the fault table and a family, one after the other, and never the address space. So with a family locked nothing is done that waits
//! for the handler: no `mremap`, no access to memory that the engine serves. Callers' buffers are touched under no lock.

#![forbid(unsafe_code)]

mod ahead;
mod aspace;
#[cfg(test)]
mod aspace_tests;
mod attribution;
mod bounce;
mod content;
mod cut;
mod discard;
mod engine;
mod family;
mod fork;
mod freeze;
mod handle;
mod handles;
mod hash;
pub mod image;
mod info;
mod lock;
mod mapping;
mod object;
mod open_pages;
mod options;
mod plan;
mod private;
mod process;
mod reconcile;
mod recording;
mod regions;
mod report;
mod resolver;
mod rights;
mod sequence;
mod signals;
mod status;
mod stream_size;
mod task;
mod thread;
mod time;
mod transfer;
mod vmar;
mod vmar_op;
mod vmo;
mod wide;

pub use ahead::{make_threads_only_ahead, start_threads_ahead};
pub use discard::VmoLockState;
pub use engine::{
    default_policy, fault_stats, is_running, prepare, record_faults, reserve_address_space,
    set_default_policy, stop_recording_faults,
};
pub use freeze::Frozen;
pub use handles::{Handle, HandleBased, Unowned};
pub use info::{
    CachePolicy, HandleBasicInfo, HandleCountInfo, Koid, MappingDetails, MapsDetails, MapsInfo,
    Name, ObjectType, VmarInfo, VmoInfo, VmoInfoFlags,
};
pub use options::{
    Policy, TransferDataOptions, VmarFlags, VmarOp, VmoChildOptions, VmoOp, VmoOptions,
};
pub use process::Process;
pub use recording::Recorder;
pub use rights::Rights;
pub use signals::{Signals, WaitResult};
pub use status::Status;
pub use thread::{Thread, ThreadStats};
pub use time::MonotonicInstant;
pub use vmar::{Vmar, process_layout, process_maps};
pub use vmo::Vmo;
