/* Part of cowspace: Zircon's virtual memory objects on Linux. License: MIT OR Apache-2.0. */

#ifndef ZIRCON_SYSCALLS_H_
#define ZIRCON_SYSCALLS_H_

#include <zircon/compiler.h>
#include <zircon/string_view.h>
#include <zircon/types.h>

__BEGIN_CDECLS

/* The calls of Zircon that concern memory, and what code around them uses. Each is there twice, as
 * the Fuchsia vDSO has it: zx_x and _zx_x are the same.
 *
 * What they do is told in Fuchsia's reference (https://fuchsia.dev/reference/syscalls);
 * cowspace's docs/zircon.md says what differs on Linux.
 *
 * A pointer that cannot be accessed is ZX_ERR_INVALID_ARGS. After an error of any kind nothing
 * that is told by a pointer holds; no handle and no mapping was made. In a copy of the process made
 * by fork() the calls answer ZX_ERR_BAD_STATE. */

/* Handles. Each is the program's to close; closing the last one of a VMO ends it, if it is not
 * mapped and has no children. */

/* ZX_HANDLE_INVALID may be closed. */
extern zx_status_t _zx_handle_close(zx_handle_t handle);
extern zx_status_t zx_handle_close(zx_handle_t handle);

/* Closes all of them, those after one that is none as well. */
extern zx_status_t _zx_handle_close_many(const zx_handle_t* handles, size_t num_handles);
extern zx_status_t zx_handle_close_many(const zx_handle_t* handles, size_t num_handles);

/* Another handle to the same object, with those rights: no more than the handle has. */
extern zx_status_t _zx_handle_duplicate(zx_handle_t handle, zx_rights_t rights, zx_handle_t* out);
extern zx_status_t zx_handle_duplicate(zx_handle_t handle, zx_rights_t rights, zx_handle_t* out);

/* A handle with fewer rights. The one given is closed in any case. */
extern zx_status_t _zx_handle_replace(zx_handle_t handle, zx_rights_t rights, zx_handle_t* out);
extern zx_status_t zx_handle_replace(zx_handle_t handle, zx_rights_t rights, zx_handle_t* out);

/* Objects of all types. */

/* Topics and records: zircon/syscalls/object.h. actual and avail may be null. */
extern zx_status_t _zx_object_get_info(zx_handle_t handle, uint32_t topic, void* buffer,
                                       size_t buffer_size, size_t* actual, size_t* avail);
extern zx_status_t zx_object_get_info(zx_handle_t handle, uint32_t topic, void* buffer,
                                      size_t buffer_size, size_t* actual, size_t* avail);

extern zx_status_t _zx_object_get_property(zx_handle_t handle, uint32_t property, void* value,
                                           size_t value_size);
extern zx_status_t zx_object_get_property(zx_handle_t handle, uint32_t property, void* value,
                                          size_t value_size);

extern zx_status_t _zx_object_set_property(zx_handle_t handle, uint32_t property, const void* value,
                                           size_t value_size);
extern zx_status_t zx_object_set_property(zx_handle_t handle, uint32_t property, const void* value,
                                          size_t value_size);

/* Changes user signals. */
extern zx_status_t _zx_object_signal(zx_handle_t handle, uint32_t clear_mask, uint32_t set_mask);
extern zx_status_t zx_object_signal(zx_handle_t handle, uint32_t clear_mask, uint32_t set_mask);

/* Until one of the signals is there. observed gets all that are, and may be null. */
extern zx_status_t _zx_object_wait_one(zx_handle_t handle, zx_signals_t signals,
                                       zx_instant_mono_t deadline, zx_signals_t* observed);
extern zx_status_t zx_object_wait_one(zx_handle_t handle, zx_signals_t signals,
                                      zx_instant_mono_t deadline, zx_signals_t* observed);

/* ZX_ERR_NOT_SUPPORTED: objects do not list their children here. */
extern zx_status_t _zx_object_get_child(zx_handle_t handle, uint64_t koid, zx_rights_t rights,
                                        zx_handle_t* out);
extern zx_status_t zx_object_get_child(zx_handle_t handle, uint64_t koid, zx_rights_t rights,
                                       zx_handle_t* out);

