//! Loads and stores in memory that somebody else maps, changes and serves: [`Volatile`].
//!
//! The memory of a [`Reservation`](crate::reserve::Reservation) is written by other threads, replaced by other mappings and filled by a fault handler; so it must
//! never be seen through a `&` or `&mut`. [`Volatile`] reaches it by relaxed atomic accesses: such an access may race with any other, and each is done once, in program order
//! for one thread and one address.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};

use nix::errno::Errno;

use crate::reserve::{self, Span};

const WORD: usize = size_of::<u64>();

/// Access to bytes inside a reservation. It keeps the addresses from being given to anybody else; what is mapped there, it does not know.
///
/// An access that the mapping does not allow, or that cannot be resolved, is a SIGSEGV or SIGBUS, as for any other program. Offsets are bytes from the start. An access over the
/// end panics, as indexing a slice does.
#[derive(Clone, Debug)]
pub struct Volatile {
    addr: usize,
    len: usize,
    /// Keeps the addresses ours.
    _span: Arc<Span>,
}

impl Volatile {
    /// The `len` bytes at `addr`; `None` if they are not all inside one live reservation.
    #[must_use]
    pub fn new(addr: usize, len: usize) -> Option<Volatile> {
        let span = reserve::find(addr, len)?;
        Some(Volatile {
            addr,
            len,
            _span: span,
        })
    }

    /// The address of the first byte.
    #[must_use]
    pub fn addr(&self) -> usize {
        self.addr
    }

    /// The length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody makes one of 0 bytes")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Makes whole huge pages of the whole huge pages' worth of memory inside (`MADV_COLLAPSE`, Linux 6.1; a memory file's too, whatever the system's setting
    /// for huge pages in shared memory). Changes no byte and waits until it is done: about 1 ms for each MiB.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the first byte is not a page's first, the kernel cannot collapse such memory, or there is no whole huge page inside. `ENOMEM`, `EAGAIN`, `EBUSY`: no huge page was to be had, or a page is in use
    /// otherwise; a part may be done.
    pub fn collapse(&self) -> io::Result<()> {
        let pointer = std::ptr::with_exposed_provenance_mut(self.addr);
        // SAFETY: 1. the range lies in a span that `self` keeps alive, and no Rust object lies there. 2. MADV_COLLAPSE moves bytes to other pages of memory and changes
        // none, at once for every other thread.
        Errno::result(unsafe { libc::madvise(pointer, self.len, libc::MADV_COLLAPSE) })?;
        Ok(())
    }

