//! What the demo found: a table for people, or one JSON document.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use bytesize::ByteSize;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::plan::{How, Plan};
use crate::rows::Outcome;
use crate::state::State;
use crate::text::Document;

/// How many violations of a row are told in full.
const SHOWN: usize = 3;

/// The JSON document.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether every process, of every row, saw exactly its own index.
    pub(crate) isolation_ok: bool,
    /// Children of each generation.
    pub(crate) children: usize,
    /// Bytes allocated in the index's heap.
    pub(crate) heap_bytes: usize,
    /// What of cowspace's zygote was frozen before it had children; `null` with `--no-freeze`.
    pub(crate) frozen: Option<Frozen>,
    pub(crate) rows: Vec<Row>,
}

/// What freezing did.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Frozen {
    pub(crate) bytes: u64,
    /// Bytes of them in huge pages.
    pub(crate) huge_bytes: u64,
    /// How long it took, in microseconds.
    pub(crate) us: f64,
}

impl Frozen {
    /// Has memory frozen, and times it.
    pub(crate) fn by(freeze: impl FnOnce() -> Result<cowspace::Frozen>) -> Result<Frozen> {
        let start = Instant::now();
        let frozen = freeze()?;
        Ok(Frozen {
            bytes: frozen.bytes,
            huge_bytes: frozen.huge_bytes,
            us: start.elapsed().as_secs_f64() * 1e6,
        })
    }
}

/// One way of giving children the index.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) how: How,
    /// Request to first answer, in microseconds.
    pub(crate) first_answer_us: Percentiles<f64>,
    /// Over the first generation, from smaps.
    pub(crate) sum_pss_bytes: u64,
    /// Over the first generation, from smaps.
    pub(crate) sum_private_bytes: u64,
    /// Page faults of the first generation, whoever resolved them.
    pub(crate) faults: u64,
    /// A first store to a warmed page, as the storing thread saw it, in nanoseconds.
    pub(crate) fault_ns: Percentiles<u64>,
}

/// The median, and what 99 of 100 do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Percentiles<T> {
    pub(crate) p50: T,
    pub(crate) p99: T,
}

impl Percentiles<u64> {
    /// Of these numbers, by nearest rank; 0 if there are none.
    pub(crate) fn of(mut numbers: Vec<u64>) -> Percentiles<u64> {
        numbers.sort_unstable();
        Percentiles {
            p50: percentile(&numbers, 50),
            p99: percentile(&numbers, 99),
        }
    }
}

/// The smallest of the sorted numbers that at least `percent` of a hundred do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

impl Row {
    pub(crate) fn new(how: How, outcome: &Outcome) -> Row {
        let first_answer = Percentiles::of(outcome.first_answer_ns.clone());
        Row {
            how,
            first_answer_us: Percentiles {
                p50: first_answer.p50 as f64 / 1e3,
                p99: first_answer.p99 as f64 / 1e3,
            },
            sum_pss_bytes: outcome.pss,
            sum_private_bytes: outcome.private,
            faults: outcome.faults,
            fault_ns: Percentiles::of(outcome.store_ns.clone()),
        }
    }
}

/// The rows as a table with units that people read.
pub(crate) fn table(report: &Report) -> Table {
    let memory = format!("memory of {} children", report.children);
    let mut table = new_table(&[
        "how",
        "first answer\nmedian",
        "\np99",
        &memory,
        "of it\nprivate",
        "page\nfaults",
        "first store\nto a page",
        "\np99",
    ]);
    for row in &report.rows {
        table.add_row([
            row.how.name().to_owned(),
            duration(row.first_answer_us.p50 * 1e3),
            duration(row.first_answer_us.p99 * 1e3),
            size(row.sum_pss_bytes),
            size(row.sum_private_bytes),
            row.faults.to_string(),
            duration(row.fault_ns.p50 as f64),
            duration(row.fault_ns.p99 as f64),
        ]);
    }
    table
}

/// An empty table: names on the left, numbers on the right.
pub(crate) fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Everything that there is to tell.
pub(crate) struct Findings<'a> {
    pub(crate) documents: &'a [Document],
    pub(crate) plan: &'a Plan,
    /// The index as it is when it has just been warmed.
    pub(crate) fresh: &'a State,
    pub(crate) heap_bytes: usize,
    pub(crate) frozen: Option<Frozen>,
    pub(crate) outcomes: &'a [(How, Outcome)],
}

