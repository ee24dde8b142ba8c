/* Whatever reads rows of matrices: the embedding look-up, the linear map, the choice of rows.
 *
 * A weight is decoded as quant/dtype.h says, row by row, and never stored decoded. Which path a row takes (prompt, exact)
 * makes no difference here: there is only the right answer. */
#include "ref/ref.h"

#include <math.h>
#include <stdlib.h>
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

static int by_value(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

size_t ct_ref_top_scratch(const ct_limits *l)
{
    return l->head_out > 0 ? ct_ref_linear_scratch(l) + (size_t)l->head_out * sizeof(float) + 64 : 0;
}

/* y = rough x; every column whose upper bound reaches the top-th largest lower bound is then computed from w itself, and so are
 * the columns asked for by name. */
void ct_ref_linear_top(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, const ct_rough *rough,
                       ct_screen *const *how)
{
    size_t used = c->scratch->used;
    const ct_weight *copy = &rough->w;
    float *low = ct_arena_alloc(c->scratch, (size_t)y.cols * sizeof *low); /* [V] */
    ct_ref_linear(c, 1, &y, x, &copy, NULL);
    for (int32_t i = 0; i < x.rows; i++) {
        const float *xi = ct_view_row(x, i);
        float *yi = ct_view_row(y, i);
        double square = 0.0;
        for (int32_t k = 0; k < x.cols; k++)
            square += (double)xi[k] * (double)xi[k];
        float reach = (float)((double)CT_SCREEN_SIGMAS * sqrt(square));
        for (int32_t o = 0; o < y.cols; o++)
            low[o] = yi[o] - reach * rough->spread[o];
        qsort(low, (size_t)y.cols, sizeof *low, by_value);
        float bound = how[i]->top <= y.cols ? low[y.cols - how[i]->top] : -INFINITY;
        how[i]->scored = 0;
        for (int32_t o = 0; o < y.cols; o++) {
            bool needed = !(yi[o] + reach * rough->spread[o] < bound);
            for (int32_t k = 0; k < how[i]->n_also; k++)
                needed = needed || how[i]->also[k] == o;
            if (!needed)
                continue;
            ct_weight row = *w;
            const ct_weight *one = &row;
            row.buf.host = (void *)(uintptr_t)ct_ref_blocks(w, o);
            ct_view yo = y, xo = x;
            yo.off += ((size_t)i * y.stride + (size_t)o) * sizeof(float);
            xo.off += (size_t)i * x.stride * sizeof(float);
            yo.rows = yo.cols = xo.rows = 1;
            ct_ref_linear(c, 1, &yo, xo, &one, NULL);
            how[i]->scored++;
        }
    }
    c->scratch->used = used;
}
