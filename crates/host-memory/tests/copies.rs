//! What a forked copy does ahead. One test: it counts the faults of its process.

mod util;

use std::hint::black_box;

use host_memory::copies::own_written_pages;
use host_memory::page::page_size;
use nix::sys::resource::{UsageWho, getrusage};
use util::in_fork;

#[test]
fn a_copys_stores_find_pages_of_its_own() {
    let faults = || {
        getrusage(UsageWho::RUSAGE_SELF)
            .unwrap()
            .minor_page_faults()
    };
    // The C library maps so much by itself, and it is not yet data that is left as it is.
    const LEN: usize = 768 << 10;
    let mut written = vec![7u8; LEN];
    let mut faults_of_stores = |owned: bool| {
        in_fork(|| {
            let prepared = !owned || own_written_pages().is_ok();
            let before = faults();
            black_box(&mut written).fill(8);
            let count = faults() - before;
            if prepared {
                i32::try_from(count.min(250)).unwrap()
            } else {
                251
            }
        })
    };
    let pages = i32::try_from(LEN / page_size()).unwrap();
    let shared = faults_of_stores(false);
    assert!(
        (pages * 3 / 4..251).contains(&shared),
        "there is nothing to be done ahead: {shared} faults"
    );
    let owned = faults_of_stores(true);
    assert!(owned < pages / 5, "{owned} faults, not {shared}");
    assert!(black_box(&written).iter().all(|byte| *byte == 7));
}
