/* The forward pass of Gemma 3, once, for every backend: one line per operation of the table.
 *
 * Letters: n rows, D width, H query heads, K kv heads, d head size, F ffn width, V vocabulary. It knows no instruction set, no
 * weight type, and not where rows come from. Where a backend fills an optional, fused slot that is called, else its spelling. */
#include "model/model.h"

/* The first n rows of a view. */
static ct_view first(ct_view v, int32_t n)
{
    v.rows = n;
    return v;
}

static void norm_rope(const ct_gemma *m, ct_ctx *c, ct_view x, const ct_weight *w, ct_view cs, int32_t heads)
{
    const ct_ops *op = m->ops;
    if (op->norm_rope) {
        op->norm_rope(c, x, w, cs, heads, m->cfg.eps);
        return;
    }
    op->head_norm(c, x, w, heads, m->cfg.eps);
    op->rope(c, x, cs, heads);
}

/* x += norm(branch); h = norm_next(x), unless there is no next. */
static void norm_add_norm(const ct_gemma *m, ct_ctx *c, ct_view h, ct_view x, ct_view branch, const ct_weight *w,
                          const ct_weight *next)
{
    const ct_ops *op = m->ops;
    if (next && op->norm_add_norm) {
        op->norm_add_norm(c, h, x, branch, w, next, m->cfg.eps);
        return;
    }
    op->norm_add(c, x, branch, w, m->cfg.eps);
    if (next)
        op->rmsnorm(c, h, x, next, m->cfg.eps);
}

static void gated(const ct_gemma *m, ct_ctx *c, const ct_step *s, ct_view h, const ct_layer *l, const ct_rows *rows)
{
    const ct_ops *op = m->ops;
    ct_view gate = first(s->gate, rows->n), up = first(s->up, rows->n);
    if (op->linear_geglu) {
        op->linear_geglu(c, gate, h, &l->gate, &l->up, rows);
        return;
    }
    op->linear(c, 2, (ct_view[]){gate, up}, h, (const ct_weight *const[]){&l->gate, &l->up}, rows);
    op->geglu(c, gate, gate, up);
}

/* Only the selected rows go on: gathers their residual and attention. What the rest of the layer still asks of rows is how
 * many there are and how many are prompt rows. */
static ct_rows select_rows(const ct_gemma *m, ct_ctx *c, ct_step *s, ct_view *x, ct_view *att, const ct_rows *rows,
                           const int32_t *out, int32_t n_out)
{
    ct_view sel = first(s->sel, n_out), q = first(s->q, n_out); /* q has been used up */
    m->ops->gather(c, sel, *x, out);
    m->ops->gather(c, q, *att, out);
    *x = sel;
    *att = q;
    ct_rows some = {.n = n_out};
    for (int32_t i = 0; i < n_out && out[i] < rows->n_prompt; i++)
        some.n_prompt++;
    return some;
}

bool ct_forward_layers(const ct_gemma *m, ct_ctx *c, ct_step *s, const ct_rows *rows, const ct_kv *kv,
                       const int32_t *out, int32_t n_out, ct_watch_fn *watch, void *watch_arg)
{
    const ct_config *g = &m->cfg;
    const ct_ops *op = m->ops;
    int32_t n = rows->n;
    ct_view x = first(s->x, n), h = first(s->h, n), branch = first(s->branch, n), att = first(s->att, n);
    ct_view q = first(s->q, n), k = first(s->k, n), v = first(s->v, n);
    ct_view cs_global = first(s->cs_global, n), cs_local = first(s->cs_local, n);
    ct_rows some = *rows; /* the rows that are still needed */

    op->rope_table(c, cs_global, rows, &(ct_rope){g->theta_global, g->rope_factor, g->head_dim});
    op->rope_table(c, cs_local, rows, &(ct_rope){g->theta_local, 1, g->head_dim});
    op->embed(c, x, &m->embed, rows, g->embed_scale);
    if (watch && watch(watch_arg, -1, x))
        return false;
    op->rmsnorm(c, h, x, &m->layers[0].attn_norm, g->eps);
    for (int32_t i = 0; i < g->layers; i++) {
        const ct_layer *l = &m->layers[i];
        ct_view cs = g->global[i] ? cs_global : cs_local;
        const ct_attn how = {.heads = g->heads, .window = g->global[i] ? 0 : g->window, .scale = g->attn_scale};

        op->linear(c, 3, (ct_view[]){q, k, v}, h, (const ct_weight *const[]){&l->q, &l->k, &l->v}, rows);
        norm_rope(m, c, k, &l->k_norm, cs, g->kv_heads);
        if (!kv[i].frozen)
            op->kv_store(c, k, v, &kv[i], rows);
        if (i == g->layers - 1 && n_out == 0 && !watch)
            break; /* the cache is filled, and nobody looks at the rest */
        norm_rope(m, c, q, &l->q_norm, cs, g->heads);
        op->attention(c, att, q, &kv[i], rows, &how);
        if (i == g->layers - 1 && n_out < n && !watch) {
            some = select_rows(m, c, s, &x, &att, rows, out, n_out);
            h = first(h, n_out);
            branch = first(branch, n_out);
        }
        op->linear(c, 1, &branch, att, (const ct_weight *const[]){&l->o}, &some);
        norm_add_norm(m, c, h, x, branch, &l->post_attn_norm, &l->ffn_norm);

        gated(m, c, s, h, l, &some);
        op->linear(c, 1, &branch, first(s->gate, some.n), (const ct_weight *const[]){&l->down}, &some);
        norm_add_norm(m, c, h, x, branch, &l->post_ffn_norm, i + 1 < g->layers ? &m->layers[i + 1].attn_norm : NULL);
        if (watch && watch(watch_arg, i, x))
            return false;
    }
    if (watch && n_out > 0 && n_out < n) {
        op->gather(c, first(s->sel, n_out), x, out);
        x = first(s->sel, n_out);
    }
    s->top = x;
    return true;
}

void ct_forward_head(const ct_gemma *m, ct_ctx *c, ct_step *s, int32_t from, int32_t n, ct_screen *const *how)
{
    const ct_weight *head = ct_head_of(m);
    ct_view x = first(s->top, n), h = first(s->h, n), logits = first(s->logits, n);
    x.off += (size_t)from * x.stride * sizeof(float);
    m->ops->rmsnorm(c, h, x, &m->norm, m->cfg.eps);
    if (how && m->rough.w.rows > 0) {
        logits.cols = m->cfg.vocab; /* spare rows must not be among the largest */
        m->ops->linear_top(c, logits, h, head, &m->rough, how);
        return;
    }
    /* No prompt rows: a rounding error here goes straight into the choice of a token. */
    m->ops->linear(c, 1, &logits, h, &head, &(ct_rows){.n = n});
    if (m->cfg.softcap > 0)
        m->ops->softcap(c, logits, m->cfg.softcap);
    for (int32_t i = 0; how && i < n; i++)
        how[i]->scored = m->cfg.vocab;
}

void ct_forward(const ct_gemma *m, ct_ctx *c, ct_step *s, const ct_rows *rows, const ct_kv *kv, const int32_t *out,
                int32_t n_out, ct_watch_fn *watch, void *watch_arg)
{
    if (ct_forward_layers(m, c, s, rows, kv, out, n_out, watch, watch_arg) && n_out > 0)
        ct_forward_head(m, c, s, 0, n_out, NULL);
}
