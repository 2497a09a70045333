//! The statuses of the address space's calls, in Zircon's order: each test begins with a call that is wrong in
//! every way and puts one thing right at a time.

use std::{ops::Range, sync::Arc};

use crate::{
    aspace::{AddressSpace, MapRequest, MappingId, OpChildren, RecordDetails, VmarId},
    options::{Perms, Policy, VmarFlags},
    status::Status,
};

/// Any page size does: the structure is told.
const PAGE: usize = 1 << 14;
const BASE: usize = 1 << 30;
const PAGES: usize = 64;
const HUGE: usize = 32 * PAGE;

type Vmo = Arc<&'static str>;
type Space = AddressSpace<Vmo>;

const RW: VmarFlags = VmarFlags::PERM_READ.union(VmarFlags::PERM_WRITE);
const SPECIFIC: VmarFlags = VmarFlags::SPECIFIC;
const OVERWRITE: VmarFlags = VmarFlags::SPECIFIC_OVERWRITE;
const LIMIT: VmarFlags = VmarFlags::OFFSET_IS_UPPER_LIMIT;
const CANNOT: VmarFlags = VmarFlags::CANNOT_CREATE_VMO_CHILD;
const CAN_ALL: VmarFlags = VmarFlags::CAN_MAP_READ
    .union(VmarFlags::CAN_MAP_WRITE)
    .union(VmarFlags::CAN_MAP_EXECUTE)
    .union(VmarFlags::CAN_MAP_SPECIFIC);

fn space() -> Space {
    AddressSpace::new(BASE..BASE + PAGES * PAGE, PAGE, HUGE)
}

fn vmo() -> Vmo {
    Arc::new("vmo")
}

/// Pages by number, counted from the root's base.
fn pages(range: Range<usize>) -> Range<usize> {
    BASE + range.start * PAGE..BASE + range.end * PAGE
}

fn request(flags: VmarFlags, at: usize, pages: usize, vmo: &Vmo, vmo_page: u64) -> MapRequest<Vmo> {
    MapRequest {
        flags,
        vmar_offset: at * PAGE,
        vmo: vmo.clone(),
        vmo_offset: vmo_page * PAGE as u64,
        len: pages * PAGE,
        max_perms: Perms::all(),
        policy: Policy::Native,
    }
}

/// Maps pages of a VMO at a page of a VMAR.
fn map(
    space: &mut Space,
    vmar: VmarId,
    flags: VmarFlags,
    (at, count): (usize, usize),
    (vmo, vmo_page): (&Vmo, u64),
) -> MappingId {
    let request = request(flags, at, count, vmo, vmo_page);
    let plan = space.plan_map(vmar, request).expect("room for a mapping");
    let (id, _) = space.commit_map(plan);
    space.check_invariants();
    id
}

fn allocate(
    space: &mut Space,
    parent: VmarId,
    flags: VmarFlags,
    at: usize,
    count: usize,
) -> VmarId {
    let flags = flags | SPECIFIC;
    let allocated = space.allocate(parent, flags, at * PAGE, count * PAGE);
    space.check_invariants();
    allocated.expect("room for a VMAR").0
}

fn destroy(space: &mut Space, vmar: VmarId) {
    let plan = space.plan_destroy(vmar).expect("can be destroyed");
    space.commit_unmap(plan);
    space.check_invariants();
}

fn unmap(space: &mut Space, vmar: VmarId, range: Range<usize>) -> usize {
    let range = pages(range);
    let plan = space.plan_unmap(vmar, range.start, range.len(), OpChildren::Yes);
    let changes = space.commit_unmap(plan.expect("can be unmapped")).len();
    space.check_invariants();
    changes
}

fn perms_of(space: &Space, range: Range<usize>) -> Vec<Option<Perms>> {
    let addrs = pages(range).step_by(PAGE);
    let perms = |addr| space.mapping_at(addr).map(|mapping| mapping.perms_at(addr));
    addrs.map(perms).collect()
}

