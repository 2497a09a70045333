//! Reading: frames become a [`Recording`].
//!
//! What is no frame is passed over: a process that is killed while it writes leaves the beginning of a frame, and others go on behind it. At each place that begins like a
//! frame all of it is summed up; so a file that was made to have many such places is given up after [`MOST_DAMAGE`] of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::frame::{MAGIC, Parsed, is_other_version, parse as parse_frame};
use crate::message::Message;
use crate::recording::{Ended, ProcessRecording, Recording};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// How many places that only begin like a frame are looked at.
const MOST_DAMAGE: usize = 100;

/// Why a file is no recording. One line, without the file's name unless it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is nothing in it.
    #[error("nothing was recorded: the file is empty")]
    Empty,
    /// It is something else.
    #[error("this is no cowspace recording")]
    Foreign,
    /// It was made by a cowspace with another format.
    #[error("recorded by another version of cowspace, which must read it")]
    OtherVersion,
}

/// Reads a recording from a file, piece by piece: needs memory for what is in it, and for one frame.
///
/// # Errors
///
/// If it cannot be read, or does not begin with a frame. What is wrong behind the first frame is told in [`Recording::cut`].
pub fn read(path: &Path) -> Result<Recording, ReadError> {
    let io = |error| ReadError::Io {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(io)?;
    match collect(file) {
        Ok(recording) => recording,
        Err(error) => Err(io(error)),
    }
}

/// The same from bytes.
///
/// # Errors
///
/// As [`read`].
pub fn parse(bytes: &[u8]) -> Result<Recording, ReadError> {
    // Memory can always be read.
    collect(bytes).unwrap_or(Err(ReadError::Empty))
}

fn collect(source: impl Read) -> io::Result<Result<Recording, ReadError>> {
    let mut window = Window::new(source);
    let mut collector = Collector::default();
    let mut damage = Damage::default();
    loop {
        match parse_frame(window.bytes()) {
            Parsed::Frame { len, pid, message } => {
                collector.take(pid, message);
                window.skip(len);
                damage.ends();
                continue;
            }
            Parsed::Needs(len) if window.fill(len)? => continue,
            _ if window.at == 0 => {
                return Ok(Err(match window.bytes() {
                    [] => ReadError::Empty,
                    bytes if is_other_version(bytes) => ReadError::OtherVersion,
                    _ => ReadError::Foreign,
                }));
            }
            _ if window.bytes().is_empty() => break,
            _ => {}
        }
        damage.at(window.at);
        if damage.looked_at > MOST_DAMAGE {
            break;
        }
        window.find_next()?;
    }
    let mut recording = collector.recording;
    recording
        .processes
        .iter_mut()
        .for_each(ProcessRecording::name_mappings);
    recording.cut = damage.tell(window.at).or(recording.cut);
    Ok(Ok(recording))
}

/// What has been read of a source and is not done with.
struct Window<R> {
    source: R,
    bytes: Vec<u8>,
    /// How many of the bytes are done with.
    done: usize,
    /// Where the first of the others lies in the source.
    at: u64,
}

impl<R: Read> Window<R> {
    fn new(source: R) -> Window<R> {
        Window {
            source,
            bytes: Vec::new(),
            done: 0,
            at: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    /// Passes over bytes that are there.
    fn skip(&mut self, len: usize) {
        self.done += len;
        self.at += len as u64;
    }

    /// Reads until there are `len` bytes. `false`: there are not so many. Memory grows with what was really read.
    fn fill(&mut self, len: usize) -> io::Result<bool> {
        self.bytes.drain(..self.done);
        self.done = 0;
        while self.bytes.len() < len {
            let mut more = self.source.by_ref().take(CHUNK as u64);
            if more.read_to_end(&mut self.bytes)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Passes over at least one byte, up to the next place that begins like a frame, or the end.
    fn find_next(&mut self) -> io::Result<()> {
        self.skip(1);
        loop {
            let mut places = self.bytes().windows(MAGIC.len());
            if let Some(there) = places.position(|place| place == MAGIC) {
                self.skip(there);
                return Ok(());
            }
            // The last bytes may be the beginning of one.
            self.skip((self.bytes().len() + 1).saturating_sub(MAGIC.len()));
            if !self.fill(MAGIC.len())? {
                self.skip(self.bytes().len());
                return Ok(());
            }
        }
    }
}

/// Places of a file that are no frame.
#[derive(Default)]
struct Damage {
    /// Where the first one begins.
    first: Option<u64>,
    /// How many there are.
    places: usize,
    /// Whether we are inside of one.
    inside: bool,
    looked_at: usize,
}

impl Damage {
    fn at(&mut self, at: u64) {
        self.first.get_or_insert(at);
        self.looked_at += 1;
        self.places += usize::from(!self.inside);
        self.inside = true;
    }

    /// A frame follows.
    fn ends(&mut self) {
        self.inside = false;
    }

    fn tell(&self, end: u64) -> Option<String> {
        let first = self.first?;
        Some(match (self.places, self.inside) {
            (1, true) => {
                format!("the file is cut or damaged at byte {first}: what follows is missing")
            }
            (1, false) => format!("the file is damaged at byte {first}: a part of it is missing"),
            (places, false) => format!(
                "the file is damaged in {places} places, the first at byte {first}: parts of it are missing"
            ),
            (places, true) => format!(
                "the file is damaged in {places} places, the first at byte {first}, and what follows the last (of {end} bytes read) is missing"
            ),
        })
    }
}

/// Sorts messages by process.
#[derive(Default)]
struct Collector {
    recording: Recording,
    /// Which one of the processes a pid means now: numbers come again, and a process that calls exec(2) begins anew.
    running: HashMap<i32, usize>,
}

impl Collector {
    fn take(&mut self, pid: i32, message: Message) {
        if let Message::Start(start) = message {
            self.running.insert(pid, self.recording.processes.len());
            self.recording.processes.push(ProcessRecording::new(start));
            return;
        }
        let Some(&index) = self.running.get(&pid) else {
            self.recording.cut.get_or_insert_with(|| {
                format!("messages of process {pid} are left out: its beginning is missing")
            });
            return;
        };
        let process = &mut self.recording.processes[index];
        match message {
            Message::Start(_) => {}
            Message::Faults(faults) => process.faults.extend(faults),
            Message::Mappings(mappings) => {
                process.mappings.push((process.faults.len(), mappings));
            }
            Message::Threads(threads) => process.threads.extend(threads),
            Message::Probes(probes) => process.probes.extend(probes),
            Message::End(end) => {
                process.end = Ended::Said(end);
                self.running.remove(&pid);
            }
        }
    }
}
