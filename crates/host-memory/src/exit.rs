//! What is to be done when the process ends by `exit(3)`.

use std::io;

/// Has the C library call `last` when the process ends by `exit(3)` or by returning from `main`, those registered last first. For ever: it cannot be taken back.
///
/// A process that is killed, calls `_exit(2)` or aborts does not come here; a forked copy that ends by `exit(3)` does, so `last` must know whose it is
/// ([`crate::forked`]). Other threads go on running meanwhile. Calls `malloc` from the 33rd such function on. `ENOMEM`: no memory for the list.
pub fn at_exit(last: extern "C" fn()) -> io::Result<()> {
    // SAFETY: a function lives for ever, and takes and returns nothing. A panic in it aborts (extern "C").
    if unsafe { libc::atexit(last) } == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ENOMEM))
    }
}
