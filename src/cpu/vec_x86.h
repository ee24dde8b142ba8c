/* Vectors of x86, the part that AVX2 and AVX-512 spell alike, and the integer dot step of machines without VNNI.
 * Included by vec_avx2.h and vec_avx512f.h, which say how wide (V: an intrinsic's prefix, VI: the integer suffix).
 *
 * The dot step must be exact. maddubs (u8 x s8 in pairs) saturates at 16 bits, so it serves only quants below 64 against one
 * int8 plane: 4 * 63 * 127 still fits. All else (q8_0's 0..255, and 16-bit activations of exact rows) takes the even and
 * the odd bytes of a quad as 16-bit numbers: two madd of 16 bits, which cannot overflow; both planes of an exact row are then
 * one number, so exact costs no more than plain. */
#ifndef CT_CPU_VEC_X86_H
#define CT_CPU_VEC_X86_H

#include <string.h>

#include "cpu/kernels.h"

/* Floats: + - * / are the compiler's own on vectors. */
INLINE vf vf_load(const void *p) { return V(loadu_ps)((const float *)p); }
INLINE void vf_store(void *p, vf v) { V(storeu_ps)((float *)p, v); }
INLINE vf vf_set(float x) { return V(set1_ps)(x); }
INLINE vf vf_fma(vf a, vf b, vf c) { return V(fmadd_ps)(a, b, c); }   /* a b + c */
INLINE vf vf_fnma(vf a, vf b, vf c) { return V(fnmadd_ps)(a, b, c); } /* c - a b */
INLINE vf vf_max(vf a, vf b) { return V(max_ps)(a, b); }
INLINE vf vf_from_int(vi a) { return V(cvtepi32_ps)(a); }
INLINE vi vi_round(vf a) { return V(cvtps_epi32)(a); } /* to nearest, ties to even */

INLINE vi vi_load(const void *p) { return VI(loadu)((const vi *)p); }
INLINE void vi_store(void *p, vi v) { VI(storeu)((vi *)p, v); }
INLINE vi vi_set8(int8_t x) { return V(set1_epi8)(x); }
INLINE vi vi_set32(int32_t x) { return V(set1_epi32)(x); }
INLINE vi vi_and(vi a, vi b) { return VI(and)(a, b); }
INLINE vi vi_or(vi a, vi b) { return VI(or)(a, b); }
INLINE vi vi_add32(vi a, vi b) { return V(add_epi32)(a, b); }
INLINE vi vi_xor(vi a, vi b) { return VI(xor)(a, b); }
INLINE vi vi_sub32(vi a, vi b) { return V(sub_epi32)(a, b); }
INLINE vi vi_shr16(vi a, int n) { return V(srl_epi16)(a, _mm_cvtsi32_si128(n)); } /* by a number known at run time */
INLINE vi vi_shl16(vi a, int n) { return V(sll_epi16)(a, _mm_cvtsi32_si128(n)); }
INLINE vi vi_shr32(vi a, int n) { return V(srl_epi32)(a, _mm_cvtsi32_si128(n)); }
#define vi_shr16i(a, n) V(srli_epi16)(a, n) /* by a constant */
#define vi_shr32i(a, n) V(srli_epi32)(a, n)
#define vi_shl32i(a, n) V(slli_epi32)(a, n)
#define vi_sar32i(a, n) V(srai_epi32)(a, n)

/* The two bf16 numbers of a 32-bit word as floats: the lower (first) and the upper. */
INLINE vf vf_bf16_first(vi a) { return vf_of_bits(vi_shl32i(a, 16)); }
INLINE vf vf_bf16_second(vi a) { return vf_of_bits(vi_and(a, vi_set32((int32_t)0xffff0000))); }

/* ---- the dot step: four quads of weights times four quads of activations ---- */

#define DOT_WIDE_IS_SIGNED false /* weights stay unsigned: sums start from -offset * sum */

/* A group of 32 activations of one row: quads of int8, or (wide) quads' even and odd members as pairs of 16 bits. */
struct xgroup {
    _Alignas(32) int32_t even[8], odd[8];
};

INLINE void xgroup_make(struct xgroup *x, const int8_t *hi, const int8_t *lo, bool wide, bool exact)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)hi);
    if (!wide && !exact) {
        _mm256_store_si256((__m256i *)(void *)x->even, h);
        return;
    }
    __m256i even = _mm256_slli_epi16(h, 8), odd = h;
    if (exact) {
        __m256i l = _mm256_loadu_si256((const __m256i *)(const void *)lo);
        odd = _mm256_and_si256(h, _mm256_set1_epi16((int16_t)0xff00));
        even = _mm256_add_epi16(even, _mm256_srai_epi16(_mm256_slli_epi16(l, 8), 8));
        odd = _mm256_add_epi16(odd, _mm256_srai_epi16(l, 8));
    } else {
        even = _mm256_srai_epi16(even, 8);
        odd = _mm256_srai_epi16(odd, 8);
    }
    _mm256_store_si256((__m256i *)(void *)x->even, even);
    _mm256_store_si256((__m256i *)(void *)x->odd, odd);
}

struct wquads {
    vi v[8];
};

INLINE void wquads_make(struct wquads *o, const vi w[4], bool wide, bool exact)
{
    UNROLL for (int i = 0; i < 4; i++)
    {
        if (wide || exact) {
            o->v[i] = vi_and(w[i], vi_set32(0x00ff00ff));
            o->v[i + 4] = vi_shr16i(w[i], 8);
        } else {
            o->v[i] = w[i];
        }
    }
}

INLINE vi dot_step(vi acc, const struct wquads *w, const struct xgroup *x, int step, bool wide, bool exact)
{
    const int32_t *even = x->even + step * 4, *odd = x->odd + step * 4;
    if (wide || exact) {
        UNROLL for (int i = 0; i < 4; i++)
        {
            acc = vi_add32(acc, V(madd_epi16)(w->v[i], vi_set32(even[i])));
            acc = vi_add32(acc, V(madd_epi16)(w->v[i + 4], vi_set32(odd[i])));
        }
        return acc;
    }
    UNROLL for (int i = 0; i < 4; i += 2)
    {
        vi a = V(maddubs_epi16)(w->v[i], vi_set32(even[i])), b = V(maddubs_epi16)(w->v[i + 1], vi_set32(even[i + 1]));
        acc = vi_add32(acc, V(madd_epi16)(V(add_epi16)(a, b), V(set1_epi16)(1)));
    }
    return acc;
}

/* The same instructions on registers alone, for rate.c: 4 quads of a narrow type. */
INLINE vi dot_rate(vi acc, const vi w[4], vi x)
{
    UNROLL for (int i = 0; i < 4; i += 2)
    {
        vi a = V(maddubs_epi16)(w[i], x), b = V(maddubs_epi16)(w[i + 1], x);
        acc = vi_add32(acc, V(madd_epi16)(V(add_epi16)(a, b), V(set1_epi16)(1)));
    }
    return acc;
}

#endif
