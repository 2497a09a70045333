//! destroy, info, and the maps; mappings together.

use super::*;

#[test]
fn destroying_is_recursive_and_for_good() {
    let outer = Region::new(8);
    let inner = Region::below(&outer.vmar, 4, ALL);
    let vmo = numbered(1);
    outer.map(7, &vmo, 0, 1, RW);
    inner.map(0, &vmo, 0, 1, RW);
    let weak = with_rights(&outer.vmar, ALL_RIGHTS - Rights::OP_CHILDREN);
    assert_eq!(weak.destroy(), Err(Status::ACCESS_DENIED));
    let addresses = [outer.at(7), inner.base];
    assert!(addresses.iter().all(|addr| can_read(*addr)));
    outer.vmar.destroy().expect("once");
    assert!(!addresses.iter().any(|addr| can_read(*addr)));
    for vmar in [&outer.vmar, &inner.vmar] {
        // The handle is valid, and every other call says so.
        assert!(vmar.basic_info().is_ok());
        assert_eq!(vmar.destroy(), Err(Status::BAD_STATE));
        assert_eq!(refused(vmar.info()), Status::BAD_STATE);
        assert_eq!(refused(vmar.maps()), Status::BAD_STATE);
    }
    assert_eq!(
        weak.destroy(),
        Err(Status::ACCESS_DENIED),
        "before all else"
    );
    assert_eq!(vmo.info().expect("a VMO has info").num_mappings, 0);
}

#[test]
fn the_range_of_a_destroyed_vmar_is_free_at_once() {
    let outer = Region::new(2);
    let inner = Region::below(&outer.vmar, 2, ALL);
    let vmo = numbered(2);
    inner.map(0, &vmo, 0, 2, RW);
    inner.vmar.destroy().expect("once");
    outer.map(0, &vmo, 0, 2, READ);
    assert_eq!(bytes_at(outer.at(1), 1), [2]);
    // The old handle does not reach it.
    let result = inner.vmar.unmap(inner.base, page());
    assert_eq!(result, Err(Status::BAD_STATE));
}

#[test]
fn closing_a_vmar_changes_nothing() {
    let outer = Region::new(2);
    let vmo = numbered(1);
    let (inner, base) = outer.vmar.allocate(0, 2 * page(), ALL).expect("room");
    inner.map(0, &vmo, 0, page(), RW).expect("room");
    drop(inner);
    assert_eq!(outer.maps().len(), 3);
    let result = outer.try_map(0, &vmo, 0, 1, RW);
    assert_eq!(refused(result), Status::ALREADY_EXISTS);
    // Its mapping is reached through the ancestor.
    outer.vmar.protect(base, 1, READ).unwrap_or(());
    outer.unmap(0, 2);
    assert_eq!(outer.maps().len(), 1);
}

#[test]
fn info_and_maps() {
    let outer = Region::new(16);
    let info = outer.vmar.info().expect("a live VMAR");
    assert_eq!((info.base, info.len), (outer.base, 16 * page()));
    assert_eq!(outer.maps(), [(0, 0, 16, None)], "an empty VMAR");
    let vmo = numbered(4);
    let specific = |at: usize, pages: usize| {
        outer
            .vmar
            .allocate(at * page(), pages * page(), ALL | SPECIFIC)
            .expect("there is room")
            .0
    };
    let second = specific(8, 4);
    let first = specific(2, 4);
    outer.map(14, &vmo, 2, 1, READ);
    outer.map(0, &vmo, 0, 2, RW);
    first
        .map(page(), &vmo, 0, page(), RW | SPECIFIC)
        .expect("room");
    second
        .map(0, &vmo, 0, page(), NONE | SPECIFIC)
        .expect("room");
    let mapping = |depth, at, pages, perms, first| (depth, at, pages, Some((perms, first)));
    assert_eq!(
        outer.maps(),
        [
            (0, 0, 16, None),
            mapping(1, 0, 2, RW, 0),
            (1, 2, 4, None),
            mapping(2, 3, 1, RW, 0),
            (1, 8, 4, None),
            mapping(2, 8, 1, NONE, 0),
            mapping(1, 14, 1, READ, 2),
        ]
    );
}

#[test]
fn neighbours_that_are_one_mapping_give_one_record() {
    let region = Region::new(6);
    let vmo = numbered(6);
    // Backwards, so that each comes before its neighbour.
    for at in (0..3).rev() {
        region.map(at, &vmo, at, 1, RW);
    }
    region.map(3, &vmo, 5, 1, RW);
    region.map(4, &vmo, 4, 1, READ);
    let mapping = |at, pages, perms, first| (1, at, pages, Some((perms, first)));
    let maps = region.maps();
    assert_eq!(
        maps[1..],
        [
            mapping(0, 3, RW, 0),
            mapping(3, 1, RW, 5),
            mapping(4, 1, READ, 4)
        ]
    );
    assert_eq!(vmo.info().expect("a VMO has info").num_mappings, 3);
}

