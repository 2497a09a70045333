//! VMOs in a form that another process can build them from.
//!
//! A clone that nobody has written to consists of sealed layers, which never change. So it can be given to another process as a table of pages and the layers' descriptors, and
//! nobody needs to be asked afterwards: an [`Image`]. What a peer sends is checked before it is used: it is an allegation.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use host_memory::memfd::Layer;
use host_memory::page::page_size;
use page_tree::{LayerId, Place};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::family::{Family, new_layer_id};
use crate::hash::HashMap;
use crate::info::Name;
use crate::object::{NewVmo, VmObject, VmoKind};
use crate::report::call;
use crate::rights::Rights;
use crate::status::Status;
use crate::stream_size::StreamSize;
use crate::vmo::Vmo;
use crate::wide::WideLayer;

/// Some VMOs, and the layers they lie in.
#[derive(Debug, Default)]
pub struct Image {
    records: Vec<VmoRecord>,
    layers: Vec<Arc<Layer>>,
}

/// One VMO of an image. Pages are in units of [`VmoRecord::page_size`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct VmoRecord {
    /// The name, up to 31 bytes.
    pub name: Vec<u8>,
    /// The sender's page size in bytes.
    pub page_size: u64,
    /// The VMO's size in pages.
    pub pages: u64,
    /// The VMO's stream size in bytes.
    pub stream_size: u64,
    /// The rights that a handle to the VMO has, as `zx_rights_t`. Of a peer's only those are given that a VMO which cannot be resized can have.
    pub rights: u32,
    /// Where the pages are that are not zero, by rising page, without overlap.
    pub runs: Vec<PageRun>,
}

/// A run of pages that lies in one layer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PageRun {
    /// The first page of the VMO.
    pub first: u64,
    /// How many pages.
    pub pages: u64,
    /// Which of the image's layers.
    pub layer: u32,
    /// The page of the layer that the first page is.
    pub layer_page: u64,
}

impl Image {
    /// The image of `vmos`. They must be clones to which nobody has written; they can be closed afterwards.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `BAD_STATE` for a VMO that is mapped or has pages that are not in a sealed layer.
    pub fn capture(vmos: &[&Vmo]) -> Result<Image, Status> {
        call(|engine| {
            let mut image = Image::default();
            let mut numbers = HashMap::default();
            for vmo in vmos {
                let (vmo, rights) = vmo.as_ref().vmo(engine, Rights::NONE)?;
                let record = image.record(&vmo, rights, &mut numbers)?;
                image.records.push(record);
            }
            Ok(image)
        })
    }

    /// The VMOs, in the order given.
    pub fn records(&self) -> &[VmoRecord] {
        &self.records
    }

