//! Where the calling thread's own memory lies.
//!
//! A stack can lie anywhere, also in memory that a fault handler serves. Who holds something that the handler wants must not touch such a stack.

/// An address in the part of the stack that the calling function uses.
#[must_use]
pub fn here() -> usize {
    let local = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&local)).addr()
}

/// Where the C library keeps what belongs to the calling thread, `errno` for one. With a stack of the program's (`pthread_attr_setstack(3)`) that is the end of it.
#[must_use]
pub fn thread_block() -> usize {
    // SAFETY: always succeeds. In the C libraries of Linux (glibc, musl) the value is the address of the thread's control block.
    unsafe { nix::libc::pthread_self() as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_own() {
        let other = std::thread::spawn(|| (here(), thread_block()));
        let (stack, block) = other.join().expect("no panic");
        assert_ne!(stack, here());
        assert_ne!(block, thread_block());
        let local = 0_u8;
        assert!(here().abs_diff(std::ptr::from_ref(&local).addr()) < 1 << 20);
    }
}
