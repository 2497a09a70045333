/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_PROCESS_H_
#define ZIRCON_PROCESS_H_

#include <zircon/compiler.h>
#include <zircon/types.h>

__BEGIN_CDECLS

/* Handles that a program has from the start. Each call gives the same value; it is not the caller's
 * to close. ZX_HANDLE_INVALID where the library cannot start: no address space is left, or the
 * process is a copy made by fork(). */

/* The calling thread. The handle is closed when the thread ends. */
extern zx_handle_t _zx_thread_self(void);
extern zx_handle_t zx_thread_self(void);

/* This process. */
extern zx_handle_t _zx_process_self(void);
extern zx_handle_t zx_process_self(void);

/* The VMAR of all addresses that are there to be mapped in: 128 GiB or more. */
extern zx_handle_t _zx_vmar_root_self(void);
extern zx_handle_t zx_vmar_root_self(void);

__END_CDECLS

#endif /* ZIRCON_PROCESS_H_ */
