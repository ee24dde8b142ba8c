/* Attention over a chunk in portable C, any cache type. See attention.c for the layouts. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/kernels.h"
#include "cpu/kv_quant.h"

/* Element j of a group: column `at` of a block of n columns, whose quants begin at q and lie `stride` apart. */
static float dequant(const uint8_t *block, ct_dtype type, size_t n, size_t at, const uint8_t *q, size_t stride,
                     size_t j)
{
    uint16_t scale, min;
    memcpy(&scale, block + at * 2, 2);
    if (type == CT_Q8_0)
        return ct_f16_to_f32(scale) * (float)(int8_t)q[j * stride];
    memcpy(&min, block + (n + at) * 2, 2);
    return ct_f16_to_f32(scale) * (float)(j < 16 ? q[j * stride] & 15 : q[(j - 16) * stride] >> 4) + ct_f16_to_f32(min);
}

static float quant_key(const struct attend *t, const uint8_t *page, int32_t in, int32_t i)
{
    const size_t block = TILE * kv_block_bytes(t->type_k), lane = (size_t)(in % TILE);
    const uint8_t *p = page + ((size_t)(in / TILE) * (size_t)(t->d / KV_GROUP) + (size_t)(i / KV_GROUP)) * block;
    return dequant(p, t->type_k, TILE, lane, p + TILE * (t->type_k == CT_Q4_1 ? 4 : 2) + lane, TILE,
                   (size_t)(i % KV_GROUP));
}

static float quant_value(const struct attend *t, const uint8_t *page, size_t in, size_t i)
{
    const bool four = t->type_v == CT_Q4_1;
    const uint8_t *p = page + i / KV_GROUP * CT_KV_PAGE * kv_block_bytes(t->type_v);
    return dequant(p, t->type_v, CT_KV_PAGE, in, p + CT_KV_PAGE * (four ? 4 : 2) + in * (four ? 16 : 32), 1,
                   i % KV_GROUP);
}

static float key_at(const struct attend *t, int32_t at, int32_t i)
{
    const uint8_t *p = t->k[at / CT_KV_PAGE];
    int32_t in = at % CT_KV_PAGE;
    size_t tile = (size_t)(in / TILE) * (size_t)t->d * TILE, lane = (size_t)(in % TILE);
    if (kv_quantized(t->type_k))
        return quant_key(t, p, in, i);
    if (t->type_k == CT_F32)
        return ((const float *)(const void *)p)[tile + (size_t)i * TILE + lane];
    const uint16_t *h = (const uint16_t *)(const void *)p;
    if (t->type_k == CT_F16)
        return ct_f16_to_f32(h[tile + (size_t)i * TILE + lane]);
    return ct_bf16_to_f32(h[tile + (size_t)(i / 2) * 2 * TILE + lane * 2 + (size_t)(i & 1)]);
}

static void add_value(const struct attend *t, int32_t at, float p, float *o)
{
    const uint8_t *page = t->v[at / CT_KV_PAGE];
    size_t in = (size_t)(at % CT_KV_PAGE), d = (size_t)t->d;
    const uint16_t *h = (const uint16_t *)(const void *)page;
    for (size_t i = 0; i < d; i++)
        if (kv_quantized(t->type_v))
            o[i] += p * quant_value(t, page, in, i);
        else if (t->type_v == CT_F32)
            o[i] += p * ((const float *)(const void *)page)[in * d + i];
        else if (t->type_v == CT_F16)
            o[i] += p * ct_f16_to_f32(h[in * d + i]);
        else
            o[i] += p * ct_bf16_to_f32(h[in / 2 * 2 * d + i * 2 + (in & 1)]);
}

static void attend_c(const struct attend *t)
{
    for (int32_t n = 0; n < t->n; n++) {
        float *s = t->scores + (size_t)n * ATTEND_KEYS, *o = t->o + (size_t)n * (size_t)t->d, top = -INFINITY, sum = 0;
        memset(o, 0, (size_t)t->d * sizeof *o);
        for (int32_t at = t->lo[n]; at < t->hi[n]; at++) {
            float dot = 0;
            for (int32_t i = 0; i < t->d; i++)
                dot += t->q[n][i] * key_at(t, at, i);
            s[at] = dot;
            top = dot > top || isnan(dot) ? dot : top;
        }
        for (int32_t at = t->lo[n]; at < t->hi[n]; at++) {
            float p = expf(s[at] - top);
            sum += p;
            add_value(t, at, p, o);
        }
        t->m[n] = top;
        t->l[n] = sum;
    }
}

void ct_cpu_attend_c(struct kernels *k) { k->attend = k->attend_quant = attend_c; }
