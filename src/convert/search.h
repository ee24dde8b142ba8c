/* What the encoders of this room share: the search for scales, and little-endian stores.
 *
 * The notation of all of them: x[n] the elements of a group, w[n] what an error of each costs, q[n] integer codes (held as floats), s a
 * scale, m an offset; the error of a choice is the sum of w (x - s q - m)^2. Sums have four lanes and one order, and nothing here
 * depends on the machine, so neither do the bytes. n is a multiple of 4, at most CT_GROUP_MAX. */
#ifndef CT_CONVERT_SEARCH_H
#define CT_CONVERT_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "convert/encode.h"

#define CT_GROUP_MAX 128

typedef float ct_f4 __attribute__((vector_size(16)));

static inline ct_f4 ct_load4(const float *p)
{
    ct_f4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline float ct_sum4(ct_f4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }

/* The nearest integer, ties to even, of a magnitude below 2^22: adding 1.5 * 2^23 leaves no place for a fraction. */
static inline float ct_nearest(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* q[n] = the codes lo..hi nearest to (x - m) * inv. */
static inline void ct_codes(float *restrict q, const float *restrict x, size_t n, float inv, float m, float lo,
                            float hi)
{
    for (size_t j = 0; j < n; j++) {
        float t = (x[j] - m) * inv;
        t = t > lo ? t : lo; /* before rounding, which could not stand large ones */
        t = t < hi ? t : hi;
        q[j] = ct_nearest(t);
    }
}

/* Sum of w (x - s q - m)^2. */
static inline float ct_error_of(const float *x, const float *w, const float *q, size_t n, float s, float m)
{
    ct_f4 sum = {0}, vs = {s, s, s, s}, vm = {m, m, m, m};
    for (size_t j = 0; j < n; j += 4) {
        ct_f4 d = ct_load4(x + j) - vm - vs * ct_load4(q + j);
        sum += ct_load4(w + j) * d * d;
    }
    return ct_sum4(sum);
}

/* The element that is farthest from zero, with its sign. */
static inline float ct_farthest(const float *x, size_t n)
{
    float low = 0, high = 0;
    for (size_t j = 0; j < n; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
    }
    return -low > high ? low : high;
}

/* Are all elements finite? */
static inline bool ct_all_finite(const float *x, size_t n)
{
    uint32_t worst = 0;
    for (size_t j = 0; j < n; j++) {
        uint32_t m = ct_bits_from_f32(x[j]) & 0x7fffffffu;
        worst = m > worst ? m : worst;
    }
    return worst < 0x7f800000u;
}

static inline void ct_store_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void ct_store_u32(uint8_t *p, uint32_t v)
{
    ct_store_u16(p, (uint16_t)v);
    ct_store_u16(p + 2, (uint16_t)(v >> 16));
}

/* The encoders by name: encode.c's table is their only user, encode.h says what they promise. */
#define CT_ENCODER(name) \
    bool ct_encode_##name(const ct_encoder *e, void *dst, const float *src, size_t n, const float *importance)
CT_ENCODER(f32);
CT_ENCODER(f16);
CT_ENCODER(bf16);
CT_ENCODER(q4_0);
CT_ENCODER(q4_1);
CT_ENCODER(q5_0);
CT_ENCODER(q5_1);
CT_ENCODER(q8_0);

#endif
