/* The first call, from many threads at once, and calls in a forked copy. */

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { THREADS = 8 };

static pthread_barrier_t together;

static void* first_call(void* argument) {
  size_t number = (size_t)(uintptr_t)argument;
  pthread_barrier_wait(&together);
  zx_handle_t root = zx_vmar_root_self();
  zx_handle_t vmo = make_vmo(page(), 0);
  zx_vaddr_t address = 0;
  OK(zx_vmar_map(root, ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, 0, vmo, 0, page(), &address));
  *(size_t*)address = number;
  size_t back = ~number;
  OK(zx_vmo_read(vmo, &back, 0, sizeof(back)));
  CHECK(back == number);
  OK(zx_vmar_unmap(root, address, page()));
  OK(zx_handle_close(vmo));
  return (void*)(uintptr_t)root;
}

static int in_the_copy(zx_handle_t vmo, zx_vaddr_t address) {
  zx_handle_t out = 77;
  uint64_t size = 77;
  char byte = 0;
  zx_handle_t many[2] = {vmo, vmo};
  EXPECT(zx_vmo_create(0, 0, &out), ZX_ERR_BAD_STATE);
  EXPECT(zx_vmo_read(vmo, &byte, 0, 1), ZX_ERR_BAD_STATE);
  EXPECT(zx_vmo_write(vmo, &byte, 0, 1), ZX_ERR_BAD_STATE);
  EXPECT(zx_vmo_get_size(vmo, &size), ZX_ERR_BAD_STATE);
  EXPECT(zx_handle_close(vmo), ZX_ERR_BAD_STATE);
  EXPECT(zx_handle_close_many(many, 2), ZX_ERR_BAD_STATE);
  EXPECT(zx_vmar_unmap(zx_vmar_root_self(), address, page()), ZX_ERR_BAD_STATE);
  EXPECT(zx_vmar_create_vmo_child(zx_vmar_root_self(), ZX_VMO_CHILD_SNAPSHOT, address, page(), &out),
         ZX_ERR_BAD_STATE);
  EXPECT(zx_object_get_info(vmo, ZX_INFO_HANDLE_VALID, NULL, 0, NULL, NULL), ZX_ERR_BAD_STATE);
  CHECK(out == 77 && size == 77);
  /* What needs no engine works, and the memory is there as fork() gives it. */
  CHECK(zx_clock_get_monotonic() > 0 && zx_system_get_page_size() == page());
  CHECK(strcmp((char*)address, "before the fork") == 0);
  return 0;
}

int main(void) {
  pthread_t threads[THREADS];
  CHECK(pthread_barrier_init(&together, NULL, THREADS) == 0);
  for (size_t i = 0; i < THREADS; i++) {
    CHECK(pthread_create(&threads[i], NULL, first_call, (void*)(uintptr_t)i) == 0);
  }
  for (size_t i = 0; i < THREADS; i++) {
    void* root = NULL;
    CHECK(pthread_join(threads[i], &root) == 0);
    CHECK((zx_handle_t)(uintptr_t)root == zx_vmar_root_self());
  }

  zx_handle_t vmo = make_vmo(page(), 0);
  zx_vaddr_t address = 0;
  OK(zx_vmar_map(zx_vmar_root_self(), ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, 0, vmo, 0, page(),
                 &address));
  strcpy((char*)address, "before the fork");
  fflush(NULL);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    _exit(in_the_copy(vmo, address));
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  OK(zx_handle_close(vmo));
  return 0;
}
