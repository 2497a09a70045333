//! `zx_vmar_op_range`: the order of its checks, what each operation needs, and what it does.

use super::*;
use cowspace::VmarOp;

const OPS: [VmarOp; 7] = [
    VmarOp::COMMIT,
    VmarOp::DECOMMIT,
    VmarOp::MAP_RANGE,
    VmarOp::ZERO,
    VmarOp::DONT_NEED,
    VmarOp::ALWAYS_NEED,
    VmarOp::PREFETCH,
];

/// The right that an operation needs.
fn right(op: VmarOp) -> Rights {
    match op {
        VmarOp::COMMIT | VmarOp::DECOMMIT | VmarOp::ZERO => Rights::WRITE,
        VmarOp::MAP_RANGE | VmarOp::PREFETCH => Rights::READ,
        _ => Rights::NONE,
    }
}

/// What a mapping must allow.
fn permission(op: VmarOp) -> Rights {
    match op {
        VmarOp::MAP_RANGE => Rights::NONE,
        _ => right(op),
    }
}

fn op(region: &Region, op: VmarOp, at: usize, pages: usize) -> Result<(), Status> {
    region.vmar.op_range(op, region.at(at), pages * page())
}

fn populated(vmo: &Vmo) -> u64 {
    vmo.info().expect("a live VMO has info").populated_bytes
}

#[test]
fn order_of_the_checks() {
    let outer = Region::new(8);
    outer.map(2, &numbered(1), 0, 1, RW);
    let (at, size) = (outer.base, page());
    let bad = Vmar::from(Handle::from_raw(closed_handle()));
    let unknown = VmarOp::from_raw(4);
    for op in OPS {
        let wrong = |vmar: &Vmar, op, addr, size, buffer, buffer_size| {
            refused(vmar.op_range_with_buffer(op, addr, size, buffer, buffer_size))
        };
        assert_eq!(wrong(&bad, unknown, 1, 0, 1, 1), Status::BAD_HANDLE);
        let vmo = as_vmar(numbered(1));
        assert_eq!(wrong(&vmo, unknown, 1, 0, 1, 1), Status::WRONG_TYPE);
        let none = with_rights(&outer.vmar, Rights::NONE);
        assert_eq!(wrong(&none, unknown, 1, 0, 1, 1), Status::INVALID_ARGS);
        let expected = match right(op) {
            Rights::NONE => Status::INVALID_ARGS,
            _ => Status::ACCESS_DENIED,
        };
        let lacking = with_rights(&outer.vmar, ALL_RIGHTS - right(op));
        assert_eq!(wrong(&lacking, op, 1, 0, 1, 1), expected, "{op:?}");

        let vmar = with_rights(&outer.vmar, right(op));
        for (addr, len, buffer, buffer_size) in [
            // Outside, which comes later.
            (0, size, 1, 0),
            (0, size, 0, 1),
            (at + 1, size, 0, 0),
            (0, 0, 0, 0),
            (0, usize::MAX, 0, 0),
        ] {
            let status = wrong(&vmar, op, addr, len, buffer, buffer_size);
            assert_eq!(status, Status::INVALID_ARGS, "{op:?} {addr:#x} {len:#x}");
        }
        for (addr, len) in [
            (at - size, size),
            (at - size, 2 * size),
            (at + 8 * size, size),
            (at + 7 * size, size + 1),
            (at, 9 * size),
            (0usize.wrapping_sub(size), 2 * size),
            (0usize.wrapping_sub(size), size),
            (0, size),
        ] {
            let status = wrong(&vmar, op, addr, len, 0, 0);
            assert_eq!(status, Status::OUT_OF_RANGE, "{op:?} {addr:#x} {len:#x}");
        }
        // The mapping, and a length that is rounded.
        assert_eq!(outer.vmar.op_range(op, outer.at(2), 1), Ok(()));
    }
    outer.vmar.destroy().expect("once");
    for op in OPS {
        let outside = outer.vmar.op_range(op, at + 8 * size, size);
        assert_eq!(refused(outside), Status::OUT_OF_RANGE);
        let inside = outer.vmar.op_range(op, at + 2 * size, size);
        assert_eq!(refused(inside), Status::BAD_STATE);
    }
}

