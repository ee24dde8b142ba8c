/* Packing into tiles and reading single rows back: the specification of tile.h in portable C. Together with quant/ the only
 * place that knows GGUF's block layouts. */
#include <string.h>

#include "base/half.h"
#include "cpu/tile.h"

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

static bool f16_finite(uint16_t h) { return (h & 0x7c00u) != 0x7c00u; }
static bool bf16_finite(uint16_t h) { return (h & 0x7f80u) != 0x7f80u; }

/* Words w of a row's run of 4-byte words become word r of vectors 0..words-1: the transposition behind every quant type. */
static void spread(uint8_t *vectors, const uint8_t *src, int32_t words, int32_t r, uint32_t flip)
{
    for (int32_t w = 0; w < words; w++)
        put32(vectors + w * 64 + r * 4, u32_at(src + w * 4) ^ flip);
}

/* ---- q8_0: {f16 d; i8 q[32]} ---- */

static size_t bytes_q8_0(int32_t cols) { return tile_scales(cols) + (size_t)cols / 32 * Q8_0_GROUP; }

static bool pack_q8_0(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    uint8_t *quants = tile + tile_scales(cols);
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 34;
            finite = finite && f16_finite(u16_at(b));
            put16(tile + g * 32 + r * 2, u16_at(b));
            spread(quants + (size_t)g * Q8_0_GROUP, b + 2, 8, r, 0x80808080u);
        }
    return finite;
}

static void lane_q8_0(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)min;
    const uint8_t *quants = tile + tile_scales(cols) + (size_t)g * Q8_0_GROUP;
    for (int32_t v = 0; v < 8; v++)
        memcpy(q + v * 4, quants + v * 64 + r * 4, 4);
    scale[0] = ct_f16_to_f32(u16_at(tile + g * 32 + r * 2));
}

/* ---- q4_0: {f16 d; u8 qs[16]}, element j in the low, j+16 in the high nibble of qs[j] ---- */

static size_t bytes_q4_0(int32_t cols) { return tile_scales(cols) + (size_t)cols / 32 * Q4_0_GROUP; }

static bool pack_q4_0(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    uint8_t *quants = tile + tile_scales(cols);
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 18;
            finite = finite && f16_finite(u16_at(b));
            put16(tile + g * 32 + r * 2, u16_at(b));
            spread(quants + (size_t)g * Q4_0_GROUP, b + 2, 4, r, 0);
        }
    return finite;
}

static void lane_nibbles(const uint8_t *vectors, int32_t r, uint8_t *q)
{
    for (int32_t j = 0; j < 16; j++) {
        uint8_t b = vectors[j / 4 * 64 + r * 4 + j % 4];
        q[j] = b & 15;
        q[j + 16] = b >> 4;
    }
}

static void lane_q4_0(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)min;
    lane_nibbles(tile + tile_scales(cols) + (size_t)g * Q4_0_GROUP, r, q);
    scale[0] = ct_f16_to_f32(u16_at(tile + g * 32 + r * 2));
}

/* ---- q5_0: {f16 d; u32 qh; u8 qs[16]}, bit j of qh is the fifth bit of element j ---- */

static size_t bytes_q5_0(int32_t cols) { return tile_scales(cols) + (size_t)cols / 32 * Q5_0_GROUP; }

static bool pack_q5_0(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    uint8_t *quants = tile + tile_scales(cols);
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 22;
            uint8_t *group = quants + (size_t)g * Q5_0_GROUP;
            finite = finite && f16_finite(u16_at(b));
            put16(tile + g * 32 + r * 2, u16_at(b));
            uint32_t high = u32_at(b + 2);
            for (int32_t v = 0; v < 8; v++) /* four bits of row r: half a byte of word v */
                group[v * 8 + r / 2] |= (uint8_t)((high >> (4 * v) & 15u) << (4 * (r & 1)));
            spread(group + 64, b + 6, 4, r, 0);
        }
    return finite;
}

