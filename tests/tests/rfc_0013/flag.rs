//! `ZX_VM_CANNOT_CREATE_VMO_CHILD`: what it forbids, what it does not, and how long it holds.

use cowspace::{Rights, Status, Vmar, VmarFlags, VmoChildOptions};
use cowspace_tests::zircon::{ALL, Region, bytes, get, numbered, refused, with_rights};
use cowspace_tests::{RW, bytes_at, page};

use crate::{clone, clone_through};

const CANNOT: VmarFlags = VmarFlags::CANNOT_CREATE_VMO_CHILD;
const OVERWRITE: VmarFlags = VmarFlags::SPECIFIC_OVERWRITE;

/// What a VMAR can be allowed, without the choice of addresses.
pub(crate) const ALL_BUT_SPECIFIC: VmarFlags = ALL.difference(VmarFlags::CAN_MAP_SPECIFIC);

/// Nobody can clone page `at`: not by this VMAR, not by the root.
#[track_caller]
fn assert_cannot(region: &Region, at: usize) {
    for vmar in [&region.vmar, &Vmar::root_self()] {
        for vmar in [vmar, &with_rights(vmar, Rights::INSPECT)] {
            let result = clone_through(vmar, region, at, 1);
            assert_eq!(refused(result), Status::ACCESS_DENIED);
        }
    }
}

#[track_caller]
fn assert_can(region: &Region, at: usize, first: u8) {
    for vmar in [&region.vmar, &Vmar::root_self()] {
        let child = clone_through(vmar, region, at, 1).expect("the mapping can be cloned");
        assert_eq!(get(&child, 0), first);
    }
}

#[test]
fn on_a_mapping() {
    let region = Region::new(2);
    region.map(0, &numbered(2), 0, 2, RW | CANNOT);
    assert_cannot(&region, 0);
    assert_cannot(&region, 1);
    assert_eq!(refused(clone(&region, 0, 2)), Status::ACCESS_DENIED);
}

#[test]
fn on_a_mapping_that_does_not_choose_its_address() {
    let region = Region::new(4);
    let addr = region
        .vmar
        .map(0, &numbered(1), 0, page(), RW | CANNOT)
        .expect("a VMO can be mapped");
    let result = region
        .vmar
        .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, page());
    assert_eq!(refused(result), Status::ACCESS_DENIED);
}

#[test]
fn needs_no_right() {
    let region = Region::new(2);
    let vmo = with_rights(&numbered(1), Rights::MAP);
    let vmar = with_rights(&region.vmar, Rights::NONE);
    vmar.map(0, &vmo, 0, page(), CANNOT | VmarFlags::SPECIFIC)
        .expect("no permission is asked for, so MAP is enough");
    assert_cannot(&region, 0);
    let (_, base) = vmar
        .allocate(page(), page(), CANNOT | VmarFlags::SPECIFIC)
        .expect("no permission is asked for, so no right is needed");
    assert_eq!(base, region.at(1));
}

#[test]
fn on_a_vmar_covers_all_that_is_below() {
    let flagged = Region::with_flags(16, ALL | CANNOT);
    let below = Region::below(&flagged.vmar, 8, ALL);
    let deep = Region::below(&below.vmar, 4, ALL);
    for region in [&flagged, &below, &deep] {
        let addr = region
            .vmar
            .map(0, &numbered(1), 0, page(), RW)
            .expect("a VMO can be mapped");
        let at = (addr - region.base) / page();
        assert_cannot(region, at);
        // The handle's own VMAR has not the flag, and neither has the root: what counts is the place.
        let result = deep
            .vmar
            .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, page());
        let outside = !(deep.base..deep.base + 4 * page()).contains(&addr);
        let expected = if outside {
            Status::INVALID_ARGS
        } else {
            Status::ACCESS_DENIED
        };
        assert_eq!(refused(result), expected);
    }
}

