/* Whatever reads rows of matrices: the embedding look-up, the linear map, the choice of rows.
 *
 * A weight is decoded as quant/dtype.h says, row by row, and never stored decoded. Which path a row takes (prompt, exact)
 * makes no difference here: there is only the right answer. */
#include "ref/ref.h"

#include <string.h>

/* Weight rows decoded at a time: a row of x then meets all of them while it lies in the first cache. Changes no result. */
#define BLOCK 16
/* Partial sums of a dot product. Fixed, so that the order of the additions is; eight, so that a compiler may vectorise. */
#define LANES 8

/* y[n,D] = row token[i] of w, times scale (Gemma: sqrt(D) rounded to bf16). */
void ct_ref_embed(ct_ctx *c, ct_view y, const ct_weight *w, const ct_rows *rows, float scale)
{
    (void)c;
    for (int32_t i = 0; i < rows->n; i++) {
        float *yi = ct_view_row(y, i);
        ct_row_decode(w->dtype, yi, ct_ref_blocks(w, rows->token[i]), (size_t)w->cols);
        for (int32_t j = 0; j < w->cols; j++)
            yi[j] = (float)((double)yi[j] * (double)scale);
    }
}

/* A product of two f32 values is exact in f64, so only the additions round: relative error below K 2^-53.
 * Lane l of the eight sums elements l, l+8, ...; they live in four pairs, because compilers keep pairs in registers. */
typedef double pair __attribute__((vector_size(16)));

static pair two(const double *p)
{
    pair v;
    memcpy(&v, p, sizeof v);
    return v;
}

static double dot(const double *a, const double *b, int32_t n)
{
    pair s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int32_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        s0 += two(a + j) * two(b + j);
        s1 += two(a + j + 2) * two(b + j + 2);
        s2 += two(a + j + 4) * two(b + j + 4);
        s3 += two(a + j + 6) * two(b + j + 6);
    }
    double rest = 0.0;
    for (; j < n; j++)
        rest += a[j] * b[j];
    pair sum = (s0 + s2) + (s1 + s3);
    return sum[0] + sum[1] + rest;
}

static void widen(double *dst, const float *src, int32_t n)
{
    for (int32_t j = 0; j < n; j++)
        dst[j] = (double)src[j];
}

size_t ct_ref_linear_scratch(const ct_limits *l)
{
    size_t k = ct_round_up((size_t)l->max_cols, 64);
    return k * sizeof(float) + (1 + BLOCK) * k * sizeof(double);
}

/* y[i][r][o] = sum over k of x[r][k] * w[i][o][k], for the matrices that share the input x. The head may be asked for
 * fewer outputs than the matrix has rows (spare vocabulary rows come last): y's columns decide. */
void ct_ref_linear(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w, const ct_rows *rows)
{
    (void)rows;
    size_t used = c->scratch->used, k = (size_t)x.cols;
    float *narrow = ct_arena_alloc(c->scratch, k * sizeof(float));          /* [K] */
    double *xr = ct_arena_alloc(c->scratch, k * sizeof(double));            /* [K] */
    double *block = ct_arena_alloc(c->scratch, BLOCK * k * sizeof(double)); /* [BLOCK][K] */
    for (int32_t i = 0; i < m; i++) {
        for (int32_t first = 0; first < y[i].cols; first += BLOCK) {
            int32_t count = y[i].cols - first < BLOCK ? y[i].cols - first : BLOCK;
            for (int32_t o = 0; o < count; o++) {
                ct_row_decode(w[i]->dtype, narrow, ct_ref_blocks(w[i], first + o), k);
                widen(block + (size_t)o * k, narrow, x.cols);
            }
            for (int32_t r = 0; r < x.rows; r++) {
                widen(xr, ct_view_row(x, r), x.cols);
                float *yr = ct_view_row(y[i], r) + first;
                for (int32_t o = 0; o < count; o++)
                    yr[o] = (float)dot(xr, block + (size_t)o * k, x.cols);
            }
        }
    }
    c->scratch->used = used;
}

/* y[i] = x[index[i]] */
void ct_ref_gather(ct_ctx *c, ct_view y, ct_view x, const int32_t *index)
{
    (void)c;
    for (int32_t i = 0; i < y.rows; i++)
        memcpy(ct_view_row(y, i), ct_view_row(x, index[i]), (size_t)y.cols * sizeof(float));
}
