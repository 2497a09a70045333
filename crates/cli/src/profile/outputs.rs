//! Where a profile goes: the summary, and files of other forms.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use cowspace_profile::{
    Faults, Profile, write_csv, write_hdr, write_html, write_json, write_text, write_trace,
};
use fault_recording::Recording;

pub(crate) const HEADING: &str = "Outputs";

/// Forms of a profile beside the summary.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct Outputs {
    /// Write a page with charts, for a browser: one file that needs no network (here and below, `-` is standard output, in place of the summary)
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write a trace, for ui.perfetto.dev and chrome://tracing
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Write an HdrHistogram log
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,

    /// Write a table with a row for each fault
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Write one JSON document: what the summary says and more
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Where the summary goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Summary {
    Stdout,
    /// Standard output is another program's.
    Stderr,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Html,
    Trace,
    Hdr,
    Csv,
    Json,
}

/// Files that have been found to be writable, before the work is done.
pub(crate) struct OutputFiles {
    files: Vec<(Form, Output)>,
}

/// A file, or standard output.
enum Output {
    Stdout,
    File(Reserved),
}

/// A file that is open for writing and has been left as it is. If it was not there before, and nobody writes to it after all, it is removed again.
pub(crate) struct Reserved {
    path: PathBuf,
    file: File,
    /// It was made for this.
    fresh: bool,
}

impl Outputs {
    fn all(&self) -> impl Iterator<Item = (Form, &Path)> {
        let forms = [
            (Form::Html, &self.html),
            (Form::Trace, &self.trace),
            (Form::Hdr, &self.hdr),
            (Form::Csv, &self.csv),
            (Form::Json, &self.json),
        ];
        forms
            .into_iter()
            .filter_map(|(form, path)| Some((form, path.as_deref()?)))
    }

    /// What contradicts itself, in one line. `record` is where the recording goes.
    pub(crate) fn check(&self, record: Option<&Path>) -> Result<(), String> {
        let mut paths: Vec<&Path> = self.all().map(|(_, path)| path).chain(record).collect();
        paths.sort_unstable();
        match paths.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => Err(format!("{} cannot take two outputs", two[0].display())),
            None => Ok(()),
        }
    }

    /// Opens all of them. None may be the file of the recording, under whatever name.
    pub(crate) fn open(&self, recording: Option<&Path>) -> Result<OutputFiles> {
        let files = self.all().map(|(form, path)| {
            let output = match path.to_str() {
                Some("-") => Output::Stdout,
                _ => Output::File(Reserved::new(path)?),
            };
            Ok((form, output))
        });
        let files = OutputFiles {
            files: files.collect::<Result<_>>()?,
        };
        files.check(recording)?;
        Ok(files)
    }
}

impl OutputFiles {
    /// Two names may stand for one file: what is written to it last would be all that is left.
    fn check(&self, recording: Option<&Path>) -> Result<()> {
        let identity = |file: Metadata| file.is_file().then(|| (file.dev(), file.ino()));
        let recording = recording
            .and_then(|path| fs::metadata(path).ok())
            .and_then(identity);
        let mut seen: HashMap<(u64, u64), &Path> = HashMap::new();
        for (_, output) in &self.files {
            let Output::File(Reserved { path, file, .. }) = output else {
                continue;
            };
            let Some(this) = file.metadata().ok().and_then(identity) else {
                continue;
            };
            if recording == Some(this) {
                bail!("cannot write {}: it is the recording", path.display());
            }
            if let Some(other) = seen.insert(this, path) {
                bail!(
                    "{} and {} are one file, which cannot take two outputs",
                    other.display(),
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// Prints the summary, unless one of them takes its place, and writes all of them. `more` goes below the summary.
    pub(crate) fn write(
        self,
        recording: &Recording,
        summary: Summary,
        more: &[String],
    ) -> Result<()> {
        let faults = Faults::new(recording);
        let profile = Profile::of(&faults);
        let is_stdout = |(_, output): &(Form, Output)| matches!(output, Output::Stdout);
        if !self.files.iter().any(is_stdout) {
            let write = |out: &mut dyn Write| {
                write_text(&profile, &mut *out)?;
                more.iter().try_for_each(|line| writeln!(out, "{line}"))
            };
            match summary {
                Summary::Stdout => piped(io::stdout(), write),
                Summary::Stderr => piped(io::stderr(), write),
            }
            .context("cannot print the summary")?;
        }
        for (form, output) in self.files {
            match output {
                Output::Stdout => piped(io::stdout(), |out| form.write(&faults, &profile, out))
                    .context("cannot write to standard output")?,
                Output::File(file) => {
                    let path = file.path.clone();
                    file.write(|out| form.write(&faults, &profile, out))
                        .with_context(|| format!("cannot write {}", path.display()))?;
                    crate::tell(format_args!("written: {}", path.display()));
                }
            }
        }
        Ok(())
    }
}

impl Form {
    fn write(self, faults: &Faults<'_>, profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Form::Html => write_html(profile, out),
            Form::Trace => write_trace(faults, profile, out),
            Form::Hdr => write_hdr(faults, profile, out),
            Form::Csv => write_csv(faults, profile, out),
            Form::Json => write_json(profile, out),
        }
    }
}

/// Writes to a stream. Whoever closed the pipe early (`| head`) has read what it wanted.
pub(crate) fn piped(
    stream: impl Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut pipe = Pipe {
        stream,
        closed: false,
    };
    let mut out = BufWriter::new(&mut pipe);
    let written = write(&mut out).and_then(|()| out.flush());
    // What is left in it was for the same pipe.
    drop(out.into_parts());
    if pipe.closed { Ok(()) } else { written }
}

/// Knows whether its reader has gone: a writer of a format may make another error of that.
struct Pipe<W> {
    stream: W,
    closed: bool,
}

impl<W: Write> Pipe<W> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        self.closed |= result.as_ref().is_err_and(gone);
        result
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.stream.flush();
        self.note(flushed)
    }
}

impl Reserved {
    /// Opens a file for writing, and makes it if it is not there.
    pub(crate) fn new(path: &Path) -> Result<Reserved> {
        let open = || -> io::Result<_> {
            let mut options = OpenOptions::new();
            options.write(true);
            match options.clone().create_new(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Ok((options.open(path)?, false))
                }
                opened => Ok((opened?, true)),
            }
        };
        let (file, fresh) = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Reserved {
            path: path.to_owned(),
            file,
            fresh,
        })
    }

    /// Whether it is no terminal, pipe or the like.
    pub(crate) fn is_plain(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.is_file())
    }

    /// Empties it and writes to it.
    fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        self.empty()?;
        let mut out = BufWriter::new(&self.file);
        write(&mut out)?;
        out.flush()
    }

    /// Empties it, and leaves it to others to write to it.
    pub(crate) fn empty(&self) -> io::Result<()> {
        // The others have nothing to empty.
        if self.is_plain() {
            self.file.set_len(0)?;
        }
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let is_empty = || self.file.metadata().is_ok_and(|file| file.len() == 0);
        if self.fresh && is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
