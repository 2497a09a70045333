//! Which ranges are a subrange of one mapping.

use cowspace::{MapsDetails, Status, Vmar, VmarFlags, Vmo, VmoChildOptions};
use cowspace_tests::zircon::{ALL, Region, bytes, firsts, get, numbered, refused};
use cowspace_tests::{RW, page};

use crate::{clone, clone_through};

const READ: VmarFlags = VmarFlags::PERM_READ;

#[test]
fn any_run_of_pages_of_a_mapping() {
    let region = Region::new(6);
    region.map(1, &numbered(6), 2, 4, RW);
    for at in 1..5 {
        for pages in 1..=5 - at {
            let child = clone(&region, at, pages).expect("the range lies in one mapping");
            assert_eq!(child.get_size(), Ok(bytes(pages)));
            let expected: Vec<u8> = (0..pages).map(|page| (at + page + 2) as u8).collect();
            assert_eq!(firsts(&child, pages), expected);
        }
    }
    // One page more on either side is not mapped.
    for (at, pages) in [(0, 1), (5, 1), (0, 2), (0, 6), (4, 2), (1, 5)] {
        assert_eq!(
            refused(clone(&region, at, pages)),
            Status::INVALID_ARGS,
            "{pages} pages at {at}"
        );
    }
}

#[test]
fn not_what_was_never_mapped() {
    let region = Region::new(2);
    assert_eq!(refused(clone(&region, 0, 1)), Status::INVALID_ARGS);
    assert_eq!(refused(clone(&region, 0, 2)), Status::INVALID_ARGS);
}

#[test]
fn not_outside_of_the_vmar() {
    let outer = Region::new(16);
    let inner = Region::below(&outer.vmar, 4, ALL);
    let other = Region::new(1);
    inner.map(0, &numbered(4), 0, 4, RW);
    other.map(0, &numbered(1), 0, 1, RW);
    // Mapped, but elsewhere.
    let result = clone_through(&inner.vmar, &other, 0, 1);
    assert_eq!(refused(result), Status::INVALID_ARGS);
    for (addr, pages) in [
        (inner.base - page(), 1),
        (inner.base - page(), 2),
        (inner.at(3), 2),
        (inner.at(4), 1),
        (0, 1),
    ] {
        let result = inner
            .vmar
            .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, pages * page());
        assert_eq!(refused(result), Status::INVALID_ARGS, "{addr:#x}");
    }
}

#[test]
fn descendants_at_any_depth() {
    let mut regions = vec![Region::new(64)];
    for depth in 1..8 {
        let above = &regions[depth - 1].vmar;
        let region = Region::below(above, 64 >> depth.min(5), ALL);
        regions.push(region);
    }
    let deepest = regions.pop().expect("eight were made");
    deepest.map(0, &numbered(2), 0, 2, RW);
    for region in &regions {
        let child = clone_through(&region.vmar, &deepest, 1, 1);
        assert_eq!(get(&child.expect("a descendant's mapping"), 0), 2);
    }
    let child = clone_through(&Vmar::root_self(), &deepest, 0, 2);
    assert_eq!(firsts(&child.expect("a descendant's mapping"), 2), [1, 2]);
}

#[test]
fn without_any_handle_but_the_roots() {
    let root = Vmar::root_self();
    let (vmar, base) = root
        .allocate(0, 2 * page(), ALL)
        .expect("there is room for a small VMAR");
    vmar.map(0, &numbered(2), 0, 2 * page(), RW)
        .expect("a VMO can be mapped");
    drop(vmar);
    let child = root
        .create_vmo_child(VmoChildOptions::SNAPSHOT, base, 2 * page())
        .expect("no handle to VMO or VMAR is needed");
    assert_eq!(firsts(&child, 2), [1, 2]);
    root.unmap(base, 2 * page())
        .expect("a child VMAR can be unmapped as a whole");
}

#[test]
fn not_from_a_vmar_into_its_child() {
    let outer = Region::new(2);
    let vmo = numbered(2);
    outer.map(0, &vmo, 0, 1, RW);
    let (inner, base) = outer
        .vmar
        .allocate(page(), page(), ALL | VmarFlags::SPECIFIC)
        .expect("there is room for one page");
    assert_eq!(base, outer.at(1));
    inner
        .map(0, &vmo, bytes(1), page(), RW)
        .expect("a VMO can be mapped");
    // The second continues the first, but lies in another VMAR.
    assert_eq!(refused(clone(&outer, 0, 2)), Status::INVALID_ARGS);
    assert_eq!(get(&clone(&outer, 1, 1).expect("one mapping"), 0), 2);
}

