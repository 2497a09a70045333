//! `zx_object_*`.

use cowspace::{
    Handle, HandleBased, MonotonicInstant, Name, ObjectType, Process, Rights, Signals, Status,
    Thread, Unowned, Vmar, Vmo, WaitResult,
};
use host_memory::page::page_size;
use zerocopy::{Immutable, IntoBytes};

use crate::records;
use crate::user::{Buffer, Out};

/// `ZX_INFO_*`: the low bits are the topic, the top four the version.
mod topic {
    pub(super) const HANDLE_VALID: u32 = 1;
    pub(super) const HANDLE_BASIC: u32 = 2;
    pub(super) const VMAR: u32 = 7;
    pub(super) const PROCESS_MAPS_V1: u32 = 13;
    pub(super) const PROCESS_MAPS_V2: u32 = 13 | 1 << 28;
    pub(super) const PROCESS_MAPS: u32 = 13 | 2 << 28;
    pub(super) const PROCESS_VMOS_V1: u32 = 14;
    pub(super) const PROCESS_VMOS_V2: u32 = 14 | 1 << 28;
    pub(super) const PROCESS_VMOS_V3: u32 = 14 | 2 << 28;
    pub(super) const PROCESS_VMOS: u32 = 14 | 3 << 28;
    pub(super) const THREAD_STATS: u32 = 15;
    pub(super) const HANDLE_COUNT: u32 = 19;
    pub(super) const VMO_V1: u32 = 23;
    pub(super) const VMO_V2: u32 = 23 | 1 << 28;
    pub(super) const VMO_V3: u32 = 23 | 2 << 28;
    pub(super) const VMO: u32 = 23 | 3 << 28;
    pub(super) const VMAR_MAPS: u32 = 36;
}

/// `ZX_PROP_*`
mod property {
    pub(super) const NAME: u32 = 3;
    pub(super) const VMO_CONTENT_SIZE: u32 = 17;
}

fn object<T: HandleBased>(raw: u32) -> Unowned<T> {
    Unowned::from_raw_handle(raw)
}

pub(crate) fn get_info(
    handle: u32,
    topic: u32,
    buffer: Buffer,
    size: usize,
    actual: Out<usize>,
    avail: Out<usize>,
) -> Result<(), Status> {
    let reply = Reply {
        buffer,
        size,
        actual,
        avail,
    };
    match topic {
        topic::HANDLE_VALID => object::<Handle>(handle).basic_info().map(drop),
        topic::HANDLE_BASIC => {
            let info = object::<Handle>(handle).basic_info()?;
            reply.one(records::HandleBasic::from(info).as_bytes())
        }
        topic::HANDLE_COUNT => {
            let info = object::<Handle>(handle).count_info()?;
            reply.one(records::HandleCount::from(info).as_bytes())
        }
        topic::THREAD_STATS => {
            let stats = object::<Thread>(handle).stats()?;
            reply.one(records::ThreadStatistics::from(stats).as_bytes())
        }
        topic::VMAR => {
            let info = object::<Vmar>(handle).info()?;
            reply.one(records::Vmar::from(info).as_bytes())
        }
        topic::VMO_V1 | topic::VMO_V2 | topic::VMO_V3 | topic::VMO => {
            let len = match topic {
                topic::VMO_V1 => records::Vmo::V1,
                topic::VMO_V2 => records::Vmo::V2,
                topic::VMO_V3 => records::Vmo::V3,
                _ => records::Vmo::V4,
            };
            let info = object::<Vmo>(handle).info()?;
            reply.one(&records::Vmo::from(info).as_bytes()[..len])
        }
        topic::VMAR_MAPS => {
            let maps = object::<Vmar>(handle).maps()?;
            reply.many(records::Maps::V3, maps.into_iter().map(records::Maps::from))
        }
        topic::PROCESS_MAPS => {
            let maps = object::<Process>(handle).maps()?;
            reply.many(records::Maps::V3, maps.into_iter().map(records::Maps::from))
        }
        topic::PROCESS_MAPS_V1 | topic::PROCESS_MAPS_V2 => {
            let len = match topic {
                topic::PROCESS_MAPS_V1 => records::Maps::V1,
                _ => records::Maps::V2,
            };
            let old = |info| records::Maps::from(info).in_pages(page_size());
            let maps = object::<Process>(handle).maps()?;
            reply.many(len, maps.into_iter().map(old))
        }
        topic::PROCESS_VMOS_V1
        | topic::PROCESS_VMOS_V2
        | topic::PROCESS_VMOS_V3
        | topic::PROCESS_VMOS => {
            let len = match topic {
                topic::PROCESS_VMOS_V1 => records::Vmo::V1,
                topic::PROCESS_VMOS_V2 => records::Vmo::V2,
                topic::PROCESS_VMOS_V3 => records::Vmo::V3,
                _ => records::Vmo::V4,
            };
            let vmos = object::<Process>(handle).vmos()?;
            reply.many(len, vmos.into_iter().map(records::Vmo::from))
        }
        _ => Err(Status::NOT_SUPPORTED),
    }
}

/// Where the records of a topic go, and their numbers.
struct Reply {
    buffer: Buffer,
    size: usize,
    actual: Out<usize>,
    avail: Out<usize>,
}

