/* What the bytes of each weight type mean: exact, slow, single-threaded, any alignment.
 *
 * Layouts are those of the GGUF format (docs/FORMATS.md); multi-byte numbers are little-endian. Every product below is
 * exact in a float except the last one, so the results do not depend on whether a compiler contracts multiply and add:
 * a half has 11 significant bits, a sub-scale 4 to 6, or 8 (q6_k), a quant 2 to 8, and never more than 24 in all. */
#include "quant/blocks.h"

#include <string.h>

#include "base/half.h"
#include "quant/dtype.h"

static inline uint16_t load_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

static inline uint32_t load_u32(const uint8_t *p) { return (uint32_t)load_u16(p) | (uint32_t)load_u16(p + 2) << 16; }

static inline float load_half(const uint8_t *p) { return ct_f16_to_f32(load_u16(p)); }

void ct_decode_f32(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++)
        dst[i] = ct_f32_from_bits(load_u32(p + 4 * i));
}

void ct_decode_f16(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++)
        dst[i] = load_half(p + 2 * i);
}

void ct_decode_bf16(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++)
        dst[i] = ct_bf16_to_f32(load_u16(p + 2 * i));
}

/* half d; u8 qs[16]: element j in the low nibble of qs[j], element j + 16 in the high one. x = d (n - 8). */
void ct_decode_q4_0(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 18, dst += 32) {
        float d = load_half(p);
        for (size_t j = 0; j < 16; j++) {
            dst[j] = d * (float)((p[2 + j] & 15) - 8);
            dst[j + 16] = d * (float)((p[2 + j] >> 4) - 8);
        }
    }
}

/* half d, m; u8 qs[16]: nibbles as in q4_0. x = d n + m. */
void ct_decode_q4_1(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 20, dst += 32) {
        float d = load_half(p), m = load_half(p + 2);
        for (size_t j = 0; j < 16; j++) {
            dst[j] = d * (float)(p[4 + j] & 15) + m;
            dst[j + 16] = d * (float)(p[4 + j] >> 4) + m;
        }
    }
}

/* half d; u32 qh; u8 qs[16]: nibbles as in q4_0, bit j of qh is the fifth bit of element j. x = d (n - 16). */
void ct_decode_q5_0(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 22, dst += 32) {
        float d = load_half(p);
        uint32_t high = load_u32(p + 2);
        for (size_t j = 0; j < 16; j++) {
            uint32_t lo = (p[6 + j] & 15u) | (high >> j & 1u) << 4;
            uint32_t hi = (p[6 + j] >> 4 & 15u) | (high >> (j + 16) & 1u) << 4;
            dst[j] = d * (float)((int32_t)lo - 16);
            dst[j + 16] = d * (float)((int32_t)hi - 16);
        }
    }
}

/* half d, m; u32 qh; u8 qs[16]: five bits as in q5_0. x = d n + m. */
void ct_decode_q5_1(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 24, dst += 32) {
        float d = load_half(p), m = load_half(p + 2);
        uint32_t high = load_u32(p + 4);
        for (size_t j = 0; j < 16; j++) {
            dst[j] = d * (float)((p[8 + j] & 15u) | (high >> j & 1u) << 4) + m;
            dst[j + 16] = d * (float)((p[8 + j] >> 4 & 15u) | (high >> (j + 16) & 1u) << 4) + m;
        }
    }
}

/* half d; i8 q[32]. x = d q. */
void ct_decode_q8_0(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 34, dst += 32) {
        float d = load_half(p);
        for (size_t j = 0; j < 32; j++)
            dst[j] = d * (float)(int8_t)p[2 + j];
    }
}

/* u8 sc[16]; u8 qs[64]; half d, dmin: two halves of 128 elements, each four runs of 32 that share 32 bytes of qs; a scale S
 * (low nibble) and a minimum M (high) for every 16 elements. x = d S n - dmin M. */
void ct_decode_q2_k(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 84) {
        float d = load_half(p + 80), dmin = load_half(p + 82);
        for (size_t g = 0; g < 16; g++) { /* of 16 elements: run g/2 % 4 of half g/8 */
            const uint8_t *qs = p + 16 + g / 8 * 32 + g % 2 * 16;
            float a = d * (float)(p[g] & 15), b = dmin * (float)(p[g] >> 4);
            for (size_t l = 0; l < 16; l++)
                *dst++ = a * (float)(qs[l] >> g / 2 % 4 * 2 & 3) - b;
        }
    }
}

/* u8 hmask[32]; u8 qs[64]; u8 sc[12]; half d: two bits as in q2_k, the third is bit k of hmask for the k-th run of 32 of the
 * block; sixteen scales S of six bits. x = d (S - 32) (n - 4). */
