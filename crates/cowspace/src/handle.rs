use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::lock::RwLock;

use crate::{info::Koid, rights::Rights, status::Status};

/// The first 1024 koids are reserved, as in Zircon.
static NEXT_KOID: AtomicU64 = AtomicU64::new(1024);

/// A koid for a new object, never given before.
pub(crate) fn new_koid() -> Koid {
    // Relaxed: only uniqueness matters, and nothing is published through the counter.
    Koid::from_raw(NEXT_KOID.fetch_add(1, Ordering::Relaxed))
}

// A handle's value, from the highest bit: slot number, generation of the slot, two bits that are always 1
// (ZX_HANDLE_FIXED_BITS_MASK), so that it is never 0.
const FIXED_BITS: u32 = 2;
const FIXED_MASK: u32 = (1 << FIXED_BITS) - 1;
const GENERATION_BITS: u32 = 10;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
const SLOT_SHIFT: u32 = FIXED_BITS + GENERATION_BITS;
const MAX_SLOTS: usize = 1 << (u32::BITS - SLOT_SHIFT);

/// So many slots rest before the one that was freed first is used again: with the generations, a closed
/// value comes back after a million others at the earliest, unless nearly all slots are in use.
const RESTING_SLOTS: usize = 1024;

/// The handles of this process: values that name an object `O` with rights.
///
/// Invariants: a slot is free exactly if it has no entry; each free slot stands in `free` once; values in
/// use are unique, because each slot has one value at a time.
///
/// Objects that a call removes are returned, or dropped after the lock is released: dropping one may end a
/// VMO or take other locks.
pub(crate) struct HandleTable<O> {
    slots: RwLock<Slots<O>>,
}

struct Slots<O> {
    slots: Vec<Slot<O>>,
    /// Slots without an entry, the one that was freed first in front.
    free: VecDeque<u32>,
}

struct Slot<O> {
    generation: u32,
    entry: Option<(O, Rights)>,
}

impl<O: Clone> HandleTable<O> {
    pub(crate) const fn new() -> HandleTable<O> {
        HandleTable {
            slots: RwLock::new(Slots {
                slots: Vec::new(),
                free: VecDeque::new(),
            }),
        }
    }

    /// A new handle. `NO_RESOURCES` if all of about a million values are in use.
    pub(crate) fn insert(&self, object: O, rights: Rights) -> Result<u32, Status> {
        // A refused object is dropped when this function returns: after the guard of the statement.
        let mut entry = Some((object, rights));
        let value = self.slots.write().insert(&mut entry);
        value.ok_or(Status::NO_RESOURCES)
    }

    /// The object and the rights that a value names.
    pub(crate) fn get(&self, raw: u32) -> Option<(O, Rights)> {
        let slots = self.slots.read();
        slots.slots[slots.find(raw)?].entry.clone()
    }

    /// Closes a handle. The object is the caller's to drop, under no lock.
    pub(crate) fn remove(&self, raw: u32) -> Option<(O, Rights)> {
        self.slots.write().remove(raw)
    }

    /// Closes several handles at one instant. Those that were there are returned with their objects, which
    /// are the caller's to drop, under no lock.
    pub(crate) fn remove_all(&self, raw: &[u32]) -> Vec<(u32, O)> {
        let mut removed = Vec::with_capacity(raw.len());
        let mut slots = self.slots.write();
        removed.extend(
            raw.iter()
                .filter_map(|&raw| Some((raw, slots.remove(raw)?.0))),
        );
        drop(slots);
        removed
    }

    /// Whether a value names an object that `is` accepts.
    pub(crate) fn names(&self, raw: u32, is: impl FnOnce(&O) -> bool) -> bool {
        let slots = self.slots.read();
        let entry = |index: usize| slots.slots[index].entry.as_ref();
        slots
            .find(raw)
            .and_then(entry)
            .is_some_and(|(object, _)| is(object))
    }

    /// How many handles have an object that `is` picks.
    pub(crate) fn count(&self, is: impl Fn(&O) -> bool) -> usize {
        let slots = self.slots.read();
        let entries = slots.slots.iter().filter_map(|slot| slot.entry.as_ref());
        entries.filter(|(object, _)| is(object)).count()
    }

    /// Another handle to the same object. In this order: `BAD_HANDLE`; without `DUPLICATE`
    /// `ACCESS_DENIED`; rights that the handle lacks `INVALID_ARGS`.
    pub(crate) fn duplicate(&self, raw: u32, rights: Rights) -> Result<u32, Status> {
        let (object, held) = self.get(raw).ok_or(Status::BAD_HANDLE)?;
        if !held.contains(Rights::DUPLICATE) {
            return Err(Status::ACCESS_DENIED);
        }
        self.insert(object, reduced(held, rights)?)
    }

