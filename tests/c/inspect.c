/* COWSPACE_INSPECT=1: a socket of the user's alone, that answers; a forked copy leaves it, the end of the process takes it away. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void wait_for(pid_t child) {
  int status = -1;
  CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

/* The process that is inspected. */
static int inspected(const char* folder) {
  CHECK(zx_vmar_root_self() != ZX_HANDLE_INVALID);
  zx_handle_t vmo;
  OK(zx_vmo_create(1, 0, &vmo));

  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof(address.sun_path), "%s/cowspace/%d", folder, (int)getpid());
  struct stat found;
  CHECK(stat(address.sun_path, &found) == 0);
  CHECK(S_ISSOCK(found.st_mode) && (found.st_mode & 0777) == 0600);
  char above[64];
  snprintf(above, sizeof(above), "%s/cowspace", folder);
  CHECK(stat(above, &found) == 0 && (found.st_mode & 0777) == 0700);

  pid_t copy = fork();
  if (copy == 0) exit(0);
  wait_for(copy);

  int client = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr*)&address, sizeof(address)) == 0);
  char greeting[12];
  CHECK(recv(client, greeting, sizeof(greeting), MSG_WAITALL) == sizeof(greeting));
  CHECK(memcmp(greeting, "cowspace", 8) == 0);
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 1) return inspected(argv[1]);
  char folder[] = "/tmp/cowspace-test-XXXXXX";
  CHECK(mkdtemp(folder) != NULL);
  pid_t child = fork();
  if (child == 0) {
    setenv("COWSPACE_INSPECT", "1", 1);
    setenv("XDG_RUNTIME_DIR", folder, 1);
    execl("/proc/self/exe", argv[0], folder, (char*)NULL);
    _exit(127);
  }
  wait_for(child);
  char above[64];
  snprintf(above, sizeof(above), "%s/cowspace", folder);
  CHECK(rmdir(above) == 0 && rmdir(folder) == 0);
  return 0;
}
