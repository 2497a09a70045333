/* A stream size that grows while another thread touches what lies behind it: what was there is never seen, and no
 * store is taken back. */

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#include "check.h"

enum { SIZE = 16 << 20, ROUNDS = 20, OLD = 5, NEW = 77 };

static sigjmp_buf again;
static volatile unsigned char* last;
static atomic_int asked, done;
static unsigned char seen;

static void refused(int signal) {
  (void)signal;
  siglongjmp(again, 1);
}

/* In each round, reads and writes the last byte as soon as it may be touched. */
static void* touch(void* unused) {
  for (int round = 1; round <= ROUNDS; round++) {
    while (atomic_load(&asked) != round) {
    }
    (void)sigsetjmp(again, 1);
    seen = *last;
    *last = NEW;
    atomic_store(&done, round);
  }
  return unused;
}

int main(void) {
  static unsigned char old[SIZE];
  memset(old, OLD, sizeof(old));
  CHECK(signal(SIGSEGV, refused) != SIG_ERR);
  zx_handle_t vmo = make_vmo(SIZE, 0);
  zx_vaddr_t base = 0;
  OK(zx_vmar_map(zx_vmar_root_self(),
                 ZX_VM_PERM_READ | ZX_VM_PERM_WRITE | ZX_VM_ALLOW_FAULTS | ZX_VM_FAULT_BEYOND_STREAM_SIZE, 0, vmo,
                 0, SIZE, &base));
  last = (unsigned char*)base + SIZE - 1;
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, touch, NULL) == 0);
  for (int round = 1; round <= ROUNDS; round++) {
    OK(zx_vmo_set_stream_size(vmo, 0));
    OK(zx_vmo_write(vmo, old, 0, SIZE));
    atomic_store(&asked, round);
    OK(zx_vmo_set_stream_size(vmo, SIZE));
    while (atomic_load(&done) != round) {
    }
    unsigned char now = 0;
    OK(zx_vmo_read(vmo, &now, SIZE - 1, 1));
    CHECK(seen == 0);
    CHECK(now == NEW);
  }
  CHECK(pthread_join(thread, NULL) == 0);
  return 0;
}
