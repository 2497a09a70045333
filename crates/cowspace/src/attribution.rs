//! What a VMO is charged with, as object info shows it.

use std::ops::Range;
use std::sync::Arc;

use host_memory::page::page_size;
use page_tree::Attribution;

use crate::engine::Engine;
use crate::family::FamilyState;
use crate::info::{CachePolicy, MappingDetails, VmoInfo, VmoInfoFlags};
use crate::object::{VmObject, VmoKind};
use crate::rights::Rights;
use crate::status::Status;

impl VmObject {
    /// `ZX_INFO_VMO`, for a handle with these rights.
    pub(crate) fn info(
        self: &Arc<Self>,
        engine: &'static Engine,
        handle_rights: Rights,
    ) -> Result<VmoInfo, Status> {
        let num_mappings = engine.space().mapping_count(self);
        let mut content = self.family_content(engine);
        content.reconcile_family()?;
        Ok(self.record(&content.state, num_mappings, handle_rights))
    }

    /// The record of a handle, when the family is reconciled.
    pub(crate) fn record(
        &self,
        state: &FamilyState,
        num_mappings: usize,
        handle_rights: Rights,
    ) -> VmoInfo {
        let page = page_size() as u64;
        let pages = state.tree.pages(self.vmo);
        let sum = state.tree.attribution(self.vmo, 0..pages);
        let parent = state.tree.parent(self.vmo);
        let mut flags = VmoInfoFlags::TYPE_PAGED | VmoInfoFlags::VIA_HANDLE;
        flags.set(
            VmoInfoFlags::RESIZABLE,
            self.resizable && !matches!(self.kind, VmoKind::Slice(_)),
        );
        flags.set(
            VmoInfoFlags::IS_COW_CLONE,
            self.kind == VmoKind::Clone && parent.is_some(),
        );
        flags.set(VmoInfoFlags::DISCARDABLE, self.discardable.is_some());
        flags.set(VmoInfoFlags::IMMUTABLE, self.immutable);
        VmoInfo {
            koid: self.koid,
            name: self.name(),
            size_bytes: pages * page,
            parent_koid: parent.map_or(crate::info::Koid::INVALID, |parent| state.koid(parent)),
            num_children: state.tree.children(self.vmo),
            num_mappings,
            share_count: usize::from(num_mappings > 0),
            flags,
            committed_bytes: sum.populated_bytes(page),
            handle_rights,
            cache_policy: CachePolicy::Cached,
            metadata_bytes: 0,
            committed_change_events: 0,
            populated_bytes: sum.populated_bytes(page),
            committed_private_bytes: sum.private_bytes(page),
            populated_private_bytes: sum.private_bytes(page),
            committed_scaled_bytes: sum.scaled_bytes(page),
            populated_scaled_bytes: sum.scaled_bytes(page),
            committed_fractional_scaled_bytes: sum.fractional_scaled_bytes(page),
            populated_fractional_scaled_bytes: sum.fractional_scaled_bytes(page),
        }
    }

    /// Fills in what the VMO is charged with for the `size` bytes that a record shows.
    pub(crate) fn attribute(&self, details: &mut MappingDetails, size: usize) {
        let page = page_size() as u64;
        let first = details.vmo_offset / page;
        let sum = self.charged(first..first + size as u64 / page);
        details.populated_bytes = sum.populated_bytes(page) as usize;
        details.populated_private_bytes = sum.private_bytes(page) as usize;
        details.populated_scaled_bytes = sum.scaled_bytes(page) as usize;
        details.populated_fractional_scaled_bytes = sum.fractional_scaled_bytes(page);
        details.committed_bytes = details.populated_bytes;
        details.committed_private_bytes = details.populated_private_bytes;
        details.committed_scaled_bytes = details.populated_scaled_bytes;
        details.committed_fractional_scaled_bytes = details.populated_fractional_scaled_bytes;
    }

    fn charged(&self, pages: Range<u64>) -> Attribution {
        self.family.lock().tree.attribution(self.vmo, pages)
    }
}
