/* RMS norms, forward: of a row, of each head of a row, and of a branch that is added to the residual.
 *
 * Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019); Gemma 3's form multiplies by (1 + w). The weight that
 * arrives here already contains the +1, as GGUF stores it. One rounding, at the very end. */
#include "ref/ref.h"

#include <math.h>

/* 1 / sqrt(mean(x^2) + eps) */
static double inverse_rms(const float *x, int32_t n, float eps)
{
    double sum = 0.0;
    for (int32_t j = 0; j < n; j++)
        sum += (double)x[j] * (double)x[j];
    return 1.0 / sqrt(sum / n + (double)eps);
}

static void norm(float *y, const float *x, const float *w, int32_t n, float eps)
{
    double r = inverse_rms(x, n, eps);
    for (int32_t j = 0; j < n; j++)
        y[j] = (float)((double)x[j] * r * (double)w[j]);
}

/* y[n,D] = x / sqrt(mean(x^2) + eps) * w */
void ct_ref_rmsnorm(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, float eps)
{
    (void)c;
    for (int32_t i = 0; i < x.rows; i++)
        norm(ct_view_row(y, i), ct_view_row(x, i), ct_ref_vector(w), x.cols, eps);
}

/* The same over each head of d elements: Gemma 3 norms queries and keys, not values. In place. */
void ct_ref_head_norm(ct_ctx *c, ct_view x, const ct_weight *w, int32_t heads, float eps)
{
    (void)c;
    int32_t d = w->cols;
    for (int32_t i = 0; i < x.rows; i++)
        for (int32_t h = 0; h < heads; h++) {
            float *head = ct_view_row(x, i) + (size_t)h * (size_t)d;
            norm(head, head, ct_ref_vector(w), d, eps);
        }
}

/* x[n,D] += y / sqrt(mean(y^2) + eps) * w: Gemma 3's post-norms act on the branch, before the addition. */
void ct_ref_norm_add(ct_ctx *c, ct_view x, ct_view y, const ct_weight *w, float eps)
{
    (void)c;
    const float *wv = ct_ref_vector(w);
    for (int32_t i = 0; i < x.rows; i++) {
        float *xi = ct_view_row(x, i);
        const float *yi = ct_view_row(y, i);
        double r = inverse_rms(yi, x.cols, eps);
        for (int32_t j = 0; j < x.cols; j++)
            xi[j] = (float)((double)xi[j] + (double)yi[j] * r * (double)wv[j]);
    }
}
