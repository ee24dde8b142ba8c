/* Packing of MLX's types into tiles and reading single rows back, see tile.h: the blocks are those of quant/mlx.c. One inlined
 * body with the bits known, a small function per type. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/tile.h"

const uint8_t ct_mxfp4_quants[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

#define INLINE static inline __attribute__((always_inline))

INLINE uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

INLINE void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

INLINE uint32_t scale_bytes(enum mlx_scales type) { return type == MLX_F32 ? 4 : 2; }

INLINE float scale_at(const uint8_t *p, enum mlx_scales type)
{
    uint16_t h;
    if (type == MLX_F32)
        return ct_f32_from_bits(u32_at(p));
    memcpy(&h, p, 2);
    return type == MLX_BF16 ? ct_bf16_to_f32(h) : ct_f16_to_f32(h);
}

INLINE size_t tile_bytes(struct mlx_form f, int32_t cols)
{
    int32_t groups = cols / 32, lines = (groups + (1 << f.shift) - 1) >> f.shift;
    return (size_t)lines * (size_t)f.line + (size_t)groups * (size_t)f.bits * 64;
}

/* The 32 quants of a group, from a little-endian stream: eight in `bits` bytes. */
INLINE void read_quants(int32_t bits, const uint8_t *src, uint8_t q[32])
{
    for (int32_t j = 0; j < 4; j++) {
        uint64_t v = 0;
        for (int32_t b = 0; b < bits; b++)
            v |= (uint64_t)src[j * bits + b] << 8 * b;
        for (int32_t i = 0; i < 8; i++)
            q[j * 8 + i] = (uint8_t)(v >> i * bits & ((1u << bits) - 1));
    }
}

/* Row r of the planes of a group, in zeroed memory. */
INLINE void put_nibbles(uint8_t *vectors, const uint8_t q[32], int32_t r)
{
    for (int32_t v = 0; v < 4; v++) {
        uint32_t low = u32_at(q + 4 * v), high = u32_at(q + 16 + 4 * v);
        put32(vectors + v * 64 + r * 4, (low & 0x0f0f0f0fu) | (high & 0x0f0f0f0fu) << 4);
    }
}

INLINE void put_two_bits(uint8_t *vectors, const uint8_t q[32], int32_t from, int32_t r)
{
    for (int32_t j = 0; j < 2; j++) {
        uint32_t word = 0;
        for (int32_t t = 0; t < 4; t++)
            word |= (u32_at(q + 4 * (2 * t + j)) >> from & 0x03030303u) << 2 * t;
        put32(vectors + j * 64 + r * 4, word);
    }
}

INLINE void put_one_bit(uint8_t *words, const uint8_t q[32], int32_t from, int32_t r)
{
    for (int32_t v = 0; v < 8; v++)
        for (int32_t i = 0; i < 4; i++)
            words[v * 8 + r / 2] |= (uint8_t)((q[4 * v + i] >> from & 1) << (4 * (r & 1) + i));
}

INLINE void put_quants(int32_t bits, uint8_t *p, const uint8_t *src, int32_t r)
{
    uint8_t q[32];
    read_quants(bits, src, q);
    if (bits == 8)
        for (int32_t v = 0; v < 8; v++)
            memcpy(p + v * 64 + r * 4, q + 4 * v, 4);
    else if (bits < 4)
        put_two_bits(bits == 3 ? p + 64 : p, q, 0, r);
    else
        put_nibbles(bits == 5 ? p + 64 : p, q, r);
    if (bits == 3 || bits == 5)
        put_one_bit(p, q, bits - 1, r);
    if (bits == 6)
        put_two_bits(p + 256, q, 4, r);
}

INLINE bool pack(struct mlx_form f, uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    const uint32_t wide = scale_bytes(f.scales);
    bool finite = true;
    for (int32_t r = 0; r < n; r++) {
        const uint8_t *b = src + (size_t)r * row_bytes;
        for (int32_t g = 0; g < cols / 32; g++) {
            if ((g & ((1 << f.shift) - 1)) == 0) {
                uint8_t *line = tile + mlx_scales_at(&f, g) + (uint32_t)r * wide;
                float most = scale_at(b, f.scales) * (float)(1 << f.bits) + scale_at(b + wide, f.scales);
                finite = finite && isfinite(most);
                memcpy(line, b, wide);
                memcpy(line + f.line / 2, b + wide, wide);
                b += 2 * wide;
            }
            put_quants(f.bits, tile + mlx_quants_at(&f, g), b, r);
            b += f.bits * 4;
        }
    }
    return finite;
}

