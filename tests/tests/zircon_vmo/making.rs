//! Making VMOs, small and as large as can be.

use test_share::share;

use super::*;

#[test]
fn options_and_sizes_of_create() {
    let known = [
        VmoOptions::RESIZABLE,
        VmoOptions::DISCARDABLE,
        VmoOptions::UNBOUNDED,
    ];
    for bit in 0..32 {
        let options = VmoOptions::from_bits_retain(1 << bit);
        let result = Vmo::create_with_opts(options, bytes(1));
        if known.contains(&options) {
            let mut rights = Rights::VMO_DEFAULT;
            rights.set(Rights::RESIZE, options == VmoOptions::RESIZABLE);
            assert_eq!(rights_of(&result.expect("a known option")), rights);
        } else {
            assert_eq!(refused(result), Status::INVALID_ARGS, "{options:?}");
        }
    }
    let both = VmoOptions::RESIZABLE | VmoOptions::UNBOUNDED;
    let result = Vmo::create_with_opts(both, bytes(1));
    assert_eq!(refused(result), Status::INVALID_ARGS);
    let nonsense = VmoOptions::all();
    let result = Vmo::create_with_opts(nonsense, u64::MAX);
    assert_eq!(
        refused(result),
        Status::OUT_OF_RANGE,
        "the size comes first"
    );

    let size = page() as u64;
    for (asked, given) in [(0, 0), (1, size), (size, size), (size + 1, 2 * size)] {
        let vmo = Vmo::create(asked).expect("a small VMO can be made");
        assert_eq!(vmo.get_size(), Ok(given));
        assert_eq!(rights_of(&vmo).bits(), 0xd0ef);
    }
    for size in [u64::MAX, below_2_64(1) + 1, below_2_64(1)] {
        assert_eq!(
            refused(Vmo::create(size)),
            Status::OUT_OF_RANGE,
            "{size:#x}"
        );
    }
}

#[test]
fn a_new_vmo_is_zero_and_holds_nothing() {
    let vmo = Vmo::create(bytes(3)).expect("a VMO can be made");
    assert_eq!(firsts(&vmo, 3), [0; 3]);
    let info = vmo.info().expect("a VMO has info");
    assert_eq!(info.name, Name::default());
    assert_eq!(info.parent_koid, Koid::INVALID);
    assert_eq!((info.num_children, info.num_mappings), (0, 0));
    assert_eq!(
        info.flags,
        VmoInfoFlags::TYPE_PAGED | VmoInfoFlags::VIA_HANDLE
    );
    assert_eq!(info.cache_policy, CachePolicy::Cached);
    assert_eq!((info.committed_bytes, info.populated_bytes), (0, 0));
    assert_eq!(info.handle_rights, Rights::VMO_DEFAULT);
    let flags = resizable(1).info().expect("a VMO has info").flags;
    assert!(flags.contains(VmoInfoFlags::RESIZABLE));
}

#[test]
fn the_largest_vmo_costs_nothing() {
    let size = below_2_64(64);
    let vmo = Vmo::create(size).expect("2^64 - 64 pages is a size");
    assert_eq!(vmo.get_size(), Ok(size));
    let mut byte = [1];
    for offset in [0, size / 2, size - 1] {
        vmo.read(&mut byte, offset).expect("a byte inside");
        assert_eq!(byte, [0]);
    }
    assert_eq!(vmo.read(&mut byte, size), Err(Status::OUT_OF_RANGE));
    assert_eq!(vmo.read(&mut [], size), Ok(()));
    for offset in [0, size - 1] {
        vmo.write(&[7], offset).expect("that is memory");
        vmo.read(&mut byte, offset).expect("a byte inside");
        assert_eq!(byte, [7]);
    }

    let child = vmo
        .create_child(VmoChildOptions::SNAPSHOT, 0, size)
        .expect("a snapshot costs nothing either");
    vmo.op_range(ZERO, 0, size)
        .expect("all of it can be zeroed");
    assert_eq!((get(&vmo, 0), populated(&vmo)), (0, 0));
    assert_eq!((get(&child, 0), populated(&child)), (7, bytes(2)));
    child.read(&mut byte, size - 1).expect("a byte inside");
    assert_eq!(byte, [7]);

    let vmo = resizable(1);
    put(&vmo, 0, 7);
    vmo.set_size(size).expect("2^64 - 64 pages is a size");
    assert_eq!((get(&vmo, 0), populated(&vmo)), (7, bytes(1)));
    vmo.set_size(bytes(1)).expect("smaller");
    assert_eq!(get(&vmo, 0), 7);
}

#[test]
fn tens_of_gigabytes_cost_what_is_touched() {
    // Slow machines may look at each page of it.
    let size = (share(48) as usize) << 30;
    for policy in POLICIES {
        let vmo = Vmo::create(size as u64).expect("a large VMO can be made");
        let root = Vmar::root_self();
        let addr = root
            .map_with_policy(0, &vmo, 0, size, RW, policy)
            .expect("the root VMAR has at least 128 GiB");
        let (first, last) = (memory(addr, 1), memory(addr + size - 1, 1));
        assert_eq!((first.load_u8(0), last.load_u8(0)), (0, 0));
        first.store_u8(0, 1);
        last.store_u8(0, 2);
        let child = root
            .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, size)
            .expect("one mapping");
        first.store_u8(0, 3);
        last.store_u8(0, 4);
        let mut ends = [0; 2];
        child.read(&mut ends[..1], 0).expect("inside");
        child.read(&mut ends[1..], size as u64 - 1).expect("inside");
        assert_eq!(ends, [1, 2]);
        assert_eq!(populated(&vmo), bytes(2));
        assert_eq!(populated(&child), bytes(2));
        let second = root
            .map_with_policy(0, &child, 0, size, RW, policy)
            .expect("the root VMAR has at least 128 GiB");
        memory(second + size - 1, 1).store_u8(0, 5);
        assert_eq!(last.load_u8(0), 4);
        vmo.op_range(ZERO, 0, size as u64).expect("all of it");
        assert_eq!((first.load_u8(0), last.load_u8(0)), (0, 0));
        assert_eq!(memory(second, 1).load_u8(0), 1);
        root.unmap(addr, size).expect("it is mapped");
        root.unmap(second, size).expect("it is mapped");
    }
}

#[test]
fn unbounded_vmos_are_as_large_as_can_be() {
    let asked = bytes(1) + 10;
    let vmo = Vmo::create_with_opts(VmoOptions::UNBOUNDED, asked).expect("a VMO can be made");
    let size = below_2_64(64);
    assert_eq!(
        (vmo.get_size(), vmo.get_stream_size()),
        (Ok(size), Ok(asked))
    );
    assert_eq!(rights_of(&vmo), Rights::VMO_DEFAULT);
    assert_eq!(vmo.set_size(bytes(1)), Err(Status::UNAVAILABLE));
    put(&vmo, 3, 7);
    assert_eq!((get(&vmo, 3), populated(&vmo)), (7, bytes(1)));
    vmo.set_stream_size(bytes(3)).expect("it has room");
    assert_eq!((get(&vmo, 3), populated(&vmo)), (0, 0));
    vmo.set_stream_size(size).expect("its own size");
    assert_eq!(vmo.set_stream_size(size + 1), Err(Status::OUT_OF_RANGE));
    let too_large = Vmo::create_with_opts(VmoOptions::UNBOUNDED, below_2_64(63));
    assert_eq!(refused(too_large), Status::OUT_OF_RANGE);
}
