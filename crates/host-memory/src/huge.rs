//! Huge pages made of a layer's bytes: [`Layer::collapse`].
//!
//! The kernel serves a memory file page by page, unless it is asked to put a huge page's worth of them into one (`MADV_COLLAPSE`, Linux 6.1): then one entry of a page
//! table maps them all, in each process that maps the file at an address congruent to the offset. It is asked through a mapping of the file, and works on a sealed
//! one whatever the system's setting for huge pages in shared memory is (but for `deny`).
//!
//! No byte changes, at no instant. But the pages move: page tables lose the entries for them, in every process, and fault again.

use std::fs;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::access::Volatile;
use crate::memfd::{Layer, MemFd};
use crate::page::{Prot, page_size};
use crate::probe::{Probe, Reason, Support};
use crate::reserve::{Reservation, Source};

/// So many huge pages are asked for at once: each call waits for every CPU first, and a busy one keeps it waiting for long.
const AT_ONCE: usize = 32;
/// How often the kernel is asked for a single one that was not had.
const ATTEMPTS: u32 = 8;
/// Who has a page of it for a moment may want the CPU to let go of it.
const MOMENT: Duration = Duration::from_millis(1);

/// Bytes of a huge page, as the kernel says: a power of two, more than a page. `None` where the kernel has none.
#[must_use]
pub fn huge_page_size() -> Option<usize> {
    static SIZE: OnceLock<Option<usize>> = OnceLock::new();
    *SIZE.get_or_init(|| {
        let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").ok()?;
        let size: usize = text.trim().parse().ok()?;
        (size.is_power_of_two() && size > page_size()).then_some(size)
    })
}

/// As [`huge_page_size`]; `None` also where huge pages cannot be made of layers.
#[must_use]
pub fn collapsible_size() -> Option<usize> {
    huge_page_size().filter(|_| Probe::get().collapse.is_yes())
}

impl Layer {
    /// Makes huge pages of the whole huge pages' worth of bytes in `range`, as far as the layer has every page of them: a hole would become memory. Calls `f` with
    /// each run of bytes that lies in huge pages now, in ascending order.
    ///
    /// A favour: where a huge page cannot be had (no memory in one piece, a page in use by a device) the pages stay as they are. Takes about 1 ms for each MiB,
    /// 0.3 ms at best; on memory that is huge already next to nothing. Allocates.
    pub fn collapse(&self, range: Range<u64>, mut f: impl FnMut(Range<u64>)) -> io::Result<()> {
        let Some(huge) = collapsible_size() else {
            return Ok(());
        };
        let mut parts = Vec::new();
        self.data(range.clone(), |data| {
            // The answer is in whole pages.
            let data = data.start.max(range.start)..data.end.min(range.end);
            let start = data.start.next_multiple_of(huge as u64);
            let end = data.end / huge as u64 * huge as u64;
            if start < end {
                parts.push(start..end);
            }
        })?;
        for part in parts {
            for done in collapse_part(self, part, huge)? {
                f(done);
            }
        }
        Ok(())
    }
}

/// Makes huge pages of a range that consists of them; says of which parts that worked.
fn collapse_part(layer: &Layer, part: Range<u64>, huge: usize) -> io::Result<Vec<Range<u64>>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let len = usize::try_from(part.end - part.start).map_err(|_| invalid())?;
    // A mapping of our own, made for this: the kernel wants it where a huge page fits. It is read-only and private, which no seal forbids.
    let aside = Reservation::new(len.checked_add(huge).ok_or_else(invalid)?)?;
    let start = aside.range().start();
    let skip = start.next_multiple_of(huge) - start;
    let at = aside.range().sub(skip, len).ok_or_else(invalid)?;
    aside.map(at, Source::Private(layer, part.start), Prot::READ)?;
    let memory = |offset, len| Volatile::new(at.start() + offset, len).ok_or_else(invalid);
    let mut done: Vec<Range<u64>> = Vec::new();
    let mut add = |offset: usize, len: usize| {
        let bytes = part.start + offset as u64..part.start + (offset + len) as u64;
        match done.last_mut() {
            Some(last) if last.end == bytes.start => last.end = bytes.end,
            _ => done.push(bytes),
        }
    };
    for offset in (0..len).step_by(AT_ONCE * huge) {
        let several = (AT_ONCE * huge).min(len - offset);
        if memory(offset, several)?.collapse().is_ok() {
            add(offset, several);
            continue;
        }
        // Once more one by one, for the kernel does not say which of them it has made.
        for offset in (offset..offset + several).step_by(huge) {
            let begin = part.start + offset as u64;
            // Linux 6.1 makes one huge page of a mapping and refuses the others: there each gets a mapping of its own.
            if collapse_one(&memory(offset, huge)?)
                || (len > huge
                    && !collapse_part(layer, begin..begin + huge as u64, huge)?.is_empty())
            {
                add(offset, huge);
            }
        }
    }
    Ok(done)
}

/// Says whether it worked. Pages that another thread is just about to map or to read are in its way for a moment only (`EAGAIN`).
fn collapse_one(memory: &Volatile) -> bool {
    for attempt in 0..ATTEMPTS {
        if attempt > 1 {
            thread::sleep(MOMENT);
        }
        match memory.collapse() {
            Ok(()) => return true,
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Tries to make one huge page of a layer of its own, which [`Probe`] does not do: it takes that much memory, and the answer may be another one later.
#[must_use]
pub fn try_collapse() -> Support {
    let refused = |step| {
        move |error: io::Error| {
            let errno = error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw);
            Support::No(Reason::Refused(step, errno))
        }
    };
    let Some(huge) = huge_page_size() else {
        return Support::No(Reason::NoHugePages);
    };
    if let no @ Support::No(_) = Probe::get().collapse {
        return no;
    }
    let attempt = || -> Result<bool, Support> {
        let file = MemFd::create("cowspace-probe", huge as u64).map_err(refused("memfd_create"))?;
        file.allocate(0..huge as u64)
            .map_err(refused("fallocate"))?;
        let layer = file
            .seal()
            .map_err(|_| Support::No(Reason::Refused("F_ADD_SEALS", Errno::EBUSY)))?;
        let mut made = false;
        layer
            .collapse(0..huge as u64, |_| made = true)
            .map_err(refused("mmap"))?;
        Ok(made)
    };
    match attempt() {
        Ok(true) => Support::Yes,
        Ok(false) => Support::No(Reason::Refused("MADV_COLLAPSE", Errno::ENOMEM)),
        Err(no) => no,
    }
}
