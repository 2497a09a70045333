//! The structs and ioctls of `linux/userfaultfd.h` that the `userfaultfd` crate 0.9 lacks or reads wrongly.
//!
//! The crate has no POISON and no write-protect mode of COPY and CONTINUE; its message decoding gives no thread id without a further build feature and makes an
//! error of an event it does not know; and it hands on the kernel's signed byte counts as unsigned. So these are declared here, counts signed, layouts asserted.

/// `struct uffdio_range`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// `struct uffdio_api`.
#[repr(C)]
pub(super) struct Api {
    pub(super) api: u64,
    pub(super) features: u64,
    pub(super) ioctls: u64,
}

/// `struct uffdio_copy`. `copied` is written by the kernel: bytes done, or a negative errno.
#[repr(C)]
pub(super) struct Copy {
    pub(super) dst: u64,
    pub(super) src: u64,
    pub(super) len: u64,
    pub(super) mode: u64,
    pub(super) copied: i64,
}

/// `struct uffdio_zeropage`, `struct uffdio_continue` and `struct uffdio_poison`, which have one layout. `done` is written by the kernel: bytes done, or a negative
/// errno.
#[repr(C)]
pub(super) struct Fill {
    pub(super) range: Range,
    pub(super) mode: u64,
    pub(super) done: i64,
}

/// `struct uffd_msg` with its page-fault arm; the other arms are never looked into.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Message {
    pub(super) event: u8,
    reserved1: u8,
    reserved2: u16,
    reserved3: u32,
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) tid: u32,
    reserved4: u32,
}

const _: () = {
    assert!(size_of::<Range>() == 16);
    assert!(size_of::<Api>() == 24);
    assert!(size_of::<Copy>() == 40 && core::mem::offset_of!(Copy, copied) == 32);
    assert!(size_of::<Fill>() == 32 && core::mem::offset_of!(Fill, done) == 24);
    assert!(size_of::<Message>() == 32);
    assert!(core::mem::offset_of!(Message, flags) == 8);
    assert!(core::mem::offset_of!(Message, address) == 16);
    assert!(core::mem::offset_of!(Message, tid) == 24);
};

/// `UFFD_API`.
pub(super) const UFFD_API: u64 = 0xAA;
/// `UFFD_USER_MODE_ONLY`.
pub(super) const USER_MODE_ONLY: libc::c_int = 1;
/// `UFFDIO_{COPY,ZEROPAGE,CONTINUE,POISON}_MODE_DONTWAKE`.
pub(super) const MODE_DONTWAKE: u64 = 1 << 0;
/// `UFFDIO_{COPY,CONTINUE}_MODE_WP`.
pub(super) const MODE_WP: u64 = 1 << 1;
/// `UFFD_EVENT_PAGEFAULT`.
pub(super) const EVENT_PAGEFAULT: u8 = 0x12;
/// `UFFD_PAGEFAULT_FLAG_WRITE`.
pub(super) const FLAG_WRITE: u64 = 1 << 0;
/// `UFFD_PAGEFAULT_FLAG_WP`.
pub(super) const FLAG_WP: u64 = 1 << 1;
/// `UFFD_PAGEFAULT_FLAG_MINOR`.
pub(super) const FLAG_MINOR: u64 = 1 << 2;

const UFFDIO: u8 = 0xAA;

nix::ioctl_readwrite!(
    /// `UFFDIO_API`.
    api, UFFDIO, 0x3F, Api
);
nix::ioctl_readwrite!(
    /// `UFFDIO_COPY`.
    copy, UFFDIO, 0x03, Copy
);
nix::ioctl_readwrite!(
    /// `UFFDIO_ZEROPAGE`.
    zeropage, UFFDIO, 0x04, Fill
);
nix::ioctl_readwrite!(
    /// `UFFDIO_CONTINUE`.
    continue_, UFFDIO, 0x07, Fill
);
nix::ioctl_readwrite!(
    /// `UFFDIO_POISON`.
    poison, UFFDIO, 0x08, Fill
);
nix::ioctl_write_int_bad!(
    /// `USERFAULTFD_IOC_NEW` of `/dev/userfaultfd`: its argument is the flags of the system call.
    new_uffd, nix::request_code_none!(UFFDIO, 0x00)
);
