//! Files and layers as long as a VMO can be.
//!
//! The kernel's file offsets are signed, so one memory file ends below 2^63 bytes, and a VMO may be nearly 2^64 long.
//! A [`WideFile`] is therefore up to four memory files, one for each *window* of 2^62 bytes; sealed, it is a
//! [`WideLayer`]. Everybody else goes on counting bytes of the memory: only here, and where something is mapped, is a
//! range cut at the end of a window. A window's file is made when it is first needed, so nearly every VMO has one.

use std::array;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use host_memory::memfd::{Layer, MemFd, SealError};
use host_memory::page::{HostRange, page_size};
use host_memory::usage::FileUsage;

use crate::bounce::Bounce;
use crate::cut::fail_closed;
use crate::report::no_memory;
use crate::status::Status;

/// Bytes of a window.
const WINDOW: u64 = 1 << 62;
/// So many windows hold every offset.
const WINDOWS: usize = 4;

/// A file that can be written, of any length below 2^64.
///
/// As [`MemFd`], whose methods these are; ranges lie within the length, which [`Self::set_len`] alone changes. None but
/// [`Self::seal`] allocates from the heap.
pub(crate) struct WideFile {
    /// By window. What has no file is a hole.
    files: [OnceLock<MemFd>; WINDOWS],
    len: u64,
}

/// A file that nobody can change any more.
pub(crate) struct WideLayer {
    /// The windows that have a file. What has none is a hole.
    files: Vec<(usize, Arc<Layer>)>,
    len: u64,
}

