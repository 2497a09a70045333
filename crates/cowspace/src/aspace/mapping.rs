//! One mapping: a range of a VMO in a range of a VMAR, with permissions page by page.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{MappingId, VmarId};
use crate::options::{Perms, Policy, VmarFlags};

/// Whether two references are to the same VMO.
pub(crate) trait SameVmo {
    /// A number that no other VMO has while this one lives.
    fn identity(&self) -> usize;

    fn same_vmo(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl<T> SameVmo for Arc<T> {
    fn identity(&self) -> usize {
        Arc::as_ptr(self).addr()
    }
}

/// What was settled for good when the mapping was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The greatest permissions.
    pub(crate) max_perms: Perms,
    /// `CANNOT_CREATE_VMO_CHILD` and `FAULT_BEYOND_STREAM_SIZE` where they were given; nothing else.
    pub(crate) flags: VmarFlags,
    pub(crate) policy: Policy,
}

/// A mapping. Its range, VMO and kind never change; its permissions do.
#[derive(Clone, Debug)]
pub(crate) struct Mapping<V> {
    id: MappingId,
    vmar: VmarId,
    range: Range<usize>,
    vmo: V,
    vmo_offset: u64,
    kind: Kind,
    /// Runs of pages with the same permissions, by the address where each begins; each lasts until the next
    /// one. The first begins with the mapping, and no two neighbours are equal.
    perms: BTreeMap<usize, Perms>,
}

impl<V> Mapping<V> {
    pub(super) fn new(
        id: MappingId,
        vmar: VmarId,
        range: Range<usize>,
        (vmo, vmo_offset): (V, u64),
        kind: Kind,
        perms: Perms,
    ) -> Mapping<V> {
        Mapping {
            id,
            vmar,
            vmo,
            vmo_offset,
            kind,
            perms: BTreeMap::from([(range.start, perms)]),
            range,
        }
    }

    pub(crate) fn id(&self) -> MappingId {
        self.id
    }

    /// The VMAR that it lies in directly.
    pub(crate) fn vmar(&self) -> VmarId {
        self.vmar
    }

    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    pub(crate) fn vmo(&self) -> &V {
        &self.vmo
    }

    /// Which byte of the VMO an address of the mapping shows.
    pub(crate) fn vmo_offset_of(&self, addr: usize) -> u64 {
        self.vmo_offset + (addr - self.range.start) as u64
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The present permissions of the page of an address of the mapping.
    pub(crate) fn perms_at(&self, addr: usize) -> Perms {
        let run = self.perms.range(..=addr).next_back();
        run.map_or(Perms::empty(), |(_, &perms)| perms)
    }

    /// The runs of equal permissions in a part of the mapping, by rising address.
    pub(crate) fn perms_in(
        &self,
        part: Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, Perms)> + use<'_, V> {
        let first = self.perms.range(..=part.start).next_back();
        let first = first.map_or(part.start, |(&start, _)| start);
        let mut runs = self.perms.range(first..part.end).peekable();
        std::iter::from_fn(move || {
            let (&start, &perms) = runs.next()?;
            let end = runs.peek().map_or(part.end, |&(&next, _)| next);
            Some((start.max(part.start)..end, perms))
        })
    }

    /// Sets the permissions of a part of the mapping, which is not empty.
    pub(super) fn set_perms(&mut self, part: &Range<usize>, perms: Perms) {
        let behind = (part.end < self.range.end).then(|| self.perms_at(part.end));
        let inside = self.perms.range(part.clone());
        let inside: Vec<usize> = inside.map(|(&start, _)| start).collect();
        for start in inside {
            self.perms.remove(&start);
        }
        let before = self.perms.range(..part.start).next_back();
        if before.is_none_or(|(_, &before)| before != perms) {
            self.perms.insert(part.start, perms);
        }
        match behind {
            Some(behind) if behind == perms => drop(self.perms.remove(&part.end)),
            Some(behind) => drop(self.perms.insert(part.end, behind)),
            None => {}
        }
    }

    /// Whether the two are one mapping by Zircon's rule: neighbours in one VMAR, of the same kind, that show
    /// consecutive parts of one VMO.
    pub(super) fn continued_by(&self, next: &Mapping<V>) -> bool
    where
        V: SameVmo,
    {
        self.vmar == next.vmar
            && self.range.end == next.range.start
            && self.vmo_offset_of(self.range.end) == next.vmo_offset
            && self.kind == next.kind
            && self.vmo.same_vmo(&next.vmo)
    }

    /// A mapping of a part of what this one maps.
    pub(super) fn part(&self, id: MappingId, part: Range<usize>) -> Mapping<V>
    where
        V: Clone,
    {
        let perms = self.perms_in(part.clone());
        Mapping {
            id,
            vmar: self.vmar,
            vmo: self.vmo.clone(),
            vmo_offset: self.vmo_offset_of(part.start),
            kind: self.kind,
            perms: perms.map(|(run, perms)| (run.start, perms)).collect(),
            range: part,
        }
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(!self.range.is_empty());
        assert_eq!(self.perms.keys().next(), Some(&self.range.start));
        assert!(self.perms.keys().all(|start| self.range.contains(start)));
        let runs: Vec<Perms> = self.perms.values().copied().collect();
        assert!(runs.windows(2).all(|two| two[0] != two[1]));
        assert!(runs.iter().all(|run| self.kind.max_perms.contains(*run)));
    }
}
