//! Looking into a running process: its VMARs and mappings, VMOs, clone families, layers, and what its page faults cost.
//!
//! A process is asked over a Unix socket that it opens in its user's runtime folder: only if it wants to, by [`listen`] or by `COWSPACE_INSPECT=1` in its environment, and only for
//! its own user and root. `cowspace inspect` and `cowspace top` are made of [`connect`].
//!
//! | file | what it does |
//! |---|---|
//! | `records.rs` | what is told |
//! | `place.rs` | where the socket lies, whose the folder must be, sockets of processes that are gone |
//! | `wire.rs` | the greeting and the messages |
//! | `server.rs` | the thread that answers |
//! | `snapshot.rs` | what is looked at, copied out of the engine's structures |
//! | `collect.rs` | records made of that and of the page table |
//! | `client.rs` | who asks |
//!
//! # How right the answer is
//!
//! Nobody is stopped. The VMAR tree is of one instant, and so is each clone family, but these instants differ: calls that map, clone or close meanwhile may be seen in one
//! and not in another. Page tables are walked with no family locked, so faults do not wait for that; what threads touch meanwhile may be counted or not. In a
//! process that does nothing at the moment all figures agree.

mod client;
mod collect;
mod place;
mod records;
mod server;
mod snapshot;
mod wire;

pub use client::{Client, Error, connect};
pub use records::{
    FamilyRecord, HomeRecord, Inspection, LayerFile, LayerRecord, Live, MapRecord, MappingRecord,
    Memory, MemoryRecord, NodeRecord, OwnedRecord, VmoKindRecord, VmoRecord,
};
pub(crate) use server::listen_if_asked;
pub use server::{Listener, listen};
