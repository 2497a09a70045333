/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_TIME_H_
#define ZIRCON_TIME_H_

#include <stdint.h>
#include <zircon/compiler.h>

__BEGIN_CDECLS

/* Points in time and durations in nanoseconds. Arithmetic stops at the ends of the numbers: a
 * deadline that lies too far is ZX_TIME_INFINITE. */
typedef int64_t zx_time_t;
typedef int64_t zx_duration_t;
typedef int64_t zx_ticks_t;

/* Of the monotonic clock, which stands still while the machine sleeps, and of the boot clock, which
 * does not. */
typedef int64_t zx_instant_mono_t;
typedef int64_t zx_instant_mono_ticks_t;
typedef int64_t zx_duration_mono_t;
typedef int64_t zx_duration_mono_ticks_t;
typedef int64_t zx_instant_boot_t;
typedef int64_t zx_instant_boot_ticks_t;
typedef int64_t zx_duration_boot_t;
typedef int64_t zx_duration_boot_ticks_t;

#define ZX_TIME_INFINITE INT64_MAX
#define ZX_TIME_INFINITE_PAST INT64_MIN

#define ZX_NSEC(n) ((zx_duration_t)(INT64_C(1) * (n)))
#define ZX_USEC(n) ((zx_duration_t)(INT64_C(1000) * (n)))
#define ZX_MSEC(n) ((zx_duration_t)(INT64_C(1000000) * (n)))
#define ZX_SEC(n) ((zx_duration_t)(INT64_C(1000000000) * (n)))
#define ZX_MIN(n) (ZX_SEC(n) * INT64_C(60))
#define ZX_HOUR(n) (ZX_MIN(n) * INT64_C(60))

static inline int64_t _zx_add_saturating(int64_t a, int64_t b) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) {
    return b > 0 ? INT64_MAX : INT64_MIN;
  }
  return sum;
}

static inline int64_t _zx_sub_saturating(int64_t a, int64_t b) {
  int64_t difference;
  if (__builtin_sub_overflow(a, b, &difference)) {
    return b < 0 ? INT64_MAX : INT64_MIN;
  }
  return difference;
}

static inline zx_time_t zx_time_add_duration(zx_time_t time, zx_duration_t duration) {
  return _zx_add_saturating(time, duration);
}

static inline zx_time_t zx_time_sub_duration(zx_time_t time, zx_duration_t duration) {
  return _zx_sub_saturating(time, duration);
}

static inline zx_duration_t zx_time_sub_time(zx_time_t time, zx_time_t earlier) {
  return _zx_sub_saturating(time, earlier);
}

static inline zx_duration_t zx_duration_add_duration(zx_duration_t a, zx_duration_t b) {
  return _zx_add_saturating(a, b);
}

static inline zx_duration_t zx_duration_sub_duration(zx_duration_t a, zx_duration_t b) {
  return _zx_sub_saturating(a, b);
}

static inline zx_duration_t zx_duration_mul_int64(zx_duration_t duration, int64_t factor) {
  int64_t product;
  if (__builtin_mul_overflow(duration, factor, &product)) {
    return (duration < 0) == (factor < 0) ? INT64_MAX : INT64_MIN;
  }
  return product;
}

static inline int64_t zx_nsec_from_duration(zx_duration_t duration) { return duration; }

static inline zx_duration_t zx_duration_from_nsec(int64_t n) { return n; }

static inline zx_duration_t zx_duration_from_usec(int64_t n) {
  return zx_duration_mul_int64(ZX_USEC(1), n);
}

static inline zx_duration_t zx_duration_from_msec(int64_t n) {
  return zx_duration_mul_int64(ZX_MSEC(1), n);
}

static inline zx_duration_t zx_duration_from_sec(int64_t n) {
  return zx_duration_mul_int64(ZX_SEC(1), n);
}

static inline zx_duration_t zx_duration_from_min(int64_t n) {
  return zx_duration_mul_int64(ZX_MIN(1), n);
}

static inline zx_duration_t zx_duration_from_hour(int64_t n) {
  return zx_duration_mul_int64(ZX_HOUR(1), n);
}

static inline zx_ticks_t zx_ticks_add_ticks(zx_ticks_t a, zx_ticks_t b) {
  return _zx_add_saturating(a, b);
}

static inline zx_ticks_t zx_ticks_sub_ticks(zx_ticks_t a, zx_ticks_t b) {
  return _zx_sub_saturating(a, b);
}

static inline zx_ticks_t zx_ticks_mul_int64(zx_ticks_t ticks, int64_t factor) {
  return zx_duration_mul_int64(ticks, factor);
}

__END_CDECLS

#endif /* ZIRCON_TIME_H_ */
