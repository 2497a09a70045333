//! The end of the process, where nothing else fails closed.

use host_memory::process;

/// Prints one line and ends the process.
///
/// Takes no lock and allocates nothing: the thread that holds a lock may be one that waits for this handler.
pub(crate) fn abort(reason: std::fmt::Arguments<'_>) -> ! {
    process::abort(format_args!("cowspace-fault: {reason}; aborting"))
}
