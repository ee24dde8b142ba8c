/* Valid random content for every weight type: synthetic models and kernel checks.
 *
 * A block is a pure function of (seed, stream, index of the block): a hash of a counter that starts at the block's
 * index times the words it uses. Quants have a peaked, roughly bell-shaped spread that reaches both ends of their range;
 * scales vary by a quarter, and where the format allows it by sign, so that the elements' mean is nothing. Built for speed
 * (a gigabyte a second and more), a word at a time: the largest synthetic model has 16 GB. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/words.h"

/* A block's scale: step (0.75 .. 1.24), as a finite positive half. */
static inline uint16_t scale_half(float step, uint64_t r)
{
    float d = step * scale_factor(r);
    if (!(d > 0x1p-24f))
        return 1; /* the smallest half: never zero, whatever sigma is */
    return d < 65504.0f ? ct_f32_to_f16(d) : 0x7bff;
}

/* Floats: the sum of four random bytes, 0..1020, is near enough to a bell (standard deviation 147.8). A table of the 1021
 * values in the wanted type makes the conversion free. */
#define BELL_N 1021
#define BELL_MEAN 510
#define BELL_SD 147.80f

static inline float bell_value(int32_t sum, float sigma) { return (float)(sum - BELL_MEAN) * (sigma / BELL_SD); }

/* Two sums of four bytes each from one word, in the low and the high half. */
static inline uint64_t bell_pair(uint64_t w)
{
    uint64_t x = (w & 0x00ff00ff00ff00ffu) + (w >> 8 & 0x00ff00ff00ff00ffu);
    return (x & 0x0000ffff0000ffffu) + (x >> 16 & 0x0000ffff0000ffffu);
}

static inline uint32_t bell_sum(uint64_t key, uint64_t element)
{
    return (uint32_t)(bell_pair(word(key, element / 2)) >> (element & 1) * 32);
}

void ct_random_f32(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    for (size_t i = 0; i < n_blocks; i++, p += 4) {
        uint32_t u = ct_bits_from_f32(bell_value((int32_t)bell_sum(key, first_block + i), sigma));
        store_u16(p, (uint16_t)u);
        store_u16(p + 2, (uint16_t)(u >> 16));
    }
}

static void random_16(uint8_t *p, size_t n, uint64_t key, uint64_t first, const uint16_t table[BELL_N])
{
    size_t i = 0;
    if (first & 1 && n > 0) { /* the second half of a word */
        store_u16(p, table[bell_sum(key, first)]);
        i = 1;
    }
    for (; i + 2 <= n; i += 2) {
        uint64_t pair = bell_pair(word(key, (first + i) / 2));
        store_u16(p + 2 * i, table[(uint32_t)pair]);
        store_u16(p + 2 * i + 2, table[pair >> 32]);
    }
    if (i < n)
        store_u16(p + 2 * i, table[bell_sum(key, first + i)]);
}

void ct_random_f16(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint16_t table[BELL_N];
    for (int32_t i = 0; i < BELL_N; i++)
        table[i] = ct_f32_to_f16(fmaxf(-65504.0f, fminf(65504.0f, bell_value(i, sigma))));
    random_16(dst, n_blocks, key_of(seed, stream), first_block, table);
}

void ct_random_bf16(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint16_t table[BELL_N];
    for (int32_t i = 0; i < BELL_N; i++)
        table[i] = ct_f32_to_bf16(bell_value(i, sigma));
    random_16(dst, n_blocks, key_of(seed, stream), first_block, table);
}

/* Sixteen nibbles 0..15, each the sum of two 3-bit numbers and a bit: mean 7.5, variance 10.75. No carry leaves a nibble. */
static inline uint64_t nibbles(uint64_t a, uint64_t b)
{
    return (a & 0x7777777777777777u) + (b & 0x7777777777777777u) + (a >> 3 & 0x1111111111111111u);
}

/* n - 8 has mean -0.5 and mean square 11: a random sign of d takes the mean out. */
void ct_random_q4_0(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (3.31662f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 18) {
        uint64_t n = (first_block + i) * 5, r = word(key, n);
        store_u16(p, (uint16_t)(scale_half(step, r) | (r >> 48 & 0x8000u)));
        store_u64(p + 2, nibbles(word(key, n + 1), word(key, n + 2)));
        store_u64(p + 10, nibbles(word(key, n + 3), word(key, n + 4)));
    }
}

