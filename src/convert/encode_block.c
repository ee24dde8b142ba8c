/* Encoders of the types whose blocks are one group of 32: q4_0, q5_0, q8_0 (a scale), q4_1, q5_1 (a scale and an offset).
 *
 * A start is a scale that puts the farthest element on a given code. The codes that a scale gives have a best scale in closed
 * form, which gives codes again; both steps only ever lower the error, so from the best start they are repeated. What is stored
 * is the scale as f16 rounds it, and the codes nearest under that. */
#include "convert/search.h"

#define N 32
#define TINY 0x1p-30f   /* of f16 nothing is left far above this */
#define LARGEST 0x1p24f /* and nothing fits far below this; squares stay finite */

/* What an error of each element costs: w[N], mean 1. */
static void weigh(float *restrict w, const float *restrict x, const float *restrict importance)
{
    ct_f4 sum = {0};
    for (size_t j = 0; j < N && importance; j += 4)
        sum += ct_load4(importance + j);
    float total = ct_sum4(sum), f = total > 0 ? N / total : 0;
    (void)x;
    for (size_t j = 0; j < N; j++)
        w[j] = f > 0 ? importance[j] * f : 1;
}

/* a = sum of wx q, b = sum of w q^2: the best scale for these codes is a / b, and takes a^2 / b off the sum of w x^2. */
static inline void scale_sums(const float *q, const float *w, const float *wx, float *a, float *b)
{
    ct_f4 sa = {0}, sb = {0};
    for (size_t j = 0; j < N; j += 4) {
        ct_f4 v = ct_load4(q + j);
        sa += ct_load4(wx + j) * v;
        sb += ct_load4(w + j) * v * v;
    }
    *a = ct_sum4(sa);
    *b = ct_sum4(sb);
}

/* The scale for codes lo..hi: start i puts x's farthest element, `far`, on the code start[i]. */
static inline float search_scale(const float *x, const float *w, float far, float lo, float hi, const float *start,
                                 size_t n_starts)
{
    float wx[N], q[N], best = 0, scale = 0, a, b;
    if (far > -TINY && far < TINY)
        return 0;
    for (size_t j = 0; j < N; j++)
        wx[j] = w[j] * x[j];
    for (size_t i = 0; i < n_starts; i++) {
        ct_codes(q, x, N, start[i] / far, 0, lo, hi);
        scale_sums(q, w, wx, &a, &b);
        if (a * a > best * b) {
            best = a * a / b;
            scale = a / b;
        }
    }
    for (size_t i = 0; i < 4 && scale != 0; i++) {
        ct_codes(q, x, N, 1 / scale, 0, lo, hi);
        scale_sums(q, w, wx, &a, &b);
        if (!(a * a > best * b))
            break;
        best = a * a / b;
        scale = a / b;
    }
    return scale;
}

/* Codes q[N] and the bits of the stored scale of one block; false if the block cannot be stored. */
static inline bool fit_scale(float *q, uint16_t *d, const float *x, const float *importance, float lo, float hi,
                             const float *start, size_t n_starts)
{
    float w[N], far = ct_farthest(x, N);
    if (!ct_all_finite(x, N) || far > LARGEST || far < -LARGEST)
        return false;
    weigh(w, x, importance);
    *d = ct_f32_to_f16(search_scale(x, w, far, lo, hi, start, n_starts));
    float s = ct_f16_to_f32(*d);
    ct_codes(q, x, N, s != 0 ? 1 / s : 0, 0, lo, hi);
    return (*d & 0x7c00u) != 0x7c00u;
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

CT_ENCODER(q4_0)
{
    /* The code -8 has no positive twin: either the farthest element takes it, or it is among the others. */
    static const float start[] = {-8.4f, -8, -7.5f, -7, 8, 7.5f, 7, 6.5f};
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 18) {
        float q[N];
        uint16_t d;
        if (!fit_scale(q, &d, src + i, importance ? importance + i : NULL, -8, 7, start, sizeof start / sizeof *start))
            return false;
        ct_store_u16(p, d);
        store_nibbles(p + 2, q, 8);
    }
    return true;
}

