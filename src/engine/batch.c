/* Sequences advanced together: checks the rows it is given, gives them positions, runs the forward, keeps the lengths.
 * Everything is allocated at create. Read session.c for a batch of one, forward.c for what runs. */
#include "engine/batch.h"

#include <math.h>
#include <string.h>

struct ct_batch {
    const ct_gemma *model;
    ct_kvcache cache;
    ct_step step;
    ct_ctx ctx;
    int32_t *token, *pos, *seq, *out; /* [max_rows] where ct_rows points, and the wanted rows */
    int64_t *seen;                    /* [sequences] number of the step that last had rows of it */
    int64_t steps;
    ct_screen **screen; /* [max_rows] of the wanted rows; NULL = in full */
    int32_t from;       /* the first of the rows of logits, among the wanted ones */
    int32_t n_logits;   /* rows of logits that are valid */
    float *
        logits; /* [max_out][stride of the step's] those of a device, fetched when somebody looks; NULL for the CPU's own */
    bool fetched;
    size_t bytes;
};

static int32_t or_default(int32_t v, int32_t otherwise) { return v > 0 ? v : otherwise; }

/* Zeros and -1 become numbers. */
static ct_batch_options complete(const ct_gemma *m, const ct_batch_options *opt)
{
    ct_batch_options o = *opt;
    o.max_rows = or_default(o.max_rows, o.chunk > o.sequences ? o.chunk : o.sequences);
    o.max_out = or_default(o.max_out, o.sequences);
    if (o.max_out > o.max_rows)
        o.max_out = o.max_rows;
    if (o.type_k < 0)
        o.type_k = (int32_t)m->backend->default_kv;
    if (o.type_v < 0)
        o.type_v = (int32_t)m->backend->default_kv;
    return o;
}

static bool is_quantized(int32_t t) { return t == CT_Q8_0 || t == CT_Q4_1; }
static bool is_cache_type(int32_t t) { return t == CT_BF16 || t == CT_F16 || t == CT_F32 || is_quantized(t); }

static ct_status check_options(const ct_batch_options *o, int32_t head_dim, ct_error *err)
{
    if (o->sequences < 1 || o->sequences > 4096)
        return ct_fail(err, CT_EINVAL, "sequences", "expected 1 to 4096 sequences, found %d", o->sequences);
    if (o->context < 1 || o->context > 1 << 20)
        return ct_fail(err, CT_EINVAL, "context", "expected a context of 1 to %d positions, found %d", 1 << 20,
                       o->context);
    if (o->chunk < 1 || o->chunk > 1 << 16 || o->max_rows < 1 || o->max_rows > 1 << 16)
        return ct_fail(err, CT_EINVAL, "chunk", "expected 1 to %d rows in a step, found a chunk of %d and %d rows",
                       1 << 16, o->chunk, o->max_rows);
    if (!is_cache_type(o->type_k) || !is_cache_type(o->type_v)) {
        const ct_dtype_info *t = ct_dtype_get(is_cache_type(o->type_k) ? o->type_v : o->type_k);
        return ct_fail(err, CT_EUNSUPPORTED, "kv", "expected bf16, f16, f32, q8 or q4 as type of the cache, found %s",
                       t ? t->name : "another");
    }
    if (head_dim % 32 != 0 && (is_quantized(o->type_k) || is_quantized(o->type_v)))
        return ct_fail(err, CT_EUNSUPPORTED, "kv",
                       "a cache of q8 or q4 needs heads of a multiple of 32, and this model's have %d; try bf16",
                       head_dim);
    return CT_OK;
}

static size_t logits_bytes(const ct_gemma *m, int32_t max_out)
{
    return m->backend->read ? (size_t)max_out * ct_round_up((size_t)m->cfg.embed_rows, 16) * sizeof(float) : 0;
}

static size_t host_bytes(const ct_gemma *m, const ct_batch_options *o)
{
    return (size_t)o->max_rows * (4 * sizeof(int32_t) + sizeof(ct_screen *)) + (size_t)o->sequences * sizeof(int64_t) +
           sizeof(ct_batch) + logits_bytes(m, o->max_out);
}

size_t ct_batch_need(const ct_gemma *m, const ct_batch_options *opt, int32_t threads, size_t *local, size_t *global,
                     size_t *step)
{
    ct_batch_options o = complete(m, opt);
    size_t cache = ct_kvcache_bytes(m, o.sequences, o.context, o.chunk, (ct_dtype)o.type_k, (ct_dtype)o.type_v, local,
                                    global);
    size_t work = ct_step_bytes(m, o.max_rows, o.max_out, o.context, threads) + host_bytes(m, &o), total;
    if (step)
        *step = work;
    return ct_add_ok(cache, work, &total) ? total : SIZE_MAX;
}

