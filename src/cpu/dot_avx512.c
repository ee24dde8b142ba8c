/* Linear kernels for AVX-512 with VNNI and BF16: products straight from packed tiles (decode), and unpacking into panels with
 * block products for many rows (prompts). Layouts: tile.h. Arithmetic and order: kernels.h; dot and gemm give the same bits.
 *
 * Floor of decode: a group of 16 rows x 32 columns is 288 to 544 bytes, 65 to 120 cycles of one core's share of memory; the
 * two-plane product takes 16 dot instructions and about 20 others, so decode waits for memory with every type. */
#include <immintrin.h>
#include <string.h>

#include "cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* One group: eight quad vectors of unsigned quants, scale(s) and min of the 16 rows. */
struct group {
    __m512i w[8];
    __m512 s[2], m;
};

typedef void load_fn(const uint8_t *tile, int32_t cols, int32_t g, struct group *o);

INLINE __m512 f16x16(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
INLINE __m512i u8x16(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INLINE __m512i load64(const uint8_t *p) { return _mm512_loadu_si512(p); }

INLINE void load_q8_0(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    const uint8_t *q = tile + tile_scales(cols) + (size_t)g * Q8_0_GROUP;
    UNROLL for (int v = 0; v < 8; v++) o->w[v] = load64(q + v * 64);
    o->s[0] = f16x16(tile + g * 32);
}

INLINE void nibbles(const uint8_t *p, __m512i w[8])
{
    const __m512i low = _mm512_set1_epi8(15);
    UNROLL for (int v = 0; v < 4; v++)
    {
        __m512i b = load64(p + v * 64);
        w[v] = _mm512_and_si512(b, low);
        w[v + 4] = _mm512_and_si512(_mm512_srli_epi16(b, 4), low);
    }
}

INLINE void load_q4_0(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    nibbles(tile + tile_scales(cols) + (size_t)g * Q4_0_GROUP, o->w);
    o->s[0] = f16x16(tile + g * 32);
}

INLINE void load_q5_0(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    const uint8_t *p = tile + tile_scales(cols) + (size_t)g * Q5_0_GROUP;
    const __m512i fifth = _mm512_set1_epi8(16);
    nibbles(p + 64, o->w);
    UNROLL for (int v = 0; v < 8; v++)
    {
        uint64_t bits;
        memcpy(&bits, p + v * 8, 8);
        o->w[v] = _mm512_mask_add_epi8(o->w[v], _cvtu64_mask64(bits), o->w[v], fifth);
    }
    o->s[0] = f16x16(tile + g * 32);
}

INLINE void load_q4_k(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q4_K_SUPER;
    int32_t j = g & 7;
    const __m512i low = _mm512_set1_epi8(15), nib = _mm512_set1_epi32(15), two = _mm512_set1_epi32(3);
    const __m128i shift = _mm_cvtsi32_si128(4 * (j & 1));
    const uint8_t *q = super + 256 + (j >> 1) * 512;
    UNROLL for (int v = 0; v < 8; v++) o->w[v] = _mm512_and_si512(_mm512_srl_epi16(load64(q + v * 64), shift), low);
    __m512i lo = u8x16(super + 64 + j * 16), hi = _mm512_srl_epi32(u8x16(super + 192 + (j >> 1) * 16), shift);
    __m512i s = _mm512_or_si512(_mm512_and_si512(lo, nib), _mm512_slli_epi32(_mm512_and_si512(hi, two), 4));
    __m512i m = _mm512_or_si512(_mm512_srli_epi32(lo, 4),
                                _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(hi, 2), two), 4));
    o->s[0] = _mm512_mul_ps(f16x16(super), _mm512_cvtepi32_ps(s));
    o->m = _mm512_mul_ps(f16x16(super + 32), _mm512_cvtepi32_ps(m));
}

