//! Mappings of families, and threads.

use super::*;

/// Threads that make the first write to one shared page at the same time lose nothing.
#[test]
fn first_writes_of_many_threads() {
    const THREADS: usize = 4;
    for policy in POLICIES {
        let root = numbered(8);
        let clone = snapshot(&root, 0, 8);
        let region = Region::new(8);
        region.map_with(0, &clone, 8, RW, policy);
        std::thread::scope(|scope| {
            for thread in 1..=THREADS {
                let region = &region;
                scope.spawn(move || {
                    for at in 0..8 {
                        memory(region.at(at), page()).store_u8(thread, thread as u8);
                    }
                });
            }
        });
        for at in 0..8 {
            let mut read = [0; THREADS + 1];
            clone.read(&mut read, bytes(at)).expect("inside");
            assert_eq!(read, [at as u8 + 1, 1, 2, 3, 4]);
        }
        assert_eq!(firsts(&root, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

/// Looking changes nobody's share, by calls or by mappings.
#[test]
fn reading_shares_nothing_and_parts_nothing() {
    for policy in POLICIES {
        let root = numbered(3);
        let clone = snapshot(&root, 0, 4);
        let before = (info(&root), info(&clone));
        let region = Region::new(12);
        let flags = VmarFlags::PERM_READ | VmarFlags::MAP_RANGE;
        region.map_with(0, &root, 4, flags, policy);
        region.map_with(4, &clone, 4, flags, policy);
        region.map_with(8, &clone, 4, flags, policy);
        for at in [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11] {
            assert_eq!(memory(region.at(at), 1).load_u8(0), [1, 2, 3, 0][at % 4]);
        }
        let charged = |info: &VmoInfo| {
            (
                info.populated_bytes,
                info.populated_private_bytes,
                info.populated_scaled_bytes,
            )
        };
        assert_eq!(charged(&info(&root)), charged(&before.0));
        assert_eq!(charged(&info(&clone)), charged(&before.1));
        // Nor does a snapshot of what was looked at.
        let last = snapshot(&clone, 0, 4);
        assert_eq!(info(&last).populated_bytes, bytes(3), "{policy:?}");
        assert_eq!(info(&clone).populated_bytes, bytes(3), "{policy:?}");
    }
}

#[test]
fn members_end_in_several_threads_at_once() {
    for _ in 0..20 {
        let root = numbered(4);
        let mut members: Vec<Vmo> = (0..8).map(|first| snapshot(&root, first % 4, 4)).collect();
        let deep: Vec<Vmo> = members.iter().map(|vmo| snapshot(vmo, 0, 4)).collect();
        members.push(root);
        let keep = snapshot(&deep[5], 0, 4);
        std::thread::scope(|scope| {
            for vmo in members.into_iter().chain(deep) {
                scope.spawn(move || drop(vmo));
            }
        });
        assert_eq!(firsts(&keep, 4), [2, 3, 4, 0]);
        let info = info(&keep);
        assert_eq!((info.parent_koid, info.num_children), (Koid::INVALID, 0));
        assert_eq!(info.populated_private_bytes, bytes(3), "its own in the end");
    }
}
