//! `--profile`: the zygote and its children record their page faults to one file.

use std::path::{self, Path, PathBuf};

use anyhow::{Context, Result};
use cowspace::Recorder;

/// A recording of this process under way.
pub(crate) struct Profile {
    /// Absolute: children get it, too.
    pub(crate) path: PathBuf,
    recorder: Recorder,
}

impl Profile {
    /// Begins a new recording in a file.
    pub(crate) fn begin(path: &Path) -> Result<Profile> {
        let path = path::absolute(path)
            .and_then(|path| fault_recording::clear(&path).map(|()| path))
            .with_context(|| cannot_record(path))?;
        Profile::join(path)
    }

    /// Begins this process's part of a recording.
    pub(crate) fn join(path: PathBuf) -> Result<Profile> {
        let recorder = Recorder::start(&path).with_context(|| cannot_record(&path))?;
        Ok(Profile { path, recorder })
    }

    /// Ends it.
    pub(crate) fn end(self) -> Result<()> {
        let ended = self.recorder.finish();
        ended.with_context(|| cannot_record(&self.path)).map(drop)
    }
}

fn cannot_record(path: &Path) -> String {
    format!("cannot record page faults to {}", path.display())
}
