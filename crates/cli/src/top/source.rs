//! Asks the process.

use std::time::{Duration, Instant};

use cowspace::inspect::{Client, Error, Inspection, Live, connect};
use fault_handler::{Distributions, OutcomeKind, Stats};
use procfs::Current;
use procfs::process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::sample::{Mapping, OUTCOMES, Sample, Target};

/// Of the time, one in so many is spent on looking at the mappings: a look walks all page tables, in the process that is looked at.
const SELDOM: u32 = 50;

/// So many mappings are kept: more than any window has lines.
const MAPPINGS: usize = 200;

/// A process that can be asked.
pub(crate) struct Source {
    client: Option<Client>,
    target: Target,
    /// When the process began, in seconds since the machine did.
    began: Option<f64>,
    /// Names the process, also when its number is another's.
    process: OwnedFd,
    mappings: Vec<Mapping>,
    /// When they were looked at.
    looked: Instant,
    /// When they may be looked at again.
    look: Instant,
}

/// What comes of a question.
pub(crate) enum Answer {
    /// What it has told.
    Sample(Box<Sample>),
    /// It is another program now, or another conversation: what was told before is not to be compared.
    Anew(Target),
}

impl Source {
    /// Of a process that lets itself be looked into.
    pub(crate) fn connect(pid: u32) -> Result<Source, Error> {
        // Before anything else: so the number is known to be that of whoever answers.
        let process = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Error::NoSuchProcess(pid))
            .and_then(|raw| {
                pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| match errno {
                    rustix::io::Errno::SRCH => Error::NoSuchProcess(pid),
                    _ => Error::Io {
                        pid,
                        error: errno.into(),
                    },
                })
            })?;
        let client = connect(pid)?;
        Ok(Source {
            client: Some(client),
            target: Target::read(pid),
            began: began(pid),
            process,
            mappings: Vec::new(),
            looked: Instant::now(),
            look: Instant::now(),
        })
    }

    /// Who it is.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// A descriptor that becomes readable when the process ends.
    pub(crate) fn process(&self) -> std::io::Result<OwnedFd> {
        self.process.try_clone()
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// The same, and waits so long for it.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(&self.process, PollFlags::IN)];
        let patience = Timespec::try_from(patience).unwrap_or_default();
        retry_on_intr(|| poll(&mut fds, Some(&patience))).is_ok_and(|ready| ready > 0)
    }

    /// Asks once. After an error the next question begins a new conversation.
    pub(crate) fn ask(&mut self, with_mappings: bool) -> Result<Answer, Error> {
        let pid = self.target.pid;
        let Some(client) = &mut self.client else {
            self.client = Some(connect(pid)?);
            self.target = Target::read(pid);
            self.mappings.clear();
            return Ok(Answer::Anew(self.target.clone()));
        };
        match Source::look(client, with_mappings && self.look <= Instant::now()) {
            Ok((live, inspection)) => {
                if let Some(inspection) = inspection {
                    let took = Duration::from_nanos(inspection.took_ns);
                    self.looked = Instant::now();
                    self.look = self.looked + took.saturating_mul(SELDOM).min(HOUR);
                    self.mappings = mappings(&inspection);
                }
                let mut sample = sample(&live);
                sample.uptime = uptime(self.began);
                sample.mappings.clone_from(&self.mappings);
                sample.mappings_age = self.looked.elapsed();
                Ok(Answer::Sample(Box::new(sample)))
            }
            Err(error) => {
                self.client = None;
                Err(error)
            }
        }
    }

    fn look(client: &mut Client, with_mappings: bool) -> Result<(Live, Option<Inspection>), Error> {
        let live = client.live()?;
        let inspection = with_mappings.then(|| client.inspect()).transpose()?;
        Ok((live, inspection))
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

impl Target {
    fn read(pid: u32) -> Target {
        let command = process(pid).and_then(|process| process.cmdline().ok());
        Target {
            pid,
            command: command.unwrap_or_default().join(" "),
        }
    }
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

fn began(pid: u32) -> Option<f64> {
    let ticks = process(pid)?.stat().ok()?.starttime;
    Some(ticks as f64 / procfs::ticks_per_second() as f64)
}

fn uptime(began: Option<f64>) -> Option<Duration> {
    let now = procfs::Uptime::current().ok()?.uptime;
    Duration::try_from_secs_f64(now - began?).ok()
}

/// What is shown of an answer.
fn sample(live: &Live) -> Sample {
    let Stats {
        all,
        missing,
        minor,
        write_protect,
        ..
    } = live.faults.unwrap_or_default();
    let mut outcomes = [0; OUTCOMES.len()];
    for (to, kind) in outcomes.iter_mut().zip(OutcomeKind::ALL) {
        *to = all.counts.of(kind);
    }
    let times: Distributions = live.times.clone().unwrap_or_default();
    Sample {
        at: Duration::from_nanos(live.at_ns),
        uptime: None,
        page_size: live.page_size,
        traced: live.faults.is_some(),
        faults: [missing, minor, write_protect].map(|kind| kind.counts.total()),
        outcomes,
        handled: [times.missing, times.minor, times.write_protect],
        phases: vec![("queue+resolve", times.resolve), ("install", times.install)],
        memory: live.memory,
        mappings: Vec::new(),
        mappings_age: Duration::ZERO,
    }
}

/// The mappings, those with the most in memory first.
fn mappings(inspection: &Inspection) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = inspection
        .maps
        .iter()
        .filter_map(|map| {
            let mapping = map.mapping.as_ref()?;
            Some(Mapping {
                start: map.start,
                len: map.len,
                name: mapping.name.clone(),
                private: mapping.private_bytes,
                shared: mapping.shared_bytes,
                traced: mapping.traced,
            })
        })
        .collect();
    mappings
        .sort_by_key(|mapping| std::cmp::Reverse(mapping.private.saturating_add(mapping.shared)));
    mappings.truncate(MAPPINGS);
    mappings
}

#[cfg(test)]
mod tests {
    use cowspace::inspect::{HomeRecord, MapRecord, MappingRecord};
    use fault_handler::{Counts, Distribution, KindStats};

    use super::*;

    #[test]
    fn an_answer_is_told_under_the_right_names() {
        let kind = |copied, parked| KindStats {
            counts: Counts {
                copied,
                parked,
                ..Counts::default()
            },
            ..KindStats::default()
        };
        let live = Live {
            at_ns: 5,
            page_size: 16_384,
            faults: Some(Stats {
                all: kind(6, 60),
                missing: kind(1, 10),
                minor: kind(2, 20),
                write_protect: kind(3, 30),
                ..Stats::default()
            }),
            times: Some(Distributions {
                minor: Distribution::new([(7, 2)]),
                install: Distribution::new([(5, 6)]),
                ..Distributions::default()
            }),
            ..Live::default()
        };
        let sample = sample(&live);
        assert_eq!(sample.faults, [11, 22, 33]);
        let named = |name| {
            let at = OUTCOMES.iter().position(|outcome| *outcome == name);
            sample.outcomes[at.expect("an outcome")]
        };
        assert_eq!(
            (named("copied"), named("parked"), named("gone")),
            (6, 60, 0)
        );
        assert_eq!(sample.handled[1].count(), 2);
        assert_eq!(sample.phases[1], ("install", Distribution::new([(5, 6)])));
        assert!(sample.traced);
        assert!(!super::sample(&Live::default()).traced);
        for (name, kind) in OUTCOMES.into_iter().zip(OutcomeKind::ALL) {
            assert_eq!(format!("{kind:?}").to_lowercase(), name);
        }
    }

    #[test]
    fn mappings_with_the_most_in_memory_come_first() {
        let map = |start, bytes| MapRecord {
            depth: 1,
            start,
            len: 1 << 20,
            mapping: Some(MappingRecord {
                perms: "rw-".into(),
                koid: 1,
                name: "heap".into(),
                vmo_offset: 0,
                traced: true,
                home: HomeRecord::File,
                private_bytes: bytes,
                shared_bytes: 1,
            }),
        };
        let vmar = MapRecord {
            mapping: None,
            ..map(0, 0)
        };
        let inspection = Inspection {
            maps: vec![vmar, map(1, 5), map(2, u64::MAX), map(3, 7)],
            ..Inspection::default()
        };
        let starts: Vec<u64> = mappings(&inspection).iter().map(|map| map.start).collect();
        assert_eq!(starts, [2, 3, 1]);
    }
}
