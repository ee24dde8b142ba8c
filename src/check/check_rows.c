/* Checks of the operations that work row by row: norms, rotations, geglu, gather.
 *
 * Their arithmetic is f32, so a budget is a number of roundings (2^-24 relative each) of what is added up. A norm's sum of
 * squares has D positive terms: its rounding errors grow like sqrt(D), and a half of sqrt(D) roundings is what one lane
 * would need; with the root, the division and the products, 8 + sqrt(D)/2. Subnormal inputs may be flushed to zero, which
 * 1/sqrt(eps) magnifies. */
#include "check/harness.h"

#include <string.h>

#define EPS_NORM 1e-6f
#define FLUSHED 0x1p-126 /* the smallest normal f32 */

static const int32_t widths[] = {640, 1, 5, 16, 33, 100, 1152, 31, 5376};
enum { N_WIDTHS = sizeof widths / sizeof widths[0] };

static double norm_budget(double want, double weight, int32_t d)
{
    return (8.0 + sqrt((double)d) / 2.0) * CT_EPS32 * fabs(want) +
           FLUSHED / sqrt((double)EPS_NORM) * (fabs(weight) + 1.0);
}

static ct_limits row_limits(int32_t n, int32_t cols, int32_t heads, int32_t d)
{
    return (ct_limits){
        .rows = n, .max_cols = cols, .max_out = cols, .heads = heads, .kv_heads = heads, .head_dim = d, .context = 64};
}

/* Runs the cases of an op: every row count, and every fill at an awkward one. */
typedef void row_case_fn(ct_check *t, int32_t n, ct_fill fill, int32_t pool);

static void each_case(ct_check *t, const char *op, row_case_fn *fn)
{
    ct_check_line_begin(t, op, "");
    for (const int32_t *n = ct_check_counts(t); *n && t->status == CT_OK; n++)
        for (int32_t i = 0; i < (t->quick ? 2 : 6); i++)
            fn(t, *n, i % 3 ? CT_FILL_OUTLIERS : CT_FILL_NORMAL, (int32_t)ct_check_draw(t, CT_CHECK_POOLS));
    for (int32_t f = 0; f < CT_FILL_COUNT; f++)
        for (int32_t i = 0; i < (t->quick ? 2 : 6); i++)
            fn(t, 5 + 12 * (i % 2), (ct_fill)f, (int32_t)ct_check_draw(t, CT_CHECK_POOLS));
    ct_check_line_end(t);
}

/* ---- norms ---- */

static void rmsnorm_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool)
{
    int32_t d = widths[ct_check_draw(t, N_WIDTHS)];
    ct_check_weight w;
    ct_check_case(t, "n %d, D %d, %s", n, d, ct_fill_name(fill));
    if (!ct_check_weight_load(t, &w, ct_dtype_get(CT_F32), CT_WEIGHT_VECTOR, 1, d, 1.0f))
        return;
    ct_limits l = row_limits(n, d, 1, 32);
    ct_ctx c = ct_check_ctx(t, pool, false, l), rc = ct_check_ref_ctx(t, l);
    ct_guarded x = ct_check_in(t, n, d, fill, 1.0f), y = ct_check_out(t, n, d);
    ct_check_before(t, &c, NULL, NULL, NULL, 0);
    t->ops->rmsnorm(&c, y.dev, x.dev, &w.dev, EPS_NORM);
    ct_check_after(t, &c);
    t->ref->rmsnorm(&rc, y.ref, x.ref, &w.ref, EPS_NORM);
    ct_check_guard(t, &x, "x");
    ct_check_guard(t, &y, "y");
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < d; j++) {
            double want = (double)ct_view_row(y.ref, i)[j];
            ct_check_value(t, "y", i, j, (double)ct_view_row(y.dev, i)[j], want,
                           norm_budget(want, (double)w.f32[j], d));
        }
    ct_check_weight_free(t, &w);
}

void ct_check_rmsnorm(ct_check *t) { each_case(t, "rmsnorm", rmsnorm_case); }

