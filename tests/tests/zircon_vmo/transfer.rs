//! `zx_vmo_transfer_data`. That it moves the right bytes whatever is mapped, cloned or shared, random programs look
//! at in `transfer_model.rs`.

use super::*;
use cowspace::TransferDataOptions;

const SNAPSHOT: VmoChildOptions = VmoChildOptions::SNAPSHOT;
const SLICE: VmoChildOptions = VmoChildOptions::SLICE;
const REFERENCE: VmoChildOptions = VmoChildOptions::REFERENCE;

fn try_transfer(to: &Vmo, at: u64, len: u64, from: &Vmo, from_at: u64) -> Result<(), Status> {
    to.transfer_data(TransferDataOptions::empty(), at, len, from, from_at)
}

#[track_caller]
fn transfer(to: &Vmo, at: usize, pages: usize, from: &Vmo, from_at: usize) {
    try_transfer(to, bytes(at), bytes(pages), from, bytes(from_at)).expect("both have the range");
}

fn child(vmo: &Vmo, kind: VmoChildOptions, first: usize, pages: usize) -> Vmo {
    vmo.create_child(kind, bytes(first), bytes(pages))
        .expect("a child can be made")
}

#[test]
fn order_of_checks() {
    let (to, from) = (numbered(2), numbered(3));
    let bad = Vmo::from(Handle::from_raw(0));
    let vmar = as_vmo(with_rights(&Vmar::root_self(), Rights::NONE));
    let invalid = Err(Status::INVALID_ARGS);
    for bit in 0..32 {
        let options = TransferDataOptions::from_bits_retain(1 << bit);
        assert_eq!(bad.transfer_data(options, 0, 0, &bad, 0), invalid);
    }
    for (at, len, from_at) in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (u64::MAX, 0, 0)] {
        assert_eq!(try_transfer(&bad, at, len, &bad, from_at), invalid);
    }
    let outside = bytes(9);
    let check = |to: &Vmo, from: &Vmo| try_transfer(to, outside, outside, from, outside);
    let bare = with_rights(&from, Rights::NONE);
    assert_eq!(check(&bad, &vmar), Err(Status::BAD_HANDLE));
    assert_eq!(check(&vmar, &bad), Err(Status::WRONG_TYPE));
    assert_eq!(check(&bare, &bad), Err(Status::ACCESS_DENIED));
    let write = with_rights(&to, Rights::WRITE);
    assert_eq!(check(&write, &bad), Err(Status::BAD_HANDLE));
    assert_eq!(check(&write, &vmar), Err(Status::WRONG_TYPE));
    for rights in [Rights::READ, Rights::WRITE] {
        let from = with_rights(&from, rights);
        assert_eq!(check(&write, &from), Err(Status::ACCESS_DENIED));
    }
    let read_write = with_rights(&from, Rights::READ | Rights::WRITE);
    // To where it is, through any handles and wherever that is.
    let same = with_rights(&from, Rights::WRITE);
    assert_eq!(check(&same, &read_write), Ok(()));
    let both = try_transfer(&from, outside, outside, &from, bytes(8));
    assert_eq!(both, Err(Status::OUT_OF_RANGE));

    let out = Err(Status::OUT_OF_RANGE);
    let far = below_2_64(1);
    for (at, len, from_at) in [
        (0, bytes(2), bytes(2)),
        (0, bytes(1), bytes(3)),
        (0, 0, bytes(4)),
        (0, bytes(1), far),
        (0, far, bytes(1)),
        (bytes(1), bytes(2), 0),
        (bytes(2), bytes(1), 0),
        (bytes(3), 0, 0),
        (far, bytes(1), 0),
    ] {
        let result = try_transfer(&write, at, len, &read_write, from_at);
        assert_eq!(result, out, "{at:#x} {len:#x} {from_at:#x}");
    }
    assert_eq!(
        (firsts(&to, 2), firsts(&from, 3)),
        (vec![1, 2], vec![1, 2, 3])
    );
    assert_eq!(
        try_transfer(&write, bytes(2), 0, &read_write, bytes(3)),
        Ok(())
    );
    assert_eq!(
        try_transfer(&write, bytes(1), bytes(1), &read_write, bytes(2)),
        Ok(())
    );
    assert_eq!(
        (firsts(&to, 2), firsts(&from, 3)),
        (vec![1, 3], vec![1, 2, 0])
    );
}

