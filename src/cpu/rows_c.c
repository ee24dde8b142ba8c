/* Row kernels in portable C: f32 with f64 sums where a sum is long. */
#include <math.h>

#include "cpu/kernels.h"

static void rmsnorm_c(float *y, const float *x, const float *w, int32_t n, float eps)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    float r = (float)(1.0 / sqrt(sum / n + (double)eps));
    for (int32_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
}

static void norm_add_c(float *x, const float *y, const float *w, int32_t n, float eps)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)y[i] * y[i];
    float r = (float)(1.0 / sqrt(sum / n + (double)eps));
    for (int32_t i = 0; i < n; i++)
        x[i] += y[i] * r * w[i];
}

static void rope_c(float *x, const float *cs, int32_t d)
{
    int32_t half = d / 2;
    for (int32_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half], co = cs[i], si = cs[i + half];
        x[i] = a * co - b * si;
        x[i + half] = b * co + a * si;
    }
}

/* 0.5 g (1 + tanh u) = g / (1 + exp(-2u)), u = sqrt(2/pi) (g + 0.044715 g^3): no tanh of infinities, no NaN. */
static void geglu_c(float *y, const float *gate, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        float g = gate[i], u = 0.79788456080286536f * (g + 0.044715f * g * g * g);
        y[i] = g / (1.0f + expf(-2.0f * u)) * up[i];
    }
}

void ct_cpu_rows_c(struct kernels *k)
{
    k->rmsnorm = rmsnorm_c;
    k->norm_add = norm_add_c;
    k->rope = rope_c;
    k->geglu = geglu_c;
}
