//! Loads and stores through [`Volatile`].

mod util;

use host_memory::access::Volatile;
use host_memory::huge::huge_page_size;
use host_memory::page::{Prot, page_size};
use host_memory::reserve::Source;
use util::{reserve, volatile};

#[test]
fn bytes_words_and_runs_of_any_alignment_agree() {
    let room = reserve(1);
    room.map(room.range(), Source::Anonymous, Prot::READ | Prot::WRITE)
        .unwrap();
    let memory = volatile(room.range());
    memory.store_u64(8, u64::from_ne_bytes(*b"abcdefgh"));
    assert_eq!(memory.load_u8(9), b'b');
    memory.store_u8(9, b'B');
    assert_eq!(memory.load_u64(8), u64::from_ne_bytes(*b"aBcdefgh"));

    let text: Vec<u8> = (1..=40).collect();
    for offset in 0..9 {
        for len in 0..=text.len() {
            memory.write(0, &[0; 64]);
            memory.write(offset, &text[..len]);
            let mut back = [0; 64];
            memory.read(0, &mut back);
            assert_eq!(back[offset..offset + len], text[..len]);
            assert!(
                back[..offset]
                    .iter()
                    .chain(&back[offset + len..])
                    .all(|byte| *byte == 0)
            );
            let mut part = vec![0; len];
            memory.read(offset, &mut part);
            assert_eq!(part, text[..len]);
        }
    }
}

#[test]
fn it_ends_where_it_ends() {
    let room = reserve(1);
    room.map(room.range(), Source::Anonymous, Prot::READ | Prot::WRITE)
        .unwrap();
    let memory = Volatile::new(room.range().start(), 16).unwrap();
    assert_eq!((memory.addr(), memory.len()), (room.range().start(), 16));
    let panics =
        |access: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(access)).is_err();
    assert!(panics(&|| _ = memory.load_u8(16)));
    assert!(panics(&|| memory.store_u8(usize::MAX, 0)));
    assert!(panics(&|| _ = memory.load_u64(12)), "not aligned");
    assert!(panics(&|| memory.store_u64(16, 0)));
    assert!(panics(&|| memory.read(9, &mut [0; 8])));
    assert!(panics(&|| memory.write(1, &vec![0; page_size()])));
    memory.read(16, &mut []);
    assert!(!panics(&|| memory.store_u64(8, 1)));
}

#[test]
fn collapsing_changes_no_byte() {
    // So that a whole aligned huge page is inside, where there are any.
    let room = reserve(2 * huge_page_size().unwrap_or(page_size()) / page_size());
    room.map(room.range(), Source::Anonymous, Prot::READ | Prot::WRITE)
        .unwrap();
    let memory = volatile(room.range());
    for at in (0..memory.len()).step_by(page_size()) {
        memory.store_u64(at, at as u64 + 1);
    }
    if let Err(error) = memory.collapse() {
        println!("SKIP collapsing_changes_no_byte: {error}");
    }
    for at in (0..memory.len()).step_by(page_size()) {
        assert_eq!(memory.load_u64(at), at as u64 + 1);
    }
    let inside = Volatile::new(room.range().start() + 8, page_size()).unwrap();
    let refused = inside.collapse().unwrap_err();
    assert_eq!(
        refused.raw_os_error(),
        Some(nix::errno::Errno::EINVAL as i32)
    );
}
