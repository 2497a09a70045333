//! Limits that a test brings a process to: of mappings, of memory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cowspace::{Policy, Status, Vmar, VmarFlags, Vmo};
use nix::sys::resource::{Resource, getrlimit};

use crate::{RW, page, unmap};

/// Whether the process may have so many descriptors; says so where it may not. For tests that are about large numbers.
pub fn has_descriptors(test: &str, number: u64) -> bool {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has one");
    if most < number {
        println!("SKIP {test}: {most} descriptors, and it takes {number}");
    }
    most >= number
}

/// Mappings that the process may have at once (`vm.max_map_count`), if that many can be made.
pub fn mapping_limit() -> Option<usize> {
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    let limit: usize = limit.trim().parse().ok()?;
    (limit <= 1 << 18).then_some(limit)
}

/// A mapping with each other page read-only: each is a kernel's mapping of its own.
pub struct Comb {
    addr: usize,
    pages: usize,
    /// Pages that were made read-only so far are those at odd indices below it.
    next: usize,
}

impl Comb {
    /// One of so many pages, all of them writable.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn new(pages: usize) -> Comb {
        let vmo = Vmo::create((pages * page()) as u64).expect("a VMO costs nothing");
        let addr = Vmar::root_self()
            .map_with_policy(0, &vmo, 0, pages * page(), RW, Policy::Native)
            .expect("a mapping");
        Comb {
            addr,
            pages,
            next: 1,
        }
    }

    /// Takes all mappings that the process has left.
    ///
    /// # Panics
    ///
    /// If there are too many.
    pub fn fill(&mut self) {
        while self.next < self.pages {
            match Vmar::root_self().protect(
                self.addr + self.next * page(),
                page(),
                VmarFlags::PERM_READ,
            ) {
                Ok(()) => self.next += 2,
                Err(status) => {
                    assert_eq!(status, Status::NO_MEMORY);
                    return;
                }
            }
        }
        panic!("the limit is above {} mappings", self.pages);
    }

    /// Gives two mappings back.
    ///
    /// # Panics
    ///
    /// If none was taken.
    pub fn ease(&mut self) {
        self.next -= 2;
        Vmar::root_self()
            .protect(self.addr + self.next * page(), page(), RW)
            .expect("mappings can be merged");
    }
}

impl Drop for Comb {
    fn drop(&mut self) {
        unmap(self.addr, self.pages * page());
    }
}

/// A memory cgroup, removed in the end.
pub struct MemoryGroup {
    folder: PathBuf,
    /// The file with the limit.
    limit: &'static str,
}

impl MemoryGroup {
    /// One for processes that have `limit` bytes together. Who wants more is killed.
    ///
    /// # Errors
    ///
    /// What is missing for it, in words.
    pub fn new(name: &str, limit: usize) -> Result<MemoryGroup, String> {
        let (root, file) = controller().ok_or("no memory controller of cgroups")?;
        let name = format!("cowspace-test-{}-{name}", std::process::id());
        let folder = Path::new(root).join(name);
        fs::create_dir(&folder).map_err(says("no cgroup can be made"))?;
        let group = MemoryGroup {
            folder,
            limit: file,
        };
        group
            .set(file, limit)
            .map_err(says("no limit can be set"))?;
        Ok(group)
    }

    /// Nobody is killed: who asks for more in a system call gets ENOMEM, who does in a page fault waits.
    ///
    /// # Errors
    ///
    /// That the kernel cannot do that (it takes cgroup v1), in words.
    pub fn without_killing(self) -> Result<MemoryGroup, String> {
        self.set("memory.oom_control", 1).map_err(says(
            "the limit would kill (no memory controller of cgroup v1)",
        ))?;
        Ok(self)
    }

    /// Where it is, for [`join_memory_group`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets its processes have all they want.
    ///
    /// # Panics
    ///
    /// If the kernel says no.
    pub fn lift(&self) {
        self.set(self.limit, usize::MAX >> 1)
            .expect("a limit can be lifted");
    }

    fn set(&self, file: &str, value: usize) -> io::Result<()> {
        fs::write(self.folder.join(file), value.to_string())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its one process was waited for. If it was not made there is nothing to remove.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The folder of the root group, and the file of a group with its limit, of cgroup v1 or v2.
fn controller() -> Option<(&'static str, &'static str)> {
    if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        return Some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes"));
    }
    let given = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").ok()?;
    let memory = given.split_whitespace().any(|name| name == "memory");
    memory.then_some(("/sys/fs/cgroup", "memory.max"))
}

fn says(what: &'static str) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Moves this process there.
///
/// # Panics
///
/// If that cannot be.
pub fn join_memory_group(folder: impl AsRef<OsStr>) {
    fs::write(Path::new(folder.as_ref()).join("cgroup.procs"), "0")
        .expect("a process can join a cgroup");
}
