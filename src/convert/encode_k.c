/* Encoders of the types whose blocks are 256 elements in groups with small integer scales: q2_k, q4_k, q5_k (a scale and a minimum
 * for each group), q3_k, q6_k, iq4_xs (a scale); and iq4_nl, which shares iq4_xs's table of values.
 *
 * Each group is searched by itself first. Then the block's halves d and dmin follow from the groups' scales, and the groups' integers
 * from d and dmin: for each of the integers beside the best ratio, codes, the offset that suits them, its integer, codes again. The d and
 * dmin that are best for all codes together have a closed form; with them the groups are done once more, while that helps.
 * Layouts are in quant/blocks.c. */
#include <math.h>

#include "convert/search.h"

#define BLOCK 256
#define ROUNDS 3 /* of d, dmin and the groups; more gain less than 0.1 % */

struct block {
    uint16_t d, dmin; /* halves */
    int32_t scale[16], min[16];
    float q[BLOCK];
    float error;
};

static inline float clamp(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }

/* The unit of which v[groups] are nearest to whole multiples least..most, cost[g] what a square of a difference costs: the
 * farthest of them is put on each multiple in the upper half of the range, and the best unit for those multiples taken. */
static float search_unit(const float *v, const float *cost, size_t groups, float least, float most)
{
    float far = ct_farthest(v, groups), end = least < 0 ? least : most, best = INFINITY, unit = 0;
    if (far == 0)
        return 0;
    for (float top = end; fabsf(top) >= 0.5f * fabsf(end); top -= fabsf(end) > 64 ? end / 64 : copysignf(1, end)) {
        float per = top / far, ss = 0, sv = 0, vv = 0;
        for (size_t g = 0; g < groups; g++) {
            float S = clamp(ct_nearest(v[g] * per), least, most);
            ss += cost[g] * S * S;
            sv += cost[g] * S * v[g];
            vv += cost[g] * v[g] * v[g];
        }
        float u = ss > 0 ? sv / ss : 0, error = vv - u * sv;
        if (error < best) {
            best = error;
            unit = u;
        }
    }
    return unit;
}

/* ---- x = d S q - dmin M ---- */

/* Integers and codes of all groups for b's d and dmin, near the scales s and minima m, which then are what was chosen. */
static inline void choose_affine(struct block *b, const float *x, const float *w, size_t n, float hi, float most,
                                 float *s, float *m)
{
    float d = ct_f16_to_f32(b->d), dmin = ct_f16_to_f32(b->dmin), per_d = ct_inverse(d), per_min = ct_inverse(dmin);
    b->error = 0;
    for (size_t g = 0; g < BLOCK / n; g++) {
        const float *xg = x + g * n, *wg = w + g * n;
        float q[CT_GROUP_MAX], best = INFINITY, near = clamp(ct_nearest(s[g] * per_d), 0, most);
        float weight = 0, sum = 0;
        for (size_t j = 0; j < n; j++) {
            weight += wg[j];
            sum += wg[j] * xg[j];
        }
        /* The integer nearest to the ratio and those beside it; then the same with all codes one lower and one higher: where they do
         * not fill their range that is as good a line, but another offset, which may be nearer to a multiple of dmin. */
        for (size_t i = 0; i < 5; i++) {
            float S = i < 3 ? near + (i == 1 ? 1.0f : i == 2 ? -1.0f : 0) : (float)b->scale[g];
            float scale = d * S, inv = ct_inverse(scale), codes = 0;
            float from = m[g] + (i == 3 ? scale : i == 4 ? -scale : 0);
            if (S < 0 || S > most || from < 0)
                continue;
            ct_codes(q, xg, n, inv, -from, 0, hi);
            for (size_t j = 0; j < n; j++)
                codes += wg[j] * q[j];
            float M = clamp(ct_nearest((weight > 0 ? (scale * codes - sum) / weight : from) * per_min), 0, most);
            ct_codes(q, xg, n, inv, -dmin * M, 0, hi);
            float error = ct_error_of(xg, wg, q, n, scale, -dmin * M);
            if (error < best) {
                best = error;
                b->scale[g] = (int32_t)S;
                b->min[g] = (int32_t)M;
                memcpy(b->q + g * n, q, n * sizeof *q);
            }
        }
        b->error += best;
    }
}

