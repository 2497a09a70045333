//! Comparing all that can be seen.

use std::ops::Range;

use cowspace::{
    HandleBased, Koid, MapsDetails, MonotonicInstant, Rights, Signals, Status, VmarFlags, VmoInfo,
    VmoInfoFlags, WaitResult,
};

use super::memory::Charge;
use super::objects::{Inexact, Kind, VmoHandle};
use super::space::{PAGES, Record};
use super::world::World;
use crate::zircon::can_read;
use crate::{bytes_at, page};

/// Populated, private, scaled, and the fraction.
type Counts = [u64; 4];

impl World {
    /// Compares the object info of every VMO that has a handle, and what the handles are.
    pub(super) fn check_infos(&self) {
        for (index, handle) in self.vmos.iter().enumerate() {
            let basic = handle.vmo.basic_info().expect("the handle is valid");
            let koid = self.objects.list[handle.object].koid;
            assert_eq!(
                (basic.koid, basic.rights),
                (koid, handle.rights),
                "{}",
                self.now()
            );
            self.check_signal(handle);
            assert_eq!(
                handle.vmo.get_stream_size(),
                Ok(self.objects.stream(handle.object)),
                "{}, stream size of VMO {}",
                self.now(),
                handle.object
            );
            let earlier = self.vmos[..index].iter();
            if earlier
                .filter(|other| other.object == handle.object)
                .count()
                == 0
            {
                let info = handle.vmo.info().expect("info needs no right");
                assert_eq!(info.handle_rights, handle.rights);
                self.check_info(handle.object, &info);
            }
        }
    }

    /// `ZERO_CHILDREN` is there exactly if it is true.
    fn check_signal(&self, handle: &VmoHandle) {
        let seen = handle
            .vmo
            .wait_one(Signals::VMO_ZERO_CHILDREN, MonotonicInstant::INFINITE_PAST);
        let expected = if self.objects.children(handle.object) == 0 {
            WaitResult::Ok(Signals::VMO_ZERO_CHILDREN)
        } else {
            WaitResult::TimedOut(Signals::NONE)
        };
        assert_eq!(
            seen,
            expected,
            "{}, signals of VMO {}",
            self.now(),
            handle.object
        );
    }

    fn check_info(&self, index: usize, info: &VmoInfo) {
        let object = &self.objects.list[index];
        let what = || format!("{}, info of VMO {index} ({:?})", self.now(), object.kind);
        let parent = object
            .parent
            .map_or(Koid::INVALID, |parent| self.objects.list[parent].koid);
        assert_eq!(info.koid, object.koid, "{}", what());
        assert_eq!(info.parent_koid, parent, "parent: {}", what());
        assert_eq!(
            info.size_bytes,
            self.objects.base(index) + self.objects.size(index) as u64,
            "size: {}",
            what()
        );
        assert_eq!(
            info.num_children,
            self.objects.children(index),
            "children: {}",
            what()
        );
        let mappings = self.space.mappings_of(index);
        assert_eq!(info.num_mappings, mappings, "mappings: {}", what());
        assert_eq!(
            info.share_count,
            usize::from(mappings > 0),
            "share count: {}",
            what()
        );
        let mut flags = VmoInfoFlags::TYPE_PAGED | VmoInfoFlags::VIA_HANDLE;
        flags.set(VmoInfoFlags::RESIZABLE, self.objects.is_resizable(index));
        let is_clone = object.kind == Kind::Clone && object.parent.is_some();
        flags.set(VmoInfoFlags::IS_COW_CLONE, is_clone);
        flags.set(VmoInfoFlags::IMMUTABLE, object.immutable);
        flags.set(VmoInfoFlags::DISCARDABLE, object.locks.is_some());
        assert_eq!(info.flags, flags, "flags: {}", what());

        let real = [
            info.populated_bytes,
            info.populated_private_bytes,
            info.populated_scaled_bytes,
            info.populated_fractional_scaled_bytes,
        ];
        let committed = [
            info.committed_bytes,
            info.committed_private_bytes,
            info.committed_scaled_bytes,
            info.committed_fractional_scaled_bytes,
        ];
        assert_eq!(committed, real, "committed is populated: {}", what());
        let charge = self.objects.charge(index, 0..usize::MAX);
        check_charge(
            real,
            charge,
            self.objects.inexact(index),
            info.size_bytes,
            &what,
        );
    }

    /// Compares all VMOs by `vmo_read`.
    pub(super) fn check_bytes(&self) {
        for index in 0..self.vmos.len() {
            self.check_vmo(index);
        }
    }

    pub(super) fn check_vmo(&self, index: usize) {
        let handle = &self.vmos[index];
        let mut bytes = vec![0xEE; self.objects.size(handle.object)];
        let real = handle
            .vmo
            .read(&mut bytes, self.objects.base(handle.object));
        let expected = if handle.rights.contains(Rights::READ) {
            Ok(())
        } else {
            Err(Status::ACCESS_DENIED)
        };
        if self.agree("read", real, expected).is_some() {
            let expected = self.objects.bytes(handle.object);
            same(&bytes, expected, || {
                format!("{}, VMO {} by vmo_read", self.now(), handle.object)
            });
        }
    }

