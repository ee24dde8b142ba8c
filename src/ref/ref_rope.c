/* Rotary positions: the table of angles of a step, and the rotation.
 *
 * Su et al., "RoFormer" (2021), in the half-split form that Gemma 3 was trained with: element j is paired with j + d/2.
 * factor (8 on the global layers of 4b and up, otherwise 1) divides the angle. */
#include "ref/ref.h"

#include <math.h>

/* cs[i][j] = cos(a), cs[i][d/2+j] = sin(a), a = pos[i] * theta^(-2j/d) / factor */
void ct_ref_rope_table(ct_ctx *c, ct_view cs, const ct_rows *rows, const ct_rope *how)
{
    (void)c;
    int32_t half = how->head_dim / 2;
    for (int32_t i = 0; i < rows->n; i++) {
        float *row = ct_view_row(cs, i);
        for (int32_t j = 0; j < half; j++) {
            double a = rows->pos[i] * pow(how->theta, -2.0 * j / how->head_dim) / how->factor;
            row[j] = (float)cos(a);
            row[half + j] = (float)sin(a);
        }
    }
}

/* y[j] = x[j] cos - x[j+d/2] sin;  y[j+d/2] = x[j+d/2] cos + x[j] sin. In place, each head by the row's own angles. */
void ct_ref_rope(ct_ctx *c, ct_view x, ct_view cs, int32_t heads)
{
    (void)c;
    int32_t d = x.cols / heads, half = d / 2;
    for (int32_t i = 0; i < x.rows; i++) {
        const float *row = ct_view_row(cs, i);
        for (int32_t h = 0; h < heads; h++) {
            float *head = ct_view_row(x, i) + (size_t)h * (size_t)d;
            for (int32_t j = 0; j < half; j++) {
                double a = (double)head[j], b = (double)head[half + j];
                double cos_a = (double)row[j], sin_a = (double)row[half + j];
                head[j] = (float)(a * cos_a - b * sin_a);
                head[half + j] = (float)(b * cos_a + a * sin_a);
            }
        }
    }
}
