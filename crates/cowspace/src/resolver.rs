//! What the fault handler asks the engine: which page belongs there?
//!
//! LOCKS: the handler takes the fault table to find the region's family, releases it, takes the family and keeps it until the page is installed: as long as
//! it is locked no layer dies and no region changes. Nobody waits for the handler with a family locked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::lock::RwLock;
use fault_handler::{
    Answer, Fault, FaultHandler, FaultKind, Installer, Options, Outcome, Protect, Resolver,
    most_copied,
};
use host_memory::page::{HostRange, page_size};
use host_memory::probe::Probe;
use host_memory::uffd::{Modes, Uffd};
use page_tree::{MemoryId, Place};

use crate::ahead;
use crate::aspace::MappingId;
use crate::family::{Backing, Family, FamilyState, Home, Region};
use crate::recording;

/// A read fault maps up to so many neighbours as well, as the kernel's fault-around does.
const WINDOW_PAGES: u64 = 16;

/// The userfaultfd, and the thread that serves it.
pub(crate) struct Tracer {
    pub(crate) uffd: Arc<Uffd>,
    pub(crate) handler: FaultHandler,
    /// First writes to pages that were read can be seen: the kernel write-protects private pages of files, also when it maps them.
    pub(crate) writes: bool,
}

/// Which region's family answers for an address.
#[derive(Default)]
pub(crate) struct FaultTable {
    regions: RwLock<BTreeMap<usize, Target>>,
}

#[derive(Clone)]
struct Target {
    range: HostRange,
    family: Arc<Family>,
    memory: MemoryId,
    id: MappingId,
}

/// The engine as the fault handler sees it.
struct EngineResolver {
    table: Arc<FaultTable>,
    writes: bool,
}

impl Tracer {
    /// Opens a userfaultfd and has a handler serve it; `None` where this machine does not have what traced mode needs.
    pub(crate) fn start(table: &Arc<FaultTable>) -> Option<Tracer> {
        let probe = Probe::get();
        if !probe.traced.is_yes() {
            tracing::info!("no usable userfaultfd: mappings are native");
            return None;
        }
        let writes = probe.write_tracking.is_yes();
        let start = || -> Result<Tracer, Box<dyn std::error::Error>> {
            let uffd = Arc::new(Uffd::open()?);
            let resolver = Arc::new(EngineResolver {
                table: table.clone(),
                writes,
            });
            let handler = ahead::take()?.serve(
                uffd.clone(),
                resolver,
                Options::default(),
                recording::recorder(),
            )?;
            Ok(Tracer {
                uffd,
                handler,
                writes,
            })
        };
        start()
            .inspect_err(
                |error| tracing::warn!(%error, "traced mode does not start: mappings are native"),
            )
            .ok()
    }

    /// How a private mapping is registered, over a file or as anonymous memory (which has no pages to map without copying).
    pub(crate) fn private_modes(&self, file: bool) -> Modes {
        let mut modes = Modes::MISSING;
        modes.set(Modes::MINOR, file);
        modes.set(Modes::WP, self.writes);
        modes
    }
}

impl FaultTable {
    pub(crate) fn insert(&self, family: &Arc<Family>, memory: MemoryId, region: &Region) {
        let target = Target {
            range: region.range,
            family: family.clone(),
            memory,
            id: region.id,
        };
        self.regions.write().insert(region.range.start(), target);
    }

    /// Forgets the region that begins at `start`.
    pub(crate) fn remove(&self, start: usize) {
        let removed = self.regions.write().remove(&start);
        // The family it may be the last reference to is dropped here, with the table unlocked.
        drop(removed);
    }

    fn find(&self, address: usize) -> Option<Target> {
        let regions = self.regions.read();
        let (_, target) = regions.range(..=address).next_back()?;
        target.range.contains(address).then(|| target.clone())
    }
}

impl Resolver for EngineResolver {
    fn resolve(&self, fault: &Fault, install: Installer<'_>) -> Outcome {
        let Some(target) = self.table.find(fault.page) else {
            return install.retry();
        };
        let state = target.family.lock();
        let region = state
            .find(target.memory)
            .and_then(|pages| pages.regions.get(&target.id));
        match region {
            Some(region) if region.parked => install.park(),
            Some(region) if region.range.contains(fault.page) => match &region.backing {
                Backing::Shared => resolve_shared(&state, target.memory, region, fault, install),
                Backing::Private(plan) => {
                    let page = region.page_at(fault.page);
                    self.resolve_private(
                        &state,
                        target.memory,
                        region,
                        plan.shows(page),
                        fault,
                        install,
                    )
                }
            },
            // The mapping has changed since the fault: the thread tries again and meets what is there now.
            _ => install.retry(),
        }
    }
}

