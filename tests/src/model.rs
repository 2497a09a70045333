//! VMOs, VMARs, handles and mappings as a model that copies bytes, run beside the real engine by random programs.
//!
//! A program is a list of [`Op`]s. [`World`] does each of them to the real thing and to the model, and compares the answers: the status, the
//! address, the rights, the bytes, the object info, the memory map. The model keeps no trees: a VMO's memory is a vector of bytes with a name for the
//! content of each page, the address space is a vector of pages.

mod check;
mod children;
mod handles;
mod lock;
mod memory;
mod objects;
mod ops;
mod space;
mod stream_size;
mod transfer;
mod vmar_range;
mod vmar_steps;
mod vmo_steps;
mod world;

pub use ops::{Move, Op, Part, Place, Program, programs};
pub use world::{Looks, World};
