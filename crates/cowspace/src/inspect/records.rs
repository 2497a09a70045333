//! What a process tells of itself. As JSON the names are those of the fields.

use fault_handler::{Distributions, Stats};
use serde::{Deserialize, Serialize};

/// Figures for whoever looks once a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The process.
    pub pid: u32,
    /// When it was looked: nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// Faults since the process began, by kind and outcome, and how long they took; `None` as long as nothing was traced.
    pub faults: Option<Stats>,
    /// The times that these are of: of two looks the difference tells what faults took between them.
    pub times: Option<Distributions>,
    /// Its memory.
    pub memory: Memory,
}

/// The memory that a process has through VMOs. Bytes are whole pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Number of mappings, as Zircon counts them.
    pub mappings: u64,
    /// Number of VMOs.
    pub vmos: u64,
    /// Number of clone families.
    pub families: u64,
    /// Number of sealed layers.
    pub layers: u64,
    /// Bytes of address space that are mapped.
    pub mapped_bytes: u64,
    /// Pages in page tables that this process alone has: anonymous ones. Swapped-out pages do not count.
    pub private_bytes: u64,
    /// Pages of files in page tables.
    pub shared_bytes: u64,
    /// Memory of sealed layers, mapped or not. Other processes may have the same layers.
    pub layer_bytes: u64,
    /// Of that, the memory of layers that came from another process.
    pub received_bytes: u64,
    /// Memory of files that are not sealed: what VMOs that were never cloned hold, and what others have changed.
    pub file_bytes: u64,
    /// What all VMOs would hold if each had a copy of all that it shows.
    pub copied_bytes: u64,
}

impl Memory {
    /// The memory that is taken: layers, files, and private pages.
    #[must_use]
    pub fn occupied_bytes(&self) -> u64 {
        // They come from another process.
        self.layer_bytes
            .saturating_add(self.file_bytes)
            .saturating_add(self.private_bytes)
    }

    /// The memory that copies would take and sharing does not. Less than nothing is 0: layers may hold pages that nobody sees any more, and pages copied in only to be read are there twice.
    #[must_use]
    pub fn saved_bytes(&self) -> u64 {
        self.copied_bytes.saturating_sub(self.occupied_bytes())
    }
}

/// All that there is to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The process.
    pub pid: u32,
    /// The version of cowspace that it uses.
    pub cowspace: String,
    /// When the look began: nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// How long it took, in nanoseconds.
    pub took_ns: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// Whether the fault handler runs: if not, the kernel resolves all faults alone.
    pub traced: bool,
    /// Sums.
    pub memory: Memory,
    /// The VMAR tree in pre-order, by rising address: a record at depth *d* lies in the last VMAR before it at *d* - 1. The first is the root VMAR. Empty if the process has not used cowspace yet.
    pub maps: Vec<MapRecord>,
    /// The VMOs, by koid.
    pub vmos: Vec<VmoRecord>,
    /// The clone families, in the order of their oldest VMO.
    pub families: Vec<FamilyRecord>,
}

impl Inspection {
    /// Whether trees are trees and no range ends behind the last address, so that whoever shows them need not ask. What is read comes from another process.
    pub(super) fn is_sound(&self) -> bool {
        let ends = |record: &MapRecord| record.start.checked_add(record.len).is_some();
        let is_tree = |family: &FamilyRecord| {
            (0..).zip(&family.nodes).all(|(index, node)| {
                let ends = node.parent_offset.checked_add(node.parent_limit);
                ends.is_some() && node.parent.is_none_or(|parent| parent < index)
            })
        };
        self.maps.iter().all(ends) && self.families.iter().all(is_tree)
    }
}

/// A VMAR, or a run of pages of a mapping that have the same permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRecord {
    /// How deep in the tree.
    pub depth: u64,
    /// Its first address.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What is mapped; `None` for a VMAR.
    pub mapping: Option<MappingRecord>,
}

/// What a mapping shows, and what of it is in the page table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRecord {
    /// The permissions now, as `rwx` with `-` for what is not allowed.
    pub perms: String,
    /// The VMO.
    pub koid: u64,
    /// Its name; may be empty.
    pub name: String,
    /// Where in the VMO the record begins, in bytes.
    pub vmo_offset: u64,
    /// Whether the fault handler resolves its faults; if not, the kernel does.
    pub traced: bool,
    /// Where the VMO keeps what it changed.
    pub home: HomeRecord,
    /// Anonymous pages in the page table, in bytes: changed through this mapping, or copied into it.
    pub private_bytes: u64,
    /// Pages of files in the page table, in bytes.
    pub shared_bytes: u64,
}

/// Where a memory keeps what it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeRecord {
    /// Nothing was changed since all of it became layers, or nothing is in it.
    None,
    /// In a file of its own, which holds all of it: as of a VMO that was never cloned. Mappings are shared ones of the file.
    File,
    /// In a file of its own, over layers. Mappings are shared ones of the file, and pages come into it as they are touched.
    SparseFile,
    /// In private pages of its one mapping, over layers.
    Private,
}

