//! What things are called where people read, in the page and in the terminal.

use crate::fault::{Kind, Phase};
use crate::label;
use crate::profile::{Measure, Profile};

/// The kinds that occur.
pub(crate) fn kinds(profile: &Profile) -> impl Iterator<Item = Kind> {
    Kind::ALL
        .into_iter()
        .filter(|kind| profile.kinds[*kind as usize].faults > 0)
}

/// Its name beside others, where a phase is called kernel, too.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Kernel => "kernel's own",
        handled => handled.name(),
    }
}

/// What happens in a phase.
pub(crate) fn phase_says(phase: Phase) -> &'static str {
    match phase {
        Phase::Kernel => "from the faulting instruction until the handler has read the fault",
        Phase::Queue => "waiting in the handler behind other faults",
        Phase::Resolve => "asking the page tree what the page is",
        Phase::Install => "the system call that puts the page in place",
        Phase::Wake => "until the thread runs again",
    }
}

/// Which time is shown.
pub(crate) fn measure_says(measure: Measure) -> &'static str {
    match measure {
        Measure::Handled => "from when the handler has read the fault until the page is in place",
        Measure::Total => "from the faulting instruction until the thread runs again",
    }
}

/// "1 fault", "2 faults".
pub(crate) fn counted(count: u64, what: &str) -> String {
    let number = label::count(count);
    match count {
        1 => format!("{number} {what}"),
        _ => format!("{number} {what}s"),
    }
}
