//! VMOs as a model that copies bytes, run beside the real engine by random programs.
//!
//! [`World`] holds for each VMO and each mapping the real thing and what its bytes must be. Its methods do the same to both; a program is a list of [`Op`].

use cowspace::{Policy, Status, Vmar, VmarFlags, Vmo, VmoChildOptions, VmoOp, VmoOptions};
use proptest::prelude::*;

use crate::{RW, bytes_at, memory, page, unmap};

/// VMOs are up to so many pages large.
const MOST_PAGES: usize = 12;

/// One step of a program. Numbers are taken modulo what there is; `first` and `pages` are pages, `at`, `len` and `bytes` bytes.
#[expect(
    missing_docs,
    reason = "the fields of all variants are explained at the type"
)]
#[derive(Clone, Debug)]
pub enum Op {
    /// Make a VMO.
    Create { pages: usize, resizable: bool },
    /// Make a snapshot of a part of a VMO, possibly over its end.
    Snapshot {
        vmo: usize,
        first: usize,
        pages: usize,
        resizable: bool,
    },
    /// Make a slice.
    Slice {
        vmo: usize,
        first: usize,
        pages: usize,
    },
    /// Make a reference.
    Reference { vmo: usize },
    /// Clone a part of a mapping without a handle.
    CloneMapping {
        mapping: usize,
        first: usize,
        pages: usize,
        no_write: bool,
    },
    /// Map a part of a VMO, possibly over its end.
    Map {
        vmo: usize,
        first: usize,
        pages: usize,
        native: bool,
    },
    /// Map all of a VMO.
    MapAll { vmo: usize, native: bool },
    /// Unmap a part of a mapping.
    Unmap {
        mapping: usize,
        first: usize,
        pages: usize,
    },
    /// Make a part of a mapping read-only, or writable again.
    Protect {
        mapping: usize,
        first: usize,
        pages: usize,
        write: bool,
    },
    /// Store through a mapping.
    Store {
        mapping: usize,
        at: usize,
        len: usize,
        value: u8,
    },
    /// `vmo_write`.
    Write {
        vmo: usize,
        at: usize,
        len: usize,
        value: u8,
    },
    /// Zero bytes.
    Zero { vmo: usize, at: usize, len: usize },
    /// Commit pages.
    Commit {
        vmo: usize,
        first: usize,
        pages: usize,
    },
    /// Decommit pages.
    Decommit {
        vmo: usize,
        first: usize,
        pages: usize,
    },
    /// Resize.
    Resize { vmo: usize, bytes: usize },
    /// Close a VMO's handle.
    Close { vmo: usize },
    /// Compare a VMO by `vmo_read`.
    Read { vmo: usize },
    /// Compare what a mapping shows.
    Load { mapping: usize },
    /// Ask for object info: it must not change a byte.
    Info { vmo: usize },
}

