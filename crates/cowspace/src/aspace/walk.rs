//! Looking at the tree: what is in a range, what the maps show, what can be cloned.
//!
//! Callers choose how deep the tree is, so nothing here recurses.

use std::ops::Range;

use super::{AddressSpace, Child, Mapping, Piece, SameVmo, VmarId};
use crate::{
    options::{Perms, VmarFlags},
    status::Status,
};

/// One record of the maps.
#[derive(Debug)]
pub(crate) struct Record<'a, V> {
    /// 0 for the VMAR where the walk began.
    pub(crate) depth: usize,
    pub(crate) range: Range<usize>,
    pub(crate) details: RecordDetails<'a, V>,
}

/// What a record stands for.
#[derive(Debug)]
pub(crate) enum RecordDetails<'a, V> {
    Vmar,
    /// A run of pages of one mapping with the same permissions.
    Mapping {
        vmo: &'a V,
        /// Of the record's start.
        vmo_offset: u64,
        perms: Perms,
    },
}

/// A part of one mapping that can be cloned.
#[derive(Debug)]
pub(crate) struct Found<'a, V> {
    pub(crate) vmo: &'a V,
    /// Of the part's start.
    pub(crate) vmo_offset: u64,
    /// Whether every page of it can be executed.
    pub(crate) executable: bool,
}

impl<V: Clone + SameVmo> AddressSpace<V> {
    /// The memory map from a VMAR on: records in pre-order, by rising base. `BAD_STATE` if it is destroyed.
    pub(crate) fn maps(&self, vmar: VmarId) -> Result<Vec<Record<'_, V>>, Status> {
        let top = &self.vmar(vmar)?.layout;
        let mut records = vec![Record {
            depth: 0,
            range: top.range(),
            details: RecordDetails::Vmar,
        }];
        let mut path = vec![top.overlapping(&top.range())];
        // The mapping that the last record shows the end of.
        let mut last: Option<&Mapping<V>> = None;
        while let Some(children) = path.last_mut() {
            let Some((range, child)) = children.next() else {
                path.pop();
                continue;
            };
            let depth = path.len();
            match child {
                Child::Vmar(below) => {
                    let layout = &self.vmars[&below].layout;
                    path.push(layout.overlapping(&range));
                    records.push(Record {
                        depth,
                        range,
                        details: RecordDetails::Vmar,
                    });
                }
                Child::Mapping(id) => {
                    let mapping = &self.mappings[&id];
                    let mut runs = mapping.perms_in(range).peekable();
                    if last.is_some_and(|last| last.continued_by(mapping)) {
                        let run = runs
                            .next_if(|(_, perms)| records.last().is_some_and(|r| r.has(*perms)));
                        if let (Some((run, _)), Some(record)) = (run, records.last_mut()) {
                            record.range.end = run.end;
                        }
                    }
                    records.extend(runs.map(|(range, perms)| Record {
                        depth,
                        details: RecordDetails::Mapping {
                            vmo: mapping.vmo(),
                            vmo_offset: mapping.vmo_offset_of(range.start),
                            perms,
                        },
                        range,
                    }));
                    last = Some(mapping);
                }
            }
        }
        Ok(records)
    }

    /// What `create_vmo_child` would clone: a part of one mapping in the VMAR or below it. The errors after
    /// handle, rights and options, in their order.
    pub(crate) fn find(
        &self,
        vmar: VmarId,
        addr: usize,
        size: usize,
    ) -> Result<Found<'_, V>, Status> {
        let end = addr.checked_add(size).ok_or(Status::INVALID_ARGS)?;
        if size == 0 || !addr.is_multiple_of(self.page) || !size.is_multiple_of(self.page) {
            return Err(Status::INVALID_ARGS);
        }
        // Mappings end inside of the VMAR, so a range that leaves it is not in one of them.
        let within = self.vmar(vmar)?.layout.range().contains(&addr);
        let first = if within {
            self.mapping_below(vmar, addr)
        } else {
            None
        };
        let first = first.ok_or(Status::INVALID_ARGS)?;
        let home = &self.vmars[&first.vmar()];
        let mut executable = true;
        let mut mapping = first;
        loop {
            let reached = end.min(mapping.range().end);
            let range = addr.max(mapping.range().start)..reached;
            let mut perms = mapping.perms_in(range);
            executable &= perms.all(|(_, perms)| perms.contains(Perms::EXECUTE));
            if reached == end {
                break;
            }
            mapping = match home.layout.at(reached) {
                Some(Child::Mapping(id)) if mapping.continued_by(&self.mappings[&id]) => {
                    &self.mappings[&id]
                }
                _ => return Err(Status::INVALID_ARGS),
            };
        }
        let cannot = VmarFlags::CANNOT_CREATE_VMO_CHILD;
        if home.cannot_clone || first.kind().flags.contains(cannot) {
            return Err(Status::ACCESS_DENIED);
        }
        Ok(Found {
            vmo: first.vmo(),
            vmo_offset: first.vmo_offset_of(addr),
            executable,
        })
    }

    /// The parts of mappings of a VMAR and below that lie in a range, by rising address.
    pub(crate) fn pieces(&self, vmar: VmarId, range: &Range<usize>) -> Result<Vec<Piece>, Status> {
        let mut pieces = Vec::new();
        let mut path = vec![self.vmar(vmar)?.layout.overlapping(range)];
        while let Some(children) = path.last_mut() {
            match children.next() {
                None => drop(path.pop()),
                Some((_, Child::Vmar(below))) => {
                    path.push(self.vmars[&below].layout.overlapping(range));
                }
                Some((at, Child::Mapping(id))) => pieces.push(Piece {
                    id,
                    range: at.start.max(range.start)..at.end.min(range.end),
                }),
            }
        }
        Ok(pieces)
    }

    /// The range that unmap and protect are given, rounded up to whole pages: not empty, and inside of a VMAR
    /// that is not destroyed.
    pub(super) fn range_in(
        &self,
        vmar: VmarId,
        addr: usize,
        len: usize,
    ) -> Result<Range<usize>, Status> {
        let len = len.checked_next_multiple_of(self.page).unwrap_or(0);
        if !addr.is_multiple_of(self.page) || len == 0 {
            return Err(Status::INVALID_ARGS);
        }
        let space = self.vmar(vmar)?.layout.range();
        match addr.checked_add(len) {
            Some(end) if space.start <= addr && end <= space.end => Ok(addr..end),
            _ => Err(Status::INVALID_ARGS),
        }
    }
}

impl<V> Record<'_, V> {
    fn has(&self, wanted: Perms) -> bool {
        matches!(self.details, RecordDetails::Mapping { perms, .. } if perms == wanted)
    }
}
