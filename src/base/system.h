/* What the machine and the process are like right now: clock, memory, cores. */
#ifndef CT_BASE_SYSTEM_H
#define CT_BASE_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

/* Monotonic time in nanoseconds. */
uint64_t ct_now_ns(void);
static inline double ct_seconds_since(uint64_t start_ns) { return (double)(ct_now_ns() - start_ns) * 1e-9; }

size_t ct_rss_bytes(void);             /* resident memory of this process now; 0 where it cannot be read            */
size_t ct_rss_peak_bytes(void);        /* its highest value so far                                                 */
size_t ct_memory_available(void);      /* bytes that could be used now, cgroup and ulimit respected; 0 = unknown    */
size_t ct_memory_total(void);          /* physical memory, cgroup limit respected; 0 = unknown                      */
int32_t ct_cores(void);                /* physical cores this process may use, affinity and cgroup quota respected  */
void ct_cpu_name(char *out, size_t n); /* as the machine calls itself, or "unknown CPU"                             */

#endif
