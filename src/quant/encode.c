/* Floats into blocks. The scale is searched: the largest element at the end of the range is not what the other 31 want. */
#include "quant/encode.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

#define N 32
#define LANES 8 /* sums in a fixed order that compilers make vectors of */

/* Squared error of 32 elements in steps of d, d != 0. */
static float error_of(const float *x, float d)
{
    float lane[LANES] = {0}, inverse = 1.0f / d;
    for (int j = 0; j < N; j += LANES)
        for (int l = 0; l < LANES; l++) {
            float t = x[j + l] * inverse + 8.5f;
            t = t < 0.0f ? 0.0f : t;
            t = t > 15.0f ? 15.0f : t;
            float e = x[j + l] - d * (float)((int32_t)t - 8);
            lane[l] += e * e;
        }
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

static uint8_t level(float x, float inverse)
{
    float t = x * inverse + 8.5f;
    return (uint8_t)(t < 0.0f ? 0.0f : t > 15.0f ? 15.0f : t);
}

double ct_q4_0_encode(uint8_t *dst, const float *src, size_t n_blocks)
{
    /* Of the step that puts the largest element at -8: smaller ones clip it and serve the rest. Over the head of the 270M model
     * the search takes a sixth off the error's length. */
    static const float tries[] = {1.0f, 0.94f, 0.88f, 0.82f, 0.76f};
    double sum = 0.0;
    for (size_t b = 0; b < n_blocks; b++, src += N, dst += 18) {
        float most = 0.0f, best = INFINITY, d = 0.0f;
        for (int j = 0; j < N; j++)
            most = fabsf(src[j]) > fabsf(most) ? src[j] : most;
        for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
            float step = ct_f16_to_f32(ct_f32_to_f16(most / -8.0f * tries[i]));
            float e = step != 0.0f && isfinite(1.0f / step) ? error_of(src, step) : INFINITY;
            if (e < best) {
                best = e;
                d = step;
            }
        }
        uint16_t half = ct_f32_to_f16(d);
        float inverse = d != 0.0f ? 1.0f / d : 0.0f;
        dst[0] = (uint8_t)(half & 0xff);
        dst[1] = (uint8_t)(half >> 8);
        for (int j = 0; j < N / 2; j++)
            dst[2 + j] = (uint8_t)(level(src[j], inverse) | level(src[j + N / 2], inverse) << 4);
        if (d == 0.0f)
            best = error_of(src, 1e30f); /* all zeros, or too small for a step */
        sum += (double)best;
    }
    return sum;
}
