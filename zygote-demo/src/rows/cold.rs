//! The `cold` row: no zygote. Each child is the program executed again, which reads the text and indexes it for itself.
//!
//! Children run one after the other, as their memory is shared with nobody and many at once may not fit; what they cost is added up all the same.

use std::io;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use host_memory::heap::Heap;
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::Role;
use crate::children::{Child, Orders, receive, send, serve};
use crate::plan::{Author, How, Plan};
use crate::progress::Progress;
use crate::state::State;
use crate::warm::Source;

/// What a cold child is given on its standard input, before any request.
#[derive(Serialize, Deserialize)]
struct Start {
    source: Source,
    orders: Orders,
}

/// Runs the row. `state` is what an index of this source must be, with the row's queries answered.
pub(crate) fn run(
    source: &Source,
    plan: &Plan,
    state: &State,
    progress: &mut Progress,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for number in 1..=plan.children {
        progress.say(|| format!("cold: child {number} of {}", plan.children));
        let own = plan.document(How::Cold, 1, Author::Child(number));
        let orders = Orders {
            first: plan.first.clone(),
            queries: plan.queries(How::Cold),
            own,
        };
        let subject = outcome.start(format!("cold child {number}"), &orders, state, |orders| {
            spawn(source, orders)
        })?;
        let mut subjects = vec![subject];
        outcome.index_own(&mut subjects)?;
        outcome.measure(&mut subjects)?;
        outcome.check_and_end(subjects)?;
    }
    Ok(outcome)
}

fn spawn(source: &Source, orders: &Orders) -> Result<Child> {
    let mut process = Role::Cold
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = i32::try_from(process.id())?;
    let mut requests = process.stdin.take().context("no pipe to the child")?;
    let replies = process.stdout.take().context("no pipe from the child")?;
    send(
        &mut requests,
        &Start {
            source: source.clone(),
            orders: orders.clone(),
        },
    )?;
    Ok(Child::new(pid, requests, replies, move || {
        let status = process.wait()?;
        ensure!(status.success(), "child {pid} failed: {status}");
        Ok(())
    }))
}

/// A cold child.
pub(crate) fn process() -> Result<()> {
    let mut requests = io::stdin().lock();
    let mut start: Start = receive(&mut requests)?
        .context("no orders on standard input: this role is for the program itself")?;
    let documents = start.source.read()?;
    let mut heap = Heap::create_anonymous(start.source.room(&documents))?;
    let build_ns = start
        .source
        .warm(&mut heap, &documents, &mut Progress::silent())?;
    drop(documents);
    serve(
        &mut heap,
        &start.orders,
        Some(build_ns),
        || None,
        requests,
        io::stdout().lock(),
    )
}
