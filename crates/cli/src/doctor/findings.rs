//! From facts to words: the verdict, and a finding for each feature and limit. Pure.

use host_memory::probe::{Probe, Reason, Support};
use serde::Serialize;

use super::access;
use super::machine::Machine;

/// What to do about a feature that the environment hides.
pub(super) const UNSET: &str = "unset COWSPACE_DISABLE";

/// The kernel's default of `vm.max_map_count`.
const USUAL_MAP_COUNT: u64 = 65_530;

/// The usual limit on open files, the soft one at least.
const USUAL_OPEN_FILES: u64 = 1024;

/// What cowspace can do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Faults can be seen, resolved and timed.
    Traced,
    /// Only the kernel can resolve faults.
    Native,
    /// Not even that.
    Nothing,
}

impl Verdict {
    /// The command's exit status.
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Verdict::Traced => 0,
            Verdict::Native => 1,
            Verdict::Nothing => 2,
        }
    }
}

/// How a feature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Works, or is enough.
    Ok,
    /// Does not work.
    No,
    /// Hidden by COWSPACE_DISABLE.
    Off,
    /// A limit lower than usual.
    Low,
}

impl State {
    pub(super) fn of(support: Support) -> State {
        match support {
            Support::Yes => State::Ok,
            Support::No(Reason::Disabled) => State::Off,
            Support::No(_) => State::No,
        }
    }
}

/// One feature, privilege or limit.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What it is.
    pub(crate) name: &'static str,
    /// How it stands.
    pub(crate) state: State,
    /// What that means on this machine.
    pub(crate) here: String,
    /// What is lost; `None` if nothing.
    pub(crate) lost: Option<String>,
    /// What to do; `None` if nothing needs to be done, or nothing can.
    pub(crate) advice: Option<String>,
}

/// All that the command says.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What works.
    pub(crate) verdict: Verdict,
    /// The same as a sentence.
    pub(crate) summary: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Bytes.
    pub(crate) page_size: usize,
    /// Words of COWSPACE_DISABLE that are in effect.
    pub(crate) disabled: Vec<String>,
    /// Who we are, and what stands in the way.
    pub(crate) machine: Machine,
    /// First the ways to a userfaultfd, then what is done with one, then what makes it faster, then what cowspace cannot do
    /// without, then what it has no use for, then limits.
    pub(crate) findings: Vec<Finding>,
}

/// Judges the machine.
pub(crate) fn examine(probe: &Probe, machine: &Machine) -> Report {
    let (verdict, summary) = judge(probe, machine);
    let mut findings: Vec<_> = probe
        .ladder
        .iter()
        .map(|rung| access::finding(rung, probe, machine))
        .collect();
    findings.extend([
        traced(probe),
        write_tracking(probe),
        poison(probe),
        pagemap_scan(probe),
        huge_pages(machine),
        memfd_sealing(probe),
        address_space(machine),
        unused("UFFDIO_MOVE", probe.move_pages),
        unused("UFFDIO_RWPROTECT", probe.read_protect),
    ]);
    findings.extend(probe.max_map_count.map(mappings));
    findings.extend(machine.open_files.map(open_files));
    Report {
        verdict,
        summary,
        kernel: probe.release.clone(),
        page_size: probe.page_size,
        disabled: probe
            .disabled
            .iter_names()
            .map(|(name, _)| name.to_lowercase().replace('_', "-"))
            .collect(),
        machine: machine.clone(),
        findings,
    }
}

fn judge(probe: &Probe, machine: &Machine) -> (Verdict, String) {
    if let Err(errno) = machine.reservation {
        return (
            Verdict::Nothing,
            format!(
                "cowspace cannot run here: an address space of its own cannot be reserved ({}).",
                errno.desc()
            ),
        );
    }
    if let Support::No(reason) = probe.memfd_sealing {
        return (
            Verdict::Nothing,
            format!("cowspace cannot run here: memory files cannot be sealed ({reason})."),
        );
    }
    match (probe.traced, probe.write_tracking) {
        (Support::Yes, Support::Yes) => (
            Verdict::Traced,
            "Traced mode works here: \
             cowspace sees, resolves and times every first touch and every first write."
                .to_owned(),
        ),
        (Support::Yes, Support::No(_)) => (
            Verdict::Traced,
            "Traced mode works here, but for writes: \
             cowspace sees, resolves and times every first touch; \
             first writes it finds by scanning."
                .to_owned(),
        ),
        (Support::No(reason), _) => {
            let why = match reason {
                Reason::NoUserfaultfd | Reason::UserModeOnly => access::obstacle(probe, machine),
                other => other.to_string(),
            };
            (
                Verdict::Native,
                format!(
                    "Only native mode works here: the kernel resolves page faults alone, \
                     to the same bytes, and cowspace does not see them (userfaultfd: {why})."
                ),
            )
        }
    }
}

/// What a feature's absence costs, and which kernel has it.
struct Absence {
    lost: &'static str,
    advice: &'static str,
}

/// The finding on a feature of the kernel.
fn feature(name: &'static str, support: Support, works: &str, absence: Absence) -> Finding {
    match support {
        Support::Yes => Finding {
            name,
            state: State::Ok,
            here: works.to_owned(),
            lost: None,
            advice: None,
        },
        Support::No(reason) => Finding {
            name,
            state: State::of(support),
            here: reason.to_string(),
            lost: Some(absence.lost.to_owned()),
            advice: Some(match reason {
                Reason::Disabled => UNSET.to_owned(),
                Reason::NoUserfaultfd | Reason::UserModeOnly => {
                    "open /dev/userfaultfd or userfaultfd(2), above".to_owned()
                }
                Reason::NotOffered(_) | Reason::NoHugePages | Reason::Refused(..) => {
                    absence.advice.to_owned()
                }
            }),
        },
    }
}