static inline void store_nibbles(uint8_t *p, size_t words, uint64_t key, uint64_t n)
{
    for (size_t k = 0; k < words; k++)
        store_u64(p + 8 * k, nibbles(word(key, n + 2 * k), word(key, n + 2 * k + 1)));
}

/* A half for the minimum that goes with d: factor * d, kept finite. */
static inline uint16_t min_half(uint16_t d, float factor)
{
    return ct_f32_to_f16(fmaxf(-65504.0f, fminf(ct_f16_to_f32(d) * factor, 65504.0f)));
}

/* m is -7 d or -8 d, so that the mean is nothing: variance d^2 (10.75 + 0.25). */
void ct_random_q4_1(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (3.31662f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 20) {
        uint64_t n = (first_block + i) * 5, r = word(key, n);
        uint16_t d = scale_half(step, r);
        store_u16(p, d);
        store_u16(p + 2, min_half(d, r >> 63 ? -7.0f : -8.0f));
        store_nibbles(p + 4, 2, key, n + 1);
    }
}

/* Bit k of the low byte of x, as byte k being 0 or 1. */
static inline uint64_t spread_bits(uint64_t x)
{
    uint64_t bits = (x & 255u) * 0x0101010101010101u & 0x8040201008040201u;
    return ((bits + 0x7f7f7f7f7f7f7f7fu) | bits) >> 7 & 0x0101010101010101u;
}

/* A magnitude t of four bits, each set once in four times (mean 3.75, mean square 30), and a sign h: n - 16 = t or -1 - t,
 * so the nibble is t or its complement and the fifth bit is h. n - 16 has mean -0.5, mean square 34. */
static inline void store_fives(uint8_t *qh, uint8_t *qs, uint64_t key, uint64_t n)
{
    uint64_t h = word(key, n);
    store_u16(qh, (uint16_t)h);
    store_u16(qh + 2, (uint16_t)(h >> 16));
    uint64_t w[2] = {word(key, n + 1) & word(key, n + 2), word(key, n + 3) & word(key, n + 4)};
    for (size_t k = 0; k < 2; k++) {
        uint64_t low = spread_bits(h >> 8 * k) * 0x0f, high = spread_bits(h >> (16 + 8 * k)) * 0x0f;
        store_u64(qs + 8 * k, w[k] ^ ~(low | high << 4));
    }
}

/* d has a random sign. */
void ct_random_q5_0(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (5.83095f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 22) {
        uint64_t n = (first_block + i) * 6, r = word(key, n);
        store_u16(p, (uint16_t)(scale_half(step, r) | (r >> 48 & 0x8000u)));
        store_fives(p + 2, p + 6, key, n + 1);
    }
}

/* m is -15 d or -16 d: variance d^2 (33.75 + 0.25). */
void ct_random_q5_1(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (5.83095f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 24) {
        uint64_t n = (first_block + i) * 6, r = word(key, n);
        uint16_t d = scale_half(step, r);
        store_u16(p, d);
        store_u16(p + 2, min_half(d, r >> 63 ? -15.0f : -16.0f));
        store_fives(p + 4, p + 8, key, n + 1);
    }
}

/* Sums of two 7-bit numbers less 127: mean 0, variance 2730.5, from -127 to 127. */
void ct_random_q8_0(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (52.2542f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 34) {
        uint64_t n = (first_block + i) * 9;
        store_u16(p, scale_half(step, word(key, n)));
        for (size_t k = 0; k < 4; k++) {
            uint64_t a = word(key, n + 1 + 2 * k) & 0x7f7f7f7f7f7f7f7fu;
            uint64_t b = word(key, n + 2 + 2 * k) & 0x7f7f7f7f7f7f7f7fu;
            /* 0..254 per byte; less 127 is plus 129: bit 7 flipped, then plus 1 where no carry may leave the byte. */
            uint64_t x = a + b;
            uint64_t low = (x & 0x7f7f7f7f7f7f7f7fu) + 0x0101010101010101u;
            store_u64(p + 2 + 8 * k, low ^ (~x & 0x8080808080808080u));
        }
    }
}

