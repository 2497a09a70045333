//! What each errno means, and that the kernel does what the wrappers say. Nothing here waits but where it says so: pages are looked at only once they are there.

use super::*;
use crate::access::Volatile;
use crate::memfd::MemFd;
use crate::page::Prot;
use crate::probe::Probe;
use crate::reserve::{Reservation, Source};

const PAGES: usize = 8;

#[test]
fn every_errno_has_one_meaning() {
    let meaning = |errno, done| UffdError::new(errno, done);
    let page = page_size();
    let done = i64::try_from(page).unwrap();
    for (errno, count, expected) in [
        (Errno::EEXIST, -17, UffdError::Exists),
        (Errno::EAGAIN, done, UffdError::Again { done: page }),
        // The trap: the kernel writes minus EAGAIN, or leaves the count alone.
        (Errno::EAGAIN, -11, UffdError::Again { done: 0 }),
        (Errno::EAGAIN, 0, UffdError::Again { done: 0 }),
        (Errno::ENOENT, -2, UffdError::Gone),
        (Errno::ESRCH, 0, UffdError::Gone),
        (Errno::EINTR, -4, UffdError::Gone),
        (Errno::ENOMEM, -12, UffdError::NoMemory),
        (Errno::ENOSPC, -28, UffdError::NoMemory),
        (Errno::EFAULT, -14, UffdError::NoPage),
        (Errno::EINVAL, 0, UffdError::Fatal(Errno::EINVAL)),
        (Errno::EIO, -5, UffdError::Fatal(Errno::EIO)),
    ] {
        assert_eq!(meaning(errno, count), expected, "{errno:?} with {count}");
    }
}

#[test]
fn messages_are_decoded() {
    let message = |event, flags| {
        let mut message = raw::Message::default();
        (message.event, message.flags) = (event, flags);
        (message.address, message.tid) = (0x7000, 42);
        message
    };
    let fault = |kind, write, tid| Event::PageFault {
        address: 0x7000,
        kind,
        write,
        tid,
    };
    for (flags, kind, write) in [
        (0, FaultKind::Missing, false),
        (raw::FLAG_WRITE, FaultKind::Missing, true),
        (raw::FLAG_MINOR, FaultKind::Minor, false),
        (raw::FLAG_MINOR | raw::FLAG_WRITE, FaultKind::Minor, true),
        (
            raw::FLAG_WP | raw::FLAG_WRITE,
            FaultKind::WriteProtect,
            true,
        ),
    ] {
        let message = message(raw::EVENT_PAGEFAULT, flags);
        assert_eq!(decode(&message, true), fault(kind, write, Some(42)));
        assert_eq!(decode(&message, false), fault(kind, write, None));
    }
    // UFFD_EVENT_REMAP, and one that is not known yet.
    assert_eq!(decode(&message(0x14, 0), true), Event::Other);
    assert_eq!(decode(&message(0xFF, 0), true), Event::Other);
}

#[test]
fn a_buffer_of_events_never_grows() {
    let mut events = Events::with_capacity(0);
    events.push(Event::Other);
    assert!(events.is_full());
    events.push(Event::Other);
    assert_eq!(events.as_slice(), [Event::Other]);
    events.clear();
    assert!(events.as_slice().is_empty());
}

/// A file whose first page is full of 1, its second a hole, and so on; mapped privately.
struct Rig {
    uffd: Uffd,
    memory: Reservation,
    file: MemFd,
}

impl Rig {
    /// `None`, and says so, where the kernel lacks what is needed.
    fn new(test: &str, modes: Modes) -> Option<Rig> {
        let probe = Probe::get();
        let needed = if modes.contains(Modes::WP) {
            probe.write_tracking
        } else {
            probe.traced
        };
        if !needed.is_yes() {
            println!("SKIP {test}: {needed:?}");
            return None;
        }
        let len = PAGES * page_size();
        let file = MemFd::create("uffd-test", len as u64).unwrap();
        for page in (0..PAGES).step_by(2) {
            file.write_at(&vec![1; page_size()], (page * page_size()) as u64)
                .unwrap();
        }
        let memory = Reservation::new(len).unwrap();
        let source = Source::PrivateUnsealed(&file, 0);
        memory
            .map(memory.range(), source, Prot::READ | Prot::WRITE)
            .unwrap();
        let uffd = Uffd::open().unwrap();
        uffd.register(&memory, memory.range(), modes).unwrap();
        Some(Rig { uffd, memory, file })
    }

    fn pages(&self, first: usize, count: usize) -> HostRange {
        self.memory
            .range()
            .sub(first * page_size(), count * page_size())
            .unwrap()
    }

    fn load(&self, page: usize) -> u8 {
        let bytes = Volatile::new(self.memory.range().start(), self.memory.range().len());
        bytes.unwrap().load_u8(page * page_size())
    }

