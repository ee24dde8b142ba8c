/* Check of linear_top: every column is, bit for bit, what the backend's own linear gives with the matrix or with its rough copy;
 * the columns asked for (the largest ones, those named) are the former; and no rough one is off by more than the promised
 * standard deviations, which is the budget. Inputs that point along a few rows make a peaked distribution, of which most must not
 * be scored; plain noise makes a flat one, which may be read in full. */
#include "check/harness.h"

#include <string.h>

#include "quant/encode.h"

struct head_case {
    int32_t n, out, cols, top;
    bool peaked;
};

/* The copy that model/rough.c makes of a head, by its description. */
static bool rough_load(ct_check *t, ct_rough *r, const ct_check_weight *w)
{
    size_t cols = (size_t)w->dev.cols, row = cols / 32 * 18;
    bool in_place;
    r->w = (ct_weight){
        .dtype = ct_dtype_get(CT_Q4_0), .use = CT_WEIGHT_MATRIX, .rows = w->dev.rows, .cols = w->dev.cols};
    uint8_t *blocks = ct_check_temp(t, (size_t)w->dev.rows * row);
    r->spread = ct_check_temp(t, (size_t)w->dev.rows * sizeof *r->spread);
    r->most = ct_check_temp(t, ((size_t)w->dev.rows / 16 + 1) * sizeof *r->most);
    if (blocks == NULL || r->spread == NULL || r->most == NULL)
        return false;
    for (int32_t i = 0; i < w->dev.rows; i++) {
        double left = ct_q4_0_encode(blocks + (size_t)i * row, w->f32 + (size_t)i * cols, cols / 32);
        r->spread[i] = (float)sqrt(left / (double)cols);
        r->most[i / 16] = i % 16 == 0 || r->spread[i] > r->most[i / 16] ? r->spread[i] : r->most[i / 16];
    }
    return t->b->weight_load(&r->w, blocks, t->pools[CT_CHECK_POOLS - 1], &in_place, NULL) == CT_OK;
}

/* How many of a row's columns are larger than v. */
static int32_t above(const float *y, int32_t n, float v)
{
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += y[i] > v;
    return count;
}

static void compare_row(ct_check *t, const struct head_case *h, const ct_rough *rough, const float *x,
                        const float *full, const float *copy, const float *y, const ct_screen *s)
{
    float least = INFINITY; /* of the top ones */
    int32_t same = 0;
    double square = 0.0;
    for (int32_t i = 0; i < h->out; i++)
        if (full[i] < least && above(full, h->out, full[i]) < s->top)
            least = full[i];
    for (int32_t i = 0; i < h->cols; i++)
        square += (double)x[i] * (double)x[i];
    for (int32_t i = 0; i < h->out; i++) {
        double budget = (double)CT_SCREEN_SIGMAS * (double)rough->spread[i] * sqrt(square);
        bool right = memcmp(&full[i], &y[i], sizeof *y) == 0;
        same += right;
        if (right)
            continue;
        if (memcmp(&copy[i], &y[i], sizeof *y) != 0)
            ct_check_used(t, INFINITY, "column %d is neither linear's nor the copy's", i);
        if (full[i] >= least)
            ct_check_used(t, INFINITY, "column %d is among the top %d and rough", i, s->top);
        if (y[i] >= least)
            ct_check_used(t, INFINITY, "column %d is rough and above the top %d", i, s->top);
        ct_check_value(t, "rough", 0, i, (double)y[i], (double)full[i], budget);
    }
    for (int32_t i = 0; i < s->n_also; i++)
        if (memcmp(&full[s->also[i]], &y[s->also[i]], sizeof *y) != 0)
            ct_check_used(t, INFINITY, "column %d was asked for and is rough", s->also[i]);
    if (s->scored > h->out || same < s->scored)
        ct_check_used(t, INFINITY, "%d columns said to be scored, %d are linear's of %d", s->scored, same, h->out);
    if (h->peaked && s->scored > h->out / 2)
        ct_check_used(t, INFINITY, "%d of %d columns scored of a peaked distribution", s->scored, h->out);
}

