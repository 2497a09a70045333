//! Records made of a snapshot and of the page table. Nothing is locked here.

use std::collections::BTreeMap;

use host_memory::page::{HostRange, page_size};
use host_memory::pagemap::PageFlags;
use host_memory::usage::FileUsage;
use nix::time::{ClockId, clock_gettime};
use page_tree::{LayerId, MemoryId};

use super::records::{
    FamilyRecord, HomeRecord, Inspection, LayerFile, LayerRecord, Live, MapRecord, MappingRecord,
    Memory, MemoryRecord, NodeRecord, OwnedRecord, VmoKindRecord, VmoRecord,
};
use super::snapshot::{
    FamilySnapshot, HomeSnapshot, Look, Mapped, MemorySnapshot, SeenVmo, Shown, Snapshot,
};
use crate::engine::Engine;
use crate::object::VmoKind;
use crate::options::Perms;
use crate::report::no_memory;
use crate::status::Status;

/// What `Live` tells. Without an engine all figures are 0.
pub(super) fn live(engine: Option<&'static Engine>) -> Result<Live, Status> {
    // The faults first, so that they are of the moment that is told: whoever divides by the time between two looks gets a rate.
    let at_ns = now();
    let (faults, times) = crate::engine::fault_stats_and_times().unzip();
    let memory = match engine {
        Some(engine) => Scanned::take(engine, Look::AsIs)?.memory(),
        None => Memory::default(),
    };
    Ok(Live {
        pid: std::process::id(),
        at_ns,
        page_size: page_size() as u64,
        faults,
        times,
        memory,
    })
}

/// What `Inspect` tells.
pub(super) fn inspect(engine: Option<&'static Engine>) -> Result<Inspection, Status> {
    let at_ns = now();
    let mut inspection = Inspection {
        pid: std::process::id(),
        cowspace: env!("CARGO_PKG_VERSION").into(),
        at_ns,
        page_size: page_size() as u64,
        ..Inspection::default()
    };
    if let Some(engine) = engine {
        let scanned = Scanned::take(engine, Look::Reconciled)?;
        inspection.traced = engine.started_tracer().is_some();
        inspection.memory = scanned.memory();
        inspection.maps = scanned.maps();
        inspection.vmos = scanned.vmos();
        inspection.families = scanned.families();
    }
    inspection.took_ns = now().saturating_sub(at_ns);
    Ok(inspection)
}

fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs()
    })
}

/// Pages of a range that are in the page table.
#[derive(Clone, Copy, Debug, Default)]
struct Resident {
    private: u64,
    shared: u64,
}

/// A snapshot, and what the page table says.
struct Scanned {
    snapshot: Snapshot,
    /// Of each record of the maps.
    resident: Vec<Resident>,
    /// By family and memory, of those in their private homes.
    private: BTreeMap<(usize, MemoryId), PrivatePages>,
    page: u64,
}

/// Private pages of a memory in its private home.
#[derive(Clone, Copy, Debug, Default)]
struct PrivatePages {
    all: u64,
    /// Those of which the tree says that they are zero.
    unknown: u64,
}

impl Scanned {
    fn take(engine: &'static Engine, look: Look) -> Result<Scanned, Status> {
        let snapshot = Snapshot::take(engine, look)?;
        let mut scanned = Scanned {
            resident: Vec::with_capacity(snapshot.maps.len()),
            private: BTreeMap::new(),
            page: page_size() as u64,
            snapshot,
        };
        for index in 0..scanned.snapshot.maps.len() {
            let resident = scanned.scan(engine, index)?;
            scanned.resident.push(resident);
        }
        Ok(scanned)
    }

