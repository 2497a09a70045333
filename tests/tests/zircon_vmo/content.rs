//! Reading, writing, and the size.

use super::*;

#[test]
fn ranges_of_read_and_write() {
    let vmo = numbered(2);
    let size = bytes(2);
    let call = |offset: u64, len: usize| {
        let mut buffer = vec![0xEE; len];
        let read = vmo.read(&mut buffer, offset);
        if read.is_err() {
            assert!(buffer.iter().all(|&byte| byte == 0xEE), "nothing is moved");
        }
        let write = vmo.write(&buffer, offset);
        assert_eq!(read, write, "{len} bytes at {offset:#x}");
        read
    };
    let all = 2 * page();
    for (offset, len) in [
        (0, 0),
        (0, all),
        (size, 0),
        (size - 1, 1),
        (1, all - 1),
        (7, 11),
    ] {
        assert_eq!(call(offset, len), Ok(()), "{len} bytes at {offset:#x}");
    }
    for (offset, len) in [
        (size + 1, 0),
        (size, 1),
        (0, all + 1),
        (1, all),
        (size - 1, 2),
        (u64::MAX, 0),
        (u64::MAX, 1),
        (u64::MAX, 2),
        (below_2_64(1), page()),
        (below_2_64(1), page() + 1),
    ] {
        let status = Err(Status::OUT_OF_RANGE);
        assert_eq!(call(offset, len), status, "{len} bytes at {offset:#x}");
    }
    assert_eq!(firsts(&vmo, 2), [1, 2]);
    let empty = Vmo::create(0).expect("a VMO can be made");
    assert_eq!(empty.read(&mut [], 0), Ok(()));
    assert_eq!(empty.read(&mut [0], 0), Err(Status::OUT_OF_RANGE));
    assert_eq!(empty.write(&[], 1), Err(Status::OUT_OF_RANGE));
}

#[test]
fn bytes_go_where_they_are_sent() {
    // More than the engine moves at once, at no alignment.
    let pages = 100;
    let vmo = Vmo::create(bytes(pages)).expect("a VMO can be made");
    let data: Vec<u8> = (0..(pages - 2) * page()).map(|i| (i % 251) as u8).collect();
    let offset = page() as u64 / 2 + 3;
    vmo.write(&data, offset).expect("inside");
    let mut read = vec![0; pages * page()];
    vmo.read(&mut read, 0).expect("inside");
    let start = offset as usize;
    assert!(read[..start].iter().all(|&byte| byte == 0));
    assert!(read[start..start + data.len()] == data[..]);
    assert!(read[start + data.len()..].iter().all(|&byte| byte == 0));
    assert_eq!(populated(&vmo), bytes(pages - 1));
}

#[test]
fn reading_commits_nothing_and_writing_what_it_touches() {
    let vmo = Vmo::create(bytes(4)).expect("a VMO can be made");
    assert_eq!(firsts(&vmo, 4), [0; 4]);
    assert_eq!(populated(&vmo), 0);
    let across = [1; 2];
    vmo.write(&across, bytes(2) - 1).expect("inside");
    assert_eq!(populated(&vmo), bytes(2));
    vmo.write(&[], bytes(3)).expect("nothing");
    assert_eq!(populated(&vmo), bytes(2));
}

