/* Numbers and layouts of the headers, against Zircon's. */

#include <zircon/features.h>

#include "check.h"

#ifdef __cplusplus
#define ASSERT(condition) static_assert(condition, #condition)
#else
#define ASSERT(condition) _Static_assert(condition, #condition)
#endif
#define AT(type, field, offset) ASSERT(offsetof(type, field) == (offset))

ASSERT(sizeof(zx_status_t) == 4 && sizeof(zx_handle_t) == 4 && sizeof(zx_vm_option_t) == 4);
ASSERT(sizeof(zx_vaddr_t) == sizeof(void*) && sizeof(zx_koid_t) == 8 && sizeof(zx_time_t) == 8);
ASSERT(sizeof(zx_futex_t) == 4);

ASSERT(sizeof(zx_info_handle_basic_t) == 32);
AT(zx_info_handle_basic_t, rights, 8);
AT(zx_info_handle_basic_t, type, 12);
AT(zx_info_handle_basic_t, related_koid, 16);
AT(zx_info_handle_basic_t, reserved, 24);

ASSERT(sizeof(zx_info_handle_count_t) == 4);
ASSERT(sizeof(zx_info_thread_stats_t) == 16);
AT(zx_info_thread_stats_t, last_scheduled_cpu, 8);

ASSERT(sizeof(zx_info_vmar_t) == 16);
AT(zx_info_vmar_t, len, 8);

ASSERT(sizeof(zx_info_vmo_t) == 176);
ASSERT(sizeof(zx_info_vmo_v1_t) == 104);
ASSERT(sizeof(zx_info_vmo_v2_t) == 120);
ASSERT(sizeof(zx_info_vmo_v3_t) == 128);
AT(zx_info_vmo_t, koid, 0);
AT(zx_info_vmo_t, name, 8);
AT(zx_info_vmo_t, size_bytes, 40);
AT(zx_info_vmo_t, parent_koid, 48);
AT(zx_info_vmo_t, num_children, 56);
AT(zx_info_vmo_t, num_mappings, 64);
AT(zx_info_vmo_t, share_count, 72);
AT(zx_info_vmo_t, flags, 80);
AT(zx_info_vmo_t, committed_bytes, 88);
AT(zx_info_vmo_t, handle_rights, 96);
AT(zx_info_vmo_t, cache_policy, 100);
AT(zx_info_vmo_t, metadata_bytes, 104);
AT(zx_info_vmo_t, committed_change_events, 112);
AT(zx_info_vmo_t, populated_bytes, 120);
AT(zx_info_vmo_t, committed_private_bytes, 128);
AT(zx_info_vmo_t, populated_private_bytes, 136);
AT(zx_info_vmo_t, committed_scaled_bytes, 144);
AT(zx_info_vmo_t, populated_scaled_bytes, 152);
AT(zx_info_vmo_t, committed_fractional_scaled_bytes, 160);
AT(zx_info_vmo_t, populated_fractional_scaled_bytes, 168);

ASSERT(sizeof(zx_info_maps_t) == 152);
ASSERT(sizeof(zx_info_maps_v1_t) == 96);
ASSERT(sizeof(zx_info_maps_v2_t) == 104);
AT(zx_info_maps_t, base, 32);
AT(zx_info_maps_t, size, 40);
AT(zx_info_maps_t, depth, 48);
AT(zx_info_maps_t, type, 56);
AT(zx_info_maps_t, u.mapping, 64);
ASSERT(sizeof(zx_info_maps_mapping_t) == 88);
AT(zx_info_maps_mapping_t, mmu_flags, 0);
AT(zx_info_maps_mapping_t, vmo_koid, 8);
AT(zx_info_maps_mapping_t, vmo_offset, 16);
AT(zx_info_maps_mapping_t, committed_bytes, 24);
AT(zx_info_maps_mapping_t, populated_bytes, 32);
AT(zx_info_maps_mapping_t, committed_private_bytes, 40);
AT(zx_info_maps_mapping_t, populated_private_bytes, 48);
AT(zx_info_maps_mapping_t, committed_scaled_bytes, 56);
AT(zx_info_maps_mapping_t, populated_scaled_bytes, 64);
AT(zx_info_maps_mapping_t, committed_fractional_scaled_bytes, 72);
AT(zx_info_maps_mapping_t, populated_fractional_scaled_bytes, 80);

ASSERT(sizeof(zx_vmo_lock_state_t) == 32);
AT(zx_vmo_lock_state_t, size, 8);
AT(zx_vmo_lock_state_t, discarded_offset, 16);
AT(zx_vmo_lock_state_t, discarded_size, 24);

ASSERT(ZX_DEFAULT_VMO_RIGHTS == 0xd0ef);
ASSERT(ZX_DEFAULT_VMAR_RIGHTS == 0x208003);
ASSERT(ZX_RIGHT_SAME_RIGHTS == 0x80000000u && ZX_RIGHT_RESIZE == 0x400000u);
ASSERT(ZX_INFO_VMO == 0x30000017u && ZX_INFO_VMO_V1 == 23u && ZX_INFO_VMO_V3 == 0x20000017u);
ASSERT(ZX_INFO_PROCESS_MAPS == 0x2000000du && ZX_INFO_PROCESS_VMOS == 0x3000000eu);
ASSERT(ZX_INFO_VMAR_MAPS == 36u && ZX_INFO_HANDLE_COUNT == 19u && ZX_INFO_VMAR == 7u);
ASSERT(ZX_ERR_ACCESS_DENIED == -30 && ZX_ERR_UNAVAILABLE == -28 && ZX_ERR_BAD_STATE == -20);
ASSERT(ZX_VM_ALIGN_1KB == 10u << 24 && ZX_VM_ALIGN_4GB == 32u << 24);
ASSERT(ZX_VM_CANNOT_CREATE_VMO_CHILD == 1u << 17 && ZX_VM_FAULT_BEYOND_STREAM_SIZE == 1u << 15);
ASSERT(ZX_VMO_UNBOUNDED == 1u << 4 && ZX_VMO_CHILD_SNAPSHOT_MODIFIED == 1u << 7);
ASSERT(ZX_VMO_OP_PREFETCH == 14u && ZX_VMAR_OP_MAP_RANGE == 3u);
ASSERT(ZX_SEC(2) == 2000000000 && ZX_HOUR(1) == ZX_MIN(60) && ZX_MSEC(3) == ZX_USEC(3000));
ASSERT(ZX_VMO_ZERO_CHILDREN == 8u && ZX_USER_SIGNAL_7 == 0x80000000u);

int main(void) {
  CHECK(zx_time_add_duration(ZX_TIME_INFINITE, 1) == ZX_TIME_INFINITE);
  CHECK(zx_time_sub_duration(ZX_TIME_INFINITE_PAST, 1) == ZX_TIME_INFINITE_PAST);
  CHECK(zx_time_sub_time(ZX_TIME_INFINITE, -1) == ZX_TIME_INFINITE);
  CHECK(zx_duration_mul_int64(ZX_SEC(1), INT64_MIN) == INT64_MIN);
  CHECK(zx_duration_from_sec(INT64_MAX) == ZX_TIME_INFINITE);
  CHECK(zx_duration_add_duration(ZX_SEC(1), ZX_MSEC(5)) == ZX_MSEC(1005));
  return 0;
}