#[test]
fn gaps_are_refused_where_they_are_reached() {
    let region = Region::new(6);
    let (first, second) = (numbered(1), numbered(1));
    region.map(1, &first, 0, 1, RW);
    region.map(3, &second, 0, 1, RW);
    let (_child, _) = region
        .vmar
        .allocate(4 * page(), page(), ALL | SPECIFIC)
        .expect("there is room");
    for (at, pages) in [(0, 2), (0, 1), (1, 2), (1, 3), (3, 2), (4, 1), (5, 1)] {
        for each in OPS {
            assert_eq!(
                op(&region, each, at, pages),
                Err(Status::BAD_STATE),
                "{each:?}, {pages} pages from {at}"
            );
        }
    }
    // What comes before the gap was operated on, what comes behind it was not.
    assert_eq!(get(&first, 0), 0);
    put(&first, 0, 1);
    put(&second, 0, 2);
    assert_eq!(op(&region, VmarOp::ZERO, 1, 3), Err(Status::BAD_STATE));
    assert_eq!((get(&first, 0), get(&second, 0)), (0, 2));
    put(&first, 0, 1);
    assert_eq!(op(&region, VmarOp::ZERO, 0, 2), Err(Status::BAD_STATE));
    assert_eq!(get(&first, 0), 1);
}

#[test]
fn mappings_of_child_vmars() {
    let outer = Region::new(4);
    let (inner, base) = outer
        .vmar
        .allocate(page(), 2 * page(), ALL | SPECIFIC)
        .expect("there is room");
    let (outside, inside) = (numbered(1), numbered(1));
    outer.map(0, &outside, 0, 1, RW);
    inner
        .map(0, &inside, 0, page(), RW | SPECIFIC)
        .expect("there is room");
    // May never be written or read: that is asked later.
    let locked = with_rights(&inside, Rights::MAP);
    inner
        .map(page(), &locked, 0, page(), NONE | SPECIFIC)
        .expect("there is room");
    let no_children = with_rights(&outer.vmar, ALL_RIGHTS - Rights::OP_CHILDREN);
    for each in OPS {
        let never = matches!(each, VmarOp::COMMIT | VmarOp::DECOMMIT | VmarOp::PREFETCH);
        let expected = if never {
            Err(Status::INVALID_ARGS)
        } else {
            Ok(())
        };
        put(&outside, 0, 1);
        assert_eq!(op(&outer, each, 0, 2), expected, "{each:?}");
        let emptied = matches!(each, VmarOp::DECOMMIT | VmarOp::ZERO);
        assert_eq!(get(&outside, 0) == 0, emptied, "what comes before is done");
        let denied = no_children.op_range(each, outer.base, 2 * page());
        assert_eq!(denied, Err(Status::INVALID_ARGS), "{each:?}");
        let at_locked = no_children.op_range(each, outer.at(2), page());
        assert_eq!(at_locked, Err(Status::INVALID_ARGS), "{each:?}");
        // Through the child itself it is no child's.
        assert_eq!(inner.op_range(each, base, page()), Ok(()), "{each:?}");
    }
}

#[test]
fn the_greatest_permissions_count() {
    for (has, perms) in [
        (Rights::NONE, NONE),
        (Rights::READ, READ),
        (Rights::READ | Rights::WRITE, READ),
        (Rights::READ | Rights::WRITE, NONE),
    ] {
        let vmo = numbered(2);
        let handle = with_rights(&vmo, Rights::MAP | has);
        for each in OPS {
            let region = Region::new(2);
            // The first page allows all.
            region.map(0, &vmo, 0, 1, RW);
            region.map(1, &handle, 1, 1, perms);
            put(&vmo, 0, 1);
            let expected = if has.contains(permission(each)) {
                Ok(())
            } else {
                Err(Status::ACCESS_DENIED)
            };
            assert_eq!(op(&region, each, 0, 2), expected, "{each:?} {has:?}");
            let emptied = matches!(each, VmarOp::DECOMMIT | VmarOp::ZERO);
            assert_eq!(get(&vmo, 0) == 0, emptied, "what comes before is done");
        }
    }
}

