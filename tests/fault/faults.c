/* The seam behind faults.h: --wrap turns the library's calls of f into __wrap_f, and __real_f is libc's (or a sanitizer's). */
#define _GNU_SOURCE
#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[FAULT_KINDS] = {"alloc",  "map",    "open", "stat",   "read",   "write", "sync", "close",
                                               "rename", "thread", "lock", "shrink", "vanish", "grow",  "short"};

static atomic_int set_kind = -1;
static atomic_size_t calls, fail_at;
static atomic_bool fail_forever, fired;
static atomic_long blocks, mapped;
static const char *redirected;

const char *fault_name(enum fault_kind kind) { return names[kind]; }

void fault_set(enum fault_kind kind, size_t n, bool forever)
{
    atomic_store(&set_kind, -1);
    atomic_store(&calls, 0);
    atomic_store(&fail_at, n);
    atomic_store(&fail_forever, forever);
    atomic_store(&fired, false);
    atomic_store(&set_kind, (int)kind);
}

void fault_clear(void) { atomic_store(&set_kind, -1); }
size_t fault_calls(void) { return atomic_load(&calls); }
bool fault_fired(void) { return atomic_load(&fired); }
void files_redirect(const char *folder) { redirected = folder; }

/* Counts a call of a kind; true: it must fail. */
static bool fails(enum fault_kind kind)
{
    if (atomic_load(&set_kind) != (int)kind)
        return false;
    size_t now = atomic_fetch_add(&calls, 1) + 1, n = atomic_load(&fail_at);
    if (now != n && !(now > n && atomic_load(&fail_forever)))
        return false;
    atomic_store(&fired, true);
    return true;
}

static bool fails_with(enum fault_kind kind, int error)
{
    if (!fails(kind))
        return false;
    errno = error;
    return true;
}

/* ---- memory ---- */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
int __real_munmap(void *p, size_t n);

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add(&blocks, 1);
    return p;
}

void *__wrap_malloc(size_t n) { return fails_with(FAULT_ALLOC, ENOMEM) ? NULL : counted(__real_malloc(n)); }
void *__wrap_calloc(size_t n, size_t size)
{
    return fails_with(FAULT_ALLOC, ENOMEM) ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n)
{
    if (fails_with(FAULT_ALLOC, ENOMEM))
        return NULL;
    void *q = __real_realloc(p, n);
    return p ? q : counted(q);
}

void __wrap_free(void *p)
{
    if (p)
        atomic_fetch_sub(&blocks, 1);
    __real_free(p);
}

static long whole_pages(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (long)((n + page - 1) / page * page);
}

/* What others do to a file that is mapped. */
static void meddle(int fd, size_t n)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    int result = 0;
    if (len < 0)
        return;
    path[len] = '\0';
    if (fails(FAULT_SHRINK))
        result = truncate(path, (off_t)(n / 2));
    if (fails(FAULT_GROW))
        result = truncate(path, (off_t)(n + 1));
    if (fails(FAULT_VANISH))
        result = unlink(path);
    if (result != 0)
        abort();
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    if (fails_with(flags & MAP_ANONYMOUS ? FAULT_ALLOC : FAULT_MAP, ENOMEM))
        return MAP_FAILED;
    void *p = __real_mmap(at, n, prot, flags, fd, off);
    if (p != MAP_FAILED)
        atomic_fetch_add(&mapped, whole_pages(n));
    if (p != MAP_FAILED && !(flags & MAP_ANONYMOUS))
        meddle(fd, n);
    return p;
}

int __wrap_munmap(void *p, size_t n)
{
    atomic_fetch_sub(&mapped, whole_pages(n));
    return __real_munmap(p, n);
}

/* ---- files ---- */

