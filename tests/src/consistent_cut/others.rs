//! What is done to the pages behind those of the writers, by calls, while they write.

use cowspace::{Policy, TransferDataOptions, Vmar, VmarFlags, VmarOp, Vmo, VmoOp};
use proptest::prelude::*;
use proptest::sample::select;

use crate::{RW, memory, page, unmap};

/// So many pages.
pub(super) const OTHERS: usize = 12;

/// Something done to pages. `first` is one of the others, `pages` are cut to them.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are explained at the type")]
pub enum Step {
    /// `vmo_write`.
    Write { first: usize, pages: usize },
    /// `vmo_op_range`: `ZERO` or `COMMIT`.
    Range {
        op: VmoOp,
        first: usize,
        pages: usize,
    },
    /// `vmar_op_range`: `ZERO` or `COMMIT`.
    VmarRange {
        op: VmarOp,
        first: usize,
        pages: usize,
    },
    /// Give pages of the mapping other permissions.
    Protect {
        first: usize,
        pages: usize,
        flags: VmarFlags,
    },
    /// Move pages elsewhere among the others.
    Move {
        first: usize,
        pages: usize,
        to: usize,
    },
    /// Move pages in from a VMO that ends then.
    MoveIn { first: usize, pages: usize },
    /// Move pages out to a VMO that ends then.
    MoveOut { first: usize, pages: usize },
    /// Set the stream size to the beginning of a page.
    StreamSize { first: usize },
    /// Map everything once more, look at it and unmap it.
    MapMore { native: bool },
}

/// A random step.
pub fn step() -> impl Strategy<Value = Step> {
    let first = || 0..OTHERS;
    let pages = || 0..=OTHERS;
    let range_op = select(vec![VmoOp::ZERO, VmoOp::COMMIT]);
    let vmar_op = select(vec![VmarOp::ZERO, VmarOp::COMMIT]);
    let flags = select(vec![VmarFlags::empty(), VmarFlags::PERM_READ, RW]);
    prop_oneof![
        4 => (first(), pages()).prop_map(|(first, pages)| Step::Write { first, pages }),
        2 => (range_op, first(), pages()).prop_map(|(op, first, pages)| Step::Range { op, first, pages }),
        2 => (vmar_op, first(), pages()).prop_map(|(op, first, pages)| Step::VmarRange { op, first, pages }),
        2 => (first(), pages(), flags).prop_map(|(first, pages, flags)| Step::Protect { first, pages, flags }),
        2 => (first(), pages(), first()).prop_map(|(first, pages, to)| Step::Move { first, pages, to }),
        1 => (first(), pages()).prop_map(|(first, pages)| Step::MoveIn { first, pages }),
        1 => (first(), pages()).prop_map(|(first, pages)| Step::MoveOut { first, pages }),
        1 => first().prop_map(|first| Step::StreamSize { first }),
        1 => any::<bool>().prop_map(|native| Step::MapMore { native }),
    ]
}

/// The other pages of a VMO, which is mapped whole.
pub(super) struct Others<'a> {
    vmo: &'a Vmo,
    address: usize,
    /// Where they begin in both.
    start: usize,
    /// The byte that fills each page.
    values: [u8; OTHERS],
    written: u8,
    stream: usize,
}

impl Others<'_> {
    pub(super) fn new(vmo: &Vmo, address: usize, start: usize) -> Others<'_> {
        Others {
            vmo,
            address,
            start,
            values: [0; OTHERS],
            written: 0,
            stream: OTHERS,
        }
    }

    fn at(&self, page_number: usize) -> usize {
        self.start + page_number * page()
    }

    /// New bytes for pages from `first` on.
    fn fill(&mut self, first: usize, pages: usize) -> Vec<u8> {
        self.written = self.written % 250 + 1;
        self.values[first..first + pages].fill(self.written);
        vec![self.written; pages * page()]
    }

    fn transfer(to: &Vmo, at: usize, pages: usize, from: &Vmo, from_at: usize) {
        let (at, from_at) = (at as u64, from_at as u64);
        let len = (pages * page()) as u64;
        to.transfer_data(TransferDataOptions::empty(), at, len, from, from_at)
            .expect("both have the range");
    }

    pub(super) fn take(&mut self, step: &Step) {
        let (vmo, root) = (self.vmo, Vmar::root_self());
        let new = |pages: usize| Vmo::create((pages * page()) as u64).expect("a VMO can be made");
        match *step {
            Step::Write { first, pages } => {
                let bytes = self.fill(first, pages.min(OTHERS - first));
                vmo.write(&bytes, self.at(first) as u64).expect("inside");
            }
            Step::Range { op, first, pages } => {
                let pages = pages.min(OTHERS - first);
                vmo.op_range(op, self.at(first) as u64, (pages * page()) as u64)
                    .expect("inside");
                if op == VmoOp::ZERO {
                    self.values[first..first + pages].fill(0);
                }
            }
            Step::VmarRange { op, first, pages } => {
                let pages = pages.clamp(1, OTHERS - first);
                root.op_range(op, self.address + self.at(first), pages * page())
                    .expect("mapped");
                if op == VmarOp::ZERO {
                    self.values[first..first + pages].fill(0);
                }
            }
            Step::Protect {
                first,
                pages,
                flags,
            } => {
                let pages = pages.clamp(1, OTHERS - first);
                root.protect(self.address + self.at(first), pages * page(), flags)
                    .expect("mapped");
            }
            Step::Move { first, pages, to } => {
                let pages = pages.min(OTHERS - first).min(OTHERS - to);
                Self::transfer(vmo, self.at(to), pages, vmo, self.at(first));
                let moved = self.values[first..first + pages].to_vec();
                self.values[first..first + pages].fill(0);
                self.values[to..to + pages].copy_from_slice(&moved);
            }
            Step::MoveIn { first, pages } => {
                let pages = pages.min(OTHERS - first);
                let from = new(pages);
                from.write(&self.fill(first, pages), 0).expect("inside");
                Self::transfer(vmo, self.at(first), pages, &from, 0);
            }
            Step::MoveOut { first, pages } => {
                let pages = pages.min(OTHERS - first);
                Self::transfer(&new(pages), 0, pages, vmo, self.at(first));
                self.values[first..first + pages].fill(0);
            }
            Step::StreamSize { first } => {
                vmo.set_stream_size(self.at(first) as u64).expect("inside");
                if first != self.stream {
                    self.values[first.min(self.stream)..].fill(0);
                }
                self.stream = first;
            }
            Step::MapMore { native } => {
                let policy = if native {
                    Policy::Native
                } else {
                    Policy::Traced
                };
                let len = self.at(OTHERS);
                let more = root.map_with_policy(0, vmo, 0, len, RW, policy);
                let more = more.expect("a mapping");
                let mut shown = vec![0; len];
                memory(more, len).read(0, &mut shown);
                self.check(&shown);
                unmap(more, len);
            }
        }
    }

    /// Compares the other pages of the whole VMO's bytes.
    pub(super) fn check(&self, bytes: &[u8]) {
        for (number, value) in self.values.iter().enumerate() {
            let shown = &bytes[self.at(number)..self.at(number + 1)];
            assert!(
                shown.iter().all(|byte| byte == value),
                "page {number} of the others is {} and not {value}",
                shown[0]
            );
        }
    }

    /// Makes all of the mapping readable again.
    pub(super) fn open(&self) {
        let (address, len) = (self.address + self.start, OTHERS * page());
        Vmar::root_self()
            .protect(address, len, RW)
            .expect("it is mapped");
    }
}