/* VMOs: memory that a handle names. */

extern zx_status_t _zx_vmo_create(uint64_t size, uint32_t options, zx_handle_t* out);
extern zx_status_t zx_vmo_create(uint64_t size, uint32_t options, zx_handle_t* out);

/* The buffer may lie in a mapping of any VMO. ZX_ERR_NOT_FOUND, ZX_ERR_ACCESS_DENIED if it is not
 * mapped, or not for writing. */
extern zx_status_t _zx_vmo_read(zx_handle_t handle, void* buffer, uint64_t offset,
                                size_t buffer_size);
extern zx_status_t zx_vmo_read(zx_handle_t handle, void* buffer, uint64_t offset,
                               size_t buffer_size);

extern zx_status_t _zx_vmo_write(zx_handle_t handle, const void* buffer, uint64_t offset,
                                 size_t buffer_size);
extern zx_status_t zx_vmo_write(zx_handle_t handle, const void* buffer, uint64_t offset,
                                size_t buffer_size);

extern zx_status_t _zx_vmo_get_size(zx_handle_t handle, uint64_t* size);
extern zx_status_t zx_vmo_get_size(zx_handle_t handle, uint64_t* size);

extern zx_status_t _zx_vmo_set_size(zx_handle_t handle, uint64_t size);
extern zx_status_t zx_vmo_set_size(zx_handle_t handle, uint64_t size);

extern zx_status_t _zx_vmo_get_stream_size(zx_handle_t handle, uint64_t* size);
extern zx_status_t zx_vmo_get_stream_size(zx_handle_t handle, uint64_t* size);

extern zx_status_t _zx_vmo_set_stream_size(zx_handle_t handle, uint64_t size);
extern zx_status_t zx_vmo_set_stream_size(zx_handle_t handle, uint64_t size);

/* ZX_VMO_OP_*. ZX_VMO_OP_LOCK fills a zx_vmo_lock_state_t, the others have no buffer. */
extern zx_status_t _zx_vmo_op_range(zx_handle_t handle, uint32_t op, uint64_t offset, uint64_t size,
                                    void* buffer, size_t buffer_size);
extern zx_status_t zx_vmo_op_range(zx_handle_t handle, uint32_t op, uint64_t offset, uint64_t size,
                                   void* buffer, size_t buffer_size);

/* Moves pages. The destination comes first, and the length stands between the two offsets. */
extern zx_status_t _zx_vmo_transfer_data(zx_handle_t dst_vmo, uint32_t options, uint64_t offset,
                                         uint64_t length, zx_handle_t src_vmo, uint64_t src_offset);
extern zx_status_t zx_vmo_transfer_data(zx_handle_t dst_vmo, uint32_t options, uint64_t offset,
                                        uint64_t length, zx_handle_t src_vmo, uint64_t src_offset);

/* ZX_VMO_CHILD_*: a copy-on-write clone, a slice, or a reference. */
extern zx_status_t _zx_vmo_create_child(zx_handle_t handle, uint32_t options, uint64_t offset,
                                        uint64_t size, zx_handle_t* out);
extern zx_status_t zx_vmo_create_child(zx_handle_t handle, uint32_t options, uint64_t offset,
                                       uint64_t size, zx_handle_t* out);

/* ZX_ERR_NOT_SUPPORTED for every policy but ZX_CACHE_POLICY_CACHED. */
extern zx_status_t _zx_vmo_set_cache_policy(zx_handle_t handle, uint32_t cache_policy);
extern zx_status_t zx_vmo_set_cache_policy(zx_handle_t handle, uint32_t cache_policy);

/* vmex is ZX_HANDLE_INVALID. The handle given is closed in any case. */
extern zx_status_t _zx_vmo_replace_as_executable(zx_handle_t handle, zx_handle_t vmex,
                                                 zx_handle_t* out);
extern zx_status_t zx_vmo_replace_as_executable(zx_handle_t handle, zx_handle_t vmex,
                                                zx_handle_t* out);

