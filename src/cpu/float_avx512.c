/* Float weights for AVX-512: bf16 pairs through the bf16 dot product, f16 and f32 in f32, straight from tiles (dot) and from
 * panels (gemm); the same bits either way. */
#include "cpu/linear_avx512.h"

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

static void dot_bf16_avx512(const struct tile_type *tt, const uint8_t *tile, const struct acts *a,
                            const struct init *init, int32_t row, int32_t n, bool exact, float *out)
{
    (void)tt;
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

#define DOT_F32(name, half)                                                                                  \
    static void dot_##name##_avx512(const struct tile_type *tt, const uint8_t *tile, const struct acts *a,   \
                                    const struct init *init, int32_t row, int32_t n, bool exact, float *out) \
    {                                                                                                        \
        (void)tt;                                                                                            \
        (void)init;                                                                                          \
        (void)exact;                                                                                         \
        const uint8_t *const p[2] = {tile, tile};                                                            \
        switch (n) {                                                                                         \
        case 1: mul_f32(1, 1, half, p, a, row, out); break;                                                  \
        case 2: mul_f32(1, 2, half, p, a, row, out); break;                                                  \
        case 3: mul_f32(1, 3, half, p, a, row, out); break;                                                  \
        default: mul_f32(1, 4, half, p, a, row, out); break;                                                 \
        }                                                                                                    \
    }
DOT_F32(f16, true)
DOT_F32(f32, false)

static void unpack_bf16_avx512(const struct tile_type *tt, const uint8_t *tile, int32_t cols, struct panel *p)
{
    (void)tt;
    (void)cols;
    p->tile = tile;
}

static void unpack_f16_avx512(const struct tile_type *tt, const uint8_t *tile, int32_t cols, struct panel *p)
{
    (void)tt;
    p->tile = p->q;
    for (int32_t k = 0; k < cols; k++)
        _mm512_storeu_ps((float *)(void *)(p->q + (size_t)k * 64), f16x16(tile + (size_t)k * 32));
}

static void unpack_f32_avx512(const struct tile_type *tt, const uint8_t *tile, int32_t cols, struct panel *p)
{
    (void)tt;
    (void)cols;
    p->tile = tile;
}

static void gemm_bf16_avx512(const struct tile_type *tt, const struct panel *a, const struct panel *b,
                             const struct acts *x, const struct init *init, int32_t row, int32_t n, bool exact,
                             float *out)
{
    (void)tt;
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

void ct_cpu_float_avx512(struct kernels *k)
{
    k->split_bf16 = split_bf16_avx512;
#define SET(type, name)                 \
    k->dot[type] = dot_##name##_avx512; \
    k->unpack[type] = unpack_##name##_avx512;
    SET(CT_BF16, bf16)
    SET(CT_F16, f16)
    SET(CT_F32, f32)
#undef SET
    k->gemm[TILE_BF16] = gemm_bf16_avx512;
    k->gemm[TILE_F32] = gemm_f32_avx512;
}
