//! What is read from the descriptor: page faults, and other events.

use serde::{Deserialize, Serialize};

use super::raw;

/// What a page fault was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultKind {
    /// Neither the page table nor the file has the page.
    Missing,
    /// The file has the page, the page table not.
    Minor,
    /// A write to a write-protected page.
    WriteProtect,
}

/// One message read from the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A thread waits for a page.
    PageFault {
        /// The faulting address (page-aligned, since EXACT_ADDRESS is not asked for).
        address: usize,
        /// What is missing.
        kind: FaultKind,
        /// Whether it was a write.
        write: bool,
        /// The thread, with [`Features::THREAD_ID`](super::Features::THREAD_ID); its id in *this* process's pid namespace.
        tid: Option<i32>,
    },
    /// Another event, REMAP for one: reading it is all that the kernel waits for.
    Other,
}

/// A preallocated buffer of messages.
#[derive(Debug)]
pub struct Events {
    pub(super) messages: Box<[raw::Message]>,
    pub(super) read: Vec<Event>,
}

impl std::fmt::Debug for raw::Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "uffd_msg({:#x})", self.event)
    }
}

impl Events {
    /// A buffer for `capacity` messages, at least one.
    pub fn with_capacity(capacity: usize) -> Events {
        let capacity = capacity.max(1);
        // Written once, so that the memory is there when there is none left.
        let mut read = vec![Event::Other; capacity];
        read.clear();
        Events {
            messages: vec![raw::Message::default(); capacity].into_boxed_slice(),
            read,
        }
    }

    /// What was read last.
    pub fn as_slice(&self) -> &[Event] {
        &self.read
    }

    /// Whether the last read filled the buffer, so that more may wait.
    pub fn is_full(&self) -> bool {
        self.read.len() == self.messages.len()
    }

    /// Forgets what was read.
    pub fn clear(&mut self) {
        self.read.clear();
    }

    /// Adds an event, as a stand-in for the kernel does. Without effect on a full buffer: it never grows.
    pub fn push(&mut self, event: Event) {
        if !self.is_full() {
            self.read.push(event);
        }
    }
}

/// The event that a message tells of.
pub(super) fn decode(message: &raw::Message, has_tid: bool) -> Event {
    if message.event != raw::EVENT_PAGEFAULT {
        return Event::Other;
    }
    let kind = if message.flags & raw::FLAG_WP != 0 {
        FaultKind::WriteProtect
    } else if message.flags & raw::FLAG_MINOR != 0 {
        FaultKind::Minor
    } else {
        FaultKind::Missing
    };
    Event::PageFault {
        address: message.address as usize,
        kind,
        write: message.flags & raw::FLAG_WRITE != 0,
        tid: has_tid.then_some(message.tid.cast_signed()),
    }
}
