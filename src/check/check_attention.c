/* Checks of kv_store and attention, and where their budgets come from.
 *
 * A case has several sequences at different depths in one batch, pages in shuffled order with some between them that belong to nobody,
 * and a cache that holds plausible rubbish wherever nothing was stored: a key that should be masked has a say of its own.
 *
 * With p the softmax and o = sum p_j v_j, an error e_j of a score moves o by sum p_j (v_j - o) e_j. Queries and probabilities
 * may be rounded on their way into a product, as independent relative errors of standard deviation u per element:
 *   prompt rows   bf16, u = 2^-9 / sqrt(3)
 *   exact rows    f32 or two bf16 planes, u = 2^-17 / sqrt(3)
 * so a score's deviation is u * scale * |q o k_j|, and six of the largest one, taken as if all keys' errors pointed the same
 * way on each side of o, bound the first part; six of u * sqrt(sum p_j^2 v_j^2) the second. Where products of prompt rows are in
 * f16, a p_j below 2^-25 of the largest is nothing. Sums in f32 come on top. Cached
 * values are those of the cache's own type, so that only arithmetic differs; kv_store's check feeds others. */
#include "check/harness.h"

#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "ref/ref.h"

#define SEQUENCES 4
#define SPARE_PAGES 3
#define STORE_ROWS 37 /* history is stored in batches that cross pages at odd places */

struct attn_case {
    ct_dtype type_k, type_v;
    int32_t heads, kv_heads, d, window;
    bool ring, exact, unrounded, invariance;
    float q_sigma;
    ct_fill fill_q;
    int32_t sequences;
    int32_t depth[SEQUENCES]; /* positions stored before */
    int32_t count[SEQUENCES]; /* rows in the batch */
    int32_t prompt_sequences; /* the first so many are prompts, the others decode */
};

struct world { /* a case, built */
    const struct attn_case *s;
    int32_t n, n_prompt, first[SEQUENCES], span; /* first position kept; positions kept per sequence, at most */
    ct_kv kv, ref_kv;
    float *k, *v; /* [sequences][span][K*d], as cached */
    int32_t *pos, *seq;
    ct_rows rows;
    ct_limits limits;
    int32_t pages; /* of the pool, the unowned included */
};

static const char *type_name(ct_dtype k, ct_dtype v)
{
    if (k != v)
        return k == CT_BF16 ? "bf16+f16" : k == CT_F32 ? "f32+bf16" : v == CT_BF16 ? "q8+bf16" : "q8+q4";
    if (k == CT_Q8_0 || k == CT_Q4_1)
        return k == CT_Q8_0 ? "q8" : "q4";
    return k == CT_F32 ? "f32" : k == CT_F16 ? "f16" : "bf16";
}

static float rounded(float f, ct_dtype t)
{
    return t == CT_F32 ? f : t == CT_BF16 ? ct_bf16_to_f32(ct_f32_to_bf16(f)) : ct_f16_to_f32(ct_f32_to_f16(f));
}

/* What a cache of a type makes of n elements, a whole number of groups. Twice is the same as once. */
static void as_cached(float *dst, const float *src, size_t n, ct_dtype t)
{
    uint8_t block[64];
    if (t == CT_Q8_0 || t == CT_Q4_1)
        for (size_t i = 0; i < n; i += 32) {
            ct_ref_kv_encode(block, src + i, 32, t);
            ct_row_decode(ct_dtype_get((int32_t)t), dst + i, block, 32);
        }
    else
        for (size_t i = 0; i < n; i++)
            dst[i] = rounded(src[i], t);
}

static size_t kv_cols(const struct attn_case *s) { return (size_t)s->kv_heads * (size_t)s->d; }

static float *kept(const struct world *w, float *data, int32_t seq, int32_t pos)
{
    return data + ((size_t)seq * (size_t)w->span + (size_t)(pos - w->first[seq])) * kv_cols(w->s);
}

/* Stores positions [from, from + n) of a sequence in both worlds, and keeps them as the cache will have them. */
static void draw_rows(ct_check *t, const struct world *w, ct_guarded *g, int32_t at, int32_t seq, int32_t pos,
                      float *keep, ct_dtype type, float sigma)
{
    float *dev = ct_view_row(g->dev, at), *ref = ct_view_row(g->ref, at), *cached = kept(w, keep, seq, pos);
    size_t n = kv_cols(w->s);
    for (size_t j = 0; j < n; j++)
        ref[j] = (float)ct_check_normal(t) * sigma;
    for (int32_t j = 0; j < 4; j++) /* some that are subnormal, in f32 or in f16 */
        ref[ct_check_draw(t, n)] *= j % 2 ? 0x1p-130f : 0x1p-17f;
    as_cached(cached, ref, n, type);
    if (!w->s->unrounded)
        memcpy(ref, cached, n * sizeof(float));
    memcpy(dev, ref, n * sizeof(float));
}

