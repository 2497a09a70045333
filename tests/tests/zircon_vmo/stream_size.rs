//! The stream size: where it comes from, what setting it does, and mappings that end with it.

use super::*;
use cowspace::image::Image;

const BEYOND: VmarFlags = VmarFlags::FAULT_BEYOND_STREAM_SIZE.union(VmarFlags::ALLOW_FAULTS);

fn child(vmo: &Vmo, kind: VmoChildOptions, offset: u64, size: u64) -> Vmo {
    vmo.create_child(kind, offset, size)
        .expect("a child can be made")
}

#[test]
fn it_starts_as_asked_for() {
    for asked in [0, 1, bytes(1), bytes(1) + 5] {
        for options in [VmoOptions::empty(), VmoOptions::RESIZABLE] {
            let vmo = Vmo::create_with_opts(options, asked).expect("a VMO can be made");
            assert_eq!(vmo.get_stream_size(), Ok(asked));
            assert_eq!(vmo.get_content_size(), Ok(asked));
        }
    }
    let vmo = numbered(4);
    for kind in [
        VmoChildOptions::SNAPSHOT,
        VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE,
        VmoChildOptions::SNAPSHOT_MODIFIED,
        VmoChildOptions::SLICE,
    ] {
        let child = child(&vmo, kind, bytes(1), bytes(1) + 5);
        assert_eq!(child.get_stream_size(), Ok(bytes(1) + 5), "{kind:?}");
        assert_eq!(child.get_size(), Ok(bytes(2)));
        // What lies behind it is content all the same.
        assert_eq!(firsts(&child, 2), [2, 3]);
        child.set_stream_size(1).expect("inside");
        assert_eq!(vmo.get_stream_size(), Ok(bytes(4)), "each has its own");
        vmo.write(&[2], bytes(1)).expect("inside");
        (2..4).for_each(|page| put(&vmo, page, page as u8 + 1));
    }
    let region = Region::new(4);
    region.map(0, &vmo, 0, 4, RW);
    let kind = VmoChildOptions::SNAPSHOT;
    let child = region.vmar.create_vmo_child(kind, region.at(1), 2 * page());
    assert_eq!(child.expect("mapped").get_stream_size(), Ok(bytes(2)));
}

#[test]
fn images_carry_it() {
    let clone = child(&numbered(2), VmoChildOptions::SNAPSHOT, 0, bytes(1) + 5);
    let image = Image::capture(&[&clone]).expect("nobody has written to it");
    let layers = image.layers().into_iter();
    let layers = layers.map(|layer| layer.try_clone_to_owned().expect("a descriptor"));
    let built = Image::build(image.records().to_vec(), layers.collect()).expect("it was captured");
    assert_eq!(built[0].get_stream_size(), Ok(bytes(1) + 5));
    assert_eq!(firsts(&built[0], 2), [1, 2]);
}

#[test]
fn references_share_it() {
    let vmo = resizable(4);
    let one = child(&vmo, VmoChildOptions::REFERENCE, 0, 0);
    let kind = VmoChildOptions::REFERENCE | VmoChildOptions::RESIZABLE;
    let other = child(&vmo, kind, 0, 0);
    one.set_stream_size(bytes(1) + 1).expect("inside");
    assert_eq!(vmo.get_stream_size(), Ok(bytes(1) + 1));
    vmo.set_stream_size(7).expect("inside");
    assert_eq!(one.get_stream_size(), Ok(7));
    other.set_size(bytes(2) - 1).expect("smaller");
    for each in [&vmo, &one, &other] {
        assert_eq!(each.get_stream_size(), Ok(bytes(2) - 1));
    }
    drop(vmo);
    one.set_stream_size(9).expect("inside");
    assert_eq!(other.get_stream_size(), Ok(9));
}

