/* Encoders of the types whose blocks are one group of 32: q4_0, q5_0, q8_0 (a scale), q4_1, q5_1 (a scale and an offset).
 *
 * The scales come from search.h; what is stored is the scale as f16 rounds it, and the codes nearest under that. */
#include "convert/search.h"

#define N 32

/* Codes q[N] and the bits of the stored scale of one block; false if the block cannot be stored. */
static inline bool fit_scale(float *q, uint16_t *d, const float *x, const float *importance, struct ct_levels l)
{
    float w[N];
    if (!ct_weigh(w, x, importance, N))
        return false;
    *d = ct_f32_to_f16(ct_search_scale(x, w, N, l).s);
    ct_codes_of(q, x, N, ct_inverse(ct_f16_to_f32(*d)), l);
    return ct_half_finite(*d);
}

static inline bool fit_affine(float *q, uint16_t *d, uint16_t *dm, const float *x, const float *importance, float hi)
{
    float w[N];
    if (!ct_weigh(w, x, importance, N))
        return false;
    struct ct_line found = ct_search_affine(x, w, N, hi, false);
    *d = ct_f32_to_f16(found.s);
    *dm = ct_f32_to_f16(found.m);
    ct_codes(q, x, N, ct_inverse(ct_f16_to_f32(*d)), ct_f16_to_f32(*dm), 0, hi);
    return ct_half_finite(*d) && ct_half_finite(*dm);
}

/* Element j in the low nibble of byte j, element j + 16 in the high one; the fifth bits, if any, are returned. */
static inline uint32_t store_nibbles(uint8_t *p, const float *q, float add)
{
    uint32_t fifth = 0;
    for (size_t j = 0; j < 16; j++) {
        uint32_t low = (uint32_t)(int32_t)(q[j] + add), high = (uint32_t)(int32_t)(q[j + 16] + add);
        p[j] = (uint8_t)((low & 15) | (high & 15) << 4);
        fifth |= low >> 4 << j | high >> 4 << (j + 16);
    }
    return fifth;
}

#define LEVELS(lo, hi, ...)                     \
    static const float start[] = {__VA_ARGS__}; \
    const struct ct_levels levels = {lo, hi, start, sizeof start / sizeof *start, NULL}

/* The code -8 has no positive twin: either the farthest element takes it, or it is left to the other side. */
CT_ENCODER(q4_0)
{
    LEVELS(-8, 7, -8.4f, -8, -7.5f, -7, 8, 7.5f, 7, 6.5f);
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 18) {
        float q[N];
        uint16_t d;
        if (!fit_scale(q, &d, src + i, ct_at(importance, i), levels))
            return false;
        ct_store_u16(p, d);
        store_nibbles(p + 2, q, 8);
    }
    return true;
}

CT_ENCODER(q5_0)
{
    LEVELS(-16, 15, -16.5f, -16, -15.5f, -15, -14.5f, -14, 16, 15.5f, 15, 14.5f, 14, 13.5f, 13);
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 22) {
        float q[N];
        uint16_t d;
        if (!fit_scale(q, &d, src + i, ct_at(importance, i), levels))
            return false;
        ct_store_u16(p, d);
        ct_store_u32(p + 2, store_nibbles(p + 6, q, 16));
    }
    return true;
}

CT_ENCODER(q8_0)
{
    LEVELS(-128, 127, 127, -128, 126, 125);
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 34) {
        float q[N];
        uint16_t d;
        if (!fit_scale(q, &d, src + i, ct_at(importance, i), levels))
            return false;
        ct_store_u16(p, d);
        for (size_t j = 0; j < N; j++)
            p[2 + j] = (uint8_t)(int8_t)(int32_t)q[j];
    }
    return true;
}

CT_ENCODER(q4_1)
{
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 20) {
        float q[N];
        uint16_t d, m;
        if (!fit_affine(q, &d, &m, src + i, ct_at(importance, i), 15))
            return false;
        ct_store_u16(p, d);
        ct_store_u16(p + 2, m);
        store_nibbles(p + 4, q, 0);
    }
    return true;
}

CT_ENCODER(q5_1)
{
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 24) {
        float q[N];
        uint16_t d, m;
        if (!fit_affine(q, &d, &m, src + i, ct_at(importance, i), 31))
            return false;
        ct_store_u16(p, d);
        ct_store_u16(p + 2, m);
        ct_store_u32(p + 4, store_nibbles(p + 8, q, 0));
    }
    return true;
}
