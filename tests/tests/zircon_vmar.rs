//! VMARs and mappings against Zircon's rules: order of checks, placement, unmap, protect, destroy, and the maps.

#![forbid(unsafe_code)]

use cowspace::{
    Handle, HandleBased, MapsDetails, ObjectType, Policy, Rights, Status, Vmar, VmarFlags, Vmo,
    VmoChildOptions, VmoOptions,
};
use cowspace_tests::zircon::{
    ALL, POLICIES, Region, as_vmar, as_vmo, bytes, can_read, can_write, closed_handle, firsts, get,
    numbered, put, refused, rights_of, with_rights,
};
use cowspace_tests::{RW, bytes_at, memory, page};

const NONE: VmarFlags = VmarFlags::empty();
const READ: VmarFlags = VmarFlags::PERM_READ;
const WRITE: VmarFlags = VmarFlags::PERM_WRITE;
const EXECUTE: VmarFlags = VmarFlags::PERM_EXECUTE;
const SPECIFIC: VmarFlags = VmarFlags::SPECIFIC;
const OVERWRITE: VmarFlags = VmarFlags::SPECIFIC_OVERWRITE;
const LIMIT: VmarFlags = VmarFlags::OFFSET_IS_UPPER_LIMIT;

/// All rights that a VMAR's handle can have.
const ALL_RIGHTS: Rights = Rights::VMAR_DEFAULT
    .union(Rights::READ)
    .union(Rights::WRITE)
    .union(Rights::EXECUTE);

fn alignment(log: u32) -> VmarFlags {
    VmarFlags::from_bits_retain(log << 24)
}

// Handles and rights

#[test]
fn handle_type_and_right_come_before_all_else() {
    let region = Region::new(2);
    let vmo = numbered(1);
    region.map(0, &vmo, 0, 1, RW);
    // Each call with arguments that are wrong besides.
    type Call = fn(&Vmar, &Vmo) -> Result<(), Status>;
    let calls: [(&str, Call, Option<Rights>); 8] = [
        (
            "allocate",
            |vmar, _| {
                vmar.allocate(1, 1, VmarFlags::CAN_MAP_READ | READ)
                    .map(drop)
            },
            Some(Rights::READ),
        ),
        (
            "map",
            |vmar, vmo| vmar.map(1, vmo, 1, 0, WRITE).map(drop),
            None,
        ),
        ("unmap", |vmar, _| vmar.unmap(1, 0), None),
        (
            "protect",
            |vmar, _| vmar.protect(1, 0, WRITE),
            Some(Rights::WRITE),
        ),
        (
            "destroy",
            |vmar, _| vmar.destroy(),
            Some(Rights::OP_CHILDREN),
        ),
        (
            "info",
            |vmar, _| vmar.info().map(drop),
            Some(Rights::INSPECT),
        ),
        (
            "maps",
            |vmar, _| vmar.maps().map(drop),
            Some(Rights::INSPECT),
        ),
        (
            "create_vmo_child",
            |vmar, _| {
                vmar.create_vmo_child(VmoChildOptions::SLICE, 1, 0)
                    .map(drop)
            },
            Some(Rights::INSPECT),
        ),
    ];
    for (name, call, needs) in calls {
        for raw in [0, closed_handle()] {
            let bad = Vmar::from(Handle::from_raw(raw));
            assert_eq!(call(&bad, &vmo), Err(Status::BAD_HANDLE), "{name}");
        }
        for rights in [Rights::NONE, Rights::SAME_RIGHTS] {
            let wrong = as_vmar(with_rights(&vmo, rights));
            assert_eq!(call(&wrong, &vmo), Err(Status::WRONG_TYPE), "{name}");
        }
        if let Some(right) = needs {
            let without = with_rights(&region.vmar, ALL_RIGHTS - right);
            assert_eq!(call(&without, &vmo), Err(Status::ACCESS_DENIED), "{name}");
        }
    }
    assert!(can_write(region.base));
}

