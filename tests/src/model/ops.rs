//! The steps of a program, and random programs.

use std::fmt;

use cowspace::{Rights, VmarFlags, VmarOp, VmoChildOptions, VmoOp};
use proptest::prelude::*;
use proptest::sample::select;

use crate::page;

/// VMOs are up to so many pages large.
const MOST_PAGES: usize = 12;

/// Where in a VMAR something is to lie. The numbers are pages of it, taken modulo a little more than it has.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Wherever there is room.
    Anywhere,
    /// `SPECIFIC`.
    At(usize),
    /// `SPECIFIC_OVERWRITE`.
    Over(usize),
    /// `OFFSET_IS_UPPER_LIMIT`.
    Below(usize),
}

/// A range of pages that begins in a mapping, and the handle by which it is meant. `first` and `pages` are cut to the mapping unless `beyond`.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which mapping.
    pub mapping: usize,
    /// Which handle of those to a VMAR that holds the mapping or is above; now and then any.
    pub via: usize,
    /// Its page of the mapping.
    pub first: usize,
    /// How many pages.
    pub pages: usize,
    /// May reach over the mapping's end.
    pub beyond: bool,
}

/// Pages to move from one VMO to another. Cut to both unless one of the handles' numbers is high.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The handle to the destination.
    pub to: usize,
    /// The first page there.
    pub at: usize,
    /// The handle to the source.
    pub from: usize,
    /// The first page of it.
    pub from_at: usize,
    /// How many pages.
    pub pages: usize,
    /// So many bytes more, which is an error.
    pub odd: u64,
}

/// One step of a program. Numbers are taken modulo what there is; `first` and `pages` are pages, `at`, `len` and `bytes` bytes. `vmo` is a handle to a VMO,
/// `vmar` one to a VMAR.
#[expect(
    missing_docs,
    reason = "the fields of all variants are explained at the type"
)]
#[derive(Clone, Debug)]
pub enum Op {
    /// Make a VMO.
    Create {
        pages: usize,
        resizable: bool,
        discardable: bool,
    },
    /// Make a child of any kind, possibly over the VMO's end.
    Child {
        vmo: usize,
        options: VmoChildOptions,
        first: usize,
        pages: usize,
    },
    /// Clone a part of a mapping without a handle.
    CloneMapping {
        part: Part,
        options: VmoChildOptions,
    },
    /// Freeze a part of a mapping.
    Freeze { part: Part },
    /// Another handle: the rights of this one, without some and with some.
    Duplicate {
        vmo: usize,
        without: Rights,
        with: Rights,
    },
    /// A handle in place of this one.
    Replace {
        vmo: usize,
        without: Rights,
        with: Rights,
    },
    /// A handle that can execute in place of this one.
    ReplaceAsExecutable { vmo: usize },
    /// Close a handle to a VMO.
    Close { vmo: usize },
    /// `vmo_write`.
    Write { vmo: usize, at: usize, len: usize },
    /// `vmo_op_range`.
    Range {
        vmo: usize,
        op: VmoOp,
        at: usize,
        len: usize,
    },
    /// Commit or decommit pages.
    Pages {
        vmo: usize,
        op: VmoOp,
        first: usize,
        pages: usize,
    },
    /// `vmo_transfer_data`.
    Transfer(Move),
    /// Resize.
    Resize { vmo: usize, bytes: usize },
    /// Set the stream size, possibly by its older name.
    StreamSize {
        vmo: usize,
        bytes: usize,
        property: bool,
    },
    /// Lock or unlock all of a VMO.
    Lock { vmo: usize, op: VmoOp },
    /// Compare a VMO by `vmo_read`.
    Read { vmo: usize },
    /// Compare the object info of all VMOs: it must not change a byte.
    Info,

