//! Moving pages from one VMO to another.
//!
//! Within a family a page in a sealed layer only changes its owner in the tree. Everything else goes through a
//! bounce buffer, piece by piece: a piece is read, given up by the source, and written to the destination. So no
//! memory is needed for a second copy, and never are two families locked at once.

use std::ops::Range;
use std::sync::Arc;

use host_memory::page::page_size;
use host_memory::transfers;
use page_tree::Place;

use crate::bounce::Bounce;
use crate::content::Content;
use crate::engine::Engine;
use crate::family::Home;
use crate::object::VmObject;
use crate::options::TransferDataOptions;
use crate::report::{call, no_memory, note};
use crate::rights::Rights;
use crate::status::Status;
use crate::vmo::Vmo;

impl Vmo {
    /// Moves `length` bytes, whole pages, from `src_offset` of `src` to `offset` of this VMO. What was here is gone,
    /// and the source is zero afterwards and holds no pages there; where the two overlap, the destination is what
    /// counts. Mappings of both follow. `zx_vmo_transfer_data`.
    ///
    /// After an error neither range can be relied on: some of the source may have been moved.
    ///
    /// # Errors
    ///
    /// In this order: `INVALID_ARGS` if there are options, or an offset or the length is not a multiple of the page
    /// size; of this handle `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `WRITE`; of the source's
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `READ` and `WRITE`; `OUT_OF_RANGE` if the source, then if
    /// the destination does not have all of the range (but moving something to where it is succeeds, wherever that
    /// is); `BAD_STATE` if a VMO is mapped and memory of the process is pinned; `NO_MEMORY`.
    pub fn transfer_data(
        &self,
        options: TransferDataOptions,
        offset: u64,
        length: u64,
        src: &Vmo,
        src_offset: u64,
    ) -> Result<(), Status> {
        call(|engine| {
            let size = page_size() as u64;
            let aligned = [offset, length, src_offset]
                .iter()
                .all(|value| value.is_multiple_of(size));
            if !options.is_empty() || !aligned {
                return Err(Status::INVALID_ARGS);
            }
            let (to, _) = self.as_ref().vmo(engine, Rights::WRITE)?;
            let (from, _) = src.as_ref().vmo(engine, Rights::READ | Rights::WRITE)?;
            if Arc::ptr_eq(&to, &from) && offset == src_offset {
                return Ok(());
            }
            let transfer = Transfer {
                engine,
                from: &from,
                src_offset,
                to: &to,
                offset,
            };
            transfer.run(length)
        })
    }
}

struct Transfer<'a> {
    engine: &'static Engine,
    from: &'a VmObject,
    src_offset: u64,
    to: &'a VmObject,
    offset: u64,
}