static void store_rows(ct_check *t, const struct world *w, int32_t n, const int32_t *seq, const int32_t *pos,
                       int32_t n_prompt)
{
    const struct attn_case *s = w->s;
    int32_t cols = (int32_t)kv_cols(s);
    ct_guarded k = ct_check_in(t, n, cols, CT_FILL_ZERO, 1.0f), v = ct_check_in(t, n, cols, CT_FILL_ZERO, 1.0f);
    for (int32_t i = 0; i < n; i++) {
        draw_rows(t, w, &k, i, seq[i], pos[i], w->k, s->type_k, 1.0f);
        draw_rows(t, w, &v, i, seq[i], pos[i], w->v, s->type_v, 1.0f);
    }
    ct_rows rows = {.n = n, .n_prompt = n_prompt, .token = pos, .pos = pos, .seq = seq};
    ct_ctx c = ct_check_ctx(t, CT_CHECK_POOLS - 1, s->exact, w->limits), rc = ct_check_ref_ctx(t, w->limits);
    ct_check_before(t, &c, &rows, &w->kv, NULL, 0);
    t->ops->kv_store(&c, k.dev, v.dev, &w->kv, &rows);
    ct_check_after(t, &c);
    t->ref->kv_store(&rc, k.ref, v.ref, &w->ref_kv, &rows);
    ct_check_guard(t, &k, "k");
    ct_check_guard(t, &v, "v");
}

/* Rubbish that every type reads as a large but finite number: 0x5b5b is 6e16 in bf16, 235 in f16. */
#define RUBBISH 0x5b

static bool build(ct_check *t, struct world *w, const struct attn_case *s, ct_buffer *pool, ct_buffer *ref_pool)
{
    int32_t longest = 0, chunk = 1;
    *w = (struct world){.s = s};
    for (int32_t i = 0; i < s->sequences; i++) {
        w->n += s->count[i];
        w->n_prompt += i < s->prompt_sequences ? s->count[i] : 0;
        chunk = s->count[i] > chunk ? s->count[i] : chunk;
        longest = s->depth[i] + s->count[i] > longest ? s->depth[i] + s->count[i] : longest;
    }
    int32_t ring = s->ring ? (s->window - 1 + chunk + CT_KV_PAGE - 1) / CT_KV_PAGE + 1 : 0;
    int32_t stride = s->ring ? ring : (longest + CT_KV_PAGE - 1) / CT_KV_PAGE;
    w->span = (s->ring ? ring * CT_KV_PAGE : longest) + chunk;
    w->pages = s->sequences * stride + SPARE_PAGES;
    w->limits = (ct_limits){.rows = w->n > STORE_ROWS ? w->n : STORE_ROWS,
                            .max_cols = s->heads * s->d,
                            .max_out = s->heads * s->d,
                            .heads = s->heads,
                            .kv_heads = s->kv_heads,
                            .head_dim = s->d,
                            .context = longest};
    for (int32_t i = 0; i < s->sequences; i++) {
        int32_t back = s->depth[i] - (w->span - chunk);
        w->first[i] = s->ring && back > 0 ? back : 0;
    }
    /* Sequences get pages in shuffled order; what is left at the end of the table belongs to nobody. */
    int32_t *table = ct_check_ints(t, (size_t)w->pages);
    for (int32_t i = 0; i < w->pages; i++)
        table[i] = i;
    for (int32_t i = w->pages - 1; i > 0; i--) {
        int32_t j = (int32_t)ct_check_draw(t, (uint64_t)i + 1), swap = table[i];
        table[i] = table[j];
        table[j] = swap;
    }
    w->kv = (ct_kv){.type_k = s->type_k,
                    .type_v = s->type_v,
                    .kv_heads = s->kv_heads,
                    .head_dim = s->d,
                    .ring = ring,
                    .table_stride = stride,
                    .sequences = s->sequences,
                    .table = table};
    w->ref_kv = w->kv;
    w->kv.page_bytes = t->b->kv_page_bytes(s->type_k, s->type_v, s->kv_heads, s->d);
    w->ref_kv.page_bytes = t->ref_b->kv_page_bytes(s->type_k, s->type_v, s->kv_heads, s->d);
    w->kv.off = w->kv.page_bytes; /* as another layer's part would lie before it */
    if (!ct_check_pool(t, pool, (size_t)(w->pages + 1) * w->kv.page_bytes, RUBBISH) ||
        t->ref_b->buffer_alloc(ref_pool, (size_t)w->pages * w->ref_kv.page_bytes, NULL) != CT_OK) {
        t->status = CT_ENOMEM;
        return false;
    }
    w->kv.pool = pool;
    w->ref_kv.pool = ref_pool;
    size_t kept_bytes = (size_t)s->sequences * (size_t)w->span * kv_cols(s) * sizeof(float);
    w->k = ct_check_temp(t, kept_bytes);
    w->v = ct_check_temp(t, kept_bytes);
    w->pos = ct_check_ints(t, (size_t)w->n);
    w->seq = ct_check_ints(t, (size_t)w->n);
    int32_t row = 0;
    for (int32_t i = 0; i < s->sequences; i++)
        for (int32_t j = 0; j < s->count[i]; j++, row++) {
            w->pos[row] = s->depth[i] + j;
            w->seq[row] = i;
        }
    w->rows = (ct_rows){.n = w->n, .n_prompt = w->n_prompt, .token = w->pos, .pos = w->pos, .seq = w->seq};
    return true;
}