impl WideFile {
    /// A file of `len` bytes, all of them holes.
    pub(crate) fn new(len: u64) -> WideFile {
        WideFile {
            files: array::from_fn(|_| OnceLock::new()),
            len,
        }
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Cuts off what lies behind `len`, or adds a hole. See [`MemFd::set_len`].
    pub(crate) fn set_len(&mut self, len: u64) -> io::Result<()> {
        for (window, file) in self.files.iter().enumerate() {
            if let Some(file) = file.get() {
                file.set_len(len_in(window, len))?;
            }
        }
        self.len = len;
        Ok(())
    }

    /// The file that holds the byte at `offset`, which may lie behind the end, and the byte's offset in it.
    pub(crate) fn at(&self, offset: u64) -> io::Result<(&MemFd, u64)> {
        let file = self.window((offset / WINDOW) as usize)?;
        Ok((file, offset % WINDOW))
    }

    /// A file of the same length, empty, which has a file wherever this one has: copying what this one holds makes none.
    pub(crate) fn new_like(&self) -> io::Result<WideFile> {
        let new = WideFile::new(self.len);
        for (window, file) in self.files.iter().enumerate() {
            if file.get().is_some() {
                new.window(window)?;
            }
        }
        Ok(new)
    }

    /// Which files it has, and what memory they take.
    pub(crate) fn usage(&self) -> io::Result<Vec<FileUsage>> {
        let files = self.files.iter().filter_map(OnceLock::get);
        files.map(|file| FileUsage::of(file.as_fd())).collect()
    }

    /// See [`MemFd::read_at`].
    pub(crate) fn read_at(&self, mut buf: &mut [u8], offset: u64) -> io::Result<()> {
        for (window, bytes) in parts(offset..offset + buf.len() as u64) {
            let (part, rest) = buf.split_at_mut((bytes.end - bytes.start) as usize);
            match self.files[window].get() {
                Some(file) => file.read_at(part, bytes.start)?,
                None => part.fill(0),
            }
            buf = rest;
        }
        Ok(())
    }

    /// See [`MemFd::write_at`].
    pub(crate) fn write_at(&self, mut buf: &[u8], offset: u64) -> io::Result<()> {
        for (window, bytes) in parts(offset..offset + buf.len() as u64) {
            let (part, rest) = buf.split_at((bytes.end - bytes.start) as usize);
            self.window(window)?.write_at(part, bytes.start)?;
            buf = rest;
        }
        Ok(())
    }

    /// See [`MemFd::punch`].
    pub(crate) fn punch(&self, bytes: Range<u64>) -> io::Result<()> {
        parts(bytes).try_for_each(|(window, bytes)| match self.files[window].get() {
            Some(file) => file.punch(bytes),
            None => Ok(()),
        })
    }

    /// See [`MemFd::allocate`].
    pub(crate) fn allocate(&self, bytes: Range<u64>) -> io::Result<()> {
        parts(bytes).try_for_each(|(window, bytes)| self.window(window)?.allocate(bytes))
    }

    /// See [`MemFd::data`].
    pub(crate) fn data(&self, bytes: Range<u64>, mut f: impl FnMut(Range<u64>)) -> io::Result<()> {
        parts(bytes).try_for_each(|(window, bytes)| match self.files[window].get() {
            Some(file) => file.data(bytes, |data| f(in_all(window, data))),
            None => Ok(()),
        })
    }

    /// See [`MemFd::seal`]. All or nothing: if one of several files cannot be sealed, those that were already are
    /// replaced by copies, and private mappings of them have to be made anew.
    pub(crate) fn seal(mut self) -> Result<WideLayer, (WideFile, SealError)> {
        let mut sealed = Vec::with_capacity(1);
        for window in 0..WINDOWS {
            let Some(file) = self.files[window].take() else {
                continue;
            };
            match file.seal() {
                Ok(layer) => sealed.push((window, Arc::new(layer))),
                Err((file, error)) => {
                    self.files[window] = OnceLock::from(file);
                    let layer = WideLayer {
                        files: sealed,
                        len: self.len,
                    };
                    if let Err(error) = self.take_back(&layer) {
                        fail_closed("a sealed file cannot be made writable again", &error);
                    }
                    return Err((self, error));
                }
            }
        }
        Ok(WideLayer {
            files: sealed,
            len: self.len,
        })
    }

    /// See [`MemFd::unsealed_layer`].
    pub(crate) fn unsealed_layer(&self) -> io::Result<WideLayer> {
        let mut files = Vec::with_capacity(1);
        for (window, file) in self.files.iter().enumerate() {
            if let Some(file) = file.get() {
                files.push((window, Arc::new(file.unsealed_layer()?)));
            }
        }
        Ok(WideLayer {
            files,
            len: self.len,
        })
    }

    /// Copies back what was sealed.
    fn take_back(&self, sealed: &WideLayer) -> Result<(), Status> {
        let mut bounce = Bounce::new()?;
        let page = &mut bounce.all()[..page_size()];
        let mut copied = Ok(());
        let mut copy = |at| {
            sealed.read_at(page, at)?;
            self.write_at(page, at)
        };
        sealed
            .data(0..self.len, |data| {
                for at in data.step_by(page_size()) {
                    if copied.is_ok() {
                        copied = copy(at);
                    }
                }
            })
            .and(copied)
            .map_err(no_memory("copying a layer"))
    }

    /// The file of a window, made now if there is none.
    fn window(&self, window: usize) -> io::Result<&MemFd> {
        if let Some(file) = self.files[window].get() {
            return Ok(file);
        }
        let file = MemFd::create("cowspace-vmo", len_in(window, self.len))?;
        Ok(self.files[window].get_or_init(|| file))
    }
}

impl From<MemFd> for WideFile {
    /// A file of one window.
    fn from(file: MemFd) -> WideFile {
        let wide = WideFile::new(file.len());
        debug_assert!(wide.len <= WINDOW);
        let _ = wide.files[0].set(file);
        wide
    }
}

impl WideLayer {
    /// The longest that one file of a layer can be, in bytes.
    pub(crate) const LONGEST_FILE: u64 = WINDOW;

    /// The length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The file that holds the byte at `offset`, and the byte's offset in it; `None` where no byte but zero can be.
    pub(crate) fn at(&self, offset: u64) -> Option<(&Arc<Layer>, u64)> {
        let layer = self.window((offset / WINDOW) as usize)?;
        Some((layer, offset % WINDOW))
    }

