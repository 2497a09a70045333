//! What the call returns: the rights of the handle, and what the new VMO is.

use cowspace::{
    HandleBased, Koid, Name, Rights, Status, VmarFlags, Vmo, VmoChildOptions, VmoInfoFlags,
};
use cowspace_tests::zircon::{
    Region, bytes, firsts, numbered, put, refused, rights_of, with_rights,
};
use cowspace_tests::{RW, page};

use crate::{KINDS, clone};

const NO_WRITE: VmoChildOptions = VmoChildOptions::NO_WRITE;
const READ: VmarFlags = VmarFlags::PERM_READ;
const CODE: VmarFlags = VmarFlags::PERM_READ.union(VmarFlags::PERM_EXECUTE);

fn executable(pages: usize) -> Vmo {
    numbered(pages)
        .replace_as_executable()
        .expect("this process may make code")
}

/// The rights of clones of a page, without and with NO_WRITE, checked to be the same for both kinds.
#[track_caller]
fn rights(region: &Region, at: usize, pages: usize) -> [Rights; 2] {
    [VmoChildOptions::empty(), NO_WRITE].map(|no_write| {
        let of = |kind| {
            let child = region
                .vmar
                .create_vmo_child(kind | no_write, region.at(at), pages * page())
                .expect("one mapping");
            rights_of(&child)
        };
        let [one, other] = KINDS.map(of);
        assert_eq!(one, other);
        one
    })
}

const DEFAULT: Rights = Rights::VMO_DEFAULT;
const READ_ONLY: Rights = Rights::VMO_DEFAULT.difference(Rights::WRITE);

#[test]
fn default_rights_whatever_the_mapping_and_its_handle() {
    // The default rights by their number, so that nobody's constant can be wrong.
    assert_eq!(DEFAULT.bits(), 0xd0ef);
    let vmo = executable(1);
    let map = Rights::MAP | Rights::READ | Rights::WRITE;
    for handle in [DEFAULT | Rights::EXECUTE, map, map | Rights::EXECUTE] {
        let handle = with_rights(&vmo, handle);
        for flags in [VmarFlags::empty(), READ, RW] {
            let region = Region::new(1);
            region.map(0, &handle, 0, 1, flags);
            assert_eq!(rights(&region, 0, 1), [DEFAULT, READ_ONLY], "{flags:?}");
        }
    }
    let bare = with_rights(&vmo, Rights::MAP);
    let region = Region::new(1);
    region.map(0, &bare, 0, 1, VmarFlags::empty());
    assert_eq!(rights(&region, 0, 1), [DEFAULT, READ_ONLY]);
}

#[test]
fn default_rights_whatever_the_handle_of_the_vmar() {
    let region = Region::new(1);
    region.map(0, &numbered(1), 0, 1, RW);
    let vmar = with_rights(&region.vmar, Rights::INSPECT);
    for (options, expected) in [
        (VmoChildOptions::SNAPSHOT, DEFAULT),
        (VmoChildOptions::SNAPSHOT | NO_WRITE, READ_ONLY),
    ] {
        let child = vmar.create_vmo_child(options, region.base, page());
        assert_eq!(rights_of(&child.expect("one mapping")), expected);
    }
}

#[test]
fn execute_where_the_mapping_is_executable_and_the_clone_read_only() {
    let vmo = executable(1);
    for flags in [CODE, CODE | VmarFlags::PERM_WRITE] {
        let region = Region::new(1);
        region.map(0, &vmo, 0, 1, flags);
        assert_eq!(
            rights(&region, 0, 1),
            [DEFAULT, READ_ONLY | Rights::EXECUTE],
            "{flags:?}"
        );
    }
}

#[test]
fn executable_is_the_permission_at_the_time_of_the_call() {
    let vmo = executable(2);
    let region = Region::new(2);
    region.map(0, &vmo, 0, 2, READ);
    let code = READ_ONLY | Rights::EXECUTE;
    assert_eq!(rights(&region, 0, 2), [DEFAULT, READ_ONLY]);
    region.protect(0, 1, CODE);
    assert_eq!(rights(&region, 0, 1), [DEFAULT, code]);
    assert_eq!(rights(&region, 1, 1), [DEFAULT, READ_ONLY]);
    // A range is executable if all of it is.
    assert_eq!(rights(&region, 0, 2), [DEFAULT, READ_ONLY]);
    region.protect(1, 1, CODE);
    assert_eq!(rights(&region, 0, 2), [DEFAULT, code]);
    region.protect(0, 2, READ);
    assert_eq!(rights(&region, 0, 2), [DEFAULT, READ_ONLY]);
    region.protect(0, 2, VmarFlags::empty());
    assert_eq!(rights(&region, 0, 2), [DEFAULT, READ_ONLY]);
}

#[test]
fn an_executable_clone_is_never_writable() {
    let region = Region::new(4);
    region.map(0, &executable(1), 0, 1, CODE);
    let child = region
        .vmar
        .create_vmo_child(VmoChildOptions::SNAPSHOT | NO_WRITE, region.base, page())
        .expect("one mapping");
    region.map(1, &child, 0, 1, CODE);
    let write = RW | VmarFlags::PERM_EXECUTE;
    let result = region.try_map(2, &child, 0, 1, write);
    assert_eq!(refused(result), Status::ACCESS_DENIED);
    let result = region.vmar.protect(region.at(1), page(), write);
    assert_eq!(refused(result), Status::ACCESS_DENIED);
    assert_eq!(refused(child.write(&[1], 0)), Status::ACCESS_DENIED);
    // Nor can it be made so.
    let more = child.duplicate_handle(rights_of(&child) | Rights::WRITE);
    assert_eq!(refused(more), Status::INVALID_ARGS);
    // A clone of the clone's mapping is code again, if it is read-only again.
    assert_eq!(
        rights(&region, 1, 1),
        [DEFAULT, READ_ONLY | Rights::EXECUTE]
    );
}