#[test]
fn neighbours_that_continue_each_other_are_one_mapping() {
    let vmo = numbered(3);
    // In each order of being made.
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let region = Region::new(3);
        for at in order {
            region.map(at, &vmo, at, 1, RW);
        }
        assert_eq!(
            region.maps(),
            [(0, 0, 3, None), (1, 0, 3, Some((RW, 0)))],
            "{order:?}"
        );
        let child = clone(&region, 0, 3).expect("one mapping");
        assert_eq!(firsts(&child, 3), [1, 2, 3]);
        let child = clone(&region, 1, 2).expect("a part of it");
        assert_eq!(firsts(&child, 2), [2, 3]);
    }
}

#[test]
fn other_neighbours_are_two_mappings() {
    let vmo = numbered(4);
    let other = numbered(4);
    let read_only =
        cowspace_tests::zircon::with_rights(&vmo, cowspace::Rights::MAP | cowspace::Rights::READ);
    // The same page again, a page left out, backwards, another VMO, and other greatest permissions.
    for (second, first) in [
        (&vmo, 0),
        (&vmo, 2),
        (&vmo, 3),
        (&other, 1),
        (&read_only, 1),
    ] {
        let region = Region::new(2);
        region.map(0, &vmo, 0, 1, READ);
        region.map(1, second, first, 1, READ);
        assert_eq!(refused(clone(&region, 0, 2)), Status::INVALID_ARGS);
        clone(&region, 0, 1).expect("one mapping");
        clone(&region, 1, 1).expect("one mapping");
    }
}

#[test]
fn parts_with_different_permissions_may_be_one() {
    let region = Region::new(3);
    region.map(0, &numbered(3), 0, 3, RW);
    region.protect(1, 1, READ);
    region.protect(2, 1, VmarFlags::empty());
    for at in 0..3 {
        let child = clone(&region, at, 1).expect("whatever its permissions");
        assert_eq!(get(&child, 0), at as u8 + 1);
    }
    let child = clone(&region, 0, 3).expect("here they are taken as one");
    assert_eq!(firsts(&child, 3), [1, 2, 3]);
}

#[test]
fn what_was_unmapped_separates() {
    let region = Region::new(5);
    let vmo = numbered(5);
    region.map(0, &vmo, 0, 5, RW);
    region.unmap(2, 1);
    for (at, pages) in [(0, 5), (1, 2), (2, 1), (2, 2), (1, 3)] {
        assert_eq!(
            refused(clone(&region, at, pages)),
            Status::INVALID_ARGS,
            "{pages} pages at {at}"
        );
    }
    assert_eq!(
        firsts(&clone(&region, 0, 2).expect("the left part"), 2),
        [1, 2]
    );
    assert_eq!(
        firsts(&clone(&region, 3, 2).expect("the right part"), 2),
        [4, 5]
    );
    // Filled with the very same page it is one again.
    region.map(2, &vmo, 2, 1, RW);
    assert_eq!(
        firsts(&clone(&region, 0, 5).expect("one mapping"), 5),
        [1, 2, 3, 4, 5]
    );
}

#[test]
fn what_was_overwritten_separates() {
    let region = Region::new(3);
    let overwrite = RW | VmarFlags::SPECIFIC_OVERWRITE;
    region.map(0, &numbered(3), 0, 3, RW);
    region.map(1, &numbered(3), 1, 1, overwrite);
    for (at, pages) in [(0, 2), (1, 2), (0, 3)] {
        assert_eq!(refused(clone(&region, at, pages)), Status::INVALID_ARGS);
    }
    for at in 0..3 {
        assert_eq!(
            get(&clone(&region, at, 1).expect("one mapping"), 0),
            at as u8 + 1
        );
    }
}

/// How an address space is cloned: by its map, with the root's handle alone.
#[test]
fn every_mapping_in_the_maps_can_be_cloned() {
    let outer = Region::new(32);
    let inner = Region::below(&outer.vmar, 8, ALL);
    inner.map(0, &numbered(4), 1, 3, RW);
    inner.map(5, &numbered(4), 0, 2, READ);
    inner.protect(1, 1, VmarFlags::empty());
    outer
        .vmar
        .map(0, &numbered(2), 0, 2 * page(), READ)
        .expect("a VMO can be mapped");
    let within =
        |record: &cowspace::MapsInfo| (outer.base..outer.base + 32 * page()).contains(&record.base);
    let mut clones = 0;
    for record in cowspace::process_maps().expect("a process has maps") {
        let MapsDetails::Mapping(details) = record.details else {
            continue;
        };
        if !within(&record) {
            continue;
        }
        let child: Vmo = Vmar::root_self()
            .create_vmo_child(VmoChildOptions::SNAPSHOT, record.base, record.size)
            .expect("each record is a part of one mapping");
        let info = child.info().expect("a VMO has info");
        assert_eq!(info.size_bytes, record.size as u64);
        assert_eq!(info.parent_koid, details.vmo_koid);
        let first = details.vmo_offset / page() as u64 + 1;
        assert_eq!(u64::from(get(&child, 0)), first);
        clones += 1;
    }
    assert_eq!(clones, 5);
}
