/* Pointers where a sandbox forbids process_vm_readv and process_vm_writev: both are found to fail in other ways then. */

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "check.h"

static void forbid(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
    printf("SKIP pointers in a sandbox: seccomp filters\n");
    exit(0);
  }
  struct iovec none = {NULL, 0};
  CHECK(process_vm_readv(getpid(), &none, 1, &none, 1, 0) == -1 && errno == EPERM);
}

int main(void) {
  forbid();
  zx_handle_t vmo = make_vmo(100 * page(), 0);
  FOR_BAD(p) EXPECT(zx_vmo_get_size(vmo, (uint64_t*)p), ZX_ERR_INVALID_ARGS);
  FOR_BAD(p) EXPECT(zx_vmo_create(0, 0, (zx_handle_t*)p), ZX_ERR_INVALID_ARGS);
  FOR_BAD(p) {
    if (p != bad_pointer(2)) {
      EXPECT(zx_handle_close_many((zx_handle_t*)p, 2), ZX_ERR_INVALID_ARGS);
    }
  }
  size_t len = 70 * page() + 5;
  char* bytes = (char*)malloc(len);
  char* back = (char*)malloc(len);
  CHECK(bytes != NULL && back != NULL);
  zx_cprng_draw(bytes, len);
  OK(zx_vmo_write(vmo, bytes, 3, len));
  OK(zx_vmo_read(vmo, back, 3, len));
  CHECK(memcmp(bytes, back, len) == 0);
  EXPECT(zx_vmo_read(vmo, bad_pointer(2), 0, 1), ZX_ERR_ACCESS_DENIED);
  EXPECT(zx_vmo_write(vmo, bad_pointer(1), 0, 1), ZX_ERR_NOT_FOUND);

  /* Buffers in a mapping, of the same VMO as well. */
  zx_vaddr_t address = 0;
  OK(zx_vmar_map(zx_vmar_root_self(), ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, 0, vmo, 0, 100 * page(),
                 &address));
  OK(zx_vmo_read(vmo, (char*)address + 80 * page(), 3, 10 * page()));
  CHECK(memcmp((char*)address + 80 * page(), bytes, 10 * page()) == 0);
  free(bytes);
  free(back);
  return 0;
}