static void lane_q5_0(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)min;
    const uint8_t *group = tile + tile_scales(cols) + (size_t)g * Q5_0_GROUP;
    lane_nibbles(group + 64, r, q);
    for (int32_t k = 0; k < 32; k++)
        q[k] |= (uint8_t)((group[k / 4 * 8 + r / 2] >> (4 * (r & 1) + k % 4) & 1) << 4);
    scale[0] = ct_f16_to_f32(u16_at(tile + g * 32 + r * 2));
}

/* ---- q4_k: {f16 d, dmin; u8 sc[12]; u8 qs[128]}; eight groups, six-bit scale S and min M each ---- */

static size_t bytes_q4_k(int32_t cols) { return (size_t)cols / 256 * Q4_K_SUPER; }

static bool pack_q4_k(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t b = 0; b < cols / 256; b++) {
            const uint8_t *block = src + (size_t)r * row_bytes + (size_t)b * 144, *sc = block + 4;
            uint8_t *super = tile + (size_t)b * Q4_K_SUPER;
            finite = finite && f16_finite(u16_at(block)) && f16_finite(u16_at(block + 2));
            put16(super + r * 2, u16_at(block));
            put16(super + 32 + r * 2, u16_at(block + 2));
            for (int32_t j = 0; j < 8; j++) {
                uint32_t s, m;
                if (j < 4) {
                    s = sc[j] & 63u;
                    m = sc[j + 4] & 63u;
                } else {
                    s = (sc[j + 4] & 15u) | (uint32_t)(sc[j - 4] >> 6) << 4;
                    m = (uint32_t)(sc[j + 4] >> 4) | (uint32_t)(sc[j] >> 6) << 4;
                }
                super[64 + j * 16 + r] = (uint8_t)((s & 15u) | (m & 15u) << 4);
                super[192 + j / 2 * 16 + r] |= (uint8_t)((s >> 4 | m >> 4 << 2) << (4 * (j & 1)));
            }
            spread(super + 256, block + 16, 32, r, 0);
        }
    return finite;
}

static void lane_q4_k(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g / 8) * Q4_K_SUPER;
    int32_t j = g % 8;
    uint32_t low = super[64 + j * 16 + r], high = (uint32_t)super[192 + j / 2 * 16 + r] >> (4 * (j & 1));
    scale[0] = ct_f16_to_f32(u16_at(super + r * 2)) * (float)((low & 15u) | (high & 3u) << 4);
    min[0] = ct_f16_to_f32(u16_at(super + 32 + r * 2)) * (float)(low >> 4 | (high >> 2 & 3u) << 4);
    const uint8_t *chunk = super + 256 + j / 2 * 512;
    for (int32_t k = 0; k < 32; k++)
        q[k] = chunk[k / 4 * 64 + r * 4 + k % 4] >> (4 * (j & 1)) & 15;
}

/* ---- q6_k: {u8 ql[128]; u8 qh[64]; i8 sc[16]; f16 d} ---- */

static size_t bytes_q6_k(int32_t cols) { return tile_super_scales(cols) + (size_t)cols / 256 * Q6_K_SUPER; }

static bool pack_q6_k(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    uint8_t *supers = tile + tile_super_scales(cols);
    for (int32_t r = 0; r < n; r++)
        for (int32_t b = 0; b < cols / 256; b++) {
            const uint8_t *block = src + (size_t)r * row_bytes + (size_t)b * 210;
            uint8_t *super = supers + (size_t)b * Q6_K_SUPER;
            finite = finite && f16_finite(u16_at(block + 208));
            put16(tile + b * 32 + r * 2, u16_at(block + 208));
            for (int32_t s = 0; s < 16; s++)
                super[s * 16 + r] = block[192 + s];
            for (int32_t half = 0; half < 2; half++) {
                spread(super + 256 + half * Q6_K_HALF, block + half * 64, 16, r, 0);
                spread(super + 256 + half * Q6_K_HALF + 1024, block + 128 + half * 32, 8, r, 0);
            }
        }
    return finite;
}

