//! Errors and their order.

use super::*;

#[test]
fn order_of_the_checks_of_create_child() {
    let vmo = numbered(2);
    let fails = |vmo: &Vmo, options, offset: u64, size: u64, status: Status| {
        let result = vmo.create_child(options, offset, size);
        assert_eq!(refused(result), status, "{options:?} {offset:#x} {size:#x}");
    };
    let bad = Vmo::from(Handle::from_raw(closed_handle()));
    let wrong = as_vmo(with_rights(&Vmar::root_self(), Rights::NONE));
    let (invalid, range) = (Status::INVALID_ARGS, Status::OUT_OF_RANGE);
    // 1, before 2: the size.
    for size in [u64::MAX, below_2_64(1) + 1, below_2_64(1)] {
        for vmo in [&bad, &vmo] {
            fails(vmo, SNAPSHOT | NO_WRITE | RESIZABLE, 1, size, range);
            fails(vmo, SLICE, 1, size, range);
        }
    }
    // 2, before 3: what never goes together.
    for kind in CLONES.into_iter().chain([SLICE, REFERENCE]) {
        fails(&bad, kind | NO_WRITE | RESIZABLE, 1, bytes(1), invalid);
    }
    // 3, before 5: the handle.
    let unknown = VmoChildOptions::from_bits_retain(1 << 1);
    fails(&bad, unknown, 1, 0, Status::BAD_HANDLE);
    fails(&wrong, unknown, 1, 0, Status::WRONG_TYPE);
    for missing in [Rights::DUPLICATE, Rights::READ] {
        let without = with_rights(&vmo, Rights::VMO_DEFAULT - missing);
        fails(&without, unknown, 1, 0, Status::ACCESS_DENIED);
    }
    // 5: exactly one kind, nothing unknown.
    fails(&vmo, VmoChildOptions::empty(), 1, 0, invalid);
    fails(&vmo, NO_WRITE, 1, 0, invalid);
    fails(&vmo, RESIZABLE, 0, 0, invalid);
    fails(&vmo, SLICE | RESIZABLE, 0, 0, invalid);
    let kinds = [CLONES[0], CLONES[1], CLONES[2], SLICE, REFERENCE];
    for (i, one) in kinds.into_iter().enumerate() {
        for other in &kinds[..i] {
            fails(&vmo, one | *other, 0, 0, invalid);
        }
        for bit in [1].into_iter().chain(8..32) {
            fails(
                &vmo,
                one | VmoChildOptions::from_bits_retain(1 << bit),
                0,
                0,
                invalid,
            );
        }
    }
    // 7: clones.
    for kind in CLONES {
        for offset in [1, bytes(1) - 1, bytes(1) + 1, u64::MAX] {
            fails(&vmo, kind, offset, 0, invalid);
        }
        fails(&vmo, kind, below_2_64(64), bytes(64), range);
        fails(&vmo, kind, below_2_64(1), bytes(1), range);
        fails(&vmo, kind, bytes(65), below_2_64(64), range);
    }
    // And no child was made by any of these.
    assert_eq!(info(&vmo).num_children, 0);
}

#[test]
fn errors_of_slices() {
    let fixed = numbered(2);
    let movable = resizable(2);
    let (invalid, unsupported) = (Status::INVALID_ARGS, Status::NOT_SUPPORTED);
    for vmo in [&fixed, &movable] {
        for (offset, size) in [
            (1, 0),
            (bytes(1) - 1, 1),
            (0, bytes(2) + 1),
            (bytes(1), bytes(1) + 1),
            (bytes(2), 1),
            (bytes(3), 0),
            (below_2_64(1), bytes(1)),
            (bytes(1), below_2_64(64)),
        ] {
            let result = vmo.create_child(SLICE, offset, size);
            assert_eq!(refused(result), invalid, "{size:#x} at {offset:#x}");
        }
    }
    let result = movable.create_child(SLICE, 0, bytes(1));
    assert_eq!(refused(result), unsupported);
    assert_eq!(info(&fixed).num_children + info(&movable).num_children, 0);

    // What cannot be made of slices; a range behind the slice comes first.
    let part = slice(&fixed, 0, 1);
    for kind in CLONES {
        let result = part.create_child(kind, 0, bytes(1));
        assert_eq!(refused(result), unsupported);
        for (offset, size) in [(0, bytes(2)), (bytes(1), 1), (bytes(2), 0)] {
            let result = part.create_child(kind, offset, size);
            assert_eq!(refused(result), Status::OUT_OF_RANGE);
        }
    }
    assert_eq!(refused(part.create_child(REFERENCE, 0, 0)), unsupported);
    assert_eq!(info(&part).num_children, 0);
}

#[test]
fn errors_of_references() {
    let (fixed, movable) = (numbered(2), resizable(2));
    for (offset, size) in [(0, 1), (0, bytes(2)), (bytes(1), 0), (1, 0)] {
        let result = fixed.create_child(REFERENCE, offset, size);
        assert_eq!(refused(result), Status::INVALID_ARGS);
    }
    let result = fixed.create_child(REFERENCE | RESIZABLE, 0, 0);
    assert_eq!(refused(result), Status::NOT_SUPPORTED);
    let without = with_rights(&movable, Rights::VMO_DEFAULT);
    let result = without.create_child(REFERENCE | RESIZABLE, 0, 0);
    assert_eq!(refused(result), Status::ACCESS_DENIED);
    // A reference of what can be resized cannot have slices.
    let other = reference(&movable);
    let result = other.create_child(SLICE, 0, bytes(1));
    assert_eq!(refused(result), Status::NOT_SUPPORTED);
}

#[test]
fn offsets_along_a_line_add_up() {
    let root = numbered(1);
    let far = root
        .create_child(SNAPSHOT | RESIZABLE, below_2_64(66), bytes(1))
        .expect("a clone may lie far behind the end");
    assert_eq!(get(&far, 0), 0);
    let further = far
        .create_child(SNAPSHOT | RESIZABLE, bytes(64), bytes(1))
        .expect("the sum is a page below 2^64");
    for (offset, size) in [(bytes(66), 0), (bytes(65), bytes(1)), (bytes(64), bytes(2))] {
        let result = far.create_child(SNAPSHOT, offset, size);
        assert_eq!(refused(result), Status::INVALID_ARGS);
    }
    assert_eq!(further.set_size(bytes(2)), Err(Status::INVALID_ARGS));
    assert_eq!(further.get_size(), Ok(bytes(1)));
}