    /// Make a VMAR.
    Allocate {
        vmar: usize,
        place: Place,
        pages: usize,
        flags: VmarFlags,
    },
    /// Map a part of a VMO, possibly over its end.
    Map {
        vmar: usize,
        vmo: usize,
        place: Place,
        first: usize,
        pages: usize,
        flags: VmarFlags,
        native: bool,
    },
    /// Map all of a VMO wherever there is room.
    MapAll {
        vmar: usize,
        vmo: usize,
        native: bool,
    },
    /// Unmap pages.
    Unmap { part: Part },
    /// Give pages other permissions.
    Protect { part: Part, flags: VmarFlags },
    /// `vmar_op_range`.
    VmarRange { part: Part, op: VmarOp },
    /// End a VMAR.
    Destroy { vmar: usize },
    /// Another handle to a VMAR.
    DuplicateVmar {
        vmar: usize,
        without: Rights,
        with: Rights,
    },
    /// Close a handle to a VMAR.
    CloseVmar { vmar: usize },
    /// Store through a mapping.
    Store {
        mapping: usize,
        at: usize,
        len: usize,
    },
    /// Compare what a mapping shows.
    Load { mapping: usize },
    /// Compare the memory map of a VMAR.
    Maps { vmar: usize },
}

/// A program; shown with a line for each step.
#[derive(Clone)]
pub struct Program(pub Vec<Op>);

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, op) in self.0.iter().enumerate() {
            write!(f, "\n{:>3}  {op:?}", step + 1)?;
        }
        writeln!(f)
    }
}

/// Programs of up to `steps` steps. They begin with a VMO and a mapping of it: without one there is little to do.
pub fn programs(steps: usize) -> impl Strategy<Value = Program> {
    let begin = (create(), any::<bool>()).prop_map(|(create, native)| {
        let (vmar, vmo) = (0, 0);
        vec![create, Op::MapAll { vmar, vmo, native }]
    });
    let rest = prop::collection::vec(op(), 0..steps);
    (begin, rest).prop_map(|(begin, rest)| Program([begin, rest].concat()))
}

fn create() -> impl Strategy<Value = Op> {
    (
        0..=MOST_PAGES,
        prop::bool::weighted(0.4),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(pages, resizable, discardable)| Op::Create {
            pages,
            resizable,
            discardable,
        })
}

fn n() -> std::ops::Range<usize> {
    0..32
}

fn pages() -> std::ops::Range<usize> {
    0..MOST_PAGES + 2
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        40 => vmo_op(),
        40 => vmar_op(),
        4 => handle_op(),
    ]
}

fn vmo_op() -> impl Strategy<Value = Op> {
    let at = || 0..MOST_PAGES * page();
    let len = || prop_oneof![0..64usize, 1..3 * page()];
    let size = || prop_oneof![at(), pages().prop_map(|pages| pages * page())];
    let range_op = || (1..15u32).prop_map(VmoOp::from_raw);
    let lock_op = || select(vec![VmoOp::LOCK, VmoOp::TRY_LOCK, VmoOp::UNLOCK]);
    let page_op = || select(vec![VmoOp::COMMIT, VmoOp::DECOMMIT]);
    prop_oneof![
        3 => create(),
        8 => (n(), child_options(), pages(), pages())
            .prop_map(|(vmo, options, first, pages)| Op::Child { vmo, options, first, pages }),
        6 => (part(), clone_options()).prop_map(|(part, options)| Op::CloneMapping { part, options }),
        3 => part().prop_map(|part| Op::Freeze { part }),
        7 => (n(), at(), len()).prop_map(|(vmo, at, len)| Op::Write { vmo, at, len }),
        3 => (n(), at(), len()).prop_map(|(vmo, at, len)| Op::Range { vmo, op: VmoOp::ZERO, at, len }),
        1 => (n(), range_op(), at(), len()).prop_map(|(vmo, op, at, len)| Op::Range { vmo, op, at, len }),
        3 => (n(), page_op(), pages(), pages()).prop_map(|(vmo, op, first, pages)| Op::Pages { vmo, op, first, pages }),
        6 => transfer().prop_map(Op::Transfer),
        2 => (n(), size()).prop_map(|(vmo, bytes)| Op::Resize { vmo, bytes }),
        3 => (n(), size(), prop::bool::weighted(0.3))
            .prop_map(|(vmo, bytes, property)| Op::StreamSize { vmo, bytes, property }),
        6 => n().prop_map(|vmo| Op::Close { vmo }),
        2 => (n(), lock_op()).prop_map(|(vmo, op)| Op::Lock { vmo, op }),
        2 => n().prop_map(|vmo| Op::Read { vmo }),
        1 => Just(Op::Info),
    ]
}

