//! A heap in memory that is cloned: an allocator whose whole state lies inside the range it hands out.
//!
//! ```text
//!  range.start                                                        range.end
//!  | Header | talc: bins | chunk | gap | chunk | chunk | gap ............... |
//!      |  ^                  ^
//!      |  '-- HeapRef        |         a HeapRef is the header's address: it stands in each
//!      '------- root --------'         collection that lives in the heap
//! ```
//!
//! A copy of these bytes *at the same address* in a process forked from the same image is the same heap again: its
//! free lists, its collections and the pointers between them are all right, because none leads outside. So a child [opens](Heap::open) the range and
//! finds the structure that its zygote has built, through the [root](Heap::root).
//!
//! # Why its safe functions are sound
//!
//! Rust's references say that nobody else changes what they point to. Here is who could, and what stops them:
//!
//! 1. *Other code of the process that maps or unmaps by itself.* The range lies in a live [`Reservation`], whose addresses belong to the engine. Making a
//!    heap pins the reservation's addresses for the rest of the process's life: they never become anybody else's, and a
//!    collection that outlives its heap's mapping meets a SIGSEGV, not a stranger's bytes.
//! 2. *A second heap over the same bytes.* Each process notes the ranges that it made heaps of, for ever. A second one that overlaps is refused.
//! 3. *Other threads.* [`Heap`] and [`HeapRef`] are neither `Send` nor `Sync`, and so is each collection that holds one.
//! 4. *A snapshot in the middle of a change*, asked for by another thread. The header counts the open changes (allocator calls, borrowed roots) *inside
//!    the memory*, so the clone carries the count, and opening a clone that was cut in the middle is refused.
//! 5. *Pointers that mean nothing in the process that opens the heap.* A root must be [`Stored`]: a type all of whose pointers are the heap's.
//!    A root is asked for by type; the `TypeId` in the header makes that the same type of the same binary.
//!
//! What remains is a program that reaches for the same bytes by another door which it holds on purpose: a VMO handle
//! (`vmo.write`), a second mapping of the VMO, [`Volatile`](crate::access::Volatile), a mapping of something else over the range, `/proc/self/mem`. Rust's own rule for
//! the last one holds for all: [the operating system's doors to a process's memory are outside of what safe Rust can answer
//! for](https://doc.rust-lang.org/std/os/unix/io/index.html#procselfmem-and-similar-os-features). A program that wants to be sure closes the VMO's handles once it is mapped. In the same way
//! no type can see that a collection of *another* heap was put under a root; that heap has to be cloned along with it.

use std::alloc::Layout;
use std::any::TypeId;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::num::NonZero;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use allocator_api2::alloc::{AllocError, Allocator};
pub use allocator_api2::boxed::Box;
pub use allocator_api2::vec::Vec;
use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;
use thiserror::Error;

use crate::page::{HostRange, Prot, page_size};
use crate::reserve::{Reservation, Source};

/// What a heap's first word holds: "cowheap" and the layout's number.
const MAGIC: u64 = u64::from_le_bytes(*b"cowheap\x01");

