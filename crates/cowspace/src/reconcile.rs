//! Bringing the tree up to date with what threads stored through mappings.
//!
//! No count is kept of that: the kernel knows which pages a private mapping has of its own and which pages a file holds. Such a page is *changed* if it
//! shows something else than the tree says. Pages that were only copied in to be read are not; they are told apart by their bytes.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use host_memory::page::{HostRange, page_size};
use page_tree::{LayerId, MemoryId, Place, Run};

use crate::bounce::Bounce;
use crate::content::Content;
use crate::cut::{Gathered, fail_closed, push_range};
use crate::engine::Engine;
use crate::family::{Backing, Family, FamilyState, Home, new_layer_id};
use crate::lock::MutexGuard;
use crate::options::Policy;
use crate::plan::advance;
use crate::report::no_memory;
use crate::status::Status;
use crate::wide::{WideFile, WideLayer};

/// Pages that the home has, and what the tree says of them.
#[derive(Default)]
struct Candidates {
    /// Surely changed.
    changed: Vec<Range<u64>>,
    /// Changed if their bytes differ.
    compare: Vec<(Range<u64>, Expected)>,
}

/// What the tree says that a run of pages shows.
enum Expected {
    Zeros,
    /// The pages of a layer from this one on.
    Layer(Arc<WideLayer>, u64),
}

/// What to make of a page that the home has and of which the tree says that it is zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Zeros {
    /// It counts as changed: whoever asks has no time to look at each.
    Changed,
    /// Look.
    Compare,
}

impl Candidates {
    fn add(
        &mut self,
        state: &FamilyState,
        memory: MemoryId,
        own: LayerId,
        pages: Range<u64>,
        zeros: Zeros,
    ) {
        for Run { pages, place } in state.runs_in(memory, pages) {
            match place {
                Place::In(layer, _) if layer == own => {}
                Place::In(layer, page) => match state.layer(layer) {
                    Some(layer) => self
                        .compare
                        .push((pages, Expected::Layer(layer.clone(), page))),
                    None => self.changed.push(pages),
                },
                Place::Zero if zeros == Zeros::Changed => self.changed.push(pages),
                Place::Zero => self.compare.push((pages, Expected::Zeros)),
            }
        }
    }

    /// Adds private pages of a mapping, which were stored to unless they were served ahead of a store.
    fn add_private(
        &mut self,
        state: &FamilyState,
        memory: MemoryId,
        own: LayerId,
        pages: Range<u64>,
    ) {
        let ahead = &state.pages(memory).only_region().ahead;
        let mut at = pages.start;
        while at < pages.end {
            let is_ahead = ahead.contains(at);
            let same = |page: &u64| ahead.contains(*page) == is_ahead;
            let end = (at..pages.end)
                .take_while(same)
                .last()
                .map_or(at, |last| last + 1);
            if is_ahead {
                self.add(state, memory, own, at..end, Zeros::Compare);
            } else {
                self.changed.push(at..end);
            }
            at = end;
        }
    }

    /// The changed pages, once those that must be are compared with what `read` reads of the home.
    fn resolve(
        &self,
        mut read: impl FnMut(&mut [u8], u64) -> Result<(), Status>,
    ) -> Result<Vec<Range<u64>>, Status> {
        let mut changed = self.changed.clone();
        if self.compare.is_empty() {
            return Ok(changed);
        }
        let size = page_size();
        let (mut ours, mut theirs) = (Bounce::new()?, Bounce::new()?);
        for (pages, expected) in &self.compare {
            let mut at = pages.start;
            while at < pages.end {
                let len = ((pages.end - at) as usize * size).min(ours.bytes().len());
                let (ours, theirs) = (&mut ours.all()[..len], &mut theirs.all()[..len]);
                read(ours, at * size as u64)?;
                match expected {
                    Expected::Layer(layer, first) => layer
                        .read_at(theirs, (first + at - pages.start) * size as u64)
                        .map_err(no_memory("reading a layer"))?,
                    Expected::Zeros => theirs.fill(0),
                }
                for (ours, theirs) in ours.chunks(size).zip(theirs.chunks(size)) {
                    if ours != theirs {
                        changed.push(at..at + 1);
                    }
                    at += 1;
                }
            }
        }
        Ok(changed)
    }

