//! What a clone sees, and operations on families.

use super::*;

#[test]
fn a_clone_shows_its_window() {
    for first in 0..6 {
        for pages in 0..6 {
            let parent = numbered(4);
            let clone = snapshot(&parent, first, pages);
            let expected: Vec<u8> = (first..first + pages)
                .map(|at| if at < 4 { at as u8 + 1 } else { 0 })
                .collect();
            assert_eq!(firsts(&clone, pages), expected, "{pages} pages at {first}");
            let mut byte = [0];
            assert_eq!(
                clone.read(&mut byte, bytes(pages)),
                Err(Status::OUT_OF_RANGE)
            );
            assert_eq!(clone.read(&mut [], bytes(pages)), Ok(()));
            assert_eq!(
                clone.read(&mut [], bytes(pages) + 1),
                Err(Status::OUT_OF_RANGE)
            );
        }
    }
}

#[test]
fn growing_shows_nothing_more() {
    let parent = resizable(2);
    let clone = child(&parent, SNAPSHOT | RESIZABLE, 0, 4);
    let short = child(&parent, SNAPSHOT | RESIZABLE, 0, 1);
    parent.set_size(bytes(4)).expect("larger");
    put(&parent, 3, 44);
    assert_eq!(firsts(&clone, 4), [1, 2, 0, 0]);
    short.set_size(bytes(4)).expect("larger");
    assert_eq!(firsts(&short, 4), [1, 0, 0, 0]);
    clone.set_size(0).expect("smaller");
    clone.set_size(bytes(2)).expect("larger");
    assert_eq!(firsts(&clone, 2), [0, 0]);
    assert_eq!(firsts(&parent, 4), [1, 2, 0, 44]);
}

#[test]
fn a_clone_of_a_clone_sees_through_the_one_between() {
    let root = resizable(4);
    let middle = child(&root, SNAPSHOT | RESIZABLE, 0, 4);
    middle.set_size(bytes(1)).expect("smaller");
    middle.set_size(bytes(4)).expect("larger");
    let last = snapshot(&middle, 0, 4);
    assert_eq!(firsts(&last, 4), [1, 0, 0, 0]);
    drop(middle);
    assert_eq!(firsts(&last, 4), [1, 0, 0, 0]);
    drop(root);
    assert_eq!(firsts(&last, 4), [1, 0, 0, 0]);
    put(&last, 2, 9);
    let mut page_of = vec![1; page()];
    last.read(&mut page_of, bytes(2)).expect("inside");
    assert!(
        page_of[1..].iter().all(|&byte| byte == 0),
        "written from zeros"
    );
}

#[test]
fn cutting_off_within_a_page() {
    for policy in [None, Some(POLICIES[0]), Some(POLICIES[1])] {
        let parent = resizable(1);
        parent.write(&[7; 8], 0).expect("inside");
        let clone = child(&parent, SNAPSHOT | RESIZABLE, 0, 1);
        let region = Region::new(2);
        if let Some(policy) = policy {
            region.map_with(0, &clone, 1, RW, policy);
            region.map_with(1, &parent, 1, RW, policy);
        }
        clone.set_size(4).expect("smaller");
        let mut read = [0; 8];
        clone.read(&mut read, 0).expect("the page is there");
        assert_eq!(read, [7, 7, 7, 7, 0, 0, 0, 0]);
        parent.read(&mut read, 0).expect("inside");
        assert_eq!(read, [7; 8]);
    }
}

