/* zx_vmar_*. */

#include "check.h"

static const zx_vm_option_t kBoth = ZX_VM_PERM_READ | ZX_VM_PERM_WRITE;

static size_t count_maps(zx_handle_t vmar) {
  size_t count = 0;
  OK(zx_object_get_info(vmar, ZX_INFO_VMAR_MAPS, NULL, 0, NULL, &count));
  return count;
}

static void wrong_handles(zx_handle_t vmo) {
  const zx_handle_t wrong[3] = {ZX_HANDLE_INVALID, 12345, vmo};
  const zx_status_t status[3] = {ZX_ERR_BAD_HANDLE, ZX_ERR_BAD_HANDLE, ZX_ERR_WRONG_TYPE};
  for (int i = 0; i < 3; i++) {
    zx_handle_t out;
    zx_vaddr_t address;
    EXPECT(zx_vmar_allocate(wrong[i], 0, 0, page(), &out, &address), status[i]);
    EXPECT(zx_vmar_map(wrong[i], 0, 0, vmo, 0, page(), &address), status[i]);
    EXPECT(zx_vmar_unmap(wrong[i], 0, page()), status[i]);
    EXPECT(zx_vmar_protect(wrong[i], 0, 0, page()), status[i]);
    EXPECT(zx_vmar_destroy(wrong[i]), status[i]);
    EXPECT(zx_vmar_op_range(wrong[i], ZX_VMAR_OP_ZERO, 0, page(), NULL, 0), status[i]);
    EXPECT(zx_vmar_create_vmo_child(wrong[i], ZX_VMO_CHILD_SNAPSHOT, 0, page(), &out), status[i]);
  }
  zx_vaddr_t address;
  EXPECT(zx_vmar_map(zx_vmar_root_self(), 0, 0, 0, 0, page(), &address), ZX_ERR_BAD_HANDLE);
}

static void allocating(zx_handle_t root, zx_handle_t vmo) {
  zx_handle_t vmar = ZX_HANDLE_INVALID;
  zx_vaddr_t base = 0;
  zx_vm_option_t can = ZX_VM_CAN_MAP_READ | ZX_VM_CAN_MAP_WRITE | ZX_VM_CAN_MAP_SPECIFIC;
  OK(zx_vmar_allocate(root, can | ZX_VM_ALIGN_1MB, 0, 8 * page(), &vmar, &base));
  CHECK(base % (1 << 20) == 0);
  CHECK(basic(vmar).rights == (ZX_DEFAULT_VMAR_RIGHTS | ZX_RIGHT_READ | ZX_RIGHT_WRITE));
  zx_info_vmar_t info;
  OK(zx_object_get_info(vmar, ZX_INFO_VMAR, &info, sizeof(info), NULL, NULL));
  CHECK(info.base == base && info.len == 8 * page());

  /* What nobody was told of is not there. */
  FOR_BAD(p) {
    zx_handle_t out;
    zx_vaddr_t address;
    EXPECT(zx_vmar_allocate(vmar, can, 0, page(), (zx_handle_t*)p, &address), ZX_ERR_INVALID_ARGS);
    EXPECT(zx_vmar_allocate(vmar, can, 0, page(), &out, (zx_vaddr_t*)p), ZX_ERR_INVALID_ARGS);
    EXPECT(zx_vmar_map(vmar, kBoth, 0, vmo, 0, page(), (zx_vaddr_t*)p), ZX_ERR_INVALID_ARGS);
  }
  CHECK(count_maps(vmar) == 1);

  zx_vaddr_t address = 0;
  OK(zx_vmar_map(vmar, kBoth | ZX_VM_SPECIFIC, 2 * page(), vmo, 0, page(), &address));
  CHECK(address == base + 2 * page());
  EXPECT(zx_vmar_map(vmar, kBoth | ZX_VM_SPECIFIC, 2 * page(), vmo, 0, page(), &address),
         ZX_ERR_ALREADY_EXISTS);
  EXPECT(zx_vmar_map(vmar, 1u << 31, 0, vmo, 0, page(), &address), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_allocate(vmar, kBoth, 0, page(), &vmar, &address), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_allocate(vmar, 0, 0, 100 * page(), &vmar, &address), ZX_ERR_INVALID_ARGS);
  zx_handle_t plain = with_rights(vmar, ZX_RIGHT_NONE);
  EXPECT(zx_vmar_allocate(plain, can, 0, page(), &vmar, &address), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_vmar_destroy(plain), ZX_ERR_ACCESS_DENIED);
  OK(zx_handle_close(plain));

  OK(zx_vmar_destroy(vmar));
  EXPECT(zx_vmar_destroy(vmar), ZX_ERR_BAD_STATE);
  EXPECT(zx_vmar_map(vmar, kBoth, 0, vmo, 0, page(), &address), ZX_ERR_BAD_STATE);
  EXPECT(zx_vmar_destroy(root), ZX_ERR_NOT_SUPPORTED);
  OK(zx_handle_close(vmar));
}

