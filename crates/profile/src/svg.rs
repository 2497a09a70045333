//! Charts as SVG inside of a page: frame, axes, and the marks that are the data.
//!
//! Charts are written as markup, not by a plotting library: so they take their colours from the page's style (light and dark), their text stays text, and each mark has a tooltip of its own.
//! All have one width in units, which is about that of a narrow screen in pixels: so text is readable there, and a wide screen shows several charts side by side.

mod scale;

use std::fmt::{self, Display, Write};

use maud::{Markup, html};

pub(crate) use scale::Scale;

/// Units.
pub(crate) const WIDTH: f64 = 380.0;

/// The least distance of two labels, in units.
const GAP: f64 = 6.0;

/// An axis, and what is written along it.
pub(crate) struct Axis {
    /// What is where.
    pub(crate) scale: Scale,
    /// What it shows, with its unit.
    pub(crate) name: &'static str,
    /// About how many ticks it has room for.
    pub(crate) ticks: usize,
    /// How a value is written.
    pub(crate) label: fn(f64) -> String,
}

impl Axis {
    fn text(&self, value: f64) -> String {
        // Nothing needs no unit.
        match value == 0.0 {
            true => "0".to_owned(),
            false => (self.label)(value),
        }
    }
}

/// The room of a chart's data: the rest is for what is written around.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

impl Room {
    /// With `height` units for data, and labels of numbers on the left.
    pub(crate) fn of(height: f64) -> Room {
        Room {
            left: 56.0,
            top: 27.0,
            right: WIDTH - 14.0,
            bottom: 27.0 + height,
        }
    }

    /// Where a horizontal axis lies.
    pub(crate) fn across(&self) -> (f64, f64) {
        (self.left, self.right)
    }

    /// Where a vertical one does: upwards.
    pub(crate) fn up(&self) -> (f64, f64) {
        (self.bottom, self.top)
    }
}

/// What a reader who does not see it gets to know of a chart.
pub(crate) struct Said<'a> {
    /// The chart's own name, as an identifier.
    pub(crate) id: &'a str,
    /// What it shows.
    pub(crate) title: &'a str,
    /// What there is to see.
    pub(crate) desc: &'a str,
}

/// A chart of these marks.
pub(crate) fn chart(said: &Said, room: Room, around: Markup, marks: Markup) -> Markup {
    let height = room.bottom + 44.0;
    let (title, desc) = (format!("{}-title", said.id), format!("{}-desc", said.id));
    html! {
        svg id=(said.id) class="chart" viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-labelledby=(format!("{title} {desc}")) {
            title id=(title) { (said.title) }
            desc id=(desc) { (said.desc) }
            (around)
            g class="marks" { (marks) }
        }
    }
}

/// The horizontal axis below the data.
pub(crate) fn x_axis(axis: &Axis, room: Room) -> Markup {
    let ticks = axis.scale.ticks(axis.ticks);
    let labels = ticks
        .iter()
        .map(|tick| (axis.scale.at(*tick), axis.text(*tick)));
    html! {
        g class="axis x" {
            path class="line" d=(format!("M{} {}H{}", Unit(room.left), Unit(room.bottom), Unit(room.right))) {}
            @for tick in &ticks {
                path class="tick" d=(format!("M{} {}v5", Unit(axis.scale.at(*tick)), Unit(room.bottom))) {}
            }
            (in_a_row(labels, room.bottom + 20.0))
            text class="name" x=(Unit((room.left + room.right) / 2.0)) y=(Unit(room.bottom + 39.0)) { (axis.name) }
        }
    }
}

/// Texts around places from left to right, without those that would touch the one before.
pub(crate) fn in_a_row(texts: impl IntoIterator<Item = (f64, String)>, y: f64) -> Markup {
    let mut free = 0.0;
    let fitting = texts.into_iter().filter_map(|(at, text)| {
        let half = width(&text) / 2.0;
        let middle = at.min(WIDTH - half);
        (middle - half >= free).then(|| {
            free = middle + half + GAP;
            (middle, text)
        })
    });
    html! {
        @for (middle, text) in fitting { text x=(Unit(middle)) y=(Unit(y)) { (text) } }
    }
}

