//! The stream size (older: content size) of a VMO: how many bytes of it count as content, to the byte. It bounds no
//! call; only mappings made with `FAULT_BEYOND_STREAM_SIZE` end with it.
//!
//! Such a mapping keeps its pages. Those wholly behind the stream size have no permissions in the kernel, whatever
//! the VMAR tree says, so that touching them is SIGSEGV.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use host_memory::page::{HostRange, Prot, page_size};

use crate::content::Content;
use crate::family::Region;
use crate::object::VmObject;
use crate::report::{call, no_memory};
use crate::rights::Rights;
use crate::status::Status;
use crate::vmo::Vmo;

/// A stream size. References share that of their VMO; slices and clones have their own.
pub(crate) struct StreamSize {
    /// The page of the memory at which the VMO begins.
    first_page: u64,
    /// Changes with the family locked, and with the address space if the memory is mapped.
    bytes: AtomicU64,
}

impl StreamSize {
    pub(crate) fn new(first_page: u64, bytes: u64) -> Arc<StreamSize> {
        Arc::new(StreamSize {
            first_page,
            bytes: AtomicU64::new(bytes),
        })
    }

    pub(crate) fn get(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether no page of `offset..offset + len` of the VMO, which lies inside of it, lies wholly behind the stream size.
    pub(crate) fn reaches(&self, offset: u64, len: u64) -> bool {
        let size = page_size() as u64;
        (offset + len).div_ceil(size) <= self.get().div_ceil(size)
    }

    /// The memory's first page that lies wholly behind it.
    fn end_page(&self) -> u64 {
        let pages = self.get().div_ceil(page_size() as u64);
        self.first_page.saturating_add(pages)
    }
}

impl Vmo {
    /// The stream size in bytes, not rounded: the size asked for when the VMO was made or resized, or what was set
    /// since. `zx_vmo_get_stream_size`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; no right is needed.
    pub fn get_stream_size(&self) -> Result<u64, Status> {
        call(|engine| Ok(self.as_ref().vmo(engine, Rights::NONE)?.0.stream.get()))
    }

    /// Sets the stream size to `size` bytes. From the smaller of the two sizes on the VMO is zero afterwards; its
    /// own size stays. `zx_vmo_set_stream_size`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `WRITE`; `OUT_OF_RANGE` if `size` is above the VMO's;
    /// `NO_MEMORY`.
    pub fn set_stream_size(&self, size: u64) -> Result<(), Status> {
        call(|engine| {
            let (vmo, _) = self.as_ref().vmo(engine, Rights::WRITE)?;
            let content = vmo.content(engine);
            if size != vmo.stream.get() && size > vmo.size(&content.state) {
                return Err(Status::OUT_OF_RANGE);
            }
            vmo.change_stream_size(content, size)
        })
    }

    /// As [`Vmo::get_stream_size`]. `ZX_PROP_VMO_CONTENT_SIZE`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `GET_PROPERTY`.
    pub fn get_content_size(&self) -> Result<u64, Status> {
        call(|engine| {
            let (vmo, _) = self.as_ref().vmo(engine, Rights::GET_PROPERTY)?;
            Ok(vmo.stream.get())
        })
    }

    /// As [`Vmo::set_stream_size`], but a size above the VMO's is kept as well. `ZX_PROP_VMO_CONTENT_SIZE`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `SET_PROPERTY` and `WRITE`; `NO_MEMORY`.
    pub fn set_content_size(&self, size: u64) -> Result<(), Status> {
        call(|engine| {
            let rights = Rights::SET_PROPERTY | Rights::WRITE;
            let (vmo, _) = self.as_ref().vmo(engine, rights)?;
            vmo.change_stream_size(vmo.content(engine), size)
        })
    }
}

impl VmObject {
    fn change_stream_size(&self, mut content: Content<'_>, size: u64) -> Result<(), Status> {
        let old = self.stream.get();
        if size == old {
            return Ok(());
        }
        let end = self.size(&content.state);
        let start = old.min(size).min(end);
        let behind = self.memory_bytes(&content.state, start, end - start)?;
        if size > old {
            // Before anybody can touch it: what was there is not seen, and no store is taken back.
            content.zero_bytes(behind)?;
            return content.set_stream_size(&self.stream, size);
        }
        content.set_stream_size(&self.stream, size)?;
        content
            .zero_bytes(behind)
            .inspect_err(|_| content.restore_stream_size(&self.stream, old))
    }
}

impl Content<'_> {
    /// Sets a stream size of the memory; mappings follow.
    ///
    /// # Errors
    ///
    /// `NO_MEMORY` if the process has no room for another mapping. Then nothing has changed.
    pub(crate) fn set_stream_size(
        &mut self,
        stream: &Arc<StreamSize>,
        bytes: u64,
    ) -> Result<(), Status> {
        let old = stream.bytes.swap(bytes, Ordering::Relaxed);
        self.show_stream(stream)
            .inspect_err(|_| self.restore_stream_size(stream, old))
    }

    /// As it was before [`Self::set_stream_size`]. The kernel had room for that before.
    pub(crate) fn restore_stream_size(&self, stream: &Arc<StreamSize>, bytes: u64) {
        stream.bytes.store(bytes, Ordering::Relaxed);
        let _ = self.show_stream(stream);
    }

    /// Gives the regions that end with a stream size the permissions that it leaves them.
    fn show_stream(&self, stream: &Arc<StreamSize>) -> Result<(), Status> {
        // Not locked: there is no region.
        let Some(space) = &self.space else {
            return Ok(());
        };
        let regions = self.state.pages(self.memory).regions.values();
        let follows =
            |region: &&Region| matches!(&region.stream, Some(one) if Arc::ptr_eq(one, stream));
        for region in regions.filter(follows) {
            for (range, prot) in self.engine.pieces(space, region) {
                self.engine
                    .reservation
                    .protect(range, prot)
                    .map_err(no_memory("following a stream size"))?;
            }
        }
        Ok(())
    }
}

impl Region {
    /// What of a part of the region has the permissions `prot`, and what lies behind the stream size and has none.
    pub(crate) fn permissions(
        &self,
        part: HostRange,
        prot: Prot,
    ) -> impl Iterator<Item = (HostRange, Prot)> + use<> {
        let inside = match &self.stream {
            None => part.pages(),
            Some(stream) => {
                let shown = stream.end_page().saturating_sub(self.page_at(part.start()));
                (part.pages() as u64).min(shown) as usize
            }
        };
        let len = inside * page_size();
        let parts = [
            (part.sub(0, len), prot),
            (part.sub(len, part.len() - len), Prot::empty()),
        ];
        parts
            .into_iter()
            .filter_map(|(part, prot)| Some((part.filter(|part| !part.is_empty())?, prot)))
    }
}
