//! The bytes of a memory: reading, writing, and the operations that change them.
//!
//! Where a page's bytes are is asked in one order everywhere: a page that is present in the home's file is there; else it is where the tree says;
//! a memory in its private home is read and written through its mapping, in which the kernel and the fault handler put everything together.

use std::ops::Range;
use std::sync::Arc;

use crate::lock::MutexGuard;
use host_memory::page::{HostRange, page_size};
use host_memory::pagemap::PageFlags;
use host_memory::uffd::Protect;
use page_tree::{LayerId, MemoryId, Place};

use crate::bounce::Bounce;
use crate::engine::{Engine, Space};
use crate::family::{Backing, Family, FamilyState, Garbage, Home, Region, new_layer_id};
use crate::object::VmObject;
use crate::options::Policy;
use crate::report::no_memory;
use crate::status::Status;
use crate::wide::WideFile;

/// Both locks that the content of a memory can need. The address space is held if the memory is mapped: then its regions and its home stay as
/// they are while the family is unlocked. Of a memory that is not mapped the family stays locked: nothing else holds off other calls.
pub(crate) struct Content<'a> {
    pub(crate) engine: &'static Engine,
    pub(crate) memory: MemoryId,
    pub(crate) space: Option<MutexGuard<'static, Space>>,
    pub(crate) state: MutexGuard<'a, FamilyState>,
    /// Dropped last, with nothing locked.
    garbage: Vec<Garbage>,
}

