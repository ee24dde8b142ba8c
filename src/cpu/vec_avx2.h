/* Vectors of AVX2 with FMA and F16C for the templates (*_vec.h): 8 lanes, a tile's 16 rows are two parts. */
#ifndef CT_CPU_VEC_AVX2_H
#define CT_CPU_VEC_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define KERNEL(name) name##_avx2
#define LANES 8
#define PARTS 2
#define VECS 1      /* vectors of results that a block product works on at once: 16 registers hold no more */
#define FEW_ROWS 2  /* so many rows of a dot product have all parts in registers at once */
#define CHAIN_MAX 8 /* accumulators of attention's loops */
#define RATE_REGISTER "x"
#define RATE_CHAINS 8
typedef __m256i vi;
typedef __m256 vf;
#define V(name) _mm256_##name
#define VI(name) _mm256_##name##_si256

INLINE vf vf_of_bits(vi a) { return _mm256_castsi256_ps(a); }

#include "cpu/vec_x86.h"

INLINE vf vf_f16(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
INLINE vf vf_rint(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE vf vf_gt(vf x, vf limit, vf then, vf otherwise) /* x > limit ? then : otherwise; NaN is not greater */
{
    return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(x, limit, _CMP_GT_OQ));
}

INLINE float vf_sum(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float vf_top(vf a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

INLINE bool vf_not_finite(vf a) /* of any lane */
{
    return _mm256_movemask_ps(_mm256_cmp_ps(vf_abs(a), _mm256_set1_ps(3.4028235e38f), _CMP_NLE_UQ)) != 0;
}

/* p * 2^n for whole n in -300..254: in two factors, as 2^n itself may be no f32. */
INLINE vf vf_scale2(vf p, vf n)
{
    vi i = vi_round(n), a = vi_sar32i(i, 1), b = vi_sub32(i, a), bias = vi_set32(127);
    return p * vf_of_bits(vi_shl32i(vi_add32(a, bias), 23)) * vf_of_bits(vi_shl32i(vi_add32(b, bias), 23));
}

INLINE vi vi_u8(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)); }
INLINE vi vi_s8(const uint8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)); }

INLINE vi vi_u16(const uint8_t *p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)); }

INLINE int32_t vi_sum(vi a)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* Bytes 0xff where a part's bits of a 64-bit word are set, else 0: bit b is byte b of a quad vector. */
INLINE vi vi_bits(const uint8_t *word, int part)
{
    const vi pick = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3,
                                     3, 3, 3, 3);
    const vi bit = _mm256_set1_epi64x((int64_t)0x8040201008040201u);
    int32_t bits;
    memcpy(&bits, word + part * 4, 4);
    return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(vi_set32(bits), pick), bit), bit);
}

/* Bytes 0xff where a has the one bit that each byte of `bit` has set. */
INLINE vi vi_test8(vi a, vi bit) { return _mm256_cmpeq_epi8(_mm256_and_si256(a, bit), bit); }

/* Bytes 0..15 to the table's entries. */
INLINE vi vi_look_up(const void *table, vi index)
{
    __m128i t = _mm_loadu_si128((const __m128i *)table);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t), index);
}

/* 16 numbers within int8 to bytes. */
INLINE void vi_store_s8(int8_t *p, const vi v[PARTS])
{
    __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[0], v[1]), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}

#endif
