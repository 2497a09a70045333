//! VMOs as objects: what they are windows on, whose children they are, and when they end.

use std::ops::Range;

use cowspace::{Koid, Rights, Vmo};

use super::memory::{Charge, Memory};
use crate::page;

/// How a VMO came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Root,
    Clone,
    /// Begins at a page of its memory, and has so many.
    Slice(usize, usize),
    Reference,
}

/// A VMO.
pub(super) struct Object {
    pub(super) koid: Koid,
    pub(super) parent: Option<usize>,
    pub(super) memory: usize,
    /// Which stream size: references share that of their VMO.
    stream: usize,
    pub(super) kind: Kind,
    pub(super) immutable: bool,
    /// How often a discardable VMO is locked.
    pub(super) locks: Option<u64>,
    pub(super) alive: bool,
}

/// A handle to a VMO.
pub(super) struct VmoHandle {
    pub(super) vmo: Vmo,
    pub(super) object: usize,
    pub(super) rights: Rights,
}

/// What is not exact about the counts of a family, see `docs/zircon.md`, "What is counted".
#[derive(Clone, Copy, Default)]
pub(super) struct Inexact {
    /// Zeros that were only read, or filled in for a native mapping, became content of a snapshot, or it copied pages that were changed.
    pub(super) zeros: bool,
    /// A page perhaps has the bytes again that it once had, and counts as not written.
    pub(super) same: bool,
}

/// All VMOs, and the memories behind them.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) list: Vec<Object>,
    pub(super) memories: Vec<Memory>,
    pub(super) families: Vec<Inexact>,
    /// Stream sizes in bytes.
    streams: Vec<u64>,
}

impl Objects {
    /// A VMO of a memory of its own, the first of a family.
    pub(super) fn add_root(
        &mut self,
        koid: Koid,
        origin: u64,
        pages: usize,
        resizable: bool,
    ) -> usize {
        self.families.push(Inexact::default());
        let family = self.families.len() - 1;
        self.memories.push(Memory {
            origin,
            ..Memory::new(pages, family, resizable)
        });
        self.add(koid, None, self.memories.len() - 1, Kind::Root)
    }

    pub(super) fn add(
        &mut self,
        koid: Koid,
        parent: Option<usize>,
        memory: usize,
        kind: Kind,
    ) -> usize {
        let stream = match (kind, parent) {
            (Kind::Reference, Some(parent)) => self.list[parent].stream,
            _ => self.streams.len(),
        };
        self.list.push(Object {
            koid,
            parent,
            memory,
            stream,
            kind,
            immutable: false,
            locks: None,
            alive: true,
        });
        let object = self.list.len() - 1;
        if stream == self.streams.len() {
            self.streams
                .push(self.base(object) + self.size(object) as u64);
        }
        object
    }

    /// A snapshot of bytes of a VMO, with a memory of its own. `native`: the VMO has a native mapping.
    pub(super) fn add_clone(
        &mut self,
        koid: Koid,
        parent: usize,
        bytes: Range<usize>,
        resizable: bool,
        native: bool,
    ) -> usize {
        self.cut(parent, native);
        let memory = self.memory(parent);
        let clone = memory.window(bytes.start, bytes.len(), resizable);
        self.memories.push(clone);
        self.add(koid, Some(parent), self.memories.len() - 1, Kind::Clone)
    }

    /// A cut takes pages of zeros that were looked at for changed ones.
    pub(super) fn cut(&mut self, object: usize, native: bool) {
        let memory = &self.memories[self.list[object].memory];
        self.families[memory.family].zeros |= memory.zeros_seen || native;
    }

    pub(super) fn memory(&self, object: usize) -> &Memory {
        &self.memories[self.list[object].memory]
    }

    pub(super) fn memory_mut(&mut self, object: usize) -> &mut Memory {
        &mut self.memories[self.list[object].memory]
    }

    pub(super) fn stream(&self, object: usize) -> u64 {
        self.streams[self.list[object].stream]
    }

