/* Operands with guards, fills, weights, and the bookkeeping of verdicts: see harness.h. */
#include "check/harness.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"

#define GUARD_BYTES 256
#define GUARD 0xff /* f32, f16 and bf16 all read it as NaN */

static const uint32_t poison_bits = 0x7fc0dead; /* a NaN that nobody computes */

uint64_t ct_check_draw(ct_check *t, uint64_t below) { return ct_rng_u64(t->seed, 1, t->draws++) % below; }

/* Four uniforms of 16 bits less their mean, scaled to variance 1: near enough to a bell, and every bit reproducible. */
double ct_check_normal(ct_check *t)
{
    uint64_t r = ct_rng_u64(t->seed, 2, t->draws++);
    uint64_t sum = (r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48);
    return ((double)sum * 0x1p-16 - 2.0) * 1.7320508075688772;
}

const char *ct_fill_name(ct_fill f)
{
    static const char *const names[CT_FILL_COUNT] = {"normal", "outliers",   "zero",      "one-hot",
                                                     "large",  "subnormals", "alternate", "constant"};
    return f < CT_FILL_COUNT ? names[f] : "?";
}

const int32_t *ct_check_counts(const ct_check *t)
{
    static const int32_t full[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13,
                                   14, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 0};
    static const int32_t quick[] = {1, 2, 3, 4, 7, 8, 13, 16, 17, 33, 64, 0};
    return t->quick ? quick : full;
}

/* ---- lines ---- */

void ct_check_line_begin(ct_check *t, const char *op, const char *type)
{
    t->line = (ct_check_result){.backend = t->b->name, .isa = t->ops->isa, .op = op, .type = type, .passed = true};
}

static void report(ct_check *t)
{
    if (!t->line.passed && t->line.cases > 0 && !t->failed) {
        t->failed = true;
        t->first_failed = t->line;
    }
    if (t->on_result)
        t->on_result(t->arg, &t->line);
}

void ct_check_line_end(ct_check *t)
{
    if (t->status != CT_OK || t->line.cases == 0)
        return;
    t->line.passed = t->line.budget_used <= 1.0;
    report(t);
}

void ct_check_line_skip(ct_check *t, const char *op, const char *type, const char *why)
{
    ct_check_line_begin(t, op, type);
    t->line.passed = false;
    snprintf(t->line.detail, sizeof t->line.detail, "skipped: %s", why);
    report(t);
}

void ct_check_used(ct_check *t, double used, const char *fmt, ...)
{
    if (used <= t->line.budget_used)
        return;
    t->line.budget_used = used >= 0.0 ? used : INFINITY; /* NaN fails */
    char what[96];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    snprintf(t->line.detail, sizeof t->line.detail, "%.70s: %.80s", t->label, what);
}

void ct_check_value(ct_check *t, const char *what, int32_t row, int32_t col, double got, double want, double budget)
{
    double e = fabs(got - want);
    double used = e == 0.0 ? 0.0 : e / budget;
    if (!(used <= t->line.budget_used))
        ct_check_used(t, isnan(used) ? INFINITY : used, "%s[%d][%d] is %.7g, ref %.7g, budget %.2g", what, row, col,
                      got, want, budget);
}

void ct_check_same(ct_check *t, ct_view a, int32_t row, ct_view b, int32_t other, const char *what)
{
    const float *x = ct_view_row(a, row), *y = ct_view_row(b, other);
    if (memcmp(x, y, (size_t)a.cols * sizeof(float)) == 0)
        return;
    int32_t j = 0;
    while (memcmp(&x[j], &y[j], sizeof(float)) == 0)
        j++;
    ct_check_used(t, INFINITY, "row %d differs %s: column %d %.9g, %.9g", row, what, j, (double)x[j], (double)y[j]);
}

/* ---- cases and operands ---- */

