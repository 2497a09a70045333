//! Whose `malloc` this process has.

use std::ffi::c_void;
use std::mem::MaybeUninit;

/// Whether `calloc` is somebody else's than the C library's: the program brings its own, or a preloaded library does. Then what the C library allocates for itself, as for a
/// new thread, comes from there.
///
/// In a program that is linked statically nobody can tell, and the answer is `true`. Asks the loader, and allocates nothing.
#[must_use]
pub fn is_the_programs() -> bool {
    let libc_object = object_of(libc::getppid as *const c_void);
    let ours = object_of(is_the_programs as *const c_void);
    libc_object.is_none()
        || libc_object == ours
        || object_of(libc::calloc as *const c_void) != libc_object
}

/// Where the program or library begins that a function is of.
fn object_of(function: *const c_void) -> Option<usize> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: looks up a number among the loaded objects, and fills `info` if it answers with anything but 0.
    let found = unsafe { libc::dladdr(function, info.as_mut_ptr()) } != 0;
    // SAFETY: as just said.
    found.then(|| unsafe { info.assume_init() }.dli_fbase.addr())
}

#[cfg(test)]
mod tests {
    /// This test program has no `malloc` of its own; only where there is no shared C library can that not be told.
    #[test]
    fn the_c_librarys_malloc_is_known() {
        assert_eq!(
            super::is_the_programs(),
            cfg!(target_feature = "crt-static")
        );
    }
}
