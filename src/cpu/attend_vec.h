/* Attention over a chunk for any vectors, any cache type: keys, values, queries and probabilities as f32. See attention.c for
 * the layouts. Exact and plain rows are the same here: without a bf16 dot product one plane would cost as much as two.
 * Included after vec_<isa>.h. */
#ifndef CT_CPU_ATTEND_VEC_H
#define CT_CPU_ATTEND_VEC_H

#include <math.h>

#include "cpu/exp_vec.h"
#include "cpu/attend_quant_vec.h"

/* Vectors of a tile that are worked on at once for n queries. */
#define AT_ONCE(n) ((n)*PARTS <= CHAIN_MAX ? PARTS : (n)*2 <= CHAIN_MAX && PARTS >= 2 ? 2 : 1)

INLINE vf cached(ct_dtype type, const uint8_t *p, size_t i)
{
    return type == CT_F16 ? vf_f16(p + i * 2) : vf_load(p + i * 4);
}

/* Scores of n queries for `parts` vectors of positions, the first at `at`; keys: of the tile of 16 positions. */
INLINE void scores(const struct attend *t, ct_dtype type, int n, int from, int parts, const uint8_t *keys, int32_t at)
{
    vf s[ATTEND_QUERIES][PARTS];
    const size_t d = (size_t)t->d;
    UNROLL for (int i = 0; i < n; i++) { UNROLL for (int p = 0; p < parts; p++) s[i][p] = vf_set(0); }
    for (size_t k = 0; k < d; k += 2) {
        vf first[PARTS], second[PARTS];
        UNROLL for (int p = 0; p < parts; p++)
        {
            size_t lane = (size_t)((from + p) * LANES);
            if (type == CT_BF16) {
                vi pair = vi_load(keys + (k / 2 * TILE + lane) * 4);
                first[p] = vf_bf16_first(pair);
                second[p] = vf_bf16_second(pair);
            } else {
                first[p] = cached(type, keys, k * TILE + lane);
                second[p] = cached(type, keys, (k + 1) * TILE + lane);
            }
        }
        UNROLL for (int i = 0; i < n; i++)
        {
            vf q0 = vf_set(t->q[i][k]), q1 = vf_set(t->q[i][k + 1]);
            UNROLL for (int p = 0; p < parts; p++) s[i][p] = vf_fma(second[p], q1, vf_fma(first[p], q0, s[i][p]));
        }
    }
    UNROLL for (int i = 0; i < n; i++)
    {
        UNROLL for (int p = 0; p < parts; p++) vf_store(t->scores + i * ATTEND_KEYS + at + (from + p) * LANES, s[i][p]);
    }
}

/* Probabilities of query i over positions from..to (whole tiles), unnormalised; zero where the query does not look. */
INLINE void softmax(const struct attend *t, int i, int32_t from, int32_t to)
{
    float *s = t->scores + i * ATTEND_KEYS;
    bool empty = t->lo[i] >= t->hi[i];
    int32_t lo = empty ? to : t->lo[i], hi = empty ? to : t->hi[i];
    for (int32_t at = from; at < lo; at++)
        s[at] = -INFINITY;
    for (int32_t at = hi; at < to; at++)
        s[at] = -INFINITY;
    vf top = vf_set(-INFINITY);
    for (int32_t at = from; at < to; at += LANES)
        top = vf_max(top, vf_load(s + at));
    /* A NaN among the scores may be lost here, but not below: its own probability and so the sum are NaN. */
    float m = vf_top(top);
    vf sum[PARTS];
    UNROLL for (int p = 0; p < PARTS; p++) sum[p] = vf_set(0);
    for (int32_t at = from; at < to; at += TILE)
        UNROLL for (int p = 0; p < PARTS; p++)
        {
            vf e = empty ? vf_set(0) : vf_exp(vf_load(s + at + p * LANES) - vf_set(m));
            sum[p] = sum[p] + e;
            vf_store(s + at + p * LANES, e);
        }
    float l = 0;
    UNROLL for (int p = 0; p < PARTS; p++) l += vf_sum(sum[p]);
    t->m[i] = m;
    t->l[i] = l;
}

