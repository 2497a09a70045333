// Each call of the library, where one that calls malloc is noticed: see main.c. What the calls answer is tested elsewhere.
#include "every_call.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <zircon/process.h>
#include <zircon/status.h>
#include <zircon/syscalls.h>
#include <zircon/syscalls/object.h>

static char buffer[1 << 16];
static const uint32_t topics[] = {
    ZX_INFO_HANDLE_VALID,    ZX_INFO_HANDLE_BASIC, ZX_INFO_VMAR,         ZX_INFO_PROCESS_MAPS, ZX_INFO_PROCESS_VMOS,
    ZX_INFO_PROCESS_VMOS_V1, ZX_INFO_PROCESS_MAPS_V1, ZX_INFO_THREAD_STATS, ZX_INFO_HANDLE_COUNT, ZX_INFO_VMO,
    ZX_INFO_VMO_V1,          ZX_INFO_VMAR_MAPS,    99,
};

static void look(zx_handle_t handle) {
  size_t actual, avail;
  for (unsigned i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
    ZX(zx_object_get_info(handle, topics[i], buffer, sizeof(buffer), &actual, &avail));
    ZX(zx_object_get_info(handle, topics[i], NULL, 0, &actual, NULL));
  }
  ZX(zx_object_get_property(handle, ZX_PROP_NAME, buffer, sizeof(buffer)));
  ZX(zx_object_set_property(handle, ZX_PROP_NAME, "name", 4));
  ZX(zx_object_get_property(handle, 77, buffer, 8));
  ZX(zx_object_signal(handle, 0, ZX_USER_SIGNAL_0));
  zx_signals_t seen;
  ZX(zx_object_wait_one(handle, ZX_USER_SIGNAL_0, 0, &seen));
  ZX(zx_object_wait_one(handle, ZX_USER_SIGNAL_1, ZX(zx_deadline_after(100000)), &seen));
  zx_handle_t other = ZX_HANDLE_INVALID;
  ZX(zx_handle_duplicate(handle, ZX_RIGHT_SAME_RIGHTS, &other));
  ZX(zx_handle_replace(other, ZX_RIGHT_SAME_RIGHTS, &other));
  ZX(zx_handle_close_many(&other, 1));
}

static void use(zx_handle_t vmo, uint64_t size) {
  look(vmo);
  for (uint32_t op = 0; op < 16; op++) {
    ZX(zx_vmo_op_range(vmo, op, 0, size / 2, NULL, 0));
    ZX(zx_vmo_op_range(vmo, op, 1, 2 * size, buffer, sizeof(zx_vmo_lock_state_t)));
  }
  uint64_t out;
  ZX(zx_vmo_write(vmo, buffer, 0, size));
  ZX(zx_vmo_read(vmo, buffer, 0, size));
  ZX(zx_vmo_read(vmo, buffer, 1, 2 * size));
  ZX(zx_vmo_read(vmo, (void*)16, 0, size));
  ZX(zx_vmo_get_size(vmo, &out));
  ZX(zx_vmo_set_size(vmo, size * 2));
  ZX(zx_vmo_set_size(vmo, size));
  ZX(zx_vmo_get_stream_size(vmo, &out));
  ZX(zx_vmo_set_stream_size(vmo, size / 2));
  ZX(zx_vmo_set_cache_policy(vmo, 0));
}

