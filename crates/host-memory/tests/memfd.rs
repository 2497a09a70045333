//! What the kernel does with memfds and sealed layers.

mod util;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use host_memory::memfd::{AdoptError, Layer, MemFd, SealError, maps_writable};
use host_memory::page::{Prot, page_size};
use host_memory::reserve::Source;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, FdFlag, SealFlag, fallocate, fcntl};
use util::{bytes, data, layer, numbered, pages, reserve, volatile};

fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    result
        .err()
        .and_then(|error| error.raw_os_error())
        .map(Errno::from_raw)
}

#[test]
fn is_closed_on_exec_and_named() {
    let memfd = MemFd::create("the-name", 0).unwrap();
    let flags = fcntl(memfd.as_fd(), FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    let link = std::fs::read_link(format!("/proc/self/fd/{}", memfd.as_fd().as_raw_fd())).unwrap();
    assert!(link.to_str().unwrap().contains("the-name"), "{link:?}");
    assert_eq!(errno(MemFd::create("with\0zero", 0)), Some(Errno::EINVAL));
}

#[test]
fn can_be_mapped_executable() {
    let room = reserve(1);
    let layer = layer(1);
    room.map(
        room.range(),
        Source::Private(&layer, 0),
        Prot::READ | Prot::EXEC,
    )
    .unwrap();
}

#[test]
fn holes_read_as_zeros_and_stay_holes() {
    let memfd = MemFd::create("test", bytes(3)).unwrap();
    let mut buf = vec![7; 3 * page_size()];
    memfd.read_at(&mut buf, 0).unwrap();
    assert!(buf.iter().all(|byte| *byte == 0));
    assert_eq!(data(|f| memfd.data(0..u64::MAX, f)), []);
    assert!(!memfd.is_present(bytes(1)).unwrap());

    let sealed = memfd.seal().unwrap();
    sealed.read_at(&mut buf, 0).unwrap();
    assert_eq!(data(|f| sealed.data(0..u64::MAX, f)), []);
}

#[test]
fn reads_and_writes_are_exact_and_keep_the_length() {
    let memfd = MemFd::create("test", 10).unwrap();
    memfd.write_at(b"0123456789", 0).unwrap();
    assert_eq!(
        memfd.write_at(b"xx", 9).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        memfd.write_at(b"xx", u64::MAX).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(memfd.len(), 10);
    let mut buf = [0; 4];
    assert_eq!(
        memfd.read_at(&mut buf, 7).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    memfd.read_at(&mut buf, 6).unwrap();
    assert_eq!(&buf, b"6789");
}

#[test]
fn set_len_cuts_and_adds_holes() {
    let memfd = numbered(2);
    memfd.set_len(bytes(1)).unwrap();
    memfd.set_len(bytes(3)).unwrap();
    assert_eq!(memfd.len(), bytes(3));
    assert_eq!(data(|f| memfd.data(0..u64::MAX, f)), [(0, 1)]);
}

#[test]
fn set_len_takes_private_pages_away_too() {
    let room = reserve(2);
    let memfd = numbered(2);
    room.map(
        room.range(),
        Source::PrivateUnsealed(&memfd, 0),
        Prot::READ | Prot::WRITE,
    )
    .unwrap();
    let memory = volatile(room.range());
    memory.store_u8(page_size(), 99);
    memfd.set_len(bytes(1)).unwrap();
    memfd.set_len(bytes(2)).unwrap();
    assert_eq!(
        memory.load_u8(page_size()),
        0,
        "the private page is gone, the new hole shows"
    );
    assert_eq!(memory.load_u8(0), 1);
}

#[test]
fn punch_frees_pages_and_zeroes_parts() {
    let room = reserve(6);
    let memfd = numbered(3);
    let (shared, private) = (pages(&room, 0, 3), pages(&room, 3, 3));
    room.map(shared, Source::Shared(&memfd, 0), Prot::READ)
        .unwrap();
    room.map(
        private,
        Source::PrivateUnsealed(&memfd, 0),
        Prot::READ | Prot::WRITE,
    )
    .unwrap();
    let (shared, private) = (volatile(shared), volatile(private));
    private.store_u8(page_size(), 99);

    memfd.punch(bytes(1)..bytes(2)).unwrap();
    assert_eq!(data(|f| memfd.data(0..u64::MAX, f)), [(0, 1), (2, 3)]);
    assert_eq!(private.load_u8(page_size()), 99, "a private page stays");
    assert_eq!(private.load_u8(page_size() + 1), 2);
    assert_eq!(shared.load_u8(page_size()), 0);

    memfd.punch(0..1).unwrap();
    assert_eq!((shared.load_u8(0), shared.load_u8(1)), (0, 1));
    memfd.punch(5..5).unwrap();
    assert_eq!(
        memfd.punch(0..bytes(3) + 1).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    let reversed = 2..1;
    assert_eq!(
        memfd.punch(reversed).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn allocate_gives_memory_and_keeps_bytes() {
    // More than one step of it.
    let many = (6 << 20) / page_size();
    let memfd = MemFd::create("test", bytes(many)).unwrap();
    memfd.write_at(&[9], bytes(1)).unwrap();
    memfd.allocate(0..bytes(many)).unwrap();
    let stat = nix::sys::stat::fstat(memfd.as_fd()).unwrap();
    assert_eq!(stat.st_blocks as u64 * 512, bytes(many));
    let mut buf = vec![1; 3 * page_size()];
    memfd.read_at(&mut buf, 0).unwrap();
    assert_eq!(
        buf.iter().filter(|byte| **byte != 0).collect::<Vec<_>>(),
        [&9]
    );
    assert_eq!(data(|f| memfd.data(0..u64::MAX, f)), [(0, many as u64)]);
    let page = page_size() as u64;
    memfd.punch(0..bytes(3)).unwrap();
    memfd.allocate(page + 1..page + 2).unwrap();
    memfd.allocate(5..5).unwrap();
    assert_eq!(data(|f| memfd.data(0..bytes(3), f)), [(1, 2)]);
    assert_eq!(
        memfd.allocate(0..bytes(many) + 1).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(memfd.len(), bytes(many));
}

#[test]
fn data_is_clipped_and_page_aligned() {
    let memfd = numbered(4);
    memfd.punch(bytes(1)..bytes(2)).unwrap();
    assert_eq!(data(|f| memfd.data(0..u64::MAX, f)), [(0, 1), (2, 4)]);
    assert_eq!(data(|f| memfd.data(bytes(1)..bytes(3), f)), [(2, 3)]);
    assert_eq!(data(|f| memfd.data(bytes(1)..bytes(2), f)), []);
    assert_eq!(
        data(|f| memfd.data(bytes(3) + 1..bytes(3) + 2, f)),
        [(3, 4)]
    );
    assert_eq!(data(|f| memfd.data(bytes(9)..bytes(10), f)), []);
    assert!(memfd.is_present(bytes(2)).unwrap() && memfd.is_present(bytes(3) - 1).unwrap());
    assert!(!memfd.is_present(bytes(1)).unwrap() && !memfd.is_present(bytes(4)).unwrap());
    // The end need not be aligned.
    memfd.set_len(bytes(3) + 1).unwrap();
    assert_eq!(data(|f| memfd.data(0..u64::MAX, f)), [(0, 1), (2, 4)]);
}

#[test]
fn seals_under_a_private_mapping_which_goes_on_being_written() {
    let room = reserve(2);
    let memfd = numbered(2);
    room.map(
        room.range(),
        Source::PrivateUnsealed(&memfd, 0),
        Prot::READ | Prot::WRITE,
    )
    .unwrap();
    let memory = volatile(room.range());
    memory.store_u8(0, 99);
    let layer = memfd.seal().unwrap();
    memory.store_u8(page_size(), 99);
    assert_eq!((memory.load_u8(0), memory.load_u8(page_size())), (99, 99));
    let mut byte = [0];
    for i in 0..2 {
        layer.read_at(&mut byte, bytes(i)).unwrap();
        assert_eq!(byte, [i as u8 + 1], "the file has the old bytes");
    }
}

#[test]
fn does_not_seal_under_a_shared_mapping_even_a_read_only_one() {
    for prot in [Prot::READ, Prot::READ | Prot::WRITE] {
        let room = reserve(1);
        let memfd = numbered(1);
        room.map(room.range(), Source::Shared(&memfd, 0), prot)
            .unwrap();
        let (memfd, error) = memfd.seal().unwrap_err();
        assert!(matches!(error, SealError::Busy), "{error}");
        // Nothing has changed: it can still be written, resized, and sealed later.
        memfd.write_at(&[5], 0).unwrap();
        memfd.set_len(bytes(2)).unwrap();
        assert_eq!(volatile(room.range()).load_u8(0), 5);
        room.release(room.range()).unwrap();
        memfd.seal().unwrap();
    }
}

#[test]
fn sealed_nobody_changes_it() {
    let open = MemFd::create("test", bytes(1)).unwrap();
    assert!(
        maps_writable(open.as_fd()),
        "what is not sealed can be mapped"
    );
    let layer = layer(2);
    let again = format!("/proc/self/fd/{}", layer.as_fd().as_raw_fd());
    let reopened = OpenOptions::new()
        .read(true)
        .write(true)
        .open(again)
        .unwrap();
    let own = File::from(layer.as_fd().try_clone_to_owned().unwrap());
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    for mut file in [own, reopened] {
        assert_eq!(errno(file.write_at(&[0], 0)), Some(Errno::EPERM));
        assert_eq!(errno(file.write(&[0])), Some(Errno::EPERM));
        assert_eq!(errno(file.set_len(0)), Some(Errno::EPERM));
        assert_eq!(errno(file.set_len(bytes(3))), Some(Errno::EPERM));
        assert_eq!(
            fallocate(&file, punch, 0, bytes(1) as i64),
            Err(Errno::EPERM)
        );
        assert_eq!(
            fallocate(&file, FallocateFlags::empty(), 0, bytes(3) as i64),
            Err(Errno::EPERM)
        );
        assert_eq!(
            fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::empty())),
            Err(Errno::EPERM)
        );
        assert!(!maps_writable(file.as_fd()));
    }
    // Nor through the alias, whatever its protection says.
    let alias = layer.page(0).unwrap().addr();
    let memory = OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")
        .unwrap();
    assert_eq!(errno(memory.write_at(&[0], alias as u64)), Some(Errno::EIO));
    let pointer = std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(alias)).unwrap();
    let writable = nix::sys::mman::ProtFlags::PROT_WRITE;
    // SAFETY: a mapping in which no object lies; it must be refused.
    let protected = unsafe { nix::sys::mman::mprotect(pointer, page_size(), writable) };
    assert_eq!(protected, Err(Errno::EACCES));

    let mut buf = vec![0; 2 * page_size()];
    layer.read_at(&mut buf, 0).unwrap();
    assert!(
        buf[..page_size()].iter().all(|byte| *byte == 1)
            && buf[page_size()..].iter().all(|byte| *byte == 2)
    );
    assert_eq!(layer.len(), bytes(2));
}

#[test]
fn the_alias_shows_the_layers_bytes() {
    let layer = layer(2);
    let memory = File::open("/proc/self/mem").unwrap();
    let mut byte = [0];
    for i in 0..2 {
        let page = layer.page(bytes(i) + 5).unwrap();
        assert_eq!(page.addr() % page_size(), 0);
        memory.read_exact_at(&mut byte, page.addr() as u64).unwrap();
        assert_eq!(byte, [i as u8 + 1]);
    }
    assert!(layer.page(bytes(2)).is_none() && layer.page(u64::MAX).is_none());
    let line = util::maps_line(layer.page(0).unwrap().addr()).unwrap();
    assert!(line.contains(" r--s "), "{line}");
}

#[test]
fn an_empty_layer_has_no_page() {
    assert!(
        MemFd::create("test", 0)
            .unwrap()
            .seal()
            .unwrap()
            .page(0)
            .is_none()
    );
}

#[test]
fn dropping_a_layer_unmaps_its_alias() {
    let layer = layer(1);
    let id = util::maps_id(&layer);
    assert!(layer.page(0).is_some());
    assert!(util::maps_have(&id));
    drop(layer);
    assert!(!util::maps_have(&id));
}

#[test]
fn adopts_only_what_nobody_can_change() {
    let sealed_with = |seals: SealFlag| -> OwnedFd {
        let memfd = numbered(1);
        fcntl(memfd.as_fd(), FcntlArg::F_ADD_SEALS(seals)).unwrap();
        memfd.into()
    };
    let (write, grow, shrink) = (
        SealFlag::F_SEAL_WRITE,
        SealFlag::F_SEAL_GROW,
        SealFlag::F_SEAL_SHRINK,
    );
    for too_few in [
        SealFlag::empty(),
        write | grow,
        write | shrink,
        grow | shrink,
    ] {
        assert!(
            matches!(
                Layer::adopt(sealed_with(too_few)),
                Err(AdoptError::NotSealed)
            ),
            "{too_few:?}"
        );
    }
    assert_eq!(
        Layer::adopt(sealed_with(write | grow | shrink))
            .unwrap()
            .len(),
        bytes(1)
    );

    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"x").unwrap();
    assert!(matches!(
        Layer::adopt(file.into()),
        Err(AdoptError::NotMemFd | AdoptError::NotSealed)
    ));
    let proc = File::open("/proc/self/status").unwrap();
    assert!(matches!(
        Layer::adopt(proc.into()),
        Err(AdoptError::NotMemFd)
    ));
    let (pipe, _other) = nix::unistd::pipe().unwrap();
    assert!(matches!(Layer::adopt(pipe), Err(AdoptError::NotMemFd)));
}

#[test]
fn adopts_reopened_descriptors_that_can_read() {
    let layer = layer(1);
    let again = format!("/proc/self/fd/{}", layer.as_fd().as_raw_fd());
    let adopted = Layer::adopt(File::open(&again).unwrap().into()).unwrap();
    assert_eq!((adopted.id(), adopted.len()), (layer.id(), layer.len()));
    assert_ne!(adopted.id(), util::layer(1).id());
    let mut byte = [0];
    adopted.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [1]);
    assert!(adopted.page(0).is_some());

    let write_only = OpenOptions::new().write(true).open(&again).unwrap();
    assert!(matches!(
        Layer::adopt(write_only.into()),
        Err(AdoptError::NotReadable)
    ));
    let path_only = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(&again)
        .unwrap();
    assert!(matches!(
        Layer::adopt(path_only.into()),
        Err(AdoptError::NotMemFd)
    ));
}

/// Few pages are looked at one by one, many by the ends of their runs.
#[test]
fn both_ways_to_find_data_agree() {
    let many = 600;
    let memfd = MemFd::create("data", bytes(many)).unwrap();
    let present: Vec<usize> = (0..many).filter(|at| at % 7 < 3 || at % 100 > 80).collect();
    for &at in &present {
        memfd.write_at(&[1], bytes(at)).unwrap();
    }
    for (first, end) in [
        (0, many),
        (0, 200),
        (5, 206),
        (399, many),
        (550, 551),
        (3, 4),
    ] {
        let mut found = Vec::new();
        memfd
            .data(bytes(first)..bytes(end), |run| {
                found.extend((run.start / bytes(1)..run.end / bytes(1)).map(|at| at as usize));
            })
            .unwrap();
        let expected = present.iter().filter(|at| (first..end).contains(at));
        assert_eq!(found, expected.copied().collect::<Vec<_>>());
    }
}
