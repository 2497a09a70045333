//! A clone family: its page tree, its layers, and where each of its memories keeps what it changed.
//!
//! ```text
//!   Family (one lock)
//!     tree        which layer holds each page of each memory
//!     layers      sealed files, by the tree's numbers (one may be just about to be sealed, see `cut/file.rs`)
//!     memories    CowPages: home, regions
//!
//!   home of a CowPages     None ── first write or mapping ──> MemFd ── snapshot (it is sealed) ──> None or Private
//!                            └──── mapped once, as a whole ──────────────────────────────────────────> Private
//!                          Private ── second mapping, partial unmapping ──> MemFd (sparse)
//! ```
//!
//! Invariants:
//! - Each layer the tree names is in `layers`, or is the layer number of the home of the one memory that owns the page.
//! - `Home::Private` has exactly one region, whose backing is `Private`, and it covers the whole memory; a resizable memory never has it. (The call that makes the
//!   region sets the home first, and holds the address space until both are there.)
//! - Regions of a memory change only with the address space locked as well.
//! - `parked` is true only while a thread that holds the address space is at work on the region.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hash::{HashMap, HashSet};
use crate::lock::{Mutex, MutexGuard};
use host_memory::page::{HostRange, page_size};
use page_tree::{LayerId, MemoryId, Place, Run, Tree, VmoId, is_wasted};

use crate::aspace::MappingId;
use crate::engine::Engine;
use crate::info::Koid;
use crate::open_pages::OpenPages;
use crate::options::Policy;
use crate::plan::Plan;
use crate::sequence::Sequences;
use crate::signals::{SignalState, Signals};
use crate::status::Status;
use crate::stream_size::StreamSize;
use crate::wide::{WideFile, WideLayer};

/// All VMOs that descend from one, see the module's documentation.
pub(crate) struct Family(Mutex<FamilyState>);

/// What a family's lock protects.
#[derive(Default)]
pub(crate) struct FamilyState {
    pub(crate) tree: Tree,
    vmos: HashMap<VmoId, Member>,
    layers: HashMap<LayerId, SealedLayer>,
    /// Layers that nobody ever saw a page of, kept until the family is unlocked.
    unused: Vec<Arc<WideLayer>>,
    memories: HashMap<MemoryId, CowPages>,
}

/// A VMO of the family.
struct Member {
    koid: Koid,
    signals: Arc<SignalState>,
}

/// A layer of the family, and how many pages lie in it.
struct SealedLayer {
    layer: Arc<WideLayer>,
    held: u64,
}

/// The memory behind a VMO, its slices and its references.
pub(crate) struct CowPages {
    /// VMOs of this memory.
    vmos: usize,
    pub(crate) resizable: bool,
    pub(crate) home: Home,
    /// What the layers were when it was last seen to that they do not become too many.
    pub(crate) layers: LayerUse,
    /// By mapping.
    pub(crate) regions: BTreeMap<MappingId, Region>,
}

/// How many layers a family has, and how much of them is of use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LayerUse {
    pub(crate) layers: usize,
    /// Pages of layers that somebody sees.
    pub(crate) seen: u64,
    /// Pages that nobody sees, of layers that are worth copying for that.
    pub(crate) wasted: u64,
}

/// Where a memory keeps the pages that it changed.
pub(crate) enum Home {
    /// Nothing was changed since all of it became layers.
    None,
    /// Its own file, mapped `MAP_SHARED`, with the memory's offsets. `complete`: pages that are not in the file are
    /// zero; else they are what the tree says.
    MemFd {
        layer: LayerId,
        file: WideFile,
        complete: bool,
    },
    /// Private pages of its one mapping.
    Private { layer: LayerId },
}

/// The part of a mapping that lies inside its VMO.
pub(crate) struct Region {
    pub(crate) id: MappingId,
    pub(crate) range: HostRange,
    /// Page of the memory at the start of `range`.
    pub(crate) page: u64,
    pub(crate) policy: Policy,
    /// All of it has the same permissions, so it is one VMA in each segment.
    pub(crate) uniform: bool,
    /// Its faults wait: whoever set this wakes them.
    pub(crate) parked: bool,
    pub(crate) backing: Backing,
    /// Of a traced private region: the memory's pages that threads may store to without a fault.
    pub(crate) open: OpenPages,
    /// Those of them that were opened without a store there: in sequence with one.
    pub(crate) ahead: OpenPages,
    pub(crate) stores: Sequences,
    /// What lies behind it faults: mapped with `FAULT_BEYOND_STREAM_SIZE`.
    pub(crate) stream: Option<Arc<StreamSize>>,
}

