//! `memory.children`: how much memory many children have that read everything and write a little.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, Outcome};
use crate::children::{Child, Parent, Work};
use crate::fault::teams;
use crate::job::{Contender, Task as Any};
use crate::report::{Bar, Row};
use crate::rounds::Figure;
use crate::spawn;
use crate::worker::Contest;

/// Of the pages, one in so many is written: 1 %.
const WORK: Work = Work::ReadAllWrite(100);

/// The parent reads everything as well, as one does that goes on with its work: else it might have no page mapped, as after
/// a clone, and its share of them would be added to the children's.
///
/// The figure: the sum of the children's PSS, in bytes, while all of them live.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    bytes: usize,
    children: usize,
}

struct Family {
    parent: Box<dyn Parent>,
    task: Task,
}

/// A contender at `memory.children`.
pub(crate) fn contest(contender: Contender, task: Task) -> Result<Box<dyn Contest>> {
    Ok(Box::new(Family {
        parent: spawn::parent(contender, &[task.bytes], 0, false)?,
        task,
    }))
}

impl Contest for Family {
    fn prepare(&mut self) -> Result<()> {
        self.parent.settle()
    }

    fn run(&mut self) -> Result<Vec<f64>> {
        let spawned = (0..self.task.children).map(|_| self.parent.spawn(WORK));
        let mut children = spawned.collect::<Result<Vec<Child>>>()?;
        for child in &mut children {
            child.life(WORK, &[self.task.bytes])?;
        }
        self.parent.read_all();
        let mut sum = 0.0;
        for child in &children {
            sum += child.pss()?;
        }
        for child in children {
            child.end()?;
        }
        Ok(vec![sum])
    }
}

/// `memory.children`
pub(crate) fn children(bench: &Bench) -> Outcome {
    let bytes = bench.scale.children_heap;
    let children = bench.scale.children;
    let task = Any::Memory(Task { bytes, children });
    let contenders = [bench.by_default(), Contender::Fork, Contender::ForkFile];
    let measured = bench.rounds(&teams(task, &contenders), 2)?;
    Ok(vec![
        Row::new("memory.children", "bytes", bytes)
            .variant(format!("{children} children"))
            .cowspace(Figure::at(&measured[0], 0))
            .rival("fork", Figure::at(&measured[1], 0))
            .rival("fork_file", Figure::at(&measured[2], 0))
            .bar(Bar::at_most("fork", 1.03)),
    ])
}
