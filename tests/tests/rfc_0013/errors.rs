//! Each error, and which wins when several apply.

use cowspace::{Handle, HandleBased, Rights, Status, Vmar, VmarFlags, Vmo, VmoChildOptions};
use cowspace_tests::zircon::{
    Region, as_vmar, bytes, closed_handle, numbered, refused, with_rights,
};
use cowspace_tests::{RW, page};

use crate::KINDS;

const SNAPSHOT: VmoChildOptions = VmoChildOptions::SNAPSHOT;

#[test]
fn bad_handle() {
    let region = Region::new(1);
    region.map(0, &numbered(1), 0, 1, RW);
    for raw in [0, 1, 2, 3, u32::MAX, closed_handle()] {
        let vmar = Vmar::from(Handle::from_raw(raw));
        let result = vmar.create_vmo_child(SNAPSHOT, region.base, page());
        assert_eq!(refused(result), Status::BAD_HANDLE, "{raw:#x}");
    }
}

#[test]
fn wrong_type() {
    let region = Region::new(1);
    let vmo = numbered(1);
    region.map(0, &vmo, 0, 1, RW);
    for rights in [Rights::SAME_RIGHTS, Rights::NONE] {
        let vmar = as_vmar(with_rights(&vmo, rights));
        let result = vmar.create_vmo_child(SNAPSHOT, region.base, page());
        assert_eq!(refused(result), Status::WRONG_TYPE, "{rights:?}");
    }
}

#[test]
fn inspect_is_the_one_right_that_is_needed() {
    let region = Region::new(1);
    region.map(0, &numbered(1), 0, 1, RW);
    let all = Rights::VMAR_DEFAULT | Rights::READ | Rights::WRITE | Rights::EXECUTE;
    for vmar in [&region.vmar, &Vmar::root_self()] {
        let without = with_rights(vmar, all - Rights::INSPECT);
        let result = without.create_vmo_child(SNAPSHOT, region.base, page());
        assert_eq!(refused(result), Status::ACCESS_DENIED);
        let alone = with_rights(vmar, Rights::INSPECT);
        for kind in KINDS {
            for options in [kind, kind | VmoChildOptions::NO_WRITE] {
                alone
                    .create_vmo_child(options, region.base, page())
                    .expect("INSPECT is enough");
            }
        }
    }
}

#[test]
fn only_the_two_kinds_and_no_write_are_options() {
    let region = Region::new(1);
    region.map(0, &numbered(1), 0, 1, RW);
    let allowed = |options: VmoChildOptions| KINDS.contains(&(options - VmoChildOptions::NO_WRITE));
    let mut granted = 0;
    // Every set of the eight lowest bits, and every other bit with each good set.
    let low = (0..1u32 << 8).map(VmoChildOptions::from_bits_retain);
    let high = (8..32)
        .flat_map(|bit| KINDS.map(|kind| kind | VmoChildOptions::from_bits_retain(1 << bit)));
    for options in low.chain(high) {
        let result = region.vmar.create_vmo_child(options, region.base, page());
        if allowed(options) {
            granted += 1;
            result.expect("a good set of options");
        } else {
            assert_eq!(refused(result), Status::INVALID_ARGS, "{options:?}");
        }
    }
    assert_eq!(granted, 4);
}

#[test]
fn range_that_is_not_page_aligned_or_empty_or_wraps() {
    let region = Region::new(4);
    region.map(0, &numbered(4), 0, 4, RW);
    let (at, size) = (region.base, page());
    for (addr, len) in [
        (at + 1, size),
        (at + size - 1, size),
        (at + size / 2, size / 2),
        (at, 1),
        (at, size - 1),
        (at, size + 1),
        (at, size / 2),
        (at, 2 * size - 1),
        (at, 0),
        (0, 0),
        (at, usize::MAX),
        (at, 0usize.wrapping_sub(at)),
        (at, 0usize.wrapping_sub(size)),
        (usize::MAX - size + 1, size),
        (usize::MAX - size + 1, 2 * size),
    ] {
        let result = region.vmar.create_vmo_child(SNAPSHOT, addr, len);
        assert_eq!(
            refused(result),
            Status::INVALID_ARGS,
            "{len:#x} bytes at {addr:#x}"
        );
    }
}

#[test]
fn destroyed_vmar() {
    let outer = Region::new(8);
    let inner = Region::below(&outer.vmar, 4, crate::flag::ALL_BUT_SPECIFIC);
    let addr = inner
        .vmar
        .map(0, &numbered(1), 0, page(), RW)
        .expect("a VMO can be mapped");
    outer.vmar.destroy().expect("a VMAR can be destroyed once");
    for vmar in [&outer.vmar, &inner.vmar] {
        let result = vmar.create_vmo_child(SNAPSHOT, addr, page());
        assert_eq!(refused(result), Status::BAD_STATE);
    }
    let result = Vmar::root_self().create_vmo_child(SNAPSHOT, addr, page());
    assert_eq!(refused(result), Status::INVALID_ARGS);
}

