//! The profile as text for a terminal of 80 columns, without colours.

mod answers;
mod histogram;

use std::io::{self, BufWriter, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use crate::fault::{Kind, Phase};
use crate::label::{bytes, count, duration, percent, short};
use crate::latency::Summary;
use crate::name;
use crate::profile::{Distribution, How, Profile};
use crate::words::{
    KERNEL_SAYS, cost, counted, doubts, installed, kind_name, kinds, measure_says, phase_says,
};

/// Columns.
const WIDTH: u16 = 80;

/// Rows of regions, threads and answers each at most.
const ROWS: usize = 8;

/// Characters of a region's or thread's name.
const NAME: usize = 26;

/// Writes a profile as text.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_text(profile: &Profile, to: impl Write) -> io::Result<()> {
    let to = &mut BufWriter::new(to);
    title(profile, to)?;
    if profile.all.faults > 0 {
        answers::write(profile, to)?;
    }
    for doubt in doubts(profile) {
        paragraph(to, &[&format!("! {doubt}")])?;
    }
    if profile.all.faults == 0 {
        return to.flush();
    }
    kinds_table(profile, to)?;
    phases(profile, to)?;
    histogram::write(profile, to)?;
    regions(profile, to)?;
    threads(profile, to)?;
    tree(profile, to)?;
    places(profile, to)?;
    touches(profile, to)?;
    to.flush()
}

fn title(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    writeln!(
        to,
        "Page faults of {}",
        name::cut(&name::command(profile), 60)
    )?;
    for machine in profile.machines.iter().take(4) {
        let kernel = name::cut(&machine.kernel, 24);
        let architecture = name::cut(&machine.machine, 12);
        let version = name::cut(&machine.cowspace, 12);
        writeln!(
            to,
            "Linux {kernel}, {architecture}, {}, pages of {}, cowspace {version}",
            counted(u64::from(machine.cpus), "CPU"),
            bytes(machine.page_size),
        )?;
    }
    let faults = profile.all.faults;
    if faults == 0 {
        return writeln!(to, "No page fault was recorded.");
    }
    let span = profile.last_fault_ns.saturating_sub(profile.first_fault_ns);
    let rate = match span {
        0 => String::new(),
        ns => format!(" ({}/s)", short(faults as f64 * 1e9 / ns as f64)),
    };
    let recorded = format!(
        "{} in {}{rate}, of {}.{}",
        counted(faults, "fault"),
        duration(span as f64),
        counted(profile.pages_touched, "different page"),
        installed(profile),
    );
    paragraph(to, &[&recorded, &cost(profile)])
}

/// A table without lines, the first column to the left and all others to the right.
pub(crate) struct Rows(Table);

impl Rows {
    pub(crate) fn new<'a>(heads: impl IntoIterator<Item = &'a str>) -> Rows {
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH)
            .force_no_tty();
        let mut rows = Rows(table);
        let heads = rows.cells(heads.into_iter().map(str::to_owned));
        rows.0.set_header(heads);
        rows
    }

    fn cells(&self, texts: impl IntoIterator<Item = String>) -> Vec<Cell> {
        let alignments = [CellAlignment::Left]
            .into_iter()
            .chain(std::iter::repeat(CellAlignment::Right));
        let cells = texts.into_iter().zip(alignments);
        cells
            .map(|(text, alignment)| Cell::new(text).set_alignment(alignment))
            .collect()
    }

    pub(crate) fn row(&mut self, texts: impl IntoIterator<Item = String>) {
        let cells = self.cells(texts);
        self.0.add_row(cells);
    }

    /// Writes the table and what there is more of.
    pub(crate) fn write(
        &self,
        title: &str,
        left_out: usize,
        to: &mut impl Write,
    ) -> io::Result<()> {
        writeln!(to, "\n{title}")?;
        for line in self.0.lines() {
            writeln!(to, " {}", line.trim_end())?;
        }
        if left_out > 0 {
            writeln!(to, "  … and {} more", count(left_out as u64))?;
        }
        Ok(())
    }
}

