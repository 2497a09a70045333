//! What a child does, the same in each row of the table, and how one talks to it.
//!
//! A child answers its queries as soon as it runs, unasked. Then it does what it is asked for, one frame a request and one frame a reply, until it is told to
//! end. It ends as well when its input does: its parent is gone.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail};
use host_memory::heap::Heap;
use nix::sys::resource::{UsageWho, getrusage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::index::{self, Answer, NewDocument};
use crate::state::{Query, State};

/// A longer frame is not one of ours.
const LONGEST_FRAME: usize = 64 << 20;

/// What a child is given when it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// To be answered at once.
    pub(crate) first: Vec<Query>,
    /// To be answered in each [`State`].
    pub(crate) queries: Vec<Query>,
    /// The document that this child alone will have.
    pub(crate) own: NewDocument,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Index the document of your own, and answer the first queries again.
    IndexOwn,
    /// What did memory cost you so far?
    Costs,
    /// Read the whole index: what do you see?
    State,
    /// End. (A forked child's input alone need not: each later child has a copy of its other end.)
    End,
}

/// What a child's memory cost in faults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Costs {
    /// Page faults since the process began, whoever resolved them (getrusage(2)).
    pub(crate) faults: u64,
    /// How long each first store to a warmed page took, as the storing thread saw it.
    pub(crate) store_ns: Vec<u64>,
    /// What the fault handler of this process resolved, if it has one.
    pub(crate) handler: Option<Handled>,
}

/// Faults as a fault handler timed them: from its waking to the page's being there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Handled {
    pub(crate) faults: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
}

/// A child's life. `build_ns` are first-store times that it has measured already, if it has made its index by itself; `handled` asks for the fault handler's count.
pub(crate) fn serve(
    heap: &mut Heap,
    orders: &Orders,
    build_ns: Option<Vec<u64>>,
    handled: impl Fn() -> Option<Handled>,
    mut requests: impl Read,
    mut replies: impl Write,
) -> Result<()> {
    for query in &orders.first {
        send(&mut replies, &index::of(heap)?.find(query))?;
    }
    while let Some(request) = receive(&mut requests)? {
        let mut index = index::of(heap)?;
        match request {
            Request::IndexOwn => {
                index.add(&orders.own.name, orders.own.words.iter())?;
                let answers: Vec<Answer> =
                    orders.first.iter().map(|query| index.find(query)).collect();
                send(&mut replies, &answers)?;
            }
            Request::Costs => {
                let usage = getrusage(UsageWho::RUSAGE_SELF)?;
                let faults = (usage.minor_page_faults() + usage.major_page_faults()).unsigned_abs();
                let handler = handled();
                let store_ns = build_ns.clone().unwrap_or_else(|| index.touch());
                send(
                    &mut replies,
                    &Costs {
                        faults,
                        store_ns,
                        handler,
                    },
                )?;
            }
            Request::State => send(&mut replies, &State::of(&index, &orders.queries))?,
            Request::End => break,
        }
    }
    Ok(())
}

/// Writes one frame: its length as four bytes, low one first, and the message by postcard.
pub(crate) fn send(to: &mut impl Write, message: &impl Serialize) -> Result<()> {
    let mut frame = postcard::to_extend(message, vec![0; 4])?;
    let length = u32::try_from(frame.len() - 4).context("a message too long to send")?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame)?;
    to.flush()?;
    Ok(())
}

/// Reads one frame; `None` where the stream ends before it.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST_FRAME {
        bail!("a message of {length} bytes, which is not one of ours");
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(Some(postcard::from_bytes(&frame)?))
}

/// A running child as its parent sees it.
pub(crate) struct Child {
    pid: i32,
    requests: Box<dyn Write>,
    replies: Box<dyn Read>,
    wait: Box<dyn FnOnce() -> Result<()>>,
}

impl Child {
    /// `wait` waits for the child's end, and is an error unless it ended well.
    pub(crate) fn new(
        pid: i32,
        requests: impl Write + 'static,
        replies: impl Read + 'static,
        wait: impl FnOnce() -> Result<()> + 'static,
    ) -> Child {
        Child {
            pid,
            requests: Box::new(requests),
            replies: Box::new(replies),
            wait: Box::new(wait),
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a request, whose reply [`Child::reply`] waits for.
    pub(crate) fn ask(&mut self, request: Request) -> Result<()> {
        send(&mut self.requests, &request)
            .with_context(|| format!("child {} takes no request", self.pid))
    }

    pub(crate) fn reply<T: DeserializeOwned>(&mut self) -> Result<T> {
        let reply = receive(&mut self.replies)
            .with_context(|| format!("child {}'s reply cannot be read", self.pid))?;
        reply.with_context(|| format!("child {} ended without a reply", self.pid))
    }

    /// Ends the child, and waits until it has.
    pub(crate) fn end(mut self) -> Result<()> {
        self.ask(Request::End)?;
        (self.wait)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut stream = Vec::new();
        let answer = Answer {
            documents: 3,
            positions: 400,
            first: None,
        };
        send(&mut stream, &answer).unwrap();
        send(&mut stream, &vec![answer.clone()]).unwrap();
        let mut stream = &stream[..];
        assert_eq!(
            receive::<Answer>(&mut stream).unwrap().as_ref(),
            Some(&answer)
        );
        assert_eq!(
            receive::<Vec<Answer>>(&mut stream).unwrap(),
            Some(vec![answer])
        );
        assert_eq!(receive::<Answer>(&mut stream).unwrap(), None);
    }

    #[test]
    fn frames_that_are_none_are_errors() {
        assert!(
            receive::<Answer>(&mut &[255u8; 64][..]).is_err(),
            "too long"
        );
        assert!(
            receive::<Answer>(&mut &[9, 0, 0, 0, 1][..]).is_err(),
            "cut off"
        );
    }

    #[test]
    fn a_child_answers_at_once_and_then_what_it_is_asked() {
        let mut heap = Heap::create_anonymous(64 << 20).unwrap();
        index::create(&mut heap).unwrap();
        let words = |text: &str| crate::text::words(text).collect::<Vec<_>>();
        index::of(&mut heap)
            .unwrap()
            .add("text", words("a cow").iter())
            .unwrap();
        let own = NewDocument {
            name: "own".into(),
            words: words("my cow"),
        };
        let orders = Orders {
            first: vec![words("cow")],
            queries: vec![words("my cow")],
            own,
        };
        let before = State::of(&index::of(&mut heap).unwrap(), &orders.queries);
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for request in [
            Request::IndexOwn,
            Request::Costs,
            Request::State,
            Request::End,
            Request::Costs,
        ] {
            send(&mut requests, &request).unwrap();
        }
        serve(
            &mut heap,
            &orders,
            None,
            || None,
            &requests[..],
            &mut replies,
        )
        .unwrap();
        let mut replies = &replies[..];
        assert_eq!(
            receive::<Answer>(&mut replies).unwrap().unwrap().positions,
            1
        );
        assert_eq!(
            receive::<Vec<Answer>>(&mut replies).unwrap().unwrap()[0].positions,
            2
        );
        let costs = receive::<Costs>(&mut replies).unwrap().unwrap();
        assert!(costs.faults > 0 && !costs.store_ns.is_empty() && costs.handler.is_none());
        assert_eq!(
            receive::<State>(&mut replies).unwrap(),
            Some(before.with(&orders.own, &orders.queries))
        );
        assert!(replies.is_empty());
    }
}
