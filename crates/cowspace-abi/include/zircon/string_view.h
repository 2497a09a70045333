/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_STRING_VIEW_H_
#define ZIRCON_STRING_VIEW_H_

#include <stddef.h>

#ifdef __cplusplus
#include <string_view>
#endif

/* Bytes of text. Those of zx_system_get_version_string end in a zero, which does not count. */
typedef struct zx_string_view {
  const char* c_str;
  size_t length;

#ifdef __cplusplus
  operator std::string_view() const { return std::string_view(c_str, length); }
#endif
} zx_string_view_t;

#endif /* ZIRCON_STRING_VIEW_H_ */
