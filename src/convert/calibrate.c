/* Collects an importance matrix: the forward pass over a text, on a table of operations whose `linear` looks at its inputs first.
 *
 * The model does not know that it is watched, and the backend does the work. Fused operations that hide an input are left out of the
 * table, so that their spelling is called; the head looks and does not multiply, because nobody wants its logits. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "convert/imatrix.h"

#define HEAD_ROWS 16 /* given to the head at a time: its logits have memory that is never touched */

struct sums { /* of one linear layer */
    const ct_weight *weight;
    double *squares; /* [weight->cols] */
    uint64_t rows;
    const ct_name *name;
    int32_t layer;
};

struct watch {
    ct_ops ops; /* first: an operation is given the table it was found in, and so finds the rest */
    const ct_ops *base;
    const ct_weight *head;
    struct sums *sums; /* [n] */
    size_t n;
};

/* squares[cols] += x^2 over the rows of x, in order. */
static void add_squares(struct sums *s, ct_view x)
{
    for (int32_t r = 0; r < x.rows; r++) {
        const float *row = ct_view_row(x, r);
        for (int32_t j = 0; j < x.cols; j++)
            s->squares[j] += (double)row[j] * (double)row[j];
    }
    s->rows += (uint64_t)x.rows;
}

static void watched_linear(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w,
                           const ct_rows *rows)
{
    struct watch *watch = (struct watch *)(void *)((char *)(uintptr_t)c->ops - offsetof(struct watch, ops));
    for (int32_t i = 0; i < m; i++)
        for (size_t k = 0; k < watch->n; k++)
            if (watch->sums[k].weight == w[i])
                add_squares(&watch->sums[k], x);
    if (w[0] != watch->head)
        watch->base->linear(c, m, y, x, w, rows);
}

/* A row of sums for every matrix that a linear operation multiplies with: all of the name table but the vectors, and the embedding
 * where it is the head as well. */
static ct_status list_matrices(struct watch *watch, const ct_gemma *m, ct_error *err)
{
    size_t room = 0;
    while (ct_name_at(room))
        room++;
    room *= (size_t)m->cfg.layers;
    watch->sums = ct_calloc(room, sizeof *watch->sums);
    for (size_t i = 0; watch->sums && ct_name_at(i); i++) {
        const ct_name *name = ct_name_at(i);
        for (int32_t layer = 0; layer < (name->per_layer ? m->cfg.layers : 1); layer++) {
            const char *base = name->per_layer ? (const char *)&m->layers[layer] : (const char *)m;
            const ct_weight *w = (const ct_weight *)(const void *)(base + name->field);
            if (name->use == CT_WEIGHT_VECTOR || w->rows == 0 || (!name->per_layer && w != watch->head))
                continue;
            struct sums *s = &watch->sums[watch->n++];
            *s = (struct sums){.weight = w, .name = name, .layer = layer};
            s->squares = ct_calloc((size_t)w->cols, sizeof *s->squares);
            if (s->squares == NULL)
                return ct_fail(err, CT_ENOMEM, "calibrate", "out of memory for the sums of %d columns", w->cols);
        }
    }
    return watch->sums ? CT_OK : ct_fail(err, CT_ENOMEM, "calibrate", "out of memory for %zu sums", room);
}

/* The sums as an importance matrix. */
static ct_status finish(ct_imatrix **out, const struct watch *watch, ct_error *err)
{
    ct_imatrix *im = ct_imatrix_new(watch->n);
    for (size_t i = 0; im && i < watch->n; i++) {
        const struct sums *s = &watch->sums[i];
        char name[CT_NAME_MAX];
        size_t cols = (size_t)s->weight->cols;
        ct_name_format(s->name, CT_NAMES_GGUF, s->layer, name);
        if (!ct_imatrix_set(&im->entries[i], name, strlen(name), cols)) {
            ct_imatrix_free(im);
            im = NULL;
            break;
        }
        im->entries[i].rows = s->rows;
        for (size_t j = 0; j < cols; j++) {
            double mean = s->rows > 0 ? s->squares[j] / (double)s->rows : 0;
            if (!(mean <= 1e30)) {
                ct_imatrix_free(im);
                return ct_fail(err, CT_ENUMERIC, name,
                               "input %zu of '%s' is not a finite number: the model's weights are damaged", j, name);
            }
            im->entries[i].mean[j] = (float)mean;
        }
    }
    *out = im;
    return im ? CT_OK : ct_fail(err, CT_ENOMEM, "calibrate", "out of memory for the importance matrix");
}

/* The cache of one sequence of `positions`: pages in order, in every layer. */
struct cache {
    ct_kv *kv;      /* [layers] */
    int32_t *table; /* [pages] */
    ct_buffer pool;
};

