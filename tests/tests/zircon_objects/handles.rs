//! Closing by value, unowned handles, counts, names by handles of any type.

use super::*;

#[test]
fn closing_tells_whether_it_was_a_handle() {
    let raw = Vmo::create(0)
        .expect("a VMO can be made")
        .into_handle()
        .into_raw();
    assert_eq!(Handle::close_raw(raw), Ok(()));
    assert_eq!(Handle::close_raw(raw), Err(Status::BAD_HANDLE));
    assert_eq!(Handle::close_raw(0), Ok(()));
    assert_eq!(Handle::close_raw(u32::MAX), Err(Status::BAD_HANDLE));
}

#[test]
fn closing_many_closes_all_that_are_handles() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let some = |count: usize| -> Vec<u32> {
        let handle = || with_rights(&vmo, Rights::NONE).into_handle().into_raw();
        (0..count).map(|_| handle()).collect()
    };
    let valid = |raw: u32| Unowned::<Handle>::from_raw_handle(raw).is_valid();

    assert_eq!(Handle::close_many(&[]), Ok(()));
    assert_eq!(Handle::close_many(&[0, 0]), Ok(()));
    let three = some(3);
    assert!(three.iter().all(|&raw| valid(raw)));
    assert_eq!(
        Handle::close_many(&[0, three[0], 0, three[1], three[2]]),
        Ok(())
    );
    assert!(!three.iter().any(|&raw| valid(raw)));

    let two = some(2);
    let with_a_closed_one = [two[0], three[0], two[1]];
    assert_eq!(
        Handle::close_many(&with_a_closed_one),
        Err(Status::BAD_HANDLE)
    );
    assert!(!two.iter().any(|&raw| valid(raw)));

    let two = some(2);
    let with_one_twice = [two[0], two[0], two[1]];
    assert_eq!(Handle::close_many(&with_one_twice), Err(Status::BAD_HANDLE));
    assert!(!two.iter().any(|&raw| valid(raw)));
    assert!(vmo.as_ref().is_valid());
}

#[test]
fn unowned_handles_stay_open() {
    let vmo = numbered(2);
    {
        let unowned = Unowned::<Vmo>::from_raw_handle(vmo.raw_handle());
        assert_eq!(unowned.get_size(), Ok(bytes(2)));
        assert_eq!(unowned.raw_handle(), vmo.raw_handle());
        assert!(format!("{unowned:?}").contains("Handle"));
    }
    assert_eq!(vmo.get_size(), Ok(bytes(2)));
    let wrong = Unowned::<Vmar>::from_raw_handle(vmo.raw_handle());
    assert_eq!(refused(wrong.info()), Status::WRONG_TYPE);
    let closed = Unowned::<Vmo>::from_raw_handle(closed_handle());
    assert_eq!(refused(closed.get_size()), Status::BAD_HANDLE);
    assert!(!closed.as_ref().is_valid());
}

#[test]
fn counting_handles() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let count = |vmo: &Vmo| vmo.count_info().map(|info| info.handle_count);
    assert_eq!(count(&vmo), Ok(1));
    let more = [(); 3].map(|()| with_rights(&vmo, Rights::INSPECT));
    assert_eq!(count(&vmo), Ok(4));
    assert_eq!(count(&more[0]), Ok(4));
    // Children are other objects, mappings are no handles.
    let region = Region::new(1);
    let child = vmo
        .create_child(VmoChildOptions::REFERENCE, 0, 0)
        .expect("a reference");
    region.map(0, &numbered(1), 0, 1, RW);
    assert_eq!((count(&vmo), count(&child)), (Ok(4), Ok(1)));
    drop(more);
    assert_eq!(count(&vmo), Ok(1));
    check_order(
        |handle| handle.count_info().map(drop),
        &vmo,
        Rights::INSPECT,
        &[],
    );
}

#[test]
fn a_hundred_thousand_handles() {
    const MANY: usize = 100_000;
    let vmo = Vmo::create(bytes(1)).expect("a VMO can be made");
    let handle = |_| with_rights(&vmo, Rights::READ).into_handle().into_raw();
    let raw: Vec<u32> = (0..MANY).map(handle).collect();
    assert_eq!(raw.iter().collect::<HashSet<_>>().len(), MANY);
    assert!(raw.iter().all(|raw| raw & 3 == 3));
    let count = || vmo.count_info().expect("INSPECT is there").handle_count;
    assert_eq!(count() as usize, MANY + 1);
    for &raw in &raw {
        assert_eq!(
            Unowned::<Vmo>::from_raw_handle(raw).get_size(),
            Ok(bytes(1))
        );
    }
    let (one_by_one, at_once) = raw.split_at(MANY / 2);
    for &raw in one_by_one {
        assert_eq!(Handle::close_raw(raw), Ok(()));
    }
    assert_eq!(Handle::close_many(at_once), Ok(()));
    assert_eq!(count(), 1);
}

#[test]
fn names_by_a_handle_of_any_type() {
    let name = Name::new_lossy("any type");
    let vmo = Vmo::create(0).expect("a VMO can be made").into_handle();
    vmo.set_name(&name).expect("SET_PROPERTY is there");
    assert_eq!(vmo.get_name(), Ok(name));
    assert_eq!(Vmo::from(vmo).get_name(), Ok(name));

    let vmar = Vmar::root_self().into_handle();
    assert_eq!(refused(vmar.get_name()), Status::ACCESS_DENIED);
    assert_eq!(refused(vmar.set_name(&name)), Status::ACCESS_DENIED);

    let vmo = Vmo::create(0).expect("a VMO can be made");
    check_order(
        |handle| handle.get_name().map(drop),
        &vmo,
        Rights::GET_PROPERTY,
        &[],
    );
    check_order(
        |handle| handle.set_name(&Name::default()),
        &vmo,
        Rights::SET_PROPERTY,
        &[],
    );
}

#[test]
fn types_and_rights_of_new_handles() {
    let basic = |handle: Handle| {
        let info = handle.basic_info().expect("a handle");
        (info.object_type, info.rights, info.related_koid)
    };
    let process = Process::self_handle().expect("the engine runs");
    let koid = koid_of(&process);
    let thread = Thread::self_handle().expect("the engine runs");
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let vmar = Region::new(1);
    let none = Koid::INVALID;
    assert_eq!(
        basic(process.into_handle()),
        (ObjectType::PROCESS, Rights::PROCESS_DEFAULT, none)
    );
    assert_eq!(
        basic(thread.into_handle()),
        (ObjectType::THREAD, Rights::THREAD_DEFAULT, koid)
    );
    assert_eq!(
        basic(vmo.into_handle()),
        (ObjectType::VMO, Rights::VMO_DEFAULT, none)
    );
    let vmar = basic(with_rights(&vmar.vmar, Rights::SAME_RIGHTS).into_handle());
    assert_eq!((vmar.0, vmar.2), (ObjectType::VMAR, none));
    assert!(!vmar.1.intersects(Rights::WAIT | Rights::SIGNAL));
    assert!(Rights::VMO_DEFAULT.contains(Rights::WAIT | Rights::SIGNAL));
}
