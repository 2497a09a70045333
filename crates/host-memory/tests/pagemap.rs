//! What the kernel says of pages, by each way of asking it.

mod util;

use host_memory::memfd::MemFd;
use host_memory::page::{HostRange, Prot, page_size};
use host_memory::pagemap::{Method, PageFlags, Pagemap};
use host_memory::reserve::{Reservation, Source};
use host_memory::uffd::{Features, Modes, Protect, Uffd, Wake};
use util::{bytes, in_fork, layer, pages, reserve, volatile};

const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Each way that this kernel has.
fn methods(test: &str) -> Vec<Pagemap> {
    let mut all = vec![Pagemap::open_as(Method::Entries).unwrap()];
    let best = Pagemap::open().unwrap();
    if best.method() == Method::Scan {
        all.push(best);
    } else {
        println!("SKIP {test} by ioctl: PAGEMAP_SCAN");
    }
    all
}

/// As [`scan_registered`] of memory that is not registered for write protection: what is said of that is left out, for it means nothing.
fn scan(
    pagemap: &Pagemap,
    room: &Reservation,
    any_of: PageFlags,
) -> Vec<(usize, usize, PageFlags)> {
    let told = scan_registered(pagemap, room, any_of);
    let meant = |flags| flags - PageFlags::WRITE_PROTECTED;
    told.into_iter()
        .map(|(first, count, flags)| (first, count, meant(flags)))
        .collect()
}

/// First page, count of pages, flags of each run; pieces of one run are joined.
fn scan_registered(
    pagemap: &Pagemap,
    room: &Reservation,
    any_of: PageFlags,
) -> Vec<(usize, usize, PageFlags)> {
    let mut runs: Vec<(usize, usize, PageFlags)> = Vec::new();
    pagemap
        .scan(room.range(), any_of, |run, flags| {
            assert!(!run.is_empty() && room.range().contains_range(run));
            let first = (run.start() - room.range().start()) / page_size();
            match runs.last_mut() {
                Some((start, count, last)) if *start + *count == first && *last == flags => {
                    *count += run.pages()
                }
                Some((start, count, _)) => {
                    assert!(*start + *count <= first, "in ascending order");
                    runs.push((first, run.pages(), flags));
                }
                None => runs.push((first, run.pages(), flags)),
            }
        })
        .unwrap();
    runs
}

/// A userfaultfd that can write-protect the pages of memfds.
fn protecting(test: &str) -> Option<Uffd> {
    let uffd = Uffd::open().ok();
    let uffd = uffd.filter(|uffd| uffd.features().contains(Features::WP_SHMEM));
    if uffd.is_none() {
        println!("SKIP {test}: userfaultfd write protection of memfds");
    }
    uffd
}

#[test]
fn the_kernels_way_is_taken_where_it_is_there() {
    let pagemap = Pagemap::open().unwrap();
    let by_force = Pagemap::open_as(Method::Scan).unwrap();
    let room = reserve(1);
    match by_force.scan(room.range(), PageFlags::all(), |_, _| {}) {
        Ok(()) => assert_eq!(pagemap.method(), Method::Scan),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
            assert_eq!(pagemap.method(), Method::Entries);
        }
    }
}

#[test]
fn private_pages_are_told_from_the_files() {
    for pagemap in methods("private_pages_are_told_from_the_files") {
        let room = reserve(8);
        let layer = layer(6);
        room.map(pages(&room, 0, 6), Source::Private(&layer, 0), RW)
            .unwrap();
        assert_eq!(
            scan(&pagemap, &room, PageFlags::all()),
            [],
            "nothing was touched"
        );
        let memory = volatile(room.range());
        memory.store_u8(page_size(), 9);
        memory.store_u8(2 * page_size(), 9);
        memory.store_u8(5 * page_size(), 9);
        let private = [(1, 2, PageFlags::PRIVATE), (5, 1, PageFlags::PRIVATE)];
        assert_eq!(scan(&pagemap, &room, PageFlags::PRIVATE), private);
        room.populate_read(pages(&room, 0, 6)).unwrap();
        assert_eq!(scan(&pagemap, &room, PageFlags::PRIVATE), private);
        let file = [(0, 1, PageFlags::FILE), (3, 2, PageFlags::FILE)];
        assert_eq!(scan(&pagemap, &room, PageFlags::FILE), file);
        let all = [file[0], private[0], file[1], private[1]];
        assert_eq!(scan(&pagemap, &room, PageFlags::all()), all);
        // Given back, the file's page is not there until it is touched.
        room.discard(pages(&room, 2, 1)).unwrap();
        assert_eq!(
            scan(&pagemap, &room, PageFlags::PRIVATE),
            [(1, 1, PageFlags::PRIVATE), private[1]]
        );
    }
}