/* `parts` vectors of dimensions of n results over positions from..to-1. */
INLINE void values(const struct attend *t, ct_dtype type, int n, int parts, size_t dim, int32_t from, int32_t to)
{
    vf o[ATTEND_QUERIES][PARTS];
    const size_t d = (size_t)t->d;
    UNROLL for (int i = 0; i < n; i++) { UNROLL for (int p = 0; p < parts; p++) o[i][p] = vf_set(0); }
    /* bf16 values lie in pairs of positions: a first pair may begin, a last one end with a position of no weight, which is
     * a number nevertheless (see store_task of attention.c). */
    const int32_t step = type == CT_BF16 ? 2 : 1;
    for (int32_t at = type == CT_BF16 ? from & ~1 : from; at < to; at += step) {
        const uint8_t *page = t->v[at / CT_KV_PAGE];
        const size_t in = (size_t)(at % CT_KV_PAGE);
        vf first[PARTS], second[PARTS];
        UNROLL for (int p = 0; p < parts; p++)
        {
            size_t lane = dim + (size_t)(p * LANES);
            if (type == CT_BF16) {
                vi pair = vi_load(page + (in / 2 * d + lane) * 4);
                first[p] = vf_bf16_first(pair);
                second[p] = vf_bf16_second(pair);
            } else {
                first[p] = cached(type, page, in * d + lane);
            }
        }
        UNROLL for (int i = 0; i < n; i++)
        {
            const float *e = t->scores + i * ATTEND_KEYS + at;
            UNROLL for (int p = 0; p < parts; p++)
            {
                o[i][p] = vf_fma(first[p], vf_set(e[0]), o[i][p]);
                if (type == CT_BF16)
                    o[i][p] = vf_fma(second[p], vf_set(e[1]), o[i][p]);
            }
        }
    }
    UNROLL for (int i = 0; i < n; i++)
    {
        UNROLL for (int p = 0; p < parts; p++) vf_store(t->o + (size_t)i * d + dim + (size_t)(p * LANES), o[i][p]);
    }
}

/* The whole chunk for n queries; the compiler makes a body for each n. */
INLINE void attend(const struct attend *t, int n)
{
    int32_t from = ATTEND_KEYS, to = 0;
    for (int i = 0; i < n; i++) {
        if (t->lo[i] >= t->hi[i])
            continue;
        from = t->lo[i] < from ? t->lo[i] : from;
        to = t->hi[i] > to ? t->hi[i] : to;
    }
    if (from >= to) {
        for (int i = 0; i < n; i++)
            t->l[i] = 0;
        return;
    }
    const int32_t first = from & ~(TILE - 1), last = (to + TILE - 1) & ~(TILE - 1);
    const size_t tile_bytes = kv_quantized(t->type_k) ? (size_t)(t->d / KV_GROUP) * TILE * kv_block_bytes(t->type_k)
                                                      : (size_t)t->d * TILE * (t->type_k == CT_F32 ? 4 : 2);
    const int parts = AT_ONCE(n);
    for (int32_t at = first; at < last; at += TILE) {
        const uint8_t *keys = t->k[at / CT_KV_PAGE] + (size_t)(at % CT_KV_PAGE / TILE) * tile_bytes;
        for (int part = 0; part < PARTS; part += parts)
            if (t->type_k == CT_BF16)
                scores(t, CT_BF16, n, part, parts, keys, at);
            else if (t->type_k == CT_F16)
                scores(t, CT_F16, n, part, parts, keys, at);
            else if (kv_quantized(t->type_k))
                scores_quant(t, t->type_k == CT_Q4_1, n, part, parts, keys, at);
            else
                scores(t, CT_F32, n, part, parts, keys, at);
    }
    for (int i = 0; i < n; i++)
        softmax(t, i, first, last);
    for (size_t dim = 0; dim < (size_t)t->d; dim += (size_t)(parts * LANES))
        if (t->type_v == CT_BF16)
            values(t, CT_BF16, n, parts, dim, from, to);
        else if (t->type_v == CT_F16)
            values(t, CT_F16, n, parts, dim, from, to);
        else if (kv_quantized(t->type_v))
            values_quant(t, t->type_v == CT_Q4_1, n, parts, dim, from, to);
        else
            values(t, CT_F32, n, parts, dim, from, to);
}

static void KERNEL(attend)(const struct attend *t)
{
    switch (t->n) {
    case 1: attend(t, 1); break;
    case 2: attend(t, 2); break;
    case 3: attend(t, 3); break;
    case 4: attend(t, 4); break;
    case 5: attend(t, 5); break;
    case 6: attend(t, 6); break;
    case 7: attend(t, 7); break;
    default: attend(t, 8); break;
    }
}

#endif