/// Programs of up to `steps` steps.
pub fn programs(steps: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..steps)
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0usize..32;
    let pages = || 0usize..MOST_PAGES + 2;
    let at = || 0usize..MOST_PAGES * 4096;
    let len = || prop_oneof![1usize..64, 1usize..3 * 4096];
    prop_oneof![
        2 => (1..=MOST_PAGES, any::<bool>()).prop_map(|(pages, resizable)| Op::Create { pages, resizable }),
        3 => (n(), pages(), pages(), prop::bool::weighted(0.2))
            .prop_map(|(vmo, first, pages, resizable)| Op::Snapshot { vmo, first, pages, resizable }),
        1 => (n(), pages(), pages()).prop_map(|(vmo, first, pages)| Op::Slice { vmo, first, pages }),
        1 => n().prop_map(|vmo| Op::Reference { vmo }),
        4 => (n(), pages(), pages(), any::<bool>())
            .prop_map(|(mapping, first, pages, no_write)| Op::CloneMapping { mapping, first, pages, no_write }),
        2 => (n(), pages(), pages(), any::<bool>()).prop_map(|(vmo, first, pages, native)| Op::Map { vmo, first, pages, native }),
        4 => (n(), any::<bool>()).prop_map(|(vmo, native)| Op::MapAll { vmo, native }),
        2 => (n(), pages(), pages()).prop_map(|(mapping, first, pages)| Op::Unmap { mapping, first, pages }),
        1 => (n(), pages(), pages(), any::<bool>())
            .prop_map(|(mapping, first, pages, write)| Op::Protect { mapping, first, pages, write }),
        8 => (n(), at(), len(), any::<u8>()).prop_map(|(mapping, at, len, value)| Op::Store { mapping, at, len, value }),
        4 => (n(), at(), len(), any::<u8>()).prop_map(|(vmo, at, len, value)| Op::Write { vmo, at, len, value }),
        2 => (n(), at(), len()).prop_map(|(vmo, at, len)| Op::Zero { vmo, at, len }),
        1 => (n(), pages(), pages()).prop_map(|(vmo, first, pages)| Op::Commit { vmo, first, pages }),
        1 => (n(), pages(), pages()).prop_map(|(vmo, first, pages)| Op::Decommit { vmo, first, pages }),
        1 => (n(), at()).prop_map(|(vmo, bytes)| Op::Resize { vmo, bytes }),
        3 => n().prop_map(|vmo| Op::Close { vmo }),
        2 => n().prop_map(|vmo| Op::Read { vmo }),
        3 => n().prop_map(|mapping| Op::Load { mapping }),
        1 => n().prop_map(|vmo| Op::Info { vmo }),
    ]
}

/// The bytes of a memory, shared by a VMO, its slices and its references.
struct Memory {
    /// Where `bytes` begin in the memory: nothing before that is looked at.
    origin: u64,
    bytes: Vec<u8>,
    resizable: bool,
}

/// An open VMO.
struct RealVmo {
    handle: Vmo,
    memory: usize,
    /// Where it begins in its memory; its own length if it is a slice.
    start: usize,
    slice_len: Option<usize>,
    writable: bool,
}

/// A live mapping, all of it one piece.
struct Mapping {
    addr: usize,
    len: usize,
    memory: usize,
    /// Byte of the memory at `addr`.
    start: usize,
    /// For a mapping of a slice: where that ends.
    limit: usize,
    slice: bool,
    /// Writable, by page.
    write: Vec<bool>,
    may_write: bool,
}

/// The real engine and the model, side by side.
pub struct World {
    memories: Vec<Memory>,
    vmos: Vec<RealVmo>,
    mappings: Vec<Mapping>,
    policy: Option<Policy>,
    origin: u64,
}

impl World {
    /// An empty world. With a policy all mappings get that, whatever the program says.
    pub fn new(policy: Option<Policy>) -> World {
        World::new_at(policy, 0)
    }

    /// The same for VMOs that are looked at from the byte `origin` on, which is page-aligned: their sizes, and all
    /// offsets in them, are so much larger than the program says.
    pub fn new_at(policy: Option<Policy>, origin: u64) -> World {
        World {
            memories: Vec::new(),
            vmos: Vec::new(),
            mappings: Vec::new(),
            policy,
            origin,
        }
    }

