/* Sixteen-bit floats, portable and exact: bfloat16 and IEEE half.
 *
 * Conversions to 16 bits round to nearest even and keep NaN quiet. Kernels use the machine's own instructions where it
 * has them; they give the same bits. */
#ifndef CT_BASE_HALF_H
#define CT_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float ct_f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint32_t ct_bits_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float ct_bf16_to_f32(uint16_t h) { return ct_f32_from_bits((uint32_t)h << 16); }

static inline uint16_t ct_f32_to_bf16(float f)
{
    uint32_t u = ct_bits_from_f32(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u); /* keep NaN a quiet NaN: rounding could make it infinity */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

float ct_f16_to_f32(uint16_t h);
uint16_t ct_f32_to_f16(float f);

#endif
