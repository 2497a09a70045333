//! `fork` and `fork_file`: memory that a forked child shares.

use anyhow::Result;
use host_memory::access::Volatile;
use host_memory::memfd::Layer;
use host_memory::process::{Fork, StillCopy, timed_fork};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::area::Area;
use crate::clock::ns;
use crate::fault::Shared;

/// Private anonymous memory, and a forked child that waits.
pub(crate) struct Forked {
    area: Area,
    child: Option<StillCopy>,
}

impl Forked {
    pub(crate) fn new(bytes: usize) -> Result<Forked> {
        Ok(Forked {
            area: Area::anonymous(bytes)?,
            child: None,
        })
    }
}

impl Shared for Forked {
    fn share(&mut self) -> Result<()> {
        self.child = None;
        self.child = Some(StillCopy::make()?);
        Ok(())
    }

    fn memory(&self) -> &Volatile {
        &self.area.memory
    }
}

/// A private mapping of a memory file without private pages, and a forked child that waits. Such a mapping's page
/// table is not copied: the child fills its own from the file.
pub(crate) struct ForkedFile {
    area: Area,
    child: Option<StillCopy>,
    _layer: Layer,
}

impl ForkedFile {
    pub(crate) fn new(bytes: usize) -> Result<ForkedFile> {
        let (area, layer) = Area::of_file(bytes)?;
        Ok(ForkedFile {
            area,
            child: None,
            _layer: layer,
        })
    }
}

impl Shared for ForkedFile {
    fn share(&mut self) -> Result<()> {
        self.child = None;
        self.area.show_file()?;
        self.child = Some(StillCopy::make()?);
        Ok(())
    }

    fn memory(&self) -> &Volatile {
        &self.area.memory
    }
}

/// Forks this process, whose child ends at once. The time that the call takes in the parent, in nanoseconds.
pub(crate) fn call() -> Result<f64> {
    let forked = timed_fork()?;
    match forked.process {
        Fork::Child => std::process::exit(0),
        Fork::Parent(pid) => {
            waitpid(Pid::from_raw(pid), None)?;
            Ok(ns(forked.returned - forked.called))
        }
    }
}
