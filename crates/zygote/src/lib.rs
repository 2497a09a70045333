//! Address-space clones: child processes with a copy-on-write copy of a warmed process's memory.
//!
//! This is the use that Fuchsia's RFC-0013 ("Cloning a VMO mapping") was written for, on Linux: a process builds something large in memory that is mapped
//! from VMOs, and then spawns children that have it at once, each for itself, at the same addresses. Cloning is done with public calls of [`cowspace`] alone.
//!
//! ```text
//!   zygote                            launcher                     child
//!   ──────                            ────────                     ─────
//!   Launcher::start ───────fork─────► (small, one thread,
//!   warms up, freezes                  address range reserved)
//!   spawn ──control socket──────────► forks ─────────────────────► blank: nothing mapped
//!     clones each mapping
//!     (vmar_create_vmo_child)
//!     sends the image: ────────────────control socket────────────► builds its own engine:
//!       tables of pages, mappings,                                 VMOs from the sealed layers,
//!       layers as sealed memfds,                                   mapped at the same addresses
//!       stdin, stdout, stderr
//!     drops its clones ◄───────────────────"ready"──────────────── runs its entry
//!   Child::wait ◄──────wait status─── reaps ◄───────────────────── ends
//! ```
//!
//! Why a launcher: pointers in the cloned memory stay right only if code, statics and the memory itself lie where they lie in the zygote. A fork gives that, but
//! a warmed zygote is expensive to fork and has threads. So a process is forked off when there is nothing yet, and forks the blank children.
//!
//! What children have is therefore: the VMO memory of the zygote at the time of the spawn, and everything else (the global allocator's heap, environment, working
//! directory, signal handlers) of the time when the launcher was started. A [`Spawn`] names the function to run and gives it bytes and handles.
//!
//! Nothing is shared that could be written: layers are sealed, each process holds its own descriptors of them, and so neither the zygote's end nor a child's
//! touches any other. If the zygote dies, children that have their memory go on; those still waiting for it end.
//!
//! # Example
//!
//! ```no_run
//! use zygote::{Context, Entry, Launcher, Spawn, Stdio, Zygote};
//!
//! fn serve(context: Context) -> i32 {
//!     // The zygote's VMO memory is here, at the addresses where the zygote had it.
//!     println!("asked for {}", String::from_utf8_lossy(&context.args));
//!     0
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // First of all, before any thread.
//!     let launcher = Launcher::start(&[Entry { name: "serve", run: serve }])?;
//!     let zygote = Zygote::new(launcher);
//!     // ... warm up: map VMOs, fill them ...
//!     zygote.freeze()?;
//!     let child = zygote.spawn(&Spawn::new("serve").args("something").stdout(Stdio::Piped))?;
//!     let output = child.wait_with_output()?;
//!     assert!(output.status.success());
//!     Ok(())
//! }
//! ```

#![forbid(unsafe_code)]

mod blank;
mod capture;
mod child;
mod context;
mod error;
mod freeze;
mod launcher;
mod launcher_process;
mod message;
mod pieces;
mod protocol;
mod rebuild;
mod report;
mod spawn;
mod stdio;

pub use child::Child;
pub use context::Context;
pub use error::Error;
pub use launcher::{Entry, Launcher};
pub use report::{LeftOut, Missing};
pub use spawn::{Spawn, Zygote};
pub use stdio::Stdio;
