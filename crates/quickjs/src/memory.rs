//! The allocation functions of a runtime, over the heap that the runtime itself lies in.

use std::alloc::Layout;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use allocator_api2::alloc::Allocator;
use host_memory::heap::HeapRef;
use rquickjs_sys::{JS_SetGCThreshold, JSMallocFunctions, JSRuntime, size_t};

/// What malloc(3) aligns to on the machines that there are, and QuickJS relies on.
const ALIGN: usize = 16;

/// Before each block: its size. QuickJS gives back a pointer alone, the heap wants the size as well.
const HEADER: usize = ALIGN;

/// What a runtime allocates from. It lies in the heap, and QuickJS has its address.
pub(crate) struct Memory {
    heap: HeapRef,
    /// Bytes given to QuickJS, with what is around them.
    used: Cell<usize>,
    /// As many there may be.
    limit: Cell<usize>,
    refused: Cell<bool>,
    /// How much more there may be before garbage is worth a look; see [`Memory::count`].
    step: Cell<usize>,
    /// The fewest bytes in use since garbage was last looked for.
    low: Cell<usize>,
    /// Whose garbage it is.
    runtime: Cell<Option<NonNull<JSRuntime>>>,
}

/// For JS_NewRuntime2, whose opaque value is the address of the [`Memory`].
pub(crate) const FUNCTIONS: JSMallocFunctions = JSMallocFunctions {
    js_calloc: Some(calloc),
    js_malloc: Some(malloc),
    js_free: Some(free),
    js_realloc: Some(realloc),
    js_malloc_usable_size: Some(usable_size),
};

impl Memory {
    pub(crate) fn new(heap: HeapRef) -> Memory {
        Memory {
            heap,
            used: Cell::new(0),
            limit: Cell::new(usize::MAX),
            refused: Cell::new(false),
            step: Cell::new(usize::MAX),
            low: Cell::new(0),
            runtime: Cell::new(None),
        }
    }

    /// Names the runtime, whose garbage is collected when there may be too much.
    ///
    /// # Safety
    ///
    /// The runtime allocates from here, and lives as long as anybody does.
    pub(crate) unsafe fn serve(&self, runtime: NonNull<JSRuntime>) {
        self.runtime.set(Some(runtime));
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    /// Allows so many bytes more than are in use now; `None` for as many as the heap has. Forgets what was refused.
    pub(crate) fn allow(&self, more: Option<usize>) {
        let limit = more.map_or(usize::MAX, |more| self.used().saturating_add(more));
        self.limit.set(limit);
        self.refused.set(false);
        self.step.set(more.map_or(usize::MAX, |more| more / 4));
        self.low.set(self.used());
    }

    /// Whether QuickJS has been refused memory since [`Memory::allow`].
    pub(crate) fn refused(&self) -> bool {
        self.refused.get()
    }

    /// Notes how much is in use. If a quarter of the allowance has come into use since garbage was last looked for, it is to be looked for again, so that none is held against the limit.
    ///
    /// QuickJS's own rule is half of all that is in use, which in a warmed heap can be far more than a script may have.
    fn count(&self, used: usize) {
        self.used.set(used);
        let low = self.low.get().min(used);
        let look = used - low > self.step.get();
        self.low.set(if look { used } else { low });
        if look && let Some(runtime) = self.runtime.get() {
            // SAFETY: by `serve` the runtime is alive. This sets a number that is read when it next makes an object: then it collects, and sets another one.
            unsafe { JS_SetGCThreshold(runtime.as_ptr(), 0) };
        }
    }

    /// Whether the bytes in use may be `grown` more.
    fn may_grow(&self, grown: usize) -> Option<()> {
        let allowed = self
            .used()
            .checked_add(grown)
            .is_some_and(|used| used <= self.limit.get());
        allowed.then_some(())
    }

    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        let layout = layout(size)?;
        self.may_grow(layout.size())?;
        let start = self.heap.allocate(layout).ok()?.cast();
        self.count(self.used() + layout.size());
        // SAFETY: the block was got a moment ago and begins with HEADER bytes of room.
        Some(unsafe { finish(start, layout) })
    }

    /// # Safety
    ///
    /// `block` is a live block of this memory, which nobody uses afterwards.
    unsafe fn deallocate(&self, block: NonNull<u8>) {
        // SAFETY: by the caller, the block is live and of this heap, and its header says with which layout it was got.
        unsafe {
            let (start, layout) = parts(block);
            self.heap.deallocate(start, layout);
            self.count(self.used() - layout.size());
        }
    }

    /// # Safety
    ///
    /// As [`Memory::deallocate`], unless the result is `None`: then the block stays as it is.
    unsafe fn resize(&self, block: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        let new = layout(size)?;
        // SAFETY: by the caller, the block is live.
        let (start, old) = unsafe { parts(block) };
        let moved = if new.size() > old.size() {
            self.may_grow(new.size() - old.size())?;
            // SAFETY: by the caller, the block is live and of this heap; `old` is its layout, and `new` is no smaller.
            unsafe { self.heap.grow(start, old, new) }
        } else if new.size() <= old.size() / 2 {
            // SAFETY: as above, and `new` is no larger.
            unsafe { self.heap.shrink(start, old, new) }
        } else {
            // Moving would cost more than it saves.
            return Some(block);
        };
        let start = moved.ok()?.cast();
        self.count(self.used() - old.size() + new.size());
        // SAFETY: the block at `start` is live and begins with HEADER bytes of room.
        Some(unsafe { finish(start, new) })
    }