#[test]
fn large_mappings_are_put_where_huge_pages_fit_if_there_is_room() {
    let place = |space: &Space, count| {
        let plan = space.plan_map(space.root(), request(RW, 0, count, &vmo(), 0));
        (plan.expect("room").range().start - BASE) / PAGE
    };
    let mut space = space();
    let root = space.root();
    map(&mut space, root, RW | SPECIFIC, (0, 1), (&vmo(), 0));
    assert_eq!(place(&space, 31), 1, "shorter than a huge page");
    assert_eq!(place(&space, 32), 32);
    map(&mut space, root, RW | SPECIFIC, (63, 1), (&vmo(), 0));
    assert_eq!(place(&space, 32), 1, "there is no better place");
}

#[test]
fn placement_of_allocate_in_order() {
    let mut space = space();
    let root = space.root();
    let dead = allocate(&mut space, root, CAN_ALL, 60, 2);
    destroy(&mut space, dead);
    let can_read = VmarFlags::CAN_MAP_READ;
    let plain = allocate(&mut space, root, can_read, 0, 8);
    let parent = allocate(&mut space, root, CAN_ALL, 9, 8);
    allocate(&mut space, parent, can_read, 2, 2);
    let no_align = CAN_ALL | SPECIFIC | LIMIT;
    let all_wrong = no_align | VmarFlags::ALIGN_128KB;
    let no_limit = all_wrong - LIMIT;
    let can_specific = VmarFlags::CAN_MAP_SPECIFIC;
    let align = VmarFlags::ALIGN_128KB;
    let huge = 1 << 40;
    let calls = [
        (
            dead,
            all_wrong | VmarFlags::PERM_READ,
            1,
            1,
            Status::INVALID_ARGS,
        ),
        (
            dead,
            all_wrong | VmarFlags::MAP_RANGE,
            1,
            0,
            Status::INVALID_ARGS,
        ),
        (
            dead,
            no_align | VmarFlags::from_bits_retain(5 << 24),
            1,
            0,
            Status::INVALID_ARGS,
        ),
        (dead, all_wrong, 1, 1, Status::INVALID_ARGS),
        (dead, all_wrong, 1, 0, Status::BAD_STATE),
        (plain, all_wrong, 1, 0, Status::INVALID_ARGS),
        (plain, all_wrong, 1, huge, Status::ACCESS_DENIED),
        (
            plain,
            can_specific | SPECIFIC | LIMIT,
            1,
            huge,
            Status::INVALID_ARGS,
        ),
        (plain, can_specific, PAGE, huge, Status::INVALID_ARGS),
        (
            plain,
            can_specific | SPECIFIC,
            1,
            huge,
            Status::INVALID_ARGS,
        ),
        (
            plain,
            can_specific | SPECIFIC,
            PAGE,
            huge,
            Status::ACCESS_DENIED,
        ),
        (
            plain,
            can_specific | LIMIT,
            9 * PAGE,
            huge,
            Status::ACCESS_DENIED,
        ),
        (parent, no_limit, PAGE, huge, Status::INVALID_ARGS),
        (parent, no_limit, 7 * PAGE, 2 * PAGE, Status::INVALID_ARGS),
        (
            parent,
            SPECIFIC,
            usize::MAX - PAGE + 1,
            2 * PAGE,
            Status::INVALID_ARGS,
        ),
        (parent, LIMIT, 9 * PAGE, PAGE, Status::INVALID_ARGS),
        (parent, LIMIT, PAGE, 2 * PAGE, Status::INVALID_ARGS),
        // Page 9 of the root is not aligned to 128 KiB, page 16 is.
        (
            parent,
            SPECIFIC | align,
            2 * PAGE,
            PAGE,
            Status::INVALID_ARGS,
        ),
        (parent, SPECIFIC, 3 * PAGE, 2 * PAGE, Status::ALREADY_EXISTS),
        (parent, SPECIFIC, 0, 8 * PAGE, Status::ALREADY_EXISTS),
        (
            parent,
            VmarFlags::empty(),
            0,
            5 * PAGE,
            Status::NO_RESOURCES,
        ),
        (parent, LIMIT, 5 * PAGE, 3 * PAGE, Status::NO_RESOURCES),
        (parent, align, 0, 2 * PAGE, Status::NO_RESOURCES),
    ];
    for (line, (vmar, flags, offset, size, status)) in calls.into_iter().enumerate() {
        let result = space.allocate(vmar, flags, offset, size);
        assert_eq!(result, Err(status), "call {line}: {flags:?}");
    }
    let base = space.allocate(parent, align, 0, PAGE).expect("page 16").1;
    assert_eq!(base, BASE + 16 * PAGE);
    let base = space
        .allocate(parent, LIMIT, 4 * PAGE, 2 * PAGE)
        .expect("below")
        .1;
    assert_eq!(base, BASE + 9 * PAGE);
    let base = space.allocate(parent, VmarFlags::empty(), 0, 3 * PAGE);
    assert_eq!(base.expect("the last pages").1, BASE + 13 * PAGE);
    let full = space.allocate(parent, VmarFlags::COMPACT, 0, PAGE);
    assert_eq!(full, Err(Status::NO_RESOURCES));
}