#[test]
fn order_of_checks_of_set_size() {
    let fixed = Vmo::create(bytes(2)).expect("a VMO can be made");
    let huge = below_2_64(1);
    let bad = Vmo::from(Handle::from_raw(0));
    assert_eq!(bad.set_size(0), Err(Status::BAD_HANDLE));
    let vmar = as_vmo(with_rights(&Vmar::root_self(), Rights::NONE));
    assert_eq!(vmar.set_size(0), Err(Status::WRONG_TYPE));
    let read_only = with_rights(&fixed, Rights::VMO_DEFAULT - Rights::WRITE);
    assert_eq!(read_only.set_size(0), Err(Status::ACCESS_DENIED));
    for size in [0, bytes(1), bytes(2), bytes(3)] {
        assert_eq!(fixed.set_size(size), Err(Status::UNAVAILABLE));
    }
    // A size that cannot be rounded comes before that, one that is only too large behind.
    assert_eq!(fixed.set_size(huge), Err(Status::UNAVAILABLE));
    assert_eq!(fixed.set_size(huge + 1), Err(Status::OUT_OF_RANGE));
    assert_eq!(read_only.set_size(huge + 1), Err(Status::ACCESS_DENIED));
    let vmo = resizable(2);
    let all = Rights::VMO_DEFAULT | Rights::RESIZE;
    for missing in [Rights::WRITE, Rights::RESIZE] {
        let without = with_rights(&vmo, all - missing);
        for size in [bytes(1), huge] {
            assert_eq!(without.set_size(size), Err(Status::ACCESS_DENIED));
        }
    }
    for size in [huge, huge + 1, u64::MAX] {
        assert_eq!(vmo.set_size(size), Err(Status::OUT_OF_RANGE));
        assert_eq!(vmo.get_size(), Ok(bytes(2)));
    }
    assert_eq!(vmo.set_size(bytes(1) + 1), Ok(()));
    assert_eq!(vmo.get_size(), Ok(bytes(2)));
}

#[test]
fn shrinking_drops_and_growing_shows_zeros() {
    let vmo = resizable(4);
    (0..4).for_each(|at| put(&vmo, at, 7));
    vmo.set_size(bytes(1)).expect("smaller");
    assert_eq!(populated(&vmo), bytes(1));
    assert_eq!(vmo.read(&mut [0], bytes(1)), Err(Status::OUT_OF_RANGE));
    vmo.set_size(bytes(5)).expect("larger");
    assert_eq!(firsts(&vmo, 5), [7, 0, 0, 0, 0]);
    assert_eq!(populated(&vmo), bytes(1), "growing costs nothing");

    // Within a page: the rest of it becomes zero.
    let ones = vec![1; 2 * page()];
    vmo.write(&ones, 0).expect("inside");
    vmo.set_size(10).expect("smaller");
    let mut read = vec![9; page()];
    vmo.read(&mut read, 0)
        .expect("the page is there as a whole");
    assert!(read[..10].iter().all(|&byte| byte == 1));
    assert!(read[10..].iter().all(|&byte| byte == 0));
    vmo.set_size(0).expect("nothing");
    assert_eq!(populated(&vmo), 0);
    vmo.set_size(bytes(1)).expect("larger");
    assert_eq!(get(&vmo, 0), 0);
}

#[test]
fn a_large_size_and_back() {
    let vmo = resizable(1);
    put(&vmo, 0, 7);
    vmo.set_size(1 << 40).expect("size costs nothing");
    vmo.write(&[8], (1 << 40) - 1).expect("inside");
    assert_eq!(populated(&vmo), bytes(2));
    vmo.set_size(bytes(1)).expect("smaller");
    assert_eq!((get(&vmo, 0), populated(&vmo)), (7, bytes(1)));
}

#[test]
fn mappings_follow_the_size() {
    for policy in POLICIES {
        let vmo = resizable(2);
        let region = Region::new(4);
        let addr = region.map_with(0, &vmo, 4, RW, policy);
        let touchable = |expected: [bool; 4]| {
            for (at, expected) in expected.into_iter().enumerate() {
                let addr = addr + at * page();
                assert_eq!((can_read(addr), can_write(addr)), (expected, expected));
            }
        };
        touchable([true, true, false, false]);
        memory(addr, 1).store_u8(0, 7);
        memory(region.at(1), 1).store_u8(0, 8);
        vmo.set_size(bytes(3)).expect("larger");
        touchable([true, true, true, false]);
        vmo.set_size(1).expect("smaller");
        touchable([true, false, false, false]);
        // The page of the last byte is usable as a whole.
        memory(addr, page()).store_u8(page() - 1, 9);
        vmo.set_size(0).expect("nothing");
        touchable([false; 4]);
        vmo.set_size(bytes(4)).expect("larger");
        touchable([true; 4]);
        assert_eq!(firsts(&vmo, 4), [0; 4]);
        assert_eq!(memory(region.at(1), 1).load_u8(0), 0);
    }
}

