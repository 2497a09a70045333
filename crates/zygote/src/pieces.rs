//! Which records of the memory map are cloned together.
//!
//! The map has a record for each run of pages with the same permissions, so one mapping may be several records. One clone of the whole is better than many
//! of its parts: it is one instant, one VMO and one image. Records are therefore joined as long as they can be parts of one mapping; whether they are, only the
//! engine knows (`zx_vmar_create_vmo_child` answers `INVALID_ARGS` if not), and then each is cloned by itself.

use std::fmt;

use cowspace::{Koid, MapsDetails, MapsInfo, Name, VmarFlags};

use crate::protocol::{Access, Run};

/// One or several records that continue each other, of the same VMO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) name: Name,
    pub(crate) base: usize,
    pub(crate) size: usize,
    pub(crate) vmo: Koid,
    pub(crate) vmo_offset: u64,
    /// Executable memory is cloned with `NO_WRITE`, so it is not joined with other.
    pub(crate) executable: bool,
    pub(crate) records: Vec<Record>,
    depth: usize,
}

/// A record of the map, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) base: usize,
    pub(crate) size: usize,
    /// `PERM_` flags.
    pub(crate) access: VmarFlags,
}

/// Joins the mappings of a memory map into pieces, by rising address.
pub(crate) fn pieces(maps: &[MapsInfo]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for next in maps.iter().filter_map(Piece::of_record) {
        match pieces.last_mut() {
            Some(last) if last.continues_in(&next) => {
                last.size += next.size;
                last.records.extend(next.records);
            }
            _ => pieces.push(next),
        }
    }
    // The walk goes down into a child VMAR before it goes on; siblings come by rising address, so this only reorders where a VMAR is not a leaf.
    pieces.sort_unstable_by_key(|piece| piece.base);
    pieces
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, end) = (self.base, self.base + self.size);
        write!(f, "the mapping {base:#x}..{end:#x} ({})", self.name)
    }
}

impl Piece {
    fn of_record(info: &MapsInfo) -> Option<Self> {
        let MapsDetails::Mapping(mapping) = info.details else {
            return None;
        };
        Some(Self {
            name: info.name,
            base: info.base,
            size: info.size,
            vmo: mapping.vmo_koid,
            vmo_offset: mapping.vmo_offset,
            executable: mapping.mmu_flags.contains(VmarFlags::PERM_EXECUTE),
            records: vec![Record {
                base: info.base,
                size: info.size,
                access: mapping.mmu_flags,
            }],
            depth: info.depth,
        })
    }

    fn continues_in(&self, next: &Self) -> bool {
        self.vmo == next.vmo
            && self.depth == next.depth
            && self.executable == next.executable
            && self.base.checked_add(self.size) == Some(next.base)
            && self.vmo_offset.checked_add(self.size as u64) == Some(next.vmo_offset)
    }

    /// Each record as a piece of its own.
    pub(crate) fn split(&self) -> Vec<Self> {
        let part = |record: &Record| Self {
            base: record.base,
            size: record.size,
            vmo_offset: self.vmo_offset + (record.base - self.base) as u64,
            records: vec![*record],
            ..self.clone()
        };
        self.records.iter().map(part).collect()
    }

    /// Whether a part of it is writable and executable, of which a clone is only the latter.
    pub(crate) fn loses_writing(&self) -> bool {
        let both = VmarFlags::PERM_WRITE | VmarFlags::PERM_EXECUTE;
        self.records
            .iter()
            .any(|record| record.access.contains(both))
    }

    /// The permissions of the clone's pages.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let run = |record: &Record| Run {
            len: record.size as u64,
            access: if record.access.contains(VmarFlags::PERM_EXECUTE) {
                Access::ReadExecute
            } else if record.access.contains(VmarFlags::PERM_WRITE) {
                Access::ReadWrite
            } else if record.access.contains(VmarFlags::PERM_READ) {
                Access::Read
            } else {
                Access::None
            },
        };
        self.records.iter().map(run).collect()
    }
}

#[cfg(test)]
mod tests {
    use cowspace::MappingDetails;

    use super::*;

    const READ: VmarFlags = VmarFlags::PERM_READ;
    const READ_WRITE: VmarFlags = VmarFlags::PERM_READ.union(VmarFlags::PERM_WRITE);
    const READ_EXECUTE: VmarFlags = VmarFlags::PERM_READ.union(VmarFlags::PERM_EXECUTE);

    fn mapping(
        base: usize,
        size: usize,
        depth: usize,
        vmo: u64,
        vmo_offset: u64,
        mmu_flags: VmarFlags,
    ) -> MapsInfo {
        let details = MapsDetails::Mapping(MappingDetails {
            mmu_flags,
            vmo_koid: Koid::from_raw(vmo),
            vmo_offset,
            committed_bytes: 0,
            populated_bytes: 0,
            committed_private_bytes: 0,
            populated_private_bytes: 0,
            committed_scaled_bytes: 0,
            populated_scaled_bytes: 0,
            committed_fractional_scaled_bytes: 0,
            populated_fractional_scaled_bytes: 0,
        });
        let name = Name::new_lossy("heap");
        MapsInfo {
            name,
            base,
            size,
            depth,
            details,
        }
    }

    fn ranges(maps: &[MapsInfo]) -> Vec<(usize, usize, usize)> {
        let range = |piece: &Piece| (piece.base, piece.size, piece.records.len());
        pieces(maps).iter().map(range).collect()
    }

    #[test]
    fn runs_of_one_mapping_are_joined_and_split_again() {
        let maps = [
            mapping(10, 2, 2, 7, 0, READ_WRITE),
            mapping(12, 3, 2, 7, 2, READ),
            mapping(15, 1, 2, 7, 5, VmarFlags::empty()),
        ];
        assert_eq!(ranges(&maps), [(10, 6, 3)]);
        let joined = &pieces(&maps)[0];
        let access: Vec<Access> = joined.runs().iter().map(|run| run.access).collect();
        assert_eq!(access, [Access::ReadWrite, Access::Read, Access::None]);
        let split: Vec<Piece> = maps.iter().filter_map(Piece::of_record).collect();
        assert_eq!(joined.split(), split);
    }

    #[test]
    fn what_does_not_continue_stays_apart() {
        let first = mapping(10, 2, 2, 7, 4, READ);
        for next in [
            mapping(13, 2, 2, 7, 6, READ),
            mapping(12, 2, 2, 7, 7, READ),
            mapping(12, 2, 2, 8, 6, READ),
            mapping(12, 2, 3, 7, 6, READ),
            mapping(12, 2, 2, 7, 6, READ_EXECUTE),
        ] {
            assert_eq!(pieces(&[first, next]).len(), 2, "{next:?}");
        }
    }

    #[test]
    fn only_mappings_count() {
        let vmar = MapsInfo {
            details: MapsDetails::Vmar,
            ..mapping(0, 100, 1, 0, 0, READ)
        };
        assert_eq!(ranges(&[vmar, mapping(10, 2, 2, 7, 0, READ)]), [(10, 2, 1)]);
    }

    #[test]
    fn writable_code_is_cloned_as_code() {
        let both = mapping(10, 2, 2, 7, 0, READ_WRITE | READ_EXECUTE);
        let piece = &pieces(&[both])[0];
        assert!(piece.executable && piece.loses_writing());
        assert_eq!(piece.runs()[0].access, Access::ReadExecute);
        assert!(!pieces(&[mapping(10, 2, 2, 7, 0, READ_EXECUTE)])[0].loses_writing());
    }
}
