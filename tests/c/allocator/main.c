// A program whose malloc takes all of its memory from VMOs, in small pieces, with its one lock held, while threads use it and another clones it.
//
// It ends with 0 and "ok ..." if
// - no malloc, free or the like was called on a thread that was in a call of the library, nor by the library's thread that serves page faults (else it prints the stack and ends with 3);
// - every block had the bytes that were written to it, in the heap, in each clone of it and in a forked copy (else it ends with 4);
// - it ends at all.
//
// Arguments: how much each thread does (0: malloc is called as if by the library); with -DLOADED the library's file. So built it opens the library at run time, and its heap is a static array
// until then; it also closes the library again and goes on with it.
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zircon/process.h>
#include <zircon/syscalls.h>

#include "every_call.h"

#define PIECE (256u << 10)  // The heap grows by this.
#define LARGE (PIECE / 4)   // A block from this size on is a mapping of its own.
#define MOST_PIECES 4096
#define CLASSES 20

// In front of each block.
struct block {
  alignas(16) uint32_t magic;
  uint32_t size;              // Bytes that follow, or pages if `large`.
  _Atomic uint64_t written;   // What all of its bytes were made of when the last one was; 0: nobody knows.
  uint32_t large;             // Offset from its mapping's start; 0 for a small block.
  uint32_t len;               // As many bytes were written.
  struct block* next;         // In the list of free ones.
};
#define MAGIC 0x6b636f6cu

struct piece {
  uint64_t used;  // Blocks lie side by side up to here.
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct piece* pieces[MOST_PIECES];
static _Atomic unsigned piece_count;
static struct block* free_blocks[CLASSES];
static _Atomic unsigned long mapped, unmapped;

// The static heap: what comes before the library, and what is not asked back.
static alignas(65536) char early[4u << 20];
static size_t early_used;
static _Atomic bool library;

#ifdef LOADED
#define CALL(name) (*name##_)
static __typeof__(&zx_vmo_create) zx_vmo_create_;
static __typeof__(&zx_vmar_map) zx_vmar_map_;
static __typeof__(&zx_vmar_unmap) zx_vmar_unmap_;
static __typeof__(&zx_vmar_create_vmo_child) zx_vmar_create_vmo_child_;
static __typeof__(&zx_vmo_read) zx_vmo_read_;
static __typeof__(&zx_vmo_op_range) zx_vmo_op_range_;
static __typeof__(&zx_handle_close) zx_handle_close_;
static __typeof__(&zx_vmar_root_self) zx_vmar_root_self_;
#else
#define CALL(name) name
#endif

__thread __attribute__((tls_model("initial-exec"))) int inside;
// 1: a thread that may ask for memory, 2: the one that serves page faults, which would wait for itself.
static __thread __attribute__((tls_model("initial-exec"))) int whose;

static void die(int code, const char* why) {
  (void)!write(2, why, strlen(why));
  (void)!write(2, "\n", 1);
  void* frames[64];
  inside = -1000000;
  backtrace_symbols_fd(frames, backtrace(frames, 64), 2);
  _exit(code);
}

static void check_caller(const char* function) {
  if (whose == 0) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    whose = strcmp(name, "cowspace-fault") == 0 ? 2 : 1;
  }
  if (inside > 0 || whose == 2) die(3, function);
}

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

// New memory of the library's. With the lock held.
static void* map(size_t len) {
  if (!library) {
    size_t start = early_used;
    early_used += (len + 65535) & ~(size_t)65535;
    return early_used <= sizeof(early) ? early + start : NULL;
  }
  zx_handle_t vmo;
  zx_vaddr_t at = 0;
  if (ZX(CALL(zx_vmo_create)(len, 0, &vmo)) != ZX_OK) return NULL;
  zx_status_t status = ZX(CALL(zx_vmar_map)(CALL(zx_vmar_root_self)(), ZX_VM_PERM_READ | ZX_VM_PERM_WRITE, 0, vmo, 0, len, &at));
  (void)ZX(CALL(zx_handle_close)(vmo));
  if (status != ZX_OK) return NULL;
  mapped++;
  return (void*)at;
}

static unsigned class_of(size_t size) {
  unsigned class = 0;
  while (((size_t)32 << class) < size) class++;
  return class;
}