fn vmar_op() -> impl Strategy<Value = Op> {
    let at = || 0..MOST_PAGES * page();
    let len = || prop_oneof![1..64usize, 1..3 * page()];
    prop_oneof![
        2 => (n(), place(), 1..24usize, region_flags())
            .prop_map(|(vmar, place, pages, flags)| Op::Allocate { vmar, place, pages, flags }),
        6 => (n(), n(), place(), pages(), pages(), map_flags(), any::<bool>()).prop_map(
            |(vmar, vmo, place, first, pages, flags, native)| Op::Map { vmar, vmo, place, first, pages, flags, native }
        ),
        5 => (n(), n(), any::<bool>()).prop_map(|(vmar, vmo, native)| Op::MapAll { vmar, vmo, native }),
        5 => part().prop_map(|part| Op::Unmap { part }),
        3 => (part(), perms()).prop_map(|(part, flags)| Op::Protect { part, flags }),
        3 => (part(), vmar_op_number()).prop_map(|(part, op)| Op::VmarRange { part, op }),
        1 => n().prop_map(|vmar| Op::Destroy { vmar }),
        14 => (n(), at(), len()).prop_map(|(mapping, at, len)| Op::Store { mapping, at, len }),
        2 => n().prop_map(|mapping| Op::Load { mapping }),
        1 => n().prop_map(|vmar| Op::Maps { vmar }),
    ]
}

fn vmar_op_number() -> impl Strategy<Value = VmarOp> {
    prop_oneof![
        4 => select(vec![VmarOp::COMMIT, VmarOp::DECOMMIT, VmarOp::ZERO, VmarOp::MAP_RANGE]),
        1 => (1..15u32).prop_map(VmarOp::from_raw),
    ]
}

fn handle_op() -> impl Strategy<Value = Op> {
    let without = || {
        select(vec![
            Rights::NONE,
            Rights::READ,
            Rights::WRITE,
            Rights::MAP,
            Rights::DUPLICATE,
            Rights::RESIZE,
        ])
    };
    let without_vmar = select(vec![
        Rights::NONE,
        Rights::READ,
        Rights::WRITE,
        Rights::OP_CHILDREN,
        Rights::INSPECT,
        Rights::EXECUTE,
    ]);
    let with = || {
        prop_oneof![
            6 => Just(Rights::NONE),
            1 => Just(Rights::EXECUTE),
            1 => Just(Rights::RESIZE),
            1 => Just(Rights::SAME_RIGHTS),
        ]
    };
    prop_oneof![
        4 => (n(), without(), with()).prop_map(|(vmo, without, with)| Op::Duplicate { vmo, without, with }),
        2 => (n(), without(), with()).prop_map(|(vmo, without, with)| Op::Replace { vmo, without, with }),
        1 => n().prop_map(|vmo| Op::ReplaceAsExecutable { vmo }),
        2 => (n(), without_vmar, with()).prop_map(|(vmar, without, with)| Op::DuplicateVmar { vmar, without, with }),
        1 => n().prop_map(|vmar| Op::CloseVmar { vmar }),
    ]
}

fn transfer() -> impl Strategy<Value = Move> {
    let odd = prop_oneof![24 => Just(0), 1 => Just(1u64)];
    (n(), pages(), n(), pages(), pages(), odd).prop_map(|(to, at, from, from_at, pages, odd)| {
        Move {
            to,
            at,
            from,
            from_at,
            pages,
            odd,
        }
    })
}

