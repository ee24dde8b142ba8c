/* Row kernels for AVX-512. Sums run in four chains of sixteen lanes and are folded in one order. */
#include <immintrin.h>
#include <math.h>

#include "cpu/exp_avx512.h"
#include "cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __mmask16 rest(int32_t n) { return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1); }

/* Residual values pass 65504 but squares of 1e5 stay far inside f32. */
static float inverse_rms(const float *x, int32_t n, float eps)
{
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int32_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(rest(n - i), x + i);
        s[i / 16 & 3] = _mm512_fmadd_ps(v, v, s[i / 16 & 3]);
    }
    float sum = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
    return 1.0f / sqrtf(sum / (float)n + eps);
}

static void rmsnorm_avx512(float *y, const float *x, const float *w, int32_t n, float eps)
{
    __m512 r = _mm512_set1_ps(inverse_rms(x, n, eps));
    for (int32_t i = 0; i < n; i += 16) {
        __mmask16 m = rest(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), r);
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, w + i)));
    }
}

static void norm_add_avx512(float *x, const float *y, const float *w, int32_t n, float eps)
{
    __m512 r = _mm512_set1_ps(inverse_rms(y, n, eps));
    for (int32_t i = 0; i < n; i += 16) {
        __mmask16 m = rest(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, y + i), r);
        _mm512_mask_storeu_ps(x + i, m,
                              _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w + i), _mm512_maskz_loadu_ps(m, x + i)));
    }
}

static void rope_avx512(float *x, const float *cs, int32_t d)
{
    int32_t half = d / 2;
    for (int32_t i = 0; i < half; i += 16) {
        __mmask16 m = rest(half - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + half + i);
        __m512 co = _mm512_maskz_loadu_ps(m, cs + i), si = _mm512_maskz_loadu_ps(m, cs + half + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_fmsub_ps(a, co, _mm512_mul_ps(b, si)));
        _mm512_mask_storeu_ps(x + half + i, m, _mm512_fmadd_ps(b, co, _mm512_mul_ps(a, si)));
    }
}

/* See rows_c.c for the formula. */
static void geglu_avx512(float *y, const float *gate, const float *up, int32_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int32_t i = 0; i < n; i += 16) {
        __mmask16 m = rest(n - i);
        __m512 g = _mm512_maskz_loadu_ps(m, gate + i);
        __m512 cube = _mm512_mul_ps(_mm512_mul_ps(g, g), g);
        __m512 u = _mm512_mul_ps(_mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), g),
                                 _mm512_set1_ps(-1.5957691216057307f));
        __m512 v = _mm512_div_ps(g, _mm512_add_ps(one, exp512(u)));
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

void ct_cpu_rows_avx512(struct kernels *k)
{
    k->rmsnorm = rmsnorm_avx512;
    k->norm_add = norm_add_avx512;
    k->rope = rope_avx512;
    k->geglu = geglu_avx512;
}
