//! What is loaded, and what is run.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cowspace_quickjs::{DEFAULT_STACK, Ending, Limits, Runtime, Stream};
use host_memory::heap::Heap;
use host_memory::page::page_size;
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// What a runtime is warmed with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Library {
    pub(super) preload: Vec<PathBuf>,
    /// Bytes of address space for the heap.
    pub(super) heap: u64,
}

/// What a child is to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Script {
    pub(super) source: String,
    /// Stands for it in stack traces.
    pub(super) name: String,
    pub(super) time: Option<Duration>,
    /// Bytes that it may add to what is there.
    pub(super) memory: Option<usize>,
}

pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

impl Library {
    /// How many bytes the heap has: whole pages.
    pub(super) fn heap_len(&self) -> Result<usize> {
        usize::try_from(self.heap)
            .ok()
            .and_then(|size| size.checked_next_multiple_of(page_size()))
            .context("--heap is larger than the address space")
    }

    /// Makes the runtime, and loads the scripts. What they write is given to `console`.
    pub(super) fn load(&self, heap: Heap, console: fn(Stream, &str)) -> Result<Runtime> {
        let mut runtime = Runtime::create(heap)?;
        for path in &self.preload {
            let script = Script {
                source: read(path)?,
                name: path.display().to_string(),
                time: None,
                memory: None,
            };
            script.load(&mut runtime, console)?;
        }
        runtime.settle()?;
        Ok(runtime)
    }
}

impl Script {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            time: self.time,
            memory: self.memory,
            stack: stack(),
        }
    }

    /// Evaluates it for what it leaves in the runtime. It is an error if it does not end well.
    fn load(&self, runtime: &mut Runtime, mut console: fn(Stream, &str)) -> Result<()> {
        let name = &self.name;
        match runtime.eval(&self.source, name, &self.limits(), &mut console)? {
            Ending::Value(_) => Ok(()),
            Ending::Exit(code) => bail!("{name} called exit({code}) instead of being loaded"),
            Ending::Exception(text) => bail!("cannot load {name}: {text}"),
            Ending::Timeout => bail!("cannot load {name}: it takes too long"),
            Ending::OutOfMemory => bail!("{name} does not fit into the heap: ask for more --heap"),
            other => bail!("cannot load {name}: {other:?}"),
        }
    }
}

/// How much of its stack a script may use: half, as other code is there as well.
fn stack() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_STACK).unwrap_or((DEFAULT_STACK as u64, 0));
    usize::try_from(soft / 2).map_or(4 << 20, |half| half.min(4 << 20))
}

/// A closed output is no reason to end.
pub(super) fn print(stream: Stream, text: &str) {
    let _ = match stream {
        Stream::Output => io::stdout().write_all(text.as_bytes()),
        Stream::Errors => io::stderr().write_all(text.as_bytes()),
    };
}
