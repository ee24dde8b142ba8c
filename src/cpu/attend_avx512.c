/* Attention over a chunk for AVX-512. See attention.c for the layouts.
 *
 * bf16 caches: scores and values by bf16 dot products, queries and probabilities as one bf16 plane (prompts) or two (exact:
 * what the high plane leaves over, 16 bits in all). f16 and f32 caches: f32 multiply-adds. Up to eight queries share every
 * load of keys and values. */
#include <math.h>

#include "cpu/vec_avx512f.h"
#include "cpu/exp_vec.h"

INLINE __m512i bcast32(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* Scores of a tile of 16 positions for n queries. */
INLINE void scores_bf16(const struct attend *t, int n, bool exact, const uint8_t *keys, int32_t at)
{
    __m512 hi[ATTEND_QUERIES], lo[ATTEND_QUERIES];
    UNROLL for (int i = 0; i < n; i++) hi[i] = lo[i] = _mm512_setzero_ps();
    const size_t d = (size_t)t->d;
    for (size_t p = 0; p < d / 2; p++) {
        __m512bh k = (__m512bh)_mm512_loadu_si512(keys + p * 64);
        UNROLL for (int i = 0; i < n; i++)
        {
            hi[i] = _mm512_dpbf16_ps(hi[i], k, (__m512bh)bcast32(t->q_hi + (size_t)i * d + p * 2));
            if (exact)
                lo[i] = _mm512_dpbf16_ps(lo[i], k, (__m512bh)bcast32(t->q_lo + (size_t)i * d + p * 2));
        }
    }
    UNROLL for (int i = 0; i < n; i++)
        _mm512_storeu_ps(t->scores + i * ATTEND_KEYS + at, exact ? _mm512_add_ps(hi[i], lo[i]) : hi[i]);
}

INLINE __m512 floats(const uint8_t *p, size_t i, bool half)
{
    return half ? _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p + i * 2)))
                : _mm512_loadu_ps((const float *)(const void *)(p + i * 4));
}

INLINE void scores_f32(const struct attend *t, int n, bool half, const uint8_t *keys, int32_t at)
{
    __m512 s[ATTEND_QUERIES];
    UNROLL for (int i = 0; i < n; i++) s[i] = _mm512_setzero_ps();
    for (size_t k = 0; k < (size_t)t->d; k++) {
        __m512 v = floats(keys, k * 16, half);
        UNROLL for (int i = 0; i < n; i++) s[i] = _mm512_fmadd_ps(v, _mm512_set1_ps(t->q[i][k]), s[i]);
    }
    UNROLL for (int i = 0; i < n; i++) _mm512_storeu_ps(t->scores + i * ATTEND_KEYS + at, s[i]);
}

/* Probabilities of query i over tiles from..to (positions), unnormalised; zero where the query does not look. */
INLINE void softmax(const struct attend *t, int i, int32_t from, int32_t to)
{
    float *s = t->scores + i * ATTEND_KEYS;
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i lo = _mm512_set1_epi32(t->lo[i]), hi = _mm512_set1_epi32(t->hi[i]);
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 top = none;
    __mmask16 nan = 0;
    for (int32_t at = from; at < to; at += 16) {
        __m512i pos = _mm512_add_epi32(lane, _mm512_set1_epi32(at));
        __mmask16 seen = _mm512_cmpge_epi32_mask(pos, lo) & _mm512_cmplt_epi32_mask(pos, hi);
        __m512 v = _mm512_mask_mov_ps(none, seen, _mm512_loadu_ps(s + at));
        nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        top = _mm512_max_ps(top, v);
        _mm512_storeu_ps(s + at, v);
    }
    float m = nan ? NAN : _mm512_reduce_max_ps(top);
    t->m[i] = m;
    __m512 vm = _mm512_set1_ps(m), sum = _mm512_setzero_ps();
    bool empty = t->lo[i] >= t->hi[i];
    for (int32_t at = from; at < to; at += 16) {
        __m512 p = empty ? _mm512_setzero_ps() : vf_exp(_mm512_sub_ps(_mm512_loadu_ps(s + at), vm));
        sum = _mm512_add_ps(sum, p);
        _mm512_storeu_ps(s + at, p);
        __m256i h = (__m256i)_mm512_cvtneps_pbh(p);
        __m512 back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
        _mm256_storeu_si256((__m256i *)(void *)(t->p_hi + i * ATTEND_KEYS + at), h);
        _mm256_storeu_si256((__m256i *)(void *)(t->p_lo + i * ATTEND_KEYS + at),
                            (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(p, back)));
    }
    t->l[i] = _mm512_reduce_add_ps(sum);
}

