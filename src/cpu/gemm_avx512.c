/* Products of unpacked panels with many rows for AVX-512: the integer dot product is that of dot_avx512.c, in the same order, so
 * that a row's bits do not depend on how many rows stand beside it. A panel is unpacked once per two tiles and stays in cache. */
#include "cpu/linear_avx512.h"

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
            if (has_min) {
                __m512 m0 = _mm512_load_ps(p[0]->min + (g * (size_t)halves + (size_t)h) * TILE), m1 = m0;
                if (m == 2)
                    m1 = _mm512_load_ps(p[1]->min + (g * (size_t)halves + (size_t)h) * TILE);
                const float *sums = halves == 1 ? a->scaled_sum : a->half_sum;
                UNROLL for (int t = 0; t < n; t++)
                {
                    __m512 ss = _mm512_set1_ps(sums[(first + (size_t)t * groups + g) * (size_t)halves + (size_t)h]);
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
#define GEMM_BODIES(n) GEMM_BODY(n, 1, 0) GEMM_BODY(n, 1, 1) GEMM_BODY(n, 2, 0) GEMM_BODY(n, 2, 1)
GEMM_BODIES(1)
GEMM_BODIES(2)
GEMM_BODIES(3)
GEMM_BODIES(4)
GEMM_BODIES(5)
GEMM_BODIES(6)

typedef void gemm_body(const struct panel *const p[2], const struct acts *a, const struct init *init, int32_t row,
                       bool exact, float *out);

/* [rows - 1][halves - 1][has_min] */
#define BODIES(n)                                                    \
    {                                                                \
        {gemm##n##_10, gemm##n##_11}, { gemm##n##_20, gemm##n##_21 } \
    }
static gemm_body *const bodies[GEMM_ROWS][2][2] = {BODIES(1), BODIES(2), BODIES(3), BODIES(4), BODIES(5), BODIES(6)};

static void gemm_int_avx512(const struct tile_type *tt, const struct panel *a, const struct panel *b,
                            const struct acts *x, const struct init *init, int32_t row, int32_t n, bool exact,
                            float *out)
{
    const struct panel *const p[2] = {a, b ? b : a}; /* a lone last tile is computed twice: odd tile counts are rare */
    bodies[n - 1][tt->halves - 1][tt->has_min](p, x, init, row, exact, out);
}

void ct_cpu_gemm_avx512(struct kernels *k) { k->gemm[TILE_INT] = gemm_int_avx512; }