#[test]
fn set_size_sets_it() {
    let vmo = resizable(2);
    for size in [bytes(1) + 3, bytes(5) - 1, 0, 1, bytes(2)] {
        vmo.set_size(size).expect("a size it can have");
        assert_eq!(vmo.get_stream_size(), Ok(size));
    }
    assert_eq!(vmo.set_size(u64::MAX), Err(Status::OUT_OF_RANGE));
    assert_eq!(vmo.get_stream_size(), Ok(bytes(2)));
}

#[test]
fn order_of_checks() {
    let vmo = numbered(2);
    let beyond = bytes(2) + 1;
    let bad = Vmo::from(Handle::from_raw(0));
    let vmar = as_vmo(with_rights(&Vmar::root_self(), Rights::NONE));
    for (vmo, status) in [(&bad, Status::BAD_HANDLE), (&vmar, Status::WRONG_TYPE)] {
        assert_eq!(vmo.get_stream_size(), Err(status));
        assert_eq!(vmo.set_stream_size(beyond), Err(status));
        assert_eq!(vmo.get_content_size(), Err(status));
        assert_eq!(vmo.set_content_size(beyond), Err(status));
    }
    let bare = with_rights(&vmo, Rights::NONE);
    assert_eq!(bare.get_stream_size(), Ok(bytes(2)));
    let denied = Err(Status::ACCESS_DENIED);
    let without = |right| with_rights(&vmo, Rights::VMO_DEFAULT - right);
    assert_eq!(without(Rights::WRITE).set_stream_size(beyond), denied);
    assert_eq!(without(Rights::WRITE).set_content_size(1), denied);
    assert_eq!(without(Rights::SET_PROPERTY).set_content_size(1), denied);
    let get = without(Rights::GET_PROPERTY).get_content_size();
    assert_eq!(get, Err(Status::ACCESS_DENIED));
    assert_eq!(vmo.set_stream_size(beyond), Err(Status::OUT_OF_RANGE));
    assert_eq!(vmo.set_stream_size(u64::MAX), Err(Status::OUT_OF_RANGE));
    assert_eq!(vmo.get_stream_size(), Ok(bytes(2)));
    assert_eq!(firsts(&vmo, 2), [1, 2]);
    let write = with_rights(&vmo, Rights::WRITE);
    assert_eq!(write.set_stream_size(bytes(1)), Ok(()));
    let both = with_rights(&vmo, Rights::WRITE | Rights::SET_PROPERTY);
    assert_eq!(both.set_content_size(5), Ok(()));
    let get = with_rights(&vmo, Rights::GET_PROPERTY);
    assert_eq!(get.get_content_size(), Ok(5));
}

/// Checks that exactly the bytes `zeroed..end` of a VMO that was all ones are zero.
#[track_caller]
fn zeroed_from(vmo: &Vmo, zeroed: u64) {
    let mut read = vec![9; vmo.get_size().expect("a VMO has a size") as usize];
    vmo.read(&mut read, 0).expect("inside");
    let first = read.iter().position(|&byte| byte == 0);
    assert_eq!(first.unwrap_or(read.len()) as u64, zeroed);
    assert!(read[zeroed as usize..].iter().all(|&byte| byte == 0));
}

