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
typedef void load_fn(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o);

INLINE void load_q8_0(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
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

INLINE void load_q4_0(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
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

INLINE void load_iq4_nl(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    load_q4_0(tile, tt, g, o);
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

INLINE void load_q5_0(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
    fives(tile + unit_quants(g, Q5_0_GROUP), o->w);
    o->s[0] = f16x16(tile + unit_scales(g, Q5_0_GROUP));
}

INLINE __m512 minus_f16x16(const uint8_t *p) { return _mm512_sub_ps(_mm512_setzero_ps(), f16x16(p)); }

INLINE void load_q4_1(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
    const uint8_t *p = tile + (size_t)g * Q4_1_GROUP;
    nibbles(p + 64, o->w);
    o->s[0] = f16x16(p);
    o->m[0] = minus_f16x16(p + 32);
}

INLINE void load_q5_1(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
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

INLINE void load_q2_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
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

INLINE void load_q3_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
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

INLINE void load_q4_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q4_K_SUPER;
    one_of_pair(super + 256, g & 7, o->w);
    scale_min(super, g & 7, o);
}

INLINE void load_q5_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q5_K_SUPER;
    one_of_pair(super + 768, g & 7, o->w);
    add_bits(super + 256, g & 7, 16, o->w);
    scale_min(super, g & 7, o);
}

INLINE void load_q6_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
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

INLINE void load_iq4_xs(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + (size_t)(g >> 3) * IQ4_XS_SUPER;
    int32_t j = g & 7;
    nibbles(super + 128 + j * 256, o->w);
    look_up(o->w);
    __m512i lo = _mm512_srl_epi32(u8x16(super + 64 + (j >> 1) * 16), _mm_cvtsi32_si128(4 * (j & 1)));
    __m512i hi = _mm512_srl_epi32(u16x16(super + 32), _mm_cvtsi32_si128(2 * j));
    o->s[0] = six_bits(f16x16(super), lo, hi);
}

/* ---- MLX's types: any bits, groups and scales ---- */

INLINE __m512 scales_mlx(const struct tile_type *tt, const uint8_t *p)
{
    return tt->mlx.scales == MLX_BF16  ? _mm512_castsi512_ps(_mm512_slli_epi32(u16x16(p), 16))
           : tt->mlx.scales == MLX_F16 ? f16x16(p)
                                       : _mm512_loadu_ps(p);
}

/* Two bits of each quad from two vectors, at bits `to` and to + 1. */
INLINE void two_bits(const uint8_t *p, int to, __m512i w[8])
{
    const __m512i mask = _mm512_set1_epi8((char)(3 << to));
    UNROLL for (int j = 0; j < 2; j++)
    {
        __m512i x = load64(p + j * 64);
        UNROLL for (int t = 0; t < 4; t++)
        {
            __m512i y = 2 * t > to ? _mm512_srl_epi16(x, _mm_cvtsi32_si128(2 * t - to))
                                   : _mm512_sll_epi16(x, _mm_cvtsi32_si128(to - 2 * t));
            w[2 * t + j] = _mm512_and_si512(y, mask);
        }
    }
}

INLINE void one_bit(const uint8_t *p, int to, __m512i w[8])
{
    const __m512i bit = _mm512_set1_epi8((char)(1 << to));
    UNROLL for (int v = 0; v < 8; v++)
    {
        uint64_t bits;
        memcpy(&bits, p + v * 8, 8);
        w[v] = _mm512_mask_add_epi8(w[v], _cvtu64_mask64(bits), w[v], bit);
    }
}

INLINE void quants_mlx(int bits, const uint8_t *p, __m512i w[8])
{
    if (bits == 2 || bits == 3)
        two_bits(bits == 3 ? p + 64 : p, 0, w);
    else if (bits == 8)
        UNROLL for (int v = 0; v < 8; v++) w[v] = load64(p + v * 64);
    else
        nibbles(bits == 5 ? p + 64 : p, w);
    if (bits == 3 || bits == 5)
        one_bit(p, bits - 1, w);
    if (bits == 6) {
        __m512i high[8];
        two_bits(p + 256, 4, high);
        UNROLL for (int v = 0; v < 8; v++) w[v] = _mm512_or_si512(w[v], high[v]);
    }
}

/* value = scale q + bias; of 8 bits scale (q - 128) - min, min = -bias - 128 scale, the product of which is exact. */
#define LOAD_MLX(bits)                                                                                      \
    INLINE void load_mlx##bits(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o) \
    {                                                                                                       \
        const uint8_t *p = tile + mlx_scales_at(&tt->mlx, g);                                               \
        quants_mlx(bits, tile + mlx_quants_at(&tt->mlx, g), o->w);                                          \
        o->s[0] = scales_mlx(tt, p);                                                                        \
        o->m[0] = _mm512_sub_ps(_mm512_setzero_ps(), scales_mlx(tt, p + tt->mlx.line / 2));                 \
        if (bits == 8)                                                                                      \
            o->m[0] = _mm512_fnmadd_ps(_mm512_set1_ps(128), o->s[0], o->m[0]);                              \
    }
LOAD_MLX(2)
LOAD_MLX(3)
LOAD_MLX(4)
LOAD_MLX(5)
LOAD_MLX(6)
LOAD_MLX(8)

INLINE void load_mxfp4(const uint8_t *tile, const struct tile_type *tt, int32_t g, struct group *o)
{
    const __m512i table = _mm512_broadcast_i32x4(bytes16(ct_mxfp4_quants));
    nibbles(tile + mlx_quants_at(&tt->mlx, g), o->w);
    UNROLL for (int v = 0; v < 8; v++) o->w[v] = _mm512_shuffle_epi8(table, o->w[v]);
    __m512i exponent = u8x16(tile + mlx_scales_at(&tt->mlx, g) + (g & 3) * TILE);
    o->s[0] = _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

#endif
