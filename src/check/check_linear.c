/* Checks of embed, linear and linear_geglu, and where their budgets come from.
 *
 * Rounding an activation is an independent random error per element, so the error of a dot product has a standard deviation
 * that can be computed from the data of the case, and six of them are the limit. Per element (a: largest magnitude of its
 * group of 32 activations):
 *   exact path            two int8 planes, step a/(127*254):  sigma = a / 32258 / sqrt(12); two bf16 planes are finer
 *   prompt, quantized w   one int8 plane, step a/127:         sigma = a / 127 / sqrt(12)
 *   prompt, float w       bf16, relative 2^-9 at most:        sigma = |x| 2^-9 / sqrt(3); where w is wider than bf16 it may
 *                         be rounded as well:                 sqrt(2) of that
 * times |w|, summed in squares. On top of it comes arithmetic in f32: sums of K products in at least 16 lanes or groups.
 * Coarser groups than 32 would pass six sigmas on plain data, so cases with enough outputs also limit the root mean square
 * of error / sigma, at 1.3: its expectation is 1 for the arithmetic above, and outliers in a row make coarser groups show. */
#include "check/harness.h"

#include <stdio.h>
#include <string.h>

#define GROUP 32
#define RMS_LIMIT 1.3
#define RMS_OUTPUTS 256

/* Affine types of MLX share a kernel per number of bits, whatever their groups and scales, and what differs between these is where
 * the quants come from: groups of 64 with bf16 scales are checked in full (of a quick check 4 bits alone), the others by a few
 * cases each, which prove where their scales and quants lie. */
static bool is_variant(const ct_check *t, const ct_dtype_info *type)
{
    ct_mlx m;
    return ct_mlx_of(type, &m) && (m.group != 64 || m.scales != CT_BF16 || (t->quick && m.bits != 4));
}

struct shape {
    int32_t m, n, n_prompt, cols;
    const ct_dtype_info *type[CT_LINEAR_MAX];
    int32_t out[CT_LINEAR_MAX];
    ct_fill fill;
    float sigma_w;
    bool exact, invariance;
};

/* ---- embed ---- */

static void embed_case(ct_check *t, const ct_dtype_info *type, int32_t n, int32_t rows, int32_t cols)
{
    ct_check_weight w;
    ct_check_case(t, "n %d, %d x %d", n, rows, cols);
    if (!ct_check_weight_load(t, &w, type, CT_WEIGHT_EMBED, rows, cols, 0.05f))
        return;
    int32_t *token = ct_check_ints(t, (size_t)n);
    for (int32_t i = 0; i < n; i++)
        token[i] = i == 0 ? rows - 1 : (int32_t)ct_check_draw(t, (uint64_t)rows);
    ct_rows r = {.n = n, .n_prompt = n, .token = token};
    ct_limits l = {
        .rows = n, .max_cols = cols, .max_out = rows, .heads = 1, .kv_heads = 1, .head_dim = 32, .context = 64};
    ct_ctx c = ct_check_ctx(t, CT_CHECK_POOLS - 1, false, l), rc = ct_check_ref_ctx(t, l);
    ct_guarded y = ct_check_out(t, n, cols);
    ct_check_before(t, &c, &r, NULL, NULL, 0);
    t->ops->embed(&c, y.dev, &w.dev, &r, 25.25f);
    ct_check_after(t, &c);
    t->ref->embed(&rc, y.ref, &w.ref, &r, 25.25f);
    ct_check_guard(t, &y, "y");
    /* Decoding scale * quant - min in f32, in whatever order, and the scale: four roundings of the group's largest. */
    for (int32_t i = 0; i < n; i++)
        for (int32_t g = 0; g < cols; g += GROUP) {
            int32_t end = g + GROUP < cols ? g + GROUP : cols;
            float largest = 0.0f; /* in f64, gcc 12 for aarch64 stops with an internal error at -O3 */
            const float *want = ct_view_row(y.ref, i);
            for (int32_t j = g; j < end; j++)
                largest = fmaxf(largest, fabsf(want[j]));
            for (int32_t j = g; j < end; j++)
                ct_check_value(t, "y", i, j, (double)ct_view_row(y.dev, i)[j], (double)want[j],
                               4.0 * CT_EPS32 * (double)largest + 0x1p-126);
        }
    ct_check_weight_free(t, &w);
}