    /// Gives a part of it pages of its own, as stores to each page would, without changing a byte (`MADV_POPULATE_WRITE`, Linux 5.14): one call instead of a fault for each page.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the first byte is not a page's first, the part cannot be written to, or the kernel is older. `EFAULT`: a page cannot be had. A part may be done.
    ///
    /// # Panics
    /// If the bytes are not all inside.
    pub fn populate_write(&self, offset: usize, len: usize) -> io::Result<()> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "{len} bytes at {offset} of {}", self.len);
        let pointer = std::ptr::with_exposed_provenance_mut(self.addr + offset);
        // SAFETY: 1. the range lies in a span that `self` keeps alive, and no Rust object lies there. 2. MADV_POPULATE_WRITE does what a store of what is there already would.
        Errno::result(unsafe { libc::madvise(pointer, len, libc::MADV_POPULATE_WRITE) })?;
        Ok(())
    }

    /// Loads one byte.
    ///
    /// # Panics
    /// If `offset` is not inside.
    #[must_use]
    pub fn load_u8(&self, offset: usize) -> u8 {
        self.byte(offset).load(Relaxed)
    }

    /// Stores one byte.
    ///
    /// # Panics
    /// If `offset` is not inside.
    pub fn store_u8(&self, offset: usize, value: u8) {
        self.byte(offset).store(value, Relaxed);
    }

    /// Loads eight bytes at once, in the machine's byte order.
    ///
    /// # Panics
    /// If they are not all inside, or their address is not a multiple of 8.
    #[must_use]
    pub fn load_u64(&self, offset: usize) -> u64 {
        self.word(offset).load(Relaxed)
    }

    /// Stores eight bytes at once, in the machine's byte order.
    ///
    /// # Panics
    /// If they are not all inside, or their address is not a multiple of 8.
    pub fn store_u64(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Relaxed);
    }

    /// Loads all of `buf` from `offset`, in ascending order, by words where it can; not atomic as a whole. `buf` lies elsewhere.
    ///
    /// # Panics
    /// If the bytes are not all inside.
    pub fn read(&self, offset: usize, buf: &mut [u8]) {
        let (head, middle) = self.split(offset, buf.len());
        let (first, rest) = buf.split_at_mut(head);
        let (words, last) = rest.split_at_mut(middle);
        let load_bytes = |bytes: &mut [u8], at: usize| {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = self.load_u8(at + i);
            }
        };
        load_bytes(first, offset);
        let (words, _) = words.as_chunks_mut::<WORD>();
        for (word, there) in words.iter_mut().zip(self.words(offset + head, middle)) {
            *word = there.load(Relaxed).to_ne_bytes();
        }
        load_bytes(last, offset + head + middle);
    }

    /// Stores all of `buf` from `offset`, in ascending order, by words where it can; not atomic as a whole. `buf` lies elsewhere.
    ///
    /// # Panics
    /// If the bytes are not all inside.
    pub fn write(&self, offset: usize, buf: &[u8]) {
        let (head, middle) = self.split(offset, buf.len());
        let (first, rest) = buf.split_at(head);
        let (words, last) = rest.split_at(middle);
        let store_bytes = |bytes: &[u8], at: usize| {
            for (i, byte) in bytes.iter().enumerate() {
                self.store_u8(at + i, *byte);
            }
        };
        store_bytes(first, offset);
        let (words, _) = words.as_chunks::<WORD>();
        for (word, there) in words.iter().zip(self.words(offset + head, middle)) {
            there.store(u64::from_ne_bytes(*word), Relaxed);
        }
        store_bytes(last, offset + head + middle);
    }

    /// How many bytes come before the first aligned word, and how many are in aligned words.
    fn split(&self, offset: usize, len: usize) -> (usize, usize) {
        let start = self.at(offset, len);
        let head = (start.next_multiple_of(WORD) - start).min(len);
        (head, (len - head) / WORD * WORD)
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        let pointer = std::ptr::with_exposed_provenance_mut(self.at(offset, 1));
        // SAFETY: 1. the byte lies in a span that `self` keeps alive, and no Rust object lies there. 2. All Rust code reaches it by atomic
        // accesses (this module's). 3. Whatever is mapped there, an access gives some byte or a signal.
        unsafe { AtomicU8::from_ptr(pointer) }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words(offset, WORD)[0]
    }

    /// So many bytes, of whole words.
    fn words(&self, offset: usize, len: usize) -> &[AtomicU64] {
        if len == 0 {
            // Wherever that is.
            return &[];
        }
        let addr = self.at(offset, len);
        assert!(
            addr.is_multiple_of(align_of::<AtomicU64>()),
            "offset {offset} is not at a multiple of 8"
        );
        let pointer = std::ptr::with_exposed_provenance(addr);
        // SAFETY: as in `byte`, of each word: all `len` bytes are inside, and an AtomicU64 has the size of a word. 4. The address is aligned for it, as checked above.
        unsafe { std::slice::from_raw_parts(pointer, len / WORD) }
    }

    /// The address of `len` bytes that must be inside.
    fn at(&self, offset: usize, len: usize) -> usize {
        let inside = offset <= self.len && len <= self.len - offset;
        assert!(
            inside,
            "{len} bytes at offset {offset} are not inside of {} bytes",
            self.len
        );
        self.addr + offset
    }
}