#[test]
fn pages_change_their_owner() {
    for policy in [None, Some(Policy::Traced), Some(Policy::Native)] {
        let (to, from) = (numbered(4), numbered(4));
        let (seen, given) = (Region::new(4), Region::new(4));
        if let Some(policy) = policy {
            seen.map_with(0, &to, 4, RW, policy);
            given.map_with(0, &from, 4, RW, policy);
            // Stored, and only read, through a mapping.
            memory(given.at(2), 1).store_u8(0, 33);
        } else {
            put(&from, 2, 33);
        }
        transfer(&to, 1, 2, &from, 2);
        assert_eq!(firsts(&to, 4), [1, 33, 4, 4], "{policy:?}");
        assert_eq!(firsts(&from, 4), [1, 2, 0, 0], "{policy:?}");
        assert_eq!((populated(&to), populated(&from)), (bytes(4), bytes(2)));
        if policy.is_some() {
            let (seen, given) = (
                memory(seen.base, 4 * page()),
                memory(given.base, 4 * page()),
            );
            assert_eq!((seen.load_u8(page()), seen.load_u8(2 * page())), (33, 4));
            assert_eq!(
                (given.load_u8(2 * page()), given.load_u8(3 * page())),
                (0, 0)
            );
            // And both can be written again.
            given.store_u8(2 * page(), 5);
            seen.store_u8(page(), 6);
            assert_eq!((get(&from, 2), get(&to, 1)), (5, 6));
        }
    }
}

#[test]
fn a_page_of_zeros_is_a_page() {
    let (to, from) = (
        numbered(3),
        Vmo::create(bytes(3)).expect("a VMO can be made"),
    );
    from.op_range(COMMIT, 0, bytes(2)).expect("inside");
    transfer(&to, 0, 3, &from, 0);
    assert_eq!(firsts(&to, 3), [0; 3]);
    // Two committed pages, and one that was never there.
    assert_eq!((populated(&to), populated(&from)), (bytes(2), 0));
}

#[test]
fn what_was_only_read_is_no_page() {
    for policy in POLICIES {
        let (to, from) = (
            numbered(2),
            Vmo::create(bytes(2)).expect("a VMO can be made"),
        );
        let region = Region::new(2);
        region.map_with(0, &from, 2, RW, policy);
        assert_eq!(memory(region.at(1), 1).load_u8(0), 0);
        transfer(&to, 0, 2, &from, 0);
        assert_eq!((firsts(&to, 2), populated(&to)), (vec![0, 0], 0));
    }
}

#[test]
fn untouched_pages_hide_what_was_there() {
    let empty = Vmo::create(bytes(4)).expect("a VMO can be made");
    let parent = numbered(4);
    let clone = child(&parent, SNAPSHOT, 0, 4);
    transfer(&clone, 1, 2, &empty, 0);
    assert_eq!(firsts(&clone, 4), [1, 0, 0, 4]);
    assert_eq!(firsts(&parent, 4), [1, 2, 3, 4]);
    transfer(&parent, 0, 1, &empty, 3);
    assert_eq!((get(&parent, 0), get(&clone, 0)), (0, 1));
}

#[test]
fn relatives_of_the_source_keep_what_they_see() {
    for policy in [None, Some(Policy::Traced), Some(Policy::Native)] {
        // The source is a child with an offset; and then the parent.
        let parent = numbered(6);
        let clone = child(&parent, SNAPSHOT, 2, 4);
        let sibling = child(&clone, SNAPSHOT, 0, 4);
        put(&clone, 3, 66);
        let regions = [Region::new(6), Region::new(4), Region::new(4)];
        if let Some(policy) = policy {
            for (region, (vmo, pages)) in
                regions
                    .iter()
                    .zip([(&parent, 6), (&clone, 4), (&sibling, 4)])
            {
                region.map_with(0, vmo, pages, RW, policy);
                let _ = memory(region.at(1), 1).load_u8(0);
            }
        }
        let to = numbered(4);
        transfer(&to, 0, 4, &clone, 0);
        assert_eq!(firsts(&to, 4), [3, 4, 5, 66]);
        assert_eq!((firsts(&clone, 4), populated(&clone)), (vec![0; 4], 0));
        assert_eq!(firsts(&parent, 6), [1, 2, 3, 4, 5, 6]);
        assert_eq!(firsts(&sibling, 4), [3, 4, 5, 6]);
        assert_eq!(populated(&to), bytes(4));
        transfer(&to, 0, 4, &parent, 1);
        assert_eq!(firsts(&to, 4), [2, 3, 4, 5]);
        assert_eq!(firsts(&parent, 6), [1, 0, 0, 0, 0, 6]);
        assert_eq!(firsts(&sibling, 4), [3, 4, 5, 6]);
        // With the parent gone as well.
        drop(parent);
        drop(regions);
        transfer(&to, 0, 4, &sibling, 0);
        assert_eq!(firsts(&to, 4), [3, 4, 5, 6]);
        assert_eq!(firsts(&sibling, 4), [0; 4]);
    }
}

