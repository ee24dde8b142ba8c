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

static size_t bytes_q8_0(int32_t cols) { return unit_bytes(cols / 32, Q8_0_GROUP); }

static bool pack_q8_0(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 34;
            finite = finite && f16_finite(u16_at(b));
            put16(tile + unit_scales(g, Q8_0_GROUP) + r * 2, u16_at(b));
            spread(tile + unit_quants(g, Q8_0_GROUP), b + 2, 8, r, 0x80808080u);
        }
    return finite;
}

static void lane_q8_0(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    (void)min;
    const uint8_t *quants = tile + unit_quants(g, Q8_0_GROUP);
    for (int32_t v = 0; v < 8; v++)
        memcpy(q + v * 4, quants + v * 64 + r * 4, 4);
    scale[0] = ct_f16_to_f32(u16_at(tile + unit_scales(g, Q8_0_GROUP) + r * 2));
}

/* ---- q4_0: {f16 d; u8 qs[16]}, element j in the low, j+16 in the high nibble of qs[j] ---- */

static size_t bytes_q4_0(int32_t cols) { return unit_bytes(cols / 32, Q4_0_GROUP); }

static bool pack_q4_0(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 18;
            finite = finite && f16_finite(u16_at(b));
            put16(tile + unit_scales(g, Q4_0_GROUP) + r * 2, u16_at(b));
            spread(tile + unit_quants(g, Q4_0_GROUP), b + 2, 4, r, 0);
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
    (void)cols;
    (void)min;
    lane_nibbles(tile + unit_quants(g, Q4_0_GROUP), r, q);
    scale[0] = ct_f16_to_f32(u16_at(tile + unit_scales(g, Q4_0_GROUP) + r * 2));
}

/* ---- iq4_nl: as q4_0, the nibbles are indices ---- */

static void look_up(uint8_t *q)
{
    for (int32_t k = 0; k < 32; k++)
        q[k] = (uint8_t)(ct_iq4_values[q[k]] + 128);
}

static void lane_iq4_nl(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    lane_q4_0(tile, cols, g, r, q, scale, min);
    look_up(q);
}

/* ---- q5_0: {f16 d; u32 qh; u8 qs[16]}, bit j of qh is the fifth bit of element j ---- */

static size_t bytes_q5_0(int32_t cols) { return unit_bytes(cols / 32, Q5_0_GROUP); }

/* Fifth bits and nibbles of row r; group is 8 x u64 and four vectors. */
static void spread_fives(uint8_t *group, uint32_t high, const uint8_t *qs, int32_t r)
{
    for (int32_t v = 0; v < 8; v++) /* four bits of row r: half a byte of word v */
        group[v * 8 + r / 2] |= (uint8_t)((high >> (4 * v) & 15u) << (4 * (r & 1)));
    spread(group + 64, qs, 4, r, 0);
}

static void lane_fives(const uint8_t *group, int32_t r, uint8_t *q)
{
    lane_nibbles(group + 64, r, q);
    for (int32_t k = 0; k < 32; k++)
        q[k] |= (uint8_t)((group[k / 4 * 8 + r / 2] >> (4 * (r & 1) + k % 4) & 1) << 4);
}

static bool pack_q5_0(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 22;
            finite = finite && f16_finite(u16_at(b));
            put16(tile + unit_scales(g, Q5_0_GROUP) + r * 2, u16_at(b));
            spread_fives(tile + unit_quants(g, Q5_0_GROUP), u32_at(b + 2), b + 6, r);
        }
    return finite;
}

static void lane_q5_0(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    (void)min;
    lane_fives(tile + unit_quants(g, Q5_0_GROUP), r, q);
    scale[0] = ct_f16_to_f32(u16_at(tile + unit_scales(g, Q5_0_GROUP) + r * 2));
}

/* ---- q4_1: {f16 d, m; u8 qs[16]}, q5_1: {f16 d, m; u32 qh; u8 qs[16]} ---- */

static size_t bytes_q4_1(int32_t cols) { return (size_t)cols / 32 * Q4_1_GROUP; }
static size_t bytes_q5_1(int32_t cols) { return (size_t)cols / 32 * Q5_1_GROUP; }

/* The pair of halves that a block begins with. */
static bool pack_pair(uint8_t *group, const uint8_t *b, int32_t r)
{
    put16(group + r * 2, u16_at(b));
    put16(group + 32 + r * 2, u16_at(b + 2));
    return f16_finite(u16_at(b)) && f16_finite(u16_at(b + 2));
}

static bool pack_q4_1(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 20;
            uint8_t *group = tile + (size_t)g * Q4_1_GROUP;
            finite = pack_pair(group, b, r) && finite;
            spread(group + 64, b + 4, 4, r, 0);
        }
    return finite;
}