static struct block* from_piece(size_t size) {
  struct piece* piece = piece_count ? pieces[piece_count - 1] : NULL;
  size_t need = sizeof(struct block) + size;
  if (!piece || piece->used + need > PIECE) {
    if (piece_count == MOST_PIECES || !(piece = map(PIECE))) return NULL;
    piece->used = (sizeof(struct piece) + 15) & ~(size_t)15;
    pieces[piece_count] = piece;
    piece_count++;
  }
  struct block* block = (struct block*)((char*)piece + piece->used);
  block->magic = MAGIC;
  block->size = (uint32_t)size;
  block->large = 0;
  atomic_store(&block->written, 0);
  // A clone has the block's header whenever it has this.
  atomic_thread_fence(memory_order_seq_cst);
  piece->used += need;
  return block;
}

static void* take(size_t align, size_t size, const char* function) {
  check_caller(function);
  if (align < 16) align = 16;
  if (size > LARGE || align > 16) {
    pthread_mutex_lock(&lock);
    size_t len = (size + align + sizeof(struct block) + page_size() - 1) / page_size() * page_size();
    char* start = map(len);
    pthread_mutex_unlock(&lock);
    if (!start) {
      errno = ENOMEM;
      return NULL;
    }
    uintptr_t at = ((uintptr_t)start + sizeof(struct block) + align - 1) & ~(uintptr_t)(align - 1);
    struct block* block = (struct block*)at - 1;
    block->magic = MAGIC;
    block->size = (uint32_t)(len / page_size());
    block->large = (uint32_t)((uintptr_t)block - (uintptr_t)start) + 1;
    return (void*)at;
  }
  unsigned class = class_of(size);
  pthread_mutex_lock(&lock);
  struct block* block = free_blocks[class];
  if (block) {
    free_blocks[class] = block->next;
  } else {
    block = from_piece((size_t)32 << class);
  }
  pthread_mutex_unlock(&lock);
  if (!block) errno = ENOMEM;
  return block ? block + 1 : NULL;
}

static size_t room(struct block* block) {
  return block->large ? block->size * page_size() - (block->large - 1) - sizeof(struct block) : block->size;
}

static struct block* block_of(void* pointer) {
  struct block* block = (struct block*)pointer - 1;
  if (block->magic != MAGIC) die(4, "a block's header is wrong");
  return block;
}

void free(void* pointer) {
  check_caller("free");
  if (!pointer) return;
  struct block* block = block_of(pointer);
  atomic_store(&block->written, 0);
  if (block->large) {
    if ((char*)block >= early && (char*)block < early + sizeof(early)) return;
    char* start = (char*)block - (block->large - 1);
    size_t len = block->size * page_size();
    pthread_mutex_lock(&lock);
    if (ZX(CALL(zx_vmar_unmap)(CALL(zx_vmar_root_self)(), (zx_vaddr_t)start, len)) != ZX_OK) die(4, "a block cannot be unmapped");
    pthread_mutex_unlock(&lock);
    unmapped++;
    return;
  }
  unsigned class = class_of(block->size);
  pthread_mutex_lock(&lock);
  block->next = free_blocks[class];
  free_blocks[class] = block;
  pthread_mutex_unlock(&lock);
}

void* malloc(size_t size) { return take(16, size, "malloc"); }

void* calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
  void* pointer = take(16, bytes, "calloc");
  return pointer ? memset(pointer, 0, bytes) : NULL;
}

void* realloc(void* old, size_t size) {
  void* new = take(16, size, "realloc");
  if (new && old) {
    size_t had = room(block_of(old));
    memcpy(new, old, had < size ? had : size);
    free(old);
  }
  return new;
}

void* memalign(size_t align, size_t size) { return take(align, size, "memalign"); }
void* aligned_alloc(size_t align, size_t size) { return take(align, size, "aligned_alloc"); }
void* valloc(size_t size) { return take(page_size(), size, "valloc"); }
size_t malloc_usable_size(void* pointer) { return pointer ? room(block_of(pointer)) : 0; }

int posix_memalign(void** out, size_t align, size_t size) {
  void* pointer = take(align, size, "posix_memalign");
  if (!pointer) return ENOMEM;
  *out = pointer;
  return 0;
}