// Everything with a VMO made with `options`.
static void vmo_calls(uint32_t options) {
  uint64_t page = ZX(zx_system_get_page_size()), size = 4 * page;
  zx_handle_t root = ZX(zx_vmar_root_self()), vmo, child, region;
  zx_vaddr_t at, base;
  if (ZX(zx_vmo_create(size, options, &vmo)) != ZX_OK) return;
  use(vmo, size);
  static const uint32_t kinds[] = {
      ZX_VMO_CHILD_SNAPSHOT, ZX_VMO_CHILD_SNAPSHOT_AT_LEAST_ON_WRITE, ZX_VMO_CHILD_SNAPSHOT_MODIFIED,
      ZX_VMO_CHILD_SLICE,    ZX_VMO_CHILD_REFERENCE,                  ZX_VMO_CHILD_SNAPSHOT | ZX_VMO_CHILD_RESIZABLE,
      ZX_VMO_CHILD_SLICE | ZX_VMO_CHILD_NO_WRITE, 0,
  };
  for (unsigned kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
    child = ZX_HANDLE_INVALID;
    ZX(zx_vmo_create_child(vmo, kinds[kind], 0, kinds[kind] == ZX_VMO_CHILD_REFERENCE ? 0 : size, &child));
    use(child, size);
    at = 0;
    if (ZX(zx_vmar_map(root, ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, 0, child, 0, size, &at)) == ZX_OK) {
      *(volatile char*)at = 1;
      use(child, size);
      zx_handle_t clone = ZX_HANDLE_INVALID;
      ZX(zx_vmar_create_vmo_child(root, ZX_VMO_CHILD_SNAPSHOT, at, size, &clone));
      *(volatile char*)(at + page) = 1;
      use(clone, size);
      ZX(zx_vmo_transfer_data(clone, 0, 0, page, child, 0));
      ZX(zx_handle_close(clone));
      ZX(zx_vmar_protect(root, ZX_VM_PERM_READ, at + page, page));
      ZX(zx_vmar_unmap(root, at + page, page));
      ZX(zx_vmar_unmap(root, at, size));
    }
    ZX(zx_handle_close(child));
  }
  zx_vm_option_t can = ZX_VM_CAN_MAP_READ | ZX_VM_CAN_MAP_WRITE | ZX_VM_CAN_MAP_SPECIFIC;
  if (ZX(zx_vmar_allocate(root, can, 0, 64 * page, &region, &base)) == ZX_OK) {
    ZX(zx_vmar_map(region, ZX_VM_PERM_READ | ZX_VM_SPECIFIC, 0, vmo, 0, size, &at));
    ZX(zx_vmar_map(region, ZX_VM_PERM_READ | ZX_VM_SPECIFIC, 0, vmo, 0, size, &at));
    ZX(zx_vmar_map(region, ZX_VM_PERM_READ | ZX_VM_SPECIFIC_OVERWRITE, page, vmo, 0, size, &at));
    ZX(zx_vmar_map(region, ZX_VM_PERM_READ | ZX_VM_MAP_RANGE, 0, vmo, 0, size, &at));
    for (uint32_t op = 0; op < 16; op++) ZX(zx_vmar_op_range(region, op, base, size, NULL, 0));
    look(region);
    look(root);
    ZX(zx_vmar_destroy(region));
    look(region);
    ZX(zx_handle_close(region));
  }
  ZX(zx_vmo_replace_as_executable(vmo, ZX_HANDLE_INVALID, &vmo));
  ZX(zx_handle_close(vmo));
  use(vmo, size);
}

static void other_calls(void) {
  zx_handle_t out;
  look(ZX(zx_process_self()));
  look(ZX(zx_thread_self()));
  ZX(zx_object_get_child(ZX(zx_process_self()), 1, ZX_RIGHT_SAME_RIGHTS, &out));
  ZX(zx_vmo_create_contiguous(ZX_HANDLE_INVALID, 4096, 0, &out));
  ZX(zx_vmo_create_physical(ZX_HANDLE_INVALID, 0, 4096, &out));
  ZX(zx_vmo_create(1, 0, NULL));
  zx_futex_t futex = 0;
  ZX(zx_futex_wait(&futex, 1, ZX_HANDLE_INVALID, ZX_TIME_INFINITE));
  ZX(zx_futex_wait(&futex, 0, ZX(zx_thread_self()), 0));
  ZX(zx_futex_wake(&futex, 1));
  ZX(zx_nanosleep(ZX(zx_clock_get_monotonic())));
  ZX(zx_clock_get_boot());
  ZX(zx_ticks_get());
  ZX(zx_ticks_per_second());
  inside++;
  zx_cprng_draw(buffer, 64);
  inside--;
  ZX(zx_system_get_num_cpus());
  ZX(zx_system_get_physmem());
  ZX(zx_system_get_version_string());
  uint32_t features;
  ZX(zx_system_get_features(0, &features));
  ZX(zx_status_get_string(ZX_ERR_NO_MEMORY));
}

void every_call(void) {
  for (int round = 0; round < 2; round++) {
    vmo_calls(0);
    vmo_calls(ZX_VMO_RESIZABLE);
    vmo_calls(ZX_VMO_DISCARDABLE);
    vmo_calls(ZX_VMO_UNBOUNDED);
    other_calls();
  }
  // The kernel gives nothing any more: each call fails where it may.
  struct rlimit most, none;
  getrlimit(RLIMIT_NOFILE, &most);
  none = most;
  none.rlim_cur = 0;
  setrlimit(RLIMIT_NOFILE, &none);
  vmo_calls(0);
  vmo_calls(ZX_VMO_RESIZABLE);
  other_calls();
  setrlimit(RLIMIT_NOFILE, &most);
}