static bool pack_q5_1(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t g = 0; g < cols / 32; g++) {
            const uint8_t *b = src + (size_t)r * row_bytes + (size_t)g * 24;
            uint8_t *group = tile + (size_t)g * Q5_1_GROUP;
            finite = pack_pair(group, b, r) && finite;
            spread_fives(group + 64, u32_at(b + 4), b + 8, r);
        }
    return finite;
}

static void lane_q4_1(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    const uint8_t *group = tile + (size_t)g * Q4_1_GROUP;
    lane_nibbles(group + 64, r, q);
    scale[0] = ct_f16_to_f32(u16_at(group + r * 2));
    min[0] = -ct_f16_to_f32(u16_at(group + 32 + r * 2));
}

static void lane_q5_1(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    const uint8_t *group = tile + (size_t)g * Q5_1_GROUP;
    lane_fives(group + 64, r, q);
    scale[0] = ct_f16_to_f32(u16_at(group + r * 2));
    min[0] = -ct_f16_to_f32(u16_at(group + 32 + r * 2));
}

/* ---- q2_k: {u8 sc[16]; u8 qs[64]; f16 d, dmin}; a scale and a min of four bits per 16 columns ---- */

static size_t bytes_q2_k(int32_t cols) { return (size_t)cols / 256 * Q2_K_SUPER; }

static bool pack_q2_k(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t b = 0; b < cols / 256; b++) {
            const uint8_t *block = src + (size_t)r * row_bytes + (size_t)b * 84;
            uint8_t *super = tile + (size_t)b * Q2_K_SUPER;
            finite = pack_pair(super, block + 80, r) && finite;
            for (int32_t s = 0; s < 16; s++)
                super[64 + s * 16 + r] = block[s];
            spread(super + 320, block + 16, 16, r, 0);
        }
    return finite;
}

/* Two bits of group g of a super-block, see q2_k in tile.h. */
static void lane_crumbs(const uint8_t *vectors, int32_t g, int32_t r, uint8_t *q)
{
    for (int32_t k = 0; k < 32; k++)
        q[k] = vectors[g / 4 * 512 + k / 4 * 64 + r * 4 + k % 4] >> (2 * (g % 4)) & 3;
}

static void lane_q2_k(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g / 8) * Q2_K_SUPER;
    lane_crumbs(super + 320, g % 8, r, q);
    for (int32_t h = 0; h < 2; h++) {
        uint8_t s = super[64 + (g % 8 * 2 + h) * 16 + r];
        scale[h] = ct_f16_to_f32(u16_at(super + r * 2)) * (float)(s & 15);
        min[h] = ct_f16_to_f32(u16_at(super + 32 + r * 2)) * (float)(s >> 4);
    }
}

/* ---- q3_k: {u8 hmask[32]; u8 qs[64]; u8 sc[12]; f16 d}; sixteen six-bit scales S - 32 ---- */

static size_t bytes_q3_k(int32_t cols) { return unit_bytes(cols / 256, Q3_K_SUPER); }

static bool pack_q3_k(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t b = 0; b < cols / 256; b++) {
            const uint8_t *block = src + (size_t)r * row_bytes + (size_t)b * 110;
            uint8_t *super = tile + unit_quants(b, Q3_K_SUPER);
            finite = finite && f16_finite(u16_at(block + 108));
            put16(tile + unit_scales(b, Q3_K_SUPER) + r * 2, u16_at(block + 108));
            for (int32_t s = 0; s < 12; s++)
                super[s * 16 + r] = block[96 + s];
            spread(super + 192, block, 24, r, 0); /* third bits, then quants */
        }
    return finite;
}

/* Bit g of the bytes of eight vectors, as bit `at` of the quants. */
static void lane_bits(const uint8_t *vectors, int32_t g, int32_t r, int32_t at, uint8_t *q)
{
    for (int32_t k = 0; k < 32; k++)
        q[k] |= (uint8_t)((vectors[k / 4 * 64 + r * 4 + k % 4] >> g & 1) << at);
}

static void lane_q3_k(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    (void)min;
    const uint8_t *super = tile + unit_quants(g / 8, Q3_K_SUPER);
    float d = ct_f16_to_f32(u16_at(tile + unit_scales(g / 8, Q3_K_SUPER) + r * 2));
    lane_crumbs(super + 704, g % 8, r, q);
    lane_bits(super + 192, g % 8, r, 2, q);
    for (int32_t h = 0; h < 2; h++) {
        int32_t s = g % 8 * 2 + h;
        int32_t low = super[s % 8 * 16 + r] >> (4 * (s / 8)) & 15,
                high = super[(8 + s % 4) * 16 + r] >> (2 * (s / 4)) & 3;
        scale[h] = d * (float)((low | high << 4) - 32);
    }
}

/* ---- q4_k: {f16 d, dmin; u8 sc[12]; u8 qs[128]}; eight groups, six-bit scale S and min M each ---- */