INLINE void load_q6_k(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    const uint8_t *super = tile + tile_super_scales(cols) + (size_t)(g >> 3) * Q6_K_SUPER;
    int32_t t = g & 3;
    const uint8_t *low = super + 256 + ((g & 7) >> 2) * Q6_K_HALF, *high = low + 1024;
    const __m512i nib = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48);
    const __m128i shift = _mm_cvtsi32_si128(4 * (t >> 1));
    /* Bits 2t, 2t+1 of each high byte go to bits 4, 5: left for t = 0, 1, right for t = 3. */
    const __m128i left = _mm_cvtsi32_si128(t < 2 ? 4 - 2 * t : 0), right = _mm_cvtsi32_si128(t > 2 ? 2 : 0);
    low += (t & 1) * 512;
    UNROLL for (int v = 0; v < 8; v++)
    {
        __m512i lo = _mm512_and_si512(_mm512_srl_epi16(load64(low + v * 64), shift), nib);
        __m512i hi = _mm512_srl_epi16(_mm512_sll_epi16(load64(high + v * 64), left), right);
        o->w[v] = _mm512_or_si512(lo, _mm512_and_si512(hi, top));
    }
    __m512 d = f16x16(tile + (g >> 3) * 32);
    UNROLL for (int h = 0; h < 2; h++)
    {
        __m128i sc = _mm_loadu_si128((const __m128i *)(const void *)(super + ((g & 7) * 2 + h) * 16));
        o->s[h] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sc)));
    }
}

INLINE __m512i bcast32(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* The integer sum of `quads` quads of a group: exact rows add 256 times the high plane. */
INLINE __m512i int_sum(const __m512i *w, const int8_t *hi, const int8_t *lo, int32_t init, int quads, bool exact)
{
    __m512i d;
    if (!exact) {
        d = _mm512_set1_epi32(init);
        UNROLL for (int v = 0; v < quads; v++) d = _mm512_dpbusd_epi32(d, w[v], bcast32(hi + v * 4));
        return d;
    }
    d = _mm512_setzero_si512();
    UNROLL for (int v = 0; v < quads; v++) d = _mm512_dpbusd_epi32(d, w[v], bcast32(hi + v * 4));
    d = _mm512_add_epi32(_mm512_slli_epi32(d, 8), _mm512_set1_epi32(init));
    UNROLL for (int v = 0; v < quads; v++) d = _mm512_dpbusd_epi32(d, w[v], bcast32(lo + v * 4));
    return d;
}

/* Asks for the bytes that a stream of groups (bytes each) will want AHEAD later. The hardware's prefetcher loses the thread at
 * the many loads of activations between two groups: without this, one core reads 8-10 GB/s, with it 18-28. */
#define AHEAD 2048
INLINE void prefetch(const uint8_t *tile, int32_t g, int bytes)
{
    const char *p = (const char *)tile + (size_t)g * (size_t)bytes + AHEAD;
    UNROLL for (int v = 0; v < (bytes + 63) / 64; v++) _mm_prefetch(p + v * 64, _MM_HINT_T0);
}

INLINE void dot_int(load_fn *load, int bytes, int halves, bool has_min, int n, bool exact, const uint8_t *tile,
                    const struct acts *a, const struct init *init, int32_t row, float *out)
{
    __m512 acc[DOT_ROWS];
    UNROLL for (int t = 0; t < n; t++) acc[t] = _mm512_setzero_ps();
    for (int32_t g = 0; g < a->groups; g++) {
        struct group q;
        load(tile, a->cols, g, &q);
        prefetch(tile, g, bytes);
        UNROLL for (int t = 0; t < n; t++)
        {
            size_t r = (size_t)(row + t), at = r * (size_t)a->groups + (size_t)g;
            const int8_t *hi = a->hi + r * (size_t)a->cols + g * 32;
            const int8_t *lo = exact ? a->lo + r * (size_t)a->cols + g * 32 : NULL;
            __m512 sa = _mm512_set1_ps(a->scale[at]);
            UNROLL for (int h = 0; h < halves; h++)
            {
                int quads = 8 / halves;
                __m512i d = int_sum(q.w + h * quads, hi + h * quads * 4, exact ? lo + h * quads * 4 : NULL,
                                    init->v[at * (size_t)halves + (size_t)h], quads, exact);
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), _mm512_mul_ps(q.s[h], sa), acc[t]);
            }
            if (has_min)
                acc[t] = _mm512_fnmadd_ps(q.m, _mm512_set1_ps(a->scaled_sum[at]), acc[t]);
        }
    }
    UNROLL for (int t = 0; t < n; t++) _mm512_storeu_ps(out + t * TILE, acc[t]);
}