impl Reply {
    /// The one record of a topic, for which there must be room.
    fn one(&self, record: &[u8]) -> Result<(), Status> {
        let fits = self.size >= record.len();
        if fits {
            self.buffer.write(0, record)?;
        }
        self.actual.write_if_wanted(usize::from(fits))?;
        self.avail.write_if_wanted(1)?;
        if fits {
            Ok(())
        } else {
            Err(Status::BUFFER_TOO_SMALL)
        }
    }

    /// As many records as there is room for, of each the first `len` bytes.
    fn many<T: Immutable + IntoBytes>(
        &self,
        len: usize,
        records: impl ExactSizeIterator<Item = T>,
    ) -> Result<(), Status> {
        if self.buffer.is_null() && self.size != 0 {
            return Err(Status::INVALID_ARGS);
        }
        let avail = records.len();
        let actual = avail.min(self.size / len);
        let mut bytes = Vec::with_capacity(actual * len);
        for record in records.take(actual) {
            bytes.extend_from_slice(&record.as_bytes()[..len]);
        }
        self.buffer.write(0, &bytes)?;
        self.actual.write_if_wanted(actual)?;
        self.avail.write_if_wanted(avail)
    }
}

/// The type of the object, if the handle has a right: what is looked at before everything else of a property.
fn needs(handle: u32, right: Rights) -> Result<ObjectType, Status> {
    let info = object::<Handle>(handle).basic_info()?;
    if info.rights.contains(right) {
        Ok(info.object_type)
    } else {
        Err(Status::ACCESS_DENIED)
    }
}

pub(crate) fn get_property(
    handle: u32,
    property: u32,
    value: Buffer,
    size: usize,
) -> Result<(), Status> {
    if value.is_null() {
        return Err(Status::INVALID_ARGS);
    }
    let object_type = needs(handle, Rights::GET_PROPERTY)?;
    let room = |len: usize| {
        if size >= len {
            Ok(())
        } else {
            Err(Status::BUFFER_TOO_SMALL)
        }
    };
    match property {
        property::NAME => {
            room(Name::default().into_raw().len())?;
            let name = match object_type {
                ObjectType::PROCESS => object::<Process>(handle).get_name(),
                ObjectType::THREAD => object::<Thread>(handle).get_name(),
                // A VMAR has no name, and no handle to one the right.
                _ => object::<Vmo>(handle).get_name(),
            };
            value.write(0, &name?.into_raw())
        }
        property::VMO_CONTENT_SIZE => {
            room(size_of::<u64>())?;
            value.write(0, object::<Vmo>(handle).get_content_size()?.as_bytes())
        }
        _ => Err(Status::INVALID_ARGS),
    }
}

pub(crate) fn set_property(
    handle: u32,
    property: u32,
    value: Buffer,
    size: usize,
) -> Result<(), Status> {
    if value.is_null() {
        return Err(Status::INVALID_ARGS);
    }
    let object_type = needs(handle, Rights::SET_PROPERTY)?;
    match property {
        property::NAME => {
            let mut bytes = Name::default().into_raw();
            let len = size.min(bytes.len() - 1);
            value.read(0, &mut bytes[..len])?;
            let name = Name::from_bytes_lossy(&bytes);
            match object_type {
                ObjectType::PROCESS => object::<Process>(handle).set_name(&name),
                ObjectType::THREAD => object::<Thread>(handle).set_name(&name),
                _ => object::<Vmo>(handle).set_name(&name),
            }
        }
        property::VMO_CONTENT_SIZE => {
            needs(handle, Rights::WRITE)?;
            if size < size_of::<u64>() {
                return Err(Status::BUFFER_TOO_SMALL);
            }
            if object_type != ObjectType::VMO {
                return Err(Status::WRONG_TYPE);
            }
            let mut content_size = 0u64;
            value.read(0, content_size.as_mut_bytes())?;
            object::<Vmo>(handle).set_content_size(content_size)
        }
        _ => Err(Status::INVALID_ARGS),
    }
}

pub(crate) fn signal(handle: u32, clear: u32, set: u32) -> Result<(), Status> {
    object::<Handle>(handle).signal(
        Signals::from_bits_retain(clear),
        Signals::from_bits_retain(set),
    )
}

pub(crate) fn wait_one(
    handle: u32,
    signals: u32,
    deadline: i64,
    observed: Out<u32>,
) -> Result<(), Status> {
    let signals = Signals::from_bits_retain(signals);
    let deadline = MonotonicInstant::from_nanos(deadline);
    let result = object::<Handle>(handle).wait_one(signals, deadline);
    if let WaitResult::Ok(now) | WaitResult::TimedOut(now) | WaitResult::Canceled(now) = result {
        observed.write_if_wanted(now.bits())?;
    }
    result.to_result().map(drop)
}

/// Threads are the only children that an object here has, and they are not listed.
pub(crate) fn get_child(
    handle: u32,
    _koid: u64,
    rights: u32,
    _out: Out<u32>,
) -> Result<(), Status> {
    let info = object::<Handle>(handle).basic_info()?;
    let rights = Rights::from_bits_retain(rights);
    let subset = rights == Rights::SAME_RIGHTS || info.rights.contains(rights);
    if !info.rights.contains(Rights::ENUMERATE) || !subset {
        return Err(Status::ACCESS_DENIED);
    }
    if info.object_type == ObjectType::PROCESS {
        Err(Status::NOT_SUPPORTED)
    } else {
        Err(Status::WRONG_TYPE)
    }
}
