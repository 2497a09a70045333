//! Children of VMOs against Zircon's rules: order of checks, rights, what the new object is, the window of a clone, slices and references.
//! What each shows and is charged with through writes, zeroing, resizing and closing stands in `zircon_clone_orders.rs`.

#![forbid(unsafe_code)]

use cowspace::{
    Handle, HandleBased, Koid, Name, Rights, Status, Vmar, VmarFlags, Vmo, VmoChildOptions,
    VmoInfo, VmoInfoFlags, VmoOp, VmoOptions,
};
use cowspace_tests::zircon::{
    POLICIES, Region, as_vmo, bytes, can_read, closed_handle, firsts, get, numbered, put, refused,
    rights_of, with_rights,
};
use cowspace_tests::{RW, memory, page};

const SNAPSHOT: VmoChildOptions = VmoChildOptions::SNAPSHOT;
const SLICE: VmoChildOptions = VmoChildOptions::SLICE;
const REFERENCE: VmoChildOptions = VmoChildOptions::REFERENCE;
const RESIZABLE: VmoChildOptions = VmoChildOptions::RESIZABLE;
const NO_WRITE: VmoChildOptions = VmoChildOptions::NO_WRITE;
const CLONES: [VmoChildOptions; 3] = [
    SNAPSHOT,
    VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE,
    VmoChildOptions::SNAPSHOT_MODIFIED,
];

fn resizable(pages: usize) -> Vmo {
    let vmo = Vmo::create_with_opts(VmoOptions::RESIZABLE, bytes(pages)).expect("a VMO");
    (0..pages).for_each(|at| put(&vmo, at, at as u8 + 1));
    vmo
}

#[track_caller]
fn child(parent: &Vmo, options: VmoChildOptions, first: usize, pages: usize) -> Vmo {
    parent
        .create_child(options, bytes(first), bytes(pages))
        .expect("such a child can be made")
}

#[track_caller]
fn snapshot(parent: &Vmo, first: usize, pages: usize) -> Vmo {
    child(parent, SNAPSHOT, first, pages)
}

#[track_caller]
fn slice(parent: &Vmo, first: usize, pages: usize) -> Vmo {
    child(parent, SLICE, first, pages)
}

#[track_caller]
fn reference(parent: &Vmo) -> Vmo {
    child(parent, REFERENCE, 0, 0)
}

#[track_caller]
fn info(vmo: &Vmo) -> VmoInfo {
    vmo.info().expect("a VMO has info")
}

/// 2^64 less so many pages.
fn below_2_64(pages: u64) -> u64 {
    0u64.wrapping_sub(pages * page() as u64)
}

// Errors

#[test]
fn order_of_the_checks_of_create_child() {
    let vmo = numbered(2);
    let fails = |vmo: &Vmo, options, offset: u64, size: u64, status: Status| {
        let result = vmo.create_child(options, offset, size);
        assert_eq!(refused(result), status, "{options:?} {offset:#x} {size:#x}");
    };
    let bad = Vmo::from(Handle::from_raw(closed_handle()));
    let wrong = as_vmo(with_rights(&Vmar::root_self(), Rights::NONE));
    let (invalid, range) = (Status::INVALID_ARGS, Status::OUT_OF_RANGE);
    // 1, before 2: the size.
    for size in [u64::MAX, below_2_64(1) + 1, below_2_64(1)] {
        for vmo in [&bad, &vmo] {
            fails(vmo, SNAPSHOT | NO_WRITE | RESIZABLE, 1, size, range);
            fails(vmo, SLICE, 1, size, range);
        }
    }
    // 2, before 3: what never goes together.
    for kind in CLONES.into_iter().chain([SLICE, REFERENCE]) {
        fails(&bad, kind | NO_WRITE | RESIZABLE, 1, bytes(1), invalid);
    }
    // 3, before 5: the handle.
    let unknown = VmoChildOptions::from_bits_retain(1 << 1);
    fails(&bad, unknown, 1, 0, Status::BAD_HANDLE);
    fails(&wrong, unknown, 1, 0, Status::WRONG_TYPE);
    for missing in [Rights::DUPLICATE, Rights::READ] {
        let without = with_rights(&vmo, Rights::VMO_DEFAULT - missing);
        fails(&without, unknown, 1, 0, Status::ACCESS_DENIED);
    }
    // 5: exactly one kind, nothing unknown.
    fails(&vmo, VmoChildOptions::empty(), 1, 0, invalid);
    fails(&vmo, NO_WRITE, 1, 0, invalid);
    fails(&vmo, RESIZABLE, 0, 0, invalid);
    fails(&vmo, SLICE | RESIZABLE, 0, 0, invalid);
    let kinds = [CLONES[0], CLONES[1], CLONES[2], SLICE, REFERENCE];
    for (i, one) in kinds.into_iter().enumerate() {
        for other in &kinds[..i] {
            fails(&vmo, one | *other, 0, 0, invalid);
        }
        for bit in [1].into_iter().chain(8..32) {
            fails(
                &vmo,
                one | VmoChildOptions::from_bits_retain(1 << bit),
                0,
                0,
                invalid,
            );
        }
    }
    // 7: clones.
    for kind in CLONES {
        for offset in [1, bytes(1) - 1, bytes(1) + 1, u64::MAX] {
            fails(&vmo, kind, offset, 0, invalid);
        }
        fails(&vmo, kind, below_2_64(64), bytes(64), range);
        fails(&vmo, kind, below_2_64(1), bytes(1), range);
        fails(&vmo, kind, bytes(65), below_2_64(64), range);
    }
    // And no child was made by any of these.
    assert_eq!(info(&vmo).num_children, 0);
}