/// A VMO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmoRecord {
    /// Its koid.
    pub koid: u64,
    /// Its name; may be empty.
    pub name: String,
    /// How it came to be.
    pub kind: VmoKindRecord,
    /// The VMO that it was made from, while that lives.
    pub parent: Option<u64>,
    /// Its size in bytes, whole pages.
    pub size_bytes: u64,
    /// Whether its size can change.
    pub resizable: bool,
    /// Whether its content may be thrown away while it is not locked.
    pub discardable: bool,
    /// Whether it was made by `SNAPSHOT | NO_WRITE`.
    pub immutable: bool,
    /// Living children of all kinds.
    pub children: u64,
    /// Mappings of it, as Zircon counts them.
    pub mappings: u64,
    /// Handles to it.
    pub handles: u64,
    /// Index in [`Inspection::families`].
    pub family: u64,
    /// Index in [`FamilyRecord::nodes`] of the memory that it shows.
    pub node: u64,
    /// Bytes of content. As the two that follow 0 for slices and references, whose content is charged to the VMO they were made from.
    pub committed_bytes: u64,
    /// Committed bytes that no other VMO can reach.
    pub private_bytes: u64,
    /// Committed bytes, each divided by the number of VMOs that can reach it. Summed up over a family, this is the content that the family's layers and homes hold.
    pub scaled_bytes: u64,
    /// The fraction that `scaled_bytes` lacks, in units of 2^-63 byte.
    pub fractional_scaled_bytes: u64,
}

/// How a VMO came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmoKindRecord {
    /// It was created.
    Root,
    /// A copy-on-write clone.
    Clone,
    /// A window on the memory of another.
    Slice,
    /// Another VMO of the same memory.
    Reference,
}

/// All VMOs that descend from one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyRecord {
    /// The nodes of the page tree: memories, and the hidden nodes above them. A parent comes before its children.
    pub nodes: Vec<NodeRecord>,
    /// What the nodes' pages lie in, sealed layers and homes.
    pub layers: Vec<LayerRecord>,
}

/// A node of a page tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Index of the parent in [`FamilyRecord::nodes`]: what this node does not own is looked up there.
    pub parent: Option<u64>,
    /// Byte `x` of this node is byte `x + parent_offset` of the parent.
    pub parent_offset: u64,
    /// Bytes from here on see nothing of the parent.
    pub parent_limit: u64,
    /// Bytes that the node owns.
    pub owned_bytes: u64,
    /// Bytes that the node says are zero, whatever the parent has.
    pub zero_bytes: u64,
    /// In how many runs.
    pub runs: u64,
    /// Where the owned bytes lie.
    pub layers: Vec<OwnedRecord>,
    /// What the memory is; `None` for a hidden node, which is what a memory had when it was cloned and never changes.
    pub memory: Option<MemoryRecord>,
}

/// What a node owns in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedRecord {
    /// [`LayerRecord::id`]
    pub layer: u64,
    /// So many bytes.
    pub bytes: u64,
}

/// The memory of a VMO, its slices and its references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRecord {
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The VMOs that show it, by koid.
    pub vmos: Vec<u64>,
    /// Where it keeps what it changes.
    pub home: HomeRecord,
}

/// A store of page contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// A number that no other layer of the process has.
    pub id: u64,
    /// Whether it is sealed, so that nobody can change it any more. If not, it is the home of the one memory that owns pages in it.
    pub sealed: bool,
    /// Its length in bytes.
    pub len: u64,
    /// The memory that it takes: pages of files, or private pages of the mapping whose home it is.
    pub memory_bytes: u64,
    /// How many bytes of it the nodes own. Less than `memory_bytes` where it holds pages that nobody sees any more, or pages that were copied in only to be read.
    pub owned_bytes: u64,
    /// Whether it came from another process.
    pub received: bool,
    /// Its files, each of up to 2^62 bytes of it. None for private pages. (The same file in another process is the same memory.)
    pub files: Vec<LayerFile>,
    /// The mappings that show it by the kernel's page table, by their first address.
    pub mapped_at: Vec<u64>,
}

/// A memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFile {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// The memory that it takes in bytes.
    pub memory_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(parent: Option<u64>, parent_offset: u64, parent_limit: u64) -> NodeRecord {
        NodeRecord {
            parent,
            parent_offset,
            parent_limit,
            owned_bytes: 0,
            zero_bytes: 0,
            runs: 0,
            layers: Vec::new(),
            memory: None,
        }
    }

    #[test]
    fn nonsense_is_told_from_what_can_be_shown() {
        let families = |nodes: Vec<NodeRecord>| Inspection {
            families: vec![FamilyRecord {
                nodes,
                layers: Vec::new(),
            }],
            ..Inspection::default()
        };
        let maps = |start: u64, len: u64| Inspection {
            maps: vec![MapRecord {
                depth: 9,
                start,
                len,
                mapping: None,
            }],
            ..Inspection::default()
        };
        let root = || node(None, 0, 0);
        for good in [
            Inspection::default(),
            families(vec![
                root(),
                node(Some(0), 1, u64::MAX - 1),
                node(Some(0), 0, 1),
            ]),
            maps(1, u64::MAX - 1),
        ] {
            assert!(good.is_sound(), "{good:?}");
        }
        for bad in [
            families(vec![node(Some(0), 0, 0)]),
            families(vec![root(), node(Some(7), 0, 0)]),
            families(vec![root(), node(Some(0), 2, u64::MAX)]),
            maps(2, u64::MAX),
        ] {
            assert!(!bad.is_sound(), "{bad:?}");
        }
    }
}
