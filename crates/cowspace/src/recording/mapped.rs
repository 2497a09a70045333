//! What is mapped, for a recording: noted by who maps, so that a mapping that comes and goes between two looks of the thread is known too, and since when.

use std::ops::Range;
use std::sync::{Arc, Weak};

use fault_handler::monotonic_ns;
use fault_recording::{Mapping, Policy as Recorded};

use crate::engine::Engine;
use crate::hash::HashSet;
use crate::info::{Koid, Name};
use crate::lock::Mutex;
use crate::object::VmObject;
use crate::options::Policy;

use super::is_on;

/// So much is noted between two looks; if it is more, the thread looks at all that is mapped.
const MOST_NOTES: usize = 64 << 10;

static NOTES: Mutex<Notes> = Mutex::new(Notes {
    made: Vec::new(),
    renamed: Vec::new(),
    too_many: false,
});

/// What has changed since the thread looked.
#[derive(Default)]
pub(super) struct Notes {
    /// In the order in which they were made.
    pub(super) made: Vec<Made>,
    renamed: Vec<Koid>,
    too_many: bool,
}

/// A mapping that was made.
pub(super) struct Made {
    /// No fault on it was read before.
    pub(super) at_ns: u64,
    mapping: Part,
    /// For the name that it has when this is written: it is often given after mapping.
    vmo: Weak<VmObject>,
}

/// A [`Mapping`] that nothing was allocated for.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    len: usize,
    name: Name,
    koid: Koid,
    vmo_offset: u64,
    policy: Policy,
}

/// When a mapping that is about to be made may be faulted on; `None` where nobody records.
pub(crate) fn before_mapping() -> Option<u64> {
    is_on().then(monotonic_ns)
}

/// Notes a mapping that was made. With the address space locked.
pub(crate) fn note_mapping(
    at_ns: Option<u64>,
    vmo: &Arc<VmObject>,
    range: Range<usize>,
    vmo_offset: u64,
    policy: Policy,
) {
    let Some(at_ns) = at_ns else { return };
    let made = Made {
        at_ns,
        mapping: Part::new(vmo, range, vmo_offset, policy),
        vmo: Arc::downgrade(vmo),
    };
    let mut notes = NOTES.lock();
    if notes.made.len() < MOST_NOTES {
        notes.made.push(made);
    } else {
        notes.too_many = true;
    }
}

/// Notes that a VMO has another name.
pub(crate) fn note_name(koid: Koid) {
    if is_on() {
        let mut notes = NOTES.lock();
        if notes.renamed.len() < MOST_NOTES {
            notes.renamed.push(koid);
        } else {
            notes.too_many = true;
        }
    }
}

/// Takes what was noted.
pub(super) fn take() -> Notes {
    std::mem::take(&mut NOTES.lock())
}

/// Forgets what was noted, at the end of a recording.
pub(super) fn forget() {
    drop(take());
}

impl Notes {
    /// What is mapped now and must be written beside `made`: of VMOs with new names, or everything.
    pub(super) fn others(&self, engine: &Engine) -> Vec<Mapping> {
        if self.too_many {
            return all(engine);
        }
        if self.renamed.is_empty() {
            return Vec::new();
        }
        let renamed: HashSet<Koid> = self.renamed.iter().copied().collect();
        table(engine, |vmo| renamed.contains(&vmo.koid))
    }
}

impl Made {
    pub(super) fn to_mapping(&self) -> Mapping {
        let mut part = self.mapping;
        if let Some(vmo) = self.vmo.upgrade() {
            part.name = vmo.name();
        }
        part.to_mapping()
    }
}

impl Part {
    fn new(vmo: &VmObject, range: Range<usize>, vmo_offset: u64, policy: Policy) -> Part {
        Part {
            start: range.start,
            len: range.len(),
            name: vmo.name(),
            koid: vmo.koid,
            vmo_offset,
            policy,
        }
    }

    fn to_mapping(self) -> Mapping {
        Mapping {
            start: self.start,
            len: self.len,
            name: self.name.to_string(),
            koid: self.koid.raw_koid(),
            vmo_offset: self.vmo_offset,
            policy: match self.policy {
                Policy::Traced => Recorded::Traced,
                Policy::Native => Recorded::Native,
            },
        }
    }
}

/// All that is mapped now, by rising address.
pub(super) fn all(engine: &Engine) -> Vec<Mapping> {
    table(engine, |_| true)
}

fn table(engine: &Engine, shown: impl Fn(&VmObject) -> bool) -> Vec<Mapping> {
    // Only copied with the address space locked.
    let space = engine.space();
    let mut parts: Vec<Part> = space
        .mappings()
        .filter(|mapping| shown(mapping.vmo()))
        .map(|mapping| {
            let range = mapping.range();
            let offset = mapping.vmo_offset_of(range.start);
            Part::new(mapping.vmo(), range, offset, mapping.kind().policy)
        })
        .collect();
    drop(space);
    parts.sort_unstable_by_key(|part| part.start);
    let mut table: Vec<Mapping> = Vec::new();
    for part in parts {
        put(&mut table, part.to_mapping());
    }
    table
}

/// Puts a mapping behind those of a table; one that continues the last makes it longer. `false`: it does not lie behind them.
pub(super) fn put(table: &mut Vec<Mapping>, mapping: Mapping) -> bool {
    if let Some(last) = table.last_mut() {
        let end = last.start + last.len;
        if mapping.start < end {
            return false;
        }
        let continues = mapping.start == end
            && mapping.koid == last.koid
            && mapping.vmo_offset == last.vmo_offset + last.len as u64
            && mapping.policy == last.policy
            && mapping.name == last.name;
        if continues {
            last.len += mapping.len;
            return true;
        }
    }
    table.push(mapping);
    true
}
