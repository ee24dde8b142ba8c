/* A group of a packed tile into registers, for any vectors: one loader per type. Layouts: tile.h; vectors: vec_<isa>.h, which
 * is included first. A loader takes one part of a tile: the rows of one vector. */
#ifndef CT_CPU_LOAD_VEC_H
#define CT_CPU_LOAD_VEC_H

#define PART_BYTES (64 / PARTS) /* of a quad vector */

/* A part of a group: eight quads of unsigned quants, scale(s) and min(s) of each row. */
struct group {
    vi w[8];
    vf s[2], m[2];
};

typedef void load_fn(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o);

INLINE vi quad(const uint8_t *vectors, int v, int part) { return vi_load(vectors + v * 64 + part * PART_BYTES); }
INLINE vf scales_f16(const uint8_t *scales, int part) { return vf_f16(scales + part * LANES * 2); }

INLINE void load_q8_0(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *q = tile + unit_quants(g, Q8_0_GROUP);
    UNROLL for (int v = 0; v < 8; v++) o->w[v] = quad(q, v, part);
    o->s[0] = scales_f16(tile + unit_scales(g, Q8_0_GROUP), part);
}

INLINE void nibbles(const uint8_t *p, int part, vi w[8])
{
    UNROLL for (int v = 0; v < 4; v++)
    {
        vi b = quad(p, v, part);
        w[v] = vi_and(b, vi_set8(15));
        w[v + 4] = vi_and(vi_shr16i(b, 4), vi_set8(15));
    }
}

INLINE void load_q4_0(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    nibbles(tile + unit_quants(g, Q4_0_GROUP), part, o->w);
    o->s[0] = scales_f16(tile + unit_scales(g, Q4_0_GROUP), part);
}

/* Nibbles become values of the table, plus 128. */
INLINE void look_up(vi w[8])
{
    UNROLL for (int v = 0; v < 8; v++) w[v] = vi_xor(vi_look_up(ct_iq4_values, w[v]), vi_set8(-128));
}

INLINE void load_iq4_nl(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    load_q4_0(tile, tt, g, part, o);
    look_up(o->w);
}

/* Fifth bits as eight words, then nibbles. */
INLINE void fives(const uint8_t *p, int part, vi w[8])
{
    nibbles(p + 64, part, w);
    UNROLL for (int v = 0; v < 8; v++) w[v] = vi_or(w[v], vi_and(vi_bits(p + v * 8, part), vi_set8(16)));
}

INLINE void load_q5_0(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    fives(tile + unit_quants(g, Q5_0_GROUP), part, o->w);
    o->s[0] = scales_f16(tile + unit_scales(g, Q5_0_GROUP), part);
}

INLINE void load_q4_1(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *p = tile + (size_t)g * Q4_1_GROUP;
    nibbles(p + 64, part, o->w);
    o->s[0] = scales_f16(p, part);
    o->m[0] = vf_set(0) - scales_f16(p + 32, part);
}

INLINE void load_q5_1(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *p = tile + (size_t)g * Q5_1_GROUP;
    fives(p + 64, part, o->w);
    o->s[0] = scales_f16(p, part);
    o->m[0] = vf_set(0) - scales_f16(p + 32, part);
}

/* d (S - 32), S = the low nibble of lo, above it the low two bits of hi. */
INLINE vf six_bits(vf d, vi lo, vi hi)
{
    vi s = vi_or(vi_and(lo, vi_set32(15)), vi_shl32i(vi_and(hi, vi_set32(3)), 4));
    return d * vf_from_int(vi_sub32(s, vi_set32(32)));
}

/* Bits 2t, 2t+1 of the bytes of eight vectors, g = 4 halves + t. */
INLINE void crumbs(const uint8_t *p, int32_t g, int part, vi w[8])
{
    p += (g >> 2) * 512;
    UNROLL for (int v = 0; v < 8; v++) w[v] = vi_and(vi_shr16(quad(p, v, part), 2 * (g & 3)), vi_set8(3));
}

