//! What `/proc` tells of processes: their descriptors, children, names, mappings and memory.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

use cowspace::Vmar;
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

/// Descriptors that this program was started with; every process forked from it has them as well.
static INHERITED: OnceLock<BTreeMap<i32, String>> = OnceLock::new();

/// Notes the descriptors that are there before the program opens any.
pub(crate) fn note_inherited() {
    INHERITED.get_or_init(|| descriptors("self"));
}

/// The open descriptors of a process (`"self"` or a number), and what each refers to.
///
/// # Panics
///
/// If there is no such process, or it is somebody else's.
pub fn descriptors(process: &str) -> BTreeMap<i32, String> {
    let folder = format!("/proc/{process}/fd");
    let entries = fs::read_dir(folder).expect("a process has a folder of descriptors");
    let links = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        // The descriptor of the folder itself, which is closed again below, does not count.
        let to = fs::read_link(entry.path())
            .ok()?
            .to_string_lossy()
            .into_owned();
        let of_folder = to.ends_with("/fd") && to.starts_with("/proc/");
        Some((entry.file_name().to_str()?.parse().ok()?, to)).filter(|_| !of_folder)
    });
    links.collect()
}

/// The descriptors of a process that this test program was not started with, standard streams apart.
///
/// # Panics
///
/// As [`descriptors`]; or if the program does not run by [`crate::runner::main`].
pub fn own_descriptors(process: &str) -> BTreeMap<i32, String> {
    let mut all = descriptors(process);
    all.retain(|fd, to| *fd > 2 && !was_inherited(*fd, to));
    all
}

/// Whether this test program was started with such a descriptor.
///
/// # Panics
///
/// If the program does not run by [`crate::runner::main`].
pub fn was_inherited(fd: i32, to: &str) -> bool {
    let inherited = INHERITED.get().expect("main has noted them");
    inherited.get(&fd).is_some_and(|of| of == to)
}

/// The children of a process, zombies included, by rising process id.
///
/// # Panics
///
/// Where `/proc` is not mounted.
pub fn children_of(parent: u32) -> Vec<u32> {
    let mut children: Vec<u32> = fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect();
    children.sort_unstable();
    children
}

/// State and parent of a process (proc_pid_stat(5)), if there is such a process.
pub fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The name of a process, as ps(1) shows it.
pub fn name_of(pid: u32) -> Option<String> {
    Some(
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim_end()
            .to_owned(),
    )
}

/// The launcher of a process, which must have one. It names itself when it first runs, so that is waited for.
///
/// # Panics
///
/// If the process has several launchers.
pub fn launcher_of(process: u32) -> u32 {
    let mut launchers = Vec::new();
    until(|| {
        launchers = children_of(process);
        launchers.retain(|pid| name_of(*pid).as_deref() == Some("zygote-launcher"));
        !launchers.is_empty()
    });
    assert_eq!(launchers.len(), 1, "one launcher");
    launchers[0]
}

/// Waits until a launcher has no child, and no descriptor but its socket. A child that it has reaped is gone for the kernel a moment before the launcher lets go of its two descriptors, so who
/// compares a launcher's descriptors waits for this first.
///
/// # Panics
///
/// As [`own_descriptors`].
pub fn until_idle(launcher: u32) {
    until(|| children_of(launcher).is_empty());
    until(|| own_descriptors(&launcher.to_string()).len() == 1);
}

/// Waits until something holds that another process brings about; that has no event to wait for.
pub fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// While it lives, processes whose parents end become this one's children. Dropping it waits for their ends, and so leaves none behind.
#[derive(Debug)]
pub struct Orphans {
    launcher: u32,
}

impl Orphans {
    /// Makes this process, which has a launcher, a subreaper (prctl(2)).
    ///
    /// # Panics
    ///
    /// If the kernel does not.
    pub fn adopt() -> Self {
        set_child_subreaper(Some(getpid())).expect("any process may become a subreaper");
        Self {
            launcher: launcher_of(std::process::id()),
        }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        loop {
            let mut children = children_of(std::process::id());
            children.retain(|child| *child != self.launcher);
            if children.is_empty() {
                break;
            }
            for child in children {
                let child = i32::try_from(child).ok().and_then(Pid::from_raw);
                // An error means that it is not there any more.
                let _ = waitpid(child, WaitOptions::empty());
            }
        }
        let _ = set_child_subreaper(None);
    }
}