/* The d and dmin that are best for b's integers and codes. False if they are not determined. */
static inline bool refit_affine(const struct block *b, const float *x, const float *w, size_t n, float *d, float *dmin)
{
    double aa = 0, am = 0, mm = 0, xa = 0, xm = 0; /* of a = S q and M */
    for (size_t g = 0; g < BLOCK / n; g++) {
        float wx[CT_GROUP_MAX], weight = 0, sum = 0;
        for (size_t j = 0; j < n; j++) {
            wx[j] = w[g * n + j] * x[g * n + j];
            weight += w[g * n + j];
            sum += wx[j];
        }
        struct ct_sums t = ct_sums_of(b->q + g * n, w + g * n, wx, n);
        double S = (double)b->scale[g], M = (double)b->min[g];
        aa += S * S * (double)t.qq;
        am += S * M * (double)t.q;
        mm += M * M * (double)weight;
        xa += S * (double)t.xq;
        xm += M * (double)sum;
    }
    double det = aa * mm - am * am;
    if (mm == 0 && aa > 0) {
        *d = (float)(xa / aa);
        *dmin = 0;
        return *d > 0;
    }
    if (!(det > 1e-9 * aa * mm))
        return false;
    *d = (float)((xa * mm - xm * am) / det);
    *dmin = (float)((xa * am - xm * aa) / det);
    return *d > 0 && *dmin >= 0;
}

static inline bool fit_affine_block(struct block *b, const float *x, const float *importance, size_t n, float hi,
                                    float most)
{
    float w[BLOCK], s[16], m[16], curve[16], weight[16];
    if (!ct_weigh(w, x, importance, BLOCK))
        return false;
    for (size_t g = 0; g < BLOCK / n; g++) {
        struct ct_line found = ct_search_affine(x + g * n, w + g * n, n, hi, true);
        s[g] = found.s;
        m[g] = -found.m;
        curve[g] = found.curve;
        weight[g] = 0;
        for (size_t j = 0; j < n; j++)
            weight[g] += w[g * n + j];
    }
    struct block try = {.d = ct_f32_to_f16(search_unit(s, curve, BLOCK / n, 0, most)),
                        .dmin = ct_f32_to_f16(search_unit(m, weight, BLOCK / n, 0, most))};
    if (!ct_half_finite(try.d) || !ct_half_finite(try.dmin))
        return false;
    for (size_t round = 0; round < ROUNDS; round++) {
        choose_affine(&try, x, w, n, hi, most, s, m);
        if (round > 0 && !(try.error < b->error))
            break;
        *b = try;
        float d, dmin;
        if (!refit_affine(b, x, w, n, &d, &dmin))
            break;
        try.d = ct_f32_to_f16(d);
        try.dmin = ct_f32_to_f16(dmin);
        if (!ct_half_finite(try.d) || !ct_half_finite(try.dmin))
            break;
        for (size_t g = 0; g < BLOCK / n; g++) {
            s[g] = d * (float)b->scale[g];
            m[g] = dmin * (float)b->min[g];
        }
    }
    return true;
}

/* Two bits of each element, four runs of 32 to 32 bytes: q2_k and q3_k. */
static void store_crumbs(uint8_t *p, const float *q, uint32_t add)
{
    for (size_t i = 0; i < 64; i++) {
        uint32_t byte = 0;
        for (size_t run = 0; run < 4; run++)
            byte |= (((uint32_t)(int32_t)q[i / 32 * 128 + run * 32 + i % 32] + add) & 3) << 2 * run;
        p[i] = (uint8_t)byte;
    }
}

CT_ENCODER(q2_k)
{
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += BLOCK, p += 84) {
        struct block b;
        if (!fit_affine_block(&b, src + i, ct_at(importance, i), 16, 3, 15))
            return false;
        for (size_t g = 0; g < 16; g++)
            p[g] = (uint8_t)(b.scale[g] | b.min[g] << 4);
        store_crumbs(p + 16, b.q, 0);
        ct_store_u16(p + 80, b.d);
        ct_store_u16(p + 82, b.dmin);
    }
    return true;
}

/* d, dmin and eight pairs of six bits, the head of a block of q4_k and q5_k. */
static void store_head(uint8_t *p, const struct block *b)
{
    ct_store_u16(p, b->d);
    ct_store_u16(p + 2, b->dmin);
    for (size_t j = 0; j < 4; j++) {
        p[4 + j] = (uint8_t)(b->scale[j] | b->scale[j + 4] >> 4 << 6);
        p[8 + j] = (uint8_t)(b->min[j] | b->min[j + 4] >> 4 << 6);
        p[12 + j] = (uint8_t)((b->scale[j + 4] & 15) | (b->min[j + 4] & 15) << 4);
    }
}

