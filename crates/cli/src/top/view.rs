//! How it looks: one screen, drawn anew from the [`State`] each time.
//!
//! Sections stand below each other, of fixed heights; what a taller window has room for comes in between: lines left free, then a chart of all faults, then the mappings.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, RenderDirection, Sparkline, Wrap};

use super::sample::{KINDS, OUTCOMES, Sample};
use super::state::{Change, State, together};
use super::words::{bytes, clock, count, harmless, nanos, rate, span};
use fault_handler::Distribution;

/// The smallest window in which nothing is cut that matters.
const SMALLEST: (u16, u16) = (80, 21);

/// What a taller chart of all faults takes, with its title.
const CHART: u16 = 8;

const TITLE: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().fg(Color::DarkGray);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const GRAPH: Style = Style::new().fg(Color::Green);

/// A section: how many lines it has, and what draws it.
type Section<'a> = (u16, Box<dyn Fn(&mut Frame, Rect) + 'a>);

/// Whether a window of that size could show mappings.
pub(crate) fn has_room_for_mappings(area: Rect) -> bool {
    area.height >= SMALLEST.1 + 5
}

/// Draws all of it.
pub(crate) fn draw(frame: &mut Frame, state: &State) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!(
            "window too small: {}×{}, {}×{} needed (q quits)",
            area.width, area.height, SMALLEST.0, SMALLEST.1
        );
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let (body, help) = split(area, area.height - 1);
    draw_help(frame, help, state);
    let (head, body) = split(body, 2);
    draw_head(frame, head, state);
    let Some(sample) = &state.last else {
        let text = match state.trouble {
            Some(_) => "",
            None => "waiting for the first answer ...",
        };
        frame.render_widget(Paragraph::new(text).alignment(Alignment::Center), body);
        return;
    };

    let phases = sample.phases.len() as u16;
    let mut sections: Vec<Section<'_>> = vec![
        (
            5,
            Box::new(|frame, area| draw_faults(frame, area, state, sample)),
        ),
        (
            6 + phases,
            Box::new(|frame, area| draw_latency(frame, area, state, sample)),
        ),
        (
            2,
            Box::new(|frame, area| draw_outcomes(frame, area, state, sample)),
        ),
        (3, Box::new(|frame, area| draw_memory(frame, area, sample))),
    ];
    let height =
        |sections: &[Section<'_>]| sections.iter().map(|(lines, _)| lines + 1).sum::<u16>();
    if height(&sections) + CHART < body.height {
        sections.insert(
            1,
            (
                CHART,
                Box::new(|frame, area| draw_chart(frame, area, state)),
            ),
        );
    }
    let left = body.height.saturating_sub(height(&sections));
    if left > 3 && !sample.mappings.is_empty() {
        let lines = (left - 1).min(1 + sample.mappings.len() as u16);
        sections.push((
            lines,
            Box::new(|frame, area| draw_mappings(frame, area, sample)),
        ));
    }

    // Lines left free go between the sections, from the top.
    let taken: u16 = sections.iter().map(|(lines, _)| lines).sum();
    let mut free = body.height.saturating_sub(taken);
    let mut rest = body;
    for (lines, draw) in &sections {
        if free > 0 {
            rest = split(rest, 1).1;
            free -= 1;
        }
        let (area, below) = split(rest, *lines);
        draw(frame, area);
        rest = below;
    }
}

fn draw_head(frame: &mut Frame, area: Rect, state: &State) {
    let target = &state.target;
    let uptime = state
        .last
        .as_ref()
        .and_then(|sample| sample.uptime)
        .map_or(String::new(), |time| format!("  up {} ", clock(time)));
    let room = usize::from(area.width)
        .saturating_sub(uptime.chars().count())
        .saturating_sub(23);
    let left = Line::from(vec![
        Span::styled(" cowspace top ", TITLE),
        Span::styled(format!("{:>7}  ", target.pid), STRONG),
        Span::raw(cut(&harmless(&target.command), room)),
    ]);
    let (first, second) = split(area, 1);
    frame.render_widget(left, first);
    frame.render_widget(Line::from(uptime).right_aligned(), first);

    let text = if let Some(reason) = &state.trouble {
        Line::styled(format!(" no answer: {}", harmless(reason)), BAD)
    } else if let Some(sample) = &state.last {
        let who = if sample.traced {
            "traced: the fault handler sees faults"
        } else {
            "nothing traced: the kernel alone resolves faults, none is seen"
        };
        Line::from(format!(" {who} · pages of {}", bytes(sample.page_size)))
    } else {
        Line::default()
    };
    frame.render_widget(text, second);
    if state.paused {
        frame.render_widget(Line::styled(" PAUSED ", BAD).right_aligned(), second);
    }
}

fn draw_help(frame: &mut Frame, area: Rect, state: &State) {
    let key = |name: &'static str| Span::styled(name, STRONG);
    let line = Line::from(vec![
        key(" q"),
        " quit   ".into(),
        key("p"),
        if state.paused {
            " go on   "
        } else {
            " pause   "
        }
        .into(),
        key("+ -"),
        format!(" every {}", span(state.interval)).into(),
    ]);
    frame.render_widget(line, area);
}