#[test]
fn map_in_order() {
    let mut space = space();
    let root = space.root();
    let vmo = vmo();
    let dead = allocate(&mut space, root, CAN_ALL, 60, 2);
    destroy(&mut space, dead);
    let read_only = allocate(&mut space, root, VmarFlags::CAN_MAP_READ, 0, 8);
    allocate(&mut space, root, CAN_ALL, 12, 2);
    map(&mut space, root, RW | SPECIFIC, (10, 2), (&vmo, 0));

    let wrong = |vmar, vmo_offset, len, flags, offset| {
        let wrong = MapRequest {
            vmo_offset,
            len,
            vmar_offset: offset,
            ..request(flags, 0, 0, &vmo, 0)
        };
        space.plan_map(vmar, wrong).err().expect("an error")
    };
    let max = u64::MAX - PAGE as u64 + 1;
    let both = RW | SPECIFIC | LIMIT;
    assert_eq!(
        wrong(dead, 1, usize::MAX, both | VmarFlags::COMPACT, 1),
        Status::INVALID_ARGS
    );
    assert_eq!(
        wrong(dead, 1, usize::MAX, both | CAN_ALL, 1),
        Status::INVALID_ARGS
    );
    assert_eq!(wrong(dead, 1, usize::MAX, both, 1), Status::INVALID_ARGS);
    assert_eq!(wrong(dead, 0, usize::MAX, both, 1), Status::OUT_OF_RANGE);
    assert_eq!(wrong(dead, max, 1, both, 1), Status::OUT_OF_RANGE);
    assert_eq!(
        wrong(dead, max - PAGE as u64, 0, both, 1),
        Status::BAD_STATE
    );
    assert_eq!(wrong(read_only, 0, 0, both, 1), Status::INVALID_ARGS);
    assert_eq!(wrong(read_only, 0, 1, both, 1), Status::ACCESS_DENIED);
    assert_eq!(wrong(root, 0, 1, both, 0), Status::INVALID_ARGS);
    assert_eq!(wrong(root, 0, 1, RW, PAGE), Status::INVALID_ARGS);
    assert_eq!(wrong(root, 0, 1, RW | SPECIFIC, 1), Status::INVALID_ARGS);
    assert_eq!(wrong(root, 0, usize::MAX / 2, RW, 0), Status::INVALID_ARGS);
    assert_eq!(
        wrong(root, 0, 1, RW | SPECIFIC, 11 * PAGE),
        Status::ALREADY_EXISTS
    );
    assert_eq!(
        wrong(root, 0, 1, RW | SPECIFIC, 12 * PAGE),
        Status::ALREADY_EXISTS
    );
    let over = RW | OVERWRITE;
    assert_eq!(
        wrong(root, 0, 2 * PAGE, over, 11 * PAGE),
        Status::INVALID_ARGS
    );
    assert_eq!(wrong(root, 0, 62 * PAGE, RW, 0), Status::NO_RESOURCES);
    assert_eq!(space.mappings().count(), 1);
    // The last byte that a VMO can have may be mapped, and a length is rounded up.
    let last = MapRequest {
        vmo_offset: max - PAGE as u64,
        len: 1,
        ..request(RW, 0, 0, &vmo, 0)
    };
    let plan = space.plan_map(root, last).expect("a mapping");
    assert_eq!(plan.range().len(), PAGE);
}

