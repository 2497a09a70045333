/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_LIMITS_H_
#define ZIRCON_LIMITS_H_

#include <stdint.h>

/* The page sizes that Linux has: 4 to 64 KiB. zx_system_get_page_size() says which one. */
#define ZX_MIN_PAGE_SHIFT ((uint32_t)12u)
#define ZX_MAX_PAGE_SHIFT ((uint32_t)16u)
#define ZX_MIN_PAGE_SIZE (1u << ZX_MIN_PAGE_SHIFT)
#define ZX_MAX_PAGE_SIZE (1u << ZX_MAX_PAGE_SHIFT)

#endif /* ZIRCON_LIMITS_H_ */