impl VmObject {
    /// Locks what an operation on the content needs.
    ///
    /// LOCKS: the family alone says whether the memory is mapped; if it is, it is released and taken again behind the address space. Regions come
    /// only with both locks held, so a memory without regions cannot get one while its family is locked.
    pub(crate) fn content(&self, engine: &'static Engine) -> Content<'_> {
        let state = self.family.lock();
        if !state.pages(self.memory).is_mapped() {
            return Content {
                engine,
                memory: self.memory,
                space: None,
                state,
                garbage: Vec::new(),
            };
        }
        drop(state);
        self.family_content(engine)
    }

    /// Locks what a look at all memories of the family needs, of which some may be mapped.
    pub(crate) fn family_content(&self, engine: &'static Engine) -> Content<'_> {
        self.content_in(engine, engine.space())
    }

    /// The same with the address space as the caller found it.
    pub(crate) fn content_in(
        &self,
        engine: &'static Engine,
        space: MutexGuard<'static, Space>,
    ) -> Content<'_> {
        Content::of_family(engine, space, &self.family, self.memory)
    }

    /// The size of the VMO in bytes.
    pub(crate) fn size(&self, state: &FamilyState) -> u64 {
        state.tree.pages(self.vmo) * page_size() as u64
    }

    /// Checks that `offset..offset + len` lies in the VMO and gives it in bytes of the memory.
    pub(crate) fn memory_bytes(
        &self,
        state: &FamilyState,
        offset: u64,
        len: u64,
    ) -> Result<Range<u64>, Status> {
        let end = offset
            .checked_add(len)
            .filter(|&end| end <= self.size(state))
            .ok_or(Status::OUT_OF_RANGE)?;
        let first = self.first_page() * page_size() as u64;
        Ok(first + offset..first + end)
    }

    /// Reads `offset..offset + len` and hands it to `take` piece by piece, with nothing locked: what it touches may lie
    /// in memory that the engine serves.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE`, before a byte is moved; that of `take`.
    pub(crate) fn read(
        &self,
        engine: &'static Engine,
        offset: u64,
        len: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        self.memory_bytes(&self.family.lock(), offset, len)?;
        let mut bounce = Bounce::new()?;
        let mut done = 0;
        while done < len {
            let piece = bounce.piece(offset + done, (len - done) as usize);
            let mut content = self.content(engine);
            let bytes = self.memory_bytes(&content.state, offset + done, piece.len() as u64)?;
            content.read(piece, bytes.start)?;
            drop(content);
            take(piece)?;
            done += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes `offset..offset + len` with what `fill` puts into it piece by piece, with nothing locked: what it touches
    /// may lie in memory that the engine serves.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE`, before a byte is moved; that of `fill`; `NO_MEMORY`.
    pub(crate) fn write(
        &self,
        engine: &'static Engine,
        offset: u64,
        len: u64,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        self.memory_bytes(&self.family.lock(), offset, len)?;
        let mut bounce = Bounce::new()?;
        let mut done = 0;
        while done < len {
            let piece = bounce.piece(offset + done, (len - done) as usize);
            fill(piece)?;
            let mut content = self.content(engine);
            let bytes = self.memory_bytes(&content.state, offset + done, piece.len() as u64)?;
            content.write(piece, bytes.start)?;
            done += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes zeros to `offset..offset + len`; whole pages are given up.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE`, `NO_MEMORY`.
    pub(crate) fn zero(
        &self,
        mut content: Content<'_>,
        offset: u64,
        len: u64,
    ) -> Result<(), Status> {
        if len == 0 {
            return Ok(());
        }
        let bytes = self.memory_bytes(&content.state, offset, len)?;
        content.zero_bytes(bytes)
    }

    /// Gives every page that `offset..offset + len` touches memory of its own, keeping the bytes.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE` if the range rounded to whole pages is not inside; `NO_MEMORY`.
    pub(crate) fn commit(
        &self,
        mut content: Content<'_>,
        offset: u64,
        len: u64,
    ) -> Result<(), Status> {
        let size = page_size() as u64;
        let start = offset / size * size;
        let end = offset
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(size))
            .ok_or(Status::OUT_OF_RANGE)?;
        let bytes = self.memory_bytes(&content.state, start, end - start)?;
        content.commit_pages(bytes.start / size..bytes.end / size)
    }

    /// Gives the pages back: they read as zeros.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE`; `NOT_SUPPORTED` for a clone and for a VMO that has clones; `INVALID_ARGS` if the range is not page-aligned.
    pub(crate) fn decommit(
        &self,
        mut content: Content<'_>,
        offset: u64,
        len: u64,
    ) -> Result<(), Status> {
        let bytes = self.memory_bytes(&content.state, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        if !content.state.tree.is_alone(self.vmo) {
            return Err(Status::NOT_SUPPORTED);
        }
        let size = page_size() as u64;
        if !bytes.start.is_multiple_of(size) || !bytes.end.is_multiple_of(size) {
            return Err(Status::INVALID_ARGS);
        }
        content.zero_pages(bytes.start / size..bytes.end / size)
    }

    /// Changes the size, rounded up to whole pages, and the stream size. The caller has checked that the VMO is
    /// resizable and its limit.
    pub(crate) fn resize(&self, engine: &'static Engine, bytes: u64) -> Result<(), Status> {
        let mut content = self.content(engine);
        let stream = self.stream.get();
        content.set_stream_size(&self.stream, bytes)?;
        content
            .resize(bytes)
            .inspect_err(|_| content.restore_stream_size(&self.stream, stream))
    }
}

impl<'a> Content<'a> {
    /// The same for a memory of a family.
    pub(crate) fn of_family(
        engine: &'static Engine,
        space: MutexGuard<'static, Space>,
        family: &'a Family,
        memory: MemoryId,
    ) -> Content<'a> {
        Content {
            engine,
            memory,
            space: Some(space),
            state: family.lock(),
            garbage: Vec::new(),
        }
    }
}

impl Content<'_> {
    fn resize(&mut self, bytes: u64) -> Result<(), Status> {
        let size = page_size() as u64;
        let old = self.state.tree.pages(self.memory);
        let new = bytes.div_ceil(size);
        if new > old {
            // First all that can fail.
            self.set_file_len(new * size)?;
        }
        if !bytes.is_multiple_of(size) && bytes < old * size {
            self.zero_part(bytes..(new * size).min(old * size))?;
        }
        if new < old {
            self.set_file_len(new * size)?;
        }
        self.state.tree.resize(self.memory, new);
        self.collect();
        Ok(())
    }

    /// Writes zeros; whole pages are given up.
    pub(crate) fn zero_bytes(&mut self, bytes: Range<u64>) -> Result<(), Status> {
        let size = page_size() as u64;
        let whole = bytes.start.next_multiple_of(size)..bytes.end / size * size;
        if whole.start >= whole.end {
            // Less than a page, or the end of one and the beginning of the next.
            let middle = whole.start.min(bytes.end);
            self.zero_part(bytes.start..middle)?;
            return self.zero_part(middle..bytes.end);
        }
        self.zero_part(bytes.start..whole.start)?;
        self.zero_pages(whole.start / size..whole.end / size)?;
        self.zero_part(whole.end..bytes.end)
    }

    fn is_private(&self) -> bool {
        matches!(self.state.pages(self.memory).home, Home::Private { .. })
    }

    /// Reads bytes of the memory into a buffer of the engine's own.
    pub(crate) fn read(&mut self, into: &mut [u8], at: u64) -> Result<(), Status> {
        if self.is_private() {
            self.read_private(into, at)
        } else {
            self.state.read(self.memory, into, at)
        }
    }

    /// Writes a buffer of the engine's own to the memory.
    pub(crate) fn write(&mut self, from: &[u8], at: u64) -> Result<(), Status> {
        if from.is_empty() {
            return Ok(());
        }
        if self.is_private() {
            self.write_private(from, at)
        } else {
            self.state.write(self.memory, from, at)
        }
    }

    /// Zeroes bytes that lie within one page, if anything but zeros can be there.
    fn zero_part(&mut self, bytes: Range<u64>) -> Result<(), Status> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut bounce = Bounce::new()?;
        let part = bounce.piece(bytes.start, (bytes.end - bytes.start) as usize);
        self.read(part, bytes.start)?;
        if part.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        part.fill(0);
        self.write(part, bytes.start)
    }

    /// Gives whole pages up: they are zero from now on.
    pub(crate) fn zero_pages(&mut self, pages: Range<u64>) -> Result<(), Status> {
        let size = page_size() as u64;
        let bytes = pages.start * size..pages.end * size;
        match &self.state.pages(self.memory).home {
            Home::None => {}
            Home::MemFd { file, .. } => file.punch(bytes).map_err(no_memory("punching a hole"))?,
            Home::Private { .. } => {
                let region = self.private_region();
                let (policy, engine) = (region.policy, self.engine);
                let Some(range) = region.addresses(pages.start, pages.end) else {
                    return Ok(());
                };
                match policy {
                    Policy::Traced => {
                        // If taking them away fails, they are there without protection.
                        region.note_open(range);
                        // First, for a page that is taken away may be touched at once.
                        self.state.tree.zero(self.memory, pages.clone());
                        MutexGuard::unlocked(&mut self.state, || discard_traced(engine, range))?;
                    }
                    Policy::Native => {
                        let (empty, held) = self.state.shown_by(self.memory, region, &pages);
                        MutexGuard::unlocked(&mut self.state, || {
                            zero_native(engine, range, &empty, &held)
                        })?;
                    }
                }
            }
        }
        self.state.tree.zero(self.memory, pages);
        self.collect();
        Ok(())
    }

    /// Makes pages the memory's own.
    fn commit_pages(&mut self, pages: Range<u64>) -> Result<(), Status> {
        if self.is_private() {
            self.commit_private(&pages)?;
        } else {
            self.state.commit(self.memory, &pages)?;
        }
        self.collect();
        Ok(())
    }

    /// Takes out the layers that nothing refers to any more.
    pub(crate) fn collect(&mut self) {
        self.garbage.push(self.state.collect());
    }

    /// Lets the home's file, if there is one, follow the memory's size.
    fn set_file_len(&mut self, bytes: u64) -> Result<(), Status> {
        let pages = self.state.pages_mut(self.memory);
        match &mut pages.home {
            Home::MemFd { file, .. } => file.set_len(bytes).map_err(no_memory("resizing a file")),
            Home::None | Home::Private { .. } => Ok(()),
        }
    }
}

/// Takes pages away, so that they fault again. A page that is write-protected would leave a mark behind where no zero page can be put, so the protection goes first.
fn discard_traced(engine: &Engine, range: HostRange) -> Result<(), Status> {
    if let Some(tracer) = engine.started_tracer() {
        tracer.protect(range, Protect::None)?;
    }
    engine
        .reservation
        .discard(range)
        .map_err(no_memory("discarding pages"))
}

/// Zeroes pages that the kernel alone serves: what the tree said they hold, and what is private there. Anything else
/// shows zeros already. Private pages over nothing (`empty`) are given back; those over a layer would show the layer.
fn zero_native(
    engine: &Engine,
    range: HostRange,
    empty: &[HostRange],
    held: &[HostRange],
) -> Result<(), Status> {
    for &part in empty {
        engine
            .reservation
            .discard(part)
            .map_err(no_memory("discarding pages"))?;
    }
    let mut dirty = held.to_vec();
    engine
        .pagemap
        .scan(range, PageFlags::PRIVATE, |pages, _| dirty.push(pages))
        .map_err(no_memory("scanning a private mapping"))?;
    let zeros = Bounce::zeros()?;
    let zeros = zeros.bytes();
    for pages in dirty {
        for at in (pages.start()..pages.end()).step_by(zeros.len()) {
            let len = zeros.len().min(pages.end() - at);
            engine
                .memory
                .write(engine.reservation, at, &zeros[..len])
                .map_err(no_memory("zeroing a private mapping"))?;
        }
    }
    Ok(())
}

impl FamilyState {
    /// Where a private region shows pages of a memory over nothing, and where it shows what the memory has over a
    /// layer.
    fn shown_by(
        &self,
        memory: MemoryId,
        region: &Region,
        pages: &Range<u64>,
    ) -> (Vec<HostRange>, Vec<HostRange>) {
        let (mut empty, mut held) = (Vec::new(), Vec::new());
        let Backing::Private(plan) = &region.backing else {
            return (empty, held);
        };
        for segment in plan.segments() {
            let part = segment.pages.start.max(pages.start)..segment.pages.end.min(pages.end);
            if segment.place == Place::Zero {
                empty.extend(region.addresses(part.start, part.end));
            } else if !part.is_empty() {
                let runs = self.runs_in(memory, part).into_iter();
                held.extend(
                    runs.filter(|run| run.place != Place::Zero)
                        .filter_map(|run| region.addresses(run.pages.start, run.pages.end)),
                );
            }
        }
        (empty, held)
    }

    /// The memory's own file, made now if there is none. It begins complete if nothing else holds a page of the memory.
    pub(crate) fn file(&mut self, memory: MemoryId) -> Result<(LayerId, &mut WideFile), Status> {
        if matches!(self.pages(memory).home, Home::None) {
            let file = WideFile::new(self.tree.pages(memory) * page_size() as u64);
            let complete = self.tree.is_blank(memory);
            self.pages_mut(memory).home = Home::MemFd {
                layer: new_layer_id(),
                file,
                complete,
            };
        }
        match &mut self.pages_mut(memory).home {
            Home::MemFd { layer, file, .. } => Ok((*layer, file)),
            Home::None | Home::Private { .. } => {
                unreachable!("a memory in its private home is written through its mapping")
            }
        }
    }

    /// Reads bytes of a memory that is not in its private home.
    pub(crate) fn read(&self, memory: MemoryId, into: &mut [u8], at: u64) -> Result<(), Status> {
        let Home::MemFd { file, complete, .. } = &self.pages(memory).home else {
            return self.read_layers(memory, into, at);
        };
        let bytes = at..at + into.len() as u64;
        if *complete {
            return file.read_at(into, at).map_err(no_memory("reading a file"));
        }
        let mut done = at;
        let mut result = Ok(());
        let mut part = |bytes: Range<u64>, present: bool| {
            let into = &mut into[(bytes.start - at) as usize..(bytes.end - at) as usize];
            let read = match present {
                true => file
                    .read_at(into, bytes.start)
                    .map_err(no_memory("reading a file")),
                false => self.read_layers(memory, into, bytes.start),
            };
            result = result.and(read);
        };
        file.data(page_bytes(&bytes), |data| {
            let data = data.start.max(bytes.start)..data.end.min(bytes.end);
            part(done..data.start, false);
            part(data.clone(), true);
            done = data.end;
        })
        .map_err(no_memory("reading a file's extents"))?;
        part(done..bytes.end, false);
        result
    }

    /// Reads bytes from where the tree says they are, which are layers and zeros.
    pub(crate) fn read_layers(
        &self,
        memory: MemoryId,
        into: &mut [u8],
        at: u64,
    ) -> Result<(), Status> {
        let size = page_size() as u64;
        let end = at + into.len() as u64;
        let mut done = at;
        while done < end {
            let run = self.tree.run(memory, done / size..end.div_ceil(size));
            let until = (run.pages.end * size).min(end);
            let part = &mut into[(done - at) as usize..(until - at) as usize];
            match run.place {
                Place::In(layer, page) => match self.layer(layer) {
                    Some(layer) => {
                        let offset = page * size + (done - run.pages.start * size);
                        layer
                            .read_at(part, offset)
                            .map_err(no_memory("reading a layer"))?;
                    }
                    // Committed in the home's file and not touched since: the kernel calls that a hole.
                    None => part.fill(0),
                },
                Place::Zero => part.fill(0),
            }
            done = until;
        }
        Ok(())
    }

    /// Writes bytes to a memory that is not in its private home.
    pub(crate) fn write(&mut self, memory: MemoryId, from: &[u8], at: u64) -> Result<(), Status> {
        let bytes = at..at + from.len() as u64;
        let size = page_size() as u64;
        self.file(memory)?;
        let whole = page_bytes(&bytes);
        // The first and the last page may be written in part: what else is in them must be there first.
        if whole.start != bytes.start {
            self.bring(memory, whole.start / size..whole.start / size + 1)?;
        }
        if whole.end != bytes.end {
            self.bring(memory, bytes.end / size..bytes.end / size + 1)?;
        }
        let (layer, file) = self.file(memory)?;
        file.write_at(from, at)
            .map_err(no_memory("writing a file"))?;
        self.tree.own(
            memory,
            whole.start / size..whole.end / size,
            layer,
            whole.start / size,
        );
        Ok(())
    }

    /// Copies pages into the home's file unless they are there, without making them the memory's own. Whole pages at once: a page that is present
    /// is right, for every mapping.
    ///
    /// A page that is not present stays so while the family is locked: without this function only the fault handler adds pages, under this lock, to a
    /// file that is not complete.
    fn bring(&mut self, memory: MemoryId, pages: Range<u64>) -> Result<(), Status> {
        let Home::MemFd {
            file,
            complete: false,
            ..
        } = &self.pages(memory).home
        else {
            return Ok(());
        };
        let size = page_size() as u64;
        let bytes = pages.start * size..pages.end * size;
        let mut gaps = Vec::new();
        let mut done = bytes.start;
        file.data(bytes.clone(), |data| {
            gaps.push(done..data.start);
            done = data.end;
        })
        .map_err(no_memory("reading a file's extents"))?;
        gaps.push(done..bytes.end);

        let mut bounce = Bounce::new()?;
        for gap in gaps {
            let mut at = gap.start;
            while at < gap.end {
                let piece = bounce.piece(at, (gap.end - at) as usize);
                self.read_layers(memory, piece, at)?;
                let (_, file) = self.file(memory)?;
                file.write_at(piece, at)
                    .map_err(no_memory("writing a file"))?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Makes pages of a memory that is not in its private home its own.
    fn commit(&mut self, memory: MemoryId, pages: &Range<u64>) -> Result<(), Status> {
        let size = page_size() as u64;
        self.fill(memory, pages)?;
        let (layer, file) = self.file(memory)?;
        // Keeps the bytes that are there and adds zeros where there are none.
        file.allocate(pages.start * size..pages.end * size)
            .map_err(no_memory("committing pages"))?;
        self.tree.own(memory, pages.clone(), layer, pages.start);
        Ok(())
    }

    /// Copies all pages of the range that lie in layers and are not in the home's file into it, without making them the memory's own.
    pub(crate) fn fill(&mut self, memory: MemoryId, pages: &Range<u64>) -> Result<(), Status> {
        self.file(memory)?;
        let mut at = pages.start;
        while at < pages.end {
            let run = self.tree.run(memory, at..pages.end);
            at = run.pages.end;
            if let Place::In(layer, _) = run.place
                && self.layer(layer).is_some()
            {
                self.bring(memory, run.pages)?;
            }
        }
        Ok(())
    }
}

/// The whole pages that a range of bytes touches.
fn page_bytes(bytes: &Range<u64>) -> Range<u64> {
    let size = page_size() as u64;
    bytes.start / size * size..bytes.end.next_multiple_of(size)
}

impl VmObject {
    /// The VMO's own size in pages, and where it lies in its memory.
    pub(crate) fn window(self: &Arc<Self>, state: &FamilyState) -> Range<u64> {
        let first = self.first_page();
        first..first + state.tree.pages(self.vmo)
    }
}