/// Why memory cannot be used as a heap, or a heap has not what was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeapError {
    /// The range is not inside one live [`Reservation`].
    #[error(
        "{0:?} is not inside memory reserved by this process: only reserved memory can hold a heap"
    )]
    NotReserved(HostRange),
    /// This process already made or opened a heap that overlaps the range.
    #[error("{0:?} overlaps a heap that this process already uses")]
    Claimed(HostRange),
    /// The range cannot hold even the allocator's own tables.
    #[error("{0} bytes are too few for a heap")]
    TooSmall(usize),
    /// The range does not begin with the header of a heap of this length.
    #[error("there is no heap at {0:?}")]
    NotAHeap(HostRange),
    /// The memory was cloned while the heap was being changed.
    #[error(
        "the heap at {0:?} was cloned in the middle of a change: clone it while no root is borrowed and no other thread uses it"
    )]
    Torn(HostRange),
    /// The heap has no root yet ([`Heap::root`]), or has one already ([`Heap::set_root`]).
    #[error("the heap {}", if *.0 { "already has a root" } else { "has no root" })]
    Root(bool),
    /// The root is of another type than the one asked for.
    #[error("the heap's root is not a {0}")]
    WrongType(&'static str),
    /// The value was allocated in another heap.
    #[error("the root lies in another heap")]
    ForeignRoot,
    /// The kernel gave no memory.
    #[error("no memory for a heap: {0}")]
    Io(#[from] io::Error),
}

/// The state of a heap, at the beginning of its memory. Only the thread that holds the [`Heap`] or a [`HeapRef`] touches it.
struct Header {
    magic: u64,
    len: usize,
    /// Changes under way; see point 4 of the module's essay. Atomic for the order of its stores, not for other threads.
    busy: AtomicU32,
    /// Bytes handed out, as asked for: the allocator's rounding not counted.
    allocated: Cell<usize>,
    root: Cell<Option<RawRoot>>,
    talc: UnsafeCell<Talc<Manual, DefaultBinning>>,
}

/// A root whose type is known only to who asks for it.
#[derive(Clone, Copy)]
struct RawRoot {
    value: NonNull<u8>,
    type_id: TypeId,
    size: usize,
}

impl Header {
    /// Marks a change as begun until the guard is dropped.
    fn change(&self) -> Change<'_> {
        self.busy
            .store(self.busy.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // Pairs with nothing in this process: it keeps the mark's store before the change's stores, so that a snapshot
        // which has any of these has the mark as well.
        fence(Ordering::Release);
        Change(self)
    }
}

struct Change<'a>(&'a Header);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        // Keeps the change's stores before the mark's removal.
        self.0
            .busy
            .store(self.0.busy.load(Ordering::Relaxed) - 1, Ordering::Release);
    }
}

/// A heap over a range of reserved memory, with one typed root. The module's text says what it is for and why it is sound.
///
/// Dropping it frees nothing: the memory is its owner's, and what lies in it may be in use through a [`HeapRef`].
#[derive(Debug)]
pub struct Heap {
    memory: HeapRef,
    range: HostRange,
}

impl Heap {
    /// Makes a new, empty heap of `range`: mapped for reading and writing, inside a live [`Reservation`]. What was there is overwritten. Where
    /// nothing is mapped the calling thread gets a SIGSEGV, as with any access.
    pub fn create(range: HostRange) -> Result<Heap, HeapError> {
        if range.len() < size_of::<Header>() + talc::min_first_heap_size::<DefaultBinning>() {
            return Err(HeapError::TooSmall(range.len()));
        }
        claim(range)?;
        let header = header_at(range);
        // SAFETY: (1) the range lies in a pinned reservation and is long enough, and page-aligned, for a Header; (2) it was claimed a moment ago, so
        // no other heap of the process refers to these bytes; (3) see the module's text for other writers.
        unsafe {
            header.write(Header {
                magic: MAGIC,
                len: range.len(),
                busy: AtomicU32::new(0),
                allocated: Cell::new(0),
                root: Cell::new(None),
                talc: UnsafeCell::new(Talc::new(Manual)),
            });
        }
        let heap = Heap {
            memory: HeapRef { header },
            range,
        };
        let first = range.start() + size_of::<Header>();
        // SAFETY: (1) `first..range.end()` belongs to this heap alone, as above, and the header does not reach into it; (2) nobody else can refer to
        // the Talc yet.
        let claimed = unsafe {
            (*heap.memory.header().talc.get()).claim(
                std::ptr::with_exposed_provenance_mut(first),
                range.end() - first,
            )
        };
        claimed
            .map(|_| heap)
            .ok_or(HeapError::TooSmall(range.len()))
    }

    /// Makes a new heap of at least `len` bytes of private anonymous memory, of which the kernel gives only what is touched: what a process has
    /// without VMOs. The memory stays until the process ends.
    pub fn create_anonymous(len: usize) -> Result<Heap, HeapError> {
        let len = len
            .checked_next_multiple_of(page_size())
            .ok_or(HeapError::TooSmall(len))?;
        let reservation = Reservation::new(len)?;
        let range = reservation.range();
        reservation.map(range, Source::Anonymous, Prot::READ | Prot::WRITE)?;
        let heap = Heap::create(range)?;
        // Dropping the reservation would take the memory away.
        std::mem::forget(reservation);
        Ok(heap)
    }