void ct_check_embed(ct_check *t)
{
    const ct_dtype_info *type;
    for (size_t i = 0; (type = ct_dtype_at(i)) != NULL && t->status == CT_OK; i++) {
        if (!t->b->supports(type, CT_WEIGHT_EMBED)) {
            ct_check_line_skip(t, "embed", type->name, "the backend does not take the type");
            continue;
        }
        ct_check_line_begin(t, "embed", type->name);
        int32_t unit = type->block_elems > GROUP ? type->block_elems : GROUP;
        const int32_t rows[] = {1, 15, 16, 17, 40, 100};
        for (const int32_t *n = ct_check_counts(t); !is_variant(t, type) && *n && t->status == CT_OK; n++)
            embed_case(t, type, *n, rows[ct_check_draw(t, 6)], unit * (int32_t)(1 + ct_check_draw(t, 5)));
        embed_case(t, type, 3, 40, 2560);
        ct_check_line_end(t);
    }
}

/* ---- budgets of a dot product ---- */

struct budget {
    double sigma;  /* of rounding the activations */
    double f32;    /* of sums in f32: a limit, not a deviation */
    double system; /* what rounding does when all its errors point one way, and what flushing subnormals does */
};

static struct budget dot_budget(const float *x, const float *w, int32_t k, const ct_dtype_info *type, bool prompt)
{
    bool bf16 = prompt && !type->quantized;
    double per_x = bf16 ? CT_EPSBF16 / sqrt(3.0) * (type->type == CT_BF16 ? 1.0 : sqrt(2.0))
                        : 1.0 / (prompt ? 127.0 : 32258.0) / sqrt(12.0);
    double variance = 0.0, magnitude = 0.0, square = 0.0, sum = 0.0, w_sum = 0.0;
    for (int32_t g = 0; g < k; g += GROUP) {
        int32_t end = g + GROUP < k ? g + GROUP : k;
        double amax = 0.0, wmax = 0.0, x2 = 0.0, w2 = 0.0, xw2 = 0.0;
        for (int32_t j = g; j < end; j++) {
            double xj = (double)x[j], wj = (double)w[j], p = xj * wj;
            amax = fabs(xj) > amax ? fabs(xj) : amax;
            wmax = fabs(wj) > wmax ? fabs(wj) : wmax;
            x2 += xj * xj;
            w2 += wj * wj;
            xw2 += p * p;
            sum += p;
            magnitude += fabs(p);
            w_sum += fabs(wj);
        }
        variance += (bf16 ? xw2 : amax * amax * w2) * per_x * per_x;
        square += x2 * wmax * wmax; /* a weight is scale * quant - min: its parts may be larger than itself */
    }
    struct budget b = {.sigma = sqrt(variance)};
    b.f32 = CT_EPS32 * (sqrt((double)k) / 4.0 + 2.0) * (magnitude + 4.0 * sqrt(square));
    /* Scales of groups smaller than 2^-110 may be flushed with what they scale: nothing that a model computes. */
    b.system = 0x1p-110 * w_sum + 0x1p-126;
    if (bf16)
        b.system += CT_EPSBF16 * (type->type == CT_BF16 ? 1.0 : 2.0) * fabs(sum);
    return b;
}

static double limit_of(struct budget b) { return 6.0 * b.sigma + b.f32 + b.system; }

/* ---- linear ---- */

static void compare_linear(ct_check *t, const struct shape *s, int32_t i, const ct_guarded *x, const ct_guarded *y,
                           const ct_check_weight *w)
{
    double mean[2] = {0.0, 0.0};
    int64_t count[2] = {0, 0};
    for (int32_t r = 0; r < s->n; r++) {
        bool prompt = r < s->n_prompt && !s->exact;
        for (int32_t o = 0; o < s->out[i]; o++) {
            double got = (double)ct_view_row(y->dev, r)[o], want = (double)ct_view_row(y->ref, r)[o];
            const float *wo = w->f32 + (size_t)o * (size_t)s->cols;
            struct budget b = dot_budget(ct_view_row(x->ref, r), wo, s->cols, s->type[i], prompt);
            ct_check_value(t, prompt ? "prompt y" : "exact y", r, o, got, want, limit_of(b));
            double e = got - want, sd = b.sigma * b.sigma + b.f32 * b.f32 / 9.0 + b.system * b.system;
            mean[prompt] += e * e / sd;
            count[prompt]++;
        }
    }
    for (int32_t p = 0; p < 2; p++)
        if (count[p] >= RMS_OUTPUTS && (s->fill == CT_FILL_NORMAL || s->fill == CT_FILL_OUTLIERS)) {
            double rms = sqrt(mean[p] / (double)count[p]);
            ct_check_used(t, rms / RMS_LIMIT, "%s rows: error of %.3g standard deviations (%s), limit %.2g",
                          p ? "prompt" : "exact", rms, s->type[i]->name, RMS_LIMIT);
        }
}

