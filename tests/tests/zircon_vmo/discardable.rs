//! Discardable VMOs and their locks, and the one cache policy there is.

use super::*;
use cowspace::VmoLockState;

const LOCK: VmoOp = VmoOp::LOCK;
const TRY_LOCK: VmoOp = VmoOp::TRY_LOCK;
const UNLOCK: VmoOp = VmoOp::UNLOCK;

fn discardable(pages: usize) -> Vmo {
    Vmo::create_with_opts(VmoOptions::DISCARDABLE, bytes(pages)).expect("a VMO can be made")
}

#[test]
fn object_info_says_so() {
    let flags = |vmo: Vmo| vmo.info().expect("a VMO has info").flags;
    assert!(flags(discardable(1)).contains(VmoInfoFlags::DISCARDABLE));
    assert!(!flags(numbered(1)).contains(VmoInfoFlags::DISCARDABLE));
}

#[test]
fn locks_are_counted() {
    let (vmo, size) = (discardable(2), bytes(2));
    assert_eq!(vmo.op_range(UNLOCK, 0, size), Err(Status::BAD_STATE));
    let locked = VmoLockState {
        offset: 0,
        size,
        discarded_offset: 0,
        discarded_size: 0,
    };
    assert_eq!(vmo.lock(0, size), Ok(locked));
    assert_eq!(vmo.op_range(TRY_LOCK, 0, size), Ok(()));
    assert_eq!(vmo.lock(0, size), Ok(locked));
    for _ in 0..3 {
        assert_eq!(vmo.op_range(UNLOCK, 0, size), Ok(()));
    }
    assert_eq!(vmo.op_range(UNLOCK, 0, size), Err(Status::BAD_STATE));
    assert_eq!(populated(&vmo), 0, "locking commits nothing");
    // Never discarded is allowed.
    put(&vmo, 1, 7);
    assert_eq!(vmo.op_range(TRY_LOCK, 0, size), Ok(()));
    assert_eq!((get(&vmo, 1), populated(&vmo)), (7, bytes(1)));
}

#[test]
fn order_of_checks_of_locking() {
    let (vmo, size) = (discardable(2), bytes(2));
    let ranges = [
        (0, 0),
        (0, bytes(1)),
        (0, size + 1),
        (bytes(1), bytes(1)),
        (1, size),
        (size, 0),
        (0, u64::MAX),
        (u64::MAX, u64::MAX),
    ];
    let neither = with_rights(&vmo, Rights::MAP | Rights::DUPLICATE);
    for op in [LOCK, TRY_LOCK, UNLOCK] {
        assert_eq!(neither.op_range(op, 1, 1), Err(Status::ACCESS_DENIED));
        for (offset, len) in ranges {
            let result = vmo.op_range(op, offset, len);
            assert_eq!(result, Err(Status::OUT_OF_RANGE), "{op:?} {offset} {len}");
        }
    }
    for (offset, len) in ranges {
        assert_eq!(vmo.lock(offset, len), Err(Status::OUT_OF_RANGE));
    }
    assert_eq!(neither.lock(0, size), Err(Status::ACCESS_DENIED));
    assert_eq!(numbered(2).lock(1, 1), Err(Status::NOT_SUPPORTED));
    assert_eq!(
        as_vmo(Vmar::root_self()).lock(0, 0),
        Err(Status::WRONG_TYPE)
    );
    let bad = Vmo::from(Handle::from_raw(0));
    assert_eq!(bad.lock(0, size), Err(Status::BAD_HANDLE));
    // Without a place for the state there is no lock, and none remains.
    assert_eq!(vmo.op_range(LOCK, 0, size), Err(Status::INVALID_ARGS));
    assert_eq!(vmo.op_range(UNLOCK, 0, size), Err(Status::BAD_STATE));
    for right in [Rights::READ, Rights::WRITE] {
        let one = with_rights(&vmo, right);
        assert!(one.lock(0, size).is_ok());
        assert_eq!(one.op_range(UNLOCK, 0, size), Ok(()));
    }
}

#[test]
fn the_range_of_a_lock_follows_the_size() {
    let options = VmoOptions::DISCARDABLE | VmoOptions::RESIZABLE;
    let vmo = Vmo::create_with_opts(options, 1).expect("a VMO can be made");
    assert!(vmo.lock(0, bytes(1)).is_ok());
    vmo.set_size(bytes(3)).expect("larger");
    assert_eq!(vmo.lock(0, bytes(1)), Err(Status::OUT_OF_RANGE));
    assert_eq!(vmo.op_range(UNLOCK, 0, bytes(3)), Ok(()));
    let options = VmoOptions::DISCARDABLE | VmoOptions::UNBOUNDED;
    let vmo = Vmo::create_with_opts(options, 1).expect("a VMO can be made");
    assert!(vmo.lock(0, below_2_64(64)).is_ok());
}

