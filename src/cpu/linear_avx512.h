/* What the linear kernels for AVX-512 share: how vectors are loaded, and where the parts of ct_cpu_linear_avx512 are. Included by
 * files of that instruction set only. The order of the float part, which dot and gemm have in common: kernels.h. */
#ifndef CT_CPU_LINEAR_AVX512_H
#define CT_CPU_LINEAR_AVX512_H

#include <immintrin.h>
#include <string.h>

#include "cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

INLINE __m512 f16x16(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
INLINE __m128i bytes16(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
INLINE __m512i u8x16(const uint8_t *p) { return _mm512_cvtepu8_epi32(bytes16(p)); }
INLINE __m512i u16x16(const uint8_t *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE __m512i load64(const uint8_t *p) { return _mm512_loadu_si512(p); }

INLINE __m512i bcast32(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

void ct_cpu_gemm_avx512(struct kernels *k);  /* gemm_avx512.c: unpacked panels times many rows */
void ct_cpu_float_avx512(struct kernels *k); /* float_avx512.c: weights that are not quantized */

#endif
