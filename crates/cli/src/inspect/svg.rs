//! The families as a picture.
//!
//! Each family is a tree from left to right: a node's children stand to its right, one below the other, and the node in the middle of them. Below it are its layers.
//! The colour of a layer is that of the squares in the nodes that own pages of it.

use std::fmt::Write;

use cowspace::inspect::{FamilyRecord, Inspection};

use super::family::Family;
use super::{shortened, size};

/// A node's box, and what is between boxes.
const WIDTH: u64 = 420;
const HEIGHT: u64 = 80;
const GAP: u64 = 14;
const STEP: u64 = WIDTH + 50;
const LINE: u64 = 16;
const MARGIN: u64 = 20;

pub(super) fn draw(inspection: &Inspection) -> String {
    let mut body = String::new();
    let (mut width, mut y) = (700, MARGIN);
    for family in Family::all(inspection) {
        // A string takes all that is written to it.
        let _ = draw_family(&mut body, &family, &mut width, &mut y);
    }
    if inspection.families.is_empty() {
        let _ = line(&mut body, MARGIN, y + LINE, "bold", "there is no VMO");
        y += 2 * LINE;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" viewBox=\"0 0 {width} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>clone families of process {}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n",
        inspection.pid
    )
}

fn draw_family(
    out: &mut String,
    family: &Family<'_>,
    width: &mut u64,
    y: &mut u64,
) -> std::fmt::Result {
    line(out, MARGIN, *y + LINE, "bold", &family.title())?;
    *y += 2 * LINE;
    let places = place(family.record);
    let at = |place: &Place| {
        (
            MARGIN + place.column * STEP,
            *y + place.row * (HEIGHT + GAP) / 2,
        )
    };
    for (node, here) in family.record.nodes.iter().zip(&places) {
        let (x, top) = at(here);
        *width = (*width).max(x + WIDTH + MARGIN);
        if let Some(parent) = node
            .parent
            .and_then(|at| places.get(usize::try_from(at).ok()?))
        {
            let (left, from) = at(parent);
            let (left, from, to) = (left + WIDTH, from + HEIGHT / 2, top + HEIGHT / 2);
            let middle = left.midpoint(x);
            writeln!(
                out,
                "<path d=\"M{left} {from}C{middle} {from} {middle} {to} {x} {to}\" fill=\"none\" stroke=\"#888\"/>"
            )?;
        }
        let (fill, round) = match node.memory {
            None => ("#eeeeee", HEIGHT / 2),
            Some(_) => ("#dbe9fb", 4),
        };
        writeln!(
            out,
            "<rect x=\"{x}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"{round}\" fill=\"{fill}\" stroke=\"#666\"/>"
        )?;
        let inset = x + 22;
        let name = shortened(&family.name(node), 52);
        line(out, inset, top + LINE + 2, "bold", &name)?;
        let facts = [family.window(node), family.charged(node)];
        for (number, fact) in (2..).zip(facts.into_iter().flatten()) {
            line(
                out,
                inset,
                top + number * LINE + 2,
                "normal",
                &shortened(&fact, 70),
            )?;
        }
        owned(out, inset, top + HEIGHT - 10, node)?;
    }
    let rows = places.iter().map(|place| place.row).max().unwrap_or(0) / 2 + 1;
    *y += rows * (HEIGHT + GAP) + GAP;
    for layer in &family.record.layers {
        square(out, MARGIN, *y, layer.id)?;
        let text = format!("layer {}: {}", layer.id, Family::layer(layer));
        line(out, MARGIN + 16, *y, "normal", &text)?;
        *y += LINE + 2;
    }
    *y += 2 * LINE;
    Ok(())
}

/// Squares of the layers in which a node owns pages, as many as there is room for.
fn owned(
    out: &mut String,
    mut x: u64,
    y: u64,
    node: &cowspace::inspect::NodeRecord,
) -> std::fmt::Result {
    const ROOM: usize = 3;
    if node.layers.is_empty() {
        return line(out, x, y, "normal", "owns nothing");
    }
    for owned in node.layers.iter().take(ROOM) {
        square(out, x, y, owned.layer)?;
        line(out, x + 14, y, "normal", &size(owned.bytes))?;
        x += 84;
    }
    match node.layers.len().saturating_sub(ROOM) {
        0 => Ok(()),
        more => line(out, x, y, "normal", &format!("+ {more}")),
    }
}

/// Where a node stands: rows are half a box high.
struct Place {
    column: u64,
    row: u64,
}

/// Nodes come in pre-order; the tree may be deep, so nothing recurses.
fn place(family: &FamilyRecord) -> Vec<Place> {
    let nodes = &family.nodes;
    let parent = |index: usize| {
        let parent = nodes[index].parent.and_then(|at| usize::try_from(at).ok());
        parent.filter(|&parent| parent < index)
    };
    let mut places: Vec<Place> = Vec::with_capacity(nodes.len());
    let mut has_children = vec![false; nodes.len()];
    for index in 0..nodes.len() {
        let column = parent(index).map_or(0, |parent| places[parent].column + 1);
        places.push(Place { column, row: 0 });
        if let Some(parent) = parent(index) {
            has_children[parent] = true;
        }
    }
    let mut next = 0;
    for (place, has_children) in places.iter_mut().zip(&has_children) {
        if !has_children {
            place.row = next;
            next += 2;
        }
    }
    // Children are behind their parents: from the back, all of a node's are placed before it.
    let mut spans: Vec<Option<(u64, u64)>> = vec![None; nodes.len()];
    for index in (0..nodes.len()).rev() {
        if let Some((first, last)) = spans[index] {
            places[index].row = first.midpoint(last);
        }
        if let Some(parent) = parent(index) {
            let row = places[index].row;
            let (first, last) = spans[parent].unwrap_or((row, row));
            spans[parent] = Some((first.min(row), last.max(row)));
        }
    }
    places
}

fn line(out: &mut String, x: u64, y: u64, weight: &str, text: &str) -> std::fmt::Result {
    let text = escaped(text);
    writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\">{text}</text>"
    )
}

/// A layer's colour: neighbours in number look different.
fn square(out: &mut String, x: u64, y: u64, layer: u64) -> std::fmt::Result {
    let hue = layer.wrapping_mul(137) % 360;
    let top = y.saturating_sub(10);
    writeln!(
        out,
        "<rect x=\"{x}\" y=\"{top}\" width=\"10\" height=\"10\" fill=\"hsl({hue},65%,50%)\"/>"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // XML cannot hold all others.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