#[test]
fn errors_of_slices() {
    let fixed = numbered(2);
    let movable = resizable(2);
    let (invalid, unsupported) = (Status::INVALID_ARGS, Status::NOT_SUPPORTED);
    for vmo in [&fixed, &movable] {
        for (offset, size) in [
            (1, 0),
            (bytes(1) - 1, 1),
            (0, bytes(2) + 1),
            (bytes(1), bytes(1) + 1),
            (bytes(2), 1),
            (bytes(3), 0),
            (below_2_64(1), bytes(1)),
            (bytes(1), below_2_64(64)),
        ] {
            let result = vmo.create_child(SLICE, offset, size);
            assert_eq!(refused(result), invalid, "{size:#x} at {offset:#x}");
        }
    }
    let result = movable.create_child(SLICE, 0, bytes(1));
    assert_eq!(refused(result), unsupported);
    assert_eq!(info(&fixed).num_children + info(&movable).num_children, 0);

    // What cannot be made of slices; a range behind the slice comes first.
    let part = slice(&fixed, 0, 1);
    for kind in CLONES {
        let result = part.create_child(kind, 0, bytes(1));
        assert_eq!(refused(result), unsupported);
        for (offset, size) in [(0, bytes(2)), (bytes(1), 1), (bytes(2), 0)] {
            let result = part.create_child(kind, offset, size);
            assert_eq!(refused(result), Status::OUT_OF_RANGE);
        }
    }
    assert_eq!(refused(part.create_child(REFERENCE, 0, 0)), unsupported);
    assert_eq!(info(&part).num_children, 0);
}

#[test]
fn errors_of_references() {
    let (fixed, movable) = (numbered(2), resizable(2));
    for (offset, size) in [(0, 1), (0, bytes(2)), (bytes(1), 0), (1, 0)] {
        let result = fixed.create_child(REFERENCE, offset, size);
        assert_eq!(refused(result), Status::INVALID_ARGS);
    }
    let result = fixed.create_child(REFERENCE | RESIZABLE, 0, 0);
    assert_eq!(refused(result), Status::NOT_SUPPORTED);
    let without = with_rights(&movable, Rights::VMO_DEFAULT);
    let result = without.create_child(REFERENCE | RESIZABLE, 0, 0);
    assert_eq!(refused(result), Status::ACCESS_DENIED);
    // A reference of what can be resized cannot have slices.
    let other = reference(&movable);
    let result = other.create_child(SLICE, 0, bytes(1));
    assert_eq!(refused(result), Status::NOT_SUPPORTED);
}

