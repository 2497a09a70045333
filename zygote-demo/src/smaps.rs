//! What a process's memory is, by the kernel's own account.

use anyhow::{Context, Result};
use procfs::process::Process;

/// Sums over all mappings of a process, in bytes (proc_pid_smaps(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Proportional set size: each page divided by the number of processes that have it.
    pub(crate) pss: u64,
    /// Pages that this process alone has.
    pub(crate) private: u64,
}

/// Reads `/proc/PID/smaps_rollup`.
pub(crate) fn of(pid: i32) -> Result<Memory> {
    let rollup = Process::new(pid)
        .and_then(|process| process.smaps_rollup())
        .with_context(|| format!("cannot read how much memory process {pid} has"))?;
    let sum = |field: &str| -> u64 {
        rollup
            .memory_map_rollup
            .iter()
            .filter_map(|map| map.extension.map.get(field))
            .sum()
    };
    Ok(Memory {
        pss: sum("Pss"),
        private: sum("Private_Clean") + sum("Private_Dirty") + sum("Private_Hugetlb"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_is_counted_in_bytes() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = of(own).unwrap();
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = of(own).unwrap();
        // Other tests of this process come and go meanwhile, but none with so much.
        assert!(
            after.private > before.private + (32 << 20),
            "{before:?} {after:?}"
        );
        assert!(after.pss >= after.private);
        drop(touched);
    }
}
