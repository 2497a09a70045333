//! What goes on, on standard error, for a person who has waited for more than a second. If that is no terminal, nothing.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

/// Shorter waits need no explanation.
const PATIENCE: Duration = Duration::from_secs(1);

/// One line that is overwritten. No thread is behind it: the processes that fork have one thread only.
pub(crate) struct Progress {
    /// When to begin to speak.
    from: Option<Instant>,
    line: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress {
            from: Some(Instant::now() + PATIENCE),
            line: None,
        }
    }

    /// For a process whose parent speaks.
    pub(crate) fn silent() -> Progress {
        Progress {
            from: None,
            line: None,
        }
    }

    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        if self.from.is_some_and(|from| Instant::now() >= from) {
            let line = self.line.get_or_insert_with(ProgressBar::new_spinner);
            line.set_message(what());
            line.tick();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}