static void store_history(ct_check *t, const struct world *w)
{
    int32_t *pos = ct_check_ints(t, STORE_ROWS), *seq = ct_check_ints(t, STORE_ROWS);
    size_t mark = t->mem_used, ref_mark = t->ref_used;
    for (int32_t i = 0; i < w->s->sequences; i++)
        for (int32_t p = w->first[i]; p < w->s->depth[i];) {
            int32_t n = 1 + (int32_t)ct_check_draw(t, STORE_ROWS);
            n = p + n > w->s->depth[i] ? w->s->depth[i] - p : n;
            for (int32_t j = 0; j < n; j++) {
                pos[j] = p + j;
                seq[j] = i;
            }
            store_rows(t, w, n, seq, pos, n);
            p += n;
            t->mem_used = mark; /* operands of a batch are not needed for the next */
            t->ref_used = ref_mark;
        }
    store_rows(t, w, w->n, w->seq, w->pos, w->n_prompt);
}

/* One head of one row: every output's budget, from scores and probabilities worked out again. p: room for the context's
 * probabilities and three numbers for each of d outputs. */
static void compare_head(ct_check *t, const struct world *w, int32_t row, int32_t head, const ct_guarded *q,
                         const ct_guarded *o, const struct attn_case *s, float scale, double *p)
{
    int32_t pos = w->pos[row], seq = w->seq[row], d = s->d;
    int32_t from = s->window && pos >= s->window ? pos - s->window + 1 : 0, keys = pos - from + 1;
    size_t at = (size_t)(head / (s->heads / s->kv_heads)) * (size_t)d, out = (size_t)head * (size_t)d;
    const float *qh = ct_view_row(q->ref, row) + out;
    double max = -INFINITY, total = 0.0, norm = 0.0, products = 0.0;
    for (int32_t j = 0; j < keys; j++) {
        const float *k = kept(w, w->k, seq, from + j) + at;
        double sum = 0.0, squares = 0.0, absolute = 0.0;
        for (int32_t e = 0; e < d; e++) {
            double x = (double)qh[e] * (double)k[e];
            sum += x;
            squares += x * x;
            absolute += fabs(x);
        }
        p[j] = sum * (double)scale;
        max = fmax(max, p[j]);
        norm = fmax(norm, sqrt(squares) * (double)scale);
        products = fmax(products, absolute * (double)scale);
    }
    for (int32_t j = 0; j < keys; j++)
        total += p[j] = exp(p[j] - max);
    bool prompt = row < w->n_prompt && !s->exact;
    double u = (prompt ? CT_EPSBF16 : 0x1p-17) / sqrt(3.0);
    double score_f32 = CT_EPS32 * (sqrt((double)d) / 4.0 + 8.0) * products;
    double score = expm1(fmin(6.0 * u * norm + score_f32, 30.0)) + 8.0 * CT_EPS32;
    const float *got = ct_view_row(o->dev, row) + out, *want = ct_view_row(o->ref, row) + out;
    /* Key by key, as the values lie in memory: this is where a check of attention spends its time. */
    double *restrict apart = p + keys, *restrict square = apart + d, *restrict absolute = square + d,
                     *restrict values = absolute + d;
    memset(apart, 0, 4 * (size_t)d * sizeof *apart);
    for (int32_t j = 0; j < keys; j++) {
        const float *vj = kept(w, w->v, seq, from + j) + at;
        double pj = p[j] / total;
        for (int32_t e = 0; e < d; e++) {
            double v = (double)vj[e];
            apart[e] += pj * fabs(v - (double)want[e]);
            square[e] += pj * pj * v * v;
            absolute[e] += pj * fabs(v);
            values[e] += fabs(v);
        }
    }
    for (int32_t e = 0; e < d; e++) {
        double budget = score * apart[e] + 6.0 * u * sqrt(square[e]) +
                        CT_EPS32 * (sqrt((double)keys) / 4.0 + 8.0) * absolute[e] + 0x1p-120 +
                        (prompt ? 0x1p-25 * values[e] / total : 0.0);
        ct_check_value(t, prompt ? "prompt o" : "exact o", row, head * d + e, (double)got[e], (double)want[e], budget);
    }
}