#[test]
fn on_a_child_vmar_leaves_its_parent_alone() {
    let outer = Region::new(8);
    let inner = Region::below(&outer.vmar, 2, ALL | CANNOT);
    let vmo = numbered(1);
    let free = (0..8)
        .find(|&at| outer.try_map(at, &vmo, 0, 1, RW).is_ok())
        .expect("there is room beside the child");
    inner.map(0, &vmo, 0, 1, RW);
    assert_can(&outer, free, 1);
    assert_cannot(&inner, 0);
    // Nor does it last longer than the VMAR.
    let at = (inner.base - outer.base) / page();
    inner.vmar.destroy().expect("a VMAR can be destroyed once");
    outer.map(at, &vmo, 0, 1, RW);
    assert_can(&outer, at, 1);
}

#[test]
fn holds_through_protect() {
    let region = Region::new(3);
    region.map(0, &numbered(3), 0, 3, RW | CANNOT);
    region.protect(1, 1, VmarFlags::PERM_READ);
    for at in 0..3 {
        assert_cannot(&region, at);
    }
    region.protect(0, 3, VmarFlags::empty());
    region.protect(0, 3, RW);
    for at in 0..3 {
        assert_cannot(&region, at);
    }
}

#[test]
fn holds_through_partial_unmap() {
    let region = Region::new(5);
    region.map(0, &numbered(5), 0, 5, RW | CANNOT);
    region.unmap(2, 1);
    region.unmap(0, 1);
    for at in [1, 3, 4] {
        assert_cannot(&region, at);
    }
    assert_eq!(refused(clone(&region, 2, 1)), Status::INVALID_ARGS);
}

#[test]
fn ends_where_something_is_mapped_over_it() {
    let region = Region::new(3);
    let vmo = numbered(3);
    region.map(0, &vmo, 0, 3, RW | CANNOT);
    region.map(1, &vmo, 1, 1, RW | OVERWRITE);
    assert_cannot(&region, 0);
    assert_can(&region, 1, 2);
    assert_cannot(&region, 2);
    // And begins where it is asked for.
    region.map(1, &vmo, 1, 1, RW | CANNOT | OVERWRITE);
    assert_cannot(&region, 1);
}

#[test]
fn ends_with_the_mapping() {
    let region = Region::new(1);
    let vmo = numbered(1);
    region.map(0, &vmo, 0, 1, RW | CANNOT);
    region.unmap(0, 1);
    region.map(0, &vmo, 0, 1, RW);
    assert_can(&region, 0, 1);
}

#[test]
fn neighbours_are_neither_affected_nor_merged() {
    let region = Region::new(3);
    let vmo = numbered(3);
    region.map(0, &vmo, 0, 1, RW);
    region.map(1, &vmo, 1, 1, RW | CANNOT);
    region.map(2, &vmo, 2, 1, RW);
    assert_can(&region, 0, 1);
    assert_cannot(&region, 1);
    assert_can(&region, 2, 3);
    for (at, pages) in [(0, 2), (1, 2), (0, 3)] {
        assert_eq!(refused(clone(&region, at, pages)), Status::INVALID_ARGS);
    }
    let read_write = |at| (1, at, 1, Some((RW, at as u64)));
    assert_eq!(
        region.maps(),
        [(0, 0, 3, None), read_write(0), read_write(1), read_write(2)]
    );
    assert_eq!(vmo.info().expect("a VMO has info").num_mappings, 3);
}

#[test]
fn stops_nothing_else() {
    let region = Region::new(4);
    let vmo = numbered(2);
    region.map(0, &vmo, 0, 2, RW | CANNOT);
    // With a handle, and through another mapping, cloning goes on.
    let by_handle = vmo
        .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(2))
        .expect("the handle can be cloned");
    assert_eq!(get(&by_handle, 1), 2);
    region.map(2, &vmo, 0, 2, RW);
    assert_can(&region, 2, 1);
    // The mapping is one as any other.
    assert_eq!(bytes_at(region.at(1), 1), [2]);
    region.protect(0, 1, VmarFlags::PERM_READ);
    region.unmap(0, 2);
}

#[test]
fn is_no_option_of_protect() {
    let region = Region::new(1);
    region.map(0, &numbered(1), 0, 1, RW);
    let result = region.vmar.protect(region.base, page(), RW | CANNOT);
    assert_eq!(refused(result), Status::INVALID_ARGS);
    assert_can(&region, 0, 1);
}
