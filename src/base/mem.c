/* Memory: see mem.h. The only file of the library that calls malloc, mmap for anonymous memory, and their kin. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The two process-wide counters behind fault injection: tests need them where no context reaches. */
static atomic_size_t calls;
static atomic_size_t fail_at;

static bool may_allocate(void)
{
    size_t now = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + 1;
    return now != atomic_load_explicit(&fail_at, memory_order_relaxed);
}

size_t ct_mem_calls(void) { return atomic_load(&calls); }

void ct_mem_fail_at(size_t n) { atomic_store(&fail_at, n ? atomic_load(&calls) + n : 0); }

void *ct_alloc(size_t bytes) { return may_allocate() ? malloc(bytes ? bytes : 1) : NULL; }

void *ct_calloc(size_t n, size_t size)
{
    size_t bytes; /* checked here, too: a sanitizer's calloc takes an overflow for the end of the world */
    return ct_mul_ok(n, size, &bytes) && may_allocate() ? calloc(n ? n : 1, size ? size : 1) : NULL;
}

void *ct_realloc(void *p, size_t bytes) { return may_allocate() ? realloc(p, bytes ? bytes : 1) : NULL; }

void ct_free(void *p) { free(p); }

char *ct_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *d = ct_alloc(n);
    if (d)
        memcpy(d, s, n);
    return d;
}

void *ct_pages_alloc(size_t bytes, bool huge)
{
    if (!may_allocate())
        return NULL;
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (huge)
        madvise(p, bytes, MADV_HUGEPAGE); /* a wish: small pages are slower, not wrong */
#else
    (void)huge;
#endif
    return p;
}

void ct_pages_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes ? bytes : 1);
}

bool ct_arena_init(ct_arena *a, size_t bytes)
{
    *a = (ct_arena){.base = ct_pages_alloc(bytes, true), .size = bytes};
    return a->base != NULL;
}

void ct_arena_deinit(ct_arena *a)
{
    ct_pages_free(a->base, a->size);
    *a = (ct_arena){0};
}

void *ct_arena_alloc(ct_arena *a, size_t bytes)
{
    size_t need = ct_round_up(bytes, 64);
    if (need < bytes || need > a->size - a->used)
        return NULL;
    void *p = a->base + a->used;
    a->used += need;
    if (a->used > a->peak)
        a->peak = a->used;
    return p;
}