#[test]
fn rights_follow_what_can_be_mapped() {
    assert_eq!(rights_of(&Vmar::root_self()), ALL_RIGHTS);
    let pairs = [
        (VmarFlags::CAN_MAP_READ, Rights::READ),
        (VmarFlags::CAN_MAP_WRITE, Rights::WRITE),
        (VmarFlags::CAN_MAP_EXECUTE, Rights::EXECUTE),
    ];
    for set in 0..1 << pairs.len() {
        let chosen = || (0..pairs.len()).filter(|bit| set >> bit & 1 == 1);
        let flags = chosen().fold(NONE, |flags, bit| flags | pairs[bit].0);
        let rights = chosen().fold(Rights::NONE, |rights, bit| rights | pairs[bit].1);
        let region = Region::with_flags(1, flags);
        assert_eq!(rights_of(&region.vmar), Rights::VMAR_DEFAULT | rights);
        let info = region.vmar.basic_info().expect("a handle");
        assert_eq!(info.object_type, ObjectType::VMAR);
        // A handle that lacks one of them cannot give it.
        for bit in chosen() {
            let without = with_rights(&Vmar::root_self(), ALL_RIGHTS - pairs[bit].1);
            let result = without.allocate(0, page(), flags);
            assert_eq!(refused(result), Status::ACCESS_DENIED);
        }
        let enough = with_rights(&Vmar::root_self(), rights);
        let (child, _) = enough.allocate(0, page(), flags).expect("these are enough");
        child.destroy().expect("a VMAR can be destroyed once");
    }
}

#[test]
fn the_root() {
    let root = Vmar::root_self();
    let info = root.info().expect("the root lives as long as the process");
    assert!(info.len >= 128 << 30);
    assert_eq!(root.destroy(), Err(Status::NOT_SUPPORTED));
    let koid = |vmar: &Vmar| vmar.basic_info().expect("a handle").koid;
    assert_eq!(koid(&root), koid(&Vmar::root_self()));
}

// allocate

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

// Placement: the same for allocate and map

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

// map

#[test]
fn order_of_the_checks_of_map() {
    let region = Region::new(4);
    let vmo = numbered(1);
    let no_map = with_rights(&vmo, Rights::VMO_DEFAULT - Rights::MAP);
    let read_only = with_rights(&vmo, Rights::MAP | Rights::READ);
    let resizable = Vmo::create_with_opts(VmoOptions::RESIZABLE, 0).expect("a VMO can be made");
    let map = |vmar: &Vmar, vmo: &Vmo, flags: VmarFlags, vmo_offset: u64, len: usize| {
        refused(vmar.map(0, vmo, vmo_offset, len, flags))
    };
    let vmar = &region.vmar;
    let bad_vmo = Vmo::from(Handle::from_raw(0));
    let bad_vmar = Vmar::from(Handle::from_raw(0));
    let unknown = VmarFlags::from_bits_retain(1 << 20);
    let beyond = VmarFlags::FAULT_BEYOND_STREAM_SIZE;
    let fixed = VmarFlags::REQUIRE_NON_RESIZABLE;
    // 1: the VMAR's handle, then the VMO's.
    assert_eq!(map(&bad_vmar, &bad_vmo, WRITE, 1, 0), Status::BAD_HANDLE);
    let wrong_vmar = as_vmar(with_rights(&vmo, Rights::NONE));
    assert_eq!(map(&wrong_vmar, &bad_vmo, WRITE, 1, 0), Status::WRONG_TYPE);
    assert_eq!(map(vmar, &bad_vmo, WRITE, 1, 0), Status::BAD_HANDLE);
    let wrong_vmo = as_vmo(with_rights(vmar, Rights::NONE));
    assert_eq!(map(vmar, &wrong_vmo, WRITE, 1, 0), Status::WRONG_TYPE);
    // 2: MAP.
    assert_eq!(map(vmar, &no_map, WRITE, 1, 0), Status::ACCESS_DENIED);
    // 3, 4: permissions without reading, and what does not go together; before 5: the rights.
    for flags in [
        WRITE,
        EXECUTE,
        WRITE | EXECUTE,
        READ | VmarFlags::MAP_RANGE | OVERWRITE,
        RW | VmarFlags::CAN_MAP_READ,
        RW | VmarFlags::CAN_MAP_WRITE,
        RW | VmarFlags::CAN_MAP_EXECUTE,
    ] {
        let vmar = with_rights(vmar, Rights::NONE);
        assert_eq!(map(&vmar, &read_only, flags, 1, 0), Status::INVALID_ARGS);
    }
    // 5: of both handles; before 6.
    let without = |right| with_rights(vmar, ALL_RIGHTS - right);
    let denied = Status::ACCESS_DENIED;
    assert_eq!(map(vmar, &read_only, RW | unknown, 1, 0), denied);
    assert_eq!(map(vmar, &vmo, READ | EXECUTE | beyond, 1, 0), denied);
    assert_eq!(
        map(&without(Rights::WRITE), &vmo, RW | unknown, 1, 0),
        denied
    );
    assert_eq!(map(&without(Rights::READ), &vmo, READ, 1, 0), denied);
    let blind = with_rights(&vmo, Rights::MAP);
    let xom = VmarFlags::PERM_READ_IF_XOM_UNSUPPORTED;
    assert_eq!(map(vmar, &blind, xom, 1, 0), denied);
    // 6: before 7.
    for flags in [beyond, unknown, alignment(9), alignment(33)] {
        assert_eq!(
            map(vmar, &resizable, RW | flags | fixed, 1, 0),
            Status::INVALID_ARGS
        );
    }
    // 7: before 9 to 12.
    for flags in [fixed, fixed | VmarFlags::COMPACT, fixed | SPECIFIC | LIMIT] {
        assert_eq!(
            map(vmar, &resizable, RW | flags, 1, 0),
            Status::NOT_SUPPORTED
        );
    }
    // 9 and 10, before 11.
    for flags in [VmarFlags::COMPACT, VmarFlags::CAN_MAP_SPECIFIC] {
        assert_eq!(
            map(vmar, &vmo, RW | flags, 0, usize::MAX),
            Status::INVALID_ARGS
        );
    }
    for offset in [1, bytes(1) - 1, u64::MAX] {
        assert_eq!(
            map(vmar, &vmo, RW, offset, usize::MAX),
            Status::INVALID_ARGS
        );
    }
    // 11, before 12.
    let last = 0u64.wrapping_sub(bytes(1));
    let range = Status::OUT_OF_RANGE;
    assert_eq!(map(vmar, &vmo, RW | SPECIFIC | LIMIT, 0, usize::MAX), range);
    for (offset, len) in [(last, 1), (last, page()), (last - bytes(1), page() + 1)] {
        assert_eq!(map(vmar, &vmo, RW | SPECIFIC | LIMIT, offset, len), range);
    }
    // 12: a length of nothing.
    assert_eq!(map(vmar, &vmo, RW, 0, 0), Status::INVALID_ARGS);
    assert_eq!(vmo.info().expect("a VMO has info").num_mappings, 0);
}

