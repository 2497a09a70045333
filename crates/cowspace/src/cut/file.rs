//! The cut of a memory that has all in its own file, whose mappings are replaced: the file becomes a layer. This is the first clone of a memory.
//!
//! What would take long here grows with the pages that are mapped: the kernel unmaps one after the other, looks at each again before it seals the file, and once more to list them.
//! No thread has to wait for that. The page tables are moved *aside* first, which is some system calls whatever they hold ([`Reservation::set_aside`]); what is left to
//! replace is an empty mapping, and that is the cut. Then threads go on, and page tables, seal and list are seen to.
//!
//! Until it is sealed the file is a layer by our word alone. Threads cannot reach it: the mappings that could write to it are gone but for the one aside, which
//! nobody knows. What could write to it all the same is a transfer by the kernel under way since before, or a copy of the process with the old mapping. Both would
//! make sealing fail, and then the file is to be the memory's home again, with what threads have stored since. That is possible, but if such a writer has changed
//! a page of which a thread has a private one by then, either's bytes would be lost. So threads go on before the seal only if nothing of the kind is known; else they wait for it.
//!
//! Not known is who is just inside of `process_vm_writev(2)` or the like (see [`transfers`]): what he writes to a page of which somebody has made a private one since the cut is in the clone
//! and not in the memory. (Of 900 first clones of a memory to which a thread did nothing else, while another stored to the same pages, one met that.)
//!
//! [`Reservation::set_aside`]: host_memory::reserve::Reservation::set_aside

use std::ops::Range;
use std::sync::Arc;

use host_memory::page::page_size;
use host_memory::pagemap::PageFlags;
use host_memory::reserve::{Prepared, Source};
use host_memory::transfers;
use host_memory::uffd::Modes;
use page_tree::{LayerId, MemoryId, Place};

use super::{Parked, Piece, fail_closed, seal_status};
use crate::engine::{Engine, Space};
use crate::family::{Backing, Family, FamilyState, Home, make_alias, new_layer_id};
use crate::plan::Plan;
use crate::report::no_memory;
use crate::resolver::Tracer;
use crate::status::Status;
use crate::wide::{WideFile, WideLayer};

/// Mappings shorter than this are replaced as they are: unmapping the pages of 2 MiB costs as much as asking whether threads may go on before.
const WORTH_SETTING_ASIDE: usize = 2 << 20;

/// A file whose mapping has been replaced, still to be sealed while threads run.
struct Unsealed {
    pieces: Vec<Piece>,
    /// What was mapped.
    aside: Vec<Prepared>,
    file: WideFile,
    layer: LayerId,
    /// The same as a layer.
    view: Arc<WideLayer>,
}

impl Engine {
    /// Own file, traced: replacements that fault are moved over all mappings. With one mapping of everything the replacement is a private one of the file itself; else
    /// the mappings get a new, empty file.
    pub(super) fn cut_file_parked(
        &self,
        tracer: &Tracer,
        space: &Space,
        family: &Family,
        memory: MemoryId,
        one: bool,
    ) -> Result<(), Status> {
        let pieces = self.pieces_of(space, family, memory);
        let view = if one && tracer.writes && worth_setting_aside(&pieces) {
            self.view_of(family, memory)
        } else {
            None
        };
        let parked = Parked::new(tracer, family, memory);
        let (layer, file, complete) = family.lock().take_file(memory)?;

        let fresh = (!one).then(|| WideFile::new(file.len()));
        let aside = match &view {
            Some(_) => self.set_aside(&pieces),
            None => Vec::new(),
        };
        let replaced = match &fresh {
            None => self.replace(
                tracer,
                &pieces,
                (&file, Source::PrivateUnsealed),
                tracer.private_modes(true),
            ),
            Some(fresh) => self.replace(tracer, &pieces, (fresh, Source::Shared), Modes::MISSING),
        };
        if replaced.is_ok()
            && let Some(view) = view
            // Asked now: a transfer that begins later has to fault first, and waits.
            && !transfers::may_be_under_way()
        {
            let unsealed = Unsealed {
                pieces,
                aside,
                file,
                layer,
                view,
            };
            return self.seal_unparked(tracer, family, memory, parked, unsealed);
        }
        drop(aside);
        // All threads are stopped, so if pages are pinned nothing has been stored since, and the file can be put back.
        let sealed = match replaced {
            Ok(()) => file.seal().map_err(|(file, error)| {
                self.put_back(tracer, &pieces, &file, complete);
                (file, seal_status(&error))
            }),
            Err(status) => Err((file, status)),
        };
        let mut state = family.lock();
        match sealed {
            Ok(sealed) => {
                state.own_sealed(memory, layer, sealed, complete);
                match fresh {
                    Some(file) => {
                        state.pages_mut(memory).home = Home::MemFd {
                            layer: new_layer_id(),
                            file,
                            complete: false,
                        };
                    }
                    None => state.live_privately(memory, layer),
                }
                drop(state);
                drop(parked);
                Ok(())
            }
            Err((file, status)) => {
                state.put_file_back(memory, layer, file, complete);
                drop(state);
                drop(parked);
                Err(status)
            }
        }
    }

