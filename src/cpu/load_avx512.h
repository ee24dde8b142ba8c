/* Group loaders for AVX-512: the one place of this instruction set that knows the tile layouts of quantized types (tile.h).
 * A type is one function here and one line in dot_avx512.c. */
#ifndef CT_CPU_LOAD_AVX512_H
#define CT_CPU_LOAD_AVX512_H

#include "cpu/linear_avx512.h"

/* One group: eight quad vectors of unsigned quants, scale(s) and min(s) of the 16 rows. */
struct group {
    __m512i w[8];
    __m512 s[2], m[2];
};

/* Where a loader asks which of its super-block's groups g is, dot_avx512.c has unrolled its loop so that the answer is known. */
typedef void load_fn(const uint8_t *tile, int32_t cols, int32_t g, struct group *o);

INLINE void load_q8_0(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *q = tile + unit_quants(g, Q8_0_GROUP);
    UNROLL for (int v = 0; v < 8; v++) o->w[v] = load64(q + v * 64);
    o->s[0] = f16x16(tile + unit_scales(g, Q8_0_GROUP));
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
    (void)cols;
    nibbles(tile + unit_quants(g, Q4_0_GROUP), o->w);
    o->s[0] = f16x16(tile + unit_scales(g, Q4_0_GROUP));
}

/* Nibbles become values of the table, plus 128. */
INLINE void look_up(__m512i w[8])
{
    const __m128i values = _mm_loadu_si128((const __m128i *)(const void *)ct_iq4_values);
    const __m512i table = _mm512_xor_si512(_mm512_broadcast_i32x4(values), _mm512_set1_epi8(-128));
    UNROLL for (int v = 0; v < 8; v++) w[v] = _mm512_shuffle_epi8(table, w[v]);
}

INLINE void load_iq4_nl(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    load_q4_0(tile, cols, g, o);
    look_up(o->w);
}

/* Fifth bits as eight masks, then nibbles. */
INLINE void fives(const uint8_t *p, __m512i w[8])
{
    const __m512i fifth = _mm512_set1_epi8(16);
    nibbles(p + 64, w);
    UNROLL for (int v = 0; v < 8; v++)
    {
        uint64_t bits;
        memcpy(&bits, p + v * 8, 8);
        w[v] = _mm512_mask_add_epi8(w[v], _cvtu64_mask64(bits), w[v], fifth);
    }
}

INLINE void load_q5_0(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    fives(tile + unit_quants(g, Q5_0_GROUP), o->w);
    o->s[0] = f16x16(tile + unit_scales(g, Q5_0_GROUP));
}

INLINE __m512 minus_f16x16(const uint8_t *p) { return _mm512_sub_ps(_mm512_setzero_ps(), f16x16(p)); }

INLINE void load_q4_1(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *p = tile + (size_t)g * Q4_1_GROUP;
    nibbles(p + 64, o->w);
    o->s[0] = f16x16(p);
    o->m[0] = minus_f16x16(p + 32);
}

INLINE void load_q5_1(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *p = tile + (size_t)g * Q5_1_GROUP;
    fives(p + 64, o->w);
    o->s[0] = f16x16(p);
    o->m[0] = minus_f16x16(p + 32);
}

/* d (S - 32), S = the low nibble of lo above it the low two bits of hi. */
INLINE __m512 six_bits(__m512 d, __m512i lo, __m512i hi)
{
    __m512i s = _mm512_or_si512(_mm512_and_si512(lo, _mm512_set1_epi32(15)),
                                _mm512_slli_epi32(_mm512_and_si512(hi, _mm512_set1_epi32(3)), 4));
    return _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_sub_epi32(s, _mm512_set1_epi32(32))));
}

/* Bits 2t, 2t+1 of the bytes of eight vectors, g = 4 halves + t. */
INLINE void crumbs(const uint8_t *p, int32_t g, __m512i w[8])
{
    const __m512i two = _mm512_set1_epi8(3);
    const __m128i shift = _mm_cvtsi32_si128(2 * (g & 3));
    p += (g >> 2) * 512;
    UNROLL for (int v = 0; v < 8; v++) w[v] = _mm512_and_si512(_mm512_srl_epi16(load64(p + v * 64), shift), two);
}

/* Adds `value` where bit g of a byte is set. */
INLINE void add_bits(const uint8_t *p, int32_t g, int value, __m512i w[8])
{
    const __m512i bit = _mm512_set1_epi8((char)(1 << g)), high = _mm512_set1_epi8((char)value);
    UNROLL for (int v = 0; v < 8; v++)
        w[v] = _mm512_mask_add_epi8(w[v], _mm512_test_epi8_mask(load64(p + v * 64), bit), w[v], high);
}

