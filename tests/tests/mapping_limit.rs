//! A process may have so many mappings (`vm.max_map_count`) and no more. Near the limit calls answer `NO_MEMORY`, and nothing is lost: no byte, no permission, not the
//! process. One test, since the limit is the whole process's.

#![forbid(unsafe_code)]

use cowspace::{Policy, Status, Vmar, VmarFlags, VmarOp, Vmo, VmoChildOptions};
use cowspace_tests::limits::{Comb, mapping_limit};
use cowspace_tests::zircon::{can_read, can_write};
use cowspace_tests::{RW, memory, page, unmap};
use test_share::{first_or_all, is_whole};

const READ: VmarFlags = VmarFlags::PERM_READ;
/// Enough that a first clone sets the mapping aside, or would like to.
const PAGES: usize = 600;

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

    /// By call, which needs no mapping.
    fn read(&self, page_number: usize) -> u64 {
        let mut bytes = [0; 8];
        self.vmo
            .read(&mut bytes, (page_number * page()) as u64)
            .expect("reading makes no mapping");
        u64::from_ne_bytes(bytes)
    }

    fn write(&self, page_number: usize, value: u64) {
        self.vmo
            .write(&value.to_ne_bytes(), (page_number * page()) as u64)
            .expect("writing makes no mapping");
    }

    fn check(&self, value: u64) {
        let memory = memory(self.addr, PAGES * page());
        for at in 0..PAGES {
            let expected = if at % 2 == 0 { value } else { 0 };
            assert_eq!(memory.load_u64(at * page()), expected);
            // A call for each page is most of the test.
            if is_whole() || at % 19 == 0 {
                assert_eq!(self.read(at), expected);
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

/// What needs no mapping works at the limit. The subject's pages are as before afterwards.
fn operations_work(subject: &Subject) {
    let value = subject.read(0);
    subject.write(0, 8);
    assert_eq!(memory(subject.addr, page()).load_u64(0), 8);
    subject.write(0, value);
    let root = Vmar::root_self();
    for op in [VmarOp::COMMIT, VmarOp::MAP_RANGE, VmarOp::PREFETCH] {
        assert_eq!(root.op_range(op, subject.addr, 4 * page()), Ok(()));
    }
    let op = VmarOp::ZERO;
    assert_eq!(root.op_range(op, subject.addr, 3 * page()), Ok(()));
    assert_eq!((subject.read(0), subject.read(2)), (0, 0));
    subject.write(0, value);
    subject.write(2, value);
}

/// Unmapping from the middle of one mapping to the middle of another: both are cut, what lies between is gone, or all
/// is as it was.
fn several_at_once(comb: &mut Comb, what: &str, policy: Policy) {
    (0..32).for_each(|_| comb.ease());
    let pages = 4;
    let can_map = VmarFlags::CAN_MAP_READ | VmarFlags::CAN_MAP_WRITE | VmarFlags::CAN_MAP_SPECIFIC;
    let (vmar, base) = Vmar::root_self()
        .allocate(0, 3 * pages * page(), can_map)
        .expect("there is room");
    let vmos: Vec<(Vmo, Vmo)> = (0..3)
        .map(|number| {
            let vmo = Vmo::create((pages * page()) as u64).expect("a small VMO");
            vmo.write(&[1], 0).expect("there is memory");
            let options = VmoChildOptions::SNAPSHOT;
            let child = vmo.create_child(options, 0, (pages * page()) as u64);
            let child = child.expect("a snapshot");
            let flags = RW | VmarFlags::SPECIFIC;
            let at = number * pages * page();
            vmar.map_with_policy(at, &vmo, 0, pages * page(), flags, policy)
                .expect("there is room");
            (vmo, child)
        })
        .collect();
    let all = memory(base, 3 * pages * page());
    for at in 0..3 * pages {
        all.store_u64(at * page(), at as u64 + 1);
    }
    let gone = pages / 2..3 * pages - pages / 2;
    let check = || {
        for at in 0..3 * pages {
            assert_eq!(all.load_u64(at * page()), at as u64 + 1, "{what}");
            assert!(can_write(base + at * page()), "{what}");
        }
    };
    until_it_fits(comb, what, check, || {
        vmar.unmap(base + gone.start * page(), gone.len() * page())
    });
    for at in 0..3 * pages {
        assert_eq!(can_read(base + at * page()), !gone.contains(&at), "{what}");
        let mut bytes = [0; 8];
        vmos[at / pages]
            .0
            .read(&mut bytes, (at % pages * page()) as u64)
            .expect("a read");
        assert_eq!(u64::from_ne_bytes(bytes), at as u64 + 1, "{what}");
    }
    vmar.destroy().expect("once");
}

#[test]
fn nothing_is_lost_at_the_limit_of_mappings() {
    let Some(limit) = mapping_limit() else {
        println!("SKIP the limit of mappings: vm.max_map_count is too high to reach");
        return;
    };
    let root = Vmar::root_self();
    let len = PAGES * page();
    for policy in [Policy::Traced, Policy::Native] {
        // With what was cloned there is more to lose.
        for &cloned in first_or_all(1, &[true, false]) {
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
            // A page in the middle gets permissions of its own, on a mapping that was cut out of or not.
            let all_writable =
                |addr: usize| assert!((0..PAGES).all(|at| can_write(addr + at * page())), "{what}");
            for addr in [subject.addr, second] {
                let middle = addr + 5 * page();
                until_it_fits(
                    &mut comb,
                    &what,
                    || all_writable(addr),
                    || root.protect(middle, page(), READ),
                );
                check();
                assert!(!can_write(middle));
                root.protect(middle, page(), RW).expect("it is merged");
            }
            comb.fill();
            operations_work(&subject);
            check();
            let base = root.info().expect("the root lives").base;
            let over = second + 20 * page();
            until_it_fits(
                &mut comb,
                &what,
                || all_writable(second),
                || {
                    let flags = RW | VmarFlags::SPECIFIC_OVERWRITE;
                    root.map_with_policy(over - base, &child, 0, page(), flags, policy)
                },
            );
            assert_eq!(memory(over, page()).load_u64(0), value);
            check();
            until_it_fits(
                &mut comb,
                &what,
                || all_writable(second),
                || root.unmap(second + 5 * page(), page()),
            );
            check();
            assert!(!can_write(second + 5 * page()) && can_write(second + 6 * page()));
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
            several_at_once(&mut comb, &what, policy);
            drop(comb);
            let mut bytes = [0; 8];
            child.read(&mut bytes, 0).expect("a read");
            assert_eq!(u64::from_ne_bytes(bytes), 7);
            subject.check(3);
            unmap(subject.addr, len);
        }
    }
}
