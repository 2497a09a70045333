/* zx_vmo_*. */

#include "check.h"

static zx_handle_t root;

static char* map_vmo(zx_handle_t vmo, uint64_t offset, size_t len, zx_vm_option_t options) {
  zx_vaddr_t address = 0;
  OK(zx_vmar_map(root, options, 0, vmo, offset, len, &address));
  return (char*)address;
}

/* Each call with a handle: what is no handle, and what is no VMO. */
static void wrong_handles(void) {
  const zx_handle_t wrong[3] = {ZX_HANDLE_INVALID, 12345, root};
  const zx_status_t status[3] = {ZX_ERR_BAD_HANDLE, ZX_ERR_BAD_HANDLE, ZX_ERR_WRONG_TYPE};
  zx_handle_t vmo = make_vmo(page(), 0);
  for (int i = 0; i < 3; i++) {
    char buffer[4];
    uint64_t size;
    zx_handle_t out;
    EXPECT(zx_vmo_read(wrong[i], buffer, 0, 1), status[i]);
    EXPECT(zx_vmo_write(wrong[i], buffer, 0, 1), status[i]);
    EXPECT(zx_vmo_get_size(wrong[i], &size), status[i]);
    EXPECT(zx_vmo_set_size(wrong[i], 0), status[i]);
    EXPECT(zx_vmo_get_stream_size(wrong[i], &size), status[i]);
    EXPECT(zx_vmo_set_stream_size(wrong[i], 0), status[i]);
    EXPECT(zx_vmo_op_range(wrong[i], ZX_VMO_OP_ZERO, 0, 0, NULL, 0), status[i]);
    EXPECT(zx_vmo_op_range(wrong[i], ZX_VMO_OP_LOCK, 0, 0, buffer, 1000), status[i]);
    EXPECT(zx_vmo_create_child(wrong[i], ZX_VMO_CHILD_SNAPSHOT, 0, 0, &out), status[i]);
    EXPECT(zx_vmo_set_cache_policy(wrong[i], 0), status[i]);
    EXPECT(zx_vmo_transfer_data(wrong[i], 0, 0, 0, vmo, 0), status[i]);
    EXPECT(zx_vmo_transfer_data(vmo, 0, 0, 0, wrong[i], 0), status[i]);
  }
  OK(zx_handle_close(vmo));
}

static void making(void) {
  zx_handle_t out = 77;
  EXPECT(zx_vmo_create(UINT64_MAX, 0, &out), ZX_ERR_OUT_OF_RANGE);
  EXPECT(zx_vmo_create(0, 1u << 31, &out), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmo_create(0, ZX_VMO_TRAP_DIRTY, &out), ZX_ERR_INVALID_ARGS);
  CHECK(out == 77);
  size_t before = count_vmos();
  FOR_BAD(p) EXPECT(zx_vmo_create(0, 0, (zx_handle_t*)p), ZX_ERR_INVALID_ARGS);
  CHECK(count_vmos() == before);

  zx_handle_t vmo = make_vmo(1, ZX_VMO_RESIZABLE);
  CHECK(basic(vmo).rights == (ZX_DEFAULT_VMO_RIGHTS | ZX_RIGHT_RESIZE));
  uint64_t size = 0;
  OK(zx_vmo_get_size(vmo, &size));
  CHECK(size == page());
  OK(zx_vmo_set_size(vmo, page() + 1));
  OK(zx_vmo_get_size(vmo, &size));
  CHECK(size == 2 * page());
  OK(zx_vmo_get_stream_size(vmo, &size));
  CHECK(size == page() + 1);
  OK(zx_vmo_set_stream_size(vmo, 5));
  OK(zx_vmo_get_stream_size(vmo, &size));
  CHECK(size == 5);
  EXPECT(zx_vmo_set_stream_size(vmo, 2 * page() + 1), ZX_ERR_OUT_OF_RANGE);
  FOR_BAD(p) EXPECT(zx_vmo_get_size(vmo, (uint64_t*)p), ZX_ERR_INVALID_ARGS);
  FOR_BAD(p) EXPECT(zx_vmo_get_stream_size(vmo, (uint64_t*)p), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmo_set_size(vmo, UINT64_MAX), ZX_ERR_OUT_OF_RANGE);
  OK(zx_handle_close(vmo));

  /* What cannot be had on Linux. */
  EXPECT(zx_vmo_create_contiguous(0, 0, 0, &out), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmo_create_contiguous(0, 1, 1, &out), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmo_create_contiguous(0, 1, 64, &out), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmo_create_contiguous(0, 1, 0, &out), ZX_ERR_NOT_SUPPORTED);
  EXPECT(zx_vmo_create_contiguous(0, 1, 20, &out), ZX_ERR_NOT_SUPPORTED);
  EXPECT(zx_vmo_create_physical(0, 0, page(), &out), ZX_ERR_NOT_SUPPORTED);
}

