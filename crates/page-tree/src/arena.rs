//! Values with keys that are never valid again once the value is removed.

use std::ops::{Index, IndexMut};

/// The name of a value in one arena.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Slots that are used again, each time under a new generation.
#[derive(Clone, Debug)]
pub(crate) struct Arena<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Arena<T> {
    pub(crate) fn insert(&mut self, value: T) -> Key {
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.value = Some(value);
                Key {
                    index,
                    generation: slot.generation,
                }
            }
            None => {
                let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 nodes");
                self.slots.push(Slot {
                    generation: 0,
                    value: Some(value),
                });
                Key {
                    index,
                    generation: 0,
                }
            }
        }
    }

    /// Takes out the value named by `key`.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn remove(&mut self, key: Key) -> T {
        let slot = &mut self.slots[key.index as usize];
        assert_eq!(slot.generation, key.generation, "stale id {key:?}");
        let value = slot
            .value
            .take()
            .unwrap_or_else(|| panic!("stale id {key:?}"));
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        value
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_ref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| {
            let value = slot.value.as_ref()?;
            Some((
                Key {
                    index,
                    generation: slot.generation,
                },
                value,
            ))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Arena {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Index<Key> for Arena<T> {
    type Output = T;

    fn index(&self, key: Key) -> &T {
        self.get(key).unwrap_or_else(|| panic!("stale id {key:?}"))
    }
}

impl<T> IndexMut<Key> for Arena<T> {
    fn index_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key)
            .unwrap_or_else(|| panic!("stale id {key:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_name_the_next_value_of_its_slot() {
        let mut arena = Arena::default();
        let first = arena.insert('a');
        assert_eq!(arena.remove(first), 'a');
        let second = arena.insert('b');
        assert_eq!(arena.get(first), None);
        assert_eq!(arena[second], 'b');
        assert_eq!(arena.len(), 1);
        assert!(arena.iter().eq([(second, &'b')]));
    }

    #[test]
    #[should_panic(expected = "stale id")]
    fn a_key_is_removed_once() {
        let mut arena = Arena::default();
        let key = arena.insert(());
        arena.remove(key);
        arena.remove(key);
    }
}
