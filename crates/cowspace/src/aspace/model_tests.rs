//! Random programs against the model.

use std::{collections::HashMap, ops::Range, sync::Arc};

use proptest::prelude::*;
use test_share::share;

use super::{
    AddressSpace, Change, MapRequest, MappingId, OpChildren, Piece, RecordDetails,
    model::{FIRST, Model, ModelVmar, PAGES, Shown, Wanted},
};
use crate::{
    options::{Perms, Policy, VmarFlags},
    status::Status,
};

type Vmo = Arc<usize>;

#[derive(Clone, Debug)]
enum Op {
    Allocate {
        flags: VmarFlags,
        offset: usize,
        size: usize,
    },
    Map {
        flags: VmarFlags,
        offset: usize,
        size: usize,
        shown: Shown,
    },
    Unmap {
        at: usize,
        len: usize,
        op: OpChildren,
    },
    Protect {
        at: usize,
        len: usize,
        op: OpChildren,
        perms: Perms,
    },
    Destroy,
    Find {
        at: usize,
        pages: usize,
    },
}

fn perms() -> impl Strategy<Value = Perms> {
    prop_oneof![
        2 => Just(Perms::all()),
        2 => (0..8u8).prop_map(Perms::from_bits_retain),
    ]
}

/// Permissions that calls get to ask for.
fn readable() -> impl Strategy<Value = Perms> {
    perms().prop_map(|perms| {
        if perms.is_empty() {
            perms
        } else {
            perms | Perms::READ
        }
    })
}

fn placement() -> impl Strategy<Value = VmarFlags> {
    let how = prop_oneof![
        4 => Just(VmarFlags::empty()),
        8 => Just(VmarFlags::SPECIFIC),
        2 => Just(VmarFlags::OFFSET_IS_UPPER_LIMIT),
        1 => Just(VmarFlags::SPECIFIC | VmarFlags::OFFSET_IS_UPPER_LIMIT),
    ];
    let align = prop_oneof![6 => Just(0), 1 => 10..20u32, 1 => 0..40u32];
    let cannot = prop::bool::weighted(0.1);
    (how, align, cannot).prop_map(|(how, align, cannot)| {
        let mut flags = how | VmarFlags::from_bits_retain(align << 24);
        flags.set(VmarFlags::CANNOT_CREATE_VMO_CHILD, cannot);
        flags
    })
}

/// A number of pages in bytes, sometimes not a whole one.
fn bytes(pages: Range<usize>, page: usize) -> impl Strategy<Value = usize> {
    let odd = prop_oneof![20 => Just(0), 1 => 1..page];
    (pages, odd).prop_map(move |(pages, odd)| pages * page + odd)
}

