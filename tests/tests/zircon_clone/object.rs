//! The rights of a child, what it is, and whom it belongs to.

use super::*;

#[test]
fn rights_of_children() {
    let property = Rights::GET_PROPERTY | Rights::SET_PROPERTY;
    let needed = Rights::DUPLICATE | Rights::READ;
    let code = numbered(1).replace_as_executable().expect("code");
    let movable = resizable(1).replace_as_executable().expect("code");
    let of_code = [
        needed,
        Rights::VMO_DEFAULT,
        Rights::VMO_DEFAULT | Rights::EXECUTE,
        needed | Rights::EXECUTE | Rights::MAP,
    ];
    let made = |vmo: &Vmo, options: VmoChildOptions| {
        let pages = if options.contains(REFERENCE) { 0 } else { 1 };
        rights_of(&child(vmo, options, 0, pages))
    };
    for rights in of_code {
        let vmo = with_rights(&code, rights);
        let common = rights | property;
        for kind in CLONES {
            assert_eq!(made(&vmo, kind), (common | Rights::WRITE) - Rights::EXECUTE);
            assert_eq!(made(&vmo, kind | NO_WRITE), common - Rights::WRITE);
            assert_eq!(
                made(&vmo, kind | RESIZABLE),
                (common | Rights::WRITE | Rights::RESIZE) - Rights::EXECUTE
            );
        }
        for kind in [SLICE, REFERENCE] {
            assert_eq!(made(&vmo, kind), common);
            assert_eq!(made(&vmo, kind | NO_WRITE), common - Rights::WRITE);
        }
    }
    // RESIZE follows the child's own option, never the parent's handle.
    let all = rights_of(&movable);
    assert!(all.contains(Rights::RESIZE));
    for kind in CLONES {
        assert!(!made(&movable, kind).contains(Rights::RESIZE));
        assert!(!made(&movable, kind | NO_WRITE).contains(Rights::RESIZE));
    }
    assert_eq!(made(&movable, REFERENCE), all - Rights::RESIZE);
    assert_eq!(made(&movable, REFERENCE | RESIZABLE), all);
}

#[test]
fn what_a_child_without_write_cannot_do() {
    let vmo = numbered(1);
    for kind in CLONES.into_iter().chain([SLICE]) {
        let fixed = child(&vmo, kind | NO_WRITE, 0, 1);
        assert_eq!(fixed.write(&[1], 0), Err(Status::ACCESS_DENIED));
        for op in [VmoOp::COMMIT, VmoOp::DECOMMIT, VmoOp::ZERO] {
            assert_eq!(fixed.op_range(op, 0, bytes(1)), Err(Status::ACCESS_DENIED));
        }
        assert_eq!(fixed.set_size(0), Err(Status::ACCESS_DENIED));
        let region = Region::new(1);
        let result = region.try_map(0, &fixed, 0, 1, RW);
        assert_eq!(refused(result), Status::ACCESS_DENIED);
        let more = rights_of(&fixed) | Rights::WRITE;
        assert_eq!(refused(fixed.duplicate_handle(more)), Status::INVALID_ARGS);
        if kind != SLICE {
            let clone = snapshot(&fixed, 0, 1);
            put(&clone, 0, 9);
            assert_eq!(get(&fixed, 0), 1);
        }
    }
}