#[test]
fn a_child_may_allow_what_its_parent_does_not() {
    let mut space = space();
    let root = space.root();
    let can_read = VmarFlags::CAN_MAP_READ;
    let parent = allocate(&mut space, root, can_read, 0, 8);
    let flags = can_read | VmarFlags::CAN_MAP_SPECIFIC;
    let (child, base) = space.allocate(parent, flags, 0, 4 * PAGE).expect("a child");
    assert_eq!(base, BASE);
    let denied = space.allocate(parent, VmarFlags::CAN_MAP_WRITE, 0, PAGE);
    assert_eq!(denied, Err(Status::ACCESS_DENIED));
    let request = MapRequest {
        max_perms: Perms::READ,
        ..request(VmarFlags::PERM_READ | SPECIFIC, 1, 1, &vmo(), 0)
    };
    assert!(space.plan_map(child, request).is_ok());
}

#[test]
fn an_alignment_below_the_page_size_means_nothing() {
    let mut space = space();
    let root = space.root();
    let flags = SPECIFIC | VmarFlags::ALIGN_1KB;
    assert!(space.allocate(root, flags, PAGE, PAGE).is_ok());
    assert!(space.allocate(root, VmarFlags::ALIGN_1KB, 0, PAGE).is_ok());
}

#[test]
fn overwriting_keeps_what_lies_outside() {
    let mut space = space();
    let root = space.root();
    let (old, new) = (vmo(), vmo());
    let first = map(&mut space, root, RW | SPECIFIC, (0, 8), (&old, 100));
    let range = pages(5..8);
    let plan = space.plan_protect(root, Perms::READ, range.start, range.len(), OpChildren::No);
    space.commit_protect(plan.expect("can be protected"));

    let over = RW | OVERWRITE | CANNOT;
    let plan = space.plan_map(root, request(over, 3, 3, &new, 0));
    let plan = plan.expect("can be overwritten");
    assert_eq!(plan.overwrites().len(), 1);
    assert_eq!(plan.overwrites()[0].range, pages(3..6));
    let (id, changes) = space.commit_map(plan);
    space.check_invariants();
    let [change] = &changes[..] else {
        panic!("one mapping was overwritten: {changes:?}");
    };
    assert_eq!((change.old.id(), change.old.range()), (first, pages(0..8)));
    assert!(space.get(first).is_none());
    let left = change
        .left
        .and_then(|left| space.get(left))
        .expect("a left part");
    let right = change
        .right
        .and_then(|right| space.get(right))
        .expect("a right part");
    assert_eq!(
        (left.range(), left.vmo_offset_of(left.range().start)),
        (pages(0..3), 100 * PAGE as u64)
    );
    assert_eq!(
        (right.range(), right.vmo_offset_of(right.range().start)),
        (pages(6..8), 106 * PAGE as u64)
    );
    assert_eq!(
        space.get(id).map(|mapping| mapping.range()),
        Some(pages(3..6))
    );
    let (r, rw) = (Some(Perms::READ), Some(Perms::READ | Perms::WRITE));
    assert_eq!(perms_of(&space, 0..9), [rw, rw, rw, rw, rw, rw, r, r, None]);

    // Overwritten in the middle separates, also where the old VMO comes back at another offset.
    assert_eq!(space.mapping_count(&old), 2);
    assert_eq!(
        space.find(root, BASE + 2 * PAGE, 2 * PAGE).err(),
        Some(Status::INVALID_ARGS)
    );
    map(&mut space, root, RW | OVERWRITE, (3, 3), (&old, 0));
    assert_eq!(space.mapping_count(&old), 3);
    map(&mut space, root, RW | OVERWRITE, (3, 3), (&old, 103));
    assert_eq!(space.mapping_count(&old), 1);
    assert_eq!(space.mapping_count(&new), 0);
}