ct_status ct_batch_create(ct_batch **out, const ct_gemma *m, ct_pool *pool, const ct_batch_options *opt, ct_error *err)
{
    ct_batch_options o = complete(m, opt);
    *out = NULL;
    ct_status st = check_options(&o, m->cfg.head_dim, err);
    if (st != CT_OK)
        return st;
    size_t n = (size_t)o.max_rows;
    ct_batch *b = ct_calloc(1, sizeof *b);
    if (b == NULL)
        return ct_fail(err, CT_ENOMEM, NULL, "no memory for a batch");
    b->model = m;
    b->ctx = (ct_ctx){.pool = pool, .scratch = &b->step.scratch, .exact = o.exact, .ops = m->ops};
    b->token = ct_alloc(n * sizeof *b->token);
    b->pos = ct_alloc(n * sizeof *b->pos);
    b->seq = ct_alloc(n * sizeof *b->seq);
    b->out = ct_alloc(n * sizeof *b->out);
    b->screen = ct_calloc(n, sizeof *b->screen);
    b->seen = ct_calloc((size_t)o.sequences, sizeof *b->seen);
    b->bytes = ct_batch_need(m, &o, ct_pool_threads(pool), NULL, NULL, NULL);
    if (logits_bytes(m, o.max_out) > 0)
        b->logits = ct_alloc(logits_bytes(m, o.max_out));
    if (!b->token || !b->pos || !b->seq || !b->out || !b->screen || !b->seen ||
        (logits_bytes(m, o.max_out) > 0 && !b->logits)) {
        st = ct_fail(err, CT_ENOMEM, NULL, "no memory for a batch of %d rows", o.max_rows);
        goto done;
    }
    st = ct_kvcache_create(&b->cache, m, o.sequences, o.context, o.chunk, (ct_dtype)o.type_k, (ct_dtype)o.type_v, err);
    if (st != CT_OK)
        goto done;
    st = ct_step_create(&b->step, m, o.max_rows, o.max_out, o.context, ct_pool_threads(pool), err);
    b->ctx.stream = b->step.stream;
done:
    if (st == CT_OK)
        *out = b;
    else
        ct_batch_free(b);
    return st;
}

void ct_batch_free(ct_batch *b)
{
    if (b == NULL)
        return;
    ct_step_free(&b->step, b->model);
    ct_kvcache_free(&b->cache);
    ct_free(b->token);
    ct_free(b->pos);
    ct_free(b->seq);
    ct_free(b->out);
    ct_free(b->screen);
    ct_free(b->seen);
    ct_free(b->logits);
    ct_free(b);
}

static ct_status bad_row(int32_t i, const char *what, ct_error *err)
{
    return ct_fail(err, CT_EINVAL, NULL, "row %d of a batch step %s", i, what);
}

/* Fills token, pos, seq and out; changes nothing that outlives the step. */
static ct_status take_rows(ct_batch *b, const ct_batch_row *rows, int32_t n, bool any_number, ct_rows *r,
                           int32_t *n_out, ct_error *err)
{
    const ct_kvcache *kc = &b->cache;
    if (n < 1 || n > b->step.max_rows)
        return ct_fail(err, CT_EINVAL, NULL, "expected 1 to %d rows in a batch step, found %d", b->step.max_rows, n);
    *r = (ct_rows){.n = n, .token = b->token, .pos = b->pos, .seq = b->seq};
    *n_out = 0;
    b->steps++; /* marks what this step has seen; a step refused uses up a number, no more */
    int32_t of_seq = 0;
    for (int32_t i = 0; i < n; i++) {
        const ct_batch_row *row = &rows[i];
        bool follows = i > 0 && rows[i - 1].seq == row->seq;
        if (row->seq < 0 || row->seq >= kc->sequences)
            return bad_row(i, "names a sequence that does not exist", err);
        if (row->token < 0 || row->token >= b->model->cfg.vocab)
            return ct_fail(err, CT_EINVAL, NULL, "expected token ids from 0 to %d, found %d", b->model->cfg.vocab - 1,
                           row->token);
        if (i > 0 && rows[i - 1].decode && !row->decode)
            return bad_row(i, "is a prompt row behind a decode row", err);
        if (follows ? rows[i - 1].decode != row->decode : b->seen[row->seq] == b->steps)
            return bad_row(i, "splits its sequence: rows of one sequence stand together, in one role", err);
        of_seq = follows ? of_seq + 1 : 0;
        if (of_seq >= kc->chunk)
            return bad_row(i, "is one more of its sequence than the chunk that the cache was made for", err);
        b->seen[row->seq] = b->steps;
        b->token[i] = row->token;
        b->seq[i] = row->seq;
        b->pos[i] = kc->length[row->seq] + of_seq;
        if (b->pos[i] >= kc->context)
            return ct_fail(err, CT_ECONTEXT, NULL, "the context of %d positions is full", kc->context);
        if (!row->decode)
            r->n_prompt++;
        if (row->want) {
            b->screen[*n_out] = row->screen;
            b->out[(*n_out)++] = i;
        }
    }
    if (!any_number && *n_out > b->step.max_out)
        return ct_fail(err, CT_EINVAL, NULL, "expected at most %d rows that want logits, found %d", b->step.max_out,
                       *n_out);
    return CT_OK;
}