static void head_case(ct_check *t, const ct_dtype_info *type, const struct head_case *h)
{
    enum { MOST = 9, ALSO = 5 };
    ct_check_weight w = {.src = NULL};
    ct_rough rough = {.spread = NULL};
    ct_check_case(t, "n %d, %d x %d, top %d, %s", h->n, h->out, h->cols, h->top, h->peaked ? "peaked" : "flat");
    if (!ct_check_weight_load(t, &w, type, CT_WEIGHT_MATRIX, h->out, h->cols, 0.05f))
        return;
    if (!rough_load(t, &rough, &w)) {
        t->status = CT_ENOMEM;
        goto done;
    }
    ct_guarded x = ct_check_in(t, h->n, h->cols, CT_FILL_NORMAL, 1.0f);
    ct_guarded full = ct_check_out(t, h->n, h->out), copy = ct_check_out(t, h->n, h->out);
    ct_guarded y = ct_check_out(t, h->n, h->out);
    for (int32_t r = 0; h->peaked && r < h->n; r++)
        for (int32_t k = 0; k < 3; k++) {
            const float *row = w.f32 + ct_check_draw(t, (uint64_t)h->out) * (uint64_t)h->cols;
            for (int32_t j = 0; j < h->cols; j++)
                ct_view_row(x.dev, r)[j] += 1600.0f / (float)h->cols * (float)(k + 10) * row[j];
        }
    ct_screen screen[MOST], *how[MOST];
    int32_t *also = ct_check_ints(t, ALSO);
    for (int32_t i = 0; i < ALSO; i++)
        also[i] = (int32_t)ct_check_draw(t, (uint64_t)h->out);
    for (int32_t r = 0; r < h->n; r++) {
        screen[r] = (ct_screen){.top = h->top, .n_also = r % 2 ? 0 : ALSO, .also = also};
        how[r] = &screen[r];
    }
    ct_limits l = {.rows = h->n,
                   .max_cols = h->cols,
                   .max_out = h->out,
                   .head_out = h->out,
                   .heads = 1,
                   .kv_heads = 1,
                   .head_dim = 32,
                   .context = 64};
    const ct_weight *dev = &w.dev, *four = &rough.w;
    ct_ctx c = ct_check_ctx(t, CT_CHECK_POOLS - 1, false, l);
    t->ops->linear(&c, 1, &full.dev, x.dev, &dev, &(ct_rows){.n = h->n});
    c = ct_check_ctx(t, CT_CHECK_POOLS - 1, false, l);
    t->ops->linear(&c, 1, &copy.dev, x.dev, &four, &(ct_rows){.n = h->n});
    for (int32_t p = 0; p < CT_CHECK_POOLS; p++) {
        ct_check_poison(t, &y);
        c = ct_check_ctx(t, p, false, l);
        t->ops->linear_top(&c, y.dev, x.dev, dev, &rough, how);
        ct_check_guard(t, &y, "y");
        for (int32_t r = 0; r < h->n; r++)
            compare_row(t, h, &rough, ct_view_row(x.dev, r), ct_view_row(full.dev, r), ct_view_row(copy.dev, r),
                        ct_view_row(y.dev, r), &screen[r]);
    }
done:
    t->b->weight_free(&rough.w);
    ct_check_weight_free(t, &w);
}

void ct_check_linear_top(ct_check *t)
{
    static const struct head_case cases[] = {
        {1, 8192, 640, 3, true},   {1, 4099, 256, 1, true},   {2, 5003, 1152, 3, true}, {4, 8192, 640, 1, true},
        {9, 2048, 256, 64, false}, {1, 4096, 640, 64, false}, {1, 300, 64, 64, false},  {3, 3000, 32, 1024, false},
        {1, 16384, 32, 2, true},   {3, 16384, 256, 1, true},
    };
    static const ct_dtype types[] = {CT_Q8_0, CT_Q6_K, CT_BF16, CT_F32};
    for (size_t i = 0; i < sizeof types / sizeof types[0] && t->status == CT_OK; i++) {
        const ct_dtype_info *type = ct_dtype_get((int32_t)types[i]);
        if (!t->b->supports(type, CT_WEIGHT_MATRIX))
            continue;
        ct_check_line_begin(t, "linear_top", type->name);
        for (size_t k = 0; k < sizeof cases / sizeof cases[0] && t->status == CT_OK; k++)
            if (cases[k].cols % type->block_elems == 0 && (!t->quick || types[i] == CT_Q8_0 || k < 3))
                head_case(t, type, &cases[k]);
        ct_check_line_end(t);
    }
}
