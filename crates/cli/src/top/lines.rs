//! The same for programs: one JSON document a line for each look.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use fault_handler::Distribution;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};

use super::sample::{KINDS, OUTCOMES, Sample};
use super::source::{Answer, Source};
use super::state::{Change, State, together};

/// Prints until the process ends, or, with `once`, until rates were told.
pub(crate) fn print(mut source: Source, interval: Duration, once: bool) -> anyhow::Result<()> {
    let mut state = State::new(source.target().clone(), interval);
    let mut next = Instant::now();
    loop {
        // An answer that does not come may be that of a program which is no more: the second question is to the one that runs now.
        match source.ask(false).or_else(|_| source.ask(false)) {
            Ok(Answer::Sample(sample)) => state.answer(*sample),
            Ok(Answer::Anew(target)) => state.began_anew(target),
            // A process that ends closes its files some time before it has ended.
            Err(_) if source.ends_within(Duration::from_secs(2)) => {}
            Err(error) => return Err(error.into()),
        }
        if source.has_ended() {
            let _ = writeln!(io::stderr(), "process {} has ended", state.target.pid);
            return Ok(());
        }
        // With `once` the first answer only gives what to compare with.
        if let Some(sample) = &state.last
            && (!once || state.change.is_some())
        {
            let mut out = io::stdout().lock();
            let line = document(&state, sample);
            match writeln!(out, "{line}").and_then(|()| out.flush()) {
                // Whoever closed the pipe early (`| head -1`) has read what it wanted.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                printed => printed.context("cannot print")?,
            }
            if once {
                return Ok(());
            }
        }
        next = (next + interval).max(Instant::now());
        wait(&source, next)?;
    }
}

/// Waits until then, or until the process ends.
fn wait(source: &Source, until: Instant) -> anyhow::Result<()> {
    let process = source.process().context("cannot wait")?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("cannot wait")?;
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("cannot wait"),
        }
    }
}

/// What is known now. Rates and the times of the last interval are null as long as there is nothing to compare with.
fn document(state: &State, sample: &Sample) -> Value {
    let change = state.change.as_ref();
    let kinds = |number: &dyn Fn(usize) -> Value, all: Value| {
        let each = KINDS.into_iter().enumerate();
        let mut named: Map<String, Value> = each
            .map(|(kind, (name, _))| (name.replace('-', "_"), number(kind)))
            .collect();
        named.insert("all".into(), all);
        named
    };
    let outcomes: Map<String, Value> = OUTCOMES
        .into_iter()
        .zip(sample.outcomes)
        .map(|(name, count)| (name.to_string(), count.into()))
        .collect();
    let of = |all: &Distribution, recent: Option<&Distribution>| json!({ "since_start": times(all), "last_interval": recent.map(times) });
    let mut handled = kinds(
        &|kind| {
            of(
                &sample.handled[kind],
                change.map(|change| &change.handled[kind]),
            )
        },
        of(
            &together(&sample.handled),
            change.map(|change| together(&change.handled)).as_ref(),
        ),
    );
    for (at, (name, all)) in sample.phases.iter().enumerate() {
        let recent = change.and_then(|change: &Change| change.phases.get(at));
        handled.insert(name.replace('+', "_"), of(all, recent));
    }
    let memory = &sample.memory;
    json!({
        "pid": state.target.pid,
        "command": state.target.command,
        "at_ns": u64::try_from(sample.at.as_nanos()).unwrap_or(u64::MAX),
        "uptime_seconds": sample.uptime.map(|time| time.as_secs_f64()),
        "interval_seconds": change.map(|change| change.span.as_secs_f64()),
        "page_size": sample.page_size,
        "traced": sample.traced,
        "faults": kinds(&|kind| sample.faults[kind].into(), sample.all_faults().into()),
        "faults_per_second": change.map(|change| {
            kinds(&|kind| change.faults[kind].into(), change.all_faults().into())
        }),
        "outcomes": outcomes,
        "handled_ns": handled,
        "memory": memory,
        "saved_bytes": memory.saved_bytes(),
    })
}

fn times(times: &Distribution) -> Value {
    json!({
        "count": times.count(),
        "p50": times.quantile(0.5),
        "p90": times.quantile(0.9),
        "p99": times.quantile(0.99),
        "max": times.quantile(1.0),
    })
}
