//! Handles of VMARs: order of checks, and rights.

use super::*;

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