    /// A handle with fewer rights in place of this one, which is closed in any case: `BAD_HANDLE` if it was
    /// none, `INVALID_ARGS` for rights that it lacked.
    pub(crate) fn replace(&self, raw: u32, rights: Rights) -> Result<u32, Status> {
        let mut entry;
        let replaced = {
            let mut slots = self.slots.write();
            let (object, held) = slots.remove(raw).ok_or(Status::BAD_HANDLE)?;
            entry = Some((object, held));
            reduced(held, rights).and_then(|rights| {
                entry = entry.take().map(|(object, _)| (object, rights));
                // In the same critical section, so that a slot is free for it.
                slots.insert(&mut entry).ok_or(Status::NO_RESOURCES)
            })
        };
        drop(entry);
        replaced
    }

    /// Shows the object of each handle. With the table locked, and no object is held: one that is closed meanwhile ends at once.
    pub(crate) fn each(&self, see: impl FnMut(&O)) {
        let slots = self.slots.read();
        let entries = slots.slots.iter().filter_map(|slot| slot.entry.as_ref());
        entries.map(|(object, _)| object).for_each(see);
    }

    /// All handles at one instant.
    pub(crate) fn entries(&self) -> Vec<(u32, O, Rights)> {
        let slots = self.slots.read();
        let entry = |(index, slot): (usize, &Slot<O>)| {
            let (object, rights) = slot.entry.clone()?;
            Some((value(index, slot.generation), object, rights))
        };
        slots.slots.iter().enumerate().filter_map(entry).collect()
    }
}

impl<O> Slots<O> {
    /// The index of the slot in use that a value names.
    fn find(&self, raw: u32) -> Option<usize> {
        let index = (raw >> SLOT_SHIFT) as usize;
        let slot = self.slots.get(index)?;
        (slot.entry.is_some() && raw == value(index, slot.generation)).then_some(index)
    }

    /// Takes the entry if there is room for it.
    fn insert(&mut self, entry: &mut Option<(O, Rights)>) -> Option<u32> {
        let full = self.slots.len() >= MAX_SLOTS;
        let index = if self.free.len() > RESTING_SLOTS || full {
            self.free.pop_front()? as usize
        } else {
            self.slots.push(Slot {
                generation: 0,
                entry: None,
            });
            self.slots.len() - 1
        };
        let slot = &mut self.slots[index];
        slot.entry = entry.take();
        Some(value(index, slot.generation))
    }

    fn remove(&mut self, raw: u32) -> Option<(O, Rights)> {
        let index = self.find(raw)?;
        let slot = &mut self.slots[index];
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push_back(raw >> SLOT_SHIFT);
        slot.entry.take()
    }
}

fn value(index: usize, generation: u32) -> u32 {
    // An index is below MAX_SLOTS, so it fits.
    (index as u32) << SLOT_SHIFT | generation << FIXED_BITS | FIXED_MASK
}