static void reading_and_writing(void) {
  zx_handle_t vmo = make_vmo(100 * page(), 0);
  /* Longer than goes through at once, and at odd places. */
  size_t len = 90 * page() + 7;
  unsigned char* bytes = (unsigned char*)malloc(len);
  unsigned char* back = (unsigned char*)malloc(len);
  CHECK(bytes != NULL && back != NULL);
  for (size_t i = 0; i < len; i++) {
    bytes[i] = (unsigned char)(i * 31 + i / 251);
  }
  OK(zx_vmo_write(vmo, bytes, 13, len));
  OK(zx_vmo_read(vmo, back, 13, len));
  CHECK(memcmp(bytes, back, len) == 0);
  free(bytes);
  free(back);

  char byte = 0;
  OK(zx_vmo_read(vmo, NULL, 0, 0));
  OK(zx_vmo_write(vmo, NULL, 100 * page(), 0));
  EXPECT(zx_vmo_read(vmo, &byte, 100 * page(), 1), ZX_ERR_OUT_OF_RANGE);
  EXPECT(zx_vmo_write(vmo, &byte, UINT64_MAX, 2), ZX_ERR_OUT_OF_RANGE);
  /* The rights come first, then the range, and only then the buffer. */
  zx_handle_t plain = with_rights(vmo, ZX_RIGHT_NONE);
  EXPECT(zx_vmo_read(plain, NULL, UINT64_MAX, 2), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_vmo_write(plain, NULL, UINT64_MAX, 2), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_vmo_read(vmo, NULL, UINT64_MAX, 2), ZX_ERR_OUT_OF_RANGE);
  EXPECT(zx_vmo_write(vmo, NULL, UINT64_MAX, 2), ZX_ERR_OUT_OF_RANGE);
  OK(zx_handle_close(plain));
  OK(zx_handle_close(vmo));
}

static void buffers(zx_handle_t vmo) {
  /* Memory of the program's own. */
  char* read_only = (char*)map_pages(1, PROT_READ);
  char* no_access = (char*)map_pages(1, PROT_NONE);
  char* gone = (char*)map_pages(1, PROT_READ | PROT_WRITE);
  char* half = (char*)map_pages(2, PROT_READ | PROT_WRITE);
  CHECK(munmap(gone, page()) == 0 && munmap(half + page(), page()) == 0);
  EXPECT(zx_vmo_read(vmo, read_only, 0, 1), ZX_ERR_ACCESS_DENIED);
  OK(zx_vmo_write(vmo, read_only, 0, 1));
  EXPECT(zx_vmo_read(vmo, no_access, 0, 1), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_vmo_write(vmo, no_access, 0, 1), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_vmo_read(vmo, gone, 0, 1), ZX_ERR_NOT_FOUND);
  EXPECT(zx_vmo_write(vmo, gone, 0, 1), ZX_ERR_NOT_FOUND);
  EXPECT(zx_vmo_read(vmo, half + page() - 3, 0, 4), ZX_ERR_NOT_FOUND);
  EXPECT(zx_vmo_write(vmo, half + page() - 3, 0, 4), ZX_ERR_NOT_FOUND);
  EXPECT(zx_vmo_read(vmo, NULL, 0, 1), ZX_ERR_NOT_FOUND);
  EXPECT(zx_vmo_write(vmo, (void*)(UINTPTR_MAX - 1), 0, 1), ZX_ERR_NOT_FOUND);
  OK(zx_vmo_read(vmo, half + page() - 4, 0, 4));

  /* Memory of VMOs. */
  zx_handle_t other = make_vmo(4 * page(), ZX_VMO_RESIZABLE);
  zx_vm_option_t both = ZX_VM_PERM_READ | ZX_VM_PERM_WRITE;
  char* mapped = map_vmo(other, 0, 4 * page(), both);
  OK(zx_vmo_write(vmo, "from here", 0, 10));
  OK(zx_vmo_read(vmo, mapped + page() - 5, 0, 10));
  CHECK(strcmp(mapped + page() - 5, "from here") == 0);
  OK(zx_vmo_write(vmo, mapped + page() - 5, 100, 10));
  char text[10];
  OK(zx_vmo_read(vmo, text, 100, 10));
  CHECK(strcmp(text, "from here") == 0);
  /* Of the same VMO. */
  OK(zx_vmo_write(other, mapped + page() - 5, 3 * page() - 3, 10));
  CHECK(strcmp(mapped + 3 * page() - 3, "from here") == 0);

  OK(zx_vmar_protect(root, ZX_VM_PERM_READ, (zx_vaddr_t)mapped, page()));
  EXPECT(zx_vmo_read(vmo, mapped + 5, 0, 10), ZX_ERR_ACCESS_DENIED);
  OK(zx_vmo_write(vmo, mapped + 5, 0, 10));
  OK(zx_vmar_protect(root, 0, (zx_vaddr_t)mapped, page()));
  EXPECT(zx_vmo_write(vmo, mapped + 5, 0, 10), ZX_ERR_ACCESS_DENIED);
  OK(zx_vmo_set_size(other, 2 * page()));
  EXPECT(zx_vmo_read(vmo, mapped + 2 * page(), 0, 1), ZX_ERR_OUT_OF_RANGE);
  EXPECT(zx_vmo_write(vmo, mapped + 2 * page() - 1, 0, 2), ZX_ERR_OUT_OF_RANGE);
  OK(zx_vmar_unmap(root, (zx_vaddr_t)mapped, 4 * page()));
  EXPECT(zx_vmo_read(vmo, mapped, 0, 1), ZX_ERR_NOT_FOUND);
  EXPECT(zx_vmo_write(vmo, mapped, 0, 1), ZX_ERR_NOT_FOUND);
  OK(zx_handle_close(other));
}