static ct_limits linear_limits(const struct shape *s)
{
    ct_limits l = {.rows = s->n, .max_cols = s->cols, .heads = 1, .kv_heads = 1, .head_dim = 32, .context = 64};
    for (int32_t i = 0; i < s->m; i++)
        l.max_out = s->out[i] > l.max_out ? s->out[i] : l.max_out;
    return l;
}

static void run_linear(ct_check *t, const struct shape *s, int32_t pool, const ct_guarded *y, ct_view x,
                       const ct_check_weight *w, const ct_rows *rows)
{
    ct_view views[CT_LINEAR_MAX];
    const ct_weight *ws[CT_LINEAR_MAX];
    for (int32_t i = 0; i < s->m; i++) {
        views[i] = y[i].dev;
        ws[i] = &w[i].dev;
    }
    ct_ctx c = ct_check_ctx(t, pool, s->exact, linear_limits(s));
    c.deterministic = s->invariance;
    ct_check_before(t, &c, rows, NULL, NULL, 0);
    t->ops->linear(&c, s->m, views, x, ws, rows);
    ct_check_after(t, &c);
}

/* A row's bits do not depend on the number of threads, nor on which rows are computed with it. */
static void linear_invariance(ct_check *t, const struct shape *s, const ct_guarded *x, const ct_guarded *y,
                              const ct_check_weight *w, const ct_rows *rows)
{
    ct_guarded again[CT_LINEAR_MAX];
    for (int32_t i = 0; i < s->m; i++)
        again[i] = ct_check_out(t, s->n, s->out[i]);
    for (int32_t p = 0; p < CT_CHECK_POOLS - 1; p++) {
        run_linear(t, s, p, again, x->dev, w, rows);
        for (int32_t i = 0; i < s->m; i++) {
            for (int32_t r = 0; r < s->n; r++)
                ct_check_same(t, y[i].dev, r, again[i].dev, r, "with another number of threads");
            ct_check_poison(t, &again[i]);
        }
    }
    for (int32_t r = 0; r<s->n; r += s->n> 16 ? 5 : 1) {
        struct shape one = *s;
        ct_guarded out[CT_LINEAR_MAX];
        one.n = 1;
        one.n_prompt = r < s->n_prompt;
        ct_rows row = {.n = 1, .n_prompt = one.n_prompt, .token = rows->token, .pos = rows->pos, .seq = rows->seq};
        ct_view xr = x->dev;
        xr.off += (size_t)r * xr.stride * sizeof(float);
        xr.rows = 1;
        for (int32_t i = 0; i < s->m; i++)
            out[i] = ct_check_out(t, 1, s->out[i]);
        run_linear(t, &one, CT_CHECK_POOLS - 1, out, xr, w, &row);
        for (int32_t i = 0; i < s->m; i++)
            ct_check_same(t, y[i].dev, r, out[i].dev, 0, "when computed alone");
    }
}

static void linear_case(ct_check *t, const struct shape *s)
{
    ct_check_weight w[CT_LINEAR_MAX] = {{.src = NULL}};
    ct_guarded y[CT_LINEAR_MAX];
    ct_check_case(t, "m %d, n %d (%d prompt%s), %d x %d, %s", s->m, s->n, s->n_prompt, s->exact ? ", exact" : "",
                  s->out[0], s->cols, s->sigma_w > 0.0f ? ct_fill_name(s->fill) : "zero weights");
    for (int32_t i = 0; i < s->m; i++) {
        ct_weight_use use = t->b->supports(s->type[i], CT_WEIGHT_EMBED) && s->m == 1 && ct_check_draw(t, 2)
                                ? CT_WEIGHT_EMBED
                                : CT_WEIGHT_MATRIX;
        if (!ct_check_weight_load(t, &w[i], s->type[i], use, s->out[i], s->cols, s->sigma_w))
            goto done;
    }
    int32_t *zeros = ct_check_ints(t, (size_t)s->n);
    memset(zeros, 0, (size_t)s->n * sizeof *zeros);
    ct_rows rows = {.n = s->n, .n_prompt = s->n_prompt, .token = zeros, .pos = zeros, .seq = zeros};
    ct_guarded x = ct_check_in(t, s->n, s->cols, s->fill, 1.0f);
    ct_view ref_y[CT_LINEAR_MAX];
    const ct_weight *ref_w[CT_LINEAR_MAX];
    for (int32_t i = 0; i < s->m; i++) {
        y[i] = ct_check_out(t, s->n, s->out[i]);
        ref_y[i] = y[i].ref;
        ref_w[i] = &w[i].ref;
    }
    run_linear(t, s, CT_CHECK_POOLS - 1, y, x.dev, w, &rows);
    ct_ctx rc = ct_check_ref_ctx(t, linear_limits(s));
    t->ref->linear(&rc, s->m, ref_y, x.ref, ref_w, &rows);
    ct_check_guard(t, &x, "x");
    for (int32_t i = 0; i < s->m; i++) {
        ct_check_guard(t, &y[i], "y");
        compare_linear(t, s, i, &x, &y[i], &w[i]);
    }
    if (s->invariance)
        linear_invariance(t, s, &x, y, w, &rows);
done:
    for (int32_t i = 0; i < s->m; i++)
        ct_check_weight_free(t, &w[i]);
}