int __real_open(const char *path, int flags, ...);
FILE *__real_fopen(const char *path, const char *mode);
int __real_stat(const char *path, struct stat *sb);
int __real_fstat(int fd, struct stat *sb);
ssize_t __real_read(int fd, void *data, size_t n);
ssize_t __real_write(int fd, const void *data, size_t n);
ssize_t __real_pwrite(int fd, const void *data, size_t n, off_t at);
int __real_mkdir(const char *path, mode_t mode);
int __real_fsync(int fd);
int __real_close(int fd);
int __real_rename(const char *from, const char *to);

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    return fails_with(FAULT_OPEN, EMFILE) ? -1 : __real_open(path, flags, mode);
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
    char other[4096];
    if (fails_with(FAULT_OPEN, EMFILE))
        return NULL;
    if (redirected && path[0] == '/') {
        snprintf(other, sizeof other, "%s%s", redirected, path);
        path = other;
    }
    return __real_fopen(path, mode);
}

int __wrap_stat(const char *path, struct stat *sb) { return fails_with(FAULT_STAT, EIO) ? -1 : __real_stat(path, sb); }
int __wrap_fstat(int fd, struct stat *sb) { return fails_with(FAULT_STAT, EIO) ? -1 : __real_fstat(fd, sb); }

ssize_t __wrap_read(int fd, void *data, size_t n)
{
    if (fails_with(FAULT_READ, EIO))
        return -1;
    if (fails_with(FAULT_SHORT, EINTR)) {
        if (atomic_load(&calls) % 2 == 0)
            return -1;
        n = n > 1 ? 1 : n;
    }
    return __real_read(fd, data, n);
}

/* How much a write may move, or -1. */
static ssize_t may_write(size_t n)
{
    if (fails_with(FAULT_WRITE, ENOSPC))
        return -1;
    if (!fails_with(FAULT_SHORT, EINTR))
        return (ssize_t)n;
    return atomic_load(&calls) % 2 == 0 ? -1 : n > 1 ? 1 : (ssize_t)n;
}

ssize_t __wrap_write(int fd, const void *data, size_t n)
{
    ssize_t may = may_write(n);
    return may < 0 ? -1 : __real_write(fd, data, (size_t)may);
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t n, off_t at)
{
    ssize_t may = may_write(n);
    return may < 0 ? -1 : __real_pwrite(fd, data, (size_t)may, at);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    return fails_with(FAULT_OPEN, EMFILE) ? -1 : __real_mkdir(path, mode);
}

int __wrap_fsync(int fd) { return fails_with(FAULT_SYNC, EIO) ? -1 : __real_fsync(fd); }

int __wrap_close(int fd)
{
    int result = __real_close(fd);
    return fails_with(FAULT_CLOSE, EIO) ? -1 : result;
}

int __wrap_rename(const char *from, const char *to)
{
    return fails_with(FAULT_RENAME, EIO) ? -1 : __real_rename(from, to);
}

/* ---- threads ---- */

int __real_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __real_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr);
int __real_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    return fails(FAULT_THREAD) ? EAGAIN : __real_pthread_create(t, attr, fn, arg);
}
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
    return fails(FAULT_LOCK) ? ENOMEM : __real_pthread_mutex_init(m, attr);
}
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr)
{
    return fails(FAULT_LOCK) ? ENOMEM : __real_pthread_cond_init(c, attr);
}

/* ---- what is held ---- */

static int entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

struct holdings holdings_now(void)
{
    return (struct holdings){atomic_load(&blocks), atomic_load(&mapped), entries("/proc/self/fd"),
                             entries("/proc/self/task")};
}

/* ---- processes ---- */

static void report(void)
{
    FILE *f = __real_fopen(getenv("CARAT_FAULT_REPORT"), "w");
    if (f == NULL)
        return;
    fprintf(f, "%zu %d\n", fault_calls(), fault_fired());
    fclose(f);
}

static void __attribute__((constructor)) from_environment(void)
{
    const char *spec = getenv("CARAT_FAULT");
    const char *colon = spec ? strchr(spec, ':') : NULL;
    for (int k = 0; colon && k < FAULT_KINDS; k++)
        if (strlen(names[k]) == (size_t)(colon - spec) && strncmp(names[k], spec, strlen(names[k])) == 0)
            fault_set((enum fault_kind)k, strtoul(colon + 1, NULL, 10), strstr(colon, ":forever") != NULL);
    if (getenv("CARAT_FAULT_REPORT"))
        atexit(report);
}