void ct_check_case(ct_check *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(t->label, sizeof t->label, fmt, ap);
    va_end(ap);
    t->line.cases++;
    t->mem_used = t->ref_used = 0;
    /* Every other case is as plain as the program's own buffers. */
    static const int32_t misalign[] = {0, 4, 0, 20, 0, 60, 0, 32}, pad[] = {0, 1, 0, 0, 16, 7, 0, 64};
    t->misalign = misalign[ct_check_draw(t, 8)];
    t->pad = pad[ct_check_draw(t, 8)];
}

/* When the block is too small the harness is wrong, not the backend: start over and say so at the end. */
static size_t take(ct_check *t, const ct_buffer *b, size_t *used, size_t bytes)
{
    bytes = ct_round_up(bytes, 64);
    if (bytes > b->bytes - *used) {
        t->status = CT_EINTERNAL;
        *used = 0;
    }
    size_t at = *used;
    *used += bytes <= b->bytes ? bytes : 0;
    return at;
}

void *ct_check_temp(ct_check *t, size_t bytes)
{
    return (uint8_t *)t->ref_mem.host + take(t, &t->ref_mem, &t->ref_used, bytes);
}

int32_t *ct_check_ints(ct_check *t, size_t n)
{
    return (int32_t *)(void *)((uint8_t *)t->mem.host + take(t, &t->mem, &t->mem_used, n * sizeof(int32_t)));
}

static ct_guarded operand(ct_check *t, int32_t rows, int32_t cols, bool out)
{
    size_t stride = (size_t)cols + (size_t)t->pad, row = stride * sizeof(float);
    size_t tail = GUARD_BYTES + row; /* a whole row too many is still caught */
    ct_guarded g = {.out = out};
    g.slab_bytes = (size_t)GUARD_BYTES + (size_t)t->misalign + (size_t)rows * row + tail;
    g.slab = take(t, &t->mem, &t->mem_used, g.slab_bytes);
    memset((uint8_t *)t->mem.host + g.slab, GUARD, g.slab_bytes);
    g.dev = (ct_view){.buf = &t->mem,
                      .off = g.slab + GUARD_BYTES + (size_t)t->misalign,
                      .rows = rows,
                      .cols = cols,
                      .stride = stride,
                      .type = CT_F32};
    g.ref = (ct_view){.buf = &t->ref_mem, .rows = rows, .cols = cols, .stride = (size_t)cols, .type = CT_F32};
    g.ref.off = take(t, &t->ref_mem, &t->ref_used, (size_t)rows * (size_t)cols * sizeof(float));
    return g;
}

static float fill_value(ct_check *t, ct_fill fill, int32_t col, int32_t hot)
{
    switch (fill) {
    case CT_FILL_ZERO: return 0.0f;
    case CT_FILL_ONE_HOT: return col == hot ? 1.7f : 0.0f;
    case CT_FILL_LARGE: return (float)(1e5 * ct_check_normal(t));
    case CT_FILL_TINY: return (float)(ct_check_normal(t) * pow(10.0, -30.0 - (double)ct_check_draw(t, 14)));
    case CT_FILL_ALTERNATE: return col % 2 ? -0.7f : 0.7f;
    case CT_FILL_CONSTANT: return 0.37f;
    case CT_FILL_OUTLIERS: return (float)(ct_check_normal(t) * (ct_check_draw(t, 100) == 0 ? 50.0 : 1.0));
    default: return (float)ct_check_normal(t);
    }
}

static void fill_cells(ct_check *t, const ct_guarded *g, ct_fill fill, float sigma)
{
    for (int32_t i = 0; i < g->dev.rows; i++) {
        int32_t hot = (int32_t)ct_check_draw(t, (uint64_t)g->dev.cols);
        float *r = ct_view_row(g->ref, i);
        for (int32_t j = 0; j < g->dev.cols; j++)
            r[j] = fill_value(t, fill, j, hot) * sigma;
        memcpy(ct_view_row(g->dev, i), r, (size_t)g->dev.cols * sizeof(float));
    }
}