static struct shape shape_of(ct_check *t, const ct_dtype_info *type, int32_t n)
{
    static const int32_t outs[] = {1, 15, 16, 17, 33, 40, 64, 100};
    int32_t unit = type->block_elems;
    struct shape s = {.m = 1, .n = n, .type = {type}, .out = {outs[ct_check_draw(t, 8)]}, .sigma_w = 0.05f};
    if (unit == 1) { /* floats may have any width */
        static const int32_t odd[] = {1, 2, 7, 16, 31, 33, 100, 257, 640};
        s.cols = odd[ct_check_draw(t, 9)];
    } else {
        s.cols = unit * (int32_t)(1 + ct_check_draw(t, unit == GROUP ? 9 : 3));
    }
    static const int32_t role[] = {0, 1, 2}; /* all decode, all prompt, mixed */
    int32_t kind = role[ct_check_draw(t, 3)];
    s.n_prompt = kind == 0 ? 0 : kind == 1 ? n : (n + 1) / 2;
    s.exact = ct_check_draw(t, 4) == 0;
    return s;
}

/* Decode and prompt rows, dots and panels, threads and neighbours. */
static void linear_variant(ct_check *t, const ct_dtype_info *type)
{
    static const int32_t counts[] = {1, 5, 13, 21};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct shape s = shape_of(t, type, counts[i]);
        s.n_prompt = i == 0 ? 0 : counts[i] / 2;
        s.cols = i == 2 ? 640 : s.cols;
        s.fill = i == 2 ? CT_FILL_OUTLIERS : CT_FILL_NORMAL;
        s.invariance = i > 1;
        linear_case(t, &s);
    }
}

static void linear_type(ct_check *t, const ct_dtype_info *type)
{
    int32_t k = type->block_elems == 256 ? 768 : 640;
    if (is_variant(t, type)) {
        linear_variant(t, type);
        return;
    }
    for (const int32_t *n = ct_check_counts(t); *n; n++) {
        struct shape s = shape_of(t, type, *n);
        s.invariance = *n == 13 || *n == 17 || *n == 33;
        linear_case(t, &s);
        s = shape_of(t, type, *n); /* a mixed batch of the common shape */
        s.cols = k;
        s.out[0] = 40;
        s.n_prompt = *n / 2;
        s.exact = false;
        s.fill = CT_FILL_OUTLIERS;
        linear_case(t, &s);
    }
    for (int32_t f = 0; f < CT_FILL_COUNT; f++)
        for (int32_t kind = 0; kind < 3; kind++) {
            struct shape s = {.m = 1,
                              .n = 18,
                              .n_prompt = kind ? 18 : 0,
                              .exact = kind == 2,
                              .cols = k,
                              .type = {type},
                              .out = {40},
                              .fill = (ct_fill)f,
                              .sigma_w = 0.05f};
            linear_case(t, &s);
        }
    for (int32_t kind = 0; kind < 2; kind++) {
        struct shape s = {.m = 1, .n = 9, .n_prompt = kind ? 9 : 0, .cols = k, .type = {type}, .out = {40}};
        linear_case(t, &s);
    }
    /* Wide and long, as models are: more tasks than threads, rows past a tile of rows. */
    struct shape s = {.m = 1,
                      .n = 70,
                      .n_prompt = 64,
                      .cols = 2048,
                      .type = {type},
                      .out = {t->quick ? 100 : 640},
                      .sigma_w = 0.05f,
                      .invariance = true};
    linear_case(t, &s);
    if (!t->quick) {
        s = (struct shape){.m = 1,
                           .n = 130,
                           .n_prompt = 128,
                           .cols = 6912 / type->block_elems * type->block_elems,
                           .type = {type},
                           .out = {96},
                           .fill = CT_FILL_OUTLIERS,
                           .sigma_w = 0.02f,
                           .invariance = true};
        linear_case(t, &s);
    }
}

