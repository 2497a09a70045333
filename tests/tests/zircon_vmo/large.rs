//! VMOs of up to 2^64 - 64 pages: what is true of the first pages is true of all. One file of the kernel's ends below
//! 2^63 bytes, and the engine's end at multiples of 2^62, so most of this happens on both sides of such an end.

use std::os::fd::OwnedFd;

use cowspace::image::Image;

use super::*;

/// Pages on each side of an end.
const HALF: usize = 4;

/// The largest size.
fn largest() -> u64 {
    below_2_64(64)
}

/// The ends of files, and as the last one the place from which on the largest VMO has as many pages.
fn ends() -> [u64; 4] {
    let last = largest() - bytes(2 * HALF);
    [1 << 62, 1 << 63, 3 << 62, last + bytes(HALF)]
}

/// Single pages: the first, the last, and those beside the ends of files.
fn places() -> [u64; 7] {
    let page = bytes(1);
    let middle = 1 << 63;
    [
        0,
        (1 << 62) - page,
        1 << 62,
        middle - page,
        middle,
        3 << 62,
        below_2_64(65),
    ]
}

fn largest_vmo() -> Vmo {
    Vmo::create(largest()).expect("2^64 - 64 pages is a size")
}

/// What `pages` pages begin with, from a byte offset on.
fn firsts_at(vmo: &Vmo, offset: u64, pages: usize) -> Vec<u8> {
    let mut all = vec![0xEE; pages * page()];
    vmo.read(&mut all, offset).expect("inside");
    all.iter().step_by(page()).copied().collect()
}

/// One byte for each page on both sides of `end`: 1, 2, 3 and so on.
fn number_pages(vmo: &Vmo, end: u64) {
    for at in 0..2 * HALF {
        let offset = end - bytes(HALF) + bytes(at);
        vmo.write(&[at as u8 + 1], offset).expect("inside");
    }
}

const NUMBERED: [u8; 2 * HALF] = [1, 2, 3, 4, 5, 6, 7, 8];

fn map_at(region: &Region, at: usize, vmo: &Vmo, offset: u64, pages: usize, policy: Policy) {
    region
        .vmar
        .map_with_policy(
            at * page(),
            vmo,
            offset,
            pages * page(),
            RW | VmarFlags::SPECIFIC,
            policy,
        )
        .expect("every page of a VMO can be mapped");
}

fn loads(region: &Region, at: usize, pages: usize) -> Vec<u8> {
    (at..at + pages)
        .map(|at| memory(region.at(at), 1).load_u8(0))
        .collect()
}

#[test]
fn every_byte_can_be_written() {
    let vmo = largest_vmo();
    for (count, place) in (1..).zip(places()) {
        let data = [count as u8; 3];
        vmo.write(&data, place + 5).expect("inside");
        let mut read = [0xEE; 5];
        vmo.read(&mut read, place + 4).expect("inside");
        assert_eq!(read, [0, data[0], data[0], data[0], 0], "{place:#x}");
        assert_eq!(populated(&vmo), bytes(count));
    }
    for (count, place) in (1..).zip(places()) {
        let mut read = [0xEE];
        vmo.read(&mut read, place + 5).expect("inside");
        assert_eq!(read, [count as u8], "{place:#x}");
    }
    let last = largest() - 1;
    vmo.write(&[9], last).expect("the last byte");
    assert_eq!(vmo.write(&[9, 9], last), Err(Status::OUT_OF_RANGE));
    let mut read = [0xEE; 2];
    assert_eq!(vmo.read(&mut read, last), Err(Status::OUT_OF_RANGE));
}

#[test]
fn reads_and_writes_pass_the_ends_of_files() {
    for end in ends() {
        let vmo = largest_vmo();
        let written: Vec<u8> = (0..2 * HALF * page() - 2)
            .map(|at| (at % 251) as u8)
            .collect();
        let start = end - bytes(HALF) + 1;
        vmo.write(&written, start).expect("inside");
        let mut read = vec![0xEE; written.len() + 2];
        vmo.read(&mut read, start - 1).expect("inside");
        assert_eq!((read[0], read.pop()), (0, Some(0)), "{end:#x}");
        assert!(read[1..] == written, "{end:#x}");
        assert_eq!(populated(&vmo), bytes(2 * HALF));
    }
}

