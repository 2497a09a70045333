//! Freezing memory: what a clone would find to do is done ahead, and huge pages are made of the layers.
//!
//! [`Vmar::freeze`] takes a cut as a clone does, and no clone: what the memory holds lies in sealed layers then, and the next clone has only to look at what was written
//! since. With no lock held it then makes huge pages of the layers, as far as the frozen range shows them. Who maps such a layer at a congruent address, in this
//! process or another, needs one entry of a page table for each huge page, and its first touch of one costs one fault instead of 32 or more.
//!
//! Making a huge page moves the bytes to other memory. The kernel takes the pages out of every page table for that, so mapped pages fault once more: a traced mapping
//! sees them again as minor faults (and never gets huge entries itself, which would hide faults). Private pages, and the marks of write protection, stay. They are not
//! mapped again in bulk: with an empty page table the next cut has less to look at, and a store to a page that is not mapped is one copy, but to one that is mapped
//! protected a fault and a copy.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use host_memory::huge::collapsible_size;
use host_memory::memfd::Layer;
use host_memory::page::page_size;
use page_tree::{LayerId, MemoryId, Place};

use crate::engine::{Engine, Space};
use crate::family::{FamilyState, Garbage, Home};
use crate::object::VmObject;
use crate::options::Policy;
use crate::report::call;
use crate::rights::Rights;
use crate::status::Status;
use crate::vmar::Vmar;

/// What [`Vmar::freeze`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Bytes of the range that lie in sealed layers: all but holes, as a rule.
    pub bytes: u64,
    /// Bytes of these that lie in huge pages. 0 where the system can make none.
    pub huge_bytes: u64,
}

impl Vmar {
    /// Makes ready to be cloned what is mapped in `addr..addr + size`. Changes no byte. Not Zircon's: it has no such call.
    ///
    /// The memory mapped there (all of it, not the range alone) becomes immutable as if a clone had been taken and closed: from now on a clone costs what is
    /// written from now on. (As after a clone, pages of zeros that were only looked at may count as committed.) Threads may write meanwhile. And huge pages are made of the range, where it has all pages of them and lies at addresses at which they fit, as a
    /// mapping of a huge page's size or more does unless the caller has chosen another address: children that map clones at the same addresses read them for next to nothing.
    /// That takes up to some seconds for each GiB. It holds no lock meanwhile, and is a favour: there is no error for want of huge pages, [`Frozen`] says how many were had.
    ///
    /// Memory that is mapped more than once is copied page by page as it is touched again, as after a clone; where one of these mappings is native nothing is frozen.
    ///
    /// # Errors
    ///
    /// Those of [`Vmar::create_vmo_child`], in its order, but for those of options. Then nothing has changed.
    pub fn freeze(&self, addr: usize, size: usize) -> Result<Frozen, Status> {
        call(|engine| {
            let (vmar, _) = self.as_ref().vmar(engine, Rights::INSPECT)?;
            let space = engine.space();
            let found = space.find(vmar.id, addr, size)?;
            let (vmo, offset) = (found.vmo.clone(), found.vmo_offset);
            vmo.check_children()?;
            vmo.check_clone(offset, size as u64)?;
            let (frozen, parts, garbage) =
                engine.cut_to_layers(&space, &vmo, offset, addr, size)?;
            drop(space);
            drop(garbage);
            // Unmapped and closed meanwhile it ends at once, and not only when this call does.
            drop(vmo);
            Ok(Frozen {
                bytes: frozen,
                huge_bytes: parts.iter().map(Part::collapse).sum(),
            })
        })
    }
}

/// Consecutive huge pages' worth of a layer, to be made huge.
struct Part {
    layer: Arc<Layer>,
    /// In the layer's file.
    bytes: Range<u64>,
    /// Of each huge page, how many bytes the frozen range shows.
    shown: Vec<u64>,
}