INLINE void load_q2_k(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q2_K_SUPER;
    crumbs(super + 320, g & 7, o->w);
    __m512 d = f16x16(super), dmin = f16x16(super + 32);
    UNROLL for (int h = 0; h < 2; h++)
    {
        __m512i sc = u8x16(super + 64 + ((g & 7) * 2 + h) * 16);
        o->s[h] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_and_si512(sc, _mm512_set1_epi32(15))));
        o->m[h] = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(_mm512_srli_epi32(sc, 4)));
    }
}

INLINE void load_q3_k(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *super = tile + unit_quants(g >> 3, Q3_K_SUPER);
    crumbs(super + 704, g & 7, o->w);
    add_bits(super + 192, g & 7, 4, o->w);
    __m512 d = f16x16(tile + unit_scales(g >> 3, Q3_K_SUPER));
    UNROLL for (int h = 0; h < 2; h++)
    {
        int32_t s = (g & 7) * 2 + h;
        __m512i lo = _mm512_srl_epi32(u8x16(super + (s & 7) * 16), _mm_cvtsi32_si128(4 * (s >> 3)));
        __m512i hi = _mm512_srl_epi32(u8x16(super + (8 + (s & 3)) * 16), _mm_cvtsi32_si128(2 * (s >> 2)));
        o->s[h] = six_bits(d, lo, hi);
    }
}

/* Scale and min of group j of a super-block, q4_k and q5_k. The bits are put together while they are bytes. */
INLINE void scale_min(const uint8_t *super, int32_t j, struct group *o)
{
    const __m128i nib = _mm_set1_epi8(15), top = _mm_set1_epi8(48);
    __m128i lo = bytes16(super + 64 + j * 16), hi = bytes16(super + 192 + (j >> 1) * 16);
    __m128i s = j & 1 ? hi : _mm_slli_epi16(hi, 4), m = j & 1 ? _mm_srli_epi16(hi, 2) : _mm_slli_epi16(hi, 2);
    s = _mm_or_si128(_mm_and_si128(lo, nib), _mm_and_si128(s, top));
    m = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(lo, 4), nib), _mm_and_si128(m, top));
    o->s[0] = _mm512_mul_ps(f16x16(super), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(s)));
    o->m[0] = _mm512_mul_ps(f16x16(super + 32), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(m)));
}

/* Low or high nibbles of eight vectors. */
INLINE void one_of_pair(const uint8_t *p, int32_t j, __m512i w[8])
{
    const __m512i low = _mm512_set1_epi8(15);
    p += (j >> 1) * 512;
    UNROLL for (int v = 0; v < 8; v++)
    {
        __m512i x = load64(p + v * 64);
        w[v] = _mm512_and_si512(j & 1 ? _mm512_srli_epi16(x, 4) : x, low);
    }
}

INLINE void load_q4_k(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q4_K_SUPER;
    one_of_pair(super + 256, g & 7, o->w);
    scale_min(super, g & 7, o);
}

INLINE void load_q5_k(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q5_K_SUPER;
    one_of_pair(super + 768, g & 7, o->w);
    add_bits(super + 256, g & 7, 16, o->w);
    scale_min(super, g & 7, o);
}

INLINE void load_q6_k(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *super = tile + unit_quants(g >> 3, Q6_K_SUPER);
    int32_t t = g & 3;
    const uint8_t *low = super + 256 + ((g & 7) >> 2) * Q6_K_HALF, *high = low + 1024;
    const __m512i nib = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48);
    low += (t & 1) * 512;
    UNROLL for (int v = 0; v < 8; v++)
    {
        __m512i lo = load64(low + v * 64), hi = load64(high + v * 64);
        lo = _mm512_and_si512(t >> 1 ? _mm512_srli_epi16(lo, 4) : lo, nib);
        /* Bits 2t, 2t+1 of each high byte go to bits 4, 5. */
        hi = t == 0   ? _mm512_slli_epi16(hi, 4)
             : t == 1 ? _mm512_slli_epi16(hi, 2)
             : t == 2 ? hi
                      : _mm512_srli_epi16(hi, 2);
        o->w[v] = _mm512_or_si512(lo, _mm512_and_si512(hi, top));
    }
    __m512 d = f16x16(tile + unit_scales(g >> 3, Q6_K_SUPER));
    UNROLL for (int h = 0; h < 2; h++)
    {
        __m128i sc = bytes16(super + ((g & 7) * 2 + h) * 16);
        o->s[h] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sc)));
    }
}

INLINE void load_iq4_xs(const uint8_t *tile, int32_t cols, int32_t g, struct group *o)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g >> 3) * IQ4_XS_SUPER;
    int32_t j = g & 7;
    nibbles(super + 128 + j * 256, o->w);
    look_up(o->w);
    __m512i lo = _mm512_srl_epi32(u8x16(super + 64 + (j >> 1) * 16), _mm_cvtsi32_si128(4 * (j & 1)));
    __m512i hi = _mm512_srl_epi32(u16x16(super + 32), _mm_cvtsi32_si128(2 * j));
    o->s[0] = six_bits(f16x16(super), lo, hi);
}

#endif
