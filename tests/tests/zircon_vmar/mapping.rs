//! map: order of checks, permissions, the end of the VMO, overwriting.

use super::*;

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

#[test]
fn a_mapping_outlives_its_handles() {
    for policy in POLICIES {
        let region = Region::new(4);
        let vmo = numbered(4);
        let koid = vmo.basic_info().expect("a handle").koid;
        let read_only = with_rights(&vmo, Rights::VMO_DEFAULT - Rights::WRITE);
        region.map_with(0, &read_only, 2, READ, policy);
        region.map_with(2, &vmo, 2, RW, policy);
        drop((vmo, read_only));
        let loads = |at| bytes_at(region.at(at), 1)[0];
        assert_eq!([0, 1, 2, 3].map(loads), [1, 2, 1, 2]);
        memory(region.at(2), 1).store_u8(0, 9);
        assert_eq!(loads(0), 9, "both show the same VMO");
        let what_was_allowed = region.vmar.protect(region.base, page(), RW);
        assert_eq!(refused(what_was_allowed), Status::ACCESS_DENIED);
        let clone = region
            .vmar
            .create_vmo_child(VmoChildOptions::SNAPSHOT, region.base, page())
            .expect("it is mapped");
        let info = clone.info().expect("a live VMO has info");
        assert_eq!(info.parent_koid, koid);
        region.unmap(0, 4);
        assert_eq!(get(&clone, 0), 9);
        let info = clone.info().expect("a live VMO has info");
        assert_eq!(info.parent_koid, cowspace::Koid::INVALID, "it has ended");
    }
}