    /// Looks at the page table of a record.
    fn scan(&mut self, engine: &'static Engine, index: usize) -> Result<Resident, Status> {
        let mapped = &self.snapshot.maps[index];
        let mut resident = Resident::default();
        let range = HostRange::new(mapped.range.start, mapped.range.len());
        let (Some(shown), Some(range)) = (&mapped.mapping, range) else {
            return Ok(resident);
        };
        let in_private_home = self.snapshot.vmos.get(&shown.koid).and_then(|vmo| {
            let family = &self.snapshot.families[vmo.family];
            let memory = family.memories.get(&vmo.memory)?;
            let private = matches!(memory.home, HomeSnapshot::Private { .. });
            private.then_some((vmo, family, memory))
        });
        let mut pages = PrivatePages::default();
        engine
            .pagemap
            .scan(range, PageFlags::PRIVATE | PageFlags::FILE, |run, flags| {
                let len = run.pages() as u64;
                if flags.contains(PageFlags::FILE) {
                    resident.shared += len;
                } else if !flags.contains(PageFlags::SWAPPED) {
                    resident.private += len;
                    if let Some((vmo, family, memory)) = in_private_home {
                        pages.all += len;
                        pages.unknown += unknown(family, vmo, memory, run);
                    }
                }
            })
            .map_err(no_memory("looking at a page table"))?;
        if let Some((vmo, ..)) = in_private_home {
            let sum = self.private.entry((vmo.family, vmo.memory)).or_default();
            sum.all += pages.all;
            sum.unknown += pages.unknown;
        }
        Ok(resident)
    }

    fn memory(&self) -> Memory {
        let snapshot = &self.snapshot;
        let mut memory = Memory {
            mappings: snapshot.mappings,
            vmos: snapshot.vmos.len() as u64,
            families: snapshot.families.len() as u64,
            ..Memory::default()
        };
        for (mapped, resident) in snapshot.maps.iter().zip(&self.resident) {
            if mapped.mapping.is_some() {
                memory.mapped_bytes += mapped.range.len() as u64;
            }
            memory.private_bytes += resident.private * self.page;
            memory.shared_bytes += resident.shared * self.page;
        }
        for (index, family) in snapshot.families.iter().enumerate() {
            memory.layers += family.layers.len() as u64;
            for layer in family.layers.values() {
                for file in layer.files() {
                    let bytes = FileUsage::of(file.as_fd()).map_or(0, |usage| usage.bytes);
                    memory.layer_bytes += bytes;
                    if file.is_received() {
                        memory.received_bytes += bytes;
                    }
                }
            }
            for (&id, taken) in &family.memories {
                if let HomeSnapshot::File { files, .. } = &taken.home {
                    memory.file_bytes += bytes_of(files);
                }
                memory.copied_bytes += self.copied(index, id, taken);
            }
        }
        memory
    }

    /// The bytes that a memory would hold if all that it shows were its own.
    fn copied(&self, family: usize, id: MemoryId, memory: &MemorySnapshot) -> u64 {
        let populated = |unknown| {
            let populated = self.snapshot.families[family].populated(id);
            (populated + unknown) * self.page
        };
        match &memory.home {
            HomeSnapshot::None => populated(0),
            HomeSnapshot::File {
                complete: true,
                files,
                ..
            } => bytes_of(files),
            HomeSnapshot::File { unknown, .. } => populated(*unknown),
            HomeSnapshot::Private { .. } => populated(
                self.private
                    .get(&(family, id))
                    .map_or(0, |pages| pages.unknown),
            ),
        }
    }

    fn maps(&self) -> Vec<MapRecord> {
        let records = self.snapshot.maps.iter().zip(&self.resident);
        let record = |(mapped, resident): (&Mapped, &Resident)| MapRecord {
            depth: mapped.depth as u64,
            start: mapped.range.start as u64,
            len: mapped.range.len() as u64,
            mapping: mapped
                .mapping
                .as_ref()
                .map(|shown| self.mapping(mapped, shown, *resident)),
        };
        records.map(record).collect()
    }

