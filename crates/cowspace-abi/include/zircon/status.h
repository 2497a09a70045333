/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_STATUS_H_
#define ZIRCON_STATUS_H_

#include <zircon/compiler.h>
#include <zircon/types.h>

__BEGIN_CDECLS

/* The name of a status, such as "ZX_ERR_BAD_HANDLE"; "(UNKNOWN)" for a number without a name. It is
 * nobody's to free. */
extern const char* _zx_status_get_string(zx_status_t status);
extern const char* zx_status_get_string(zx_status_t status);

__END_CDECLS

#endif /* ZIRCON_STATUS_H_ */
