//! Children one after the other, for a person or a program to see what they tell.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::Result;
use cowspace_quickjs::Stream;

use super::answer::{Answer, End, Part};
use super::running::Running;
use super::script::{Script, print};
use super::zygote::Zygote;

/// Runs the script in so many children.
pub(super) fn run(zygote: &Zygote, script: &Script, children: u32, json: bool) -> Result<ExitCode> {
    let mut first_failure = 0;
    for _ in 0..children {
        let running = Running::start(zygote, script)?;
        let end = if json {
            as_json(running)?
        } else {
            as_text(running)?
        };
        if first_failure == 0 {
            first_failure = end.code();
        }
    }
    Ok(ExitCode::from(first_failure))
}

/// Each piece as it comes.
fn as_text(mut running: Running) -> Result<End> {
    let end = running.follow(|part, text| {
        let stream = match part {
            Part::Output | Part::Value => Stream::Output,
            Part::Errors | Part::Exception => Stream::Errors,
        };
        print(stream, &text);
        ControlFlow::Continue(())
    })?;
    match &end {
        End::Value => print(Stream::Output, "\n"),
        End::Exception => print(Stream::Errors, "\n"),
        _ => (),
    }
    if let Some(reason) = end.reason() {
        eprintln!("zygote-demo: child {}: {reason}", running.child().id());
    }
    running.end()?;
    Ok(end)
}

/// One document on one line.
fn as_json(mut running: Running) -> Result<End> {
    let mut answer = Answer::nothing();
    answer.end = running.follow(|part, text| {
        answer.add(part, &text);
        ControlFlow::Continue(())
    })?;
    running.end()?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &answer.document())?;
    writeln!(out)?;
    Ok(answer.end)
}
