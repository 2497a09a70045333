//! The answers that a resolver can give to a fault, and what the kernel's errors to each mean. The table is in `docs/faults.md`.

use std::cell::Cell;
use std::hint::black_box;

use host_memory::memfd::{Layer, MemFd};
use host_memory::page::{HostRange, page_size};
use host_memory::uffd::{CopyFrom, FaultKind, Protect, UffdError, Wake};
use nix::errno::Errno;

use crate::clock::monotonic_ns;
use crate::fail;
use crate::fault::{Answer, Next, Outcome, OutcomeKind};
use crate::kernel::Kernel;
use crate::report::{Reporter, Trouble};

/// How much is copied at once at most, if it is more than a page. (256 KiB at a time cost a sixth more, 4 MiB nothing less.)
const COPY_BYTES: usize = 2 << 20;
/// How many pages are read from a layer before they are copied in; more are copied from a mapping of it. What such a mapping does not show yet is a fault inside the copy, which costs
/// three times what reading a page does, and shows 16 pages at once.
const READ_PAGES: usize = 8;

/// The pages that one fault can be answered with by copying: see [`Installer::copy_layer`].
pub fn most_copied() -> usize {
    (COPY_BYTES / page_size()).max(1)
}

/// What installing needs besides the kernel, made once: the fault path allocates nothing.
pub(crate) struct Desk {
    /// Pages that are read from a file before they are copied in.
    scratch: Box<[u8]>,
    /// As many zeros.
    zeros: Box<[u8]>,
    /// The page whose poisoning was answered with EEXIST last.
    poison_refused: Option<usize>,
    /// When the resolver gave its last answer.
    pub(crate) resolved_ns: Cell<u64>,
    /// What it said the page is.
    pub(crate) found: Cell<Option<Answer>>,
    /// How many pages were installed, if any were.
    pub(crate) pages: Cell<usize>,
    /// Whether installing wakes who waits for the page: if not it is done afterwards, so that both can be timed.
    pub(crate) wake: Wake,
    /// When the page was installed, if it was and that did not wake.
    pub(crate) installed_ns: Cell<Option<u64>>,
    reporter: Reporter,
}

impl Desk {
    pub(crate) fn new(reporter: Reporter) -> Desk {
        let zeros = vec![0; most_copied() * page_size()].into_boxed_slice();
        // The first page for the same reason as `scratch`: to look at zeros takes a page table at least. Of the others the kernel copies what it can look at.
        black_box(zeros[0]);
        Desk {
            // Not zeros, which the allocator need not write: the page is to be there, see `empty_ring` in serve.rs.
            scratch: vec![1; READ_PAGES * page_size()].into_boxed_slice(),
            zeros,
            poison_refused: None,
            resolved_ns: Cell::new(monotonic_ns()),
            found: Cell::new(None),
            pages: Cell::new(0),
            wake: Wake::Wake,
            installed_ns: Cell::new(None),
            reporter,
        }
    }

    /// Reports that did not fit in the reporter's queue.
    pub(crate) fn reports_dropped(&self) -> u64 {
        self.reporter.dropped()
    }
}

/// The one answer to one fault. Each method consumes it.
pub struct Installer<'a> {
    kernel: &'a dyn Kernel,
    desk: &'a mut Desk,
    page: HostRange,
    kind: FaultKind,
}