/// How a region is mapped.
pub(crate) enum Backing {
    /// `MAP_SHARED` of the home's file.
    Shared,
    /// `MAP_PRIVATE` of layers.
    Private(Plan),
}

impl Family {
    pub(crate) fn new() -> Arc<Family> {
        Arc::new(Family(Mutex::new(FamilyState::default())))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FamilyState> {
        self.0.lock()
    }
}

/// What a change of the family has left over. It is dropped when no lock is held: closing files and unmapping takes time.
#[must_use = "drop it after the family is unlocked"]
#[derive(Default)]
pub(crate) struct Garbage {
    layers: Vec<Arc<WideLayer>>,
    memory: Option<CowPages>,
}

/// The handler reads a layer through a mapping of it, and must not be the one who makes it: that allocates. A layer that cannot be mapped it reads by the file.
pub(crate) fn make_alias(layer: &WideLayer) {
    for file in layer.files() {
        let _ = file.page(0);
    }
}

/// Why a region is taken for granted.
const ONE_REGION: &str = "the home or the caller's look at it says that there is one region";

/// A number for a layer or a home, never used twice in a process.
pub(crate) fn new_layer_id() -> LayerId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    LayerId(NEXT.fetch_add(1, Ordering::Relaxed))
}

impl FamilyState {
    /// Enters a VMO of the tree; makes its memory if it is the first of it.
    ///
    /// Children come and go with the family locked, and `VMO_ZERO_CHILDREN` changes in the same critical section: so it is set exactly while there are none.
    pub(crate) fn enter(
        &mut self,
        vmo: VmoId,
        koid: Koid,
        signals: &Arc<SignalState>,
        resizable: bool,
    ) -> MemoryId {
        let signals = signals.clone();
        self.vmos.insert(vmo, Member { koid, signals });
        if let Some(parent) = self.tree.parent(vmo) {
            let parent = &self.vmos[&parent].signals;
            parent.change(Signals::VMO_ZERO_CHILDREN, Signals::NONE);
        }
        let memory = self.tree.memory(vmo);
        let parent = self.tree.parent(vmo).map(|parent| self.tree.memory(parent));
        let layers = parent.and_then(|parent| self.find(parent));
        let layers = layers.map_or_else(LayerUse::default, |parent| parent.layers);
        let pages = self.memories.entry(memory).or_insert(CowPages {
            vmos: 0,
            resizable,
            home: Home::None,
            layers,
            regions: BTreeMap::new(),
        });
        pages.vmos += 1;
        memory
    }

    /// Ends a VMO.
    pub(crate) fn close(&mut self, vmo: VmoId) -> Garbage {
        let memory = self.tree.memory(vmo);
        let parent = self.tree.parent(vmo);
        self.vmos.remove(&vmo);
        // Its children become the parent's, which thus never has none in between.
        self.tree.close(vmo);
        if let Some(parent) = parent
            && self.tree.children(parent) == 0
        {
            let parent = &self.vmos[&parent].signals;
            parent.change(Signals::NONE, Signals::VMO_ZERO_CHILDREN);
        }
        let pages = self.memories.get_mut(&memory).expect("a VMO has a memory");
        pages.vmos -= 1;
        let ended = pages.vmos == 0;
        let mut garbage = self.collect();
        if ended {
            garbage.memory = self.memories.remove(&memory);
        }
        garbage
    }

    /// Takes out the layers that nothing refers to any more.
    pub(crate) fn collect(&mut self) -> Garbage {
        let mut garbage = Garbage {
            layers: std::mem::take(&mut self.unused),
            ..Garbage::default()
        };
        let layers = &mut self.layers;
        garbage.layers.extend(
            self.tree
                .take_dead_layers()
                .filter_map(|id| Some(layers.remove(&id)?.layer)),
        );
        garbage
    }

    pub(crate) fn koid(&self, vmo: VmoId) -> Koid {
        self.vmos
            .get(&vmo)
            .map_or(Koid::INVALID, |member| member.koid)
    }

    pub(crate) fn pages(&self, memory: MemoryId) -> &CowPages {
        &self.memories[&memory]
    }

    pub(crate) fn pages_mut(&mut self, memory: MemoryId) -> &mut CowPages {
        self.memories
            .get_mut(&memory)
            .expect("a memory lives as long as a VMO of it")
    }