void ct_decode_q3_k(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 110) {
        float d = load_half(p + 108);
        const uint8_t *sc = p + 96;
        for (size_t g = 0; g < 16; g++) {
            const uint8_t *qs = p + 32 + g / 8 * 32 + g % 2 * 16, *high = p + g % 2 * 16;
            /* Four low bits in the nibbles of sc[0..7], first the low ones; two high bits, four scales to a byte. */
            int32_t scale = (sc[g % 8] >> g / 8 * 4 & 15) | (sc[8 + g % 4] >> g / 4 * 2 & 3) << 4;
            float a = d * (float)(scale - 32);
            for (size_t l = 0; l < 16; l++) {
                int32_t q = (qs[l] >> g / 2 % 4 * 2 & 3) | (high[l] >> g / 2 & 1) << 2;
                *dst++ = a * (float)(q - 4);
            }
        }
    }
}

/* Sub-block j of q4_k and q5_k: a scale and a minimum of six bits. The first four pairs lie in the low six bits of sc[0..7];
 * the other four are split between nibbles of sc[8..11] and the top two bits that the first four leave free. */
static inline void scale_min(const uint8_t *sc, size_t j, int32_t *scale, int32_t *min)
{
    *scale = j < 4 ? sc[j] & 63 : (sc[j + 4] & 15) | sc[j - 4] >> 6 << 4;
    *min = j < 4 ? sc[j + 4] & 63 : sc[j + 4] >> 4 | sc[j] >> 6 << 4;
}

/* half d, dmin; u8 sc[12]: eight scales S and minima M of six bits each; u8 qs[128]: 32 bytes hold the 64 elements of two
 * sub-blocks, low nibbles the first, high nibbles the second. x = d S n - dmin M. */
void ct_decode_q4_k(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 144) {
        float d = load_half(p), dmin = load_half(p + 2);
        const uint8_t *qs = p + 16;
        for (size_t j = 0; j < 8; j++, dst += 32) {
            int32_t scale, min;
            scale_min(p + 4, j, &scale, &min);
            float a = d * (float)scale, b = dmin * (float)min;
            for (size_t l = 0; l < 32; l++) {
                int32_t q = qs[j / 2 * 32 + l] >> (j & 1) * 4 & 15;
                dst[l] = a * (float)q - b;
            }
        }
    }
}

/* half d, dmin; u8 sc[12]; u8 qh[32]; u8 qs[128]: as q4_k, and bit j of qh[l] is the fifth bit of element l of sub-block j. */
void ct_decode_q5_k(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 176) {
        float d = load_half(p), dmin = load_half(p + 2);
        const uint8_t *qh = p + 16, *qs = p + 48;
        for (size_t j = 0; j < 8; j++, dst += 32) {
            int32_t scale, min;
            scale_min(p + 4, j, &scale, &min);
            float a = d * (float)scale, b = dmin * (float)min;
            for (size_t l = 0; l < 32; l++) {
                int32_t q = (qs[j / 2 * 32 + l] >> (j & 1) * 4 & 15) | (qh[l] >> j & 1) << 4;
                dst[l] = a * (float)q - b;
            }
        }
    }
}

/* u8 ql[128], qh[64]; i8 sc[16]; half d: two halves of 128 elements, each four runs of 32 that share 64 bytes of ql and 32
 * of qh; a scale for every 16 elements. x = d S (n - 32). */
void ct_decode_q6_k(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 210) {
        float d = load_half(p + 208);
        for (size_t half = 0; half < 2; half++) {
            const uint8_t *ql = p + 64 * half, *qh = p + 128 + 32 * half, *sc = p + 192 + 8 * half;
            for (size_t run = 0; run < 4; run++)
                for (size_t l = 0; l < 32; l++) {
                    int32_t lo = ql[(run & 1) * 32 + l] >> run / 2 * 4 & 15;
                    int32_t hi = qh[l] >> 2 * run & 3;
                    float scale = d * (float)(int8_t)sc[2 * run + l / 16];
                    *dst++ = scale * (float)((lo | hi << 4) - 32);
                }
        }
    }
}

const int8_t ct_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* half d; u8 qs[16]: nibbles as in q4_0. x = d V[n]. */
void ct_decode_iq4_nl(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 18, dst += 32) {
        float d = load_half(p);
        for (size_t j = 0; j < 16; j++) {
            dst[j] = d * (float)ct_iq4_values[p[2 + j] & 15];
            dst[j + 16] = d * (float)ct_iq4_values[p[2 + j] >> 4];
        }
    }
}

/* half d; u16 sh; u8 sl[4]; u8 qs[128]: eight sub-blocks of 32 with 16 bytes each, nibbles as in q4_0; scale S of sub-block j
 * has its low four bits in a nibble of sl[j/2], its high two in bits 2j, 2j+1 of sh. x = d (S - 32) V[n]. */
void ct_decode_iq4_xs(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 136) {
        float d = load_half(p);
        uint32_t high = load_u16(p + 2);
        for (size_t j = 0; j < 8; j++, dst += 32) {
            const uint8_t *qs = p + 8 + 16 * j;
            int32_t scale = (p[4 + j / 2] >> j % 2 * 4 & 15) | (int32_t)(high >> 2 * j & 3u) << 4;
            float a = d * (float)(scale - 32);
            for (size_t l = 0; l < 16; l++) {
                dst[l] = a * (float)ct_iq4_values[qs[l] & 15];
                dst[l + 16] = a * (float)ct_iq4_values[qs[l] >> 4];
            }
        }
    }
}
