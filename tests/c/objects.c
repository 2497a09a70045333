/* zx_object_*. */

#include <pthread.h>

#include "check.h"

/* A topic with one record of `len` bytes: sizes of buffers, pointers that are null, pointers that are bad. */
static void one_record(zx_handle_t handle, uint32_t topic, size_t len, zx_handle_t other_type) {
  unsigned char buffer[256];
  size_t actual = 77, avail = 77;
  memset(buffer, 0xee, sizeof(buffer));
  EXPECT(zx_object_get_info(handle, topic, buffer, len - 1, &actual, &avail),
         ZX_ERR_BUFFER_TOO_SMALL);
  CHECK(actual == 0 && avail == 1 && buffer[0] == 0xee);
  EXPECT(zx_object_get_info(handle, topic, NULL, 0, NULL, NULL), ZX_ERR_BUFFER_TOO_SMALL);
  OK(zx_object_get_info(handle, topic, buffer, sizeof(buffer), &actual, &avail));
  CHECK(actual == 1 && avail == 1 && buffer[len] == 0xee);
  OK(zx_object_get_info(handle, topic, buffer, len, NULL, NULL));
  EXPECT(zx_object_get_info(0, topic, NULL, 0, &actual, &avail), ZX_ERR_BAD_HANDLE);
  if (other_type != ZX_HANDLE_INVALID) {
    EXPECT(zx_object_get_info(other_type, topic, NULL, 0, &actual, &avail), ZX_ERR_WRONG_TYPE);
  }
  FOR_BAD(p) {
    EXPECT(zx_object_get_info(handle, topic, p, len, NULL, NULL), ZX_ERR_INVALID_ARGS);
    if (p != NULL) {
      EXPECT(zx_object_get_info(handle, topic, buffer, len, (size_t*)p, NULL),
             ZX_ERR_INVALID_ARGS);
      EXPECT(zx_object_get_info(handle, topic, buffer, len, NULL, (size_t*)p),
             ZX_ERR_INVALID_ARGS);
    }
  }
}

/* A topic with many records, at least two. */
static void many_records(zx_handle_t handle, uint32_t topic, size_t len, zx_handle_t other_type) {
  static unsigned char buffer[1 << 16];
  size_t actual = 77, avail = 77;
  OK(zx_object_get_info(handle, topic, NULL, 0, &actual, &avail));
  CHECK(actual == 0 && avail >= 2 && avail * len <= sizeof(buffer));
  memset(buffer, 0xee, sizeof(buffer));
  size_t all = 0;
  OK(zx_object_get_info(handle, topic, buffer, 2 * len - 1, &actual, &all));
  CHECK(actual == 1 && all == avail && buffer[len] == 0xee);
  OK(zx_object_get_info(handle, topic, buffer, sizeof(buffer), &actual, &all));
  CHECK(actual == avail && all == avail && buffer[avail * len] == 0xee);
  EXPECT(zx_object_get_info(handle, topic, NULL, 1, NULL, NULL), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_object_get_info(0, topic, NULL, 0, NULL, NULL), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_object_get_info(other_type, topic, NULL, 0, NULL, NULL), ZX_ERR_WRONG_TYPE);
  zx_handle_t plain = with_rights(handle, ZX_RIGHT_NONE);
  EXPECT(zx_object_get_info(plain, topic, NULL, 1, NULL, NULL), ZX_ERR_ACCESS_DENIED);
  OK(zx_handle_close(plain));
  FOR_BAD(p) EXPECT(zx_object_get_info(handle, topic, p, len, NULL, NULL), ZX_ERR_INVALID_ARGS);
}