static void operations(void) {
  zx_handle_t vmo = make_vmo(2 * page(), 0);
  OK(zx_vmo_write(vmo, "x", 0, 1));
  OK(zx_vmo_op_range(vmo, ZX_VMO_OP_COMMIT, 0, 2 * page(), NULL, 0));
  OK(zx_vmo_op_range(vmo, ZX_VMO_OP_ZERO, 0, 1, NULL, 0));
  char byte = 1;
  OK(zx_vmo_read(vmo, &byte, 0, 1));
  CHECK(byte == 0);
  OK(zx_vmo_op_range(vmo, ZX_VMO_OP_DECOMMIT, 0, 2 * page(), NULL, 0));
  EXPECT(zx_vmo_op_range(vmo, 5, 0, 0, NULL, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmo_op_range(vmo, ZX_VMO_OP_COMMIT, page(), 2 * page(), NULL, 0), ZX_ERR_OUT_OF_RANGE);
  OK(zx_vmo_set_cache_policy(vmo, ZX_CACHE_POLICY_CACHED));
  EXPECT(zx_vmo_set_cache_policy(vmo, ZX_CACHE_POLICY_UNCACHED), ZX_ERR_NOT_SUPPORTED);
  EXPECT(zx_vmo_set_cache_policy(vmo, 4), ZX_ERR_INVALID_ARGS);
  zx_vmo_lock_state_t state;
  EXPECT(zx_vmo_op_range(vmo, ZX_VMO_OP_LOCK, 0, 2 * page(), &state, sizeof(state)),
         ZX_ERR_NOT_SUPPORTED);
  OK(zx_handle_close(vmo));

  vmo = make_vmo(2 * page(), ZX_VMO_DISCARDABLE);
  memset(&state, 0xff, sizeof(state));
  /* The range comes before the buffer, and no lock remains of a call that failed. */
  EXPECT(zx_vmo_op_range(vmo, ZX_VMO_OP_LOCK, 0, page(), NULL, 0), ZX_ERR_OUT_OF_RANGE);
  EXPECT(zx_vmo_op_range(vmo, ZX_VMO_OP_LOCK, 0, page(), &state, sizeof(state)),
         ZX_ERR_OUT_OF_RANGE);
  EXPECT(zx_vmo_op_range(vmo, ZX_VMO_OP_LOCK, 0, 2 * page(), &state, sizeof(state) - 1),
         ZX_ERR_INVALID_ARGS);
  FOR_BAD(p) {
    EXPECT(zx_vmo_op_range(vmo, ZX_VMO_OP_LOCK, 0, 2 * page(), p, sizeof(state)),
           ZX_ERR_INVALID_ARGS);
  }
  EXPECT(zx_vmo_op_range(vmo, ZX_VMO_OP_UNLOCK, 0, 2 * page(), NULL, 0), ZX_ERR_BAD_STATE);
  OK(zx_vmo_op_range(vmo, ZX_VMO_OP_LOCK, 0, 2 * page(), &state, sizeof(state)));
  CHECK(state.offset == 0 && state.size == 2 * page());
  CHECK(state.discarded_offset == 0 && state.discarded_size == 0);
  OK(zx_vmo_op_range(vmo, ZX_VMO_OP_TRY_LOCK, 0, 2 * page(), NULL, 0));
  OK(zx_vmo_op_range(vmo, ZX_VMO_OP_UNLOCK, 0, 2 * page(), NULL, 0));
  OK(zx_vmo_op_range(vmo, ZX_VMO_OP_UNLOCK, 0, 2 * page(), NULL, 0));
  EXPECT(zx_vmo_op_range(vmo, ZX_VMO_OP_UNLOCK, 0, 2 * page(), NULL, 0), ZX_ERR_BAD_STATE);
  OK(zx_handle_close(vmo));
}

static void children(void) {
  zx_handle_t vmo = make_vmo(2 * page(), 0);
  OK(zx_vmo_write(vmo, "parent", 0, 7));
  zx_handle_t child = ZX_HANDLE_INVALID;
  OK(zx_vmo_create_child(vmo, ZX_VMO_CHILD_SNAPSHOT, 0, 2 * page(), &child));
  OK(zx_vmo_write(child, "c", 0, 1));
  char text[7];
  OK(zx_vmo_read(vmo, text, 0, 7));
  CHECK(strcmp(text, "parent") == 0);
  OK(zx_vmo_read(child, text, 0, 7));
  CHECK(strcmp(text, "carent") == 0);
  EXPECT(zx_vmo_create_child(vmo, 0, 0, page(), &child), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmo_create_child(vmo, ZX_VMO_CHILD_SNAPSHOT, 0, UINT64_MAX, &child),
         ZX_ERR_OUT_OF_RANGE);
  FOR_BAD(p) {
    EXPECT(zx_vmo_create_child(vmo, ZX_VMO_CHILD_SLICE, 0, page(), (zx_handle_t*)p),
           ZX_ERR_INVALID_ARGS);
  }
  zx_info_vmo_t info;
  OK(zx_object_get_info(vmo, ZX_INFO_VMO, &info, sizeof(info), NULL, NULL));
  CHECK(info.num_children == 1);

  zx_handle_t target = make_vmo(page(), 0);
  OK(zx_vmo_transfer_data(target, 0, 0, page(), child, 0));
  OK(zx_vmo_read(target, text, 0, 7));
  CHECK(strcmp(text, "carent") == 0);
  OK(zx_vmo_read(child, text, 0, 7));
  CHECK(text[0] == 0);
  EXPECT(zx_vmo_transfer_data(target, 1, 0, page(), child, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmo_transfer_data(target, 0, 0, 2 * page(), child, 0), ZX_ERR_OUT_OF_RANGE);
  OK(zx_handle_close(target));
  OK(zx_handle_close(child));
  OK(zx_handle_close(vmo));
}

static void executable(void) {
  zx_handle_t vmo = make_vmo(page(), 0);
  zx_handle_t out = 77;
  EXPECT(zx_vmo_replace_as_executable(0, 0, &out), ZX_ERR_BAD_HANDLE);
  zx_handle_t copy = with_rights(vmo, ZX_RIGHT_READ);
  OK(zx_vmo_replace_as_executable(copy, ZX_HANDLE_INVALID, &out));
  CHECK(basic(out).rights == (ZX_RIGHT_READ | ZX_RIGHT_EXECUTE));
  EXPECT(zx_handle_close(copy), ZX_ERR_BAD_HANDLE);
  OK(zx_handle_close(out));
  /* Consumed in any case. */
  const zx_handle_t vmex[3] = {12345, root, ZX_HANDLE_INVALID};
  const zx_status_t status[3] = {ZX_ERR_BAD_HANDLE, ZX_ERR_WRONG_TYPE, ZX_ERR_INVALID_ARGS};
  for (int i = 0; i < 3; i++) {
    copy = with_rights(vmo, ZX_RIGHT_READ);
    EXPECT(zx_vmo_replace_as_executable(copy, vmex[i], NULL), status[i]);
    EXPECT(zx_handle_close(copy), ZX_ERR_BAD_HANDLE);
  }
  copy = with_rights(root, ZX_RIGHT_SAME_RIGHTS);
  EXPECT(zx_vmo_replace_as_executable(copy, ZX_HANDLE_INVALID, &out), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_handle_close(copy), ZX_ERR_BAD_HANDLE);
  OK(zx_handle_close(vmo));
}

int main(void) {
  root = zx_vmar_root_self();
  wrong_handles();
  making();
  reading_and_writing();
  zx_handle_t vmo = make_vmo(page(), 0);
  buffers(vmo);
  OK(zx_handle_close(vmo));
  operations();
  children();
  executable();
  CHECK(count_vmos() == 0);
  return 0;
}
