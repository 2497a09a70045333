//! The address space as Zircon sees it: which VMAR and which mapping has which addresses. A pure structure;
//! that the kernel's mappings agree with it is the engine's matter.
//!
//! ```text
//!   root VMAR  |----------------------------------------------------------------|
//!   children       [mapping 3]  (VMAR 2                       )[mapping 9]
//!   children                     [mapping 7][mapping 8] (VMAR 4)
//! ```
//!
//! **Pieces.** What Zircon calls one mapping may be several here: neighbours in one VMAR that continue each
//! other (see [`Mapping::continued_by`]) stay separate structures with ids of their own, and count as one
//! where that can be seen: in the maps, in `create_vmo_child`, in the number of mappings of a VMO. A mapping
//! never changes its range: cutting it ends it, and what is left are new mappings. So the engine can keep
//! one region for each id.
//!
//! **Two phases.** `plan_*` makes all checks and says which mappings would be touched where; `commit_*`
//! cannot fail. Between them the engine does the kernel's work, under the one lock of the address space. A
//! plan that is dropped has changed nothing, and one that was made before another change cannot be
//! committed.
//!
//! Invariants (`check_invariants`):
//! 1. Children of a VMAR lie in it and do not overlap; gaps are known by size and place ([`layout`]).
//! 2. A VMAR that is known is a child of its parent, up to the root; a destroyed one is not known any more.
//!    Ids are never used again.
//! 3. A mapping's permissions are within its greatest ones, those within what its VMAR can map, and that
//!    within what the parent can map. `CANNOT_CREATE_VMO_CHILD` of a VMAR holds for all below.
//! 4. `counts` is what counting would give.

mod layout;
mod map;
mod mapping;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
mod op;
mod place;
mod protect;
mod unmap;
mod walk;

use std::ops::Range;

use crate::hash::HashMap;

use self::layout::Layout;
pub(crate) use self::{
    map::MapRequest,
    mapping::{Mapping, SameVmo},
    op::OpPart,
    unmap::UnmapPlan,
    walk::RecordDetails,
};
use crate::{
    info::VmarInfo,
    options::{Perms, VmarFlags},
    status::Status,
};

/// A VMAR, dead or alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VmarId(u64);

/// A mapping, as long as its range stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MappingId(u64);

/// A part of a mapping, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: MappingId,
    pub(crate) range: Range<usize>,
}

/// A mapping that has ended, and what is left of it under new ids. Both `None`: nothing.
///
/// It holds on to the VMO, so it is to be dropped after the engine's locks are released.
#[derive(Debug)]
pub(crate) struct Change<V> {
    pub(crate) old: Mapping<V>,
    pub(crate) left: Option<MappingId>,
    pub(crate) right: Option<MappingId>,
}

/// Whether a call may act on mappings of child VMARs: the handle's `OP_CHILDREN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpChildren {
    Yes,
    No,
}

/// The tree of VMARs and mappings of a process. `V` is a reference to a VMO.
pub(crate) struct AddressSpace<V> {
    page: usize,
    /// What is this long is put at a multiple of it where there is such a place: there huge pages fit.
    huge: usize,
    root: VmarId,
    vmars: HashMap<VmarId, Vmar>,
    mappings: HashMap<MappingId, Mapping<V>>,
    /// How many mappings each VMO has that has any, by [`SameVmo::identity`]: neighbours that continue each other count
    /// once.
    counts: HashMap<usize, usize>,
    /// The next id of either kind.
    next_id: u64,
    /// Counts changes, to recognise a plan that is out of date.
    changes: u64,
}

struct Vmar {
    /// `None` for the root.
    parent: Option<VmarId>,
    /// The permissions that mappings here may ever have.
    can_map: Perms,
    /// Whether the caller may choose addresses here.
    can_map_specific: bool,
    /// `CANNOT_CREATE_VMO_CHILD`, of this VMAR or one above.
    cannot_clone: bool,
    layout: Layout,
}

/// What a VMAR has at a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Vmar(VmarId),
    Mapping(MappingId),
}

/// Why a plan can rely on the ids in it.
const LIVE: &str = "ids in the tree, and in a plan that is not out of date, are alive";

