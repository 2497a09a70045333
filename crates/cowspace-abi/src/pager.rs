//! `zx_pager_*`: there are no pagers, so nothing can be a handle to one.

use cowspace::Status;

use crate::user::Out;

pub(crate) fn create(options: u32, _out: Out<u32>) -> Result<(), Status> {
    if options == 0 {
        Err(Status::NOT_SUPPORTED)
    } else {
        Err(Status::INVALID_ARGS)
    }
}

pub(crate) fn create_vmo(
    _pager: u32,
    _options: u32,
    _port: u32,
    _key: u64,
    _size: u64,
    _out: Out<u32>,
) -> Result<(), Status> {
    Err(Status::NOT_SUPPORTED)
}

pub(crate) fn detach_vmo(_pager: u32, _vmo: u32) -> Result<(), Status> {
    Err(Status::NOT_SUPPORTED)
}

pub(crate) fn supply_pages(
    _pager: u32,
    _vmo: u32,
    _offset: u64,
    _length: u64,
    _aux_vmo: u32,
    _aux_offset: u64,
) -> Result<(), Status> {
    Err(Status::NOT_SUPPORTED)
}

pub(crate) fn op_range(
    _pager: u32,
    _op: u32,
    _vmo: u32,
    _offset: u64,
    _length: u64,
    _data: u64,
) -> Result<(), Status> {
    Err(Status::NOT_SUPPORTED)
}
