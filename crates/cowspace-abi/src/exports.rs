//! The symbols. What a call does is told in `zircon/syscalls.h` and, with its rules, in the crate `cowspace`.

use std::ffi::c_char;

use cowspace::Status;

use crate::system::StringView;
use crate::user::{Buffer, Out};
use crate::{clock, futex, handle, object, own, pager, system, vmar, vmo};

/// Exports a function under a name, and under the same with an underscore.
macro_rules! export {
    ($name:ident($($arg:ident: $type:ty),*) -> $result:ty = $call:expr) => {
        const _: () = {
            // SAFETY: the name is this library's, as Zircon's programs expect it; a program that has another function
            // of that name does not link both.
            #[unsafe(export_name = stringify!($name))]
            extern "C" fn plain($($arg: $type),*) -> $result {
                $call
            }

            // SAFETY: as above.
            #[unsafe(export_name = concat!("_", stringify!($name)))]
            extern "C" fn underscored($($arg: $type),*) -> $result {
                $call
            }
        };
    };
}

/// Exports functions that answer with a status.
macro_rules! calls {
    ($($name:ident = $function:path: ($($arg:ident: $type:ty),*);)*) => {
        $(export!($name($($arg: $type),*) -> Status = status($function($($arg),*)));)*
    };
}

/// Exports functions that answer with something else.
macro_rules! functions {
    ($($name:ident = $function:path: ($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(export!($name($($arg: $type),*) -> $result = $function($($arg),*));)*
    };
}

fn status(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::OK)
}

calls! {
    zx_handle_close = handle::close: (handle: u32);
    zx_handle_close_many = handle::close_many: (handles: Buffer, count: usize);
    zx_handle_duplicate = handle::duplicate: (handle: u32, rights: u32, out: Out<u32>);
    zx_handle_replace = handle::replace: (handle: u32, rights: u32, out: Out<u32>);

    zx_object_get_info = object::get_info: (
        handle: u32, topic: u32, buffer: Buffer, size: usize, actual: Out<usize>, avail: Out<usize>
    );
    zx_object_get_property = object::get_property: (handle: u32, property: u32, value: Buffer, size: usize);
    zx_object_set_property = object::set_property: (handle: u32, property: u32, value: Buffer, size: usize);
    zx_object_signal = object::signal: (handle: u32, clear: u32, set: u32);
    zx_object_wait_one = object::wait_one: (handle: u32, signals: u32, deadline: i64, observed: Out<u32>);
    zx_object_get_child = object::get_child: (handle: u32, koid: u64, rights: u32, out: Out<u32>);

    zx_vmo_create = vmo::create: (size: u64, options: u32, out: Out<u32>);
    zx_vmo_read = vmo::read: (handle: u32, buffer: Buffer, offset: u64, size: usize);
    zx_vmo_write = vmo::write: (handle: u32, buffer: Buffer, offset: u64, size: usize);
    zx_vmo_get_size = vmo::get_size: (handle: u32, size: Out<u64>);
    zx_vmo_set_size = vmo::set_size: (handle: u32, size: u64);
    zx_vmo_get_stream_size = vmo::get_stream_size: (handle: u32, size: Out<u64>);
    zx_vmo_set_stream_size = vmo::set_stream_size: (handle: u32, size: u64);
    zx_vmo_transfer_data = vmo::transfer_data: (
        handle: u32, options: u32, offset: u64, length: u64, src: u32, src_offset: u64
    );
    zx_vmo_set_cache_policy = vmo::set_cache_policy: (handle: u32, policy: u32);
    zx_vmo_op_range = vmo::op_range: (handle: u32, op: u32, offset: u64, size: u64, buffer: Buffer, buffer_size: usize);
    zx_vmo_create_child = vmo::create_child: (handle: u32, options: u32, offset: u64, size: u64, out: Out<u32>);
    zx_vmo_replace_as_executable = vmo::replace_as_executable: (handle: u32, vmex: u32, out: Out<u32>);
    zx_vmo_create_contiguous = vmo::create_contiguous: (bti: u32, size: usize, alignment_log2: u32, out: Out<u32>);
    zx_vmo_create_physical = vmo::create_physical: (resource: u32, address: usize, size: usize, out: Out<u32>);

    zx_vmar_allocate = vmar::allocate: (
        parent: u32, options: u32, offset: usize, size: usize, child: Out<u32>, address: Out<usize>
    );
    zx_vmar_map = vmar::map: (
        handle: u32, options: u32, vmar_offset: usize, vmo: u32, vmo_offset: u64, len: usize,
        address: Out<usize>
    );
    zx_vmar_unmap = vmar::unmap: (handle: u32, address: usize, len: usize);
    zx_vmar_protect = vmar::protect: (handle: u32, options: u32, address: usize, len: usize);
    zx_vmar_op_range = vmar::op_range: (
        handle: u32, op: u32, address: usize, size: usize, buffer: Buffer, buffer_size: usize
    );
    zx_vmar_destroy = vmar::destroy: (handle: u32);
    zx_vmar_create_vmo_child = vmar::create_vmo_child: (
        handle: u32, options: u32, address: usize, size: usize, out: Out<u32>
    );

    zx_pager_create = pager::create: (options: u32, out: Out<u32>);
    zx_pager_create_vmo = pager::create_vmo: (pager: u32, options: u32, port: u32, key: u64, size: u64, out: Out<u32>);
    zx_pager_detach_vmo = pager::detach_vmo: (pager: u32, vmo: u32);
    zx_pager_supply_pages = pager::supply_pages: (
        pager: u32, vmo: u32, offset: u64, length: u64, aux_vmo: u32, aux_offset: u64
    );
    zx_pager_op_range = pager::op_range: (pager: u32, op: u32, vmo: u32, offset: u64, length: u64, data: u64);

    zx_futex_wait = futex::wait: (value: Buffer, expected: i32, new_owner: u32, deadline: i64);
    zx_futex_wake = futex::wake: (value: Buffer, count: u32);
    zx_nanosleep = clock::nanosleep: (deadline: i64);
    zx_system_get_features = system::get_features: (kind: u32, features: Out<u32>);
}

functions! {
    zx_clock_get_monotonic = clock::get_monotonic: () -> i64;
    zx_clock_get_boot = clock::get_boot: () -> i64;
    zx_ticks_get = clock::get_monotonic: () -> i64;
    zx_ticks_get_boot = clock::get_boot: () -> i64;
    zx_ticks_per_second = clock::ticks_per_second: () -> i64;
    zx_deadline_after = clock::deadline_after: (duration: i64) -> i64;
    zx_cprng_draw = system::cprng_draw: (buffer: Buffer, size: usize) -> ();
    zx_system_get_page_size = system::get_page_size: () -> u32;
    zx_system_get_num_cpus = system::get_num_cpus: () -> u32;
    zx_system_get_physmem = system::get_physmem: () -> u64;
    zx_system_get_version_string = system::get_version_string: () -> StringView;
    zx_status_get_string = system::status_get_string: (status: i32) -> *const c_char;
    zx_vmar_root_self = own::vmar_root_self: () -> u32;
    zx_process_self = own::process_self: () -> u32;
    zx_thread_self = own::thread_self: () -> u32;
}
