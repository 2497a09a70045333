//! The address-space clone of RFC-0013, zygote's side.
//!
//! Written with public calls of the engine only, as the RFC says: the address-space layout comes from object info; a mapped VMO that there is a handle to is
//! cloned by `vmo_create_child`, once, and its clone is mapped wherever it was; each other mapping is cloned by `vmar_create_vmo_child`. So a VMO that is mapped twice
//! stays one VMO in the clone only if a handle to it is given. Each clone is the memory of one instant; several clones are of several instants.

use std::collections::HashMap;

use cowspace::image::Image;
use cowspace::{Koid, Status, Vmar, Vmo, VmoChildOptions, process_layout};

use crate::error::Error;
use crate::pieces::{Piece, pieces};
use crate::protocol::Mapping;
use crate::report::{LeftOut, Missing};

/// An address space cloned and ready to be sent. The clones live as long as this value; their layers, once sent, also without it.
pub(crate) struct Capture {
    pub(crate) image: Image,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) handles: Vec<(String, u32)>,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) clones: Vec<Vmo>,
}

/// How often the list of mappings may turn out to be old before this is an error.
const ATTEMPTS: usize = 16;

/// Clones the address space and the VMOs named.
pub(crate) fn capture(vmos: &[(String, &Vmo)]) -> Result<Capture, Error> {
    for _ in 0..ATTEMPTS {
        let mut clones = Clones::of_handles(vmos)?;
        let layout = process_layout().map_err(engine("list the mappings"))?;
        match clones.add(&pieces(&layout)) {
            Ok(()) => return clones.finish(),
            Err(Failed::MapsChanged) => {}
            Err(Failed::For(error)) => return Err(error),
        }
    }
    Err(Error::MapsChange)
}

enum Failed {
    /// A mapping is not there any more, or not as it was listed.
    MapsChanged,
    For(Error),
}

struct Clones {
    root: Vmar,
    vmos: Vec<Vmo>,
    /// Clones made through a handle, by the VMO that was cloned.
    by_origin: HashMap<Koid, u32>,
    mappings: Vec<Mapping>,
    handles: Vec<(String, u32)>,
    left_out: Vec<LeftOut>,
}

impl Clones {
    fn of_handles(vmos: &[(String, &Vmo)]) -> Result<Self, Error> {
        let mut clones = Self {
            root: Vmar::try_root_self().map_err(engine("start"))?,
            vmos: Vec::new(),
            by_origin: HashMap::new(),
            mappings: Vec::new(),
            handles: Vec::new(),
            left_out: Vec::new(),
        };
        for (name, vmo) in vmos {
            let failed = |status| Error::Capture {
                what: format!("the VMO {name:?}"),
                status,
            };
            let info = vmo.info().map_err(failed)?;
            let clone = match clones.by_origin.get(&info.koid) {
                Some(clone) => *clone,
                None => {
                    let child = vmo
                        .create_child(VmoChildOptions::SNAPSHOT, 0, info.size_bytes)
                        .map_err(failed)?;
                    let clone = clones.push(child);
                    clones.by_origin.insert(info.koid, clone);
                    clone
                }
            };
            clones.handles.push((name.clone(), clone));
        }
        Ok(clones)
    }

    fn push(&mut self, clone: Vmo) -> u32 {
        self.vmos.push(clone);
        // More clones than this would not fit in memory.
        (self.vmos.len() - 1) as u32
    }

    fn add(&mut self, pieces: &[Piece]) -> Result<(), Failed> {
        for piece in pieces {
            self.add_piece(piece)?;
        }
        Ok(())
    }

    fn add_piece(&mut self, piece: &Piece) -> Result<(), Failed> {
        let of_handle = if piece.executable {
            None
        } else {
            self.by_origin.get(&piece.vmo).copied()
        };
        let (clone, vmo_offset) = match (self.clone_piece(piece), of_handle) {
            (Ok(_only_asked_for_leave), Some(clone)) => (clone, piece.vmo_offset),
            (Ok(child), None) => (self.push(child), 0),
            (Err(Status::ACCESS_DENIED), _) => {
                self.leave_out(piece, Missing::Mapping);
                return Ok(());
            }
            (Err(Status::INVALID_ARGS), _) if piece.records.len() > 1 => {
                return self.add(&piece.split());
            }
            (Err(Status::INVALID_ARGS), _) => return Err(Failed::MapsChanged),
            (Err(status), _) => {
                let what = format!(
                    "the mapping {:#x}..{:#x} ({})",
                    piece.base,
                    piece.base + piece.size,
                    piece.name
                );
                return Err(Failed::For(Error::Capture { what, status }));
            }
        };
        if piece.loses_writing() {
            self.leave_out(piece, Missing::WritePermission);
        }
        self.mappings.push(Mapping {
            address: piece.base as u64,
            vmo: clone,
            vmo_offset,
            runs: piece.runs(),
        });
        Ok(())
    }

    fn clone_piece(&self, piece: &Piece) -> Result<Vmo, Status> {
        let mut options = VmoChildOptions::SNAPSHOT;
        if piece.executable {
            options |= VmoChildOptions::NO_WRITE;
        }
        self.root.create_vmo_child(options, piece.base, piece.size)
    }

    fn leave_out(&mut self, piece: &Piece, what: Missing) {
        self.left_out.push(LeftOut {
            name: piece.name.to_string(),
            base: piece.base,
            size: piece.size,
            what,
        });
    }

    fn finish(self) -> Result<Capture, Error> {
        let clones: Vec<&Vmo> = self.vmos.iter().collect();
        let image = Image::capture(&clones).map_err(engine("make an image of the clones"))?;
        Ok(Capture {
            image,
            mappings: self.mappings,
            handles: self.handles,
            left_out: self.left_out,
            clones: self.vmos,
        })
    }
}

/// For `map_err`: an engine's status with what it was asked for.
pub(crate) fn engine(what: &'static str) -> impl FnOnce(Status) -> Error {
    move |status| Error::Engine { what, status }
}