/* Adds `value` where bit g of a byte is set. */
INLINE void add_bits(const uint8_t *p, int32_t g, int part, int8_t value, vi w[8])
{
    const vi bit = vi_set8((int8_t)(1 << g));
    UNROLL for (int v = 0; v < 8; v++) w[v] = vi_or(w[v], vi_and(vi_test8(quad(p, v, part), bit), vi_set8(value)));
}

INLINE void load_q2_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q2_K_SUPER;
    crumbs(super + 320, g & 7, part, o->w);
    vf d = scales_f16(super, part), dmin = scales_f16(super + 32, part);
    UNROLL for (int h = 0; h < 2; h++)
    {
        vi sc = vi_u8(super + 64 + ((g & 7) * 2 + h) * 16 + part * LANES);
        o->s[h] = d * vf_from_int(vi_and(sc, vi_set32(15)));
        o->m[h] = dmin * vf_from_int(vi_shr32i(sc, 4));
    }
}

INLINE void load_q3_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + unit_quants(g >> 3, Q3_K_SUPER);
    crumbs(super + 704, g & 7, part, o->w);
    add_bits(super + 192, g & 7, part, 4, o->w);
    vf d = scales_f16(tile + unit_scales(g >> 3, Q3_K_SUPER), part);
    UNROLL for (int h = 0; h < 2; h++)
    {
        int32_t s = (g & 7) * 2 + h;
        vi lo = vi_shr32(vi_u8(super + (s & 7) * 16 + part * LANES), 4 * (s >> 3));
        vi hi = vi_shr32(vi_u8(super + (8 + (s & 3)) * 16 + part * LANES), 2 * (s >> 2));
        o->s[h] = six_bits(d, lo, hi);
    }
}

/* Scale and min of group j of a super-block, q4_k and q5_k. */
INLINE void scale_min(const uint8_t *super, int32_t j, int part, struct group *o)
{
    const vi nib = vi_set32(15), two = vi_set32(3);
    vi lo = vi_u8(super + 64 + j * 16 + part * LANES);
    vi hi = vi_shr32(vi_u8(super + 192 + (j >> 1) * 16 + part * LANES), 4 * (j & 1));
    vi s = vi_or(vi_and(lo, nib), vi_shl32i(vi_and(hi, two), 4));
    vi m = vi_or(vi_shr32i(lo, 4), vi_shl32i(vi_and(vi_shr32i(hi, 2), two), 4));
    o->s[0] = scales_f16(super, part) * vf_from_int(s);
    o->m[0] = scales_f16(super + 32, part) * vf_from_int(m);
}

/* Low or high nibbles of eight vectors. */
INLINE void one_of_pair(const uint8_t *p, int32_t j, int part, vi w[8])
{
    p += (j >> 1) * 512;
    UNROLL for (int v = 0; v < 8; v++) w[v] = vi_and(vi_shr16(quad(p, v, part), 4 * (j & 1)), vi_set8(15));
}

INLINE void load_q4_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q4_K_SUPER;
    one_of_pair(super + 256, g & 7, part, o->w);
    scale_min(super, g & 7, part, o);
}

INLINE void load_q5_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + (size_t)(g >> 3) * Q5_K_SUPER;
    one_of_pair(super + 768, g & 7, part, o->w);
    add_bits(super + 256, g & 7, part, 16, o->w);
    scale_min(super, g & 7, part, o);
}

