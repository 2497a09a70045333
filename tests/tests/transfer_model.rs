//! Random programs of transfers, with mappings, clones, slices and references on both sides, against a model that
//! has one byte for each page.

#![forbid(unsafe_code)]

use cowspace::{Policy, TransferDataOptions, Vmo, VmoChildOptions, VmoOp, VmoOptions};
use cowspace_tests::zircon::{Region, bytes, firsts, put};
use cowspace_tests::{RW, memory, page};
use proptest::prelude::*;
use test_share::share;

/// VMOs are up to so many pages large.
const MOST: usize = 10;
/// A program has at most so many objects and so many mappings.
const MANY: usize = 8;

/// One step. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Create {
        pages: usize,
        resizable: bool,
    },
    Child {
        of: usize,
        kind: Kind,
        first: usize,
        pages: usize,
    },
    Close {
        object: usize,
    },
    Resize {
        object: usize,
        pages: usize,
    },
    Write {
        object: usize,
        page: usize,
        value: u8,
    },
    Zero {
        object: usize,
        first: usize,
        pages: usize,
    },
    Map {
        object: usize,
        native: bool,
    },
    MapPart {
        object: usize,
        pages: usize,
        native: bool,
    },
    Unmap {
        mapping: usize,
    },
    Store {
        mapping: usize,
        page: usize,
        value: u8,
    },
    Look {
        mapping: usize,
    },
    Transfer {
        to: usize,
        at: usize,
        from: usize,
        from_at: usize,
        pages: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Snapshot,
    Slice,
    Reference,
}

/// A VMO: all of a memory of the model, or a window on it.
struct Object {
    vmo: Vmo,
    memory: usize,
    slice: Option<(usize, usize)>,
    resizable: bool,
}

/// The first pages of an object, as they are mapped.
struct Mapping {
    region: Region,
    memory: usize,
    first: usize,
    pages: usize,
}

#[derive(Default)]
struct World {
    /// The first byte of each page of each memory.
    memories: Vec<Vec<u8>>,
    objects: Vec<Object>,
    mappings: Vec<Mapping>,
}

impl World {
    fn window(&self, object: &Object) -> (usize, usize) {
        object
            .slice
            .unwrap_or((0, self.memories[object.memory].len()))
    }

    fn add(&mut self, vmo: Vmo, memory: usize, slice: Option<(usize, usize)>, resizable: bool) {
        self.objects.push(Object {
            vmo,
            memory,
            slice,
            resizable,
        });
    }

    fn create(&mut self, pages: usize, resizable: bool) {
        let mut options = VmoOptions::empty();
        options.set(VmoOptions::RESIZABLE, resizable);
        let vmo = Vmo::create_with_opts(options, bytes(pages)).expect("a VMO can be made");
        self.memories.push(vec![0; pages]);
        self.add(vmo, self.memories.len() - 1, None, resizable);
    }

    fn child(&mut self, of: usize, kind: Kind, first: usize, pages: usize) {
        let parent = &self.objects[of];
        let (start, size) = self.window(parent);
        let (memory, resizable) = (parent.memory, parent.resizable);
        let first = first % (size + 1);
        let pages = pages.min(size - first);
        let make = |options, offset, size| {
            let child = parent.vmo.create_child(options, bytes(offset), bytes(size));
            child.expect("a child can be made")
        };
        match kind {
            Kind::Snapshot if parent.slice.is_none() => {
                let vmo = make(VmoChildOptions::SNAPSHOT, first, pages);
                let content = self.memories[memory][first..first + pages].to_vec();
                self.memories.push(content);
                self.add(vmo, self.memories.len() - 1, None, false);
            }
            Kind::Slice if !resizable => {
                let vmo = make(VmoChildOptions::SLICE, first, pages);
                self.add(vmo, memory, Some((start + first, pages)), false);
            }
            Kind::Reference if parent.slice.is_none() => {
                let vmo = make(VmoChildOptions::REFERENCE, 0, 0);
                self.add(vmo, memory, None, false);
                self.objects.last_mut().expect("just added").resizable = resizable;
            }
            _ => {}
        }
    }

    fn map(&mut self, object: usize, pages: usize, native: bool) {
        let object = &self.objects[object];
        let (first, size) = self.window(object);
        let pages = pages.min(size);
        if pages == 0 || self.mappings.len() == MANY {
            return;
        }
        let policy = if native {
            Policy::Native
        } else {
            Policy::Traced
        };
        let region = Region::new(pages);
        region.map_with(0, &object.vmo, pages, RW, policy);
        self.mappings.push(Mapping {
            region,
            memory: object.memory,
            first,
            pages,
        });
    }

    fn transfer(&mut self, to: usize, at: usize, from: usize, from_at: usize, pages: usize) {
        let (to, from) = (&self.objects[to], &self.objects[from]);
        let ((to_start, to_size), (from_start, from_size)) = (self.window(to), self.window(from));
        let (at, from_at) = (at % (to_size + 1), from_at % (from_size + 1));
        let pages = pages.min(to_size - at).min(from_size - from_at);
        to.vmo
            .transfer_data(
                TransferDataOptions::empty(),
                bytes(at),
                bytes(pages),
                &from.vmo,
                bytes(from_at),
            )
            .expect("both have the range");
        let (to, from) = (to.memory, from.memory);
        let (at, from_at) = (to_start + at, from_start + from_at);
        let moved = self.memories[from][from_at..from_at + pages].to_vec();
        self.memories[from][from_at..from_at + pages].fill(0);
        self.memories[to][at..at + pages].copy_from_slice(&moved);
    }