#[test]
fn a_private_mapping_put_over_a_shared_one_starts_without_private_pages() {
    for pagemap in methods("a_private_mapping_put_over_a_shared_one_starts_without_private_pages") {
        let room = reserve(3);
        let memfd = MemFd::create("test", bytes(3)).unwrap();
        room.map(room.range(), Source::Shared(&memfd, 0), RW)
            .unwrap();
        let memory = volatile(room.range());
        (0..3).for_each(|i| memory.store_u8(i * page_size(), 1));
        assert_eq!(
            scan(&pagemap, &room, PageFlags::all()),
            [(0, 3, PageFlags::FILE)]
        );
        room.map(room.range(), Source::PrivateUnsealed(&memfd, 0), RW)
            .unwrap();
        memory.store_u8(page_size(), 2);
        assert_eq!(
            scan(&pagemap, &room, PageFlags::PRIVATE),
            [(1, 1, PageFlags::PRIVATE)]
        );
    }
}

/// More runs than fit into one answer of the kernel, more pages than are read at once, and pieces that end in the middle of a run.
#[test]
fn long_ranges_come_whole() {
    const PAGES: usize = 1500;
    for pagemap in methods("long_ranges_come_whole") {
        let room = reserve(PAGES);
        let layer = MemFd::create("test", bytes(PAGES)).unwrap().seal().unwrap();
        room.map(room.range(), Source::Private(&layer, 0), RW)
            .unwrap();
        let memory = volatile(room.range());
        let expected: Vec<_> = (0..PAGES)
            .filter(|page| page % 3 == 1 || (500..700).contains(page))
            .collect();
        expected
            .iter()
            .for_each(|page| memory.store_u8(page * page_size(), 1));
        let found = scan(&pagemap, &room, PageFlags::PRIVATE);
        assert!(
            found
                .iter()
                .all(|(_, _, flags)| *flags == PageFlags::PRIVATE)
        );
        let found: Vec<_> = found
            .iter()
            .flat_map(|(first, count, _)| *first..first + count)
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn the_zero_page_is_told_by_the_ioctl_alone() {
    for pagemap in methods("the_zero_page_is_told_by_the_ioctl_alone") {
        let room = reserve(3);
        room.map(room.range(), Source::Anonymous, RW).unwrap();
        let memory = volatile(room.range());
        assert_eq!(memory.load_u8(0), 0);
        memory.store_u8(page_size(), 0);
        let zero = match pagemap.method() {
            Method::Scan => PageFlags::ZERO,
            Method::Entries => PageFlags::PRIVATE,
        };
        let private = scan(&pagemap, &room, PageFlags::PRIVATE);
        let all = scan(&pagemap, &room, PageFlags::all());
        match pagemap.method() {
            Method::Scan => {
                assert_eq!(private, [(1, 1, PageFlags::PRIVATE)]);
                assert_eq!(all, [(0, 1, zero), (1, 1, PageFlags::PRIVATE)]);
            }
            Method::Entries => assert_eq!((&private, all), (&vec![(0, 2, zero)], private.clone())),
        }
    }
}

#[test]
fn write_protection_and_its_markers_show() {
    let test = "write_protection_and_its_markers_show";
    let Some(uffd) = protecting(test) else { return };
    let protected = PageFlags::WRITE_PROTECTED;
    let marker = PageFlags::PRIVATE | PageFlags::SWAPPED | protected;
    for pagemap in methods(test) {
        let room = reserve(4);
        let layer = layer(4);
        room.map(room.range(), Source::Private(&layer, 0), RW)
            .unwrap();
        let memory = volatile(room.range());
        memory.store_u8(0, 9);
        memory.store_u8(page_size(), 9);
        assert_eq!(memory.load_u8(2 * page_size()), 3);
        room.discard(pages(&room, 3, 1)).unwrap();
        uffd.register(&room, room.range(), Modes::WP).unwrap();
        uffd.write_protect(pages(&room, 1, 3), Protect::Write, Wake::DontWake)
            .unwrap();
        let before = [
            (0, 1, PageFlags::PRIVATE),
            (1, 1, PageFlags::PRIVATE | protected),
            (2, 1, PageFlags::FILE | protected),
            (3, 1, marker),
        ];
        assert_eq!(scan_registered(&pagemap, &room, PageFlags::all()), before);
        assert_eq!(scan_registered(&pagemap, &room, protected), before[1..]);
        // A protected page leaves a marker when it goes, one that is not does not.
        room.discard(pages(&room, 0, 2)).unwrap();
        assert_eq!(
            scan_registered(&pagemap, &room, PageFlags::PRIVATE),
            [(1, 1, marker), (3, 1, marker)]
        );
        uffd.write_protect(room.range(), Protect::None, Wake::DontWake)
            .unwrap();
        assert_eq!(
            scan_registered(&pagemap, &room, PageFlags::all()),
            [(2, 1, PageFlags::FILE)]
        );
        assert_eq!(memory.load_u8(page_size()), 2);
    }
}

/// First pages of the runs that a scan reports, all of one page here.
fn firsts(
    room: &Reservation,
    scan: impl FnOnce(&mut dyn FnMut(HostRange)) -> std::io::Result<()>,
) -> Vec<usize> {
    let mut firsts = Vec::new();
    scan(&mut |run| {
        assert_eq!(run.pages(), 1);
        firsts.push((run.start() - room.range().start()) / page_size());
    })
    .unwrap();
    firsts
}

#[test]
fn what_is_not_protected_is_found_without_looking_at_the_rest() {
    let test = "what_is_not_protected_is_found_without_looking_at_the_rest";
    let Some(uffd) = protecting(test) else { return };
    for pagemap in methods(test) {
        let room = reserve(5);
        let layer = layer(5);
        room.map(room.range(), Source::Private(&layer, 0), RW)
            .unwrap();
        let memory = volatile(room.range());
        // Private, private and protected, the file's and protected, the file's, never touched.
        memory.store_u8(0, 9);
        memory.store_u8(page_size(), 9);
        assert_eq!(memory.load_u8(2 * page_size()), 3);
        uffd.register(&room, room.range(), Modes::WP).unwrap();
        uffd.write_protect(pages(&room, 1, 2), Protect::Write, Wake::DontWake)
            .unwrap();
        room.discard(pages(&room, 3, 2)).unwrap();
        assert_eq!(memory.load_u8(3 * page_size()), 4);
        room.discard(pages(&room, 4, 1)).unwrap();
        assert_eq!(
            firsts(&room, |f| pagemap.scan_unprotected(room.range(), f)),
            [0, 3]
        );
        assert_eq!(
            firsts(&room, |f| pagemap.scan_private_unprotected(room.range(), f)),
            [0]
        );
    }
}

#[test]
fn nothing_is_mapped_means_nothing_is_said() {
    for pagemap in methods("nothing_is_mapped_means_nothing_is_said") {
        let room = reserve(4);
        room.map(pages(&room, 1, 1), Source::Anonymous, RW).unwrap();
        volatile(room.range()).store_u8(page_size(), 1);
        assert_eq!(
            scan(&pagemap, &room, PageFlags::all()),
            [(1, 1, PageFlags::PRIVATE)]
        );
        assert_eq!(scan(&pagemap, &room, PageFlags::empty()), []);
        pagemap
            .scan(pages(&room, 2, 0), PageFlags::all(), |_, _| {
                panic!("an empty range has no page")
            })
            .unwrap();
    }
}

#[test]
fn a_forked_copy_is_refused() {
    let (pagemap, room) = (Pagemap::open().unwrap(), reserve(1));
    let code = in_fork(|| {
        let result = pagemap.scan(room.range(), PageFlags::all(), |_, _| {});
        i32::from(result.is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH)))
    });
    assert_eq!(code, 1);
}