static void info(zx_handle_t vmo) {
  zx_handle_t root = zx_vmar_root_self();
  zx_handle_t process = zx_process_self();
  OK(zx_object_get_info(vmo, ZX_INFO_HANDLE_VALID, NULL, 0, NULL, NULL));
  EXPECT(zx_object_get_info(0, ZX_INFO_HANDLE_VALID, NULL, 0, NULL, NULL), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_object_get_info(vmo, ZX_INFO_NONE, NULL, 0, NULL, NULL), ZX_ERR_NOT_SUPPORTED);
  EXPECT(zx_object_get_info(0, 0x70000017, NULL, 0, NULL, NULL), ZX_ERR_NOT_SUPPORTED);

  one_record(vmo, ZX_INFO_HANDLE_BASIC, sizeof(zx_info_handle_basic_t), ZX_HANDLE_INVALID);
  one_record(vmo, ZX_INFO_HANDLE_COUNT, sizeof(zx_info_handle_count_t), ZX_HANDLE_INVALID);
  one_record(root, ZX_INFO_VMAR, sizeof(zx_info_vmar_t), vmo);
  one_record(zx_thread_self(), ZX_INFO_THREAD_STATS, sizeof(zx_info_thread_stats_t), vmo);
  one_record(vmo, ZX_INFO_VMO_V1, sizeof(zx_info_vmo_v1_t), root);
  one_record(vmo, ZX_INFO_VMO_V2, sizeof(zx_info_vmo_v2_t), root);
  one_record(vmo, ZX_INFO_VMO_V3, sizeof(zx_info_vmo_v3_t), root);
  one_record(vmo, ZX_INFO_VMO, sizeof(zx_info_vmo_t), root);
  many_records(root, ZX_INFO_VMAR_MAPS, sizeof(zx_info_maps_t), vmo);
  many_records(process, ZX_INFO_PROCESS_MAPS, sizeof(zx_info_maps_t), vmo);
  many_records(process, ZX_INFO_PROCESS_MAPS_V1, sizeof(zx_info_maps_v1_t), vmo);
  many_records(process, ZX_INFO_PROCESS_MAPS_V2, sizeof(zx_info_maps_v2_t), vmo);
  many_records(process, ZX_INFO_PROCESS_VMOS, sizeof(zx_info_vmo_t), vmo);
  many_records(process, ZX_INFO_PROCESS_VMOS_V1, sizeof(zx_info_vmo_v1_t), vmo);
  many_records(process, ZX_INFO_PROCESS_VMOS_V2, sizeof(zx_info_vmo_v2_t), vmo);
  many_records(process, ZX_INFO_PROCESS_VMOS_V3, sizeof(zx_info_vmo_v3_t), vmo);

  zx_info_handle_count_t count;
  OK(zx_object_get_info(vmo, ZX_INFO_HANDLE_COUNT, &count, sizeof(count), NULL, NULL));
  CHECK(count.handle_count == 1);

  /* The older versions are the first bytes of the newest. */
  zx_info_vmo_t newest;
  unsigned char older[sizeof(newest)];
  OK(zx_object_get_info(vmo, ZX_INFO_VMO, &newest, sizeof(newest), NULL, NULL));
  CHECK(newest.koid == basic(vmo).koid && newest.size_bytes == 3 * page());
  CHECK(newest.flags == (ZX_INFO_VMO_TYPE_PAGED | ZX_INFO_VMO_VIA_HANDLE));
  CHECK(newest.populated_bytes == page() && newest.num_mappings == 1);
  CHECK(strcmp(newest.name, "named") == 0 && newest.handle_rights == ZX_DEFAULT_VMO_RIGHTS);
  OK(zx_object_get_info(vmo, ZX_INFO_VMO_V1, older, sizeof(older), NULL, NULL));
  CHECK(memcmp(older, &newest, sizeof(zx_info_vmo_v1_t)) == 0);

  /* The mapping is in the maps, in bytes and, in the older versions, in pages. */
  zx_info_maps_t maps[8];
  zx_info_maps_v1_t maps_v1[8];
  zx_info_maps_v2_t maps_v2[8];
  size_t n = 0, n1 = 0, n2 = 0;
  OK(zx_object_get_info(process, ZX_INFO_PROCESS_MAPS, maps, sizeof(maps), &n, NULL));
  OK(zx_object_get_info(process, ZX_INFO_PROCESS_MAPS_V1, maps_v1, sizeof(maps_v1), &n1, NULL));
  OK(zx_object_get_info(process, ZX_INFO_PROCESS_MAPS_V2, maps_v2, sizeof(maps_v2), &n2, NULL));
  CHECK(n == 3 && n1 == 3 && n2 == 3);
  CHECK(maps[0].type == ZX_INFO_MAPS_TYPE_ASPACE && maps[0].depth == 0);
  CHECK(maps[1].type == ZX_INFO_MAPS_TYPE_VMAR && maps[1].depth == 1);
  CHECK(maps[2].type == ZX_INFO_MAPS_TYPE_MAPPING && maps[2].depth == 2);
  CHECK(maps[2].size == 3 * page() && strcmp(maps[2].name, "named") == 0);
  CHECK(maps[2].u.mapping.vmo_koid == newest.koid);
  CHECK(maps[2].u.mapping.mmu_flags == ZX_VM_PERM_READ);
  CHECK(maps[2].u.mapping.populated_bytes == page());
  CHECK(maps_v1[2].base == maps[2].base && maps_v1[2].u.mapping.committed_pages == 1);
  CHECK(maps_v2[2].base == maps[2].base && maps_v2[2].u.mapping.populated_pages == 1);

  zx_info_thread_stats_t stats, later;
  OK(zx_object_get_info(zx_thread_self(), ZX_INFO_THREAD_STATS, &stats, sizeof(stats), NULL, NULL));
  do {
    OK(zx_object_get_info(zx_thread_self(), ZX_INFO_THREAD_STATS, &later, sizeof(later), NULL,
                          NULL));
  } while (later.total_runtime == stats.total_runtime);
  CHECK(later.total_runtime > stats.total_runtime && stats.total_runtime > 0);
}

