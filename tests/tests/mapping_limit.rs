//! A process may have so many mappings (`vm.max_map_count`) and no more. Near the limit calls answer `NO_MEMORY`, and nothing is lost: no byte, no permission, not the
//! process. One test, since the limit is the whole process's.

#![forbid(unsafe_code)]

use cowspace::{Policy, Status, Vmar, VmarFlags, Vmo, VmoChildOptions};
use cowspace_tests::{RW, memory, page, unmap};

const READ: VmarFlags = VmarFlags::PERM_READ;
const PAGES: usize = 32;

/// A mapping with each other page read-only: each is a kernel's mapping of its own.
struct Comb {
    addr: usize,
    pages: usize,
    /// Pages that were made read-only so far are those at odd indices below it.
    next: usize,
}

impl Comb {
    fn new(pages: usize) -> Comb {
        let vmo = Vmo::create((pages * page()) as u64).expect("a VMO costs nothing");
        let addr = Vmar::root_self()
            .map_with_policy(0, &vmo, 0, pages * page(), RW, Policy::Native)
            .expect("a mapping");
        Comb {
            addr,
            pages,
            next: 1,
        }
    }

    /// Takes all mappings that the process has left.
    fn fill(&mut self) {
        while self.next < self.pages {
            match Vmar::root_self().protect(self.addr + self.next * page(), page(), READ) {
                Ok(()) => self.next += 2,
                Err(status) => {
                    assert_eq!(status, Status::NO_MEMORY);
                    return;
                }
            }
        }
        panic!("the limit is above {} mappings", self.pages);
    }

    /// Gives two mappings back.
    fn ease(&mut self) {
        self.next -= 2;
        Vmar::root_self()
            .protect(self.addr + self.next * page(), page(), RW)
            .expect("mappings can be merged");
    }
}

/// The memory of one kind whose snapshot, second mapping and unmapping are tried.
struct Subject {
    vmo: Vmo,
    addr: usize,
    /// As long as it lives `vmo`'s memory is one that was cloned.
    _child: Option<Vmo>,
}

impl Subject {
    fn new(policy: Policy, cloned: bool) -> Subject {
        let len = PAGES * page();
        let vmo = Vmo::create(len as u64).expect("a small VMO");
        let addr = Vmar::root_self()
            .map_with_policy(0, &vmo, 0, len, RW, policy)
            .expect("a mapping");
        let subject = Subject {
            vmo,
            addr,
            _child: None,
        };
        subject.store(1);
        if !cloned {
            return subject;
        }
        let child = subject
            .vmo
            .create_child(VmoChildOptions::SNAPSHOT, 0, len as u64);
        subject.store(2);
        Subject {
            _child: Some(child.expect("a snapshot")),
            ..subject
        }
    }

    fn store(&self, value: u64) {
        let memory = memory(self.addr, PAGES * page());
        (0..PAGES)
            .step_by(2)
            .for_each(|at| memory.store_u64(at * page(), value));
    }

    fn check(&self, value: u64) {
        let memory = memory(self.addr, PAGES * page());
        for at in 0..PAGES {
            let expected = if at % 2 == 0 { value } else { 0 };
            assert_eq!(memory.load_u64(at * page()), expected);
            let mut bytes = [0; 8];
            match self.vmo.read(&mut bytes, (at * page()) as u64) {
                Ok(()) => assert_eq!(u64::from_ne_bytes(bytes), expected),
                // The buffer is a mapping, too.
                Err(status) => assert_eq!(status, Status::NO_MEMORY),
            }
        }
    }
}

/// Tries `call` with ever more room until it succeeds; before each try `check` says that nothing is lost.
fn until_it_fits<T>(
    comb: &mut Comb,
    what: &str,
    mut check: impl FnMut(),
    mut call: impl FnMut() -> Result<T, Status>,
) -> T {
    comb.fill();
    for _ in 0..64 {
        match call() {
            Ok(done) => return done,
            Err(status) => assert_eq!(status, Status::NO_MEMORY, "{what}"),
        }
        check();
        comb.ease();
    }
    panic!("{what}: does not succeed with 128 mappings to spare");
}

#[test]
fn nothing_is_lost_at_the_limit_of_mappings() {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|limit| limit.trim().parse::<usize>().ok());
    let Some(limit) = limit.filter(|limit| *limit <= 1 << 18) else {
        println!("SKIP the limit of mappings: vm.max_map_count is too high to reach");
        return;
    };
    let root = Vmar::root_self();
    let len = PAGES * page();
    for policy in [Policy::Traced, Policy::Native] {
        for cloned in [false, true] {
            let subject = Subject::new(policy, cloned);
            let value = if cloned { 2 } else { 1 };
            // Made for each, so that the threads and buffers of the one before are no part of the count.
            let mut comb = Comb::new(limit + 64);
            let check = || subject.check(value);
            let what = format!("{policy:?}, cloned: {cloned}");
            let child = until_it_fits(&mut comb, &what, check, || {
                root.create_vmo_child(VmoChildOptions::SNAPSHOT, subject.addr, len)
            });
            check();
            let second = until_it_fits(&mut comb, &what, check, || {
                root.map_with_policy(0, &subject.vmo, 0, len, RW, policy)
            });
            check();
            subject.store(3);
            let check = || subject.check(3);
            until_it_fits(&mut comb, &what, check, || root.unmap(second, len));
            let mapped = until_it_fits(&mut comb, &what, check, || {
                root.map_with_policy(0, &child, 0, len, RW, policy)
            });
            memory(mapped, len).store_u64(0, 7);
            // Its private pages move to a file. The mapping is gone, or it is as it was.
            until_it_fits(
                &mut comb,
                &what,
                || assert_eq!(memory(mapped, len).load_u64(0), 7),
                || root.unmap(mapped, len),
            );
            unmap(comb.addr, comb.pages * page());
            let mut bytes = [0; 8];
            child.read(&mut bytes, 0).expect("a read");
            assert_eq!(u64::from_ne_bytes(bytes), 7);
            subject.check(3);
            unmap(subject.addr, len);
        }
    }
}
