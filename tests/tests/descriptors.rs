//! A VMO with content takes a descriptor, and a process usually begins with a limit of 1,024 that it may raise. One test, since the limit is the whole process's.

#![forbid(unsafe_code)]

use cowspace::{Status, Vmar, Vmo};
use cowspace_tests::{RW, bytes_at, page};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[test]
fn as_many_vmos_as_the_process_may_have_descriptors() {
    let few = 200;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has one");
    let most = 3 * few;
    if hard < 2 * most {
        println!("SKIP the limit of descriptors: a hard limit of {hard}");
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, few, most).expect("limits can be lowered");
    // The engine starts here.
    let root = Vmar::root_self();
    let mut mapped = Vec::new();
    let refused = loop {
        let vmo = Vmo::create(page() as u64).expect("without content it needs none");
        let number = mapped.len() as u8;
        match vmo.write(&[number], 0) {
            Ok(()) => {
                let addr = root.map(0, &vmo, 0, page(), RW).expect("it has its file");
                mapped.push((vmo, addr));
            }
            Err(status) => break status,
        }
    };
    assert_eq!(refused, Status::NO_MEMORY);
    assert!(mapped.len() as u64 > 2 * few, "{} VMOs", mapped.len());
    for (number, (_, addr)) in mapped.iter().enumerate() {
        assert_eq!(bytes_at(*addr, 1), [number as u8]);
        root.unmap(*addr, page()).expect("it is mapped");
    }
}
