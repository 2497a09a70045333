//! What was measured: a table for people, or one JSON document.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::super::script::Script;
use super::bars::{Bar, Verdict, verdicts};
use super::round::{Before, Tally, Together};
use super::{How, Rounds, SPARES};
use crate::report::{Frozen, Percentiles, duration, new_table, size};

/// The JSON document.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    script: String,
    /// Whether each process told the same.
    same_result: bool,
    /// Children that lived at the same time.
    children: usize,
    repeat: usize,
    /// Bytes allocated in the warmed runtime's heap.
    heap_bytes: usize,
    /// PSS of cowspace's zygote when it had loaded all.
    zygote_bytes: u64,
    frozen: Frozen,
    /// The script's first run in the process of the in-process row, which does not count in that row.
    first_in_process_ms: f64,
    rows: Vec<Row>,
    /// How each of cowspace's rows has done.
    bars: Vec<Verdict>,
}

/// One way of running the script. What there is not is `null`.
#[derive(Debug, Serialize)]
struct Row {
    how: How,
    requests: usize,
    /// As whoever requests it sees it; in-process: as the process itself does.
    request_ms: Percentiles<f64>,
    pss_per_child_bytes: Option<u64>,
    private_per_child_bytes: Option<u64>,
    /// One after the other: each is asked for when the one before is gone.
    children_per_s: Option<f64>,
}

impl Row {
    fn new(how: How, tally: &Tally) -> Row {
        let request = Percentiles::of(tally.request_ns.clone());
        let sum = |of: fn(&Together) -> u64| tally.together.iter().map(of).sum::<u64>();
        let children = sum(|together| together.children);
        let lives = tally.life_ns.iter().sum::<u64>() as f64 / 1e9;
        Row {
            how,
            requests: tally.request_ns.len(),
            request_ms: Percentiles {
                p50: request.p50 as f64 / 1e6,
                p99: request.p99 as f64 / 1e6,
            },
            pss_per_child_bytes: sum(|together| together.pss).checked_div(children),
            private_per_child_bytes: sum(|together| together.private).checked_div(children),
            children_per_s: (lives > 0.0).then(|| tally.life_ns.len() as f64 / lives),
        }
    }
}

impl Report {
    pub(super) fn new(
        script: &Script,
        rounds: Rounds,
        heap_bytes: usize,
        zygote: Before,
        frozen: Frozen,
        first_ns: u64,
        rows: &[(How, Tally)],
    ) -> Report {
        Report {
            script: script.name.clone(),
            same_result: rows.iter().all(|(_, tally)| tally.wrong.is_empty()),
            children: rounds.children,
            repeat: rounds.repeat,
            heap_bytes,
            zygote_bytes: zygote.alone,
            frozen,
            first_in_process_ms: first_ns as f64 / 1e6,
            rows: rows
                .iter()
                .map(|(how, tally)| Row::new(*how, tally))
                .collect(),
            bars: verdicts(rows, zygote),
        }
    }

    pub(super) fn print(&self, json: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
        } else {
            out.write_all(self.text().as_bytes())?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let times = match self.repeat {
            1 => String::new(),
            repeat => format!(", {repeat} times in turn"),
        };
        let mut lines = vec![format!(
            "Ran {} in {} children of each kind{times}. The warmed heap has {}; the zygote froze {} of memory in {}.",
            Path::new(&self.script)
                .file_name()
                .map_or(self.script.as_str().into(), |name| name.to_string_lossy()),
            self.children,
            size(self.heap_bytes as u64),
            size(self.frozen.bytes),
            duration(self.frozen.us * 1e3),
        )];
        let mut table = new_table(&[
            "how",
            "request to\nresult, median",
            "\np99",
            "memory of\na child (PSS)",
            "of it\nprivate",
            "children\na second",
        ]);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        for row in &self.rows {
            table.add_row([
                row.how.name().to_owned(),
                duration(row.request_ms.p50 * 1e6),
                duration(row.request_ms.p99 * 1e6),
                or_dash(row.pss_per_child_bytes.map(size)),
                or_dash(row.private_per_child_bytes.map(size)),
                or_dash(row.children_per_s.map(|rate| format!("{rate:.0}"))),
            ]);
        }
        lines.push(table.to_string());
        lines.push(format!(
            "pool: {SPARES} spare children with their copies wait for a script; cold: loads the library, one process at a time; in-process: the same runtime again and again (the first time took {}).",
            duration(self.first_in_process_ms * 1e6)
        ));
        lines.extend(Bar::ALL.into_iter().filter_map(|bar| self.bar_line(bar)));
        lines.push(match self.same_result {
            true => "Every process told the same.".to_owned(),
            false => "NOT every process told the same: see the errors above.".to_owned(),
        });
        lines.join("\n") + "\n"
    }

    /// Who has met a bar, and who has missed it.
    fn bar_line(&self, bar: Bar) -> Option<String> {
        let of_bar = || self.bars.iter().filter(|verdict| verdict.bar == bar);
        let limit = of_bar().next()?.limit;
        // What children change is not the same in each row.
        let (limit, each) = match bar {
            Bar::Memory => (String::new(), true),
            _ => (format!(" ({})", bar.show(limit)), false),
        };
        let who = |met: bool| {
            let names = of_bar().filter(|verdict| verdict.met == met);
            let names = names.map(|verdict| {
                let measured = bar.show(verdict.measured);
                let of = match each {
                    true => format!(" of {}", bar.show(verdict.limit)),
                    false => String::new(),
                };
                format!("{} ({measured}{of})", verdict.how.name())
            });
            names.collect::<Vec<_>>().join(", ")
        };
        let (met, missed) = (who(true), who(false));
        let verdict = match (met.as_str(), missed.as_str()) {
            (met, "") => format!("met by {met}"),
            ("", missed) => format!("MISSED by {missed}"),
            (met, missed) => format!("met by {met}; MISSED by {missed}"),
        };
        Some(format!("{}{limit}: {verdict}.", bar.text()))
    }
}