static void lane_q6_k(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)min;
    const uint8_t *super = tile + tile_super_scales(cols) + (size_t)(g / 8) * Q6_K_SUPER;
    int32_t t = g % 4;
    const uint8_t *low = super + 256 + (g % 8) / 4 * Q6_K_HALF, *high = low + 1024;
    float d = ct_f16_to_f32(u16_at(tile + g / 8 * 32 + r * 2));
    for (int32_t k = 0; k < 32; k++) {
        uint32_t lo = (uint32_t)low[((t & 1) * 8 + k / 4) * 64 + r * 4 + k % 4] >> (4 * (t >> 1)) & 15u;
        uint32_t hi = (uint32_t)high[k / 4 * 64 + r * 4 + k % 4] >> (2 * t) & 3u;
        q[k] = (uint8_t)(lo | hi << 4);
    }
    for (int32_t h = 0; h < 2; h++)
        scale[h] = d * (float)(int8_t)super[(g % 8 * 2 + h) * 16 + r];
}

/* ---- floats ---- */

static size_t bytes_bf16(int32_t cols) { return ((size_t)cols + 1) / 2 * 64; }
static size_t bytes_f16(int32_t cols) { return ct_round_up((size_t)cols * 32, 64); }
static size_t bytes_f32(int32_t cols) { return (size_t)cols * 64; }

static bool pack_bf16(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t k = 0; k < cols; k++) {
            uint16_t v = u16_at(src + (size_t)r * row_bytes + (size_t)k * 2);
            finite = finite && bf16_finite(v);
            put16(tile + (size_t)(k / 2) * 64 + r * 4 + k % 2 * 2, v);
        }
    return finite;
}

static bool pack_f16(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t k = 0; k < cols; k++) {
            uint16_t v = u16_at(src + (size_t)r * row_bytes + (size_t)k * 2);
            finite = finite && f16_finite(v);
            put16(tile + (size_t)k * 32 + r * 2, v);
        }
    return finite;
}

static bool pack_f32(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t k = 0; k < cols; k++) {
            uint32_t v = u32_at(src + (size_t)r * row_bytes + (size_t)k * 4);
            finite = finite && (v & 0x7f800000u) != 0x7f800000u;
            put32(tile + (size_t)k * 64 + r * 4, v);
        }
    return finite;
}

static const struct tile_type types[] = {
    {CT_Q8_0, TILE_INT, 128, 1, false, bytes_q8_0, pack_q8_0, lane_q8_0},
    {CT_Q4_0, TILE_INT, 8, 1, false, bytes_q4_0, pack_q4_0, lane_q4_0},
    {CT_Q5_0, TILE_INT, 16, 1, false, bytes_q5_0, pack_q5_0, lane_q5_0},
    {CT_Q4_K, TILE_INT, 0, 1, true, bytes_q4_k, pack_q4_k, lane_q4_k},
    {CT_Q6_K, TILE_INT, 32, 2, false, bytes_q6_k, pack_q6_k, lane_q6_k},
    {CT_BF16, TILE_BF16, 0, 1, false, bytes_bf16, pack_bf16, NULL},
    {CT_F16, TILE_F32, 0, 1, false, bytes_f16, pack_f16, NULL},
    {CT_F32, TILE_F32, 0, 1, false, bytes_f32, pack_f32, NULL},
};

const struct tile_type *ct_tile_type(ct_dtype type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].type == type)
            return &types[i];
    return NULL;
}

void ct_tile_row(const struct tile_type *tt, const uint8_t *tile, int32_t cols, int32_t r, float *out)
{
    if (tt->kind == TILE_INT) {
        for (int32_t g = 0; g < cols / 32; g++) {
            uint8_t q[32];
            float scale[2], min[1] = {0};
            tt->lane(tile, cols, g, r, q, scale, min);
            if (tt->halves == 1)
                scale[1] = scale[0];
            for (int32_t k = 0; k < 32; k++)
                out[g * 32 + k] = scale[k / 16] * (float)(q[k] - tt->offset) - min[0];
        }
        return;
    }
    for (int32_t k = 0; k < cols; k++)
        if (tt->type == CT_BF16)
            out[k] = ct_bf16_to_f32(u16_at(tile + (size_t)(k / 2) * 64 + r * 4 + k % 2 * 2));
        else if (tt->type == CT_F16)
            out[k] = ct_f16_to_f32(u16_at(tile + (size_t)k * 32 + r * 2));
        else
            out[k] = ct_f32_from_bits(u32_at(tile + (size_t)k * 64 + r * 4));
}