/* x + term: the term as above, and the addition's own rounding. */
static double add_budget(double sum, double term, double weight, int32_t d)
{
    return norm_budget(term, weight, d) + 2.0 * CT_EPS32 * fabs(sum);
}

static void norm_add_any(ct_check *t, int32_t n, ct_fill fill, int32_t pool, bool then_norm)
{
    int32_t d = widths[ct_check_draw(t, N_WIDTHS)];
    ct_check_weight w = {.src = NULL}, next = {.src = NULL};
    const ct_dtype_info *f32 = ct_dtype_get(CT_F32);
    ct_check_case(t, "n %d, D %d, %s", n, d, ct_fill_name(fill));
    if (!ct_check_weight_load(t, &w, f32, CT_WEIGHT_VECTOR, 1, d, 1.0f) ||
        !ct_check_weight_load(t, &next, f32, CT_WEIGHT_VECTOR, 1, d, 1.0f))
        goto done;
    ct_limits l = row_limits(n, d, 1, 32);
    ct_ctx c = ct_check_ctx(t, pool, false, l), rc = ct_check_ref_ctx(t, l);
    /* The residual is large where the branch is plain, as in the model. */
    ct_guarded x = ct_check_inout(t, n, d, fill == CT_FILL_NORMAL ? CT_FILL_LARGE : fill, 1.0f);
    ct_guarded y = ct_check_in(t, n, d, fill, 1.0f), z = ct_check_out(t, n, d);
    float *before = ct_check_temp(t, (size_t)n * (size_t)d * sizeof(float));
    memcpy(before, ct_view_row(x.ref, 0), (size_t)n * (size_t)d * sizeof(float));
    ct_check_before(t, &c, NULL, NULL, NULL, 0);
    if (then_norm)
        t->ops->norm_add_norm(&c, z.dev, x.dev, y.dev, &w.dev, &next.dev, EPS_NORM);
    else
        t->ops->norm_add(&c, x.dev, y.dev, &w.dev, EPS_NORM);
    ct_check_after(t, &c);
    t->ref->norm_add(&rc, x.ref, y.ref, &w.ref, EPS_NORM);
    t->ref->rmsnorm(&rc, z.ref, x.ref, &next.ref, EPS_NORM);
    ct_check_guard(t, &x, "x");
    ct_check_guard(t, &y, "y");
    ct_check_guard(t, &z, "z");
    for (int32_t i = 0; i < n; i++) {
        const float *xi = ct_view_row(x.ref, i);
        double square = 0.0, error = 0.0;
        for (int32_t j = 0; j < d; j++) {
            double want = (double)xi[j], term = want - (double)before[(size_t)i * (size_t)d + (size_t)j];
            double budget = add_budget(want, fabs(term) + CT_EPS32 * fabs(want), (double)w.f32[j], d);
            ct_check_value(t, "x", i, j, (double)ct_view_row(x.dev, i)[j], want, budget);
            square += want * want;
            error += budget * budget;
        }
        /* z = x r w: x's error, and through r the part of it that x's length shares. */
        double r = 1.0 / sqrt(square / d + (double)EPS_NORM);
        for (int32_t j = 0; then_norm && j < d; j++) {
            double want = (double)ct_view_row(z.ref, i)[j], wj = fabs((double)next.f32[j]);
            double term = fabs((double)xi[j] - (double)before[(size_t)i * (size_t)d + (size_t)j]);
            double from_x = add_budget((double)xi[j], term + CT_EPS32 * fabs((double)xi[j]), (double)w.f32[j], d) * r *
                            wj;
            double from_r = square > 0.0 ? fabs(want) * sqrt(error / square) : 0.0;
            ct_check_value(t, "z", i, j, (double)ct_view_row(z.dev, i)[j], want,
                           norm_budget(want, (double)next.f32[j], d) + from_x + from_r);
        }
    }
done:
    ct_check_weight_free(t, &w);
    ct_check_weight_free(t, &next);
}

static void norm_add_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool) { norm_add_any(t, n, fill, pool, false); }
static void norm_add_norm_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool)
{
    norm_add_any(t, n, fill, pool, true);
}

