//! Writing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::frame::{MAGIC, frame};
use crate::message::Message;

/// Appends one process's messages to a file. Several may write to one file, in one process or in many.
#[derive(Debug)]
pub struct Writer {
    /// `None` after an error.
    file: Option<File>,
    pid: i32,
}

impl Writer {
    /// Opens a file for messages of process `pid`, or makes it, for the user alone. What it has stays.
    ///
    /// # Errors
    ///
    /// Those of opening it. `InvalidInput` if it is no plain file, or has something else than a recording.
    pub fn append(path: &Path, pid: i32) -> io::Result<Writer> {
        let file = open(path)?;
        Ok(Writer {
            file: Some(file),
            pid,
        })
    }

    /// Appends a message, by one write(2). What is long is for the caller to divide: a frame has room for 16 MiB.
    ///
    /// # Errors
    ///
    /// Those of writing; `WriteZero` if not all of it could be written. From then on every call fails: the file may end inside of a frame of ours. `InvalidInput`: the message is too long.
    pub fn write(&mut self, message: &Message) -> io::Result<()> {
        let frame = frame(self.pid, message).ok_or_else(|| invalid("the message is too long"))?;
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("writing has failed before"));
        };
        let written = loop {
            match file.write(&frame) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written,
            }
        };
        let result = match written {
            Ok(len) if len == frame.len() => Ok(()),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "there was no room for all of it",
            )),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.file = None;
        }
        result
    }
}

/// Makes an empty file for a recording, for the user alone, or empties one that has a recording.
///
/// # Errors
///
/// As [`Writer::append`].
pub fn clear(path: &Path) -> io::Result<()> {
    open(path)?.set_len(0)
}

/// Opens a file that has a recording or nothing, to append to it; makes it if it is not there.
fn open(path: &Path) -> io::Result<File> {
    // Looked at before it is opened: to open some things waits, or does something.
    if let Ok(there) = fs::metadata(path)
        && !there.is_file()
    {
        return Err(invalid("it is no plain file"));
    }
    // The standard library closes it on exec.
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let mut begins = Vec::new();
    Read::by_ref(&mut file)
        .take(MAGIC.len() as u64)
        .read_to_end(&mut begins)?;
    if !begins.is_empty() && begins != MAGIC {
        return Err(invalid("it has something else than a recording"));
    }
    Ok(file)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