    /// For QuickJS: null, and a note of it, where there is nothing.
    fn answer(&self, block: Option<NonNull<u8>>) -> *mut c_void {
        self.refused.set(self.refused() || block.is_none());
        block.map_or(null_mut(), |block| block.as_ptr().cast())
    }
}

/// The layout in the heap of a block of `size` bytes for QuickJS.
fn layout(size: usize) -> Option<Layout> {
    let all = size.checked_add(HEADER)?.checked_next_multiple_of(ALIGN)?;
    Layout::from_size_align(all, ALIGN).ok()
}

/// Writes the header. The result is what QuickJS gets.
///
/// # Safety
///
/// HEADER bytes at `start` can be written to.
unsafe fn finish(start: NonNull<u8>, layout: Layout) -> NonNull<u8> {
    // SAFETY: (1) by the caller; (2) blocks are aligned for more than a usize.
    unsafe {
        start.cast().write(layout.size());
        start.add(HEADER)
    }
}

/// The place in the heap and the layout of a block.
///
/// # Safety
///
/// `block` is live.
unsafe fn parts(block: NonNull<u8>) -> (NonNull<u8>, Layout) {
    // SAFETY: (1) `finish` wrote the size there; (2) it came out of a valid layout with this alignment.
    unsafe {
        let start = block.sub(HEADER);
        (
            start,
            Layout::from_size_align_unchecked(start.cast().read(), ALIGN),
        )
    }
}

/// # Safety
///
/// `opaque` is what QuickJS was given with these functions.
unsafe fn memory<'a>(opaque: *mut c_void) -> &'a Memory {
    // SAFETY: (1) a Memory in a heap is never freed or moved; (2) what changes in it is in cells, and it stays on the heap's one thread.
    unsafe { &*opaque.cast::<Memory>() }
}

unsafe extern "C" fn malloc(opaque: *mut c_void, size: size_t) -> *mut c_void {
    // SAFETY: QuickJS's call of its allocation function.
    let memory = unsafe { memory(opaque) };
    memory.answer(memory.allocate(size as usize))
}

unsafe extern "C" fn calloc(opaque: *mut c_void, count: size_t, size: size_t) -> *mut c_void {
    // SAFETY: QuickJS's call of its allocation function.
    let memory = unsafe { memory(opaque) };
    let size = (count as usize).checked_mul(size as usize);
    let block = size.and_then(|size| {
        let block = memory.allocate(size)?;
        // SAFETY: the block is new and has so many bytes.
        unsafe { block.write_bytes(0, size) };
        Some(block)
    });
    memory.answer(block)
}

unsafe extern "C" fn free(opaque: *mut c_void, block: *mut c_void) {
    if let Some(block) = NonNull::new(block) {
        // SAFETY: QuickJS's call of its allocation function, with a block that it got from one and gives back.
        unsafe { memory(opaque).deallocate(block.cast()) };
    }
}

unsafe extern "C" fn realloc(opaque: *mut c_void, block: *mut c_void, size: size_t) -> *mut c_void {
    // SAFETY: QuickJS's call of its allocation function.
    let memory = unsafe { memory(opaque) };
    match NonNull::new(block) {
        None => memory.answer(memory.allocate(size as usize)),
        Some(block) if size == 0 => {
            // SAFETY: QuickJS gives the block back.
            unsafe { memory.deallocate(block.cast()) };
            null_mut()
        }
        // SAFETY: QuickJS goes on with the result, or with the block if there is none.
        Some(block) => memory.answer(unsafe { memory.resize(block.cast(), size as usize) }),
    }
}

unsafe extern "C" fn usable_size(block: *const c_void) -> size_t {
    let usable = NonNull::new(block.cast_mut()).map_or(0, |block| {
        // SAFETY: QuickJS asks of a live block of its own.
        let (_, layout) = unsafe { parts(block.cast()) };
        layout.size() - HEADER
    });
    usable as size_t
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_memory::heap::Heap;

    #[test]
    fn blocks_are_zeroed_moved_counted_and_refused() {
        let heap = Heap::create_anonymous(1 << 20).unwrap();
        let memory = Memory::new(heap.allocator());
        let opaque = (&raw const memory).cast_mut().cast();
        // SAFETY: the functions are called as QuickJS does, each block once given back.
        unsafe {
            let dirty = malloc(opaque, 100);
            assert!(dirty.addr().is_multiple_of(ALIGN) && usable_size(dirty) >= 100);
            dirty
                .cast::<u8>()
                .write_bytes(0xff, usable_size(dirty) as usize);
            free(opaque, dirty);
            let block = calloc(opaque, 10, 10).cast::<u8>();
            assert!((0..100).all(|at| *block.add(at) == 0));
            block.write_bytes(7, 100);
            let block = realloc(opaque, block.cast(), 5000).cast::<u8>();
            assert!((0..100).all(|at| *block.add(at) == 7));
            assert!(usable_size(block.cast()) >= 5000 && memory.used() >= 5000);
            let block = realloc(opaque, block.cast(), 10).cast::<u8>();
            assert!((0..10).all(|at| *block.add(at) == 7) && memory.used() < 100);
            assert_eq!(heap.allocated(), memory.used());
            memory.allow(Some(1000));
            assert!(malloc(opaque, 2000).is_null() && memory.refused());
            assert!(realloc(opaque, block.cast(), 2000).is_null());
            memory.allow(None);
            assert!(!memory.refused() && calloc(opaque, size_t::MAX, 2).is_null());
            assert!(malloc(opaque, size_t::MAX - 3).is_null() && memory.refused());
            free(opaque, block.cast());
            free(opaque, null_mut());
        }
        assert_eq!((memory.used(), heap.allocated()), (0, 0));
    }
}
