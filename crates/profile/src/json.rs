//! The profile as one JSON document: the model as it is ([`Profile`]), under its fields' names, and `version`.
//!
//! Times are nanoseconds. What the model has as arrays by kind or by phase are objects here, with the names of [`Kind`] and [`Phase`].

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use fault_recording::{Answer, End, OutcomeKind, Policy};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::fault::{Kind, Phase};
use crate::latency::Latencies;
use crate::profile::{How, Placement, Profile};

/// The version of the document: another one if a name's meaning changes or it goes away.
const VERSION: u32 = 1;

/// Writes a profile as one JSON document, on one line.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_json(profile: &Profile, to: impl Write) -> io::Result<()> {
    let mut to = BufWriter::new(to);
    #[derive(Serialize)]
    struct Document<'a> {
        version: u32,
        #[serde(flatten)]
        profile: &'a Profile,
    }
    let document = Document {
        version: VERSION,
        profile,
    };
    serde_json::to_writer(&mut to, &document)?;
    writeln!(to)?;
    to.flush()
}

/// Bars an octave.
const STEPS: u32 = 8;

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let summary = self.summary();
        let mut out = to.serialize_struct("Latencies", 9)?;
        out.serialize_field("count", &summary.count)?;
        out.serialize_field("mean", &self.mean())?;
        out.serialize_field("min", &self.least())?;
        out.serialize_field("p50", &summary.p50)?;
        out.serialize_field("p90", &summary.p90)?;
        out.serialize_field("p99", &summary.p99)?;
        out.serialize_field("p999", &summary.p999)?;
        out.serialize_field("max", &summary.max)?;
        out.serialize_field("histogram", &self.buckets(STEPS))?;
        out.end()
    }
}

/// An object of names instead of an array.
fn named<S: Serializer, K: Display, V: Serialize>(
    to: S,
    rows: impl IntoIterator<Item = (K, V)>,
) -> Result<S::Ok, S::Error> {
    to.collect_map(
        rows.into_iter()
            .map(|(key, value)| (key.to_string(), value)),
    )
}

pub(crate) fn by_kind<S: Serializer, T: Serialize>(
    values: &[T; 4],
    to: S,
) -> Result<S::Ok, S::Error> {
    named(to, Kind::ALL.map(Kind::name).into_iter().zip(values))
}

pub(crate) fn by_phase<S: Serializer, T: Serialize>(
    values: &[T; 5],
    to: S,
) -> Result<S::Ok, S::Error> {
    named(to, Phase::ALL.map(Phase::name).into_iter().zip(values))
}

pub(crate) fn by_place<S: Serializer>(values: &[Placement; 3], to: S) -> Result<S::Ok, S::Error> {
    named(to, ["same", "other", "unknown"].into_iter().zip(values))
}

pub(crate) fn outcomes<S: Serializer>(
    values: &[(OutcomeKind, u64)],
    to: S,
) -> Result<S::Ok, S::Error> {
    let rows = values.iter();
    named(
        to,
        rows.map(|(outcome, count)| (outcome_name(*outcome), count)),
    )
}

/// An outcome's name, as it is written everywhere.
pub(crate) fn outcome_name(outcome: OutcomeKind) -> &'static str {
    match outcome {
        OutcomeKind::Copied => "copied",
        OutcomeKind::Zeroed => "zeroed",
        OutcomeKind::Continued => "continued",
        OutcomeKind::Unprotected => "unprotected",
        OutcomeKind::Exists => "exists",
        OutcomeKind::Parked => "parked",
        OutcomeKind::Retried => "retried",
        OutcomeKind::Gone => "gone",
        OutcomeKind::Poisoned => "poisoned",
    }
}

pub(crate) fn answer<S: Serializer>(answer: &Option<Answer>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown {
        name: &'static str,
        depth: Option<u32>,
    }
    Shown {
        name: answer.name(),
        depth: answer.depth(),
    }
    .serialize(to)
}

pub(crate) fn policy<S: Serializer>(policy: &Option<Policy>, to: S) -> Result<S::Ok, S::Error> {
    policy
        .map(|policy| match policy {
            Policy::Traced => "traced",
            Policy::Native => "native",
        })
        .serialize(to)
}

pub(crate) fn ranges<S: Serializer>(ranges: &[(usize, usize)], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown {
        start: String,
        bytes: usize,
    }
    to.collect_seq(ranges.iter().map(|(start, bytes)| Shown {
        start: format!("{start:#x}"),
        bytes: *bytes,
    }))
}

pub(crate) fn end<S: Serializer>(end: &Option<End>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown {
        recorded: u64,
        lost: u64,
        cost_ns: u64,
    }
    end.map(|end| Shown {
        recorded: end.recorded,
        lost: end.lost,
        cost_ns: end.cost_ns,
    })
    .serialize(to)
}
