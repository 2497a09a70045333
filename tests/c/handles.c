/* zx_handle_*, zx_process_self, zx_thread_self, zx_vmar_root_self. */

#include <pthread.h>

#include "check.h"

static void closing(void) {
  zx_handle_t vmo = make_vmo(0, 0);
  OK(zx_handle_close(vmo));
  EXPECT(zx_handle_close(vmo), ZX_ERR_BAD_HANDLE);
  OK(zx_handle_close(ZX_HANDLE_INVALID));
  EXPECT(zx_handle_close(4), ZX_ERR_BAD_HANDLE);

  OK(zx_handle_close_many(NULL, 0));
  /* More than are read at once, with one that is none in the middle: the rest is closed all the same. */
  enum { MANY = 1000 };
  zx_handle_t many[MANY];
  size_t before = count_vmos();
  for (int i = 0; i < MANY; i++) {
    many[i] = i % 10 == 3 ? ZX_HANDLE_INVALID : make_vmo(0, 0);
  }
  CHECK(count_vmos() == before + MANY - MANY / 10);
  zx_handle_t kept = many[500];
  OK(zx_handle_close_many(many, 500));
  many[500] = 8;
  EXPECT(zx_handle_close_many(many + 500, MANY - 500), ZX_ERR_BAD_HANDLE);
  CHECK(count_vmos() == before + 1);
  zx_handle_t twice[2] = {kept, kept};
  EXPECT(zx_handle_close_many(twice, 2), ZX_ERR_BAD_HANDLE);
  CHECK(count_vmos() == before);

  FOR_BAD(p) {
    if (p != bad_pointer(2)) {
      EXPECT(zx_handle_close_many((zx_handle_t*)p, 2), ZX_ERR_INVALID_ARGS);
    }
  }
}

static void duplicating(void) {
  zx_handle_t vmo = make_vmo(0, 0);
  zx_handle_t copy = ZX_HANDLE_INVALID;
  OK(zx_handle_duplicate(vmo, ZX_RIGHT_SAME_RIGHTS, &copy));
  CHECK(copy != vmo && basic(copy).koid == basic(vmo).koid);
  CHECK(basic(copy).rights == ZX_DEFAULT_VMO_RIGHTS);
  zx_handle_t plain = with_rights(vmo, ZX_RIGHT_NONE);
  zx_handle_t out = 77;
  EXPECT(zx_handle_duplicate(0, ZX_RIGHT_SAME_RIGHTS, &out), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_handle_duplicate(plain, ZX_RIGHT_SAME_RIGHTS, &out), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_handle_duplicate(vmo, ZX_RIGHT_EXECUTE, &out), ZX_ERR_INVALID_ARGS);
  CHECK(out == 77);
  size_t before = count_vmos();
  FOR_BAD(p) EXPECT(zx_handle_duplicate(vmo, ZX_RIGHT_READ, (zx_handle_t*)p), ZX_ERR_INVALID_ARGS);
  CHECK(count_vmos() == before);

  OK(zx_handle_replace(copy, ZX_RIGHT_READ, &out));
  CHECK(basic(out).rights == ZX_RIGHT_READ);
  EXPECT(zx_handle_close(copy), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_handle_replace(copy, ZX_RIGHT_READ, &copy), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_handle_replace(out, ZX_RIGHT_WRITE, &copy), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_handle_close(out), ZX_ERR_BAD_HANDLE);
  /* Consumed, and the new one is not left either. */
  out = with_rights(vmo, ZX_RIGHT_READ);
  EXPECT(zx_handle_replace(out, ZX_RIGHT_READ, NULL), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_handle_close(out), ZX_ERR_BAD_HANDLE);
  CHECK(count_vmos() == before - 1);
  OK(zx_handle_close(plain));
  OK(zx_handle_close(vmo));
}

static void* other_thread(void* of_main) {
  zx_handle_t* result = (zx_handle_t*)of_main;
  zx_handle_t own = zx_thread_self();
  CHECK(own != ZX_HANDLE_INVALID && own == zx_thread_self() && own == _zx_thread_self());
  CHECK(own != *result && basic(own).koid != basic(*result).koid);
  *result = own;
  return NULL;
}

static void own_handles(void) {
  CHECK(zx_process_self() == zx_process_self() && zx_process_self() == _zx_process_self());
  CHECK(zx_vmar_root_self() == zx_vmar_root_self() && zx_vmar_root_self() == _zx_vmar_root_self());
  zx_info_handle_basic_t process = basic(zx_process_self());
  CHECK(process.type == ZX_OBJ_TYPE_PROCESS && process.rights == ZX_DEFAULT_PROCESS_RIGHTS);
  zx_info_handle_basic_t thread = basic(zx_thread_self());
  CHECK(thread.type == ZX_OBJ_TYPE_THREAD && thread.rights == ZX_DEFAULT_THREAD_RIGHTS);
  CHECK(thread.related_koid == process.koid);
  zx_info_handle_basic_t root = basic(zx_vmar_root_self());
  CHECK(root.type == ZX_OBJ_TYPE_VMAR);
  CHECK(root.rights ==
        (ZX_DEFAULT_VMAR_RIGHTS | ZX_RIGHT_READ | ZX_RIGHT_WRITE | ZX_RIGHT_EXECUTE));

  zx_handle_t handle = zx_thread_self();
  pthread_t other;
  CHECK(pthread_create(&other, NULL, other_thread, &handle) == 0);
  CHECK(pthread_join(other, NULL) == 0);
  /* That of a thread that has ended is closed. */
  EXPECT(zx_object_get_info(handle, ZX_INFO_HANDLE_VALID, NULL, 0, NULL, NULL), ZX_ERR_BAD_HANDLE);
}

int main(void) {
  closing();
  duplicating();
  own_handles();
  return 0;
}