    /// Runs a program, and compares everything at its end.
    ///
    /// # Panics
    ///
    /// If the engine and the model differ.
    pub fn run(&mut self, program: &[Op]) {
        for op in program {
            self.step(op);
        }
        for vmo in 0..self.vmos.len() {
            self.check_vmo(vmo);
        }
        for mapping in 0..self.mappings.len() {
            self.check_mapping(mapping);
        }
        // Once more: looking must not have changed anything.
        for vmo in 0..self.vmos.len() {
            self.check_vmo(vmo);
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Create { pages, resizable } => self.create(pages, resizable),
            Op::Snapshot {
                vmo,
                first,
                pages,
                resizable,
            } => self.snapshot(vmo, first * page(), pages * page(), resizable),
            Op::Slice { vmo, first, pages } => self.slice(vmo, first * page(), pages * page()),
            Op::Reference { vmo } => self.reference(vmo),
            Op::CloneMapping {
                mapping,
                first,
                pages,
                no_write,
            } => self.clone_mapping(mapping, first, pages, no_write),
            Op::Map {
                vmo,
                first,
                pages,
                native,
            } => self.map(vmo, first * page(), pages.max(1) * page(), native),
            Op::MapAll { vmo, native } => {
                if let Some(index) = pick(vmo, self.vmos.len()) {
                    let len = self.vmo_len(index);
                    self.map(vmo, 0, len.max(page()), native);
                }
            }
            Op::Unmap {
                mapping,
                first,
                pages,
            } => self.unmap(mapping, first, pages),
            Op::Protect {
                mapping,
                first,
                pages,
                write,
            } => self.protect(mapping, first, pages, write),
            Op::Store {
                mapping,
                at,
                len,
                value,
            } => self.store(mapping, at, len, value),
            Op::Write {
                vmo,
                at,
                len,
                value,
            } => self.write(vmo, at, len, value),
            Op::Zero { vmo, at, len } => self.zero(vmo, at, len),
            Op::Commit { vmo, first, pages } => {
                self.op_range(vmo, VmoOp::COMMIT, first * page(), pages * page())
            }
            Op::Decommit { vmo, first, pages } => {
                self.op_range(vmo, VmoOp::DECOMMIT, first * page(), pages * page())
            }
            Op::Resize { vmo, bytes } => self.resize(vmo, bytes),
            Op::Close { vmo } => {
                if let Some(index) = pick(vmo, self.vmos.len()) {
                    self.vmos.swap_remove(index);
                }
            }
            Op::Read { vmo } => {
                if let Some(index) = pick(vmo, self.vmos.len()) {
                    self.check_vmo(index);
                }
            }
            Op::Load { mapping } => {
                if let Some(index) = pick(mapping, self.mappings.len()) {
                    self.check_mapping(index);
                }
            }
            Op::Info { vmo } => {
                if let Some(index) = pick(vmo, self.vmos.len()) {
                    let info = self.vmos[index].handle.info().expect("info needs no right");
                    let size = self.base(index) + self.vmo_len(index) as u64;
                    assert_eq!(info.size_bytes, size);
                    assert!(info.populated_bytes <= info.size_bytes);
                    assert!(info.populated_private_bytes <= info.populated_bytes);
                    cowspace::process_maps().expect("the maps can always be had");
                }
            }
        }
    }

    fn vmo_len(&self, index: usize) -> usize {
        let vmo = &self.vmos[index];
        vmo.slice_len
            .unwrap_or(self.memories[vmo.memory].bytes.len())
    }

    /// What the VMO calls the first byte of those that are looked at.
    fn base(&self, index: usize) -> u64 {
        let vmo = &self.vmos[index];
        match vmo.slice_len {
            Some(_) => 0,
            None => self.memories[vmo.memory].origin,
        }
    }

    fn add(&mut self, handle: Vmo, memory: Memory, writable: bool) {
        self.memories.push(memory);
        let memory = self.memories.len() - 1;
        self.vmos.push(RealVmo {
            handle,
            memory,
            start: 0,
            slice_len: None,
            writable,
        });
    }

    fn create(&mut self, pages: usize, resizable: bool) {
        let options = if resizable {
            VmoOptions::RESIZABLE
        } else {
            VmoOptions::empty()
        };
        let vmo = Vmo::create_with_opts(options, self.origin + (pages * page()) as u64)
            .expect("a small VMO can be made");
        let memory = Memory {
            origin: self.origin,
            bytes: vec![0; pages * page()],
            resizable,
        };
        self.add(vmo, memory, true);
    }