impl Part {
    /// Gives how many bytes of the range lie in huge pages now.
    fn collapse(&self) -> u64 {
        let mut huge_bytes = 0;
        let size = (self.bytes.end - self.bytes.start) / self.shown.len() as u64;
        let made = self.layer.collapse(self.bytes.clone(), |bytes| {
            let at = |offset| ((offset - self.bytes.start) / size) as usize;
            huge_bytes += self.shown[at(bytes.start)..at(bytes.end)]
                .iter()
                .sum::<u64>();
        });
        // What was not had is not missed.
        drop(made);
        huge_bytes
    }
}

impl Engine {
    /// Cuts the memory of `vmo`, so that it lies in sealed layers. Gives how many bytes of a mapping do, and what of these layers is worth huge pages.
    fn cut_to_layers(
        &self,
        space: &Space,
        vmo: &VmObject,
        offset: u64,
        addr: usize,
        size: usize,
    ) -> Result<(u64, Vec<Part>, Garbage), Status> {
        let memory = vmo.memory;
        let mut state = vmo.family.lock();
        if !state.is_copied_for_clones(memory) {
            drop(state);
            let after;
            (state, after) = self.cut(space, vmo)?;
            after.finish(&mut state, memory);
            // Only saves memory, as with a clone.
            let _ = state.compact(memory);
        }
        let page = page_size() as u64;
        let first = vmo.first_page() + offset / page;
        let end = (first + size as u64 / page).min(state.tree.pages(memory));
        let (bytes, parts) = state.in_layers(memory, first..end, addr);
        let garbage = state.collect();
        Ok((bytes, parts, garbage))
    }
}

impl FamilyState {
    /// Whether a clone is a copy of the memory's file, which stays in place: the kernel alone serves several mappings of it. To cut it would be work for nothing.
    fn is_copied_for_clones(&self, memory: MemoryId) -> bool {
        let pages = self.pages(memory);
        let one = !pages.resizable && pages.covers_all(self.tree.pages(memory));
        let native = pages
            .regions
            .values()
            .any(|region| region.policy == Policy::Native);
        native && !one && matches!(pages.home, Home::MemFd { .. })
    }

    /// How many bytes of some pages, mapped from `addr` on, lie in sealed layers; and the parts of these that huge pages fit in the mapping for, and that it shows the half
    /// of at least. (A mapping that shows a few pages from elsewhere there reads the others faster all the same.)
    fn in_layers(&self, memory: MemoryId, pages: Range<u64>, addr: usize) -> (u64, Vec<Part>) {
        let page = page_size() as u64;
        let huge = collapsible_size().map_or(u64::MAX, |size| size as u64);
        let mut sum = 0;
        // By layer and number of the huge page.
        let mut shown: BTreeMap<(LayerId, u64), u64> = BTreeMap::new();
        for run in self.runs_in(memory, pages.clone()) {
            let Place::In(id, first) = run.place else {
                continue;
            };
            if self.layer(id).is_none() {
                continue;
            }
            let len = (run.pages.end - run.pages.start) * page;
            sum += len;
            let (mut at, end) = (first * page, first * page + len);
            let mapped_at = addr as u64 + (run.pages.start - pages.start) * page;
            if at % huge != mapped_at % huge {
                continue;
            }
            while at < end {
                let next = (at / huge * huge).saturating_add(huge).min(end);
                *shown.entry((id, at / huge)).or_default() += next - at;
                at = next;
            }
        }
        let mut parts: Vec<Part> = Vec::new();
        for ((id, number), shown) in shown {
            let Some((layer, start)) = self.layer(id).and_then(|layer| layer.at(number * huge))
            else {
                continue;
            };
            if shown < huge / 2 {
                continue;
            }
            match parts.last_mut() {
                Some(last) if Arc::ptr_eq(&last.layer, layer) && last.bytes.end == start => {
                    last.bytes.end += huge;
                    last.shown.push(shown);
                }
                _ => parts.push(Part {
                    layer: layer.clone(),
                    bytes: start..start + huge,
                    shown: vec![shown],
                }),
            }
        }
        (sum, parts)
    }
}