    /// The files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<Layer>> {
        self.files.iter().map(|(_, layer)| layer)
    }

    /// The files that hold a run of pages, each with its pages of it; `None` where all is zero.
    pub(crate) fn pages(
        &self,
        pages: Range<u64>,
    ) -> impl Iterator<Item = (Option<&Arc<Layer>>, Range<u64>)> {
        let size = page_size() as u64;
        parts(pages.start * size..pages.end * size)
            .map(move |(window, part)| (self.window(window), part.start / size..part.end / size))
    }

    /// See [`Layer::read_at`].
    pub(crate) fn read_at(&self, mut buf: &mut [u8], offset: u64) -> io::Result<()> {
        for (window, bytes) in parts(offset..offset + buf.len() as u64) {
            let (part, rest) = buf.split_at_mut((bytes.end - bytes.start) as usize);
            match self.window(window) {
                Some(layer) => layer.read_at(part, bytes.start)?,
                None => part.fill(0),
            }
            buf = rest;
        }
        Ok(())
    }

    /// See [`Layer::data`].
    pub(crate) fn data(&self, bytes: Range<u64>, mut f: impl FnMut(Range<u64>)) -> io::Result<()> {
        parts(bytes).try_for_each(|(window, bytes)| match self.window(window) {
            Some(layer) => layer.data(bytes, |data| f(in_all(window, data))),
            None => Ok(()),
        })
    }

    fn window(&self, window: usize) -> Option<&Arc<Layer>> {
        let found = self.files.iter().find(|&&(at, _)| at == window);
        found.map(|(_, layer)| layer)
    }
}

impl From<Arc<Layer>> for WideLayer {
    /// A layer of one file, at most [`WideLayer::LONGEST_FILE`] long as far as anybody looks.
    fn from(layer: Arc<Layer>) -> WideLayer {
        WideLayer {
            len: layer.len(),
            files: vec![(0, layer)],
        }
    }
}

/// Cuts a range of addresses, which shows a file from page `page` on, at the ends of windows: each part can be mapped
/// from one file. Gives each with its page.
pub(crate) fn mappable(range: HostRange, page: u64) -> impl Iterator<Item = (HostRange, u64)> {
    let size = page_size() as u64;
    let first = page * size;
    parts(first..first + range.len() as u64).filter_map(move |(window, bytes)| {
        let bytes = in_all(window, bytes);
        let part = range.sub(
            (bytes.start - first) as usize,
            (bytes.end - bytes.start) as usize,
        )?;
        Some((part, bytes.start / size))
    })
}

/// Cuts a range at the ends of windows; gives the window's number and the part in offsets of the window.
fn parts(bytes: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> {
    let Range { start: mut at, end } = bytes;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (window, start) = ((at / WINDOW) as usize, at % WINDOW);
        let len = (WINDOW - start).min(end - at);
        at += len;
        Some((window, start..start + len))
    })
}

/// A range in offsets of a window, in those of the whole.
fn in_all(window: usize, bytes: Range<u64>) -> Range<u64> {
    let first = window as u64 * WINDOW;
    first + bytes.start..first + bytes.end
}

/// How much of `len` bytes lies in a window.
fn len_in(window: usize, len: u64) -> u64 {
    len.saturating_sub(window as u64 * WINDOW).min(WINDOW)
}

#[cfg(test)]
mod tests {
    use host_memory::page::Prot;
    use host_memory::reserve::{Reservation, Source};

    use super::*;

    fn read(file: &WideFile, offset: u64) -> u8 {
        let mut byte = [0xEE];
        file.read_at(&mut byte, offset).unwrap();
        byte[0]
    }

    fn data(list: impl FnOnce(&mut dyn FnMut(Range<u64>)) -> io::Result<()>) -> Vec<Range<u64>> {
        let mut found = Vec::new();
        list(&mut |part| found.push(part)).unwrap();
        found
    }