static size_t bytes_q4_k(int32_t cols) { return (size_t)cols / 256 * Q4_K_SUPER; }

/* What q4_k and q5_k have in common in front of their quants: 256 bytes of a super-block. */
static bool pack_scales(uint8_t *super, const uint8_t *block, int32_t r)
{
    const uint8_t *sc = block + 4;
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
    return pack_pair(super, block, r);
}

static void lane_scales(const uint8_t *super, int32_t j, int32_t r, float *scale, float *min)
{
    uint32_t low = super[64 + j * 16 + r], high = (uint32_t)super[192 + j / 2 * 16 + r] >> (4 * (j & 1));
    scale[0] = ct_f16_to_f32(u16_at(super + r * 2)) * (float)((low & 15u) | (high & 3u) << 4);
    min[0] = ct_f16_to_f32(u16_at(super + 32 + r * 2)) * (float)(low >> 4 | (high >> 2 & 3u) << 4);
}

static void lane_pairs(const uint8_t *chunks, int32_t j, int32_t r, uint8_t *q)
{
    for (int32_t k = 0; k < 32; k++)
        q[k] = chunks[j / 2 * 512 + k / 4 * 64 + r * 4 + k % 4] >> (4 * (j & 1)) & 15;
}

static bool pack_q4_k(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t b = 0; b < cols / 256; b++) {
            const uint8_t *block = src + (size_t)r * row_bytes + (size_t)b * 144;
            uint8_t *super = tile + (size_t)b * Q4_K_SUPER;
            finite = pack_scales(super, block, r) && finite;
            spread(super + 256, block + 16, 32, r, 0);
        }
    return finite;
}

static void lane_q4_k(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g / 8) * Q4_K_SUPER;
    lane_scales(super, g % 8, r, scale, min);
    lane_pairs(super + 256, g % 8, r, q);
}

/* ---- q5_k: {f16 d, dmin; u8 sc[12]; u8 qh[32]; u8 qs[128]}; as q4_k, bit j of qh is the fifth bit of group j ---- */

static size_t bytes_q5_k(int32_t cols) { return (size_t)cols / 256 * Q5_K_SUPER; }

static bool pack_q5_k(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t b = 0; b < cols / 256; b++) {
            const uint8_t *block = src + (size_t)r * row_bytes + (size_t)b * 176;
            uint8_t *super = tile + (size_t)b * Q5_K_SUPER;
            finite = pack_scales(super, block, r) && finite;
            spread(super + 256, block + 16, 40, r, 0); /* fifth bits, then nibbles */
        }
    return finite;
}

static void lane_q5_k(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    const uint8_t *super = tile + (size_t)(g / 8) * Q5_K_SUPER;
    lane_scales(super, g % 8, r, scale, min);
    lane_pairs(super + 768, g % 8, r, q);
    lane_bits(super + 256, g % 8, r, 4, q);
}

/* ---- q6_k: {u8 ql[128]; u8 qh[64]; i8 sc[16]; f16 d} ---- */

static size_t bytes_q6_k(int32_t cols) { return unit_bytes(cols / 256, Q6_K_SUPER); }

static bool pack_q6_k(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t b = 0; b < cols / 256; b++) {
            const uint8_t *block = src + (size_t)r * row_bytes + (size_t)b * 210;
            uint8_t *super = tile + unit_quants(b, Q6_K_SUPER);
            finite = finite && f16_finite(u16_at(block + 208));
            put16(tile + unit_scales(b, Q6_K_SUPER) + r * 2, u16_at(block + 208));
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
    (void)cols;
    (void)min;
    const uint8_t *super = tile + unit_quants(g / 8, Q6_K_SUPER);
    int32_t t = g % 4;
    const uint8_t *low = super + 256 + (g % 8) / 4 * Q6_K_HALF, *high = low + 1024;
    float d = ct_f16_to_f32(u16_at(tile + unit_scales(g / 8, Q6_K_SUPER) + r * 2));
    for (int32_t k = 0; k < 32; k++) {
        uint32_t lo = (uint32_t)low[((t & 1) * 8 + k / 4) * 64 + r * 4 + k % 4] >> (4 * (t >> 1)) & 15u;
        uint32_t hi = (uint32_t)high[k / 4 * 64 + r * 4 + k % 4] >> (2 * t) & 3u;
        q[k] = (uint8_t)(lo | hi << 4);
    }
    for (int32_t h = 0; h < 2; h++)
        scale[h] = d * (float)(int8_t)super[(g % 8 * 2 + h) * 16 + r];
}

/* ---- iq4_xs: {f16 d; u16 sh; u8 sl[4]; u8 qs[128]}; eight groups of 16 bytes, six-bit scale S - 32 each ---- */

