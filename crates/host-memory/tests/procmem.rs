//! What the kernel does with accesses through `/proc/self/mem`.

mod util;

use std::io::ErrorKind;
use std::process::Command;

use host_memory::memfd::MemFd;
use host_memory::page::{Prot, page_size};
use host_memory::procmem::ProcMem;
use host_memory::reserve::{Reservation, Source};
use util::{bytes, data, in_fork, layer, numbered, pages, reserve, volatile};

const RW: Prot = Prot::READ.union(Prot::WRITE);

#[test]
fn reads_what_no_protection_allows() {
    let room = reserve(3);
    let layer = layer(2);
    room.map(
        pages(&room, 0, 2),
        Source::Private(&layer, 0),
        Prot::empty(),
    )
    .unwrap();
    let mem = ProcMem::open().unwrap();
    let mut buf = vec![9; 3 * page_size() - 1];
    mem.read(&room, room.range().start() + 1, &mut buf).unwrap();
    let page = page_size();
    assert!(
        buf[..page - 1].iter().all(|byte| *byte == 1)
            && buf[page - 1..2 * page - 1].iter().all(|byte| *byte == 2)
    );
    assert!(
        buf[2 * page - 1..].iter().all(|byte| *byte == 0),
        "reserved memory reads as zeros"
    );
}

#[test]
fn writes_private_memory_that_is_not_writable_and_leaves_the_file_alone() {
    for prot in [Prot::empty(), Prot::READ, RW] {
        let room = reserve(2);
        let layer = layer(2);
        room.map(room.range(), Source::Private(&layer, 0), prot)
            .unwrap();
        let mem = ProcMem::open().unwrap();
        let middle = room.range().start() + page_size() - 1;
        mem.write(&room, middle, &[8, 9]).unwrap();
        let mut buf = [0; 4];
        mem.read(&room, middle - 1, &mut buf).unwrap();
        assert_eq!(buf, [1, 8, 9, 2]);
        layer.read_at(&mut buf, bytes(1) - 2).unwrap();
        assert_eq!(buf, [1, 1, 2, 2]);
    }
}

#[test]
fn does_not_write_shared_memory_that_is_not_writable() {
    let room = reserve(1);
    let memfd = numbered(1);
    room.map(room.range(), Source::Shared(&memfd, 0), Prot::READ)
        .unwrap();
    let mem = ProcMem::open().unwrap();
    let error = mem.write(&room, room.range().start(), &[9]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    room.protect(room.range(), RW).unwrap();
    mem.write(&room, room.range().start(), &[9]).unwrap();
    assert_eq!(volatile(room.range()).load_u8(0), 9);
}

#[test]
fn fails_where_there_is_no_memory() {
    let room = reserve(2);
    let layer = layer(1);
    room.map(room.range(), Source::Private(&layer, 0), RW)
        .unwrap();
    let mem = ProcMem::open().unwrap();
    let beyond = room.range().start() + page_size();
    assert_eq!(
        mem.read(&room, beyond, &mut [0])
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EIO)
    );
    assert_eq!(
        mem.write(&room, beyond, &[0]).unwrap_err().raw_os_error(),
        Some(libc::EIO)
    );
    let to = MemFd::create("test", bytes(2)).unwrap();
    assert_eq!(
        mem.copy_out(&room, room.range(), &to, 0)
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EIO)
    );
}