#[test]
fn setting_it_zeroes_what_lies_behind() {
    let ones = vec![1; 4 * page()];
    for policy in [None, Some(Policy::Traced), Some(Policy::Native)] {
        let vmo = Vmo::create(bytes(4)).expect("a VMO can be made");
        let region = Region::new(4);
        if let Some(policy) = policy {
            region.map_with(0, &vmo, 4, RW, policy);
        }
        let fill = || vmo.write(&ones, 0).expect("inside");
        let middle = bytes(2) + 5;
        fill();
        vmo.set_stream_size(middle).expect("inside");
        zeroed_from(&vmo, middle);
        assert_eq!((vmo.get_size(), populated(&vmo)), (Ok(bytes(4)), bytes(3)));
        fill();
        vmo.set_stream_size(middle).expect("inside");
        zeroed_from(&vmo, bytes(4));
        vmo.set_stream_size(bytes(3) + 1).expect("inside");
        zeroed_from(&vmo, middle);
        fill();
        vmo.set_content_size(bytes(1)).expect("inside");
        zeroed_from(&vmo, bytes(1));
        // Above the size it is only kept.
        fill();
        vmo.set_content_size(bytes(9)).expect("any value");
        zeroed_from(&vmo, bytes(1));
        fill();
        assert_eq!(vmo.get_stream_size(), Ok(bytes(9)));
        vmo.set_content_size(u64::MAX).expect("any value");
        assert_eq!(vmo.set_stream_size(bytes(9)), Err(Status::OUT_OF_RANGE));
        assert_eq!(vmo.set_stream_size(u64::MAX), Ok(()), "it has it already");
        zeroed_from(&vmo, bytes(4));
        vmo.set_stream_size(bytes(4)).expect("its size");
        zeroed_from(&vmo, bytes(4));
        if policy.is_some() {
            vmo.set_stream_size(1).expect("inside");
            let pages = memory(region.base, 4 * page());
            assert_eq!((pages.load_u8(0), pages.load_u8(1)), (1, 0));
            assert_eq!(pages.load_u8(3 * page()), 0);
        }
    }
}

#[test]
fn a_child_zeroes_its_own_part() {
    let vmo = numbered(5);
    let clone = child(&vmo, VmoChildOptions::SNAPSHOT, bytes(1), bytes(3));
    clone.set_stream_size(bytes(1)).expect("inside");
    assert_eq!(firsts(&clone, 3), [2, 0, 0]);
    assert_eq!(firsts(&vmo, 5), [1, 2, 3, 4, 5]);
    let slice = child(&vmo, VmoChildOptions::SLICE, bytes(1), bytes(3));
    slice.set_stream_size(bytes(2)).expect("inside");
    assert_eq!(firsts(&vmo, 5), [1, 2, 3, 0, 5]);
    assert_eq!(slice.set_stream_size(bytes(4)), Err(Status::OUT_OF_RANGE));
}

/// Which of the first pages of a region can be read; the same must be writable if `write`.
#[track_caller]
fn readable(region: &Region, pages: usize, write: bool) -> Vec<usize> {
    let found: Vec<usize> = (0..pages).filter(|&at| can_read(region.at(at))).collect();
    let writable: Vec<usize> = (0..pages).filter(|&at| can_write(region.at(at))).collect();
    if write {
        assert_eq!(found, writable);
    } else {
        assert_eq!(writable, []);
    }
    found
}

/// VMOs of four pages whose memories have homes of all kinds, and the names of these.
fn of_all_kinds() -> Vec<(&'static str, Vmo, Vec<Vmo>)> {
    let plain = numbered(4);
    let cloned = numbered(4);
    let clone = child(&cloned, VmoChildOptions::SNAPSHOT, 0, bytes(4));
    let large = numbered(8);
    let slice = child(&large, VmoChildOptions::SLICE, bytes(2), bytes(4));
    let kept = numbered(4);
    let reference = child(&kept, VmoChildOptions::REFERENCE, 0, 0);
    vec![
        ("plain", plain, vec![]),
        ("resizable", resizable(4), vec![]),
        ("cloned", cloned, vec![]),
        ("clone", clone, vec![]),
        ("slice", slice, vec![large]),
        ("reference", reference, vec![kept]),
    ]
}

