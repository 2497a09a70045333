//! What came out: one JSON document, or a table.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use crate::bench::Skipped;
use crate::machine::Machine;
use crate::rounds::Figure;

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// What, in the order of [`names`](crate::names).
    pub results: Vec<Row>,
    /// What was not measured.
    pub skipped: Vec<Skipped>,
}

/// One figure of cowspace's, and the same of its rivals.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The name of the measurement.
    pub name: &'static str,
    /// Which of several rows of that name, if there are several of one size.
    pub variant: String,
    /// What the figures are in: `ns`, `us`, `ms`, `bytes` or `ops/s`.
    pub unit: &'static str,
    /// How large: bytes of memory, or threads, processes or mappings where the variant says so.
    pub size: usize,
    /// The median over the rounds.
    pub cowspace: f64,
    /// The same of each rival.
    pub rivals: BTreeMap<String, f64>,
    /// cowspace's figure divided by each rival's.
    pub ratio: BTreeMap<String, f64>,
    /// The least and the most of the rounds, for cowspace and each rival.
    pub spread: BTreeMap<String, [f64; 2]>,
    /// What must be reached.
    pub bars: Vec<Bar>,
    /// Whether it is, where there is a bar.
    pub met: Option<bool>,
    /// What is in the way of it where it is not, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<&'static str>,
}

/// What a ratio must be.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// The rival.
    pub rival: String,
    /// The ratio must not be above this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The ratio must not be below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
}

impl Bar {
    pub(crate) fn at_most(rival: &str, ratio: f64) -> Bar {
        Bar {
            rival: rival.to_owned(),
            at_most: Some(ratio),
            at_least: None,
        }
    }

    pub(crate) fn at_least(rival: &str, ratio: f64) -> Bar {
        Bar {
            at_most: None,
            at_least: Some(ratio),
            ..Bar::at_most(rival, 0.0)
        }
    }

    /// Whether a ratio reaches it. One that is not known does not.
    fn is_met(&self, ratio: Option<&f64>) -> bool {
        ratio.is_some_and(|ratio| {
            self.at_most.is_none_or(|most| *ratio <= most)
                && self.at_least.is_none_or(|least| *ratio >= least)
        })
    }
}

impl Figure {
    /// A number that is known.
    pub(crate) fn exactly(value: f64) -> Figure {
        Figure {
            median: value,
            least: value,
            most: value,
        }
    }
}

impl Row {
    pub(crate) fn new(name: &'static str, unit: &'static str, size: usize) -> Row {
        Row {
            name,
            variant: String::new(),
            unit,
            size,
            cowspace: 0.0,
            rivals: BTreeMap::new(),
            ratio: BTreeMap::new(),
            spread: BTreeMap::new(),
            bars: Vec::new(),
            met: None,
            floor: None,
        }
    }

    pub(crate) fn variant(mut self, variant: impl Into<String>) -> Row {
        self.variant = variant.into();
        self
    }

    pub(crate) fn cowspace(mut self, figure: Figure) -> Row {
        self.cowspace = figure.median;
        let spread = [figure.least, figure.most];
        self.spread.insert("cowspace".to_owned(), spread);
        self
    }

    pub(crate) fn rival(mut self, name: &str, figure: Figure) -> Row {
        self.rivals.insert(name.to_owned(), figure.median);
        let spread = [figure.least, figure.most];
        self.spread.insert(name.to_owned(), spread);
        self
    }

    pub(crate) fn bar(mut self, bar: Bar) -> Row {
        self.bars.push(bar);
        self
    }

    /// What is in the way of its bars. Told only where they are not met.
    pub(crate) fn floor(mut self, why: &'static str) -> Row {
        self.floor = Some(why);
        self
    }

    /// Computes what follows from the figures.
    pub(crate) fn finish(mut self) -> Row {
        let ratios = self.rivals.iter().filter(|(_, figure)| **figure > 0.0);
        self.ratio = ratios
            .map(|(name, figure)| (name.clone(), self.cowspace / figure))
            .collect();
        let mut bars = self.bars.iter();
        self.met =
            (!self.bars.is_empty()).then(|| bars.all(|bar| bar.is_met(self.ratio.get(&bar.rival))));
        self.floor = self.floor.filter(|_| self.met == Some(false));
        self
    }
}

impl Report {
    /// One JSON document.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and texts are always JSON")
    }

    /// A table for a person: a line for each figure, with the least and the most of the rounds in brackets.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        let mut floors: Vec<&str> = Vec::new();
        table
            .load_style(UTF8_FULL_CONDENSED)
            .set_header(["", "size", "cowspace", "rivals", "ratio", "bar", ""]);
        for row in &self.results {
            let lines = |line: &dyn Fn(&str) -> String| {
                let lines: Vec<String> = row.rivals.keys().map(|name| line(name)).collect();
                lines.join("\n")
            };
            let title = [row.name, &row.variant].join("\n");
            let met = match (row.met, row.floor) {
                (Some(true), _) => "met".to_owned(),
                (Some(false), Some(why)) => {
                    let known = floors.iter().position(|known| *known == why);
                    let number = known.unwrap_or_else(|| {
                        floors.push(why);
                        floors.len() - 1
                    });
                    format!("not met ({})", number + 1)
                }
                (Some(false), None) => "not met".to_owned(),
                (None, _) => String::new(),
            };
            table.add_row([
                Cell::new(title.trim_end()),
                Cell::new(row.sized()),
                Cell::new(row.shown("cowspace", row.cowspace)),
                Cell::new(lines(&|name| {
                    format!("{name} {}", row.shown(name, row.rivals[name]))
                })),
                Cell::new(lines(&|name| {
                    row.ratio
                        .get(name)
                        .map_or_else(String::new, |ratio| significant(*ratio))
                }))
                .set_alignment(CellAlignment::Right),
                Cell::new(row.bars_shown()),
                Cell::new(met),
            ]);
        }
        let machine = &self.machine;
        let floors = floors.iter().enumerate();
        let floors: String = floors
            .map(|(number, why)| format!("\n({}) {why}", number + 1))
            .collect();
        format!(
            "Linux {}, {} CPUs ({}), pages of {} KiB. Median of the rounds (least to most).\n{table}{floors}",
            machine.kernel,
            machine.cpus,
            machine
                .processor
                .as_deref()
                .unwrap_or(&machine.architecture),
            machine.page_size >> 10,
        )
    }
}