fn traced(probe: &Probe) -> Finding {
    feature(
        "traced mode",
        probe.traced,
        "the fault handler resolves page faults, those of system calls too, and times each",
        Absence {
            lost: "page faults are not seen, resolved against the page tree or timed; \
                   the kernel resolves them alone, to the same bytes. \
                   Clones that are mapped more than once are copied at once, not on first touch",
            advice: "a newer kernel: Linux 5.14 has all that it takes",
        },
    )
}

fn write_tracking(probe: &Probe) -> Finding {
    feature(
        "write tracking",
        probe.write_tracking,
        "within traced mode, first writes to shared pages are seen and timed",
        Absence {
            lost: "first writes to shared pages are not seen or timed; \
                   which pages were changed is found by a scan when it matters",
            advice: "a newer kernel: on x86_64 Linux 6.4 has all that it takes; \
                     on arm64 6.12 has it, and 6.1 has not",
        },
    )
}

fn poison(probe: &Probe) -> Finding {
    feature(
        "UFFDIO_POISON",
        probe.poison,
        "in traced mode, a page that cannot be had ends in SIGBUS for the thread that touches it",
        Absence {
            lost: "a page that cannot be had (memory used up) ends the process with a reason, \
                   instead of SIGBUS for the thread that touches it",
            advice: "a newer kernel: Linux has it from 6.6 on",
        },
    )
}

/// The finding on a feature that cowspace has no use for: said, because people ask.
fn unused(name: &'static str, support: Support) -> Finding {
    let here = match support {
        Support::Yes => "there, and not used by cowspace".to_owned(),
        Support::No(reason) => format!("{reason}; cowspace does not use it"),
    };
    Finding {
        name,
        state: State::of(support),
        here,
        lost: None,
        advice: None,
    }
}

fn pagemap_scan(probe: &Probe) -> Finding {
    feature(
        "PAGEMAP_SCAN",
        probe.pagemap_scan,
        "changed pages are found by one call over a whole mapping",
        Absence {
            lost: "changed pages are found by reading eight bytes for each page of a mapping: \
                   snapshots of large mappings take longer",
            advice: "a newer kernel: Linux has it from 6.7 on",
        },
    )
}

fn huge_pages(machine: &Machine) -> Finding {
    feature(
        "huge pages",
        machine.huge_pages,
        "freezing memory makes huge pages of it (MADV_COLLAPSE): children read it for next to nothing",
        Absence {
            lost: "memory that was frozen is read by children page by page, \
                   as it is without freezing",
            advice: "Linux 6.1 or newer with CONFIG_TRANSPARENT_HUGEPAGE; \
                     memory that is free in large pieces; \
                     /sys/kernel/mm/transparent_hugepage/shmem_enabled that is not \"deny\"",
        },
    )
}

fn memfd_sealing(probe: &Probe) -> Finding {
    feature(
        "memfd sealing",
        probe.memfd_sealing,
        "what a clone shares can be made immutable",
        Absence {
            lost: "everything: memory cannot be shared with a clone unless nobody can change it",
            advice: "a kernel with CONFIG_MEMFD_CREATE, \
                     and a seccomp filter that lets memfd_create and fcntl through",
        },
    )
}

fn address_space(machine: &Machine) -> Finding {
    let name = "address space";
    match machine.reservation {
        Ok(()) => Finding {
            name,
            state: State::Ok,
            here: "128 GiB of addresses can be reserved, and memory mapped within".to_owned(),
            lost: None,
            advice: None,
        },
        Err(errno) => Finding {
            name,
            state: State::No,
            here: format!("128 GiB of addresses cannot be reserved and used: {}", errno.desc()),
            lost: Some(
                "everything: mappings lie in a reserved range of addresses, the same in every child"
                    .to_owned(),
            ),
            advice: Some("lift the limit on address space (ulimit -v unlimited)".to_owned()),
        },
    }
}

fn mappings(limit: u64) -> Finding {
    let low = limit < USUAL_MAP_COUNT;
    Finding {
        name: "vm.max_map_count",
        state: if low { State::Low } else { State::Ok },
        here: format!("a process may have {limit} mappings"),
        lost: low
            .then(|| "calls that map or clone fail (NO_RESOURCES) sooner than usual".to_owned()),
        advice: low.then(|| format!("as root: sysctl -w vm.max_map_count={USUAL_MAP_COUNT}")),
    }
}

fn open_files(limit: u64) -> Finding {
    let low = limit < USUAL_OPEN_FILES;
    let here = match limit {
        u64::MAX => "any number of files may be open; each layer of memory is one".to_owned(),
        limit => format!("{limit} files may be open at once; each layer of memory is one"),
    };
    Finding {
        name: "open files",
        state: if low { State::Low } else { State::Ok },
        here,
        lost: low
            .then(|| "long chains of clones run out of descriptors sooner than usual".to_owned()),
        advice: low.then(|| format!("as root: ulimit -Hn {USUAL_OPEN_FILES}, or more")),
    }
}

/// Whether the kernel says it is older than `version`. One that says nothing of the kind is not.
pub(super) fn is_older(probe: &Probe, version: (u32, u32)) -> bool {
    let mut numbers = probe
        .release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < version,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
