//! The curves as pictures (SVG).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use bytesize::ByteSize;
use plotters::prelude::*;

use crate::report::{Report, Row};

/// The names that are curves.
const CURVES: [&str; 3] = ["fault.threads", "snapshot.scale", "spawn.scale"];

/// Pixels.
const SIZE: (u32, u32) = (900, 560);

/// Lines by their names, each with its points in ascending order.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// Draws each curve of a report into a file in `folder`, which is made where it is missing; gives the files. A curve
/// of one point is left out.
///
/// # Errors
///
/// If the files cannot be written.
pub fn plot(report: &Report, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    let curves = report.results.iter();
    for row in curves.filter(|row| CURVES.contains(&row.name)) {
        let over = row.counts().unwrap_or("bytes");
        pictures.entry((row.name, over)).or_default().push(row);
    }
    let mut files = Vec::new();
    for ((name, over), rows) in pictures {
        let lines = lines(&rows);
        if lines.values().all(|points| points.len() < 2) {
            continue;
        }
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let file = folder.join(format!("{name}.{over}.svg"));
        draw(&file, name, over, rows[0].unit, &lines)
            .map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))?;
        files.push(file);
    }
    Ok(files)
}

/// cowspace's lines, one for each variant, and the rivals'. Points that stand for a bar's comparison with another
/// size are no rival's.
fn lines(rows: &[&Row]) -> Lines {
    let mut lines = Lines::new();
    for row in rows {
        let own = match row.counts() {
            None if !row.variant.is_empty() => format!("cowspace: {}", row.variant),
            _ => "cowspace".to_owned(),
        };
        let size = row.size as f64;
        lines.entry(own).or_default().push((size, row.cowspace));
        for (rival, figure) in &row.rivals {
            if ["smallest_size", "straight_line"].contains(&rival.as_str()) {
                continue;
            }
            let points = lines.entry(rival.clone()).or_default();
            if points.last().is_none_or(|(at, _)| *at != size) {
                points.push((size, *figure));
            }
        }
    }
    lines
}

/// Both axes are logarithmic.
fn draw(
    file: &Path,
    name: &str,
    over: &str,
    unit: &str,
    lines: &Lines,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.values().flatten();
    let span = |of: fn(&(f64, f64)) -> f64| {
        let least = points().map(of).fold(f64::MAX, f64::min).max(1e-3);
        least..points().map(of).fold(least, f64::max)
    };
    let (sizes, figures) = (span(|point| point.0), span(|point| point.1));
    let figures = figures.start / 1.5..figures.end * 1.5;

    // Sizes double or grow tenfold: so their marks do.
    let base = if over == "mappings" { 10.0 } else { 2.0 };
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(name, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(80)
        .build_cartesian_2d(sizes.log_scale().base(base), figures.log_scale())?;
    let size_label = |size: &f64| match over {
        "bytes" => ByteSize::b(*size as u64).display().iec().to_string(),
        _ => format!("{size:.0}"),
    };
    chart
        .configure_mesh()
        .x_desc(over)
        .y_desc(unit)
        .x_label_formatter(&size_label)
        .y_label_formatter(&|figure| format!("{figure:.0}"))
        .draw()?;
    for (place, (line, points)) in lines.iter().enumerate() {
        let color = Palette99::pick(place).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color).point_size(3))?
            .label(line.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::Figure;

    fn row(size: usize, variant: &str, own: f64, fork: f64) -> Row {
        Row::new("snapshot.scale", "us", size)
            .variant(variant)
            .cowspace(Figure::exactly(own))
            .rival("fork", Figure::exactly(fork))
            .rival("smallest_size", Figure::exactly(1.0))
    }

    #[test]
    fn a_rival_has_one_line_whatever_variants_there_are() {
        let rows = [
            row(16, "first", 5.0, 7.0),
            row(16, "again", 1.0, 7.0),
            row(64, "first", 9.0, 28.0),
            row(64, "again", 1.0, 28.0),
        ];
        let lines = lines(&rows.iter().collect::<Vec<_>>());
        assert_eq!(lines.len(), 3);
        assert_eq!(lines["fork"], [(16.0, 7.0), (64.0, 28.0)]);
        assert_eq!(lines["cowspace: first"], [(16.0, 5.0), (64.0, 9.0)]);
    }
}
