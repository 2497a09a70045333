/* What the C programs share: a check that says what was not as expected, and pointers that cannot be used. */

#ifndef CHECK_H_
#define CHECK_H_

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zircon/process.h>
#include <zircon/status.h>
#include <zircon/syscalls.h>
#include <zircon/syscalls/object.h>
#include <zircon/types.h>

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
      exit(1);                                                                  \
    }                                                                           \
  } while (0)

/* That a call answers with a status. */
#define EXPECT(call, status) check_status((call), (status), #call, __FILE__, __LINE__)
#define OK(call) EXPECT(call, ZX_OK)

static inline void check_status(zx_status_t is, zx_status_t should, const char* call,
                                const char* file, int line) {
  if (is != should) {
    fprintf(stderr, "%s:%d: %s is %s, not %s\n", file, line, call, zx_status_get_string(is),
            zx_status_get_string(should));
    exit(1);
  }
}

static inline size_t page(void) { return zx_system_get_page_size(); }

static inline void* map_pages(size_t pages, int protection) {
  void* memory = mmap(NULL, pages * page(), protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

/* Addresses that cannot be written. */
enum { BAD_COUNT = 7 };

static inline void* bad_pointer(int which) {
  static void* read_only;
  static void* no_access;
  static char* page_end;
  if (read_only == NULL) {
    read_only = map_pages(1, PROT_READ);
    no_access = map_pages(1, PROT_NONE);
    page_end = (char*)map_pages(2, PROT_READ | PROT_WRITE);
    CHECK(mprotect(page_end + page(), page(), PROT_NONE) == 0);
  }
  switch (which) {
    case 0:
      return NULL;
    case 1:
      return (void*)8; /* nothing is mapped in the first page */
    case 2:
      return read_only;
    case 3:
      return no_access;
    case 4:
      return page_end + page() - 2; /* begins well */
    case 5:
      return (void*)(UINTPTR_MAX - 4096 + 1); /* the kernel's */
    default:
      return (void*)(UINTPTR_MAX - 3); /* the end of all addresses */
  }
}

/* Addresses that cannot be read: the same but for the one that is only read-only. */
#define FOR_BAD(p) \
  for (int which_ = 0; which_ < BAD_COUNT; which_++) \
    for (char* p = (char*)bad_pointer(which_), *once_ = (char*)1; once_ != NULL; once_ = NULL)

static inline zx_handle_t make_vmo(uint64_t size, uint32_t options) {
  zx_handle_t vmo = ZX_HANDLE_INVALID;
  OK(zx_vmo_create(size, options, &vmo));
  CHECK((vmo & ZX_HANDLE_FIXED_BITS_MASK) == ZX_HANDLE_FIXED_BITS_MASK);
  return vmo;
}

static inline zx_handle_t with_rights(zx_handle_t handle, zx_rights_t rights) {
  zx_handle_t copy = ZX_HANDLE_INVALID;
  OK(zx_handle_duplicate(handle, rights, &copy));
  return copy;
}

/* VMO handles and mappings of this process: to see that nothing is left behind. */
static inline size_t count_vmos(void) {
  size_t count = 0;
  OK(zx_object_get_info(zx_process_self(), ZX_INFO_PROCESS_VMOS, NULL, 0, NULL, &count));
  return count;
}

static inline zx_info_handle_basic_t basic(zx_handle_t handle) {
  zx_info_handle_basic_t info;
  OK(zx_object_get_info(handle, ZX_INFO_HANDLE_BASIC, &info, sizeof(info), NULL, NULL));
  return info;
}

#endif /* CHECK_H_ */