fn part() -> impl Strategy<Value = Part> {
    (n(), 0..64usize, pages(), pages(), prop::bool::weighted(0.2)).prop_map(
        |(mapping, via, first, pages, beyond)| Part {
            mapping,
            via,
            first,
            pages,
            beyond,
        },
    )
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => Just(Place::Anywhere),
        3 => (0..64usize).prop_map(Place::At),
        4 => (0..64usize).prop_map(Place::Over),
        1 => (0..64usize).prop_map(Place::Below),
    ]
}

fn child_options() -> impl Strategy<Value = VmoChildOptions> {
    let kind = prop_oneof![
        6 => Just(VmoChildOptions::SNAPSHOT),
        1 => Just(VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE),
        1 => Just(VmoChildOptions::SNAPSHOT_MODIFIED),
        4 => Just(VmoChildOptions::SLICE),
        3 => Just(VmoChildOptions::REFERENCE),
    ];
    let more = prop_oneof![
        16 => Just(VmoChildOptions::empty()),
        4 => Just(VmoChildOptions::RESIZABLE),
        3 => Just(VmoChildOptions::NO_WRITE),
        1 => Just(VmoChildOptions::SLICE),
        1 => Just(VmoChildOptions::RESIZABLE | VmoChildOptions::NO_WRITE),
    ];
    (kind, more).prop_map(|(kind, more)| kind | more)
}

fn clone_options() -> impl Strategy<Value = VmoChildOptions> {
    let no_write = VmoChildOptions::NO_WRITE;
    prop_oneof![
        8 => Just(VmoChildOptions::SNAPSHOT),
        2 => Just(VmoChildOptions::SNAPSHOT_AT_LEAST_ON_WRITE),
        4 => Just(VmoChildOptions::SNAPSHOT | no_write),
        1 => Just(VmoChildOptions::SNAPSHOT_MODIFIED),
        1 => Just(no_write),
    ]
}

fn perms() -> impl Strategy<Value = VmarFlags> {
    let (read, write) = (VmarFlags::PERM_READ, VmarFlags::PERM_WRITE);
    prop_oneof![
        8 => Just(read | write),
        5 => Just(read),
        1 => Just(VmarFlags::empty()),
        1 => Just(read | VmarFlags::PERM_EXECUTE),
        1 => Just(write),
    ]
}

fn align() -> impl Strategy<Value = VmarFlags> {
    let log = page().trailing_zeros();
    prop_oneof![
        8 => Just(VmarFlags::empty()),
        2 => (log..log + 4).prop_map(|log| VmarFlags::from_bits_retain(log << 24)),
    ]
}

fn map_flags() -> impl Strategy<Value = VmarFlags> {
    let more = prop_oneof![
        20 => Just(VmarFlags::empty()),
        2 => Just(VmarFlags::CANNOT_CREATE_VMO_CHILD),
        2 => Just(VmarFlags::MAP_RANGE),
        2 => Just(VmarFlags::REQUIRE_NON_RESIZABLE),
        2 => Just(VmarFlags::ALLOW_FAULTS),
        3 => Just(VmarFlags::ALLOW_FAULTS | VmarFlags::FAULT_BEYOND_STREAM_SIZE),
        1 => Just(VmarFlags::FAULT_BEYOND_STREAM_SIZE),
        1 => Just(VmarFlags::COMPACT),
        1 => Just(VmarFlags::CAN_MAP_READ),
    ];
    (perms(), more, align()).prop_map(|(perms, more, align)| perms | more | align)
}

fn region_flags() -> impl Strategy<Value = VmarFlags> {
    let all = crate::zircon::ALL;
    let (specific, write) = (VmarFlags::CAN_MAP_SPECIFIC, VmarFlags::CAN_MAP_WRITE);
    let kind = prop_oneof![
        12 => Just(all),
        2 => Just(all - specific),
        2 => Just(all - write),
        1 => Just(VmarFlags::empty()),
        2 => Just(all | VmarFlags::CANNOT_CREATE_VMO_CHILD),
        1 => Just(all | VmarFlags::PERM_READ),
    ];
    (kind, align()).prop_map(|(kind, align)| kind | align)
}
