//! The end of the process, where nothing else fails closed.

use std::io::{Write, stderr};

/// Prints one line and ends the process.
///
/// Takes no lock and allocates nothing: the thread that holds a lock may be one that waits for this handler.
pub(crate) fn abort(reason: std::fmt::Arguments<'_>) -> ! {
    let mut line = [0_u8; 512];
    let mut rest = &mut line[..];
    // A longer reason is cut off.
    let _ = write!(rest, "cowspace-fault: {reason}; aborting");
    let free = rest.len().max(1);
    let len = line.len() - free;
    line[len] = b'\n';
    // Past `Stderr`'s lock, to the descriptor itself. If even that fails there is nobody to tell.
    let _ = nix::unistd::write(stderr(), &line[..=len]);
    std::process::abort();
}
