/* The table of encoders, and those of types that need no search: floats, where each element is rounded by itself. */
#include "convert/encode.h"

#include "convert/search.h"

/* Little-endian words as they are. */
static bool encode_f32(const ct_encoder *e, void *dst, const float *src, size_t n, const float *importance)
{
    (void)e;
    (void)importance;
    uint8_t *p = dst;
    uint32_t worst = 0;
    for (size_t j = 0; j < n; j++) {
        uint32_t u = ct_bits_from_f32(src[j]), magnitude = u & 0x7fffffffu;
        worst = magnitude > worst ? magnitude : worst;
        ct_store_u32(p + 4 * j, u);
    }
    return worst < 0x7f800000u;
}

static bool encode_f16(const ct_encoder *e, void *dst, const float *src, size_t n, const float *importance)
{
    (void)e;
    (void)importance;
    uint8_t *p = dst;
    uint16_t worst = 0;
    for (size_t j = 0; j < n; j++) {
        uint16_t h = ct_f32_to_f16(src[j]), magnitude = h & 0x7fffu;
        worst = magnitude > worst ? magnitude : worst;
        ct_store_u16(p + 2 * j, h);
    }
    return worst < 0x7c00u; /* NaN, infinity, and what rounds to it */
}

static bool encode_bf16(const ct_encoder *e, void *dst, const float *src, size_t n, const float *importance)
{
    (void)e;
    (void)importance;
    uint8_t *p = dst;
    uint16_t worst = 0;
    for (size_t j = 0; j < n; j++) {
        uint16_t h = ct_f32_to_bf16(src[j]), magnitude = h & 0x7fffu;
        worst = magnitude > worst ? magnitude : worst;
        ct_store_u16(p + 2 * j, h);
    }
    return worst < 0x7f80u;
}

static const ct_encoder table[] = {
    {CT_F32, encode_f32},      {CT_F16, encode_f16},          {CT_BF16, encode_bf16},        {CT_Q4_0, ct_encode_q4_0},
    {CT_Q4_1, ct_encode_q4_1}, {CT_Q5_0, ct_encode_q5_0},     {CT_Q5_1, ct_encode_q5_1},     {CT_Q8_0, ct_encode_q8_0},
    {CT_Q2_K, ct_encode_q2_k}, {CT_Q3_K, ct_encode_q3_k},     {CT_Q4_K, ct_encode_q4_k},     {CT_Q5_K, ct_encode_q5_k},
    {CT_Q6_K, ct_encode_q6_k}, {CT_IQ4_NL, ct_encode_iq4_nl}, {CT_IQ4_XS, ct_encode_iq4_xs},
#define CT_MLX(id, bits, group, suffix, scale_bytes) {id, ct_encode_mlx},
#include "quant/mlx.def"
#undef CT_MLX
};

const ct_encoder *ct_encoder_get(ct_dtype type)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].type == type)
            return &table[i];
    return NULL;
}
