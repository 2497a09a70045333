//! What the processes say to each other, and what of it is believed.
//!
//! Two conversations:
//!
//! - zygote → launcher, over the launcher's socket: a [`Request`] with [`LAUNCH`] descriptors for each child that is wanted
//! - zygote ↔ child, over the control socket that is one of these: the zygote sends a [`Blueprint`] with the child's standard streams and the layers, as soon as it knows them; it waits for nobody,
//!   the socket keeps the message until the child is there. The child answers with a [`Report`]; if there is none, the launcher does.
//!
//! A message is an allegation: [`Blueprint::check`] looks at everything that can be judged without the engine before anything is done with it. What concerns the
//! layers (their seals and lengths, the tables of pages) the engine checks when it builds the image.

use cowspace::image::VmoRecord;
use serde::{Deserialize, Serialize};

use crate::message::Limits;
use crate::report::LeftOut;

/// What a zygote asks of its launcher: a child. Comes with [`LAUNCH`] descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// At once.
    Now,
    /// As a spare one, when nothing else is to be done.
    Spare,
}

/// Descriptors that come with a [`Request`]: the child's control socket, and the pipe for its wait status.
pub(crate) const LAUNCH: usize = 2;
/// Descriptors that come with a [`Blueprint`] before those of the layers: standard input, output, error.
pub(crate) const STREAMS: usize = 3;

/// The answer to a [`Blueprint`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The launcher's: there is no child, for this reason.
    NotLaunched(String),
    /// The address space is built, in the process of this number; the entry runs next. Comes with a pidfd.
    Ready(i32),
    /// The child ends, for this reason.
    Failed(String),
}

/// Everything a blank child needs to become a clone; its standard streams and the layers come with it as descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Blueprint {
    /// Index into the entries that the launcher was started with.
    pub(crate) entry: u32,
    pub(crate) arguments: Vec<u8>,
    pub(crate) policy: Policy,
    /// Whether the child gets a launcher of its own.
    pub(crate) can_spawn: bool,
    pub(crate) vmos: Vec<VmoRecord>,
    /// By rising address.
    pub(crate) mappings: Vec<Mapping>,
    /// Names of handles and the index of the VMO that each refers to.
    pub(crate) handles: Vec<(String, u32)>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// `cowspace::Policy` as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Policy {
    Traced,
    Native,
}

/// A mapping to be made: part of one VMO at one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapping {
    pub(crate) address: u64,
    /// Index into the VMOs.
    pub(crate) vmo: u32,
    pub(crate) vmo_offset: u64,
    /// Permissions, by rising address without gaps; their lengths add up to the mapping's.
    pub(crate) runs: Vec<Run>,
}

/// Pages of a mapping with the same permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// In bytes.
    pub(crate) len: u64,
    pub(crate) access: Access,
}

/// The permissions that a mapping can have: writing and executing imply reading (`zx_vmar_map`), and a clone is never both writable and executable (RFC-0013).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    None,
    Read,
    ReadWrite,
    ReadExecute,
}

/// Of a request or a report: a number and some descriptors, or a line of text.
pub(crate) const SHORT: Limits = Limits {
    bytes: 4096,
    descriptors: LAUNCH,
};

/// A blueprint may come with as many layers as the receiver may have descriptors, and tables of any length that a machine could need.
pub(crate) fn blueprint_limits() -> Limits {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Limits {
        bytes: 1 << 30,
        descriptors: descriptors
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX),
    }
}

/// Why a [`Blueprint`] is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it names an entry that this program has not")]
    Entry,
    #[error("it refers to a VMO that it does not describe")]
    Vmo,
    #[error("it names two handles alike")]
    HandleName,
    #[error("a mapping is empty, not on page boundaries, or reaches past the end of all addresses")]
    Range,
    #[error("its mappings overlap or are not in order")]
    Overlap,
}

impl Blueprint {
    /// Checks what can be judged without the engine.
    pub(crate) fn check(&self, entries: usize, page_size: usize) -> Result<(), Refused> {
        if self.entry as usize >= entries {
            return Err(Refused::Entry);
        }
        check_handles(&self.handles, self.vmos.len())?;
        check_mappings(&self.mappings, self.vmos.len(), page_size)
    }
}

fn check_handles(handles: &[(String, u32)], vmos: usize) -> Result<(), Refused> {
    if handles.iter().any(|(_, vmo)| *vmo as usize >= vmos) {
        return Err(Refused::Vmo);
    }
    let mut names: Vec<&str> = handles.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.is_sorted_by(|a, b| a < b) {
        Ok(())
    } else {
        Err(Refused::HandleName)
    }
}

fn check_mappings(mappings: &[Mapping], vmos: usize, page_size: usize) -> Result<(), Refused> {
    let mut free_from = 0;
    for mapping in mappings {
        if mapping.vmo as usize >= vmos {
            return Err(Refused::Vmo);
        }
        let end = mapping.end(page_size).ok_or(Refused::Range)?;
        if mapping.address < free_from {
            return Err(Refused::Overlap);
        }
        free_from = end;
    }
    Ok(())
}

