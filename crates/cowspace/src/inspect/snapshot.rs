//! What an inspection looks at, copied: the address space as it was at one instant, and each family as it was at one of its own. After that nothing is locked.
//!
//! No VMO is held, so that one that is closed meanwhile ends at once: its parent may count on having no child any more, and whoever unmaps it on having been its last.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use host_memory::page::{HostRange, page_size};
use host_memory::usage::FileUsage;
use page_tree::{LayerId, MemoryId, Place, Tree, VmoId};

use crate::aspace::RecordDetails;
use crate::content::Content;
use crate::engine::Engine;
use crate::family::{Backing, Family, FamilyState, Home, Region};
use crate::hash::HashMap;
use crate::info::{Koid, Name};
use crate::object::{Object, VmObject, VmoKind};
use crate::options::{Perms, Policy};
use crate::report::no_memory;
use crate::status::Status;
use crate::wide::{WideFile, WideLayer};

/// How thoroughly it is looked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// The trees are told first what threads have changed through mappings.
    Reconciled,
    /// As the trees are. Costs less.
    AsIs,
}

/// A process's VMARs, VMOs and families.
pub(super) struct Snapshot {
    pub(super) maps: Vec<Mapped>,
    /// Number of mappings, as Zircon counts them.
    pub(super) mappings: u64,
    /// By koid.
    pub(super) vmos: BTreeMap<u64, SeenVmo>,
    /// In the order of their oldest VMO.
    pub(super) families: Vec<FamilySnapshot>,
}

/// A record of the memory map.
pub(super) struct Mapped {
    pub(super) depth: usize,
    pub(super) range: Range<usize>,
    /// `None`: a VMAR.
    pub(super) mapping: Option<Shown>,
}

/// What a record shows.
pub(super) struct Shown {
    pub(super) koid: u64,
    pub(super) vmo_offset: u64,
    pub(super) perms: Perms,
}

/// A VMO that has a handle or a mapping.
pub(super) struct SeenVmo {
    pub(super) name: Name,
    pub(super) kind: VmoKind,
    pub(super) resizable: bool,
    pub(super) discardable: bool,
    pub(super) immutable: bool,
    pub(super) vmo: VmoId,
    pub(super) memory: MemoryId,
    /// Index of the family.
    pub(super) family: usize,
    pub(super) handles: u64,
    pub(super) mappings: u64,
}

/// A family at one instant.
pub(super) struct FamilySnapshot {
    pub(super) tree: Tree,
    /// VMOs that lived then.
    pub(super) vmos: BTreeMap<VmoId, Koid>,
    pub(super) layers: BTreeMap<LayerId, Arc<WideLayer>>,
    pub(super) memories: BTreeMap<MemoryId, MemorySnapshot>,
}

/// A memory at that instant.
pub(super) struct MemorySnapshot {
    pub(super) home: HomeSnapshot,
    pub(super) regions: Vec<RegionSnapshot>,
}

pub(super) enum HomeSnapshot {
    None,
    File {
        layer: LayerId,
        len: u64,
        /// Pages that are not in the file are zero, and not what the tree says.
        complete: bool,
        files: Vec<FileUsage>,
        /// Pages that are in a file that is not complete, and of which the tree says that they are zero.
        unknown: u64,
    },
    Private {
        layer: LayerId,
    },
}

pub(super) struct RegionSnapshot {
    pub(super) range: HostRange,
    /// Page of the memory at the start of `range`.
    pub(super) page: u64,
    pub(super) traced: bool,
    /// What the kernel has mapped there.
    pub(super) shows: Vec<LayerId>,
}

impl Snapshot {
    pub(super) fn take(engine: &'static Engine, look: Look) -> Result<Snapshot, Status> {
        let mut seen = Seen::default();
        engine.handles.each(|object| {
            if let Object::Vmo(vmo) = object {
                seen.vmo(vmo).handles += 1;
            }
        });
        let space = engine.space();
        for mapping in space.mappings() {
            let vmo = seen.vmo(mapping.vmo());
            if space.begins_mapping(mapping) {
                vmo.mappings += 1;
            }
        }
        let records = space.maps(engine.root.id)?.into_iter();
        let maps = records.map(|record| Mapped {
            depth: record.depth,
            range: record.range,
            mapping: match record.details {
                RecordDetails::Vmar => None,
                RecordDetails::Mapping {
                    vmo,
                    vmo_offset,
                    perms,
                } => Some(Shown {
                    koid: vmo.koid.raw_koid(),
                    vmo_offset,
                    perms,
                }),
            },
        });
        let maps = maps.collect();
        drop(space);

        let mut snapshot = Snapshot {
            maps,
            mappings: seen.vmos.values().map(|vmo| vmo.mappings).sum(),
            families: Vec::with_capacity(seen.families.len()),
            vmos: seen.vmos,
        };
        for (family, memory) in &seen.families {
            let content = Content::of_family(engine, engine.space(), family, *memory);
            snapshot.families.push(FamilySnapshot::take(content, look)?);
        }
        let families = &snapshot.families;
        snapshot
            .vmos
            .retain(|_, seen| families[seen.family].vmos.contains_key(&seen.vmo));
        Ok(snapshot)
    }
}

