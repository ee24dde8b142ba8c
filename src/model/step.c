/* The memory of one forward: every activation is a view into one block, laid out by arithmetic that can be asked for
 * beforehand. Knows shapes and nothing of what is computed in them. */
#include "model/model.h"

/* Rows start at multiples of 64 bytes, the width of the widest vector register. */
#define ALIGN_ELEMS 16

struct layout {
    ct_step *s; /* views are set here; may be a throw-away */
    size_t bytes;
};

static ct_view place(struct layout *l, int32_t rows, int32_t cols)
{
    size_t stride = ct_round_up((size_t)cols, ALIGN_ELEMS);
    ct_view v = {.buf = &l->s->buf, .off = l->bytes, .rows = rows, .cols = cols, .stride = stride, .type = CT_F32};
    l->bytes += (size_t)rows * stride * sizeof(float);
    return v;
}

/* ct_config's ranges keep every product here below 2^53. */
static size_t lay_out(ct_step *s, const ct_gemma *m, int32_t n, int32_t n_out)
{
    const ct_config *c = &m->cfg;
    int32_t q = c->heads * c->head_dim, k = c->kv_heads * c->head_dim;
    struct layout l = {.s = s};
    s->max_rows = n;
    s->max_out = n_out;
    s->x = place(&l, n, c->dim);
    s->h = place(&l, n, c->dim);
    s->branch = place(&l, n, c->dim);
    s->sel = place(&l, n, c->dim);
    s->q = place(&l, n, q);
    s->k = place(&l, n, k);
    s->v = place(&l, n, k);
    s->att = place(&l, n, q);
    s->gate = place(&l, n, c->ffn);
    s->up = place(&l, m->ops->linear_geglu ? 0 : n, c->ffn); /* the fused op needs no second one */
    s->cs_global = place(&l, n, c->head_dim);
    s->cs_local = place(&l, n, c->head_dim);
    s->logits = place(&l, n_out, c->embed_rows);
    return l.bytes;
}

static ct_limits limits_of(const ct_gemma *m, int32_t n, int32_t context, int32_t threads)
{
    const ct_config *c = &m->cfg;
    int32_t q = c->heads * c->head_dim, widest = c->dim > c->ffn ? c->dim : c->ffn;
    if (q > widest)
        widest = q;
    return (ct_limits){.rows = n,
                       .max_cols = widest,
                       .max_out = widest,
                       .head_out = m->rough.w.rows > 0 ? c->embed_rows : 0,
                       .heads = c->heads,
                       .kv_heads = c->kv_heads,
                       .head_dim = c->head_dim,
                       .context = context,
                       .threads = threads};
}

size_t ct_step_bytes(const ct_gemma *m, int32_t max_rows, int32_t max_out, int32_t context, int32_t threads)
{
    ct_step s;
    ct_limits l = limits_of(m, max_rows, context, threads);
    return lay_out(&s, m, max_rows, max_out) + m->backend->scratch_bytes(&l);
}

ct_status ct_step_create(ct_step *s, const ct_gemma *m, int32_t max_rows, int32_t max_out, int32_t context,
                         int32_t threads, ct_error *err)
{
    *s = (ct_step){0};
    ct_limits l = limits_of(m, max_rows, context, threads);
    size_t bytes = lay_out(s, m, max_rows, max_out), scratch = m->backend->scratch_bytes(&l);
    ct_status st = m->backend->buffer_alloc(&s->buf, bytes, err);
    if (st != CT_OK)
        return st;
    if (m->backend->stream_create)
        st = m->backend->stream_create(&s->stream, &l, err);
    else if (!ct_arena_init(&s->scratch, scratch))
        st = ct_fail(err, CT_ENOMEM, NULL, "no memory for %zu bytes of work space", scratch);
    if (st != CT_OK)
        ct_step_free(s, m);
    return st;
}

void ct_step_free(ct_step *s, const ct_gemma *m)
{
    if (s->stream)
        m->backend->stream_free(s->stream);
    if (s->buf.bytes > 0)
        m->backend->buffer_free(&s->buf);
    ct_arena_deinit(&s->scratch);
    *s = (ct_step){0};
}
