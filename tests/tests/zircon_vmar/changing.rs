//! unmap and protect.

use super::*;

#[test]
fn order_of_the_checks_of_unmap() {
    let outer = Region::new(8);
    let vmo = numbered(1);
    outer.map(0, &vmo, 0, 1, RW);
    let (inner, base) = outer
        .vmar
        .allocate(2 * page(), 2 * page(), ALL | SPECIFIC)
        .expect("there is room");
    inner.map(0, &vmo, 0, page(), RW).expect("there is room");
    let invalid = Err(Status::INVALID_ARGS);
    let at = outer.base;
    for (addr, len) in [
        (at + 1, page()),
        (at, 0),
        (at, usize::MAX),
        (at - page(), page()),
        (at - page(), 2 * page()),
        (at + 8 * page(), page()),
        (at + 7 * page(), page() + 1),
        (0usize.wrapping_sub(page()), 2 * page()),
        // A child VMAR only in part.
        (base, page()),
        (base + page(), 2 * page()),
        (at, 3 * page()),
        (at, 4 * page() - page()),
    ] {
        assert_eq!(
            outer.vmar.unmap(addr, len),
            invalid,
            "{len:#x} at {addr:#x}"
        );
    }
    let single = with_rights(&outer.vmar, ALL_RIGHTS - Rights::OP_CHILDREN);
    assert_eq!(single.unmap(at, 8 * page()), invalid);
    assert_eq!(single.unmap(base, 2 * page()), invalid);
    assert!(can_read(at) && can_read(base), "nothing is unmapped");
    assert_eq!(single.unmap(at, page()), Ok(()));
    assert_eq!(inner.maps().expect("a live VMAR").len(), 2);

    let dead = Region::new(1);
    dead.vmar.destroy().expect("once");
    assert_eq!(dead.vmar.unmap(dead.base + 1, page()), invalid);
    assert_eq!(dead.vmar.unmap(dead.base, 0), invalid);
    assert_eq!(dead.vmar.unmap(0, page()), Err(Status::BAD_STATE));
}

#[test]
fn unmapping_takes_what_is_there() {
    for policy in POLICIES {
        let region = Region::new(8);
        let vmo = numbered(4);
        region.map_with(1, &vmo, 4, RW, policy);
        memory(region.at(3), 1).store_u8(0, 33);
        // Gaps are fine, and a length is rounded up.
        let none = region.vmar.unmap(region.at(6), 2 * page());
        assert_eq!(none, Ok(()));
        assert_eq!(region.vmar.unmap(region.at(0), page() + 1), Ok(()));
        assert!(!can_read(region.at(1)) && can_read(region.at(2)));
        assert_eq!(region.vmar.unmap(region.at(3), 1), Ok(()));
        let mapping = |at, first| (1, at, 1, Some((RW, first)));
        assert_eq!(region.maps()[1..], [mapping(2, 1), mapping(4, 3)]);
        memory(region.at(4), 1).store_u8(0, 44);
        assert_eq!(firsts(&vmo, 4), [1, 2, 33, 44], "the content stays");
        // Cloned, so that it may be a private mapping that is cut.
        let child = region
            .vmar
            .create_vmo_child(VmoChildOptions::SNAPSHOT, region.at(4), page())
            .expect("one mapping");
        assert_eq!(get(&child, 0), 44);
        region.unmap(0, 8);
        assert_eq!(region.maps().len(), 1);
        assert_eq!(vmo.info().expect("a VMO has info").num_mappings, 0);
    }
}

#[test]
fn unmapping_a_child_vmar_destroys_it() {
    let outer = Region::new(8);
    let vmo = numbered(1);
    let inner = Region::below(&outer.vmar, 4, ALL);
    let deep = Region::below(&inner.vmar, 2, ALL);
    deep.map(0, &vmo, 0, 1, RW);
    outer
        .vmar
        .unmap(inner.base, 4 * page())
        .expect("a child wholly inside");
    assert!(!can_read(deep.base));
    for vmar in [&inner.vmar, &deep.vmar] {
        assert_eq!(refused(vmar.info()), Status::BAD_STATE);
    }
    assert_eq!(outer.maps().len(), 1);
}

#[test]
fn what_is_cut_out_of_a_clone_is_gone_from_the_mapping_alone() {
    for policy in POLICIES {
        let region = Region::new(4);
        let parent = numbered(4);
        let child = parent
            .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(4))
            .expect("a snapshot can be made");
        region.map_with(0, &child, 4, RW, policy);
        memory(region.at(1), 1).store_u8(0, 22);
        memory(region.at(3), 1).store_u8(0, 44);
        region.unmap(1, 1);
        assert_eq!(firsts(&child, 4), [1, 22, 3, 44]);
        memory(region.at(0), 1).store_u8(0, 11);
        memory(region.at(2), 1).store_u8(0, 33);
        assert_eq!(firsts(&child, 4), [11, 22, 33, 44]);
        assert_eq!(firsts(&parent, 4), [1, 2, 3, 4]);
        region.unmap(0, 4);
        assert_eq!(firsts(&child, 4), [11, 22, 33, 44]);
    }
}