/* The head of n wanted rows: screened if all of them may be. */
static void read_head(ct_batch *b, int32_t from, int32_t n)
{
    bool all = true;
    for (int32_t i = from; i < from + n; i++)
        all = all && b->screen[i];
    b->from = from;
    ct_forward_head(b->model, &b->ctx, &b->step, from, n, all ? b->screen + from : NULL);
}

/* The layers, and the head of as many wanted rows as there is room for: one run, which a device may record. */
static ct_status run(ct_batch *b, const ct_rows *r, const ct_kv *kv, int32_t n_out, ct_error *err)
{
    const ct_gemma *m = b->model;
    int32_t first = n_out < b->step.max_out ? n_out : b->step.max_out;
    b->n_logits = 0;
    bool alike = r->n_prompt == 0 || r->n_prompt == r->n; /* else it matters which rows are wanted */
    b->from = 0;
    if (ct_run_begin(m->backend, &b->ctx, r, kv, m->cfg.layers, b->out, n_out, alike)) {
        ct_forward_layers(m, &b->ctx, &b->step, r, kv, b->out, n_out, NULL, NULL);
        if (n_out > 0)
            read_head(b, 0, first);
    }
    ct_status st = ct_run_end(m->backend, &b->ctx, err);
    b->n_logits = st == CT_OK ? first : 0;
    b->fetched = false;
    return st;
}

/* The head alone, of rows behind the first that fitted. */
static ct_status head(ct_batch *b, int32_t from, int32_t n, ct_error *err)
{
    const ct_gemma *m = b->model;
    if (ct_run_begin(m->backend, &b->ctx, &(ct_rows){.n = n}, NULL, 0, NULL, 0, false))
        read_head(b, from, n);
    b->n_logits = n;
    b->fetched = false;
    return ct_run_end(m->backend, &b->ctx, err);
}

ct_status ct_batch_unscreen(ct_batch *b, ct_error *err)
{
    for (int32_t i = b->from; i < b->from + b->n_logits; i++)
        b->screen[i] = NULL;
    return b->n_logits > 0 ? head(b, b->from, b->n_logits, err) : CT_OK;
}

ct_status ct_batch_step(ct_batch *b, const ct_batch_row *rows, int32_t n, ct_row_logits_fn *on_logits, void *arg,
                        ct_error *err)
{
    ct_rows r;
    int32_t n_out = 0;
    ct_status st = take_rows(b, rows, n, on_logits != NULL, &r, &n_out, err);
    if (st != CT_OK)
        return st;
    st = run(b, &r, b->cache.layers, n_out, err);
    if (st != CT_OK) /* of a device alone: nothing can be said of what it stored */
        return st;
    for (int32_t i = 0; i < n; i++)
        ct_kvcache_grow(&b->cache, b->seq[i], 1);
    for (int32_t from = 0; from < n_out && st == CT_OK; from += b->step.max_out) {
        int32_t now = n_out - from < b->step.max_out ? n_out - from : b->step.max_out;
        if (from > 0)
            st = head(b, from, now, err);
        for (int32_t i = 0; on_logits && i < now && st == CT_OK; i++) {
            const float *row = ct_batch_logits(b, i);
            st = row ? on_logits(arg, b->out[from + i], row)
                     : ct_fail(err, CT_EIO, b->model->backend->name, "the logits could not be fetched from the device");
        }
    }
    if (st != CT_OK)
        b->n_logits = 0;
    return st;
}

const float *ct_batch_logits(ct_batch *b, int32_t i)
{
    const ct_view *v = &b->step.logits;
    if (i < 0)
        i = b->n_logits - 1;
    if (i < 0 || i >= b->n_logits)
        return NULL;
    if (b->logits == NULL)
        return ct_view_row(*v, i);
    if (!b->fetched && ct_buffer_read(b->model->backend, v->buf, v->off, b->logits, (size_t)b->n_logits * v->stride * 4,
                                      NULL) != CT_OK)
        return NULL;
    b->fetched = true;
    return b->logits + (size_t)i * v->stride;
}