static size_t bytes_iq4_xs(int32_t cols) { return (size_t)cols / 256 * IQ4_XS_SUPER; }

static bool pack_iq4_xs(uint8_t *tile, const uint8_t *src, size_t row_bytes, int32_t n, int32_t cols)
{
    bool finite = true;
    for (int32_t r = 0; r < n; r++)
        for (int32_t b = 0; b < cols / 256; b++) {
            const uint8_t *block = src + (size_t)r * row_bytes + (size_t)b * 136;
            uint8_t *super = tile + (size_t)b * IQ4_XS_SUPER;
            finite = finite && f16_finite(u16_at(block));
            put16(super + r * 2, u16_at(block));
            put16(super + 32 + r * 2, u16_at(block + 2));
            for (int32_t s = 0; s < 4; s++)
                super[64 + s * 16 + r] = block[4 + s];
            spread(super + 128, block + 8, 32, r, 0);
        }
    return finite;
}

static void lane_iq4_xs(const uint8_t *tile, int32_t cols, int32_t g, int32_t r, uint8_t *q, float *scale, float *min)
{
    (void)cols;
    (void)min;
    const uint8_t *super = tile + (size_t)(g / 8) * IQ4_XS_SUPER;
    int32_t j = g % 8;
    int32_t low = super[64 + j / 2 * 16 + r] >> (4 * (j & 1)) & 15, high = u16_at(super + 32 + r * 2) >> (2 * j) & 3;
    scale[0] = ct_f16_to_f32(u16_at(super + r * 2)) * (float)((low | high << 4) - 32);
    lane_nibbles(super + 128 + (size_t)j * 256, r, q);
    look_up(q);
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
    {CT_Q8_0, CT_Q8_0, TILE_INT, 128, 1, false, bytes_q8_0, pack_q8_0, lane_q8_0, {0}},
    {CT_Q4_0, CT_Q4_0, TILE_INT, 8, 1, false, bytes_q4_0, pack_q4_0, lane_q4_0, {0}},
    {CT_Q4_1, CT_Q4_1, TILE_INT, 0, 1, true, bytes_q4_1, pack_q4_1, lane_q4_1, {0}},
    {CT_Q5_0, CT_Q5_0, TILE_INT, 16, 1, false, bytes_q5_0, pack_q5_0, lane_q5_0, {0}},
    {CT_Q5_1, CT_Q5_1, TILE_INT, 0, 1, true, bytes_q5_1, pack_q5_1, lane_q5_1, {0}},
    {CT_Q2_K, CT_Q2_K, TILE_INT, 0, 2, true, bytes_q2_k, pack_q2_k, lane_q2_k, {0}},
    {CT_Q3_K, CT_Q3_K, TILE_INT, 4, 2, false, bytes_q3_k, pack_q3_k, lane_q3_k, {0}},
    {CT_Q4_K, CT_Q4_K, TILE_INT, 0, 1, true, bytes_q4_k, pack_q4_k, lane_q4_k, {0}},
    {CT_Q5_K, CT_Q5_K, TILE_INT, 0, 1, true, bytes_q5_k, pack_q5_k, lane_q5_k, {0}},
    {CT_Q6_K, CT_Q6_K, TILE_INT, 32, 2, false, bytes_q6_k, pack_q6_k, lane_q6_k, {0}},
    {CT_IQ4_NL, CT_IQ4_NL, TILE_INT, 128, 1, false, bytes_q4_0, pack_q4_0, lane_iq4_nl, {0}},
    {CT_IQ4_XS, CT_IQ4_XS, TILE_INT, 128, 1, false, bytes_iq4_xs, pack_iq4_xs, lane_iq4_xs, {0}},
    {CT_BF16, CT_BF16, TILE_BF16, 0, 1, false, bytes_bf16, pack_bf16, NULL, {0}},
    {CT_F16, CT_F16, TILE_F32, 0, 1, false, bytes_f16, pack_f16, NULL, {0}},
    {CT_F32, CT_F32, TILE_F32, 0, 1, false, bytes_f32, pack_f32, NULL, {0}},
};

const struct tile_type *ct_tile_type(ct_dtype type)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].type == type)
            return &types[i];
    return ct_tile_mlx(type);
}

void ct_tile_row(const struct tile_type *tt, const uint8_t *tile, int32_t cols, int32_t r, float *out)
{
    if (tt->kind == TILE_INT) {
        for (int32_t g = 0; g < cols / 32; g++) {
            uint8_t q[32];
            float scale[2], min[2] = {0};
            tt->lane(tile, cols, g, r, q, scale, min);
            if (tt->halves == 1) {
                scale[1] = scale[0];
                min[1] = min[0];
            }
            for (int32_t k = 0; k < 32; k++)
                out[g * 32 + k] = scale[k / 16] * (float)(q[k] - tt->offset) - min[k / 16];
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