impl EngineResolver {
    fn resolve_private(
        &self,
        state: &FamilyState,
        memory: MemoryId,
        region: &Region,
        shown: Place,
        fault: &Fault,
        install: Installer<'_>,
    ) -> Outcome {
        let page = region.page_at(fault.page);
        let wanted = if fault.write { wanted(region, page) } else { 1 };
        if fault.kind == FaultKind::WriteProtect {
            // Whatever is mapped there is right; the kernel copies it if it is the layer's.
            install.found(Answer::Own);
            open(region, page..page + wanted);
            return install.unprotect(wanted as usize);
        }
        let (run, depth) = state.tree.run_and_depth(memory, page..page + wanted);
        let pages = (run.pages.end - page) as usize;
        if fault.write {
            open(region, run.pages.clone());
        }
        let protect = if fault.write || !self.writes {
            Protect::None
        } else {
            Protect::Write
        };
        // The zero page is never write-protected.
        let zeros = |install, pages| {
            region.open.note(page..page + 1);
            zeros(fault, pages, install)
        };
        let Place::In(layer, layer_page) = run.place else {
            install.found(Answer::Zero);
            return zeros(install, pages);
        };
        let Some(bytes) = state.layer(layer) else {
            install.found(Answer::Own);
            // The memory's own private page is gone, and nothing in the engine takes one away without telling the tree.
            return install.poison("a private page was discarded behind the engine's back");
        };
        install.found(Answer::Layer { depth });
        let offset = layer_page * page_size() as u64;
        match (run.place == shown, fault.kind, fault.write) {
            (true, FaultKind::Minor, false) => {
                install.continue_(self.window(state, memory, region, page), protect)
            }
            // The layer has no page there: the tree counts a page that was committed and never touched.
            (true, FaultKind::Missing, _) => zeros(install, 1),
            _ => match bytes.at(offset) {
                Some((layer, offset)) => install.copy_layer(layer, offset, pages, protect),
                None => zeros(install, 1),
            },
        }
    }

    /// The neighbours of `page` that are mapped from the same layer in sequence, as the kernel can map them in one go.
    fn window(
        &self,
        state: &FamilyState,
        memory: MemoryId,
        region: &Region,
        page: u64,
    ) -> HostRange {
        let mut first = page;
        let mut end = page + 1;
        if region.uniform
            && let Backing::Private(plan) = &region.backing
        {
            let limit = region.page + region.range.pages() as u64;
            let start = (page / WINDOW_PAGES * WINDOW_PAGES).max(region.page);
            let stop = (start + WINDOW_PAGES).min(limit);
            let same = |at: u64| {
                let place = state.tree.resolve(memory, at);
                place != Place::Zero && place == plan.shows(at)
            };
            while first > start && same(first - 1) {
                first -= 1;
            }
            while end < stop && same(end) {
                end += 1;
            }
        }
        region.addresses(first, end).unwrap_or(region.range)
    }
}

/// How many pages from `page` on to serve for a store there: more than one where stores come in sequence.
fn wanted(region: &Region, page: u64) -> u64 {
    let end = region.page + region.range.pages() as u64;
    let most = if region.uniform {
        (most_copied() as u64).min(end - page)
    } else {
        1
    };
    region.stores.store(page, most)
}

/// Notes that stores to `pages` are let through, for one to the first of them.
fn open(region: &Region, pages: Range<u64>) {
    region.ahead.note(pages.start + 1..pages.end);
    region.open.note(pages);
}

fn resolve_shared(
    state: &FamilyState,
    memory: MemoryId,
    region: &Region,
    fault: &Fault,
    install: Installer<'_>,
) -> Outcome {
    let page = region.page_at(fault.page);
    let (run, depth) = state.tree.run_and_depth(memory, page..page + 1);
    let Place::In(layer, layer_page) = run.place else {
        install.found(Answer::Zero);
        return install.zero();
    };
    let Some(bytes) = state.layer(layer) else {
        install.found(Answer::Own);
        // In its own file: what is not there is zero.
        return install.zero();
    };
    install.found(Answer::Layer { depth });
    match &state.pages(memory).home {
        Home::MemFd {
            complete: false, ..
        } => match bytes.at(layer_page * page_size() as u64) {
            Some((layer, offset)) => install.copy_layer(layer, offset, 1, Protect::None),
            None => install.zero(),
        },
        // What is not there is zero in a complete file as well.
        _ => install.zero(),
    }
}

/// A page of zeros for a private mapping: the zero page to a reader, one of its own to a writer.
fn zeros(fault: &Fault, pages: usize, install: Installer<'_>) -> Outcome {
    if fault.write {
        install.copy_zeros(pages, Protect::None)
    } else {
        install.zero()
    }
}
