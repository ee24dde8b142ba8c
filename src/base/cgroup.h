/* What control groups and process limits leave to this process. Linux; elsewhere nothing is limited.
 *
 * A group's limit holds for all groups inside it, so every one from the process's own up to the root is asked, in version 2 of
 * the hierarchy and in version 1. Where a container hides the way up, what it shows is asked. */
#ifndef CT_BASE_CGROUP_H
#define CT_BASE_CGROUP_H

#include <stddef.h>

/* Bytes; SIZE_MAX where there is no limit. left: what could be had now, at least 1. File pages that the kernel would drop count
 * as free. */
size_t ct_cgroup_memory_limit(void);
size_t ct_cgroup_memory_left(void);
/* Cores' worth of time; 0 where there is no limit. */
double ct_cgroup_cpus(void);

#endif