#[test]
fn unmap_in_order() {
    let mut space = space();
    let root = space.root();
    let child = allocate(&mut space, root, CAN_ALL, 8, 4);
    let dead = allocate(&mut space, root, CAN_ALL, 60, 2);
    destroy(&mut space, dead);
    let vmo = vmo();
    map(&mut space, root, RW | SPECIFIC, (4, 4), (&vmo, 0));
    map(&mut space, child, RW | SPECIFIC, (0, 4), (&vmo, 0));
    let refused = |vmar, addr, len, op| space.plan_unmap(vmar, addr, len, op).err();
    let (yes, no) = (OpChildren::Yes, OpChildren::No);
    let (invalid, bad) = (Some(Status::INVALID_ARGS), Some(Status::BAD_STATE));
    assert_eq!(refused(dead, 1, PAGE, yes), invalid);
    assert_eq!(refused(dead, 0, 0, yes), invalid);
    assert_eq!(refused(dead, 0, usize::MAX, yes), invalid);
    assert_eq!(refused(dead, 0, PAGE, yes), bad);
    assert_eq!(refused(root, BASE - PAGE, PAGE, yes), invalid);
    assert_eq!(refused(root, BASE, (PAGES + 1) * PAGE, yes), invalid);
    assert_eq!(refused(root, usize::MAX - PAGE + 1, 2 * PAGE, yes), invalid);
    assert_eq!(refused(root, BASE + 4 * PAGE, 5 * PAGE, yes), invalid);
    assert_eq!(refused(root, BASE + 9 * PAGE, PAGE, yes), invalid);
    assert_eq!(refused(root, BASE, PAGES * PAGE, no), invalid);
    // The child's own handle can cut its mappings; the length is rounded up.
    assert_eq!(refused(child, BASE + 9 * PAGE, 1, no), None);
    assert_eq!(space.mappings().count(), 2);

    assert_eq!(unmap(&mut space, child, 9..10), 1);
    assert_eq!(space.mapping_count(&vmo), 3);
    assert_eq!(unmap(&mut space, root, 20..30), 0);
    assert_eq!(unmap(&mut space, root, 6..12), 3);
    assert_eq!(space.info(child).err(), bad);
    assert_eq!(space.mappings().count(), 1);
    assert_eq!(perms_of(&space, 4..7).iter().flatten().count(), 2);
}

#[test]
fn protect_in_order() {
    let mut space = space();
    let root = space.root();
    let vmo = vmo();
    let dead = allocate(&mut space, root, CAN_ALL, 60, 2);
    destroy(&mut space, dead);
    // |4 5: rw, greatest r|6 7: r|8: gap in the child, 9 10: r, 11: greatest r| 12: gap
    let child = allocate(&mut space, root, CAN_ALL, 8, 4);
    let read = VmarFlags::PERM_READ | SPECIFIC;
    let greatest_read = |at, page| MapRequest {
        max_perms: Perms::READ,
        ..request(read, at, 1, &vmo, page)
    };
    for (vmar, request) in [(root, greatest_read(5, 9)), (child, greatest_read(3, 9))] {
        let plan = space.plan_map(vmar, request).expect("room");
        space.commit_map(plan);
    }
    map(&mut space, root, RW | SPECIFIC, (4, 1), (&vmo, 0));
    map(&mut space, root, read, (6, 2), (&vmo, 0));
    map(&mut space, child, read, (1, 2), (&vmo, 0));
    let (yes, no) = (OpChildren::Yes, OpChildren::No);
    let (r, rw) = (Perms::READ, Perms::READ | Perms::WRITE);
    let refused = |vmar, perms, range: Range<usize>, op| {
        let range = pages(range);
        space
            .plan_protect(vmar, perms, range.start, range.len(), op)
            .err()
    };
    let (invalid, bad) = (Some(Status::INVALID_ARGS), Some(Status::BAD_STATE));
    let (denied, not_found) = (Some(Status::ACCESS_DENIED), Some(Status::NOT_FOUND));
    assert_eq!(space.plan_protect(dead, rw, 1, PAGE, no).err(), invalid);
    assert_eq!(space.plan_protect(dead, rw, 0, 0, no).err(), invalid);
    assert_eq!(
        space.plan_protect(dead, rw, 0, usize::MAX, no).err(),
        invalid
    );
    assert_eq!(refused(dead, rw, 0..1, no), bad);
    assert_eq!(refused(root, rw, 4..PAGES + 1, no), invalid);
    assert_eq!(refused(child, r, 7..9, no), invalid);
    // From the lowest address up.
    assert_eq!(refused(root, rw, 3..PAGES, no), not_found);
    assert_eq!(refused(root, rw, 4..PAGES, no), denied);
    assert_eq!(refused(root, r, 4..PAGES, no), not_found);
    assert_eq!(refused(root, rw, 6..9, no), not_found);
    assert_eq!(refused(root, r, 9..PAGES, no), invalid);
    assert_eq!(refused(root, rw, 11..12, no), denied);
    assert_eq!(refused(root, rw, 9..PAGES, yes), denied);
    assert_eq!(refused(root, r, 9..13, yes), not_found);
    assert_eq!(refused(root, r, 9..12, yes), None);
    assert_eq!(refused(root, Perms::empty(), 9..12, yes), None);
    assert_eq!(refused(child, rw, 9..11, no), None);
    assert_eq!(refused(root, rw, 6..8, no), None);
    let (r, rw) = (Some(r), Some(rw));
    assert_eq!(perms_of(&space, 4..8), [rw, r, r, r]);
}

