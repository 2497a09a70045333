//! Running another program, with its faults recorded.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::{Context, Result};
use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Where the library appends to a recording.
pub(crate) const VARIABLE: &str = "COWSPACE_RECORD";

/// How it ended.
pub(crate) enum Ended {
    /// It ran.
    Ran(ExitStatus),
    /// It could not be started.
    NotStarted(io::Error),
}

/// Runs it to its end. What the terminal's keys send (SIGINT, SIGQUIT) it gets from the terminal, and this process waits for what it does about that. SIGTERM and SIGHUP are passed on.
pub(crate) fn run(program: &[OsString], record: &Path) -> Result<Ended> {
    let [name, arguments @ ..] = program else {
        return Ok(Ended::NotStarted(io::ErrorKind::NotFound.into()));
    };
    // Not ignored but answered by nothing: who is executed gets the default again.
    for signal in heeded(&[SIGINT, SIGQUIT]) {
        flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let mut passed_on = Signals::new(heeded(&[SIGTERM, SIGHUP]))?;
    let mut command = Command::new(name);
    command.args(arguments).env(VARIABLE, record);
    let mut process = match command.spawn() {
        Ok(process) => process,
        Err(error) => return Ok(Ended::NotStarted(error)),
    };
    let handle = passed_on.handle();
    // By its descriptor: its number may be another's when it has been waited for.
    let descriptor = Pid::from_raw(process.id().cast_signed())
        .context("a process without a number")
        .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
    let passing = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in passed_on.forever() {
                let signal = if signal == SIGHUP {
                    Signal::HUP
                } else {
                    Signal::TERM
                };
                if let Ok(descriptor) = &descriptor {
                    let _ = pidfd_send_signal(descriptor, signal);
                }
            }
        });
    let status = process.wait();
    handle.close();
    if let Ok(thread) = passing {
        let _ = thread.join();
    }
    Ok(Ended::Ran(status.context("cannot wait for the program")?))
}

/// Those of the signals that this process does not ignore: who started it in the background, or by nohup(1), has them ignored for good.
pub(crate) fn heeded(signals: &[i32]) -> Vec<i32> {
    let status = Process::myself().and_then(|process| process.status());
    let ignored = status.map_or(0, |status| status.sigign);
    let heeded = signals
        .iter()
        .filter(|&&signal| ignored & 1 << (signal - 1) == 0);
    heeded.copied().collect()
}

/// The exit status that passes a program's on, as a shell does.
pub(crate) fn passed_on(status: ExitStatus) -> u8 {
    let status = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    status
        .and_then(|status| status.try_into().ok())
        .unwrap_or(1)
}

/// The exit status for a program that could not be started, as a shell gives it.
pub(crate) fn not_started(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    }
}
