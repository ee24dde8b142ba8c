/* What the encoders of this room share: the search for scales, and little-endian stores.
 *
 * The notation of all of them: x[n] the elements of a group, w[n] what an error of each costs, q[n] integer codes (held as floats), s a
 * scale, m an offset; the error of a choice is the sum of w (x - s q - m)^2. Sums have four lanes and one order, and nothing here
 * depends on the machine, so neither do the bytes. n is a multiple of 4, at most CT_GROUP_MAX, and a constant wherever speed
 * counts: hence the code in a header. Read docs/FORMATS.md, "How scales are chosen", first. */
#ifndef CT_CONVERT_SEARCH_H
#define CT_CONVERT_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "convert/encode.h"

#define CT_GROUP_MAX 128
#define CT_TINY 0x1p-30f   /* nothing is left in f16 of elements far above this */
#define CT_LARGEST 0x1p24f /* nothing fits f16 of elements far below this; and squares of sums stay finite */
#define CT_STEPS 3         /* times that codes and scale are made to fit each other; more gain less than 0.05 % */

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

/* q[n] = the codes lo..hi nearest to (x - m) * inv, which stays below 2^22. In three loops, because compilers make the vector
 * instructions for the lesser and the greater of two numbers only of loops that do nothing else. */
static inline void ct_codes(float *restrict q, const float *restrict x, size_t n, float inv, float m, float lo,
                            float hi)
{
    for (size_t j = 0; j < n; j++)
        q[j] = ct_nearest((x[j] - m) * inv);
    for (size_t j = 0; j < n; j++)
        q[j] = q[j] > lo ? q[j] : lo;
    for (size_t j = 0; j < n; j++)
        q[j] = q[j] < hi ? q[j] : hi;
}

/* The codes of a type that has no offset: the integers lo..hi; with a table the numbers of ct_iq4_values, of which the index of the
 * nearest to t stands at place floor(2 t) - 2 lo (they lie so that nothing else changes within half a unit). A search tries the
 * scales that put the farthest element of a group on start[i]. */
struct ct_levels {
    float lo, hi;
    const float *start;
    size_t n_starts;
    const uint8_t *table;
};

