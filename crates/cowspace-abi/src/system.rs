//! `zx_system_*`, `zx_cprng_draw`, `zx_status_get_string`.

use std::ffi::{CStr, c_char};
use std::io;

use cowspace::Status;
use host_memory::page::page_size;

use crate::user::{Buffer, Out};

/// `zx_string_view_t`: bytes that end in a zero which does not count.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct StringView {
    c_str: *const c_char,
    length: usize,
}

pub(crate) fn get_version_string() -> StringView {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(
        concat!("cowspace ", env!("CARGO_PKG_VERSION"), "\0").as_bytes(),
    ) {
        Ok(version) => version,
        Err(_) => panic!("it ends in its only zero"),
    };
    StringView {
        c_str: VERSION.as_ptr(),
        length: VERSION.count_bytes(),
    }
}

pub(crate) fn get_page_size() -> u32 {
    // 64 KiB is the largest there is.
    page_size() as u32
}

/// The processors that are at work.
pub(crate) fn get_num_cpus() -> u32 {
    // SAFETY: without memory.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(count).unwrap_or(1).max(1)
}

pub(crate) fn get_physmem() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit)
}

/// `ZX_FEATURE_KIND_*`. The processor's features are to be had by `getauxval(3)`; none is told here.
pub(crate) fn get_features(kind: u32, features: Out<u32>) -> Result<(), Status> {
    const CPU: u32 = 0;
    const ADDRESS_TAGGING: u32 = 3;
    const VM: u32 = 4;
    match kind {
        CPU | ADDRESS_TAGGING | VM => features.write(0),
        // Breakpoints and watchpoints are the debugger's.
        _ => Err(Status::NOT_SUPPORTED),
    }
}

/// Nobody may go on with bytes that are not random: where they cannot be had, or cannot be written, the process ends, as in Zircon.
pub(crate) fn cprng_draw(buffer: Buffer, size: usize) {
    let mut done = 0;
    while done < size {
        // SAFETY: the kernel writes where the caller of this library asked for, or says that it cannot.
        let drawn = unsafe {
            libc::getrandom(
                std::ptr::without_provenance_mut(buffer.address().wrapping_add(done)),
                size - done,
                0,
            )
        };
        if drawn > 0 {
            done += drawn as usize;
            continue;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            eprintln!("cowspace: zx_cprng_draw: {error}; ending the process");
            std::process::abort();
        }
    }
}

pub(crate) fn status_get_string(status: i32) -> *const c_char {
    Status::from_raw(status).c_name().as_ptr()
}