    #[test]
    fn ranges_are_cut_where_windows_end() {
        let all = |bytes| parts(bytes).collect::<Vec<_>>();
        assert_eq!(all(5..5), []);
        assert_eq!(all(0..WINDOW), [(0, 0..WINDOW)]);
        assert_eq!(all(WINDOW..WINDOW + 1), [(1, 0..1)]);
        let expected = [(0, 7..WINDOW), (1, 0..WINDOW), (2, 0..9)];
        assert_eq!(all(7..2 * WINDOW + 9), expected);
        let last = 3 * WINDOW..u64::MAX;
        assert_eq!(all(last.clone()), [(3, 0..WINDOW - 1)]);
        assert_eq!(in_all(3, 0..WINDOW - 1), last);

        let size = page_size();
        let range = HostRange::new(16 * size, 4 * size).unwrap();
        let end = WINDOW / size as u64;
        let cut = |page| mappable(range, page).collect::<Vec<_>>();
        assert_eq!(cut(end), [(range, end)]);
        let (left, right) = (range.sub(0, size), range.sub(size, 3 * size));
        let expected = [(left.unwrap(), end - 1), (right.unwrap(), end)];
        assert_eq!(cut(end - 1), expected);
    }

    #[test]
    fn a_window_has_a_file_once_it_is_needed() {
        let size = page_size() as u64;
        let made = |file: &WideFile| file.files.each_ref().map(|file| file.get().is_some());
        let mut file = WideFile::new(2 * WINDOW + size);
        assert_eq!(read(&file, WINDOW), 0);
        file.punch(0..file.len()).unwrap();
        assert_eq!(data(|f| file.data(0..file.len(), f)), []);
        assert_eq!(made(&file), [false; WINDOWS]);
        file.write_at(&[1, 2], 2 * WINDOW - 1).unwrap();
        assert_eq!(made(&file), [false, true, true, false]);
        assert_eq!(
            (read(&file, 2 * WINDOW - 1), read(&file, 2 * WINDOW)),
            (1, 2)
        );
        let parts = [2 * WINDOW - size..2 * WINDOW, 2 * WINDOW..2 * WINDOW + size];
        assert_eq!(data(|f| file.data(0..file.len(), f)), parts);
        assert_eq!(made(&file.new_like().unwrap()), made(&file));
        assert!(file.write_at(&[1], file.len()).is_err(), "over the end");
        file.set_len(2 * WINDOW).unwrap();
        file.set_len(3 * WINDOW).unwrap();
        assert_eq!(
            (read(&file, 2 * WINDOW - 1), read(&file, 2 * WINDOW)),
            (1, 0)
        );

        let Ok(layer) = file.seal() else {
            panic!("nobody uses the file");
        };
        assert_eq!(data(|f| layer.data(0..layer.len(), f)), parts[..1]);
        assert!(layer.at(0).is_none());
        assert_eq!(layer.at(WINDOW + 1).unwrap().1, 1);
        assert_eq!(layer.files().count(), 2);
    }

    #[test]
    fn a_file_is_sealed_as_a_whole_or_not_at_all() {
        let size = page_size() as u64;
        let file = WideFile::new(3 * WINDOW);
        for (value, at) in [(1, WINDOW - size), (2, WINDOW), (3, 2 * WINDOW)] {
            file.write_at(&[value], at).unwrap();
        }
        let reservation = Reservation::new(page_size()).unwrap();
        let (used, offset) = file.at(WINDOW).unwrap();
        let source = Source::Shared(used, offset);
        let prot = Prot::READ | Prot::WRITE;
        reservation.map(reservation.range(), source, prot).unwrap();
        let Err((file, error)) = file.seal() else {
            panic!("a file that is mapped cannot be sealed");
        };
        assert!(matches!(error, SealError::Busy));
        for (value, at) in [(1, WINDOW - size), (2, WINDOW), (3, 2 * WINDOW)] {
            assert_eq!(read(&file, at), value);
            file.write_at(&[value + 10], at).unwrap();
            assert_eq!(read(&file, at), value + 10);
        }
        reservation.release(reservation.range()).unwrap();
        assert!(file.seal().is_ok());
    }
}
