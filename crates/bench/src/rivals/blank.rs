//! `bare_blank`: a child that was forked ahead and waits in a read. Told to begin it maps the memory by one call, and that is all: nothing is captured, sent or checked.
//! The floor of what spare children can reach.

use std::io::{self, PipeReader, PipeWriter};

use anyhow::{Context, Result, ensure};
use host_memory::access::Volatile;
use host_memory::memfd::Layer;
use host_memory::process::{Fork, fork};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::area::{Area, read_all};
use crate::children::{Child, Parent, Work, live};
use crate::clock::now_ns;
use crate::wire::{receive, send};

/// A process that has a blank child wait.
pub(crate) struct Waiting {
    warmed: Vec<(Area, Layer)>,
    /// Where a child maps the same.
    places: Vec<Area>,
    blank: Option<Blank>,
}

/// A child that waits.
struct Blank {
    pid: i32,
    to_child: PipeWriter,
    from_child: PipeReader,
}

impl Waiting {
    /// With memory files of these lengths.
    pub(crate) fn new(lengths: &[usize]) -> Result<Waiting> {
        let mut warmed = Vec::new();
        let mut places = Vec::new();
        for len in lengths {
            warmed.push(Area::of_file(*len)?);
            places.push(Area::reserve(*len)?);
        }
        Ok(Waiting {
            warmed,
            places,
            blank: None,
        })
    }

    fn be_child(&self, mut requests: PipeReader, mut replies: PipeWriter) -> Result<()> {
        send(&mut replies, &())?;
        let Some(work) = receive::<Work>(&mut requests)? else {
            return Ok(());
        };
        for (place, (_, layer)) in self.places.iter().zip(&self.warmed) {
            place.show(layer)?;
        }
        let first_ns = now_ns();
        let memory: Vec<Volatile> = self.places.iter().map(|area| area.memory.clone()).collect();
        live(first_ns, &memory, work, &mut requests, &mut replies)
    }
}

impl Parent for Waiting {
    fn settle(&mut self) -> Result<()> {
        if self.blank.is_some() {
            return Ok(());
        }
        let (requests, to_child) = io::pipe()?;
        let (mut from_child, replies) = io::pipe()?;
        match fork()? {
            Fork::Child => {
                drop((to_child, from_child));
                let lived = self.be_child(requests, replies);
                // Back in its parent's code it would be a second worker.
                std::process::exit(i32::from(lived.is_err()))
            }
            Fork::Parent(pid) => {
                drop((requests, replies));
                receive::<()>(&mut from_child)?.context("a blank child has ended early")?;
                self.blank = Some(Blank {
                    pid,
                    to_child,
                    from_child,
                });
                Ok(())
            }
        }
    }

    fn read_all(&self) {
        for (area, _) in &self.warmed {
            std::hint::black_box(read_all(&area.memory));
        }
    }

    fn spawn(&mut self, work: Work) -> Result<Child> {
        let mut blank = self.blank.take().context("no blank child waits")?;
        let asked_ns = now_ns();
        send(&mut blank.to_child, &work)?;
        Ok(Child {
            pid: blank.pid,
            asked_ns,
            requests: Box::new(blank.to_child),
            replies: Box::new(blank.from_child),
            wait: Box::new(move || {
                let status = waitpid(Pid::from_raw(blank.pid), None)?;
                ensure!(
                    matches!(status, WaitStatus::Exited(_, 0)),
                    "a blank child failed: {status:?}"
                );
                Ok(())
            }),
        })
    }
}
