//! A process that gives its memory to children, whoever makes these, and what a child does.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use host_memory::access::Volatile;
use host_memory::page::page_size;
use procfs::process::Process;
use serde::{Deserialize, Serialize};

use crate::area::{pages, random_pages, read_all, value};
use crate::clock::now_ns;
use crate::wire::{receive, send};

/// What a child does with the memory it was given.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Loads from one page and stores to it.
    Touch,
    /// Loads from every page once.
    ReadAll,
    /// The same, and then stores to one page in so many, at random.
    ReadAllWrite(usize),
}

/// What a child has to tell.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Life {
    /// When its first instruction ran, by CLOCK_MONOTONIC.
    pub(crate) first_ns: u64,
    /// When its work was done.
    pub(crate) done_ns: u64,
    /// What it read, added up.
    read: u64,
}

/// A process with warmed memory.
pub(crate) trait Parent {
    /// Waits until it is ready for the next child. Not measured.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Loads from every page of its memory.
    fn read_all(&self);

    /// Makes a child that has the memory and does this work.
    fn spawn(&mut self, work: Work) -> Result<Child>;
}

/// A child that has been made.
pub(crate) struct Child {
    pub(crate) pid: i32,
    /// When it was asked for, by CLOCK_MONOTONIC.
    pub(crate) asked_ns: u64,
    pub(crate) requests: Box<dyn Write>,
    pub(crate) replies: Box<dyn Read>,
    /// Waits for its end.
    pub(crate) wait: Box<dyn FnOnce() -> Result<()>>,
}

impl Child {
    /// Waits until its work is done. `lengths` are those of the memory that it should have had.
    pub(crate) fn life(&mut self, work: Work, lengths: &[usize]) -> Result<Life> {
        let life: Option<Life> = receive(&mut self.replies)?;
        let life = life.with_context(|| format!("child {} has ended early", self.pid))?;
        ensure!(
            life.read == expected(work, lengths),
            "child {} has other memory than its parent",
            self.pid
        );
        Ok(life)
    }

    /// Its share of memory: each page divided by the number of mappings of it (PSS), in bytes.
    pub(crate) fn pss(&self) -> Result<f64> {
        let rollup = Process::new(self.pid)
            .and_then(|process| process.smaps_rollup())
            .with_context(|| format!("cannot read how much memory child {} has", self.pid))?;
        let maps = rollup.memory_map_rollup.iter();
        Ok(maps
            .filter_map(|map| map.extension.map.get("Pss").copied())
            .sum::<u64>() as f64)
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Result<()> {
        // It may have ended by itself, and then how is said by waiting.
        let _ = send(&mut self.requests, &());
        (self.wait)()
    }
}

/// A child's life, from its first instruction.
pub(crate) fn live(
    first_ns: u64,
    memory: &[Volatile],
    work: Work,
    requests: &mut impl Read,
    replies: &mut impl Write,
) -> Result<()> {
    let mut read: u64 = 0;
    for memory in memory {
        match work {
            Work::Touch => {
                read = read.wrapping_add(memory.load_u64(0));
                memory.store_u64(8, 1);
            }
            Work::ReadAll => read = read.wrapping_add(read_all(memory)),
            Work::ReadAllWrite(one_in) => {
                read = read.wrapping_add(read_all(memory));
                let count = pages(memory) / one_in;
                let seed = u64::from(std::process::id());
                for page in random_pages(0..pages(memory), count, seed) {
                    memory.store_u64(page * page_size() + 8, 1);
                }
            }
        }
    }
    let life = Life {
        first_ns,
        done_ns: now_ns(),
        read,
    };
    send(replies, &life)?;
    // Until it is told to end, or its parent is gone.
    receive::<()>(requests)?;
    Ok(())
}

/// What a child reads if all is well.
fn expected(work: Work, lengths: &[usize]) -> u64 {
    let of_one = |len: &usize| match work {
        Work::Touch => value(0),
        Work::ReadAll | Work::ReadAllWrite(_) => {
            (0..len / page_size()).fold(0, |sum: u64, page| sum.wrapping_add(value(page)))
        }
    };
    lengths.iter().map(of_one).fold(0, u64::wrapping_add)
}