/// What a process has of the things that could leak. Equal before and after means that nothing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Mappings: lines of `/proc/PID/maps`.
    pub mappings: usize,
    /// Threads.
    pub threads: usize,
    /// Bytes of memory files that the process has descriptors of, mapped or not.
    pub files: u64,
    /// Bytes of private memory that lie in the root VMAR.
    pub private: u64,
}

impl Holdings {
    /// What the process `pid`, with this process's address space layout, holds now.
    ///
    /// # Panics
    ///
    /// If there is no such process, or it is somebody else's.
    pub fn of(pid: u32) -> Self {
        let process = pid.to_string();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process has threads");
        Self {
            descriptors: descriptors(&process).len(),
            mappings: proc_file(pid, "maps").lines().count(),
            threads: threads.count(),
            files: memory_files(pid).values().sum(),
            private: cloned_memory(pid).private,
        }
    }
}

fn proc_file(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a process of ours can be looked at")
}

/// Memory files that a process has descriptors of: for each, by device and inode, how many bytes of memory it holds.
///
/// # Panics
///
/// If there is no such process, or it is somebody else's.
pub fn memory_files(pid: u32) -> BTreeMap<(u64, u64), u64> {
    /// What `st_blocks` counts in (stat(3type)).
    const BLOCK: u64 = 512;
    let all = descriptors(&pid.to_string());
    let files = all.iter().filter(|(_, to)| to.starts_with("/memfd:"));
    files
        .filter_map(|(fd, _)| fs::metadata(format!("/proc/{pid}/fd/{fd}")).ok())
        .map(|file| ((file.dev(), file.ino()), file.blocks() * BLOCK))
        .collect()
}

/// Memory of a process as the kernel accounts for it (proc_pid_smaps(5)), in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Each page divided by the number of mappings of it, in all processes.
    pub pss: u64,
    /// Pages that are anonymous memory: no file's.
    pub private: u64,
}

/// The memory of what is mapped in the root VMAR, and of what is mapped of memory files elsewhere (the engine's views of layers).
///
/// # Panics
///
/// If there is no such process, or it is somebody else's.
pub fn cloned_memory(pid: u32) -> Memory {
    let root = Vmar::root_self().info().expect("the root VMAR is there");
    let root = root.base..root.base + root.len;
    let mut sum = Memory::default();
    let mut counted = false;
    for line in proc_file(pid, "smaps").lines() {
        if let Some((range, path)) = mapping(line) {
            counted = root.contains(&range.start) || path.starts_with("/memfd:");
        } else if counted && let Some((field, bytes)) = amount(line) {
            match field {
                "Pss" => sum.pss += bytes,
                "Anonymous" => sum.private += bytes,
                _ => {}
            }
        }
    }
    sum
}

/// A mapping's first line: its addresses and what is mapped.
fn mapping(line: &str) -> Option<(Range<usize>, &str)> {
    let (start, rest) = line.split_once('-')?;
    let (end, rest) = rest.split_once(' ')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let path = rest.splitn(5, ' ').nth(4).unwrap_or("").trim_start();
    Some((address(start)?..address(end)?, path))
}

/// A line as "Pss:   12 kB", in bytes.
fn amount(line: &str) -> Option<(&str, u64)> {
    let (field, rest) = line.split_once(':')?;
    let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((field, kib * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_smaps_are_read() {
        let line = "7f00-7f10 rw-s 00000000 00:01 1024                       /memfd:cowspace-vmo (deleted)";
        assert_eq!(
            mapping(line),
            Some((0x7f00..0x7f10, "/memfd:cowspace-vmo (deleted)"))
        );
        assert_eq!(
            mapping("7f00-7f10 ---p 00000000 00:00 0 "),
            Some((0x7f00..0x7f10, ""))
        );
        assert_eq!(mapping("Pss:                  12 kB"), None);
        assert_eq!(
            amount("Pss:                  12 kB"),
            Some(("Pss", 12 << 10))
        );
        assert_eq!(amount("VmFlags: rd wr"), None);
    }
}
