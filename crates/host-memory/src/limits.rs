//! The process's limits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets the process have as many descriptors as it may ask for: raises the soft `RLIMIT_NOFILE` to the hard one. Processes started later inherit that.
///
/// Each VMO with content of its own takes a descriptor, and the usual soft limit is 1,024.
pub fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // If it is refused there are fewer, which is no error.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
