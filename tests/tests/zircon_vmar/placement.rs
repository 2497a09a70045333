//! Where allocate and map put something.

use super::*;

#[test]
fn options_of_allocate() {
    let size = page();
    let region = Region::new(8);
    let ok = [
        VmarFlags::COMPACT,
        VmarFlags::CAN_MAP_SPECIFIC,
        VmarFlags::CAN_MAP_READ,
        VmarFlags::CAN_MAP_WRITE,
        VmarFlags::CAN_MAP_EXECUTE,
        VmarFlags::CANNOT_CREATE_VMO_CHILD,
    ];
    for bit in 0..24 {
        let flag = VmarFlags::from_bits_retain(1 << bit);
        let result = region.vmar.allocate(0, size, flag);
        if ok.contains(&flag) {
            result
                .expect("an option of allocate")
                .0
                .destroy()
                .expect("once");
        } else if flag == SPECIFIC {
            let (child, base) = result.expect("an option of allocate");
            assert_eq!(base, region.base);
            child.destroy().expect("once");
        } else {
            // With the upper limit an offset of 0 leaves no room; the others are options of other calls or none.
            assert_eq!(refused(result), Status::INVALID_ARGS, "{flag:?}");
        }
    }
    for log in (1..10).chain(33..=255) {
        let result = region.vmar.allocate(0, size, alignment(log));
        assert_eq!(refused(result), Status::INVALID_ARGS, "2^{log}");
    }
    for len in [0, 1, size - 1, size + 1, usize::MAX] {
        let result = region.vmar.allocate(0, len, NONE);
        assert_eq!(refused(result), Status::INVALID_ARGS, "{len}");
    }
}

#[test]
fn a_child_can_do_no_more_than_its_parent() {
    for (flag, right) in [
        (VmarFlags::CAN_MAP_READ, Rights::READ),
        (VmarFlags::CAN_MAP_WRITE, Rights::WRITE),
        (VmarFlags::CAN_MAP_EXECUTE, Rights::EXECUTE),
    ] {
        let parent = Region::with_flags(4, ALL - flag);
        assert!(!rights_of(&parent.vmar).contains(right));
        let result = parent.vmar.allocate(0, page(), flag);
        assert_eq!(refused(result), Status::ACCESS_DENIED);
    }
    // The choice of addresses is not handed down.
    let parent = Region::with_flags(4, ALL - VmarFlags::CAN_MAP_SPECIFIC);
    for flags in [SPECIFIC, LIMIT] {
        let result = parent.vmar.allocate(page(), page(), flags);
        assert_eq!(refused(result), Status::ACCESS_DENIED);
        let result = parent.vmar.map(page(), &numbered(1), 0, page(), flags);
        assert_eq!(refused(result), Status::ACCESS_DENIED);
    }
    let child = Region::below(&parent.vmar, 2, ALL);
    child.map(1, &numbered(1), 0, 1, RW);
}

#[test]
fn order_of_the_checks_of_placement() {
    let region = Region::new(8);
    let size = page();
    let len = 8 * size;
    let vmo = numbered(1);
    region.map(2, &vmo, 0, 1, RW);
    let (_child, _) = region
        .vmar
        .allocate(4 * size, size, SPECIFIC)
        .expect("there is room");
    let both = |offset: usize, size: usize, flags: VmarFlags, expected: Status| {
        let what = format!("{size:#x} bytes at {offset:#x}, {flags:?}");
        let mapped = region.vmar.map(offset, &vmo, 0, size, flags);
        assert_eq!(refused(mapped), expected, "map {what}");
        if !flags.contains(OVERWRITE) {
            let allocated = region.vmar.allocate(offset, size, flags);
            assert_eq!(refused(allocated), expected, "allocate {what}");
        }
    };
    let invalid = Status::INVALID_ARGS;
    both(0, 0, SPECIFIC | LIMIT, invalid);
    both(0, size, SPECIFIC | LIMIT, invalid);
    both(size, size, NONE, invalid);
    for flags in [SPECIFIC, LIMIT] {
        both(1, size, flags, invalid);
        both(size + 1, size, flags, invalid);
        both(len + size, size, flags, invalid);
        both(usize::MAX - size + 1, size, flags, invalid);
        both(0, len + size, flags, invalid);
    }
    both(0, len + size, NONE, invalid);
    both(len, size, SPECIFIC, invalid);
    both(size, len, SPECIFIC, invalid);
    both(0, size, LIMIT, invalid);
    both(size, 2 * size, LIMIT, invalid);
    // Not aligned comes before occupied.
    let odd = (0..8).find(|at| !region.at(*at).is_multiple_of(2 * size));
    let odd = odd.expect("every other page") * size;
    let double = alignment((2 * size).ilog2());
    both(odd, size, SPECIFIC | double, invalid);
    for (at, pages) in [(2, 1), (1, 2), (2, 2), (0, 8), (4, 1), (3, 2)] {
        both(at * size, pages * size, SPECIFIC, Status::ALREADY_EXISTS);
    }
    // Nothing can be put over a VMAR.
    for (at, pages) in [(4, 1), (3, 2), (0, 8)] {
        both(at * size, pages * size, OVERWRITE, invalid);
    }
    assert!(can_write(region.at(2)), "and nothing was unmapped");
    both(0, 4 * size, NONE, Status::NO_RESOURCES);
    both(3 * size, 3 * size, LIMIT, Status::NO_RESOURCES);

    let dead = Region::new(1);
    dead.vmar.destroy().expect("once");
    let result = dead.vmar.map(1, &vmo, 0, 0, NONE);
    assert_eq!(refused(result), Status::BAD_STATE);
    let result = dead.vmar.allocate(1, 0, NONE);
    assert_eq!(refused(result), Status::BAD_STATE);
}

