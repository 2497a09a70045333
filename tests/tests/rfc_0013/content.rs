//! What the clone shows, and what it does not.

use cowspace::{HandleBased, Policy, Vmar, VmarFlags, Vmo, VmoChildOptions, VmoOp, VmoOptions};
use cowspace_tests::limits::has_descriptors;
use cowspace_tests::zircon::{
    ALL, POLICIES, Region, bytes, can_read, can_write, firsts, get, numbered, put,
};
use cowspace_tests::{RW, memory, page};
use test_share::share;

use crate::{KINDS, clone};

const PAGES: usize = 4;

/// Four pages mapped by a policy: their VMO, their place, and a clone of each kind.
struct Source {
    region: Region,
    vmo: Vmo,
    clones: Vec<Vmo>,
}

impl Source {
    fn new(policy: Policy, flags: VmarFlags) -> Source {
        Source::of(numbered(PAGES), policy, flags)
    }

    fn of(vmo: Vmo, policy: Policy, flags: VmarFlags) -> Source {
        let region = Region::new(2 * PAGES);
        region.map_with(0, &vmo, PAGES, flags, policy);
        let clones = KINDS.map(|kind| {
            region
                .vmar
                .create_vmo_child(kind, region.base, PAGES * page())
                .expect("one mapping")
        });
        let clones = clones.into();
        Source {
            region,
            vmo,
            clones,
        }
    }

    fn store(&self, at: usize, value: u8) {
        memory(self.region.at(at), 1).store_u8(0, value);
    }

    fn load(&self, at: usize) -> u8 {
        memory(self.region.at(at), 1).load_u8(0)
    }

    #[track_caller]
    fn clones_are(&self, expected: &[u8]) {
        for clone in &self.clones {
            assert_eq!(firsts(clone, PAGES), expected);
        }
    }
}

#[test]
fn changes_of_the_source_are_not_seen() {
    for policy in POLICIES {
        let source = Source::new(policy, RW);
        source.store(0, 91);
        put(&source.vmo, 1, 92);
        source
            .vmo
            .op_range(VmoOp::ZERO, bytes(2), bytes(1))
            .expect("pages can be zeroed");
        source
            .vmo
            .op_range(VmoOp::COMMIT, 0, bytes(PAGES))
            .expect("pages can be committed");
        source.clones_are(&[1, 2, 3, 4]);
        // No write is lost on this side either, and mapping and handle agree.
        assert_eq!(firsts(&source.vmo, PAGES), [91, 92, 0, 4]);
        let loaded: Vec<u8> = (0..PAGES).map(|at| source.load(at)).collect();
        assert_eq!(loaded, [91, 92, 0, 4]);
    }
}

#[test]
fn changes_of_the_clone_are_not_seen() {
    for policy in POLICIES {
        let source = Source::new(policy, RW);
        for clone in &source.clones {
            let region = Region::new(PAGES);
            region.map_with(0, clone, PAGES, RW, policy);
            memory(region.at(0), 1).store_u8(0, 91);
            put(clone, 1, 92);
            clone
                .op_range(VmoOp::ZERO, bytes(2), bytes(1))
                .expect("pages can be zeroed");
            assert_eq!(firsts(clone, PAGES), [91, 92, 0, 4]);
            assert_eq!(firsts(&source.vmo, PAGES), [1, 2, 3, 4]);
            let loaded: Vec<u8> = (0..PAGES).map(|at| source.load(at)).collect();
            assert_eq!(loaded, [1, 2, 3, 4]);
        }
    }
}

#[test]
fn a_write_brings_the_rest_of_its_page() {
    let last = page() - 1;
    for policy in POLICIES {
        let vmo = numbered(PAGES);
        vmo.write(&[77], last as u64).expect("a page inside");
        let source = Source::of(vmo, policy, RW);
        source.store(0, 91);
        assert_eq!(memory(source.region.base, page()).load_u8(last), 77);
        for clone in &source.clones {
            put(clone, 0, 92);
            let mut byte = [0];
            clone.read(&mut byte, last as u64).expect("a page inside");
            assert_eq!(byte, [77]);
        }
    }
}

#[test]
fn untouched_pages_are_zero_in_both() {
    for policy in POLICIES {
        let source = Source::of(
            Vmo::create(bytes(PAGES)).expect("a VMO can be made"),
            policy,
            RW,
        );
        source.clones_are(&[0; PAGES]);
        source.store(1, 91);
        put(&source.vmo, 2, 92);
        source.clones_are(&[0; PAGES]);
        put(&source.clones[0], 3, 93);
        assert_eq!(firsts(&source.vmo, PAGES), [0, 91, 92, 0]);
        assert_eq!((source.load(0), source.load(3)), (0, 0));
    }
}

