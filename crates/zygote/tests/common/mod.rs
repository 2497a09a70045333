//! What the test programs of this crate share.
//!
//! A launcher is forked while the program has one thread, and libtest has several before the first test: so these programs have a `main` of their own, and this
//! runner. To cargo and nextest it looks like libtest: `--list`, filters, `--exact`, `--skip`, a line for each test and a summary.

#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each test program uses a part of this")]

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::OnceLock;

use zygote::{Entry, Launcher, Zygote};

/// A test: its name and what it does with the program's zygote.
pub(crate) type Test = (&'static str, fn(&Zygote));

/// Makes a [`Test`] list out of functions.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test as fn(&zygote::Zygote))),*] };
}
pub(crate) use tests;

/// Makes a list of entries out of functions.
macro_rules! entries {
    ($($entry:ident),* $(,)?) => { &[$(zygote::Entry { name: stringify!($entry), run: $entry }),*] };
}
#[allow(unused_imports, reason = "each test program uses a part of this")]
pub(crate) use entries;

/// Descriptors that this program was started with; every process forked from it has them as well.
static INHERITED: OnceLock<BTreeMap<i32, String>> = OnceLock::new();

/// Starts the launcher, then runs the tests that the command line asks for.
pub(crate) fn main(entries: &[Entry], tests: &[Test]) -> ExitCode {
    INHERITED.get_or_init(|| descriptors("self"));
    let zygote = match Launcher::start(entries) {
        Ok(launcher) => Zygote::new(launcher),
        Err(error) => {
            eprintln!("the launcher does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let arguments = Arguments::parse(std::env::args().skip(1));
    let chosen: Vec<&Test> = tests
        .iter()
        .filter(|(name, _)| arguments.choose(name))
        .collect();
    if arguments.list {
        for (name, _) in &chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        let passed = catch_unwind(AssertUnwindSafe(|| test(&zygote))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out\n",
        if failed == 0 { "ok" } else { "FAILED" },
        chosen.len() - failed,
        tests.len() - chosen.len(),
    );
    ExitCode::from(u8::from(failed > 0))
}

#[derive(Default)]
struct Arguments {
    list: bool,
    exact: bool,
    ignored: bool,
    filters: Vec<String>,
    skip: Vec<String>,
}

impl Arguments {
    fn parse(mut from: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        while let Some(argument) = from.next() {
            match argument.as_str() {
                "--list" => arguments.list = true,
                "--exact" => arguments.exact = true,
                "--ignored" => arguments.ignored = true,
                "--skip" => arguments.skip.extend(from.next()),
                // Options of libtest with a value, which mean nothing here.
                "--format" | "--color" | "--test-threads" | "--logfile" | "-Z" => drop(from.next()),
                option if option.starts_with('-') => {}
                filter => arguments.filters.push(filter.to_owned()),
            }
        }
        arguments
    }

    fn choose(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact {
                name == pattern
            } else {
                name.contains(pattern.as_str())
            }
        };
        // No test here is marked as ignored.
        !self.ignored
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skip.iter().any(matches)
    }
}

/// The open descriptors of a process (`"self"` or a number), and what each refers to.
pub(crate) fn descriptors(process: &str) -> BTreeMap<i32, String> {
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
pub(crate) fn own_descriptors(process: &str) -> BTreeMap<i32, String> {
    let inherited = INHERITED.get().expect("main has noted them");
    let mut all = descriptors(process);
    all.retain(|fd, to| *fd > 2 && inherited.get(fd) != Some(to));
    all
}

/// The children of a process, zombies included, by rising process id.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let mut children: Vec<u32> = fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect();
    children.sort_unstable();
    children
}

/// State and parent of a process (proc_pid_stat(5)), if there is such a process.
pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The name of a process, as ps(1) shows it.
pub(crate) fn name_of(pid: u32) -> Option<String> {
    Some(
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim_end()
            .to_owned(),
    )
}

/// The launcher of a process, which must have one. It names itself when it first runs, so that is waited for.
pub(crate) fn launcher_of(process: u32) -> u32 {
    let mut launchers = Vec::new();
    until(|| {
        launchers = children_of(process);
        launchers.retain(|pid| name_of(*pid).as_deref() == Some("zygote-launcher"));
        !launchers.is_empty()
    });
    assert_eq!(launchers.len(), 1, "one launcher");
    launchers[0]
}

/// Waits until something holds that another process brings about; that has no event to wait for.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}