#[test]
fn where_there_is_room_it_is_found() {
    const PAGES: usize = 64;
    let region = Region::new(PAGES);
    let vmo = numbered(1);
    let mut taken: Vec<usize> = (0..PAGES)
        .map(|_| {
            region
                .vmar
                .map(0, &vmo, 0, page(), RW)
                .expect("there is room")
        })
        .collect();
    taken.sort_unstable();
    let all: Vec<usize> = (0..PAGES).map(|at| region.at(at)).collect();
    assert_eq!(taken, all, "it is filled to the last page");
    let result = region.vmar.map(0, &vmo, 0, page(), RW);
    assert_eq!(refused(result), Status::NO_RESOURCES);
    // The one gap, wherever it is.
    for gap in [PAGES - 1, 0, PAGES / 2] {
        region.unmap(gap, 1);
        let addr = region.vmar.map(0, &vmo, 0, page(), RW);
        assert_eq!(addr, Ok(region.at(gap)));
    }
}

#[test]
fn alignments_and_limits() {
    let root = Vmar::root_self();
    let vmo = numbered(1);
    for log in 10..=32 {
        let (child, base) = root
            .allocate(0, page(), alignment(log))
            .expect("the root has room");
        assert!(base.is_multiple_of(1 << log.max(page().ilog2())), "2^{log}");
        child.destroy().expect("once");
        let addr = root
            .map(0, &vmo, 0, page(), READ | alignment(log))
            .expect("the root has room");
        assert!(addr.is_multiple_of(1 << log.max(page().ilog2())), "2^{log}");
        root.unmap(addr, page()).expect("it is mapped");
    }
    let region = Region::new(8);
    for limit in 1..=8 {
        let addr = region
            .vmar
            .map(limit * page(), &vmo, 0, page(), READ | LIMIT)
            .expect("there is room below");
        assert!(addr + page() <= region.at(limit));
    }
}

#[test]
fn an_alignment_below_a_limit() {
    let root = Vmar::root_self();
    let base = root.info().expect("the root lives").base;
    let vmo = numbered(1);
    for log in [page().ilog2() + 1, 21, 30, 32] {
        let align = 1usize << log;
        // The limit is not aligned itself.
        let limit = 3 * (4usize << 30) + page();
        let flags = LIMIT | alignment(log);
        let addr = root
            .map(limit, &vmo, 0, page(), READ | flags)
            .expect("there is room below");
        assert!(addr.is_multiple_of(align) && addr + page() <= base + limit);
        root.unmap(addr, page()).expect("it is mapped");
        let (child, addr) = root
            .allocate(limit, page(), flags)
            .expect("there is room below");
        assert!(addr.is_multiple_of(align) && addr + page() <= base + limit);
        child.destroy().expect("once");
    }
    // One place is left, and it has to be found.
    let region = Region::new(16);
    let log = (2 * page()).ilog2();
    let aligned: Vec<usize> = (0..8)
        .filter(|at| region.at(*at).is_multiple_of(2 * page()))
        .collect();
    for &at in &aligned[..aligned.len() - 1] {
        region.map(at, &vmo, 0, 1, RW);
    }
    let last = aligned[aligned.len() - 1];
    let map = |limit: usize| {
        let flags = READ | LIMIT | alignment(log);
        region.vmar.map(limit * page(), &vmo, 0, page(), flags)
    };
    assert_eq!(refused(map(last)), Status::NO_RESOURCES);
    assert_eq!(map(last + 1), Ok(region.at(last)));
    assert_eq!(refused(map(last + 1)), Status::NO_RESOURCES);
}
