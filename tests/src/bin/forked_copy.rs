//! A program of one thread that forks while its engine runs; what the copy finds is its exit status. `tests/fork_exec.rs` starts it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use cowspace::{Policy, Status, Vmar, Vmo, VmoChildOptions, VmoOp};
use cowspace_tests::{RW, bytes_at, memory, page};
use host_memory::process::{Fork, StillCopy, fork};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

const PAGES: usize = 8;

fn main() -> ExitCode {
    // Traced mode has threads. What the copy's calls answer has nothing to do with the policy.
    cowspace::set_default_policy(Policy::Native);
    let (root, len) = (Vmar::root_self(), PAGES * page());
    let vmo = Vmo::create(len as u64).expect("a VMO");
    let addr = root.map(0, &vmo, 0, len, RW).expect("a mapping");
    memory(addr, len).write(0, &vec![1; len]);
    let clone = root
        .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, len)
        .expect("a clone");
    memory(addr, page()).write(0, &vec![2; page()]);
    let shown = bytes_at(addr, len);

    match fork().expect("one thread, and room for a process") {
        Fork::Child => {
            calls_are_refused(&root, vmo, clone, addr, len);
            memory_is_its_own(addr, &shown);
            ExitCode::SUCCESS
        }
        Fork::Parent(pid) => {
            let status = waitpid(Pid::from_raw(pid), None);
            assert!(
                matches!(status, Ok(WaitStatus::Exited(_, 0))),
                "the copy: {status:?}"
            );
            assert!(
                bytes_at(addr, len) == shown,
                "what the copy has written is seen here"
            );
            let again = root
                .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, len)
                .expect("a clone");
            let mut bytes = vec![0; len];
            again.read(&mut bytes, 0).expect("reading");
            assert!(bytes == shown);
            clone.read(&mut bytes, 0).expect("reading");
            assert!(bytes == vec![1; len]);
            ExitCode::SUCCESS
        }
    }
}

fn calls_are_refused(root: &Vmar, vmo: Vmo, clone: Vmo, addr: usize, len: usize) {
    let refused = Some(Status::BAD_STATE);
    assert_eq!(Vmo::create(1).err(), refused);
    assert_eq!(vmo.read(&mut [0], 0).err(), refused);
    assert_eq!(vmo.write(&[0], 0).err(), refused);
    assert_eq!(vmo.get_size().err(), refused);
    assert_eq!(vmo.set_size(1).err(), refused);
    assert_eq!(vmo.info().err(), refused);
    assert_eq!(vmo.op_range(VmoOp::ZERO, 0, 1).err(), refused);
    assert_eq!(
        vmo.create_child(VmoChildOptions::SNAPSHOT, 0, 1).err(),
        refused
    );
    assert_eq!(root.map(0, &vmo, 0, len, RW).err(), refused);
    assert_eq!(root.protect(addr, len, RW).err(), refused);
    assert_eq!(
        root.create_vmo_child(VmoChildOptions::SNAPSHOT, addr, len)
            .err(),
        refused
    );
    assert_eq!(root.unmap(addr, len).err(), refused);
    assert_eq!(root.info().err(), refused);
    assert_eq!(Vmar::try_root_self().err(), refused);
    assert_eq!(cowspace::process_maps().err(), refused);
    assert_eq!(cowspace::reserve_address_space().err(), refused);
    assert!(!cowspace::is_running());
    drop((vmo, clone));
}

fn memory_is_its_own(addr: usize, shown: &[u8]) {
    assert!(bytes_at(addr, shown.len()) == shown);
    memory(addr, shown.len()).write(0, &vec![3; shown.len()]);
    assert!(bytes_at(addr, shown.len()) == vec![3; shown.len()]);
    // It can have copies of its own.
    let copy = StillCopy::make().expect("a copy of the copy");
    let mut bytes = vec![0; shown.len()];
    copy.read(addr, &mut bytes).expect("it has the memory");
    assert!(bytes == vec![3; shown.len()]);
}