#[test]
fn pages_everywhere_can_be_committed_zeroed_and_decommitted() {
    for end in ends() {
        let vmo = largest_vmo();
        let around = (end - bytes(2), bytes(4));
        vmo.op_range(COMMIT, around.0, around.1).expect("inside");
        assert_eq!(populated(&vmo), bytes(4), "{end:#x}");
        vmo.op_range(DECOMMIT, around.0 + bytes(1), bytes(2))
            .expect("inside");
        assert_eq!(populated(&vmo), bytes(2), "{end:#x}");

        number_pages(&vmo, end);
        // From the middle of the third page to the middle of the sixth.
        let half = page() as u64 / 2;
        vmo.op_range(ZERO, end - bytes(2) + half, bytes(3))
            .expect("inside");
        assert_eq!(
            firsts_at(&vmo, end - bytes(HALF), 2 * HALF),
            [1, 2, 3, 0, 0, 0, 7, 8],
            "{end:#x}"
        );
        // The sixth lost its first half alone, and is still a page.
        assert_eq!(populated(&vmo), bytes(6), "{end:#x}");
        vmo.op_range(ZERO, 0, largest()).expect("all of it");
        assert_eq!(populated(&vmo), 0, "{end:#x}");
    }
    let vmo = largest_vmo();
    let past = vmo.op_range(COMMIT, largest() - bytes(1), bytes(2));
    assert_eq!(past, Err(Status::OUT_OF_RANGE));
}

#[test]
fn a_size_can_pass_the_ends_of_files() {
    for end in ends() {
        let vmo = resizable(1);
        put(&vmo, 0, 9);
        let start = end - bytes(HALF);
        vmo.set_size(end + bytes(HALF)).expect("a size");
        number_pages(&vmo, end);
        vmo.set_size(end - bytes(1)).expect("smaller");
        vmo.set_size(end + bytes(HALF)).expect("larger");
        assert_eq!(
            firsts_at(&vmo, start, 2 * HALF),
            [1, 2, 3, 0, 0, 0, 0, 0],
            "{end:#x}"
        );
        number_pages(&vmo, end);
        vmo.set_size(end + bytes(1)).expect("smaller");
        vmo.set_size(end + bytes(2)).expect("larger");
        assert_eq!(firsts_at(&vmo, start, HALF + 2), [1, 2, 3, 4, 5, 0]);
        assert_eq!(populated(&vmo), bytes(6), "{end:#x}");
        vmo.set_size(bytes(1)).expect("smaller");
        assert_eq!((get(&vmo, 0), populated(&vmo)), (9, bytes(1)));
        vmo.set_size(largest()).expect("the largest size");
        assert_eq!(firsts_at(&vmo, start, 2 * HALF), [0; 2 * HALF]);
    }
}

#[test]
fn a_mapping_follows_the_size_past_the_ends_of_files() {
    for policy in POLICIES {
        for end in ends() {
            let vmo = resizable(1);
            vmo.set_size(end - bytes(1)).expect("a size");
            let region = Region::new(2 * HALF);
            map_at(&region, 0, &vmo, end - bytes(HALF), 2 * HALF, policy);
            memory(region.at(0), 1).store_u8(0, 1);
            assert!(can_read(region.at(HALF - 2)));
            assert!(!can_read(region.at(HALF - 1)) && !can_read(region.at(HALF)));
            vmo.set_size(end + bytes(2)).expect("larger");
            memory(region.at(HALF + 1), 1).store_u8(0, 2);
            assert!(!can_read(region.at(HALF + 2)));
            let mut read = [0];
            vmo.read(&mut read, end + bytes(1)).expect("inside");
            assert_eq!((read, loads(&region, 0, 1)), ([2], vec![1]));
            vmo.set_size(end + bytes(1)).expect("smaller");
            assert!(!can_read(region.at(HALF + 1)), "{policy:?} {end:#x}");
            assert_eq!(populated(&vmo), bytes(1));
        }
    }
}

