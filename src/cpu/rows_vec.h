/* Row kernels for any vectors. Sums run in four chains and are folded in one order; what is left over at a row's end goes
 * through a padded copy, so that every element takes the same path. Included after vec_<isa>.h. */
#ifndef CT_CPU_ROWS_VEC_H
#define CT_CPU_ROWS_VEC_H

#include <math.h>

#include "cpu/exp_vec.h"

/* n elements, the rest of the lanes zero. */
INLINE vf load_some(const float *p, int32_t n)
{
    if (n >= LANES)
        return vf_load(p);
    float padded[LANES] = {0};
    memcpy(padded, p, (size_t)n * sizeof *p);
    return vf_load(padded);
}

INLINE void store_some(float *p, int32_t n, vf v)
{
    if (n >= LANES) {
        vf_store(p, v);
        return;
    }
    float padded[LANES];
    vf_store(padded, v);
    memcpy(p, padded, (size_t)n * sizeof *p);
}

/* Residual values pass 65504 but squares of 1e5 stay far inside f32. */
INLINE float inverse_rms(const float *x, int32_t n, float eps)
{
    vf s[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
    int32_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLL for (int c = 0; c < 4; c++)
        {
            vf v = vf_load(x + i + c * LANES);
            s[c] = vf_fma(v, v, s[c]);
        }
    for (; i < n; i += LANES) {
        vf v = load_some(x + i, n - i);
        s[0] = vf_fma(v, v, s[0]);
    }
    return 1.0f / sqrtf(vf_sum((s[0] + s[1]) + (s[2] + s[3])) / (float)n + eps);
}

static void KERNEL(rmsnorm)(float *y, const float *x, const float *w, int32_t n, float eps)
{
    vf r = vf_set(inverse_rms(x, n, eps));
    for (int32_t i = 0; i < n; i += LANES)
        store_some(y + i, n - i, load_some(x + i, n - i) * r * load_some(w + i, n - i));
}

static void KERNEL(norm_add)(float *x, const float *y, const float *w, int32_t n, float eps)
{
    vf r = vf_set(inverse_rms(y, n, eps));
    for (int32_t i = 0; i < n; i += LANES)
        store_some(x + i, n - i, vf_fma(load_some(y + i, n - i) * r, load_some(w + i, n - i), load_some(x + i, n - i)));
}

static void KERNEL(rope)(float *x, const float *cs, int32_t d)
{
    int32_t half = d / 2;
    for (int32_t i = 0; i < half; i += LANES) {
        int32_t n = half - i;
        vf a = load_some(x + i, n), b = load_some(x + half + i, n);
        vf co = load_some(cs + i, n), si = load_some(cs + half + i, n);
        store_some(x + i, n, vf_fnma(b, si, a * co));
        store_some(x + half + i, n, vf_fma(b, co, a * si));
    }
}

/* See rows_c.c for the formula. */
static void KERNEL(geglu)(float *y, const float *gate, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i += LANES) {
        vf g = load_some(gate + i, n - i);
        vf u = vf_fma(g * g * g, vf_set(0.044715f), g) * vf_set(-1.5957691216057307f);
        store_some(y + i, n - i, g / (vf_set(1.0f) + vf_exp(u)) * load_some(up + i, n - i));
    }
}

static void fill_rows(struct kernels *k)
{
    k->rmsnorm = KERNEL(rmsnorm);
    k->norm_add = KERNEL(norm_add);
    k->rope = KERNEL(rope);
    k->geglu = KERNEL(geglu);
}

#endif
