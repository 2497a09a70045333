//! How slow is a fault here, which part of it, and where do they come from: in a sentence or two each.

use std::io::{self, Write};

use super::paragraph;
use crate::label::{duration, percent};
use crate::profile::{Measure, Profile};
use crate::words::{
    counted, kind_name, kinds, largest, measure_says, phase_says, slow_ones, sources,
};

/// Writes the answers.
pub(super) fn write(profile: &Profile, to: &mut impl Write) -> io::Result<()> {
    writeln!(to)?;
    paragraph(to, &["How slow is a fault here?", &how_slow(profile)])?;
    paragraph(
        to,
        &[
            "Which part of it?",
            &which_part(profile),
            &slow_ones(profile),
        ],
    )?;
    paragraph(to, &["Where do they come from?", &where_from(profile)])
}

fn how_slow(profile: &Profile) -> String {
    let times = profile.all.latencies(profile.measure).summary();
    match times.count {
        0 => "Unknown: none was answered with a page.".to_owned(),
        // Of so few there is no such percentile.
        few if few < 100 => format!(
            "{} in the median, {}. The slowest took {}.",
            duration(times.p50 as f64),
            measure_says(profile.measure),
            duration(times.max as f64),
        ),
        _ => format!(
            "{} in the median, {}. One in a hundred takes more than {}, the slowest took {}.",
            duration(times.p50 as f64),
            measure_says(profile.measure),
            duration(times.p99 as f64),
            duration(times.max as f64),
        ),
    }
}

fn which_part(profile: &Profile) -> String {
    let shares = profile.all.shares();
    let Some((phase, share)) = largest(shares) else {
        return "Unknown: the kernel resolved them by itself.".to_owned();
    };
    let outside = match profile.measure {
        Measure::Handled => " What the kernel takes before and after is not known without probes.",
        Measure::Total => "",
    };
    let part = match share > 0.5 {
        true => "Most of it",
        false => "The largest part",
    };
    format!(
        "{part}, {}, is {}: {}.{outside}",
        percent(share),
        phase.name(),
        phase_says(phase),
    )
}

fn where_from(profile: &Profile) -> String {
    let all = profile.all.faults.max(1) as f64;
    let share = |faults: u64| percent(faults as f64 / all);
    let sources = sources(profile);
    let named = sources.iter().take(3).map(|source| {
        let regions = match source.regions {
            1 => String::new(),
            several => format!(" in {several} regions"),
        };
        format!("{}{regions} ({})", source.name, share(source.faults))
    });
    let named: Vec<String> = named.collect();
    let others = sources.iter().skip(3).map(|source| source.regions).sum();
    let others = match others {
        0 => String::new(),
        more => format!(" and {}", counted(more as u64, "other region")),
    };
    let kinds: Vec<String> = kinds(profile)
        .map(|kind| {
            let faults = profile.kinds[kind as usize].faults;
            format!("{} {}", share(faults), kind_name(kind))
        })
        .collect();
    format!(
        "From {}{others}, in {}; {}.",
        named.join(", "),
        counted(profile.threads.len() as u64, "thread"),
        kinds.join(", "),
    )
}
