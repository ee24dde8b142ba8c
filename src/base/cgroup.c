/* Control groups, see cgroup.h: /proc/self/cgroup says which groups a process is in, /sys/fs/cgroup what they may use. */
#include "base/cgroup.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)

#define PATH_ROOM 1024

/* One hierarchy: where it is mounted, and what its files are called. */
struct hierarchy {
    const char *controller; /* of version 1; NULL: version 2 */
    const char *mount, *limit, *used;
    const char *cached[2]; /* lines of memory.stat: file pages, which can be dropped */
};

static const struct hierarchy memory_of[] = {
    {NULL, "/sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file ", "active_file "}},
    {"memory",
     "/sys/fs/cgroup/memory",
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"total_inactive_file ", "total_active_file "}},
};

static const struct hierarchy cpu_of[] = {
    {NULL, "/sys/fs/cgroup", "cpu.max", NULL, {NULL, NULL}},
    {"cpu", "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us", {NULL, NULL}},
};

/* Is the controller in a list like "cpu,cpuacct"? */
static bool listed(const char *list, const char *controller)
{
    size_t n = strlen(controller);
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
        if (strncmp(p, controller, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

/* The process's group in a hierarchy, "" for the root; false where it is in none. Lines are ID:CONTROLLERS:/PATH. */
static bool own_group(const struct hierarchy *h, char *path, size_t cap)
{
    FILE *f = fopen("/proc/self/cgroup", "r");
    char line[PATH_ROOM];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = '\0';
        list++;
        found = h->controller ? listed(list, h->controller) : *list == '\0';
        if (found)
            snprintf(path, cap, "%.*s", (int)strcspn(group, "\n"), group);
    }
    if (f)
        fclose(f);
    if (found && strcmp(path, "/") == 0)
        path[0] = '\0';
    return found;
}

/* Up to two numbers of a group's file; how many there are. "max" is none. */
static int numbers(const struct hierarchy *h, const char *group, const char *file, long long v[2])
{
    char path[2 * PATH_ROOM];
    snprintf(path, sizeof path, "%s%s/%s", h->mount, group, file);
    FILE *f = fopen(path, "r");
    int n = f ? fscanf(f, "%lld %lld", &v[0], &v[1]) : 0;
    if (f)
        fclose(f);
    return n < 0 ? 0 : n;
}

static long long cached(const struct hierarchy *h, const char *group)
{
    char path[2 * PATH_ROOM], line[256];
    long long sum = 0;
    snprintf(path, sizeof path, "%s%s/memory.stat", h->mount, group);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        for (int i = 0; i < 2; i++)
            if (strncmp(line, h->cached[i], strlen(h->cached[i])) == 0)
                sum += strtoll(line + strlen(h->cached[i]), NULL, 10);
    if (f)
        fclose(f);
    return sum;
}

/* Cuts the last name off; false at the root. */
static bool up(char *group)
{
    char *slash = strrchr(group, '/');
    if (slash)
        *slash = '\0';
    return slash != NULL;
}

static size_t memory(bool left)
{
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < sizeof memory_of / sizeof memory_of[0]; i++) {
        const struct hierarchy *h = &memory_of[i];
        char group[PATH_ROOM];
        if (!own_group(h, group, sizeof group))
            continue;
        do {
            long long limit[2], used[2];
            if (numbers(h, group, h->limit, limit) < 1 || limit[0] < 0)
                continue;
            long long have = limit[0];
            if (left && numbers(h, group, h->used, used) > 0 && used[0] > 0) {
                long long file = cached(h, group), held = used[0] > file ? used[0] - file : 0;
                have = have > held ? have - held : 1;
            }
            if ((size_t)have < least)
                least = (size_t)have;
        } while (up(group));
    }
    return least;
}

size_t ct_cgroup_memory_limit(void) { return memory(false); }
size_t ct_cgroup_memory_left(void) { return memory(true); }

double ct_cgroup_cpus(void)
{
    double least = 0;
    for (size_t i = 0; i < sizeof cpu_of / sizeof cpu_of[0]; i++) {
        const struct hierarchy *h = &cpu_of[i];
        char group[PATH_ROOM];
        if (!own_group(h, group, sizeof group))
            continue;
        do {
            long long v[2] = {0, 100000}, period[2];
            if (numbers(h, group, h->limit, v) < 1 || v[0] <= 0)
                continue;
            if (h->used && numbers(h, group, h->used, period) > 0)
                v[1] = period[0];
            double cpus = v[1] > 0 ? (double)v[0] / (double)v[1] : 0;
            if (cpus > 0 && (least == 0 || cpus < least))
                least = cpus;
        } while (up(group));
    }
    return least;
}

#else

size_t ct_cgroup_memory_limit(void) { return SIZE_MAX; }
size_t ct_cgroup_memory_left(void) { return SIZE_MAX; }
double ct_cgroup_cpus(void) { return 0; }

#endif