    /// The memory, if a VMO of it still lives.
    pub(crate) fn find(&self, memory: MemoryId) -> Option<&CowPages> {
        self.memories.get(&memory)
    }

    /// All of them.
    pub(crate) fn memories(&self) -> impl Iterator<Item = (MemoryId, &CowPages)> {
        self.memories.iter().map(|(&memory, pages)| (memory, pages))
    }

    /// All sealed layers.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (LayerId, &Arc<WideLayer>)> {
        self.layers.iter().map(|(&id, sealed)| (id, &sealed.layer))
    }

    /// The VMOs that live.
    pub(crate) fn vmos(&self) -> impl Iterator<Item = (VmoId, Koid)> {
        self.vmos.iter().map(|(&vmo, member)| (vmo, member.koid))
    }

    /// The memories that may have changed something that the tree does not know.
    pub(crate) fn changed_memories(&self) -> Vec<MemoryId> {
        let changed = |pages: &CowPages| !matches!(pages.home, Home::None);
        let memories = self.memories.iter();
        memories
            .filter_map(|(&memory, pages)| changed(pages).then_some(memory))
            .collect()
    }

    /// A sealed layer of the family.
    pub(crate) fn layer(&self, id: LayerId) -> Option<&Arc<WideLayer>> {
        self.layers.get(&id).map(|sealed| &sealed.layer)
    }

    /// The layers that a mapping shows: not to be given up.
    pub(crate) fn mapped_layers(&self) -> HashSet<LayerId> {
        let regions = self
            .memories
            .values()
            .flat_map(|pages| pages.regions.values());
        let plans = regions.filter_map(|region| match &region.backing {
            Backing::Private(plan) => Some(plan),
            Backing::Shared => None,
        });
        let places = plans
            .flat_map(|plan| plan.segments())
            .map(|segment| segment.place);
        let layers = places.filter_map(|place| match place {
            Place::In(layer, _) => Some(layer),
            Place::Zero => None,
        });
        layers.collect()
    }

    /// How many pages lie in a layer; `None` for one that is not to be given up: a home, or one that is `mapped`.
    pub(crate) fn spare(&self, mapped: &HashSet<LayerId>, id: LayerId) -> Option<u64> {
        let sealed = self.layers.get(&id).filter(|_| !mapped.contains(&id));
        sealed.map(|sealed| sealed.held)
    }

    /// What use the layers are.
    pub(crate) fn layer_use(&self, mapped: &HashSet<LayerId>) -> LayerUse {
        let mut sum = LayerUse {
            layers: self.layers.len(),
            ..LayerUse::default()
        };
        for (id, seen) in self.tree.layers() {
            sum.seen += seen;
            if let Some(held) = self.spare(mapped, id)
                && is_wasted(seen, held)
            {
                sum.wasted += held - seen;
            }
        }
        sum
    }

    pub(crate) fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// Adds a layer in which `held` pages lie.
    pub(crate) fn add_layer(&mut self, id: LayerId, layer: Arc<WideLayer>, held: u64) {
        if Engine::running().is_some_and(|engine| engine.started_tracer().is_some()) {
            make_alias(&layer);
        }
        self.layers.insert(id, SealedLayer { layer, held });
    }

    /// Says how many pages lie in a layer.
    pub(crate) fn set_held(&mut self, id: LayerId, held: u64) {
        if let Some(sealed) = self.layers.get_mut(&id) {
            sealed.held = held;
        }
    }

    /// Takes a layer away that the tree does not name any more. Drop it with nothing locked.
    pub(crate) fn remove_layer(&mut self, id: LayerId) -> Option<Arc<WideLayer>> {
        self.layers.remove(&id).map(|sealed| sealed.layer)
    }

    /// Makes the layers ready for the fault handler.
    pub(crate) fn make_aliases(&self) {
        self.layers
            .values()
            .for_each(|sealed| make_alias(&sealed.layer));
    }

    /// Makes the pages present in `layer`, which has the memory's own page offsets, the memory's own and adds the layer.
    pub(crate) fn own_layer(
        &mut self,
        memory: MemoryId,
        id: LayerId,
        layer: WideLayer,
    ) -> Result<(), Status> {
        let mut extents = Vec::new();
        layer
            .data(0..layer.len(), |bytes| extents.push(bytes))
            .map_err(crate::report::no_memory("reading a layer's extents"))?;
        let size = page_size() as u64;
        let end = self.tree.pages(memory);
        let mut held = 0;
        for bytes in extents {
            let pages = bytes.start / size..(bytes.end / size).min(end);
            held += pages.end.saturating_sub(pages.start);
            if !pages.is_empty() {
                let first = pages.start;
                self.tree.own(memory, pages, id, first);
            }
        }
        self.add_layer(id, Arc::new(layer), held);
        self.drop_unused_layer(id);
        Ok(())
    }

    /// Makes runs of pages the memory's own and adds the layer that holds them and nothing else, each from some page of it on.
    pub(crate) fn own_runs_of(
        &mut self,
        memory: MemoryId,
        id: LayerId,
        layer: WideLayer,
        runs: &[(Range<u64>, u64)],
    ) {
        self.tree.own_all(memory, id, runs);
        let held = runs.iter().map(|(pages, _)| pages.end - pages.start).sum();
        self.add_layer(id, Arc::new(layer), held);
    }

    /// A layer in which nobody sees a page from the start is given up with the next garbage: the tree tells only of those that somebody saw.
    pub(crate) fn drop_unused_layer(&mut self, id: LayerId) {
        if self.tree.layer_pages(id) == 0
            && let Some(sealed) = self.layers.remove(&id)
        {
            self.unused.push(sealed.layer);
        }
    }

    /// All pages of a memory as runs.
    pub(crate) fn runs(&self, memory: MemoryId) -> Vec<Run> {
        self.runs_in(memory, 0..self.tree.pages(memory))
    }

    /// Some pages of a memory as runs.
    pub(crate) fn runs_in(&self, memory: MemoryId, pages: Range<u64>) -> Vec<Run> {
        let Range { start: mut at, end } = pages;
        let mut runs: Vec<Run> = Vec::new();
        while at < end {
            let run = self.tree.run(memory, at..end);
            at = run.pages.end;
            match runs.last_mut() {
                Some(last)
                    if crate::plan::advance(last.place, run.pages.start - last.pages.start)
                        == run.place =>
                {
                    last.pages.end = run.pages.end;
                }
                _ => runs.push(run),
            }
        }
        runs
    }

    /// A region by the mapping it stands for.
    pub(crate) fn region_mut(&mut self, memory: MemoryId, id: MappingId) -> Option<&mut Region> {
        self.memories.get_mut(&memory)?.regions.get_mut(&id)
    }
}

