/* The cache and attention over it.
 *
 * A page is the plainest layout there is: K [CT_KV_PAGE][kv heads][d], then V [CT_KV_PAGE][kv heads][d], each in its own
 * type: floats, or GGUF blocks of 32 along the head (q8 is Q8_0, q4 is Q4_1). Where a position's page is, backend.h says at ct_kv. */
#include "ref/ref.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/half.h"

static bool quantized(ct_dtype t) { return t == CT_Q8_0 || t == CT_Q4_1; }

static size_t bytes_of(size_t n, ct_dtype t)
{
    size_t bytes = 0;
    ct_row_bytes(ct_dtype_get((int32_t)t), n, &bytes); /* whole blocks: asked for when the cache was made */
    return bytes;
}

size_t ct_ref_kv_page_bytes(ct_dtype type_k, ct_dtype type_v, int32_t kv_heads, int32_t head_dim)
{
    size_t rows = (size_t)CT_KV_PAGE * (size_t)kv_heads;
    return rows * (bytes_of((size_t)head_dim, type_k) + bytes_of((size_t)head_dim, type_v));
}

/* Position p of sequence s, kv head h: its d elements of K (or of V). */
static uint8_t *cached(const ct_kv *kv, int32_t s, int32_t p, int32_t h, bool value)
{
    int32_t slot = p / CT_KV_PAGE;
    int32_t page = kv->table[(size_t)s * (size_t)kv->table_stride + (size_t)(kv->ring ? slot % kv->ring : slot)];
    size_t at = (size_t)(p % CT_KV_PAGE) * (size_t)kv->kv_heads + (size_t)h, d = (size_t)kv->head_dim;
    uint8_t *data = (uint8_t *)kv->pool->host + kv->off + (size_t)page * kv->page_bytes;
    if (!value)
        return data + at * bytes_of(d, kv->type_k);
    size_t keys = (size_t)CT_KV_PAGE * (size_t)kv->kv_heads * bytes_of(d, kv->type_k);
    return data + keys + at * bytes_of(d, kv->type_v);
}

static float at_most_f16(float f) { return f > 65504.0f ? 65504.0f : f < -65504.0f ? -65504.0f : f; }

/* One block of 32: Q8_0 {f16 d; i8 q[32]}, d = amax / 127, or Q4_1 {f16 d; f16 m; u8 q[16]}, m the smallest element and
 * d = (largest - m) / 15. The quants are the nearest to what d and m, as rounded to f16, give (x times the f32 reciprocal of d).
 * NaN or infinity makes d NaN, so that it is not lost. */
static void encode(uint8_t *dst, const float *x, ct_dtype t)
{
    float lo = x[0], hi = x[0], m = 0.0f, most = t == CT_Q8_0 ? 127.0f : 15.0f, least = t == CT_Q8_0 ? -127.0f : 0.0f;
    bool finite = true;
    for (int32_t j = 0; j < 32; j++) {
        finite = finite && fabsf(x[j]) <= FLT_MAX;
        lo = fminf(lo, x[j]);
        hi = fmaxf(hi, x[j]);
    }
    uint16_t hd = 0x7e00, hm = 0;
    memset(dst, 0, bytes_of(32, t));
    if (finite && t == CT_Q4_1) {
        hm = ct_f32_to_f16(at_most_f16(lo));
        m = ct_f16_to_f32(hm);
    }
    if (finite)
        hd = ct_f32_to_f16(at_most_f16(fmaxf(t == CT_Q8_0 ? fmaxf(-lo, hi) / 127.0f : (hi - m) / 15.0f, 0.0f)));
    memcpy(dst, &hd, 2);
    if (t == CT_Q4_1)
        memcpy(dst + 2, &hm, 2);
    if (!finite)
        return;
    float d = ct_f16_to_f32(hd), inverse = d > 0.0f ? 1.0f / d : 0.0f;
    for (int32_t j = 0; j < 32; j++) {
        int32_t q = (int32_t)fminf(fmaxf(rintf((x[j] - m) * inverse), least), most);
        if (t == CT_Q8_0)
            dst[2 + j] = (uint8_t)q;
        else
            dst[4 + j % 16] = (uint8_t)(dst[4 + j % 16] | q << (j < 16 ? 0 : 4));
    }
}

void ct_ref_kv_encode(uint8_t *dst, const float *src, int32_t n, ct_dtype t)
{
    for (int32_t j = 0; j < n; j += 32)
        encode(dst + bytes_of((size_t)j, t), src + j, t);
}

/* Rounds to nearest, ties to even. */
static void store(uint8_t *dst, const float *src, int32_t n, ct_dtype t)
{
    if (quantized(t)) {
        ct_ref_kv_encode(dst, src, n, t);
        return;
    }
    for (int32_t j = 0; j < n; j++) {
        if (t == CT_F32) {
            memcpy(dst + 4 * (size_t)j, &src[j], 4);
        } else {
            uint16_t h = t == CT_BF16 ? ct_f32_to_bf16(src[j]) : ct_f32_to_f16(src[j]);
            memcpy(dst + 2 * (size_t)j, &h, 2);
        }
    }
}

