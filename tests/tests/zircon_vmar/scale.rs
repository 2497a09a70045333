//! Many mappings, many handles, and very large ones.

use cowspace_tests::limits::has_descriptors;
use test_share::share;

use super::*;

/// How many mappings a program may count on. They are of one VMO, and of so many.
const MANY: usize = 20_000;
const VMOS: usize = 500;

/// How many areas the kernel has in some pages of the region.
fn areas(region: &Region, at: usize, pages: usize) -> usize {
    let (start, end) = (region.at(at), region.at(at + pages));
    let maps = std::fs::read_to_string("/proc/self/maps").expect("there is /proc");
    let inside = maps.lines().filter(|line| {
        let range = line.split(' ').next().unwrap_or_default();
        let (from, to) = range.split_once('-').expect("a line begins with a range");
        let address = |text| usize::from_str_radix(text, 16).expect("an address");
        address(from) < end && start < address(to)
    });
    inside.count()
}

fn num_mappings(vmo: &Vmo) -> usize {
    vmo.info().expect("a live VMO has info").num_mappings
}

/// Each spread mapping takes two areas of the kernel: itself and what is reserved beside it.
#[test]
fn twenty_thousand_mappings_and_five_thousand_handles() {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|limit| limit.trim().parse::<usize>().ok());
    if limit.is_none_or(|limit| limit < 3 * MANY) {
        println!("SKIP 20,000 mappings: vm.max_map_count is {limit:?}");
        return;
    }
    if !has_descriptors("20,000 mappings", 1024) {
        return;
    }
    let many = share((MANY / VMOS) as u32) as usize * VMOS;
    for policy in POLICIES {
        for vmos in [1, VMOS] {
            let each = many / vmos;
            let vmos: Vec<Vmo> = (0..vmos)
                .map(|_| Vmo::create(bytes(each)).expect("there is room"))
                .collect();
            let handles: Vec<Vmo> = (0..5_000)
                .map(|at| {
                    let vmo = &vmos[at % vmos.len()];
                    with_rights(vmo, Rights::SAME_RIGHTS)
                })
                .collect();
            let region = Region::new(2 * many);
            // Page `at / vmos` of VMO `at % vmos`, in an order that jumps.
            let order = (0..many).map(|at| at * 7_919 % many);
            for at in order.clone() {
                let vmo = &handles[at % vmos.len()];
                let offset = bytes(at / vmos.len());
                let flags = RW | SPECIFIC;
                let addr = region.vmar.map_with_policy(
                    2 * at * page(),
                    vmo,
                    offset,
                    page(),
                    flags,
                    policy,
                );
                assert_eq!(addr, Ok(region.at(2 * at)));
                memory(region.at(2 * at), 8).store_u64(0, at as u64);
            }
            assert_eq!(region.maps().len(), 1 + many);
            for (number, vmo) in vmos.iter().enumerate().take(3) {
                assert_eq!(num_mappings(vmo), each);
                let mut value = [0; 8];
                vmo.read(&mut value, bytes(each - 1)).expect("it is inside");
                let last = (each - 1) * vmos.len() + number;
                assert_eq!(u64::from_ne_bytes(value), last as u64);
            }
            region.protect(2 * 17, 1, READ);
            assert!(!can_write(region.at(2 * 17)) && can_write(region.at(2 * 18)));
            let options = VmoChildOptions::SNAPSHOT;
            let cloned = many / 4;
            let clone = region
                .vmar
                .create_vmo_child(options, region.at(2 * cloned), page());
            memory(region.at(2 * cloned), 8).store_u64(0, 1);
            let mut value = [0; 8];
            let clone = clone.expect("it is one page of one mapping");
            clone.read(&mut value, 0).expect("it is inside");
            assert_eq!(u64::from_ne_bytes(value), cloned as u64);
            for at in order.take(many / 2) {
                region.unmap(2 * at, 1);
            }
            assert_eq!(region.maps().len(), 1 + many / 2);
            region.vmar.destroy().expect("once");
            assert_eq!(num_mappings(&vmos[0]), 0);
        }
    }
}

