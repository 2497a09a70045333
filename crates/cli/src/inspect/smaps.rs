//! What the kernel says of the process: `/proc/PID/smaps`, of the root VMAR's addresses.

use cowspace::inspect::Inspection;
use procfs::process::Process;
use serde::Serialize;

/// Memory in the page table. Of another moment than what the process tells of itself.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Smaps {
    /// Anonymous pages.
    pub(super) private_bytes: u64,
    /// All other pages.
    pub(super) shared_bytes: u64,
}

/// `None` if the process does not use cowspace yet, or smaps cannot be read.
pub(super) fn read(inspection: &Inspection) -> Option<Smaps> {
    let root = inspection.maps.first()?;
    let root = root.start..root.start + root.len;
    let process = Process::new(i32::try_from(inspection.pid).ok()?).ok()?;
    let mut sum = Smaps::default();
    for area in process.smaps().ok()? {
        if root.contains(&area.address.0) {
            let field = |name| area.extension.map.get(name).copied().unwrap_or(0);
            let anonymous = field("Anonymous");
            sum.private_bytes += anonymous;
            sum.shared_bytes += field("Rss").saturating_sub(anonymous);
        }
    }
    Some(sum)
}

/// The command line; empty if it cannot be read.
pub(super) fn command(pid: u32) -> Vec<String> {
    let process = i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok());
    process
        .and_then(|process| process.cmdline().ok())
        .unwrap_or_default()
}
