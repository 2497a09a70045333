//! `zx_futex_*`, over `futex(2)`.

use std::io;
use std::ptr;

use cowspace::{Handle, HandleBased, ObjectType, Status, Thread, Unowned};

use crate::clock::timeout;
use crate::user::Buffer;

/// Private futexes are found by their address alone, so they work in whatever is mapped there.
const PRIVATE: libc::c_int = libc::FUTEX_PRIVATE_FLAG;

/// Checks in Zircon's order: the pointer; the value, `BAD_STATE`; the owner. There is no priority to be inherited here, so a valid owner changes nothing.
pub(crate) fn wait(
    value: Buffer,
    expected: i32,
    new_owner: u32,
    deadline: i64,
) -> Result<(), Status> {
    check(value)?;
    if new_owner != 0 {
        let mut now = [0; size_of::<i32>()];
        value.read(0, &mut now)?;
        if i32::from_ne_bytes(now) != expected {
            return Err(Status::BAD_STATE);
        }
        check_owner(new_owner)?;
    }
    let timeout = timeout(deadline);
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    loop {
        // SAFETY: the kernel reads the value, or says that it cannot, and the timeout, which outlives the call. With the bit set for all wakers the timeout is a point in
        // time of the monotonic clock.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                value.address(),
                libc::FUTEX_WAIT_BITSET | PRIVATE,
                expected,
                timeout,
                ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        if result == 0 {
            return Ok(());
        }
        match io::Error::last_os_error().raw_os_error() {
            // A signal handler ran; whoever changed the value meanwhile is seen by the kernel's next look at it.
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN) => return Err(Status::BAD_STATE),
            Some(libc::ETIMEDOUT) => return Err(Status::TIMED_OUT),
            _ => return Err(Status::INVALID_ARGS),
        }
    }
}

/// `count` threads at most. Whether anything is mapped there is not looked at, as in Zircon.
pub(crate) fn wake(value: Buffer, count: u32) -> Result<(), Status> {
    check(value)?;
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    if count == 0 {
        // The kernel would wake one.
        return Ok(());
    }
    // SAFETY: the address is a key here: no memory is accessed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            value.address(),
            libc::FUTEX_WAKE | PRIVATE,
            count,
        )
    };
    if result < 0 {
        return Err(Status::INVALID_ARGS);
    }
    Ok(())
}

fn check(value: Buffer) -> Result<(), Status> {
    if value.is_null() || !value.address().is_multiple_of(size_of::<i32>()) {
        return Err(Status::INVALID_ARGS);
    }
    Ok(())
}

/// The owner must be another thread than the one that waits.
fn check_owner(handle: u32) -> Result<(), Status> {
    let owner = Unowned::<Handle>::from_raw_handle(handle).basic_info()?;
    if owner.object_type != ObjectType::THREAD {
        return Err(Status::WRONG_TYPE);
    }
    if owner.koid == Thread::self_handle()?.basic_info()?.koid {
        return Err(Status::INVALID_ARGS);
    }
    Ok(())
}