    /// The file of a memory as the layer that it will be, if threads may run while it is sealed as far as is known by now.
    ///
    /// Only of a memory that sees nothing but this file: then no page has to be compared with another layer's first.
    fn view_of(&self, family: &Family, memory: MemoryId) -> Option<Arc<WideLayer>> {
        if self.gate.has_forked() {
            return None;
        }
        let state = family.lock();
        let Home::MemFd {
            layer,
            file,
            complete: true,
        } = &state.pages(memory).home
        else {
            return None;
        };
        let here = |place| match place {
            Place::Zero => true,
            Place::In(id, _) => id == *layer,
        };
        if !state.runs(memory).iter().all(|run| here(run.place)) {
            return None;
        }
        // No descriptor left: threads wait.
        let view = file.unsealed_layer().ok()?;
        drop(state);
        make_alias(&view);
        Some(Arc::new(view))
    }

    /// Lets the threads go on, then seals the file that they see.
    fn seal_unparked(
        &self,
        tracer: &Tracer,
        family: &Family,
        memory: MemoryId,
        parked: Parked<'_>,
        unsealed: Unsealed,
    ) -> Result<(), Status> {
        let Unsealed {
            pieces,
            aside,
            file,
            layer,
            view,
        } = unsealed;
        let mut state = family.lock();
        let known = state.own_extents(memory, layer);
        let end = state.tree.pages(memory);
        // Holes are among them, and to the handler a hole of a layer is zero.
        state.tree.own(memory, 0..end, layer, 0);
        state.add_layer(layer, view.clone(), end);
        state.live_privately(memory, layer);
        drop(state);
        drop(parked);

        // 40 ms for 1 GiB, but the kernel lets page faults through meanwhile.
        drop(aside);
        match file.seal() {
            // The seals are the file's, so the view is a sealed layer from here on.
            Ok(_second_descriptor) => {
                let size = page_size() as u64;
                let mut held = Vec::new();
                // What cannot be looked at counts as changed.
                if view
                    .data(0..end * size, |bytes| {
                        held.push(bytes.start / size..bytes.end / size)
                    })
                    .is_ok()
                {
                    family.lock().own_only(memory, layer, known, held);
                }
                Ok(())
            }
            Err((file, error)) => {
                let parked = Parked::new(tracer, family, memory);
                self.merge_back_parked(tracer, family, memory, &pieces, &file)
                    .unwrap_or_else(|status| {
                        fail_closed("a mapping cannot be put back", &status);
                    });
                let mut state = family.lock();
                state.own_only(memory, layer, known, Vec::new());
                let given_up = state.remove_layer(layer);
                let pages = state.pages_mut(memory);
                pages.only_region_mut().backing = Backing::Shared;
                pages.home = Home::MemFd {
                    layer,
                    file,
                    complete: true,
                };
                drop(state);
                drop(given_up);
                drop(parked);
                Err(seal_status(&error))
            }
        }
    }

    /// Undoes [`Self::replace`] with the file the pieces showed before. No thread has stored anything meanwhile: all wait.
    fn put_back(&self, tracer: &Tracer, pieces: &[Piece], file: &WideFile, complete: bool) {
        if complete {
            for piece in pieces {
                self.map_piece(piece, file)
                    .unwrap_or_else(|error| fail_closed("a mapping cannot be put back", &error));
            }
        } else if let Err(status) =
            self.replace(tracer, pieces, (file, Source::Shared), Modes::MISSING)
        {
            fail_closed("a mapping cannot be put back", &status);
        }
    }

    /// The same for a parked region that threads have stored to since: their private pages are the file's again.
    fn merge_back_parked(
        &self,
        tracer: &Tracer,
        family: &Family,
        memory: MemoryId,
        pieces: &[Piece],
        file: &WideFile,
    ) -> Result<(), Status> {
        let failed = || no_memory("putting a mapping back");
        let stopped = self.protect_private(tracer, family, memory)?;
        // One mapping shows all of the memory, so it is shorter than one window.
        let (to, _) = file.at(0).map_err(failed())?;
        self.copy_out(stopped.range, &stopped.changed, to)?;
        for piece in pieces {
            self.map_piece(piece, file).map_err(failed())?;
        }
        // The protection went with the mapping.
        stopped.keep();
        Ok(())
    }