/* ZX_ERR_NOT_SUPPORTED: Linux gives no program contiguous or physical memory. */
extern zx_status_t _zx_vmo_create_contiguous(zx_handle_t bti, size_t size, uint32_t alignment_log2,
                                             zx_handle_t* out);
extern zx_status_t zx_vmo_create_contiguous(zx_handle_t bti, size_t size, uint32_t alignment_log2,
                                            zx_handle_t* out);

extern zx_status_t _zx_vmo_create_physical(zx_handle_t resource, zx_paddr_t paddr, size_t size,
                                           zx_handle_t* out);
extern zx_status_t zx_vmo_create_physical(zx_handle_t resource, zx_paddr_t paddr, size_t size,
                                          zx_handle_t* out);

/* VMARs: ranges of addresses that VMOs are mapped in. Closing a handle to one changes nothing;
 * zx_vmar_destroy ends it. */

extern zx_status_t _zx_vmar_allocate(zx_handle_t parent_vmar, zx_vm_option_t options, size_t offset,
                                     size_t size, zx_handle_t* child_vmar, zx_vaddr_t* child_addr);
extern zx_status_t zx_vmar_allocate(zx_handle_t parent_vmar, zx_vm_option_t options, size_t offset,
                                    size_t size, zx_handle_t* child_vmar, zx_vaddr_t* child_addr);

/* The mapping keeps the VMO alive. */
extern zx_status_t _zx_vmar_map(zx_handle_t handle, zx_vm_option_t options, size_t vmar_offset,
                                zx_handle_t vmo, uint64_t vmo_offset, size_t len,
                                zx_vaddr_t* mapped_addr);
extern zx_status_t zx_vmar_map(zx_handle_t handle, zx_vm_option_t options, size_t vmar_offset,
                               zx_handle_t vmo, uint64_t vmo_offset, size_t len,
                               zx_vaddr_t* mapped_addr);

extern zx_status_t _zx_vmar_unmap(zx_handle_t handle, zx_vaddr_t addr, size_t len);
extern zx_status_t zx_vmar_unmap(zx_handle_t handle, zx_vaddr_t addr, size_t len);

extern zx_status_t _zx_vmar_protect(zx_handle_t handle, zx_vm_option_t options, zx_vaddr_t addr,
                                    size_t len);
extern zx_status_t zx_vmar_protect(zx_handle_t handle, zx_vm_option_t options, zx_vaddr_t addr,
                                   size_t len);

/* ZX_VMAR_OP_*. No operation has a buffer. */
extern zx_status_t _zx_vmar_op_range(zx_handle_t handle, uint32_t op, zx_vaddr_t addr, size_t size,
                                     void* buffer, size_t buffer_size);
extern zx_status_t zx_vmar_op_range(zx_handle_t handle, uint32_t op, zx_vaddr_t addr, size_t size,
                                    void* buffer, size_t buffer_size);

extern zx_status_t _zx_vmar_destroy(zx_handle_t handle);
extern zx_status_t zx_vmar_destroy(zx_handle_t handle);

/* RFC-0013: a copy-on-write clone of what is mapped there, without a handle to the VMO. The options
 * are ZX_VMO_CHILD_SNAPSHOT or ZX_VMO_CHILD_SNAPSHOT_AT_LEAST_ON_WRITE, and possibly
 * ZX_VMO_CHILD_NO_WRITE. */
extern zx_status_t _zx_vmar_create_vmo_child(zx_handle_t handle, uint32_t options, zx_vaddr_t addr,
                                             size_t size, zx_handle_t* out);
extern zx_status_t zx_vmar_create_vmo_child(zx_handle_t handle, uint32_t options, zx_vaddr_t addr,
                                            size_t size, zx_handle_t* out);

/* Pagers: ZX_ERR_NOT_SUPPORTED. */

extern zx_status_t _zx_pager_create(uint32_t options, zx_handle_t* out);
extern zx_status_t zx_pager_create(uint32_t options, zx_handle_t* out);

extern zx_status_t _zx_pager_create_vmo(zx_handle_t pager, uint32_t options, zx_handle_t port,
                                        uint64_t key, uint64_t size, zx_handle_t* out);
