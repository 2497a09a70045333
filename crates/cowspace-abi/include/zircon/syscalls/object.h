/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_SYSCALLS_OBJECT_H_
#define ZIRCON_SYSCALLS_OBJECT_H_

#include <zircon/compiler.h>
#include <zircon/types.h>

__BEGIN_CDECLS

/* Topics of zx_object_get_info: the number, and in the top four bits the version of the record. */

typedef uint32_t zx_object_info_topic_t;

#define __ZX_INFO_TOPIC(number, version) ((zx_object_info_topic_t)(((version) << 28) | (number)))

/* An older version of a VMO's record is the first bytes of the present one. Those of the maps are
 * shorter as well, and count pages. */
#define ZX_INFO_NONE __ZX_INFO_TOPIC(0u, 0u)
#define ZX_INFO_HANDLE_VALID __ZX_INFO_TOPIC(1u, 0u)     /* no record */
#define ZX_INFO_HANDLE_BASIC __ZX_INFO_TOPIC(2u, 0u)     /* zx_info_handle_basic_t[1] */
#define ZX_INFO_VMAR __ZX_INFO_TOPIC(7u, 0u)             /* zx_info_vmar_t[1] */
#define ZX_INFO_PROCESS_MAPS_V1 __ZX_INFO_TOPIC(13u, 0u) /* zx_info_maps_v1_t[n] */
#define ZX_INFO_PROCESS_MAPS_V2 __ZX_INFO_TOPIC(13u, 1u) /* zx_info_maps_v2_t[n] */
#define ZX_INFO_PROCESS_MAPS __ZX_INFO_TOPIC(13u, 2u)    /* zx_info_maps_t[n] */
#define ZX_INFO_PROCESS_VMOS_V1 __ZX_INFO_TOPIC(14u, 0u) /* zx_info_vmo_v1_t[n] */
#define ZX_INFO_PROCESS_VMOS_V2 __ZX_INFO_TOPIC(14u, 1u) /* zx_info_vmo_v2_t[n] */
#define ZX_INFO_PROCESS_VMOS_V3 __ZX_INFO_TOPIC(14u, 2u) /* zx_info_vmo_v3_t[n] */
#define ZX_INFO_PROCESS_VMOS __ZX_INFO_TOPIC(14u, 3u)    /* zx_info_vmo_t[n] */
#define ZX_INFO_THREAD_STATS __ZX_INFO_TOPIC(15u, 0u)    /* zx_info_thread_stats_t[1] */
#define ZX_INFO_HANDLE_COUNT __ZX_INFO_TOPIC(19u, 0u)    /* zx_info_handle_count_t[1] */
#define ZX_INFO_VMO_V1 __ZX_INFO_TOPIC(23u, 0u)          /* zx_info_vmo_v1_t[1] */
#define ZX_INFO_VMO_V2 __ZX_INFO_TOPIC(23u, 1u)          /* zx_info_vmo_v2_t[1] */
#define ZX_INFO_VMO_V3 __ZX_INFO_TOPIC(23u, 2u)          /* zx_info_vmo_v3_t[1] */
#define ZX_INFO_VMO __ZX_INFO_TOPIC(23u, 3u)             /* zx_info_vmo_t[1] */
#define ZX_INFO_VMAR_MAPS __ZX_INFO_TOPIC(36u, 0u)       /* zx_info_maps_t[n] */

typedef struct zx_info_handle_basic {
  zx_koid_t koid;
  zx_rights_t rights;
  zx_obj_type_t type;
  /* Of a thread its process; 0 for a VMO and a VMAR. */
  zx_koid_t related_koid;
  uint32_t reserved;
  uint8_t padding1[4];
} zx_info_handle_basic_t;

typedef struct zx_info_handle_count {
  /* Handles to the object. */
  uint32_t handle_count;
} zx_info_handle_count_t;

typedef struct zx_info_thread_stats {
  /* Its time on a CPU, in nanoseconds. */
  zx_duration_mono_t total_runtime;
  uint32_t last_scheduled_cpu;
  uint8_t padding1[4];
} zx_info_thread_stats_t;

typedef struct zx_info_vmar {
  uintptr_t base;
  size_t len;
} zx_info_vmar_t;

/* What a record of the maps stands for. */
typedef uint32_t zx_info_maps_type_t;

#define ZX_INFO_MAPS_TYPE_NONE ((zx_info_maps_type_t)0u)
#define ZX_INFO_MAPS_TYPE_ASPACE ((zx_info_maps_type_t)1u)
#define ZX_INFO_MAPS_TYPE_VMAR ((zx_info_maps_type_t)2u)
#define ZX_INFO_MAPS_TYPE_MAPPING ((zx_info_maps_type_t)3u)

/* A run of pages of a mapping with the same permissions. The bytes mean for the range what those of
 * the same names mean for a VMO. */
typedef struct zx_info_maps_mapping {
  /* ZX_VM_PERM_* */
  zx_vm_option_t mmu_flags;
  uint8_t padding1[4];
  zx_koid_t vmo_koid;
  /* Of the first byte of the record. */
  uint64_t vmo_offset;
  size_t committed_bytes;
  size_t populated_bytes;
  size_t committed_private_bytes;
  size_t populated_private_bytes;
  size_t committed_scaled_bytes;
  size_t populated_scaled_bytes;
  uint64_t committed_fractional_scaled_bytes;
  uint64_t populated_fractional_scaled_bytes;
} zx_info_maps_mapping_t;

typedef struct zx_info_maps_mapping_v2 {
  zx_vm_option_t mmu_flags;
  uint8_t padding1[4];
  zx_koid_t vmo_koid;
  uint64_t vmo_offset;
  size_t committed_pages;
  size_t populated_pages;
} zx_info_maps_mapping_v2_t;