    fn mapping(&self, mapped: &Mapped, shown: &Shown, resident: Resident) -> MappingRecord {
        let vmo = self.snapshot.vmos.get(&shown.koid);
        // None of a VMO that was closed and unmapped meanwhile.
        let memory = vmo.and_then(|vmo| {
            let family = &self.snapshot.families[vmo.family];
            family.memories.get(&vmo.memory)
        });
        let start = mapped.range.start;
        let region = memory.and_then(|memory| {
            let mut regions = memory.regions.iter();
            regions.find(|region| region.range.contains(start))
        });
        MappingRecord {
            perms: perms(shown.perms),
            koid: shown.koid,
            name: vmo.map_or_else(String::new, |vmo| vmo.name.to_string()),
            vmo_offset: shown.vmo_offset,
            traced: region.is_some_and(|region| region.traced),
            home: memory.map_or(HomeRecord::None, home),
            private_bytes: resident.private * self.page,
            shared_bytes: resident.shared * self.page,
        }
    }

    fn vmos(&self) -> Vec<VmoRecord> {
        let vmos = self.snapshot.vmos.iter();
        let places: Vec<BTreeMap<MemoryId, u64>> =
            self.snapshot.families.iter().map(places).collect();
        let record = |(&koid, seen): (&u64, &SeenVmo)| {
            let family = &self.snapshot.families[seen.family];
            let tree = &family.tree;
            let sum = tree.attribution(seen.vmo, 0..tree.pages(seen.vmo));
            let parent = tree.parent(seen.vmo);
            let parent = parent.and_then(|parent| family.vmos.get(&parent));
            VmoRecord {
                koid,
                name: seen.name.to_string(),
                kind: match seen.kind {
                    VmoKind::Root => VmoKindRecord::Root,
                    VmoKind::Clone => VmoKindRecord::Clone,
                    VmoKind::Slice(_) => VmoKindRecord::Slice,
                    VmoKind::Reference => VmoKindRecord::Reference,
                },
                parent: parent.map(|koid| koid.raw_koid()),
                size_bytes: tree.pages(seen.vmo) * self.page,
                resizable: seen.resizable,
                discardable: seen.discardable,
                immutable: seen.immutable,
                children: tree.children(seen.vmo) as u64,
                mappings: seen.mappings,
                handles: seen.handles,
                family: seen.family as u64,
                node: places[seen.family].get(&seen.memory).copied().unwrap_or(0),
                committed_bytes: sum.populated_bytes(self.page),
                private_bytes: sum.private_bytes(self.page),
                scaled_bytes: sum.scaled_bytes(self.page),
                fractional_scaled_bytes: sum.fractional_scaled_bytes(self.page),
            }
        };
        vmos.map(record).collect()
    }

    fn families(&self) -> Vec<FamilyRecord> {
        let families = self.snapshot.families.iter().enumerate();
        let record = |(index, family): (usize, &FamilySnapshot)| FamilyRecord {
            nodes: self.nodes(index, family),
            layers: self.layers(index, family),
        };
        families.map(record).collect()
    }

    fn nodes(&self, index: usize, family: &FamilySnapshot) -> Vec<NodeRecord> {
        let mut vmos: BTreeMap<MemoryId, Vec<u64>> = BTreeMap::new();
        for (&koid, seen) in &self.snapshot.vmos {
            if seen.family == index {
                vmos.entry(seen.memory).or_default().push(koid);
            }
        }
        let nodes = family.tree.outline().into_iter().map(|node| {
            let owned = node.owned.iter().map(|&(layer, pages)| OwnedRecord {
                layer: layer.0,
                bytes: pages * self.page,
            });
            let owned: Vec<OwnedRecord> = owned.collect();
            NodeRecord {
                parent: node.parent.map(|edge| edge.parent as u64),
                parent_offset: node.parent.map_or(0, |edge| edge.offset * self.page),
                parent_limit: node.parent.map_or(0, |edge| edge.limit * self.page),
                owned_bytes: owned.iter().map(|owned| owned.bytes).sum(),
                zero_bytes: node.zero * self.page,
                runs: node.runs,
                layers: owned,
                memory: node.memory.map(|memory| MemoryRecord {
                    size_bytes: family.tree.pages(memory) * self.page,
                    vmos: vmos.remove(&memory).unwrap_or_default(),
                    home: family.memories.get(&memory).map_or(HomeRecord::None, home),
                }),
            }
        });
        nodes.collect()
    }

