/* The table of encoders, and those of types that need no search: floats, where each element is rounded by itself. */
#include "convert/encode.h"

#include "convert/search.h"

/* Little-endian words as they are. */
CT_ENCODER(f32)
{
    (void)e;
    (void)importance;
    if (!ct_all_finite(src, n))
        return false;
    uint8_t *p = dst;
    for (size_t j = 0; j < n; j++)
        ct_store_u32(p + 4 * j, ct_bits_from_f32(src[j]));
    return true;
}

CT_ENCODER(f16)
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

CT_ENCODER(bf16)
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
    {CT_F32, ct_encode_f32},   {CT_F16, ct_encode_f16},   {CT_BF16, ct_encode_bf16}, {CT_Q4_0, ct_encode_q4_0},
    {CT_Q4_1, ct_encode_q4_1}, {CT_Q5_0, ct_encode_q5_0}, {CT_Q5_1, ct_encode_q5_1}, {CT_Q8_0, ct_encode_q8_0},
};

const ct_encoder *ct_encoder_get(ct_dtype type)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].type == type)
            return &table[i];
    return NULL;
}