impl<'a> Installer<'a> {
    pub(crate) fn new(
        kernel: &'a dyn Kernel,
        desk: &'a mut Desk,
        page: HostRange,
        kind: FaultKind,
    ) -> Installer<'a> {
        Installer {
            kernel,
            desk,
            page,
            kind,
        }
    }

    /// Says what the page is, for the fault's record: before the answer, and only where the answer is a page.
    pub fn found(&self, answer: Answer) {
        self.desk.found.set(Some(answer));
    }

    /// Makes `pages` pages, the faulting one first, of the layer's pages from byte `offset` on (a multiple of the page size): 1 to [`most_copied`]. A page that is there already ends the copy,
    /// and so does the layer's end (what lies behind it may be in another file); a faulting page behind that is zero.
    ///
    /// The outcome is that of the faulting page: the others are a favour.
    pub fn copy_layer(self, layer: &Layer, offset: u64, pages: usize, protect: Protect) -> Outcome {
        self.resolved();
        let left = layer
            .len()
            .saturating_sub(offset)
            .div_ceil(page_size() as u64);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let pages = pages.min(left).clamp(1, most_copied());
        let mapped = (pages > READ_PAGES)
            .then(|| layer.pages(offset, pages))
            .flatten();
        let result = match mapped {
            Some(mapped) => self.copy(CopyFrom::Layer(mapped), protect),
            // Few, or the layer has no alias (the address space is full).
            None => {
                let len = pages.min(READ_PAGES) * page_size();
                let bytes = &mut self.desk.scratch[..len];
                if layer.read_zeros_behind(bytes, offset).is_err() {
                    return self.poison_now("a page of a layer cannot be read", None);
                }
                self.copy(CopyFrom::Bytes(&self.desk.scratch[..len]), protect)
            }
        };
        self.settle(result, OutcomeKind::Copied)
    }

    /// Makes the page of the page of `memfd` at byte `offset` (a multiple of the page size), as it is now.
    pub fn copy_memfd(self, memfd: &MemFd, offset: u64, protect: Protect) -> Outcome {
        self.resolved();
        let page = &mut self.desk.scratch[..page_size()];
        if memfd.read_at(page, offset).is_err() {
            return self.poison_now("a page of a memory file cannot be read", None);
        }
        let result = self.copy(CopyFrom::Bytes(&self.desk.scratch[..page_size()]), protect);
        self.settle(result, OutcomeKind::Copied)
    }

    /// Makes pages of zeros, which are written to soon: pages of their own, unlike [`Installer::zero`]. `pages` as for [`Installer::copy_layer`].
    pub fn copy_zeros(self, pages: usize, protect: Protect) -> Outcome {
        self.resolved();
        let len = pages.clamp(1, most_copied()) * page_size();
        let result = self.copy(CopyFrom::Bytes(&self.desk.zeros[..len]), protect);
        self.settle(result, OutcomeKind::Copied)
    }

    /// Maps the zero page; the first write to it is the kernel's affair.
    pub fn zero(self) -> Outcome {
        self.resolved();
        let result = match self.done(self.kernel.zeropage(self.page, self.desk.wake), 1) {
            // Not offered for this kind of mapping; or there is a page, or only a write-protect marker, which ZEROPAGE does not replace and COPY does.
            Err(UffdError::Fatal(Errno::EINVAL) | UffdError::Exists) => self.copy(
                CopyFrom::Bytes(&self.desk.zeros[..page_size()]),
                Protect::None,
            ),
            result => result,
        };
        self.settle(result, OutcomeKind::Zeroed)
    }

    /// Maps the file's own page, and those of its neighbours in `window` that are there and not mapped. `window` should contain the page; if it does not, only the
    /// page is mapped.
    ///
    /// The neighbours are a favour: the outcome is that of the page alone.
    pub fn continue_(self, window: HostRange, protect: Protect) -> Outcome {
        self.resolved();
        let window = if window.contains_range(self.page) {
            window
        } else {
            self.page
        };
        let (start, end) = (self.page.start(), window.end());
        let continue_ = |range: HostRange| {
            let result = self.kernel.continue_(range, protect, self.desk.wake);
            self.done(result, range.pages())
        };
        // From the page on, so that what lies before it cannot stop the call. What was done before the kernel stopped is woken by the kernel.
        let mut result = match HostRange::new(start, end - start) {
            Some(ahead) if ahead != self.page => match continue_(ahead) {
                // The window may reach past the mapping, or want memory that the page does not need.
                Err(UffdError::Gone | UffdError::NoMemory | UffdError::Fatal(_)) => {
                    continue_(self.page)
                }
                result => result,
            },
            _ => continue_(self.page),
        };
        if let Ok(pages) = &mut result
            && let Some(behind) = HostRange::new(window.start(), start - window.start())
            && !behind.is_empty()
        {
            // Whatever comes of it: each page that it did not map faults by itself.
            let result = self.kernel.continue_(behind, protect, Wake::Wake);
            *pages += as_far_as_done(result, behind.pages()).unwrap_or(0);
        }
        self.settle(result, OutcomeKind::Continued)
    }

    /// Lifts the write protection: the write goes through, in a private mapping to a copy that the kernel makes. `pages` from the faulting one on, at least that:
    /// the others are a favour.
    pub fn unprotect(self, pages: usize) -> Outcome {
        self.resolved();
        let window = HostRange::new(self.page.start(), pages.max(1) * page_size());
        let window = window.unwrap_or(self.page);
        let unprotect = |range: HostRange| {
            let result = self.kernel.unprotect(range, self.desk.wake);
            self.done(result, range.pages())
        };
        let result = match unprotect(window) {
            // It may reach past the mapping.
            Err(UffdError::Gone | UffdError::Fatal(_)) if window != self.page => {
                unprotect(self.page)
            }
            result => result,
        };
        self.settle(result, OutcomeKind::Unprotected)
    }

    /// Leaves the thread waiting, and forgets about it. Whoever parked the range must wake it: then the thread faults anew.
    pub fn park(self) -> Outcome {
        self.resolved();
        Outcome(Next::Ended(OutcomeKind::Parked))
    }

    /// Wakes the thread without a page: it tries again, meets what is mapped there now, and may fault anew.
    pub fn retry(self) -> Outcome {
        self.resolved();
        self.wake(self.page);
        Outcome(Next::Ended(OutcomeKind::Retried))
    }

    /// Gives SIGBUS to whoever touches the page, and logs the reason.
    ///
    /// Ends the process where that cannot be done: on a kernel without `UFFDIO_POISON` (before Linux 6.6), and for a write-protected page, which is there and can
    /// be read.
    pub fn poison(self, reason: &'static str) -> Outcome {
        self.resolved();
        self.poison_now(reason, None)
    }

    /// Notes the time of the resolver's answer.
    fn resolved(&self) {
        self.desk.resolved_ns.set(monotonic_ns());
    }

    /// Copies a page or several; of several whatever the kernel takes, the faulting page at least. How many that were.
    fn copy(&self, src: CopyFrom<'_>, protect: Protect) -> Result<usize, UffdError> {
        let copy = |src: CopyFrom<'_>| {
            let start = self.page.start();
            let result = self.kernel.copy(start, src, protect, self.desk.wake);
            self.done(result, src.len() / page_size())
        };
        match copy(src) {
            // They may reach past the mapping, or want memory that the page does not need.
            Err(
                UffdError::Gone | UffdError::NoMemory | UffdError::NoPage | UffdError::Fatal(_),
            ) if src.len() > page_size() => copy(src.first_page()),
            result => result,
        }
    }

    /// How many pages an ioctl for `pages` of them from the faulting one on has done. Who waits for them is awake then.
    fn done(&self, result: Result<(), UffdError>, pages: usize) -> Result<usize, UffdError> {
        let pages = as_far_as_done(result, pages)?;
        if self.desk.wake == Wake::DontWake {
            self.desk.installed_ns.set(Some(monotonic_ns()));
            let done = HostRange::new(self.page.start(), pages * page_size());
            self.wake(done.unwrap_or(self.page));
        }
        Ok(pages)
    }

    /// The answer to the result of an ioctl, a number of pages, that was to end the fault as `installed`.
    fn settle(self, result: Result<usize, UffdError>, installed: OutcomeKind) -> Outcome {
        Outcome(match result {
            Ok(pages) => {
                self.desk.pages.set(pages);
                Next::Ended(installed)
            }
            Err(UffdError::Exists) => {
                self.wake(self.page);
                Next::Ended(OutcomeKind::Exists)
            }
            Err(UffdError::Again { .. }) => Next::Later,
            Err(UffdError::Gone) => {
                self.wake(self.page);
                Next::Ended(OutcomeKind::Gone)
            }
            Err(UffdError::NoMemory) => Next::Failed("no memory for a page"),
            Err(UffdError::NoPage) => Next::Failed("the page is in no file"),
            Err(UffdError::Fatal(errno)) => {
                return self.poison_now("the kernel refuses to install a page", Some(errno));
            }
        })
    }

    /// Wakes whoever waits for these pages.
    fn wake(&self, pages: HostRange) {
        if let Err(error) = self.kernel.wake(pages) {
            fail::abort(format_args!("cannot wake {:#x}: {error}", pages.start()));
        }
    }

    pub(crate) fn poison_now(mut self, reason: &'static str, errno: Option<Errno>) -> Outcome {
        let mut result = self.kernel.poison(self.page);
        if result == Err(UffdError::Exists) {
            result = self.poison_existing();
        }
        Outcome(match result {
            Ok(()) => {
                let page = self.page.start();
                self.desk.reporter.report(Trouble {
                    page,
                    kind: self.kind,
                    reason,
                    errno,
                });
                Next::Ended(OutcomeKind::Poisoned)
            }
            Err(UffdError::Exists) => {
                self.wake(self.page);
                Next::Ended(OutcomeKind::Exists)
            }
            Err(UffdError::Again { .. }) => Next::Later,
            // Past the end of its file the kernel gives SIGBUS by itself.
            Err(UffdError::Gone | UffdError::NoPage) => {
                self.wake(self.page);
                Next::Ended(OutcomeKind::Gone)
            }
            Err(UffdError::NoMemory) => Next::Failed("no memory to poison a page"),
            Err(UffdError::Fatal(_)) => fail::abort(format_args!(
                "{reason}, and the page at {:#x} cannot be poisoned",
                self.page.start()
            )),
        })
    }

    /// What to make of EEXIST.
    ///
    /// Mostly the page was installed or poisoned for another thread's fault: waking is enough. If the same page comes again, then a write-protect marker is in the way,
    /// which does not end a fault, but which POISON does not replace: it is lifted first. A write-protected page is there and stays there, so its fault has no end but
    /// the process's.
    fn poison_existing(&mut self) -> Result<(), UffdError> {
        let page = self.page.start();
        if self.kind == FaultKind::WriteProtect {
            fail::abort(format_args!(
                "the write-protected page at {page:#x} cannot be poisoned"
            ));
        }
        if self.desk.poison_refused.replace(page) != Some(page) {
            return Err(UffdError::Exists);
        }
        self.kernel.unprotect(self.page, Wake::DontWake)?;
        self.kernel.poison(self.page)
    }
}

/// How many pages an ioctl for `pages` of them has done: to have stopped behind the first is good enough.
fn as_far_as_done(result: Result<(), UffdError>, pages: usize) -> Result<usize, UffdError> {
    match result {
        Ok(()) => Ok(pages),
        Err(UffdError::Again { done: done @ 1.. }) => Ok(done / page_size()),
        Err(error) => Err(error),
    }
}
