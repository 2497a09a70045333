//! The bytes behind VMOs, and whose content each page is.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Range;

use crate::page;

/// The name of a page's content. Those memories share a page that have the same name for it.
pub(super) type Content = u64;

/// So many bytes in a row, from a multiple of this on, are surely new.
pub(super) const WORD: usize = 4;

/// Makes names for contents, and bytes that were never stored before.
#[derive(Default)]
pub(super) struct Contents(u64);

impl Contents {
    pub(super) fn fresh(&mut self) -> Content {
        self.0 += 1;
        self.0
    }

    /// Bytes for byte `at` of a memory: they tell where they were written, none is zero, and no [`WORD`] of them are like others.
    pub(super) fn pattern(&mut self, at: usize, len: usize) -> Vec<u8> {
        let number = (self.fresh() as u32).to_le_bytes();
        let byte = |at: usize| match number[at % WORD] ^ (at / 7) as u8 {
            0 => 0xFF,
            byte => byte,
        };
        (at..at + len).map(byte).collect()
    }
}

/// The bytes of a VMO, its slices and its references.
pub(super) struct Memory {
    /// Where `bytes` begin in the memory, at a page: nothing before that is looked at.
    pub(super) origin: u64,
    pub(super) bytes: Vec<u8>,
    /// What each page holds; `None` where nothing was ever put, or it was given back.
    pub(super) pages: Vec<Option<Content>>,
    /// Memories that descend from one VMO.
    pub(super) family: usize,
    pub(super) resizable: bool,
    /// An untouched page was looked at through a mapping.
    pub(super) zeros_seen: bool,
    /// A page was written so that it has the bytes again that it once had.
    pub(super) same_written: bool,
    /// What bytes each page once had, as hashes.
    pub(super) once: Vec<HashSet<u64>>,
}

impl Memory {
    pub(super) fn new(pages: usize, family: usize, resizable: bool) -> Memory {
        Memory {
            origin: 0,
            bytes: vec![0; pages * page()],
            pages: vec![None; pages],
            family,
            resizable,
            zeros_seen: false,
            same_written: false,
            once: vec![HashSet::from([hash(&vec![0; page()])]); pages],
        }
    }

    /// What a clone of these bytes begins with: zero where there are none.
    pub(super) fn window(&self, offset: usize, size: usize, resizable: bool) -> Memory {
        let first = offset / page();
        let mut clone = Memory::new(size / page(), self.family, resizable);
        for at in 0..clone.pages.len() {
            if let Some(&content) = self.pages.get(first + at) {
                clone.pages[at] = content;
                clone.once[at] = self.once[first + at].clone();
                let from = (first + at) * page();
                clone.bytes[at * page()..][..page()]
                    .copy_from_slice(&self.bytes[from..from + page()]);
            }
        }
        clone
    }

    pub(super) fn write(&mut self, at: usize, data: &[u8], contents: &mut Contents) {
        self.bytes[at..at + data.len()].copy_from_slice(data);
        if data.is_empty() {
            return;
        }
        let pages = at / page()..(at + data.len()).div_ceil(page());
        pages.clone().for_each(|page| self.have_written(page));
        self.commit(pages, contents);
    }

    /// A page's bytes are new.
    fn have_written(&mut self, at: usize) {
        let bytes = &self.bytes[at * page()..][..page()];
        self.same_written |= !self.once[at].insert(hash(bytes));
    }

    /// Gives every page of the range a content of its own.
    pub(super) fn commit(&mut self, pages: Range<usize>, contents: &mut Contents) {
        for content in &mut self.pages[pages] {
            *content = Some(contents.fresh());
        }
    }

    /// Whole pages are given up; parts of pages that hold nothing stay untouched.
    pub(super) fn zero(&mut self, bytes: Range<usize>, contents: &mut Contents) {
        if bytes.is_empty() {
            return;
        }
        self.bytes[bytes.clone()].fill(0);
        for at in bytes.start / page()..bytes.end.div_ceil(page()) {
            let part = bytes.start.max(at * page())..bytes.end.min((at + 1) * page());
            if part.len() == page() {
                self.pages[at] = None;
            } else if self.pages[at].is_some() {
                self.pages[at] = Some(contents.fresh());
                self.have_written(at);
            }
        }
    }

    pub(super) fn resize(&mut self, bytes: usize, contents: &mut Contents) {
        let end = bytes.next_multiple_of(page());
        if end <= self.bytes.len() && bytes < end {
            self.zero(bytes..end, contents);
        }
        self.bytes.resize(end, 0);
        self.pages.resize(end / page(), None);
        let zeros = HashSet::from([hash(&vec![0; page()])]);
        self.once.resize(end / page(), zeros);
    }
}

fn hash(bytes: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(bytes)
}

/// What a VMO is charged with, in the words of object info.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Charge {
    pub(super) populated: u64,
    pub(super) private: u64,
    /// In units of 2^-63 byte.
    scaled: u128,
}

impl Charge {
    /// One page more, which so many memories share.
    pub(super) fn add(&mut self, sharers: u64) {
        let page = page() as u64;
        self.populated += page;
        self.private += if sharers == 1 { page } else { 0 };
        self.scaled += crate::family::share(page, sharers);
    }

    pub(super) fn scaled(&self) -> u64 {
        (self.scaled >> 63) as u64
    }

    pub(super) fn fraction(&self) -> u64 {
        (self.scaled & ((1 << 63) - 1)) as u64
    }
}