    /// Compares what all pages show, and that nothing is there where nothing is mapped.
    pub(super) fn check_space(&mut self) {
        for vmar in 0..self.vmars.len() {
            self.maps(vmar);
        }
        self.check_pages(0..PAGES);
    }

    /// Compares what pages show with what they must.
    pub(super) fn check_pages(&mut self, range: Range<usize>) {
        for at in range {
            let shown = self.space.slots[at].shown;
            let addr = self.space.address(at);
            let readable = shown.filter(|shown| {
                shown.perms.contains(VmarFlags::PERM_READ) && !self.is_behind(shown)
            });
            let Some(shown) = readable else {
                assert!(
                    !can_read(addr),
                    "{}: page {at} ({shown:?}) can be read",
                    self.now()
                );
                continue;
            };
            let start = shown.page * page();
            let expected = &self.objects.bytes(shown.object)[start..start + page()];
            same(&bytes_at(addr, page()), expected, || {
                format!("{}, page {at} ({shown:?}) by loads", self.now())
            });
            let within = self.objects.window(shown.object).start + shown.page;
            let memory = self.objects.memory_mut(shown.object);
            memory.zeros_seen |= memory.pages[within].is_none();
        }
    }

    /// Compares the memory map of a VMAR.
    pub(super) fn maps(&self, vmar: usize) {
        let handle = &self.vmars[vmar % self.vmars.len()];
        let region = &self.space.regions[handle.region];
        let expected = if !handle.rights.contains(Rights::INSPECT) {
            Err(Status::ACCESS_DENIED)
        } else if !region.alive {
            Err(Status::BAD_STATE)
        } else {
            Ok(())
        };
        if let Some((info, ())) = self.agree("info", handle.vmar.info(), expected) {
            let base = self.space.address(region.range.start);
            assert_eq!((info.base, info.len), (base, region.range.len() * page()));
        }
        if let Some((real, ())) = self.agree("maps", handle.vmar.maps(), expected) {
            let expected = self.space.maps(handle.region, 0);
            let short: Vec<_> = real
                .iter()
                .map(|record| (record.depth, record.base, record.size))
                .collect();
            let wanted = expected.iter().map(|(depth, range, _)| {
                (
                    *depth,
                    self.space.address(range.start),
                    range.len() * page(),
                )
            });
            assert_eq!(short, wanted.collect::<Vec<_>>(), "{}: maps", self.now());
            for (real, expected) in real.iter().zip(&expected) {
                self.check_record(&real.details, expected);
            }
        }
    }

    fn check_record(&self, real: &MapsDetails, expected: &Record) {
        let what = || format!("{}, record {expected:?}", self.now());
        let (_, range, shown) = expected;
        match (real, shown) {
            (MapsDetails::Vmar, None) => {}
            (MapsDetails::Mapping(real), Some(shown)) => {
                assert_eq!(real.mmu_flags, shown.perms, "{}", what());
                assert_eq!(
                    real.vmo_koid,
                    self.objects.list[shown.object].koid,
                    "{}",
                    what()
                );
                let offset = self.objects.base(shown.object) + (shown.page * page()) as u64;
                assert_eq!(real.vmo_offset, offset, "{}", what());
                let pages = shown.page..shown.page + range.len();
                let counts = [
                    real.populated_bytes as u64,
                    real.populated_private_bytes as u64,
                    real.populated_scaled_bytes as u64,
                    real.populated_fractional_scaled_bytes,
                ];
                let charge = self.objects.charge(shown.object, pages);
                let most = (range.len() * page()) as u64;
                check_charge(
                    counts,
                    charge,
                    self.objects.inexact(shown.object),
                    most,
                    &what,
                );
            }
            _ => panic!("{real:?}: {}", what()),
        }
    }

    pub(super) fn check_maps_of_all(&self) {
        self.maps(0);
    }
}

/// Compares counts as exactly as they are meant to be exact.
fn check_charge(
    real: Counts,
    charge: Charge,
    inexact: Inexact,
    most: u64,
    what: &dyn Fn() -> String,
) {
    let [populated, private, scaled, _] = real;
    let expected = [
        charge.populated,
        charge.private,
        charge.scaled(),
        charge.fraction(),
    ];
    if inexact.zeros || inexact.same {
        let least = if inexact.same { 0 } else { charge.populated };
        let most = if inexact.zeros {
            most
        } else {
            charge.populated
        };
        assert!(
            (least..=most).contains(&populated) && private <= populated && scaled <= populated,
            "{real:?}, {expected:?}: {}",
            what()
        );
    } else {
        assert_eq!(
            real,
            expected,
            "[populated, private, scaled, fraction]: {}",
            what()
        );
    }
}

fn same(real: &[u8], expected: &[u8], what: impl Fn() -> String) {
    assert_eq!(real.len(), expected.len());
    if let Some(at) = (0..real.len()).find(|&at| real[at] != expected[at]) {
        panic!(
            "{}: byte {} of page {} is {:#x} and not {:#x}",
            what(),
            at % page(),
            at / page(),
            real[at],
            expected[at]
        );
    }
}
