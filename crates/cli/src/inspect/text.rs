//! The report for a person: as /proc/PID/maps, and more.

use std::fmt::Write;

use cowspace::inspect::{FamilyRecord, MapRecord, MappingRecord, Memory};

use super::family::{Family, home};
use super::smaps::Smaps;
use super::{Report, count, shortened, size};

/// Deeper VMARs are not indented further: the table is to stay readable.
const DEEPEST: usize = 8;

pub(super) fn write(report: &Report) -> String {
    let mut out = String::new();
    // A string takes all that is written to it.
    let _ = write_to(&mut out, report);
    out
}

fn write_to(out: &mut String, report: &Report) -> std::fmt::Result {
    let inspection = &report.inspection;
    writeln!(
        out,
        "process {}: {}",
        inspection.pid,
        shortened(&printable(&report.command.join(" ")), 80)
    )?;
    writeln!(
        out,
        "cowspace {}, {}, pages of {}; looked for {:.1} ms",
        inspection.cowspace,
        if inspection.traced {
            "faults traced"
        } else {
            "no fault was traced"
        },
        size(inspection.page_size),
        inspection.took_ns as f64 / 1e6,
    )?;
    if inspection.maps.is_empty() {
        return writeln!(out, "\nIt has not used cowspace yet.");
    }
    writeln!(out)?;
    maps(out, &inspection.maps)?;
    for family in Family::all(inspection) {
        writeln!(out)?;
        tree(out, &family)?;
    }
    writeln!(out)?;
    totals(out, &inspection.memory, report.smaps.as_ref())
}

fn maps(out: &mut String, maps: &[MapRecord]) -> std::fmt::Result {
    let indent = |record: &MapRecord| {
        usize::try_from(record.depth)
            .unwrap_or(DEEPEST)
            .min(DEEPEST)
    };
    let width = 25 + maps.iter().map(indent).max().unwrap_or(0);
    writeln!(
        out,
        "{:width$} {:>7} {:4} {:>9} {:>7} {:>7} {:6} {:7} name",
        "address", "size", "perm", "offset", "private", "shared", "policy", "home",
    )?;
    for record in maps {
        let end = record.start.saturating_add(record.len);
        let range = format!("{:012x}-{end:012x}", record.start);
        let range = format!("{:indent$}{range}", "", indent = indent(record));
        let len = short(record.len);
        match &record.mapping {
            None => writeln!(out, "{range:width$} {len:>7} VMAR")?,
            Some(mapping) => writeln!(out, "{range:width$} {len:>7} {}", row(mapping).trim_end())?,
        }
    }
    Ok(())
}

fn row(mapping: &MappingRecord) -> String {
    let name = match &mapping.name[..] {
        "" => format!("[{}]", mapping.koid),
        name => format!("{} [{}]", printable(name), mapping.koid),
    };
    format!(
        "{:4} {:>9x} {:>7} {:>7} {:6} {:7} {name}",
        mapping.perms,
        mapping.vmo_offset,
        short(mapping.private_bytes),
        short(mapping.shared_bytes),
        if mapping.traced { "traced" } else { "native" },
        home(mapping.home),
    )
}

/// A family's nodes, as a tree, and its layers. In one line, if it is a VMO that was never cloned.
fn tree(out: &mut String, family: &Family<'_>) -> std::fmt::Result {
    if let ([node], [] | [_]) = (&family.record.nodes[..], &family.record.layers[..]) {
        let (name, owns) = (printable(&family.name(node)), family.owns(node));
        return writeln!(out, "family {}: {name}, {owns}", family.number);
    }
    writeln!(out, "{}", family.title())?;
    let prefixes = prefixes(family.record);
    for (node, prefix) in family.record.nodes.iter().zip(prefixes) {
        let facts = [
            Some(family.owns(node)),
            family.window(node),
            family.charged(node),
        ];
        let name = printable(&family.name(node));
        writeln!(out, "  {}{name}", prefix.first)?;
        for fact in facts.into_iter().flatten() {
            writeln!(out, "  {}  {fact}", prefix.rest)?;
        }
    }
    for layer in &family.record.layers {
        writeln!(out, "  layer {}: {}", layer.id, Family::layer(layer))?;
    }
    Ok(())
}

/// What stands before a node's lines.
struct Prefix {
    first: String,
    rest: String,
}

/// The lines of the tree. Nodes come in pre-order; the tree may be deep, so nothing recurses.
fn prefixes(family: &FamilyRecord) -> Vec<Prefix> {
    let nodes = &family.nodes;
    let parent = |index: usize| nodes[index].parent.and_then(|at| usize::try_from(at).ok());
    let mut last_child: Vec<Option<usize>> = vec![None; nodes.len()];
    for index in 0..nodes.len() {
        if let Some(parent) = parent(index) {
            last_child[parent] = Some(index);
        }
    }
    let mut prefixes: Vec<Prefix> = Vec::with_capacity(nodes.len());
    for index in 0..nodes.len() {
        let prefix = match parent(index) {
            None => Prefix {
                first: String::new(),
                rest: below(last_child[index]).into(),
            },
            Some(parent) => {
                // What stands before the parent's children, without the parent's own stroke.
                let before = prefixes[parent].rest.trim_end_matches("│ ").to_owned();
                let is_last = last_child[parent] == Some(index);
                let (branch, stroke) = if is_last {
                    ("└ ", "  ")
                } else {
                    ("├ ", "│ ")
                };
                Prefix {
                    first: format!("{before}{branch}"),
                    rest: format!("{before}{stroke}{}", below(last_child[index])),
                }
            }
        };
        prefixes.push(prefix);
    }
    prefixes
}

/// The stroke from a node to its children.
fn below(child: Option<usize>) -> &'static str {
    if child.is_some() { "│ " } else { "" }
}

fn totals(out: &mut String, memory: &Memory, smaps: Option<&Smaps>) -> std::fmt::Result {
    writeln!(
        out,
        "{} of {}, {} in {}, {}",
        count(memory.mappings, "mapping"),
        size(memory.mapped_bytes),
        count(memory.vmos, "VMO"),
        count(memory.families, "family"),
        count(memory.layers, "sealed layer"),
    )?;
    let resident = (memory.private_bytes, memory.shared_bytes);
    writeln!(
        out,
        "page tables: private {}, shared {}",
        size(resident.0),
        size(resident.1)
    )?;
    match smaps {
        None => writeln!(out, "smaps: not readable")?,
        Some(smaps) => {
            let kernel = (smaps.private_bytes, smaps.shared_bytes);
            let differ = resident.0.abs_diff(kernel.0) + resident.1.abs_diff(kernel.1);
            let differ = match differ {
                0 => "the same".into(),
                bytes => format!("{} apart", size(bytes)),
            };
            let (private, shared) = (size(kernel.0), size(kernel.1));
            writeln!(out, "smaps: private {private}, shared {shared} ({differ})")?;
        }
    }
    writeln!(
        out,
        "memory: {} = layers {}{} + files {} + private pages {}",
        size(memory.occupied_bytes()),
        size(memory.layer_bytes),
        match memory.received_bytes {
            0 => String::new(),
            bytes => format!(" ({} from another process)", size(bytes)),
        },
        size(memory.file_bytes),
        size(memory.private_bytes),
    )?;
    writeln!(
        out,
        "a copy for each VMO would take {}: sharing saves {}",
        size(memory.copied_bytes),
        size(memory.saved_bytes()),
    )
}

/// Bytes in a column: "1.5M".
fn short(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec_short().to_string()
}

/// Text of a process in a line of ours: a name can hold anything.
fn printable(text: &str) -> String {
    let show = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(show).collect()
}