ct_guarded ct_check_in(ct_check *t, int32_t rows, int32_t cols, ct_fill fill, float sigma)
{
    ct_guarded g = operand(t, rows, cols, false);
    fill_cells(t, &g, fill, sigma);
    return g;
}

ct_guarded ct_check_inout(ct_check *t, int32_t rows, int32_t cols, ct_fill fill, float sigma)
{
    ct_guarded g = operand(t, rows, cols, true);
    fill_cells(t, &g, fill, sigma);
    return g;
}

void ct_check_poison(ct_check *t, const ct_guarded *g)
{
    (void)t;
    for (int32_t i = 0; i < g->dev.rows; i++)
        for (int32_t j = 0; j < g->dev.cols; j++)
            memcpy(ct_view_row(g->dev, i) + j, &poison_bits, sizeof poison_bits);
}

ct_guarded ct_check_out(ct_check *t, int32_t rows, int32_t cols)
{
    ct_guarded g = operand(t, rows, cols, true);
    ct_check_poison(t, &g);
    return g;
}

static bool untouched(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != GUARD)
            return false;
    return true;
}

void ct_check_guard(ct_check *t, const ct_guarded *g, const char *what)
{
    const uint8_t *slab = (const uint8_t *)t->mem.host + g->slab;
    size_t cells = (size_t)g->dev.cols * sizeof(float), head = g->dev.off - g->slab;
    if (!untouched(slab, head))
        ct_check_used(t, INFINITY, "wrote before %s", what);
    for (int32_t i = 0; i < g->dev.rows; i++) {
        const uint8_t *row = slab + head + (size_t)i * g->dev.stride * sizeof(float);
        if (!g->out && memcmp(row, ct_view_row(g->ref, i), cells) != 0)
            ct_check_used(t, INFINITY, "changed its input %s, row %d", what, i);
        if (!untouched(row + cells, g->dev.stride * sizeof(float) - cells))
            ct_check_used(t, INFINITY, "wrote between rows %d and %d of %s", i, i + 1, what);
    }
    size_t end = head + (size_t)g->dev.rows * g->dev.stride * sizeof(float);
    if (!untouched(slab + end, g->slab_bytes - end))
        ct_check_used(t, INFINITY, "wrote behind %s", what);
}

/* ---- weights ---- */

void ct_check_weight_free(ct_check *t, ct_check_weight *w)
{
    if (w->dev.dtype)
        t->b->weight_free(&w->dev);
    if (w->ref.dtype)
        t->ref_b->weight_free(&w->ref);
    ct_free(w->src);
    ct_free(w->f32);
    *w = (ct_check_weight){0};
}

bool ct_check_weight_load(ct_check *t, ct_check_weight *w, const ct_dtype_info *type, ct_weight_use use, int32_t rows,
                          int32_t cols, float sigma)
{
    size_t row = 0, n = (size_t)rows * (size_t)cols;
    bool in_place = false, ok = false;
    ct_weight head = {.dtype = type, .use = use, .rows = rows, .cols = cols, .name = "checked"};
    *w = (ct_check_weight){0};
    if (!ct_row_bytes(type, (size_t)cols, &row))
        goto done;
    w->src = ct_calloc((size_t)rows, row);
    w->f32 = ct_alloc(n * sizeof(float));
    if (w->src == NULL || w->f32 == NULL)
        goto done;
    if (use == CT_WEIGHT_VECTOR) {
        for (int32_t j = 0; j < cols; j++) {
            float v = sigma > 0.0f ? (float)(1.0 + 2.0 * ct_check_normal(t)) : 0.0f;
            memcpy(w->src + (size_t)j * sizeof v, &v, sizeof v);
        }
    } else if (sigma > 0.0f) {
        type->random(w->src, n / (size_t)type->block_elems, t->seed, 3, t->draws, sigma);
        t->draws += n;
    }
    ct_row_decode(type, w->f32, w->src, n);
    if (t->b->weight_load(&head, w->src, t->pools[CT_CHECK_POOLS - 1], &in_place, NULL) != CT_OK)
        goto done;
    w->dev = head;
    head.buf = (ct_buffer){0};
    if (t->ref_b->weight_load(&head, w->src, NULL, &in_place, NULL) != CT_OK)
        goto done;
    w->ref = head;
    ok = true;
done:
    if (!ok) {
        t->status = CT_ENOMEM;
        ct_check_weight_free(t, w);
    }
    return ok;
}

