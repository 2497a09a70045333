/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_FEATURES_H_
#define ZIRCON_FEATURES_H_

#include <stdint.h>

/* What zx_system_get_features can be asked for. It tells no feature of the processor here:
 * getauxval(3) does. */
#define ZX_FEATURE_KIND_CPU ((uint32_t)0)
#define ZX_FEATURE_KIND_HW_BREAKPOINT_COUNT ((uint32_t)1)
#define ZX_FEATURE_KIND_HW_WATCHPOINT_COUNT ((uint32_t)2)
#define ZX_FEATURE_KIND_ADDRESS_TAGGING ((uint32_t)3)
#define ZX_FEATURE_KIND_VM ((uint32_t)4)

/* Of ZX_FEATURE_KIND_CPU: the features told are the processor's. */
#define ZX_HAS_CPU_FEATURES ((uint32_t)(1u << 0))

/* Of ZX_FEATURE_KIND_VM: memory can be mapped for execution alone. */
#define ZX_VM_FEATURE_CAN_MAP_XOM ((uint32_t)(1u << 0))

#endif /* ZIRCON_FEATURES_H_ */
