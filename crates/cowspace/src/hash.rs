//! Hash tables that need nothing of the thread.
//!
//! The standard library's own choice keeps a thread's random keys in thread-local storage, and in a library that was loaded at run time a thread's first look there calls `malloc`: see
//! `docs/architecture.md`, "Allocation". The engine's keys are numbers of its own, which nobody can choose to collide; so the hash need not be the standard library's slow one, which each
//! fault would pay for.

use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

type Hasher = BuildHasherDefault<FxHasher>;

pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, Hasher>;
pub(crate) type HashSet<K> = std::collections::HashSet<K, Hasher>;
