//! Buffers of the engine's own, through which bytes pass on their way between a caller and a VMO.

use std::sync::OnceLock;

use memmap2::MmapMut;

use crate::lock::{Mutex, MutexGuard};
use crate::report::no_memory;
use crate::status::Status;
use host_memory::page::page_size;

/// Bytes are moved in pieces of this many pages at most, so that no lock is held for long.
const PIECE_PAGES: usize = 32;

/// So many buffers are kept. Calls use one or two at a time.
const KEPT: usize = 16;

static POOL: OnceLock<Vec<Mutex<MmapMut>>> = OnceLock::new();

/// A buffer, mapped and not allocated: the program's allocator may live in a VMO. It holds what the last user left in it.
///
/// Reading and writing must work when the process has no mappings left to make, so buffers are made beforehand and taken in turns. If all are taken a new one is mapped: nobody waits
/// for one, not with a lock held and not while the world is stopped.
pub(crate) enum Bounce {
    /// Locked as long as it is in use.
    Kept(MutexGuard<'static, MmapMut>),
    Own(MmapMut),
}

impl Bounce {
    /// Makes the buffers that are kept, as far as there is room.
    pub(crate) fn prepare() {
        POOL.get_or_init(|| {
            (0..KEPT)
                .map_while(|_| Some(Mutex::new(map().ok()?)))
                .collect()
        });
    }

    /// # Errors
    ///
    /// `NO_MEMORY`, if all that are kept are in use.
    pub(crate) fn new() -> Result<Bounce, Status> {
        let kept = POOL.get().into_iter().flatten();
        match kept.filter_map(Mutex::try_lock).next() {
            Some(free) => Ok(Bounce::Kept(free)),
            None => map()
                .map(Bounce::Own)
                .map_err(no_memory("mapping a bounce buffer")),
        }
    }

    /// One that holds zeros.
    ///
    /// # Errors
    ///
    /// As [`Bounce::new`].
    pub(crate) fn zeros() -> Result<Bounce, Status> {
        let mut bounce = Bounce::new()?;
        bounce.all().fill(0);
        Ok(bounce)
    }

    /// A piece for at most `want` bytes from offset `at` on, which ends at a page boundary if it does not end before.
    pub(crate) fn piece(&mut self, at: u64, want: usize) -> &mut [u8] {
        let all = self.all();
        let len = all.len() - (at % page_size() as u64) as usize;
        &mut all[..want.min(len)]
    }

    /// All of it, to look at.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Bounce::Kept(buffer) => buffer,
            Bounce::Own(buffer) => buffer,
        }
    }

    /// All of it.
    pub(crate) fn all(&mut self) -> &mut [u8] {
        match self {
            Bounce::Kept(buffer) => buffer,
            Bounce::Own(buffer) => buffer,
        }
    }
}

fn map() -> std::io::Result<MmapMut> {
    MmapMut::map_anon(PIECE_PAGES * page_size())
}
