//! The page with a profile, as a browser shows it.
//!
//! Each page is opened in headless Chromium, unaltered, on a narrow and on a wide screen: the charts must be there, hold the profile's data, fit, and nothing may be loaded or run.
//! The pages stay in target/tmp, for whoever wants to look at them.

mod browser;
mod recordings;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cowspace_profile::{Kind, Phase, Profile, write_html};
use fault_recording::Recording;
use proptest::prelude::*;
use serde::Deserialize;
use test_share::first_or_all;

/// Pixels: a telephone, and a screen on a table.
const WIDTHS: [u32; 2] = [360, 1400];

/// Bytes that a page has at most, whatever was recorded.
const LARGEST: usize = 1_000_000;

/// What the script finds on a page.
#[derive(Deserialize)]
struct Page {
    inner_width: u32,
    scroll_width: u32,
    body_width: u32,
    requests: u32,
    elements: BTreeMap<String, u32>,
    handlers: Vec<String>,
    text: String,
    title: String,
    charts: Vec<Chart>,
    figures: u32,
    tables: Vec<Table>,
}

#[derive(Deserialize)]
struct Chart {
    id: String,
    /// Of the data, in units.
    width: f64,
    height: f64,
    marks: usize,
    /// Marks that have a size and a colour.
    drawn: usize,
    /// Marks without a tooltip.
    silent: usize,
    tips: Vec<String>,
    x: Vec<String>,
    y: Vec<String>,
    names: Vec<String>,
    title: String,
    desc: String,
    legend: Vec<String>,
    /// Texts that touch each other.
    collisions: Vec<String>,
    /// Texts that leave the chart.
    outside: Vec<String>,
    /// How high the smallest text's line is.
    pixels: f64,
}

#[derive(Deserialize)]
struct Table {
    id: String,
    caption: String,
    heads: usize,
    rows: Vec<Vec<String>>,
}

impl Page {
    fn chart(&self, id: &str) -> &Chart {
        let mut charts = self.charts.iter();
        charts
            .find(|chart| chart.id == id)
            .unwrap_or_else(|| panic!("no chart {id}"))
    }

    fn table(&self, id: &str) -> &Table {
        let mut tables = self.tables.iter();
        tables
            .find(|table| table.id == id)
            .unwrap_or_else(|| panic!("no table {id}"))
    }
}

/// The page of a recording, checked as far as a string can be, and the profile.
fn page(name: &str, recording: &Recording) -> (Profile, String) {
    let profile = Profile::new(recording);
    let mut bytes = Vec::new();
    write_html(&profile, &mut bytes).unwrap();
    let page = String::from_utf8(bytes).unwrap();
    assert!(page.len() < LARGEST, "{name}: {} bytes", page.len());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::write(folder.join(format!("page-{name}.html")), &page).unwrap();
    (profile, page)
}

/// Opens a page on all screens, checks what holds for every page, and gives what was found on each; nothing if there is no browser.
fn open(name: &str, page: &str) -> Vec<Page> {
    let Some(browser) = browser::find() else {
        return Vec::new();
    };
    let visit = browser::visit::<Page>(&browser, page, &WIDTHS, include_str!("examine.js"));
    assert_eq!(visit.console, [""; 0], "{name}");
    for (width, page) in WIDTHS.into_iter().zip(&visit.found) {
        let name = format!("{name} at {width}");
        assert_eq!(page.inner_width, width);
        assert!(
            page.scroll_width <= width,
            "{name}: {} wide",
            page.scroll_width
        );
        assert!(page.body_width <= width, "{name}: {} wide", page.body_width);
        assert_eq!(page.requests, 0, "{name}");
        assert_eq!(page.handlers, [""; 0], "{name}");
        assert_eq!(page.figures, 7, "{name}");
        let known: BTreeSet<&str> = ELEMENTS.split_whitespace().collect();
        let strange = page
            .elements
            .keys()
            .filter(|element| !known.contains(element.as_str()));
        assert_eq!(strange.collect::<Vec<_>>(), [""; 0], "{name}");
        for chart in &page.charts {
            let name = format!("{name}, {}", chart.id);
            assert!(
                chart.width > 0.0 && chart.height > 0.0,
                "{name}: {} × {}",
                chart.width,
                chart.height
            );
            assert!(chart.marks > 0, "{name}");
            assert_eq!(chart.drawn, chart.marks, "{name}: not all are seen");
            assert_eq!(chart.silent, 0, "{name}: marks say nothing");
            assert!(chart.x.len() >= 2, "{name}: {:?}", chart.x);
            assert!(!chart.y.is_empty(), "{name}");
            assert!(!chart.names.is_empty(), "{name}");
            assert!(
                chart
                    .names
                    .iter()
                    .chain(&chart.x)
                    .all(|text| !text.is_empty()),
                "{name}"
            );
            assert!(!chart.title.is_empty() && !chart.desc.is_empty(), "{name}");
            assert!(!chart.legend.is_empty(), "{name}");
            assert_eq!(chart.collisions, [""; 0], "{name}");
            assert_eq!(chart.outside, [""; 0], "{name}");
            assert!(
                chart.pixels >= 10.0,
                "{name}: text of {} pixels",
                chart.pixels
            );
        }
        for table in &page.tables {
            assert!(
                !table.caption.is_empty() && !table.rows.is_empty(),
                "{name}"
            );
            for row in &table.rows {
                assert_eq!(row.len(), table.heads, "{name}, {}", table.id);
            }
        }
    }
    visit.found
}