static ct_guarded run_attention(ct_check *t, const struct world *w, int32_t pool, ct_view q, const ct_rows *rows,
                                const ct_attn *how)
{
    ct_guarded o = ct_check_out(t, rows->n, w->s->heads * w->s->d);
    ct_ctx c = ct_check_ctx(t, pool, w->s->exact, w->limits);
    c.deterministic = w->s->invariance;
    ct_check_before(t, &c, rows, &w->kv, NULL, 0);
    t->ops->attention(&c, o.dev, q, &w->kv, rows, how);
    ct_check_after(t, &c);
    ct_check_guard(t, &o, "o");
    return o;
}

static void attention_invariance(ct_check *t, const struct world *w, const ct_guarded *q, const ct_guarded *o,
                                 const ct_attn *how)
{
    for (int32_t p = 0; p < CT_CHECK_POOLS - 1; p++) {
        ct_guarded again = run_attention(t, w, p, q->dev, &w->rows, how);
        for (int32_t r = 0; r < w->n; r++)
            ct_check_same(t, o->dev, r, again.dev, r, "with another number of threads");
    }
    for (int32_t r = 0; r<w->n; r += w->n> 16 ? 3 : 1) {
        ct_rows row = {.n = 1, .n_prompt = r < w->n_prompt, .token = w->pos + r, .pos = w->pos + r, .seq = w->seq + r};
        ct_view qr = q->dev;
        qr.off += (size_t)r * qr.stride * sizeof(float);
        qr.rows = 1;
        ct_guarded one = run_attention(t, w, CT_CHECK_POOLS - 1, qr, &row, how);
        ct_check_same(t, o->dev, r, one.dev, 0, "when computed alone");
    }
}

/* With a window of one, o is the row's own value as the cache has it: the only key has probability 1. 2^-16 leaves room for
 * arithmetic, and none for a value rounded the wrong way (2^-9 in bf16, 2^-12 in f16). */
static void read_back(ct_check *t, const struct world *w, ct_view q)
{
    const struct attn_case *s = w->s;
    ct_attn own = {.heads = s->heads, .window = 1, .scale = 0.1f};
    ct_guarded o = run_attention(t, w, CT_CHECK_POOLS - 1, q, &w->rows, &own);
    int32_t group = s->heads / s->kv_heads;
    for (int32_t r = 0; r < w->n; r++)
        for (int32_t h = 0; h < s->heads; h++) {
            const float *v = kept(w, w->v, w->seq[r], w->pos[r]) + (size_t)(h / group) * (size_t)s->d;
            for (int32_t e = 0; e < s->d; e++)
                ct_check_value(t, "stored v", r, h * s->d + e, (double)ct_view_row(o.dev, r)[h * s->d + e],
                               (double)v[e], fabs((double)v[e]) * 0x1p-16 + 0x1p-126);
        }
}

static bool rubbish(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != RUBBISH)
            return false;
    return true;
}

/* Pages of the pool that belong to no sequence, and the room of another layer before them all. */
static void guard_pages(ct_check *t, const struct world *w, ct_buffer *buf)
{
    ct_check_pool_fetch(t, buf);
    size_t bytes = w->kv.page_bytes;
    const uint8_t *pool = buf->host;
    bool clean = rubbish(pool, bytes);
    for (int32_t i = w->pages - SPARE_PAGES; i < w->pages; i++)
        clean = clean && rubbish(pool + w->kv.off + (size_t)w->kv.table[i] * bytes, bytes);
    if (!clean)
        ct_check_used(t, INFINITY, "wrote into a page that is not in the table");
}