#[test]
fn clones_show_any_window() {
    for end in ends() {
        let vmo = largest_vmo();
        number_pages(&vmo, end);
        let start = end - bytes(HALF);
        let all = vmo
            .create_child(VmoChildOptions::SNAPSHOT, 0, largest())
            .expect("a snapshot of all");
        let part = vmo
            .create_child(VmoChildOptions::SNAPSHOT, start, bytes(2 * HALF))
            .expect("a snapshot of a part");
        let later = all
            .create_child(VmoChildOptions::SNAPSHOT, bytes(3), start)
            .expect("a snapshot of a snapshot");
        vmo.write(&[0xFF; 2], end - 1).expect("inside");
        part.write(&[0xEE; 2], bytes(HALF + 1) - 1).expect("inside");
        let expected = [1, 2, 3, 4, 0xFF, 6, 7, 8];
        assert_eq!(firsts_at(&vmo, start, 2 * HALF), expected);
        let expected = [1, 2, 3, 4, 5, 0xEE, 7, 8];
        assert_eq!(firsts(&part, 2 * HALF), expected);
        assert_eq!(firsts_at(&all, start, 2 * HALF), NUMBERED);
        // What is three pages further on in the other.
        assert_eq!(firsts_at(&later, start - bytes(3), 3), NUMBERED[..3]);

        let count = |vmo: &Vmo| {
            let info = vmo.info().expect("a VMO has info");
            (info.populated_bytes, info.populated_private_bytes)
        };
        assert_eq!(count(&vmo), (bytes(8), bytes(2)), "{end:#x}");
        assert_eq!(count(&part), (bytes(8), bytes(2)), "{end:#x}");
        // The fifth both others have changed.
        assert_eq!(count(&all), (bytes(8), bytes(1)), "{end:#x}");
        assert_eq!(count(&later), (bytes(3), 0), "{end:#x}");
        drop((vmo, all));
        assert_eq!(count(&later), (bytes(3), 0), "{end:#x}");
        drop(later);
        assert_eq!(count(&part), (bytes(8), bytes(8)), "{end:#x}");
        assert_eq!(firsts(&part, 2 * HALF), expected);
    }
}

#[test]
fn slices_and_references_show_any_page() {
    for end in ends() {
        let vmo = largest_vmo();
        number_pages(&vmo, end);
        let slice = vmo
            .create_child(VmoChildOptions::SLICE, end - bytes(1), bytes(3))
            .expect("a slice of any pages");
        assert_eq!(firsts(&slice, 3), NUMBERED[HALF - 1..HALF + 2]);
        let of_slice = slice
            .create_child(VmoChildOptions::SLICE, bytes(1), bytes(1))
            .expect("a slice of a slice");
        put(&of_slice, 0, 0xDD);
        let reference = vmo
            .create_child(VmoChildOptions::REFERENCE, 0, 0)
            .expect("a reference");
        reference.write(&[0xCC], end - bytes(1)).expect("inside");
        let expected = [1, 2, 3, 0xCC, 0xDD, 6, 7, 8];
        assert_eq!(firsts_at(&vmo, end - bytes(HALF), 2 * HALF), expected);
        assert_eq!(firsts(&slice, 2), [0xCC, 0xDD]);
        assert_eq!(populated(&vmo), bytes(2 * HALF));

        for policy in POLICIES {
            let region = Region::new(3);
            map_at(&region, 0, &slice, 0, 3, policy);
            assert_eq!(loads(&region, 0, 3), firsts(&slice, 3));
            memory(region.at(1), 1).store_u8(0, 0xDD);
        }
    }
}

#[test]
fn mappings_show_any_page() {
    for policy in POLICIES {
        for end in ends() {
            let vmo = largest_vmo();
            let start = end - bytes(HALF);
            let region = Region::new(4 * HALF);
            map_at(&region, 0, &vmo, start, 2 * HALF, policy);
            for (at, value) in NUMBERED.into_iter().enumerate() {
                memory(region.at(at), 1).store_u8(0, value);
            }
            assert_eq!(firsts_at(&vmo, start, 2 * HALF), NUMBERED);
            assert_eq!(populated(&vmo), bytes(2 * HALF), "{policy:?} {end:#x}");
            vmo.write(&[0x77], end).expect("inside");
            assert_eq!(loads(&region, HALF, 1), [0x77]);
            // A second one, the other way round, of the same pages.
            map_at(&region, 2 * HALF, &vmo, end, HALF, policy);
            memory(region.at(2 * HALF), 1).store_u8(0, 5);
            assert_eq!(loads(&region, 0, 2 * HALF), NUMBERED);

            region.protect(HALF - 1, 2, VmarFlags::PERM_READ);
            assert!(!can_write(region.at(HALF - 1)) && !can_write(region.at(HALF)));
            assert!(can_write(region.at(HALF - 2)) && can_write(region.at(HALF + 1)));
            region.unmap(HALF - 1, 2);
            assert!(!can_read(region.at(HALF - 1)) && !can_read(region.at(HALF)));
            assert_eq!(loads(&region, HALF + 1, HALF - 1), NUMBERED[HALF + 1..]);
            assert_eq!(firsts_at(&vmo, start, 2 * HALF), NUMBERED);
        }
    }
}

