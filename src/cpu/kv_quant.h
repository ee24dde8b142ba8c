/* Quantised cache types of the cpu backend: groups of 32 dimensions of one position, scale in f16.
 *
 *   q8 (CT_Q8_0)  scale = f16(amax / 127);                        q = round(x / scale), -127 to 127;     x ~ scale q
 *   q4 (CT_Q4_1)  min = f16(smallest), scale = f16((largest - min) / 15);  q = round((x - min) / scale), 0 to 15;  x ~ scale q + min
 *
 * Halves go to even, x / scale is x times the f32 reciprocal, scales and minima stop at 65504. A group with NaN or infinity gets
 * NaN as its scale: a fault of the model must stay visible. ref_attention.c says the same for its own blocks; checks compare
 * the two bit by bit. Where groups lie in a page: attention.c. */
#ifndef CT_CPU_KV_QUANT_H
#define CT_CPU_KV_QUANT_H

#include <float.h>
#include <math.h>

#include "base/half.h"
#include "quant/dtype.h"

#define KV_GROUP 32
#define KV_F16_MAX 65504.0f
#define KV_F16_NAN 0x7e00

static inline bool kv_quantized(ct_dtype t) { return t == CT_Q8_0 || t == CT_Q4_1; }

/* Bytes of a group, scale and minimum included. */
static inline size_t kv_block_bytes(ct_dtype t) { return t == CT_Q8_0 ? 34 : 20; }

struct kv_group {
    uint16_t scale, min;
    uint8_t q[KV_GROUP]; /* q8: i8 [32]; q4: [16], element j in the low, j + 16 in the high half */
};

static inline void kv_encode(struct kv_group *g, ct_dtype type, const float *x)
{
    float lo = x[0], hi = x[0];
    bool bad = false;
    for (int i = 0; i < KV_GROUP; i++) {
        bad |= !(fabsf(x[i]) <= FLT_MAX);
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *g = (struct kv_group){.scale = KV_F16_NAN};
    if (bad)
        return;
    if (type == CT_Q8_0) {
        float amax = -lo > hi ? -lo : hi, d = amax / 127.0f;
        g->scale = ct_f32_to_f16(d < KV_F16_MAX ? d : KV_F16_MAX);
        float scale = ct_f16_to_f32(g->scale), inverse = scale > 0 ? 1.0f / scale : 0;
        for (int i = 0; i < KV_GROUP; i++) {
            float q = rintf(x[i] * inverse);
            g->q[i] = (uint8_t)(int8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
        }
        return;
    }
    g->min = ct_f32_to_f16(lo < -KV_F16_MAX ? -KV_F16_MAX : lo > KV_F16_MAX ? KV_F16_MAX : lo);
    float min = ct_f16_to_f32(g->min), d = (hi - min) / 15.0f;
    g->scale = ct_f32_to_f16(d > 0 ? (d < KV_F16_MAX ? d : KV_F16_MAX) : 0);
    float scale = ct_f16_to_f32(g->scale), inverse = scale > 0 ? 1.0f / scale : 0;
    for (int i = 0; i < KV_GROUP; i++) {
        float q = rintf((x[i] - min) * inverse);
        int n = q > 15 ? 15 : q > 0 ? (int)q : 0;
        g->q[i % 16] = (uint8_t)(g->q[i % 16] | n << (i < 16 ? 0 : 4));
    }
}

#endif