#[test]
fn the_mapping_keeps_its_permissions_and_goes_on_working() {
    for policy in POLICIES {
        for flags in [VmarFlags::empty(), VmarFlags::PERM_READ, RW] {
            let source = Source::new(policy, flags);
            for at in 0..PAGES {
                let addr = source.region.at(at);
                assert_eq!(can_read(addr), flags.contains(VmarFlags::PERM_READ));
                assert_eq!(can_write(addr), flags.contains(VmarFlags::PERM_WRITE));
            }
            let record = (1, 0, PAGES, Some((flags, 0)));
            assert_eq!(source.region.maps()[1], record);
        }
    }
}

#[test]
fn all_mappings_of_the_source_stay_coherent() {
    for policy in POLICIES {
        let vmo = numbered(PAGES);
        let region = Region::new(2 * PAGES);
        region.map_with(0, &vmo, PAGES, RW, policy);
        region.map_with(PAGES, &vmo, PAGES, RW, policy);
        let byte = |at| memory(region.at(at), 1);
        byte(0).store_u8(0, 11);
        let child = clone(&region, PAGES, PAGES).expect("one mapping");
        byte(PAGES).store_u8(0, 12);
        byte(1).store_u8(0, 13);
        put(&vmo, 2, 14);
        for base in [0, PAGES] {
            let loaded: Vec<u8> = (0..PAGES).map(|at| byte(base + at).load_u8(0)).collect();
            assert_eq!(loaded, [12, 13, 14, 4]);
        }
        assert_eq!(firsts(&vmo, PAGES), [12, 13, 14, 4]);
        assert_eq!(firsts(&child, PAGES), [11, 2, 3, 4]);
    }
}

#[test]
fn the_child_does_not_need_the_source() {
    let vmar = |source: &Source| {
        source
            .region
            .vmar
            .destroy()
            .expect("a VMAR can be destroyed once")
    };
    let unmap = |source: &Source| source.region.unmap(0, PAGES);
    let over = |source: &Source| {
        let flags = RW | VmarFlags::SPECIFIC_OVERWRITE;
        source.region.map(0, &numbered(PAGES), 0, PAGES, flags);
    };
    let ends: [&dyn Fn(&Source); 3] = [&vmar, &unmap, &over];
    for policy in POLICIES {
        for end in ends {
            for handle_first in [true, false] {
                let mut source = Source::new(policy, RW);
                source.store(3, 91);
                let late = clone(&source.region, 0, PAGES).expect("one mapping");
                if handle_first {
                    source.vmo = numbered(1);
                }
                end(&source);
                source.vmo = numbered(1);
                source.clones_are(&[1, 2, 3, 4]);
                assert_eq!(firsts(&late, PAGES), [1, 2, 3, 91]);
                put(&late, 0, 92);
                source.clones_are(&[1, 2, 3, 4]);
            }
        }
    }
}

#[test]
fn resizing_the_source_leaves_the_child() {
    for policy in POLICIES {
        let vmo =
            Vmo::create_with_opts(VmoOptions::RESIZABLE, bytes(PAGES)).expect("a VMO can be made");
        (0..PAGES).for_each(|at| put(&vmo, at, at as u8 + 1));
        let source = Source::of(vmo, policy, RW);
        for size in [1, 0, PAGES, 2 * PAGES] {
            source
                .vmo
                .set_size(bytes(size))
                .expect("a resizable VMO can be resized");
            source.clones_are(&[1, 2, 3, 4]);
        }
        assert_eq!(firsts(&source.vmo, PAGES), [0; PAGES]);
        source.store(0, 91);
        source.clones_are(&[1, 2, 3, 4]);
    }
}

#[test]
fn handles_closed_before_the_call() {
    for policy in POLICIES {
        let region = Region::new(PAGES);
        region.map_with(0, &numbered(PAGES), PAGES, RW, policy);
        memory(region.at(1), 1).store_u8(0, 91);
        let child = clone(&region, 0, PAGES).expect("no handle is needed");
        memory(region.at(2), 1).store_u8(0, 92);
        let second = clone(&region, 0, PAGES).expect("no handle is needed");
        assert_eq!(firsts(&child, PAGES), [1, 91, 3, 4]);
        assert_eq!(firsts(&second, PAGES), [1, 91, 92, 4]);
    }
}