#[test]
fn the_maps_of_the_process() {
    let region = Region::new(2);
    let vmo = numbered(2);
    vmo.set_name(&cowspace::Name::new_lossy("named"))
        .expect("default rights");
    region.map(0, &vmo, 1, 1, RW);
    let maps = cowspace::process_maps().expect("a process has maps");
    assert!(matches!(maps[0].details, MapsDetails::Aspace));
    assert!(matches!(maps[1].details, MapsDetails::Vmar));
    assert_eq!((maps[0].depth, maps[1].depth), (0, 1));
    let root = Vmar::root_self().info().expect("the root");
    assert_eq!((maps[1].base, maps[1].size), (root.base, root.len));
    let end = |record: &cowspace::MapsInfo| record.base + record.size;
    assert!(maps[0].base <= maps[1].base && end(&maps[1]) <= end(&maps[0]));
    let mut path: Vec<&cowspace::MapsInfo> = Vec::new();
    for record in &maps {
        // A child of the last one before it at the depth above, in which it lies, behind its siblings.
        assert!(record.depth <= path.len());
        if let Some(sibling) = path.get(record.depth) {
            assert!(end(sibling) <= record.base);
        }
        path.truncate(record.depth);
        if let Some(parent) = path.last() {
            assert!(parent.base <= record.base && end(record) <= end(parent));
        }
        path.push(record);
    }
    // The root may begin at the same address.
    let is_region = |record: &cowspace::MapsInfo| {
        (record.base, record.size, record.depth) == (region.base, 2 * page(), 2)
    };
    let at = maps.iter().position(is_region);
    let at = at.expect("the region is in the maps");
    let MapsDetails::Mapping(details) = maps[at + 1].details else {
        panic!("the mapping follows its VMAR");
    };
    assert_eq!((maps[at].depth, maps[at + 1].depth), (2, 3));
    assert_eq!(maps[at + 1].name, cowspace::Name::new_lossy("named"));
    assert_eq!(details.vmo_koid, vmo.info().expect("a VMO has info").koid);
    assert_eq!((details.vmo_offset, details.mmu_flags), (bytes(1), RW));
}

#[test]
fn the_maps_count_the_memory_of_the_range_they_show() {
    for policy in POLICIES {
        let region = Region::new(8);
        let parent = numbered(3);
        let vmo = parent
            .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(8))
            .expect("a snapshot can be made");
        region.map_with(0, &vmo, 8, RW, policy);
        // Shared with the parent: 1 and 2. The clone's own: 0, written through the mapping, and 5.
        memory(region.at(0), 1).store_u8(0, 9);
        put(&vmo, 5, 9);
        region.protect(0, 2, READ);
        let maps = region.vmar.maps().expect("a live VMAR");
        let charged: Vec<_> = maps
            .iter()
            .filter_map(|record| match record.details {
                MapsDetails::Mapping(details) => Some(details),
                _ => None,
            })
            .map(|details| {
                assert_eq!(details.committed_bytes, details.populated_bytes);
                assert_eq!(
                    details.committed_scaled_bytes,
                    details.populated_scaled_bytes
                );
                (
                    details.populated_bytes,
                    details.populated_private_bytes,
                    details.populated_scaled_bytes,
                )
            })
            .collect();
        let size = page();
        assert_eq!(
            charged,
            [
                (2 * size, size, size + size / 2),
                (2 * size, size, size + size / 2)
            ],
            "{policy:?}"
        );
    }
}

/// Two mappings and the calls show one memory, in whichever way each is resolved.
#[test]
fn mappings_are_coherent() {
    for (one, other) in [
        (Policy::Traced, Policy::Traced),
        (Policy::Native, Policy::Native),
        (Policy::Traced, Policy::Native),
        (Policy::Native, Policy::Traced),
    ] {
        for cloned in [false, true] {
            let mut vmo = numbered(2);
            let parent = vmo;
            vmo = if cloned {
                parent
                    .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(2))
                    .expect("a snapshot can be made")
            } else {
                with_rights(&parent, Rights::SAME_RIGHTS)
            };
            let region = Region::new(4);
            region.map_with(0, &vmo, 2, RW, one);
            memory(region.at(0), 1).store_u8(0, 11);
            region.map_with(2, &vmo, 2, RW, other);
            assert_eq!(bytes_at(region.at(2), 1), [11]);
            memory(region.at(3), 1).store_u8(0, 22);
            assert_eq!(bytes_at(region.at(1), 1), [22]);
            put(&vmo, 0, 33);
            assert_eq!(bytes_at(region.at(0), 1), [33]);
            assert_eq!(bytes_at(region.at(2), 1), [33]);
            region.unmap(0, 2);
            memory(region.at(2), 1).store_u8(0, 44);
            assert_eq!(firsts(&vmo, 2), [44, 22]);
            let expected = if cloned { [1, 2] } else { [44, 22] };
            assert_eq!(firsts(&parent, 2), expected);
        }
    }
}

#[test]
fn thousands_of_mappings() {
    const MANY: usize = 3000;
    let region = Region::new(2 * MANY);
    let vmo = numbered(1);
    for at in 0..MANY {
        region.map(2 * at, &vmo, 0, 1, RW);
    }
    assert_eq!(vmo.info().expect("a VMO has info").num_mappings, MANY);
    memory(region.at(2 * MANY - 2), 1).store_u8(0, 9);
    assert_eq!(bytes_at(region.at(0), 1), [9]);
    region.unmap(0, 2 * MANY);
    assert_eq!(vmo.info().expect("a VMO has info").num_mappings, 0);
}