/// What was found so far.
#[derive(Default)]
struct Seen {
    vmos: BTreeMap<u64, SeenVmo>,
    /// Each with one of its memories.
    families: Vec<(Arc<Family>, MemoryId)>,
    family_of: HashMap<*const Family, usize>,
}

impl Seen {
    fn vmo(&mut self, vmo: &Arc<VmObject>) -> &mut SeenVmo {
        let families = &mut self.families;
        let family = *self
            .family_of
            .entry(Arc::as_ptr(&vmo.family))
            .or_insert_with(|| {
                families.push((vmo.family.clone(), vmo.memory));
                families.len() - 1
            });
        self.vmos
            .entry(vmo.koid.raw_koid())
            .or_insert_with(|| SeenVmo {
                name: vmo.name(),
                kind: vmo.kind,
                resizable: vmo.resizable,
                discardable: vmo.discardable.is_some(),
                immutable: vmo.immutable,
                vmo: vmo.vmo,
                memory: vmo.memory,
                family,
                handles: 0,
                mappings: 0,
            })
    }
}

impl FamilySnapshot {
    fn take(mut content: Content<'_>, look: Look) -> Result<FamilySnapshot, Status> {
        if look == Look::Reconciled {
            content.reconcile_family_gently()?;
        }
        let state = &content.state;
        let mut memories = BTreeMap::new();
        for (memory, pages) in state.memories() {
            let regions = pages.regions.values().map(|region| RegionSnapshot {
                range: region.range,
                page: region.page,
                traced: region.policy == Policy::Traced,
                shows: shows(region, &pages.home),
            });
            let taken = MemorySnapshot {
                home: HomeSnapshot::take(state, memory, &pages.home)?,
                regions: regions.collect(),
            };
            memories.insert(memory, taken);
        }
        Ok(FamilySnapshot {
            tree: state.tree.clone(),
            vmos: state.vmos().collect(),
            layers: state
                .layers()
                .map(|(id, layer)| (id, layer.clone()))
                .collect(),
            memories,
        })
    }

    /// How many pages of a memory hold something, as far as the tree knows.
    pub(super) fn populated(&self, memory: MemoryId) -> u64 {
        let end = self.tree.pages(memory);
        count(&self.tree, memory, 0..end, |place| place != Place::Zero)
    }

    /// How many of some pages of a memory are zero, as far as the tree knows.
    pub(super) fn zeros(&self, memory: MemoryId, pages: Range<u64>) -> u64 {
        count(&self.tree, memory, pages, |place| place == Place::Zero)
    }
}

impl HomeSnapshot {
    fn take(state: &FamilyState, memory: MemoryId, home: &Home) -> Result<HomeSnapshot, Status> {
        Ok(match home {
            Home::None => HomeSnapshot::None,
            Home::Private { layer } => HomeSnapshot::Private { layer: *layer },
            Home::MemFd {
                layer,
                file,
                complete,
            } => HomeSnapshot::File {
                layer: *layer,
                len: file.len(),
                complete: *complete,
                files: file.usage().map_err(no_memory("looking at a file"))?,
                unknown: if *complete {
                    0
                } else {
                    unknown(state, memory, file)?
                },
            },
        })
    }
}

/// Pages in a file of which the tree says that they are zero.
fn unknown(state: &FamilyState, memory: MemoryId, file: &WideFile) -> Result<u64, Status> {
    let size = page_size() as u64;
    let end = state.tree.pages(memory);
    let mut sum = 0;
    file.data(0..end * size, |bytes| {
        let pages = bytes.start / size..bytes.end / size;
        sum += count(&state.tree, memory, pages, |place| place == Place::Zero);
    })
    .map_err(no_memory("reading a file's extents"))?;
    Ok(sum)
}

fn count(tree: &Tree, memory: MemoryId, pages: Range<u64>, is: impl Fn(Place) -> bool) -> u64 {
    let Range { start: mut at, end } = pages;
    let mut sum = 0;
    while at < end {
        let run = tree.run(memory, at..end);
        if is(run.place) {
            sum += run.pages.end - run.pages.start;
        }
        at = run.pages.end;
    }
    sum
}

/// The layers that the kernel has mapped in a region, the home among them.
fn shows(region: &Region, home: &Home) -> Vec<LayerId> {
    let (Home::MemFd { layer: own, .. } | Home::Private { layer: own }) = home else {
        return Vec::new();
    };
    let mut layers = vec![*own];
    if let Backing::Private(plan) = &region.backing {
        layers.extend(
            plan.segments()
                .iter()
                .filter_map(|segment| match segment.place {
                    Place::In(layer, _) => Some(layer),
                    Place::Zero => None,
                }),
        );
    }
    layers.sort_unstable();
    layers.dedup();
    layers
}