impl Mapping {
    /// The sum of the runs, in bytes; `None` if it exceeds what a length can be.
    pub(crate) fn len(&self) -> Option<u64> {
        self.runs
            .iter()
            .try_fold(0_u64, |sum, run| sum.checked_add(run.len))
    }

    /// Where the mapping ends, if all its numbers are whole pages, no run is empty, and nothing wraps.
    fn end(&self, page_size: usize) -> Option<u64> {
        let page_size = page_size as u64;
        let whole = |bytes: u64| bytes.is_multiple_of(page_size);
        let runs_whole = self.runs.iter().all(|run| run.len > 0 && whole(run.len));
        if self.runs.is_empty() || !runs_whole || !whole(self.address) || !whole(self.vmo_offset) {
            return None;
        }
        let len = self.len()?;
        self.vmo_offset.checked_add(len)?;
        let end = self.address.checked_add(len)?;
        usize::try_from(end).is_ok().then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 16384;

    fn run(len: u64) -> Run {
        let access = Access::Read;
        Run { len, access }
    }

    fn mapping(address: u64, vmo_offset: u64, runs: &[u64]) -> Mapping {
        Mapping {
            address,
            vmo: 0,
            vmo_offset,
            runs: runs.iter().copied().map(run).collect(),
        }
    }

    fn check(mappings: &[Mapping]) -> Result<(), Refused> {
        check_mappings(mappings, 1, PAGE as usize)
    }

    #[test]
    fn mappings_side_by_side_are_right() {
        let side_by_side = [
            mapping(PAGE, 0, &[PAGE, 2 * PAGE]),
            mapping(4 * PAGE, 5 * PAGE, &[PAGE]),
        ];
        assert_eq!(check(&side_by_side), Ok(()));
    }

    #[test]
    fn mappings_that_overlap_are_refused() {
        assert_eq!(
            check(&[mapping(0, 0, &[2 * PAGE]), mapping(PAGE, 0, &[PAGE])]),
            Err(Refused::Overlap)
        );
        assert_eq!(
            check(&[mapping(PAGE, 0, &[PAGE]), mapping(0, 0, &[PAGE])]),
            Err(Refused::Overlap)
        );
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let last_page = u64::MAX - PAGE + 1;
        for wrong in [
            mapping(0, 0, &[]),
            mapping(0, 0, &[PAGE, 0]),
            mapping(0, 0, &[PAGE / 2]),
            mapping(PAGE / 2, 0, &[PAGE]),
            mapping(0, 1, &[PAGE]),
            mapping(last_page, 0, &[PAGE]),
            mapping(0, last_page, &[PAGE]),
            mapping(0, 0, &[last_page, last_page]),
        ] {
            assert_eq!(
                check(std::slice::from_ref(&wrong)),
                Err(Refused::Range),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn vmos_that_are_not_described_are_refused() {
        assert_eq!(
            check_mappings(&[mapping(0, 0, &[PAGE])], 0, PAGE as usize),
            Err(Refused::Vmo)
        );
        assert_eq!(check_handles(&[("a".to_owned(), 1)], 1), Err(Refused::Vmo));
    }

    #[test]
    fn handles_named_alike_are_refused() {
        let alike = [
            ("a".to_owned(), 0),
            ("b".to_owned(), 0),
            ("a".to_owned(), 0),
        ];
        assert_eq!(check_handles(&alike[..2], 1), Ok(()));
        assert_eq!(check_handles(&alike, 1), Err(Refused::HandleName));
    }

    prop_compose! {
        /// Small numbers, so that much is nearly right; in pages, but for a byte now and then.
        fn some_mapping()(
            address in 0_u64..8,
            vmo in 0_u32..2,
            vmo_offset in 0_u64..3,
            runs in proptest::collection::vec(0_u64..3, 0..3),
            astray in proptest::option::weighted(0.1, 1_u64..PAGE),
        ) -> Mapping {
            let runs: Vec<u64> = runs.iter().map(|pages| pages * PAGE).collect();
            Mapping { vmo, ..mapping(address * PAGE + astray.unwrap_or(0), vmo_offset * PAGE, &runs) }
        }
    }

    proptest! {
        /// What is let through holds all that the child relies on.
        #[test]
        fn mappings_are_refused_or_right(mappings in proptest::collection::vec(some_mapping(), 0..4)) {
            let mut pages = HashSet::new();
            let right = mappings.iter().all(|mapping| {
                let len = mapping.len().unwrap();
                let first = mapping.address / PAGE;
                mapping.vmo == 0
                    && len > 0
                    && mapping.runs.iter().all(|run| run.len > 0)
                    && mapping.address.is_multiple_of(PAGE)
                    && (first..first + len / PAGE).all(|page| pages.insert(page))
            });
            let in_order = mappings.is_sorted_by_key(|mapping| mapping.address);
            prop_assert_eq!(check(&mappings).is_ok(), right && in_order);
        }

        /// Whatever a peer sends: no panic.
        #[test]
        fn any_bytes_are_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(blueprint) = postcard::from_bytes::<Blueprint>(&bytes) {
                let _ = blueprint.check(1, PAGE as usize);
            }
        }
    }
}