INLINE void load_q6_k(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + unit_quants(g >> 3, Q6_K_SUPER);
    int32_t t = g & 3, shift = 4 * (t >> 1);
    const uint8_t *low = super + 256 + ((g & 7) >> 2) * Q6_K_HALF, *high = low + 1024;
    low += (t & 1) * 512;
    /* Bits 2t, 2t+1 of each high byte go to bits 4, 5: left for t = 0, 1, right for t = 3. */
    int left = t < 2 ? 4 - 2 * t : 0, right = t > 2 ? 2 : 0;
    UNROLL for (int v = 0; v < 8; v++)
    {
        vi lo = vi_and(vi_shr16(quad(low, v, part), shift), vi_set8(15));
        vi hi = vi_shr16(vi_shl16(quad(high, v, part), left), right);
        o->w[v] = vi_or(lo, vi_and(hi, vi_set8(48)));
    }
    vf d = scales_f16(tile + unit_scales(g >> 3, Q6_K_SUPER), part);
    UNROLL for (int h = 0; h < 2; h++) o->s[h] = d * vf_from_int(vi_s8(super + ((g & 7) * 2 + h) * 16 + part * LANES));
}

INLINE void load_iq4_xs(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    (void)tt;
    const uint8_t *super = tile + (size_t)(g >> 3) * IQ4_XS_SUPER;
    int32_t j = g & 7;
    nibbles(super + 128 + j * 256, part, o->w);
    look_up(o->w);
    vi lo = vi_shr32(vi_u8(super + 64 + (j >> 1) * 16 + part * LANES), 4 * (j & 1));
    vi hi = vi_shr32(vi_u16(super + 32 + part * LANES * 2), 2 * j);
    o->s[0] = six_bits(scales_f16(super, part), lo, hi);
}

/* ---- MLX's types: any bits, groups and scales ---- */

INLINE vf scales_mlx(const struct tile_type *tt, const uint8_t *p, int part)
{
    return tt->mlx.scales == MLX_BF16  ? vf_bf16_first(vi_u16(p + part * LANES * 2))
           : tt->mlx.scales == MLX_F16 ? scales_f16(p, part)
                                       : vf_load(p + part * LANES * 4);
}

/* Two bits of each quad from two vectors, at bits `to` and to + 1. */
INLINE void two_bits(const uint8_t *p, int part, int to, vi w[8])
{
    UNROLL for (int j = 0; j < 2; j++)
    {
        vi x = quad(p, j, part);
        UNROLL for (int t = 0; t < 4; t++)
        {
            vi y = 2 * t > to ? vi_shr16(x, 2 * t - to) : vi_shl16(x, to - 2 * t);
            w[2 * t + j] = vi_and(y, vi_set8((int8_t)(3 << to)));
        }
    }
}

INLINE void one_bit(const uint8_t *p, int part, int to, vi w[8])
{
    UNROLL for (int v = 0; v < 8; v++) w[v] = vi_or(w[v], vi_and(vi_bits(p + v * 8, part), vi_set8((int8_t)(1 << to))));
}

INLINE void quants_mlx(int bits, const uint8_t *p, int part, vi w[8])
{
    if (bits == 2 || bits == 3)
        two_bits(bits == 3 ? p + 64 : p, part, 0, w);
    else if (bits == 8)
        UNROLL for (int v = 0; v < 8; v++) w[v] = quad(p, v, part);
    else
        nibbles(bits == 5 ? p + 64 : p, part, w);
    if (bits == 3 || bits == 5)
        one_bit(p, part, bits - 1, w);
    if (bits == 6) {
        vi high[8];
        two_bits(p + 256, part, 4, high);
        UNROLL for (int v = 0; v < 8; v++) w[v] = vi_or(w[v], high[v]);
    }
}

/* value = scale q + bias; of 8 bits scale (q - 128) - min, min = -bias - 128 scale, the product of which is exact. */
#define LOAD_MLX(bits)                                                                                                \
    INLINE void load_mlx##bits(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o) \
    {                                                                                                                 \
        const uint8_t *p = tile + mlx_scales_at(&tt->mlx, g);                                                         \
        quants_mlx(bits, tile + mlx_quants_at(&tt->mlx, g), part, o->w);                                              \
        o->s[0] = scales_mlx(tt, p, part);                                                                            \
        o->m[0] = vf_set(0) - scales_mlx(tt, p + tt->mlx.line / 2, part);                                             \
        if (bits == 8)                                                                                                \
            o->m[0] = vf_fnma(vf_set(128), o->s[0], o->m[0]);                                                         \
    }
