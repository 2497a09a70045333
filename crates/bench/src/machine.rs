//! Where the figures come from.

use std::fs;

use anyhow::{Context, Result};
use host_memory::page::page_size;
use host_memory::probe::Probe;
use nix::sys::utsname::uname;
use procfs::{Current, Meminfo};
use serde::Serialize;

use crate::clock::cpus;

/// What of the machine the figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's architecture.
    pub architecture: String,
    /// The processor's model, where the kernel names it.
    pub processor: Option<String>,
    /// CPUs that the bench may use.
    pub cpus: usize,
    /// Whether a hypervisor is known to be below.
    pub virtual_machine: bool,
    /// The system's page size in bytes.
    pub page_size: usize,
    /// The machine's memory in bytes.
    pub memory: Option<u64>,
    /// The system's setting for huge pages of private memory, and of shared memory.
    pub huge_pages: [Option<String>; 2],
    /// Whether faults can be traced.
    pub userfaultfd: bool,
}

impl Machine {
    pub(crate) fn read() -> Machine {
        let system = uname();
        let text = |of: &std::ffi::OsStr| of.to_string_lossy().into_owned();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Machine {
            kernel: system
                .as_ref()
                .map_or_else(|_| "?".to_owned(), |system| text(system.release())),
            architecture: std::env::consts::ARCH.to_owned(),
            processor: field("model name"),
            cpus: cpus().len(),
            virtual_machine: field("flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            page_size: page_size(),
            memory: Meminfo::current().ok().map(|info| info.mem_total),
            huge_pages: ["enabled", "shmem_enabled"].map(huge_pages),
            userfaultfd: Probe::get().traced.is_yes(),
        }
    }
}

/// The setting in force: the kernel marks it as `always [madvise] never`.
fn huge_pages(file: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{file}")).ok()?;
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// How many bytes of memory can be had without swapping.
pub(crate) fn available_memory() -> Result<usize> {
    let available = Meminfo::current()
        .context("cannot read /proc/meminfo")?
        .mem_available;
    Ok(available.context("/proc/meminfo does not say how much memory is available")? as usize)
}