#[test]
fn permissions_differ_page_by_page_and_come_back_together() {
    let mut space = space();
    let root = space.root();
    let id = map(&mut space, root, RW | SPECIFIC, (0, 6), (&vmo(), 0));
    let mut protect = |range: Range<usize>, perms| {
        let range = pages(range);
        let plan = space.plan_protect(root, perms, range.start, range.len(), OpChildren::No);
        space.commit_protect(plan.expect("can be protected"));
        space.check_invariants();
        let mapping = space.get(id).expect("still the same mapping");
        mapping.perms_in(mapping.range()).count()
    };
    let rw = Perms::READ | Perms::WRITE;
    assert_eq!(protect(1..2, Perms::READ), 3);
    assert_eq!(protect(3..4, Perms::empty()), 5);
    assert_eq!(protect(2..3, Perms::READ), 4);
    assert_eq!(protect(0..6, Perms::READ), 1);
    assert_eq!(protect(5..6, rw), 2);
    assert_eq!(protect(0..5, rw), 1);
    let mapping = space.get(id).expect("a mapping");
    let runs: Vec<_> = mapping.perms_in(pages(2..4)).collect();
    assert_eq!(runs, [(pages(2..4), rw)]);
}

#[test]
fn destroy_in_order() {
    let mut space = space();
    let root = space.root();
    let outer = allocate(&mut space, root, CAN_ALL, 8, 8);
    let inner = allocate(&mut space, outer, CAN_ALL, 2, 4);
    map(&mut space, inner, RW | SPECIFIC, (0, 1), (&vmo(), 0));
    assert_eq!(space.plan_destroy(root).err(), Some(Status::NOT_SUPPORTED));
    destroy(&mut space, outer);
    for vmar in [outer, inner] {
        assert_eq!(space.plan_destroy(vmar).err(), Some(Status::BAD_STATE));
        assert_eq!(space.info(vmar), Err(Status::BAD_STATE));
        assert_eq!(space.maps(vmar).err(), Some(Status::BAD_STATE));
    }
    assert_eq!(space.mappings().count(), 0);
    // The range is free at once, and an old id does not come alive with it.
    let again = allocate(&mut space, root, CAN_ALL, 8, 8);
    assert_ne!(again, outer);
    assert!(space.info(outer).is_err());
}