fn draw_faults(frame: &mut Frame, area: Rect, state: &State, sample: &Sample) {
    // A wide window has room to say what the kinds are.
    let name_width = if area.width >= 110 { 40 } else { 15 };
    let text_width = name_width + 30;
    let cells = usize::from(area.width) - text_width - 2;
    let title = format!(
        " {:<width$}{:>8}{:>14}{:>8}",
        "FAULTS",
        "a second",
        "in all",
        "peak",
        width = name_width - 1
    );
    let mut lines = vec![titled(title, remembered(state, cells))];
    let all = (0..KINDS.len()).map(Some).chain([None]);
    for (row, kind) in all.enumerate() {
        let name = match kind {
            Some(kind) if name_width > 15 => format!("{:<14} {}", KINDS[kind].0, KINDS[kind].1),
            Some(kind) => KINDS[kind].0.to_string(),
            None => "all".to_string(),
        };
        let now = state.change.as_ref().map_or("-".into(), |change| {
            rate(kind.map_or(change.all_faults(), |kind| change.faults[kind]))
        });
        let in_all = kind.map_or(sample.all_faults(), |kind| sample.faults[kind]);
        let rates = state.rates(kind, cells);
        let peak = rates.iter().copied().fold(0.0, f64::max);
        lines.push(Line::from(vec![
            format!(" {name:<width$}", width = name_width - 1).into(),
            Span::styled(format!("{now:>8}"), STRONG),
            format!("{:>14}{:>8}", count(in_all), rate(peak)).into(),
        ]));
        let graph = Rect {
            x: area.x + text_width as u16 + 1,
            y: area.y + 1 + row as u16,
            width: cells as u16,
            height: 1,
        };
        frame.render_widget(graph_of(&rates, 1), graph);
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_chart(frame: &mut Frame, area: Rect, state: &State) {
    let (title, graph) = split(area, 1);
    let graph = Rect {
        x: graph.x + 10,
        width: graph.width - 11,
        ..graph
    };
    let cells = usize::from(graph.width);
    let rates = state.rates(None, cells);
    let peak = rates.iter().copied().fold(0.0, f64::max);
    frame.render_widget(
        titled(" ALL FAULTS A SECOND".into(), remembered(state, cells)),
        title,
    );
    for (row, value) in [
        (0, peak),
        (graph.height / 2, peak / 2.0),
        (graph.height - 1, 0.0),
    ] {
        let axis = Rect {
            x: area.x,
            y: graph.y + row,
            width: 9,
            height: 1,
        };
        frame.render_widget(Line::styled(rate(value), FAINT).right_aligned(), axis);
    }
    frame.render_widget(graph_of(&rates, graph.height), graph);
}

/// The rates as bars of `lines` lines, the last at the right. A bar that is not nothing is seen.
fn graph_of(rates: &[f64], lines: u16) -> Sparkline<'static> {
    let levels = f64::from(lines) * 8.0;
    let peak = rates.iter().copied().fold(0.0, f64::max);
    let bars = rates.iter().map(|rate| match rate {
        none if *none <= 0.0 => 0,
        some => ((some / peak * levels).round() as u64).max(1),
    });
    Sparkline::default()
        .data(bars.collect::<Vec<u64>>())
        .max(levels as u64)
        .direction(RenderDirection::RightToLeft)
        .style(GRAPH)
}

/// The quantiles that are shown.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

fn draw_latency(frame: &mut Frame, area: Rect, state: &State, sample: &Sample) {
    let names = QUANTILES.map(|(name, _)| format!("{name:>8}")).concat();
    let since = match &state.change {
        Some(change) => format!("last {}", span(change.span)),
        None => "since then".into(),
    };
    let mut lines = vec![
        Line::styled(
            format!(
                " {:<15}{:>31} {:>32}",
                "TIME IN HANDLER", since, "since the start"
            ),
            TITLE,
        ),
        Line::styled(format!(" {:<14}{names} {names}", ""), FAINT),
    ];
    let change = state.change.as_ref();
    let mut row = |name: &str, recent: Option<Distribution>, all: &Distribution| {
        let recent = recent.unwrap_or_default();
        lines.push(Line::from(vec![
            format!(" {name:<14}").into(),
            Span::styled(quantiles(&recent), STRONG),
            format!(" {}", quantiles(all)).into(),
        ]));
    };
    row(
        "all kinds",
        change.map(|change| together(&change.handled)),
        &together(&sample.handled),
    );
    for (at, (name, all)) in sample.phases.iter().enumerate() {
        let recent = change.and_then(|change| change.phases.get(at).cloned());
        row(&format!(" {name}"), recent, all);
    }
    for (kind, (name, _)) in KINDS.into_iter().enumerate() {
        let recent = change.map(|change| change.handled[kind].clone());
        row(name, recent, &sample.handled[kind]);
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn quantiles(times: &Distribution) -> String {
    QUANTILES
        .map(|(_, share)| format!("{:>8}", times.quantile(share).map_or("-".into(), nanos)))
        .concat()
}

fn draw_outcomes(frame: &mut Frame, area: Rect, state: &State, sample: &Sample) {
    let none = Change::default();
    let now = state.change.as_ref().unwrap_or(&none);
    // What has never happened would only be in the way.
    let mut lines = vec![vec![Span::styled(" ENDED, A SECOND", TITLE)]];
    let mut width = 17;
    for (at, name) in OUTCOMES.into_iter().enumerate() {
        if sample.outcomes[at] == 0 {
            continue;
        }
        let number = rate(now.outcomes[at]);
        let cell = 3 + name.len() + number.len();
        if width + cell > usize::from(area.width) {
            lines.push(vec![" ".repeat(16).into()]);
            width = 17;
        }
        let style = if name == "poisoned" {
            BAD
        } else {
            Style::new()
        };
        let line = lines.last_mut().expect("one line at least");
        line.push(Span::styled(format!("  {name} "), style));
        line.push(Span::styled(number, STRONG));
        width += cell;
    }
    if sample.outcomes.iter().all(|count| *count == 0) {
        lines[0].push("   none yet".into());
    }
    let lines: Vec<Line> = lines.into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_memory(frame: &mut Frame, area: Rect, sample: &Sample) {
    let memory = &sample.memory;
    let of = |count_of: u64, name: &str| match count_of {
        1 => format!("1 {name}"),
        _ => format!("{} {name}s", count(count_of)),
    };
    let first = Line::from(vec![
        Span::styled(" MEMORY   ", TITLE),
        Span::styled(bytes(memory.mapped_bytes), STRONG),
        format!(
            " mapped ({}, {})",
            of(memory.mappings, "mapping"),
            of(memory.vmos, "VMO")
        )
        .into(),
    ]);
    let second = Line::from(vec![
        " resident ".into(),
        Span::styled(bytes(memory.private_bytes), STRONG),
        " private   ".into(),
        Span::styled(bytes(memory.shared_bytes), STRONG),
        " shared   ".into(),
        Span::styled(bytes(memory.layer_bytes), STRONG),
        format!(" in {}", of(memory.layers, "layer")).into(),
    ]);
    let saved = memory.saved_bytes();
    let share = match memory.copied_bytes {
        0 => 0.0,
        copies => saved as f64 / copies as f64,
    };
    let saved = bytes(saved);
    let before = " sharing  saves ";
    let after = format!(
        " {:.0}% of {} that copies would take",
        share * 100.0,
        bytes(memory.copied_bytes)
    );
    let text = [before, &saved, " ", &after].map(|part| part.chars().count());
    let room = usize::from(area.width)
        .saturating_sub(text.iter().sum::<usize>() + 1)
        .min(60);
    let full = (share * room as f64).round() as usize;
    let third = Line::from(vec![
        before.into(),
        Span::styled(saved, STRONG),
        " ".into(),
        Span::styled("█".repeat(full), GRAPH),
        Span::styled("░".repeat(room.saturating_sub(full)), FAINT),
        after.into(),
    ]);
    frame.render_widget(Paragraph::new(vec![first, second, third]), area);
}

fn draw_mappings(frame: &mut Frame, area: Rect, sample: &Sample) {
    let title = format!(
        " {:<18}{:>12}{:>12}{:>12}  {:<7} {}",
        "MAPPINGS", "size", "private", "shared", "policy", "name"
    );
    // They are looked at seldom.
    let age = match sample.mappings_age {
        new if new < Duration::from_secs(1) => String::new(),
        old => format!("  {} ago", span(old)),
    };
    let mut lines = vec![titled(title, age)];
    let room = usize::from(area.height) - 1;
    for mapping in sample.mappings.iter().take(room) {
        lines.push(Line::from(format!(
            " {:<#18x}{:>12}{:>12}{:>12}  {:<7} {}",
            mapping.start,
            bytes(mapping.len),
            bytes(mapping.private),
            bytes(mapping.shared),
            if mapping.traced { "traced" } else { "native" },
            harmless(&mapping.name),
        )));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// How much time the cells of a graph are.
fn remembered(state: &State, cells: usize) -> String {
    match state.remembered(cells) {
        none if none.is_zero() => String::new(),
        time => format!("  last {}", span(time)),
    }
}

fn titled(title: String, remark: String) -> Line<'static> {
    Line::from(vec![
        Span::styled(title, TITLE),
        Span::styled(remark, FAINT),
    ])
}

/// The first `lines` lines of an area, and the rest.
fn split(area: Rect, lines: u16) -> (Rect, Rect) {
    let lines = lines.min(area.height);
    let first = Rect {
        height: lines,
        ..area
    };
    let rest = Rect {
        y: area.y + lines,
        height: area.height - lines,
        ..area
    };
    (first, rest)
}

/// The beginning of a text, in so many characters.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_string();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