impl Transfer<'_> {
    fn run(&self, length: u64) -> Result<(), Status> {
        let state = self.from.family.lock();
        let source = self.from.memory_bytes(&state, self.src_offset, length)?;
        let mut mapped = state.pages(self.from.memory).is_mapped();
        drop(state);
        let state = self.to.family.lock();
        let target = self.to.memory_bytes(&state, self.offset, length)?;
        mapped |= state.pages(self.to.memory).is_mapped();
        drop(state);

        let one_family = Arc::ptr_eq(&self.from.family, &self.to.family);
        let one_memory = one_family && self.from.memory == self.to.memory;
        if length == 0 || one_memory && source == target {
            return Ok(());
        }
        if mapped && transfers::has_pinned_memory() {
            note(|| "memory is pinned: pages cannot be moved".into());
            return Err(Status::BAD_STATE);
        }

        let backwards = one_memory && source.start < target.start;
        let content = self.from.content(self.engine);
        let source = self
            .from
            .memory_bytes(&content.state, self.src_offset, length)?;
        let mut steps = content.steps(source)?;
        drop(content);
        if backwards {
            steps.reverse();
        }
        let mut bounce = Bounce::new()?;
        for step in steps {
            let Range { start, end } = step.bytes;
            if !step.holds {
                let content = self.to.content(self.engine);
                self.to.zero(content, self.offset + start, end - start)?;
            } else if !(one_family && !one_memory && self.hand_over(start..end)?) {
                for piece in pieces(start..end, bounce.bytes().len() as u64, backwards) {
                    let buffer = &mut bounce.all()[..(piece.end - piece.start) as usize];
                    self.copy(piece.start, buffer)?;
                }
            }
        }
        Ok(())
    }

    /// Moves pages between two memories of one family that both lie in sealed layers as far as these pages go.
    /// `false`: they do not, and nothing has changed.
    fn hand_over(&self, bytes: Range<u64>) -> Result<bool, Status> {
        let size = page_size() as u64;
        let len = bytes.end - bytes.start;
        let mut content = self.from.family_content(self.engine);
        let source = self
            .from
            .memory_bytes(&content.state, self.src_offset + bytes.start, len)?;
        let target = self
            .to
            .memory_bytes(&content.state, self.offset + bytes.start, len)?;
        let sealed = matches!(content.state.pages(self.from.memory).home, Home::None);
        match &content.state.pages(self.to.memory).home {
            Home::None if sealed => {}
            // What the file has there, its mappings would go on showing.
            Home::MemFd {
                file,
                complete: false,
                ..
            } if sealed => file
                .punch(target.clone())
                .map_err(no_memory("punching a hole"))?,
            _ => return Ok(false),
        }
        let pages = source.start / size..source.end / size;
        for run in content.state.runs_in(self.from.memory, pages.clone()) {
            let first = target.start / size + (run.pages.start - pages.start);
            let range = first..first + (run.pages.end - run.pages.start);
            let tree = &mut content.state.tree;
            match run.place {
                Place::In(layer, page) => tree.own(self.to.memory, range, layer, page),
                Place::Zero => tree.zero(self.to.memory, range),
            }
        }
        content.zero_pages(pages)?;
        Ok(true)
    }

    /// Moves a piece that begins `at` bytes into the range, by way of `buffer`, which is as long.
    fn copy(&self, at: u64, buffer: &mut [u8]) -> Result<(), Status> {
        let size = page_size();
        let len = buffer.len() as u64;
        let mut content = self.from.content(self.engine);
        let bytes = self
            .from
            .memory_bytes(&content.state, self.src_offset + at, len)?;
        content.read(buffer, bytes.start)?;
        let pages = bytes.start / size as u64..bytes.end / size as u64;
        // A page that was only read through a mapping is in the file as zeros, and counts for nothing.
        let holds: Vec<bool> = pages
            .clone()
            .zip(buffer.chunks(size))
            .map(|(page, bytes)| {
                content.state.tree.resolve(self.from.memory, page) != Place::Zero
                    || bytes.iter().any(|&byte| byte != 0)
            })
            .collect();
        content.zero_pages(pages)?;
        drop(content);

        let mut content = self.to.content(self.engine);
        let bytes = self
            .to
            .memory_bytes(&content.state, self.offset + at, len)?;
        let mut done = 0;
        for run in holds.chunk_by(|a, b| a == b) {
            let part = &buffer[done..done + run.len() * size];
            let first = bytes.start + done as u64;
            if run[0] {
                content.write(part, first)?;
            } else {
                content.zero_bytes(first..first + part.len() as u64)?;
            }
            done += part.len();
        }
        content.collect();
        Ok(())
    }
}

/// A part of the range to be moved, in bytes from its beginning.
struct Step {
    bytes: Range<u64>,
    /// Whether there may be anything but untouched zeros.
    holds: bool,
}

impl Content<'_> {
    /// The parts of a range of whole pages, in order and without gaps.
    fn steps(&self, range: Range<u64>) -> Result<Vec<Step>, Status> {
        let mut steps = Vec::new();
        let mut at = range.start;
        let mut push = |bytes: Range<u64>, holds| {
            if !bytes.is_empty() {
                let bytes = bytes.start - range.start..bytes.end - range.start;
                steps.push(Step { bytes, holds });
            }
        };
        for extent in self.extents(&range)? {
            let start = extent.start.max(at);
            push(at..start, false);
            push(start..extent.end.max(start), true);
            at = extent.end.max(start);
        }
        push(at..range.end, false);
        Ok(steps)
    }

    /// Where in a range of whole pages the tree or the memory's home has something, by rising start. Parts may overlap.
    fn extents(&self, range: &Range<u64>) -> Result<Vec<Range<u64>>, Status> {
        let size = page_size() as u64;
        let pages = range.start / size..range.end / size;
        let mut found: Vec<Range<u64>> = self
            .state
            .runs_in(self.memory, pages.clone())
            .into_iter()
            .filter(|run| run.place != Place::Zero)
            .map(|run| run.pages.start * size..run.pages.end * size)
            .collect();
        match &self.state.pages(self.memory).home {
            Home::None => {}
            Home::MemFd { file, .. } => file
                .data(range.clone(), |bytes| found.push(bytes))
                .map_err(no_memory("reading a file's extents"))?,
            Home::Private { .. } => {
                let region = self.private_region();
                if let Some(range) = region.addresses(pages.start, pages.end) {
                    let mut push = |first: u64, pages: usize| {
                        found.push(first * size..(first + pages as u64) * size);
                    };
                    self.engine
                        .scan_stored(region.policy, range, |part| {
                            push(region.page_at(part.start()), part.pages());
                        })
                        .map_err(no_memory("scanning a mapping"))?;
                }
            }
        }
        found.sort_unstable_by_key(|extent| extent.start);
        Ok(found)
    }
}

/// Cuts a range into pieces of `len` bytes; the last in place may be shorter.
fn pieces(bytes: Range<u64>, len: u64, backwards: bool) -> impl Iterator<Item = Range<u64>> {
    let count = (bytes.end - bytes.start).div_ceil(len);
    (0..count).map(move |index| {
        let index = if backwards { count - 1 - index } else { index };
        let start = bytes.start + index * len;
        start..(start + len).min(bytes.end)
    })
}