#[test]
fn find_in_order() {
    let mut space = space();
    let root = space.root();
    let vmo = vmo();
    let dead = allocate(&mut space, root, CAN_ALL, 60, 2);
    destroy(&mut space, dead);
    let sealed = allocate(&mut space, root, CAN_ALL | CANNOT, 8, 8);
    let below = allocate(&mut space, sealed, CAN_ALL, 0, 4);
    map(&mut space, below, RW | SPECIFIC, (0, 2), (&vmo, 0));
    map(&mut space, root, RW | SPECIFIC | CANNOT, (16, 2), (&vmo, 0));
    map(&mut space, root, RW | SPECIFIC, (18, 2), (&vmo, 2));
    let invalid = Some(Status::INVALID_ARGS);
    let refused = |vmar, addr, size| space.find(vmar, addr, size).err();
    assert_eq!(refused(dead, 1, PAGE), invalid);
    assert_eq!(refused(dead, 0, 1), invalid);
    assert_eq!(refused(dead, 0, 0), invalid);
    assert_eq!(refused(dead, usize::MAX - PAGE + 1, PAGE), invalid);
    assert_eq!(refused(dead, 0, PAGE), Some(Status::BAD_STATE));
    let refused = |vmar, range| {
        let range: Range<usize> = pages(range);
        refused(vmar, range.start, range.len())
    };
    assert_eq!(refused(root, 0..1), invalid);
    assert_eq!(refused(root, 63..65), invalid);
    assert_eq!(refused(below, 18..19), invalid, "outside of the VMAR");
    // Not one mapping comes before the flag; a neighbour with the flag is another mapping.
    assert_eq!(refused(root, 9..11), invalid);
    assert_eq!(refused(root, 17..19), invalid);
    let denied = Some(Status::ACCESS_DENIED);
    for vmar in [root, sealed, below] {
        assert_eq!(refused(vmar, 8..10), denied);
    }
    assert_eq!(refused(root, 16..17), denied);
    let found = space
        .find(root, BASE + 19 * PAGE, PAGE)
        .expect("one mapping");
    assert_eq!(found.vmo_offset, 3 * PAGE as u64);
    assert!(Arc::ptr_eq(found.vmo, &vmo) && !found.executable);
}

#[test]
fn neighbours_that_continue_each_other_are_one_mapping() {
    let mut space = space();
    let root = space.root();
    let vmo = vmo();
    let execute = VmarFlags::PERM_READ | VmarFlags::PERM_EXECUTE | SPECIFIC;
    map(&mut space, root, execute, (0, 2), (&vmo, 5));
    map(&mut space, root, execute, (4, 2), (&vmo, 9));
    map(&mut space, root, execute, (2, 2), (&vmo, 7));
    assert_eq!(
        (space.mappings().count(), space.mapping_count(&vmo)),
        (3, 1)
    );
    assert_eq!(space.maps(root).expect("alive").len(), 2);
    let found = space
        .find(root, BASE + PAGE, 4 * PAGE)
        .expect("one mapping");
    assert!(found.executable);
    assert_eq!(found.vmo_offset, 6 * PAGE as u64);

    // Another permission makes another record, of the same mapping, and executable is every page.
    let range = pages(3..5);
    let plan = space.plan_protect(root, Perms::READ, range.start, range.len(), OpChildren::No);
    space.commit_protect(plan.expect("can be protected"));
    let records = space.maps(root).expect("alive");
    let ranges: Vec<_> = records.iter().map(|record| record.range.clone()).collect();
    assert_eq!(
        ranges,
        [pages(0..64), pages(0..3), pages(3..5), pages(5..6)]
    );
    for record in &records[1..] {
        assert_eq!(record.depth, 1);
        let RecordDetails::Mapping { vmo_offset, .. } = record.details else {
            panic!("not a mapping: {record:?}");
        };
        let page = (record.range.start - BASE) / PAGE;
        assert_eq!(vmo_offset, (5 + page as u64) * PAGE as u64);
    }
    assert_eq!(space.mapping_count(&vmo), 1);
    assert!(
        !space
            .find(root, BASE + PAGE, 4 * PAGE)
            .expect("one mapping")
            .executable
    );

    // Other greatest permissions, another policy, another VMO: other mappings.
    let next = || request(execute, 6, 1, &vmo, 11);
    for request in [
        MapRequest {
            max_perms: Perms::READ | Perms::EXECUTE,
            ..next()
        },
        MapRequest {
            policy: Policy::Traced,
            ..next()
        },
        MapRequest {
            vmo: Arc::new("another"),
            ..next()
        },
        MapRequest {
            vmo_offset: 0,
            ..next()
        },
    ] {
        let plan = space.plan_map(root, request).expect("room");
        space.commit_map(plan);
        let found = space.find(root, BASE + 5 * PAGE, 2 * PAGE);
        assert_eq!(found.err(), Some(Status::INVALID_ARGS));
        unmap(&mut space, root, 6..7);
    }
}