impl<V: Clone + SameVmo> AddressSpace<V> {
    /// An address space whose root VMAR spans `range` and allows everything. `range` consists of whole pages
    /// of `page` bytes; `huge` bytes, a power of two, are a huge page.
    pub(crate) fn new(range: Range<usize>, page: usize, huge: usize) -> AddressSpace<V> {
        let root = VmarId(0);
        let vmar = Vmar {
            parent: None,
            can_map: Perms::all(),
            can_map_specific: true,
            cannot_clone: false,
            layout: Layout::new(range, page),
        };
        AddressSpace {
            page,
            huge,
            root,
            vmars: HashMap::from_iter([(root, vmar)]),
            mappings: HashMap::default(),
            counts: HashMap::default(),
            next_id: 1,
            changes: 0,
        }
    }

    pub(crate) fn root(&self) -> VmarId {
        self.root
    }

    /// Where a VMAR lies. `BAD_STATE` if it is destroyed.
    pub(crate) fn info(&self, vmar: VmarId) -> Result<VmarInfo, Status> {
        let range = self.vmar(vmar)?.layout.range();
        Ok(VmarInfo {
            base: range.start,
            len: range.len(),
        })
    }

    /// Makes a child VMAR; returns it and its base. The caller has checked handle and rights
    /// ([`VmarFlags::can_map`]).
    pub(crate) fn allocate(
        &mut self,
        parent: VmarId,
        flags: VmarFlags,
        offset: usize,
        size: usize,
    ) -> Result<(VmarId, usize), Status> {
        flags.check_allocate()?;
        if !size.is_multiple_of(self.page) {
            return Err(Status::INVALID_ARGS);
        }
        let range = self.place(parent, flags, offset, size, flags.can_map())?;
        let id = VmarId(self.new_id());
        let above = self.vmar_mut(parent);
        above.layout.insert(range.clone(), Child::Vmar(id));
        let base = range.start;
        let vmar = Vmar {
            parent: Some(parent),
            can_map: flags.can_map(),
            can_map_specific: flags.contains(VmarFlags::CAN_MAP_SPECIFIC),
            cannot_clone: above.cannot_clone || flags.contains(VmarFlags::CANNOT_CREATE_VMO_CHILD),
            layout: Layout::new(range, self.page),
        };
        self.vmars.insert(id, vmar);
        self.changes += 1;
        Ok((id, base))
    }

    /// A mapping, if it still is one.
    pub(crate) fn get(&self, id: MappingId) -> Option<&Mapping<V>> {
        self.mappings.get(&id)
    }

    /// All mappings, in no order.
    pub(crate) fn mappings(&self) -> impl Iterator<Item = &Mapping<V>> {
        self.mappings.values()
    }

    /// The mapping that has an address, in whichever VMAR.
    #[cfg(test)]
    pub(crate) fn mapping_at(&self, addr: usize) -> Option<&Mapping<V>> {
        self.mapping_below(self.root, addr)
    }

    /// The mapping of `vmar` or below that has an address. The VMAR must be alive.
    fn mapping_below(&self, mut vmar: VmarId, addr: usize) -> Option<&Mapping<V>> {
        loop {
            match self.vmars[&vmar].layout.at(addr)? {
                Child::Vmar(below) => vmar = below,
                Child::Mapping(id) => return self.get(id),
            }
        }
    }

    /// How many mappings of a VMO there are: neighbours that are one mapping count once.
    pub(crate) fn mapping_count(&self, vmo: &V) -> usize {
        self.counts.get(&vmo.identity()).copied().unwrap_or(0)
    }

    /// Whether a mapping does not continue the one before it.
    pub(crate) fn begins_mapping(&self, mapping: &Mapping<V>) -> bool {
        let before = self.vmars[&mapping.vmar()]
            .layout
            .ending_at(mapping.range().start);
        match before {
            Some(Child::Mapping(id)) => !self.mappings[&id].continued_by(mapping),
            _ => true,
        }
    }

    /// A VMAR that is not destroyed.
    fn vmar(&self, id: VmarId) -> Result<&Vmar, Status> {
        self.vmars.get(&id).ok_or(Status::BAD_STATE)
    }