#[test]
fn the_end_of_the_vmo() {
    for resizable in [false, true] {
        let options = if resizable {
            VmoOptions::RESIZABLE
        } else {
            VmoOptions::empty()
        };
        for each in OPS {
            let vmo = Vmo::create_with_opts(options, bytes(2)).expect("a small VMO");
            put(&vmo, 0, 1);
            let region = Region::new(8);
            region.map(0, &vmo, 0, 4, RW);
            assert_eq!(op(&region, each, 0, 2), Ok(()), "{each:?}");
            put(&vmo, 0, 1);
            for (at, pages) in [(0, 3), (1, 2), (2, 1), (3, 1)] {
                let result = op(&region, each, at, pages);
                assert_eq!(result, Err(Status::OUT_OF_RANGE), "{each:?}");
            }
            assert_eq!(get(&vmo, 0), 1, "it is one mapping, and nothing was done");
            // Two neighbours that continue each other are one mapping.
            region.unmap(1, 3);
            region.map(1, &vmo, 1, 2, RW);
            assert_eq!(op(&region, each, 0, 3), Err(Status::OUT_OF_RANGE));
            assert_eq!(get(&vmo, 0), 1, "{each:?}");
            // Permissions are asked first.
            let handle = with_rights(&vmo, Rights::MAP);
            region.map(5, &handle, 4, 1, NONE);
            let expected = match permission(each) {
                Rights::NONE => Status::OUT_OF_RANGE,
                _ => Status::ACCESS_DENIED,
            };
            assert_eq!(refused(op(&region, each, 5, 1)), expected, "{each:?}");
            if resizable {
                vmo.set_size(bytes(3)).expect("it is resizable");
                assert_eq!(op(&region, each, 0, 3), Ok(()), "{each:?}");
            }
        }
    }
}

/// The page in which the stream size lies is reached as a whole; a mapping without the option does not end there.
#[test]
fn the_stream_size() {
    for each in OPS {
        let vmo = Vmo::create(bytes(4)).expect("a small VMO");
        let region = Region::new(8);
        region.map(0, &vmo, 0, 4, RW);
        let ends = RW | VmarFlags::ALLOW_FAULTS | VmarFlags::FAULT_BEYOND_STREAM_SIZE;
        region.map(4, &vmo, 0, 4, ends);
        vmo.set_stream_size(bytes(1) + 1).expect("it is smaller");
        put(&vmo, 0, 1);
        assert_eq!(op(&region, each, 0, 4), Ok(()), "{each:?}");
        assert_eq!(op(&region, each, 4, 2), Ok(()), "{each:?}");
        put(&vmo, 0, 1);
        for (at, pages) in [(4, 3), (5, 2), (6, 1), (7, 1)] {
            let result = op(&region, each, at, pages);
            assert_eq!(result, Err(Status::OUT_OF_RANGE), "{each:?}");
        }
        assert_eq!(get(&vmo, 0), 1, "nothing was done");
        vmo.set_stream_size(bytes(3)).expect("it fits");
        assert_eq!(op(&region, each, 4, 3), Ok(()), "{each:?}");
    }
}