    /// Own file, kernel alone, one mapping of everything with at most one writable piece: one `mmap` is the cut.
    pub(super) fn cut_file_replaced(
        &self,
        space: &Space,
        family: &Family,
        memory: MemoryId,
    ) -> Result<(), Status> {
        let pieces = self.pieces_of(space, family, memory);
        // With a writer that sealing is to find the time until then is kept short.
        let alone = worth_setting_aside(&pieces)
            && !self.gate.has_forked()
            && !transfers::may_be_under_way();
        let (layer, file, complete) = family.lock().take_file(memory)?;
        let aside = if alone {
            self.set_aside(&pieces)
        } else {
            Vec::new()
        };
        let mut replaced = 0;
        let mapped = pieces.iter().try_for_each(|piece| {
            let (file, offset) = file.at(piece.offset())?;
            let source = Source::PrivateUnsealed(file, offset);
            self.reservation
                .map(piece.range, source, piece.prot)
                .inspect(|()| replaced += 1)
        });
        drop(aside);
        let sealed = match mapped {
            Ok(()) => file
                .seal()
                .map_err(|(file, error)| (file, seal_status(&error))),
            Err(error) => Err((file, no_memory("replacing a mapping")(error))),
        };
        match sealed {
            Ok(sealed) => {
                let mut state = family.lock();
                state.own_sealed(memory, layer, sealed, complete);
                state.live_privately(memory, layer);
                Ok(())
            }
            Err((file, status)) => {
                self.merge_back(&pieces[..replaced], &file);
                family.lock().put_file_back(memory, layer, file, complete);
                Err(status)
            }
        }
    }

    /// Undoes a private replacement of the whole file that threads may have stored to since.
    fn merge_back(&self, pieces: &[Piece], file: &WideFile) {
        if pieces.is_empty() {
            return;
        }
        let stopped = self
            .stop_world()
            .and_then(|stopped| stopped.may_move_pages().map(|()| stopped))
            .unwrap_or_else(|status| fail_closed("a mapping cannot be put back", &status));
        for piece in pieces {
            let mut result = Ok(());
            let scanned = self
                .pagemap
                .scan(piece.range, PageFlags::PRIVATE, |part, _| {
                    if result.is_ok() {
                        let offset = piece.offset() + (part.start() - piece.range.start()) as u64;
                        result = file.at(offset).and_then(|(file, offset)| {
                            self.memory.copy_out(self.reservation, part, file, offset)
                        });
                    }
                });
            scanned
                .and(result)
                .and_then(|()| self.map_piece(piece, file))
                .unwrap_or_else(|error| fail_closed("a mapping cannot be put back", &error));
        }
        drop(stopped);
    }

    /// Moves aside what the kernel has mapped of the pieces. Those of which it cannot be moved stay as they are.
    fn set_aside(&self, pieces: &[Piece]) -> Vec<Prepared> {
        pieces
            .iter()
            .filter(|piece| piece.range.len() >= WORTH_SETTING_ASIDE)
            .filter_map(|piece| self.reservation.set_aside(piece.range).ok())
            .collect()
    }
}

fn worth_setting_aside(pieces: &[Piece]) -> bool {
    pieces
        .iter()
        .any(|piece| piece.range.len() >= WORTH_SETTING_ASIDE)
}

impl FamilyState {
    /// The memory's one mapping is a private one of `layer`.
    fn live_privately(&mut self, memory: MemoryId, layer: LayerId) {
        let end = self.tree.pages(memory);
        let pages = self.pages_mut(memory);
        pages.only_region_mut().backing = Backing::Private(Plan::single(layer, end));
        pages.home = Home::Private {
            layer: new_layer_id(),
        };
    }

    /// Of the memory, which sees no other layer, these pages lie in `layer`: those that were known to before, and those that it holds.
    fn own_only(
        &mut self,
        memory: MemoryId,
        layer: LayerId,
        known: Vec<Range<u64>>,
        held: Vec<Range<u64>>,
    ) {
        let end = self.tree.pages(memory);
        self.tree.zero(memory, 0..end);
        let count = held.iter().map(|pages| pages.end - pages.start).sum();
        for pages in known.into_iter().chain(held) {
            let first = pages.start;
            self.tree.own(memory, pages, layer, first);
        }
        self.set_held(layer, count);
        self.drop_unused_layer(layer);
    }
}