    /// Finds the heap that a zygote made at `range`, in a clone of that memory at the same address.
    pub fn open(range: HostRange) -> Result<Heap, HeapError> {
        if range.len() < size_of::<Header>() {
            return Err(HeapError::NotAHeap(range));
        }
        claim(range)?;
        let heap = Heap {
            memory: HeapRef {
                header: header_at(range),
            },
            range,
        };
        // Fields are read one by one through a raw pointer: until the magic is seen there may be no Header here.
        let header = heap.memory.header.as_ptr();
        // SAFETY: (1) as in `create`: reserved, pinned, aligned, long enough, claimed; (2) an integer has no invalid bit patterns.
        let (magic, len, busy) = unsafe {
            (
                (*header).magic,
                (*header).len,
                (*header).busy.load(Ordering::Acquire),
            )
        };
        let refused = if magic != MAGIC || len != range.len() {
            HeapError::NotAHeap(range)
        } else if busy != 0 {
            HeapError::Torn(range)
        } else {
            return Ok(heap);
        };
        // Nobody got a handle, so the range may still become a heap.
        claims().retain(|claimed| *claimed != range);
        Err(refused)
    }

    /// The memory that the heap lies in.
    pub fn range(&self) -> HostRange {
        self.range
    }

    /// A handle for collections that are to live in this heap.
    pub fn allocator(&self) -> HeapRef {
        self.memory
    }

    /// Bytes that are allocated now, as they were asked for (without the allocator's rounding).
    pub fn allocated(&self) -> usize {
        self.memory.header().allocated.get()
    }

    /// Makes `root` what [`Heap::root`] finds, here and in clones. A heap gets a root once.
    pub fn set_root<T: Stored>(&mut self, root: Box<T, HeapRef>) -> Result<(), HeapError> {
        let header = self.memory.header();
        if Box::allocator(&root).header != self.memory.header {
            return Err(HeapError::ForeignRoot);
        }
        if header.root.get().is_some() {
            return Err(HeapError::Root(true));
        }
        let _change = header.change();
        let (value, _) = Box::into_raw_with_allocator(root);
        let value = NonNull::new(value).expect("a Box is never null").cast();
        header.root.set(Some(RawRoot {
            value,
            type_id: TypeId::of::<T>(),
            size: size_of::<T>(),
        }));
        Ok(())
    }

    /// Borrows the root. While the guard lives, a snapshot of the memory taken by another thread gives a clone that [cannot be
    /// opened](HeapError::Torn).
    pub fn root<T: Stored>(&mut self) -> Result<Root<'_, T>, HeapError> {
        let header = self.memory.header();
        let root = header.root.get().ok_or(HeapError::Root(false))?;
        if root.type_id != TypeId::of::<T>() || root.size != size_of::<T>() {
            return Err(HeapError::WrongType(std::any::type_name::<T>()));
        }
        let change = header.change();
        // SAFETY: (1) the pointer came from a Box<T> in this heap, and the box's memory was given to the heap for ever; (2) the TypeId says that it
        // was this T of this binary, whose pointers, by `Stored`, lead into this heap, which is whole (`open` saw no change under way); (3) `&mut self`
        // is borrowed for as long as the reference lives, there is one Heap for these bytes in the process, and it stays on its thread.
        let value = unsafe { root.value.cast::<T>().as_mut() };
        Ok(Root {
            value,
            _change: change,
        })
    }
}

/// Exclusive access to a heap's root.
pub struct Root<'a, T> {
    value: &'a mut T,
    _change: Change<'a>,
}

impl<T> Deref for Root<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Root<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

/// The handle of a [`Heap`] that collections hold: the address of its header, and so as valid in a clone as the collection itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeapRef {
    header: NonNull<Header>,
}

impl HeapRef {
    fn header(&self) -> &Header {
        // SAFETY: (1) a HeapRef is made for a heap that exists, whose memory is pinned for the process's life; (2) all that changes
        // behind this shared reference is in cells and atomics, and it stays on one thread, as a HeapRef is not Send.
        unsafe { self.header.as_ref() }
    }
}

