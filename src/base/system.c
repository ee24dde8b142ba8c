/* Clock, memory and cores, read from the operating system. See system.h. */
#if defined(__linux__)
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "base/system.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cgroup.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#elif defined(__APPLE__)
#include <mach/mach.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#endif

uint64_t ct_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#if defined(__linux__)

size_t ct_rss_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL)
        return 0;
    unsigned long total = 0, resident = 0;
    int n = fscanf(f, "%lu %lu", &total, &resident);
    fclose(f);
    return n == 2 ? (size_t)resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* First number of a small file ("max" counts as none). */
static long long number_in(const char *path)
{
    FILE *f = fopen(path, "r");
    long long v = -1;
    if (f == NULL)
        return -1;
    if (fscanf(f, "%lld", &v) != 1)
        v = -1;
    fclose(f);
    return v;
}

/* A "Key:  n kB" line of one of the kernel's status files, in bytes; 0 when it is not there. */
static size_t kilobytes_in(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    char line[128];
    size_t kb = 0, n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0) {
            kb = strtoull(line + n, NULL, 10);
            break;
        }
    fclose(f);
    return kb * 1024;
}

/* Not getrusage: its peak is inherited from the parent across exec, so a program started by a large one starts large. */
size_t ct_rss_peak_bytes(void) { return kilobytes_in("/proc/self/status", "VmHWM:"); }

size_t ct_memory_total(void)
{
    size_t total = kilobytes_in("/proc/meminfo", "MemTotal:"), limit = ct_cgroup_memory_limit();
    return limit < total ? limit : total;
}

/* What `ulimit -v` leaves of the address space. */
static size_t address_space_left(void)
{
    struct rlimit limit;
    unsigned long pages = 0;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return SIZE_MAX;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    size_t used = (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
    return limit.rlim_cur > used ? (size_t)limit.rlim_cur - used : 1;
}

size_t ct_memory_available(void)
{
    size_t left = kilobytes_in("/proc/meminfo", "MemAvailable:"), group = ct_cgroup_memory_left();
    size_t space = address_space_left(), limit = group < space ? group : space;
    return left == 0 && limit == SIZE_MAX ? 0 : left == 0 || limit < left ? limit : left;
}

/* Cores that share a core_id and package with a lower-numbered allowed CPU are hyper-threads: they do not count. */
int32_t ct_cores(void)
{
    cpu_set_t set;
    int32_t n = 0, seen_n = 0;
    long seen[1024];
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (size_t c = 0; c < CPU_SETSIZE; c++) {
            if (!CPU_ISSET(c, &set))
                continue;
            char path[96];
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/core_id", c);
            long long core = number_in(path);
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/physical_package_id", c);
            long long package = number_in(path);
            long id = core < 0 ? -1 - (long)c : (long)((package < 0 ? 0 : package) * 100000 + core);
            bool known = false;
            for (int32_t i = 0; i < seen_n && !known; i++)
                known = seen[i] == id;
            if (!known && seen_n < 1024)
                seen[seen_n++] = id;
        }
        n = seen_n;
    }
    if (n < 1)
        n = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    double quota = ct_cgroup_cpus();
    if (quota > 0 && quota < n)
        n = (int32_t)ceil(quota);
    return n < 1 ? 1 : n;
}

void ct_cpu_name(char *out, size_t n)
{
    snprintf(out, n, "unknown CPU");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (f == NULL)
        return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(out, n, "%s", colon);
        break;
    }
    fclose(f);
}

#elif defined(__APPLE__)

size_t ct_rss_bytes(void)
{
    struct mach_task_basic_info info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) != KERN_SUCCESS)
        return 0;
    return (size_t)info.resident_size;
}

size_t ct_rss_peak_bytes(void)
{
    struct rusage ru;
    return getrusage(RUSAGE_SELF, &ru) == 0 ? (size_t)ru.ru_maxrss : 0;
}

static uint64_t sysctl_u64(const char *name)
{
    uint64_t v = 0;
    size_t size = sizeof v;
    return sysctlbyname(name, &v, &size, NULL, 0) == 0 ? v : 0;
}

size_t ct_memory_total(void) { return (size_t)sysctl_u64("hw.memsize"); }
size_t ct_memory_available(void) { return (size_t)sysctl_u64("hw.memsize") / 4 * 3; }

int32_t ct_cores(void)
{
    int32_t v = 0;
    size_t size = sizeof v;
    if (sysctlbyname("hw.perflevel0.physicalcpu", &v, &size, NULL, 0) != 0 || v < 1) {
        size = sizeof v;
        if (sysctlbyname("hw.physicalcpu", &v, &size, NULL, 0) != 0)
            v = 1;
    }
    return v < 1 ? 1 : v;
}

void ct_cpu_name(char *out, size_t n)
{
    size_t size = n;
    if (sysctlbyname("machdep.cpu.brand_string", out, &size, NULL, 0) != 0)
        snprintf(out, n, "unknown CPU");
}

#else
#error "base/system.c knows Linux and macOS"
#endif
