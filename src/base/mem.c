/* Memory: see mem.h. The only file of the library that calls malloc, mmap for anonymous memory, and their kin. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __APPLE__
#include <malloc/malloc.h>
#define block_bytes malloc_size
#else
#include <malloc.h>
#define block_bytes malloc_usable_size
#endif

#define HUGE_PAGE ((size_t)2 << 20) /* of x86-64, and of Arm with 4 KiB pages */

/* The process-wide counters behind accounting and fault injection: tests need them where no context reaches. */
static atomic_size_t calls;
static atomic_size_t fail_at;
static atomic_size_t live;
static atomic_size_t peak;

static bool may_allocate(void)
{
    size_t now = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + 1;
    return now != atomic_load_explicit(&fail_at, memory_order_relaxed);
}

size_t ct_mem_calls(void) { return atomic_load(&calls); }

void ct_mem_fail_at(size_t n) { atomic_store(&fail_at, n ? atomic_load(&calls) + n : 0); }

size_t ct_mem_live(void) { return atomic_load(&live); }
size_t ct_mem_peak(void) { return atomic_load(&peak); }
void ct_mem_peak_reset(void) { atomic_store(&peak, atomic_load(&live)); }

static void took(size_t bytes)
{
    size_t now = atomic_fetch_add_explicit(&live, bytes, memory_order_relaxed) + bytes;
    size_t most = atomic_load_explicit(&peak, memory_order_relaxed);
    while (now > most &&
           !atomic_compare_exchange_weak_explicit(&peak, &most, now, memory_order_relaxed, memory_order_relaxed))
        ;
}

static void gave(size_t bytes) { atomic_fetch_sub_explicit(&live, bytes, memory_order_relaxed); }

static void *counted(void *p)
{
    if (p)
        took(block_bytes(p));
    return p;
}

void *ct_alloc(size_t bytes) { return may_allocate() ? counted(malloc(bytes ? bytes : 1)) : NULL; }

void *ct_calloc(size_t n, size_t size)
{
    size_t bytes; /* checked here, too: a sanitizer's calloc takes an overflow for the end of the world */
    return ct_mul_ok(n, size, &bytes) && may_allocate() ? counted(calloc(n ? n : 1, size ? size : 1)) : NULL;
}

void *ct_realloc(void *p, size_t bytes)
{
    if (!may_allocate())
        return NULL;
    size_t before = p ? block_bytes(p) : 0;
    void *bigger = counted(
        realloc(p, bytes ? bytes : 1)); /* old and new may both be there for a moment: that is the peak */
    if (bigger)
        gave(before);
    return bigger;
}

void ct_free(void *p)
{
    if (p)
        gave(block_bytes(p));
    free(p);
}

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
    size_t size = bytes ? bytes : 1, room = huge ? size + HUGE_PAGE : size;
    uint8_t *p = room < size ? MAP_FAILED
                             : mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    took(size);
    if (!huge)
        return p;
    /* Begin where a huge page may begin; what lies before and behind goes back. */
    uint8_t *from = p + (ct_round_up((size_t)(uintptr_t)p, HUGE_PAGE) - (size_t)(uintptr_t)p);
    uint8_t *to = from + ct_round_up(size, (size_t)sysconf(_SC_PAGESIZE));
    if (from > p)
        munmap(p, (size_t)(from - p));
    if (to < p + room)
        munmap(to, (size_t)(p + room - to));
#ifdef MADV_HUGEPAGE
    madvise(from, size, MADV_HUGEPAGE); /* a wish: small pages are slower, not wrong */
#endif
    return from;
}

void ct_pages_free(void *p, size_t bytes)
{
    if (p == NULL)
        return;
    gave(bytes ? bytes : 1);
    munmap(p, bytes ? bytes : 1);
}

bool ct_arena_init(ct_arena *a, size_t bytes)
{
    *a = (ct_arena){.base = ct_pages_alloc(bytes, bytes >= CT_HUGE_FROM), .size = bytes};
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