// ---- the program ----

static uint64_t next(uint64_t* random) {
  *random ^= *random << 13;
  *random ^= *random >> 7;
  *random ^= *random << 17;
  return *random;
}

static unsigned char byte_of(uint64_t seed, size_t at) { return (unsigned char)(seed >> (at % 8 * 8)) ^ (unsigned char)(at >> 3); }

static void fill(void* pointer, size_t len, uint64_t seed) {
  struct block* block = block_of(pointer);
  atomic_store(&block->written, 0);
  for (size_t at = 0; at < len; at++) ((unsigned char*)pointer)[at] = byte_of(seed, at);
  block->len = (uint32_t)len;
  atomic_store(&block->written, seed);
}

static bool has(const struct block* block, uint64_t seed, size_t len) {
  const unsigned char* bytes = (const unsigned char*)(block + 1);
  for (size_t at = 0; at < len; at++)
    if (bytes[at] != byte_of(seed, at)) return false;
  return true;
}

static unsigned rounds = 3000;
static _Atomic bool done;
static _Atomic unsigned long clones, checked;

static void* short_lived(void* pointer) {
#ifndef LOADED
  if (!pointer) every_call();
#endif
  free(pointer);
  return malloc(100);
}

static void* work(void* number) {
  enum { SLOTS = 256 };
  struct {
    void* pointer;
    size_t len;
    uint64_t seed;
  } slots[SLOTS] = {0};
  uint64_t random = 0x9e3779b97f4a7c15u * ((uintptr_t)number + 1);
  for (unsigned round = 0; round < rounds; round++) {
    unsigned at = next(&random) % SLOTS;
    if (slots[at].pointer) {
      if (!has(block_of(slots[at].pointer), slots[at].seed, slots[at].len)) die(4, "a block of the heap is wrong");
      if (next(&random) % 4 == 0) {
        size_t len = slots[at].len + next(&random) % 5000;
        void* grown = realloc(slots[at].pointer, len);
        if (!grown) die(4, "no memory");
        if (!has(block_of(grown), slots[at].seed, slots[at].len)) die(4, "a block that has moved is wrong");
        slots[at].pointer = grown;
      } else {
        free(slots[at].pointer);
        slots[at].pointer = NULL;
        continue;
      }
    } else {
      size_t len = 1 + next(&random) % (next(&random) % 16 ? 3000 : 2 * LARGE);
      slots[at].pointer = next(&random) % 32 ? malloc(len) : aligned_alloc(4096, len);
      if (!slots[at].pointer) die(4, "no memory");
      slots[at].len = len;
    }
    slots[at].seed = next(&random) | 1;
    fill(slots[at].pointer, slots[at].len, slots[at].seed);
    if (next(&random) % 256 == 0) {
      pthread_t thread;
      void* got;
      if (pthread_create(&thread, NULL, short_lived, malloc(3000)) || pthread_join(thread, &got)) die(4, "no thread");
      free(got);
    }
    if (next(&random) % 512 == 0) {
      pid_t pid = fork();
      if (pid == 0) {
        // Looks, and asks for nothing: other threads may have held the lock.
        for (unsigned i = 0; i < SLOTS; i++)
          if (slots[i].pointer && !has((struct block*)slots[i].pointer - 1, slots[i].seed, slots[i].len)) _exit(1);
        _exit(0);
      }
      int status = 0;
      if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) die(4, "a forked copy's heap is wrong");
    }
  }
  for (unsigned at = 0; at < SLOTS; at++) free(slots[at].pointer);
  return NULL;
}

// Looks at the clone of a piece: a block that was written whole must be whole.
static void look_at(const char* bytes) {
  uint64_t used = ((const struct piece*)bytes)->used;
  for (size_t at = (sizeof(struct piece) + 15) & ~(size_t)15; at < used;) {
    const struct block* block = (const struct block*)(bytes + at);
    if (block->magic != MAGIC) die(4, "a header in a clone is wrong");
    if (block->written && !has(block, block->written, block->len)) die(4, "a block in a clone is wrong");
    at += sizeof(struct block) + block->size;
    checked++;
  }
}

