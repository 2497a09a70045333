//! What is mapped, for a recording: noted by who maps, so that a mapping that comes and goes between two looks of the thread is known too, and since when.

use std::ops::Range;

use fault_handler::monotonic_ns;
use fault_recording::{Mapping, Policy as Recorded};

use crate::engine::Engine;
use crate::info::{Koid, Name};
use crate::lock::Mutex;
use crate::object::VmObject;
use crate::options::Policy;

use super::is_on;

/// So much is noted between two looks; if it is more, the thread looks at all that is mapped.
const MOST_NOTES: usize = 64 << 10;

static NOTES: Mutex<Notes> = Mutex::new(Notes {
    made: Vec::new(),
    named: Vec::new(),
    too_many: false,
});

/// What has changed since the thread looked, in the order in which it did.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) made: Vec<Made>,
    named: Vec<(Koid, Name)>,
    /// Something is missing.
    pub(super) too_many: bool,
}

/// A mapping that was made. Nothing was allocated for it.
#[derive(Clone, Copy)]
pub(super) struct Made {
    /// No fault on it was read before.
    pub(super) at_ns: u64,
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
    vmo: &VmObject,
    range: Range<usize>,
    vmo_offset: u64,
    policy: Policy,
) {
    if let Some(at_ns) = at_ns {
        let made = Made::new(at_ns, vmo, range, vmo_offset, policy);
        note(|notes| &mut notes.made, made);
    }
}

/// Notes that a VMO has another name: it is often given after mapping.
pub(crate) fn note_name(koid: Koid, name: Name) {
    if is_on() {
        note(|notes| &mut notes.named, (koid, name));
    }
}

fn note<T>(list: impl FnOnce(&mut Notes) -> &mut Vec<T>, what: T) {
    let mut notes = NOTES.lock();
    let list = list(&mut notes);
    if list.len() < MOST_NOTES {
        list.push(what);
    } else {
        notes.too_many = true;
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
    /// Messages that only name VMOs.
    pub(super) fn names(&self) -> Vec<Mapping> {
        let name = |&(koid, name): &(Koid, Name)| Mapping {
            start: 0,
            len: 0,
            name: name.to_string(),
            koid: koid.raw_koid(),
            vmo_offset: 0,
            policy: Recorded::Native,
        };
        self.named.iter().map(name).collect()
    }
}

impl Made {
    fn new(
        at_ns: u64,
        vmo: &VmObject,
        range: Range<usize>,
        vmo_offset: u64,
        policy: Policy,
    ) -> Made {
        Made {
            at_ns,
            start: range.start,
            len: range.len(),
            name: vmo.name(),
            koid: vmo.koid,
            vmo_offset,
            policy,
        }
    }

    pub(super) fn to_mapping(self) -> Mapping {
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
    // Only copied with the address space locked.
    let space = engine.space();
    let mut mapped: Vec<Made> = space
        .mappings()
        .map(|mapping| {
            let range = mapping.range();
            let offset = mapping.vmo_offset_of(range.start);
            Made::new(0, mapping.vmo(), range, offset, mapping.kind().policy)
        })
        .collect();
    drop(space);
    mapped.sort_unstable_by_key(|made| made.start);
    let mut table: Vec<Mapping> = Vec::new();
    for made in mapped {
        put(&mut table, made.to_mapping());
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
