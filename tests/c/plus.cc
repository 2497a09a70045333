// What C++ programs do: threads, std::atomic as a futex, a clone taken while they run, the conversions of the headers.

#include <atomic>
#include <string_view>
#include <thread>
#include <vector>

#include "check.h"

namespace {

constexpr zx_vm_option_t kBoth = ZX_VM_PERM_READ | ZX_VM_PERM_WRITE;
constexpr size_t kThreads = 4;
constexpr size_t kRounds = 200;

// Each thread counts in two places, the first one first: in a clone the first is as far as the second, or one farther.
void count(std::atomic<uint64_t>* first, std::atomic<uint64_t>* second,
           const std::atomic<bool>& stop) {
  for (uint64_t n = 1; !stop; n++) {
    first->store(n);
    second->store(n);
  }
}

void clone_while_threads_write() {
  const zx_handle_t root = zx_vmar_root_self();
  const zx_handle_t vmo = make_vmo(2 * kThreads * page(), 0);
  zx_vaddr_t address = 0;
  OK(zx_vmar_map(root, kBoth, 0, vmo, 0, 2 * kThreads * page(), &address));
  auto at = [](zx_vaddr_t base, size_t n) {
    return reinterpret_cast<std::atomic<uint64_t>*>(base + n * page());
  };
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreads; i++) {
    threads.emplace_back(count, at(address, 2 * i), at(address, 2 * i + 1), std::cref(stop));
  }
  for (size_t round = 0; round < kRounds; round++) {
    zx_handle_t clone = ZX_HANDLE_INVALID;
    OK(zx_vmar_create_vmo_child(root, ZX_VMO_CHILD_SNAPSHOT, address, 2 * kThreads * page(),
                                &clone));
    for (size_t i = 0; i < kThreads; i++) {
      uint64_t first = 0, second = 0;
      OK(zx_vmo_read(clone, &first, 2 * i * page(), sizeof(first)));
      OK(zx_vmo_read(clone, &second, (2 * i + 1) * page(), sizeof(second)));
      CHECK(first == second || first == second + 1);
    }
    OK(zx_handle_close(clone));
  }
  stop = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  OK(zx_vmar_unmap(root, address, 2 * kThreads * page()));
  OK(zx_handle_close(vmo));
}

void futex_of_an_atomic() {
  std::atomic<int> word{0};
  static_assert(sizeof(word) == sizeof(zx_futex_t));
  const zx_futex_t* futex = reinterpret_cast<const zx_futex_t*>(&word);
  std::thread waker([&] {
    word = 1;
    OK(zx_futex_wake(futex, 1));
  });
  while (word == 0) {
    const zx_status_t status = zx_futex_wait(futex, 0, ZX_HANDLE_INVALID, ZX_TIME_INFINITE);
    CHECK(status == ZX_OK || status == ZX_ERR_BAD_STATE);
  }
  waker.join();
}

}  // namespace

int main() {
  const std::string_view version = zx_system_get_version_string();
  CHECK(version.substr(0, 9) == "cowspace ");
  clone_while_threads_write();
  futex_of_an_atomic();
  return 0;
}
