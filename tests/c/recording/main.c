/* A program whose faults are known, for recording.rs: stores to three pages that are mapped copy-on-write. Forked copies of it do so as well, and executed programs.
 *
 * Arguments: nothing, or "once" to have no copies. */
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"

static void wait_for(pid_t pid) {
  int status;
  CHECK(pid > 0);
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void touch(char* memory) {
  for (int at = 5; at > 0; at -= 2) memory[(size_t)at * 8 * page()] = 1;
}

int main(int argc, char** argv) {
  zx_handle_t vmo, clone, root = zx_vmar_root_self();
  zx_vaddr_t addr;
  size_t size = 64 * page();
  /* What has no pages is zeros, which are not a layer's: so each page is written. */
  char* bytes = malloc(size);
  memset(bytes, 1, size);
  OK(zx_vmo_create(size, 0, &vmo));
  OK(zx_vmo_write(vmo, bytes, 0, size));
  OK(zx_object_set_property(vmo, ZX_PROP_NAME, "from C", 6));
  OK(zx_vmar_map(root, ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, 0, vmo, 0, size, &addr));
  OK(zx_vmo_create_child(vmo, ZX_VMO_CHILD_SNAPSHOT, 0, size, &clone));
  touch((char*)addr);
  if (argc > 1) return 0;

  pid_t copy = fork();
  if (copy == 0) {
    touch((char*)addr);
    exit(0);
  }
  wait_for(copy);
  copy = fork();
  if (copy == 0) {
    execl("/proc/self/exe", argv[0], "once", (char*)NULL);
    _exit(1);
  }
  wait_for(copy);
  return 0;
}