void ct_check_norm_add(ct_check *t) { each_case(t, "norm_add", norm_add_case); }
void ct_check_norm_add_norm(ct_check *t) { each_case(t, "norm_add_norm", norm_add_norm_case); }

/* ---- heads: norm, rope, both ---- */

static void draw_heads(ct_check *t, int32_t *heads, int32_t *d)
{
    static const int32_t counts[] = {1, 2, 3, 4, 8, 16}, dims[] = {256, 128, 64, 32};
    *heads = counts[ct_check_draw(t, 6)];
    *d = dims[ct_check_draw(t, 4)];
}

/* An error of a in a head before the rotation becomes at most |cos| a + |sin| b after it; a
 * product, the sum and the reference itself round. */
static void heads_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool, bool norm, bool rope)
{
    int32_t heads, d;
    draw_heads(t, &heads, &d);
    ct_check_weight w = {.src = NULL};
    ct_check_case(t, "n %d, %d heads of %d, %s", n, heads, d, ct_fill_name(fill));
    if (!ct_check_weight_load(t, &w, ct_dtype_get(CT_F32), CT_WEIGHT_VECTOR, 1, d, 1.0f))
        return;
    ct_limits l = row_limits(n, heads * d, heads, d);
    ct_ctx c = ct_check_ctx(t, pool, false, l), rc = ct_check_ref_ctx(t, l);
    int32_t *pos = ct_check_ints(t, (size_t)n);
    for (int32_t i = 0; i < n; i++)
        pos[i] = i == 0 ? 1 : (int32_t)ct_check_draw(t, 131072);
    ct_rows rows = {.n = n, .n_prompt = n, .pos = pos};
    ct_guarded x = ct_check_inout(t, n, heads * d, fill, 1.0f), cs = ct_check_in(t, n, d, CT_FILL_ZERO, 1.0f);
    t->ref->rope_table(&rc, cs.ref, &rows, &(ct_rope){.theta = 1e4, .factor = 1.0, .head_dim = d});
    for (int32_t i = 0; i < n; i++)
        memcpy(ct_view_row(cs.dev, i), ct_view_row(cs.ref, i), (size_t)d * sizeof(float));
    ct_check_before(t, &c, &rows, NULL, NULL, 0);
    if (norm && rope)
        t->ops->norm_rope(&c, x.dev, &w.dev, cs.dev, heads, EPS_NORM);
    else if (norm)
        t->ops->head_norm(&c, x.dev, &w.dev, heads, EPS_NORM);
    else
        t->ops->rope(&c, x.dev, cs.dev, heads);
    ct_check_after(t, &c);
    if (norm)
        t->ref->head_norm(&rc, x.ref, &w.ref, heads, EPS_NORM);
    size_t cells = (size_t)n * (size_t)heads * (size_t)d;
    float *normed = ct_check_temp(t, cells * sizeof(float));
    memcpy(normed, ct_view_row(x.ref, 0), cells * sizeof(float));
    if (rope)
        t->ref->rope(&rc, x.ref, cs.ref, heads);
    ct_check_guard(t, &x, "x");
    ct_check_guard(t, &cs, "cs");
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < heads * d; j++) {
            const float *own = normed + (size_t)i * (size_t)(heads * d), *angle = ct_view_row(cs.ref, i);
            int32_t in_head = j % d, half = d / 2, lane = in_head % half, other = in_head < half ? j + half : j - half;
            double want = (double)ct_view_row(x.ref, i)[j], budget = 0.0;
            double a = fabs((double)own[j]), b = fabs((double)own[other]);
            double ea = norm ? norm_budget(a, (double)w.f32[in_head], d) : 0.0;
            double eb = norm ? norm_budget(b, (double)w.f32[other % d], d) : 0.0;
            if (rope) {
                double cos_a = fabs((double)angle[lane]), sin_a = fabs((double)angle[half + lane]);
                budget = cos_a * (ea + 3.0 * CT_EPS32 * a) + sin_a * (eb + 3.0 * CT_EPS32 * b) + 4.0 * FLUSHED;
            } else {
                budget = ea;
            }
            ct_check_value(t, "x", i, j, (double)ct_view_row(x.dev, i)[j], want, budget);
        }
    ct_check_weight_free(t, &w);
}

