//! cowspace as a C library: Zircon's calls as the Fuchsia vDSO exports them, with headers of the same names in
//! `include/`.
//!
//! Each call is there as `zx_x` and as `_zx_x`. The rules of Zircon are those of the crate `cowspace`; here are only
//! raw handle values, pointers, sizes of buffers, and the layout of records. The engine starts at the first call that
//! needs it, from whatever thread.
//!
//! # Pointers
//!
//! A pointer that cannot be accessed is an error of the call, never a crash: `INVALID_ARGS`, and for the buffer of
//! `zx_vmo_read` and `zx_vmo_write` `NOT_FOUND` or `ACCESS_DENIED`. The kernel touches them (`user.rs`). What a call
//! made is taken back when its result cannot be written: no handle and no mapping is left that nobody knows of. A
//! pointer is looked at last, after all else that can be wrong, unless Zircon looks earlier.
//!
//! # Panics
//!
//! A panic is a broken invariant of the engine, so nothing goes on after it: these are `extern "C"` functions, of which
//! the language guarantees that a panic ends the process, with its message on the standard error. It never unwinds into
//! the program.
//!
//! # Memory
//!
//! The program's `malloc` may get its memory from this library. So the library's own memory comes from the kernel
//! directly, and no call calls `malloc`: see `docs/architecture.md`, "Allocation".

#![warn(missing_debug_implementations)]

mod at_load;
mod clock;
mod exports;
mod futex;
mod handle;
mod object;
mod own;
mod pager;
mod records;
mod system;
mod user;
mod vmar;
mod vmo;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
