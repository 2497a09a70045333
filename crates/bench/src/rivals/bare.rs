//! `bare_uffd`: a userfaultfd, and a thread that reads a fault and copies the page. No tree, no locks, no statistics.
//!
//! This is the floor for anything that sees every fault: one `read`, one `UFFDIO_COPY`, and waking two threads. The
//! read blocks, which is faster than `poll` and `read`. The memory is mapped and registered as cowspace's is. The page
//! is copied from a mapping of the file that shows it already, or read from the file first ([`Source`]): the
//! one is what a program has that made the file through a mapping and keeps that, the other what one has that does not.

use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use host_memory::access::Volatile;
use host_memory::memfd::Layer;
use host_memory::page::{HostRange, page_size};
use host_memory::probe::Probe;
use host_memory::uffd::{CopyFrom, Event, Events, Modes, Protect, Uffd, UffdError, Wake};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::area::{Area, pages};
use crate::clock::pin;
use crate::fault::Shared;

/// Messages read at once: more threads than ever fault at a time.
const BATCH: usize = 16;

/// Memory served by bare loops.
pub(crate) struct Bare {
    area: Area,
}

/// Where a loop has the page's bytes from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// A mapping of the file.
    Mapping,
    /// The file.
    File,
}

impl Bare {
    /// Cuts the memory into `loops` equal parts, each with a userfaultfd and a thread of its own, which runs on the
    /// CPU of the same place in `cpus`, or where the calling thread may. The threads run until the process ends.
    pub(crate) fn new(
        bytes: usize,
        loops: usize,
        cpus: Option<&[usize]>,
        source: Source,
    ) -> Result<Bare> {
        let (area, layer) = Area::of_file(bytes)?;
        let layer = Arc::new(layer);
        let range = area.range;
        let part = pages(&area.memory) / loops * page_size();
        for place in 0..loops {
            let start = place * part;
            let len = if place + 1 == loops {
                bytes - start
            } else {
                part
            };
            let uffd = Uffd::open()?;
            block(&uffd)?;
            let served = range.sub(start, len).context("a part of no whole pages")?;
            let mut modes = Modes::MISSING | Modes::MINOR;
            modes.set(Modes::WP, Probe::get().write_tracking.is_yes());
            uffd.register(&area.reservation, served, modes)?;
            // The view of the file that pages are copied from.
            let first = layer.page(0).context("the file cannot be mapped")?;
            ensure!(first.addr() != 0, "the file is mapped nowhere");
            let (layer, cpu) = (Arc::clone(&layer), cpus.map(|cpus| cpus[place]));
            thread::spawn(move || serve(&uffd, &layer, range.start(), cpu, source));
        }
        Ok(Bare { area })
    }
}

impl Shared for Bare {
    fn share(&mut self) -> Result<()> {
        self.area.discard()
    }

    fn memory(&self) -> &Volatile {
        &self.area.memory
    }
}

/// Has reads wait for a message.
fn block(uffd: &Uffd) -> Result<()> {
    use std::os::fd::AsFd;
    let flags = OFlag::from_bits_retain(fcntl(uffd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(uffd.as_fd(), FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The loop. What goes wrong ends the process: whoever waits for a page would wait for ever.
fn serve(uffd: &Uffd, layer: &Layer, start: usize, cpu: Option<usize>, source: Source) {
    if let Some(cpu) = cpu {
        pin(&[cpu]).expect("the CPU is one that this process may use");
    }
    let mut events = Events::with_capacity(BATCH);
    let mut scratch = vec![0; page_size()];
    loop {
        if let Err(error) = uffd.read_events(&mut events) {
            host_memory::process::abort(format_args!("bare_uffd: {error}"));
        }
        for event in events.as_slice() {
            if let Event::PageFault { address, .. } = event {
                copy(uffd, layer, start, *address, source, &mut scratch);
            }
        }
    }
}

fn copy(
    uffd: &Uffd,
    layer: &Layer,
    start: usize,
    address: usize,
    source: Source,
    scratch: &mut [u8],
) {
    let address = address - address % page_size();
    let offset = (address - start) as u64;
    let bytes = match source {
        Source::Mapping => layer.page(offset).map(CopyFrom::Layer),
        Source::File => {
            let read = layer.read_at(scratch, offset);
            read.is_ok().then_some(CopyFrom::Bytes(scratch))
        }
    };
    let Some(bytes) = bytes else {
        host_memory::process::abort(format_args!("bare_uffd: a fault behind the end"));
    };
    match uffd.copy(address, bytes, Protect::None, Wake::Wake) {
        Ok(()) => {}
        // Another thread's fault of the same page came first. This one tries again.
        Err(UffdError::Exists | UffdError::Again { .. }) => {
            let _ = HostRange::new(address, page_size()).map(|page| uffd.wake(page));
        }
        Err(error) => host_memory::process::abort(format_args!("bare_uffd: {error}")),
    }
}
