/* The library opened at run time and closed again: a thread that asked for its own handle ends later, and mappings stay
 * served. */

#include <dlfcn.h>
#include <pthread.h>

#include "../check.h"

static void* library;
static pthread_barrier_t step;

#define LOAD(name) __typeof__(&name) load_##name = (__typeof__(&name))dlsym(library, #name)

static void* keep_own_handle(void* unused) {
  LOAD(zx_thread_self);
  CHECK(load_zx_thread_self() != ZX_HANDLE_INVALID);
  pthread_barrier_wait(&step);
  pthread_barrier_wait(&step);
  return unused;
}

int main(void) {
  enum { SIZE = 1 << 20 };
  library = dlopen("libcowspace_zx.so", RTLD_NOW | RTLD_LOCAL);
  CHECK(library != NULL);
  LOAD(zx_vmo_create);
  LOAD(zx_vmo_write);
  LOAD(zx_vmo_create_child);
  LOAD(zx_vmar_root_self);
  LOAD(zx_vmar_map);
  zx_handle_t vmo = 0, clone = 0;
  zx_vaddr_t base = 0;
  CHECK(load_zx_vmo_create(SIZE, 0, &vmo) == ZX_OK);
  CHECK(load_zx_vmo_write(vmo, "abc", 0, 4) == ZX_OK);
  CHECK(load_zx_vmo_create_child(vmo, ZX_VMO_CHILD_SNAPSHOT, 0, SIZE, &clone) == ZX_OK);
  CHECK(load_zx_vmar_map(load_zx_vmar_root_self(), ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, 0, clone, 0, SIZE, &base) ==
        ZX_OK);
  pthread_t thread;
  CHECK(pthread_barrier_init(&step, NULL, 2) == 0);
  CHECK(pthread_create(&thread, NULL, keep_own_handle, NULL) == 0);
  pthread_barrier_wait(&step);
  CHECK(dlclose(library) == 0);
  pthread_barrier_wait(&step);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(strcmp((char*)base, "abc") == 0);
  ((volatile char*)base)[SIZE - 1] = 1;
  return 0;
}