static ct_status open_cache(struct cache *c, const ct_gemma *m, int32_t positions, ct_error *err)
{
    const int32_t pages = (positions + CT_KV_PAGE - 1) / CT_KV_PAGE;
    size_t page = ct_round_up(m->backend->kv_page_bytes(CT_F32, CT_F32, m->cfg.kv_heads, m->cfg.head_dim), 64), layer,
           all;
    c->kv = ct_calloc((size_t)m->cfg.layers, sizeof *c->kv);
    c->table = ct_calloc((size_t)pages, sizeof *c->table);
    if (!c->kv || !c->table || !ct_mul_ok(page, (size_t)pages, &layer) ||
        !ct_mul_ok(layer, (size_t)m->cfg.layers, &all))
        return ct_fail(err, CT_ENOMEM, "calibrate", "out of memory for a cache of %d positions", positions);
    for (int32_t i = 0; i < pages; i++)
        c->table[i] = i;
    for (int32_t i = 0; i < m->cfg.layers; i++)
        c->kv[i] = (ct_kv){.type_k = CT_F32,
                           .type_v = CT_F32,
                           .kv_heads = m->cfg.kv_heads,
                           .head_dim = m->cfg.head_dim,
                           .table_stride = pages,
                           .sequences = 1,
                           .table = c->table,
                           .pool = &c->pool,
                           .off = (size_t)i * layer,
                           .page_bytes = page};
    return m->backend->buffer_alloc(&c->pool, all, err);
}

static void close_cache(struct cache *c, const ct_gemma *m)
{
    if (c->pool.bytes > 0)
        m->backend->buffer_free(&c->pool);
    ct_free(c->kv);
    ct_free(c->table);
}

ct_status ct_calibrate(ct_imatrix **out, const ct_gemma *model, ct_pool *pool, const int32_t *ids, size_t n,
                       int32_t chunk, int32_t bos, const ct_calibration *how, ct_error *err)
{
    static const ct_calibration quiet = {0};
    ct_gemma m = *model; /* the same weights under a table of our own */
    struct watch watch = {.ops = *model->ops, .base = model->ops};
    struct cache cache = {0};
    ct_step step = {0};
    bool has_step = false;
    int32_t *words = NULL; /* token, pos, seq, out: [4][chunk] */
    how = how ? how : &quiet;
    *out = NULL;
    watch.ops.linear = watched_linear;
    watch.ops.linear_geglu = NULL;
    watch.head = m.head.rows > 0 ? &m.head : &m.embed;
    m.ops = &watch.ops;
    if (m.backend->read)
        return ct_fail(
            err, CT_EUNSUPPORTED, m.backend->name,
            "calibration reads the inputs of every layer on the CPU, and backend '%s' keeps them elsewhere; use -b cpu",
            m.backend->name);
    if (chunk < 2 || chunk > m.cfg.context || n < (size_t)chunk)
        return ct_fail(err, CT_EINVAL, "text",
                       "expected a text of at least one chunk of %d tokens, found %zu; use a longer text", chunk, n);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m.cfg.vocab)
            return ct_fail(err, CT_EINVAL, "ids", "id %d at place %zu is not in the vocabulary (0 to %d)", ids[i],
                           i + 1, m.cfg.vocab - 1);
    ct_status st = list_matrices(&watch, &m, err);
    if (st != CT_OK)
        goto done;
    words = ct_calloc(4 * (size_t)chunk, sizeof *words);
    st = words ? open_cache(&cache, &m, chunk, err)
               : ct_fail(err, CT_ENOMEM, "calibrate", "out of memory for %d rows", chunk);
    if (st == CT_OK) {
        st = ct_step_create(&step, &m, chunk, HEAD_ROWS, chunk, ct_pool_threads(pool), err);
        has_step = st == CT_OK;
    }
    ct_ctx c = {.pool = pool,
                .scratch = &step.scratch,
                .exact = true,
                .deterministic = true,
                .stream = step.stream,
                .ops = &watch.ops};
    const size_t chunks = n / (size_t)chunk;
    for (size_t at = 0; at < chunks && st == CT_OK; at++) {
        int32_t *token = words, *pos = words + chunk, *seq = pos + chunk, *wanted = seq + chunk;
        for (int32_t i = 0; i < chunk; i++) {
            token[i] = i == 0 ? bos : ids[at * (size_t)chunk + (size_t)i];
            pos[i] = wanted[i] = i;
        }
        ct_rows rows = {.n = chunk, .n_prompt = chunk, .token = token, .pos = pos, .seq = seq};
        ct_forward_layers(&m, &c, &step, &rows, cache.kv, wanted, chunk, NULL, NULL);
        for (int32_t i = 0; i < chunk; i += HEAD_ROWS)
            ct_forward_head(&m, &c, &step, i, chunk - i < HEAD_ROWS ? chunk - i : HEAD_ROWS, NULL);
        if (how->progress)
            how->progress(how->arg, (double)(at + 1) * chunk, (double)chunks * chunk);
        if (how->keep_going && !how->keep_going(how->arg))
            st = ct_fail(err, CT_EINTERRUPTED, "calibrate", "calibration was interrupted after %zu of %zu chunks",
                         at + 1, chunks);
    }
    if (st == CT_OK)
        st = finish(out, &watch, err);
    if (st == CT_OK) {
        (*out)->chunks = (uint32_t)chunks;
        (*out)->chunk_size = (uint32_t)chunk;
    }
done:
    if (has_step)
        ct_step_free(&step, &m);
    close_cache(&cache, &m);
    ct_free(words);
    for (size_t i = 0; i < watch.n; i++)
        ct_free(watch.sums[i].squares);
    ct_free(watch.sums);
    return st;
}