LOAD_MLX(2)
LOAD_MLX(3)
LOAD_MLX(4)
LOAD_MLX(5)
LOAD_MLX(6)
LOAD_MLX(8)

INLINE void load_mxfp4(const uint8_t *tile, const struct tile_type *tt, int32_t g, int part, struct group *o)
{
    nibbles(tile + mlx_quants_at(&tt->mlx, g), part, o->w);
    UNROLL for (int v = 0; v < 8; v++) o->w[v] = vi_look_up(ct_mxfp4_quants, o->w[v]);
    const uint8_t *p = tile + mlx_scales_at(&tt->mlx, g) + (g & 3) * TILE;
    o->s[0] = vf_of_bits(vi_shl32i(vi_u8(p + part * LANES), 23));
}

/* Every integer type: X(kernel, name, bytes of a group with its scales, lines that they lie in, halves, has a min, wide). Wide ones
 * have an offset of 128 and use all eight bits; the rest stay below 64. */
#define INT_TYPES(X)                                                      \
    X(CT_Q8_0, q8_0, 544, 9, 1, false, true)                              \
    X(CT_Q4_0, q4_0, 288, 5, 1, false, false)                             \
    X(CT_Q4_1, q4_1, 320, 5, 1, true, false)                              \
    X(CT_Q5_0, q5_0, 352, 6, 1, false, false)                             \
    X(CT_Q5_1, q5_1, 384, 6, 1, true, false)                              \
    X(CT_Q2_K, q2_k, 168, 3, 2, true, false)                              \
    X(CT_Q3_K, q3_k, 220, 4, 2, false, false)                             \
    X(CT_Q4_K, q4_k, 288, 5, 1, true, false)                              \
    X(CT_Q5_K, q5_k, 352, 6, 1, true, false)                              \
    X(CT_Q6_K, q6_k, 420, 7, 2, false, false)                             \
    X(CT_IQ4_NL, iq4_nl, 288, 5, 1, false, true)                          \
    X(CT_IQ4_XS, iq4_xs, 272, 5, 1, false, true)                          \
    X(KERNEL_MLX + 2, mlx2, mlx_group_bytes(&tt->mlx), 3, 1, true, false) \
    X(KERNEL_MLX + 3, mlx3, mlx_group_bytes(&tt->mlx), 4, 1, true, false) \
    X(KERNEL_MLX + 4, mlx4, mlx_group_bytes(&tt->mlx), 5, 1, true, false) \
    X(KERNEL_MLX + 5, mlx5, mlx_group_bytes(&tt->mlx), 6, 1, true, false) \
    X(KERNEL_MLX + 6, mlx6, mlx_group_bytes(&tt->mlx), 7, 1, true, false) \
    X(KERNEL_MLX + 8, mlx8, mlx_group_bytes(&tt->mlx), 9, 1, true, true)  \
    X(KERNEL_MXFP4, mxfp4, mlx_group_bytes(&tt->mlx), 5, 1, false, false)

/* Asks for the bytes that a stream of groups (bytes each) will want AHEAD later, into the second-level cache: the hardware's
 * prefetcher loses the thread at the many loads of activations between two groups. */
#define AHEAD 8192
INLINE void prefetch(const uint8_t *tile, int32_t g, size_t bytes, int lines)
{
    const uint8_t *p = tile + (size_t)g * bytes + AHEAD;
    UNROLL for (int v = 0; v < lines; v++) __builtin_prefetch(p + v * 64, 0, 2);
}

/* What a sum of products starts from: -offset * sum of the activations, where weights stay unsigned. */
INLINE vi start_of(const struct init *init, size_t at, int halves, int h, bool wide)
{
    return wide && DOT_WIDE_IS_SIGNED ? vi_set32(0) : vi_set32(init->v[at * (size_t)halves + (size_t)h]);
}

#endif
