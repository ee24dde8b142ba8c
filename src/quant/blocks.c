/* What the bytes of each weight type mean: exact, slow, single-threaded, any alignment.
 *
 * Layouts are those of the GGUF format (docs/FORMATS.md); multi-byte numbers are little-endian. Every product below is
 * exact in a float except the last one, so the results do not depend on whether a compiler contracts multiply and add:
 * a half has 11 significant bits, a sub-scale 6 (q4_k) or 8 (q6_k), a quant 4 to 8. */
#include "quant/blocks.h"

#include <string.h>

#include "base/half.h"

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

/* half d, dmin; u8 sc[12]: eight scales S and minima M of six bits each; u8 qs[128]: 32 bytes hold the 64 elements of two
 * sub-blocks, low nibbles the first, high nibbles the second. x = d S n - dmin M. */
void ct_decode_q4_k(float *dst, const void *src, size_t n_blocks)
{
    const uint8_t *p = src;
    for (size_t i = 0; i < n_blocks; i++, p += 144) {
        float d = load_half(p), dmin = load_half(p + 2);
        const uint8_t *sc = p + 4, *qs = p + 16;
        for (size_t j = 0; j < 8; j++, dst += 32) {
            /* The first four pairs lie in the low six bits of sc[0..7]; the other four are split between nibbles of
             * sc[8..11] and the top two bits that the first four leave free. */
            int32_t scale = j < 4 ? sc[j] & 63 : (sc[j + 4] & 15) | sc[j - 4] >> 6 << 4;
            int32_t min = j < 4 ? sc[j + 4] & 63 : sc[j + 4] >> 4 | sc[j] >> 6 << 4;
            float a = d * (float)scale, b = dmin * (float)min;
            for (size_t l = 0; l < 32; l++) {
                int32_t q = qs[j / 2 * 32 + l] >> (j & 1) * 4 & 15;
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