static void mapping(zx_handle_t root, zx_handle_t vmo) {
  zx_vaddr_t address = 0;
  OK(zx_vmar_map(root, kBoth, 0, vmo, 0, 3 * page(), &address));
  char* bytes = (char*)address;
  strcpy(bytes, "stored");
  char text[7];
  OK(zx_vmo_read(vmo, text, 0, 7));
  CHECK(strcmp(text, "stored") == 0);
  OK(zx_vmo_write(vmo, "W", page(), 1));
  CHECK(bytes[page()] == 'W');

  OK(zx_vmar_protect(root, ZX_VM_PERM_READ, address, page()));
  EXPECT(zx_vmar_protect(root, ZX_VM_PERM_WRITE, address, page()), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_protect(root, ZX_VM_PERM_READ, address + 1, page()), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_protect(root, kBoth | ZX_VM_PERM_EXECUTE, address, page()), ZX_ERR_ACCESS_DENIED);
  OK(zx_vmar_protect(root, kBoth, address, page()));
  bytes[0] = 'S';

  OK(zx_vmar_op_range(root, ZX_VMAR_OP_COMMIT, address, 3 * page(), NULL, 0));
  OK(zx_vmar_op_range(root, ZX_VMAR_OP_ZERO, address + page(), page(), NULL, 0));
  CHECK(bytes[page()] == 0 && bytes[0] == 'S');
  EXPECT(zx_vmar_op_range(root, 99, address, page(), NULL, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_op_range(root, ZX_VMAR_OP_ZERO, address, page(), bytes, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_op_range(root, ZX_VMAR_OP_ZERO, address, page(), NULL, 1), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_op_range(root, ZX_VMAR_OP_ZERO, address, 4 * page(), NULL, 0), ZX_ERR_BAD_STATE);

  OK(zx_vmar_unmap(root, address + page(), page()));
  EXPECT(zx_vmar_unmap(root, address + 1, page()), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_unmap(root, address, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_protect(root, kBoth, address, 3 * page()), ZX_ERR_NOT_FOUND);
  OK(zx_vmar_unmap(root, address, 3 * page()));
}

/* RFC-0013. */
static void cloning(zx_handle_t root) {
  zx_handle_t vmo = make_vmo(2 * page(), 0);
  zx_koid_t koid = basic(vmo).koid;
  zx_vaddr_t address = 0;
  OK(zx_vmar_map(root, kBoth, 0, vmo, 0, 2 * page(), &address));
  OK(zx_handle_close(vmo));
  strcpy((char*)address, "warm");

  zx_handle_t clone = ZX_HANDLE_INVALID;
  size_t before = count_vmos();
  FOR_BAD(p) {
    EXPECT(zx_vmar_create_vmo_child(root, ZX_VMO_CHILD_SNAPSHOT, address, page(), (zx_handle_t*)p),
           ZX_ERR_INVALID_ARGS);
  }
  CHECK(count_vmos() == before);
  EXPECT(zx_vmar_create_vmo_child(root, ZX_VMO_CHILD_SLICE, address, page(), &clone),
         ZX_ERR_INVALID_ARGS);
  EXPECT(zx_vmar_create_vmo_child(root, ZX_VMO_CHILD_SNAPSHOT, address, 3 * page(), &clone),
         ZX_ERR_INVALID_ARGS);
  OK(zx_vmar_create_vmo_child(root, ZX_VMO_CHILD_SNAPSHOT, address, 2 * page(), &clone));
  strcpy((char*)address, "cold");
  char text[5];
  OK(zx_vmo_read(clone, text, 0, 5));
  CHECK(strcmp(text, "warm") == 0);
  CHECK(basic(clone).rights == ZX_DEFAULT_VMO_RIGHTS);
  zx_info_vmo_t info;
  OK(zx_object_get_info(clone, ZX_INFO_VMO, &info, sizeof(info), NULL, NULL));
  CHECK(info.parent_koid == koid && (info.flags & ZX_INFO_VMO_IS_COW_CLONE) != 0);
  OK(zx_handle_close(clone));
  OK(zx_vmar_unmap(root, address, 2 * page()));

  vmo = make_vmo(page(), 0);
  OK(zx_vmar_map(root, kBoth | ZX_VM_CANNOT_CREATE_VMO_CHILD, 0, vmo, 0, page(), &address));
  EXPECT(zx_vmar_create_vmo_child(root, ZX_VMO_CHILD_SNAPSHOT, address, page(), &clone),
         ZX_ERR_ACCESS_DENIED);
  OK(zx_vmar_unmap(root, address, page()));
  OK(zx_handle_close(vmo));
}

int main(void) {
  zx_handle_t root = zx_vmar_root_self();
  zx_handle_t vmo = make_vmo(3 * page(), 0);
  wrong_handles(vmo);
  allocating(root, vmo);
  mapping(root, vmo);
  cloning(root);
  OK(zx_handle_close(vmo));
  CHECK(count_maps(root) == 1);
  return 0;
}
