//! Where allocate and map put something: section 2 of the rules of VMARs.

use std::ops::Range;

use super::{AddressSpace, Child, SameVmo, VmarId};
use crate::{
    options::{Perms, VmarFlags},
    status::Status,
};

impl<V: Clone + SameVmo> AddressSpace<V> {
    /// The range for `size` bytes (whole pages) in a VMAR, or the first reason, in Zircon's order, why there
    /// is none. `needs` are permissions that the VMAR must be able to map.
    pub(super) fn place(
        &self,
        vmar: VmarId,
        flags: VmarFlags,
        offset: usize,
        size: usize,
        needs: Perms,
    ) -> Result<Range<usize>, Status> {
        let vmar = self.vmar(vmar)?;
        let overwrite = flags.contains(VmarFlags::SPECIFIC_OVERWRITE);
        let specific = overwrite || flags.contains(VmarFlags::SPECIFIC);
        let below = flags.contains(VmarFlags::OFFSET_IS_UPPER_LIMIT);
        if size == 0 {
            return Err(Status::INVALID_ARGS);
        }
        if !vmar.can_map.contains(needs) {
            return Err(Status::ACCESS_DENIED);
        }
        if specific && below
            || offset != 0 && !specific && !below
            || !offset.is_multiple_of(self.page)
        {
            return Err(Status::INVALID_ARGS);
        }
        if (specific || below) && !vmar.can_map_specific {
            return Err(Status::ACCESS_DENIED);
        }
        let space = vmar.layout.range();
        let end = if specific {
            offset.checked_add(size)
        } else {
            Some(offset)
        };
        if size > space.len() || end.is_none_or(|end| end > space.len()) || below && offset < size {
            return Err(Status::INVALID_ARGS);
        }
        let align = flags.alignment()?;
        if !specific {
            let limit = if below {
                space.start + offset
            } else {
                space.end
            };
            let at_multiple_of = |align| vmar.layout.find_gap(size, align, limit);
            let place = if size >= self.huge {
                at_multiple_of(align.max(self.huge)).or_else(|| at_multiple_of(align))
            } else {
                at_multiple_of(align)
            };
            let start = place.ok_or(Status::NO_RESOURCES)?;
            return Ok(start..start + size);
        }
        let start = space.start + offset;
        if !start.is_multiple_of(align) {
            return Err(Status::INVALID_ARGS);
        }
        let range = start..start + size;
        let mut children = vmar.layout.overlapping(&range);
        if !overwrite && children.next().is_some() {
            return Err(Status::ALREADY_EXISTS);
        }
        // Mappings can be replaced, VMARs cannot.
        if children.any(|(_, child)| matches!(child, Child::Vmar(_))) {
            return Err(Status::INVALID_ARGS);
        }
        drop(children);
        Ok(range)
    }
}
