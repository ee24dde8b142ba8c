/* A counter-based random generator: the n-th number of a stream is a function of (seed, stream, n), so any thread may
 * draw any of them, in any order, and a session can be saved and resumed by saving n.
 *
 * Two rounds of the SplitMix64 finaliser (Steele, Lea, Flood 2014) over the mixed key and counter. Not cryptographic. */
#ifndef CT_BASE_RNG_H
#define CT_BASE_RNG_H

#include <stdint.h>

static inline uint64_t ct_mix64(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint64_t ct_rng_u64(uint64_t seed, uint64_t stream, uint64_t n)
{
    uint64_t key = ct_mix64(seed + 0x9e3779b97f4a7c15u) ^ ct_mix64(stream * 0xd1342543de82ef95u + 0x2545f4914f6cdd1du);
    return ct_mix64(ct_mix64(key + n * 0x9e3779b97f4a7c15u) ^ key);
}

/* Uniform in [0, 1), 53 bits. */
static inline double ct_rng_f64(uint64_t seed, uint64_t stream, uint64_t n)
{
    return (double)(ct_rng_u64(seed, stream, n) >> 11) * 0x1p-53;
}

#endif
