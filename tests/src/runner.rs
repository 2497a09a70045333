//! A test runner for programs that start a launcher.
//!
//! A launcher is forked while the program has one thread, and libtest has several before the first test: so these programs have a `main` of their own (`harness = false`),
//! and this runner. To cargo and nextest it looks like libtest: `--list`, filters, `--exact`, `--skip`, a line for each test and a summary.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use zygote::{Entry, Launcher, Zygote};

use crate::processes;

/// A test: its name and what it does with the program's zygote.
pub type Test = (&'static str, fn(&Zygote));

/// Makes a list of [`Test`](crate::runner::Test)s out of functions.
#[macro_export]
macro_rules! tests {
    ($($test:path),* $(,)?) => { &[$((stringify!($test), $test as fn(&zygote::Zygote))),*] };
}

/// Makes a list of [`zygote::Entry`]s out of functions.
#[macro_export]
macro_rules! entries {
    ($($entry:path),* $(,)?) => { &[$(zygote::Entry { name: stringify!($entry), run: $entry }),*] };
}

/// Starts the launcher, then runs the tests that the command line asks for.
pub fn main(entries: &[Entry], tests: &[Test]) -> ExitCode {
    processes::note_inherited();
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