/// All that a page consists of.
const ELEMENTS: &str = "html head meta title style body header main footer h1 h2 p b span time div ul li figure figcaption \
    table caption thead tbody tr th td svg desc g path rect circle text";

/// The number at the end of a tooltip like "...: 1,234 missing".
fn counts_of(chart: &Chart) -> u64 {
    let count = |tip: &String| {
        let after = tip.rsplit(": ").next().unwrap();
        let digits: String = after
            .chars()
            .take_while(|character| character.is_ascii_digit() || *character == ',')
            .filter(char::is_ascii_digit)
            .collect();
        digits.parse::<u64>().unwrap_or_else(|_| panic!("{tip}"))
    };
    chart.tips.iter().map(count).sum()
}

/// The charts show the profile's numbers, all of them.
fn check_numbers(profile: &Profile, page: &Page) {
    let kinds = || Kind::ALL.map(|kind| &profile.kinds[kind as usize]);

    // Each fault with a time is in one bar.
    let timed = kinds()
        .into_iter()
        .map(|kind| kind.latencies(profile.measure).count());
    assert_eq!(counts_of(page.chart("histogram")), timed.sum::<u64>());

    // A curve of each kind that has times.
    let with_times = kinds()
        .into_iter()
        .filter(|kind| !kind.latencies(profile.measure).is_empty());
    let curves = page
        .chart("percentiles")
        .tips
        .iter()
        .filter(|tip| tip.contains("fault"));
    assert_eq!(curves.count(), with_times.count());

    // Each phase that took time, of each kind and of all.
    let all = [&profile.all];
    let bars = all
        .into_iter()
        .chain(kinds())
        .map(|of| of.phases.iter().filter(|phase| phase.mean() > 0.0).count());
    let bars: usize = bars.sum();
    let bands = profile
        .all
        .bands
        .iter()
        .map(|band| band.phases.iter().filter(|ns| **ns > 0.0).count());
    let bands: usize = bands.sum();
    for (id, marks) in [("phases", bars), ("bands", bands)] {
        match marks {
            0 => assert!(page.charts.iter().all(|chart| chart.id != id)),
            marks => {
                assert_eq!(page.chart(id).marks, marks, "{id}");
                let known = Phase::ALL
                    .into_iter()
                    .filter(|phase| profile.all.phases[*phase as usize].mean() > 0.0);
                assert_eq!(
                    page.chart(id).legend,
                    known.map(Phase::name).collect::<Vec<_>>()
                );
            }
        }
    }

    // Every fault has its time and its place.
    let parts = profile
        .bins
        .iter()
        .map(|bin| bin.kinds.iter().filter(|count| **count > 0).count());
    if profile.bins.len() > 1 {
        assert_eq!(page.chart("rates").marks, parts.sum::<usize>());
        assert_eq!(counts_of(page.chart("rates")), profile.all.faults);
    }
    assert_eq!(counts_of(page.chart("heat")), profile.all.faults);

    let region = &page.table("regions").rows[0];
    assert_eq!(
        region[1].replace(',', ""),
        profile.regions[0].faults.to_string()
    );
}

#[test]
fn a_busy_recording_with_probes_is_shown_whole() {
    let (profile, page) = page("busy", &recordings::busy(true));
    for page in open("busy", &page) {
        check_numbers(&profile, &page);
        let legend = ["missing", "minor", "write-protect"];
        assert_eq!(page.chart("histogram").legend, legend);
        assert_eq!(
            page.chart("phases").y.len(),
            4 + 4,
            "{:?}",
            page.chart("phases").y
        );
        let heat = &page.chart("heat").y;
        assert!(
            heat.iter().any(|name| name.starts_with("heap:")),
            "{heat:?}"
        );
        assert_eq!(page.chart("latencies").tips, ["p99", "p50"]);
        assert_eq!(
            page.title,
            "Page faults of zygote-demo --heap 128MiB and 1 more process"
        );
        for said in [
            "How slow is a fault here?",
            "In the slowest hundredth it is queue",
            "Which part of it?",
            "Where do they come from?",
            "has 56 % of the faults, in 2 regions of that name, of 8 regions in all.",
            "Then: postings 22 %",
            "And 2 without faults.",
            "34 faults were lost",
            "Recording took the handler 85 ns a fault",
            "heap: word index",
            "Linux 6.18.0, x86_64, 2 CPUs",
            "Recorded 2027-01-15 08:00:00 UTC.",
        ] {
            assert!(page.text.contains(said), "{said:?} is not in {}", page.text);
        }
        let tables: Vec<&str> = page.tables.iter().map(|table| table.id.as_str()).collect();
        assert_eq!(
            tables,
            [
                "kinds",
                "regions",
                "threads",
                "answers",
                "cpus",
                "touches",
                "processes"
            ]
        );
    }
}

