/* The encoder of MLX's affine types: x = scale q + bias, with scale and bias in bf16 (or f16, f32) and q a stream of bits.
 *
 * bf16 has eight significant bits, fewer than a code of eight bits: rounding a scale at the end would move the codes far from zero by half
 * a step and more. So scales are rounded first, down and up; for each the bias that suits it likewise, codes are taken with what will be
 * stored, and the choice with the least error stays. The layout is in quant/dtype.h, at ct_mlx. */
#include <math.h>

#include "convert/search.h"

/* The bits of v rounded to the type, `steps` magnitudes farther from zero (bits of one sign are in order of magnitude). */
static uint32_t round_to(ct_dtype type, float v, int32_t steps)
{
    if (type == CT_F32)
        return ct_bits_from_f32(v);
    int32_t h = type == CT_BF16 ? ct_f32_to_bf16(v) : ct_f32_to_f16(v);
    return (uint32_t)((h & 0x7fff) > 2 ? h + steps : h);
}

static float value_of(ct_dtype type, uint32_t bits)
{
    return type == CT_F32    ? ct_f32_from_bits(bits)
           : type == CT_BF16 ? ct_bf16_to_f32((uint16_t)bits)
                             : ct_f16_to_f32((uint16_t)bits);
}

struct choice {
    uint32_t scale, bias; /* bits as stored */
    float error;
    float q[CT_GROUP_MAX];
};

/* The best of the values around s that can be stored, and for each of those around the bias that suits it. */
static inline void choose(struct choice *best, const float *x, const float *w, size_t n, float hi, ct_dtype type,
                          float s, float m)
{
    static const int32_t steps[] = {0, 1, -1, 2, -2};
    const size_t scales = type == CT_F32 ? 1 : hi > 100 ? 5 : 3, biases = type == CT_F32 ? 1 : 3;
    float q[CT_GROUP_MAX], weight = 0, sum = 0;
    for (size_t j = 0; j < n; j++) {
        weight += w[j];
        sum += w[j] * x[j];
    }
    for (size_t i = 0; i < scales; i++) {
        uint32_t scale = round_to(type, s, steps[i]);
        float v = value_of(type, scale), inv = ct_inverse(v), codes = 0;
        ct_codes(q, x, n, inv, m, 0, hi);
        for (size_t j = 0; j < n; j++)
            codes += w[j] * q[j];
        float suits = (sum - v * codes) / weight;
        for (size_t k = 0; k < biases; k++) {
            uint32_t bias = round_to(type, suits, steps[k]);
            float b = value_of(type, bias);
            ct_codes(q, x, n, inv, b, 0, hi);
            float error = ct_error_of(x, w, q, n, v, b);
            if (error < best->error) {
                *best = (struct choice){.scale = scale, .bias = bias, .error = error};
                memcpy(best->q, q, n * sizeof *q);
            }
        }
    }
}

/* Element k in bits k * bits .. of a little-endian stream. */
static void store_stream(uint8_t *p, const float *q, size_t n, uint32_t bits)
{
    uint32_t hold = 0, held = 0;
    for (size_t j = 0; j < n; j++) {
        hold |= (uint32_t)(int32_t)q[j] << held;
        for (held += bits; held >= 8; held -= 8, hold >>= 8)
            *p++ = (uint8_t)hold;
    }
}

static inline bool encode_group(uint8_t *p, const float *x, const float *importance, size_t n, ct_mlx m)
{
    float w[CT_GROUP_MAX], hi = (float)((1 << m.bits) - 1);
    struct choice c = {.error = INFINITY};
    if (!ct_weigh(w, x, importance, n))
        return false;
    struct ct_line found = ct_search_affine(x, w, n, hi, false);
    choose(&c, x, w, n, hi, m.scales, found.s, found.m);
    if (!isfinite(c.error) || !isfinite(value_of(m.scales, c.scale)) || !isfinite(value_of(m.scales, c.bias)))
        return false;
    if (m.scales == CT_F32) {
        ct_store_u32(p, c.scale);
        ct_store_u32(p + 4, c.bias);
        p += 8;
    } else {
        ct_store_u16(p, (uint16_t)c.scale);
        ct_store_u16(p + 2, (uint16_t)c.bias);
        p += 4;
    }
    store_stream(p, c.q, n, (uint32_t)m.bits);
    return true;
}

CT_ENCODER(mlx)
{
    const ct_dtype_info *t = ct_dtype_get((int32_t)e->type);
    ct_mlx m;
    if (t == NULL || !ct_mlx_of(t, &m))
        return false;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += (size_t)m.group, p += t->block_bytes) {
        const float *x = src + i, *imp = ct_at(importance, i);
        bool ok = m.group == 32   ? encode_group(p, x, imp, 32, m) /* constants, for the compiler's vectors */
                  : m.group == 64 ? encode_group(p, x, imp, 64, m)
                                  : encode_group(p, x, imp, 128, m);
        if (!ok)
            return false;
    }
    return true;
}