fn op(page: usize) -> impl Strategy<Value = Op> {
    let offset = || prop_oneof![1 => Just(0), 2 => bytes(0..40, page)];
    let size = || prop_oneof![6 => bytes(1..9, page), 1 => bytes(0..70, page)];
    let at = || bytes(FIRST - 1..FIRST + PAGES + 1, page);
    let children = || prop_oneof![Just(OpChildren::Yes), Just(OpChildren::No)];
    let allocate = (
        placement(),
        perms(),
        prop::bool::weighted(0.8),
        offset(),
        size(),
    );
    let allocate = allocate.prop_map(move |(placement, perms, specific, offset, size)| {
        let mut flags = placement | VmarFlags::from_bits_retain(u32::from(perms.bits()) << 7);
        flags.set(VmarFlags::CAN_MAP_SPECIFIC, specific);
        let size = if size.is_multiple_of(3) {
            size
        } else {
            size.next_multiple_of(page)
        };
        Op::Allocate {
            flags,
            offset,
            size,
        }
    });
    let shown = (
        0..2usize,
        0..3u64,
        perms(),
        readable(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.9),
    );
    let shown = shown.prop_map(|(vmo, vmo_page, max_perms, perms, stream, traced)| Shown {
        vmo,
        vmo_page,
        max_perms: max_perms | perms,
        flags: if stream {
            VmarFlags::FAULT_BEYOND_STREAM_SIZE
        } else {
            VmarFlags::empty()
        },
        policy: if traced {
            Policy::Traced
        } else {
            Policy::Native
        },
        perms,
    });
    let map = (
        placement(),
        prop::bool::weighted(0.3),
        offset(),
        size(),
        shown,
    );
    let map = map.prop_map(|(placement, overwrite, offset, size, shown)| {
        let mut flags = placement | shown.perms.flags() | shown.flags;
        if overwrite && flags.contains(VmarFlags::SPECIFIC) {
            flags |= VmarFlags::SPECIFIC_OVERWRITE;
        }
        Op::Map {
            flags,
            offset,
            size,
            shown,
        }
    });
    let unmap = (at(), size(), children()).prop_map(|(at, len, op)| Op::Unmap { at, len, op });
    let protect = (at(), size(), children(), readable());
    let protect = protect.prop_map(|(at, len, op, perms)| Op::Protect { at, len, op, perms });
    let find = (0..PAGES, 0..6usize).prop_map(|(at, pages)| Op::Find { at, pages });
    prop_oneof![3 => allocate, 8 => map, 3 => unmap, 4 => protect, 1 => Just(Op::Destroy), 4 => find]
}

/// The address space, its model, and the ranges that an engine would keep for each mapping.
struct Both {
    space: AddressSpace<Vmo>,
    model: Model,
    vmos: Vec<Vmo>,
    mirror: HashMap<MappingId, Range<usize>>,
}

impl Both {
    fn new(page: usize) -> Both {
        let space = AddressSpace::new(FIRST * page..(FIRST + PAGES) * page, page, 4 * page);
        Both {
            model: Model::new(space.root(), page),
            space,
            vmos: (0..2).map(Arc::new).collect(),
            mirror: HashMap::new(),
        }
    }