#[test]
fn what_the_new_object_is() {
    let vmo = numbered(3);
    vmo.set_name(&Name::new_lossy("parent"))
        .expect("default rights");
    let base = VmoInfoFlags::TYPE_PAGED | VmoInfoFlags::VIA_HANDLE;
    let cow = base | VmoInfoFlags::IS_COW_CLONE;
    let cases = [
        (SNAPSHOT, cow),
        (SNAPSHOT | NO_WRITE, cow | VmoInfoFlags::IMMUTABLE),
        (SNAPSHOT | RESIZABLE, cow | VmoInfoFlags::RESIZABLE),
        (CLONES[1], cow),
        (CLONES[1] | NO_WRITE, cow),
        (CLONES[2] | NO_WRITE, cow),
        (SLICE, base),
        (SLICE | NO_WRITE, base),
        (REFERENCE, base),
        (REFERENCE | NO_WRITE, base),
    ];
    for (options, flags) in cases {
        let whole = options.contains(REFERENCE);
        // A size within a page is rounded up; the rest of the page is the parent's.
        let size = if whole { 0 } else { bytes(1) + 1 };
        let made = vmo.create_child(options, 0, size).expect("a child");
        let info = info(&made);
        assert_eq!(info.flags, flags, "{options:?}");
        assert_eq!(info.parent_koid, self::info(&vmo).koid);
        assert_ne!(info.koid, info.parent_koid);
        assert_eq!(info.size_bytes, bytes(if whole { 3 } else { 2 }));
        assert_eq!(info.name, Name::new_lossy("parent"));
        assert_eq!((info.num_children, info.num_mappings), (0, 0));
        let mut last = [9];
        made.read(&mut last, bytes(1)).expect("inside");
        assert_eq!(last, [2]);
        // Names go their own ways.
        made.set_name(&Name::new_lossy("child"))
            .expect("always allowed");
        assert_eq!(self::info(&vmo).name, Name::new_lossy("parent"));
        // Whether it can be resized is its own matter.
        let fixed = VmarFlags::REQUIRE_NON_RESIZABLE;
        let region = Region::new(1);
        let mapped = region.try_map(0, &made, 0, 1, VmarFlags::PERM_READ | fixed);
        if options.contains(RESIZABLE) {
            assert_eq!(refused(mapped), Status::NOT_SUPPORTED);
            assert_eq!(made.set_size(0), Ok(()));
        } else {
            mapped.expect("it cannot be resized");
            if !options.contains(NO_WRITE) {
                assert_eq!(made.set_size(0), Err(Status::UNAVAILABLE));
            }
        }
    }
    let blind = with_rights(&vmo, Rights::VMO_DEFAULT - Rights::GET_PROPERTY);
    assert!(info(&snapshot(&blind, 0, 1)).name.is_empty());
    let empty = snapshot(&vmo, 1, 0);
    assert_eq!(empty.get_size(), Ok(0));
    assert_eq!(refused(empty.read(&mut [0], 0)), Status::OUT_OF_RANGE);
    // A clone that can be resized, of one that cannot, and the reverse.
    assert_eq!(
        child(&resizable(1), SNAPSHOT, 0, 1).set_size(0),
        Err(Status::UNAVAILABLE)
    );
}

#[test]
fn children_are_counted_and_handed_on() {
    let root = numbered(2);
    let koid = info(&root).koid;
    let clone = snapshot(&root, 0, 2);
    let part = slice(&root, 0, 1);
    let other = reference(&root);
    assert_eq!(info(&root).num_children, 3);
    let grandchildren = [
        snapshot(&clone, 0, 2),
        slice(&clone, 0, 1),
        reference(&clone),
    ];
    assert_eq!(
        (info(&root).num_children, info(&clone).num_children),
        (3, 3)
    );
    drop(clone);
    assert_eq!(info(&root).num_children, 5);
    for grandchild in &grandchildren {
        assert_eq!(info(grandchild).parent_koid, koid);
    }
    // A mapping keeps a child alive as a handle does.
    let region = Region::new(1);
    region.map(0, &part, 0, 1, RW);
    drop(part);
    assert_eq!(info(&root).num_children, 5);
    region.unmap(0, 1);
    assert_eq!(info(&root).num_children, 4);
    drop(root);
    for child in grandchildren.iter().chain([&other]) {
        let info = info(child);
        assert_eq!(info.parent_koid, Koid::INVALID);
        assert!(!info.flags.contains(VmoInfoFlags::IS_COW_CLONE));
    }
    assert_eq!(firsts(&grandchildren[0], 2), [1, 2]);
}
