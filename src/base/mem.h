/* Memory: checked arithmetic, allocation with accounting, arenas.
 *
 * Every allocation of the library goes through here, so that tests can count bytes and make the n-th one fail.
 * Sizes are size_t and products go through ct_mul_ok: a file may ask for 2^63 elements. */
#ifndef CT_BASE_MEM_H
#define CT_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool ct_mul_ok(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool ct_add_ok(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* Rounds n up to a multiple of `to` (a power of two). The caller knows that n + to does not overflow. */
static inline size_t ct_round_up(size_t n, size_t to) { return (n + to - 1) & ~(to - 1); }

/* All return NULL when memory cannot be had (or when a test makes them fail); ct_free(NULL) is fine.
 * ct_alloc and ct_realloc leave new bytes undefined, ct_calloc zeroes and checks the product. */
void *ct_alloc(size_t bytes);
void *ct_calloc(size_t n, size_t size);
void *ct_realloc(void *p, size_t bytes);
void ct_free(void *p);
char *ct_strdup(const char *s);

/* Bytes from which a block that is used here and there is worth huge pages. Smaller ones (activations of the 270M model, 25 MB) lose
 * nothing with small pages, and the first token then waits for the few pages that it touches, not for eight of 2 MB each. */
#define CT_HUGE_FROM ((size_t)32 << 20)

/* Large blocks straight from the kernel: page-aligned, zeroed, committed only when touched, huge pages asked for when
 * `huge`. Freed with the same size. */
void *ct_pages_alloc(size_t bytes, bool huge);
void ct_pages_free(void *p, size_t bytes);

/* Accounting and fault injection, process-wide and thread-safe. ct_mem_calls counts allocations since the start;
 * ct_mem_fail_at(n) makes the n-th allocation from now (1-based) and only that one fail; 0 turns it off. ct_mem_live is
 * the bytes that are allocated now (of large blocks: reserved, touched or not), ct_mem_peak the most of them since
 * ct_mem_peak_reset. */
size_t ct_mem_calls(void);
void ct_mem_fail_at(size_t n);
size_t ct_mem_live(void);
size_t ct_mem_peak(void);
void ct_mem_peak_reset(void);

/* An arena: one block, bump allocation at 64-byte alignment, reset at once. init takes the block; alloc returns NULL when
 * it is full (sizes are computed beforehand, so that is a bug of ours, not an event). One thread at a time. */
typedef struct ct_arena {
    uint8_t *base;
    size_t size, used, peak;
} ct_arena;

bool ct_arena_init(ct_arena *a, size_t bytes);
void ct_arena_deinit(ct_arena *a);
void *ct_arena_alloc(ct_arena *a, size_t bytes);
static inline void ct_arena_reset(ct_arena *a) { a->used = 0; }

#endif
