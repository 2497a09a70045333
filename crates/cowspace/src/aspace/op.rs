//! What range operations act on, mapping by mapping.

use std::ops::Range;

use super::{AddressSpace, Child, OpChildren, SameVmo, VmarId};
use crate::{
    options::{Perms, VmarFlags},
    status::Status,
};

/// A part of one mapping, by Zircon's rule of what one is, that an operation acts on.
#[derive(Debug)]
pub(crate) struct OpPart<V> {
    pub(crate) vmo: V,
    /// Of the part's start.
    pub(crate) vmo_offset: u64,
    pub(crate) range: Range<usize>,
    /// Those of [`super::mapping::Kind`].
    pub(crate) flags: VmarFlags,
}

impl<V: Clone + SameVmo> AddressSpace<V> {
    /// The part of the mapping at the beginning of `range` (not empty) that lies in the range. `BAD_STATE` if the
    /// VMAR is destroyed or nothing is mapped there; `INVALID_ARGS` if what is there is a child VMAR's and
    /// `children` says no; `ACCESS_DENIED` if the mapping may never have the permissions `needs`.
    pub(crate) fn op_part(
        &self,
        vmar: VmarId,
        range: &Range<usize>,
        needs: Perms,
        children: OpChildren,
    ) -> Result<OpPart<V>, Status> {
        self.vmar(vmar)?;
        let first = self.mapping_below(vmar, range.start);
        let first = first.ok_or(Status::BAD_STATE)?;
        if first.vmar() != vmar && children == OpChildren::No {
            return Err(Status::INVALID_ARGS);
        }
        if !first.kind().max_perms.contains(needs) {
            return Err(Status::ACCESS_DENIED);
        }
        let layout = &self.vmars[&first.vmar()].layout;
        let mut last = first;
        while last.range().end < range.end {
            match layout.at(last.range().end) {
                Some(Child::Mapping(id)) if last.continued_by(&self.mappings[&id]) => {
                    last = &self.mappings[&id];
                }
                _ => break,
            }
        }
        Ok(OpPart {
            vmo: first.vmo().clone(),
            vmo_offset: first.vmo_offset_of(range.start),
            range: range.start..range.end.min(last.range().end),
            flags: first.kind().flags,
        })
    }
}