#[test]
fn errors_of_create_child() {
    // A slice of an anonymous VMO cannot be snapshotted, nor what lies behind it.
    let region = Region::new(4);
    let vmo = numbered(4);
    let slice = vmo
        .create_child(VmoChildOptions::SLICE, bytes(1), bytes(2))
        .expect("a slice can be made");
    region.map(0, &slice, 0, 4, RW);
    for kind in KINDS {
        for (at, pages, status) in [
            (0, 2, Status::NOT_SUPPORTED),
            (1, 1, Status::NOT_SUPPORTED),
            (1, 2, Status::OUT_OF_RANGE),
            (2, 1, Status::OUT_OF_RANGE),
        ] {
            let by_call = slice.create_child(kind, bytes(at), bytes(pages));
            assert_eq!(refused(by_call), status);
            let result = region
                .vmar
                .create_vmo_child(kind, region.at(at), pages * page());
            assert_eq!(refused(result), status, "{pages} pages at {at}");
        }
    }
    assert_eq!(slice.info().expect("a VMO has info").num_children, 0);
}

/// One row of the table of errors, in its order; the last is no error.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Row {
    BadHandle,
    WrongType,
    NoInspect,
    Options,
    Range,
    Destroyed,
    NotOneMapping,
    Flagged,
    OfCreateChild,
    None,
}

impl Row {
    fn status(self) -> Option<Status> {
        match self {
            Row::BadHandle => Some(Status::BAD_HANDLE),
            Row::WrongType => Some(Status::WRONG_TYPE),
            Row::NoInspect | Row::Flagged => Some(Status::ACCESS_DENIED),
            Row::Options | Row::Range | Row::NotOneMapping => Some(Status::INVALID_ARGS),
            Row::Destroyed => Some(Status::BAD_STATE),
            Row::OfCreateChild => Some(Status::NOT_SUPPORTED),
            Row::None => None,
        }
    }
}

#[test]
fn the_earlier_error_wins() {
    let region = Region::new(16);
    let vmo = numbered(2);
    let slice = vmo
        .create_child(VmoChildOptions::SLICE, 0, bytes(2))
        .expect("a slice can be made");
    let cannot = RW | VmarFlags::CANNOT_CREATE_VMO_CHILD;
    region.map(0, &vmo, 0, 2, RW);
    region.map(4, &vmo, 0, 2, cannot);
    region.map(6, &vmo, 0, 2, RW);
    region.map(8, &slice, 0, 2, RW);
    region.map(12, &slice, 0, 2, cannot);
    let dead = Region::new(1);
    dead.vmar.destroy().expect("a VMAR can be destroyed once");

    let none = Rights::NONE;
    let handles = [
        (Vmar::from(Handle::from_raw(0)), Row::BadHandle),
        (as_vmar(with_rights(&vmo, none)), Row::WrongType),
        (as_vmar(with_rights(&vmo, Rights::INSPECT)), Row::WrongType),
        (with_rights(&region.vmar, none), Row::NoInspect),
        (with_rights(&dead.vmar, none), Row::NoInspect),
        (with_rights(&dead.vmar, Rights::INSPECT), Row::Destroyed),
        (with_rights(&region.vmar, Rights::INSPECT), Row::None),
    ];
    let options = [
        (VmoChildOptions::empty(), Row::Options),
        (VmoChildOptions::SLICE, Row::Options),
        (SNAPSHOT | VmoChildOptions::RESIZABLE, Row::Options),
        (SNAPSHOT, Row::None),
    ];
    let size = page();
    let ranges = [
        // Wrong in itself, and besides: in one mapping, in none, in a flagged one, in a slice.
        (region.at(0) + 1, size, Row::Range),
        (region.at(2) + 1, size, Row::Range),
        (region.at(4), 1, Row::Range),
        (region.at(8), 0, Row::Range),
        // In no mapping, in a part of one, in two of which the first or the second is flagged.
        (region.at(2), size, Row::NotOneMapping),
        (region.at(1), 2 * size, Row::NotOneMapping),
        (region.at(5), 2 * size, Row::NotOneMapping),
        (region.at(3), 2 * size, Row::NotOneMapping),
        (region.at(9), 2 * size, Row::NotOneMapping),
        (region.at(4), size, Row::Flagged),
        (region.at(12), size, Row::Flagged),
        (region.at(8), size, Row::OfCreateChild),
        (region.at(0), size, Row::None),
    ];
    for (vmar, of_handle) in &handles {
        for (options, of_options) in options {
            for (addr, len, of_range) in ranges {
                let row = (*of_handle).min(of_options).min(of_range);
                let result = vmar.create_vmo_child(options, addr, len);
                let what = format!("{of_handle:?}, {of_options:?}, {of_range:?}");
                assert_eq!(result.err(), row.status(), "{what}");
                // Whoever was made has ended again, and after an error nobody was.
                for source in [&vmo, &slice] {
                    let children = source.info().expect("a VMO has info").num_children;
                    let slices = usize::from(source.raw_handle() == vmo.raw_handle());
                    assert_eq!(children, slices, "{what}");
                }
            }
        }
    }
}

/// The VMO's own size does not matter where it does not for `create_child`.
#[test]
fn behind_the_end_of_the_vmo_is_no_error() {
    let region = Region::new(4);
    let vmo = numbered(1);
    region.map(0, &vmo, 0, 4, RW);
    let empty = Vmo::create(0).expect("a VMO of no pages can be made");
    let other = Region::new(1);
    other.map(0, &empty, 0, 1, RW);
    for (region, at, pages) in [(&region, 0, 4), (&region, 2, 2), (&other, 0, 1)] {
        let child = crate::clone(region, at, pages).expect("the range lies in one mapping");
        assert_eq!(child.get_size(), Ok(bytes(pages)));
        let first = u8::from(at == 0 && pages == 4);
        let mut expected = vec![0; pages];
        expected[0] = first;
        assert_eq!(cowspace_tests::zircon::firsts(&child, pages), expected);
    }
}