/* ---- contexts ---- */

/* The block that a context's arena is cut from. It grows before the old one goes. */
static ct_arena *lend(ct_check *t, ct_arena *block, ct_arena *lent, size_t bytes)
{
    if (bytes > block->size) {
        ct_arena larger;
        if (ct_arena_init(&larger, bytes)) {
            ct_arena_deinit(block);
            *block = larger;
        } else {
            t->status = CT_ENOMEM;
        }
    }
    *lent = (ct_arena){.base = block->base, .size = bytes};
    return lent;
}

ct_ctx ct_check_ctx(ct_check *t, int32_t pool, bool exact, ct_limits l)
{
    l.threads = ct_pool_threads(t->pools[pool]);
    if (t->stream)
        return (ct_ctx){.pool = t->pools[pool], .exact = exact, .stream = t->stream, .ops = t->ops};
    ct_arena *scratch = lend(t, &t->scratch, &t->lent, t->b->scratch_bytes(&l));
    return (ct_ctx){.pool = t->pools[pool], .scratch = scratch, .exact = exact, .ops = t->ops};
}

ct_ctx ct_check_ref_ctx(ct_check *t, ct_limits l)
{
    l.threads = 1;
    ct_arena *scratch = lend(t, &t->ref_scratch, &t->ref_lent, t->ref_b->scratch_bytes(&l));
    return (ct_ctx){.scratch = scratch, .ops = t->ref};
}

/* ---- devices ---- */

static void failed_if(ct_check *t, ct_status st)
{
    if (st != CT_OK)
        t->status = st;
}

void ct_check_before(ct_check *t, ct_ctx *c, const ct_rows *rows, const ct_kv *kv, const int32_t *index,
                     int32_t n_index)
{
    if (t->stream == NULL)
        return;
    failed_if(t, t->b->write(&t->mem, 0, t->mem.host, t->mem_used, NULL));
    ct_run_begin(t->b, c, rows ? rows : &(ct_rows){0}, kv, kv != NULL, index, n_index, false);
}

void ct_check_after(ct_check *t, ct_ctx *c)
{
    if (t->stream == NULL)
        return;
    failed_if(t, ct_run_end(t->b, c, NULL));
    failed_if(t, t->b->read(&t->mem, 0, t->mem.host, t->mem_used, NULL));
}

bool ct_check_pool(ct_check *t, ct_buffer *b, size_t bytes, int fill)
{
    if (t->b->buffer_alloc(b, bytes, NULL) != CT_OK)
        return false;
    bool apart = b->host == NULL;
    if (apart && (b->host = ct_pages_alloc(bytes, false)) == NULL)
        return false;
    memset(b->host, fill, bytes);
    if (apart)
        failed_if(t, t->b->write(b, 0, b->host, bytes, NULL));
    return true;
}

void ct_check_pool_fetch(ct_check *t, ct_buffer *b)
{
    if (t->stream)
        failed_if(t, t->b->read(b, 0, b->host, b->bytes, NULL));
}

void ct_check_pool_free(ct_check *t, ct_buffer *b)
{
    if (t->stream && b->host) {
        ct_pages_free(b->host, b->bytes);
        b->host = NULL;
    }
    t->b->buffer_free(b);
}
