/* Vectors of AVX-512 F, BW, DQ, VL for the templates (*_vec.h): 16 lanes, a tile's rows are one part. */
#ifndef CT_CPU_VEC_AVX512F_H
#define CT_CPU_VEC_AVX512F_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define KERNEL(name) name##_avx512f
#define LANES 16
#define PARTS 1
#define VECS 2      /* vectors of results that a block product works on at once */
#define FEW_ROWS 4  /* so many rows of a dot product have all parts in registers at once */
#define CHAIN_MAX 8 /* accumulators of attention's loops */
#define RATE_REGISTER "v"
#define RATE_CHAINS 12
typedef __m512i vi;
typedef __m512 vf;
#define V(name) _mm512_##name
#define VI(name) _mm512_##name##_si512

INLINE vf vf_of_bits(vi a) { return _mm512_castsi512_ps(a); }

#include "cpu/vec_x86.h"

INLINE vf vf_f16(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
INLINE vf vf_rint(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
INLINE vf vf_gt(vf x, vf limit, vf then, vf otherwise) /* x > limit ? then : otherwise; NaN is not greater */
{
    return _mm512_mask_mov_ps(otherwise, _mm512_cmp_ps_mask(x, limit, _CMP_GT_OQ), then);
}
INLINE float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
INLINE float vf_top(vf a) { return _mm512_reduce_max_ps(a); }
INLINE bool vf_not_finite(vf a) { return _mm512_fpclass_ps_mask(a, 0x99) != 0; } /* of any lane */
INLINE vf vf_scale2(vf p, vf n) { return _mm512_scalef_ps(p, n); }               /* p * 2^n for whole n */

INLINE vi vi_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)); }
INLINE vi vi_s8(const uint8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)); }
INLINE vi vi_u16(const uint8_t *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE int32_t vi_sum(vi a) { return _mm512_reduce_add_epi32(a); }

/* Bytes 0xff where the bits of a 64-bit word are set, else 0: bit b is byte b of a quad vector. */
INLINE vi vi_bits(const uint8_t *word, int part)
{
    (void)part;
    uint64_t bits;
    memcpy(&bits, word, 8);
    return _mm512_movm_epi8(_cvtu64_mask64(bits));
}

/* Bytes 0xff where a has the one bit that each byte of `bit` has set. */
INLINE vi vi_test8(vi a, vi bit) { return _mm512_movm_epi8(_mm512_test_epi8_mask(a, bit)); }

/* Bytes 0..15 to the table's entries. */
INLINE vi vi_look_up(const void *table, vi index)
{
    __m128i t = _mm_loadu_si128((const __m128i *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), index);
}

/* 16 numbers within int8 to bytes. */
INLINE void vi_store_s8(int8_t *p, const vi v[PARTS])
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(v[0]));
}

#endif