static void attention_case(ct_check *t, const struct attn_case *s)
{
    struct world w;
    ct_buffer pool = {0}, ref_pool = {0};
    ct_check_case(t, "H %d/%d d %d, W %d%s, depth %d+%d.. of %d seqs (%d prompt%s), %s", s->heads, s->kv_heads, s->d,
                  s->window, s->ring ? " ring" : "", s->depth[0], s->count[0], s->sequences, s->prompt_sequences,
                  s->exact ? ", exact" : "", ct_fill_name(s->fill_q));
    if (!build(t, &w, s, &pool, &ref_pool))
        goto done;
    store_history(t, &w);
    double *p = ct_check_temp(t, (size_t)(w.limits.context + 1 + 4 * s->d) * sizeof(double));
    ct_guarded q = ct_check_in(t, w.n, s->heads * s->d, s->fill_q, s->q_sigma);
    ct_attn how = {.heads = s->heads, .window = s->window, .scale = (float)(1.0 / sqrt((double)s->d))};
    ct_guarded o = run_attention(t, &w, CT_CHECK_POOLS - 1, q.dev, &w.rows, &how);
    ct_ctx rc = ct_check_ref_ctx(t, w.limits);
    t->ref->attention(&rc, o.ref, q.ref, &w.ref_kv, &w.rows, &how);
    ct_check_guard(t, &q, "q");
    for (int32_t r = 0; r < w.n; r++)
        for (int32_t h = 0; h < s->heads; h++)
            compare_head(t, &w, r, h, &q, &o, s, how.scale, p);
    if (s->invariance)
        attention_invariance(t, &w, &q, &o, &how);
    if (s->unrounded)
        read_back(t, &w, q.dev);
    guard_pages(t, &w, &pool);
done:
    ct_check_pool_free(t, &pool);
    t->ref_b->buffer_free(&ref_pool);
}

/* ---- which cases ---- */

static const ct_dtype pairs[][2] = {{CT_BF16, CT_BF16}, {CT_F16, CT_F16},   {CT_F32, CT_F32},
                                    {CT_BF16, CT_F16},  {CT_F32, CT_BF16},  {CT_Q8_0, CT_Q8_0},
                                    {CT_Q4_1, CT_Q4_1}, {CT_Q8_0, CT_Q4_1}, {CT_Q8_0, CT_BF16}};
enum { N_PAIRS = sizeof pairs / sizeof pairs[0] };

static void draw_heads(ct_check *t, struct attn_case *s)
{
    /* GQA 1, 2, 4 and 8; {4,1,256} is 270m's and 1b's, {8,4,256} 4b's, {4,2,128} 27b's shape */
    static const int32_t shapes[][3] = {{4, 1, 256}, {8, 4, 256}, {4, 2, 128}, {2, 2, 64},
                                        {8, 1, 64},  {4, 1, 128}, {1, 1, 32},  {6, 2, 64}};
    const int32_t *h = shapes[ct_check_draw(t, 8)];
    s->heads = h[0];
    s->kv_heads = h[1];
    s->d = h[2];
}

static struct attn_case base_case(ct_check *t, const ct_dtype pair[2])
{
    struct attn_case s = {.type_k = pair[0], .type_v = pair[1], .q_sigma = 2.0f};
    draw_heads(t, &s);
    return s;
}

/* One prompt from position 0, or a chunk at some depth, every row count. */
static void chunks(ct_check *t, const ct_dtype pair[2])
{
    for (const int32_t *n = ct_check_counts(t); *n && t->status == CT_OK; n++)
        for (int32_t i = 0; i < 2; i++) {
            struct attn_case s = base_case(t, pair);
            static const int32_t depths[] = {0, 1, 15, 63, 64, 65, 127, 130};
            s.sequences = s.prompt_sequences = 1;
            s.depth[0] = i ? depths[ct_check_draw(t, 8)] : 0;
            s.count[0] = *n;
            s.exact = ct_check_draw(t, 3) == 0;
            s.invariance = *n == 13 || *n == 17 || *n == 33;
            attention_case(t, &s);
        }
}