    fn copy(&self, page: usize, value: u8, protect: Protect) -> Result<(), UffdError> {
        let bytes = vec![value; page_size()];
        let dst = self.pages(page, 1).start();
        self.uffd
            .copy(dst, CopyFrom::Bytes(&bytes), protect, Wake::Wake)
    }
}

#[test]
fn only_owned_memory_is_registered_and_only_once() {
    let Some(rig) = Rig::new(
        "only_owned_memory_is_registered_and_only_once",
        Modes::MISSING,
    ) else {
        return;
    };
    let other = Reservation::new(page_size()).unwrap();
    let refused = rig
        .uffd
        .register(&other, rig.memory.range(), Modes::MISSING);
    assert_eq!(refused, Err(RegisterError::NotOwned));
    let second = Uffd::open().unwrap();
    let refused = second.register(&rig.memory, rig.memory.range(), Modes::MISSING);
    assert_eq!(refused, Err(RegisterError::Busy));
    let nothing_mapped_writable = Uffd::open().unwrap();
    other.release(other.range()).unwrap();
    // Reserved addresses are a private anonymous mapping: MISSING is possible there, MINOR is not.
    let refused = nothing_mapped_writable.register(&other, other.range(), Modes::MINOR);
    assert_eq!(refused, Err(RegisterError::Unsupported));
    rig.uffd.unregister(rig.memory.range()).unwrap();
    assert_eq!(
        second.register(&rig.memory, rig.memory.range(), Modes::MISSING),
        Ok(())
    );
}

#[test]
fn copy_fills_what_is_missing_and_leaves_the_file_alone() {
    let name = "copy_fills_what_is_missing_and_leaves_the_file_alone";
    let Some(rig) = Rig::new(name, Modes::MISSING) else {
        return;
    };
    rig.copy(1, 7, Protect::None).unwrap();
    assert_eq!(rig.load(1), 7);
    assert_eq!(rig.copy(1, 8, Protect::None), Err(UffdError::Exists));
    assert_eq!(rig.load(1), 7);
    assert!(!rig.file.is_present(page_size() as u64).unwrap());
    // Two pages, of which the second is there: the count says how far it came.
    let bytes = vec![9; 2 * page_size()];
    let part = rig.uffd.copy(
        rig.pages(0, 1).start(),
        CopyFrom::Bytes(&bytes),
        Protect::None,
        Wake::Wake,
    );
    assert_eq!(part, Err(UffdError::Again { done: page_size() }));
    assert_eq!((rig.load(0), rig.load(1)), (9, 7));
}

#[test]
fn copy_elsewhere_changes_nothing() {
    let Some(rig) = Rig::new("copy_elsewhere_changes_nothing", Modes::MISSING) else {
        return;
    };
    let other = Reservation::new(page_size()).unwrap();
    other
        .map(other.range(), Source::Anonymous, Prot::READ)
        .unwrap();
    let bytes = vec![9; page_size()];
    let copy = |dst| {
        rig.uffd
            .copy(dst, CopyFrom::Bytes(&bytes), Protect::None, Wake::Wake)
    };
    assert_eq!(copy(other.range().start()), Err(UffdError::Gone));
    assert_eq!(
        Volatile::new(other.range().start(), 1).unwrap().load_u8(0),
        0
    );
    assert_eq!(
        copy(rig.pages(1, 1).start() + 1),
        Err(UffdError::Fatal(Errno::EINVAL))
    );
    // A mode that the range is not registered for.
    assert_eq!(
        rig.copy(1, 1, Protect::Write),
        Err(UffdError::Fatal(Errno::EINVAL))
    );
}

#[test]
fn copy_past_the_end_of_the_file_has_no_page() {
    let name = "copy_past_the_end_of_the_file_has_no_page";
    let Some(rig) = Rig::new(name, Modes::MISSING) else {
        return;
    };
    rig.file.set_len(0).unwrap();
    assert_eq!(rig.copy(1, 1, Protect::None), Err(UffdError::NoPage));
    assert_eq!(
        rig.uffd.zeropage(rig.pages(1, 1), Wake::Wake),
        Err(UffdError::NoPage)
    );
}

#[test]
fn copy_takes_a_page_of_a_layer() {
    let Some(rig) = Rig::new("copy_takes_a_page_of_a_layer", Modes::MISSING) else {
        return;
    };
    let file = MemFd::create("uffd-test", 2 * page_size() as u64).unwrap();
    file.write_at(&[5], page_size() as u64).unwrap();
    let layer = file.seal().unwrap();
    let page = CopyFrom::Layer(layer.page(page_size() as u64).unwrap());
    rig.uffd
        .copy(rig.pages(3, 1).start(), page, Protect::None, Wake::Wake)
        .unwrap();
    assert_eq!(rig.load(3), 5);
}

