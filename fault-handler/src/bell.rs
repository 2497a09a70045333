//! Waking the handler, which waits in a read of the userfaultfd: by a fault of its own.
//!
//! To wait for two descriptors takes two system calls for each fault, poll and read, and that is a tenth of what a fault costs. So who asks the handler something makes it a
//! page fault:
//!
//! ```text
//!  who asks                                  the handler
//!
//!  puts the request into the channel
//!  gives the bell's page back to the kernel
//!  loads from it ─────────────────────────▶ reads a fault at the bell
//!     ┆ waits                                maps the zero page there
//!  goes on ◀────────────────────────────────    │
//!                                             obeys what is in the channel
//! ```
//!
//! **No request is overlooked.** Only who rings takes the page away, one at a time, and only the handler maps it. So when the load comes back, the handler has mapped the page
//! after it was taken away, which was after the request was put into the channel; and after mapping it the handler looks into the channel. That also holds when a signal
//! interrupts the load, and the handler comes with an answer to a fault that nobody waits for any more.
//!
//! **Nobody rings in vain.** The handler obeys what it finds in the channel, and may be told to end before who tells it has rung. So the last that it does is to give the page to the kernel, which
//! fills it by itself from then on.

use std::hint::black_box;
use std::io;
use std::sync::{Mutex, PoisonError};

use host_memory::access::Volatile;
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::reserve::{Reservation, Source};
use host_memory::uffd::{Modes, Uffd, UffdError};

use crate::fail;

/// A page of memory that holds nothing.
pub(crate) struct Bell {
    memory: Reservation,
    access: Volatile,
    /// LOCKS: who has it waits for the handler. The handler does not want it.
    turn: Mutex<()>,
}

impl Bell {
    /// A bell whose faults are read from `uffd`.
    pub(crate) fn new(uffd: &Uffd) -> io::Result<Bell> {
        let memory = Reservation::new(page_size())?;
        let page = memory.range();
        memory.map(page, Source::Anonymous, Prot::READ)?;
        uffd.register(&memory, page, Modes::MISSING)
            .map_err(io::Error::other)?;
        let access = Volatile::new(page.start(), page.len()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Bell {
            memory,
            access,
            turn: Mutex::new(()),
        })
    }

    pub(crate) fn page(&self) -> HostRange {
        self.memory.range()
    }

    /// Comes back when the handler has heard it. Not for a forked copy, where the page is not registered.
    pub(crate) fn ring(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.take_away() {
            // A page that stays would not fault, and who asks would wait for ever.
            fail::abort(format_args!("the bell cannot be rung: {error}"));
        }
        // A load of nothing to nobody must not be left out.
        black_box(self.access.load_u8(0));
    }

    /// Lets go whoever rings or will: nobody hears it any more.
    pub(crate) fn silence(&self, uffd: &Uffd) -> Result<(), UffdError> {
        uffd.unregister(self.page())
    }

    fn take_away(&self) -> io::Result<()> {
        let page = self.page();
        self.memory.discard(page).or_else(|_| {
            // The program locks its memory (mlockall).
            self.memory.unlock(page)?;
            self.memory.discard(page)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use host_memory::probe::Probe;

    use super::*;
    use crate::fault::{Fault, Outcome};
    use crate::handler::Options;
    use crate::install::Installer;
    use crate::kernel::{Kernel, Served};
    use crate::testing::Answer;
    use crate::threads::SleepingThreads;

    #[test]
    fn who_rings_when_the_handler_has_ended_comes_back() {
        let support = Probe::get().traced;
        if !support.is_yes() {
            println!("SKIP who_rings_when_the_handler_has_ended_comes_back: {support:?}");
            return;
        }
        let served = Arc::new(Served::new(Arc::new(Uffd::open().unwrap())).unwrap());
        let retry = |_: &Fault, install: Installer<'_>| -> Outcome { install.retry() };
        let threads = SleepingThreads::start().unwrap();
        let handler = threads
            .serve_on(
                served.clone(),
                Arc::new(Answer(retry)),
                Options::default(),
                None,
            )
            .unwrap();
        handler.stats();
        handler.stop();
        served.ring();
        served.ring();
    }
}