    /// The layers' descriptors, in the order in which the records number them. They can be sent to anybody: nobody can change what they show.
    pub fn layers(&self) -> Vec<BorrowedFd<'_>> {
        self.layers.iter().map(|layer| layer.as_fd()).collect()
    }

    /// Builds the VMOs of an image that a peer has sent, each in a family of its own. The VMOs have no children and no parent here.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGS` if anything in the records contradicts itself, the layers, or this machine: page size, sizes, ranges, overlaps, numbers of layers; `ACCESS_DENIED` if a layer is not a sealed memory file;
    /// `NO_RESOURCES`.
    pub fn build(records: Vec<VmoRecord>, layers: Vec<OwnedFd>) -> Result<Vec<Vmo>, Status> {
        call(|engine| {
            let layers = layers
                .into_iter()
                .map(|fd| {
                    Layer::adopt(fd).map(Arc::new).map_err(|error| {
                        tracing::error!(%error, "a layer of an image is refused");
                        Status::ACCESS_DENIED
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            // Everything is checked before anything is made.
            for record in &records {
                record.check(&layers)?;
            }
            records
                .iter()
                .map(|record| record.build(engine, &layers))
                .collect()
        })
    }

    fn record(
        &mut self,
        vmo: &Arc<VmObject>,
        rights: Rights,
        numbers: &mut HashMap<(u64, u64), u32>,
    ) -> Result<VmoRecord, Status> {
        let state = vmo.family.lock();
        if !state.pages(vmo.memory).is_sealed() {
            return Err(Status::BAD_STATE);
        }
        let mut runs = Vec::new();
        let window = vmo.window(&state);
        for run in state.runs_in(vmo.memory, window.clone()) {
            let Place::In(id, layer_page) = run.place else {
                continue;
            };
            let layer = state.layer(id).ok_or(Status::BAD_STATE)?;
            let mut first = run.pages.start - window.start;
            for (layer, pages) in
                layer.pages(layer_page..layer_page + run.pages.end - run.pages.start)
            {
                let len = pages.end - pages.start;
                if let Some(layer) = layer {
                    let number = *numbers.entry(layer.id()).or_insert_with(|| {
                        self.layers.push(layer.clone());
                        (self.layers.len() - 1) as u32
                    });
                    runs.push(PageRun {
                        first,
                        pages: len,
                        layer: number,
                        layer_page: pages.start,
                    });
                }
                first += len;
            }
        }
        Ok(VmoRecord {
            name: vmo.name().as_bytes().to_vec(),
            page_size: page_size() as u64,
            pages: window.end - window.start,
            stream_size: vmo.stream.get(),
            rights: rights.bits(),
            runs,
        })
    }
}

impl VmoRecord {
    fn check(&self, layers: &[Arc<Layer>]) -> Result<(), Status> {
        let size = page_size() as u64;
        let fail = |what: &str| {
            tracing::error!(name = %Name::from_bytes_lossy(&self.name), "an image is refused: {what}");
            Err(Status::INVALID_ARGS)
        };
        if self.page_size != size {
            return fail("it comes from a system with another page size");
        }
        if self.pages > u64::MAX / size {
            return fail("a VMO is larger than the address space");
        }
        let mut end = 0;
        for run in &self.runs {
            let run_end = run.first.checked_add(run.pages);
            if run.pages == 0
                || run.first < end
                || run_end.is_none_or(|run_end| run_end > self.pages)
            {
                return fail("runs overlap or lie outside of their VMO");
            }
            let Some(layer) = layers.get(run.layer as usize) else {
                return fail("a run names a layer that is not there");
            };
            let layer_end = run.layer_page.checked_add(run.pages);
            if layer_end
                .is_none_or(|layer_end| layer_end > layer.len().min(WideLayer::LONGEST_FILE) / size)
            {
                return fail("a run lies outside of its layer");
            }
            end = run.first + run.pages;
        }
        Ok(())
    }

    /// Builds a VMO from a record that was checked.
    fn build(&self, engine: &Engine, layers: &[Arc<Layer>]) -> Result<Vmo, Status> {
        let family = Family::new();
        let mut state = family.lock();
        let vmo = state.tree.create(self.pages);
        let mut ids: HashMap<u32, (LayerId, u64)> = HashMap::default();
        for run in &self.runs {
            let (id, held) = ids.entry(run.layer).or_insert_with(|| (new_layer_id(), 0));
            *held += run.pages;
            state
                .tree
                .own(vmo, run.first..run.first + run.pages, *id, run.layer_page);
        }
        for (number, (id, held)) in ids {
            let layer = WideLayer::from(layers[number as usize].clone());
            state.add_layer(id, Arc::new(layer), held);
        }
        let new = NewVmo {
            name: Name::from_bytes_lossy(&self.name),
            ..NewVmo::new(VmoKind::Root, StreamSize::new(0, self.stream_size))
        };
        let object = VmObject::new(&family, &mut state, vmo, new);
        drop(state);
        Vmo::from_object(
            engine,
            object,
            Rights::from_bits_retain(self.rights) & (Rights::VMO_DEFAULT | Rights::EXECUTE),
        )
    }
}