#[test]
fn offsets_along_a_line_add_up() {
    let root = numbered(1);
    let far = root
        .create_child(SNAPSHOT | RESIZABLE, below_2_64(66), bytes(1))
        .expect("a clone may lie far behind the end");
    assert_eq!(get(&far, 0), 0);
    let further = far
        .create_child(SNAPSHOT | RESIZABLE, bytes(64), bytes(1))
        .expect("the sum is a page below 2^64");
    for (offset, size) in [(bytes(66), 0), (bytes(65), bytes(1)), (bytes(64), bytes(2))] {
        let result = far.create_child(SNAPSHOT, offset, size);
        assert_eq!(refused(result), Status::INVALID_ARGS);
    }
    assert_eq!(further.set_size(bytes(2)), Err(Status::INVALID_ARGS));
    assert_eq!(further.get_size(), Ok(bytes(1)));
}

// Rights

#[test]
fn rights_of_children() {
    let property = Rights::GET_PROPERTY | Rights::SET_PROPERTY;
    let needed = Rights::DUPLICATE | Rights::READ;
    let code = numbered(1).replace_as_executable().expect("code");
    let movable = resizable(1).replace_as_executable().expect("code");
    let of_code = [
        needed,
        Rights::VMO_DEFAULT,
        Rights::VMO_DEFAULT | Rights::EXECUTE,
        needed | Rights::EXECUTE | Rights::MAP,
    ];
    let made = |vmo: &Vmo, options: VmoChildOptions| {
        let pages = if options.contains(REFERENCE) { 0 } else { 1 };
        rights_of(&child(vmo, options, 0, pages))
    };
    for rights in of_code {
        let vmo = with_rights(&code, rights);
        let common = rights | property;
        for kind in CLONES {
            assert_eq!(made(&vmo, kind), (common | Rights::WRITE) - Rights::EXECUTE);
            assert_eq!(made(&vmo, kind | NO_WRITE), common - Rights::WRITE);
            assert_eq!(
                made(&vmo, kind | RESIZABLE),
                (common | Rights::WRITE | Rights::RESIZE) - Rights::EXECUTE
            );
        }
        for kind in [SLICE, REFERENCE] {
            assert_eq!(made(&vmo, kind), common);
            assert_eq!(made(&vmo, kind | NO_WRITE), common - Rights::WRITE);
        }
    }
    // RESIZE follows the child's own option, never the parent's handle.
    let all = rights_of(&movable);
    assert!(all.contains(Rights::RESIZE));
    for kind in CLONES {
        assert!(!made(&movable, kind).contains(Rights::RESIZE));
        assert!(!made(&movable, kind | NO_WRITE).contains(Rights::RESIZE));
    }
    assert_eq!(made(&movable, REFERENCE), all - Rights::RESIZE);
    assert_eq!(made(&movable, REFERENCE | RESIZABLE), all);
}

#[test]
fn what_a_child_without_write_cannot_do() {
    let vmo = numbered(1);
    for kind in CLONES.into_iter().chain([SLICE]) {
        let fixed = child(&vmo, kind | NO_WRITE, 0, 1);
        assert_eq!(fixed.write(&[1], 0), Err(Status::ACCESS_DENIED));
        for op in [VmoOp::COMMIT, VmoOp::DECOMMIT, VmoOp::ZERO] {
            assert_eq!(fixed.op_range(op, 0, bytes(1)), Err(Status::ACCESS_DENIED));
        }
        assert_eq!(fixed.set_size(0), Err(Status::ACCESS_DENIED));
        let region = Region::new(1);
        let result = region.try_map(0, &fixed, 0, 1, RW);
        assert_eq!(refused(result), Status::ACCESS_DENIED);
        let more = rights_of(&fixed) | Rights::WRITE;
        assert_eq!(refused(fixed.duplicate_handle(more)), Status::INVALID_ARGS);
        if kind != SLICE {
            let clone = snapshot(&fixed, 0, 1);
            put(&clone, 0, 9);
            assert_eq!(get(&fixed, 0), 1);
        }
    }
}

// The new object

