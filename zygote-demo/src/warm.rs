//! Warming: text into an index, and the index padded to size. Each row's zygote does it, and each cold child.

use std::path::PathBuf;

use anyhow::Result;
use host_memory::heap::Heap;
use serde::{Deserialize, Serialize};

use crate::index;
use crate::pad::pad;
use crate::progress::Progress;
use crate::text::{self, Document};

/// Room for what children add, for allocations' rounding, and for the index of a very small text.
const SPARE: usize = 64 << 20;

/// What an index is made of. Equal sources give equal indexes in each process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Files and folders; none for this repository's own text.
    pub(crate) paths: Vec<PathBuf>,
    /// The size in bytes to pad to; 0 for no padding.
    pub(crate) heap: usize,
}

impl Source {
    pub(crate) fn read(&self) -> Result<Vec<Document>> {
        text::read(&self.paths)
    }

    /// How many bytes of address space the heap is given: more than it will need, for memory costs nothing before it is touched.
    pub(crate) fn room(&self, documents: &[Document]) -> usize {
        let text: usize = documents.iter().map(|document| document.text.len()).sum();
        let room = self.heap.saturating_add(self.heap / 4).saturating_add(text.saturating_mul(16)).saturating_add(SPARE);
        room.checked_next_multiple_of(host_memory::page::page_size()).unwrap_or(room)
    }

    /// Indexes the documents in `heap`, which is empty, and pads. The result is how long first stores to fresh memory took, in nanoseconds.
    pub(crate) fn warm(&self, heap: &mut Heap, documents: &[Document], progress: &mut Progress) -> Result<Vec<u64>> {
        let build_ns = index::create(heap)?;
        for document in documents {
            progress.say(|| format!("indexing {}", document.name));
            index::of(heap)?.add(&document.name, text::words(&document.text))?;
        }
        let target = self.heap;
        pad(heap, target, |done| progress.say(|| format!("padding the index: {} %", done * 100 / target.max(1))))?;
        Ok(build_ns)
    }
}