struct found {
    const ct_backend *backend;
    int32_t layer;
};

static int look(void *arg, int32_t layer, ct_view x)
{
    struct found *found = arg;
    enum { SOME = 256 };
    float some[SOME];
    for (int32_t i = 0; i < x.cols; i++) {
        int32_t left = x.cols - i < SOME ? x.cols - i : SOME;
        if (i % SOME == 0 &&
            ct_buffer_read(found->backend, x.buf, x.off + (size_t)i * 4, some, (size_t)left * 4, NULL) != CT_OK)
            return 1;
        if (!isfinite(some[i % SOME])) {
            found->layer = layer;
            return 1;
        }
    }
    return 0;
}

/* One row, the last stored of its sequence, as it was. */
static ct_rows last_row(ct_batch *b, int32_t seq, int32_t token, bool decode)
{
    b->token[0] = token;
    b->seq[0] = seq;
    b->pos[0] = b->cache.length[seq] - 1;
    b->out[0] = 0;
    b->screen[0] = NULL;
    return (ct_rows){.n = 1, .n_prompt = decode ? 0 : 1, .token = b->token, .pos = b->pos, .seq = b->seq};
}

/* The first layer whose residual is not finite: -1 for the embedding, the number of layers if what follows them is to blame. */
static int32_t blame(ct_batch *b, int32_t seq, int32_t token, bool decode)
{
    const ct_gemma *m = b->model;
    struct found found = {m->backend, m->cfg.layers};
    if (b->cache.length[seq] == 0)
        return found.layer;
    ct_rows r = last_row(b, seq, token, decode);
    b->n_logits = 0;
    if (ct_run_begin(m->backend, &b->ctx, &r, b->cache.layers, m->cfg.layers, NULL, 0, false))
        ct_forward_layers(m, &b->ctx, &b->step, &r, b->cache.layers, NULL, 0, look, &found);
    ct_run_end(m->backend, &b->ctx, NULL); /* the sentence that is being made says more than a device's */
    return found.layer;
}

ct_status ct_batch_explain(ct_batch *b, int32_t seq, int32_t token, bool decode, ct_error *err)
{
    int32_t at = b->cache.length[seq] - 1, layers = b->model->cfg.layers, layer = blame(b, seq, token, decode);
    static const char advice[] = "the weights are damaged, or of a type that cannot hold them";
    if (layer < 0)
        return ct_fail(err, CT_ENUMERIC, "the embedding",
                       "NaN or infinity at position %d, first in the embedding of token %d: "
                       "%s",
                       at, token, advice);
    if (layer == layers)
        return ct_fail(err, CT_ENUMERIC, "the final norm or head",
                       "NaN or infinity at position %d, first in the final norm or "
                       "the head: %s",
                       at, advice);
    char where[CT_ERROR_WHERE];
    ct_error name;
    ct_fail(&name, CT_OK, NULL, "layer %d", layer);
    memcpy(where, name.text, sizeof where);
    return ct_fail(err, CT_ENUMERIC, where, "NaN or infinity at position %d, first behind layer %d (of 0 to %d): %s",
                   at, layer, layers - 1, advice);
}

ct_status ct_batch_replay(ct_batch *b, int32_t seq, int32_t at, const int32_t *ids, int32_t n, bool decode,
                          ct_error *err)
{
    for (int32_t i = 0; i < n; i++) {
        b->token[i] = ids[i];
        b->seq[i] = seq;
        b->pos[i] = at + i;
    }
    ct_rows r = {.n = n, .n_prompt = decode ? 0 : n, .token = b->token, .pos = b->pos, .seq = b->seq};
    return run(b, &r, b->cache.replayed, 0, err);
}

ct_status ct_batch_again(ct_batch *b, int32_t seq, int32_t token, bool decode, ct_error *err)
{
    ct_rows r = last_row(b, seq, token, decode);
    return run(b, &r, b->cache.layers, 1, err); /* stores the same bits */
}

ct_kvcache *ct_batch_cache(ct_batch *b) { return &b->cache; }

int32_t ct_batch_length(const ct_batch *b, int32_t seq) { return b->cache.length[seq]; }
int32_t ct_batch_context(const ct_batch *b) { return b->cache.context; }
int32_t ct_batch_cut(ct_batch *b, int32_t seq, int32_t n) { return ct_kvcache_cut(&b->cache, seq, n); }
size_t ct_batch_bytes(const ct_batch *b) { return b->bytes; }