#[test]
fn pieces_that_continue_each_other_are_one_area_of_the_kernel() {
    const PAGES: usize = 32;
    for policy in POLICIES {
        for cloned in [false, true] {
            let vmo = numbered(PAGES);
            let _child = cloned.then(|| {
                vmo.create_child(VmoChildOptions::SNAPSHOT, 0, bytes(PAGES))
                    .expect("a snapshot")
            });
            let map = |region: &Region, at: usize| {
                let flags = RW | SPECIFIC;
                region
                    .vmar
                    .map_with_policy(at * page(), &vmo, bytes(at), page(), flags, policy)
                    .expect("there is room");
            };
            // A second mapping of the VMO, so that none is alone and private.
            let other = Region::new(1);
            other.map_with(0, &vmo, 1, READ, policy);
            let (up, down) = (Region::new(PAGES), Region::new(PAGES));
            (0..PAGES).for_each(|at| map(&up, at));
            (0..PAGES).rev().for_each(|at| map(&down, at));
            let what = format!("{policy:?}, cloned: {cloned}");
            for region in [&up, &down] {
                assert_eq!(areas(region, 0, PAGES), 1, "{what}");
                region.protect(7, 2, READ);
                assert_eq!(areas(region, 0, PAGES), 3, "{what}");
                region.protect(7, 2, RW);
                assert_eq!(areas(region, 0, PAGES), 1, "{what}");
                region.unmap(9, 1);
                assert_eq!(areas(region, 0, PAGES), 3, "{what}");
                map(region, 9);
                assert_eq!(areas(region, 0, PAGES), 1, "{what}");
                assert_eq!(bytes_at(region.at(9), 1), [10]);
            }
            // A snapshot of what is mapped in pieces leaves it in one.
            let clone = up
                .vmar
                .create_vmo_child(VmoChildOptions::SNAPSHOT, up.base, PAGES * page())
                .expect("it is one mapping");
            memory(up.at(3), 1).store_u8(0, 99);
            assert_eq!((get(&vmo, 3), get(&clone, 3)), (99, 4));
            assert_eq!(areas(&up, 0, PAGES), 1, "{what}");
        }
    }
}

#[test]
fn large_mappings_cost_what_is_touched() {
    let root = Vmar::root_self();
    // Twice 64 GiB must fit into the root VMAR, which may be small. Slow machines may look at each page of it.
    let most = root.info().expect("the root lives").len / 4;
    let len = ((share(64) as usize) << 30).min(most);
    let part = len / 8;
    for policy in POLICIES {
        let vmo = Vmo::create(len as u64).expect("it costs nothing");
        let flags = RW | VmarFlags::ALIGN_4GB;
        let addr = root
            .map_with_policy(0, &vmo, 0, len, flags, policy)
            .expect("there is room");
        assert!(addr.is_multiple_of(4 << 30));
        for at in 0..8 {
            memory(addr + at * part, 1).store_u8(0, at as u8 + 1);
        }
        let populated = |vmo: &Vmo| vmo.info().expect("a live VMO has info").populated_bytes;
        assert_eq!(populated(&vmo), bytes(8));
        let clone = root
            .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, len)
            .expect("it is one mapping");
        let view = root
            .map_with_policy(0, &clone, 0, len, RW, policy)
            .expect("there is room");
        memory(addr + part, 1).store_u8(0, 77);
        assert_eq!(bytes_at(view + part, 1), [2]);
        assert_eq!(bytes_at(view + len - 1, 1), [0]);
        memory(view + len - page(), 1).store_u8(0, 88);
        assert_eq!(populated(&vmo), bytes(8));
        assert_eq!(populated(&clone), bytes(9));
        for each in [cowspace::VmarOp::MAP_RANGE, cowspace::VmarOp::ZERO] {
            assert_eq!(root.op_range(each, view, len), Ok(()));
        }
        assert_eq!((populated(&vmo), populated(&clone)), (bytes(8), 0));
        assert_eq!(bytes_at(addr + part, 1), [77]);
        root.unmap(addr, len).expect("it is mapped");
        root.unmap(view, len).expect("it is mapped");
    }
}

#[test]
fn a_vmo_of_128_tib() {
    let len = 128u64 << 40;
    let shown = 1usize << 30;
    let root = Vmar::root_self();
    for policy in POLICIES {
        let vmo = Vmo::create(len).expect("it costs nothing");
        vmo.write(&[7], len - 1).expect("it is inside");
        let addr = root
            .map_with_policy(0, &vmo, len - shown as u64, shown, RW, policy)
            .expect("there is room");
        assert_eq!(bytes_at(addr + shown - 1, 1), [7]);
        memory(addr, 1).store_u8(0, 5);
        let clone = vmo
            .create_child(VmoChildOptions::SNAPSHOT, 0, len)
            .expect("a snapshot");
        memory(addr, 1).store_u8(0, 6);
        let first = |vmo: &Vmo| {
            let mut byte = [0];
            vmo.read(&mut byte, len - shown as u64)
                .expect("it is inside");
            byte[0]
        };
        assert_eq!((first(&vmo), first(&clone)), (6, 5));
        root.unmap(addr, shown).expect("it is mapped");
        let root_len = root.info().expect("the root lives").len;
        let too_long = root.map(0, &vmo, 0, root_len + page(), RW);
        assert_eq!(refused(too_long), Status::INVALID_ARGS);
        vmo.op_range(cowspace::VmoOp::ZERO, 0, len)
            .expect("it costs nothing");
        assert_eq!((first(&vmo), first(&clone)), (0, 5));
    }
}