    fn step(&mut self, op: &Op) {
        let (objects, mappings) = (self.objects.len(), self.mappings.len());
        match *op {
            Op::Create { pages, resizable } if objects < MANY => self.create(pages, resizable),
            _ if objects == 0 => {}
            Op::Child {
                of,
                kind,
                first,
                pages,
            } if objects < MANY => {
                self.child(of % objects, kind, first, pages);
            }
            Op::Create { .. } | Op::Child { .. } => {}
            Op::Close { object } => drop(self.objects.swap_remove(object % objects)),
            Op::Resize { object, pages } => {
                let object = &self.objects[object % objects];
                // A reference has no right to it.
                if object.resizable && object.vmo.set_size(bytes(pages)).is_ok() {
                    self.memories[object.memory].resize(pages, 0);
                }
            }
            Op::Write {
                object,
                page,
                value,
            } => {
                let object = &self.objects[object % objects];
                let (start, size) = self.window(object);
                if size > 0 {
                    put(&object.vmo, page % size, value);
                    self.memories[object.memory][start + page % size] = value;
                }
            }
            Op::Zero {
                object,
                first,
                pages,
            } => {
                let object = &self.objects[object % objects];
                let (start, size) = self.window(object);
                let first = first % (size + 1);
                let pages = pages.min(size - first);
                let zeroed = object.vmo.op_range(VmoOp::ZERO, bytes(first), bytes(pages));
                zeroed.expect("inside");
                self.memories[object.memory][start + first..][..pages].fill(0);
            }
            Op::Map { object, native } => self.map(object % objects, MOST, native),
            Op::MapPart {
                object,
                pages,
                native,
            } => self.map(object % objects, pages, native),
            Op::Transfer {
                to,
                at,
                from,
                from_at,
                pages,
            } => {
                self.transfer(to % objects, at, from % objects, from_at, pages);
            }
            _ if mappings == 0 => {}
            Op::Unmap { mapping } => drop(self.mappings.swap_remove(mapping % mappings)),
            Op::Store {
                mapping,
                page: at,
                value,
            } => {
                let mapping = &self.mappings[mapping % mappings];
                let at = at % mapping.pages;
                if let Some(byte) = self.memories[mapping.memory].get_mut(mapping.first + at) {
                    memory(mapping.region.at(at), page()).store_u8(0, value);
                    *byte = value;
                }
            }
            Op::Look { mapping } => self.look(&self.mappings[mapping % mappings]),
        }
    }

    fn look(&self, mapping: &Mapping) {
        let inside = self.memories[mapping.memory].iter().skip(mapping.first);
        for (at, &expected) in inside.take(mapping.pages).enumerate() {
            let seen = memory(mapping.region.at(at), page()).load_u8(0);
            assert_eq!(seen, expected, "page {at} of a mapping");
        }
    }

    fn check(&self) {
        for object in &self.objects {
            let (start, size) = self.window(object);
            let expected = &self.memories[object.memory][start..start + size];
            assert_eq!(firsts(&object.vmo, size), expected);
        }
    }

    fn run(program: &[Op], policy: Option<Policy>) {
        let mut world = World::default();
        world.create(MOST, false);
        world.create(MOST, false);
        for op in program {
            let mut op = op.clone();
            if let (Op::Map { native, .. } | Op::MapPart { native, .. }, Some(policy)) =
                (&mut op, policy)
            {
                *native = policy == Policy::Native;
            }
            world.step(&op);
            world.check();
        }
        world
            .mappings
            .iter()
            .for_each(|mapping| world.look(mapping));
    }
}

fn op() -> impl Strategy<Value = Op> {
    let kinds = [Kind::Snapshot, Kind::Slice, Kind::Reference];
    let (many, pages, value) = (0..MANY, 0..=MOST, 1u8..);
    let (object, mapping, first) = (many.clone(), many, 0..=MOST);
    prop_oneof![
        1 => (pages.clone(), any::<bool>())
            .prop_map(|(pages, resizable)| Op::Create { pages, resizable }),
        4 => (object.clone(), prop::sample::select(kinds.to_vec()), 0..3usize, pages.clone())
            .prop_map(|(of, kind, first, pages)| Op::Child { of, kind, first, pages }),
        1 => object.clone().prop_map(|object| Op::Close { object }),
        1 => (object.clone(), pages.clone())
            .prop_map(|(object, pages)| Op::Resize { object, pages }),
        6 => (object.clone(), first.clone(), value.clone())
            .prop_map(|(object, page, value)| Op::Write { object, page, value }),
        1 => (object.clone(), first.clone(), pages.clone())
            .prop_map(|(object, first, pages)| Op::Zero { object, first, pages }),
        3 => (object.clone(), any::<bool>())
            .prop_map(|(object, native)| Op::Map { object, native }),
        1 => (object.clone(), pages.clone(), any::<bool>())
            .prop_map(|(object, pages, native)| Op::MapPart { object, pages, native }),
        1 => mapping.clone().prop_map(|mapping| Op::Unmap { mapping }),
        4 => (mapping.clone(), first.clone(), value)
            .prop_map(|(mapping, page, value)| Op::Store { mapping, page, value }),
        2 => mapping.prop_map(|mapping| Op::Look { mapping }),
        6 => (object.clone(), first.clone(), object, first, pages)
            .prop_map(|(to, at, from, from_at, pages)| Op::Transfer { to, at, from, from_at, pages }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: share(500), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_traced_mappings(program in prop::collection::vec(op(), 1..40)) {
        World::run(&program, Some(Policy::Traced));
    }

    #[test]
    fn with_native_mappings(program in prop::collection::vec(op(), 1..40)) {
        World::run(&program, Some(Policy::Native));
    }

    #[test]
    fn with_mixed_mappings(program in prop::collection::vec(op(), 1..40)) {
        World::run(&program, None);
    }
}