    /// All of the pages, changed or not.
    fn all(&self) -> Vec<Range<u64>> {
        let compare = self.compare.iter().map(|(pages, _)| pages.clone());
        self.changed.iter().cloned().chain(compare).collect()
    }
}

impl Content<'_> {
    /// Tells the tree which pages the memory has changed, as of now.
    pub(crate) fn reconcile(&mut self) -> Result<(), Status> {
        let pages = 0..self.state.tree.pages(self.memory);
        match &self.state.pages(self.memory).home {
            Home::None => Ok(()),
            Home::MemFd { layer, .. } => self.reconcile_file(*layer, pages),
            Home::Private { layer } => {
                let own = *layer;
                let parts = self.private_parts()?;
                self.reconcile_private(own, &parts)
            }
        }
    }

    /// The same for some pages of a memory whose home is a file.
    fn reconcile_file(&mut self, own: LayerId, pages: Range<u64>) -> Result<(), Status> {
        let memory = self.memory;
        let Home::MemFd { file, .. } = &self.state.pages(memory).home else {
            return Ok(());
        };
        let mut candidates = Candidates::default();
        let size = page_size() as u64;
        file.data(pages.start * size..pages.end * size, |bytes| {
            let pages = bytes.start / size..bytes.end / size;
            candidates.add(&self.state, memory, own, pages, Zeros::Compare);
        })
        .map_err(no_memory("reading a file's extents"))?;
        let read =
            |into: &mut [u8], at| file.read_at(into, at).map_err(no_memory("reading a file"));
        let changed = candidates.resolve(read)?;
        self.own_changed(own, changed);
        Ok(())
    }

    /// The same for private pages of the one mapping of a memory in its private home, which are not write-protected.
    fn reconcile_private(&mut self, own: LayerId, parts: &[HostRange]) -> Result<(), Status> {
        let mut candidates = Candidates::default();
        for &part in parts {
            self.add_private_part(own, part, &mut candidates)?;
        }
        let changed = candidates.resolve(|into, at| self.read_private(into, at))?;
        self.own_changed(own, changed);
        Ok(())
    }

    fn own_changed(&mut self, own: LayerId, changed: Vec<Range<u64>>) {
        let runs = changed.into_iter().map(|pages| {
            let first = pages.start;
            (pages, first)
        });
        let runs: Vec<_> = runs.collect();
        self.state.tree.own_all(self.memory, own, &runs);
        self.collect();
    }

    /// The same for every memory of the family: who shares a page with whom depends on what all of them have changed.
    pub(crate) fn reconcile_family(&mut self) -> Result<(), Status> {
        let this = self.memory;
        for memory in self.state.changed_memories() {
            self.memory = memory;
            self.reconcile()?;
        }
        self.memory = this;
        Ok(())
    }

    /// The same as [`Self::reconcile_family`] for whoever only looks: faults of the family wait for a piece of the work at most. The address space must be locked: then the homes of mapped
    /// memories stay as they are, and private pages stay private.
    pub(crate) fn reconcile_family_gently(&mut self) -> Result<(), Status> {
        let this = self.memory;
        for memory in self.state.changed_memories() {
            self.memory = memory;
            self.reconcile_gently()?;
        }
        self.memory = this;
        Ok(())
    }

    fn reconcile_gently(&mut self) -> Result<(), Status> {
        let Some(pages) = self.state.find(self.memory) else {
            return Ok(());
        };
        match &pages.home {
            Home::None => Ok(()),
            Home::Private { layer } => {
                let own = *layer;
                let region = pages.only_region();
                let (engine, policy, range) = (self.engine, region.policy, region.range);
                let parts =
                    MutexGuard::unlocked(&mut self.state, || private_parts(engine, policy, range))?;
                let parts: Vec<HostRange> = parts.into_iter().flat_map(pieces).collect();
                let mut since = Instant::now();
                for some in parts.chunks(SOME_PARTS) {
                    self.reconcile_private(own, some)?;
                    let_faults_through(&mut self.state, &mut since);
                }
                Ok(())
            }
            Home::MemFd { layer, file, .. } => {
                let own = *layer;
                let size = page_size() as u64;
                let mut pieces = Vec::new();
                file.data(0..self.state.tree.pages(self.memory) * size, |bytes| {
                    let pages = bytes.start / size..bytes.end / size;
                    let starts = pages.clone().step_by(SOME_PAGES as usize);
                    pieces.extend(starts.map(|at| at..(at + SOME_PAGES).min(pages.end)));
                })
                .map_err(no_memory("reading a file's extents"))?;
                let mut since = Instant::now();
                for pages in pieces {
                    self.reconcile_file(own, pages)?;
                    let_faults_through(&mut self.state, &mut since);
                    // Of a memory that is not mapped the family's lock alone keeps the home.
                    let now = self.state.find(self.memory).map(|pages| &pages.home);
                    if !matches!(now, Some(Home::MemFd { layer, .. }) if *layer == own) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn private_parts(&self) -> Result<Vec<HostRange>, Status> {
        let region = self.state.pages(self.memory).only_region();
        private_parts(self.engine, region.policy, region.range)
    }

    fn add_private_part(
        &self,
        own: LayerId,
        part: HostRange,
        candidates: &mut Candidates,
    ) -> Result<(), Status> {
        let state = &self.state;
        let region = state.pages(self.memory).only_region();
        let Backing::Private(plan) = &region.backing else {
            return Err(Status::INTERNAL);
        };
        let first = region.page_at(part.start());
        for run in state.runs_in(self.memory, first..first + part.pages() as u64) {
            // A private page where the mapping shows the right layer was stored to, or served ahead; elsewhere it may have been copied in.
            let mut done = run.pages.start;
            plan.exceptions(&run, |exception| {
                candidates.add_private(state, self.memory, own, done..exception.pages.start);
                done = exception.pages.end;
                candidates.add(state, self.memory, own, exception.pages, Zeros::Compare);
            });
            candidates.add_private(state, self.memory, own, done..run.pages.end);
        }
        Ok(())
    }
}

/// The private pages of a mapping that are not write-protected.
fn private_parts(
    engine: &Engine,
    policy: Policy,
    range: HostRange,
) -> Result<Vec<HostRange>, Status> {
    let mut parts = Vec::new();
    engine
        .scan_stored(policy, range, |part| parts.push(part))
        .map_err(no_memory("scanning a mapping"))?;
    Ok(parts)
}

/// Runs of private pages, and pages of a file, that are looked at before it is asked whether faults have waited for long.
const SOME_PARTS: usize = 64;
const SOME_PAGES: u64 = 64;

/// A run of private pages in pieces that do not take long.
fn pieces(part: HostRange) -> impl Iterator<Item = HostRange> {
    let len = SOME_PAGES as usize * page_size();
    let starts = (0..part.len()).step_by(len);
    starts.filter_map(move |at| part.sub(at, len.min(part.len() - at)))
}

/// Unlocks the family, if it was locked for long, for a moment: so that the handler, which sleeps, gets it. (Locks here are not fair.)
fn let_faults_through(state: &mut MutexGuard<'_, FamilyState>, since: &mut Instant) {
    const LONG: Duration = Duration::from_micros(200);
    const MOMENT: Duration = Duration::from_micros(50);
    if since.elapsed() >= LONG {
        MutexGuard::unlocked(state, || std::thread::sleep(MOMENT));
        *since = Instant::now();
    }
}

impl Engine {
    /// Of some private pages of a memory's one mapping, in which nothing changes, those that somebody may have stored to: not the ones that were served ahead of a store and still have
    /// the bytes that the tree says.
    pub(crate) fn stored(
        &self,
        family: &Family,
        memory: MemoryId,
        parts: Vec<HostRange>,
    ) -> Result<Vec<HostRange>, Status> {
        let state = family.lock();
        let region = state.pages(memory).only_region();
        let mut candidates = Candidates::default();
        // No page lies in a layer of that number: what is the memory's own already counts as stored to.
        let none = new_layer_id();
        for part in &parts {
            let first = region.page_at(part.start());
            candidates.add_private(&state, memory, none, first..first + part.pages() as u64);
        }
        if candidates.compare.is_empty() {
            return Ok(parts);
        }
        let (range, page) = (region.range, region.page);
        drop(state);
        let address = |at: u64| range.start() + (at as usize - page as usize * page_size());
        let mut stored = candidates.resolve(|into, at| {
            self.memory
                .read(self.reservation, address(at), into)
                .map_err(no_memory("reading private pages"))
        })?;
        stored.sort_unstable_by_key(|pages| pages.start);
        let size = page_size() as u64;
        let mut ranges = Vec::new();
        for pages in stored {
            let start = address(pages.start * size);
            let len = ((pages.end - pages.start) * size) as usize;
            if let Some(part) = HostRange::new(start, len) {
                push_range(&mut ranges, part);
            }
        }
        Ok(ranges)
    }
}

impl FamilyState {
    /// The memory's file has become the sealed layer `id`: the tree is told which of its pages are changes.
    ///
    /// Cannot fail: there is no file any more to go back to. What cannot be looked at counts as changed, which costs sharing and changes no byte.
    pub(crate) fn own_sealed(
        &mut self,
        memory: MemoryId,
        id: LayerId,
        layer: WideLayer,
        complete: bool,
    ) {
        let size = page_size() as u64;
        let end = self.tree.pages(memory);
        let zeros = if complete {
            Zeros::Changed
        } else {
            Zeros::Compare
        };
        let mut candidates = Candidates::default();
        let mut held = 0;
        let listed = layer.data(0..end * size, |bytes| {
            let pages = bytes.start / size..bytes.end / size;
            held += pages.end - pages.start;
            candidates.add(self, memory, id, pages, zeros);
        });
        if let Err(error) = listed {
            // Neither some of the pages nor all would be right; the kernel knows no reason for this.
            fail_closed("the pages of a layer cannot be listed", &error);
        }
        let read = |into: &mut [u8], at| {
            layer
                .read_at(into, at)
                .map_err(no_memory("reading a layer"))
        };
        let changed = candidates
            .resolve(read)
            .unwrap_or_else(|_| candidates.all());
        self.add_layer(id, Arc::new(layer), held);
        for pages in changed {
            let first = pages.start;
            self.tree.own(memory, pages, id, first);
        }
        self.drop_unused_layer(id);
    }

    /// Takes the pages out of a copy of what the memory shows that are no changes, so that they stay shared; says whether any are left.
    pub(crate) fn keep_changes(&self, memory: MemoryId, copy: &WideFile) -> Result<bool, Status> {
        let size = page_size() as u64;
        let mut candidates = Candidates::default();
        let mut copied = Vec::new();
        copy.data(0..copy.len(), |bytes| {
            let pages = bytes.start / size..bytes.end / size;
            // The copy has no number yet: what is the memory's own lies elsewhere, and is a change.
            candidates.add(self, memory, new_layer_id(), pages.clone(), Zeros::Compare);
            copied.push(pages);
        })
        .map_err(no_memory("reading a file's extents"))?;
        let read =
            |into: &mut [u8], at| copy.read_at(into, at).map_err(no_memory("reading a file"));
        let mut changed = candidates.resolve(read)?;
        changed.sort_unstable_by_key(|pages| pages.start);

        let give_back = |pages: Range<u64>| {
            copy.punch(pages.start * size..pages.end * size)
                .map_err(no_memory("punching a hole"))
        };
        let mut at = 0;
        for pages in &changed {
            give_back(at..pages.start)?;
            at = pages.end;
        }
        if let Some(last) = copied.last() {
            give_back(at..last.end)?;
        }
        Ok(!changed.is_empty())
    }

    /// The pages of the memory's own map that lie in `layer`.
    pub(crate) fn own_extents(&self, memory: MemoryId, layer: LayerId) -> Vec<Range<u64>> {
        let mine = |run: &Run| matches!(run.place, Place::In(id, _) if id == layer);
        self.tree
            .own_runs(memory)
            .filter(mine)
            .map(|run| run.pages)
            .collect()
    }

    /// Copies pages that this memory alone still sees, and that keep large layers alive, to one new layer.
    ///
    /// Rounds of changing and cloning leave layers of which little is still seen, and a sealed layer gives nothing back before it dies. To find what is worth copying
    /// takes a look at every run of the memory, so that is done only when enough has come together: else a round would cost more the more was changed before it.
    pub(crate) fn compact(&mut self, memory: MemoryId) -> Result<(), Status> {
        if self.layer_count() < COMPACT_FROM {
            return Ok(());
        }
        let mapped = self.mapped_layers();
        let now = self.layer_use(&mapped);
        let last = &mut self.pages_mut(memory).layers;
        // Other memories of the family look as well: less may be left than when this one looked.
        last.layers = last.layers.min(now.layers);
        last.wasted = last.wasted.min(now.wasted);
        if now.layers < last.layers + MORE_LAYERS && now.wasted <= last.wasted + now.seen / 4 {
            return Ok(());
        }
        let runs = self.tree.compactable(memory, &|id| self.spare(&mapped, id));
        let copied = self.copy_to_layer(memory, runs);
        self.pages_mut(memory).layers = self.layer_use(&mapped);
        copied
    }

    /// Copies runs of a memory to a new layer, in which they are found from now on.
    fn copy_to_layer(&mut self, memory: MemoryId, runs: Vec<Run>) -> Result<(), Status> {
        if runs.is_empty() {
            return Ok(());
        }
        let size = page_size() as u64;
        let end = self.tree.pages(memory);
        let held = runs.iter().map(|run| run.pages.end - run.pages.start).sum();
        let sparse = Gathered::is_sparse(held, end);
        let file = WideFile::new(if sparse { held } else { end } * size);
        let places = if sparse {
            self.gather_runs(&runs, &file)?
        } else {
            self.copy_runs(&runs, &file)?;
            runs.iter().map(|run| run.pages.start).collect()
        };
        let Ok(layer) = file.seal() else {
            return Err(Status::NO_MEMORY);
        };
        let id = new_layer_id();
        self.add_layer(id, Arc::new(layer), held);
        for (run, place) in runs.into_iter().zip(places) {
            self.tree.relocate(memory, run.pages, id, place);
        }
        Ok(())
    }

    /// Copies runs that lie in layers one behind the other to the beginning of a file; gives the page of it at which each begins.
    fn gather_runs(&self, runs: &[Run], file: &WideFile) -> Result<Vec<u64>, Status> {
        let size = page_size() as u64;
        let mut bounce = Bounce::new()?;
        let room = bounce.bytes().len() as u64 / size;
        let mut places = Vec::with_capacity(runs.len());
        // Pages that are in the file, and those behind them that are still in the buffer.
        let (mut written, mut waiting) = (0, 0);
        let write = |bytes: &[u8], page: u64| {
            file.write_at(bytes, page * size)
                .map_err(no_memory("writing a file"))
        };
        for run in runs {
            places.push(written + waiting);
            let mut at = run.pages.start;
            while at < run.pages.end {
                if waiting == room {
                    write(bounce.bytes(), written)?;
                    written += waiting;
                    waiting = 0;
                }
                let pages = (run.pages.end - at).min(room - waiting);
                let Place::In(id, from) = advance(run.place, at - run.pages.start) else {
                    return Err(Status::INTERNAL);
                };
                let layer = self.layer(id).ok_or(Status::INTERNAL)?;
                let part = (waiting * size) as usize..((waiting + pages) * size) as usize;
                layer
                    .read_at(&mut bounce.all()[part], from * size)
                    .map_err(no_memory("reading a layer"))?;
                waiting += pages;
                at += pages;
            }
        }
        write(&bounce.bytes()[..(waiting * size) as usize], written)?;
        Ok(places)
    }

    /// Copies all that lies in layers of what the memory sees to the same places in a file.
    pub(crate) fn copy_layers(&self, memory: MemoryId, file: &WideFile) -> Result<(), Status> {
        self.copy_runs(&self.runs(memory), file)
    }

    fn copy_runs(&self, runs: &[Run], file: &WideFile) -> Result<(), Status> {
        let size = page_size() as u64;
        let mut bounce = Bounce::new()?;
        for run in runs {
            let Place::In(id, _) = run.place else {
                continue;
            };
            let Some(layer) = self.layer(id) else {
                continue;
            };
            let mut at = run.pages.start;
            while at < run.pages.end {
                let bytes = bounce.all();
                let pages = (run.pages.end - at).min(bytes.len() as u64 / size);
                let bytes = &mut bytes[..(pages * size) as usize];
                let Place::In(_, from) = advance(run.place, at - run.pages.start) else {
                    break;
                };
                layer
                    .read_at(bytes, from * size)
                    .map_err(no_memory("reading a layer"))?;
                file.write_at(bytes, at * size)
                    .map_err(no_memory("writing a file"))?;
                at += pages;
            }
        }
        Ok(())
    }
}

/// A family with fewer layers than this is left alone.
const COMPACT_FROM: usize = 8;
/// So many layers must have come before it is looked for those that are worth copying together.
const MORE_LAYERS: usize = 16;