/* The compiler makes one body per number of rows and planes. */
#define DOT_INT(name, bytes, halves, has_min)                                                                        \
    static void dot_##name##_avx512(const uint8_t *tile, const struct acts *a, const struct init *init, int32_t row, \
                                    int32_t n, bool exact, float *out)                                               \
    {                                                                                                                \
        switch (n * 2 + exact) {                                                                                     \
        case 2: dot_int(load_##name, bytes, halves, has_min, 1, false, tile, a, init, row, out); break;              \
        case 3: dot_int(load_##name, bytes, halves, has_min, 1, true, tile, a, init, row, out); break;               \
        case 4: dot_int(load_##name, bytes, halves, has_min, 2, false, tile, a, init, row, out); break;              \
        case 5: dot_int(load_##name, bytes, halves, has_min, 2, true, tile, a, init, row, out); break;               \
        case 6: dot_int(load_##name, bytes, halves, has_min, 3, false, tile, a, init, row, out); break;              \
        case 7: dot_int(load_##name, bytes, halves, has_min, 3, true, tile, a, init, row, out); break;               \
        case 8: dot_int(load_##name, bytes, halves, has_min, 4, false, tile, a, init, row, out); break;              \
        default: dot_int(load_##name, bytes, halves, has_min, 4, true, tile, a, init, row, out); break;              \
        }                                                                                                            \
    }                                                                                                                \
    static void unpack_##name##_avx512(const uint8_t *tile, int32_t cols, struct panel *p)                           \
    {                                                                                                                \
        for (int32_t g = 0; g < cols / 32; g++) {                                                                    \
            struct group q;                                                                                          \
            load_##name(tile, cols, g, &q);                                                                          \
            prefetch(tile, g, bytes);                                                                                \
            UNROLL for (int v = 0; v < 8; v++) _mm512_store_si512(p->q + (size_t)g * 512 + v * 64, q.w[v]);          \
            UNROLL for (int h = 0; h < halves; h++) _mm512_store_ps(p->scale + (g * halves + h) * TILE, q.s[h]);     \
            if (has_min)                                                                                             \
                _mm512_store_ps(p->min + g * TILE, q.m);                                                             \
        }                                                                                                            \
    }
DOT_INT(q8_0, 544, 1, false)
DOT_INT(q4_0, 288, 1, false)
DOT_INT(q5_0, 352, 1, false)
DOT_INT(q4_k, 288, 1, true)
DOT_INT(q6_k, 420, 2, false)

/* m panels (1 or 2) times n rows. */
INLINE void gemm_int(int m, int n, int halves, bool has_min, bool exact, const struct panel *const p[2],
                     const struct acts *a, const struct init *init, int32_t row, float *out)
{
    __m512 acc[2][GEMM_ROWS];
    UNROLL for (int i = 0; i < m; i++) { UNROLL for (int t = 0; t < n; t++) acc[i][t] = _mm512_setzero_ps(); }
    const int8_t *hi = a->hi + (size_t)row * (size_t)a->cols;
    const int8_t *lo = exact ? a->lo + (size_t)row * (size_t)a->cols : NULL;
    const size_t cols = (size_t)a->cols, groups = (size_t)a->groups, first = (size_t)row * groups;
    const int quads = 8 / halves;
    for (size_t g = 0; g < groups; g++)
        UNROLL for (int h = 0; h < halves; h++)
        {
            __m512i d[2][GEMM_ROWS];
            const size_t column = g * 32 + (size_t)(h * quads * 4);
            UNROLL for (int t = 0; t < n; t++)
            {
                d[0][t] = exact ? _mm512_setzero_si512()
                                : _mm512_set1_epi32(
                                      init->v[(first + (size_t)t * groups + g) * (size_t)halves + (size_t)h]);
                d[1][t] = d[0][t];
            }
            UNROLL for (int v = 0; v < quads; v++)
            {
                __m512i w0 = _mm512_load_si512(p[0]->q + g * 512 + (size_t)((h * quads + v) * 64)), w1 = w0;
                if (m == 2)
                    w1 = _mm512_load_si512(p[1]->q + g * 512 + (size_t)((h * quads + v) * 64));
                UNROLL for (int t = 0; t < n; t++)
                {
                    __m512i x = bcast32(hi + (size_t)t * cols + column + (size_t)(v * 4));
                    d[0][t] = _mm512_dpbusd_epi32(d[0][t], w0, x);
                    if (m == 2)
                        d[1][t] = _mm512_dpbusd_epi32(d[1][t], w1, x);
                }
            }
            if (exact) {
                UNROLL for (int t = 0; t < n; t++)
                {
                    __m512i o = _mm512_set1_epi32(
                        init->v[(first + (size_t)t * groups + g) * (size_t)halves + (size_t)h]);
                    d[0][t] = _mm512_add_epi32(_mm512_slli_epi32(d[0][t], 8), o);
                    if (m == 2)
                        d[1][t] = _mm512_add_epi32(_mm512_slli_epi32(d[1][t], 8), o);
                }
                UNROLL for (int v = 0; v < quads; v++)
                {
                    __m512i w0 = _mm512_load_si512(p[0]->q + g * 512 + (size_t)((h * quads + v) * 64)), w1 = w0;
                    if (m == 2)
                        w1 = _mm512_load_si512(p[1]->q + g * 512 + (size_t)((h * quads + v) * 64));
                    UNROLL for (int t = 0; t < n; t++)
                    {
                        __m512i x = bcast32(lo + (size_t)t * cols + column + (size_t)(v * 4));
                        d[0][t] = _mm512_dpbusd_epi32(d[0][t], w0, x);
                        if (m == 2)
                            d[1][t] = _mm512_dpbusd_epi32(d[1][t], w1, x);
                    }
                }
            }
            __m512 s0 = _mm512_load_ps(p[0]->scale + (g * (size_t)halves + (size_t)h) * TILE), s1 = s0;
            if (m == 2)
                s1 = _mm512_load_ps(p[1]->scale + (g * (size_t)halves + (size_t)h) * TILE);
            UNROLL for (int t = 0; t < n; t++)
            {
                __m512 sa = _mm512_set1_ps(a->scale[first + (size_t)t * groups + g]);
                acc[0][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d[0][t]), _mm512_mul_ps(s0, sa), acc[0][t]);
                if (m == 2)
                    acc[1][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d[1][t]), _mm512_mul_ps(s1, sa), acc[1][t]);
            }
            if (has_min && h == halves - 1) {
                __m512 m0 = _mm512_load_ps(p[0]->min + g * TILE), m1 = m0;
                if (m == 2)
                    m1 = _mm512_load_ps(p[1]->min + g * TILE);
                UNROLL for (int t = 0; t < n; t++)
                {
                    __m512 ss = _mm512_set1_ps(a->scaled_sum[first + (size_t)t * groups + g]);
                    acc[0][t] = _mm512_fnmadd_ps(m0, ss, acc[0][t]);
                    if (m == 2)
                        acc[1][t] = _mm512_fnmadd_ps(m1, ss, acc[1][t]);
                }
            }
        }
    UNROLL for (int i = 0; i < m; i++)
    {
        UNROLL for (int t = 0; t < n; t++) _mm512_storeu_ps(out + (i * n + t) * TILE, acc[i][t]);
    }
}

#define GEMM_BODY(n, halves, has_min)                                                                     \
    static void gemm##n##_##halves##has_min(const struct panel *const p[2], const struct acts *a,         \
                                            const struct init *init, int32_t row, bool exact, float *out) \
    {                                                                                                     \
        if (exact)                                                                                        \
            gemm_int(2, n, halves, has_min, true, p, a, init, row, out);                                  \
        else                                                                                              \
            gemm_int(2, n, halves, has_min, false, p, a, init, row, out);                                 \
    }
#define GEMM_BODIES(n) GEMM_BODY(n, 1, 0) GEMM_BODY(n, 1, 1) GEMM_BODY(n, 2, 0)
GEMM_BODIES(1)
GEMM_BODIES(2)
GEMM_BODIES(3)
GEMM_BODIES(4)
GEMM_BODIES(5)
GEMM_BODIES(6)

typedef void gemm_body(const struct panel *const p[2], const struct acts *a, const struct init *init, int32_t row,
                       bool exact, float *out);

/* [rows - 1][plain, with min, two halves] */
static gemm_body *const bodies[GEMM_ROWS][3] = {
    {gemm1_10, gemm1_11, gemm1_20}, {gemm2_10, gemm2_11, gemm2_20}, {gemm3_10, gemm3_11, gemm3_20},
    {gemm4_10, gemm4_11, gemm4_20}, {gemm5_10, gemm5_11, gemm5_20}, {gemm6_10, gemm6_11, gemm6_20},
};

static void gemm_int_avx512(const struct tile_type *tt, const struct panel *a, const struct panel *b,
                            const struct acts *x, const struct init *init, int32_t row, int32_t n, bool exact,
                            float *out)
{
    const struct panel *const p[2] = {a, b ? b : a}; /* a lone last tile is computed twice: odd tile counts are rare */
    bodies[n - 1][tt->halves == 2 ? 2 : tt->has_min](p, x, init, row, exact, out);
}

/* ---- float weights ---- */

/* m tiles of bf16 pairs times n rows; two chains per result: what the high and the low plane add. */
INLINE void mul_bf16(int m, int n, bool exact, const uint8_t *const tile[2], const struct acts *a, int32_t row,
                     float *out)
{
    __m512 h[2][GEMM_ROWS], l[2][GEMM_ROWS];
    const size_t pitch = ct_round_up((size_t)a->cols, 2), pairs = pitch / 2;
    UNROLL for (int i = 0; i < m; i++) { UNROLL for (int t = 0; t < n; t++) h[i][t] = l[i][t] = _mm512_setzero_ps(); }
    const uint16_t *hi = a->bhi + (size_t)row * pitch, *lo = exact ? a->blo + (size_t)row * pitch : NULL;
    for (size_t k = 0; k < pairs; k++) {
        __m512bh w[2];
        UNROLL for (int i = 0; i < m; i++) w[i] = (__m512bh)_mm512_load_si512(tile[i] + k * 64);
        UNROLL for (int t = 0; t < n; t++)
        {
            __m512bh x = (__m512bh)bcast32(hi + (size_t)t * pitch + k * 2);
            UNROLL for (int i = 0; i < m; i++) h[i][t] = _mm512_dpbf16_ps(h[i][t], w[i], x);
            if (exact) {
                __m512bh y = (__m512bh)bcast32(lo + (size_t)t * pitch + k * 2);
                UNROLL for (int i = 0; i < m; i++) l[i][t] = _mm512_dpbf16_ps(l[i][t], w[i], y);
            }
        }
    }
    UNROLL for (int i = 0; i < m; i++)
    {
        UNROLL for (int t = 0; t < n; t++)
            _mm512_storeu_ps(out + (i * n + t) * TILE, exact ? _mm512_add_ps(h[i][t], l[i][t]) : h[i][t]);
    }
}

/* m f32 panels or packed f16/f32 tiles times n rows, two chains (even and odd columns). */
INLINE __m512 float_column(const uint8_t *tile, size_t k, bool half)
{
    return half ? f16x16(tile + k * 32) : _mm512_loadu_ps((const float *)(const void *)(tile + k * 64));
}

INLINE void mul_f32(int m, int n, bool half, const uint8_t *const tile[2], const struct acts *a, int32_t row,
                    float *out)
{
    __m512 even[2][GEMM_ROWS], odd[2][GEMM_ROWS];
    UNROLL for (int i = 0; i < m; i++)
    {
        UNROLL for (int t = 0; t < n; t++) even[i][t] = odd[i][t] = _mm512_setzero_ps();
    }
    const float *x = a->x + (size_t)row * a->stride;
    size_t k = 0, cols = (size_t)a->cols;
    for (; k + 2 <= cols; k += 2)
        UNROLL for (int i = 0; i < m; i++)
        {
            __m512 w0 = float_column(tile[i], k, half), w1 = float_column(tile[i], k + 1, half);
            UNROLL for (int t = 0; t < n; t++)
            {
                even[i][t] = _mm512_fmadd_ps(w0, _mm512_set1_ps(x[(size_t)t * a->stride + k]), even[i][t]);
                odd[i][t] = _mm512_fmadd_ps(w1, _mm512_set1_ps(x[(size_t)t * a->stride + k + 1]), odd[i][t]);
            }
        }
    UNROLL for (int i = 0; i < m; i++)
    {
        UNROLL for (int t = 0; t < n; t++)
        {
            if (k < cols)
                even[i][t] = _mm512_fmadd_ps(float_column(tile[i], k, half),
                                             _mm512_set1_ps(x[(size_t)t * a->stride + k]), even[i][t]);
            _mm512_storeu_ps(out + (i * n + t) * TILE, _mm512_add_ps(even[i][t], odd[i][t]));
        }
    }
}

static void dot_bf16_avx512(const uint8_t *tile, const struct acts *a, const struct init *init, int32_t row, int32_t n,
                            bool exact, float *out)
{
    (void)init;
    const uint8_t *const p[2] = {tile, tile};
    switch (n * 2 + exact) {
    case 2: mul_bf16(1, 1, false, p, a, row, out); break;
    case 3: mul_bf16(1, 1, true, p, a, row, out); break;
    case 4: mul_bf16(1, 2, false, p, a, row, out); break;
    case 5: mul_bf16(1, 2, true, p, a, row, out); break;
    case 6: mul_bf16(1, 3, false, p, a, row, out); break;
    case 7: mul_bf16(1, 3, true, p, a, row, out); break;
    case 8: mul_bf16(1, 4, false, p, a, row, out); break;
    default: mul_bf16(1, 4, true, p, a, row, out); break;
    }
}

#define DOT_F32(name, half)                                                                                          \
    static void dot_##name##_avx512(const uint8_t *tile, const struct acts *a, const struct init *init, int32_t row, \
                                    int32_t n, bool exact, float *out)                                               \
    {                                                                                                                \
        (void)init;                                                                                                  \
        (void)exact;                                                                                                 \
        const uint8_t *const p[2] = {tile, tile};                                                                    \
        switch (n) {                                                                                                 \
        case 1: mul_f32(1, 1, half, p, a, row, out); break;                                                          \
        case 2: mul_f32(1, 2, half, p, a, row, out); break;                                                          \
        case 3: mul_f32(1, 3, half, p, a, row, out); break;                                                          \
        default: mul_f32(1, 4, half, p, a, row, out); break;                                                         \
        }                                                                                                            \
    }
DOT_F32(f16, true)
DOT_F32(f32, false)

static void unpack_bf16_avx512(const uint8_t *tile, int32_t cols, struct panel *p)
{
    (void)cols;
    p->tile = tile;
}

static void unpack_f16_avx512(const uint8_t *tile, int32_t cols, struct panel *p)
{
    p->tile = p->q;
    for (int32_t k = 0; k < cols; k++)
        _mm512_storeu_ps((float *)(void *)(p->q + (size_t)k * 64), f16x16(tile + (size_t)k * 32));
}

static void unpack_f32_avx512(const uint8_t *tile, int32_t cols, struct panel *p)
{
    (void)cols;
    p->tile = tile;
}

static void gemm_bf16_avx512(const struct tile_type *tt, const struct panel *a, const struct panel *b,
                             const struct acts *x, const struct init *init, int32_t row, int32_t n, bool exact,
                             float *out)
{
    (void)tt;
    (void)init;
    const uint8_t *const p[2] = {a->tile, b ? b->tile : a->tile};
    switch (n * 2 + exact) {
    case 2: mul_bf16(2, 1, false, p, x, row, out); break;
    case 3: mul_bf16(2, 1, true, p, x, row, out); break;
    case 4: mul_bf16(2, 2, false, p, x, row, out); break;
    case 5: mul_bf16(2, 2, true, p, x, row, out); break;
    case 6: mul_bf16(2, 3, false, p, x, row, out); break;
    case 7: mul_bf16(2, 3, true, p, x, row, out); break;
    case 8: mul_bf16(2, 4, false, p, x, row, out); break;
    case 9: mul_bf16(2, 4, true, p, x, row, out); break;
    case 10: mul_bf16(2, 5, false, p, x, row, out); break;
    case 11: mul_bf16(2, 5, true, p, x, row, out); break;
    case 12: mul_bf16(2, 6, false, p, x, row, out); break;
    default: mul_bf16(2, 6, true, p, x, row, out); break;
    }
}

static void gemm_f32_avx512(const struct tile_type *tt, const struct panel *a, const struct panel *b,
                            const struct acts *x, const struct init *init, int32_t row, int32_t n, bool exact,
                            float *out)
{
    (void)tt;
    (void)init;
    (void)exact;
    const uint8_t *const p[2] = {a->tile, b ? b->tile : a->tile};
    switch (n) {
    case 1: mul_f32(2, 1, false, p, x, row, out); break;
    case 2: mul_f32(2, 2, false, p, x, row, out); break;
    case 3: mul_f32(2, 3, false, p, x, row, out); break;
    case 4: mul_f32(2, 4, false, p, x, row, out); break;
    case 5: mul_f32(2, 5, false, p, x, row, out); break;
    default: mul_f32(2, 6, false, p, x, row, out); break;
    }
}

/* ---- activations ---- */

static void quantize_avx512(const float *x, int32_t cols, int8_t *hi, int8_t *lo, float *scale, int32_t *sum,
                            float *scaled_sum)
{
    const float full = lo ? 32512.0f : 127.0f; /* 127 * 256: the high plane stays within -127..127 */
    for (int32_t g = 0; g < cols / 32; g++) {
        __m512 a = _mm512_loadu_ps(x + g * 32), b = _mm512_loadu_ps(x + g * 32 + 16);
        float amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        /* NaN and infinity must come out as NaN, not as a number: the scale carries them through every product. */
        __mmask16 bad = _mm512_fpclass_ps_mask(a, 0x99) | _mm512_fpclass_ps_mask(b, 0x99);
        float inv = amax > 0 ? full / amax : 0;
        if (!(inv <= 3e38f))
            inv = 0;
        float s = inv > 0 ? amax / full : 0;
        if (bad) {
            s = __builtin_nanf("");
            inv = 0;
        }
        __m512 vi = _mm512_set1_ps(inv);
        __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, vi)), qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, vi));
        if (lo) {
            __m512i half = _mm512_set1_epi32(128);
            __m512i ha = _mm512_srai_epi32(_mm512_add_epi32(qa, half), 8);
            __m512i hb = _mm512_srai_epi32(_mm512_add_epi32(qb, half), 8);
            __m512i la = _mm512_sub_epi32(qa, _mm512_slli_epi32(ha, 8)),
                    lb = _mm512_sub_epi32(qb, _mm512_slli_epi32(hb, 8));
            _mm_storeu_si128((__m128i *)(void *)(lo + g * 32), _mm512_cvtepi32_epi8(la));
            _mm_storeu_si128((__m128i *)(void *)(lo + g * 32 + 16), _mm512_cvtepi32_epi8(lb));
            _mm_storeu_si128((__m128i *)(void *)(hi + g * 32), _mm512_cvtepi32_epi8(ha));
            _mm_storeu_si128((__m128i *)(void *)(hi + g * 32 + 16), _mm512_cvtepi32_epi8(hb));
        } else {
            _mm_storeu_si128((__m128i *)(void *)(hi + g * 32), _mm512_cvtepi32_epi8(qa));
            _mm_storeu_si128((__m128i *)(void *)(hi + g * 32 + 16), _mm512_cvtepi32_epi8(qb));
        }
        sum[2 * g] = _mm512_reduce_add_epi32(qa);
        sum[2 * g + 1] = _mm512_reduce_add_epi32(qb);
        scale[g] = s;
        scaled_sum[g] = s * (float)(sum[2 * g] + sum[2 * g + 1]);
    }
}

