//! `on_rung PLACE PROGRAM [ARGUMENT...]` runs a program where less is allowed ([`cowspace_tests::rung`]). As cargo's runner it has every test run there; `scripts/test-rungs` does that.
//!
//! Ends as the program does; with 77 and a line on stderr where this machine cannot do that.

#![forbid(unsafe_code)]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

use cowspace_tests::rung::{NOT_HERE, Place};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let place = arguments.next();
    let place = place.as_ref().and_then(|name| name.to_str());
    let (Some(place), Some(program)) = (place.and_then(Place::named), arguments.next()) else {
        let names = Place::ALL.map(Place::name).join(", ");
        eprintln!("usage: on_rung PLACE PROGRAM [ARGUMENT...], where PLACE is one of {names}");
        return ExitCode::from(2);
    };
    if let Err(lack) = place.enter() {
        eprintln!("on_rung: {}: {lack}", place.name());
        return ExitCode::from(NOT_HERE);
    }
    let mut command = match place {
        Place::NoExec => {
            let mut inside = Command::new("/proc/self/exe");
            inside.arg(Place::NoExecInside.name()).arg(program);
            inside
        }
        _ => Command::new(program),
    };
    command.args(arguments);
    // The first process of a process namespace has its own rules for signals, and its end is everybody's: the program is not it.
    let error = match place {
        Place::NoExec | Place::NoExecInside => match command.status() {
            Ok(status) => {
                let code = status.code().or(status.signal().map(|signal| 128 + signal));
                let code = code.and_then(|code| u8::try_from(code).ok());
                return ExitCode::from(code.unwrap_or(1));
            }
            Err(error) => error,
        },
        _ => command.exec(),
    };
    eprintln!(
        "on_rung: {}: cannot start the program: {error}",
        place.name()
    );
    match error.kind() {
        // Where only we get.
        std::io::ErrorKind::PermissionDenied => ExitCode::from(NOT_HERE),
        _ => ExitCode::FAILURE,
    }
}