/* Depths around the window, in rings that were gone round many times, and in plain pages. */
static void windows(ct_check *t, const ct_dtype pair[2])
{
    static const int32_t quick[] = {64, 100, 0}, full[] = {1, 16, 63, 64, 65, 100, 512, 0};
    for (const int32_t *win = t->quick ? quick : full; *win && t->status == CT_OK; win++) {
        int32_t w = *win;
        const int32_t depths[] = {w - 1, w, w + 1, 2 * w, 13 * w + 7, 100003};
        for (int32_t i = 0; i < 6; i++)
            for (int32_t ring = i == 5 || (i == 4 && t->quick); ring < 2; ring++) {
                struct attn_case s = base_case(t, pair);
                s.window = w;
                s.ring = ring;
                s.sequences = 3;
                s.prompt_sequences = (int32_t)ct_check_draw(t, 3);
                s.depth[0] = depths[i] > 0 ? depths[i] - 1 : 0;
                s.depth[1] = ring ? depths[(i + 3) % 6] : depths[(i + 1) % 4];
                s.depth[2] = depths[i];
                s.count[0] = s.prompt_sequences > 0 ? 1 + (int32_t)ct_check_draw(t, 70) : 1;
                s.count[1] = s.prompt_sequences > 1 ? 5 : 1;
                s.count[2] = 1;
                s.exact = ct_check_draw(t, 3) == 0;
                s.invariance = i == 2 || i == 5;
                attention_case(t, &s);
            }
    }
}

/* Several sequences at different depths without a window: a chunk and decode rows in one batch, as serving mixes them. */
static void batches(ct_check *t, const ct_dtype pair[2])
{
    for (int32_t i = 0; i < (t->quick ? 4 : 16) && t->status == CT_OK; i++) {
        struct attn_case s = base_case(t, pair);
        s.sequences = 4;
        s.prompt_sequences = i % 4;
        for (int32_t j = 0; j < 4; j++) {
            s.depth[j] = (int32_t)ct_check_draw(t, j == 3 ? 1500 : 200);
            s.count[j] = j < s.prompt_sequences ? 1 + (int32_t)ct_check_draw(t, 40)
                                                : 1 + (int32_t)(ct_check_draw(t, 4) == 0);
        }
        s.invariance = true;
        attention_case(t, &s);
    }
    if (!t->quick) {
        struct attn_case s = base_case(t, pair);
        s.sequences = 1;
        s.depth[0] = 9000;
        s.count[0] = 1;
        s.invariance = true;
        attention_case(t, &s);
    }
}

static void fills(ct_check *t, const ct_dtype pair[2])
{
    for (int32_t f = 0; f < CT_FILL_COUNT; f++)
        for (int32_t i = 0; i < 3 && t->status == CT_OK; i++) {
            struct attn_case s = base_case(t, pair);
            s.fill_q = (ct_fill)f;
            /* Scores of 1e5 leave no softmax to compare: large means 1e3 times more than usual, and a few keys decide. */
            s.q_sigma = f == CT_FILL_LARGE ? 1e-3f : 1.0f;
            s.sequences = 2;
            s.prompt_sequences = i;
            s.depth[0] = 70;
            s.depth[1] = 140;
            s.count[0] = i > 0 ? 9 : 1;
            s.count[1] = i > 1 ? 9 : 1;
            attention_case(t, &s);
        }
}

void ct_check_attention(ct_check *t)
{
    for (int32_t i = 0; i < N_PAIRS && t->status == CT_OK; i++) {
        ct_check_line_begin(t, "attention", type_name(pairs[i][0], pairs[i][1]));
        chunks(t, pairs[i]);
        windows(t, pairs[i]);
        batches(t, pairs[i]);
        fills(t, pairs[i]);
        ct_check_line_end(t);
    }
}

/* What is stored: values that the cache's type must round, seen by exact rows, whose budget is far below that rounding. */
void ct_check_kv_store(ct_check *t)
{
    for (int32_t i = 0; i < N_PAIRS && t->status == CT_OK; i++) {
        ct_check_line_begin(t, "kv_store", type_name(pairs[i][0], pairs[i][1]));
        for (const int32_t *n = ct_check_counts(t); *n; n++)
            for (int32_t ring = 0; ring < 2; ring++) {
                struct attn_case s = base_case(t, pairs[i]);
                s.ring = ring;
                s.window = ring ? 100 : 0;
                s.exact = s.unrounded = true;
                s.sequences = 2;
                s.prompt_sequences = 1;
                s.depth[0] = ring ? 5000 + (int32_t)ct_check_draw(t, 200) : (int32_t)ct_check_draw(t, 130);
                s.depth[1] = (int32_t)ct_check_draw(t, 130);
                s.count[0] = *n;
                s.count[1] = 1;
                attention_case(t, &s);
            }
        ct_check_line_end(t);
    }
}