/* Eight scales S of 20..51 (mean square 1345.5) and minima M = S - 3 .. S + 3 (variance of the difference 2.5) of six bits, in
 * the packing that blocks.c takes apart. */
static void store_scales(uint8_t *p, uint64_t rs, uint64_t rm)
{
    uint8_t scale[8], min[8];
    for (size_t j = 0; j < 8; j++) {
        uint32_t s = 20 + (uint32_t)(rs >> 8 * j & 31), m = (uint32_t)(rm >> 8 * j);
        scale[j] = (uint8_t)s;
        min[j] = (uint8_t)(s + (m & 3) + (m >> 2 & 3) - 3);
    }
    for (size_t j = 0; j < 4; j++) {
        p[j] = (uint8_t)(scale[j] | scale[j + 4] >> 4 << 6);
        p[4 + j] = (uint8_t)(min[j] | min[j + 4] >> 4 << 6);
        p[8 + j] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

/* dmin = 7.5 d puts the mean of every sub-block near zero: variance d^2 (1345.5 * 10.75 + 7.5^2 * 2.5) = (120.85 d)^2. */
void ct_random_q4_k(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (120.85f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 144) {
        uint64_t n = (first_block + i) * 35;
        uint16_t d = scale_half(step, word(key, n));
        store_u16(p, d);
        store_u16(p + 2, min_half(d, 7.5f));
        store_scales(p + 4, word(key, n + 1), word(key, n + 2));
        store_nibbles(p + 16, 16, key, n + 3);
    }
}

/* Quants as q5_0 has them, dmin = 15.5 d: variance d^2 (1345.5 * 33.75 + 15.5^2 * 2.5) = (214.50 d)^2. */
void ct_random_q5_k(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream), h[4];
    float step = sigma / (214.50f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 176) {
        uint64_t n = (first_block + i) * 39;
        uint16_t d = scale_half(step, word(key, n));
        store_u16(p, d);
        store_u16(p + 2, min_half(d, 15.5f));
        store_scales(p + 4, word(key, n + 1), word(key, n + 2));
        for (size_t k = 0; k < 4; k++)
            store_u64(p + 16 + 8 * k, h[k] = word(key, n + 3 + k));
        for (size_t k = 0; k < 16; k++) { /* word k % 4 of the pair of sub-blocks k / 4 */
            uint64_t bits = h[k % 4] >> k / 4 * 2, each = 0x0101010101010101u;
            uint64_t mask = (bits & each) * 0x0f | (bits >> 1 & each) * 0xf0;
            store_u64(p + 48 + 8 * k, (word(key, n + 7 + 2 * k) & word(key, n + 8 + 2 * k)) ^ ~mask);
        }
    }
}

/* Sixteen pairs of bits, each the sum of three: mean 1.5, variance 0.75. */
static inline uint64_t crumbs(uint64_t key, uint64_t n)
{
    uint64_t a = word(key, n), b = word(key, n + 1), c = word(key, n + 2), even = 0x5555555555555555u;
    return (a & even) + (b & even) + (c & even);
}

/* Scales S of 6..13 (mean square 95.5), minima M = S - 1 .. S + 1 (variance of the difference 0.5), dmin = 1.5 d: variance
 * d^2 (95.5 * 0.75 + 1.5^2 * 0.5) = (8.5294 d)^2. */
void ct_random_q2_k(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (8.5294f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 84) {
        uint64_t n = (first_block + i) * 27;
        for (size_t k = 0; k < 2; k++) { /* eight pairs at a time: no byte carries */
            uint64_t r = word(key, n + 1 + k), each = 0x0101010101010101u;
            uint64_t s = (r & 7 * each) + 6 * each, m = s + (r >> 3 & each) + (r >> 4 & each) - each;
            store_u64(p + 8 * k, s | m << 4);
        }
        for (size_t k = 0; k < 8; k++)
            store_u64(p + 16 + 8 * k, crumbs(key, n + 3 + 3 * k));
        uint16_t d = scale_half(step, word(key, n));
        store_u16(p + 80, d);
        store_u16(p + 82, min_half(d, 1.5f));
    }
}

/* Any scale: S - 32 has mean -0.5 and mean square 341.5. A magnitude t of two bits (the upper set once in four times: mean 1,
 * mean square 2) and a sign h: n - 4 = t or -1 - t, mean square 3.5. In all (34.572 d)^2. */
void ct_random_q3_k(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream), h[4];
    float step = sigma / (34.572f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 110) {
        uint64_t n = (first_block + i) * 23;
        for (size_t k = 0; k < 4; k++)
            store_u64(p + 8 * k, h[k] = word(key, n + k));
        for (size_t k = 0; k < 8; k++) { /* word k % 4 of half k / 4: four runs, two bits each, share a byte */
            uint64_t bits = h[k % 4] >> k / 4 * 4, each = 0x0101010101010101u, mask = 0;
            for (size_t run = 0; run < 4; run++)
                mask |= (bits >> run & each) * (uint64_t)(3u << 2 * run);
            uint64_t t = word(key, n + 4 + 2 * k) & (word(key, n + 5 + 2 * k) | 0x5555555555555555u);
            store_u64(p + 32 + 8 * k, t ^ ~mask);
        }
        uint64_t low = word(key, n + 20), high = word(key, n + 21);
        store_u64(p + 96, low);
        store_u16(p + 104, (uint16_t)high);
        store_u16(p + 106, (uint16_t)(high >> 16));
        store_u16(p + 108, scale_half(step, word(key, n + 22)));
    }
}