#[test]
fn a_mapping_may_reach_over_the_last_page() {
    for policy in POLICIES {
        let vmo = largest_vmo();
        let region = Region::new(4);
        map_at(&region, 0, &vmo, largest() - bytes(1), 4, policy);
        memory(region.at(0), 1).store_u8(0, 7);
        assert!(!can_read(region.at(1)));
        assert_eq!(firsts_at(&vmo, largest() - bytes(1), 1), [7]);
    }
}

#[test]
fn mappings_of_any_page_are_cloned() {
    for policy in POLICIES {
        for end in ends() {
            let vmo = largest_vmo();
            number_pages(&vmo, end);
            let region = Region::new(6 * HALF);
            map_at(&region, 0, &vmo, end - bytes(HALF), 2 * HALF, policy);
            let clone = |at: usize| {
                let (addr, len) = (region.at(at), 2 * HALF * page());
                region
                    .vmar
                    .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, len)
                    .expect("a mapping can be cloned")
            };
            let first = clone(0);
            memory(region.at(HALF - 1), 1).store_u8(0, 0x44);
            memory(region.at(HALF), 1).store_u8(0, 0x55);
            let second = clone(0);
            memory(region.at(HALF), 1).store_u8(0, 0x66);
            assert_eq!(firsts(&first, 2 * HALF), NUMBERED, "{policy:?} {end:#x}");
            let expected = [1, 2, 3, 0x44, 0x55, 6, 7, 8];
            assert_eq!(firsts(&second, 2 * HALF), expected);

            // The clones, mapped: their pages lie in two files.
            for (at, child) in [(2 * HALF, &first), (4 * HALF, &second)] {
                map_at(&region, at, child, 0, 2 * HALF, policy);
            }
            memory(region.at(3 * HALF), 1).store_u8(0, 0x57);
            let third = clone(2 * HALF);
            assert_eq!(loads(&region, 4 * HALF, 2 * HALF), expected);
            assert_eq!(firsts(&third, 2 * HALF), [1, 2, 3, 4, 0x57, 6, 7, 8]);
            assert_eq!(loads(&region, 0, 2 * HALF), [1, 2, 3, 0x44, 0x66, 6, 7, 8]);
        }
    }
}

/// What is sent to another process is a table of files and pages in them.
#[test]
fn an_image_holds_pages_of_several_files() {
    for end in ends() {
        let vmo = largest_vmo();
        number_pages(&vmo, end);
        let start = end - bytes(HALF);
        let all = vmo
            .create_child(VmoChildOptions::SNAPSHOT, 0, largest())
            .expect("a snapshot of all");
        let part = vmo
            .create_child(VmoChildOptions::SNAPSHOT, start, bytes(2 * HALF))
            .expect("a snapshot of a part");
        let image = Image::capture(&[&all, &part]).expect("nobody has written to them");
        let layers: Vec<OwnedFd> = image
            .layers()
            .iter()
            .map(|layer| layer.try_clone_to_owned().expect("a descriptor"))
            .collect();
        let built = Image::build(image.records().to_vec(), layers).expect("an image of ours");
        drop((vmo, all, part, image));
        let [all, part] = &built[..] else {
            panic!("two VMOs are captured");
        };
        assert_eq!(all.get_size(), Ok(largest()));
        assert_eq!(firsts_at(all, start, 2 * HALF), NUMBERED, "{end:#x}");
        assert_eq!(firsts(part, 2 * HALF), NUMBERED, "{end:#x}");
        for policy in POLICIES {
            let region = Region::new(2 * HALF);
            map_at(&region, 0, all, start, 2 * HALF, policy);
            assert_eq!(loads(&region, 0, 2 * HALF), NUMBERED, "{end:#x}");
        }
    }
}
