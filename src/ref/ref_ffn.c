/* The gated activation of the feed-forward network, and the cap on logits. */
#include "ref/ref.h"

#include <math.h>

/* Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), in the tanh form that Gemma uses:
 * gelu(g) = g/2 (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))). tanh itself saturates; spelled with exp it would give inf/inf. */
static double gelu(double g)
{
    const double sqrt_2_pi = 0.79788456080286535588; /* sqrt(2/pi) */
    return 0.5 * g * (1.0 + tanh(sqrt_2_pi * (g + 0.044715 * g * g * g)));
}

/* y[n,F] = gelu(gate) * up (Shazeer, "GLU Variants Improve Transformer", 2020). y may be gate. */
void ct_ref_geglu(ct_ctx *c, ct_view y, ct_view gate, ct_view up)
{
    (void)c;
    for (int32_t i = 0; i < y.rows; i++) {
        float *yi = ct_view_row(y, i);
        const float *g = ct_view_row(gate, i), *u = ct_view_row(up, i);
        for (int32_t j = 0; j < y.cols; j++)
            yi[j] = (float)(gelu((double)g[j]) * (double)u[j]);
    }
}

/* x = cap tanh(x / cap) (Bello et al., "Neural Combinatorial Optimization", 2016). */
void ct_ref_softcap(ct_ctx *c, ct_view x, float cap)
{
    (void)c;
    for (int32_t i = 0; i < x.rows; i++)
        for (int32_t j = 0; j < x.cols; j++)
            ct_view_row(x, i)[j] = (float)((double)cap * tanh((double)ct_view_row(x, i)[j] / (double)cap));
}
