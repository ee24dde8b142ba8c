/* Scores and values of a quantised cache for any vectors, in f32: a group's scale (and minimum) is applied to every vector of
 * quants as it is loaded, once for all queries of the call. Layouts: attention.c. Part of attend_vec.h. */
#ifndef CT_CPU_ATTEND_QUANT_VEC_H
#define CT_CPU_ATTEND_QUANT_VEC_H

#include "cpu/kv_quant.h"

/* Quants at q: signed bytes, or the low or high halves of bytes. */
INLINE vf quants(const uint8_t *q, bool four, bool high)
{
    if (!four)
        return vf_from_int(vi_s8(q));
    vi b = vi_u8(q);
    return vf_from_int(high ? vi_shr32i(b, 4) : vi_and(b, vi_set32(15)));
}

/* As scores() of attend_vec.h. */
INLINE void scores_quant(const struct attend *t, bool four, int n, int from, int parts, const uint8_t *keys, int32_t at)
{
    vf s[ATTEND_QUERIES][PARTS], scale[PARTS], min[PARTS];
    UNROLL for (int i = 0; i < n; i++) { UNROLL for (int p = 0; p < parts; p++) s[i][p] = vf_set(0); }
    for (int32_t g = 0; g < t->d; g += KV_GROUP) {
        UNROLL for (int p = 0; p < parts; p++)
        {
            scale[p] = vf_f16(keys + (from + p) * LANES * 2);
            min[p] = four ? vf_f16(keys + (TILE + (from + p) * LANES) * 2) : vf_set(0);
        }
        for (int k = 0; k < KV_GROUP; k++) {
            const uint8_t *q = keys + (four ? TILE * 4 + k % 16 * TILE : TILE * 2 + k * TILE) + from * LANES;
            vf v[PARTS];
            UNROLL for (int p = 0; p < parts; p++)
            {
                v[p] = quants(q + p * LANES, four, k >= 16) * scale[p];
                if (four)
                    v[p] = v[p] + min[p];
            }
            UNROLL for (int i = 0; i < n; i++)
            {
                vf x = vf_set(t->q[i][g + k]);
                UNROLL for (int p = 0; p < parts; p++) s[i][p] = vf_fma(v[p], x, s[i][p]);
            }
        }
        keys += TILE * kv_block_bytes(t->type_k);
    }
    UNROLL for (int i = 0; i < n; i++)
    {
        UNROLL for (int p = 0; p < parts; p++) vf_store(t->scores + i * ATTEND_KEYS + at + (from + p) * LANES, s[i][p]);
    }
}

/* As values() of attend_vec.h. */
INLINE void values_quant(const struct attend *t, bool four, int n, int parts, size_t dim, int32_t from, int32_t to)
{
    vf o[ATTEND_QUERIES][PARTS];
    float scale[CT_KV_PAGE], min[CT_KV_PAGE];
    const size_t in_group = dim % KV_GROUP, block = dim / KV_GROUP * CT_KV_PAGE * kv_block_bytes(t->type_v);
    UNROLL for (int i = 0; i < n; i++) { UNROLL for (int p = 0; p < parts; p++) o[i][p] = vf_set(0); }
    for (int32_t page = from / CT_KV_PAGE; page * CT_KV_PAGE < to; page++) {
        const uint8_t *group = t->v[page] + block, *q = group + CT_KV_PAGE * (four ? 4 : 2);
        int32_t base = page * CT_KV_PAGE, first = from > base ? from : base;
        int32_t last = to < base + CT_KV_PAGE ? to : base + CT_KV_PAGE;
        for (int32_t i = 0; i < CT_KV_PAGE; i += LANES) {
            vf_store(scale + i, vf_f16(group + i * 2));
            if (four)
                vf_store(min + i, vf_f16(group + (CT_KV_PAGE + i) * 2));
        }
        for (int32_t at = first; at < last; at++) {
            const size_t in = (size_t)(at - base);
            vf v[PARTS];
            UNROLL for (int p = 0; p < parts; p++)
            {
                const size_t j = in_group + (size_t)(p * LANES);
                v[p] = quants(q + (four ? in * 16 + j % 16 : in * KV_GROUP + j), four, j >= 16) * vf_set(scale[in]);
                if (four)
                    v[p] = v[p] + vf_set(min[in]);
            }
            UNROLL for (int i = 0; i < n; i++)
            {
                vf e = vf_set(t->scores[i * ATTEND_KEYS + at]);
                UNROLL for (int p = 0; p < parts; p++) o[i][p] = vf_fma(v[p], e, o[i][p]);
            }
        }
    }
    UNROLL for (int i = 0; i < n; i++)
    {
        UNROLL for (int p = 0; p < parts; p++)
            vf_store(t->o + (size_t)i * (size_t)t->d + dim + (size_t)(p * LANES), o[i][p]);
    }
}

#endif