/* Several matrices in a call, of types that share nothing but the input: q, k, v as mixed files have them. */
static void linear_mixed(ct_check *t, const ct_dtype_info *const *types, int32_t count)
{
    for (int32_t i = 0; i < (t->quick ? 12 : 60); i++) {
        static const int32_t counts[] = {1, 2, 5, 16, 33};
        static const int32_t outs[] = {16, 40, 17, 256, 1};
        struct shape s = {.m = 2 + i % 3, .n = counts[i % 5], .cols = 512, .sigma_w = 0.05f, .invariance = i % 4 == 0};
        s.n_prompt = (int32_t)ct_check_draw(t, (uint64_t)s.n + 1);
        s.exact = i % 6 == 5;
        for (int32_t j = 0; j < s.m; j++) {
            s.type[j] = types[ct_check_draw(t, (uint64_t)count)];
            s.out[j] = outs[ct_check_draw(t, 5)];
        }
        linear_case(t, &s);
    }
}

void ct_check_linear(ct_check *t)
{
    const ct_dtype_info *type, *taken[32]; /* some MLX types among them */
    int32_t count = 0;
    for (size_t i = 0; (type = ct_dtype_at(i)) != NULL && t->status == CT_OK; i++) {
        if (!t->b->supports(type, CT_WEIGHT_MATRIX)) {
            ct_check_line_skip(t, "linear", type->name, "the backend does not take the type");
            continue;
        }
        if (count < (int32_t)(sizeof taken / sizeof taken[0]))
            taken[count++] = type;
        ct_check_line_begin(t, "linear", type->name);
        linear_type(t, type);
        ct_check_line_end(t);
    }
    if (count > 0 && t->status == CT_OK) {
        ct_check_line_begin(t, "linear", "mixed");
        linear_mixed(t, taken, count);
        ct_check_line_end(t);
    }
}

/* ---- linear_geglu ---- */

/* y = gelu(g) u. An error of g passes through gelu, whose slope is at most 1.13, one of u through |gelu(g)| <= |g|; the
 * function itself is as in check_rows.c. */
static void compare_geglu(ct_check *t, const struct shape *s, const ct_guarded *x, const ct_guarded *y,
                          const ct_check_weight *w, ct_view gate, ct_view up)
{
    for (int32_t r = 0; r < s->n; r++) {
        bool prompt = r < s->n_prompt && !s->exact;
        for (int32_t o = 0; o < s->out[0]; o++) {
            size_t at = (size_t)o * (size_t)s->cols;
            const float *xr = ct_view_row(x->ref, r);
            double eg = limit_of(dot_budget(xr, w[0].f32 + at, s->cols, s->type[0], prompt));
            double eu = limit_of(dot_budget(xr, w[1].f32 + at, s->cols, s->type[1], prompt));
            double g = fabs((double)ct_view_row(gate, r)[o]), u = fabs((double)ct_view_row(up, r)[o]);
            double budget = 1.13 * eg * u + (g + 1.13 * eg) * eu + 8.0 * CT_EPS32 * g * u + 0x1p-120;
            ct_check_value(t, prompt ? "prompt y" : "exact y", r, o, (double)ct_view_row(y->dev, r)[o],
                           (double)ct_view_row(y->ref, r)[o], budget);
        }
    }
}