#[test]
fn a_clone_of_a_read_only_mapping_is_writable() {
    let vmo = numbered(1);
    let region = Region::new(2);
    region.map(
        0,
        &with_rights(&vmo, Rights::MAP | Rights::READ),
        0,
        1,
        READ,
    );
    let child = clone(&region, 0, 1).expect("one mapping");
    put(&child, 0, 9);
    region.map(1, &child, 0, 1, RW);
    cowspace_tests::memory(region.at(1), 1).store_u8(0, 10);
    assert_eq!((firsts(&child, 1), firsts(&vmo, 1)), (vec![10], vec![1]));
}

#[test]
fn a_clone_without_write_cannot_be_written() {
    let region = Region::new(2);
    region.map(0, &numbered(1), 0, 1, RW);
    for kind in KINDS {
        let child = region
            .vmar
            .create_vmo_child(kind | NO_WRITE, region.base, page())
            .expect("one mapping");
        assert_eq!(refused(child.write(&[1], 0)), Status::ACCESS_DENIED);
        let zero = child.op_range(cowspace::VmoOp::ZERO, 0, bytes(1));
        assert_eq!(refused(zero), Status::ACCESS_DENIED);
        let result = region.try_map(1, &child, 0, 1, RW);
        assert_eq!(refused(result), Status::ACCESS_DENIED);
        assert_eq!(firsts(&child, 1), [1]);
    }
}

#[test]
fn the_result_is_not_resizable() {
    let vmo = Vmo::create_with_opts(cowspace::VmoOptions::RESIZABLE, bytes(2))
        .expect("a VMO can be made");
    let region = Region::new(3);
    region.map(0, &vmo, 0, 2, RW);
    let child = clone(&region, 0, 2).expect("one mapping");
    assert_eq!(refused(child.set_size(bytes(1))), Status::UNAVAILABLE);
    let info = child.info().expect("a VMO has info");
    assert!(!info.flags.contains(VmoInfoFlags::RESIZABLE));
    region.map(2, &child, 0, 1, RW | VmarFlags::REQUIRE_NON_RESIZABLE);
}

#[test]
fn the_result_is_a_new_vmo_and_a_child() {
    let vmo = numbered(4);
    vmo.set_name(&Name::new_lossy("source"))
        .expect("a VMO can be named");
    let region = Region::new(3);
    region.map(0, &vmo, 1, 3, RW);
    let koid = vmo.info().expect("a VMO has info").koid;
    let mut children = Vec::new();
    for kind in KINDS {
        for options in [kind, kind | NO_WRITE] {
            let child = region
                .vmar
                .create_vmo_child(options, region.at(1), 2 * page())
                .expect("one mapping");
            let info = child.info().expect("a VMO has info");
            assert_ne!(info.koid, koid);
            assert_eq!(info.parent_koid, koid);
            assert_eq!(info.size_bytes, bytes(2));
            assert_eq!(info.name, Name::new_lossy("source"));
            assert_eq!((info.num_children, info.num_mappings), (0, 0));
            // As `create_child` says it, and so for a snapshot that nobody can write.
            let mut flags =
                VmoInfoFlags::TYPE_PAGED | VmoInfoFlags::VIA_HANDLE | VmoInfoFlags::IS_COW_CLONE;
            let immutable = options == VmoChildOptions::SNAPSHOT | NO_WRITE;
            flags.set(VmoInfoFlags::IMMUTABLE, immutable);
            assert_eq!(info.flags, flags, "{options:?}");
            assert_eq!(firsts(&child, 2), [3, 4]);
            children.push(child);
            let source = vmo.info().expect("a VMO has info");
            assert_eq!(source.num_children, children.len());
        }
    }
    while children.pop().is_some() {
        let source = vmo.info().expect("a VMO has info");
        assert_eq!(source.num_children, children.len());
    }
}

#[test]
fn the_parent_is_the_vmo_that_is_mapped() {
    let root = numbered(2);
    let snapshot = root
        .create_child(VmoChildOptions::SNAPSHOT, 0, bytes(2))
        .expect("a snapshot can be made");
    let reference = root
        .create_child(VmoChildOptions::REFERENCE, 0, 0)
        .expect("a reference can be made");
    for vmo in [&root, &snapshot, &reference] {
        let region = Region::new(2);
        region.map(0, vmo, 0, 2, RW);
        let before = vmo.info().expect("a VMO has info");
        let child = clone(&region, 0, 2).expect("one mapping");
        assert_eq!(
            child.info().expect("a VMO has info").parent_koid,
            before.koid
        );
        let after = vmo.info().expect("a VMO has info");
        assert_eq!(after.num_children, before.num_children + 1);
    }
    // A VMO that has no parent any more leaves its children none.
    let region = Region::new(1);
    let vmo = numbered(1);
    region.map(0, &vmo, 0, 1, RW);
    let child = clone(&region, 0, 1).expect("one mapping");
    drop(vmo);
    let parent = || child.info().expect("a VMO has info").parent_koid;
    assert_ne!(parent(), Koid::INVALID, "the mapping keeps it alive");
    region.unmap(0, 1);
    assert_eq!(parent(), Koid::INVALID);
}