impl Row {
    fn sized(&self) -> String {
        match self.counts() {
            Some(what) => format!("{} {what}", self.size),
            None => ByteSize::b(self.size as u64).display().iec().to_string(),
        }
    }

    /// What the size counts, if not bytes.
    pub(crate) fn counts(&self) -> Option<&'static str> {
        ["threads", "processes", "mappings"]
            .into_iter()
            .find(|what| self.variant.split(',').next() == Some(what))
    }

    /// A figure with its spread in the same unit.
    fn shown(&self, of: &str, figure: f64) -> String {
        let (scale, unit) = shown_in(figure, self.unit);
        let figure = significant(figure / scale);
        match self.spread.get(of) {
            Some([least, most]) if least < most => format!(
                "{figure} {unit} ({}..{})",
                significant(least / scale),
                significant(most / scale)
            ),
            _ => format!("{figure} {unit}"),
        }
    }

    fn bars_shown(&self) -> String {
        let bars = self
            .bars
            .iter()
            .map(|bar| match (bar.at_most, bar.at_least) {
                (Some(most), _) => format!("≤ {most} × {}", bar.rival),
                (_, Some(least)) => format!("≥ {least} × {}", bar.rival),
                _ => String::new(),
            });
        bars.collect::<Vec<String>>().join("\n")
    }
}

/// The unit that a person reads a figure in, and how many of the figure's own unit it is.
fn shown_in(figure: f64, unit: &'static str) -> (f64, &'static str) {
    let units: &[(f64, &'static str)] = match unit {
        "ns" => &[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")],
        "us" => &[(1e-3, "ns"), (1.0, "µs"), (1e3, "ms"), (1e6, "s")],
        "ms" => &[(1e-3, "µs"), (1.0, "ms"), (1e3, "s")],
        "bytes" => &[
            (1.0, "B"),
            (1024.0, "KiB"),
            (1048576.0, "MiB"),
            (1073741824.0, "GiB"),
        ],
        "ops/s" => &[(1.0, "/s"), (1e3, "k/s"), (1e6, "M/s")],
        unit => return (1.0, unit),
    };
    let fitting = units.iter().rev().find(|(scale, _)| figure.abs() >= *scale);
    *fitting.unwrap_or(&units[0])
}

/// Three digits that count.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.1 || value == 0.0 => 3,
        _ => 5,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cowspace: f64) -> Row {
        Row::new("chain", "ns", 4096)
            .cowspace(Figure::exactly(cowspace))
            .rival("fork", Figure::exactly(100.0))
            .bar(Bar::at_most("fork", 1.1))
            .bar(Bar::at_least("fork", 0.9))
    }

    #[test]
    fn a_row_is_met_if_all_its_bars_are() {
        assert_eq!(row(110.0).finish().met, Some(true));
        assert_eq!(row(111.0).finish().met, Some(false));
        assert_eq!(row(89.0).finish().met, Some(false));
        assert_eq!(
            row(100.0).bar(Bar::at_most("nobody", 2.0)).finish().met,
            Some(false)
        );
        assert_eq!(Row::new("chain", "ns", 1).finish().met, None);
        assert_eq!(row(50.0).finish().ratio["fork"], 0.5);
    }

    #[test]
    fn figures_are_shown_in_the_unit_that_fits() {
        let shown = |figure, unit| Row::new("chain", unit, 1).shown("nobody", figure);
        assert_eq!(shown(6123.0, "ns"), "6.12 µs");
        assert_eq!(shown(17_000.0, "us"), "17.0 ms");
        assert_eq!(shown(0.25, "ms"), "250 µs");
        assert_eq!(shown(4096.0, "bytes"), "4.00 KiB");
        assert_eq!(shown(2_500_000.0, "ops/s"), "2.50 M/s");
        assert_eq!(shown(0.0, "ns"), "0.000 ns");
        let spread = Figure {
            median: 1500.0,
            least: 900.0,
            most: 20_000.0,
        };
        let row_with_spread = row(1.0).cowspace(spread);
        assert_eq!(
            row_with_spread.shown("cowspace", 1500.0),
            "1.50 µs (0.900..20.0)"
        );
        assert_eq!(row(1.0).sized(), "4.0 KiB");
        assert_eq!(row(1.0).variant("threads").sized(), "4096 threads");
    }
}