#[test]
fn a_plan_that_is_dropped_changes_nothing() {
    let mut space = space();
    let root = space.root();
    let id = map(&mut space, root, RW | SPECIFIC, (0, 4), (&vmo(), 0));
    let over = request(RW | OVERWRITE, 1, 1, &vmo(), 0);
    drop(space.plan_map(root, over).expect("can be overwritten"));
    drop(space.plan_unmap(root, BASE, PAGE, OpChildren::No));
    drop(space.plan_protect(root, Perms::empty(), BASE, PAGE, OpChildren::No));
    space.check_invariants();
    assert_eq!(
        space.get(id).map(|mapping| mapping.range()),
        Some(pages(0..4))
    );
    assert!(
        perms_of(&space, 0..4)
            .iter()
            .all(|perms| *perms == Some(Perms::READ | Perms::WRITE))
    );
}

#[test]
#[should_panic = "out of date"]
fn a_plan_that_is_out_of_date_is_refused() {
    let mut space = space();
    let root = space.root();
    let plan = space.plan_map(root, request(RW, 0, 1, &vmo(), 0));
    map(&mut space, root, RW, (0, 1), (&vmo(), 0));
    space.commit_map(plan.expect("room"));
}

#[test]
fn twenty_thousand_mappings_fill_to_the_last_page() {
    const COUNT: usize = 20_000;
    let mut space = AddressSpace::new(BASE..BASE + COUNT * PAGE, PAGE, HUGE);
    let root = space.root();
    let vmo = vmo();
    let fill = |space: &mut Space, flags: VmarFlags, offset: usize| {
        let mut made = 0;
        loop {
            match space.plan_map(root, request(flags, offset, 1, &vmo, 0)) {
                Ok(plan) => space.commit_map(plan),
                Err(status) => break (made, status),
            };
            made += 1;
        }
    };
    assert_eq!(fill(&mut space, RW, 0), (COUNT, Status::NO_RESOURCES));
    space.check_invariants();
    for at in (0..COUNT).step_by(2) {
        let plan = space.plan_unmap(root, BASE + at * PAGE, PAGE, OpChildren::No);
        space.commit_unmap(plan.expect("can be unmapped"));
    }
    // Below the limit, then all the rest.
    assert_eq!(
        fill(&mut space, RW | LIMIT, COUNT / 2),
        (COUNT / 4, Status::NO_RESOURCES)
    );
    assert_eq!(fill(&mut space, RW, 0), (COUNT / 4, Status::NO_RESOURCES));
    space.check_invariants();
    assert_eq!(space.maps(root).expect("alive").len(), COUNT + 1);
    let plan = space.plan_unmap(root, BASE, COUNT * PAGE, OpChildren::No);
    assert_eq!(
        space.commit_unmap(plan.expect("can be unmapped")).len(),
        COUNT
    );
    space.check_invariants();
}

#[test]
fn a_tree_of_any_depth() {
    let mut space = space();
    let mut vmar = space.root();
    let mut top = None;
    for _ in 0..100_000 {
        vmar = space.allocate(vmar, CAN_ALL, 0, 2 * PAGE).expect("room").0;
        top.get_or_insert(vmar);
    }
    map(&mut space, vmar, RW | SPECIFIC, (1, 1), (&vmo(), 0));
    assert!(space.mapping_at(BASE + PAGE).is_some());
    assert!(space.find(space.root(), BASE + PAGE, PAGE).is_ok());
    let records = space.maps(space.root()).expect("alive");
    assert_eq!(records.last().map(|record| record.depth), Some(100_001));
    destroy(&mut space, top.expect("the first of them"));
    assert_eq!(space.info(vmar), Err(Status::BAD_STATE));
}