static void* clone_heap(void* unused) {
  (void)unused;
  static alignas(65536) char copy[PIECE];
  unsigned first = 0;
  while (!done) {
    unsigned count = piece_count;
    for (unsigned i = 0; i < count && !done; i++) {
      if ((char*)pieces[i] >= early && (char*)pieces[i] < early + sizeof(early)) continue;
      zx_handle_t clone;
      zx_status_t status = ZX(CALL(zx_vmar_create_vmo_child)(CALL(zx_vmar_root_self)(), ZX_VMO_CHILD_SNAPSHOT, (zx_vaddr_t)pieces[i], PIECE, &clone));
      if (status == ZX_ERR_BAD_STATE) continue;  // A forked copy shares its memory at this moment.
      if (status != ZX_OK) {
        dprintf(2, "status %d\n", status);
        die(4, "the heap cannot be cloned");
      }
      if (first++ % 2) {
        if (ZX(CALL(zx_vmo_read)(clone, copy, 0, PIECE)) != ZX_OK) die(4, "a clone cannot be read");
        look_at(copy);
      } else {
        zx_vaddr_t at;
        if (ZX(CALL(zx_vmar_map)(CALL(zx_vmar_root_self)(), ZX_VM_PERM_READ, 0, clone, 0, PIECE, &at)) != ZX_OK) die(4, "a clone cannot be mapped");
        look_at((const char*)at);
        if (ZX(CALL(zx_vmar_unmap)(CALL(zx_vmar_root_self)(), at, PIECE)) != ZX_OK) die(4, "a clone cannot be unmapped");
      }
      (void)ZX(CALL(zx_handle_close)(clone));
      clones++;
    }
  }
  return NULL;
}

// Whether the library has a userfaultfd.
static bool traced(void) {
  for (int fd = 0; fd < 1024; fd++) {
    char path[64], target[64] = "";
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "userfaultfd")) return true;
  }
  return false;
}

#ifndef LOADED
// Before anything asks for memory, so that all of the heap is the library's.
static void first(void) { library = true; }
__attribute__((section(".preinit_array"), used)) static void (*const at_first)(void) = first;
#endif

int main(int argc, char** argv) {
  void* frames[4];
  backtrace(frames, 4);  // Loads what it needs.
  if (argc > 1) rounds = (unsigned)atoi(argv[1]);
  if (rounds == 0) {
    // Does what the library must not.
    inside++;
    free(malloc(1));
    inside--;
  }
#ifdef LOADED
  void* opened = dlopen(argc > 2 ? argv[2] : "", RTLD_NOW | RTLD_LOCAL);
  if (!opened) die(4, dlerror());
#define LOAD(name) if (!(name##_ = (__typeof__(&name))dlsym(opened, #name))) die(4, #name)
  LOAD(zx_vmo_create);
  LOAD(zx_vmar_map);
  LOAD(zx_vmar_unmap);
  LOAD(zx_vmar_create_vmo_child);
  LOAD(zx_vmo_read);
  LOAD(zx_vmo_op_range);
  LOAD(zx_handle_close);
  LOAD(zx_vmar_root_self);
  library = true;
  dlclose(opened);  // It stays nevertheless.
#endif
  pthread_t thread;
  void* got;
  if (pthread_create(&thread, NULL, short_lived, NULL) || pthread_join(thread, &got)) die(4, "no thread");
  free(got);
  enum { WORKERS = 4 };
  pthread_t workers[WORKERS], cloner;
  for (uintptr_t i = 0; i < WORKERS; i++)
    if (pthread_create(&workers[i], NULL, work, (void*)i)) die(4, "no thread");
  if (pthread_create(&cloner, NULL, clone_heap, NULL)) die(4, "no thread");
  for (unsigned i = 0; i < WORKERS; i++) pthread_join(workers[i], NULL);
  done = true;
  pthread_join(cloner, NULL);
  printf("ok traced=%d mapped=%lu unmapped=%lu pieces=%u clones=%lu checked=%lu\n", traced(), mapped, unmapped, piece_count, clones, checked);
  fflush(stdout);
  // A recording ends at exit(3).
  if (getenv("COWSPACE_RECORD")) exit(0);
  _exit(0);
}
