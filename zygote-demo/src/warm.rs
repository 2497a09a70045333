//! Warming: text into an index, and the index padded to size. Each row's zygote does it, and each cold child.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use anyhow::{Result, ensure};
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
    /// The text as it was when it was first read.
    seen: Option<u64>,
}

impl Source {
    pub(crate) fn new(paths: Vec<PathBuf>, heap: usize) -> Source {
        Source {
            paths,
            heap,
            seen: None,
        }
    }

    /// Reads the text. A later reading, by a copy of this source in any process, is an error if the text has changed: other words make another index, and the rows could
    /// not be compared.
    pub(crate) fn read(&mut self) -> Result<Vec<Document>> {
        let documents = text::read(&self.paths)?;
        let mut digest = DefaultHasher::new();
        documents.hash(&mut digest);
        let digest = digest.finish();
        ensure!(
            *self.seen.get_or_insert(digest) == digest,
            "the text was changed while the demo ran: run it again"
        );
        Ok(documents)
    }

    /// How many bytes of address space the heap is given: more than it will need, for memory costs nothing before it is touched.
    pub(crate) fn room(&self, documents: &[Document]) -> usize {
        let text: usize = documents.iter().map(|document| document.text.len()).sum();
        let room = self
            .heap
            .saturating_add(self.heap / 4)
            .saturating_add(text.saturating_mul(16))
            .saturating_add(SPARE);
        room.checked_next_multiple_of(host_memory::page::page_size())
            .unwrap_or(room)
    }

    /// Indexes the documents in `heap`, which is empty, and pads. The result is how long first stores to fresh memory took, in nanoseconds.
    pub(crate) fn warm(
        &self,
        heap: &mut Heap,
        documents: &[Document],
        progress: &mut Progress,
    ) -> Result<Vec<u64>> {
        let build_ns = index::create(heap)?;
        for document in documents {
            progress.say(|| format!("indexing {}", document.name));
            index::of(heap)?.add(&document.name, text::words(&document.text))?;
        }
        let target = self.heap;
        pad(heap, target, |done| {
            progress.say(|| format!("padding the index: {} %", done * 100 / target.max(1)))
        })?;
        Ok(build_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sources_give_equal_indexes_and_changed_text_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text");
        std::fs::write(&file, "a cow is no cat, and a cat is no cow".repeat(20)).unwrap();
        let mut source = Source::new(vec![file.clone()], 4 << 20);
        let mut checksums = Vec::new();
        for _ in 0..2 {
            let documents = source.read().unwrap();
            let mut heap = Heap::create_anonymous(source.room(&documents)).unwrap();
            let times = source
                .warm(&mut heap, &documents, &mut Progress::silent())
                .unwrap();
            assert!(!times.is_empty() && heap.allocated() > 3 << 20);
            checksums.push(index::of(&mut heap).unwrap().checksum());
        }
        assert_eq!(checksums[0], checksums[1]);
        std::fs::write(&file, "a dog").unwrap();
        let mut copy = source.clone();
        assert!(copy.read().unwrap_err().to_string().contains("changed"));
    }
}