#[test]
fn zeropage_hides_the_file() {
    let Some(rig) = Rig::new("zeropage_hides_the_file", Modes::MISSING) else {
        return;
    };
    rig.uffd.zeropage(rig.pages(0, 2), Wake::Wake).unwrap();
    assert_eq!((rig.load(0), rig.load(1)), (0, 0));
    assert_eq!(
        rig.uffd.zeropage(rig.pages(0, 1), Wake::Wake),
        Err(UffdError::Exists)
    );
}

#[test]
fn continue_stops_at_the_first_hole_and_counts() {
    let name = "continue_stops_at_the_first_hole_and_counts";
    let Some(rig) = Rig::new(name, Modes::MISSING | Modes::MINOR) else {
        return;
    };
    let go_on = |first, count| {
        rig.uffd
            .continue_(rig.pages(first, count), Protect::None, Wake::Wake)
    };
    assert_eq!(go_on(0, PAGES), Err(UffdError::Again { done: page_size() }));
    assert_eq!(rig.load(0), 1);
    assert_eq!(go_on(0, 1), Err(UffdError::Exists));
    assert_eq!(go_on(1, 1), Err(UffdError::NoPage));
    assert_eq!(go_on(2, 1), Ok(()));
}

#[test]
fn a_write_protect_marker_stops_zeropage_and_poison_but_not_copy() {
    let name = "a_write_protect_marker_stops_zeropage_and_poison_but_not_copy";
    let Some(rig) = Rig::new(name, Modes::MISSING | Modes::WP) else {
        return;
    };
    rig.uffd
        .write_protect(rig.pages(0, 2), Protect::Write, Wake::DontWake)
        .unwrap();
    assert_eq!(
        rig.uffd.zeropage(rig.pages(1, 1), Wake::Wake),
        Err(UffdError::Exists)
    );
    rig.copy(1, 3, Protect::None).unwrap();
    assert_eq!(rig.load(1), 3);
    if Probe::get().poison.is_yes() {
        assert_eq!(
            rig.uffd.poison(rig.pages(0, 1), Wake::Wake),
            Err(UffdError::Exists)
        );
        rig.uffd
            .write_protect(rig.pages(0, 1), Protect::None, Wake::DontWake)
            .unwrap();
        assert_eq!(rig.uffd.poison(rig.pages(0, 1), Wake::Wake), Ok(()));
    }
}

#[test]
fn write_protect_needs_its_registration() {
    let Some(rig) = Rig::new("write_protect_needs_its_registration", Modes::MISSING) else {
        return;
    };
    let protect = rig
        .uffd
        .write_protect(rig.pages(0, 1), Protect::Write, Wake::DontWake);
    assert_eq!(protect, Err(UffdError::Gone));
}

#[test]
fn nothing_waits_and_reading_says_so() {
    let Some(rig) = Rig::new("nothing_waits_and_reading_says_so", Modes::MISSING) else {
        return;
    };
    let mut events = Events::with_capacity(4);
    events.push(Event::Other);
    rig.uffd.read_events(&mut events).unwrap();
    assert!(events.as_slice().is_empty());
    rig.uffd.wake(rig.memory.range()).unwrap();
}

#[test]
fn a_blocking_read_waits_for_a_fault() {
    let Some(rig) = Rig::new("a_blocking_read_waits_for_a_fault", Modes::MISSING) else {
        return;
    };
    rig.uffd.set_blocking(true).unwrap();
    // A hole: its fault is a missing page's.
    let page = rig.pages(1, 1);
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut events = Events::with_capacity(4);
            rig.uffd.read_events(&mut events).unwrap();
            rig.uffd.zeropage(page, Wake::Wake).unwrap();
            events.as_slice().to_vec()
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!reads.is_finished());
        let bytes = Volatile::new(page.start(), page.len()).unwrap();
        assert_eq!(bytes.load_u8(0), 0);
        let events = reads.join().unwrap();
        assert!(
            matches!(events[..], [Event::PageFault { address, .. }] if address == page.start()),
            "{events:?}"
        );
    });
    rig.uffd.set_blocking(false).unwrap();
    let mut events = Events::with_capacity(4);
    rig.uffd.read_events(&mut events).unwrap();
    assert!(events.as_slice().is_empty());
}

#[test]
fn the_descriptor_closes_on_exec() {
    let Some(rig) = Rig::new("the_descriptor_closes_on_exec", Modes::MISSING) else {
        return;
    };
    let flags = nix::fcntl::fcntl(&rig.uffd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    let flags = nix::fcntl::fcntl(&rig.uffd, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, libc::O_NONBLOCK);
}