#[test]
fn permissions_and_their_limits() {
    let region = Region::new(2);
    let vmo = numbered(1);
    // None: the range is taken, and nobody can touch it. MAP is enough.
    region.map(0, &with_rights(&vmo, Rights::MAP), 0, 1, NONE);
    assert!(!can_read(region.base) && !can_write(region.base));
    let result = region.try_map(0, &vmo, 0, 1, RW);
    assert_eq!(refused(result), Status::ALREADY_EXISTS);
    let result = region.vmar.protect(region.base, page(), READ);
    assert_eq!(refused(result), Status::ACCESS_DENIED);
    region.unmap(0, 1);
    // The greatest are what both handles had then, whatever is asked for now.
    for (of_vmo, of_vmar, can) in [
        (Rights::READ | Rights::WRITE, ALL_RIGHTS, RW),
        (Rights::READ, ALL_RIGHTS, READ),
        (
            Rights::READ | Rights::WRITE,
            ALL_RIGHTS - Rights::WRITE,
            READ,
        ),
        (Rights::WRITE, ALL_RIGHTS, NONE),
    ] {
        let vmo = with_rights(&vmo, of_vmo | Rights::MAP);
        let vmar = with_rights(&region.vmar, of_vmar);
        vmar.map(0, &vmo, 0, page(), SPECIFIC)
            .expect("no permission");
        drop(vmo);
        for flags in [NONE, READ, RW] {
            let result = region.vmar.protect(region.base, page(), flags);
            if can.contains(flags) {
                assert_eq!(result, Ok(()));
                assert_eq!(can_read(region.base), flags.contains(READ));
                assert_eq!(can_write(region.base), flags.contains(WRITE));
            } else {
                assert_eq!(result, Err(Status::ACCESS_DENIED));
            }
        }
        region.unmap(0, 1);
    }
    // Execute-only is what this machine cannot map.
    let code = numbered(1).replace_as_executable().expect("code");
    let xom = VmarFlags::PERM_READ_IF_XOM_UNSUPPORTED;
    region.map(0, &code, 0, 1, EXECUTE | xom);
    assert_eq!(region.maps()[1].3, Some((READ | EXECUTE, 0)));
    assert!(can_read(region.base));
}

