//! Reading and writing a memory in its private home without the program's threads: by its calls.
//!
//! The bytes are in the mapping, but an access of ours to a page that is not there would have to wait for the fault handler, and `/proc/self/mem`, which alone can go past the
//! mapping's permissions, cannot wait (the kernel answers EIO). So only pages that are there are accessed: what is private is read from the mapping and the
//! rest from layers, and before a write the missing pages are installed as the handler would.

use std::ops::Range;

use crate::bounce::Bounce;
use crate::lock::MutexGuard;
use host_memory::page::{HostRange, page_size};
use host_memory::pagemap::PageFlags;
use host_memory::uffd::{CopyFrom, Protect, UffdError, Wake};
use page_tree::{MemoryId, Place};

use crate::content::Content;
use crate::engine::Engine;
use crate::family::{FamilyState, Home, Region};
use crate::options::Policy;
use crate::report::no_memory;
use crate::resolver::Tracer;
use crate::status::Status;

impl Content<'_> {
    /// Reads bytes of the memory. A store that happens meanwhile may be seen or not, page by page.
    pub(crate) fn read_private(&self, into: &mut [u8], at: u64) -> Result<(), Status> {
        let region = self.private_region();
        let bytes = at..at + into.len() as u64;
        self.state.read_layers(self.memory, into, at)?;
        let pages = page_range(&bytes);
        let Some(range) = region.addresses(pages.start, pages.end) else {
            return Ok(());
        };
        let mut result = Ok(());
        self.engine
            .scan_stored(region.policy, range, |part| {
                // A protected page is as the tree says; it may even be no page but a mark that one was here.
                if result.is_ok() {
                    result = self.read_present(region, part, &bytes, into);
                }
            })
            .map_err(no_memory("scanning a mapping"))?;
        result
    }

    /// Reads what of `bytes` lies in `part`, whose pages are private: no access to them faults to the handler.
    fn read_present(
        &self,
        region: &Region,
        part: HostRange,
        bytes: &Range<u64>,
        into: &mut [u8],
    ) -> Result<(), Status> {
        let first = region.page_at(part.start()) * page_size() as u64;
        let start = first.max(bytes.start);
        let end = (first + part.len() as u64).min(bytes.end);
        let into = &mut into[(start - bytes.start) as usize..(end - bytes.start) as usize];
        let address = part.start() + (start - first) as usize;
        self.engine
            .memory
            .read(self.engine.reservation, address, into)
            .map_err(no_memory("reading a private mapping"))
    }

    /// Writes bytes of the memory.
    pub(crate) fn write_private(&mut self, from: &[u8], at: u64) -> Result<(), Status> {
        let bytes = at..at + from.len() as u64;
        let pages = page_range(&bytes);
        let region = self.private_region();
        let (policy, start) = (region.policy, region.range.start());
        let Some(range) = region.addresses(pages.start, pages.end) else {
            return Ok(());
        };
        if policy == Policy::Traced
            && let Some(tracer) = self.engine.started_tracer()
        {
            self.engine
                .install(&mut self.state, tracer, self.memory, range)?;
            self.private_region().note_open(range);
            tracer.protect(range, Protect::None)?;
        }
        let engine = self.engine;
        engine
            .memory
            .write(engine.reservation, start + at as usize, from)
            .map_err(no_memory("writing a private mapping"))
    }

    /// Gives each page of a range a private page, changing no byte.
    pub(crate) fn commit_private(&mut self, pages: &Range<u64>) -> Result<(), Status> {
        let Home::Private { layer } = self.state.pages(self.memory).home else {
            return Ok(());
        };
        let Some(range) = self.private_region().addresses(pages.start, pages.end) else {
            return Ok(());
        };
        let engine = self.engine;
        // Where the mapping is writable the kernel breaks the sharing itself, so that no store is lost. Touching waits for the handler, which wants the family.
        let populated =
            MutexGuard::unlocked(&mut self.state, || engine.reservation.populate_write(range));
        if populated.is_err() {
            self.rewrite(pages)?;
        }
        self.state
            .tree
            .own(self.memory, pages.clone(), layer, pages.start);
        Ok(())
    }

    /// As the kernel cannot, page by page: writable parts by the kernel, the others by writing what is there, which nobody else can change.
    fn rewrite(&mut self, pages: &Range<u64>) -> Result<(), Status> {
        let mut bounce = Bounce::new()?;
        let size = page_size() as u64;
        let engine = self.engine;
        for page in pages.clone() {
            let Some(range) = self.private_region().addresses(page, page + 1) else {
                continue;
            };
            if MutexGuard::unlocked(&mut self.state, || engine.reservation.populate_write(range))
                .is_ok()
            {
                continue;
            }
            let bytes = &mut bounce.all()[..size as usize];
            self.read_private(bytes, page * size)?;
            self.write_private(bytes, page * size)?;
        }
        Ok(())
    }

    /// The one region of a memory in its private home, which covers all of it.
    pub(crate) fn private_region(&self) -> &Region {
        self.state.pages(self.memory).only_region()
    }
}