/// Sentences, wrapped.
pub(crate) fn paragraph(to: &mut impl Write, sentences: &[&str]) -> io::Result<()> {
    let text: Vec<&str> = sentences
        .iter()
        .copied()
        .filter(|text| !text.is_empty())
        .collect();
    let mut line = String::new();
    for word in text.join(" ").split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > usize::from(WIDTH)
        {
            writeln!(to, "{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(to, "{line}")
}

/// A time of some, or that there are none.
fn time(of: &Summary, ns: u64) -> String {
    match of.count {
        0 => "-".to_owned(),
        _ => duration(ns as f64),
    }
}

fn share(part: u64, all: u64) -> String {
    percent(part as f64 / all.max(1) as f64)
}

fn kinds_table(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    let mut rows = Rows::new([
        "kind", "faults", "writes", "p50", "p90", "p99", "p99.9", "max",
    ]);
    let mut row = |name: &str, of: &Distribution| {
        let times = of.latencies(profile.measure).summary();
        let percentiles = [times.p50, times.p90, times.p99, times.p999, times.max];
        let counts = [
            name.to_owned(),
            count(of.faults),
            share(of.writes, of.faults),
        ];
        rows.row(
            counts
                .into_iter()
                .chain(percentiles.map(|ns| time(&times, ns))),
        );
    };
    let shown: Vec<Kind> = kinds(profile).collect();
    for kind in &shown {
        row(kind_name(*kind), &profile.kinds[*kind as usize]);
    }
    if shown.len() > 1 {
        row("all", &profile.all);
    }
    let title = format!("Latency: {}", measure_says(profile.measure));
    rows.write(&title, 0, to)?;
    // Where there is nothing else everybody knows why.
    if shown.len() > 1 && shown.contains(&Kind::Kernel) {
        let says = format!("({}: {KERNEL_SAYS}.)", kind_name(Kind::Kernel));
        paragraph(to, &[&says])?;
    }
    Ok(())
}

fn phases(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    let mut rows = Rows::new(["phase", "p50", "p99", "share", ""]);
    rows.0.column_mut(4).into_iter().for_each(|column| {
        column.set_cell_alignment(CellAlignment::Left);
    });
    let parts = profile.all.phases.iter().zip(profile.all.shares());
    for (phase, (times, share)) in Phase::ALL.into_iter().zip(parts) {
        if !times.is_empty() {
            let times = times.summary();
            let mut cells = rows.cells([
                phase.name().to_owned(),
                time(&times, times.p50),
                time(&times, times.p99),
                percent(share),
            ]);
            cells.push(Cell::new(phase_says(phase)));
            rows.0.add_row(cells);
        }
    }
    if rows.0.is_empty() {
        return Ok(());
    }
    rows.write("Where the time goes", 0, to)
}

fn regions(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    let with_faults = profile.regions.iter().filter(|region| region.faults > 0);
    let mut rows = Rows::new([
        "region", "faults", "share", "p50", "p99", "pages", "size", "seq.",
    ]);
    for region in with_faults.clone().take(ROWS) {
        rows.row([
            name::region(profile, region, NAME),
            count(region.faults),
            share(region.faults, profile.all.faults),
            time(&region.latency, region.latency.p50),
            time(&region.latency, region.latency.p99),
            count(region.pages_touched),
            bytes(region.bytes),
            share(region.sequential, region.faults),
        ]);
    }
    let more = with_faults.count().saturating_sub(ROWS);
    rows.write(
        "Regions by faults (seq.: right behind the thread's fault before)",
        more,
        to,
    )
}

fn threads(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    let mut rows = Rows::new(["thread", "faults", "share", "p50", "p99"]);
    for thread in profile.threads.iter().take(ROWS) {
        rows.row([
            name::cut(&name::thread(profile, thread), NAME + 10),
            count(thread.faults),
            share(thread.faults, profile.all.faults),
            time(&thread.latency, thread.latency.p50),
            time(&thread.latency, thread.latency.p99),
        ]);
    }
    rows.write(
        "Threads by faults",
        profile.threads.len().saturating_sub(ROWS),
        to,
    )
}

/// What the tree answered, and how deep.
fn tree(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    if profile.answers.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(["answer", "faults", "share", "resolve p50", "p50", "p99"]);
    for row in profile.answers.iter().take(ROWS) {
        rows.row([
            answer_says(row.answer),
            count(row.faults),
            share(row.faults, profile.all.faults),
            time(&row.resolve, row.resolve.p50),
            time(&row.latency, row.latency.p50),
            time(&row.latency, row.latency.p99),
        ]);
    }
    rows.write(
        "What the page was",
        profile.answers.len().saturating_sub(ROWS),
        to,
    )
}

fn answer_says(answer: Option<fault_recording::Answer>) -> String {
    match (answer.name(), answer.depth()) {
        ("layer", Some(0)) => "in a layer of its own".to_owned(),
        ("layer", Some(depth)) => format!("in a layer, {} up", counted(depth.into(), "node")),
        ("zero", _) => "zeros".to_owned(),
        ("own", _) => "the memory's own".to_owned(),
        _ => "not told".to_owned(),
    }
}

fn places(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    let [same, other, _] = &profile.placements;
    if same.faults + other.faults == 0 {
        return Ok(());
    }
    let mut rows = Rows::new(["the handler ran on", "faults", "p50", "p99"]);
    for (name, place) in [("the faulting CPU", same), ("another CPU", other)] {
        rows.row([
            name.to_owned(),
            count(place.faults),
            time(&place.latency, place.latency.p50),
            time(&place.latency, place.latency.p99),
        ]);
    }
    rows.write("CPUs", 0, to)
}

fn touches(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    let Some(touches) = &profile.touches else {
        return Ok(());
    };
    let mut rows = Rows::new(["touches of a page", "", "p50", "p99", "max"]);
    let mut row = |name: &str, of: &Summary| {
        if of.count > 0 {
            let times = [of.p50, of.p99, of.max].map(|ns| time(of, ns));
            rows.row([name.to_owned(), count(of.count)].into_iter().chain(times));
        }
    };
    row("without a fault", &touches.without_fault);
    row("with faults", &touches.faulted);
    row("  of which several", &touches.several_faults);
    rows.write(
        "Timed by the threads themselves, with what recording adds",
        0,
        to,
    )
}