#[test]
fn without_probes_the_handled_time_is_shown_and_said() {
    let (profile, page) = page("handled", &recordings::busy(false));
    for page in open("handled", &page) {
        check_numbers(&profile, &page);
        assert_eq!(page.chart("phases").legend, ["queue", "resolve", "install"]);
        assert!(
            page.text
                .contains("from when the handler has read the fault until the page is in place")
        );
        assert!(page.tables.iter().all(|table| table.id != "touches"));
    }
}

#[test]
fn native_faults_have_times_and_no_phases() {
    let (profile, page) = page("native", &recordings::native());
    for page in open("native", &page) {
        check_numbers(&profile, &page);
        assert_eq!(page.chart("histogram").legend, ["kernel's own"]);
        assert!(
            page.text.contains("of their parts nothing is known"),
            "{}",
            page.text
        );
        assert!(page.text.contains("no phases are known"), "{}", page.text);
    }
}

#[test]
fn one_fault_is_a_picture() {
    let (profile, page) = page("one", &recordings::one());
    for page in open("one", &page) {
        check_numbers(&profile, &page);
        assert_eq!(page.charts.len(), 5);
        assert!(
            page.text.contains("All faults came at once."),
            "{}",
            page.text
        );
        assert_eq!(page.chart("heat").marks, 1);
        assert!(
            page.text.contains("is the median of 1 fault,"),
            "{}",
            page.text
        );
    }
}

#[test]
fn an_empty_recording_is_a_page_that_says_so() {
    let (_, nothing) = page("nothing", &Recording::default());
    let mut silent = recordings::one();
    silent.processes[0].faults.clear();
    let (_, silent) = page("silent", &silent);
    for (name, page) in [("nothing", nothing), ("silent", silent)] {
        for page in open(name, &page) {
            assert_eq!(page.charts.len(), 0);
            assert!(
                page.text.contains("No page fault was recorded."),
                "{}",
                page.text
            );
        }
    }
}

#[test]
fn hostile_names_are_only_names() {
    let payloads = [
        "<script>document.title='hacked';parent.hacked=1</script>",
        "\"><img src=x onerror=\"parent.hacked=1\">",
        "'><svg onload=parent.hacked=1>",
        "</style></title></text></svg></table><iframe src=//example.org></iframe>",
        "&lt;b&gt; &amp; &#0; {{x}} ${x} <!-- -->",
        "nul \0 bell \u{7} escape \u{1b}[2J line\r\nfeed\ttab \u{2028} \u{202e}turned",
        "]]> <?xml?> <![CDATA[ javascript:alert(1)",
    ];
    let (profile, page) = page("hostile", &recordings::named(&payloads, payloads.len()));
    assert!(!page.contains(['\0', '\u{7}', '\u{1b}', '\u{202e}', '\r']));
    for page in open("hostile", &page) {
        check_numbers(&profile, &page);
        let names: String = page
            .table("regions")
            .rows
            .iter()
            .map(|row| row[0].as_str())
            .collect();
        for payload in payloads {
            let begins: String = payload.chars().take(4).collect();
            assert!(
                names.contains(begins.trim_end()),
                "{begins} is not in {names}"
            );
        }
    }
}

#[test]
fn long_names_are_cut_and_the_page_stays_small() {
    let names = [
        "x".repeat(10_000),
        "\"<&>".repeat(2_500),
        "長い名前".repeat(2_500),
    ];
    for name in first_or_all(1, &names) {
        page("full", &recordings::full(name));
    }
    let names = names.each_ref().map(String::as_str);
    let (profile, page) = page("long", &recordings::named(&names, 60));
    for page in open("long", &page) {
        check_numbers(&profile, &page);
    }
}

proptest! {
    #[test]
    fn whatever_was_recorded_is_a_page_of_bounded_size(recording in support::any_recording()) {
        let mut page = Vec::new();
        write_html(&Profile::new(&recording), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        prop_assert!(page.len() < LARGEST);
        prop_assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        prop_assert!(page.ends_with("</html>"));
    }
}

#[test]
fn the_page_names_nothing_outside() {
    let (_, page) = page("still", &recordings::busy(true));
    assert!(page.starts_with("<!DOCTYPE html>"));
    for word in [
        "http:",
        "https:",
        "//",
        "url(",
        "@import",
        "src=",
        "href=",
        "<script",
        "<link",
        "javascript:",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
}
