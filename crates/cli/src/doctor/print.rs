//! The report as text for a person and as JSON for a program, on stdout.

use std::io::{self, Write};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use super::findings::{Finding, Report, State};

/// Columns that the text fills at most, and what it takes where the width is not known.
const WIDTH: u16 = 110;

/// Narrower than this a table is no help: let the terminal wrap.
const LEAST_WIDTH: u16 = 70;

/// One JSON document.
pub(super) fn json(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)
}

/// The verdict, the machine, and a row for each finding. Colours only on a terminal.
pub(super) fn text(report: &Report) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let width = table.width().unwrap_or(WIDTH).clamp(LEAST_WIDTH, WIDTH);
    table.set_width(width);
    for finding in &report.findings {
        table.add_row([
            state(finding.state),
            Cell::new(finding.name).add_attribute(Attribute::Bold),
            Cell::new(paragraph(finding)),
        ]);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n\n{}\n", report.summary, surroundings(report))?;
    writeln!(out, "{}", table.trim_fmt())
}

fn state(state: State) -> Cell {
    let (word, color) = match state {
        State::Ok => ("ok", Color::Green),
        State::No => ("no", Color::Red),
        State::Off => ("off", Color::Yellow),
        State::Low => ("low", Color::Yellow),
    };
    Cell::new(word).fg(color)
}

fn paragraph(finding: &Finding) -> String {
    let mut text = finding.here.clone();
    for (label, sentence) in [("lost: ", &finding.lost), ("to do: ", &finding.advice)] {
        if let Some(sentence) = sentence {
            text.push('\n');
            text.push_str(label);
            text.push_str(sentence);
        }
    }
    text
}

fn surroundings(report: &Report) -> String {
    let machine = &report.machine;
    let mut facts = vec![
        format!("Linux {}", report.kernel),
        machine.architecture.to_owned(),
        format!("pages of {} KiB", report.page_size >> 10),
        format!("user {}", machine.uid),
        match (machine.sys_ptrace, machine.user_namespace) {
            (true, false) => "with CAP_SYS_PTRACE",
            (true, true) => "with CAP_SYS_PTRACE in a user namespace only",
            (false, _) => "without CAP_SYS_PTRACE",
        }
        .to_owned(),
        match machine.unprivileged_userfaultfd {
            Some(true) => "vm.unprivileged_userfaultfd=1",
            Some(false) => "vm.unprivileged_userfaultfd=0",
            None => "no setting vm.unprivileged_userfaultfd",
        }
        .to_owned(),
        if machine.seccomp_filter {
            "under a seccomp filter"
        } else {
            "no seccomp filter"
        }
        .to_owned(),
    ];
    if !report.disabled.is_empty() {
        facts.push(format!("COWSPACE_DISABLE={}", report.disabled.join(",")));
    }
    facts.join(", ")
}
