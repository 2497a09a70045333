//! What comes of a script: told by whoever runs it in frames, and put together again.

use std::io::Write;

use anyhow::{Result, bail};
use cowspace_quickjs::{Ending, Runtime, Stream};
use serde::{Deserialize, Serialize};

use super::script::Script;
use crate::children::send;

/// Text is told in pieces of so many bytes at most: no frame is too long, and whoever reads can stop.
const PIECE: usize = 1 << 20;

/// One frame. The last is an end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// By a spare child, before it has a script.
    Ready,
    Text(Part, String),
    End(End),
}

/// What a piece of text is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Part {
    Output,
    Errors,
    Value,
    Exception,
}

/// How a script has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum End {
    Value,
    /// With `undefined`.
    Nothing,
    Exit(i32),
    Exception,
    Timeout,
    OutOfMemory,
    /// Stopped by whoever waited: it was told too much.
    TooMuchOutput,
    /// The process has ended without a word: how.
    Crash(String),
}

/// All that a script has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) output: String,
    pub(super) errors: String,
    pub(super) value: String,
    pub(super) exception: String,
    pub(super) end: End,
}

/// Evaluates a script, and tells.
pub(super) fn tell(runtime: &mut Runtime, script: &Script, to: &mut impl Write) -> Result<()> {
    let mut console = |stream: Stream, text: &str| {
        let part = match stream {
            Stream::Output => Part::Output,
            Stream::Errors => Part::Errors,
        };
        // If nobody listens any more, the end of the script is not told either.
        let _ = send_text(to, part, text);
    };
    let ending = runtime.eval(&script.source, &script.name, &script.limits(), &mut console)?;
    let end = match ending {
        Ending::Value(Some(value)) => {
            send_text(to, Part::Value, &value)?;
            End::Value
        }
        Ending::Value(None) => End::Nothing,
        Ending::Exit(code) => End::Exit(code),
        Ending::Exception(text) => {
            send_text(to, Part::Exception, &text)?;
            End::Exception
        }
        Ending::Timeout => End::Timeout,
        Ending::OutOfMemory => End::OutOfMemory,
        other => bail!("the script ended in an unknown way: {other:?}"),
    };
    send(to, &Event::End(end))
}

fn send_text(to: &mut impl Write, part: Part, mut text: &str) -> Result<()> {
    while !text.is_empty() {
        let mut length = text.len().min(PIECE);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        let (piece, rest) = text.split_at(length);
        send(to, &Event::Text(part, piece.to_owned()))?;
        text = rest;
    }
    Ok(())
}

impl Answer {
    /// Of a script that has not told anything yet.
    pub(super) fn nothing() -> Answer {
        Answer {
            output: String::new(),
            errors: String::new(),
            value: String::new(),
            exception: String::new(),
            end: End::Nothing,
        }
    }

    pub(super) fn add(&mut self, part: Part, piece: &str) {
        let text = match part {
            Part::Output => &mut self.output,
            Part::Errors => &mut self.errors,
            Part::Value => &mut self.value,
            Part::Exception => &mut self.exception,
        };
        text.push_str(piece);
    }

    /// How many bytes of text there are.
    pub(super) fn len(&self) -> usize {
        self.output.len() + self.errors.len() + self.value.len() + self.exception.len()
    }

    /// Reads all frames up to the end.
    pub(super) fn read(mut next: impl FnMut() -> Result<Event>) -> Result<Answer> {
        let mut answer = Answer::nothing();
        loop {
            match next()? {
                Event::Ready => (),
                Event::Text(part, piece) => answer.add(part, &piece),
                Event::End(end) => {
                    answer.end = end;
                    return Ok(answer);
                }
            }
        }
    }

    /// For programs to read.
    pub(super) fn document(&self) -> Document<'_> {
        let reason = match &self.end {
            End::Exception => Some(self.exception.clone()),
            end => end.reason(),
        };
        Document {
            ending: self.end.name(),
            value: (self.end == End::Value).then_some(&self.value),
            exit_code: match self.end {
                End::Exit(code) => Some(code),
                _ => None,
            },
            output: &self.output,
            errors: &self.errors,
            reason,
        }
    }
}

/// An [`Answer`] as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    /// [`End::name`].
    ending: &'static str,
    value: Option<&'a String>,
    exit_code: Option<i32>,
    /// What it wrote by `console.log` and the like.
    output: &'a str,
    /// What it wrote by `console.error` and `console.warn`.
    errors: &'a str,
    /// Why there is no value: the exception with its stack, or what stopped the script.
    reason: Option<String>,
}

impl Document<'_> {
    pub(super) fn reason(&self) -> Option<String> {
        self.reason.clone()
    }
}

impl End {
    /// One word.
    pub(super) fn name(&self) -> &'static str {
        match self {
            End::Value | End::Nothing => "value",
            End::Exit(_) => "exit",
            End::Exception => "exception",
            End::Timeout => "timeout",
            End::OutOfMemory => "memory",
            End::TooMuchOutput => "output",
            End::Crash(_) => "crash",
        }
    }

    /// The exit code that goes with it.
    pub(super) fn code(&self) -> u8 {
        match self {
            End::Value | End::Nothing => 0,
            End::Exit(code) => (code & 0xff) as u8,
            _ => 1,
        }
    }

    /// Whether the script has run to its end.
    pub(super) fn is_well(&self) -> bool {
        matches!(self, End::Value | End::Nothing)
    }

    /// What stopped the script, on one line, if it was stopped.
    pub(super) fn reason(&self) -> Option<String> {
        match self {
            End::Value | End::Nothing | End::Exit(_) | End::Exception => None,
            End::Timeout => Some("the script ran longer than --timeout allows".to_owned()),
            End::OutOfMemory => Some(
                "the script wanted more memory than it may have: see --memory-limit and --heap"
                    .to_owned(),
            ),
            End::TooMuchOutput => Some("the script wrote more than it may".to_owned()),
            End::Crash(how) => Some(format!(
                "the script's process ended without a result ({how})"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::children::receive;
    use host_memory::heap::Heap;

    fn answer(source: &str) -> Answer {
        let mut runtime = Runtime::create(Heap::create_anonymous(64 << 20).unwrap()).unwrap();
        let script = Script {
            source: source.to_owned(),
            name: "test.js".to_owned(),
            time: None,
            memory: Some(32 << 20),
        };
        let mut told = Vec::new();
        tell(&mut runtime, &script, &mut told).unwrap();
        let mut told = &told[..];
        let answer = Answer::read(|| Ok(receive(&mut told)?.unwrap())).unwrap();
        assert!(told.is_empty());
        answer
    }

    #[test]
    fn what_is_told_comes_out_whole() {
        let long = answer("console.log('ä'.repeat(1e6)); console.error('bad'); 'ü'.repeat(1e6)");
        assert_eq!(long.output, "ä".repeat(1_000_000) + "\n");
        assert_eq!((long.errors.as_str(), &long.end), ("bad\n", &End::Value));
        assert_eq!(long.value, "ü".repeat(1_000_000));
        assert_eq!(answer("undefined").end, End::Nothing);
        assert_eq!(answer("''").document().value.unwrap(), "");
        assert_eq!(answer("exit(300)").end.code(), 44);
        let thrown = answer("null.x");
        assert!(thrown.document().reason().unwrap().contains("test.js:1"));
        let stopped = answer("const all = []; for (;;) all.push({})");
        assert!(
            stopped
                .document()
                .reason()
                .unwrap()
                .contains("--memory-limit")
        );
    }
}