static void split_bf16_avx512(const float *x, int32_t cols, uint16_t *hi, uint16_t *lo)
{
    for (int32_t k = 0; k < cols; k += 16) {
        __mmask16 m = cols - k >= 16 ? 0xffff : (__mmask16)((1u << (cols - k)) - 1);
        __m512 v = _mm512_maskz_loadu_ps(m, x + k);
        __m256i h = (__m256i)_mm512_cvtneps_pbh(v);
        _mm256_mask_storeu_epi16(hi + k, m, h);
        if (lo) {
            __m512 back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
            _mm256_mask_storeu_epi16(lo + k, m, (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(v, back)));
        }
    }
    if (cols % 2) {
        hi[cols] = 0;
        if (lo)
            lo[cols] = 0;
    }
}

void ct_cpu_linear_avx512(struct kernels *k)
{
    k->quantize = quantize_avx512;
    k->split_bf16 = split_bf16_avx512;
#define SET(type, name)                 \
    k->dot[type] = dot_##name##_avx512; \
    k->unpack[type] = unpack_##name##_avx512;
    SET(CT_Q8_0, q8_0)
    SET(CT_Q4_0, q4_0)
    SET(CT_Q5_0, q5_0)
    SET(CT_Q4_K, q4_k)
    SET(CT_Q6_K, q6_k)
    SET(CT_BF16, bf16)
    SET(CT_F16, f16)
    SET(CT_F32, f32)
#undef SET
    k->gemm[TILE_INT] = gemm_int_avx512;
    k->gemm[TILE_BF16] = gemm_bf16_avx512;
    k->gemm[TILE_F32] = gemm_f32_avx512;
}