#[test]
fn order_of_the_checks_of_protect() {
    let outer = Region::new(8);
    let vmo = numbered(4);
    let read_only = with_rights(&vmo, Rights::MAP | Rights::READ);
    outer.map(0, &vmo, 0, 2, RW);
    outer.map(2, &read_only, 2, 1, READ);
    outer.map(4, &vmo, 0, 1, RW);
    let (inner, base) = outer
        .vmar
        .allocate(5 * page(), 2 * page(), ALL | SPECIFIC)
        .expect("there is room");
    inner
        .map(0, &vmo, 0, page(), READ | SPECIFIC)
        .expect("there is room");
    let at = |page: usize| outer.at(page);
    let protect = |addr: usize, len: usize, flags| outer.vmar.protect(addr, len, flags);
    let invalid = Err(Status::INVALID_ARGS);
    let denied = Err(Status::ACCESS_DENIED);
    for flags in [
        WRITE,
        EXECUTE,
        RW | SPECIFIC,
        RW | VmarFlags::from_bits_retain(1 << 20),
    ] {
        assert_eq!(protect(at(0), page(), flags), invalid, "{flags:?}");
    }
    for bit in (3..24).filter(|bit| *bit != 14) {
        let flags = READ | VmarFlags::from_bits_retain(1 << bit);
        assert_eq!(protect(at(0), page(), flags), invalid, "{flags:?}");
    }
    for (addr, len) in [
        (at(0) + 1, page()),
        (at(0), 0),
        (at(0), usize::MAX),
        (at(0) - page(), page()),
        (at(8), page()),
        (at(7), page() + 1),
    ] {
        assert_eq!(protect(addr, len, READ), invalid, "{len:#x} at {addr:#x}");
    }
    // From the lowest address up, the first that applies.
    let gap = Err(Status::NOT_FOUND);
    assert_eq!(protect(at(0), 3 * page(), RW), denied);
    assert_eq!(protect(at(2), 2 * page(), RW), denied, "before the gap");
    assert_eq!(
        protect(at(3), 3 * page(), RW),
        gap,
        "a gap at the beginning"
    );
    assert_eq!(protect(at(1), 4 * page(), READ), gap, "a gap in the middle");
    assert_eq!(
        protect(at(4), 2 * page(), RW),
        denied,
        "more than the child's mapping has"
    );
    assert_eq!(
        protect(at(5), 2 * page(), READ),
        gap,
        "an empty part of the child"
    );
    assert_eq!(protect(at(7), page(), READ), gap, "nothing at all");
    let single = with_rights(&outer.vmar, ALL_RIGHTS - Rights::OP_CHILDREN);
    assert_eq!(single.protect(at(4), 2 * page(), READ), invalid);
    assert_eq!(
        single.protect(at(5), 2 * page(), READ),
        invalid,
        "before the gap"
    );
    // After an error no permission has changed.
    let perms = |at: usize| (can_read(outer.at(at)), can_write(outer.at(at)));
    assert_eq!(perms(0), (true, true));
    assert_eq!(perms(4), (true, true));
    assert_eq!(protect(at(4), 2 * page(), READ), Ok(()));
    assert_eq!((perms(4), perms(5)), ((true, false), (true, false)));
    // Through an ancestor permissions can be taken away, never given.
    assert_eq!(protect(base, page(), NONE), Ok(()));
    assert_eq!(protect(base, page(), READ), denied);
    assert_eq!(inner.protect(base, page(), RW), Ok(()));

    let dead = Region::new(1);
    dead.vmar.destroy().expect("once");
    assert_eq!(dead.vmar.protect(dead.base, 0, READ), invalid);
    assert_eq!(dead.vmar.protect(0, page(), READ), Err(Status::BAD_STATE));
}

#[test]
fn permissions_page_by_page() {
    for policy in POLICIES {
        let region = Region::new(6);
        let vmo = numbered(6);
        region.map_with(0, &vmo, 6, RW, policy);
        region.protect(1, 2, READ);
        region.protect(4, 1, NONE);
        // A length is rounded up.
        region
            .vmar
            .protect(region.at(5), 1, READ)
            .expect("mapped pages");
        let run = |at, pages, perms| (1, at, pages, Some((perms, at as u64)));
        let runs = [
            run(0, 1, RW),
            run(1, 2, READ),
            run(3, 1, RW),
            run(4, 1, NONE),
            run(5, 1, READ),
        ];
        assert_eq!(region.maps()[1..], runs);
        for (at, pages, (flags, _)) in runs.map(|run| (run.1, run.2, run.3.expect("a mapping"))) {
            for page in at..at + pages {
                assert_eq!(can_read(region.at(page)), flags.contains(READ));
                assert_eq!(can_write(region.at(page)), flags.contains(WRITE));
            }
        }
        // The VMO can be written whatever its mappings allow.
        put(&vmo, 1, 22);
        assert_eq!(bytes_at(region.at(1), 1), [22]);
        region.protect(0, 6, RW);
        assert_eq!(region.maps()[1..], [run(0, 6, RW)]);
        let loads: Vec<u8> = (0..6).map(|at| bytes_at(region.at(at), 1)[0]).collect();
        assert_eq!(loads, [1, 22, 3, 4, 5, 6]);
    }
}
