//! The profile as a page: one file that needs nothing else, for a browser.
//!
//! It has no script and loads nothing; the policy in its head forbids both, so that a name in a recording could not change that even if it were not escaped.
//! What grows with a recording is bounded (cells of the map, bars, rows of tables), and so is the page.

mod answers;
mod heat;
mod latency;
mod notes;
mod phases;
mod tables;
mod time;

use std::io::{self, Write};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::fault::{Kind, Phase};
use crate::name;
use crate::profile::Profile;
use crate::words::{kind_name, kinds};

/// Nothing is loaded or run, also if somebody's name should get where it must not. The style is in the page.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = include_str!("html/style.css");

/// Writes a profile as one HTML page.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_html(profile: &Profile, mut to: impl Write) -> io::Result<()> {
    to.write_all(page(profile).into_string().as_bytes())?;
    to.flush()
}

fn page(profile: &Profile) -> Markup {
    let title = format!("Page faults of {}", name::command(profile));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    (notes::where_and_when(profile))
                }
                main {
                    (notes::doubts(profile))
                    (answers::answers(profile))
                    div class="charts" {
                        (latency::histogram(profile))
                        (latency::percentiles(profile))
                        (phases::by_kind(profile))
                        (phases::by_band(profile))
                        (time::rates(profile))
                        (time::latencies(profile))
                        (heat::map(profile))
                    }
                    div class="tables" { (tables::all(profile)) }
                }
                footer { (notes::words(profile)) }
            }
        }
    }
}

/// What a figure shows, besides its chart.
struct Figure<'a> {
    /// As an identifier.
    id: &'a str,
    title: &'a str,
    /// How to read it, and what there is to see.
    says: &'a str,
    /// What its colours mean.
    legend: Markup,
}

/// A chart with its heading; or why there is none.
fn figure(figure: Figure, chart: Option<Markup>) -> Markup {
    html! {
        figure id=(figure.id) {
            figcaption {
                h2 { (figure.title) }
                p { (figure.says) }
                @if chart.is_some() { (figure.legend) }
            }
            @if let Some(chart) = chart { (chart) } @else { p class="nothing" { "Nothing to draw." } }
        }
    }
}

/// Names with the class of their marks: boxes of their colour, or lines where the marks are.
fn legend<N: AsRef<str>>(lines: bool, rows: impl IntoIterator<Item = (&'static str, N)>) -> Markup {
    html! {
        ul class="legend" {
            @for (class, name) in rows {
                li {
                    svg viewBox="0 0 24 11" aria-hidden="true" {
                        @if lines { path class=(format!("mark line {class}")) d="M0 5.5H24" {} }
                        @else { rect class=(class) x="6" width="18" height="11" {} }
                    }
                    (name.as_ref())
                }
            }
        }
    }
}

/// Parts of a bar, one on the other: of each kind that has something, from where to where it goes.
fn stacked(kinds: [f64; 4]) -> impl Iterator<Item = (Kind, f64, f64)> {
    let mut below = 0.0;
    let parts = Kind::ALL.into_iter().zip(kinds).map(move |(kind, own)| {
        let from = below;
        below += own;
        (kind, from, below)
    });
    parts.filter(|(_, from, to)| to > from)
}

/// The legend of kinds.
fn kind_legend(profile: &Profile, lines: bool) -> Markup {
    legend(
        lines,
        kinds(profile).map(|kind| (kind_class(kind), kind_name(kind))),
    )
}

fn kind_class(kind: Kind) -> &'static str {
    match kind {
        Kind::Missing => "missing",
        Kind::Minor => "minor",
        Kind::WriteProtect => "write-protect",
        Kind::Kernel => "native",
    }
}

fn phase_class(phase: Phase) -> &'static str {
    match phase {
        Phase::Kernel => "phase-kernel",
        Phase::Queue => "phase-queue",
        Phase::Resolve => "phase-resolve",
        Phase::Install => "phase-install",
        Phase::Wake => "phase-wake",
    }
}