typedef struct zx_info_maps_mapping_v1 {
  zx_vm_option_t mmu_flags;
  uint8_t padding1[4];
  zx_koid_t vmo_koid;
  uint64_t vmo_offset;
  size_t committed_pages;
} zx_info_maps_mapping_v1_t;

/* Records come parent first, by rising address: one at a depth lies in the last one before it that
 * is less deep. */
typedef struct zx_info_maps {
  char name[ZX_MAX_NAME_LEN];
  zx_vaddr_t base;
  size_t size;
  size_t depth;
  zx_info_maps_type_t type;
  uint8_t padding1[4];
  union {
    /* Of ZX_INFO_MAPS_TYPE_MAPPING; else zero. */
    zx_info_maps_mapping_t mapping;
  } u;
} zx_info_maps_t;

typedef struct zx_info_maps_v2 {
  char name[ZX_MAX_NAME_LEN];
  zx_vaddr_t base;
  size_t size;
  size_t depth;
  zx_info_maps_type_t type;
  uint8_t padding1[4];
  union {
    zx_info_maps_mapping_v2_t mapping;
  } u;
} zx_info_maps_v2_t;

typedef struct zx_info_maps_v1 {
  char name[ZX_MAX_NAME_LEN];
  zx_vaddr_t base;
  size_t size;
  size_t depth;
  zx_info_maps_type_t type;
  uint8_t padding1[4];
  union {
    zx_info_maps_mapping_v1_t mapping;
  } u;
} zx_info_maps_v1_t;

/* Flags of zx_info_vmo_t. */
#define ZX_INFO_VMO_TYPE_PAGED (1u << 0)
#define ZX_INFO_VMO_TYPE_PHYSICAL (0u << 0)
#define ZX_INFO_VMO_RESIZABLE (1u << 1)
#define ZX_INFO_VMO_IS_COW_CLONE (1u << 2)
#define ZX_INFO_VMO_VIA_HANDLE (1u << 3)
#define ZX_INFO_VMO_VIA_MAPPING (1u << 4)
#define ZX_INFO_VMO_PAGER_BACKED (1u << 5)
#define ZX_INFO_VMO_CONTIGUOUS (1u << 6)
#define ZX_INFO_VMO_DISCARDABLE (1u << 7)
#define ZX_INFO_VMO_IMMUTABLE (1u << 8)
#define ZX_INFO_VMO_VIA_IOB_HANDLE (1u << 9)

/* Populated: content that the VMO can reach and that is not plain zero. Committed: what of it is in
 * memory. Private: what no other VMO can reach. Scaled: each byte divided by the number of VMOs
 * that can reach it; fractional: what the division cut off, where 2^63 is one byte. */
typedef struct zx_info_vmo {
  zx_koid_t koid;
  char name[ZX_MAX_NAME_LEN];
  uint64_t size_bytes;
  /* The VMO that it was made from, if that one lives. */
  zx_koid_t parent_koid;
  size_t num_children;
  size_t num_mappings;
  size_t share_count;
  /* ZX_INFO_VMO_* */
  uint32_t flags;
  uint8_t padding1[4];
  uint64_t committed_bytes;
  /* Of the handle that was asked. */
  zx_rights_t handle_rights;
  uint32_t cache_policy;
  uint64_t metadata_bytes;
  uint64_t committed_change_events;
  uint64_t populated_bytes;
  uint64_t committed_private_bytes;
  uint64_t populated_private_bytes;
  uint64_t committed_scaled_bytes;
  uint64_t populated_scaled_bytes;
  uint64_t committed_fractional_scaled_bytes;
  uint64_t populated_fractional_scaled_bytes;
} zx_info_vmo_t;

typedef struct zx_info_vmo_v3 {
  zx_koid_t koid;
  char name[ZX_MAX_NAME_LEN];
  uint64_t size_bytes;
  zx_koid_t parent_koid;
  size_t num_children;
  size_t num_mappings;
  size_t share_count;
  uint32_t flags;
  uint8_t padding1[4];
  uint64_t committed_bytes;
  zx_rights_t handle_rights;
  uint32_t cache_policy;
  uint64_t metadata_bytes;
  uint64_t committed_change_events;
  uint64_t populated_bytes;
} zx_info_vmo_v3_t;

typedef struct zx_info_vmo_v2 {
  zx_koid_t koid;
  char name[ZX_MAX_NAME_LEN];
  uint64_t size_bytes;
  zx_koid_t parent_koid;
  size_t num_children;
  size_t num_mappings;
  size_t share_count;
  uint32_t flags;
  uint8_t padding1[4];
  uint64_t committed_bytes;
  zx_rights_t handle_rights;
  uint32_t cache_policy;
  uint64_t metadata_bytes;
  uint64_t committed_change_events;
} zx_info_vmo_v2_t;

typedef struct zx_info_vmo_v1 {
  zx_koid_t koid;
  char name[ZX_MAX_NAME_LEN];
  uint64_t size_bytes;
  zx_koid_t parent_koid;
  size_t num_children;
  size_t num_mappings;
  size_t share_count;
  uint32_t flags;
  uint8_t padding1[4];
  uint64_t committed_bytes;
  zx_rights_t handle_rights;
  uint32_t cache_policy;
} zx_info_vmo_v1_t;

/* Properties of zx_object_get_property and zx_object_set_property. */

/* char[ZX_MAX_NAME_LEN] */
#define ZX_PROP_NAME ((uint32_t)3u)
/* uint64_t */
#define ZX_PROP_VMO_CONTENT_SIZE ((uint32_t)17u)

__END_CDECLS

#endif /* ZIRCON_SYSCALLS_OBJECT_H_ */