/* Low nibbles of the elements, two runs of 32 to 32 bytes: q4_k and q5_k. */
static void store_pairs(uint8_t *p, const float *q)
{
    for (size_t i = 0; i < 128; i++) {
        const float *run = q + i / 32 * 64 + i % 32;
        p[i] = (uint8_t)(((uint32_t)(int32_t)run[0] & 15) | ((uint32_t)(int32_t)run[32] & 15) << 4);
    }
}

CT_ENCODER(q4_k)
{
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += BLOCK, p += 144) {
        struct block b;
        if (!fit_affine_block(&b, src + i, ct_at(importance, i), 32, 15, 63))
            return false;
        store_head(p, &b);
        store_pairs(p + 16, b.q);
    }
    return true;
}

CT_ENCODER(q5_k)
{
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += BLOCK, p += 176) {
        struct block b;
        if (!fit_affine_block(&b, src + i, ct_at(importance, i), 32, 31, 63))
            return false;
        store_head(p, &b);
        for (size_t l = 0; l < 32; l++) {
            uint32_t high = 0;
            for (size_t j = 0; j < 8; j++)
                high |= ((uint32_t)(int32_t)b.q[32 * j + l] >> 4) << j;
            p[16 + l] = (uint8_t)high;
        }
        store_pairs(p + 48, b.q);
    }
    return true;
}

/* ---- x = d S q ---- */

/* Groups of n, their scales integers least..most. */
struct shape {
    size_t n;
    float least, most;
    struct ct_levels levels;
};

static inline void choose_scales(struct block *b, const float *x, const float *w, struct shape k, const float *s)
{
    float d = ct_f16_to_f32(b->d), per_d = ct_inverse(d);
    b->error = 0;
    for (size_t g = 0; g < BLOCK / k.n; g++) {
        const float *xg = x + g * k.n, *wg = w + g * k.n;
        float q[CT_GROUP_MAX], best = INFINITY, near = clamp(ct_nearest(s[g] * per_d), k.least, k.most);
        for (float S = near > k.least ? near - 1 : near; S <= near + 1 && S <= k.most; S++) {
            ct_codes_of(q, xg, k.n, ct_inverse(d * S), k.levels);
            float error = ct_error_of(xg, wg, q, k.n, d * S, 0);
            if (error < best) {
                best = error;
                b->scale[g] = (int32_t)S;
                memcpy(b->q + g * k.n, q, k.n * sizeof *q);
            }
        }
        b->error += best;
    }
}

/* The d that is best for b's integers and codes. */
static inline float refit_scale(const struct block *b, const float *x, const float *w, size_t n)
{
    double aa = 0, xa = 0; /* of a = S q */
    for (size_t g = 0; g < BLOCK / n; g++) {
        float wx[CT_GROUP_MAX];
        for (size_t j = 0; j < n; j++)
            wx[j] = w[g * n + j] * x[g * n + j];
        struct ct_sums t = ct_sums_of(b->q + g * n, w + g * n, wx, n);
        double S = (double)b->scale[g];
        aa += S * S * (double)t.qq;
        xa += S * (double)t.xq;
    }
    return aa > 0 ? (float)(xa / aa) : 0;
}

static inline bool fit_block(struct block *b, const float *x, const float *importance, struct shape k)
{
    float w[BLOCK], s[16], curve[16];
    if (!ct_weigh(w, x, importance, BLOCK))
        return false;
    for (size_t g = 0; g < BLOCK / k.n; g++) {
        struct ct_line found = ct_search_scale(x + g * k.n, w + g * k.n, k.n, k.levels);
        s[g] = found.s;
        curve[g] = found.curve;
    }
    struct block try = {.d = ct_f32_to_f16(search_unit(s, curve, BLOCK / k.n, k.least, k.most))};
    if (!ct_half_finite(try.d))
        return false;
    for (size_t round = 0; round < ROUNDS; round++) {
        choose_scales(&try, x, w, k, s);
        if (round > 0 && !(try.error < b->error))
            break;
        *b = try;
        float d = refit_scale(b, x, w, k.n);
        try.d = ct_f32_to_f16(d);
        if (d == 0 || !ct_half_finite(try.d))
            break;
        for (size_t g = 0; g < BLOCK / k.n; g++)
            s[g] = d * (float)b->scale[g];
    }
    return true;
}