/* Low four bits uniform, high two the sum of three bits: n - 32 has mean -0.5 and mean square 213.5. Scales of 64..127
 * (mean square 9461.5) with a random sign: the element's is (1421.3 d)^2. */
void ct_random_q6_k(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (1421.3f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 210) {
        uint64_t n = (first_block + i) * 43;
        for (size_t k = 0; k < 16; k++)
            store_u64(p + 8 * k, word(key, n + k));
        for (size_t k = 0; k < 8; k++) {
            uint64_t a = word(key, n + 16 + 3 * k), b = word(key, n + 17 + 3 * k), c = word(key, n + 18 + 3 * k);
            store_u64(p + 128 + 8 * k,
                      (a & 0x5555555555555555u) + (b & 0x5555555555555555u) + (c & 0x5555555555555555u));
        }
        for (size_t k = 0; k < 2; k++) {
            uint64_t r = word(key, n + 40 + k), magnitude = (r & 0x3f3f3f3f3f3f3f3fu) | 0x4040404040404040u;
            /* Negative where bit 7 of r is set: complement of the low seven bits is -1 - m, from -65 to -128. */
            uint64_t negative = r >> 7 & 0x0101010101010101u;
            store_u64(p + 192 + 8 * k, magnitude ^ negative * 0xff);
        }
        store_u16(p + 208, scale_half(step, word(key, n + 42)));
    }
}

/* The values of the table have mean -5.3 and mean square 2012.2 = 44.857^2 with these nibbles; d has a random sign. */
void ct_random_iq4_nl(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (44.857f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 18) {
        uint64_t n = (first_block + i) * 5, r = word(key, n);
        store_u16(p, (uint16_t)(scale_half(step, r) | (r >> 48 & 0x8000u)));
        store_nibbles(p + 2, 2, key, n + 1);
    }
}

/* Any scale, as q3_k: 341.5 * 2012.2 = 828.95^2. */
void ct_random_iq4_xs(void *dst, size_t n_blocks, uint64_t seed, uint64_t stream, uint64_t first_block, float sigma)
{
    uint8_t *p = dst;
    uint64_t key = key_of(seed, stream);
    float step = sigma / (828.95f * SCALE_RMS);
    for (size_t i = 0; i < n_blocks; i++, p += 136) {
        uint64_t n = (first_block + i) * 34, scales = word(key, n + 1);
        store_u16(p, scale_half(step, word(key, n)));
        for (size_t k = 0; k < 3; k++)
            store_u16(p + 2 + 2 * k, (uint16_t)(scales >> 16 * k));
        store_nibbles(p + 8, 16, key, n + 2);
    }
}