    /// A VMAR that is known to be alive.
    fn vmar_mut(&mut self, id: VmarId) -> &mut Vmar {
        self.vmars.get_mut(&id).expect(LIVE)
    }

    fn new_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Begins to carry out a plan that was made when `changes` changes had been made.
    fn begin_commit(&mut self, changes: u64) {
        assert_eq!(changes, self.changes, "the plan is out of date");
        self.changes += 1;
    }

    /// Enters a mapping where nothing is.
    fn enter(&mut self, mapping: Mapping<V>) {
        let (before, behind) = self.continues(&mapping);
        let count = self.counts.entry(mapping.vmo().identity()).or_default();
        // It is one more, or it continues the one before it; and the one behind may now continue it.
        *count = *count + 1 - usize::from(before) - usize::from(behind);
        let layout = &mut self.vmar_mut(mapping.vmar()).layout;
        layout.insert(mapping.range(), Child::Mapping(mapping.id()));
        self.mappings.insert(mapping.id(), mapping);
    }

    /// Takes a mapping out.
    fn leave(&mut self, id: MappingId) -> Mapping<V> {
        let mapping = self.mappings.remove(&id).expect(LIVE);
        let layout = &mut self.vmar_mut(mapping.vmar()).layout;
        layout.remove(mapping.range().start);
        let (before, behind) = self.continues(&mapping);
        let vmo = mapping.vmo().identity();
        let count = self.counts.get_mut(&vmo).expect(LIVE);
        *count = *count + usize::from(before) + usize::from(behind) - 1;
        if *count == 0 {
            self.counts.remove(&vmo);
        }
        mapping
    }

    /// Whether a mapping that is not entered continues the one before it, and the one behind continues it.
    fn continues(&self, mapping: &Mapping<V>) -> (bool, bool) {
        let layout = &self.vmars[&mapping.vmar()].layout;
        let before = match layout.ending_at(mapping.range().start) {
            Some(Child::Mapping(id)) => self.mappings[&id].continued_by(mapping),
            _ => false,
        };
        let behind = match layout.at(mapping.range().end) {
            Some(Child::Mapping(id)) => mapping.continued_by(&self.mappings[&id]),
            _ => false,
        };
        (before, behind)
    }

    /// Ends a mapping and keeps what of it is outside of the piece.
    fn cut(&mut self, piece: &Piece) -> Change<V> {
        let old = self.leave(piece.id);
        let range = old.range();
        let mut keep = |part: Range<usize>| {
            if part.is_empty() {
                return None;
            }
            let id = MappingId(self.new_id());
            self.enter(old.part(id, part));
            Some(id)
        };
        let left = keep(range.start..piece.range.start);
        let right = keep(piece.range.end..range.end);
        Change { old, left, right }
    }

    /// Panics if an invariant does not hold.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let mut children = 0;
        for (&id, vmar) in &self.vmars {
            vmar.layout.check_invariants();
            for (range, child) in vmar.layout.overlapping(&vmar.layout.range()) {
                children += 1;
                match child {
                    Child::Vmar(below) => {
                        let below = &self.vmars[&below];
                        assert_eq!(below.parent, Some(id));
                        assert_eq!(below.layout.range(), range);
                        assert!(vmar.can_map.contains(below.can_map));
                        assert!(below.cannot_clone || !vmar.cannot_clone);
                    }
                    Child::Mapping(mapping_id) => {
                        let mapping = &self.mappings[&mapping_id];
                        assert_eq!((mapping.id(), mapping.vmar()), (mapping_id, id));
                        assert_eq!(mapping.range(), range);
                        assert!(vmar.can_map.contains(mapping.kind().max_perms));
                        mapping.check_invariants();
                    }
                }
            }
        }
        // Every mapping and every VMAR but the root is a child of one VMAR.
        assert_eq!(children, self.mappings.len() + self.vmars.len() - 1);
        assert!(self.vmars[&self.root].parent.is_none());
        let mut counts = HashMap::default();
        for mapping in self.mappings.values() {
            if self.begins_mapping(mapping) {
                *counts.entry(mapping.vmo().identity()).or_insert(0) += 1;
            }
        }
        assert_eq!(counts, self.counts);
    }
}
