/* IEEE half <-> float, by bits: exact for every value, subnormals included. See half.h. */
#include "base/half.h"

#include <math.h>

float ct_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = h >> 10 & 31u, man = h & 1023u;
    if (exp == 31)
        return ct_f32_from_bits(sign | 0x7f800000u | man << 13);
    if (exp != 0)
        return ct_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    float f = (float)man * 0x1p-24f; /* subnormal: man * 2^-24 is exact in a float */
    return sign ? -f : f;
}

uint16_t ct_f32_to_f16(float f)
{
    uint32_t u = ct_bits_from_f32(f), sign = u >> 16 & 0x8000u, mag = u & 0x7fffffffu;
    if (mag > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (mag >> 13 & 0x1ffu));
    if (mag >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00u); /* 65520 and above round to infinity */
    if (mag < 0x38800000u) {               /* below 2^-14: a subnormal half, in units of 2^-24 */
        float units = ct_f32_from_bits(mag) * 0x1p24f;
        return (uint16_t)(sign | (uint32_t)lrintf(units)); /* default mode: nearest even */
    }
    uint32_t r = mag - 0x38000000u;
    return (uint16_t)(sign | (r + 0xfffu + (r >> 13 & 1u)) >> 13);
}