    /// Does what an operation asks for. A plan is dropped instead of carried out unless `commit`.
    fn step(&mut self, vmar: usize, op: Op, commit: bool) -> Result<(), TestCaseError> {
        let page = self.model.page;
        let id = self.model.vmars[vmar].id;
        match op {
            Op::Allocate {
                flags,
                offset,
                size,
            } => {
                let expected = if flags.alignment().is_err() || !size.is_multiple_of(page) {
                    Err(Status::INVALID_ARGS)
                } else {
                    let needs = flags.can_map();
                    self.model.place(
                        vmar,
                        Wanted {
                            flags,
                            offset,
                            size,
                            needs,
                        },
                    )
                };
                let result = self.space.allocate(id, flags, offset, size);
                prop_assert_eq!(result.err(), expected.as_ref().err().copied());
                if let (Ok((id, base)), Ok(places)) = (result, expected) {
                    let start = base / page - FIRST;
                    prop_assert!(places.contains(&start), "{start} is none of {places:?}");
                    let range = start..start + size / page;
                    let number = self.model.vmars.len();
                    for page in &mut self.model.pages[range.clone()] {
                        page.vmar = number;
                    }
                    self.model.vmars.push(ModelVmar {
                        id,
                        parent: vmar,
                        range,
                        flags,
                        alive: true,
                    });
                }
            }
            Op::Map {
                flags,
                offset,
                size,
                shown,
            } => {
                let rounded = size.next_multiple_of(page);
                let needs = shown.max_perms;
                let wanted = Wanted {
                    flags,
                    offset,
                    size: rounded,
                    needs,
                };
                // A bad alignment number is refused before all this, by `check_map`.
                if flags.alignment().is_err() {
                    return Ok(());
                }
                let expected = self.model.place(vmar, wanted);
                let request = MapRequest {
                    flags,
                    vmar_offset: offset,
                    vmo: self.vmos[shown.vmo].clone(),
                    vmo_offset: shown.vmo_page * page as u64,
                    len: size,
                    max_perms: shown.max_perms,
                    policy: shown.policy,
                };
                let plan = self.space.plan_map(id, request);
                prop_assert_eq!(plan.as_ref().err(), expected.as_ref().err());
                let (Ok(plan), Ok(places), true) = (plan, expected, commit) else {
                    return Ok(());
                };
                let range = plan.range();
                let start = range.start / page - FIRST;
                prop_assert!(places.contains(&start), "{start} is none of {places:?}");
                prop_assert_eq!(range.len(), rounded);
                let overwritten = plan.overwrites().to_vec();
                let (id, changes) = self.space.commit_map(plan);
                self.reflect(&overwritten, changes)?;
                self.mirror.insert(id, range);
                let cannot = flags & VmarFlags::CANNOT_CREATE_VMO_CHILD;
                for at in 0..rounded / page {
                    self.model.pages[start + at].shown = Some(Shown {
                        vmo_page: shown.vmo_page + at as u64,
                        flags: shown.flags | cannot,
                        ..shown
                    });
                }
            }
            Op::Unmap { at, len, op } => {
                let range = self.model.range_in(vmar, at, len);
                let expected = range.and_then(|range| {
                    self.model.may_unmap(vmar, &range, op)?;
                    Ok(range)
                });
                let plan = self.space.plan_unmap(id, at, len, op);
                prop_assert_eq!(plan.as_ref().err(), expected.as_ref().err());
                if let (Ok(plan), Ok(range), true) = (plan, expected, commit) {
                    let pieces = plan.pieces().to_vec();
                    let changes = self.space.commit_unmap(plan);
                    self.reflect(&pieces, changes)?;
                    self.model.unmap(vmar, range);
                }
            }
            Op::Protect { at, len, op, perms } => {
                let range = self.model.range_in(vmar, at, len);
                let expected = range.and_then(|range| {
                    self.model.may_protect(vmar, &range, perms, op)?;
                    Ok(range)
                });
                let plan = self.space.plan_protect(id, perms, at, len, op);
                prop_assert_eq!(plan.as_ref().err(), expected.as_ref().err());
                if let (Ok(plan), Ok(range), true) = (plan, expected, commit) {
                    self.space.commit_protect(plan);
                    for page in &mut self.model.pages[range] {
                        page.shown = page.shown.map(|shown| Shown { perms, ..shown });
                    }
                }
            }
            Op::Destroy => {
                let expected = match vmar {
                    0 => Err(Status::NOT_SUPPORTED),
                    _ if !self.model.vmars[vmar].alive => Err(Status::BAD_STATE),
                    _ => Ok(self.model.vmars[vmar].clone()),
                };
                let plan = self.space.plan_destroy(id);
                prop_assert_eq!(plan.as_ref().err(), expected.as_ref().err());
                if let (Ok(plan), Ok(ended), true) = (plan, expected, commit) {
                    let pieces = plan.pieces().to_vec();
                    let changes = self.space.commit_unmap(plan);
                    self.reflect(&pieces, changes)?;
                    self.model.unmap(ended.parent, ended.range);
                }
            }
            Op::Find { at, pages } => {
                let expected = self.model.find(vmar, at..at + pages);
                let found = self.space.find(id, self.model.address(at), pages * page);
                prop_assert_eq!(found.as_ref().err(), expected.as_ref().err());
                if let (Ok(found), Ok((shown, executable))) = (found, expected) {
                    prop_assert_eq!(**found.vmo, shown.vmo);
                    prop_assert_eq!(found.vmo_offset, shown.vmo_page * page as u64);
                    prop_assert_eq!(found.executable, executable);
                }
            }
        }
        Ok(())
    }

