/* What the random fillers draw from: words of a counter-based stream, and how much scales vary. */
#ifndef CT_QUANT_WORDS_H
#define CT_QUANT_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

#define GOLDEN 0x9e3779b97f4a7c15u

/* The stream of 64-bit words that a run of blocks draws from. */
static inline uint64_t key_of(uint64_t seed, uint64_t stream) { return ct_rng_u64(seed, stream, 0); }

/* One round where ct_mix64 has two: plenty for weights, and twice as fast. */
static inline uint64_t word(uint64_t key, uint64_t n)
{
    uint64_t z = key + n * GOLDEN;
    z = (z ^ z >> 32) * 0xd6e8feb86659fd93u;
    return z ^ z >> 32;
}

static inline void store_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void store_u64(uint8_t *p, uint64_t v)
{
    for (size_t i = 0; i < 8; i++) /* one store on little-endian machines */
        p[i] = (uint8_t)(v >> 8 * i);
}

/* 0.75 .. 1.24 with a mean square of 1.01303. */
static inline float scale_factor(uint64_t r) { return (float)(96 + (int32_t)(r & 63)) * 0x1p-7f; }

#define SCALE_RMS 1.00650f /* root mean square of the factor */

#endif
