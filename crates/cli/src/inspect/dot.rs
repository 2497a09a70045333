//! The families as a graph in the language of Graphviz.

use std::fmt::Write;

use cowspace::inspect::Inspection;

use super::family::Family;
use super::size;

pub(super) fn draw(inspection: &Inspection) -> String {
    let mut out = String::new();
    // A string takes all that is written to it.
    let _ = draw_to(&mut out, inspection);
    out
}

fn draw_to(out: &mut String, inspection: &Inspection) -> std::fmt::Result {
    writeln!(out, "digraph cowspace {{")?;
    writeln!(out, "  rankdir=BT; compound=true;")?;
    writeln!(
        out,
        "  node [shape=box, fontname=\"sans-serif\", fontsize=10];"
    )?;
    writeln!(out, "  edge [fontname=\"sans-serif\", fontsize=9];")?;
    for family in Family::all(inspection) {
        let number = family.number;
        writeln!(out, "  subgraph cluster_{number} {{")?;
        writeln!(out, "    label={};", quoted(&family.title()))?;
        for layer in &family.record.layers {
            let text = format!(
                "layer {}\n{}",
                layer.id,
                Family::layer(layer).replace("; ", "\n")
            );
            let style = if layer.sealed {
                "filled"
            } else {
                "filled,dashed"
            };
            writeln!(
                out,
                "    l{number}_{} [shape=cylinder, style=\"{style}\", fillcolor=\"#fdf3d8\", label={}];",
                layer.id,
                quoted(&text)
            )?;
        }
        for (index, node) in family.record.nodes.iter().enumerate() {
            let facts = [
                Some(family.name(node)),
                family.window(node),
                family.charged(node),
            ];
            let text = facts.into_iter().flatten().collect::<Vec<_>>().join("\n");
            let look = match node.memory {
                None => "shape=ellipse, style=filled, fillcolor=\"#e4e4e4\"",
                Some(_) => "style=filled, fillcolor=\"#dbe9fb\"",
            };
            writeln!(
                out,
                "    n{number}_{index} [{look}, label={}];",
                quoted(&text)
            )?;
            if let Some(parent) = node.parent {
                writeln!(out, "    n{number}_{index} -> n{number}_{parent};")?;
            }
            for owned in &node.layers {
                writeln!(
                    out,
                    "    n{number}_{index} -> l{number}_{} [style=dashed, arrowhead=open, label={}];",
                    owned.layer,
                    quoted(&size(owned.bytes))
                )?;
            }
        }
        writeln!(out, "  }}")?;
    }
    writeln!(out, "}}")
}

/// A string of the language, lines centred.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