CT_ENCODER(q3_k)
{
    static const float start[] = {-4.4f, -4, -3.6f, -3.2f, -2.8f, 4, 3.6f, 3.2f, 2.8f, 2.4f};
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += BLOCK, p += 110) {
        struct block b;
        if (!fit_block(&b, src + i, ct_at(importance, i), (struct shape){16, -32, 31, {-4, 3, start, 10, NULL}}))
            return false;
        memset(p, 0, 110);
        for (size_t j = 0; j < BLOCK; j++)
            p[j % 32] |= (uint8_t)((b.q[j] >= 0) << j / 32);
        store_crumbs(p + 32, b.q, 4);
        for (size_t g = 0; g < 16; g++) {
            uint32_t S = (uint32_t)(b.scale[g] + 32);
            p[96 + g % 8] |= (uint8_t)((S & 15) << g / 8 * 4);
            p[104 + g % 4] |= (uint8_t)(S >> 4 << g / 4 * 2);
        }
        ct_store_u16(p + 108, b.d);
    }
    return true;
}

CT_ENCODER(q6_k)
{
    static const float start[] = {-33, -32.5f, -32, -31.5f, -31, -30.5f, -30, 32, 31.5f, 31, 30.5f, 30, 29.5f, 29};
    (void)e;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += BLOCK, p += 210) {
        struct block b;
        if (!fit_block(&b, src + i, ct_at(importance, i), (struct shape){16, -128, 127, {-32, 31, start, 14, NULL}}))
            return false;
        memset(p, 0, 192);
        for (size_t j = 0; j < BLOCK; j++) { /* run r of half h: nibbles of 64 bytes, pairs of bits of 32 */
            uint32_t q = (uint32_t)(int32_t)(b.q[j] + 32);
            size_t h = j / 128, r = j / 32 % 4, l = j % 32;
            p[64 * h + 32 * (r % 2) + l] |= (uint8_t)((q & 15) << r / 2 * 4);
            p[128 + 32 * h + l] |= (uint8_t)(q >> 4 << 2 * r);
        }
        for (size_t g = 0; g < 16; g++)
            p[192 + g] = (uint8_t)(int8_t)b.scale[g];
        ct_store_u16(p + 208, b.d);
    }
    return true;
}

/* ---- codes are places in a table ---- */

#define CELLS (2 * (127 + 113) + 1)

static const float iq4_start[] = {-133, -127, -121, -115, -109, -104, -98, -92, 119, 113, 107, 101, 95, 89};

static struct ct_levels iq4_levels(uint8_t table[CELLS])
{
    uint8_t index = 0;
    for (int32_t i = 0; i < CELLS; i++) { /* from i / 2 - 127 to half a unit more */
        while (index < 15 && 2 * (i - 254) + 1 > 2 * (ct_iq4_values[index] + ct_iq4_values[index + 1]))
            index++;
        table[i] = index;
    }
    return (struct ct_levels){-127, 113, iq4_start, sizeof iq4_start / sizeof *iq4_start, table};
}

static void store_indices(uint8_t *p, const float *q, const uint8_t table[CELLS])
{
    for (size_t j = 0; j < 16; j++)
        p[j] = (uint8_t)(table[2 * (int32_t)q[j] + 254] | table[2 * (int32_t)q[j + 16] + 254] << 4);
}

CT_ENCODER(iq4_nl)
{
    (void)e;
    uint8_t *p = dst, table[CELLS];
    const struct ct_levels levels = iq4_levels(table);
    for (size_t i = 0; i < n; i += 32, p += 18) {
        float w[32], q[32];
        if (!ct_weigh(w, src + i, ct_at(importance, i), 32))
            return false;
        uint16_t d = ct_f32_to_f16(ct_search_scale(src + i, w, 32, levels).s);
        if (!ct_half_finite(d))
            return false;
        ct_codes_of(q, src + i, 32, ct_inverse(ct_f16_to_f32(d)), levels);
        ct_store_u16(p, d);
        store_indices(p + 2, q, table);
    }
    return true;
}

CT_ENCODER(iq4_xs)
{
    (void)e;
    uint8_t *p = dst, table[CELLS];
    const struct shape shape = {32, -32, 31, iq4_levels(table)};
    for (size_t i = 0; i < n; i += BLOCK, p += 136) {
        struct block b;
        if (!fit_block(&b, src + i, ct_at(importance, i), shape))
            return false;
        memset(p, 0, 8);
        uint32_t high = 0;
        for (size_t g = 0; g < 8; g++) {
            uint32_t S = (uint32_t)(b.scale[g] + 32);
            p[4 + g / 2] |= (uint8_t)((S & 15) << g % 2 * 4);
            high |= S >> 4 << 2 * g;
            store_indices(p + 8 + 16 * g, b.q + 32 * g, table);
        }
        ct_store_u16(p, b.d);
        ct_store_u16(p + 2, (uint16_t)high);
    }
    return true;
}