    fn layers(&self, index: usize, family: &FamilySnapshot) -> Vec<LayerRecord> {
        let mut layers: BTreeMap<LayerId, LayerRecord> = BTreeMap::new();
        let record = |id: LayerId, len, usage: Vec<FileUsage>| LayerRecord {
            id: id.0,
            sealed: false,
            len,
            memory_bytes: bytes_of(&usage),
            owned_bytes: family.tree.layer_pages(id) * self.page,
            received: false,
            files: usage.into_iter().map(file).collect(),
            mapped_at: Vec::new(),
        };
        for (&id, layer) in &family.layers {
            let usage = layer
                .files()
                .filter_map(|file| FileUsage::of(file.as_fd()).ok());
            let sealed = LayerRecord {
                sealed: true,
                received: layer.files().any(|file| file.is_received()),
                ..record(id, layer.len(), usage.collect())
            };
            layers.insert(id, sealed);
        }
        for (&memory, taken) in &family.memories {
            match &taken.home {
                HomeSnapshot::None => {}
                HomeSnapshot::File {
                    layer, len, files, ..
                } => drop(layers.insert(*layer, record(*layer, *len, files.clone()))),
                HomeSnapshot::Private { layer } => {
                    let private = self.private.get(&(index, memory));
                    let home = LayerRecord {
                        memory_bytes: private.map_or(0, |pages| pages.all * self.page),
                        ..record(*layer, family.tree.pages(memory) * self.page, Vec::new())
                    };
                    layers.insert(*layer, home);
                }
            }
        }
        for region in family.memories.values().flat_map(|memory| &memory.regions) {
            for id in &region.shows {
                if let Some(layer) = layers.get_mut(id) {
                    layer.mapped_at.push(region.range.start() as u64);
                }
            }
        }
        layers.into_values().collect()
    }
}

/// Private pages of a memory in its private home, of which the tree says that they are zero.
fn unknown(family: &FamilySnapshot, vmo: &SeenVmo, memory: &MemorySnapshot, run: HostRange) -> u64 {
    let regions = memory.regions.iter();
    let zeros = regions.map(|region| {
        let start = run.start().max(region.range.start());
        let end = run.end().min(region.range.end());
        if start >= end {
            return 0;
        }
        let page = |at: usize| region.page + ((at - region.range.start()) / page_size()) as u64;
        family.zeros(vmo.memory, page(start)..page(end))
    });
    zeros.sum()
}

/// Where each memory is in the outline.
fn places(family: &FamilySnapshot) -> BTreeMap<MemoryId, u64> {
    let nodes = family.tree.outline().into_iter();
    (0..)
        .zip(nodes)
        .filter_map(|(at, node)| Some((node.memory?, at)))
        .collect()
}

fn home(memory: &MemorySnapshot) -> HomeRecord {
    match memory.home {
        HomeSnapshot::None => HomeRecord::None,
        HomeSnapshot::File { complete: true, .. } => HomeRecord::File,
        HomeSnapshot::File { .. } => HomeRecord::SparseFile,
        HomeSnapshot::Private { .. } => HomeRecord::Private,
    }
}

fn bytes_of(files: &[FileUsage]) -> u64 {
    files.iter().map(|usage| usage.bytes).sum()
}

fn file(usage: FileUsage) -> LayerFile {
    LayerFile {
        device: usage.device,
        inode: usage.inode,
        memory_bytes: usage.bytes,
    }
}

fn perms(perms: Perms) -> String {
    let letter = |perm, letter| if perms.contains(perm) { letter } else { '-' };
    [
        letter(Perms::READ, 'r'),
        letter(Perms::WRITE, 'w'),
        letter(Perms::EXECUTE, 'x'),
    ]
    .iter()
    .collect()
}
