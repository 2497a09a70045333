//! The crate talc, with memory from VMOs: many small mappings, which are unmapped when they are free.

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use host_memory::page;
use talc::DefaultBinning;
use talc::base::binning::Binning;
use talc::base::{CHUNK_UNIT, Talc};
use talc::source::Source;

use crate::calls;

/// Small, so that the heap grows often.
const SMALLEST: usize = 16 << 10;

/// Memory that a thread asks for and gives back.
pub(crate) struct Heap(Mutex<Talc<Mappings, DefaultBinning>>);

/// What the heap lies in.
#[derive(Debug, Default)]
struct Mappings {
    now: Vec<Range<usize>>,
    /// Of all time.
    made: usize,
    ended: usize,
}

// SAFETY: it does not use the talc that asks, and the memory is its own until it is given back.
unsafe impl Source for Mappings {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let mut need = layout.size() + layout.align() + 4 * CHUNK_UNIT;
        if !talc.is_metadata_established() {
            need += talc::min_first_heap_size::<B>();
        }
        let len = need.next_multiple_of(SMALLEST.max(page::page_size()));
        let memory = calls::map_new(len).map_err(drop)?;
        // SAFETY: it was mapped just now, and nobody else knows of it.
        unsafe { talc.claim(memory.start as *mut u8, len) }.ok_or(())?;
        talc.source.now.push(memory);
        talc.source.made += 1;
        Ok(())
    }

    const TRACK_HEAP_END: bool = true;

    unsafe fn resize(&mut self, base: *mut u8, end: *mut u8, is_heap_base: bool) -> *mut u8 {
        if !is_heap_base {
            return end;
        }
        let inside = |memory: &Range<usize>| memory.contains(&base.addr());
        let place = self.now.iter().position(inside).expect("a mapping");
        // SAFETY: nothing of it is allocated, and talc forgets it.
        unsafe { calls::unmap(&self.now.swap_remove(place)) };
        self.ended += 1;
        base
    }
}

impl Heap {
    pub(crate) fn new() -> Heap {
        Heap(Mutex::new(Talc::new(Mappings::default())))
    }

    fn talc(&self) -> MutexGuard<'_, Talc<Mappings, DefaultBinning>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn allocate(&self, len: usize) -> usize {
        // SAFETY: the size is not zero.
        let block = unsafe { self.talc().allocate(layout(len)) };
        block.map(NonNull::as_ptr).expect("memory").addr()
    }

    /// # Safety
    ///
    /// The block is this heap's, of this length, and nobody uses it any more.
    pub(crate) unsafe fn free(&self, at: usize, len: usize) {
        // SAFETY: the caller's.
        unsafe { self.talc().deallocate(at as *mut u8, layout(len)) };
    }

    /// Another length for a block, which keeps its first bytes.
    ///
    /// # Safety
    ///
    /// As [`Heap::free`].
    pub(crate) unsafe fn reallocate(&self, at: usize, old: usize, new: usize) -> usize {
        // SAFETY: the caller's; the new size is not zero.
        if unsafe {
            self.talc()
                .try_realloc_in_place(at as *mut u8, layout(old), new)
        } {
            return at;
        }
        let moved = self.allocate(new);
        // SAFETY: both blocks are as long, and the caller's.
        unsafe {
            (at as *const u8).copy_to_nonoverlapping(moved as *mut u8, old.min(new));
            self.free(at, old);
        }
        moved
    }

    /// What it lies in now.
    pub(crate) fn mappings(&self) -> Vec<Range<usize>> {
        self.talc().source.now.clone()
    }

    /// How many mappings there have been, and how many of them are no more.
    pub(crate) fn grown_and_shrunk(&self) -> (usize, usize) {
        let talc = self.talc();
        (talc.source.made, talc.source.ended)
    }

    /// # Safety
    ///
    /// All blocks were given back, so that nothing is left but what talc keeps for itself.
    pub(crate) unsafe fn end(self) {
        let talc = self.0.into_inner().expect("no panic");
        for memory in &talc.source.now {
            // SAFETY: nobody knows of it but this talc, which does not look at it as it ends.
            unsafe { calls::unmap(memory) };
        }
    }
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, 16).expect("a layout")
}