#[test]
fn decommit_is_for_vmos_without_relatives() {
    let root = numbered(2);
    let decommit = |vmo: &Vmo, offset: u64, size: u64| vmo.op_range(VmoOp::DECOMMIT, offset, size);
    let part = slice(&root, 1, 1);
    assert_eq!(decommit(&part, 0, bytes(1)), Ok(()));
    assert_eq!(firsts(&root, 2), [1, 0], "through a slice");
    put(&root, 1, 2);
    assert_eq!(decommit(&root, bytes(1), bytes(1)), Ok(()));
    assert_eq!(get(&part, 0), 0, "and in a slice");
    let clone = snapshot(&root, 0, 2);
    for vmo in [&root, &clone, &part] {
        assert_eq!(decommit(vmo, 0, bytes(1)), Err(Status::NOT_SUPPORTED));
        // The range and nothing at all come before, alignment after.
        assert_eq!(decommit(vmo, 0, bytes(3)), Err(Status::OUT_OF_RANGE));
        assert_eq!(decommit(vmo, 0, 0), Ok(()));
        assert_eq!(decommit(vmo, 1, 1), Err(Status::NOT_SUPPORTED));
    }
    assert_eq!((get(&root, 0), get(&clone, 0)), (1, 1));
    drop(clone);
    assert_eq!(decommit(&root, 0, bytes(1)), Ok(()));
    assert_eq!(get(&root, 0), 0);
}

#[test]
fn commit_makes_pages_ones_own() {
    for policy in [None, Some(POLICIES[0]), Some(POLICIES[1])] {
        let root = numbered(3);
        let clone = snapshot(&root, 0, 4);
        let region = Region::new(4);
        if let Some(policy) = policy {
            region.map_with(0, &clone, 4, RW, policy);
        }
        clone.op_range(VmoOp::COMMIT, 0, bytes(2)).expect("inside");
        clone
            .op_range(VmoOp::COMMIT, bytes(3), bytes(1))
            .expect("inside");
        assert_eq!(firsts(&clone, 4), [1, 2, 3, 0]);
        let charged = |vmo: &Vmo| (info(vmo).populated_bytes, info(vmo).populated_private_bytes);
        assert_eq!(charged(&clone), (bytes(4), bytes(3)), "{policy:?}");
        assert_eq!(charged(&root), (bytes(3), bytes(2)), "{policy:?}");
        put(&root, 0, 9);
        assert_eq!(get(&clone, 0), 1);
    }
}

#[test]
fn zeros_stay_zeros() {
    for policy in [None, Some(POLICIES[0]), Some(POLICIES[1])] {
        let root = numbered(3);
        let clone = snapshot(&root, 0, 3);
        let region = Region::new(3);
        if let Some(policy) = policy {
            region.map_with(0, &clone, 3, RW, policy);
        }
        clone
            .op_range(VmoOp::ZERO, bytes(1), bytes(1))
            .expect("inside");
        let half = page() as u64 / 2;
        clone.op_range(VmoOp::ZERO, half, half).expect("inside");
        let later = snapshot(&clone, 0, 3);
        root.op_range(VmoOp::ZERO, bytes(2), bytes(1))
            .expect("inside");
        assert_eq!(firsts(&root, 3), [1, 2, 0]);
        drop(root);
        for vmo in [&clone, &later] {
            assert_eq!(firsts(vmo, 3), [1, 0, 3]);
        }
        // Writing to it starts from zeros.
        clone.write(&[9], bytes(1) + 1).expect("inside");
        assert_eq!((get(&clone, 1), get(&later, 1)), (0, 0));
        if policy.is_some() {
            let mapped = memory(region.at(1), 2);
            assert_eq!((mapped.load_u8(0), mapped.load_u8(1)), (0, 9));
        }
    }
}

#[test]
fn a_family_of_zeros_holds_nothing() {
    let root = Vmo::create(bytes(4)).expect("a VMO");
    let clone = snapshot(&root, 0, 4);
    let last = snapshot(&clone, 0, 4);
    let half = page() as u64 / 2;
    clone.op_range(VmoOp::ZERO, half, bytes(2)).expect("inside");
    for vmo in [&root, &clone, &last] {
        assert_eq!(firsts(vmo, 4), [0; 4]);
        assert_eq!(info(vmo).populated_bytes, 0);
    }
    put(&clone, 1, 1);
    let charged = |vmo: &Vmo| (info(vmo).populated_bytes, info(vmo).populated_private_bytes);
    assert_eq!(charged(&clone), (bytes(1), bytes(1)), "in the writer alone");
    assert_eq!((charged(&root), charged(&last)), ((0, 0), (0, 0)));
}
