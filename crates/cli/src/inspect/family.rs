//! What all pictures of a family say of its nodes and layers.

use std::collections::BTreeMap;

use cowspace::inspect::{FamilyRecord, HomeRecord, Inspection, LayerRecord, NodeRecord, VmoRecord};

use super::{count, size};

/// A family with its VMOs.
pub(super) struct Family<'a> {
    pub(super) number: usize,
    pub(super) record: &'a FamilyRecord,
    vmos: BTreeMap<u64, &'a VmoRecord>,
}

impl<'a> Family<'a> {
    /// All families of a process.
    pub(super) fn all(inspection: &'a Inspection) -> impl Iterator<Item = Family<'a>> {
        let vmos: BTreeMap<u64, &VmoRecord> =
            inspection.vmos.iter().map(|vmo| (vmo.koid, vmo)).collect();
        let families = inspection.families.iter().enumerate();
        families.map(move |(index, record)| {
            let koids = record.nodes.iter().filter_map(|node| node.memory.as_ref());
            let koids = koids.flat_map(|memory| &memory.vmos);
            Family {
                number: index + 1,
                record,
                vmos: koids
                    .filter_map(|koid| Some((*koid, *vmos.get(koid)?)))
                    .collect(),
            }
        })
    }

    /// What the family is, in one line.
    pub(super) fn title(&self) -> String {
        let hidden = self
            .record
            .nodes
            .iter()
            .filter(|node| node.memory.is_none());
        let layers = self.record.layers.iter();
        let memory: u64 = layers.clone().map(|layer| layer.memory_bytes).sum();
        let shares: u64 = self.vmos.values().map(|vmo| vmo.scaled_bytes).sum();
        format!(
            "family {}: {}, {}, {}; {} in memory, of which VMOs see {}",
            self.number,
            count(self.vmos.len() as u64, "VMO"),
            count(hidden.count() as u64, "hidden node"),
            count(
                layers.filter(|layer| layer.sealed).count() as u64,
                "sealed layer"
            ),
            size(memory),
            size(shares),
        )
    }

    /// What a node is: `hidden node`, or the VMOs that show it.
    pub(super) fn name(&self, node: &NodeRecord) -> String {
        let Some(memory) = &node.memory else {
            return "hidden node".into();
        };
        let names = memory.vmos.iter().map(|koid| match self.vmos.get(koid) {
            Some(vmo) if !vmo.name.is_empty() => format!("{koid} \"{}\"", vmo.name),
            _ => koid.to_string(),
        });
        let names: Vec<String> = names.collect();
        match names.len() {
            0 => "memory of a VMO made just now".into(),
            1 => format!("VMO {}", names[0]),
            _ => format!("VMOs {}", names.join(", ")),
        }
    }

    /// What a node owns, and where.
    pub(super) fn owns(&self, node: &NodeRecord) -> String {
        let mut text = if node.layers.is_empty() {
            "owns nothing".into()
        } else {
            let parts = node.layers.iter();
            let parts =
                parts.map(|owned| format!("{} {}", size(owned.bytes), self.place(owned.layer)));
            format!("owns {}", parts.collect::<Vec<_>>().join(" + "))
        };
        if node.zero_bytes > 0 {
            text += &format!(", zeroed {}", size(node.zero_bytes));
        }
        text
    }

    /// In which layer.
    fn place(&self, id: u64) -> String {
        match self.record.layers.iter().find(|layer| layer.id == id) {
            Some(layer) if layer.sealed => format!("in layer {id}"),
            Some(layer) if layer.files.is_empty() => "in private pages".into(),
            _ => "in its own file".into(),
        }
    }

    /// What part of its parent a node sees, if not all.
    pub(super) fn window(&self, node: &NodeRecord) -> Option<String> {
        let parent = &self.record.nodes[usize::try_from(node.parent?).ok()?];
        let whole = match (&node.memory, &parent.memory) {
            (Some(memory), _) => node.parent_limit == memory.size_bytes,
            _ => true,
        };
        (node.parent_offset > 0 || !whole).then(|| {
            let (from, to) = (node.parent_offset, node.parent_offset + node.parent_limit);
            format!("sees {from:#x}-{to:#x} of its parent")
        })
    }

    /// The size of a memory, and what its VMO is charged with.
    pub(super) fn charged(&self, node: &NodeRecord) -> Option<String> {
        let memory = node.memory.as_ref()?;
        let vmos = memory.vmos.iter().filter_map(|koid| self.vmos.get(koid));
        let (mut committed, mut private, mut scaled) = (0, 0, 0);
        for vmo in vmos {
            committed += vmo.committed_bytes;
            private += vmo.private_bytes;
            scaled += vmo.scaled_bytes;
        }
        Some(format!(
            "size {}, content {}: {} alone, share {}",
            size(memory.size_bytes),
            size(committed),
            size(private),
            size(scaled),
        ))
    }

    /// A layer in one line.
    pub(super) fn layer(layer: &LayerRecord) -> String {
        let kind = match (layer.sealed, layer.received, layer.files.is_empty()) {
            (true, true, _) => "sealed, from another process",
            (true, false, _) => "sealed",
            (false, _, true) => "private pages of a mapping",
            (false, _, false) => "a VMO's own file",
        };
        format!(
            "{} in memory, {} seen; {kind}; {}",
            size(layer.memory_bytes),
            size(layer.owned_bytes),
            match &layer.mapped_at[..] {
                [] => "not mapped".into(),
                [at] => format!("mapped at {at:012x}"),
                [at, others @ ..] => format!("mapped at {at:012x} and {} more", others.len()),
            }
        )
    }
}

/// A word for a home.
pub(super) fn home(home: HomeRecord) -> &'static str {
    match home {
        HomeRecord::None => "none",
        HomeRecord::File => "file",
        HomeRecord::SparseFile => "sparse",
        HomeRecord::Private => "private",
    }
}
