/* Linear kernels in portable C: any packed type through its lane reader. Right everywhere, fast nowhere; the instruction sets
 * replace them (dot_avx512.c). Their float part runs in the same order: group by group. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/kernels.h"

static void quantize_c(const float *x, int32_t cols, int8_t *hi, int8_t *lo, float *scale, int32_t *sum,
                       float *scaled_sum)
{
    for (int32_t g = 0; g < cols / 32; g++) {
        const float *xg = x + g * 32;
        float amax = 0;
        for (int32_t k = 0; k < 32; k++)
            amax = fmaxf(amax, fabsf(xg[k]));
        float full = lo ? 32512.0f : 127.0f; /* 127 * 256: the high plane stays within -127..127 */
        float inv = amax > 0 ? full / amax : 0;
        if (!(inv <= 3e38f)) /* amax below 1e-34: as good as zero */
            inv = 0;
        scale[g] = inv > 0 ? amax / full : 0;
        int32_t s[2] = {0, 0};
        for (int32_t k = 0; k < 32; k++) {
            int32_t q = (int32_t)lrintf(xg[k] * inv);
            s[k / 16] += q;
            if (lo) {
                int32_t h = (q + 128) >> 8;
                hi[g * 32 + k] = (int8_t)h;
                lo[g * 32 + k] = (int8_t)(q - h * 256);
            } else {
                hi[g * 32 + k] = (int8_t)q;
            }
        }
        sum[2 * g] = s[0];
        sum[2 * g + 1] = s[1];
        /* NaN and infinity must come out as NaN, not as a number: the scale carries them through every product. */
        if (!(amax <= 3.4e38f))
            scale[g] = NAN;
        for (int32_t k = 0; k < 32; k++)
            if (isnan(xg[k]))
                scale[g] = NAN;
        scaled_sum[g] = scale[g] * (float)(s[0] + s[1]);
    }
}

static void split_bf16_c(const float *x, int32_t cols, uint16_t *hi, uint16_t *lo)
{
    for (int32_t k = 0; k < cols; k++) {
        hi[k] = ct_f32_to_bf16(x[k]);
        if (lo)
            lo[k] = ct_f32_to_bf16(x[k] - ct_bf16_to_f32(hi[k]));
    }
    if (cols % 2) {
        hi[cols] = 0;
        if (lo)
            lo[cols] = 0;
    }
}

/* One group of one weight row against one activation row. */
static inline float group_dot(const uint8_t *q, const float *s, const float *m, const struct tile_type *tt,
                              const struct acts *a, const struct init *init, int32_t row, int32_t g, bool exact,
                              float acc)
{
    const int8_t *hi = a->hi + (size_t)row * (size_t)a->cols + g * 32;
    size_t at = (size_t)row * (size_t)a->groups + (size_t)g;
    int32_t per = 32 / tt->halves;
    for (int32_t h = 0; h < tt->halves; h++) {
        int32_t dot = 0;
        for (int32_t k = h * per; k < (h + 1) * per; k++)
            dot += q[k] * hi[k];
        if (exact) {
            const int8_t *lo = a->lo + (size_t)row * (size_t)a->cols + g * 32;
            int32_t low = 0;
            for (int32_t k = h * per; k < (h + 1) * per; k++)
                low += q[k] * lo[k];
            dot = dot * 256 + low;
        }
        dot += init->v[at * (size_t)tt->halves + (size_t)h];
        acc = acc + (float)dot * (s[h] * a->scale[at]);
        if (tt->has_min)
            acc = acc - m[h] * (tt->halves == 1 ? a->scaled_sum[at] : a->half_sum[2 * at + (size_t)h]);
    }
    return acc;
}

static void dot_int_c(const struct tile_type *tt, const uint8_t *tile, const struct acts *a, const struct init *init,
                      int32_t row, int32_t n, bool exact, float *out)
{
    memset(out, 0, sizeof(float) * (size_t)n * TILE);
    for (int32_t r = 0; r < TILE; r++)
        for (int32_t g = 0; g < a->groups; g++) {
            uint8_t q[32];
            float s[2], m[2] = {0};
            tt->lane(tile, a->cols, g, r, q, s, m);
            for (int32_t t = 0; t < n; t++)
                out[t * TILE + r] = group_dot(q, s, m, tt, a, init, row + t, g, exact, out[t * TILE + r]);
        }
}

/* Float weights: f32 sums of four independent chains, folded in one order. bf16 activations on the prompt path. */
static void dot_float_c(const struct tile_type *tt, const uint8_t *tile, const struct acts *a, const struct init *init,
                        int32_t row, int32_t n, bool exact, float *out)
{
    const ct_dtype type = tt->type;
    (void)init;
    for (int32_t t = 0; t < n; t++)
        for (int32_t r = 0; r < TILE; r++) {
            float s[4] = {0, 0, 0, 0};
            const float *x = a->x + (size_t)(row + t) * a->stride;
            for (int32_t k = 0; k < a->cols; k++) {
                float w, v = x[k];
                uint16_t h;
                if (type == CT_F32) {
                    memcpy(&w, tile + (size_t)k * 64 + r * 4, 4);
                } else if (type == CT_F16) {
                    memcpy(&h, tile + (size_t)k * 32 + r * 2, 2);
                    w = ct_f16_to_f32(h);
                } else {
                    memcpy(&h, tile + (size_t)(k / 2) * 64 + r * 4 + k % 2 * 2, 2);
                    w = ct_bf16_to_f32(h);
                    if (!exact)
                        v = ct_bf16_to_f32(a->bhi[(size_t)(row + t) * ct_round_up((size_t)a->cols, 2) + (size_t)k]);
                }
                s[k % 4] += w * v;
            }
            out[t * TILE + r] = s[0] + s[1] + (s[2] + s[3]);
        }
}

void ct_cpu_linear_c(struct kernels *k)
{
    k->quantize = quantize_c;
    k->split_bf16 = split_bf16_c;
    for (int32_t i = 0; i < N_KERNELS; i++)
        k->dot[i] = dot_int_c;
    k->dot[CT_BF16] = k->dot[CT_F16] = k->dot[CT_F32] = dot_float_c;
}