#[test]
fn over_the_end_of_the_vmo_and_behind_it() {
    for policy in POLICIES {
        let region = Region::new(8);
        let vmo = Vmo::create_with_opts(VmoOptions::RESIZABLE, 0).expect("a VMO can be made");
        region.map_with(0, &vmo, 2, RW, policy);
        let behind = region
            .vmar
            .map_with_policy(
                4 * page(),
                &vmo,
                bytes(1),
                2 * page(),
                RW | SPECIFIC,
                policy,
            )
            .expect("a mapping may lie behind the end");
        assert!(!can_read(region.base) && !can_read(behind));
        vmo.set_size(bytes(2)).expect("larger");
        memory(behind, 1).store_u8(0, 7);
        assert_eq!(memory(region.at(1), 1).load_u8(0), 7);
        assert!(!can_read(behind + page()));
        let fixed = numbered(1);
        region
            .vmar
            .map_with_policy(
                6 * page(),
                &fixed,
                bytes(5),
                2 * page(),
                RW | SPECIFIC,
                policy,
            )
            .expect("a mapping may lie behind the end");
        assert!(!can_read(region.at(6)));
    }
    // Up to 2^64.
    let region = Region::new(1);
    let offset = 0u64.wrapping_sub(bytes(2));
    region
        .vmar
        .map(0, &numbered(1), offset, page(), RW)
        .expect("the end is below 2^64");
    assert!(!can_read(region.base));
}

#[test]
fn overwriting() {
    for policy in POLICIES {
        let region = Region::new(6);
        let (below, above) = (numbered(6), numbered(2));
        region.map_with(0, &below, 5, RW, policy);
        region.protect(0, 1, READ);
        put(&below, 2, 33);
        let flags = RW | OVERWRITE;
        region
            .vmar
            .map_with_policy(page(), &above, 0, 2 * page(), flags, policy)
            .expect("mappings can be replaced");
        let loads = |pages| {
            (0..pages)
                .map(|at| bytes_at(region.at(at), 1)[0])
                .collect::<Vec<u8>>()
        };
        assert_eq!(loads(5), [1, 1, 2, 4, 5]);
        assert!(
            !can_write(region.at(0)),
            "what is left keeps its permissions"
        );
        memory(region.at(2), 1).store_u8(0, 44);
        memory(region.at(3), 1).store_u8(0, 55);
        assert_eq!(firsts(&below, 5), [1, 2, 33, 55, 5]);
        assert_eq!(firsts(&above, 2), [1, 44]);
        let mapping = |at, pages, perms, first| (1, at, pages, Some((perms, first)));
        assert_eq!(
            region.maps()[1..],
            [
                mapping(0, 1, READ, 0),
                mapping(1, 2, RW, 0),
                mapping(3, 2, RW, 3)
            ]
        );
        // Over nothing it is SPECIFIC.
        region
            .vmar
            .map_with_policy(5 * page(), &above, 0, page(), flags, policy)
            .expect("there is room");
        assert_eq!(loads(6)[5], 1);
    }
}

#[test]
fn map_range_commits_nothing() {
    for policy in POLICIES {
        let region = Region::new(8);
        let vmo = numbered(2);
        let sparse = Vmo::create(bytes(2)).expect("a VMO can be made");
        let populate = VmarFlags::MAP_RANGE;
        region.map_with(0, &vmo, 2, RW | populate, policy);
        region.map_with(2, &sparse, 4, RW | populate, policy);
        region.map_with(6, &vmo, 2, populate, policy);
        assert_eq!(bytes_at(region.at(1), 1), [2]);
        let populated = |vmo: &Vmo| vmo.info().expect("a VMO has info").populated_bytes;
        assert_eq!((populated(&vmo), populated(&sparse)), (bytes(2), 0));
        assert!(!can_read(region.at(6)));
    }
}

// unmap

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

// protect

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

// destroy, info, maps

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