#[test]
fn mappings_of_what_cannot_be_resized_fault_behind_the_end() {
    for policy in POLICIES {
        let vmo = numbered(1);
        let region = Region::new(4);
        region.map_with(0, &vmo, 3, RW, policy);
        assert!(can_write(region.at(0)));
        for at in 1..4 {
            assert!(!can_read(region.at(at)) && !can_write(region.at(at)));
        }
    }
}

#[test]
fn reading_and_writing_by_callback() {
    let vmo = numbered(100);
    let (offset, len) = (bytes(1) - 3, bytes(90) + 7);
    let mut all = Vec::new();
    let read = vmo.read_with(offset, len, |piece| {
        // Nothing is locked: the VMO itself can be used.
        let mut again = vec![0; piece.len()];
        vmo.read(&mut again, offset + all.len() as u64)?;
        assert_eq!(again, piece);
        all.extend_from_slice(piece);
        Ok(())
    });
    assert_eq!((read, all.len() as u64), (Ok(()), len));

    let target = Vmo::create(bytes(100)).expect("a VMO");
    let mut done = 0;
    let write = target.write_with(offset, len, |piece| {
        target.write(b"in between", 0)?;
        piece.copy_from_slice(&all[done..done + piece.len()]);
        done += piece.len();
        Ok(())
    });
    assert_eq!((write, done as u64), (Ok(()), len));
    let mut back = vec![0; all.len()];
    target.read(&mut back, offset).expect("the bytes");
    assert_eq!(back, all);
}

#[test]
fn a_callback_that_fails_ends_the_call() {
    let vmo = numbered(100);
    let mut calls = 0;
    let read = vmo.read_with(0, bytes(100), |_| {
        calls += 1;
        Err(Status::NOT_FOUND)
    });
    let write = vmo.write_with(0, bytes(100), |piece| {
        calls += 1;
        piece.fill(0xEE);
        Err(Status::ACCESS_DENIED)
    });
    assert_eq!(
        (read, write),
        (Err(Status::NOT_FOUND), Err(Status::ACCESS_DENIED))
    );
    assert_eq!(calls, 2);
    let mut first = [0; 1];
    vmo.read(&mut first, 0).expect("a byte");
    assert_ne!(first, [0xEE], "the piece is not written");
    // Ranges and rights come first; for no bytes nothing is called.
    let never_read = |_: &[u8]| -> Result<(), Status> { panic!("called") };
    let never_write = |_: &mut [u8]| -> Result<(), Status> { panic!("called") };
    assert_eq!(vmo.read_with(bytes(100), 0, never_read), Ok(()));
    assert_eq!(vmo.write_with(bytes(100), 0, never_write), Ok(()));
    let out = Err(Status::OUT_OF_RANGE);
    assert_eq!(vmo.read_with(bytes(100), 1, never_read), out);
    assert_eq!(vmo.write_with(u64::MAX, 2, never_write), out);
    let plain = vmo.duplicate_handle(Rights::NONE).expect("a handle");
    let denied = Err(Status::ACCESS_DENIED);
    assert_eq!(plain.read_with(u64::MAX, 2, never_read), denied);
    assert_eq!(plain.write_with(u64::MAX, 2, never_write), denied);
}

/// The engine's buffers go from call to call; what is in them does not.
#[test]
fn a_piece_that_is_not_filled_is_zeros() {
    let make = || Vmo::create(bytes(40)).expect("a VMO can be made");
    let (secret, vmo) = (make(), make());
    secret
        .write(&vec![0xaa; 40 * page()], 0)
        .expect("a write inside");
    vmo.write_with(0, bytes(40), |_| Ok(()))
        .expect("a write inside");
    let mut read = vec![1; 40 * page()];
    vmo.read(&mut read, 0).expect("a read inside");
    assert!(read.iter().all(|&byte| byte == 0));
}