    fn snapshot(&mut self, vmo: usize, offset: usize, size: usize, resizable: bool) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let mut options = VmoChildOptions::SNAPSHOT;
        options.set(VmoChildOptions::RESIZABLE, resizable);
        let base = self.base(index);
        let parent = &self.vmos[index];
        // Some of the clones of large VMOs are as large, and show the same bytes at the same distance from their beginning.
        let origin = if (size / page()).is_multiple_of(2) {
            0
        } else {
            base
        };
        let child = parent.handle.create_child(
            options,
            base - origin + offset as u64,
            origin + size as u64,
        );
        if let Some(len) = parent.slice_len {
            let expected = if offset + size > len {
                Status::OUT_OF_RANGE
            } else {
                Status::NOT_SUPPORTED
            };
            assert_eq!(child.err(), Some(expected));
            return;
        }
        let bytes = window(&self.memories[parent.memory].bytes, offset, size);
        let memory = Memory {
            origin,
            bytes,
            resizable,
        };
        self.add(child.expect("a snapshot can be made"), memory, true);
    }

    fn slice(&mut self, vmo: usize, offset: usize, size: usize) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let len = self.vmo_len(index);
        let base = self.base(index);
        let parent = &self.vmos[index];
        let child =
            parent
                .handle
                .create_child(VmoChildOptions::SLICE, base + offset as u64, size as u64);
        if offset + size > len {
            assert_eq!(child.err(), Some(Status::INVALID_ARGS));
        } else if self.memories[parent.memory].resizable {
            assert_eq!(child.err(), Some(Status::NOT_SUPPORTED));
        } else {
            let (memory, start, writable) = (parent.memory, parent.start + offset, parent.writable);
            let handle = child.expect("a slice can be made");
            self.vmos.push(RealVmo {
                handle,
                memory,
                start,
                slice_len: Some(size),
                writable,
            });
        }
    }

    fn reference(&mut self, vmo: usize) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let parent = &self.vmos[index];
        let child = parent.handle.create_child(VmoChildOptions::REFERENCE, 0, 0);
        if parent.slice_len.is_some() {
            assert_eq!(child.err(), Some(Status::NOT_SUPPORTED));
            return;
        }
        let (memory, writable) = (parent.memory, parent.writable);
        let handle = child.expect("a reference can be made");
        self.vmos.push(RealVmo {
            handle,
            memory,
            start: 0,
            slice_len: None,
            writable,
        });
    }

    fn clone_mapping(&mut self, mapping: usize, first: usize, pages: usize, no_write: bool) {
        let Some(index) = pick(mapping, self.mappings.len()) else {
            return;
        };
        let mapping = &self.mappings[index];
        let count = mapping.len / page();
        let first = first % count;
        let pages = pages.clamp(1, count - first);
        let mut options = VmoChildOptions::SNAPSHOT;
        options.set(VmoChildOptions::NO_WRITE, no_write);
        let child = Vmar::root_self().create_vmo_child(
            options,
            mapping.addr + first * page(),
            pages * page(),
        );
        if mapping.slice {
            assert!(child.is_err());
            return;
        }
        let bytes = window(
            &self.memories[mapping.memory].bytes,
            mapping.start + first * page(),
            pages * page(),
        );
        let memory = Memory {
            origin: 0,
            bytes,
            resizable: false,
        };
        self.add(child.expect("a mapping can be cloned"), memory, !no_write);
    }

    fn map(&mut self, vmo: usize, offset: usize, len: usize, native: bool) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        if self.mappings.len() > 12 {
            return;
        }
        let base = self.base(index);
        let vmo = &self.vmos[index];
        let flags = if vmo.writable {
            RW
        } else {
            VmarFlags::PERM_READ
        };
        let policy = self.policy.unwrap_or(if native {
            Policy::Native
        } else {
            Policy::Traced
        });
        let addr = Vmar::root_self()
            .map_with_policy(0, &vmo.handle, base + offset as u64, len, flags, policy)
            .expect("there is room for a mapping");
        let limit = vmo.slice_len.map_or(usize::MAX, |len| vmo.start + len);
        self.mappings.push(Mapping {
            addr,
            len,
            memory: vmo.memory,
            start: vmo.start + offset,
            limit,
            slice: vmo.slice_len.is_some(),
            write: vec![vmo.writable; len / page()],
            may_write: vmo.writable,
        });
    }

    fn unmap(&mut self, mapping: usize, first: usize, pages: usize) {
        let Some(index) = pick(mapping, self.mappings.len()) else {
            return;
        };
        let mapping = self.mappings.swap_remove(index);
        let count = mapping.len / page();
        let first = first % count;
        let end = first + pages.clamp(1, count - first);
        unmap(mapping.addr + first * page(), (end - first) * page());
        for part in [0..first, end..count] {
            if !part.is_empty() {
                self.mappings.push(Mapping {
                    addr: mapping.addr + part.start * page(),
                    len: part.len() * page(),
                    start: mapping.start + part.start * page(),
                    write: mapping.write[part.clone()].to_vec(),
                    ..mapping
                });
            }
        }
    }

    fn protect(&mut self, mapping: usize, first: usize, pages: usize, write: bool) {
        let Some(index) = pick(mapping, self.mappings.len()) else {
            return;
        };
        let mapping = &mut self.mappings[index];
        let count = mapping.len / page();
        let first = first % count;
        let end = first + pages.clamp(1, count - first);
        let flags = if write { RW } else { VmarFlags::PERM_READ };
        let result =
            Vmar::root_self().protect(mapping.addr + first * page(), (end - first) * page(), flags);
        if write && !mapping.may_write {
            assert_eq!(result, Err(Status::ACCESS_DENIED));
        } else {
            result.expect("permissions within the greatest can be set");
            mapping.write[first..end].fill(write);
        }
    }

    fn store(&mut self, mapping: usize, at: usize, len: usize, value: u8) {
        let Some(index) = pick(mapping, self.mappings.len()) else {
            return;
        };
        let accessible = self.accessible(index);
        let mapping = &self.mappings[index];
        if accessible == 0 {
            return;
        }
        let at = at % accessible;
        // As far as the pages in a row are writable.
        let end = (at + len).min(accessible);
        let end = (at..end)
            .find(|byte| !mapping.write[byte / page()])
            .unwrap_or(end);
        if at == end {
            return;
        }
        let data = pattern(value, at, end - at);
        memory(mapping.addr, mapping.len).write(at, &data);
        let start = mapping.start + at;
        self.memories[mapping.memory].bytes[start..start + data.len()].copy_from_slice(&data);
    }

    fn write(&mut self, vmo: usize, at: usize, len: usize, value: u8) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let size = self.vmo_len(index);
        let (at, len) = mostly_inside(at, len, size);
        let base = self.base(index);
        let vmo = &self.vmos[index];
        let data = pattern(value, at, len);
        let result = vmo.handle.write(&data, base + at as u64);
        if !vmo.writable {
            assert_eq!(result, Err(Status::ACCESS_DENIED));
        } else if at + len > size {
            assert_eq!(result, Err(Status::OUT_OF_RANGE));
        } else {
            result.expect("bytes inside can be written");
            let start = vmo.start + at;
            self.memories[vmo.memory].bytes[start..start + len].copy_from_slice(&data);
        }
    }

    fn zero(&mut self, vmo: usize, at: usize, len: usize) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let size = self.vmo_len(index);
        let (at, len) = mostly_inside(at, len, size);
        let base = self.base(index);
        let vmo = &self.vmos[index];
        let result = vmo
            .handle
            .op_range(VmoOp::ZERO, base + at as u64, len as u64);
        if !vmo.writable {
            assert_eq!(result, Err(Status::ACCESS_DENIED));
        } else if at + len > size {
            assert_eq!(result, Err(Status::OUT_OF_RANGE));
        } else {
            result.expect("bytes inside can be zeroed");
            let start = vmo.start + at;
            self.memories[vmo.memory].bytes[start..start + len].fill(0);
        }
    }

    /// COMMIT changes no byte; DECOMMIT zeroes or is not supported.
    fn op_range(&mut self, vmo: usize, op: VmoOp, at: usize, len: usize) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let size = self.vmo_len(index);
        let (at, len) = mostly_inside(at, len, size);
        let base = self.base(index);
        let vmo = &self.vmos[index];
        let result = vmo.handle.op_range(op, base + at as u64, len as u64);
        if !vmo.writable {
            assert_eq!(result, Err(Status::ACCESS_DENIED));
        } else if at + len > size {
            assert_eq!(result, Err(Status::OUT_OF_RANGE));
        } else if op == VmoOp::COMMIT {
            result.expect("pages inside can be committed");
        } else if result.is_ok() {
            let start = vmo.start + at;
            self.memories[vmo.memory].bytes[start..start + len].fill(0);
        } else {
            assert_eq!(result, Err(Status::NOT_SUPPORTED));
        }
    }

    fn resize(&mut self, vmo: usize, bytes: usize) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let base = self.base(index);
        let vmo = &self.vmos[index];
        let memory = &mut self.memories[vmo.memory];
        match vmo.handle.set_size(base + bytes as u64) {
            Ok(()) => {
                assert!(memory.resizable);
                memory.bytes.truncate(bytes);
                memory.bytes.resize(bytes.next_multiple_of(page()), 0);
            }
            Err(status) if !vmo.writable => assert_eq!(status, Status::ACCESS_DENIED),
            Err(status) if !memory.resizable => assert_eq!(status, Status::UNAVAILABLE),
            // A reference is made without the right.
            Err(status) => assert_eq!(status, Status::ACCESS_DENIED),
        }
    }

    /// How many bytes of a mapping can be touched.
    fn accessible(&self, index: usize) -> usize {
        let mapping = &self.mappings[index];
        let end = self.memories[mapping.memory].bytes.len().min(mapping.limit);
        end.saturating_sub(mapping.start).min(mapping.len)
    }

    fn check_vmo(&self, index: usize) {
        let len = self.vmo_len(index);
        let vmo = &self.vmos[index];
        let mut bytes = vec![0xEE; len];
        vmo.handle
            .read(&mut bytes, self.base(index))
            .expect("an open VMO can be read");
        let expected = &self.memories[vmo.memory].bytes[vmo.start..vmo.start + len];
        same(&bytes, expected, || format!("VMO {index} by vmo_read"));
    }

    fn check_mapping(&self, index: usize) {
        let mapping = &self.mappings[index];
        let len = self.accessible(index);
        let bytes = bytes_at(mapping.addr, len);
        let expected = &self.memories[mapping.memory].bytes;
        let expected = if len == 0 {
            &[][..]
        } else {
            &expected[mapping.start..mapping.start + len]
        };
        same(&bytes, expected, || format!("mapping {index} by loads"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for mapping in &self.mappings {
            unmap(mapping.addr, mapping.len);
        }
    }
}

fn pick(number: usize, count: usize) -> Option<usize> {
    number.checked_rem(count)
}

/// A range that lies within `size` in most cases, for most of what a program does to a VMO to be done.
fn mostly_inside(at: usize, len: usize, size: usize) -> (usize, usize) {
    if at / page() == 7 || size == 0 {
        return (at, len);
    }
    let at = at % size;
    (at, len.min(size - at))
}

/// The bytes of a clone: zero where the parent has none.
fn window(bytes: &[u8], offset: usize, size: usize) -> Vec<u8> {
    let mut window = vec![0; size];
    let start = offset.min(bytes.len());
    let end = (offset + size).min(bytes.len());
    window[..end - start].copy_from_slice(&bytes[start..end]);
    window
}

/// Bytes that tell where they were written and by which operation.
fn pattern(value: u8, at: usize, len: usize) -> Vec<u8> {
    (at..at + len).map(|at| value ^ (at / 7) as u8).collect()
}

fn same(real: &[u8], expected: &[u8], what: impl Fn() -> String) {
    if let Some(at) = (0..real.len()).find(|&at| real[at] != expected[at]) {
        panic!(
            "{}: byte {} of page {} is {:#x} and not {:#x}",
            what(),
            at % page(),
            at / page(),
            real[at],
            expected[at]
        );
    }
}