static void properties(zx_handle_t vmo) {
  zx_handle_t plain = with_rights(vmo, ZX_RIGHT_NONE);
  char name[ZX_MAX_NAME_LEN + 8];
  OK(zx_object_set_property(vmo, ZX_PROP_NAME, "named", 5));
  memset(name, 'x', sizeof(name));
  OK(zx_object_get_property(vmo, ZX_PROP_NAME, name, sizeof(name)));
  CHECK(strcmp(name, "named") == 0 && name[31] == 0 && name[32] == 'x');
  /* A name is cut after 31 bytes, and read no further. */
  char* end = (char*)bad_pointer(4) + 2 - 31;
  memset(end, 'n', 31);
  OK(zx_object_set_property(vmo, ZX_PROP_NAME, end, 1000));
  OK(zx_object_get_property(vmo, ZX_PROP_NAME, name, 32));
  CHECK(strlen(name) == 31);
  OK(zx_object_set_property(vmo, ZX_PROP_NAME, "named", 6));

  /* Null first, then the handle and its right, then the rest. */
  EXPECT(zx_object_get_property(0, ZX_PROP_NAME, NULL, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_object_set_property(0, ZX_PROP_NAME, NULL, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_object_get_property(0, ZX_PROP_NAME, name, 0), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_object_set_property(0, ZX_PROP_NAME, name, 0), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_object_get_property(plain, ZX_PROP_NAME, name, 0), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_object_set_property(plain, ZX_PROP_NAME, bad_pointer(1), 5), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_object_get_property(zx_vmar_root_self(), ZX_PROP_NAME, name, 32), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_object_get_property(plain, 999, name, 0), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_object_get_property(vmo, 999, name, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_object_set_property(vmo, 999, name, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_object_get_property(vmo, ZX_PROP_NAME, name, 31), ZX_ERR_BUFFER_TOO_SMALL);
  FOR_BAD(p) {
    EXPECT(zx_object_get_property(vmo, ZX_PROP_NAME, p, 32), ZX_ERR_INVALID_ARGS);
    if (p != bad_pointer(2)) {
      EXPECT(zx_object_set_property(vmo, ZX_PROP_NAME, p, 5), ZX_ERR_INVALID_ARGS);
    }
  }

  uint64_t size = 5;
  OK(zx_object_set_property(vmo, ZX_PROP_VMO_CONTENT_SIZE, &size, sizeof(size)));
  size = 0;
  OK(zx_object_get_property(vmo, ZX_PROP_VMO_CONTENT_SIZE, &size, sizeof(size)));
  CHECK(size == 5);
  EXPECT(zx_object_get_property(vmo, ZX_PROP_VMO_CONTENT_SIZE, &size, 7), ZX_ERR_BUFFER_TOO_SMALL);
  EXPECT(zx_object_set_property(vmo, ZX_PROP_VMO_CONTENT_SIZE, &size, 7), ZX_ERR_BUFFER_TOO_SMALL);
  EXPECT(zx_object_get_property(zx_process_self(), ZX_PROP_VMO_CONTENT_SIZE, &size, sizeof(size)),
         ZX_ERR_WRONG_TYPE);
  EXPECT(zx_object_set_property(zx_process_self(), ZX_PROP_VMO_CONTENT_SIZE, &size, sizeof(size)),
         ZX_ERR_WRONG_TYPE);
  zx_handle_t no_write = with_rights(vmo, ZX_RIGHTS_PROPERTY);
  EXPECT(zx_object_set_property(no_write, ZX_PROP_VMO_CONTENT_SIZE, &size, 0),
         ZX_ERR_ACCESS_DENIED);
  OK(zx_handle_close(no_write));

  /* The name of a thread is what Linux shows, as far as it goes. */
  OK(zx_object_set_property(zx_thread_self(), ZX_PROP_NAME, "worker", 6));
  OK(zx_object_get_property(zx_thread_self(), ZX_PROP_NAME, name, 32));
  CHECK(strcmp(name, "worker") == 0);
  char comm[16];
  CHECK(pthread_getname_np(pthread_self(), comm, sizeof(comm)) == 0 && strcmp(comm, "worker") == 0);
  OK(zx_object_set_property(zx_process_self(), ZX_PROP_NAME, "program", 7));
  OK(zx_object_get_property(zx_process_self(), ZX_PROP_NAME, name, 32));
  CHECK(strcmp(name, "program") == 0);
  OK(zx_handle_close(plain));
}

static void* signal_later(void* handle) {
  OK(zx_object_signal(*(zx_handle_t*)handle, 0, ZX_USER_SIGNAL_3));
  return NULL;
}

static void signals(zx_handle_t vmo) {
  zx_signals_t seen = 0;
  zx_handle_t plain = with_rights(vmo, ZX_RIGHT_NONE);
  OK(zx_object_wait_one(vmo, ZX_VMO_ZERO_CHILDREN, 0, &seen));
  CHECK(seen == ZX_VMO_ZERO_CHILDREN);
  EXPECT(zx_object_wait_one(vmo, ZX_USER_SIGNAL_3, ZX_TIME_INFINITE_PAST, &seen), ZX_ERR_TIMED_OUT);
  CHECK(seen == ZX_VMO_ZERO_CHILDREN);
  EXPECT(zx_object_wait_one(0, ~0u, 0, &seen), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_object_wait_one(plain, ~0u, 0, &seen), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_object_signal(0, 0, 0), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_object_signal(plain, 0, 1), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_object_signal(vmo, 0, ZX_VMO_ZERO_CHILDREN), ZX_ERR_INVALID_ARGS);
  OK(zx_object_wait_one(vmo, ~0u, 0, NULL));
  FOR_BAD(p) {
    if (p != NULL) {
      EXPECT(zx_object_wait_one(vmo, ~0u, 0, (zx_signals_t*)p), ZX_ERR_INVALID_ARGS);
    }
  }
  pthread_t other;
  CHECK(pthread_create(&other, NULL, signal_later, &vmo) == 0);
  OK(zx_object_wait_one(vmo, ZX_USER_SIGNAL_3, ZX_TIME_INFINITE, &seen));
  CHECK(seen == (ZX_VMO_ZERO_CHILDREN | ZX_USER_SIGNAL_3));
  CHECK(pthread_join(other, NULL) == 0);
  zx_time_t deadline = zx_deadline_after(ZX_MSEC(2));
  EXPECT(zx_object_wait_one(vmo, ZX_USER_SIGNAL_0, deadline, NULL), ZX_ERR_TIMED_OUT);
  CHECK(zx_clock_get_monotonic() >= deadline);
  OK(zx_handle_close(plain));
}

static void children(zx_handle_t vmo) {
  zx_handle_t out;
  EXPECT(zx_object_get_child(0, 0, 0, &out), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_object_get_child(vmo, 0, 0, &out), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_object_get_child(zx_process_self(), 0, ZX_RIGHT_MAP, &out), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_object_get_child(zx_process_self(), 0, ZX_RIGHT_SAME_RIGHTS, &out),
         ZX_ERR_NOT_SUPPORTED);
}

int main(void) {
  zx_handle_t vmo = make_vmo(3 * page(), 0);
  properties(vmo);
  signals(vmo);
  children(vmo);
  zx_vaddr_t address = 0;
  OK(zx_vmo_write(vmo, "x", page(), 1));
  OK(zx_vmar_map(zx_vmar_root_self(), ZX_VM_PERM_READ, 0, vmo, 0, 3 * page(), &address));
  info(vmo);
  return 0;
}
