/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_COMPILER_H_
#define ZIRCON_COMPILER_H_

/* Words that Zircon's headers and programs use. Those that another header gave already stay as they
 * are. */

#ifdef __cplusplus
#define __BEGIN_CDECLS extern "C" {
#define __END_CDECLS }
#else
#define __BEGIN_CDECLS
#define __END_CDECLS
#endif

#ifndef __EXPORT
#define __EXPORT __attribute__((visibility("default")))
#endif
#ifndef __LOCAL
#define __LOCAL __attribute__((visibility("hidden")))
#endif
#ifndef __WEAK
#define __WEAK __attribute__((weak))
#endif
#ifndef __USED
#define __USED __attribute__((used))
#endif
#ifndef __UNUSED
#define __UNUSED __attribute__((unused))
#endif
#ifndef __PACKED
#define __PACKED __attribute__((packed))
#endif
#ifndef __ALIGNED
#define __ALIGNED(x) __attribute__((aligned(x)))
#endif
#ifndef __ALWAYS_INLINE
#define __ALWAYS_INLINE __attribute__((always_inline))
#endif
#ifndef __NO_INLINE
#define __NO_INLINE __attribute__((noinline))
#endif
#ifndef __NO_RETURN
#define __NO_RETURN __attribute__((noreturn))
#endif
#ifndef __UNREACHABLE
#define __UNREACHABLE __builtin_unreachable()
#endif
#ifndef __PRINTFLIKE
#define __PRINTFLIKE(format, first) __attribute__((format(printf, format, first)))
#endif
#ifndef add_overflow
#define add_overflow(a, b, out) __builtin_add_overflow(a, b, out)
#define sub_overflow(a, b, out) __builtin_sub_overflow(a, b, out)
#define mul_overflow(a, b, out) __builtin_mul_overflow(a, b, out)
#endif
#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

#endif /* ZIRCON_COMPILER_H_ */
