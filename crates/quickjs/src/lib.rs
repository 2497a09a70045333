//! QuickJS with its whole heap in memory that can be cloned: a runtime that is warmed once and then is in each child of a zygote.
//!
//! ```text
//!  host_memory::heap::Heap
//!  | header | Engine (the root) | Memory | JSRuntime | JSContext | objects, code, strings ...... |
//!               |  |  '------------^  ^       ^  |          ^
//!               |  '------------------+-------'  |          |      all of these pointers lead into the heap,
//!               '---------------------+----------+----------'      or to code and constants of the program
//!                                     '----------'
//! ```
//!
//! A copy of these bytes at the same addresses, in a process that was forked from the same image, is the same runtime again: QuickJS keeps nothing of a runtime in
//! thread-locals or in statics, and the addresses of its C functions are those of the image. (Its two statics are a lock for `Atomics.wait` and a mark of which
//! only the address counts.) So a child [opens](Runtime::open) the heap, and evaluates.
//!
//! # Why its safe functions are sound
//!
//! QuickJS is trusted to be correct C: what it is called with is checked here, not what it does.
//!
//! 1. *One thread.* A [`Runtime`] owns its [`Heap`](host_memory::heap::Heap), which is not `Send`.
//! 2. *A clone in the middle of a script.* The heap's root is borrowed while a script runs, so such a clone is refused when it is opened
//!    ([`HeapError::Torn`](host_memory::heap::HeapError::Torn)).
//! 3. *Another image.* Code addresses are good only in a fork of the process that made the runtime. The root has the address of one of our functions, and
//!    opening compares it.
//! 4. *The stack.* QuickJS compares the stack pointer with a limit, which is set anew whenever a script is begun.
//! 5. *What a running script calls back* is on the stack of [`Runtime::eval`]; the pointers to it are cleared before that returns.

mod call;
mod memory;
mod runtime;
mod value;

pub use call::Stream;
pub use runtime::{DEFAULT_STACK, Ending, Error, Limits, Runtime};