/* 16 dimensions of n results over pairs of positions from/2 .. (to+1)/2. */
INLINE void values_bf16(const struct attend *t, int n, bool exact, size_t dim, int32_t from, int32_t to)
{
    __m512 o[ATTEND_QUERIES], r[ATTEND_QUERIES];
    UNROLL for (int i = 0; i < n; i++) o[i] = r[i] = _mm512_setzero_ps();
    const size_t d = (size_t)t->d;
    for (int32_t pair = from / 2; pair < (to + 1) / 2; pair++) {
        const uint8_t *page = t->v[pair / (CT_KV_PAGE / 2)];
        __m512bh v = (__m512bh)_mm512_loadu_si512(page + ((size_t)(pair % (CT_KV_PAGE / 2)) * d + dim) * 4);
        UNROLL for (int i = 0; i < n; i++)
        {
            o[i] = _mm512_dpbf16_ps(o[i], v, (__m512bh)bcast32(t->p_hi + i * ATTEND_KEYS + pair * 2));
            if (exact)
                r[i] = _mm512_dpbf16_ps(r[i], v, (__m512bh)bcast32(t->p_lo + i * ATTEND_KEYS + pair * 2));
        }
    }
    UNROLL for (int i = 0; i < n; i++)
        _mm512_storeu_ps(t->o + (size_t)i * d + dim, exact ? _mm512_add_ps(o[i], r[i]) : o[i]);
}

INLINE void values_f32(const struct attend *t, int n, bool half, size_t dim, int32_t from, int32_t to)
{
    __m512 o[ATTEND_QUERIES];
    UNROLL for (int i = 0; i < n; i++) o[i] = _mm512_setzero_ps();
    const size_t d = (size_t)t->d;
    for (int32_t at = from; at < to; at++) {
        __m512 v = floats(t->v[at / CT_KV_PAGE], (size_t)(at % CT_KV_PAGE) * d + dim, half);
        UNROLL for (int i = 0; i < n; i++)
            o[i] = _mm512_fmadd_ps(v, _mm512_set1_ps(t->scores[i * ATTEND_KEYS + at]), o[i]);
    }
    UNROLL for (int i = 0; i < n; i++) _mm512_storeu_ps(t->o + (size_t)i * d + dim, o[i]);
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
    const int32_t first = from & ~15, last = (to + 15) & ~15;
    const size_t tile_bytes = (size_t)t->d * TILE * (t->type_k == CT_F32 ? 4 : 2);
    for (int32_t at = first; at < last; at += 16) {
        const uint8_t *keys = t->k[at / CT_KV_PAGE] + (size_t)(at % CT_KV_PAGE / TILE) * tile_bytes;
        if (t->type_k == CT_BF16 && t->exact)
            scores_bf16(t, n, true, keys, at);
        else if (t->type_k == CT_BF16)
            scores_bf16(t, n, false, keys, at);
        else
            scores_f32(t, n, t->type_k == CT_F16, keys, at);
    }
    for (int i = 0; i < n; i++)
        softmax(t, i, first, last);
    for (size_t dim = 0; dim < (size_t)t->d; dim += 16) {
        if (t->type_v == CT_BF16 && t->exact)
            values_bf16(t, n, true, dim, from, to);
        else if (t->type_v == CT_BF16)
            values_bf16(t, n, false, dim, from, to);
        else
            values_f32(t, n, t->type_v == CT_F16, dim, from, to);
    }
}

static void attend_avx512(const struct attend *t)
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

void ct_cpu_attend_avx512(struct kernels *k) { k->attend = attend_avx512; }