/// The vertical axis on the left of the data, with lines through it.
pub(crate) fn y_axis(axis: &Axis, room: Room) -> Markup {
    html! {
        g class="axis y" {
            @for tick in axis.scale.ticks(axis.ticks) {
                @let at = axis.scale.at(tick);
                path class="grid" d=(format!("M{} {}H{}", Unit(room.left), Unit(at), Unit(room.right))) {}
                text x=(Unit(room.left - 6.0)) y=(Unit(at + 4.0)) { (axis.text(tick)) }
            }
            text class="name" x="2" y="12" { (axis.name) }
        }
    }
}

/// About how wide a text is, in units; rather more than less, since fonts differ.
pub(crate) fn width(text: &str) -> f64 {
    text.chars().map(character_width).sum()
}

/// The beginning of a text, as far as it fits into so many units; what is left out is three dots.
pub(crate) fn fit(text: &str, units: f64) -> String {
    if width(text) <= units {
        return text.to_owned();
    }
    let mut left = units - character_width('…');
    let fits = |character: &char| {
        left -= character_width(*character);
        left >= 0.0
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

fn character_width(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | 'f' | 't' | 'r' | 'I' | ' ' | '.' | ',' | ':' | ';' | '\'' | '|'
        | '(' | ')' | '[' | ']' | '/' | '!' => 5.0,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 13.0,
        'A'..='Z' | '<' | '>' | '=' | '+' | '#' | '~' | '&' | '_' => 11.0,
        'µ' | '–' | ' '..='~' => 8.5,
        // Chinese, say.
        _ => 14.0,
    }
}

/// A box of a class, with what it says when one points at it. `x` and `y` are two sides each, in any order.
pub(crate) fn bar(class: &str, x: (f64, f64), y: (f64, f64), says: &str) -> Markup {
    let (left, top) = (x.0.min(x.1), y.0.min(y.1));
    html! {
        rect class=(format!("mark {class}")) x=(Unit(left)) y=(Unit(top)) width=(Unit((x.0 - x.1).abs())) height=(Unit((y.0 - y.1).abs())) {
            title { (says) }
        }
    }
}

/// A line of a class through points, with what it says.
pub(crate) fn line(
    class: &str,
    points: impl IntoIterator<Item = (f64, f64)>,
    says: &str,
) -> Markup {
    let mut path = String::new();
    for (x, y) in points {
        let command = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{command}{} {}", Unit(x), Unit(y));
    }
    html! {
        path class=(format!("mark line {class}")) d=(path) { title { (says) } }
    }
}

/// A point of a class, with what it says.
pub(crate) fn point(class: &str, (x, y): (f64, f64), says: &str) -> Markup {
    html! {
        circle class=(format!("mark {class}")) cx=(Unit(x)) cy=(Unit(y)) r="3.5" { title { (says) } }
    }
}

/// A length or place in a chart: two digits behind the point are more than one sees.
pub(crate) struct Unit(pub(crate) f64);

impl Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (self.0 * 100.0).round();
        // Never "-0" or "NaN".
        let value = match hundredths.is_finite() && hundredths != 0.0 {
            true => hundredths / 100.0,
            false => 0.0,
        };
        write!(f, "{value}")
    }
}

impl maud::Render for Unit {
    fn render_to(&self, buffer: &mut String) {
        let _ = write!(buffer, "{self}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_short_and_always_numbers() {
        let all = [0.0, -0.001, 1.0 / 3.0, 56.0, f64::NAN, f64::INFINITY];
        assert_eq!(
            all.map(|place| Unit(place).to_string()),
            ["0", "0", "0.33", "56", "0", "0"]
        );
    }

    #[test]
    fn texts_are_cut_to_fit() {
        assert_eq!(fit("postings", 80.0), "postings");
        assert_eq!(fit("postings", 50.0), "posti…");
        assert_eq!(fit("長い名前", 45.0), "長い…");
        assert_eq!(fit("", 0.0), "");
        for text in ["postings", "WWWWWWWWWW", "長い名前", "\"<&>\"<&>"] {
            assert!(width(&fit(text, 40.0)) <= 40.0, "{text}");
        }
    }

    #[test]
    fn what_is_said_is_escaped() {
        let said = "<script>\"&'";
        let marks = bar("a", (1.0, 0.0), (0.0, 2.0), said);
        assert_eq!(
            marks.into_string(),
            r#"<rect class="mark a" x="0" y="0" width="1" height="2"><title>&lt;script&gt;&quot;&amp;'</title></rect>"#
        );
    }
}