static void head_norm_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool)
{
    heads_case(t, n, fill, pool, true, false);
}
static void rope_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool) { heads_case(t, n, fill, pool, false, true); }
static void norm_rope_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool)
{
    heads_case(t, n, fill, pool, true, true);
}

void ct_check_head_norm(ct_check *t) { each_case(t, "head_norm", head_norm_case); }
void ct_check_rope(ct_check *t) { each_case(t, "rope", rope_case); }
void ct_check_norm_rope(ct_check *t) { each_case(t, "norm_rope", norm_rope_case); }

/* ---- rope_table ---- */

/* With the angle in f64 only its last steps may be f32: two roundings of a value no larger than 1, four to be kind to a
 * sine in f32 after an exact reduction. An angle in f32 misses this by five orders of magnitude at 131071. */
static void rope_table_case(ct_check *t, int32_t n, int32_t d, ct_rope how, int32_t highest)
{
    ct_check_case(t, "n %d, d %d, theta %g / %g, to position %d", n, d, how.theta, how.factor, highest);
    int32_t *pos = ct_check_ints(t, (size_t)n);
    for (int32_t i = 0; i < n; i++)
        pos[i] = i == 0 ? highest : i == 1 ? 0 : (int32_t)ct_check_draw(t, (uint64_t)highest + 1);
    ct_rows rows = {.n = n, .n_prompt = n, .pos = pos};
    ct_limits l = row_limits(n, d, 1, d);
    ct_ctx c = ct_check_ctx(t, (int32_t)ct_check_draw(t, CT_CHECK_POOLS), false, l), rc = ct_check_ref_ctx(t, l);
    ct_guarded cs = ct_check_out(t, n, d);
    ct_check_before(t, &c, &rows, NULL, NULL, 0);
    t->ops->rope_table(&c, cs.dev, &rows, &how);
    ct_check_after(t, &c);
    t->ref->rope_table(&rc, cs.ref, &rows, &how);
    ct_check_guard(t, &cs, "cs");
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < d; j++)
            ct_check_value(t, "cs", i, j, (double)ct_view_row(cs.dev, i)[j], (double)ct_view_row(cs.ref, i)[j],
                           4.0 * CT_EPS32);
}

void ct_check_rope_table(ct_check *t)
{
    static const int32_t dims[] = {256, 128, 64, 32};
    static const ct_rope how[] = {
        {.theta = 1e4, .factor = 1}, {.theta = 1e6, .factor = 1}, {.theta = 1e6, .factor = 8}};
    static const int32_t highest[] = {1, 511, 32767, 131071};
    ct_check_line_begin(t, "rope_table", "");
    for (const int32_t *n = ct_check_counts(t); *n && t->status == CT_OK; n++)
        for (int32_t i = 0; i < 12; i++) {
            ct_rope h = how[i % 3];
            h.head_dim = dims[ct_check_draw(t, 4)];
            rope_table_case(t, *n, h.head_dim, h, highest[i / 3]);
        }
    ct_check_line_end(t);
}

/* ---- geglu ---- */

/* gelu(g) = g/2 (1 + tanh z): the bracket is a difference near 0 for negative g, so its error is one of 1, not of itself;
 * z, the hyperbolic tangent in f32 and the products round eight times at most. */
