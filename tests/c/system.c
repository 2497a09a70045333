/* Clocks, futexes, the system, random bytes, names of statuses. */

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zircon/features.h>

#include "check.h"

static void clocks(void) {
  zx_time_t now = zx_clock_get_monotonic();
  zx_ticks_t ticks = zx_ticks_get();
  CHECK(now > 0 && ticks >= now && zx_clock_get_monotonic() >= ticks);
  CHECK(zx_ticks_per_second() == ZX_SEC(1));
  CHECK(zx_clock_get_boot() >= now);
  now = zx_clock_get_boot();
  CHECK(zx_ticks_get_boot() >= now);
  CHECK(zx_deadline_after(INT64_MAX) == ZX_TIME_INFINITE);
  now = zx_clock_get_monotonic();
  CHECK(zx_deadline_after(ZX_SEC(5)) >= now + ZX_SEC(5));
  CHECK(zx_deadline_after(-ZX_SEC(5)) < now);

  OK(zx_nanosleep(0));
  OK(zx_nanosleep(ZX_TIME_INFINITE_PAST));
  zx_time_t deadline = zx_deadline_after(ZX_MSEC(2));
  OK(zx_nanosleep(deadline));
  CHECK(zx_clock_get_monotonic() >= deadline);
}

static zx_futex_t word;
static zx_handle_t main_thread;

static void* waiter(void* unused) {
  zx_status_t* status = (zx_status_t*)unused;
  *status = zx_futex_wait(&word, 1, main_thread, ZX_TIME_INFINITE);
  return NULL;
}

static void futexes(void) {
  word = 1;
  EXPECT(zx_futex_wait(NULL, 1, 0, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_futex_wait((zx_futex_t*)((char*)&word + 1), 1, 0, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_futex_wake(NULL, 1), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_futex_wake((zx_futex_t*)((char*)&word + 2), 1), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_futex_wait((zx_futex_t*)bad_pointer(3), 1, 0, 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_futex_wait((zx_futex_t*)bad_pointer(3), 1, 5, 0), ZX_ERR_INVALID_ARGS);
  /* The value comes before the owner. */
  EXPECT(zx_futex_wait(&word, 2, 0, 0), ZX_ERR_BAD_STATE);
  EXPECT(zx_futex_wait(&word, 2, 5, 0), ZX_ERR_BAD_STATE);
  EXPECT(zx_futex_wait(&word, 1, 5, 0), ZX_ERR_BAD_HANDLE);
  EXPECT(zx_futex_wait(&word, 1, zx_process_self(), 0), ZX_ERR_WRONG_TYPE);
  EXPECT(zx_futex_wait(&word, 1, zx_thread_self(), 0), ZX_ERR_INVALID_ARGS);
  EXPECT(zx_futex_wait(&word, 1, 0, 0), ZX_ERR_TIMED_OUT);
  EXPECT(zx_futex_wait(&word, 1, 0, ZX_TIME_INFINITE_PAST), ZX_ERR_TIMED_OUT);
  zx_time_t deadline = zx_deadline_after(ZX_MSEC(2));
  EXPECT(zx_futex_wait(&word, 1, 0, deadline), ZX_ERR_TIMED_OUT);
  CHECK(zx_clock_get_monotonic() >= deadline);
  OK(zx_futex_wake(&word, 0));

  main_thread = zx_thread_self();
  pthread_t other;
  zx_status_t status = 77;
  CHECK(pthread_create(&other, NULL, waiter, &status) == 0);
  /* The waiter may come after any of these. */
  word = 2;
  OK(zx_futex_wake(&word, UINT32_MAX));
  CHECK(pthread_join(other, NULL) == 0);
  CHECK(status == ZX_OK || status == ZX_ERR_BAD_STATE);
}

static void the_system(void) {
  CHECK(zx_system_get_page_size() == (uint32_t)sysconf(_SC_PAGESIZE));
  CHECK(zx_system_get_num_cpus() == (uint32_t)sysconf(_SC_NPROCESSORS_ONLN));
  CHECK(zx_system_get_physmem() >= (uint64_t)sysconf(_SC_PHYS_PAGES) * page());
  zx_string_view_t version = zx_system_get_version_string();
  CHECK(version.length > 0 && strlen(version.c_str) == version.length);
  uint32_t features = 77;
  OK(zx_system_get_features(ZX_FEATURE_KIND_VM, &features));
  CHECK((features & ZX_VM_FEATURE_CAN_MAP_XOM) == 0);
  OK(zx_system_get_features(ZX_FEATURE_KIND_CPU, &features));
  OK(zx_system_get_features(ZX_FEATURE_KIND_ADDRESS_TAGGING, &features));
  EXPECT(zx_system_get_features(ZX_FEATURE_KIND_HW_BREAKPOINT_COUNT, &features),
         ZX_ERR_NOT_SUPPORTED);
  EXPECT(zx_system_get_features(99, &features), ZX_ERR_NOT_SUPPORTED);
  FOR_BAD(p) {
    EXPECT(zx_system_get_features(ZX_FEATURE_KIND_CPU, (uint32_t*)p), ZX_ERR_INVALID_ARGS);
  }
}

static void random_bytes(void) {
  unsigned char a[1000] = {0}, b[1000] = {0};
  zx_cprng_draw(a, sizeof(a));
  zx_cprng_draw(b, sizeof(b));
  CHECK(memcmp(a, b, sizeof(a)) != 0);
  zx_cprng_draw(NULL, 0);
  /* Nobody may go on with bytes that are not random. */
  fflush(NULL);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK(freopen("/dev/null", "w", stderr) != NULL);
    zx_cprng_draw(bad_pointer(2), 8);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void names(void) {
  CHECK(strcmp(zx_status_get_string(ZX_OK), "ZX_OK") == 0);
  CHECK(strcmp(zx_status_get_string(ZX_ERR_BAD_HANDLE), "ZX_ERR_BAD_HANDLE") == 0);
  CHECK(strcmp(_zx_status_get_string(ZX_ERR_CONNECTION_ABORTED), "ZX_ERR_CONNECTION_ABORTED") == 0);
  CHECK(strcmp(zx_status_get_string(1), "(UNKNOWN)") == 0);
}

int main(void) {
  clocks();
  futexes();
  the_system();
  random_bytes();
  names();
  return 0;
}
