/* Calls from stacks that lie in VMOs, of which page faults are waited for: they are refused, and do not hang. */

#include <pthread.h>
#include <ucontext.h>

#include "check.h"

enum { STACK = 1 << 20 };

static zx_handle_t vmo;
static zx_vaddr_t base;
static ucontext_t outside, coroutine;

/* Where nothing is traced they work. */
static void answers(zx_status_t status) { CHECK(status == ZX_ERR_BAD_STATE || status == ZX_OK); }

static void call(void) {
  char here = 0, bytes[100] = "";
  zx_handle_t child = ZX_HANDLE_INVALID;
  uint64_t size = 0;
  CHECK((zx_vaddr_t)&here - base < STACK);
  answers(zx_vmo_create_child(vmo, ZX_VMO_CHILD_SNAPSHOT, 0, STACK, &child));
  answers(zx_vmar_create_vmo_child(zx_vmar_root_self(), ZX_VMO_CHILD_SNAPSHOT, base, STACK, &child));
  answers(zx_vmo_write(vmo, bytes, 0, sizeof(bytes)));
  answers(zx_vmo_read(vmo, bytes, 0, sizeof(bytes)));
  answers(zx_vmo_get_size(vmo, &size));
  answers(zx_handle_close(child));
}

static void* in_thread(void* unused) {
  call();
  return unused;
}

static void map(int twice) {
  zx_handle_t parent = make_vmo(STACK, 0);
  zx_vaddr_t another = 0;
  OK(zx_vmo_create_child(parent, ZX_VMO_CHILD_SNAPSHOT, 0, STACK, &vmo));
  OK(zx_vmar_map(zx_vmar_root_self(), ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, 0, vmo, 0, STACK, &base));
  if (twice) {
    OK(zx_vmar_map(zx_vmar_root_self(), ZX_VM_PERM_READ, 0, vmo, 0, STACK, &another));
  }
}

static void run_coroutine(void) {
  CHECK(getcontext(&coroutine) == 0);
  coroutine.uc_stack.ss_sp = (void*)base;
  coroutine.uc_stack.ss_size = STACK;
  coroutine.uc_link = &outside;
  makecontext(&coroutine, call, 0);
  CHECK(swapcontext(&outside, &coroutine) == 0);
}

static void run_thread(void) {
  pthread_t thread;
  pthread_attr_t with_stack;
  CHECK(pthread_attr_init(&with_stack) == 0);
  CHECK(pthread_attr_setstack(&with_stack, (void*)base, STACK) == 0);
  CHECK(pthread_create(&thread, &with_stack, in_thread, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
}

int main(void) {
  /* With one mapping its pages are private, with two they lie in a file. */
  for (int twice = 0; twice < 2; twice++) {
    map(twice);
    run_coroutine();
    map(twice);
    run_thread();
  }
  return 0;
}
