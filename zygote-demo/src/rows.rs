//! One row of the table: generations of children, what they must see, and what they cost.

pub(crate) mod cold;
pub(crate) mod cowspace;
pub(crate) mod fork;

use std::time::Instant;

use anyhow::Result;
use host_memory::heap::Heap;
use serde::{Deserialize, Serialize};

use crate::children::{Child, Costs, Handled, Orders, Request};
use crate::index::{self, Answer};
use crate::plan::{Author, How, Plan};
use crate::progress::Progress;
use crate::smaps::{self, Memory};
use crate::state::State;

/// A process with a warmed index, which gives children a copy of it.
pub(crate) trait Zygote {
    fn heap(&mut self) -> &mut Heap;
    fn spawn(&mut self, orders: &Orders) -> Result<Child>;
}

/// What came out of a row. Times are in nanoseconds, over all children; memory and faults are sums over the first generation.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From each request for a child to its first answer.
    pub(crate) first_answer_ns: Vec<u64>,
    pub(crate) pss: u64,
    pub(crate) private: u64,
    pub(crate) faults: u64,
    /// First stores to warmed pages, as the storing threads saw them.
    pub(crate) store_ns: Vec<u64>,
    /// What each child's fault handler resolved, where there is one.
    pub(crate) handled: Vec<Handled>,
    /// Whoever saw something else than its own index, in words.
    pub(crate) violations: Vec<String>,
}

/// A child, and the index that it must see.
struct Subject {
    name: String,
    child: Child,
    expected: State,
    /// How many of the state's answers it gives at once.
    first: usize,
}

/// Runs a row with a zygote.
///
/// ```text
///  zygote:        warm ----------------- change -------------------- (change ...)
///  generation 1:   '-- answer, index own document, costs ... ---------------- state?
///  generation 2:                            '-- answer, index own document, state?
/// ```
///
/// So the first generation lives on while the zygote and the second one change theirs, and must not see it.
pub(crate) fn run(
    how: How,
    zygote: &mut impl Zygote,
    plan: &Plan,
    progress: &mut Progress,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let queries = plan.queries(how);
    let mut state = State::of(&*index::of(zygote.heap())?, &queries);
    let mut first_generation = Vec::new();
    for generation in 1..=plan.generations {
        if generation > 1 {
            let change = plan.document(how, generation, Author::Zygote);
            index::of(zygote.heap())?.add(&change.name, change.words.iter())?;
            let expected = state.with(&change, &queries);
            state = State::of(&*index::of(zygote.heap())?, &queries);
            outcome.expect("the zygote", &expected, &state);
        }
        let mut subjects = Vec::new();
        for number in 1..=plan.children {
            progress.say(|| format!("{}: generation {generation}, child {number}", how.name()));
            let own = plan.document(how, generation, Author::Child(number));
            let orders = Orders {
                first: plan.first.clone(),
                queries: queries.clone(),
                own,
            };
            let name = format!("child {number} of generation {generation}");
            subjects.push(outcome.start(name, &orders, &state, |orders| zygote.spawn(orders))?);
        }
        outcome.index_own(&mut subjects)?;
        if generation == 1 {
            outcome.measure(&mut subjects)?;
            first_generation = subjects;
        } else {
            progress.say(|| {
                format!(
                    "{}: generation {generation} reads its whole index",
                    how.name()
                )
            });
            outcome.check_and_end(subjects)?;
        }
    }
    progress.say(|| format!("{}: generation 1 reads its whole index", how.name()));
    outcome.check_and_end(first_generation)?;
    Ok(outcome)
}

impl Outcome {
    /// Has a child made, and waits for its first answers.
    fn start(
        &mut self,
        name: String,
        orders: &Orders,
        state: &State,
        spawn: impl FnOnce(&Orders) -> Result<Child>,
    ) -> Result<Subject> {
        let begin = Instant::now();
        let mut child = spawn(orders)?;
        let mut answers: Vec<Answer> = vec![child.reply()?];
        self.first_answer_ns
            .push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        for _ in 1..orders.first.len() {
            answers.push(child.reply()?);
        }
        let first = orders.first.len();
        self.expect(&name, &state.answers[..first], &answers[..]);
        Ok(Subject {
            name,
            child,
            expected: state.with(&orders.own, &orders.queries),
            first,
        })
    }

    /// Has each child index a document of its own.
    fn index_own(&mut self, subjects: &mut [Subject]) -> Result<()> {
        ask_all(subjects, Request::IndexOwn)?;
        for subject in subjects {
            let answers: Vec<Answer> = subject.child.reply()?;
            self.expect(
                &subject.name,
                &subject.expected.answers[..subject.first],
                &answers[..],
            );
        }
        Ok(())
    }

    /// Counts what the children cost, while all of them are there.
    fn measure(&mut self, subjects: &mut [Subject]) -> Result<()> {
        for subject in &mut *subjects {
            let Memory { pss, private } = smaps::of(subject.child.pid())?;
            self.pss += pss;
            self.private += private;
        }
        for subject in subjects {
            // One after the other: children that store at the same time would time each other's waiting for a processor.
            subject.child.ask(Request::Costs)?;
            let costs: Costs = subject.child.reply()?;
            self.faults += costs.faults;
            self.store_ns.extend(costs.store_ns);
            self.handled.extend(costs.handler);
        }
        Ok(())
    }

    /// Has each child read its whole index, compares, and ends the children.
    fn check_and_end(&mut self, mut subjects: Vec<Subject>) -> Result<()> {
        ask_all(&mut subjects, Request::State)?;
        for mut subject in subjects {
            let state: State = subject.child.reply()?;
            self.expect(&subject.name, &subject.expected, &state);
            subject.child.end()?;
        }
        Ok(())
    }

    fn expect<T: PartialEq + std::fmt::Debug + ?Sized>(
        &mut self,
        who: &str,
        expected: &T,
        seen: &T,
    ) {
        if seen != expected {
            self.violations
                .push(format!("{who} sees {seen:?} instead of {expected:?}"));
        }
    }
}

/// All work at the same time; the replies are read afterwards.
fn ask_all(subjects: &mut [Subject], request: Request) -> Result<()> {
    subjects
        .iter_mut()
        .try_for_each(|subject| subject.child.ask(request))
}