CT_ENCODER(q5_0)
{
    static const float start[] = {-16.5f, -16, -15.5f, -15, -14.5f, -14, 16, 15.5f, 15, 14.5f, 14, 13.5f, 13};
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 22) {
        float q[N];
        uint16_t d;
        if (!fit_scale(q, &d, src + i, importance ? importance + i : NULL, -16, 15, start,
                       sizeof start / sizeof *start))
            return false;
        ct_store_u16(p, d);
        ct_store_u32(p + 2, store_nibbles(p + 6, q, 16));
    }
    return true;
}

CT_ENCODER(q8_0)
{
    static const float start[] = {127, -128, 126, 125};
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 34) {
        float q[N];
        uint16_t d;
        if (!fit_scale(q, &d, src + i, importance ? importance + i : NULL, -128, 127, start,
                       sizeof start / sizeof *start))
            return false;
        ct_store_u16(p, d);
        for (size_t j = 0; j < N; j++)
            p[2 + j] = (uint8_t)(int8_t)(int32_t)q[j];
    }
    return true;
}

/* ---- a scale and an offset ---- */

/* s and m for x ~ s q + m, q in 0..hi: start (i, k) lets i and k hundredths of the range fall off below and above. */
static inline void search_affine(const float *x, const float *w, float hi, float *s, float *m)
{
    static const float cut[] = {0, 0.04f, 0.08f, -0.04f};
    float wx[N], c[N], q[N], low = x[0], high = x[0], best = 0;
    ct_f4 sw = {0}, swx = {0};
    for (size_t j = 0; j < N; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
    }
    for (size_t j = 0; j < N; j += 4) {
        sw += ct_load4(w + j);
        swx += ct_load4(w + j) * ct_load4(x + j);
    }
    float weight = ct_sum4(sw), mean = ct_sum4(swx) / weight, range = high - low;
    *s = 0;
    *m = mean;
    if (range < TINY)
        return;
    for (size_t j = 0; j < N; j++) {
        c[j] = x[j] - mean;
        wx[j] = w[j] * c[j];
    }
    const size_t n_cuts = sizeof cut / sizeof *cut, n_starts = n_cuts * n_cuts;
    for (size_t i = 0; i < n_starts + 4; i++) {
        float inv, from;
        if (i < n_starts) {
            from = low - mean + cut[i / n_cuts] * range;
            inv = hi / (range * (1 - cut[i / n_cuts] - cut[i % n_cuts]));
        } else { /* from the best: codes, then the best line through them */
            from = *m - mean;
            inv = 1 / *s;
        }
        ct_codes(q, c, N, inv, from, 0, hi);
        ct_f4 s1 = {0}, s2 = {0}, sx = {0};
        for (size_t j = 0; j < N; j += 4) {
            ct_f4 v = ct_load4(q + j), wv = ct_load4(w + j) * v;
            s1 += wv;
            s2 += wv * v;
            sx += ct_load4(wx + j) * v;
        }
        float a = ct_sum4(sx), q1 = ct_sum4(s1), spread = ct_sum4(s2) - q1 * q1 / weight;
        if (a * a > best * spread) {
            best = a * a / spread;
            *s = a / spread;
            *m = mean - *s * q1 / weight;
        } else if (i >= n_starts)
            break;
    }
}

static inline bool fit_affine(float *q, uint16_t *d, uint16_t *dm, const float *x, const float *importance, float hi)
{
    float w[N], s, m, far = ct_farthest(x, N);
    if (!ct_all_finite(x, N) || far > LARGEST || far < -LARGEST)
        return false;
    weigh(w, x, importance);
    search_affine(x, w, hi, &s, &m);
    *d = ct_f32_to_f16(s);
    *dm = ct_f32_to_f16(m);
    s = ct_f16_to_f32(*d);
    ct_codes(q, x, N, s != 0 ? 1 / s : 0, ct_f16_to_f32(*dm), 0, hi);
    return (*d & 0x7c00u) != 0x7c00u && (*dm & 0x7c00u) != 0x7c00u;
}

CT_ENCODER(q4_1)
{
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += N, p += 20) {
        float q[N];
        uint16_t d, m;
        if (!fit_affine(q, &d, &m, src + i, importance ? importance + i : NULL, 15))
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
        if (!fit_affine(q, &d, &m, src + i, importance ? importance + i : NULL, 31))
            return false;
        ct_store_u16(p, d);
        ct_store_u16(p + 2, m);
        ct_store_u32(p + 4, store_nibbles(p + 8, q, 0));
    }
    return true;
}
