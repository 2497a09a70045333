//! What `fork()` leaves its copies to fault in, done ahead.
//!
//! # Code
//!
//! `fork` copies no page tables of a file's mapping that has no private page: a copy takes a fault for every 16 pages of code that it comes to (`fault_around_bytes`), some 25 of them before
//! a fresh child of a zygote does anything of its own. With one private page in it the kernel copies the table of the whole mapping (`vma_needs_copy`), which costs a fraction of one such fault.
//! So one byte of each such mapping is written over with itself.
//!
//! What is copied is what this process has used so far. To put all of the code into the table first (`MADV_POPULATE_READ`) would save the rest of the faults, but count as memory of each copy.
//!
//! The bytes stay what they are; what changes is that this one page does not follow the file any more, should somebody write to it (a program that runs cannot be written to: `ETXTBSY`), and
//! that SELinux, if the program gives other permissions to its code later, asks for `execmod` before it makes it executable again.
//!
//! # Data
//!
//! What a process has written its copy shares until it writes there as well, one fault and one copied page at a time: some 30 before a fresh child of a zygote does anything of its own. A copy that
//! waits to be told what to do can have them behind it.

use std::ffi::c_void;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, madvise};

use crate::page::{HostRange, page_size};
use crate::pagemap::{PageFlags, Pagemap};
use crate::process::{is_single_threaded, thread_count};

/// Has `fork` copy the page tables of the program's code and constants, as far as they were not written to. For a process of one thread that forks others.
///
/// # Errors
///
/// [`io::ErrorKind::Other`] if there are other threads; those of opening `/proc/self/maps` and `/proc/self/mem`; `EIO` where the kernel is configured to refuse such writes
/// (`proc_mem.force_override`). After an error forks are slower, and nothing else.
pub fn share_code() -> io::Result<()> {
    // Nobody else may give a mapping other permissions, and write to it, between the read and the write below.
    if !is_single_threaded() && thread_count()? != 1 {
        return Err(io::Error::other("there are other threads"));
    }
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for range in constant(&maps) {
        let mut byte = [0];
        // The last byte of a page: nobody sets a breakpoint (perf's, a debugger's) there, which could come or go between the two calls.
        let at = (range.start() + page_size() - 1) as u64;
        memory.read_exact_at(&mut byte, at)?;
        memory.write_all_at(&byte, at)?;
    }
    Ok(())
}

/// A mapping that holds more is some program's data, not what every process writes.
const MOST_WRITTEN: usize = 1 << 20;

/// Gives a forked copy pages of its own where its parent had written, as its stores would: program data, allocator, stack. Mappings of which the parent had written more than 1 MiB are
/// left as they are. Changes no byte (`MADV_POPULATE_WRITE`, Linux 5.14; older kernels do nothing).
///
/// # Errors
///
/// Those of opening `/proc/self/maps` and `/proc/self/pagemap`; `ENOMEM`. After an error some pages are not copied, and nothing else.
pub fn own_written_pages() -> io::Result<()> {
    let pagemap = Pagemap::open()?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut runs = Vec::new();
    for mapping in maps.lines().filter_map(Mapping::parse) {
        if !matches!(mapping.permissions, [b'r', b'w', _, b'p']) {
            continue;
        }
        runs.clear();
        pagemap.scan(mapping.range, PageFlags::PRIVATE, |run, flags| {
            if !flags.contains(PageFlags::SWAPPED) {
                runs.push(run);
            }
        })?;
        if runs.iter().map(|run| run.len()).sum::<usize>() > MOST_WRITTEN {
            continue;
        }
        for run in &runs {
            match own(*run) {
                Ok(()) => {}
                Err(Errno::EINVAL) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn own(run: HostRange) -> Result<(), Errno> {
    let Some(start) = NonNull::new(run.start() as *mut c_void) else {
        return Ok(());
    };
    // SAFETY: MADV_POPULATE_WRITE does to the page tables what a store of what is there already would, and changes no byte; whether the range is still mapped the
    // kernel finds out.
    unsafe { madvise(start, run.len(), MmapAdvise::MADV_POPULATE_WRITE) }
}

/// What is constant of the files that code is mapped from, by the text of `/proc/self/maps`. Not of files of data: their contents may change while they are mapped.
fn constant(maps: &str) -> impl Iterator<Item = HostRange> {
    let mappings: Vec<Mapping<'_>> = maps
        .lines()
        .filter_map(Mapping::parse)
        .filter(|mapping| {
            matches!(mapping.permissions, [b'r', b'-', _, b'p']) && mapping.file.1 != "0"
        })
        .collect();
    let of_code = mappings
        .iter()
        .filter(|mapping| mapping.permissions[2] == b'x');
    let of_code: Vec<_> = of_code.map(|mapping| mapping.file).collect();
    mappings
        .into_iter()
        .filter(move |mapping| of_code.contains(&mapping.file))
        .map(|mapping| mapping.range)
}

/// A line of `/proc/self/maps` (proc_pid_maps(5)).
struct Mapping<'a> {
    range: HostRange,
    /// As `r-xp`.
    permissions: [u8; 4],
    /// Device and inode, which is 0 for memory of no file.
    file: (&'a str, &'a str),
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?.as_bytes().try_into().ok()?;
        let device = fields.nth(1)?;
        let inode = fields.next()?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        Some(Self {
            range: HostRange::new(start, end.checked_sub(start)?)?,
            permissions,
            file: (device, inode),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_constant_and_of_a_file_of_code_is_meant() {
        let page = page_size();
        let line = |number: usize, rest: &str| {
            let (start, end) = (16 * number * page, 16 * (number + 1) * page);
            format!("{start:x}-{end:x} {rest}\n")
        };
        let lines = [
            "r--p 00000000 fe:00 1234 /bin/a program",
            "r-xp 00001000 fe:00 1234 /bin/a program",
            "rw-p 00002000 fe:00 1234 /bin/a program",
            "---p 00003000 fe:00 1234 /bin/a program",
            "--xp 00003000 fe:00 1234 /bin/a program",
            "r--s 00000000 fe:00 1234 /bin/a program",
            "r--p 00000000 fe:00 1235 /usr/share/data",
            "r--p 00000000 fe:01 1234 /usr/share/other data",
            "r-xp 00000000 00:00 0 [vdso]",
        ];
        let maps: String = (1..)
            .zip(lines)
            .map(|(number, rest)| line(number, rest))
            .collect();
        let found: Vec<_> = constant(&maps)
            .map(|range| (range.start() / page, range.pages()))
            .collect();
        assert_eq!(found, [(16, 16), (32, 16)]);
        assert_eq!(constant("\nno line\n").count(), 0);
    }

    /// The test harness has threads.
    #[test]
    fn a_process_of_several_threads_is_refused() {
        assert!(share_code().is_err());
    }
}
