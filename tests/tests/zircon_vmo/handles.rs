//! Handles: what every call checks first, duplicating, replacing.

use super::*;

#[test]
fn every_call_looks_at_handle_type_rights_and_range_in_this_order() {
    // Each call with a range that is outside, which a handle of the wrong kind must not even tell.
    type Call = fn(&Vmo) -> Result<(), Status>;
    let calls: [(&str, Call, Rights); 12] = [
        ("read", |vmo| vmo.read(&mut [0], u64::MAX), Rights::READ),
        (
            "read nothing",
            |vmo| vmo.read(&mut [], u64::MAX),
            Rights::READ,
        ),
        ("write", |vmo| vmo.write(&[0], u64::MAX), Rights::WRITE),
        (
            "write nothing",
            |vmo| vmo.write(&[], u64::MAX),
            Rights::WRITE,
        ),
        (
            "commit",
            |vmo| vmo.op_range(COMMIT, bytes(1), 1),
            Rights::WRITE,
        ),
        (
            "decommit",
            |vmo| vmo.op_range(DECOMMIT, bytes(1), bytes(1)),
            Rights::WRITE,
        ),
        ("zero", |vmo| vmo.op_range(ZERO, bytes(1), 1), Rights::WRITE),
        (
            "cache sync",
            |vmo| vmo.op_range(VmoOp::CACHE_SYNC, bytes(1), 1),
            Rights::READ,
        ),
        (
            "cache clean",
            |vmo| vmo.op_range(VmoOp::CACHE_CLEAN, bytes(1), 1),
            Rights::READ,
        ),
        (
            "cache clean and invalidate",
            |vmo| vmo.op_range(VmoOp::CACHE_CLEAN_INVALIDATE, bytes(1), 1),
            Rights::READ,
        ),
        (
            "prefetch",
            |vmo| vmo.op_range(VmoOp::PREFETCH, bytes(1), 1),
            Rights::READ,
        ),
        (
            "create_child",
            |vmo| {
                vmo.create_child(VmoChildOptions::SNAPSHOT, 0, bytes(1))
                    .map(drop)
            },
            Rights::DUPLICATE | Rights::READ,
        ),
    ];
    let vmo = Vmo::create(bytes(1)).expect("a VMO can be made");
    let region = Region::new(1);
    for (name, call, needs) in calls {
        for raw in [0, closed_handle()] {
            assert_eq!(
                call(&Vmo::from(Handle::from_raw(raw))),
                Err(Status::BAD_HANDLE),
                "{name}"
            );
        }
        for rights in [Rights::NONE, Rights::INSPECT] {
            let vmar = as_vmo(with_rights(&region.vmar, rights));
            assert_eq!(call(&vmar), Err(Status::WRONG_TYPE), "{name}");
        }
        for missing in needs.iter() {
            let without = with_rights(&vmo, Rights::VMO_DEFAULT - missing);
            assert_eq!(call(&without), Err(Status::ACCESS_DENIED), "{name}");
        }
        let enough = call(&with_rights(&vmo, needs | Rights::DUPLICATE));
        let expected = if name == "create_child" {
            Ok(())
        } else {
            Err(Status::OUT_OF_RANGE)
        };
        assert_eq!(enough, expected, "{name}");
    }
}

#[test]
fn calls_that_need_no_right() {
    let vmo = numbered(2);
    let bare = with_rights(&vmo, Rights::NONE);
    assert_eq!(bare.get_size(), Ok(bytes(2)));
    let info = bare.info().expect("no right is needed");
    assert_eq!(info.handle_rights, Rights::NONE);
    assert_eq!(info.koid, vmo.info().expect("a VMO has info").koid);
    for hint in [VmoOp::DONT_NEED, VmoOp::ALWAYS_NEED] {
        assert_eq!(bare.op_range(hint, 0, bytes(2)), Ok(()));
        assert_eq!(bare.op_range(hint, bytes(7), u64::MAX), Ok(()));
    }
    let basic = bare.basic_info().expect("no right is needed");
    assert_eq!(basic.object_type, ObjectType::VMO);
    assert_eq!(basic.related_koid, Koid::INVALID);
    assert_eq!(firsts(&vmo, 2), [1, 2]);

    let wrong = as_vmo(Vmar::root_self());
    assert_eq!(refused(wrong.get_size()), Status::WRONG_TYPE);
    assert_eq!(refused(wrong.info()), Status::WRONG_TYPE);
    let bad = Vmo::from(Handle::from_raw(0));
    assert_eq!(refused(bad.get_size()), Status::BAD_HANDLE);
    assert_eq!(refused(bad.info()), Status::BAD_HANDLE);
    assert_eq!(refused(bad.basic_info()), Status::BAD_HANDLE);
}