    /// Keeps the mirror as an engine does, and checks that the changes are what the plan said.
    fn reflect(&mut self, plan: &[Piece], changes: Vec<Change<Vmo>>) -> Result<(), TestCaseError> {
        prop_assert_eq!(plan.len(), changes.len());
        for (piece, change) in plan.iter().zip(changes) {
            let old = change.old.range();
            prop_assert_eq!(piece.id, change.old.id());
            prop_assert_eq!(self.mirror.remove(&piece.id), Some(old.clone()));
            let left = old.start..piece.range.start;
            let right = piece.range.end..old.end;
            for (id, range) in [(change.left, left), (change.right, right)] {
                prop_assert_eq!(id.is_some(), !range.is_empty());
                if let Some(id) = id {
                    self.mirror.insert(id, range);
                }
            }
        }
        Ok(())
    }

    /// Everything that can be asked about gives the model's answer.
    fn compare(&self) -> Result<(), TestCaseError> {
        self.space.check_invariants();
        let (space, model) = (&self.space, &self.model);
        for (at, expected) in model.pages.iter().enumerate() {
            let addr = model.address(at);
            let vmar = model.vmars[expected.vmar].id;
            let shown = space.mapping_at(addr).map(|mapping| {
                let shown = Shown {
                    vmo: **mapping.vmo(),
                    vmo_page: mapping.vmo_offset_of(addr) / model.page as u64,
                    max_perms: mapping.kind().max_perms,
                    flags: mapping.kind().flags,
                    policy: mapping.kind().policy,
                    perms: mapping.perms_at(addr),
                };
                (mapping.vmar(), shown)
            });
            prop_assert_eq!(
                shown,
                expected.shown.map(|shown| (vmar, shown)),
                "page {}",
                at
            );
        }
        for vmar in &model.vmars {
            let info = space.info(vmar.id).map(|info| (info.base, info.len));
            let expected = (
                model.address(vmar.range.start),
                vmar.range.len() * model.page,
            );
            let expected = if vmar.alive {
                Ok(expected)
            } else {
                Err(Status::BAD_STATE)
            };
            prop_assert_eq!(info, expected);
        }
        for (number, vmo) in self.vmos.iter().enumerate() {
            let begins = |&at: &usize| {
                model.pages[at].shown.is_some_and(|s| s.vmo == number) && !model.continues(at)
            };
            prop_assert_eq!(space.mapping_count(vmo), (0..PAGES).filter(begins).count());
        }
        let ranges = space
            .mappings()
            .map(|mapping| (mapping.id(), mapping.range()));
        prop_assert_eq!(ranges.collect::<HashMap<_, _>>(), self.mirror.clone());
        for number in 0..model.vmars.len() {
            self.compare_maps(number)?;
        }
        Ok(())
    }

    fn compare_maps(&self, vmar: usize) -> Result<(), TestCaseError> {
        let (space, model) = (&self.space, &self.model);
        let records = space.maps(model.vmars[vmar].id);
        if !model.vmars[vmar].alive {
            prop_assert_eq!(records.err(), Some(Status::BAD_STATE));
            return Ok(());
        }
        let records = records.expect("alive").into_iter().map(|record| {
            let what = match record.details {
                RecordDetails::Vmar => None,
                RecordDetails::Mapping {
                    vmo,
                    vmo_offset,
                    perms,
                } => Some((**vmo, vmo_offset, perms)),
            };
            (record.depth, record.range, what)
        });
        let expected = model
            .maps(vmar, 0)
            .into_iter()
            .map(|(depth, range, shown)| {
                let range = model.address(range.start)..model.address(range.end);
                let what = shown.map(|s| (s.vmo, s.vmo_page * model.page as u64, s.perms));
                (depth, range, what)
            });
        prop_assert_eq!(records.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(share(1000)))]

    #[test]
    fn acts_like_an_array_of_pages(
        (page, ops) in prop_oneof![Just(1 << 12), Just(1 << 16)].prop_flat_map(|page| {
            let step = (any::<prop::sample::Index>(), op(page), prop::bool::weighted(0.9));
            (Just(page), prop::collection::vec(step, 1..60))
        })
    ) {
        let mut both = Both::new(page);
        for (vmar, op, commit) in ops {
            let vmar = vmar.index(both.model.vmars.len());
            both.step(vmar, op, commit)?;
            both.compare()?;
        }
    }
}
