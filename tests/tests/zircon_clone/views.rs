//! Slices and references: other views of the same memory.

use super::*;

#[test]
fn slices_are_the_same_memory() {
    for policy in POLICIES {
        let root = numbered(4);
        let part = slice(&root, 1, 2);
        let inner = slice(&part, 1, 1);
        let region = Region::new(8);
        region.map_with(0, &root, 4, RW, policy);
        region.map_with(4, &part, 2, RW, policy);
        region.map_with(6, &inner, 1, RW, policy);
        let seen = || {
            let loads = [2, 5, 6].map(|at| memory(region.at(at), 1).load_u8(0));
            assert_eq!(loads, [get(&root, 2); 3]);
            assert_eq!((get(&part, 1), get(&inner, 0)), (loads[0], loads[0]));
            loads[0]
        };
        assert_eq!(seen(), 3);
        put(&inner, 0, 11);
        assert_eq!(seen(), 11);
        memory(region.at(5), 1).store_u8(0, 12);
        assert_eq!(seen(), 12);
        put(&root, 2, 13);
        assert_eq!(seen(), 13);
        inner.op_range(VmoOp::ZERO, 0, bytes(1)).expect("inside");
        assert_eq!(seen(), 0);
        part.op_range(VmoOp::COMMIT, 0, bytes(2)).expect("inside");
        assert_eq!(info(&root).populated_bytes, bytes(4));
        part.op_range(VmoOp::DECOMMIT, bytes(1), bytes(1))
            .expect("inside");
        assert_eq!(seen(), 0);
        assert_eq!(info(&root).populated_bytes, bytes(3));
        // The slice's own end counts.
        assert_eq!(part.write(&[1], bytes(2)), Err(Status::OUT_OF_RANGE));
        assert_eq!(
            part.op_range(VmoOp::ZERO, bytes(1), bytes(2)),
            Err(Status::OUT_OF_RANGE)
        );
        region.unmap(4, 4);
        region.map_with(4, &part, 4, RW, policy);
        assert!(can_read(region.at(5)) && !can_read(region.at(6)));
        assert_eq!(part.set_size(0), Err(Status::UNAVAILABLE));
        // Nothing is ever charged to one.
        for vmo in [&part, &inner] {
            assert_eq!(
                (info(vmo).populated_bytes, info(vmo).committed_bytes),
                (0, 0)
            );
        }
        drop((root, part));
        assert_eq!(info(&inner).populated_bytes, 0);
        put(&inner, 0, 14);
        assert_eq!(get(&inner, 0), 14);
    }
}

#[test]
fn slices_stay_with_the_vmo_they_were_made_of() {
    for policy in [None, Some(POLICIES[0]), Some(POLICIES[1])] {
        let root = numbered(2);
        let part = slice(&root, 0, 2);
        let region = Region::new(2);
        if let Some(policy) = policy {
            region.map_with(0, &part, 2, RW, policy);
        }
        let clone = snapshot(&root, 0, 2);
        let of_clone = slice(&clone, 1, 1);
        put(&part, 0, 11);
        if policy.is_some() {
            memory(region.at(1), 1).store_u8(0, 12);
        } else {
            put(&part, 1, 12);
        }
        assert_eq!(
            (firsts(&root, 2), firsts(&clone, 2)),
            (vec![11, 12], vec![1, 2])
        );
        put(&of_clone, 0, 22);
        assert_eq!((get(&clone, 1), get(&root, 1)), (22, 12));
        // A NO_WRITE slice shows what others write.
        let read_only = child(&root, SLICE | NO_WRITE, 0, 2);
        put(&root, 0, 13);
        assert_eq!(get(&read_only, 0), 13);
    }
}

#[test]
fn slices_of_slices_of_slices() {
    let mut chain = vec![numbered(2)];
    for depth in 0..1500 {
        chain.push(slice(&chain[depth], 0, 2));
    }
    let last = chain.pop().expect("many");
    put(&last, 1, 9);
    assert_eq!(get(&chain[0], 1), 9);
    drop(chain);
    assert_eq!(firsts(&last, 2), [1, 9]);
    let empty = slice(&last, 2, 0);
    assert_eq!(empty.get_size(), Ok(0));
    assert_eq!(empty.write(&[1], 0), Err(Status::OUT_OF_RANGE));
}

#[test]
fn references_are_the_same_memory_and_follow_its_size() {
    for policy in POLICIES {
        let root = resizable(2);
        let plain = reference(&root);
        let second = child(&plain, REFERENCE | NO_WRITE, 0, 0);
        let sizing = child(&root, REFERENCE | RESIZABLE, 0, 0);
        assert_eq!(info(&second).parent_koid, info(&plain).koid);
        let region = Region::new(8);
        region.map_with(0, &root, 4, RW, policy);
        region.map_with(4, &plain, 4, RW, policy);
        memory(region.at(4), 1).store_u8(0, 11);
        assert_eq!(memory(region.at(0), 1).load_u8(0), 11);
        for vmo in [&root, &plain, &second, &sizing] {
            assert_eq!(firsts(vmo, 2), [11, 2]);
        }
        assert_eq!(plain.set_size(bytes(4)), Err(Status::ACCESS_DENIED));
        assert_eq!(sizing.set_size(bytes(4)), Ok(()));
        for vmo in [&root, &plain, &second, &sizing] {
            assert_eq!(vmo.get_size(), Ok(bytes(4)));
            assert!(info(vmo).flags.contains(VmoInfoFlags::RESIZABLE));
        }
        memory(region.at(7), 1).store_u8(0, 44);
        assert_eq!(get(&second, 3), 44);
        // Charged to the VMO alone.
        assert_eq!(info(&root).populated_bytes, bytes(3));
        for vmo in [&plain, &second, &sizing] {
            assert_eq!(info(vmo).populated_bytes, 0);
        }
        // A snapshot of a reference is one of the memory.
        let clone = snapshot(&plain, 0, 4);
        put(&root, 0, 12);
        memory(region.at(7), 1).store_u8(0, 45);
        assert_eq!(firsts(&clone, 4), [11, 2, 0, 44]);
        assert_eq!(firsts(&second, 4), [12, 2, 0, 45]);
        root.set_size(bytes(1)).expect("smaller");
        assert_eq!(plain.get_size(), Ok(bytes(1)));
        assert!(!can_read(region.at(5)));
        // In any order of ending the memory stays.
        drop(root);
        put(&plain, 0, 13);
        assert_eq!(
            (get(&second, 0), memory(region.at(0), 1).load_u8(0)),
            (13, 13)
        );
        drop(plain);
        sizing.set_size(bytes(2)).expect("larger");
        assert_eq!(firsts(&second, 2), [13, 0]);
    }
}

#[test]
fn a_reference_of_what_cannot_be_resized() {
    let root = numbered(2);
    let other = reference(&root);
    assert_eq!(other.set_size(0), Err(Status::UNAVAILABLE));
    let part = slice(&other, 1, 1);
    assert_eq!(info(&part).parent_koid, info(&other).koid);
    put(&part, 0, 9);
    assert_eq!(get(&root, 1), 9);
    other
        .op_range(VmoOp::DECOMMIT, 0, bytes(1))
        .expect("no relatives");
    assert_eq!(firsts(&root, 2), [0, 9]);
}