#[test]
fn relatives_of_the_destination_keep_what_they_see() {
    for policy in [None, Some(Policy::Traced), Some(Policy::Native)] {
        let parent = numbered(4);
        let clone = child(&parent, SNAPSHOT, 1, 3);
        let regions = [Region::new(4), Region::new(3)];
        if let Some(policy) = policy {
            regions[0].map_with(0, &parent, 4, RW, policy);
            regions[1].map_with(0, &clone, 3, RW, policy);
        }
        transfer(&parent, 0, 3, &numbered(3), 0);
        assert_eq!(firsts(&parent, 4), [1, 2, 3, 4]);
        let from = numbered(9);
        transfer(&parent, 1, 2, &from, 7);
        assert_eq!(firsts(&parent, 4), [1, 8, 9, 4]);
        assert_eq!(firsts(&clone, 3), [2, 3, 4]);
        transfer(&clone, 0, 2, &from, 5);
        assert_eq!(firsts(&clone, 3), [6, 7, 4]);
        assert_eq!(firsts(&parent, 4), [1, 8, 9, 4]);
    }
}

#[test]
fn within_a_family() {
    // Both sides lie in layers, so that pages only change their owner; and then one side is changed or mapped.
    for changed in [None, Some(0), Some(1)] {
        for policy in [None, Some(Policy::Traced), Some(Policy::Native)] {
            let parent = numbered(5);
            let (one, other) = (
                child(&parent, SNAPSHOT, 0, 5),
                child(&parent, SNAPSHOT, 1, 4),
            );
            let region = Region::new(5);
            if let Some(changed) = changed {
                put([&one, &other][changed], 0, 77);
                if let Some(policy) = policy {
                    let vmo = [&one, &other][changed];
                    region.map_with(0, vmo, 5 - changed, RW, policy);
                    let _ = memory(region.at(2), 1).load_u8(0);
                }
            }
            let mut moved = firsts(&other, 4);
            transfer(&one, 1, 3, &other, 0);
            moved.truncate(3);
            let expected = [&[get(&one, 0)], &moved[..], &[5]].concat();
            assert_eq!(firsts(&one, 5), expected);
            assert_eq!(firsts(&other, 4), [0, 0, 0, 5]);
            assert_eq!((populated(&one), populated(&other)), (bytes(5), bytes(1)));
            assert_eq!(firsts(&parent, 5), [1, 2, 3, 4, 5]);
            drop(parent);
            drop(other);
            assert_eq!(firsts(&one, 5), expected);
            // A snapshot of what was moved.
            let clone = child(&one, SNAPSHOT, 0, 5);
            put(&one, 1, 9);
            assert_eq!(firsts(&clone, 5), expected);
        }
    }
}

#[test]
fn overlapping_ranges_move_as_memmove() {
    const PAGES: usize = 150;
    let value = |page: usize| (page % 251) as u8 + 1;
    for policy in [None, Some(Policy::Traced), Some(Policy::Native)] {
        for (to, from, len) in [
            (0, 1, 149),
            (1, 0, 149),
            (10, 50, 100),
            (50, 10, 100),
            (3, 0, 2),
        ] {
            let vmo = Vmo::create(bytes(PAGES)).expect("a VMO can be made");
            let region = Region::new(PAGES);
            if let Some(policy) = policy {
                region.map_with(0, &vmo, PAGES, RW, policy);
            }
            // Every fourth page is untouched.
            let mut model: Vec<u8> = (0..PAGES).map(value).collect();
            for (page, byte) in model.iter_mut().enumerate() {
                if page % 4 == 3 {
                    *byte = 0;
                } else {
                    put(&vmo, page, *byte);
                }
            }
            transfer(&vmo, to, len, &vmo, from);
            let moved = model[from..from + len].to_vec();
            model[from..from + len].fill(0);
            model[to..to + len].copy_from_slice(&moved);
            assert_eq!(firsts(&vmo, PAGES), model, "{policy:?} {from} to {to}");
            let held = model.iter().filter(|&&byte| byte != 0).count();
            assert_eq!(populated(&vmo), bytes(held));
            if policy.is_some() {
                let pages = memory(region.base, PAGES * page());
                for (at, &value) in model.iter().enumerate() {
                    assert_eq!(pages.load_u8(at * page()), value);
                }
            }
        }
    }
}