impl fmt::Debug for HeapRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeapRef({:p})", self.header)
    }
}

// SAFETY: (1) a block is the caller's until it is given back: that is talc's contract, and talc alone manages this memory; (2) copies of a HeapRef name the
// same heap; (3) moving a HeapRef moves no memory; (4) no call panics or unwinds.
unsafe impl Allocator for HeapRef {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            let aligned = NonZero::new(layout.align()).ok_or(AllocError)?;
            return Ok(NonNull::slice_from_raw_parts(
                NonNull::without_provenance(aligned),
                0,
            ));
        }
        let header = self.header();
        let _change = header.change();
        // SAFETY: (1) the size is not zero; (2) the reference to the Talc is the only one: each is made in a function here that calls nobody back
        // and runs on the heap's one thread.
        let block = unsafe { (*header.talc.get()).allocate(layout) }.ok_or(AllocError)?;
        header.allocated.set(header.allocated.get() + layout.size());
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        let header = self.header();
        let _change = header.change();
        // SAFETY: (1) the caller got the block from this heap with a layout that fits; (2) the only reference to the Talc, as in `allocate`.
        unsafe { (*header.talc.get()).deallocate(block.as_ptr(), layout) };
        header.allocated.set(header.allocated.get() - layout.size());
    }

    unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() != 0 && new.align() <= old.align() {
            let header = self.header();
            let _change = header.change();
            // SAFETY: (1) the caller got the block from this heap with a layout that fits `old`, and asks for no less; (2) the only reference to the
            // Talc, as in `allocate`.
            if unsafe { (*header.talc.get()).try_grow_in_place(block.as_ptr(), old, new.size()) } {
                header
                    .allocated
                    .set(header.allocated.get() + (new.size() - old.size()));
                return Ok(NonNull::slice_from_raw_parts(block, new.size()));
            }
        }
        let larger = self.allocate(new)?;
        // SAFETY: (1) both blocks are live and at least `old.size()` long; (2) a new block overlaps no live one; (3) the old one is given back once, with the
        // layout that the caller vouches for.
        unsafe {
            block.copy_to_nonoverlapping(larger.cast(), old.size());
            self.deallocate(block, old);
        }
        Ok(larger)
    }
}

/// Ranges that this process made heaps of.
static CLAIMED: Mutex<std::vec::Vec<HostRange>> = Mutex::new(std::vec::Vec::new());

fn claims() -> MutexGuard<'static, std::vec::Vec<HostRange>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `range` this process's one heap there: in memory reserved for ever, overlapping no other heap.
fn claim(range: HostRange) -> Result<(), HeapError> {
    let mut claimed = claims();
    if claimed
        .iter()
        .any(|other| other.start() < range.end() && range.start() < other.end())
    {
        return Err(HeapError::Claimed(range));
    }
    if !crate::reserve::pin(range) {
        return Err(HeapError::NotReserved(range));
    }
    claimed.push(range);
    Ok(())
}

/// The header's place. The provenance is that of the mapping, which no Rust object owns.
fn header_at(range: HostRange) -> NonNull<Header> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(range.start()))
        .expect("no reservation begins at address 0")
}

/// A type that can be a heap's root: each pointer in it leads into the heap (or is the [`HeapRef`]), so it means the same in every process that has a clone.
/// Structs get it by [`stored!`](crate::stored).
///
/// # Safety
///
/// A value must hold no reference, pointer, descriptor or index that is good only in the process (or thread) that made it.
pub unsafe trait Stored: 'static {}

macro_rules! plain {
    ($($type:ty)*) => {$(
        // SAFETY: a number or truth value points nowhere.
        unsafe impl Stored for $type {}
    )*};
}
plain!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 bool char);

