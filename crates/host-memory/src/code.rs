//! The program's code in the copies that `fork()` makes.
//!
//! `fork` copies no page tables of a file's mapping that has no private page: a copy takes a fault for every 16 pages of code that it comes to (`fault_around_bytes`), some 25 of them before
//! a fresh child of a zygote does anything of its own. With one private page in it the kernel copies the table of the whole mapping (`vma_needs_copy`), which costs a fraction of one such fault.
//! So one byte of each such mapping is written over with itself.
//!
//! What is copied is what this process has used so far. To put all of the code into the table first (`MADV_POPULATE_READ`) would save the rest of the faults, but count as memory of each copy.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use crate::page::HostRange;
use crate::process::is_single_threaded;

/// Has `fork` copy the page tables of the program's code and constants, as far as they were not written to. For a process of one thread that forks others.
///
/// # Errors
///
/// [`io::ErrorKind::Other`] if there may be other threads; those of opening `/proc/self/maps` and `/proc/self/mem`; `EIO` where the kernel is configured to refuse such writes
/// (`proc_mem.force_override`). After an error forks are slower, and nothing else.
pub fn share_with_copies() -> io::Result<()> {
    // Nobody else may give a mapping other permissions, and write to it, between the read and the write below.
    if !is_single_threaded() {
        return Err(io::Error::other("there may be other threads"));
    }
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for range in maps.lines().filter_map(constant_file_mapping) {
        let mut byte = [0];
        let at = range.start() as u64;
        memory.read_exact_at(&mut byte, at)?;
        memory.write_all_at(&byte, at)?;
    }
    Ok(())
}

/// The range of a line of `/proc/self/maps` if it is a private mapping of a file that can be read and not written.
fn constant_file_mapping(line: &str) -> Option<HostRange> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?.as_bytes();
    let inode = fields.nth(2)?;
    if !matches!(permissions, [b'r', b'-', _, b'p']) || inode == "0" {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    HostRange::new(start, end.checked_sub(start)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_constant_and_a_files_is_meant() {
        let meant =
            |line: &str| constant_file_mapping(line).map(|range| (range.start(), range.len()));
        let page = crate::page::page_size();
        let end = 16 * page;
        let of = |rest: &str| format!("{page:x}-{end:x} {rest}");
        let found = Some((page, 15 * page));
        assert_eq!(meant(&of("r-xp 00001000 fe:00 1234 /bin/a program")), found);
        assert_eq!(meant(&of("r--p 00000000 fe:00 1234 /bin/program")), found);
        for other in [
            "rw-p 00000000 fe:00 1234 /bin/program",
            "---p 00000000 fe:00 1234 /bin/program",
            "--xp 00000000 fe:00 1234 /bin/program",
            "r--s 00000000 fe:00 1234 /bin/program",
            "r-xp 00000000 00:00 0 [vdso]",
        ] {
            assert_eq!(meant(&of(other)), None, "{other}");
        }
        assert_eq!(meant(""), None);
    }

    /// The test harness has threads.
    #[test]
    fn a_process_of_several_threads_is_refused() {
        assert!(share_with_copies().is_err());
    }
}