#[test]
fn slices_and_references_are_the_memory_itself() {
    let (to, from) = (numbered(6), numbered(6));
    let (into, out) = (child(&to, SLICE, 1, 4), child(&from, SLICE, 2, 3));
    transfer(&into, 1, 2, &out, 0);
    assert_eq!(firsts(&to, 6), [1, 2, 3, 4, 5, 6]);
    assert_eq!(firsts(&from, 6), [1, 2, 0, 0, 5, 6]);
    transfer(&into, 0, 1, &out, 2);
    assert_eq!((firsts(&to, 2), get(&from, 4)), (vec![1, 5], 0));
    // Held against the slice, not against the VMO.
    let outside = try_transfer(&to, 0, bytes(2), &out, bytes(2));
    assert_eq!(outside, Err(Status::OUT_OF_RANGE));
    let outside = try_transfer(&into, bytes(3), bytes(2), &from, 0);
    assert_eq!(outside, Err(Status::OUT_OF_RANGE));

    // Two names of the same memory.
    let vmo = numbered(6);
    let (reference, slice) = (child(&vmo, REFERENCE, 0, 0), child(&vmo, SLICE, 2, 4));
    for same in [&reference, &vmo] {
        transfer(same, 0, 6, &vmo, 0);
        transfer(&vmo, 0, 6, same, 0);
        transfer(same, 2, 4, &slice, 0);
        transfer(&slice, 1, 2, same, 3);
        assert_eq!(firsts(&vmo, 6), [1, 2, 3, 4, 5, 6]);
    }
    assert_eq!(populated(&vmo), bytes(6));
    transfer(&reference, 1, 3, &slice, 0);
    assert_eq!(firsts(&vmo, 6), [1, 3, 4, 5, 0, 6]);
    transfer(&slice, 1, 3, &vmo, 1);
    assert_eq!(firsts(&vmo, 6), [1, 0, 0, 3, 4, 5]);
}

#[test]
fn a_transfer_costs_what_is_there() {
    let size = below_2_64(64);
    let (to, from) = (Vmo::create(size), Vmo::create(size));
    let (to, from) = (to.expect("size costs nothing"), from.expect("nor here"));
    for vmo in [&to, &from] {
        put(vmo, 5, 1);
    }
    from.write(&[7], size - 1).expect("inside");
    to.write(&[8], size / 2).expect("inside");
    try_transfer(&to, 0, size, &from, 0).expect("both have the range");
    assert_eq!((populated(&to), populated(&from)), (bytes(2), 0));
    let mut byte = [0];
    to.read(&mut byte, size - 1).expect("inside");
    assert_eq!((get(&to, 5), byte[0]), (1, 7));
    // To and fro within one.
    let half = size / 2;
    try_transfer(&to, 0, half, &to, half).expect("both have the range");
    to.read(&mut byte, half - 1).expect("inside");
    assert_eq!((byte[0], populated(&to)), (7, bytes(1)));
}

#[test]
fn relatives_may_be_busy_meanwhile() {
    const PAGES: usize = 64;
    let parent = numbered(PAGES);
    let (from, to) = (child(&parent, SNAPSHOT, 0, PAGES), numbered(PAGES));
    let expected: Vec<u8> = (1..=PAGES as u8).collect();
    std::thread::scope(|scope| {
        let relatives = scope.spawn(|| {
            for round in 0..40 {
                put(&parent, round % PAGES, 99);
                let options = SNAPSHOT | VmoChildOptions::RESIZABLE;
                let child = child(&parent, options, 0, PAGES);
                child.set_size(bytes(round % PAGES)).expect("smaller");
                drop(child);
            }
        });
        for _ in 0..20 {
            transfer(&to, 0, PAGES, &from, 0);
            transfer(&from, 0, PAGES, &to, 0);
        }
        relatives.join().expect("the other thread does not fail");
    });
    assert_eq!(firsts(&from, PAGES), expected);
    assert_eq!((populated(&to), populated(&from)), (0, bytes(PAGES)));
}