impl Engine {
    /// Installs the pages of a range of a traced private region that are not there, protected: they show what the tree says.
    pub(crate) fn install(
        &self,
        state: &mut MutexGuard<'_, FamilyState>,
        tracer: &Tracer,
        memory: MemoryId,
        range: HostRange,
    ) -> Result<(), Status> {
        let size = page_size();
        let mut bounce = Bounce::new()?;
        let protect = if tracer.writes {
            Protect::Write
        } else {
            Protect::None
        };
        let mut missing = Vec::new();
        let mut done = range.start();
        self.pagemap
            .scan(
                range,
                PageFlags::PRIVATE | PageFlags::FILE | PageFlags::ZERO,
                |part, flags| {
                    // A protected page that is not present may be no page but a mark that one was here.
                    if !flags.contains(PageFlags::SWAPPED | PageFlags::WRITE_PROTECTED) {
                        missing.push(done..part.start());
                        done = part.end();
                    }
                },
            )
            .map_err(no_memory("scanning a mapping"))?;
        missing.push(done..range.end());
        for at in missing.into_iter().flat_map(|part| part.step_by(size)) {
            let bytes = &mut bounce.all()[..size];
            let first = state.pages(memory).only_region().page_at(at);
            state.read_layers(memory, bytes, first * size as u64)?;
            loop {
                match tracer
                    .uffd
                    .copy(at, CopyFrom::Bytes(bytes), protect, Wake::Wake)
                {
                    // A thread touched the page meanwhile, and the handler was first.
                    Ok(()) | Err(UffdError::Exists) => break,
                    // The address space is changing until the handler has read of it, and it may be waiting for the family.
                    Err(UffdError::Again { .. }) => {
                        MutexGuard::unlocked(state, std::thread::yield_now)
                    }
                    Err(error) => return Err(no_memory("installing a page")(error)),
                }
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Calls `f` with each run of private pages of a range of a private mapping, but those that are write-protected and so are as the last cut left them. Allocates nothing.
    ///
    /// Only a traced mapping can have such; what the kernel says of others need not mean anything ([`host_memory::pagemap`]).
    pub(crate) fn scan_stored(
        &self,
        policy: Policy,
        range: HostRange,
        mut f: impl FnMut(HostRange),
    ) -> std::io::Result<()> {
        let protects = self.started_tracer().is_some_and(|tracer| tracer.writes);
        if policy == Policy::Traced && protects {
            self.pagemap.scan_private_unprotected(range, f)
        } else {
            self.pagemap
                .scan(range, PageFlags::PRIVATE, |part, _| f(part))
        }
    }
}

/// The pages that a range of bytes touches.
fn page_range(bytes: &Range<u64>) -> Range<u64> {
    let size = page_size() as u64;
    bytes.start / size..bytes.end.div_ceil(size)
}

/// Whether the tree has content of the memory's own that lies in no layer.
pub(crate) fn is_own(state: &FamilyState, place: Place) -> bool {
    matches!(place, Place::In(layer, _) if state.layer(layer).is_none())
}
