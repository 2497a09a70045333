//! On which CPU a thread ran last.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;

/// Threads whose files are kept open. To open one costs more than to read it.
const THREADS: usize = 32;

/// Recently seen threads of this process, by their open `stat` files, the oldest replaced first. Allocates nothing.
pub(crate) struct Cpus {
    threads: [Option<(i32, OwnedFd)>; THREADS],
    oldest: usize,
}

impl Cpus {
    pub(crate) fn new() -> Cpus {
        Cpus {
            threads: [const { None }; THREADS],
            oldest: 0,
        }
    }

    /// On which CPU the thread ran last; of one that waits for a page: where it faulted. Whatever fails, `None`. Costs 3 µs.
    pub(crate) fn last(&mut self, tid: i32) -> Option<usize> {
        let known = self
            .threads
            .iter()
            .position(|seen| matches!(seen, Some((seen, _)) if *seen == tid));
        let slot = known.unwrap_or(self.oldest);
        if known.is_none() {
            self.oldest = (self.oldest + 1) % THREADS;
            self.threads[slot] = open_stat(tid).map(|file| (tid, file));
        }
        let mut text = [0; 1024];
        match pread(&self.threads[slot].as_ref()?.1, &mut text, 0) {
            Ok(len) => parse_cpu(&text[..len]),
            // The thread has ended; a new one with its id gets a new file.
            Err(_) => {
                self.threads[slot] = None;
                None
            }
        }
    }
}

fn open_stat(tid: i32) -> Option<OwnedFd> {
    let mut path = [0_u8; 64];
    // The last byte stays 0.
    write!(&mut path[..63], "/proc/self/task/{tid}/stat").ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

/// Field 39 of proc_pid_stat(5). Fields are counted from behind the command's name, which is the second and may contain anything.
fn parse_cpu(stat: &[u8]) -> Option<usize> {
    let behind_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = stat[behind_name..]
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    std::str::from_utf8(fields.nth(39 - 3)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use nix::sched::CpuSet;

    use super::*;

    #[test]
    fn the_cpu_is_found_behind_any_name() {
        let rest = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5 1 1 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 3 0 0";
        assert_eq!(parse_cpu(format!("7 (a) b) {rest}").as_bytes()), Some(3));
        assert_eq!(parse_cpu(b"7 (a) S 1"), None);
        assert_eq!(parse_cpu(b""), None);
    }

    #[test]
    fn a_threads_own_cpu_is_one_that_exists() {
        let mut cpus = Cpus::new();
        let tid = nix::unistd::gettid().as_raw();
        let cpu = cpus.last(tid).expect("a thread can read its own stat");
        assert!(cpu < CpuSet::count());
        // Thread ids are positive: this one can be no thread's.
        assert_eq!(cpus.last(-1), None);
        assert!(cpus.last(tid).is_some());
    }

    #[test]
    fn more_threads_than_files_are_all_found() {
        let mut cpus = Cpus::new();
        let all_here = std::sync::Barrier::new(THREADS + 2);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..=THREADS {
                let (all_here, tell) = (&all_here, tell.clone());
                scope.spawn(move || {
                    tell.send(nix::unistd::gettid().as_raw()).unwrap();
                    all_here.wait();
                });
            }
            let tids: Vec<i32> = told.iter().take(THREADS + 1).collect();
            for tid in tids.iter().chain(&tids) {
                assert!(cpus.last(*tid).is_some());
            }
            all_here.wait();
        });
    }
}