impl Findings<'_> {
    fn report(&self) -> Report {
        Report {
            isolation_ok: self
                .outcomes
                .iter()
                .all(|(_, outcome)| outcome.violations.is_empty()),
            children: self.plan.children,
            heap_bytes: self.heap_bytes,
            frozen: self.frozen,
            rows: self
                .rows()
                .map(|(how, outcome)| Row::new(*how, outcome))
                .collect(),
        }
    }

    /// Without the traced one where no fault handler could run: that would be the native one once more.
    fn rows(&self) -> impl Iterator<Item = &(How, Outcome)> {
        self.outcomes
            .iter()
            .filter(|(how, outcome)| *how != How::CowspaceTraced || !outcome.handled.is_empty())
    }

    /// Prints all, and says whether isolation held.
    pub(crate) fn print(&self, json: bool) -> Result<bool> {
        let report = self.report();
        for (how, outcome) in self.outcomes {
            for violation in outcome.violations.iter().take(SHOWN) {
                eprintln!("zygote-demo: {}: {violation:.400}", how.name());
            }
        }
        if report.rows.len() < self.outcomes.len() {
            eprintln!(
                "zygote-demo: no cowspace-traced row: this machine cannot trace faults (`cowspace doctor` says why)"
            );
        }
        let mut out = std::io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", self.what_was_done(&report))?;
            writeln!(out, "{}", table(&report))?;
            if let Some(frozen) = &self.frozen {
                writeln!(out, "{}", frozen_line(frozen))?;
            }
            self.rows()
                .filter_map(|(_, outcome)| handler_line(outcome))
                .try_for_each(|line| writeln!(out, "{line}"))?;
            writeln!(out, "{}", self.answer_line())?;
            writeln!(out, "{}", self.isolation_line())?;
        }
        Ok(report.isolation_ok)
    }

    fn what_was_done(&self, report: &Report) -> String {
        let text: usize = self
            .documents
            .iter()
            .map(|document| document.text.len())
            .sum();
        format!(
            "Indexed {} documents ({} of text; the index has {}, made documents included) and gave it to {} generations of {} children, in {} ways:",
            self.documents.len(),
            size(text as u64),
            size(report.heap_bytes as u64),
            self.plan.generations,
            self.plan.children,
            report.rows.len(),
        )
    }

    fn answer_line(&self) -> String {
        let (query, answer) = (&self.plan.first[0], &self.fresh.answers[0]);
        let places = format!(
            "stands in {} documents at {} places",
            answer.documents, answer.positions
        );
        let first = answer
            .first
            .as_ref()
            .map(|hit| format!(", first in {} at word {}", hit.document, hit.position + 1));
        format!(
            "One answer that all gave: \"{}\" {places}{}.",
            query.join(" "),
            first.unwrap_or_default()
        )
    }

    fn isolation_line(&self) -> String {
        let violations: usize = self
            .outcomes
            .iter()
            .map(|(_, outcome)| outcome.violations.len())
            .sum();
        match violations {
            0 => "isolation ok: every child and every zygote saw exactly its own index, to the last posting".to_owned(),
            _ => format!("isolation BROKEN: {violations} times a process saw something else than its own index"),
        }
    }
}

fn frozen_line(frozen: &Frozen) -> String {
    format!(
        "cowspace's zygote froze {} before it had children ({} of it in huge pages), in {}.",
        size(frozen.bytes),
        size(frozen.huge_bytes),
        duration(frozen.us * 1e3),
    )
}

/// What the fault handlers say of a row, if it has any.
fn handler_line(outcome: &Outcome) -> Option<String> {
    let faults: u64 = outcome.handled.iter().map(|handled| handled.faults).sum();
    let median = Percentiles::of(
        outcome
            .handled
            .iter()
            .map(|handled| handled.p50_ns)
            .collect(),
    )
    .p50;
    let worst = outcome.handled.iter().map(|handled| handled.p99_ns).max()?;
    Some(format!(
        "The fault handlers of cowspace-traced resolved {faults} of these faults: {} in the median, {} for 99 of 100 in the slowest child.",
        duration(median as f64),
        duration(worst as f64),
    ))
}

/// Bytes, with the binary unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Nanoseconds, with the unit that fits.
pub(crate) fn duration(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{:.1} µs", ns / 1e3),
        ..1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numbers_that_were_measured() {
        assert_eq!(Percentiles::of(vec![]), Percentiles { p50: 0, p99: 0 });
        assert_eq!(Percentiles::of(vec![7]), Percentiles { p50: 7, p99: 7 });
        assert_eq!(
            Percentiles::of(vec![3, 1, 2]),
            Percentiles { p50: 2, p99: 3 }
        );
        assert_eq!(
            Percentiles::of((1..=100).rev().collect()),
            Percentiles { p50: 50, p99: 99 }
        );
        assert_eq!(
            Percentiles::of((1..=1000).collect()),
            Percentiles { p50: 500, p99: 990 }
        );
    }

    #[test]
    fn units_fit() {
        let shown = [0.0, 999.0, 1500.0, 2.5e6, 3e9].map(duration);
        assert_eq!(shown, ["0 ns", "999 ns", "1.5 µs", "2.5 ms", "3.00 s"]);
        assert_eq!(size(1 << 30), "1.0 GiB");
    }

    fn report() -> Report {
        let outcome = Outcome {
            first_answer_ns: vec![1500, 2500],
            pss: 1 << 20,
            private: 4096,
            faults: 12,
            store_ns: vec![900],
            ..Outcome::default()
        };
        let rows = vec![
            Row::new(How::CowspaceNative, &outcome),
            Row::new(How::Cold, &outcome),
        ];
        Report {
            isolation_ok: true,
            children: 2,
            heap_bytes: 3,
            frozen: Some(Frozen {
                bytes: 2,
                huge_bytes: 1,
                us: 5.0,
            }),
            rows,
        }
    }

    #[test]
    fn the_json_document_has_its_fields() {
        let row = |how: &str| {
            serde_json::json!({
                "how": how,
                "first_answer_us": { "p50": 1.5, "p99": 2.5 },
                "sum_pss_bytes": 1 << 20,
                "sum_private_bytes": 4096,
                "faults": 12,
                "fault_ns": { "p50": 900, "p99": 900 },
            })
        };
        let expected = serde_json::json!({
            "isolation_ok": true, "children": 2, "heap_bytes": 3,
            "frozen": { "bytes": 2, "huge_bytes": 1, "us": 5.0 },
            "rows": [row("cowspace-native"), row("cold")],
        });
        assert_eq!(serde_json::to_value(report()).unwrap(), expected);
    }

    #[test]
    fn the_table_names_rows_and_units() {
        let shown = table(&report()).to_string();
        for part in [
            "cowspace-native",
            "cold",
            "1.5 µs",
            "1.0 MiB",
            "4.0 KiB",
            "900 ns",
        ] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
    }
}