    pub(super) fn stream_mut(&mut self, object: usize) -> &mut u64 {
        &mut self.streams[self.list[object].stream]
    }

    pub(super) fn inexact(&self, object: usize) -> Inexact {
        if !crate::are_counts_exact() {
            return Inexact {
                zeros: true,
                same: true,
            };
        }
        let family = self.memory(object).family;
        let members = self
            .memories
            .iter()
            .filter(|memory| memory.family == family);
        Inexact {
            same: members.fold(false, |any, memory| any | memory.same_written),
            ..self.families[family]
        }
    }

    pub(super) fn is_slice(&self, object: usize) -> bool {
        matches!(self.list[object].kind, Kind::Slice(..))
    }

    pub(super) fn is_resizable(&self, object: usize) -> bool {
        self.memory(object).resizable
    }

    /// The pages of its memory that a VMO shows.
    pub(super) fn window(&self, object: usize) -> Range<usize> {
        match self.list[object].kind {
            Kind::Slice(first, pages) => first..first + pages,
            _ => 0..self.memory(object).pages.len(),
        }
    }

    /// What a VMO calls the first byte of those that are looked at.
    pub(super) fn base(&self, object: usize) -> u64 {
        if self.is_slice(object) {
            0
        } else {
            self.memory(object).origin
        }
    }

    /// How many bytes of a VMO are looked at: all, unless its memory has an origin.
    pub(super) fn size(&self, object: usize) -> usize {
        self.window(object).len() * page()
    }

    /// The bytes of a VMO as bytes of its memory.
    pub(super) fn in_memory(&self, object: usize, bytes: Range<usize>) -> Range<usize> {
        let start = self.window(object).start * page();
        start + bytes.start..start + bytes.end
    }

    /// All that a VMO shows.
    pub(super) fn bytes(&self, object: usize) -> &[u8] {
        let bytes = self.in_memory(object, 0..self.size(object));
        &self.memory(object).bytes[bytes]
    }

    pub(super) fn children(&self, object: usize) -> usize {
        let alive = self.list.iter().filter(|child| child.alive);
        alive.filter(|child| child.parent == Some(object)).count()
    }

    /// The memories of a family that some VMO still shows.
    fn relatives(&self, family: usize) -> impl Iterator<Item = &Memory> {
        let members = self.memories.iter().enumerate();
        let members = members.filter(move |(_, memory)| memory.family == family);
        let shown = |index: usize| {
            let alive = self.list.iter().filter(|object| object.alive);
            alive.map(|object| object.memory).any(|of| of == index)
        };
        members
            .filter(move |&(index, _)| shown(index))
            .map(|(_, memory)| memory)
    }

    /// Whether a memory has no relatives, so that it can be decommitted.
    pub(super) fn is_alone(&self, object: usize) -> bool {
        self.relatives(self.memory(object).family).count() == 1
    }

    /// What a VMO is charged with for some of its pages; nothing behind its end.
    pub(super) fn charge(&self, object: usize, pages: Range<usize>) -> Charge {
        let mut charge = Charge::default();
        if matches!(self.list[object].kind, Kind::Slice(..) | Kind::Reference) {
            return charge;
        }
        let memory = self.memory(object);
        let end = pages.end.min(memory.pages.len());
        for content in memory.pages[pages.start.min(end)..end].iter().flatten() {
            let relatives = self.relatives(memory.family);
            let sharers = relatives.filter(|memory| memory.pages.contains(&Some(*content)));
            charge.add(sharers.count() as u64);
        }
        charge
    }

    /// Ends the VMOs that nothing refers to any more. Their children become those of their parents.
    pub(super) fn end_unused(&mut self, used: impl Fn(usize) -> bool) {
        for gone in 0..self.list.len() {
            if !self.list[gone].alive || used(gone) {
                continue;
            }
            self.list[gone].alive = false;
            let parent = self.list[gone].parent;
            for child in &mut self.list {
                if child.parent == Some(gone) {
                    child.parent = parent;
                }
            }
        }
    }
}