#[test]
fn no_children_of_any_kind() {
    let vmo = discardable(2);
    let kinds = [
        VmoChildOptions::SNAPSHOT,
        VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE,
        VmoChildOptions::SNAPSHOT_MODIFIED,
        VmoChildOptions::SLICE,
        VmoChildOptions::REFERENCE,
        // Before the options are looked at.
        VmoChildOptions::empty(),
        VmoChildOptions::from_bits_retain(1 << 20),
    ];
    for kind in kinds {
        let child = vmo.create_child(kind, 0, 0);
        assert_eq!(refused(child), Status::NOT_SUPPORTED, "{kind:?}");
    }
    // Behind the size, options that contradict each other, and the rights.
    let kind = VmoChildOptions::SNAPSHOT;
    let child = vmo.create_child(kind, 0, u64::MAX);
    assert_eq!(refused(child), Status::OUT_OF_RANGE);
    let both = kind | VmoChildOptions::NO_WRITE | VmoChildOptions::RESIZABLE;
    let child = vmo.create_child(both, 0, 0);
    assert_eq!(refused(child), Status::INVALID_ARGS);
    let child = with_rights(&vmo, Rights::DUPLICATE).create_child(kind, 0, 0);
    assert_eq!(refused(child), Status::ACCESS_DENIED);

    let region = Region::new(2);
    region.map(0, &vmo, 0, 2, RW | VmarFlags::ALLOW_FAULTS);
    let child = region.vmar.create_vmo_child(kind, region.base, page());
    assert_eq!(refused(child), Status::NOT_SUPPORTED);
    assert_eq!(vmo.info().expect("a VMO has info").num_children, 0);
}

#[test]
fn mapping_allows_faults() {
    let vmo = discardable(2);
    let region = Region::new(4);
    let without = region.try_map(0, &vmo, 0, 2, RW);
    assert_eq!(without, Err(Status::NOT_SUPPORTED));
    // Behind the options that are wrong for any VMO, before those of placement.
    let unknown = region.try_map(0, &vmo, 0, 2, RW | VmarFlags::from_bits_retain(1 << 20));
    assert_eq!(unknown, Err(Status::INVALID_ARGS));
    let compact = region.try_map(0, &vmo, 0, 2, RW | VmarFlags::COMPACT);
    assert_eq!(compact, Err(Status::NOT_SUPPORTED));

    region.map(0, &vmo, 0, 2, RW | VmarFlags::ALLOW_FAULTS);
    let pages = memory(region.base, 2 * page());
    pages.store_u8(page(), 8);
    assert_eq!((get(&vmo, 1), populated(&vmo)), (8, bytes(1)));
}

#[test]
fn the_cache_policy_is_cached() {
    let vmo = numbered(2);
    let policies = [
        CachePolicy::Uncached,
        CachePolicy::UncachedDevice,
        CachePolicy::WriteCombining,
    ];
    assert_eq!(vmo.set_cache_policy(CachePolicy::Cached), Ok(()));
    for (number, policy) in (1..).zip(policies) {
        assert_eq!(vmo.set_cache_policy(policy), Err(Status::NOT_SUPPORTED));
        assert_eq!(vmo.set_cache_policy(number), Err(Status::NOT_SUPPORTED));
    }
    assert_eq!(vmo.set_cache_policy(0), Ok(()));

    // The order: handle, type, right, number, state, and then the policy.
    let bad = Vmo::from(Handle::from_raw(0));
    assert_eq!(bad.set_cache_policy(9), Err(Status::BAD_HANDLE));
    let vmar = as_vmo(with_rights(&Vmar::root_self(), Rights::NONE));
    assert_eq!(vmar.set_cache_policy(9), Err(Status::WRONG_TYPE));
    let without = with_rights(&vmo, Rights::VMO_DEFAULT - Rights::MAP);
    assert_eq!(without.set_cache_policy(9), Err(Status::ACCESS_DENIED));
    let region = Region::new(2);
    region.map(0, &vmo, 0, 2, RW);
    assert_eq!(vmo.set_cache_policy(4), Err(Status::INVALID_ARGS));
    assert_eq!(vmo.set_cache_policy(u32::MAX), Err(Status::INVALID_ARGS));
    assert_eq!(vmo.set_cache_policy(0), Err(Status::BAD_STATE));
    assert_eq!(vmo.set_cache_policy(1), Err(Status::BAD_STATE));
    region.unmap(0, 2);
    assert_eq!(vmo.set_cache_policy(0), Ok(()));
    for kind in [
        VmoChildOptions::SNAPSHOT,
        VmoChildOptions::SLICE,
        VmoChildOptions::REFERENCE,
    ] {
        let size = if kind == VmoChildOptions::REFERENCE {
            0
        } else {
            bytes(1)
        };
        let child = vmo.create_child(kind, 0, size).expect("a child");
        assert_eq!(vmo.set_cache_policy(0), Err(Status::BAD_STATE), "{kind:?}");
        assert_eq!(
            child.set_cache_policy(0),
            Err(Status::BAD_STATE),
            "{kind:?}"
        );
        drop(child);
        assert_eq!(vmo.set_cache_policy(0), Ok(()));
    }
    assert_eq!(firsts(&vmo, 2), [1, 2]);
}