#[test]
fn mappings_that_end_with_it_follow() {
    for policy in POLICIES {
        for (kind, vmo, _others) in of_all_kinds() {
            vmo.set_stream_size(bytes(1) + 1).expect("inside");
            let (region, whole) = (Region::new(6), Region::new(6));
            region.map_with(0, &vmo, 4, RW | BEYOND, policy);
            let look = |expected: usize| {
                let found = readable(&region, 6, true);
                assert!(
                    found.iter().copied().eq(0..expected),
                    "{kind} {policy:?} {found:?}"
                );
            };
            // The page in which it lies is accessible as a whole.
            look(2);
            for (size, pages) in [
                (bytes(4), 4),
                (bytes(3), 3),
                (bytes(2) + 1, 3),
                (1, 1),
                (0, 0),
                (bytes(2), 2),
            ] {
                vmo.set_stream_size(size).expect("inside");
                look(pages);
            }
            // Calls, and mappings without the flag, are not bounded.
            put(&vmo, 3, 9);
            whole.map_with(0, &vmo, 4, RW, policy);
            assert_eq!(readable(&whole, 6, true), [0, 1, 2, 3], "{kind}");
            assert_eq!(memory(whole.at(3), 1).load_u8(0), 9);
            look(2);
            // A snapshot replaces mappings; it keeps what they show.
            if kind != "slice" {
                let clone = child(&vmo, VmoChildOptions::SNAPSHOT, 0, bytes(4));
                assert_eq!(get(&clone, 3), 9);
                look(2);
                memory(region.at(1), 1).store_u8(0, 5);
                assert_eq!((get(&vmo, 1), get(&clone, 1)), (5, 0));
            }
            vmo.set_content_size(bytes(7)).expect("any value");
            look(4);
            assert_eq!(get(&vmo, 3), 0);
        }
    }
}

#[test]
fn mappings_follow_it_through_resizing() {
    for policy in POLICIES {
        let vmo = resizable(4);
        let region = Region::new(8);
        region.map_with(0, &vmo, 8, RW | BEYOND, policy);
        for (size, pages) in [
            (bytes(4), 4),
            (bytes(1) + 1, 2),
            (bytes(6), 6),
            (0, 0),
            (1, 1),
        ] {
            vmo.set_size(size).expect("a size it can have");
            let found = readable(&region, 8, true);
            assert!(found.iter().copied().eq(0..pages), "{policy:?} {found:?}");
        }
        vmo.set_size(bytes(6)).expect("larger");
        vmo.set_stream_size(bytes(2)).expect("inside");
        assert_eq!(readable(&region, 8, true), [0, 1]);
    }
}

#[test]
fn permissions_of_such_a_mapping() {
    for policy in POLICIES {
        for (kind, vmo, _others) in of_all_kinds() {
            vmo.set_stream_size(bytes(2)).expect("inside");
            let region = Region::new(4);
            region.map_with(0, &vmo, 4, VmarFlags::PERM_READ | BEYOND, policy);
            assert_eq!(readable(&region, 4, false), [0, 1], "{kind}");
            region.protect(0, 4, RW);
            assert_eq!(readable(&region, 4, true), [0, 1], "{kind}");
            // What the VMAR has is what was asked for.
            assert_eq!(region.maps()[1], (1, 0, 4, Some((RW, 0))));
            region.protect(1, 2, VmarFlags::empty());
            assert_eq!(readable(&region, 4, true), [0], "{kind}");
            vmo.set_stream_size(bytes(4)).expect("inside");
            assert_eq!(readable(&region, 4, true), [0, 3], "{kind}");
            vmo.set_stream_size(bytes(3)).expect("inside");
            region.protect(0, 4, RW);
            region.unmap(0, 1);
            assert_eq!(readable(&region, 4, true), [1, 2], "{kind}");
            vmo.set_stream_size(bytes(2)).expect("inside");
            assert_eq!(readable(&region, 4, true), [1], "{kind}");
            vmo.set_stream_size(bytes(4)).expect("inside");
            assert_eq!(readable(&region, 4, true), [1, 2, 3], "{kind}");
        }
    }
}

#[test]
fn the_flag_needs_allow_faults() {
    let vmo = numbered(1);
    let region = Region::new(1);
    let flags = RW | VmarFlags::FAULT_BEYOND_STREAM_SIZE;
    let mapped = region.try_map(0, &vmo, 0, 1, flags);
    assert_eq!(mapped, Err(Status::INVALID_ARGS));
    region.map(0, &vmo, 0, 1, flags | VmarFlags::ALLOW_FAULTS);
}