#[test]
fn duplicates() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let more = Rights::VMO_DEFAULT | Rights::EXECUTE;
    let bad = Vmo::from(Handle::from_raw(closed_handle()));
    assert_eq!(refused(bad.duplicate_handle(more)), Status::BAD_HANDLE);
    let fixed = with_rights(&vmo, Rights::VMO_DEFAULT - Rights::DUPLICATE);
    assert_eq!(refused(fixed.duplicate_handle(more)), Status::ACCESS_DENIED);
    assert_eq!(refused(vmo.duplicate_handle(more)), Status::INVALID_ARGS);
    for (asked, given) in [
        (Rights::SAME_RIGHTS, Rights::VMO_DEFAULT),
        (Rights::VMO_DEFAULT, Rights::VMO_DEFAULT),
        (Rights::READ, Rights::READ),
        (Rights::NONE, Rights::NONE),
    ] {
        let duplicate = vmo.duplicate_handle(asked).expect("fewer rights");
        assert_eq!(rights_of(&duplicate), given);
        assert_ne!(duplicate.raw_handle(), vmo.raw_handle());
        let koid = |vmo: &Vmo| vmo.basic_info().expect("a handle").koid;
        assert_eq!(koid(&duplicate), koid(&vmo));
    }
}

#[test]
fn replacing_always_consumes() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let old = with_rights(&vmo, Rights::READ);
    let raw = old.raw_handle();
    let new = old
        .replace_handle(Rights::SAME_RIGHTS)
        .expect("no right is needed");
    assert_ne!(new.raw_handle(), raw);
    assert_eq!(rights_of(&new), Rights::READ);
    assert_eq!(
        refused(Vmo::from(Handle::from_raw(raw)).get_size()),
        Status::BAD_HANDLE
    );

    let raw = new.raw_handle();
    assert_eq!(
        refused(new.replace_handle(Rights::WRITE)),
        Status::INVALID_ARGS
    );
    let old = Vmo::from(Handle::from_raw(raw));
    assert_eq!(
        refused(old.replace_handle(Rights::READ)),
        Status::BAD_HANDLE
    );
    assert_eq!(vmo.get_size(), Ok(0));
}

#[test]
fn values_and_koids_are_unique() {
    let vmos: Vec<Vmo> = (0..500)
        .map(|_| Vmo::create(0).expect("a VMO can be made"))
        .collect();
    let raw: HashSet<u32> = vmos.iter().map(|vmo| vmo.raw_handle()).collect();
    assert_eq!(raw.len(), vmos.len());
    assert!(raw.iter().all(|raw| *raw != 0 && raw & 3 == 3));
    let koid = |vmo: &Vmo| vmo.basic_info().expect("a handle").koid;
    let koids: HashSet<Koid> = vmos.iter().map(koid).collect();
    assert_eq!(koids.len(), vmos.len());
    let valid = |koid: &Koid| koid.raw_koid() >= 1024 && koid.raw_koid() >> 63 == 0;
    assert!(koids.iter().all(valid));
    // Values that were closed do not come back soon.
    drop(vmos);
    let next = Vmo::create(0).expect("a VMO can be made");
    assert!(!raw.contains(&next.raw_handle()));
}

#[test]
fn execute_comes_by_replacing_alone() {
    let vmo = numbered(1);
    let code = with_rights(&vmo, Rights::READ | Rights::MAP)
        .replace_as_executable()
        .expect("this process may make code");
    assert_eq!(
        rights_of(&code),
        Rights::READ | Rights::MAP | Rights::EXECUTE
    );
    assert_eq!(get(&code, 0), 1);
    let bad = Vmo::from(Handle::from_raw(0));
    assert_eq!(refused(bad.replace_as_executable()), Status::BAD_HANDLE);
    let vmar = as_vmo(Vmar::root_self());
    assert_eq!(refused(vmar.replace_as_executable()), Status::BAD_HANDLE);
}