#[test]
fn clones_of_clones_to_any_depth() {
    if !has_descriptors("clones_of_clones_to_any_depth", 1024) {
        return;
    }
    const DEPTH: u8 = 60;
    for policy in POLICIES {
        let mut generations: Vec<Region> = Vec::new();
        let mut vmo = numbered(PAGES);
        for depth in 0..DEPTH {
            let region = Region::new(PAGES);
            region.map_with(0, &vmo, PAGES, RW, policy);
            // Each generation changes a page before it is cloned, and one after.
            memory(region.at(1), 1).store_u8(0, 100 + depth);
            vmo = clone(&region, 0, PAGES).expect("a clone can be cloned");
            memory(region.at(2), 1).store_u8(0, 160 + depth);
            generations.push(region);
        }
        for (depth, region) in generations.iter().enumerate() {
            let loaded: Vec<u8> = (0..PAGES)
                .map(|at| memory(region.at(at), 1).load_u8(0))
                .collect();
            assert_eq!(loaded, [1, 100 + depth as u8, 160 + depth as u8, 4]);
        }
        // The oldest go first, then what is between: the last keeps its bytes.
        drop(generations);
        assert_eq!(firsts(&vmo, PAGES), [1, 100 + DEPTH - 1, 3, 4]);
    }
}

#[test]
fn any_number_of_clones_of_one_mapping() {
    if !has_descriptors("any_number_of_clones_of_one_mapping", 1024) {
        return;
    }
    for policy in POLICIES {
        let region = Region::new(PAGES);
        let vmo = numbered(PAGES);
        region.map_with(0, &vmo, PAGES, RW, policy);
        let many = share(250) as u8;
        let clones: Vec<Vmo> = (0..many)
            .map(|round| {
                memory(region.base, 1).store_u8(0, round);
                clone(&region, 0, PAGES).expect("there is no limit")
            })
            .collect();
        let info = vmo.info().expect("a VMO has info");
        assert_eq!(info.num_children, usize::from(many));
        for (round, clone) in clones.iter().enumerate() {
            assert_eq!(firsts(clone, PAGES), [round as u8, 2, 3, 4]);
        }
    }
}

#[test]
fn the_same_as_create_child_with_the_offset() {
    // A mapping in the middle of a VMO and over its end.
    let vmo = numbered(PAGES);
    let region = Region::new(PAGES);
    region.map(0, &vmo, 2, PAGES, RW);
    for (at, pages) in [(0, 1), (0, 2), (1, 1), (1, 3), (2, 2), (0, 4)] {
        for kind in KINDS {
            let by_handle = vmo
                .create_child(kind, bytes(2 + at), bytes(pages))
                .expect("a clone can be made");
            let by_place = region
                .vmar
                .create_vmo_child(kind, region.at(at), pages * page())
                .expect("one mapping");
            assert_eq!(firsts(&by_handle, pages), firsts(&by_place, pages));
            let [one, other] = [&by_handle, &by_place].map(|vmo| vmo.info().expect("info"));
            let different = cowspace::VmoInfo {
                koid: one.koid,
                handle_rights: one.handle_rights,
                ..other
            };
            assert_eq!(one, different);
        }
    }
}

/// The RFC's own case: a whole tree of VMARs is cloned with the root's handle, and both go on for themselves.
#[test]
fn an_address_space_in_another_place() {
    for policy in POLICIES {
        let from = Region::new(32);
        let below = Region::below(&from.vmar, 8, ALL);
        below.map_with(0, &numbered(PAGES), PAGES, RW, policy);
        below.map_with(PAGES, &numbered(1), 1, VmarFlags::PERM_READ, policy);
        let first = (below.base - from.base) / page();
        let to = Region::new(32);
        for (_, at, pages, mapping) in from.maps() {
            let Some((flags, _)) = mapping else {
                continue;
            };
            let child = Vmar::root_self()
                .create_vmo_child(VmoChildOptions::SNAPSHOT, from.at(at), pages * page())
                .expect("each record is a part of one mapping");
            to.map_with(at, &child, pages, flags, policy);
        }
        for at in 0..PAGES {
            memory(below.at(at), 1).store_u8(0, 90);
            assert_eq!(memory(to.at(first + at), 1).load_u8(0), at as u8 + 1);
            memory(to.at(first + at), 1).store_u8(0, 80);
            assert_eq!(memory(below.at(at), 1).load_u8(0), 90);
        }
        assert_eq!(memory(to.at(first + PAGES), 1).load_u8(0), 1);
        assert!(!can_write(to.at(first + PAGES)));
    }
}

#[test]
fn a_handle_and_its_duplicates_name_one_clone() {
    let region = Region::new(1);
    region.map(0, &numbered(1), 0, 1, RW);
    let child = clone(&region, 0, 1).expect("one mapping");
    let again = child
        .duplicate_handle(cowspace::Rights::SAME_RIGHTS)
        .expect("default rights include DUPLICATE");
    put(&child, 0, 9);
    assert_eq!(get(&again, 0), 9);
}