impl CowPages {
    /// Whether one VMO alone shows the memory.
    pub(crate) fn is_only_vmo(&self) -> bool {
        self.vmos == 1
    }

    /// Whether it is mapped, or about to be: a call that maps it has chosen what the mapping shows, and holds the address space until the region is there.
    pub(crate) fn is_mapped(&self) -> bool {
        !self.regions.is_empty() || matches!(self.home, Home::Private { .. })
    }

    /// Whether all of it lies in layers, and no thread can change it.
    pub(crate) fn is_sealed(&self) -> bool {
        self.regions.is_empty() && matches!(self.home, Home::None)
    }

    /// Whether there is one region, which covers all of the memory.
    pub(crate) fn covers_all(&self, memory_pages: u64) -> bool {
        let whole =
            |region: &Region| region.page == 0 && region.range.pages() as u64 == memory_pages;
        self.regions.len() == 1 && self.regions.values().all(whole)
    }

    /// The one region of a memory that has one, as every memory in its private home has.
    pub(crate) fn only_region(&self) -> &Region {
        self.regions.values().next().expect(ONE_REGION)
    }

    /// As [`Self::only_region`], to change.
    pub(crate) fn only_region_mut(&mut self) -> &mut Region {
        self.regions.values_mut().next().expect(ONE_REGION)
    }
}

impl Region {
    /// Notes that threads may store to a range, which lies in the region, without a fault from now on.
    pub(crate) fn note_open(&self, range: HostRange) {
        let first = self.page_at(range.start());
        self.open.note(first..first + range.pages() as u64);
    }

    /// The page of the memory at `address`, which lies in the region.
    pub(crate) fn page_at(&self, address: usize) -> u64 {
        self.page + ((address - self.range.start()) / page_size()) as u64
    }

    /// The addresses of the memory's pages `first..end`, as far as they lie in the region.
    pub(crate) fn addresses(&self, first: u64, end: u64) -> Option<HostRange> {
        let last = self.page + self.range.pages() as u64;
        let (first, end) = (first.max(self.page), end.min(last));
        if first >= end {
            return None;
        }
        let size = page_size();
        self.range.sub(
            (first - self.page) as usize * size,
            (end - first) as usize * size,
        )
    }
}
