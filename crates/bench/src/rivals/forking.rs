//! `fork` and `fork_file`: a warmed process that forks its children. It has one thread and nothing but that memory.

use std::io::{self, PipeReader, PipeWriter};

use anyhow::{Result, ensure};
use host_memory::access::Volatile;
use host_memory::process::{Fork, Forked, timed_fork};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::area::{Area, read_all};
use crate::children::{Child, Parent, Work, live};
use crate::clock::ns_of;

/// A process that forks.
pub(crate) struct Forking {
    areas: Vec<Area>,
}

impl Forking {
    /// With private anonymous memory.
    pub(crate) fn anonymous(lengths: &[usize]) -> Result<Forking> {
        let areas: Result<Vec<Area>> = lengths.iter().map(|len| Area::anonymous(*len)).collect();
        Ok(Forking { areas: areas? })
    }

    /// With private mappings of memory files that hold all of it.
    pub(crate) fn of_files(lengths: &[usize]) -> Result<Forking> {
        let mut areas = Vec::new();
        for len in lengths {
            // The mapping keeps the file.
            let (area, _layer) = Area::of_file(*len)?;
            area.show_file()?;
            areas.push(area);
        }
        Ok(Forking { areas })
    }

    fn be_child(
        &self,
        forked: Forked,
        work: Work,
        mut requests: PipeReader,
        mut replies: PipeWriter,
    ) -> ! {
        let first_ns = ns_of(forked.returned);
        let memory: Vec<Volatile> = self.areas.iter().map(|area| area.memory.clone()).collect();
        let lived = live(first_ns, &memory, work, &mut requests, &mut replies);
        // Back in its parent's code it would be a second worker.
        std::process::exit(i32::from(lived.is_err()))
    }
}

impl Parent for Forking {
    fn read_all(&self) {
        for area in &self.areas {
            std::hint::black_box(read_all(&area.memory));
        }
    }

    fn spawn(&mut self, work: Work) -> Result<Child> {
        let (requests, to_child) = io::pipe()?;
        let (from_child, replies) = io::pipe()?;
        let forked = timed_fork()?;
        match forked.process {
            Fork::Child => {
                drop((to_child, from_child));
                self.be_child(forked, work, requests, replies)
            }
            Fork::Parent(pid) => Ok(Child {
                pid,
                asked_ns: ns_of(forked.called),
                requests: Box::new(to_child),
                replies: Box::new(from_child),
                wait: Box::new(move || {
                    let status = waitpid(Pid::from_raw(pid), None)?;
                    ensure!(
                        matches!(status, WaitStatus::Exited(_, 0)),
                        "a forked child failed: {status:?}"
                    );
                    Ok(())
                }),
            }),
        }
    }
}
