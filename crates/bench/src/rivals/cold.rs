//! `posix_spawn`: no warmed process at all. Each child is a new program that makes its memory for itself.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::area::Area;
use crate::children::{Child, Parent, Work, live};
use crate::clock::now_ns;
use crate::wire::send;
use crate::worker::Role;

/// What a cold child is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ColdStart {
    lengths: Vec<usize>,
    work: Work,
}

impl ColdStart {
    /// The life of such a child, which has just been told.
    pub(crate) fn live(self) -> Result<()> {
        let areas = self.lengths.iter().map(|len| Area::anonymous(*len));
        let areas = areas.collect::<Result<Vec<Area>>>()?;
        let memory: Vec<_> = areas.iter().map(|area| area.memory.clone()).collect();
        // Before this it did not have what the others' children have from their first instruction on.
        let first_ns = now_ns();
        live(
            first_ns,
            &memory,
            self.work,
            &mut io::stdin(),
            &mut io::stdout(),
        )
    }
}

/// Who starts cold children.
pub(crate) struct ColdStarter {
    lengths: Vec<usize>,
}

impl ColdStarter {
    pub(crate) fn new(lengths: &[usize]) -> ColdStarter {
        ColdStarter {
            lengths: lengths.to_vec(),
        }
    }
}

impl Parent for ColdStarter {
    /// It has no memory itself.
    fn read_all(&self) {}

    fn spawn(&mut self, work: Work) -> Result<Child> {
        let asked_ns = now_ns();
        // The standard library calls posix_spawn(3) for a command like this.
        let mut process = Command::new("/proc/self/exe")
            .args(std::env::args_os().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a program")?;
        let mut requests = process.stdin.take().context("no pipe to the child")?;
        let start = ColdStart {
            lengths: self.lengths.clone(),
            work,
        };
        send(&mut requests, &Role::Cold(start))?;
        Ok(Child {
            pid: i32::try_from(process.id())?,
            asked_ns,
            requests: Box::new(requests),
            replies: Box::new(process.stdout.take().context("no pipe from the child")?),
            wait: Box::new(move || {
                let status = process.wait()?;
                ensure!(status.success(), "a cold child failed: {status}");
                Ok(())
            }),
        })
    }
}