static void linear_geglu_case(ct_check *t, const struct shape *s)
{
    ct_check_weight w[2] = {{.src = NULL}};
    ct_check_case(t, "n %d (%d prompt%s), %d x %d, %s", s->n, s->n_prompt, s->exact ? ", exact" : "", s->out[0],
                  s->cols, ct_fill_name(s->fill));
    for (int32_t i = 0; i < 2; i++)
        if (!ct_check_weight_load(t, &w[i], s->type[i], CT_WEIGHT_MATRIX, s->out[0], s->cols, s->sigma_w))
            goto done;
    int32_t *zeros = ct_check_ints(t, (size_t)s->n);
    memset(zeros, 0, (size_t)s->n * sizeof *zeros);
    ct_rows rows = {.n = s->n, .n_prompt = s->n_prompt, .token = zeros, .pos = zeros, .seq = zeros};
    ct_guarded x = ct_check_in(t, s->n, s->cols, s->fill, 1.0f), y = ct_check_out(t, s->n, s->out[0]);
    ct_guarded gate = ct_check_out(t, s->n, s->out[0]), up = ct_check_out(t, s->n, s->out[0]);
    ct_limits l = {.rows = s->n,
                   .max_cols = s->cols,
                   .max_out = s->out[0],
                   .heads = 1,
                   .kv_heads = 1,
                   .head_dim = 32,
                   .context = 64};
    ct_ctx c = ct_check_ctx(t, CT_CHECK_POOLS - 1, s->exact, l), rc = ct_check_ref_ctx(t, l);
    c.deterministic = s->invariance;
    const ct_view ref_y[2] = {gate.ref, up.ref};
    const ct_weight *const ref_w[2] = {&w[0].ref, &w[1].ref};
    ct_check_before(t, &c, &rows, NULL, NULL, 0);
    t->ops->linear_geglu(&c, y.dev, x.dev, &w[0].dev, &w[1].dev, &rows);
    ct_check_after(t, &c);
    t->ref->linear(&rc, 2, ref_y, x.ref, ref_w, &rows);
    t->ref->geglu(&rc, y.ref, gate.ref, up.ref);
    ct_check_guard(t, &x, "x");
    ct_check_guard(t, &y, "y");
    compare_geglu(t, s, &x, &y, w, gate.ref, up.ref);
    for (int32_t p = 0; s->invariance && p < CT_CHECK_POOLS - 1; p++) {
        ct_guarded again = ct_check_out(t, s->n, s->out[0]);
        c = ct_check_ctx(t, p, s->exact, l);
        c.deterministic = s->invariance;
        ct_check_before(t, &c, &rows, NULL, NULL, 0);
        t->ops->linear_geglu(&c, again.dev, x.dev, &w[0].dev, &w[1].dev, &rows);
        ct_check_after(t, &c);
        for (int32_t r = 0; r < s->n; r++)
            ct_check_same(t, y.dev, r, again.dev, r, "with another number of threads");
    }
    for (int32_t r = 0; s->invariance && r < s->n; r++) {
        ct_guarded one = ct_check_out(t, 1, s->out[0]);
        ct_rows row = {.n = 1, .n_prompt = r < s->n_prompt, .token = zeros, .pos = zeros, .seq = zeros};
        ct_view xr = x.dev;
        xr.off += (size_t)r * xr.stride * sizeof(float);
        xr.rows = 1;
        c = ct_check_ctx(t, CT_CHECK_POOLS - 1, s->exact, l);
        c.deterministic = s->invariance;
        ct_check_before(t, &c, &row, NULL, NULL, 0);
        t->ops->linear_geglu(&c, one.dev, xr, &w[0].dev, &w[1].dev, &row);
        ct_check_after(t, &c);
        ct_check_same(t, y.dev, r, one.dev, 0, "when computed alone");
    }
done:
    for (int32_t i = 0; i < 2; i++)
        ct_check_weight_free(t, &w[i]);
}

void ct_check_linear_geglu(ct_check *t)
{
    const ct_dtype_info *type;
    for (size_t i = 0; (type = ct_dtype_at(i)) != NULL && t->status == CT_OK; i++) {
        if (!t->b->supports(type, CT_WEIGHT_MATRIX) || is_variant(t, type))
            continue; /* linear has said so, or has checked the kernel's other types */
        ct_check_line_begin(t, "linear_geglu", type->name);
        for (const int32_t *n = ct_check_counts(t); *n; n++) {
            struct shape s = shape_of(t, type, *n);
            s.type[1] = type;
            s.fill = ct_check_draw(t, 2) ? CT_FILL_OUTLIERS : CT_FILL_NORMAL;
            s.invariance = *n == 13 || *n == 17;
            linear_geglu_case(t, &s);
        }
        for (int32_t f = 0; f < CT_FILL_COUNT; f++) {
            struct shape s = shape_of(t, type, 11);
            s.type[1] = type;
            s.fill = (ct_fill)f;
            linear_geglu_case(t, &s);
        }
        ct_check_line_end(t);
    }
}