#[test]
fn what_the_new_object_is() {
    let vmo = numbered(3);
    vmo.set_name(&Name::new_lossy("parent"))
        .expect("default rights");
    let base = VmoInfoFlags::TYPE_PAGED | VmoInfoFlags::VIA_HANDLE;
    let cow = base | VmoInfoFlags::IS_COW_CLONE;
    let cases = [
        (SNAPSHOT, cow),
        (SNAPSHOT | NO_WRITE, cow | VmoInfoFlags::IMMUTABLE),
        (SNAPSHOT | RESIZABLE, cow | VmoInfoFlags::RESIZABLE),
        (CLONES[1], cow),
        (CLONES[1] | NO_WRITE, cow),
        (CLONES[2] | NO_WRITE, cow),
        (SLICE, base),
        (SLICE | NO_WRITE, base),
        (REFERENCE, base),
        (REFERENCE | NO_WRITE, base),
    ];
    for (options, flags) in cases {
        let whole = options.contains(REFERENCE);
        // A size within a page is rounded up; the rest of the page is the parent's.
        let size = if whole { 0 } else { bytes(1) + 1 };
        let made = vmo.create_child(options, 0, size).expect("a child");
        let info = info(&made);
        assert_eq!(info.flags, flags, "{options:?}");
        assert_eq!(info.parent_koid, self::info(&vmo).koid);
        assert_ne!(info.koid, info.parent_koid);
        assert_eq!(info.size_bytes, bytes(if whole { 3 } else { 2 }));
        assert_eq!(info.name, Name::new_lossy("parent"));
        assert_eq!((info.num_children, info.num_mappings), (0, 0));
        let mut last = [9];
        made.read(&mut last, bytes(1)).expect("inside");
        assert_eq!(last, [2]);
        // Names go their own ways.
        made.set_name(&Name::new_lossy("child"))
            .expect("always allowed");
        assert_eq!(self::info(&vmo).name, Name::new_lossy("parent"));
        // Whether it can be resized is its own matter.
        let fixed = VmarFlags::REQUIRE_NON_RESIZABLE;
        let region = Region::new(1);
        let mapped = region.try_map(0, &made, 0, 1, VmarFlags::PERM_READ | fixed);
        if options.contains(RESIZABLE) {
            assert_eq!(refused(mapped), Status::NOT_SUPPORTED);
            assert_eq!(made.set_size(0), Ok(()));
        } else {
            mapped.expect("it cannot be resized");
            if !options.contains(NO_WRITE) {
                assert_eq!(made.set_size(0), Err(Status::UNAVAILABLE));
            }
        }
    }
    let blind = with_rights(&vmo, Rights::VMO_DEFAULT - Rights::GET_PROPERTY);
    assert!(info(&snapshot(&blind, 0, 1)).name.is_empty());
    let empty = snapshot(&vmo, 1, 0);
    assert_eq!(empty.get_size(), Ok(0));
    assert_eq!(refused(empty.read(&mut [0], 0)), Status::OUT_OF_RANGE);
    // A clone that can be resized, of one that cannot, and the reverse.
    assert_eq!(
        child(&resizable(1), SNAPSHOT, 0, 1).set_size(0),
        Err(Status::UNAVAILABLE)
    );
}

#[test]
fn children_are_counted_and_handed_on() {
    let root = numbered(2);
    let koid = info(&root).koid;
    let clone = snapshot(&root, 0, 2);
    let part = slice(&root, 0, 1);
    let other = reference(&root);
    assert_eq!(info(&root).num_children, 3);
    let grandchildren = [
        snapshot(&clone, 0, 2),
        slice(&clone, 0, 1),
        reference(&clone),
    ];
    assert_eq!(
        (info(&root).num_children, info(&clone).num_children),
        (3, 3)
    );
    drop(clone);
    assert_eq!(info(&root).num_children, 5);
    for grandchild in &grandchildren {
        assert_eq!(info(grandchild).parent_koid, koid);
    }
    // A mapping keeps a child alive as a handle does.
    let region = Region::new(1);
    region.map(0, &part, 0, 1, RW);
    drop(part);
    assert_eq!(info(&root).num_children, 5);
    region.unmap(0, 1);
    assert_eq!(info(&root).num_children, 4);
    drop(root);
    for child in grandchildren.iter().chain([&other]) {
        let info = info(child);
        assert_eq!(info.parent_koid, Koid::INVALID);
        assert!(!info.flags.contains(VmoInfoFlags::IS_COW_CLONE));
    }
    assert_eq!(firsts(&grandchildren[0], 2), [1, 2]);
}

// The window of a clone

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

// Operations on families

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

// Slices

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

// References

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

// Mappings of families

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