static inline void ct_codes_of(float *restrict q, const float *restrict x, size_t n, float inv, struct ct_levels l)
{
    if (l.table == NULL) {
        ct_codes(q, x, n, inv, 0, l.lo, l.hi);
        return;
    }
    ct_codes(q, x, n, 2 * inv, inv != 0 ? 0.25f / inv : 0, 2 * l.lo,
             2 * l.hi); /* 2 t - 1/2, to the nearest: floor(2 t) */
    for (size_t j = 0; j < n; j++)
        q[j] = (float)ct_iq4_values[l.table[(int32_t)(q[j] - 2 * l.lo)]];
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

/* What codes have in sum: of w q, w q^2 and w x q. */
struct ct_sums {
    float q, qq, xq;
};

static inline struct ct_sums ct_sums_of(const float *q, const float *w, const float *wx, size_t n)
{
    ct_f4 s1 = {0}, s2 = {0}, sx = {0};
    for (size_t j = 0; j < n; j += 4) {
        ct_f4 v = ct_load4(q + j), wv = ct_load4(w + j) * v;
        s1 += wv;
        s2 += wv * v;
        sx += ct_load4(wx + j) * v;
    }
    return (struct ct_sums){ct_sum4(s1), ct_sum4(s2), ct_sum4(sx)};
}

static inline void ct_range(const float *x, size_t n, float *low, float *high)
{
    *low = *high = x[0];
    for (size_t j = 1; j < n; j++) {
        *low = x[j] < *low ? x[j] : *low;
        *high = x[j] > *high ? x[j] : *high;
    }
}

/* The element that is farthest from zero, with its sign. */
static inline float ct_farthest(const float *x, size_t n)
{
    float low, high;
    ct_range(x, n, &low, &high);
    return -low > high ? low : high;
}

/* What a search found: s, m, and what it costs to be off s by one, the codes kept and m made to suit. */
struct ct_line {
    float s, m, curve;
};

/* The scale for codes of these levels; 0 where f16 would not hold it. */
static inline struct ct_line ct_search_scale(const float *x, const float *w, size_t n, struct ct_levels l)
{
    float wx[CT_GROUP_MAX], q[CT_GROUP_MAX], best = 0, far = ct_farthest(x, n);
    struct ct_line found = {0};
    if (far > -CT_TINY && far < CT_TINY)
        return found;
    for (size_t j = 0; j < n; j++)
        wx[j] = w[j] * x[j];
    for (size_t i = 0; i < l.n_starts + CT_STEPS; i++) {
        if (i >= l.n_starts && found.s == 0)
            break;
        ct_codes_of(q, x, n, i < l.n_starts ? l.start[i] / far : 1 / found.s, l);
        struct ct_sums t = ct_sums_of(q, w, wx, n);
        if (t.xq * t.xq > best * t.qq) { /* what the best scale takes off the sum of w x^2 */
            best = t.xq * t.xq / t.qq;
            found = (struct ct_line){t.xq / t.qq, 0, t.qq};
        } else if (i >= l.n_starts)
            break;
    }
    return found;
}

/* s > 0 and m for x ~ s q + m, q in 0..hi; with `negative`, m is at most 0. A start puts the least element on the code off[i] and
 * the greatest on hi - off[k]: beyond the ends elements are cut off, within them codes are left over, and the steps get finer. */
static inline struct ct_line ct_search_affine(const float *x, const float *w, size_t n, float hi, bool negative)
{
    static const float few[] = {0.3f, 0, -0.3f, -0.6f}, many[] = {1, 0.5f, 0, -0.5f, -1, -1.6f};
    const float *off = hi > 3 ? many : few;
    const size_t n_off = hi > 3 ? sizeof many / sizeof *many : sizeof few / sizeof *few, n_starts = n_off * n_off;
    float wx[CT_GROUP_MAX], c[CT_GROUP_MAX], q[CT_GROUP_MAX], low, high, best = 0;
    ct_f4 sw = {0}, swx = {0};
    ct_range(x, n, &low, &high);
    if (negative && low > 0)
        low = 0;
    for (size_t j = 0; j < n; j += 4) {
        sw += ct_load4(w + j);
        swx += ct_load4(w + j) * ct_load4(x + j);
    }
    float weight = ct_sum4(sw), mean = weight > 0 ? ct_sum4(swx) / weight : 0, range = high - low;
    struct ct_line found = {0, negative && mean > 0 ? 0 : mean, 0};
    if (range < CT_TINY || weight <= 0)
        return found;
    if (found.m != mean)
        best = -mean * mean * weight; /* what m = 0 alone adds */
    for (size_t j = 0; j < n; j++) {
        c[j] = x[j] - mean;
        wx[j] = w[j] * c[j];
    }
    for (size_t i = 0; i < n_starts + CT_STEPS; i++) {
        if (i >= n_starts && found.s == 0)
            break;
        float from = found.m, step = found.s;
        if (i < n_starts) {
            step = range / (hi - off[i / n_off] - off[i % n_off]);
            from = low - off[i / n_off] * step;
        }
        ct_codes(q, c, n, 1 / step, from - mean, 0, hi);
        struct ct_sums t = ct_sums_of(q, w, wx, n);
        float spread = t.qq - t.q * t.q / weight, gain = 0, scale = 0, offset = mean;
        if (spread > 0 && t.xq > 0) {
            gain = t.xq * t.xq / spread; /* off the sum of w (x - mean)^2 */
            scale = t.xq / spread;
            offset = mean - scale * t.q / weight;
        }
        if (negative && offset > 0) {
            float xq = t.xq + mean * t.q;
            gain = xq * xq / t.qq - mean * mean * weight;
            scale = xq / t.qq;
            offset = 0;
        }
        if (scale > 0 && gain > best) {
            best = gain;
            found = (struct ct_line){scale, offset, offset < 0 || !negative ? spread : t.qq};
        } else if (i >= n_starts)
            break;
    }
    return found;
}

/* What an error of each element costs: w[n], mean about 1. False if an element is no number, or none that blocks can hold. */
static inline bool ct_weigh(float *restrict w, const float *restrict x, const float *restrict importance, size_t n)
{
    uint32_t worst = 0;
    for (size_t j = 0; j < n; j++) {
        uint32_t magnitude = ct_bits_from_f32(x[j]) & 0x7fffffffu;
        worst = magnitude > worst ? magnitude : worst;
    }
    if (worst > ct_bits_from_f32(CT_LARGEST))
        return false;
    ct_f4 sum = {0};
    for (size_t j = 0; j < n && importance; j += 4)
        sum += ct_load4(importance + j);
    float total = ct_sum4(sum), f = total > 0 ? (float)n / total : 0;
    for (size_t j = 0; j < n; j++)
        w[j] = f > 0 ? importance[j] * f : 1;
    return true;
}

static inline const float *ct_at(const float *importance, size_t i) { return importance ? importance + i : NULL; }

/* Is a stored half a number? */
static inline bool ct_half_finite(uint16_t h) { return (h & 0x7c00u) != 0x7c00u; }

static inline float ct_inverse(float s) { return s != 0 ? 1 / s : 0; }

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
CT_ENCODER(q4_0);
CT_ENCODER(q4_1);
CT_ENCODER(q5_0);
CT_ENCODER(q5_1);
CT_ENCODER(q8_0);
CT_ENCODER(iq4_nl);
CT_ENCODER(iq4_xs);
CT_ENCODER(q2_k);
CT_ENCODER(q3_k);
CT_ENCODER(q4_k);
CT_ENCODER(q5_k);
CT_ENCODER(q6_k);
CT_ENCODER(mlx);

#endif