INLINE void lane(struct mlx_form f, const uint8_t *tile, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    const uint8_t *line = tile + mlx_scales_at(&f, g) + (uint32_t)r * scale_bytes(f.scales);
    const uint8_t *p = tile + mlx_quants_at(&f, g), *low = f.bits == 3 || f.bits == 5 ? p + 64 : p;
    for (int32_t k = 0; k < 32; k++) {
        int32_t v = k / 4, i = r * 4 + k % 4;
        uint32_t n = f.bits == 8  ? p[v * 64 + i]
                     : f.bits < 4 ? (uint32_t)low[v % 2 * 64 + i] >> v / 2 * 2 & 3u
                                  : (uint32_t)low[v % 4 * 64 + i] >> v / 4 * 4 & 15u;
        if (f.bits == 3 || f.bits == 5)
            n |= (p[v * 8 + i / 8] >> i % 8 & 1u) << (f.bits - 1);
        if (f.bits == 6)
            n |= ((uint32_t)p[256 + v % 2 * 64 + i] >> v / 2 * 2 & 3u) << 4;
        q[k] = (uint8_t)n;
    }
    scale[0] = scale_at(line, f.scales);
    min[0] = -scale_at(line + f.line / 2, f.scales);
    if (f.bits == 8)
        min[0] = min[0] - 128.0f * scale[0];
}

#define SHIFT_OF(group) ((group) / 64) /* 32, 64, 128: 0, 1, 2 */
#define FORM(id, bits, group) \
    ((struct mlx_form){bits, SHIFT_OF(group), id % 10 == 2 ? 128 : 64, (enum mlx_scales)(id % 10)})

/* Affine types. The last digit of an id is the type of the scales, in the order of enum mlx_scales. */
#define CT_MLX(id, bits, group, suffix, scale_bytes)                                                               \
    static size_t bytes_##id(int32_t cols) { return tile_bytes(FORM(id, bits, group), cols); }                     \
    static bool pack_##id(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)            \
    {                                                                                                              \
        return pack(FORM(id, bits, group), tile, src, row_bytes, n, cols);                                         \
    }                                                                                                              \
    static void lane_##id(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *s, float *m) \
    {                                                                                                              \
        (void)cols;                                                                                                \
        lane(FORM(id, bits, group), tile, g, r, q, s, m);                                                          \
    }
#include "quant/mlx.def"
#undef CT_MLX

/* ---- mxfp4: {u8 e; u8 qs[16]}, elements in order, low nibbles first ---- */

#define MXFP4_FORM ((struct mlx_form){4, 2, 64, MLX_E8M0})

static size_t bytes_mxfp4(int32_t cols) { return tile_bytes(MXFP4_FORM, cols); }

/* Exponents of half a scale, as f32 has them: 2^(e-128) is e - 1. Below 2^-126 they become 0, which no model notices. */
static bool pack_mxfp4(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    const struct mlx_form f = MXFP4_FORM;
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 17;
            finite = finite && b[0] <= 252; /* 6 * 2^126 is no f32 */
            tile[mlx_scales_at(&f, g) + (size_t)((g & 3) * TILE + r)] = b[0] > 1 ? (uint8_t)(b[0] - 1) : 0;
            put_quants(4, tile + mlx_quants_at(&f, g), b + 1, r);
        }
    return finite;
}

static void lane_mxfp4(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    const struct mlx_form f = MXFP4_FORM;
    const uint8_t *p = tile + mlx_quants_at(&f, g);
    (void)cols;
    (void)min;
    for (int32_t k = 0; k < 32; k++)
        q[k] = ct_mxfp4_quants[p[k / 4 % 4 * 64 + r * 4 + k % 4] >> k / 16 * 4 & 15];
    scale[0] = ct_f32_from_bits((uint32_t)tile[mlx_scales_at(&f, g) + (size_t)((g & 3) * TILE + r)] << 23);
}

static const struct tile_type types[] = {
#define CT_MLX(id, bits, group, suffix, scale_bytes) \
    {id,         KERNEL_MLX + bits,                  \
     TILE_INT,   bits == 8 ? 128 : 0,                \
     1,          true,                               \
     bytes_##id, pack_##id,                          \
     lane_##id,  {bits, SHIFT_OF(group), id % 10 == 2 ? 128 : 64, (enum mlx_scales)(id % 10)}},
#include "quant/mlx.def"
#undef CT_MLX
    {CT_MXFP4, KERNEL_MXFP4, TILE_INT, 12, 1, false, bytes_mxfp4, pack_mxfp4, lane_mxfp4, {4, 2, 64, MLX_E8M0}},
};

const struct tile_type *ct_tile_mlx(ct_dtype type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].type == type)
            return &types[i];
    return NULL;
}