#[test]
fn refuses_what_is_not_inside() {
    let room = reserve(1);
    let mem = ProcMem::open().unwrap();
    let (start, end) = (room.range().start(), room.range().end());
    for (addr, len) in [
        (start - 1, 1),
        (end, 1),
        (end - 1, 2),
        (usize::MAX, 1),
        (0, 1),
    ] {
        assert_eq!(
            mem.read(&room, addr, &mut vec![0; len]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            mem.write(&room, addr, &vec![0; len]).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    let (other, to) = (reserve(1), MemFd::create("test", bytes(1)).unwrap());
    assert_eq!(
        mem.copy_out(&room, other.range(), &to, 0)
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        mem.copy_out(&room, room.range(), &to, 1)
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidInput
    );
    mem.read(&room, end, &mut []).unwrap();
}

#[test]
fn copy_out_copies_readable_and_unreadable_pages() {
    const PAGES: usize = 40;
    let room = reserve(PAGES);
    let layer = layer(PAGES);
    room.map(room.range(), Source::Private(&layer, 0), RW)
        .unwrap();
    let memory = volatile(room.range());
    memory.store_u8(5 * page_size() + 5, 99);
    memory.store_u8(20 * page_size() + 5, 99);
    // A long run of the one kind, short ones, and the last page.
    for (first, count) in [(1, 1), (4, 2), (10, 15), (39, 1)] {
        room.protect(pages(&room, first, count), Prot::empty())
            .unwrap();
    }
    let mem = ProcMem::open().unwrap();
    let to = MemFd::create("test", bytes(PAGES + 2)).unwrap();
    mem.copy_out(&room, room.range(), &to, bytes(1)).unwrap();

    let mut got = vec![0; PAGES * page_size()];
    to.read_at(&mut got, bytes(1)).unwrap();
    let mut expected = vec![0; PAGES * page_size()];
    layer.read_at(&mut expected, 0).unwrap();
    expected[5 * page_size() + 5] = 99;
    expected[20 * page_size() + 5] = 99;
    assert!(got == expected);
    assert_eq!(
        data(|f| to.data(0..u64::MAX, f)),
        [(1, PAGES as u64 + 1)],
        "and nothing beside it"
    );
}

#[test]
fn a_forked_copy_is_refused() {
    let room = reserve(1);
    let (mem, to) = (
        ProcMem::open().unwrap(),
        MemFd::create("test", bytes(1)).unwrap(),
    );
    room.map(room.range(), Source::Anonymous, RW).unwrap();
    let start = room.range().start();
    let code = in_fork(|| {
        let refused = |result: std::io::Result<()>| {
            result.is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
        };
        let all = refused(mem.read(&room, start, &mut [0]))
            && refused(mem.write(&room, start, &[9]))
            && refused(mem.copy_out(&room, room.range(), &to, 0));
        i32::from(all)
    });
    assert_eq!(code, 1);
    assert_eq!(volatile(room.range()).load_u8(0), 0);
}

/// The same where the kernel refuses to pass over permissions.
#[test]
fn permissions_are_given_for_a_moment_where_they_must_be() {
    const AGAIN: &str = "permissions_are_given_for_a_moment_where_they_must_be";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--skip", AGAIN])
        .env("COWSPACE_DISABLE", "force")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// What the kernel says of each page: `r` or `-`, `w` or `-`.
fn permissions(room: &Reservation) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let of = |addr: usize| {
        let line = maps.lines().find(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(start)..number(end)).contains(&addr)
        });
        line.unwrap().split(' ').nth(1).unwrap()[..2].to_owned()
    };
    (0..room.range().pages())
        .map(|page| of(room.range().start() + page * page_size()))
        .collect()
}

#[test]
fn no_access_changes_a_permission() {
    let room = reserve(6);
    let layer = layer(6);
    room.map(room.range(), Source::Private(&layer, 0), RW)
        .unwrap();
    room.protect(pages(&room, 1, 1), Prot::empty()).unwrap();
    room.protect(pages(&room, 3, 2), Prot::READ).unwrap();
    let before = permissions(&room);
    assert_eq!(before, ["rw", "--", "rw", "r-", "r-", "rw"]);
    let mem = ProcMem::open().unwrap();
    // From the middle of a page to the middle of another.
    let (start, len) = (page_size() / 2, 5 * page_size());
    let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    mem.write(&room, room.range().start() + start, &bytes)
        .unwrap();
    let mut read = vec![0; len];
    mem.read(&room, room.range().start() + start, &mut read)
        .unwrap();
    assert!(read == bytes);
    assert_eq!(permissions(&room), before);
}