static void load(double *dst, const uint8_t *src, int32_t n, ct_dtype t)
{
    if (quantized(t)) {
        float block[32];
        for (int32_t j = 0; j < n; j++) {
            if (j % 32 == 0)
                ct_row_decode(ct_dtype_get((int32_t)t), block, src + bytes_of((size_t)j, t), 32);
            dst[j] = (double)block[j % 32];
        }
        return;
    }
    for (int32_t j = 0; j < n; j++) {
        float f;
        uint16_t h;
        if (t == CT_F32) {
            memcpy(&f, src + 4 * (size_t)j, 4);
        } else {
            memcpy(&h, src + 2 * (size_t)j, 2);
            f = t == CT_BF16 ? ct_bf16_to_f32(h) : ct_f16_to_f32(h);
        }
        dst[j] = (double)f;
    }
}

/* Writes k[n, K*d] and v[n, K*d] of every row at (seq[i], pos[i]). */
void ct_ref_kv_store(ct_ctx *c, ct_view k, ct_view v, const ct_kv *kv, const ct_rows *rows)
{
    (void)c;
    int32_t d = kv->head_dim;
    for (int32_t i = 0; i < rows->n; i++)
        for (int32_t h = 0; h < kv->kv_heads; h++) {
            size_t at = (size_t)h * (size_t)d;
            store(cached(kv, rows->seq[i], rows->pos[i], h, false), ct_view_row(k, i) + at, d, kv->type_k);
            store(cached(kv, rows->seq[i], rows->pos[i], h, true), ct_view_row(v, i) + at, d, kv->type_v);
        }
}

size_t ct_ref_attention_scratch(const ct_limits *l)
{
    size_t heads = (size_t)l->heads, d = (size_t)l->head_dim;
    return (heads * ct_round_up((size_t)l->context, 8) + (2 * heads + 1) * ct_round_up(d, 8)) * sizeof(double) + 4 * 64;
}

/* Vaswani et al., "Attention Is All You Need" (2017), with grouped kv heads (Ainslie et al. 2023) and a sliding window:
 * s_j = scale * q.k_j;  p_j = exp(s_j - max s);  o = sum p_j v_j / sum p_j, over max(0, pos-W+1) <= j <= pos.
 * The window counts the row's own position. The heads of a group share each key and value that is loaded. */
void ct_ref_attention(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows, const ct_attn *how)
{
    int32_t d = kv->head_dim, group = how->heads / kv->kv_heads, longest = 0;
    for (int32_t i = 0; i < rows->n; i++) {
        int32_t keys = how->window && rows->pos[i] >= how->window ? how->window : rows->pos[i] + 1;
        longest = keys > longest ? keys : longest;
    }
    size_t used = c->scratch->used, g = (size_t)group, du = (size_t)d;
    double *score = ct_arena_alloc(c->scratch, g * (size_t)longest * sizeof(double)); /* [group][keys] */
    double *qh = ct_arena_alloc(c->scratch, g * du * sizeof(double));                 /* [group][d] */
    double *sum = ct_arena_alloc(c->scratch, g * du * sizeof(double));                /* [group][d] */
    double *key = ct_arena_alloc(c->scratch, du * sizeof(double));                    /* [d], or a value */

    for (int32_t i = 0; i < rows->n; i++) {
        int32_t pos = rows->pos[i], first = how->window && pos >= how->window ? pos - how->window + 1 : 0;
        for (int32_t h = 0; h < kv->kv_heads; h++) {
            const float *qi = ct_view_row(q, i) + (size_t)h * g * du;
            float *oi = ct_view_row(o, i) + (size_t)h * g * du;
            for (size_t j = 0; j < g * du; j++) {
                qh[j] = (double)qi[j];
                sum[j] = 0.0;
            }
            for (int32_t p = first; p <= pos; p++) {
                load(key, cached(kv, rows->seq[i], p, h, false), d, kv->type_k);
                for (size_t e = 0; e < g; e++) {
                    double s = 0.0;
                    for (size_t j = 0; j < du; j++)
                        s += qh[e * du + j] * key[j];
                    score[e * (size_t)longest + (size_t)(p - first)] = s * (double)how->scale;
                }
            }
            for (size_t e = 0; e < g; e++) {
                double *s = score + e * (size_t)longest, max = s[0], total = 0.0;
                for (int32_t p = first; p <= pos; p++)
                    max = fmax(max, s[p - first]);
                for (int32_t p = first; p <= pos; p++)
                    total += s[p - first] = exp(s[p - first] - max);
                for (int32_t p = first; p <= pos; p++)
                    s[p - first] /= total;
            }
            for (int32_t p = first; p <= pos; p++) {
                load(key, cached(kv, rows->seq[i], p, h, true), d, kv->type_v);
                for (size_t e = 0; e < g; e++)
                    for (size_t j = 0; j < du; j++)
                        sum[e * du + j] += score[e * (size_t)longest + (size_t)(p - first)] * key[j];
            }
            for (size_t j = 0; j < g * du; j++)
                oi[j] = (float)sum[j];
        }
    }
    c->scratch->used = used;
}