/// The rights that a duplicate or replacement gets: those asked for if the handle has them all.
fn reduced(held: Rights, asked: Rights) -> Result<Rights, Status> {
    if asked == Rights::SAME_RIGHTS {
        Ok(held)
    } else if held.contains(asked) {
        Ok(asked)
    } else {
        Err(Status::INVALID_ARGS)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        sync::Arc,
    };

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn koids_are_unique_and_not_reserved() {
        let (a, b) = (new_koid(), new_koid());
        assert!(a.raw_koid() >= 1024);
        assert_ne!(a, b);
    }

    #[test]
    fn values_are_like_zircons() {
        let table = HandleTable::new();
        let values: Vec<u32> = (0..5000)
            .map(|i| table.insert(i, Rights::NONE).unwrap())
            .collect();
        assert!(values.iter().all(|v| v & 3 == 3));
        assert_eq!(values.iter().collect::<HashSet<_>>().len(), values.len());
        for (i, &value) in values.iter().enumerate() {
            assert_eq!(table.get(value), Some((i, Rights::NONE)));
            assert_eq!(table.get(value & !1), None);
            assert_eq!(table.get(value & !2), None);
        }
        assert_eq!(table.get(0), None);
        assert_eq!(table.get(u32::MAX), None);
    }

    #[test]
    fn a_closed_value_does_not_come_back_soon() {
        let table = HandleTable::new();
        let closed: HashSet<u32> = (0..100_000)
            .map(|_| {
                let value = table.insert((), Rights::NONE).unwrap();
                assert!(table.remove(value).is_some());
                assert!(table.remove(value).is_none());
                value
            })
            .collect();
        assert_eq!(closed.len(), 100_000);
        assert!(table.slots.read().slots.len() <= RESTING_SLOTS + 2);
    }

    #[test]
    fn a_full_table_refuses_and_recovers() {
        let table = HandleTable::new();
        let object = Arc::new(());
        let value = table.insert(object.clone(), Rights::DUPLICATE).unwrap();
        for _ in 1..MAX_SLOTS {
            table.insert(object.clone(), Rights::NONE).unwrap();
        }
        assert_eq!(
            table.insert(object.clone(), Rights::NONE),
            Err(Status::NO_RESOURCES)
        );
        assert_eq!(
            table.duplicate(value, Rights::NONE),
            Err(Status::NO_RESOURCES)
        );
        assert_eq!(Arc::strong_count(&object), MAX_SLOTS + 1);
        let replaced = table.replace(value, Rights::NONE).unwrap();
        assert!(table.get(value).is_none());
        assert!(table.remove(replaced).is_some());
        assert!(table.insert(object, Rights::NONE).is_ok());
    }

    #[test]
    fn duplicate_statuses_in_order() {
        let table = HandleTable::new();
        let rights = Rights::VMO_DEFAULT;
        let handle = table.insert("vmo", rights).unwrap();
        let plain = table.insert("vmo", Rights::READ).unwrap();
        let more = Rights::READ | Rights::EXECUTE;
        assert_eq!(table.duplicate(0, more), Err(Status::BAD_HANDLE));
        assert_eq!(table.duplicate(plain, more), Err(Status::ACCESS_DENIED));
        assert_eq!(table.duplicate(handle, more), Err(Status::INVALID_ARGS));
        let same_and_read = Rights::SAME_RIGHTS | Rights::READ;
        assert_eq!(
            table.duplicate(handle, same_and_read),
            Err(Status::INVALID_ARGS)
        );
        for (asked, given) in [
            (Rights::SAME_RIGHTS, rights),
            (rights, rights),
            (Rights::READ, Rights::READ),
            (Rights::NONE, Rights::NONE),
        ] {
            let duplicate = table.duplicate(handle, asked).unwrap();
            assert_eq!(table.get(duplicate), Some(("vmo", given)));
        }
        assert_eq!(table.get(handle), Some(("vmo", rights)));
    }

    #[test]
    fn replace_always_consumes() {
        let table = HandleTable::new();
        let object = Arc::new(());
        assert_eq!(table.replace(3, Rights::NONE), Err(Status::BAD_HANDLE));
        let handle = table.insert(object.clone(), Rights::READ).unwrap();
        assert_eq!(
            table.replace(handle, Rights::WRITE),
            Err(Status::INVALID_ARGS)
        );
        assert!(table.get(handle).is_none());
        assert_eq!(
            table.replace(handle, Rights::WRITE),
            Err(Status::BAD_HANDLE)
        );
        let handle = table.insert(object.clone(), Rights::READ).unwrap();
        let replaced = table.replace(handle, Rights::SAME_RIGHTS).unwrap();
        assert_ne!(replaced, handle);
        assert_eq!(table.get(replaced).map(|e| e.1), Some(Rights::READ));
        assert_eq!(table.remove(handle), None);
    }

    #[test]
    fn objects_are_dropped_outside_of_the_lock() {
        /// Uses the table while it is dropped: would deadlock under the lock.
        struct Closer(Arc<HandleTable<Option<Arc<Closer>>>>);
        impl Drop for Closer {
            fn drop(&mut self) {
                self.0.insert(None, Rights::NONE).unwrap();
            }
        }
        let table = Arc::new(HandleTable::new());
        let closer = || Some(Arc::new(Closer(table.clone())));
        let handle = table.insert(closer(), Rights::NONE).unwrap();
        drop(table.remove(handle));
        let handle = table.insert(closer(), Rights::NONE).unwrap();
        assert_eq!(
            table.replace(handle, Rights::READ),
            Err(Status::INVALID_ARGS)
        );
        assert_eq!(table.entries().len(), 2);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert,
        Remove(usize),
        Replace(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            2 => Just(Op::Insert),
            1 => any::<usize>().prop_map(Op::Remove),
            1 => any::<usize>().prop_map(Op::Replace),
        ]
    }

    proptest! {
        #[test]
        fn acts_like_a_map(ops in prop::collection::vec(op(), 1..200)) {
            let table = HandleTable::new();
            let mut model = HashMap::new();
            let mut values = Vec::new();
            for (i, op) in ops.into_iter().enumerate() {
                let pick = |at: usize| values.get(at % values.len().max(1)).copied();
                match op {
                    Op::Insert => {
                        let value = table.insert(i, Rights::READ).unwrap();
                        prop_assert!(model.insert(value, i).is_none());
                        values.push(value);
                    }
                    Op::Remove(at) => if let Some(value) = pick(at) {
                        let removed = table.remove(value).map(|e| e.0);
                        prop_assert_eq!(removed, model.remove(&value));
                    },
                    Op::Replace(at) => if let Some(value) = pick(at) {
                        let replaced = table.replace(value, Rights::READ);
                        match model.remove(&value) {
                            None => prop_assert_eq!(replaced, Err(Status::BAD_HANDLE)),
                            Some(object) => {
                                let value = replaced.unwrap();
                                prop_assert!(model.insert(value, object).is_none());
                                values.push(value);
                            }
                        }
                    },
                }
                let entries = table.entries().into_iter();
                let entries: HashMap<_, _> = entries.map(|(v, o, _)| (v, o)).collect();
                prop_assert_eq!(&entries, &model);
            }
        }
    }
}