// SAFETY: its elements are stored in place.
unsafe impl<T: Stored, const N: usize> Stored for [T; N] {}
// SAFETY: its elements are stored in place.
unsafe impl<T: Stored> Stored for [T] {}
// SAFETY: its value, if any, is stored in place.
unsafe impl<T: Stored> Stored for Option<T> {}
// SAFETY: its pointer leads into the heap of its allocator.
unsafe impl<T: Stored + ?Sized> Stored for Box<T, HeapRef> {}
// SAFETY: its pointer leads into the heap of its allocator.
unsafe impl<T: Stored> Stored for Vec<T, HeapRef> {}
// SAFETY: it is empty: a hasher is made anew for each use, in whichever process that is.
unsafe impl<H: 'static> Stored for std::hash::BuildHasherDefault<H> {}
// SAFETY: it is empty.
unsafe impl<T: 'static> Stored for PhantomData<T> {}
// SAFETY: (1) a table's pointer leads into the heap of its allocator, or, empty, to a constant of the program, which a process with the same
// image has at the same address; (2) the hasher is stored in place.
unsafe impl<K: Stored, V: Stored, S: Stored> Stored for hashbrown::HashMap<K, V, S, HeapRef> {}

/// Makes a struct [`Stored`](crate::heap::Stored): names all its fields with their types, each of which must be `Stored`. A field left out or of another type does not
/// compile. It can be used where `unsafe` is forbidden.
///
/// ```
/// struct Posting { document: u32, position: u32 }
/// host_memory::stored!(Posting { document: u32, position: u32 });
/// ```
///
/// ```compile_fail
/// struct Named { name: String }
/// host_memory::stored!(Named { name: String }); // a String's bytes lie in the process's own heap
/// ```
#[macro_export]
macro_rules! stored {
    ($name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        // SAFETY: all its fields are, as the bounds say; the pattern below shows that these are all.
        unsafe impl $crate::heap::Stored for $name where $($type: $crate::heap::Stored),+ {}
        const _: fn(&$name) = |value| {
            let $name { $($field),+ } = value;
            $(let _: &$type = $field;)+
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    use hashbrown::HashMap;

    const LEN: usize = 4 << 20;

    struct List {
        items: Vec<u64, HeapRef>,
    }
    crate::stored!(List { items: Vec<u64, HeapRef> });

    fn list(heap: &Heap, items: impl IntoIterator<Item = u64>) -> Box<List, HeapRef> {
        let mut list = List {
            items: Vec::new_in(heap.allocator()),
        };
        list.items.extend(items);
        Box::new_in(list, heap.allocator())
    }

    /// What a process knows that has just been forked from the image: nothing of heaps.
    fn forget_claim(heap: Heap) -> HostRange {
        let range = heap.range();
        claims().retain(|claimed| *claimed != range);
        range
    }

    #[test]
    fn blocks_lie_in_the_range_and_come_back() {
        let heap = Heap::create_anonymous(LEN).unwrap();
        let mut map = HashMap::with_hasher_in(
            std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(),
            heap.allocator(),
        );
        for key in 0..1000u64 {
            let mut value = Vec::new_in(heap.allocator());
            value.extend((0..key % 50).map(|n| n * key));
            map.insert(key, value);
        }
        for (key, value) in &map {
            assert!(value.iter().zip(0..).all(|(have, n)| *have == n * key));
            assert!(value.is_empty() || heap.range().contains(value.as_ptr().addr()));
        }
        assert!(heap.allocated() > 1000 * size_of::<u64>());
        drop(map);
        assert_eq!(heap.allocated(), 0);
    }

    #[test]
    fn alignment_is_kept_and_sizes_grow_and_shrink() {
        let heap = Heap::create_anonymous(LEN).unwrap();
        let memory = heap.allocator();
        for shift in 0..=14 {
            let small = Layout::from_size_align(24, 1 << shift).unwrap();
            let large = Layout::from_size_align(100_000, 1 << shift).unwrap();
            let block = memory.allocate(small).unwrap().cast::<u8>();
            assert!(block.addr().get().is_multiple_of(1 << shift));
            // SAFETY: the blocks are this test's own, with the layouts that they were allocated with, and written inside their lengths.
            unsafe {
                block.write_bytes(7, 24);
                let block = memory.grow(block, small, large).unwrap().cast::<u8>();
                assert!(block.addr().get().is_multiple_of(1 << shift));
                assert!((0..24).all(|at| block.add(at).read() == 7));
                assert_eq!(heap.allocated(), 100_000);
                let block = memory.shrink(block, large, small).unwrap().cast::<u8>();
                assert!((0..24).all(|at| block.add(at).read() == 7));
                memory.deallocate(block, small);
            }
            assert_eq!(heap.allocated(), 0);
        }
    }

    #[test]
    fn a_full_heap_refuses_and_goes_on() {
        let heap = Heap::create_anonymous(LEN).unwrap();
        let mut blocks = std::vec::Vec::new();
        while let Ok(block) = Box::try_new_in([0u8; 10_000], heap.allocator()) {
            blocks.push(block);
        }
        assert!(blocks.len() > LEN / 10_000 * 9 / 10);
        blocks.pop();
        assert!(Box::try_new_in([0u8; 10_000], heap.allocator()).is_ok());
    }

    #[test]
    fn a_clone_of_the_memory_is_the_heap() {
        let mut heap = Heap::create_anonymous(LEN).unwrap();
        let root = list(&heap, 0..1000);
        heap.set_root(root).unwrap();
        let allocated = heap.allocated();
        let mut opened = Heap::open(forget_claim(heap)).unwrap();
        assert_eq!(opened.allocated(), allocated);
        let memory = opened.allocator();
        let mut root = opened.root::<List>().unwrap();
        assert!(root.items.iter().copied().eq(0..1000));
        root.items.extend(1000..9000);
        assert!(root.items.allocator() == &memory && root.items.len() == 9000);
    }

    #[test]
    fn a_clone_made_during_a_change_is_refused() {
        let mut heap = Heap::create_anonymous(LEN).unwrap();
        let root = list(&heap, [1]);
        heap.set_root(root).unwrap();
        // The bytes as a snapshot would find them while the root is borrowed.
        std::mem::forget(heap.root::<List>().unwrap());
        assert!(matches!(
            Heap::open(forget_claim(heap)),
            Err(HeapError::Torn(_))
        ));
    }

    #[test]
    fn the_root_has_one_type_and_one_heap() {
        let mut heap = Heap::create_anonymous(LEN).unwrap();
        assert!(matches!(heap.root::<List>(), Err(HeapError::Root(false))));
        let other = Heap::create_anonymous(LEN).unwrap();
        let foreign = list(&other, [1]);
        assert!(matches!(
            heap.set_root(foreign),
            Err(HeapError::ForeignRoot)
        ));
        let root = list(&heap, [1, 2]);
        heap.set_root(root).unwrap();
        let second = list(&heap, [3]);
        assert!(matches!(heap.set_root(second), Err(HeapError::Root(true))));
        assert!(matches!(
            heap.root::<[u64; 3]>(),
            Err(HeapError::WrongType(_))
        ));
        assert_eq!(heap.root::<List>().unwrap().items.as_slice(), [1, 2]);
    }

    #[test]
    fn only_reserved_memory_that_is_no_heap_yet_becomes_one() {
        let heap = Heap::create_anonymous(LEN).unwrap();
        let range = heap.range();
        assert!(matches!(Heap::create(range), Err(HeapError::Claimed(_))));
        assert!(matches!(Heap::open(range), Err(HeapError::Claimed(_))));
        let tail = range.sub(LEN - page_size(), page_size()).unwrap();
        assert!(matches!(Heap::open(tail), Err(HeapError::Claimed(_))));
        assert!(matches!(
            Heap::open(HostRange::new(page_size(), page_size()).unwrap()),
            Err(HeapError::NotReserved(_))
        ));
        assert!(matches!(
            Heap::create(HostRange::new(range.start(), 0).unwrap()),
            Err(HeapError::TooSmall(0))
        ));
        let reservation = Reservation::new(page_size()).unwrap();
        reservation
            .map(
                reservation.range(),
                Source::Anonymous,
                Prot::READ | Prot::WRITE,
            )
            .unwrap();
        assert!(matches!(
            Heap::open(reservation.range()),
            Err(HeapError::NotAHeap(_))
        ));
        assert!(
            matches!(Heap::open(reservation.range()), Err(HeapError::NotAHeap(_))),
            "it was not claimed"
        );
    }
}