extern zx_status_t zx_pager_create_vmo(zx_handle_t pager, uint32_t options, zx_handle_t port,
                                       uint64_t key, uint64_t size, zx_handle_t* out);

extern zx_status_t _zx_pager_detach_vmo(zx_handle_t pager, zx_handle_t vmo);
extern zx_status_t zx_pager_detach_vmo(zx_handle_t pager, zx_handle_t vmo);

extern zx_status_t _zx_pager_supply_pages(zx_handle_t pager, zx_handle_t pager_vmo, uint64_t offset,
                                          uint64_t length, zx_handle_t aux_vmo,
                                          uint64_t aux_offset);
extern zx_status_t zx_pager_supply_pages(zx_handle_t pager, zx_handle_t pager_vmo, uint64_t offset,
                                         uint64_t length, zx_handle_t aux_vmo,
                                         uint64_t aux_offset);

extern zx_status_t _zx_pager_op_range(zx_handle_t pager, uint32_t op, zx_handle_t pager_vmo,
                                      uint64_t offset, uint64_t length, uint64_t data);
extern zx_status_t zx_pager_op_range(zx_handle_t pager, uint32_t op, zx_handle_t pager_vmo,
                                     uint64_t offset, uint64_t length, uint64_t data);

/* Futexes. An owner is looked at, but no priority is inherited. */

extern zx_status_t _zx_futex_wait(const zx_futex_t* value_ptr, zx_futex_t current_value,
                                  zx_handle_t new_futex_owner, zx_instant_mono_t deadline);
extern zx_status_t zx_futex_wait(const zx_futex_t* value_ptr, zx_futex_t current_value,
                                 zx_handle_t new_futex_owner, zx_instant_mono_t deadline);

extern zx_status_t _zx_futex_wake(const zx_futex_t* value_ptr, uint32_t wake_count);
extern zx_status_t zx_futex_wake(const zx_futex_t* value_ptr, uint32_t wake_count);

/* Time. Ticks are nanoseconds. */

extern zx_instant_mono_t _zx_clock_get_monotonic(void);
extern zx_instant_mono_t zx_clock_get_monotonic(void);

extern zx_instant_boot_t _zx_clock_get_boot(void);
extern zx_instant_boot_t zx_clock_get_boot(void);

extern zx_instant_mono_ticks_t _zx_ticks_get(void);
extern zx_instant_mono_ticks_t zx_ticks_get(void);

extern zx_instant_boot_ticks_t _zx_ticks_get_boot(void);
extern zx_instant_boot_ticks_t zx_ticks_get_boot(void);

extern zx_ticks_t _zx_ticks_per_second(void);
extern zx_ticks_t zx_ticks_per_second(void);

/* ZX_TIME_INFINITE if that is farther than the numbers go. */
extern zx_instant_mono_t _zx_deadline_after(zx_duration_mono_t nanoseconds);
extern zx_instant_mono_t zx_deadline_after(zx_duration_mono_t nanoseconds);

extern zx_status_t _zx_nanosleep(zx_instant_mono_t deadline);
extern zx_status_t zx_nanosleep(zx_instant_mono_t deadline);

/* The system. */

/* Random bytes, good for keys. Ends the process if the buffer cannot be written. */
extern void _zx_cprng_draw(void* buffer, size_t buffer_size);
extern void zx_cprng_draw(void* buffer, size_t buffer_size);

extern uint32_t _zx_system_get_page_size(void);
extern uint32_t zx_system_get_page_size(void);

extern uint32_t _zx_system_get_num_cpus(void);
extern uint32_t zx_system_get_num_cpus(void);

extern uint64_t _zx_system_get_physmem(void);
extern uint64_t zx_system_get_physmem(void);

extern zx_string_view_t _zx_system_get_version_string(void);
extern zx_string_view_t zx_system_get_version_string(void);

/* ZX_FEATURE_KIND_*: zircon/features.h. */
extern zx_status_t _zx_system_get_features(uint32_t kind, uint32_t* features);
extern zx_status_t zx_system_get_features(uint32_t kind, uint32_t* features);

__END_CDECLS

#endif /* ZIRCON_SYSCALLS_H_ */