#[test]
fn commit_gives_memory_and_keeps_bytes() {
    for policy in POLICIES {
        let vmo = Vmo::create(bytes(6)).expect("a small VMO");
        put(&vmo, 1, 7);
        let region = Region::new(6);
        region.map_with(0, &vmo, 6, RW, policy);
        assert_eq!(op(&region, VmarOp::COMMIT, 1, 3), Ok(()));
        assert_eq!(populated(&vmo), bytes(3));
        assert_eq!(firsts(&vmo, 6), [0, 7, 0, 0, 0, 0]);
        // Pages of its own, with a clone beside it.
        let clone = vmo
            .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(6))
            .expect("a snapshot");
        assert_eq!(op(&region, VmarOp::COMMIT, 0, 2), Ok(()));
        let info = vmo.info().expect("a live VMO has info");
        assert_eq!(info.populated_private_bytes, bytes(2), "{policy:?}");
        assert_eq!(firsts(&vmo, 6), [0, 7, 0, 0, 0, 0]);
        assert_eq!(firsts(&clone, 6), [0, 7, 0, 0, 0, 0]);
    }
}

#[test]
fn decommit_and_zero_make_zeros() {
    for policy in POLICIES {
        for each in [VmarOp::DECOMMIT, VmarOp::ZERO] {
            let (first, second) = (numbered(4), numbered(4));
            let region = Region::new(8);
            region.map_with(0, &first, 4, RW, policy);
            region.map_with(4, &second, 4, RW, policy);
            // What the mappings allow now does not matter.
            region.protect(2, 1, READ);
            region.protect(3, 1, NONE);
            assert_eq!(op(&region, each, 1, 5), Ok(()), "{policy:?} {each:?}");
            assert_eq!(firsts(&first, 4), [1, 0, 0, 0], "{policy:?} {each:?}");
            assert_eq!(firsts(&second, 4), [0, 0, 3, 4], "{policy:?} {each:?}");
            assert_eq!(populated(&first), bytes(1));
            assert_eq!(populated(&second), bytes(2));
            assert_eq!(bytes_at(region.at(1), 1), [0]);
            assert_eq!(bytes_at(region.at(6), 1), [3]);
        }
        // As the calls of the same name on VMOs, with clones on either side.
        let parent = numbered(2);
        let clone = parent
            .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(2))
            .expect("a snapshot");
        let region = Region::new(4);
        region.map_with(0, &parent, 2, RW, policy);
        region.map_with(2, &clone, 2, RW, policy);
        for at in [0, 2] {
            let result = op(&region, VmarOp::DECOMMIT, at, 1);
            assert_eq!(result, Err(Status::NOT_SUPPORTED));
        }
        assert_eq!(op(&region, VmarOp::ZERO, 1, 2), Ok(()));
        assert_eq!(firsts(&parent, 2), [1, 0]);
        assert_eq!(firsts(&clone, 2), [0, 2]);
        assert_eq!(bytes_at(region.at(1), 1), [0]);
        assert_eq!(bytes_at(region.at(2), 1), [0]);
    }
}

#[test]
fn hints_change_nothing() {
    for policy in POLICIES {
        for each in [
            VmarOp::MAP_RANGE,
            VmarOp::DONT_NEED,
            VmarOp::ALWAYS_NEED,
            VmarOp::PREFETCH,
        ] {
            let vmo = Vmo::create(bytes(4)).expect("a small VMO");
            put(&vmo, 1, 5);
            let region = Region::new(4);
            region.map_with(0, &vmo, 4, RW, policy);
            assert_eq!(op(&region, each, 0, 4), Ok(()), "{policy:?} {each:?}");
            assert_eq!(populated(&vmo), bytes(1));
            // The pages without content are no content after a snapshot either.
            let clone = vmo
                .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(4))
                .expect("a snapshot");
            memory(region.at(2), 1).store_u8(0, 9);
            assert_eq!(op(&region, each, 0, 4), Ok(()), "{policy:?} {each:?}");
            assert_eq!(populated(&vmo), bytes(2), "{policy:?} {each:?}");
            assert_eq!(populated(&clone), bytes(1), "{policy:?} {each:?}");
            assert_eq!(firsts(&vmo, 4), [0, 5, 9, 0]);
            assert_eq!(firsts(&clone, 4), [0, 5, 0, 0]);
            // Without permissions now.
            region.protect(0, 4, NONE);
            assert_eq!(op(&region, each, 0, 4), Ok(()), "{policy:?} {each:?}");
        }
    }
}