static void geglu_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool)
{
    static const int32_t cols[] = {2048, 1, 7, 16, 33, 100, 640};
    int32_t f = cols[ct_check_draw(t, 7)];
    bool in_place = ct_check_draw(t, 2) != 0;
    ct_check_case(t, "n %d, F %d, %s%s", n, f, ct_fill_name(fill), in_place ? ", in place" : "");
    ct_limits l = row_limits(n, f, 1, 32);
    ct_ctx c = ct_check_ctx(t, pool, false, l), rc = ct_check_ref_ctx(t, l);
    ct_guarded gate = in_place ? ct_check_inout(t, n, f, fill, 3.0f) : ct_check_in(t, n, f, fill, 3.0f);
    ct_guarded up = ct_check_in(t, n, f, fill == CT_FILL_LARGE ? CT_FILL_NORMAL : fill, 1.0f),
               y = ct_check_out(t, n, f);
    t->ref->geglu(&rc, y.ref, gate.ref, up.ref);
    ct_check_before(t, &c, NULL, NULL, NULL, 0);
    t->ops->geglu(&c, in_place ? gate.dev : y.dev, gate.dev, up.dev);
    ct_check_after(t, &c);
    ct_check_guard(t, &gate, "gate");
    ct_check_guard(t, &up, "up");
    ct_check_guard(t, &y, "y");
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < f; j++) {
            double gu = fabs((double)ct_view_row(gate.ref, i)[j] * (double)ct_view_row(up.ref, i)[j]);
            double got = (double)ct_view_row(in_place ? gate.dev : y.dev, i)[j];
            ct_check_value(t, "y", i, j, got, (double)ct_view_row(y.ref, i)[j],
                           8.0 * CT_EPS32 * gu + FLUSHED * (1.0 + fabs((double)ct_view_row(up.ref, i)[j])));
        }
}

void ct_check_geglu(ct_check *t) { each_case(t, "geglu", geglu_case); }

/* ---- softcap ---- */

/* Quotient, hyperbolic tangent (two units) and product round. */
static void softcap_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool)
{
    int32_t d = widths[ct_check_draw(t, N_WIDTHS)];
    ct_check_case(t, "n %d, %d columns, %s", n, d, ct_fill_name(fill));
    ct_limits l = row_limits(n, d, 1, 32);
    ct_ctx c = ct_check_ctx(t, pool, false, l), rc = ct_check_ref_ctx(t, l);
    ct_guarded x = ct_check_inout(t, n, d, fill, 20.0f);
    ct_check_before(t, &c, NULL, NULL, NULL, 0);
    t->ops->softcap(&c, x.dev, 30.0f);
    ct_check_after(t, &c);
    t->ref->softcap(&rc, x.ref, 30.0f);
    ct_check_guard(t, &x, "x");
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < d; j++) {
            double want = (double)ct_view_row(x.ref, i)[j];
            ct_check_value(t, "x", i, j, (double)ct_view_row(x.dev, i)[j], want,
                           8.0 * CT_EPS32 * fabs(want) + 32.0 * FLUSHED);
        }
}

void ct_check_softcap(ct_check *t) { each_case(t, "softcap", softcap_case); }

/* ---- gather ---- */

static void gather_case(ct_check *t, int32_t n, ct_fill fill, int32_t pool)
{
    int32_t d = widths[ct_check_draw(t, N_WIDTHS)], from = 1 + (int32_t)ct_check_draw(t, 70);
    ct_check_case(t, "%d of %d rows, D %d, %s", n, from, d, ct_fill_name(fill));
    ct_limits l = row_limits(n > from ? n : from, d, 1, 32);
    ct_ctx c = ct_check_ctx(t, pool, false, l), rc = ct_check_ref_ctx(t, l);
    int32_t *index = ct_check_ints(t, (size_t)n);
    for (int32_t i = 0; i < n; i++)
        index[i] = i == 0 ? from - 1 : (int32_t)ct_check_draw(t, (uint64_t)from);
    ct_guarded x = ct_check_in(t, from, d, fill, 1.0f), y = ct_check_out(t, n, d);
    ct_check_before(t, &c, NULL, NULL, index, n);
    t->ops->gather(&c, y.dev, x.dev, index);
    ct_check_after(t, &c);
    t->ref->gather(&rc, y.ref, x.ref, index);
    ct_check_guard(t, &x, "x");
    ct_check_guard(t, &y, "y");
    for (int32_t i = 0; i < n; i++)
        ct_check_same(t, y.dev, i, y.ref, i, "from the one asked for");
}

void ct_check_gather(ct_check *t) { each_case(t, "gather", gather_case); }
