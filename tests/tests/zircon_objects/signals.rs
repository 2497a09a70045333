//! Signals that an object has: of children, and of the program.

use super::*;

const KINDS: [VmoChildOptions; 5] = [
    VmoChildOptions::SNAPSHOT,
    VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE,
    VmoChildOptions::SNAPSHOT_MODIFIED,
    VmoChildOptions::SLICE,
    VmoChildOptions::REFERENCE,
];

fn child(vmo: &Vmo, kind: VmoChildOptions) -> Vmo {
    let size = match kind {
        VmoChildOptions::REFERENCE => 0,
        _ => bytes(1),
    };
    vmo.create_child(kind, 0, size)
        .expect("a child of this kind can be made")
}

fn num_children(vmo: &Vmo) -> usize {
    vmo.info().expect("a VMO has info").num_children
}

#[test]
fn a_child_of_any_kind_clears_zero_children() {
    for kind in KINDS {
        let vmo = numbered(1);
        assert_eq!(signals_of(&vmo), ZERO_CHILDREN, "{kind:?}");
        let child = child(&vmo, kind);
        assert_eq!(signals_of(&vmo), Signals::NONE, "{kind:?}");
        assert_eq!(signals_of(&child), ZERO_CHILDREN, "{kind:?}");
        // All handles show the same.
        let other = with_rights(&vmo, Rights::WAIT);
        assert_eq!(signals_of(&other), Signals::NONE, "{kind:?}");
        drop(child);
        assert_eq!(wait_for(&other, ZERO_CHILDREN), Ok(ZERO_CHILDREN));
        assert_eq!(signals_of(&vmo), ZERO_CHILDREN, "{kind:?}");
    }
}

#[test]
fn so_does_a_clone_of_a_mapping() {
    let vmo = numbered(1);
    let region = Region::new(1);
    let addr = region.map(0, &vmo, 0, 1, RW);
    assert_eq!(signals_of(&vmo), ZERO_CHILDREN);
    let clone = region
        .vmar
        .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, bytes(1) as usize)
        .expect("a mapping can be cloned");
    assert_eq!(signals_of(&vmo), Signals::NONE);
    drop(clone);
    assert_eq!(wait_for(&vmo, ZERO_CHILDREN), Ok(ZERO_CHILDREN));
}

#[test]
fn a_child_that_is_not_made_changes_nothing() {
    let vmo = numbered(1);
    let kind = VmoChildOptions::SLICE;
    refused(vmo.create_child(kind, 0, bytes(2)));
    refused(vmo.create_child(VmoChildOptions::empty(), 0, bytes(1)));
    refused(with_rights(&vmo, Rights::READ).create_child(kind, 0, bytes(1)));
    assert_eq!(signals_of(&vmo), ZERO_CHILDREN);
    let _child = child(&vmo, kind);
    refused(vmo.create_child(kind, 0, bytes(2)));
    assert_eq!(signals_of(&vmo), Signals::NONE);
}

#[test]
fn the_last_child_counts() {
    let vmo = numbered(1);
    let first = child(&vmo, VmoChildOptions::SNAPSHOT);
    let second = child(&vmo, VmoChildOptions::REFERENCE);
    drop(first);
    assert_eq!(signals_of(&vmo), Signals::NONE);
    drop(second);
    assert_eq!(wait_for(&vmo, ZERO_CHILDREN), Ok(ZERO_CHILDREN));
}

#[test]
fn a_mapping_keeps_a_child_and_nothing_of_the_parent_matters() {
    for kind in KINDS {
        let vmo = numbered(1);
        let region = Region::new(2);
        region.map(0, &vmo, 0, 1, RW);
        let child = child(&vmo, kind);
        region.map(1, &child, 0, 1, RW);
        drop(child);
        assert_eq!(signals_of(&vmo), Signals::NONE, "{kind:?}");
        assert_eq!(num_children(&vmo), 1, "{kind:?}");
        region.unmap(0, 1);
        assert_eq!(signals_of(&vmo), Signals::NONE, "{kind:?}");
        region.unmap(1, 1);
        assert_eq!(wait_for(&vmo, ZERO_CHILDREN), Ok(ZERO_CHILDREN));
        assert_eq!(num_children(&vmo), 0, "{kind:?}");
    }
}

#[test]
fn children_of_an_ended_child_become_the_parents() {
    for kind in KINDS {
        let vmo = numbered(1);
        let middle = child(&vmo, VmoChildOptions::SNAPSHOT);
        let last = [child(&middle, kind), child(&middle, kind)];
        assert_eq!(signals_of(&middle), Signals::NONE);
        drop(middle);
        assert_eq!(signals_of(&vmo), Signals::NONE, "{kind:?}");
        assert_eq!(num_children(&vmo), 2, "{kind:?}");
        let [one, two] = last;
        drop(one);
        assert_eq!(signals_of(&vmo), Signals::NONE, "{kind:?}");
        assert_eq!(signals_of(&two), ZERO_CHILDREN, "{kind:?}");
        drop(two);
        assert_eq!(wait_for(&vmo, ZERO_CHILDREN), Ok(ZERO_CHILDREN));
    }
}

#[test]
fn user_signals_are_cleared_then_set() {
    let objects: [(Handle, Signals); 3] = [
        (
            Vmo::create(0).expect("a VMO can be made").into_handle(),
            ZERO_CHILDREN,
        ),
        (
            Process::self_handle()
                .expect("the engine runs")
                .into_handle(),
            Signals::NONE,
        ),
        (
            Thread::self_handle()
                .expect("the engine runs")
                .into_handle(),
            Signals::NONE,
        ),
    ];
    for (object, own) in objects {
        assert_eq!(signals_of(&object), own);
        let (a, b) = (Signals::USER_0, Signals::USER_7 | Signals::USER_3);
        assert_eq!(object.signal(Signals::NONE, a | b), Ok(()));
        assert_eq!(signals_of(&object), own | a | b);
        assert_eq!(object.signal(b, Signals::USER_3), Ok(()));
        assert_eq!(signals_of(&object), own | a | Signals::USER_3);
        // They belong to the object, not to the handle.
        let other = with_rights(&object, Rights::WAIT | Rights::SIGNAL);
        assert_eq!(other.signal(Signals::USER_ALL, Signals::NONE), Ok(()));
        assert_eq!(signals_of(&object), own);
        assert_eq!(object.signal(Signals::USER_ALL, Signals::USER_ALL), Ok(()));
        assert_eq!(signals_of(&other), own | Signals::USER_ALL);
        assert_eq!(object.signal(Signals::USER_ALL, Signals::NONE), Ok(()));
    }
}

#[test]
fn only_user_signals_can_be_changed() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let user = Signals::USER_1;
    for bit in (0..24).map(|bit| Signals::from_bits_retain(1 << bit)) {
        let both = user | bit;
        assert_eq!(vmo.signal(both, user), Err(Status::INVALID_ARGS), "{bit:?}");
        assert_eq!(vmo.signal(user, both), Err(Status::INVALID_ARGS), "{bit:?}");
    }
    assert_eq!(signals_of(&vmo), ZERO_CHILDREN);
    // What the handle lacks is told first.
    check_order(
        |handle| handle.signal(ZERO_CHILDREN, Signals::NONE),
        &vmo,
        Rights::SIGNAL,
        &[],
    );
    let vmar = Vmar::root_self();
    assert_eq!(
        vmar.signal(Signals::NONE, Signals::USER_0),
        Err(Status::ACCESS_DENIED)
    );
}
