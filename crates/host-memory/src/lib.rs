//! Linux memory as cowspace needs it.
//!
//! Each module wraps one thing of the kernel and says what it really does; each has tests that show it. Here is the mechanism, no policy: which page lies where,
//! and when it is copied, is decided by the engine (crate `cowspace`).
//!
//! | module | what it wraps |
//! |---|---|
//! | [`page`] | page size, ranges of addresses, protections |
//! | [`memfd`] | memory files: writable ones, and sealed ones (layers) |
//! | [`huge`] | huge pages made of sealed memory files |
//! | [`reserve`] | a range of addresses of our own, and everything that is mapped into it |
//! | [`access`] | loads and stores in such a range, for safe code |
//! | [`procmem`] | `/proc/self/mem`: access whatever the protection says |
//! | [`pagemap`] | `/proc/self/pagemap`: which pages are private, the file's, write-protected |
//! | [`uffd`] | userfaultfd |
//! | [`probe`] | what this kernel and this process's privileges offer |
//! | [`stack`] | where the calling thread's own memory lies |
//! | [`stop`] | stopping every other thread of the process |
//! | [`thread`] | threads that ask nothing of the standard library |
//! | [`malloc`] | whose `malloc` the process has |
//! | [`usage`] | how much memory a file takes |
//! | [`transfers`] | whether the kernel may be writing to our memory by itself |
//! | [`forked`] | telling a forked copy of the process apart |
//! | [`heap`] | an allocator whose state lies in the memory it gives out |
//! | [`process`] | `fork(2)` of a process with one thread, and copies that only wait |
//! | `pin` | pinned memory, for tests (feature `pin`) |
//!
//! # Why most of this is safe to call
//!
//! Mapping, unmapping and protecting memory is unsafe because somebody's object may lie there. A [`reserve::Reservation`] is a range of addresses that
//! this crate got from the kernel and gave to nobody: no Rust object lies in it, and what does (a heap, the program's data behind the addresses that `Vmar::map`
//! returns) is reached through raw pointers whose users were told that the range changes under them. So all that stays inside of one reservation is safe, and nothing
//! here takes an address without checking that it does.

pub mod access;
pub mod copies;
mod folder;
pub mod forked;
pub mod heap;
pub mod huge;
mod layer;
pub mod limits;
pub mod malloc;
pub mod memfd;
pub mod page;
pub mod pagemap;
#[cfg(feature = "pin")]
pub mod pin;
pub mod probe;
pub mod process;
pub mod procmem;
pub mod reserve;
pub mod stack;
pub mod stop;
pub mod thread;
pub mod transfers;
pub mod uffd;
pub mod usage;
